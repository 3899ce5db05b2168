"""Tiny datasets prepared from films of squares."""

from __future__ import annotations

from pathlib import Path

from data_scenes import square_film, write_video
from lightningdrag.data.outcome import Result
from lightningdrag.data.preparation import prepare
from lightningdrag.data.recipe import Amounts, DataRecipe
from lightningdrag.data.tasks import Unit, find_videos, pack, video_tasks

RECIPE = DataRecipe(amounts=Amounts(per_group=3, per_shard=3))  # a shard a video


def write_films(folder: Path, count: int, frames: int = 5) -> Path:
    """``count`` videos in a folder, which is made."""
    folder.mkdir(parents=True)
    for k in range(count):
        write_video(folder / f"film{k}.mkv", square_film(frames, step=(5.0 - k / 2, 1.0 + k / 2), seed=k))
    return folder


def plan(folder: str | Path, recipe: DataRecipe = RECIPE) -> list[Unit]:
    """The units of a folder of videos."""
    videos, _, _ = find_videos([str(folder)])
    return pack(video_tasks(videos, {}, set(), recipe.amounts), recipe)


def run(units: list[Unit], out: str | Path, recipe: DataRecipe = RECIPE, **options: object) -> Result:
    """Prepare to the end."""
    result = None
    for _, result in prepare(units, str(out), recipe, **options):  # type: ignore[arg-type]  # noqa: B007
        pass
    assert result is not None
    return result


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset but those that tell the time it took."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes() for name, path in files.items() if not name.startswith(("report", ".lock"))
    }
