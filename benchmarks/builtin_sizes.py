"""What a larger or smaller built-in model learns in the same number of crops, from scratch.

python benchmarks/builtin_sizes.py --data prepared --steps 600

Each size trains its motion generator and appearance encoder alone, on the same crops in the same order.
Dev crops of 128 px; gains are those of the source moved by the motion alone, unpainted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from builtin_design import SIZE, measure
from lightningdrag.checkpoints.builtin import load_weights
from lightningdrag.models.builtin.network import BuiltinConfig, BuiltinNetwork
from lightningdrag.training.builtin import BuiltinTask
from lightningdrag.training.loader import validation_batches
from lightningdrag.training.loop import Trainer
from lightningdrag.training.recipe import BuiltinRecipe

SIZES = {
    "half as wide": BuiltinConfig(quarter=32, eighth=64, sixteenth=96),
    "no further layers at 1/16": BuiltinConfig(deeper=0),
    "as shipped": BuiltinConfig(),
    "two further layers at 1/16": BuiltinConfig(deeper=2),
    "half as wide again": BuiltinConfig(quarter=96, eighth=192, sixteenth=288),
}
"""The renderer's widths stay: it does not take part."""


def trained(config: BuiltinConfig, data: str, steps: int) -> tuple[BuiltinTask, float]:
    """A network of that size after so many steps of 32 crops, and the seconds that it took."""
    recipe = BuiltinRecipe(
        learns="motion",
        steps=steps,
        batch=32,
        size=SIZE,
        large_size=0,
        warmup=50,
        ema=0.99,
        start_share=1.0,
        mixture={"video": 0.8, "synthetic": 0.15, "identity": 0.05},
        validate_every=0,
        trackers=(),
    )
    torch.manual_seed(0)
    task = BuiltinTask(recipe, BuiltinNetwork(config))
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        Trainer(task, data, Path(out), report=lambda line: None).run()
        seconds = time.perf_counter() - begun
        average = BuiltinNetwork(config)
        load_weights(average, Path(out) / task.weights_file)
    return BuiltinTask(recipe, average), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="a prepared dataset with a dev split")
    parser.add_argument("--dev", help="another one whose dev split to measure on")
    parser.add_argument("--steps", type=int, default=600, help="of 32 crops")
    parser.add_argument("--only", choices=SIZES, nargs="+", help="some rows")
    options = parser.parse_args()
    dev = validation_batches(options.dev or options.data, SIZE, 384, 16)
    print("| motion | million weights | crops/s | error | gain, dB | won |\n|---|---|---|---|---|---|")
    for name in options.only or SIZES:
        task, seconds = trained(SIZES[name], options.data, options.steps)
        parts = (task.network.appearance, task.network.motion)
        weights = sum(p.numel() for part in parts for p in part.parameters()) / 1e6
        error, gain, won = measure(task, dev)
        rate = 32 * options.steps / seconds
        print(f"| {name} | {weights:.1f} | {rate:.0f} | {error:.3f} | {gain:+.2f} | {won:.0%} |", flush=True)


if __name__ == "__main__":
    main()
