"""``lightningdrag bench``: what an edit costs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lightningdrag.commands.console import need, note, print_json
from lightningdrag.commands.edit import Device, Dtype, Options


def register(app: typer.Typer) -> None:
    """Add the ``bench`` verb."""
    app.command("bench")(bench)


def bench(
    model: Annotated[
        str, typer.Option("--model", help="As for edit, or sd15-random: SD 1.5 at full size, random weights.")
    ] = "builtin",
    size: Annotated[
        list[int] | None, typer.Option(help="Side of the photo. Repeatable.  [default: 512]")
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(help="Sampling steps. Repeatable.  [default: the model's]")
    ] = None,
    num_images: Annotated[
        list[int] | None, typer.Option("--num-images", "-n", help="Candidates. Repeatable.  [default: 1]")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Side of the model's window.  [default: the model's]")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each case; the median counts.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Torch threads.  [default: torch's]")] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Measure in turns with another model, device, dtype, threads, steps, candidates, options "
            "(joined by commas), commit.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write bench.json and bench.html into this folder.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    option: Options = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")] = False,
) -> None:
    """Measure what an edit costs on this machine.

    Seconds by part, operations, peak memory, and how near that is to what the machine can do.

    Example: lightningdrag bench --size 256 --size 512 --size 1024 --out out/bench
    """
    from lightningdrag.bench.models import check_model
    from lightningdrag.checkpoints.catalogue import check_options
    from lightningdrag.checkpoints.hub import check_dtype

    check_model(model)
    check_dtype(dtype)
    options = option or []
    check_options(options)
    sizes, candidates = size or [512], num_images or [1]
    step_counts: list[int | None] = [*steps] if steps else [None]
    for side in [*sizes, *([window] if window else [])]:
        if not 64 <= side <= 8192:
            raise typer.BadParameter(f"{side} is not within 64..8192", param_hint="--size, --window")
    settings: dict[str, Any] = {
        "model": model,
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "steps": step_counts[0],
        "candidates": candidates[0],
        "options": ",".join(options),
    }
    if against is not None:
        if max(len(sizes), len(step_counts), len(candidates)) > 1 or window or out:
            raise typer.BadParameter("it takes one case, no --window and no --out", param_hint="--against")
        _compare(settings, against, sizes[0], repeats, as_json)
        return
    if out is not None:
        need("jinja2", "matplotlib")
    from lightningdrag.bench.measure import Case
    from lightningdrag.bench.report import print_table, record, write_report
    from lightningdrag.bench.suite import run_suite

    cases = [
        Case(side, count, number, window) for side in sizes for count in step_counts for number in candidates
    ]
    suite = run_suite(
        model, device, dtype, cases, repeats, threads, on_case=lambda text: note(text), options=options
    )
    if out is not None:
        note(f"wrote {', '.join(str(path) for path in write_report(suite, out))}")
    if as_json:
        print_json(record(suite))
    else:
        print_table(suite)


def _compare(settings: dict[str, Any], change: str, size: int, pairs: int, as_json: bool) -> None:
    from dataclasses import asdict

    from lightningdrag.bench.compare import compare

    found = compare(settings, change, size, pairs)
    if as_json:
        print_json({"settings": settings, "against": change, "size": size, **asdict(found)})
        return
    this, other = (sum(side) / pairs for side in zip(*found.seconds, strict=True))
    typer.echo(
        f"as it is {this:.3f} s, with {change} {other:.3f} s (means of {pairs} edits of {size}x{size})"
    )
    typer.echo(
        f"{change} takes {found.ratio:.2f} times as long, 90 % interval {found.low:.2f} to {found.high:.2f}"
    )
