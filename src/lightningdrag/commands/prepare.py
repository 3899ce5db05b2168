"""``lightningdrag prepare``: videos, photos and photograph pairs to training shards."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightningdrag.commands.console import need

if TYPE_CHECKING:
    from lightningdrag.data.outcome import Skipped
    from lightningdrag.data.recipe import DataRecipe
    from lightningdrag.data.tasks import Unit


class Engine(str, Enum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="prepare")(prepare)


def prepare(
    videos: Annotated[list[str], typer.Argument(help="Videos, or folders of them; paths or fsspec URLs.")],
    out: Annotated[str, typer.Option(help="Folder for the shards, or its URL; made if it is not there.")],
    engine: Annotated[Engine, typer.Option(help="This machine, or Ray (RAY_ADDRESS).")] = Engine.LOCAL,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    manifest: Annotated[
        str | None, typer.Option(help="CSV with columns file, group, licence, source_repo, description.")
    ] = None,
    holdout: Annotated[
        str | None, typer.Option(help="Text file of file names, one a line: the dev split.")
    ] = None,
    photos: Annotated[str | None, typer.Option(help="Folder of photos for synthetic pairs.")] = None,
    pairs: Annotated[str | None, typer.Option(help="Folder of photograph pairs with a manifest.csv.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    config: Annotated[Path | None, typer.Option(help="YAML file of amounts and thresholds.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same shards.")] = None,
    per_group: Annotated[int | None, typer.Option(min=1, help="Video pairs from each group.")] = None,
    limited: Annotated[
        str | None,
        typer.Option(help="Groups whose description matches this pattern give three tenths of that."),
    ] = None,
) -> None:
    """Make a dataset of drag training pairs from videos."""
    from rich.progress import MofNCompleteColumn, Progress

    from lightningdrag.data.preparation import prepare as run
    from lightningdrag.data.recipe import DEFAULT, load_recipe

    recipe = load_recipe(config) if config else DEFAULT
    amounts = recipe.amounts
    if per_group is not None:
        amounts = replace(amounts, per_group=per_group, per_limited_group=-(-3 * per_group // 10))
    if limited is not None:
        amounts = replace(amounts, limited=limited)
    recipe = replace(recipe, seed=recipe.seed if seed is None else seed, amounts=amounts)
    need("av", "matplotlib")
    units, skipped = _plan(videos, manifest, holdout, photos, pairs, recipe)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as progress:
        bar = progress.add_task("preparing", total=len(units))
        for done, result in run(units, out, recipe, skipped, engine.value, workers, resume):
            progress.update(bar, completed=done, description=f"{result.pairs} pairs")
    typer.echo(f"{result.pairs} pairs in {out}; look at report.html there")
    if result.skipped:
        typer.echo(f"{len(result.skipped)} inputs skipped, all or in part; the report says why", err=True)
        raise typer.Exit(1)


def _plan(
    videos: list[str],
    manifest: str | None,
    holdout: str | None,
    photos: str | None,
    pairs: str | None,
    recipe: DataRecipe,
) -> tuple[list[Unit], list[Skipped]]:
    """Shards' worth of work, and the inputs left out before any."""
    from lightningdrag.data import storage, tasks
    from lightningdrag.data.trackers import NOTICES, load_trackers

    if recipe.tracker in NOTICES:
        typer.echo(NOTICES[recipe.tracker], err=True)
    # wrong ones are told before the work begins
    load_trackers(recipe.flow, recipe.flow_weights, recipe.tracker, recipe.tracker_weights)
    held = set(storage.read(holdout).decode("utf-8").splitlines()) - {""} if holdout else set()
    found, skipped, copies = tasks.find_videos(videos)
    listed = tasks.video_tasks(found, tasks.read_manifest(manifest), held, recipe.amounts, copies)
    if photos is not None:
        listed += tasks.photo_tasks(photos, listed, recipe)
    if pairs is not None:
        listed += tasks.pose_tasks(pairs)
    if not listed:
        raise ValueError("no video was found, nor photos or pairs (--photos, --pairs)")
    return tasks.pack(listed, recipe), skipped
