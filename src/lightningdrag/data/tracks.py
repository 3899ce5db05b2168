"""Dense motion between frames: flow chained through all the frames between, checked both ways.

Motion lives on a grid of stride 2: cell (row, column) has its centre at pixel
(2 column + 0.5, 2 row + 0.5), and its displacement (dx, dy) is in full-size pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

STRIDE = 2

OCCLUDED = 0
"""What is here cannot be seen in the other frame."""
VISIBLE = 1
"""Seen in the other frame; forward and backward motion agree, and detail of its own shows it."""
UNKNOWN = 2
"""The motion here is not to be trusted."""
PLAIN = 3
"""As visible, but nothing of its own shows the motion: the inside of an even surface, the ground beside a
moving outline. No handle goes there."""


@dataclass(frozen=True)
class ClipFlow:
    """Flow between neighbouring frames, in both directions.

    Attributes:
        forward: T - 1 fields ``(H, W, 2)`` float32; ``forward[k]`` leads from frame k to k + 1.
        backward: as many; ``backward[k]`` leads from frame k + 1 to k.
    """

    forward: Sequence[np.ndarray] | np.ndarray
    backward: Sequence[np.ndarray] | np.ndarray


FlowTracker = Callable[[np.ndarray], ClipFlow]
"""Finds the motion between all neighbouring frames of ``(T, H, W, 3)`` uint8 RGB."""


def dis_flow(first: np.ndarray, second: np.ndarray, initial: np.ndarray | None = None) -> np.ndarray:
    """DIS flow (Kroeger et al., 2016) from one grey image ``(H, W)`` uint8 to another, ``(H, W, 2)``."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = np.zeros((*first.shape, 2), np.float32)
    if initial is not None:
        start[:] = initial
    return np.asarray(dis.calc(first, second, start))


