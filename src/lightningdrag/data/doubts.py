"""Motions that agree forward and backward and are wrong all the same, and those that show themselves."""

from __future__ import annotations

import cv2
import numpy as np

from lightningdrag.data.recipe import DEFAULT, Checks
from lightningdrag.data.tracks import (
    STRIDE,
    cell_centres,
    largest_channel,
    look_up,
    look_up_cells,
    pixel_grid,
    to_cells,
)

WINDOW = (7, 7)  # px; a point's own detail
AROUND = np.ones((9, 9), np.uint8)  # px; what must move along with it


def doubtful_cells(
    here: np.ndarray, there: np.ndarray, motion: np.ndarray, checks: Checks = DEFAULT.checks
) -> np.ndarray:
    """Where a motion is no drag of a thing: a shadow or a reflection moved, or the two ends are unlike.

    Args:
        here, there: ``(H, W, 3)`` uint8 RGB.
        motion: ``(h, w, 2)`` from here to there, on the grid of stride 2.

    Returns:
        ``(h, w)`` bool.
    """
    detail, other = _detail(here), _detail(there)
    landed = look_up_cells(other, cell_centres(*here.shape[:2]) + motion)
    stayed, went = _correlation(detail, other), _correlation(detail, landed)
    moved = np.linalg.norm(motion, axis=-1) > 2
    stood = (stayed > checks.shaded) & (stayed > went)
    amount = _amount(detail)
    unlike = (went < checks.min_likeness) & (amount > checks.detail)
    # on a bare surface nothing but light can be seen to move; near bare, when the light did change
    most = np.maximum(amount, _amount(other))
    change = np.abs(np.log(_brightness(here) / _brightness(there)))
    bare = (most < checks.bare) | ((most < 2 * checks.bare) & (change > checks.light_change))
    return moved & (stood | unlike | bare)


def distinct_cells(
    here: np.ndarray, there: np.ndarray, motion: np.ndarray, noise: float, checks: Checks = DEFAULT.checks
) -> np.ndarray:
    """Where a point's own detail shows its motion: what a handle can be put on.

    Dense flow drags along what is beside a moving outline. So there must be detail in both directions at
    the point itself (the weaker gradient of its structure tensor; Shi and Tomasi, 1994); it must look the
    same where it lands and unlike what it left; its colour must have changed at its own place *and* at
    the place where it lands, which still ground on either side of a moving thing cannot do; and the motion
    must explain all that changed around it.

    Args:
        here, there: ``(H, W, 3)`` uint8 RGB.
        motion: ``(h, w, 2)`` from here to there, on the grid of stride 2.
        noise: the level of changes that are none, grey levels.

    Returns:
        ``(h, w)`` bool.
    """
    height, width = (STRIDE * n for n in motion.shape[:2])
    landing = pixel_grid(height, width) + cv2.resize(motion, (width, height))
    grey, other = (
        cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (3, 3), 0).astype(np.float32)
        for image in (here, there)
    )
    texture = cv2.min(_weaker_gradient(grey), look_up(_weaker_gradient(other), landing))
    went, stayed = _likeness(grey, look_up(other, landing)), _likeness(grey, other)
    change = _difference(here, there)
    change_at_both = cv2.min(change, look_up(change, landing))
    unexplained = _difference(here, look_up(there, landing))
    strongest, worst = cv2.dilate(change, AROUND), cv2.dilate(unexplained, AROUND)
    # the shares were chosen by looking at pairs of real clips
    distinct = (
        (texture > checks.texture)
        & (went > checks.match)
        & (went > stayed + 0.2)
        & (change_at_both > checks.noise_floor + 3 * noise)
        & (change_at_both > 1.5 * unexplained)
        & (change_at_both > 0.2 * np.minimum(strongest, 120))
        & (worst < 0.4 * strongest + checks.noise_floor)
    )
    cells = to_cells(distinct.astype(np.float32)) > 0.5
    return cells & (cv2.blur(cells.astype(np.float32), (3, 3)) > 0.6)  # not one alone


def _weaker_gradient(grey: np.ndarray) -> np.ndarray:
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
    xx, xy, yy = (cv2.blur(product, WINDOW) for product in (dx * dx, dx * dy, dy * dy))
    return np.sqrt(np.maximum((xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy * xy), 0))


def _likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Normalised correlation of windows of 11x11 px."""
    window = (11, 11)
    mean_a, mean_b = cv2.blur(a, window), cv2.blur(b, window)
    power = (cv2.blur(a * a, window) - mean_a**2) * (cv2.blur(b * b, window) - mean_b**2)
    return (cv2.blur(a * b, window) - mean_a * mean_b) / np.sqrt(np.maximum(power, 0) + 1)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.blur(largest_channel(cv2.absdiff(a, b)).astype(np.float32), (3, 3)))


def _detail(image: np.ndarray) -> np.ndarray:
    grey = to_cells(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).astype(np.float32)
    return grey - cv2.blur(grey, (7, 7))


def _amount(detail: np.ndarray) -> np.ndarray:
    return np.sqrt(cv2.blur(detail * detail, (5, 5)))


def _brightness(image: np.ndarray) -> np.ndarray:
    return cv2.blur(to_cells(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).astype(np.float32), (3, 3)) + 8


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    window = (7, 7)
    power = cv2.blur(a * a, window) * cv2.blur(b * b, window)
    return np.asarray(cv2.blur(a * b, window) / np.sqrt(power + 1.0))
