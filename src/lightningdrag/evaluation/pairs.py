"""The ``pairs`` benchmark: drags on held-out video frames whose true second frame is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from lightningdrag.data.shards import Dataset, Sample, open_shards
from lightningdrag.data.tracks import OCCLUDED
from lightningdrag.evaluation.case import Case, Problem

KINDS = ("video",)
T = TypeVar("T")


class PairSet:
    """The pairs of a prepared folder as a ``Benchmark``; the order is fixed.

    Args:
        directory: a prepared dataset (:func:`lightningdrag.data.open_shards`).
        split: "dev", what was held out, or "all".
        limit: at most this many, spread evenly over the list.

    Raises:
        FileNotFoundError: the folder is no prepared dataset.
        ValueError: it holds no such pairs, or ``limit`` is not positive.
    """

    name = "pairs"

    def __init__(self, directory: Path, split: str = "dev", limit: int | None = None) -> None:
        shards = _open_splits(directory, ("dev", "train") if split == "all" else (split,))
        samples = [(dataset, index) for dataset in shards for index in range(len(dataset))]
        self._samples = spread(list(enumerate(samples)), limit)
        self.expected = len(self._samples)
        self.problems: list[Problem] = []

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Case:
        _, (dataset, place) = self._samples[index]
        return to_case(dataset.read(place), place)

    def label(self, index: int) -> str:
        """The pair's place in the whole list, which is also the name of its result."""
        return f"{self._samples[index][0]:05d}"

    def result_paths(self, index: int) -> list[Path]:
        return [Path(f"{self.label(index)}.png")]


def spread(samples: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` of some samples, spread evenly over the list; None takes all.

    Raises:
        ValueError: ``limit`` is not positive.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be 1 or more")
    count = len(samples) if limit is None else min(limit, len(samples))
    return [samples[i * len(samples) // count] for i in range(count)]


def _open_splits(directory: Path, splits: Sequence[str]) -> list[Dataset]:
    """The datasets of those splits that the folder has; the error of the last if it has none."""
    opened = []
    for split in splits:
        try:
            opened.append(open_shards(directory, split, KINDS))
        except ValueError:
            if split == splits[-1] and not opened:
                raise
    return opened


def to_case(sample: Sample, index: int) -> Case:
    """A prepared sample as an edit with a known outcome."""
    meta = sample.meta
    mask = sample.mask > 0
    height, width = mask.shape
    states = cv2.resize(sample.backward_state, (width, height), interpolation=cv2.INTER_NEAREST)
    return Case(
        name=f"{meta['clip']} #{index}",
        group=meta["group"],
        source=sample.first,
        truth=sample.second,
        mask=mask,
        handles=np.asarray(meta["handles"], np.float32),
        targets=np.asarray(meta["targets"], np.float32),
        uncovered=(states == OCCLUDED) & mask,
    )
