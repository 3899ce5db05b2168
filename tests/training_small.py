"""The real trainer on a network small enough for a test; as a program, for tests that kill it or run two.

[torchrun --nproc-per-node 2] python training_small.py DATA OUT [key=value ...]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from accelerate.state import AcceleratorState

from lightningdrag.models.builtin.network import BuiltinConfig, BuiltinNetwork
from lightningdrag.training.builtin import BuiltinTask
from lightningdrag.training.log import Report
from lightningdrag.training.loop import Trainer
from lightningdrag.training.recipe import BuiltinRecipe

CONFIG = BuiltinConfig(32, 32, 32, 32, 32, 32, 1, 32)
RECIPE = BuiltinRecipe(
    steps=40,
    size=64,
    large_size=0,
    batch=2,
    mixture={"video": 0.9, "identity": 0.1},
    workers=0,
    warmup=5,
    precision="fp32",
    validate_every=1000,
    validation_crops=4,
    log_every=1,
    trackers=(),
)


def small_trainer(
    recipe: BuiltinRecipe, data: Path, out: Path, report: Report = lambda record: None
) -> Trainer:
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate knows one kind of run a process
    torch.manual_seed(0)
    return Trainer(BuiltinTask(recipe, BuiltinNetwork(CONFIG)), data, out, report)


def main() -> None:
    data, out, *overrides = sys.argv[1:]
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=") for word in overrides)}
    torch.set_num_threads(1)
    trainer = small_trainer(replace(RECIPE, **changes), Path(data), Path(out))
    trainer.resume()
    trainer.run()


if __name__ == "__main__":
    main()
