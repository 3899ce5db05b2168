"""Where a film cuts from one shot to another, fades, or flashes."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import cv2
import numpy as np

from lightningdrag.data.recipe import DEFAULT, Shots

THUMBNAIL = 32
FADE_REACH = 4  # frames on either side of one in a fade


def split_shots(
    frames: np.ndarray, dropped: Counter[str] | None = None, rule: Shots = DEFAULT.shots
) -> list[tuple[int, int]]:
    """Split frames at cuts, and leave out those that fade or flash.

    A cut is a difference that is large, and large beside its neighbours'. In a fade or a dissolve every
    frame is nearly the mean of those before and after it, although these differ much; motion does not do
    that. In a flash most of the picture changes its brightness the same way.

    Args:
        frames: ``(T, H, W, 3)`` uint8 RGB.
        dropped: counts the runs of frames left out, by reason.

    Returns:
        ``[(start, stop), ...]``, half open, in order.
    """
    if len(frames) < 2:
        return [(0, len(frames))]
    small = np.stack([thumbnail(frame) for frame in frames])
    cuts = _cuts(small, rule)
    fades = _fades(small, rule)
    lit = np.zeros(len(frames), int)  # how many changes of light there were up to a frame
    lit[1:] = np.cumsum(_flashes(small, rule) & ~cuts[1:] & ~fades[1:] & ~fades[:-1])
    part = np.cumsum(cuts)
    shots = []
    for key, run in groupby(range(len(frames)), key=lambda k: (part[k], lit[k], fades[k])):
        members = list(run)
        if key[2] and dropped is not None:
            dropped["fade"] += 1
        elif not key[2]:
            shots.append((members[0], members[-1] + 1))
    if dropped is not None and lit[-1]:
        dropped["flash"] += int(lit[-1])
    return shots


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` uint8 -> ``(32, 32)`` float32, grey levels."""
    small = cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small.mean(-1), np.float32)


def _cuts(small: np.ndarray, rule: Shots) -> np.ndarray:
    change = np.abs(np.diff(small, axis=0)).mean((1, 2))
    cuts = np.zeros(len(small), bool)
    for k, level in enumerate(change):
        neighbours = np.delete(change[max(0, k - 4) : k + 5], min(k, 4))
        usual = float(np.median(neighbours)) if len(neighbours) else 0.0
        cuts[k + 1] = level > rule.cut_level and level > rule.cut_ratio * usual
    return cuts


def _flashes(small: np.ndarray, rule: Shots) -> np.ndarray:
    return np.asarray(np.abs(np.median(np.diff(small, axis=0), axis=(1, 2))) > rule.flash_level)


def _fades(small: np.ndarray, rule: Shots) -> np.ndarray:
    fades = np.zeros(len(small), bool)
    if len(small) <= 2 * FADE_REACH:
        return fades
    before, middle, after = small[: -2 * FADE_REACH], small[FADE_REACH:-FADE_REACH], small[2 * FADE_REACH :]
    change = np.abs(after - before).mean((1, 2))
    apart = np.abs(middle - (before + after) / 2).mean((1, 2))
    found = (change > rule.fade_level) & (apart < rule.fade_blend * change)
    fades[FADE_REACH:-FADE_REACH] = found
    return cv2.dilate(fades.astype(np.uint8)[None], np.ones((1, 2 * FADE_REACH + 1), np.uint8))[0] > 0
