"""Pairs of frames in which something moves and the camera does not."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lightningdrag.data.doubts import distinct_cells, doubtful_cells
from lightningdrag.data.drawing import MIN_DRAG
from lightningdrag.data.recipe import DEFAULT, Checks
from lightningdrag.data.tracks import (
    PLAIN,
    STRIDE,
    UNKNOWN,
    VISIBLE,
    is_known,
    largest_channel,
    motion_states,
    to_cells,
)

MIN_DISTINCT = 12  # cells
QUANTUM = 1 / 16  # px; motions are rounded to it, which is finer than any is known and packs well


class Rejected(Exception):
    """A pair that training should not see; the message is the reason, as counted."""


@dataclass(frozen=True)
class FramePair:
    """Two pictures of one scene and the motion between them; grids are of stride 2.

    Attributes:
        first, second: ``(H, W, 3)`` uint8 RGB, H and W even.
        forward: ``(2, h, w)`` float32 (dx, dy) in full-size pixels, on the first's grid.
        backward: ``(2, h, w)`` float32, on the second's grid, to the first.
        forward_state, backward_state: ``(h, w)`` uint8: 0 occluded, 1 visible and distinct, 2 unknown,
            3 visible and plain.
        moving: ``(h, w)`` uint8, 1 where something moved in either frame. Elsewhere the two pictures
            are equal but for noise, and the motion is exactly 0.
    """

    first: np.ndarray
    second: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    forward_state: np.ndarray
    backward_state: np.ndarray
    moving: np.ndarray


def build_pair(
    first: np.ndarray,
    second: np.ndarray,
    forward: np.ndarray,
    backward: np.ndarray,
    checks: Checks = DEFAULT.checks,
    still_camera: bool = True,
) -> FramePair:
    """Check the motion between two frames, and find what moved.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB of one view.
        forward, backward: ``(h, w, 2)`` motions, each on its own frame's grid.
        still_camera: the ground is to stand still.

    Raises:
        Rejected: too little or too much moves, the light flickers, or one frame is blurred.
    """
    changed, noise = changed_cells(first, second, checks)
    if still_camera and noise > checks.max_noise:
        raise Rejected("the whole picture changes")
    moving = moving_cells(changed, forward, backward)
    share = float(moving.mean())
    if share < checks.min_moving:
        raise Rejected("too little moves")
    if still_camera:
        if share > checks.max_moving:
            raise Rejected("too much moves")
        _check_light(first, second, moving, checks)
    _check_sharpness(first, second, moving, checks)
    forward_state, backward_state = motion_states(first, second, forward, backward)
    fields = []
    ways = ((first, second, forward, forward_state), (second, first, backward, backward_state))
    cells, pixels = around(moving)
    still = moving == 0
    for here, there, motion, state in ways:
        part, seen = (here[pixels], there[pixels], motion[cells]), state[cells]
        seen[doubtful_cells(*part, checks) & (seen == VISIBLE)] = UNKNOWN
        seen[~distinct_cells(*part, min(noise, checks.max_noise), checks) & (seen == VISIBLE)] = PLAIN
        state[still] = VISIBLE
        rounded = np.round(motion / QUANTUM) * QUANTUM
        rounded[still] = 0
        rounded[state == UNKNOWN] = np.clip(rounded[state == UNKNOWN], -512, 512)
        fields.append(np.ascontiguousarray(rounded.transpose(2, 0, 1), np.float32))
    pair = FramePair(first, second, fields[0], fields[1], forward_state, backward_state, moving)
    _check_scrolling(pair, checks)
    _check_evidence(pair, checks)
    return pair


def around(cells: np.ndarray, margin: int = 16) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The window of all nonzero cells ``(h, w)`` and a margin around them, in cells and in pixels.

    Raises:
        Rejected: there are none.
    """
    if not cells.any():
        raise Rejected("too little moves")
    ends = []
    for axis, length in enumerate(cells.shape):
        line = np.flatnonzero(cells.any(axis=1 - axis))
        ends.append((max(0, int(line[0]) - margin), min(length, int(line[-1]) + 1 + margin)))
    (top, bottom), (left, right) = ends
    return (
        (slice(top, bottom), slice(left, right)),
        (slice(STRIDE * top, STRIDE * bottom), slice(STRIDE * left, STRIDE * right)),
    )


def changed_cells(
    first: np.ndarray, second: np.ndarray, checks: Checks = DEFAULT.checks
) -> tuple[np.ndarray, float]:
    """``(h, w)`` bool, where colours changed by more than noise does; and that noise's level."""
    difference = largest_channel(cv2.absdiff(to_cells(first), to_cells(second))).astype(np.float32)
    difference = np.asarray(cv2.blur(difference, (3, 3)))
    noise = float(np.median(difference[difference <= np.quantile(difference, 0.5)]))
    return difference > checks.noise_floor + 3 * min(noise, checks.max_noise), noise


