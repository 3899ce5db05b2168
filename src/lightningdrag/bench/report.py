"""A suite as a table, as JSON, and as a page with plots."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightningdrag.bench.measure import Measurement
from lightningdrag.bench.suite import Suite
from lightningdrag.files import write_atomically

HEAD = ("size", "window", "steps", "results", "s", "next, s", "GFLOP", "floor, s", "share", "peak, GB")
PARTS_HEAD = ("part", "calls", "s", "share", "GFLOP", "weights, MB", "floor, s", "multiple")


def print_table(suite: Suite) -> None:
    """The cases, and the parts of the last one, on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    ceiling = suite.ceiling
    console.print(
        f"{suite.model}, {suite.dtype}, {suite.about['machine']}\n"
        f"this machine: {ceiling.matmul / 1e12:.2f} TFLOP/s in matrix products, "
        f"{ceiling.convolution / 1e12:.2f} in convolutions, {ceiling.attention / 1e12:.2f} in attention; "
        f"{ceiling.copy / 1e9:.1f} GB/s copied",
        highlight=False,
    )
    for title, head, rows in (
        (None, HEAD, [_row(suite, measured) for measured in suite.measurements]),
        ("the last case by parts", PARTS_HEAD, _parts(suite)),
    ):
        table = Table(*head, title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
        for row in rows:
            table.add_row(*row)
        console.print(table)


def record(suite: Suite) -> dict[str, Any]:
    """The suite as JSON can hold it, with each case's floor in seconds."""
    floors = [suite.ceiling.floor(measured.operations) for measured in suite.measurements]
    return {
        **asdict(suite),
        "measurements": [
            {**asdict(measured), "floor": floor}
            for measured, floor in zip(suite.measurements, floors, strict=True)
        ],
    }


def write_report(suite: Suite, folder: Path) -> list[Path]:
    """Write ``bench.json`` and ``bench.html``; makes the folder.

    Raises:
        OSError: the folder or a file cannot be written.
        ModuleNotFoundError: the extra ``report`` is not installed.
    """
    from lightningdrag.report import Page, Plot, Section, Table, plots, write_page

    folder.mkdir(parents=True, exist_ok=True)
    figures, page = folder / "bench.json", folder / "bench.html"
    write_atomically(figures, json.dumps(record(suite), indent=2).encode())
    sections = [
        Section("Cases", [Table(HEAD, [_row(suite, measured) for measured in suite.measurements])]),
        Section(
            "Where the time goes",
            [
                Table(PARTS_HEAD, _parts(suite)),
                Plot(plots.bars(suite.measurements[-1].parts, "seconds"), "the last case"),
            ],
        ),
    ]
    sizes = sorted({measured.case.size for measured in suite.measurements})
    if len(sizes) > 1:
        sections.append(Section("Cost against size", [Plot(_against_size(suite, sizes))]))
    write_page(
        Page(
            f"What an edit costs: {suite.model}",
            sections,
            "A share of 1 would be the machine's own ceiling, measured in the same run.",
            suite.about,
        ),
        page,
    )
    return [figures, page]


def _against_size(suite: Suite, sizes: list[int]) -> bytes:
    from lightningdrag.report import plots

    first = suite.measurements[0].case
    alike = {
        measured.case.size: measured
        for measured in suite.measurements
        if (measured.case.steps, measured.case.candidates) == (first.steps, first.candidates)
    }
    series = {
        "first edit": [alike[size].seconds for size in sizes],
        "next edit": [alike[size].again for size in sizes],
        "floor": [suite.ceiling.floor(alike[size].operations) for size in sizes],
    }
    megapixels = [size * size / 1e6 for size in sizes]
    return plots.lines(
        {name: (megapixels, values) for name, values in series.items()}, "megapixels", "seconds"
    )


def _row(suite: Suite, measured: Measurement) -> list[str]:
    case, floor = measured.case, suite.ceiling.floor(measured.operations)
    return [
        str(case.size),
        str(case.window or "-"),
        str(case.steps or "-"),
        str(case.candidates),
        f"{measured.seconds:.3f}",
        f"{measured.again:.3f}",
        f"{sum(measured.operations.values()) / 1e9:.1f}",
        f"{floor:.3f}",
        f"{floor / measured.seconds:.2f}",
        f"{measured.peak / 1e9:.2f}",
    ]


def _parts(suite: Suite) -> list[list[str]]:
    """The last case's parts: how long each took, and how long it would at the machine's ceiling."""
    measured = suite.measurements[-1]
    rows = []
    for name, seconds in measured.parts.items():
        row = [name, str(measured.calls.get(name, "")), f"{seconds:.3f}", f"{seconds / measured.seconds:.0%}"]
        if name in measured.part_operations:
            operations = measured.part_operations[name]
            floor = suite.ceiling.floor(operations)
            row += [f"{sum(operations.values()) / 1e9:.1f}", f"{measured.weights[name] / 1e6:.0f}"]
            row += [f"{floor:.3f}", f"{seconds / floor:.1f}" if floor else ""]
        rows.append(row + [""] * (len(PARTS_HEAD) - len(row)))
    return rows
