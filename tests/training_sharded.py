"""The tiny SD 1.5 model trained by two processes with FSDP: a program, for the test that runs it.

python training_sharded.py DATA OUT STEPS
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from lightningdrag.training import loop
from lightningdrag.training.sd15 import SD15Task
from sd15_tiny import load_pipeline
from test_training_sd15 import RECIPE


class ShardingAccelerator(Accelerator):
    """FSDP on CPUs, where accelerate itself takes DDP whatever its configuration says."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
        self.state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2)


def main() -> None:
    data, out, steps = sys.argv[1:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    rank = int(os.fork() == 0)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    loop.Accelerator = ShardingAccelerator
    recipe = replace(RECIPE, steps=int(steps), schedule="constant")
    trainer = loop.Trainer(SD15Task(recipe, load_pipeline()), data, Path(out))
    trainer.resume()
    trainer.run()
    if rank == 0:
        sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))


if __name__ == "__main__":
    main()
