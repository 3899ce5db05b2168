"""Drags and masks as a user would draw them on what is known to have moved."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from lightningdrag.data.tracks import STRIDE, VISIBLE, cell_centres

MIN_DRAG = 2.0  # px; shorter motions are no drag
CANDIDATES = 512
STRATA = {"small": 0.04, "medium": 0.10, "large": float("inf")}
"""Longest mean drag of each stratum, over the short side."""


def bin_of(value: float, bins: Mapping[str, float]) -> str:
    """The first bin whose bound a value does not pass; "" if it is NaN."""
    return next((name for name, bound in bins.items() if value <= bound), "")


def draw_drags(
    forward: np.ndarray,
    forward_state: np.ndarray,
    moving: np.ndarray,
    rng: np.random.Generator,
    max_points: int = 20,
) -> tuple[np.ndarray, np.ndarray]:
    """Handles on moving points, in proportion to how far they move and spread out, and their targets.

    One to four drags mostly, at times up to ``max_points``.

    Args:
        forward: ``(2, h, w)`` motion in full-size pixels on the grid of stride 2.
        forward_state: ``(h, w)`` uint8, see :mod:`lightningdrag.data.tracks`; only checked motion is used.
        moving: ``(h, w)``, nonzero where something moved.
        rng: the source of every random choice.

    Returns:
        handles, targets: ``(N, 2)`` float32 (x, y) in full-size pixels, N >= 1.

    Raises:
        ValueError: nothing with checked motion moves.
    """
    height, width = (STRIDE * n for n in moving.shape)
    length = np.hypot(forward[0], forward[1])
    usable = (forward_state == VISIBLE) & (moving > 0) & (length >= MIN_DRAG)
    cells = np.flatnonzero(usable)
    if not len(cells):
        raise ValueError("nothing with checked motion moves: no drag can be drawn")
    weight = length.ravel()[cells].astype(np.float64)
    weight = np.where(weight > 0.25 * np.quantile(weight, 0.9), weight, 1e-3 * weight)
    cells = rng.choice(cells, CANDIDATES, p=weight / weight.sum())  # in proportion to motion
    start = cell_centres(height, width).reshape(-1, 2)[cells]
    end = start + forward.reshape(2, -1)[:, cells].T
    inside = ((end >= 0) & (end <= (width - 1, height - 1))).all(-1)
    if not inside.any():
        raise ValueError("all that moves leaves the frame: no drag can be drawn")
    start, end = start[inside], end[inside]
    chosen = _spread(start, min(_point_count(rng), max_points), rng)
    return start[chosen].astype(np.float32), end[chosen].astype(np.float32)


def draw_mask(
    moving: np.ndarray, handles: np.ndarray, targets: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A loosely drawn mask of the moving parts that the drags explain.

    Parts of ``moving`` that no handle or target touches are left out, so that the drags account for all
    motion inside the mask. Handles and targets lie inside.

    Args:
        moving: ``(h, w)`` on the grid of stride 2, nonzero where something moved in either frame.
        handles, targets: ``(N, 2)`` (x, y) in full-size pixels.
        rng: the source of every random choice.

    Returns:
        ``(2 h, 2 w)`` bool.
    """
    h, w = moving.shape
    short = min(h, w)
    points = np.concatenate((handles, targets))
    column, row = ((points + 0.5) // STRIDE).astype(int).clip(0, (w - 1, h - 1)).T
    _, parts = cv2.connectedComponents((moving > 0).astype(np.uint8))
    dragged = np.zeros(parts.max() + 1, bool)
    dragged[parts[row, column]] = True
    dragged[0] = False
    mask = dragged[parts].astype(np.uint8)
    others = cv2.dilate(((parts > 0) & ~dragged[parts]).astype(np.uint8), _disc(2))
    for x, y in zip(column, row, strict=True):
        cv2.circle(mask, (int(x), int(y)), max(2, round(0.02 * short)), 1, -1)
    if rng.random() < 0.15:
        hull = np.zeros_like(mask)
        cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(mask)), 1)
        mask = hull
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(round(rng.uniform(0.01, 0.04) * short)))
    loose = rng.uniform(0.06, 0.15) if rng.random() < 0.2 else rng.uniform(0.01, 0.05)
    mask = cv2.dilate(mask, _disc(round(loose * short)))
    mask = _wobbled(mask, 0.02 * short, rng)
    mask[(others > 0) & (mask > 0)] = 0
    mask[(dragged[parts]) | (_near(mask.shape, column, row, 2))] = 1
    full = cv2.resize(mask.astype(np.float32), (STRIDE * w, STRIDE * h), interpolation=cv2.INTER_LINEAR)
    return full > 0.49


def _point_count(rng: np.random.Generator) -> int:
    draw = rng.random()
    if draw < 0.75:
        return 1 + int(rng.choice(4, p=(0.35, 0.3, 0.2, 0.15)))
    return int(rng.integers(5, 9)) if draw < 0.9 else int(rng.integers(9, 21))


def _spread(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``count`` points, each of them the farthest of a few draws from those already chosen."""
    chosen = [int(rng.integers(len(points)))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=-1)
    while len(chosen) < count:
        draws = rng.integers(len(points), size=8)
        best = int(draws[np.argmax(distance[draws])])
        if distance[best] < 2 * STRIDE:
            break
        chosen.append(best)
        distance = np.minimum(distance, np.linalg.norm(points - points[best], axis=-1))
    return np.array(chosen)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _near(shape: tuple[int, ...], column: np.ndarray, row: np.ndarray, radius: int) -> np.ndarray:
    near = np.zeros(shape, np.uint8)
    near[row, column] = 1
    return cv2.dilate(near, _disc(radius)) > 0


def _wobbled(mask: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Shift the outline in and out by about ``amount`` cells, smoothly along it."""
    h, w = mask.shape
    noise = rng.standard_normal((max(2, h // 24), max(2, w // 24))).astype(np.float32)
    wave = cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC)
    size = 2 * round(2 * amount) + 1
    soft = cv2.blur(mask.astype(np.float32), (size, size))
    return (soft + 0.2 * wave.clip(-1.5, 1.5) > 0.5).astype(np.uint8)
