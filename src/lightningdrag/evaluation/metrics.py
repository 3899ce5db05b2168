"""How near an edit comes to the true second frame: measures that need no network.

Images are ``(H, W, 3)`` uint8 RGB, masks ``(H, W)`` bool, True where the edit may change the image;
points are (x, y) in pixels. A measure that a pair does not define (no window differs, a patch
without texture) is NaN, never zero: averages leave it out and say over how many pairs they are.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

SSIM_SIGMA = 1.5
SSIM_WINDOW = 11
"""skimage's and Wang's window: sigma 1.5 cut at 3.5 sigma."""

DOUBLE_WINDOW = 9
DOUBLE_CONTRAST = 3 * 15.0**2
"""Squared RGB difference a pixel, averaged over the window, above which source and truth differ clearly."""
HALF_SHARE = (0.3, 0.7)
HALF_RESIDUAL = 0.15

SEARCH_MINIMUM = 6.0
SEARCH_FACTOR = 1.2
PIN_LENGTH = 1.0
"""Drags shorter than this many pixels count as pins: an error over their length would mean nothing."""
FLAT_PATCH = 2.0
"""Standard deviation (of 255) below which a patch has no texture to search for."""


def grey(image: np.ndarray) -> np.ndarray:
    """Luma 0.299 R + 0.587 G + 0.114 B, ``(H, W)`` float32 in [0, 255], not rounded."""
    return cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)


def mean_in(values: np.ndarray, mask: np.ndarray) -> float:
    """Mean of ``values`` over a mask, NaN where the mask is empty."""
    return float(values[mask].mean(dtype=np.float64)) if mask.any() else float("nan")


def psnr(result: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio in the mask, dB: 10 log10(255^2 / MSE over pixels and channels).

    Infinite where result and truth agree exactly.
    """
    error = mean_in((result.astype(np.float32) - truth.astype(np.float32)) ** 2, mask)
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def ssim(result: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Structural similarity of the grey images (:func:`ssim_map`), averaged over the mask."""
    return mean_in(ssim_map(result, truth), mask)


def ssim_map(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity of the grey images at each pixel, ``(H, W)`` (Wang et al. 2004).

    Gaussian window, sigma 1.5, C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2, population covariance.
    """

    def blur(image: np.ndarray) -> np.ndarray:
        size = (SSIM_WINDOW, SSIM_WINDOW)
        return cv2.GaussianBlur(image, size, SSIM_SIGMA, borderType=cv2.BORDER_REFLECT)

    x, y = grey(result).astype(np.float64), grey(truth).astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return luminance * structure


def sharpness(result: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean Sobel gradient magnitude of the grey image in the mask, result over truth."""

    def magnitude(image: np.ndarray) -> float:
        plane = grey(image)
        return mean_in(np.hypot(cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1)), mask)

    true_magnitude = magnitude(truth)
    return magnitude(result) / true_magnitude if true_magnitude > 0 else float("nan")


class Doubles(NamedTuple):
    """What of the source still stands where the truth has moved on.

    Attributes:
        ghost: mean c over the windows; 0: the source is gone, 1: it still stands there.
        half_transparent: share of windows that are a mixture of source and truth.
    """

    ghost: float
    half_transparent: float


def doubles(result: np.ndarray, source: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> Doubles:
    """Ghosts and half-transparent doubles, in all 9x9 windows that lie inside the mask.

    With a the source, b the truth and r the result in a window, where the mean over its pixels of
    |a - b|^2 (summed over RGB) is above 3 * 15^2:

        c = <r - b, a - b> / |a - b|^2

    is how much of the source is in the result. A window is half-transparent when 0.3 < c < 0.7 and
    what the mixture b + c (a - b) leaves unexplained is small: |r - b - c (a - b)|^2 < 0.15 |a - b|^2.
    """
    a, b, r = (image.astype(np.float32) for image in (source, truth, result))

    def window_sum(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        size = (DOUBLE_WINDOW, DOUBLE_WINDOW)
        return cv2.boxFilter(
            np.einsum("hwc,hwc->hw", u, v), cv2.CV_64F, size, normalize=False, borderType=cv2.BORDER_CONSTANT
        )

    contrast = window_sum(a - b, a - b)
    whole_window = np.ones((DOUBLE_WINDOW, DOUBLE_WINDOW), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), whole_window, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    chosen = inside & (contrast > DOUBLE_CONTRAST * DOUBLE_WINDOW**2)
    if not chosen.any():
        return Doubles(float("nan"), float("nan"))
    contrast = contrast[chosen]
    c = window_sum(r - b, a - b)[chosen] / contrast
    residual = window_sum(r - b, r - b)[chosen] - c**2 * contrast
    half = (c > HALF_SHARE[0]) & (c < HALF_SHARE[1]) & (residual < HALF_RESIDUAL * contrast)
    return Doubles(float(c.mean()), float(half.mean()))


def patch_side(height: int, width: int) -> int:
    """Side of the patch that a point is searched by: about 1/16 of the short side, odd, at least 7 px."""
    return max(7, 2 * (min(height, width) // 32) + 1)


def find_point(
    source: np.ndarray, result: np.ndarray, handle: np.ndarray, target: np.ndarray
) -> np.ndarray | None:
    """Where the source's patch around a handle stands in the result.

    Normalised correlation (mean of each channel removed) over every centre within
    max(6 px, 1.2 drag lengths) of the handle or of the target, refined by a parabola in x and in y.

    Returns:
        (x, y) of the best match of the handle itself; None if the patch is flat.
    """
    height, width = source.shape[:2]
    half = patch_side(height, width) // 2
    # The patch is cut at a whole pixel, unblurred; the handle's fraction is added back to the match.
    anchor = np.clip(np.rint(handle), 0, [width - 1, height - 1]).astype(int)
    padded_source, padded_result = (
        cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_REFLECT_101)
        for image in (source, result)
    )
    patch = padded_source[anchor[1] : anchor[1] + 2 * half + 1, anchor[0] : anchor[0] + 2 * half + 1]
    if patch.reshape(-1, 3).std(0).max() < FLAT_PATCH:
        return None

    centres = np.stack([anchor, anchor + (target - handle)])
    radius = max(SEARCH_MINIMUM, SEARCH_FACTOR * float(np.hypot(*(target - handle))))
    left, top = np.maximum(np.floor(centres.min(0) - radius).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(centres.max(0) + radius).astype(int) + 2, [width, height])
    area = padded_result[top : bottom + 2 * half, left : right + 2 * half]
    correlation = cv2.matchTemplate(area, patch, cv2.TM_CCOEFF_NORMED)
    y, x = np.mgrid[top:bottom, left:right]
    distance = np.min([np.hypot(x - cx, y - cy) for cx, cy in centres], axis=0)
    row, column = np.unravel_index(
        np.argmax(np.where(distance <= radius, correlation, -2.0)), correlation.shape
    )
    shift_x = parabola_peak(correlation[row, max(column - 1, 0) : column + 2])
    shift_y = parabola_peak(correlation[max(row - 1, 0) : row + 2, column])
    return np.array([left + column + shift_x, top + row + shift_y]) + (handle - anchor)


def parabola_peak(values: np.ndarray) -> float:
    """Offset in [-0.5, 0.5] of the top of the parabola through three samples; 0 where there are fewer."""
    if len(values) < 3:
        return 0.0
    before, here, after = values.astype(np.float64)
    curvature = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


class PointErrors(NamedTuple):
    """Mean distance of the found points to their targets.

    Attributes:
        drags: over the drag's length (1: it never moved).
        pins: of pinned points, in pixels.
    """

    drags: float
    pins: float


def point_errors(
    source: np.ndarray, result: np.ndarray, handles: np.ndarray, targets: np.ndarray
) -> PointErrors:
    """Mean point error of the drags and of the pins; ``handles`` and ``targets`` are ``(N, 2)``.

    The *true* frame scores about 0.2 on video: things turn and deform under their patch. Being as
    good as the truth is good enough.
    """
    drags, pins = [], []
    for handle, target in zip(handles.astype(np.float64), targets.astype(np.float64), strict=True):
        found = find_point(source, result, handle, target)
        if found is None:
            continue
        error, length = float(np.hypot(*(found - target))), float(np.hypot(*(target - handle)))
        if length < PIN_LENGTH:
            pins.append(error)
        else:
            drags.append(error / length)
    return PointErrors(*(float(np.mean(errors)) if errors else float("nan") for errors in (drags, pins)))


def changed_outside(source: np.ndarray, result: np.ndarray, mask: np.ndarray) -> float:
    """How many pixels outside the mask differ from the source in any channel."""
    return float(((source != result).any(-1) & ~mask).sum())


def seed_deviation(candidates: list[np.ndarray], region: np.ndarray) -> float:
    """Mean absolute deviation of candidates from their mean over a region, in grey levels of 255."""
    stack = np.stack(candidates).astype(np.float32)
    return mean_in(np.abs(stack - stack.mean(0)).mean((0, -1)), region)


def around(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """``(H, W)`` bool: the discs, as wide as the point error's patch, around points."""
    y, x = np.mgrid[:height, :width]
    radius = patch_side(height, width) / 2
    near = np.zeros((height, width), bool)
    for px, py in points:
        near |= np.hypot(x - px, y - py) <= radius
    return near
