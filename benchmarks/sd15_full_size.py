"""Time and memory of two edits of one photo by the SD 1.5 pipeline at its real size, with random weights.

    python benchmarks/sd15_full_size.py [--dtype bfloat16] [--steps 8] [--guidance 3.0] [--threads 2] [--disk]

Nothing is downloaded. Beside the figures stand those of the released code on a CPU (2 cores with AMX,
bfloat16; 512x512, LCM, 8 steps, 1 candidate). On a machine that is busy with other things the seconds of
CPU time tell most; ``--threads 1`` keeps them free of waiting.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from lightningdrag import DragEditor
from lightningdrag.bench.measure import Stopwatch, network_times
from lightningdrag.bench.random_sd15 import random_sd15
from lightningdrag.bench.scene import edit_request, photo_bytes
from lightningdrag.memory import peak_bytes, reset_peak
from lightningdrag.models.sd15 import SD15Model

CPU = torch.device("cpu")
RELEASED = {"one edit": "57-66 s", "denoiser": "33-38 s", "peak memory": "6.6 GB"}


def timed(model: SD15Model, edit: Callable[[], object]) -> tuple[dict[str, float], dict[str, float]]:
    """Wall seconds and CPU seconds of an edit and of each network in it."""
    wall, cpu = Stopwatch(CPU), Stopwatch(CPU, time.process_time)
    with network_times(model, wall), network_times(model, cpu), wall.time("one edit"), cpu.time("one edit"):
        edit()
    return wall.seconds, cpu.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32", "float16"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--disk", action="store_true", help="keep what only looks at the source on disk")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as folder:
        pipeline = random_sd15(getattr(torch, args.dtype))
        for name, part in pipeline.components.items():
            if isinstance(part, nn.Module):
                print(f"{name:20s} {sum(p.numel() for p in part.parameters()) / 1e6:7.1f} M parameters")
        if args.disk:
            pipeline.offload_to_disk(Path(folder))
        reset_peak(CPU)
        model = SD15Model(pipeline)
        session = DragEditor(model).open(photo_bytes(512))
        request = edit_request(512, args.steps, 1, guidance=args.guidance)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        columns = [timed(model, lambda: session.run(request)) for _ in range(2)]

    print(f"\n512x512, LCM, {args.steps} steps, guidance {args.guidance:g}, 1 candidate, {args.dtype},")
    print(f"{args.threads} threads, load before the run {load:.1f}\n")
    head = ("first, s", "CPU s", "second, s", "CPU s")
    print(f"{'':20s} " + " ".join(f"{title:>9s}" for title in head) + "    released code, 2 AMX cores")
    for name in columns[0][0]:
        figures = [seconds.get(name, 0.0) for column in columns for seconds in column]
        counted = " ".join(f"{figure:9.2f}" for figure in figures)
        print(f"{name:20s} {counted}    {RELEASED.get(name, '')}".rstrip())
    print(f"{'peak memory':20s} {peak_bytes(CPU) / 1e9:9.2f} GB{'':31s}{RELEASED['peak memory']}")


if __name__ == "__main__":
    main()
