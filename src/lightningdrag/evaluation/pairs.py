"""The ``pairs`` benchmark: drags on held-out video frames whose true second frame is known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from lightningdrag.data.shards import Dataset, Sample, open_shards
from lightningdrag.data.tracks import OCCLUDED
from lightningdrag.evaluation import metrics
from lightningdrag.evaluation.baselines import EditMethod, SamplingMethod

KINDS = ("video",)
STRATA = {"small": 0.04, "medium": 0.10, "large": float("inf")}
"""Longest mean drag of each stratum, over the short side."""
POINT_BINS = {"1 point": 1, "2-3 points": 3, "4-7 points": 7, "8 points or more": 64}
OCCLUSION_BINS = {"under 2 % uncovered": 0.02, "2-8 % uncovered": 0.08, "over 8 % uncovered": 1.0}

TRUTH = "true frame"
NUM_CANDIDATES = 4
CANDIDATE_PAIRS = 48
"""Candidates are compared on this many pairs, spread evenly over the list: they cost as much as all else."""


@dataclass(frozen=True)
class Pair:
    """An edit whose outcome is known.

    Attributes:
        name: clip or file it comes from, and its place in the list.
        group: like scenes share one.
        source, truth: ``(H, W, 3)`` uint8 RGB, before and after.
        mask: ``(H, W)`` bool, True where the image may change.
        handles, targets: ``(N, 2)`` float32 (x, y) px.
        uncovered: ``(H, W)`` bool, what stands in the truth and is hidden in the source, in the mask.
    """

    name: str
    group: str
    source: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    handles: np.ndarray
    targets: np.ndarray
    uncovered: np.ndarray

    @property
    def motion(self) -> float:
        """Mean drag length over the short side."""
        return float(np.hypot(*(self.targets - self.handles).T).mean()) / min(self.source.shape[:2])

    @property
    def occlusion(self) -> float:
        """Share of the mask that was uncovered."""
        return float(self.uncovered.sum()) / max(int(self.mask.sum()), 1)


@dataclass(frozen=True)
class PairScores:
    """What the methods made of one pair: ``scores[method][metric]``."""

    index: int
    name: str
    group: str
    motion: float
    num_points: int
    occlusion: float
    scores: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def stratum(self) -> str:
        return _bin(self.motion, STRATA)

    @property
    def point_bin(self) -> str:
        return _bin(self.num_points, POINT_BINS)

    @property
    def occlusion_bin(self) -> str:
        return _bin(self.occlusion, OCCLUSION_BINS)


def _bin(value: float, bins: Mapping[str, float]) -> str:
    return next(name for name, longest in bins.items() if value <= longest)


class PairSet:
    """The pairs of a prepared folder, read when they are asked for; the order is fixed.

    Args:
        directory: a prepared dataset (:func:`lightningdrag.data.open_shards`).
        split: "dev", what was held out, or "all".
        limit: at most this many, spread evenly over the list.

    Raises:
        FileNotFoundError: the folder is no prepared dataset.
        ValueError: it holds no such pairs, or ``limit`` is not positive.
    """

    def __init__(self, directory: Path, split: str = "dev", limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; it must be 1 or more")
        shards = _open_splits(directory, ("dev", "train") if split == "all" else (split,))
        samples = [(dataset, index) for dataset in shards for index in range(len(dataset))]
        count = len(samples) if limit is None else min(limit, len(samples))
        self._samples = [samples[i * len(samples) // count] for i in range(count)]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Pair:
        dataset, place = self._samples[index]
        return to_pair(dataset.read(place), place)


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


def to_pair(sample: Sample, index: int) -> Pair:
    """A prepared sample as an edit with a known outcome."""
    meta = sample.meta
    mask = sample.mask > 0
    height, width = mask.shape
    states = cv2.resize(sample.backward_state, (width, height), interpolation=cv2.INTER_NEAREST)
    return Pair(
        name=f"{meta['clip']} #{index}",
        group=meta["group"],
        source=sample.first,
        truth=sample.second,
        mask=mask,
        handles=np.asarray(meta["handles"], np.float32),
        targets=np.asarray(meta["targets"], np.float32),
        uncovered=(states == OCCLUDED) & mask,
    )


def score(result: np.ndarray, pair: Pair) -> dict[str, float]:
    """How near one result comes to the truth (:mod:`.metrics`)."""
    double = metrics.doubles(result, pair.source, pair.truth, pair.mask)
    points = metrics.point_errors(pair.source, result, pair.handles, pair.targets)
    return {
        "psnr": metrics.psnr(result, pair.truth, pair.mask),
        "ssim": metrics.ssim(result, pair.truth, pair.mask),
        "sharpness": metrics.sharpness(result, pair.truth, pair.mask),
        "ghost": double.ghost,
        "half_transparent": double.half_transparent,
        "point_error": points.drags,
        "pin_error": points.pins,
    }


def score_candidates(candidates: list[np.ndarray], pair: Pair) -> dict[str, float]:
    """How candidates of one edit differ: much where something was uncovered, little at the targets."""
    height, width = pair.mask.shape
    psnrs = [metrics.psnr(candidate, pair.truth, pair.mask) for candidate in candidates]
    return {
        "deviation_uncovered": metrics.seed_deviation(candidates, pair.uncovered),
        "deviation_targets": metrics.seed_deviation(
            candidates, metrics.around(pair.targets, height, width) & pair.mask
        ),
        "best_candidate_gain": max(psnrs) - float(np.mean(psnrs)),
    }


def run(pairs: PairSet, methods: Mapping[str, EditMethod], seed: int = 0) -> Iterator[PairScores]:
    """Score every method, and the true frame itself, on every pair, one pair at a time."""
    stride = max(1, len(pairs) // CANDIDATE_PAIRS)
    for index in range(len(pairs)):
        pair = pairs[index]
        scores = PairScores(index, pair.name, pair.group, pair.motion, len(pair.handles), pair.occlusion)
        for name, method in methods.items():
            start = time.perf_counter()
            result = method(pair.source, pair.handles, pair.targets, pair.mask, seed)
            seconds = time.perf_counter() - start
            outside = metrics.changed_outside(pair.source, result, pair.mask)
            scores.scores[name] = {**score(result, pair), "changed_outside": outside, "seconds": seconds}
            if isinstance(method, SamplingMethod) and index % stride == 0:
                candidates = method.candidates(
                    pair.source, pair.handles, pair.targets, pair.mask, seed, NUM_CANDIDATES
                )
                scores.scores[name] |= score_candidates(candidates, pair)
        scores.scores[TRUTH] = score(pair.truth, pair)
        yield scores
