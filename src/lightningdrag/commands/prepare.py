"""``lightningdrag prepare``: videos, photos and photograph pairs to training shards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="prepare")(prepare)


def prepare(
    videos: Annotated[list[Path], typer.Argument(help="Videos, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; made if it is not there.")],
    manifest: Annotated[
        Path | None, typer.Option(help="CSV with columns file, group, licence, source_repo, description.")
    ] = None,
    holdout: Annotated[
        Path | None, typer.Option(help="Text file of file names, one a line: the dev split.")
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Folder of photos for synthetic pairs.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder of photograph pairs with a manifest.csv.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same shards.")] = 0,
    per_group: Annotated[int, typer.Option(min=1, help="Video pairs from each group.")] = 40,
    limited: Annotated[
        str, typer.Option(help="Groups whose description matches this pattern give a third of that at most.")
    ] = "robot|on a table|sign language",
) -> None:
    """Make a dataset of drag training pairs from videos."""
    from rich.progress import MofNCompleteColumn, Progress

    from lightningdrag.data import preparation as preparing

    amounts = preparing.Amounts(per_group=per_group, per_limited_group=-(-3 * per_group // 10))
    try:
        pattern = re.compile(limited, re.IGNORECASE)
    except re.error as error:
        raise typer.BadParameter(f"{limited!r} is no pattern: {error}", param_hint="--limited") from None
    held = set(holdout.read_text(encoding="utf-8").split("\n")) - {""} if holdout else set()
    tasks = preparing.video_tasks(
        preparing.list_files(videos, preparing.VIDEO_SUFFIXES),
        preparing.read_manifest(manifest),
        held,
        lambda description: bool(limited and pattern.search(description)),
        amounts,
        seed,
    )
    if photos is not None:
        tasks += preparing.photo_tasks(photos, tasks, amounts, seed)
    if pairs is not None:
        tasks += preparing.pose_tasks(pairs, seed)
    if not tasks:
        raise ValueError("no video, photo or pair was found")
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as progress:
        bar = progress.add_task("preparing", total=len(tasks))
        for done, written in preparing.prepare(tasks, out, workers, seed):
            progress.update(bar, completed=done, description=f"{written} pairs")
