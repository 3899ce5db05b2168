"""From folders and their manifests to a list of tasks, and from these to shards' worth of work."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from lightningdrag.data import storage
from lightningdrag.data.outcome import Skipped
from lightningdrag.data.recipe import Amounts, DataRecipe, RecipeError

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif", ".mpg", ".mpeg", ".ogv", ".ts", ".wmv")
)
PHOTO_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp"))


@dataclass(frozen=True)
class Task:
    """A piece of work for one process: a video, a photo, or a pair of photographs.

    Attributes:
        kind: ``"video"``, ``"pose"`` or ``"synthetic"``.
        places: what is read, paths or URLs.
        count: how many pairs are wanted.
        others: for synthetic pairs, further pictures to draw from.
    """

    kind: str
    places: tuple[str, ...]
    clip: str
    group: str
    licence: str
    source: str
    split: str
    count: int
    others: tuple[Task, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Unit:
    """The tasks whose samples make one shard: done by one process, done again as a whole if it failed."""

    name: str
    split: str
    kind: str
    tasks: tuple[Task, ...]


def find_videos(places: Iterable[str]) -> tuple[dict[str, str], list[Skipped], dict[str, str]]:
    """Videos by their name (the path within the folder that was given), and what cannot be used.

    A file that is byte for byte another one is left out; last come these copies, with the name of the one
    that is kept.
    """
    denied: list[str] = []
    found: dict[str, storage.Found] = {}
    for place in places:
        for file in storage.list_files(place, VIDEO_SUFFIXES, denied):
            known = found.setdefault(file.name, file)
            if known.place != file.place:  # of this name in another folder
                found[file.place] = file
    skipped = [Skipped(_text(folder), "folder may not be read") for folder in sorted(denied)]
    copies, unreadable = _unfit(found)
    for name in sorted((*copies, *unreadable)):
        del found[name]
        reason = f"the same file as {_text(copies[name])}" if name in copies else "may not be read"
        skipped.append(Skipped(_text(name), reason))
    return {name: file.place for name, file in found.items()}, skipped, copies


def read_manifest(place: str | None, keys: tuple[str, ...] = ("file",)) -> dict[str, dict[str, str]]:
    """Rows of a CSV file by the first of these columns; empty for None.

    Raises:
        ValueError: it is no CSV in UTF-8, or a column is missing.
    """
    if place is None:
        return {}
    try:
        text = storage.read(place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no CSV in UTF-8: {error}") from error
    table = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
    try:
        columns, rows = table.fieldnames or [], list(table)
    except csv.Error as error:  # a quote that is not closed would swallow all rows after it
        raise ValueError(f"{place} is no CSV after line {table.line_num}: {error}") from None
    for key in keys:
        if key not in columns:
            raise ValueError(f"{place} has no column {key!r}; its columns are {', '.join(columns)}")
    return {row[keys[0]]: row for row in rows}


def video_tasks(
    videos: dict[str, str],
    manifest: dict[str, dict[str, str]],
    holdout: set[str],
    amounts: Amounts,
    copies: Mapping[str, str] | None = None,
) -> list[Task]:
    """One task a video. A group with a held-out clip is kept from training as a whole.

    Args:
        videos: places by name.
        manifest: rows by name or file name; ``group``, ``licence``, ``source_repo``, ``path_in_repo`` and
            ``description`` are used where given. Without a group a video is its own.
        holdout: names or file names of the clips that go to ``dev``.
        copies: videos that were left out, with the name of the one that each is a copy of: what is held
            out by either name is held out, in the groups of both.
    """
    copies = copies or {}
    try:
        limited = re.compile(amounts.limited, re.IGNORECASE)
    except re.error as error:
        raise RecipeError(f"amounts.limited is {amounts.limited!r}, which is no pattern: {error}") from None
    rows = {name: manifest.get(name, manifest.get(_file(name), {})) for name in (*videos, *copies)}
    group = {name: row.get("group") or _clip(name) for name, row in rows.items()}
    named = {name for name in rows if name in holdout or _file(name) in holdout}
    dev = {copies.get(name, name) for name in named}
    held = {group[name] for name in named | dev}
    unknown = holdout - set(rows) - {_file(name) for name in rows}
    if unknown:
        raise ValueError(
            f"the holdout list names videos that are not there: {', '.join(sorted(unknown)[:5])}"
        )
    sizes = Counter(group[name] for name in videos)
    tasks = []
    for name in videos:
        row = rows[name]
        if group[name] in held and name not in dev:
            continue
        few = amounts.limited and limited.search(row.get("description", ""))
        most = amounts.per_limited_group if few else amounts.per_group
        task = _task("video", videos[name], _clip(name), row, -(-most // sizes[group[name]]))
        task = replace(task, group=_text(group[name]))
        tasks.append(replace(task, split="dev", count=amounts.per_dev_clip) if name in dev else task)
    return tasks


def photo_tasks(folder: str, videos: list[Task], recipe: DataRecipe) -> list[Task]:
    """One task a photo; other photos and training videos' frames are its backgrounds and cut-outs."""
    manifest = read_manifest(_manifest_in(folder))
    pool = []
    for place, name, _ in storage.list_files(folder, PHOTO_SUFFIXES):
        row = manifest.get(name, manifest.get(_file(name), {}))
        pool.append(_task("synthetic", place, _clip(name), row, recipe.amounts.per_photo))
    training = [task for task in videos if task.split == "train"]
    rng = np.random.default_rng([recipe.seed, 1])
    tasks = []
    for task in pool:
        others = [pool[k] for k in rng.integers(len(pool), size=6)]
        others += [training[k] for k in rng.integers(len(training), size=3)] if training else []
        tasks.append(replace(task, others=tuple(others)))
    return tasks


