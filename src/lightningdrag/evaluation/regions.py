"""Measures that need no second frame: what is kept outside the mask, and patches carried along.

Images are ``(H, W, 3)`` uint8 RGB, masks ``(H, W)`` bool, points (x, y) in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

RIM = 4
"""The rim is what lies within this many pixels of the mask's border, on either side."""
DAI_RADII = (1, 5, 10, 20)


def rim(mask: np.ndarray) -> np.ndarray:
    """The band around a mask's border, where seams show, ``(H, W)`` bool."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM + 1, 2 * RIM + 1))
    padded = mask.astype(np.uint8)
    return (cv2.dilate(padded, disc) > 0) & (cv2.erode(padded, disc) == 0)


def dragging_accuracy(
    source: np.ndarray, result: np.ndarray, handles: np.ndarray, targets: np.ndarray, radius: int
) -> float:
    """GoodDrag's dragging accuracy index, DAI_r (Zhang et al., ICLR 2025); lower is better.

        DAI_r = 1/N sum_i sum over the (2r+1)^2 patch |source at handle_i - result at target_i|^2 / (2r+1)^2

    with RGB in [0, 1], summed over the channels. Points are rounded to pixels; at the image's border
    the patch is cut to what both images have, and averaged over that.

    Returns:
        NaN if there is no point.
    """
    height, width = source.shape[:2]
    differences = []
    points = np.rint(np.stack([handles, targets])).astype(int)
    for (hx, hy), (tx, ty) in zip(
        *np.clip(points, 0, [width - 1, height - 1]),
        strict=True,
    ):
        left, up = min(radius, hx, tx), min(radius, hy, ty)
        right, down = min(radius, width - 1 - max(hx, tx)), min(radius, height - 1 - max(hy, ty))
        before = source[hy - up : hy + down + 1, hx - left : hx + right + 1]
        after = result[ty - up : ty + down + 1, tx - left : tx + right + 1]
        difference = (before.astype(np.float32) - after.astype(np.float32)) / 255
        differences.append(float((difference**2).sum(-1).mean()))
    return float(np.mean(differences)) if differences else float("nan")


def dragging_accuracies(
    source: np.ndarray, result: np.ndarray, handles: np.ndarray, targets: np.ndarray
) -> dict[str, float]:
    """``dai_r`` at the paper's four radii, and ``dai_r_released``: GoodDrag's released script divides by
    the number of points twice, and its published figures with it."""
    scores = {}
    for radius in DAI_RADII:
        value = dragging_accuracy(source, result, handles, targets, radius)
        scores[f"dai_{radius}"] = value
        scores[f"dai_{radius}_released"] = value / max(len(handles), 1)
    return scores
