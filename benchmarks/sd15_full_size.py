"""Time and memory of two edits of one photo by the SD 1.5 pipeline at its real size, with random weights.

    python benchmarks/sd15_full_size.py [--dtype bfloat16] [--steps 8] [--guidance 3.0]
        [--schedule inverse_square] [--threads 2] [--option resident ...] [--folder FOLDER]

Nothing is downloaded. The weights are written to a temporary folder of 5 GB first, one network at a time,
and loaded from there by a process of its own, so that the peak is that of loading and editing alone. With
``--folder`` they stay there, and a later run finds them. What looks at a photo once is read from there while
it runs, as on any CPU; with ``--option resident`` all networks stay in memory. Beside the figures stand those
of the released code on a CPU (2 cores with AMX, bfloat16; 512x512, LCM, 8 steps, 1 candidate). On a machine
that is busy with other things the seconds of CPU time tell most; ``--threads 1`` keeps them free of waiting.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lightningdrag import DragEditor
from lightningdrag.bench.measure import Stopwatch, network_times
from lightningdrag.bench.random_sd15 import save_random_sd15
from lightningdrag.bench.scene import edit_request, photo_bytes
from lightningdrag.checkpoints.catalogue import OPTIONS
from lightningdrag.checkpoints.hub import load_model
from lightningdrag.guidance import SCHEDULES
from lightningdrag.memory import peak_bytes
from lightningdrag.models.protocol import DragModel

CPU = torch.device("cpu")
RELEASED = {"one edit": "57-66 s", "denoiser": "33-38 s", "peak memory": "6.6 GB"}


def timed(model: DragModel, edit: Callable[[], object]) -> tuple[dict[str, float], dict[str, float]]:
    """Wall seconds and CPU seconds of an edit and of each network in it."""
    wall, cpu = Stopwatch(CPU), Stopwatch(CPU, time.process_time)
    with network_times(model, wall), network_times(model, cpu), wall.time("one edit"), cpu.time("one edit"):
        edit()
    return wall.seconds, cpu.seconds


def measure(folder: Path, args: argparse.Namespace) -> None:
    """Load the model and edit twice; in a fresh process, for the peak is the process's own."""
    torch.set_num_threads(args.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    start = time.perf_counter(), time.process_time()
    model = load_model(str(folder), device="cpu", dtype=args.dtype, options=args.option)
    loaded = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = peak_bytes(CPU)
    session = DragEditor(model).open(photo_bytes(512))
    request = edit_request(512, args.steps, 1, guidance=args.guidance, schedule=args.schedule)
    columns = [timed(model, lambda: session.run(request)) for _ in range(2)]

    options = ", ".join(args.option) or "none"
    print(
        f"512 x 512, LCM, {args.steps} steps, guidance {args.guidance:g} ({args.schedule}), 1 candidate, "
        f"{args.dtype}, {args.threads} threads, load before the run {load:.1f}, options: {options}\n"
    )
    print("| | first edit, s | CPU s | second, s | CPU s | released code, 2 AMX cores |")
    print("|---|---|---|---|---|---|")
    for name in columns[0][0]:
        figures = [seconds.get(name, 0.0) for column in columns for seconds in column]
        print(f"| {name} | {' | '.join(f'{figure:.2f}' for figure in figures)} | {RELEASED.get(name, '')} |")
    print(f"| loading | {loaded[0]:.2f} | {loaded[1]:.2f} | | | |")
    print(f"| peak memory, loading | {peak / 1e9:.2f} GB | | | | |")
    print(f"| peak memory | {peak_bytes(CPU) / 1e9:.2f} GB | | | | {RELEASED['peak memory']} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32", "float16"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--schedule", default=SCHEDULES[0], choices=SCHEDULES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--option", action="append", default=[], choices=OPTIONS)
    parser.add_argument("--folder", type=Path, help="keep the weights here, or take those that are here")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "model_index.json").is_file():
            save_random_sd15(folder, getattr(torch, args.dtype))
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--measure", str(folder)], check=True)


if __name__ == "__main__":
    main()
