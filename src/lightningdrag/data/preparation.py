"""From folders of videos, photos and photograph pairs to shards of training pairs."""

from __future__ import annotations

import csv
import multiprocessing
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lightningdrag.data.clips import DrawnPair, draw_request, shot_pairs
from lightningdrag.data.pairs import Rejected
from lightningdrag.data.poses import photograph_pair
from lightningdrag.data.shards import ShardWriter, encode_sample
from lightningdrag.data.shots import split_shots
from lightningdrag.data.synthetic import synthetic_pair
from lightningdrag.data.video import (
    MAX_FRAMES,
    UnreadableVideo,
    first_frame,
    read_video,
    scaled_photo,
    without_bars,
)

VIDEO_SUFFIXES = {
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".gif",
    ".mpg",
    ".mpeg",
    ".ogv",
    ".ts",
    ".wmv",
}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
STRATA = (0.04, 0.10)  # mean drag length over the short side: small, medium, large


@dataclass(frozen=True)
class Amounts:
    """How many pairs to draw.

    Attributes:
        per_group: video pairs from each group of clips.
        per_limited_group: the same for groups of a kind that there is too much of.
        per_photo: synthetic pairs from each photo.
        per_dev_clip: pairs from each held-out clip, evenly over :data:`STRATA`.
    """

    per_group: int = 40
    per_limited_group: int = 12
    per_photo: int = 6
    per_dev_clip: int = 12


@dataclass(frozen=True)
class Task:
    """A piece of work for one process: a video, a photo, or a pair of photographs.

    Attributes:
        kind: ``"video"``, ``"pose"`` or ``"synthetic"``.
        paths: what is read.
        count: how many pairs are wanted.
        others: for synthetic pairs, further pictures to draw from.
    """

    kind: str
    paths: tuple[Path, ...]
    clip: str
    group: str
    licence: str
    source: str
    split: str
    count: int
    seed: int
    others: tuple[Task, ...] = field(default=(), repr=False)


Result = tuple[list[dict[str, bytes]], Counter[str]]


def list_files(places: Iterable[Path], suffixes: set[str]) -> list[Path]:
    """The files among ``places`` and, by suffix, in the folders among them; sorted, each once."""
    found: set[Path] = set()
    for place in places:
        if place.is_dir():
            found |= {path for path in place.rglob("*") if path.suffix.lower() in suffixes}
        elif place.exists():
            found.add(place)
        else:
            raise FileNotFoundError(f"{place} does not exist")
    return sorted(found)


def read_manifest(path: Path | None, key: str = "file") -> dict[str, dict[str, str]]:
    """Rows of a CSV file by one of its columns; empty for None.

    Raises:
        ValueError: the column is missing.
    """
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if rows and key not in rows[0]:
        raise ValueError(f"{path} has no column {key!r}; its columns are {', '.join(rows[0])}")
    return {row[key]: row for row in rows}


