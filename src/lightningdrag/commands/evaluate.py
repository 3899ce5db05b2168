"""``lightningdrag evaluate``: score a model and its baselines on a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer


class Benchmark(str, Enum):
    pairs = "pairs"


class Split(str, Enum):
    dev = "dev"
    all = "all"


def register(app: typer.Typer) -> None:
    """Add the ``evaluate`` verb."""
    app.command("evaluate")(evaluate)


def evaluate(
    data: Annotated[Path, typer.Option(help="Prepared dataset, as `lightningdrag prepare` writes it.")],
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.md and the sheets.")],
    benchmark: Annotated[Benchmark, typer.Option(help="Which benchmark.")] = Benchmark.pairs,
    split: Annotated[Split, typer.Option(help="What was held out, or all pairs.")] = Split.dev,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many pairs, spread evenly.")] = None,
    model: Annotated[str, typer.Option(help="Built-in name, folder or hub id of the model.")] = "builtin",
    steps: Annotated[str, typer.Option(help="Sampling steps, one row each.")] = "1,2,4",
) -> None:
    """Score a model, the baselines and the true frame itself; write the table and sheets of pictures."""
    counts = parse_steps(steps)

    from lightningdrag.evaluation.report import markdown

    report = evaluate_pairs(data, out, split.value, limit, model, counts)
    typer.echo(markdown(report))
    typer.echo(f"Written to {out}: report.json, report.md, sheets/")


def evaluate_pairs(
    data: Path, out: Path, split: str, limit: int | None, model: str, steps: Sequence[int]
) -> dict[str, Any]:
    """Run the ``pairs`` benchmark with a progress bar, write everything to ``out``, return the report.

    Raises:
        ValueError, OSError: there are no such pairs, no such model, or ``out`` cannot be written.
    """
    from rich.console import Console
    from rich.progress import track

    from lightningdrag import DragEditor
    from lightningdrag.evaluation.baselines import BASELINES, EditMethod, EditorMethod
    from lightningdrag.evaluation.pairs import PairSet, run
    from lightningdrag.evaluation.provenance import provenance
    from lightningdrag.evaluation.report import build_report, write_report
    from lightningdrag.evaluation.sheets import write_pair_sheets

    pairs = PairSet(data, split, limit)
    editor = DragEditor.from_pretrained(model)
    ours: dict[str, EditMethod] = {
        f"{Path(model).name}, {count} step{'s' if count > 1 else ''}": EditorMethod(editor, count)
        for count in steps
    }
    out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is an error before the work
    console = Console(stderr=True)
    scores = list(
        track(run(pairs, {**BASELINES, **ours}), "Scoring pairs", total=len(pairs), console=console)
    )
    report = build_report(scores, {"benchmark": "pairs", "split": split, **provenance()})
    write_report(report, out)
    write_pair_sheets(scores, pairs, ours, out / "sheets")
    return report


def parse_steps(text: str) -> list[int]:
    """ "1,2,4" as numbers; each must be 1 or more."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a list of step counts such as 1,2,4", param_hint="--steps")
    return [int(part) for part in parts]
