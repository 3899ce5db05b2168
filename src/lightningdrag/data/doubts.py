"""Motions that agree forward and backward and are wrong all the same."""

from __future__ import annotations

import cv2
import numpy as np

from lightningdrag.data.recipe import DEFAULT, Checks
from lightningdrag.data.tracks import cell_centres, look_up_cells, to_cells


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