def solid_changes(changed: np.ndarray) -> np.ndarray:
    """Changes ``(h, w)`` without single cells, ``(h, w)`` uint8."""
    return cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))


def moving_cells(changed: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """What moved: changes of some size, and what they enclose that has a motion. ``(h, w)`` uint8."""
    radius = max(2, round(0.02 * min(changed.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    closed = cv2.morphologyEx(solid_changes(changed), cv2.MORPH_CLOSE, kernel)
    rims, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(closed), rims, -1, 1, -1)
    in_motion = (np.linalg.norm(forward, axis=-1) > 1) | (np.linalg.norm(backward, axis=-1) > 1)
    moving = closed | (filled & in_motion.astype(np.uint8))
    moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, kernel)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(moving)
    large = stats[:, cv2.CC_STAT_AREA] >= 0.0008 * changed.size
    large[0] = False
    return cv2.dilate(large[parts].astype(np.uint8), np.ones((3, 3), np.uint8))


def check_motion(
    handles: np.ndarray, targets: np.ndarray, size: tuple[int, int], checks: Checks = DEFAULT.checks
) -> float:
    """Mean drag length over the short side of ``size`` = (H, W); :class:`Rejected` beyond the limits."""
    motion = float(np.linalg.norm(targets - handles, axis=-1).mean()) / min(size)
    if motion < checks.min_motion:
        raise Rejected("too little motion")
    if motion > checks.max_motion:
        raise Rejected("too much motion")
    return motion


def check_trust(pair: FramePair, mask: np.ndarray, checks: Checks = DEFAULT.checks) -> None:
    """:class:`Rejected` unless what moves inside a mask ``(H, W)`` is understood.

    Unknown motion along rims is usual, and so is background whose uncovering could not be confirmed. A
    patch that is unknown in both frames means that something moved that no drag explains.
    """
    asked = (pair.moving > 0) & mask[::STRIDE, ::STRIDE]
    unknown = [asked & (state == UNKNOWN) for state in (pair.forward_state, pair.backward_state)]
    radius = max(1, round(checks.patch * min(asked.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    patches = cv2.morphologyEx((unknown[0] & unknown[1]).astype(np.uint8), cv2.MORPH_OPEN, kernel)
    most = max(int(cells.sum()) for cells in unknown)
    if most > checks.max_unknown * asked.sum() or patches.sum() > checks.max_patches * asked.sum():
        raise Rejected("motion cannot be trusted")


def _check_light(first: np.ndarray, second: np.ndarray, moving: np.ndarray, checks: Checks) -> None:
    still = moving == 0
    change = (to_cells(second).astype(np.float32) - to_cells(first))[still]
    if np.abs(np.median(change, axis=0)).max() > checks.max_flicker:
        raise Rejected("light flickers")


def _check_scrolling(pair: FramePair, checks: Checks) -> None:
    """Burnt-in text that scrolls: a band from side to side all of whose motion is one shift along it."""
    sure = is_known(pair.forward_state) & (pair.moving > 0)
    dx, dy = pair.forward
    for along, across, cells in ((dx, dy, sure), (dy.T, dx.T, sure.T)):
        straight = cells & (np.abs(across) < 0.5) & (np.abs(along) > 2)
        if not straight.any():
            continue
        alike = straight & (np.abs(along - np.median(along[straight])) < 0.5)
        band = alike.mean(axis=1) > 0.4
        columns = np.flatnonzero(alike[band].any(axis=0))
        reaches = (
            band.sum() > 2 and columns[0] < 0.06 * alike.shape[1] and columns[-1] > 0.94 * alike.shape[1]
        )
        if reaches and alike[band].sum() > checks.scroll_share * cells[band].sum():
            raise Rejected("text scrolls")


def _check_evidence(pair: FramePair, checks: Checks) -> None:
    for motion, state in ((pair.forward, pair.forward_state), (pair.backward, pair.backward_state)):
        dragged = (pair.moving > 0) & (np.hypot(*motion) >= MIN_DRAG)
        distinct = int((dragged & (state == VISIBLE)).sum())
        if distinct < max(MIN_DISTINCT, checks.min_distinct * (dragged & is_known(state)).sum()):
            raise Rejected("no detail shows the motion")


def _check_sharpness(first: np.ndarray, second: np.ndarray, moving: np.ndarray, checks: Checks) -> None:
    height, width = moving.shape[0] * STRIDE, moving.shape[1] * STRIDE
    region = cv2.resize(moving, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    edges = [
        float(np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F))[region].mean())
        for image in (first, second)
    ]
    if min(edges) < checks.min_sharpness * max(edges):
        raise Rejected("one frame is blurred")
    if max(edges) < 1.0:
        raise Rejected("no detail")
