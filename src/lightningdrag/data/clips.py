"""Training pairs from a shot: which two frames, through which motion, under which camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from lightningdrag.data.camera import (
    MOVING,
    SPACING,
    STEADY,
    Camera,
    camera_of_points,
    coarse_points,
    find_camera,
    stabilise,
    textured,
    transform,
)
from lightningdrag.data.drawing import MIN_DRAG, draw_drags, draw_mask
from lightningdrag.data.pairs import (
    FramePair,
    Rejected,
    around,
    build_pair,
    changed_cells,
    check_motion,
    check_trust,
    solid_changes,
)
from lightningdrag.data.points import confirm
from lightningdrag.data.recipe import DEFAULT, Checks, DataRecipe, Gaps
from lightningdrag.data.shots import thumbnail
from lightningdrag.data.trackers import CLASSIC, Trackers
from lightningdrag.data.tracks import ClipFlow, cell_centres, disagreement, follow, polish


@dataclass(frozen=True)
class Candidate:
    """Two frames and how far, over the short side, what moves between them goes."""

    start: int
    stop: int
    reach: float


@dataclass(frozen=True)
class DrawnPair:
    """A pair with a request drawn on it."""

    pair: FramePair
    frames: tuple[int, int]
    camera: str
    handles: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    motion: float


def shot_pairs(
    frames: np.ndarray,
    count: int,
    rng: np.random.Generator,
    dropped: Counter[str],
    recipe: DataRecipe = DEFAULT,
    trackers: Trackers = CLASSIC,
) -> Iterator[DrawnPair]:
    """Up to ``count`` pairs of a shot whose motions cover ``recipe.gaps.reach`` as evenly as it allows.

    Args:
        frames: ``(T, H, W, 3)`` uint8 RGB without a cut.
        dropped: counts what was left out, by reason.
        trackers: what finds the motion.
    """
    if len(frames) < 2 or count < 1:
        return
    flow = trackers.flow(frames)
    chosen = even_order(find_candidates(frames, flow, rng, dropped, recipe), rng, recipe.gaps)
    taken: list[np.ndarray] = []
    for tried, candidate in enumerate(chosen[: 3 * count]):
        if len(taken) == count:
            return
        if tried >= recipe.gaps.patience * (len(taken) + 1):
            dropped["shot given up"] += 1
            return
        ends = np.stack([thumbnail(frames[k]) for k in (candidate.start, candidate.stop)])
        if any(_alike(ends, other, recipe.gaps) or _alike(ends, other[::-1], recipe.gaps) for other in taken):
            dropped["near-duplicate"] += 1
            continue
        try:
            yield make_pair(frames, flow, candidate, rng, recipe, trackers)
            taken.append(ends)
        except Rejected as reason:
            dropped[str(reason)] += 1


def find_candidates(
    frames: np.ndarray,
    flow: ClipFlow,
    rng: np.random.Generator,
    dropped: Counter[str],
    recipe: DataRecipe = DEFAULT,
) -> list[Candidate]:
    """Pairs of frames at all gaps from evenly spaced starts, with what moves between them."""
    total, height, width = frames.shape[:3]
    gaps = recipe.gaps
    starts = np.unique(np.linspace(0, total - 2, min(gaps.starts, total - 1)) + rng.uniform(-0.5, 0.5))
    candidates = []
    for start in np.unique(starts.round().astype(int).clip(0, total - 2)):
        positions = points = coarse_points(height, width)
        telling = textured(frames[start], recipe.camera)[::SPACING, ::SPACING]
        at = int(start)
        for gap in gaps.steps:
            if start + gap >= total:
                break
            positions = follow(flow, positions, at, int(start) + gap)
            at = int(start) + gap
            motion = positions - points
            view = camera_of_points(
                frames[start], frames[at], points[telling], motion[telling], recipe.camera
            )
            if view.kind == MOVING and not recipe.camera.keep_moving:
                dropped["the camera moves"] += 1
                break
            reach = _reach(points, positions, view, min(height, width))
            if gaps.reach[0] <= reach <= gaps.reach[1]:
                candidates.append(Candidate(int(start), at, reach))
    return candidates


def make_pair(
    frames: np.ndarray,
    flow: ClipFlow,
    candidate: Candidate,
    rng: np.random.Generator,
    recipe: DataRecipe = DEFAULT,
    trackers: Trackers = CLASSIC,
) -> DrawnPair:
    """Stabilise, chain the motion both ways, check it, and draw drags and a mask; or :class:`Rejected`."""
    start, stop = candidate.start, candidate.stop
    first, second = frames[start], frames[stop]
    grid = cell_centres(*first.shape[:2])
    forward = follow(flow, grid, start, stop) - grid
    back = follow(flow, grid, stop, start) - grid
    reliable = disagreement(forward, back) < 1.0
    view = find_camera(first, second, forward, reliable, recipe.camera)
    if view.kind == MOVING and not recipe.camera.keep_moving:
        raise Rejected("the camera moves")
    if view.kind != STEADY:
        backward = back
        if rng.random() < 0.5:  # both directions in time
            first, second, forward, backward = second, first, backward, forward
            start, stop = stop, start
    else:
        second = stabilise(second, view)
        inverse = np.linalg.inv(view.homography)
        forward = transform(inverse, grid + forward) - grid
        backward = follow(flow, transform(view.homography, grid), stop, start) - grid
    pair = viewed_pair(first, second, forward, backward, view, recipe.checks)
    between = frames[start : stop + 1] if start < stop else frames[stop : start + 1][::-1]
    pair = confirm(pair, between, view, trackers.points, recipe.checks)
    drawn = draw_request(pair, (start, stop), view.kind, rng, recipe.checks)
    if drawn.motion * min(pair.first.shape[:2]) < view.shift:
        raise Rejected("the camera moves further than the things")
    return drawn


def viewed_pair(
    first: np.ndarray,
    second: np.ndarray,
    forward: np.ndarray,
    backward: np.ndarray,
    view: Camera,
    checks: Checks = DEFAULT.checks,
) -> FramePair:
    """The pair that two frames of one view and their motions ``(h, w, 2)`` make, cropped to its window."""
    first, second, forward, backward = _cropped(view, first, second, forward, backward)
    cells, pixels = around(solid_changes(changed_cells(first, second, checks)[0]))  # elsewhere it will be 0
    grey = [cv2.cvtColor(image[pixels], cv2.COLOR_RGB2GRAY) for image in (first, second)]
    forward, backward = forward.copy(), backward.copy()
    forward[cells] = polish(grey[0], grey[1], forward[cells])
    backward[cells] = polish(grey[1], grey[0], backward[cells])
    return build_pair(first, second, forward, backward, checks, still_camera=view.kind != MOVING)


def draw_request(
    pair: FramePair,
    frames: tuple[int, int],
    camera: str,
    rng: np.random.Generator,
    checks: Checks = DEFAULT.checks,
) -> DrawnPair:
    """Drags and a mask for a pair; :class:`Rejected` if none can be drawn or they are out of range."""
    try:
        handles, targets = draw_drags(pair.forward, pair.forward_state, pair.moving, rng)
    except ValueError as error:
        raise Rejected("no drag can be drawn") from error
    motion = check_motion(handles, targets, pair.first.shape[:2], checks)
    mask = draw_mask(pair.moving, handles, targets, rng)
    check_trust(pair, mask, checks)
    return DrawnPair(pair, frames, camera, handles, targets, mask, motion)


def _alike(ends: np.ndarray, other: np.ndarray, gaps: Gaps) -> bool:
    return bool((np.abs(ends - other).mean((1, 2)) < gaps.duplicate_level).all())


def _reach(points: np.ndarray, positions: np.ndarray, view: Camera, short_side: int) -> float:
    """How far what moves goes, over the short side."""
    length = np.linalg.norm(transform(np.linalg.inv(view.homography), positions) - points, axis=-1)
    moving = length[length > MIN_DRAG]
    return float(np.quantile(moving, 0.75)) / short_side if len(moving) > 0.002 * length.size else 0.0


def even_order(candidates: list[Candidate], rng: np.random.Generator, gaps: Gaps) -> list[Candidate]:
    """The candidates in an order whose every beginning covers the reaches evenly in the logarithm."""
    edges = np.geomspace(*gaps.reach, gaps.bins + 1)[1:-1]
    bins: list[list[Candidate]] = [[] for _ in range(gaps.bins)]
    for position in rng.permutation(len(candidates)):
        candidate = candidates[position]
        bins[int(np.searchsorted(edges, candidate.reach))].append(candidate)
    order = []
    while any(bins):
        order += [bins[k].pop() for k in rng.permutation(gaps.bins) if bins[k]]
    return order


def _cropped(
    view: Camera, first: np.ndarray, second: np.ndarray, forward: np.ndarray, backward: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    left, top, right, bottom = view.window
    pixels = slice(top, bottom), slice(left, right)
    cells = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
    # Copies: a view would keep the whole piece of video in memory.
    return first[pixels].copy(), second[pixels].copy(), forward[cells].copy(), backward[cells].copy()
