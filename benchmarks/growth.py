"""How the cost of an edit grows with the window, steps, candidates, points, the photo and open sessions.

    python benchmarks/growth.py [--repeats 5] [--threads 2] [--cpu-time] [--out out/growth]

Seconds are medians of the built-in model on the CPU; operations of the paper's model are counted without
computing anything. For each, a + b x is fitted, and the exponent of x between the two largest values is
given: 1 is in proportion, 2 is a square. The table is markdown; curves are in the page under ``--out``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from lightningdrag import DragEditor, EditSession
from lightningdrag.bench.measure import Case, window_of
from lightningdrag.bench.scene import edit_request, photo_bytes
from lightningdrag.checkpoints.hub import load_model
from lightningdrag.evaluation.provenance import provenance
from lightningdrag.memory import peak_bytes, reset_peak
from lightningdrag.models.protocol import DragModel
from lightningdrag.report import Page, Plot, Section, Table, plots, write_page
from sd15_operations import denoiser

SIDES = (128, 192, 256, 384, 512)
COUNTS = (1, 2, 4, 8)
POINTS = (1, 4, 16, 64)
PHOTO_SIDES = (512, 1024, 2048, 4096)
HEAD = ("what grows", "from", "to", "cost from", "to", "law", "exponent at the end")


@dataclass(frozen=True)
class Growth:
    """One curve: a quantity, and what it costs."""

    name: str
    unit: str
    xs: Sequence[float]
    ys: Sequence[float]

    @property
    def law(self) -> str:
        power = 2 if self.exponent > 1.5 else 1
        slope, start = np.polyfit(np.power(self.xs, power), self.ys, 1)
        return f"{start:.3g} + {slope:.3g} x{'²' if power == 2 else ''}"

    @property
    def exponent(self) -> float:
        """Of x between the last two points."""
        return math.log(self.ys[-1] / self.ys[-2]) / math.log(self.xs[-1] / self.xs[-2])

    def row(self) -> list[str]:
        ends = [f"{x:.3g}" for x in (self.xs[0], self.xs[-1])]
        ends += [f"{y:.3g} {self.unit}" for y in (self.ys[0], self.ys[-1])]
        return [self.name, *ends, self.law, f"{self.exponent:.2f}"]


def edits(model: DragModel, repeats: int, clock: Callable[[], float]) -> Iterator[Growth]:
    """Seconds of edits with the built-in model."""

    def sweep(name: str, xs: Sequence[float], cases: Sequence[Case]) -> Growth:
        return Growth(name, "s", xs, [seconds(model, case, repeats, clock) for case in cases])

    yield sweep("window, megapixels", megapixels(SIDES), [Case(512, window=side) for side in SIDES])
    yield sweep("steps", COUNTS, [Case(steps=count) for count in COUNTS])
    yield sweep("candidates", COUNTS, [Case(candidates=count) for count in COUNTS])
    yield sweep("pairs of points", POINTS, [Case(points=count) for count in POINTS])
    yield sweep("photo, megapixels", megapixels(PHOTO_SIDES), [Case(side) for side in PHOTO_SIDES])


def seconds(model: DragModel, case: Case, repeats: int, clock: Callable[[], float]) -> float:
    """The median of some edits, from a file's bytes to images."""
    editor, data = DragEditor(model), photo_bytes(case.size)
    request = edit_request(case.size, case.steps, case.candidates, case.points)
    times = []
    with window_of(model, case.window):
        for _ in range(1 + repeats):
            start = clock()
            editor.run(data, request)
            times.append(clock() - start)
    return statistics.median(times[1:])


def sessions(model: DragModel) -> Growth:
    """Megabytes that a process holds with this many open photos of 1024x1024, each edited once."""
    editor, cpu = DragEditor(model), torch.device("cpu")
    data, request = photo_bytes(1024), edit_request(1024, None, 1)
    opened: list[EditSession] = []
    held = []
    for count in COUNTS:
        while len(opened) < count:
            opened.append(editor.open(data))
            opened[-1].run(request)
        reset_peak(cpu)
        held.append(peak_bytes(cpu) / 1e6)
    return Growth("open sessions", "MB", COUNTS, held)


def sd15_operations() -> list[Growth]:
    """TFLOP of one call of the paper's denoiser with both branches, by the window's size."""
    sides = (256, 384, 512, 768, 1024)
    counted = [denoiser(side).operations for side in sides]
    attention = [operations["attention"] / 1e12 for operations in counted]
    rest = [sum(operations.values()) / 1e12 - own for operations, own in zip(counted, attention, strict=True)]
    xs = megapixels(sides)
    return [
        Growth("SD 1.5 window, megapixels: all but attention", "TFLOP", xs, rest),
        Growth("SD 1.5 window, megapixels: attention", "TFLOP", xs, attention),
    ]


def megapixels(sides: Sequence[int]) -> list[float]:
    return [side * side / 1e6 for side in sides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="for busy machines; with --threads 1")
    parser.add_argument("--out", type=Path, default=Path("out/growth"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model = load_model("builtin", device="cpu")
    clock = time.process_time if args.cpu_time else time.perf_counter
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    grown = []
    for each in chain(sd15_operations(), [sessions(model)], edits(model, args.repeats, clock)):
        print("| " + " | ".join(each.row()) + " |", flush=True)
        grown.append(each)
    drawn = [Plot(plots.lines({each.name: (each.xs, each.ys)}, each.name, each.unit)) for each in grown]
    sections = [Section("Laws", [Table(HEAD, [each.row() for each in grown])]), Section("Curves", drawn)]
    write_page(Page("How the cost of an edit grows", sections, about=provenance()), args.out / "growth.html")
    figures = [asdict(each) for each in grown]
    (args.out / "growth.json").write_text(json.dumps({"about": provenance(), "growth": figures}, indent=2))
    print(args.out / "growth.html", file=sys.stderr)


if __name__ == "__main__":
    main()