def clip_flow(frames: np.ndarray) -> ClipFlow:
    """Flow between all neighbouring frames of ``(T, H, W, 3)`` uint8 RGB."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return ClipFlow(DisSteps(grey[:-1], grey[1:]), DisSteps(grey[1:], grey[:-1]))


class DisSteps(Sequence[np.ndarray]):
    """Flow from frames to their neighbours, each found when it is first asked for and then kept.

    Most of a clip whose camera moves is never asked for, and little of the way back of any.
    """

    def __init__(self, starts: list[np.ndarray], ends: list[np.ndarray]) -> None:
        self._starts, self._ends = starts, ends
        self._flows: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, k: int) -> np.ndarray:  # type: ignore[override]  # no slices
        if not 0 <= k < len(self):
            raise IndexError(k)
        if k not in self._flows:
            self._flows[k] = dis_flow(self._starts[k], self._ends[k])
        return self._flows[k]


def is_known(state: np.ndarray) -> np.ndarray:
    """``(h, w)`` bool: the motion was checked, and ends in something that is seen."""
    return (state == VISIBLE) | (state == PLAIN)


def cell_centres(height: int, width: int) -> np.ndarray:
    """``(H // 2, W // 2, 2)`` float32, the pixel (x, y) of each cell's centre."""
    centre = (STRIDE - 1) / 2
    x = np.arange(width // STRIDE, dtype=np.float32) * STRIDE + centre
    y = np.arange(height // STRIDE, dtype=np.float32) * STRIDE + centre
    return np.stack(np.meshgrid(x, y), axis=-1)


def pixel_grid(height: int, width: int) -> np.ndarray:
    """``(H, W, 2)`` float32, the (x, y) of each pixel."""
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), -1)


def look_up(field: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Bilinear samples of a field ``(H, W[, C])`` at ``(h, w, 2)`` (x, y), the nearest beyond its border."""
    x, y = cv2.split(positions)
    return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def look_up_cells(field: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """As :func:`look_up`, for a field ``(h, w[, C])`` on the grid of stride 2; positions are full-size."""
    return look_up(field, (positions + np.float32(0.5)) / np.float32(STRIDE) - np.float32(0.5))


def follow(flow: ClipFlow, positions: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Carry points from frame ``start`` to frame ``stop`` (either way), through all frames between.

    x_{k+1} = x_k + f_k(x_k), f_k the flow between neighbours.

    Args:
        positions: ``(h, w, 2)`` float32 (x, y) in frame ``start``.

    Returns:
        ``(h, w, 2)``, their positions in frame ``stop``.
    """
    forward = stop > start
    for k in range(start, stop) if forward else range(start - 1, stop - 1, -1):
        positions = positions + look_up((flow.forward if forward else flow.backward)[k], positions)
    return positions


def to_cells(flow: np.ndarray) -> np.ndarray:
    """``(H, W, 2)`` full size -> ``(H // 2, W // 2, 2)``; each cell's mean, in full-size pixels."""
    height, width = flow.shape[:2]
    return cv2.resize(flow, (width // STRIDE, height // STRIDE), interpolation=cv2.INTER_AREA)


def polish(first: np.ndarray, second: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Refine a chained motion by one flow between the two ends, where that stays near it.

    Args:
        first, second: ``(H, W)`` uint8 grey.
        motion: ``(h, w, 2)`` on the grid of stride 2.

    Returns:
        ``(h, w, 2)``.
    """
    height, width = first.shape
    direct = to_cells(dis_flow(first, second, cv2.resize(motion, (width, height))))
    change = np.linalg.norm(direct - motion, axis=-1)
    near = change < 2 + 0.1 * np.linalg.norm(motion, axis=-1)
    return np.where(near[..., None], direct, motion)


def largest_channel(image: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` -> ``(H, W)``, the largest of the three values."""
    a, b, c = cv2.split(image)
    return cv2.max(cv2.max(a, b), c)


def disagreement(motion: np.ndarray, reverse: np.ndarray) -> np.ndarray:
    """|F(p) + B(p + F(p))| for ``(h, w, 2)`` motions of stride 2; ``(h, w)`` in pixels."""
    height, width = (STRIDE * n for n in motion.shape[:2])
    landing = cell_centres(height, width) + motion
    return np.linalg.norm(motion + look_up_cells(reverse, landing), axis=-1)


def tolerance(motion: np.ndarray) -> np.ndarray:
    """How far forward and backward may disagree: 1 px and 5 % of the length. ``(h, w, 2)`` -> ``(h, w)``."""
    return 1 + 0.05 * np.linalg.norm(motion, axis=-1)


def motion_states(
    first: np.ndarray, second: np.ndarray, forward: np.ndarray, backward: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which motions are checked, which end in an occlusion, which are not to be trusted.

    A point whose motion is not confirmed by the way back is occluded if it leaves the frame, if the
    place where it would land is confirmed to come from somewhere else, or if what stood at its own place
    in the other frame is confirmed to have gone while nothing confirmed came here; otherwise it is
    unknown. A confirmed motion between places that look different is unknown, too.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB.
        forward: ``(h, w, 2)`` from the first's grid to the second.
        backward: ``(h, w, 2)`` from the second's grid to the first.

    Returns:
        ``(h, w)`` uint8 on the first's grid and on the second's.
    """
    small = [to_cells(image).astype(np.float32) for image in (first, second)]
    apart = disagreement(forward, backward), disagreement(backward, forward)
    agree = [error < tolerance(motion) for error, motion in zip(apart, (forward, backward), strict=True)]
    return (
        _states(small[0], small[1], forward, backward, apart[0], agree[0], agree[1]),
        _states(small[1], small[0], backward, forward, apart[1], agree[1], agree[0]),
    )


def _states(
    here: np.ndarray,
    there: np.ndarray,
    motion: np.ndarray,
    motion_there: np.ndarray,
    apart: np.ndarray,
    agree: np.ndarray,
    agree_there: np.ndarray,
) -> np.ndarray:
    height, width = (STRIDE * n for n in motion.shape[:2])
    landing = cell_centres(height, width) + motion
    x, y = landing[..., 0], landing[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    taken = look_up_cells(agree_there.astype(np.float32), landing) > 0.5
    unlike = largest_channel(cv2.absdiff(here, look_up_cells(there, landing)))
    unlike = cv2.blur(unlike, (3, 3)) > 32
    lost = ~agree & (apart > 2 * tolerance(motion))
    uncovered = (
        agree_there & (np.linalg.norm(motion_there, axis=-1) > 2) & ~_landed(motion_there, agree_there)
    )
    state = np.full(agree.shape, UNKNOWN, np.uint8)
    state[agree & inside & ~unlike] = VISIBLE
    state[lost & (taken | uncovered)] = OCCLUDED
    state[~inside] = OCCLUDED
    return state


def _landed(motion: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """``(h, w)`` bool: cells at which some sure motion arrives, to within a cell."""
    h, w = sure.shape
    cell = ((cell_centres(STRIDE * h, STRIDE * w) + motion + 0.5) // STRIDE).astype(int)[sure]
    inside = ((cell >= 0) & (cell < (w, h))).all(-1)
    hit = np.zeros((h, w), np.uint8)
    hit[cell[inside, 1], cell[inside, 0]] = 1
    return cv2.dilate(hit, np.ones((3, 3), np.uint8)) > 0
