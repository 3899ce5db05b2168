"""``lightningdrag evaluate``: score a model and its baselines on a benchmark, and compare two reports."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from lightningdrag.commands.console import need
from lightningdrag.commands.edit import Options
from lightningdrag.guidance import NOISE_PRIORS, SCHEDULES

STEPS = "1,2,4"


class Benchmark(str, Enum):
    pairs = "pairs"
    dragbench = "dragbench"
    dragbench_sr = "dragbench-sr"
    dragbench_dr = "dragbench-dr"
    drag100 = "drag100"


class Split(str, Enum):
    dev = "dev"
    all = "all"


class Sweep(str, Enum):
    noise_prior = "noise_prior"
    guidance_schedule = "guidance_schedule"
    steps = "steps"


def register(app: typer.Typer) -> None:
    """Add the ``evaluate`` verb and its ``compare``."""
    verb = typer.Typer(rich_markup_mode=None)
    verb.callback(invoke_without_command=True)(evaluate)
    verb.command("compare")(compare)
    app.add_typer(verb, name="evaluate")


def evaluate(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.html, report.json, report.md and the sheets.")
    ] = None,
    benchmark: Annotated[Benchmark, typer.Option(help="Which benchmark.")] = Benchmark.pairs,
    data: Annotated[
        Path | None, typer.Option(help="For pairs: a prepared dataset, as `lightningdrag prepare` writes it.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="For the others: the folder as their authors distribute it."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Of the pairs: what was held out, or all.")] = Split.dev,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many cases, spread evenly.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Built-in name, folder or hub id; builtin by default, none with --results."),
    ] = None,
    option: Options = None,
    steps: Annotated[str | None, typer.Option(help=f"Sampling steps, a row each. [default: {STEPS}]")] = None,
    guidance: Annotated[float | None, typer.Option(help="Point-guidance weight of every row.")] = None,
    sweep: Annotated[
        Sweep | None, typer.Option(help="One row for each value of an option: the paper's ablations.")
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of any method's results in the benchmark's own layout: a row."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Folder with the networks of LPIPS, CLIP and DIFT, or `hub` to download them."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that edit and score.")] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="Cases that the model edits in one pass; s/edit is then a share of it.")
    ] = 1,
    allow_missing: Annotated[bool, typer.Option(help="Exit with 0 though something was not scored.")] = False,
) -> None:
    """Score a model, the baselines and the true frame itself; write the table, a page and sheets.

    A run that was stopped goes on where it was. Exits with 1 if something could not be scored.
    """
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise typer.BadParameter("missing; where should the report go?", param_hint="--out")
    if model is None and not results:
        model = "builtin"
    rows = {} if model is None else model_rows(model, steps, guidance, sweep.value if sweep else None)
    if option and model is None:
        raise typer.BadParameter("results have no options; give --model too", param_hint="--option")
    folder = _folder(benchmark.value, data, root)
    names = [*rows, *(path.name for path in results or [])]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise typer.BadParameter(f"two rows would be called {min(repeated)!r}", param_hint="--results")

    need("jinja2", "matplotlib")
    from lightningdrag.evaluation.evaluate import evaluate as run_job
    from lightningdrag.evaluation.job import Job
    from lightningdrag.evaluation.tables import markdown, problem_lines

    job = Job(
        benchmark=benchmark.value,
        root=str(folder),
        split=split.value,
        limit=limit,
        model=model,
        model_options=tuple(option or ()),
        rows=rows,
        results=tuple(str(path) for path in results or []),
        weights=weights,
        batch=batch,
    )
    report = run_job(job, out, workers)
    typer.echo(markdown(report))
    typer.echo(f"Written to {out}: report.html, report.json, report.md, sheets/")
    if report["problems"]:
        typer.echo(f"not everything was scored: {problem_lines(report)[0]}", err=True)
        if not allow_missing:
            raise typer.Exit(1)


def compare(
    a: Annotated[Path, typer.Argument(help="report.json of one run.")],
    b: Annotated[Path, typer.Argument(help="report.json of another run on the same benchmark.")],
) -> None:
    """Say what changed from A to B, measure by measure, and whether it is noise."""
    from lightningdrag.evaluation.compare import compare as compare_reports
    from lightningdrag.evaluation.compare import read_report

    before, after = read_report(a), read_report(b)
    for letter, report in (("A", before), ("B", after)):
        about = report["about"]
        typer.echo(f"{letter}: {about.get('command')} at {about.get('commit')}, {about.get('machine')}")
    typer.echo()
    for table in compare_reports(before, after):
        typer.echo("\n".join(table.markdown()))


def model_rows(
    model: str, steps: str | None = None, guidance: float | None = None, sweep: str | None = None
) -> dict[str, dict[str, Any]]:
    """The rows of a model: their names, and the options of ``DragEditor.edit`` of each."""
    name = Path(model).name
    common = {} if guidance is None else {"guidance": guidance}
    if sweep in (None, "steps"):
        counts = parse_steps(steps or STEPS)
        return {
            f"{name}, {count} step{'s' if count > 1 else ''}": {"steps": count, **common} for count in counts
        }
    if steps is not None:
        counts = parse_steps(steps)
        if len(counts) > 1:
            raise typer.BadParameter(f"one number of steps with --sweep {sweep}", param_hint="--steps")
        common |= {"steps": counts[0]}
    values = NOISE_PRIORS if sweep == "noise_prior" else SCHEDULES
    return {f"{name}, {sweep} {value}": {str(sweep): value, **common} for value in values}


def parse_steps(text: str) -> list[int]:
    """ "1,2,4" as numbers; each must be 1 or more."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a list of step counts such as 1,2,4", param_hint="--steps")
    return [int(part) for part in parts]


def _folder(benchmark: str, data: Path | None, root: Path | None) -> Path:
    """The folder of the benchmark, from the option that belongs to it."""
    wanted, other = ("--data", "--root") if benchmark == "pairs" else ("--root", "--data")
    folder, astray = (data, root) if benchmark == "pairs" else (root, data)
    if astray is not None:
        raise typer.BadParameter(f"{benchmark} takes {wanted}", param_hint=other)
    if folder is None:
        raise typer.BadParameter(f"missing; {benchmark} needs it", param_hint=wanted)
    return folder
