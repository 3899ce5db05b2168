"""``lightningdrag evaluate``: score a model and its baselines on a benchmark."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

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

    from rich.progress import track

    from lightningdrag import DragEditor
    from lightningdrag.evaluation.baselines import BASELINES, EditMethod, EditorMethod
    from lightningdrag.evaluation.pairs import PairSet, run
    from lightningdrag.evaluation.provenance import provenance
    from lightningdrag.evaluation.report import build_report, markdown, write_report
    from lightningdrag.evaluation.sheets import write_pair_sheets

    try:
        pairs = PairSet(data, split.value, limit)
        editor = DragEditor.from_pretrained(model)
    except (ValueError, OSError) as error:
        typer.echo(f"lightningdrag evaluate: {error}", err=True)
        raise typer.Exit(2) from None
    name = Path(model).name
    ours: dict[str, EditMethod] = {
        f"{name}, {count} step{'s' if count > 1 else ''}": EditorMethod(editor, count) for count in counts
    }
    scores = list(track(run(pairs, {**BASELINES, **ours}), "Scoring", total=len(pairs)))
    about = {"benchmark": benchmark.value, "split": split.value, **provenance()}
    report = build_report(scores, about)
    write_report(report, out)
    sheets = write_pair_sheets(scores, pairs, ours, out / "sheets")
    typer.echo(markdown(report))
    typer.echo(f"Written: {out / 'report.json'}, {out / 'report.md'} and {len(sheets)} sheets of pictures")


def parse_steps(text: str) -> list[int]:
    """ "1,2,4" as numbers; each must be 1 or more."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a list of step counts like 1,2,4", param_hint="--steps")
    return [int(part) for part in parts]
