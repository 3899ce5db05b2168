"""What is scored: one edit that a benchmark asks for, and what the methods made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from lightningdrag.data.drawing import STRATA, bin_of
from lightningdrag.drag import pixel_of

POINT_BINS = {"1 point": 1, "2-3 points": 3, "4-7 points": 7, "8 points or more": float("inf")}
OCCLUSION_BINS = {"under 2 % uncovered": 0.02, "2-8 % uncovered": 0.08, "over 8 % uncovered": 1.0}
MASK_BINS = {"mask under 10 %": 0.10, "mask 10-30 %": 0.30, "mask over 30 %": 1.0}

TRUTH = "true frame"
"""The row that the truth itself makes: how much of a measure is the fault of the measure."""


@dataclass(frozen=True)
class Case:
    """An edit that is asked for, and its outcome where that is known.

    Attributes:
        name: of the sample.
        group: like scenes share one; intervals are drawn over groups.
        source: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` bool, True where the image may change.
        handles, targets: ``(N, 2)`` float32 (x, y) px, what a method is given.
        truth: ``(H, W, 3)`` uint8 RGB, what really happened; None if nobody knows.
        uncovered: ``(H, W)`` bool, what stands in the truth and is hidden in the source, in the mask.
        category: as the benchmark sorts its samples; "" if it does not.
        prompt: what the image shows, for metrics that read text.
        probes: (handles, targets) where accuracy is measured, if not at the drags themselves.
    """

    name: str
    group: str
    source: np.ndarray
    mask: np.ndarray
    handles: np.ndarray
    targets: np.ndarray
    truth: np.ndarray | None = None
    uncovered: np.ndarray | None = None
    category: str = ""
    prompt: str = ""
    probes: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def probed(self) -> tuple[np.ndarray, np.ndarray]:
        """(handles, targets) where accuracy is measured."""
        return self.probes or (self.handles, self.targets)

    @property
    def reversible(self) -> bool:
        """Can it be dragged back? Not where two handles went to one pixel: nothing there tells them apart."""
        both = (self.handles, self.targets)
        starts, ends = ([pixel_of((x, y)) for x, y in points.tolist()] for points in both)
        return len(set(ends)) == len(set(zip(starts, ends, strict=True)))

    @property
    def motion(self) -> float:
        """Mean drag length over the short side."""
        return float(np.hypot(*(self.targets - self.handles).T).mean()) / min(self.source.shape[:2])

    @property
    def occlusion(self) -> float:
        """Share of the mask that was uncovered, NaN if that is not known."""
        if self.uncovered is None:
            return float("nan")
        return float(self.uncovered.sum()) / max(int(self.mask.sum()), 1)


@dataclass(frozen=True)
class CaseScores:
    """What the methods made of one case: ``scores[method][metric]``; a method may be missing."""

    index: int
    name: str
    group: str
    motion: float
    num_points: int
    occlusion: float
    mask_share: float = float("nan")
    category: str = ""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, index: int, case: Case) -> CaseScores:
        """The description of a case, without scores yet."""
        return cls(
            index=index,
            name=case.name,
            group=case.group,
            motion=case.motion,
            num_points=len(case.probed[0]),
            occlusion=case.occlusion,
            mask_share=float(case.mask.mean()),
            category=case.category,
        )

    @property
    def stratum(self) -> str:
        return bin_of(self.motion, STRATA)

    @property
    def point_bin(self) -> str:
        return bin_of(self.num_points, POINT_BINS)

    @property
    def occlusion_bin(self) -> str:
        return bin_of(self.occlusion, OCCLUSION_BINS)

    @property
    def mask_bin(self) -> str:
        return bin_of(self.mask_share, MASK_BINS)


@dataclass(frozen=True)
class Problem:
    """Something of a benchmark that could not be scored."""

    case: str
    method: str
    problem: str


class Benchmark(Protocol):
    """A fixed list of cases, read when they are asked for."""

    name: str
    expected: int
    """How many cases the whole benchmark has."""
    problems: list[Problem]
    """What is wrong with the set as a whole, such as cases that are missing."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Case:
        """One case.

        Raises:
            ValueError, OSError: its files are damaged or missing.
        """
        ...

    def label(self, index: int) -> str:
        """The name of a case, without reading it."""
        ...

    def result_paths(self, index: int) -> list[Path]:
        """Where in a folder of results the result of this case may lie, relative to the folder."""
        ...
