"""Where a film cuts from one shot to another."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

THUMBNAIL = 32
CUT_LEVEL = 18.0  # mean absolute grey difference between thumbnails, of 255
CUT_RATIO = 4.0  # times the median of the neighbouring differences


def split_shots(frames: np.ndarray) -> list[tuple[int, int]]:
    """Split frames at cuts: a difference that is large, and large beside its neighbours'.

    Args:
        frames: ``(T, H, W, 3)`` uint8 RGB.

    Returns:
        ``[(start, stop), ...]``, half open, that together cover all frames.
    """
    size = (THUMBNAIL, THUMBNAIL)
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA).mean(-1) for frame in frames]
    change = np.abs(np.diff(np.array(small, np.float32), axis=0)).mean((1, 2))
    cuts = [0]
    for k, level in enumerate(change):
        neighbours = np.delete(change[max(0, k - 4) : k + 5], min(k, 4))
        usual = float(np.median(neighbours)) if len(neighbours) else 0.0
        if level > CUT_LEVEL and level > CUT_RATIO * usual:
            cuts.append(k + 1)
    cuts.append(len(frames))
    return list(pairwise(cuts))