def video_tasks(
    videos: list[Path],
    manifest: dict[str, dict[str, str]],
    holdout: set[str],
    limited: Callable[[str], bool],
    amounts: Amounts,
    seed: int,
) -> list[Task]:
    """One task a video. A group with a held-out clip is kept from training as a whole.

    Args:
        manifest: rows by file name; ``group``, ``licence``, ``source_repo``, ``path_in_repo`` and
            ``description`` are used where given. Without a group a video is its own.
        holdout: file names of the clips that go to ``dev``.
        limited: tells by a description whether a group gives ``per_limited_group`` pairs only.
    """
    rows = {video: manifest.get(video.name, {}) for video in videos}
    group = {video: row.get("group") or video.stem for video, row in rows.items()}
    held = {group[video] for video in videos if video.name in holdout}
    unknown = holdout - {video.name for video in videos}
    if unknown:
        raise ValueError(
            f"the holdout list names videos that are not there: {', '.join(sorted(unknown)[:5])}"
        )
    sizes = Counter(group.values())
    tasks = []
    for video, row in rows.items():
        dev = video.name in holdout
        if group[video] in held and not dev:
            continue
        most = amounts.per_limited_group if limited(row.get("description", "")) else amounts.per_group
        source = "/".join(filter(None, (row.get("source_repo"), row.get("path_in_repo"))))
        tasks.append(
            Task(
                kind="video",
                paths=(video,),
                clip=video.stem,
                group=group[video],
                licence=row.get("licence") or "unknown",
                source=source or video.name,
                split="dev" if dev else "train",
                count=amounts.per_dev_clip if dev else -(-most // sizes[group[video]]),
                seed=seed,
            )
        )
    return tasks


def photo_tasks(folder: Path, videos: list[Task], amounts: Amounts, seed: int) -> list[Task]:
    """One task a photo; other photos and training videos' frames are its backgrounds and cut-outs."""
    manifest = read_manifest(_manifest_in(folder))
    pool = []
    for path in list_files([folder], PHOTO_SUFFIXES):
        row = manifest.get(path.name, {})
        source = "/".join(filter(None, (row.get("source_repo"), row.get("path_in_repo"))))
        pool.append(
            Task(
                kind="synthetic",
                paths=(path,),
                clip=path.stem,
                group=path.stem,
                licence=row.get("licence") or "unknown",
                source=source or path.name,
                split="train",
                count=amounts.per_photo,
                seed=seed,
            )
        )
    training = [task for task in videos if task.split == "train"]
    rng = np.random.default_rng([seed, 1])
    tasks = []
    for task in pool:
        others = [pool[k] for k in rng.integers(len(pool), size=6)]
        others += [training[k] for k in rng.integers(len(training), size=3)] if training else []
        tasks.append(Task(**{**task.__dict__, "others": tuple(others)}))
    return tasks


def pose_tasks(folder: Path, seed: int) -> list[Task]:
    """One task a row of the folder's manifest, whose columns ``frame0`` and ``frame1`` name two photos."""
    path = _manifest_in(folder)
    if path is None:
        raise FileNotFoundError(f"{folder} has no manifest.csv (columns id, frame0, frame1)")
    tasks = []
    for name, row in read_manifest(path, "id").items():
        tasks.append(
            Task(
                kind="pose",
                paths=(folder / row["frame0"], folder / row["frame1"]),
                clip=name,
                group=name,
                licence=row.get("licence") or "unknown",
                source=row.get("source") or name,
                split="train",
                count=1,
                seed=seed,
            )
        )
    return tasks


def prepare(tasks: list[Task], out: Path, workers: int, seed: int) -> Iterator[tuple[int, int]]:
    """Do all tasks and write their samples; the same tasks and seed give the same shards.

    Held-out clips come first, then everything else mixed, so that the shards already there are of use
    while later ones are being made.

    Yields:
        (tasks done, samples written) after each task.
    """
    order = np.random.default_rng([seed, 2]).permutation(len(tasks))
    ordered = sorted((tasks[k] for k in order), key=lambda task: task.split != "dev")
    written = 0
    with ShardWriter(out) as writer, multiprocessing.get_context("spawn").Pool(workers, _one_thread) as pool:
        for done, (samples, dropped) in enumerate(pool.imap(run_task, ordered), start=1):
            if done > 1 and ordered[done - 1].split != ordered[done - 2].split:
                writer.flush()
            for sample in samples:
                writer.add(sample)
            writer.count_dropped(dropped)
            written += len(samples)
            yield done, written


def run_task(task: Task) -> Result:
    """All samples of a task, encoded, and counts of what was dropped by reason."""
    dropped: Counter[str] = Counter()
    rng = np.random.default_rng([task.seed, zlib.crc32(task.clip.encode())])
    make = {"video": _video_samples, "pose": _pose_samples, "synthetic": _synthetic_samples}[task.kind]
    return list(make(task, rng, dropped)), dropped


def _video_samples(task: Task, rng: np.random.Generator, dropped: Counter[str]) -> Iterator[dict[str, bytes]]:
    wanted = 4 * task.count if task.split == "dev" else task.count
    pairs: list[DrawnPair] = []
    offset = 0
    try:
        for piece in read_video(task.paths[0], max_frames=MAX_FRAMES):
            for start, stop in split_shots(piece):
                shot = without_bars(piece[start:stop])
                share = max(2, -(-wanted * len(shot) // len(piece)))
                for drawn in shot_pairs(shot, min(share, wanted - len(pairs)), rng, dropped):
                    at = (drawn.frames[0] + start + offset, drawn.frames[1] + start + offset)
                    pairs.append(DrawnPair(**{**drawn.__dict__, "frames": at}))
            offset += len(piece)
            if len(pairs) >= wanted:
                break
    except UnreadableVideo:
        dropped["unreadable"] += 1
    for drawn in even_strata(pairs, task.count) if task.split == "dev" else pairs:
        yield _encoded(drawn, task, task.licence, task.source)


def even_strata(pairs: list[DrawnPair], count: int) -> list[DrawnPair]:
    """``count`` pairs, in turn from small, medium and large motions as long as there are any."""
    strata: list[list[DrawnPair]] = [[], [], []]
    for drawn in pairs:
        strata[int(np.searchsorted(STRATA, drawn.motion, side="right"))].append(drawn)
    share = -(-count // len(strata))
    return [drawn for stratum in strata for drawn in stratum[:share]][:count]


def _pose_samples(task: Task, rng: np.random.Generator, dropped: Counter[str]) -> Iterator[dict[str, bytes]]:
    first, second = (_read_photo(path) for path in task.paths)
    if first is None or second is None or first.shape != second.shape:
        dropped["unreadable"] += 1
        return
    try:
        drawn = photograph_pair(first, second, rng)
    except Rejected as reason:
        dropped[f"pose: {reason}"] += 1
        return
    yield _encoded(drawn, task, task.licence, task.source)


def _synthetic_samples(
    task: Task, rng: np.random.Generator, dropped: Counter[str]
) -> Iterator[dict[str, bytes]]:
    photo = _read_picture(task)
    if photo is None:
        dropped["unreadable"] += 1
        return
    for _ in range(task.count):
        chosen = [
            task.others[k]
            for k in rng.integers(len(task.others), size=rng.choice(4, p=(0.25, 0.4, 0.2, 0.15)))
        ]
        pictures = [(task, photo)]
        pictures += [(other, picture) for other in chosen if (picture := _read_picture(other)) is not None]
        if rng.random() < 0.5:  # cut out of this photo as often as pasted onto it
            pictures.reverse()
        try:
            pair = synthetic_pair([picture for _, picture in pictures], rng)
            drawn = draw_request(pair, (0, 1), "static", rng)
        except Rejected as reason:
            dropped[f"synthetic: {reason}"] += 1
            continue
        licence = " + ".join(sorted({source.licence for source, _ in pictures}))
        yield _encoded(drawn, task, licence, " + ".join(source.source for source, _ in pictures))


def _encoded(drawn: DrawnPair, task: Task, licence: str, source: str) -> dict[str, bytes]:
    meta: dict[str, Any] = {
        "kind": task.kind,
        "clip": task.clip,
        "group": task.group,
        "licence": licence,
        "source": source,
        "frames": [int(k) for k in drawn.frames],
        "camera": drawn.camera,
        "handles": drawn.handles.astype(float).round(2).tolist(),
        "targets": drawn.targets.astype(float).round(2).tolist(),
        "motion": round(drawn.motion, 5),
        "split": task.split,
    }
    return encode_sample(drawn.pair, drawn.mask, meta)


def _read_picture(task: Task) -> np.ndarray | None:
    if task.kind == "synthetic":
        return _read_photo(task.paths[0])
    try:
        return first_frame(task.paths[0])
    except UnreadableVideo:
        return None


def _read_photo(path: Path) -> np.ndarray | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    return None if image is None else scaled_photo(np.asarray(image))


def _manifest_in(folder: Path) -> Path | None:
    path = folder / "manifest.csv"
    return path if path.exists() else None


def _one_thread() -> None:
    cv2.setNumThreads(1)
