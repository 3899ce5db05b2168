"""``lightningdrag export RUN --out DIR``: a run's weights as a model to load and to publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="export")(export_run)


def export_run(
    run: Annotated[Path, typer.Argument(help="The --out of lightningdrag train or distill.")],
    out: Annotated[Path, typer.Option(help="The model's folder, to be made.")],
    data: Annotated[str | None, typer.Option(help="The dataset, if it lies elsewhere by now.")] = None,
    licence: Annotated[str, typer.Option(help="Of the weights, for the card.")] = "not stated",
) -> None:
    """Write a run's model in float16, with a card made from the run."""
    from lightningdrag.training.export import export

    export(run, out, data=data, licence=licence)
    typer.echo(f"lightningdrag edit photo.jpg --model {out} --drag ...")
