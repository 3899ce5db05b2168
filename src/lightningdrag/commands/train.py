"""``lightningdrag train RECIPE --data DIR``: train a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from lightningdrag.commands.console import note, report_error

RecipeFile = Annotated[Path, typer.Argument(help="A YAML recipe, such as recipes/builtin.yaml.")]
Data = Annotated[str, typer.Option(help="A dataset that `lightningdrag prepare` wrote: a folder or a URL.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Recipe fields, as key=value.")]
Out = Annotated[Path, typer.Option(help="The run's folder: checkpoints, weights, log, pictures.")]
Resume = Annotated[str, typer.Option(help="'auto' continues the run in --out, if there is one; or 'never'.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to torch.")]
Ray = Annotated[int, typer.Option(help="Train on this many Ray workers; 0 trains here.")]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(train)


def train(
    recipe: RecipeFile,
    data: Data,
    overrides: Overrides = None,
    out: Out = Path("runs/train"),
    resume: Resume = "auto",
    threads: Threads = 0,
    ray: Ray = 0,
) -> None:
    """Train a model. Ctrl-C or SIGTERM saves and stops; the same command goes on.

    On several GPUs or machines, start it with accelerate launch or torchrun, module lightningdrag.
    """
    from lightningdrag.training.recipe import load_recipe

    run(load_recipe(recipe, overrides), data, out, resume, threads, ray)


def run(recipe: Any, data: str, out: Path, resume: str, threads: int, ray: int) -> None:
    """Train as a recipe says."""
    if resume not in ("auto", "never"):
        raise typer.BadParameter(f"--resume is {resume!r}; it takes 'auto' or 'never'")
    from lightningdrag.training.checkpoints import list_checkpoints

    if resume == "never" and list_checkpoints(out):  # they would be taken for this run's
        raise typer.BadParameter(f"{out} holds a run already; give another --out, or --resume auto")
    if ray:
        from lightningdrag.training.ray import train_on_ray

        train_on_ray(recipe, data, out, ray, resume == "auto", threads)
        return
    import torch

    from lightningdrag.training.loop import Diverged, Trainer
    from lightningdrag.training.task import make_task

    if threads:
        torch.set_num_threads(threads)
    with reporting() as report:
        trainer = Trainer(make_task(recipe), data, out, report)
        if resume == "auto" and trainer.resume() and trainer.accelerator.is_main_process:
            note(f"continuing {out} at step {trainer.step}")
        try:
            trainer.run()
        except Diverged as error:
            report_error(str(error))
            raise typer.Exit(1) from None
    if trainer.accelerator.is_main_process and trainer.step:
        typer.echo(f"weights: {out / trainer.task.weights_file}")


@contextmanager
def reporting() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Log records as lines, above a bar with samples/s, time left and memory if someone is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("step {task.fields[step]}"),
        BarColumn(),
        TextColumn("{task.percentage:.1f} %  {task.fields[rate]} samples/s  {task.fields[memory]} GB  left"),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal and os.environ.get("RANK", "0") == "0"
    # Log lines may be minutes apart, and within rich's own period of 30 s none would tell the speed.
    with Progress(*columns, console=console, disable=not shown, speed_estimate_period=3600) as bar:
        task = bar.add_task("", total=1.0, step=0, rate="-", memory="-")

        def report(record: dict[str, Any]) -> None:
            words = "  ".join(f"{key} {value}" for key, value in record.items() if key != "progress")
            console.print(words, highlight=False, soft_wrap=True)
            fields = {"rate": record["rate"], "memory": record["memory_gb"]} if "rate" in record else {}
            bar.update(task, completed=record["progress"], step=record["step"], **fields)

        yield report
