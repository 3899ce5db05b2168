"""``lightningdrag train RECIPE --data DIR``: train the built-in model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(train)


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe, such as recipes/builtin.yaml.")],
    data: Annotated[Path, typer.Option(help="A dataset that `lightningdrag prepare` wrote.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Recipe fields, as key=value.")] = None,
    out: Annotated[Path, typer.Option(help="The run's folder: state, weights, log, pictures.")] = Path(
        "runs/train"
    ),
    resume: Annotated[
        str, typer.Option(help="'auto' continues the run in --out, if there is one; or 'never'.")
    ] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to torch.")] = 0,
) -> None:
    """Train the built-in model. Ctrl-C or SIGTERM saves and stops; the same command goes on."""
    import torch

    from lightningdrag.training.loop import Trainer
    from lightningdrag.training.recipe import load_recipe

    if resume not in ("auto", "never"):
        raise typer.BadParameter(f"--resume is {resume!r}; it takes 'auto' or 'never'")
    settings = load_recipe(recipe, overrides)
    if threads:
        torch.set_num_threads(threads)
    trainer = Trainer(settings, data, out, report)
    if resume == "auto" and trainer.resume():
        typer.echo(f"continuing {out} at step {trainer.step}")
    trainer.run()
    typer.echo(f"weights: {out / 'builtin.safetensors'}")


def report(record: dict[str, Any]) -> None:
    """One line for each log record."""
    typer.echo("  ".join(f"{key} {value}" for key, value in record.items()))