def pose_tasks(folder: str) -> list[Task]:
    """One task a row of the folder's manifest, whose columns ``frame0`` and ``frame1`` name two photos."""
    place = _manifest_in(folder)
    if place is None:
        raise FileNotFoundError(f"{folder} has no manifest.csv (columns id, frame0, frame1)")
    tasks = []
    for name, row in read_manifest(place, ("id", "frame0", "frame1")).items():
        task = _task("pose", "", name, row, 1)
        frames = (storage.join(folder, row["frame0"]), storage.join(folder, row["frame1"]))
        tasks.append(replace(task, places=frames, source=row.get("source") or name))
    return tasks


def pack(tasks: list[Task], recipe: DataRecipe) -> list[Unit]:
    """Split tasks into shards' worth of work by split and kind, the same for the same tasks and recipe.

    Held-out clips come first, then everything else mixed, so that the shards already there are of use
    while later ones are being made.
    """
    order = np.random.default_rng([recipe.seed, 2]).permutation(len(tasks))
    mixed = sorted((tasks[k] for k in order), key=lambda task: task.split != "dev")
    waiting: dict[tuple[str, str], list[Task]] = defaultdict(list)
    made: Counter[tuple[str, str]] = Counter()
    units = []

    def close(key: tuple[str, str]) -> None:
        units.append(Unit(f"{key[0]}-{key[1]}-{made[key]:05d}", *key, tuple(waiting.pop(key))))
        made[key] += 1

    for task in mixed:
        key = task.split, task.kind
        waiting[key].append(task)
        if sum(one.count for one in waiting[key]) >= recipe.amounts.per_shard:
            close(key)
    for key in sorted(waiting):
        close(key)
    return sorted(units, key=lambda unit: unit.split != "dev")


def _task(kind: str, place: str, clip: str, row: dict[str, str], count: int) -> Task:
    source = "/".join(filter(None, (row.get("source_repo"), row.get("path_in_repo"))))
    return Task(
        kind=kind,
        places=(place,),
        clip=clip,
        group=clip,
        licence=row.get("licence") or "unknown",
        source=source or _file(_text(place)),
        split="train",
        count=count,
    )


def _unfit(videos: dict[str, storage.Found]) -> tuple[dict[str, str], list[str]]:
    """Names of videos whose bytes another has, with its name, and those that cannot be read to see that."""
    sizes = defaultdict(list)
    for name, file in sorted(videos.items()):
        if file.size:
            sizes[file.size].append(name)
    copies: dict[str, str] = {}
    unreadable: list[str] = []
    for names in sizes.values():
        first: dict[str, str] = {}
        for name in names if len(names) > 1 else ():
            try:
                same = first.setdefault(storage.sha256(videos[name].place), name)
            except OSError:
                unreadable.append(name)
                continue
            if same != name:
                copies[name] = same
    return copies, unreadable


def _text(name: str) -> str:
    """A file's name as text that can be written: bytes that are no UTF-8 become a mark."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _clip(name: str) -> str:
    """A name without its suffix."""
    return _text(name[: name.rfind(".")] if "." in _file(name) else name)


def _file(name: str) -> str:
    return name.rpartition("/")[2]


def _manifest_in(folder: str) -> str | None:
    place = storage.join(folder, "manifest.csv")
    return place if storage.exists(place) else None
