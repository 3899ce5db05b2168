"""What one task gives: samples, encoded, and counts of what was dropped."""

from __future__ import annotations

import io
import itertools
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lightningdrag.data import storage
from lightningdrag.data.clips import DrawnPair, draw_request, shot_pairs
from lightningdrag.data.drawing import STRATA, bin_of
from lightningdrag.data.outcome import Skipped
from lightningdrag.data.pairs import Rejected
from lightningdrag.data.poses import photograph_pair
from lightningdrag.data.recipe import DataRecipe
from lightningdrag.data.shards import encode_sample
from lightningdrag.data.shots import split_shots
from lightningdrag.data.synthetic import synthetic_pair
from lightningdrag.data.tasks import Task
from lightningdrag.data.trackers import load_trackers
from lightningdrag.data.video import UnreadableVideo, Video, first_frame, scaled_photo, without_bars


@dataclass
class Outcome:
    """A task's samples, and what became of the rest.

    Attributes:
        dropped: pairs and frames that were left out, by reason.
        skipped: inputs that gave nothing, or were used in part only.
        frames: video frames that were looked at.
    """

    samples: list[dict[str, bytes]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    frames: int = 0


def run_task(task: Task, recipe: DataRecipe) -> Outcome:
    """Do a task. Whatever is wrong with its inputs is told in the outcome.

    Raises:
        storage.Unreachable: a URL's file system failed, again and again: of its input nothing is known.
    """
    for wait in storage.WAITS:
        with suppress(storage.Unreachable):
            return _attempt(task, recipe)
        time.sleep(wait)
    return _attempt(task, recipe)


def _attempt(task: Task, recipe: DataRecipe) -> Outcome:
    outcome = Outcome()
    rng = np.random.default_rng([recipe.seed, zlib.crc32(task.clip.encode())])
    make: Callable[[Task, DataRecipe, np.random.Generator, Outcome], Iterator[dict[str, bytes]]]
    make = {"video": _video_samples, "pose": _pose_samples, "synthetic": _synthetic_samples}[task.kind]
    try:
        outcome.samples = list(make(task, recipe, rng, outcome))
    except UnreadableVideo as error:
        outcome.skipped.append(Skipped(task.source, str(error)))
    except (storage.Unreachable, ModuleNotFoundError):
        raise
    except Exception as error:  # one input among millions may not end the run
        outcome.skipped.append(Skipped(task.source, f"failed: {type(error).__name__}"))
    return outcome


def even_strata(pairs: list[DrawnPair], count: int) -> list[DrawnPair]:
    """``count`` pairs, if there are as many, in turn from small, medium and large motions that are left."""
    strata = ([drawn for drawn in pairs if bin_of(drawn.motion, STRATA) == name] for name in STRATA)
    turns = itertools.zip_longest(*strata)
    return [drawn for turn in turns for drawn in turn if drawn is not None][:count]


def _video_samples(
    task: Task, recipe: DataRecipe, rng: np.random.Generator, outcome: Outcome
) -> Iterator[dict[str, bytes]]:
    wanted = 4 * task.count if task.split == "dev" else task.count
    trackers = load_trackers(recipe.flow, recipe.flow_weights, recipe.tracker, recipe.tracker_weights)
    video = Video(task.places[0], recipe.frames)
    pairs: list[DrawnPair] = []
    for number, piece in enumerate(video.pieces()):
        pieces = max(1.0, video.seconds * recipe.frames.max_rate / recipe.frames.piece)
        due = min(wanted, int(np.ceil(wanted * (number + 1) / pieces)))  # all along the video
        for start, stop in split_shots(piece, outcome.dropped, recipe.shots) if len(pairs) < due else []:
            shot = without_bars(piece[start:stop], recipe.frames.bar_level)
            if min(shot.shape[1:3]) < recipe.frames.least_side:
                outcome.dropped["too small"] += 1
                continue
            share = max(2, -(-due * len(shot) // len(piece)))
            count = min(share, due - len(pairs))
            for drawn in shot_pairs(shot, count, rng, outcome.dropped, recipe, trackers):
                begin = start + outcome.frames
                pairs.append(replace(drawn, frames=(drawn.frames[0] + begin, drawn.frames[1] + begin)))
        outcome.frames += len(piece)
        if len(pairs) >= wanted:
            break
    if outcome.frames == 1:
        raise UnreadableVideo("only one frame")
    if video.damaged:
        outcome.skipped.append(Skipped(task.source, "damaged: used up to there", partly=True))
    for drawn in even_strata(pairs, task.count) if task.split == "dev" else pairs:
        yield _encoded(drawn, task, task.licence, task.source)


def _pose_samples(
    task: Task, recipe: DataRecipe, rng: np.random.Generator, outcome: Outcome
) -> Iterator[dict[str, bytes]]:
    first, second = (_read_photo(place, recipe) for place in task.places)
    if first.shape != second.shape:
        raise UnreadableVideo("two photographs of different sizes")
    try:
        drawn = photograph_pair(first, second, rng, recipe)
    except Rejected as reason:
        outcome.dropped[f"pose: {reason}"] += 1
        return
    yield _encoded(drawn, task, task.licence, task.source)


def _synthetic_samples(
    task: Task, recipe: DataRecipe, rng: np.random.Generator, outcome: Outcome
) -> Iterator[dict[str, bytes]]:
    photo = _read_photo(task.places[0], recipe)
    for _ in range(task.count):
        chosen = [
            task.others[k]
            for k in rng.integers(len(task.others), size=rng.choice(4, p=(0.25, 0.4, 0.2, 0.15)))
        ]
        pictures = [(task, photo)]
        for other in chosen:
            try:
                pictures.append((other, _read_picture(other, recipe)))
            except UnreadableVideo:  # counted by its own task
                continue
        if rng.random() < 0.5:  # cut out of this photo as often as pasted onto it
            pictures.reverse()
        try:
            pair = synthetic_pair([picture for _, picture in pictures], rng)
            drawn = draw_request(pair, (0, 1), "static", rng, recipe.checks)
        except Rejected as reason:
            outcome.dropped[f"synthetic: {reason}"] += 1
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
        "mask_share": round(float(drawn.mask.mean()), 4),
        "split": task.split,
    }
    return encode_sample(drawn.pair, drawn.mask, meta)


def _read_picture(task: Task, recipe: DataRecipe) -> np.ndarray:
    if task.kind == "synthetic":
        return _read_photo(task.places[0], recipe)
    return first_frame(task.places[0], recipe.frames)


def _read_photo(place: str, recipe: DataRecipe) -> np.ndarray:
    try:
        content = storage.read(place)
        with Image.open(io.BytesIO(content)) as header:  # before memory is spent on the rest
            sides = header.size
        if max(sides) > recipe.frames.max_side:
            raise UnreadableVideo(f"larger than {recipe.frames.max_side} px")
        if min(sides) < recipe.frames.least_side:
            raise UnreadableVideo(f"smaller than {recipe.frames.least_side} px")
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except storage.Unreachable:
        raise
    except (OSError, SyntaxError, Image.DecompressionBombError, cv2.error) as error:
        raise UnreadableVideo("not a photo") from error
    if image is None:
        raise UnreadableVideo("not a photo")
    return scaled_photo(np.asarray(image), recipe.frames.short_side)
