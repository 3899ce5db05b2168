"""Pairs of frames in which something moves and the camera does not."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lightningdrag.data.tracks import (
    STRIDE,
    UNKNOWN,
    VISIBLE,
    cell_centres,
    largest_channel,
    look_up_cells,
    motion_states,
    to_cells,
)

MIN_MOTION, MAX_MOTION = 0.01, 0.45  # mean drag length over the short side
MIN_MOVING, MAX_MOVING = 0.002, 0.65  # share of the picture
MAX_UNKNOWN = 0.5  # share of the moving part in the mask whose motion is not known
MAX_PATCHES, PATCH = 0.10, 0.025  # patches unknown in both frames; their radius over the short side
MAX_FLICKER = 2.5  # grey levels, median change of a channel where nothing moves
MIN_SHARPNESS = 0.45  # of the blurrier frame relative to the other, in the moving part
SHADED = 0.4  # correlation of detail in 7x7 cells
NOISE_FLOOR, MAX_NOISE = 7.0, 4.0  # grey levels
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
        forward_state, backward_state: ``(h, w)`` uint8: 0 occluded, 1 visible and checked, 2 unknown.
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


def build_pair(first: np.ndarray, second: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> FramePair:
    """Check the motion between two frames of a still camera, and find what moved.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB of one view.
        forward, backward: ``(h, w, 2)`` motions, each on its own frame's grid.

    Raises:
        Rejected: too little or too much moves, the light flickers, or one frame is blurred.
    """
    changed, noise = changed_cells(first, second)
    if noise > MAX_NOISE:
        raise Rejected("the whole picture changes")
    moving = moving_cells(changed, forward, backward)
    share = float(moving.mean())
    if share < MIN_MOVING:
        raise Rejected("too little moves")
    if share > MAX_MOVING:
        raise Rejected("too much moves")
    _check_light(first, second, moving)
    _check_sharpness(first, second, moving)
    forward_state, backward_state = motion_states(first, second, forward, backward)
    fields = []
    ways = ((first, second, forward, forward_state), (second, first, backward, backward_state))
    for here, there, motion, state in ways:
        state[shaded_cells(here, there, motion) & (state == VISIBLE)] = UNKNOWN
        still = moving == 0
        state[still] = VISIBLE
        rounded = np.round(motion / QUANTUM) * QUANTUM
        rounded[still] = 0
        rounded[state == UNKNOWN] = np.clip(rounded[state == UNKNOWN], -512, 512)
        fields.append(np.ascontiguousarray(rounded.transpose(2, 0, 1), np.float32))
    return FramePair(first, second, fields[0], fields[1], forward_state, backward_state, moving)


def changed_cells(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, float]:
    """``(h, w)`` bool, where colours changed by more than noise does; and that noise's level."""
    difference = largest_channel(cv2.absdiff(to_cells(first), to_cells(second))).astype(np.float32)
    difference = np.asarray(cv2.blur(difference, (3, 3)))
    noise = float(np.median(difference[difference <= np.quantile(difference, 0.5)]))
    return difference > NOISE_FLOOR + 3 * noise, noise


def moving_cells(changed: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """What moved: changes of some size, and what they enclose that has a motion. ``(h, w)`` uint8."""
    radius = max(2, round(0.02 * min(changed.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    solid = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    closed = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, kernel)
    rims, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(closed), rims, -1, 1, -1)
    in_motion = (np.linalg.norm(forward, axis=-1) > 1) | (np.linalg.norm(backward, axis=-1) > 1)
    moving = closed | (filled & in_motion.astype(np.uint8))
    moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, kernel)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(moving)
    large = stats[:, cv2.CC_STAT_AREA] >= 0.0008 * changed.size
    large[0] = False
    return cv2.dilate(large[parts].astype(np.uint8), np.ones((3, 3), np.uint8))


def check_motion(handles: np.ndarray, targets: np.ndarray, size: tuple[int, int]) -> float:
    """Mean drag length over the short side of ``size`` = (H, W); :class:`Rejected` beyond the limits."""
    motion = float(np.linalg.norm(targets - handles, axis=-1).mean()) / min(size)
    if motion < MIN_MOTION:
        raise Rejected("too little motion")
    if motion > MAX_MOTION:
        raise Rejected("too much motion")
    return motion


def shaded_cells(here: np.ndarray, there: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Where only a shadow or a reflection moved: the detail stood still, and better so than with the motion.

    Args:
        here, there: ``(H, W, 3)`` uint8 RGB.
        motion: ``(h, w, 2)`` from here to there.

    Returns:
        ``(h, w)`` bool.
    """
    detail, other = _detail(here), _detail(there)
    landing = cell_centres(*here.shape[:2]) + motion
    stayed = _correlation(detail, other)
    went = _correlation(detail, look_up_cells(other, landing))
    return (stayed > SHADED) & (stayed > went) & (np.linalg.norm(motion, axis=-1) > 2)


def check_trust(pair: FramePair, mask: np.ndarray) -> None:
    """:class:`Rejected` unless what moves inside a mask ``(H, W)`` is understood.

    Unknown motion along rims is usual, and so is background whose uncovering could not be confirmed. A
    patch that is unknown in both frames means that something moved that no drag explains.
    """
    asked = (pair.moving > 0) & mask[::STRIDE, ::STRIDE]
    unknown = [asked & (state == UNKNOWN) for state in (pair.forward_state, pair.backward_state)]
    radius = max(1, round(PATCH * min(asked.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    patches = cv2.morphologyEx((unknown[0] & unknown[1]).astype(np.uint8), cv2.MORPH_OPEN, kernel)
    most = max(int(cells.sum()) for cells in unknown)
    if most > MAX_UNKNOWN * asked.sum() or patches.sum() > MAX_PATCHES * asked.sum():
        raise Rejected("motion cannot be trusted")


def _detail(image: np.ndarray) -> np.ndarray:
    grey = to_cells(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).astype(np.float32)
    return grey - cv2.blur(grey, (7, 7))


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    window = (7, 7)
    power = cv2.blur(a * a, window) * cv2.blur(b * b, window)
    return np.asarray(cv2.blur(a * b, window) / np.sqrt(power + 1.0))


def _check_light(first: np.ndarray, second: np.ndarray, moving: np.ndarray) -> None:
    still = moving == 0
    change = (to_cells(second).astype(np.float32) - to_cells(first))[still]
    if np.abs(np.median(change, axis=0)).max() > MAX_FLICKER:
        raise Rejected("light flickers")


def _check_sharpness(first: np.ndarray, second: np.ndarray, moving: np.ndarray) -> None:
    height, width = moving.shape[0] * STRIDE, moving.shape[1] * STRIDE
    region = cv2.resize(moving, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    edges = [
        float(np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F))[region].mean())
        for image in (first, second)
    ]
    if min(edges) < MIN_SHARPNESS * max(edges):
        raise Rejected("one frame is blurred")
    if max(edges) < 1.0:
        raise Rejected("no detail")
