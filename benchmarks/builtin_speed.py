"""Seconds and peak memory of one edit with the built-in model, PIL image in to PIL image out.

    python benchmarks/builtin_speed.py

Each number of torch threads runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

PHOTO = Path(__file__).parent.parent / "examples" / "astronaut.jpg"
DRAGS = [((222, 118), (196, 122)), ((240, 30), (206, 38)), ((222, 188), (222, 188))]
WHOLE = [((230, 100), (180, 105))]
"""Alone, it moves the head whole."""
REPEATS = 7
LARGE = (4000, 3000)


def seconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(threads: int) -> dict[str, float]:
    """All figures at one number of torch threads; run in a fresh process."""
    start = time.perf_counter()
    import torch

    from lightningdrag import DragEditor, masks
    from lightningdrag.drag import as_drags

    torch.set_num_threads(threads)
    editor = DragEditor.from_pretrained("builtin", device="cpu")
    loaded = time.perf_counter() - start

    photo = Image.open(PHOTO).convert("RGB")
    large = photo.resize(LARGE, Image.Resampling.BICUBIC)
    scale_x, scale_y = LARGE[0] / photo.width, LARGE[1] / photo.height
    large_drags = [tuple((x * scale_x, y * scale_y) for x, y in drag) for drag in DRAGS]

    figures = {"import and load, s": loaded}
    figures["first edit, 512x512, s"] = seconds(lambda: editor.edit(photo, DRAGS, seed=0), 1)
    figures["edit, 512x512, s (median)"] = seconds(lambda: editor.edit(photo, DRAGS, seed=0))
    mask = masks.derive_mask(as_drags(DRAGS), photo.width, photo.height)
    figures["the same with a mask given, s"] = seconds(lambda: editor.edit(photo, DRAGS, mask, seed=0))
    figures["the mask alone, s"] = seconds(lambda: editor.open(photo).mask_for(DRAGS))
    figures["one drag that moves a thing whole, s"] = seconds(lambda: editor.edit(photo, WHOLE, seed=0))
    session = editor.open(photo)
    session.edit(DRAGS, seed=0)
    figures["second edit on an open session, 512x512, s"] = seconds(lambda: session.edit(DRAGS, seed=1))
    figures["peak memory after 512x512, MB"] = peak_megabytes()
    figures["edit, 12 megapixels, s (median)"] = seconds(lambda: editor.edit(large, large_drags, seed=0), 3)
    figures["peak memory after 12 megapixels, MB"] = peak_megabytes()
    return figures


def peak_megabytes() -> float:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        print(json.dumps(measure(arguments.threads)))
        return

    columns = []
    for threads in (2, 1):
        command = [sys.executable, __file__, "--threads", str(threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        columns.append(json.loads(done.stdout.splitlines()[-1]))
    print("| | 2 threads | 1 thread |\n|---|---|---|")
    for name in columns[0]:
        digits = 0 if name.endswith("MB") else 2
        print(f"| {name} | " + " | ".join(f"{column[name]:.{digits}f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
