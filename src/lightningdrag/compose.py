"""A model's answer, put into the photo at the photo's own resolution, inside the mask only.

A motion is rendered from the photo's own pixels, so that a large photo stays sharp though the model saw
a small window: result(p) = v(p) source(p + d(p)) + (1 - v(p)) colour(p).  Towards the mask's rim the
*displacement* fades to zero, which keeps one sharp image where blending two would make doubles; colour
blends over three pixels at most.  Both seams lie inside the mask.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from torch import Tensor

from lightningdrag.masks import bounding_box, distance_to_rim
from lightningdrag.models.protocol import MotionEdit, PaintedEdit
from lightningdrag.photo import Photo
from lightningdrag.window import Box, Window

FEATHER = 3
"""Photo pixels over which colour blends into the source."""
FADE = 2
"""Window pixels (and at least FEATHER photo pixels) over which a displacement fades."""
BAND = 64
"""Rows rendered at a time: memory stays small whatever the photo's size, and mostly in the caches."""
_NO_MAP = np.empty(0, np.float32)
"""Stands for OpenCV's second map when the first holds x and y."""


def compose(photo: Photo, window: Window, edit: PaintedEdit | MotionEdit, mask: np.ndarray) -> list[Photo]:
    """Every candidate of an edit, as a photo of the source's size.

    Args:
        edit: with fields of the window's height and width.
        mask: ``(H, W)`` bool at the photo's size; every pixel outside it stays as it is.
    """
    results = []
    for box, patch in patches(photo, window, edit, mask):
        rows, columns = slice(box[1], box[3]), slice(box[0], box[2])
        pixels, alpha = photo.pixels.copy(), photo.alpha
        pixels[rows, columns] = patch[..., :3]
        if alpha is not None:
            alpha = alpha.copy()
            alpha[rows, columns] = patch[..., 3]
        results.append(photo.with_pixels(pixels, alpha))
    return results


def patches(
    photo: Photo, window: Window, edit: PaintedEdit | MotionEdit, mask: np.ndarray
) -> Iterator[tuple[Box, np.ndarray]]:
    """The part of each candidate that holds the mask: its box, and its pixels as ``(h, w, 3 or 4)``."""
    box = _with_border(bounding_box(mask), mask)
    depth = distance_to_rim(mask[box[1] : box[3], box[0] : box[2]])
    source = photo.pixels if photo.alpha is None else np.dstack((photo.pixels, photo.alpha))
    if isinstance(edit, PaintedEdit):
        for painted in _unit(edit.image):
            yield box, _painted(source, window, painted, box, depth)
        return
    displacement, visibility = _hwc(edit.displacement), _hwc(edit.visibility)
    for moved, visible, colour in zip(displacement, visibility, _unit(edit.colour), strict=True):
        yield box, _moved(source, window, moved, np.clip(visible, 0, 1), colour, box, depth)


def _moved(
    source: np.ndarray,
    window: Window,
    displacement: np.ndarray,
    visibility: np.ndarray,
    colour: np.ndarray,
    box: Box,
    depth: np.ndarray,
) -> np.ndarray:
    scale = np.array(window.scale, np.float32)
    displacement = displacement / scale
    fade = max(FADE / scale.min(), FEATHER)
    hidden = bool((visibility < 1).any())
    patch = source[box[1] : box[3], box[0] : box[2]].copy()
    columns = np.arange(box[0], box[2], dtype=np.float32)
    for rows, shown, inside in _bands(patch, box, depth):
        position = upsampled(displacement, window, rows, box)
        position *= _smooth(inside / (fade + 1))[..., None]
        position[..., 0] += columns
        position[..., 1] += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        warped = cv2.remap(source, position, _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        if hidden:
            share = (1 - upsampled(visibility, window, rows, box)) * _feather(inside)[..., None]
            part = _span(share)
            paint = upsampled(colour, window, rows, (box[0] + part.start, 0, box[0] + part.stop, 0))
            warped[:, part, :3] = _mixed(warped[:, part, :3], paint, share[:, part])
        np.copyto(shown, warped, where=(inside > 0)[..., None])
    return patch


def _painted(
    source: np.ndarray, window: Window, painted: np.ndarray, box: Box, depth: np.ndarray
) -> np.ndarray:
    patch = source[box[1] : box[3], box[0] : box[2]].copy()
    for rows, shown, inside in _bands(patch, box, depth):
        colour = upsampled(painted, window, rows, box)
        shown[..., :3] = _mixed(shown[..., :3], colour, _feather(inside)[..., None])
    return patch


def _bands(patch: np.ndarray, box: Box, depth: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Bands of a patch: their rows in the photo, views of the patch, and depths."""
    for top in range(0, len(patch), BAND):
        bottom = min(top + BAND, len(patch))
        yield slice(box[1] + top, box[1] + bottom), patch[top:bottom], depth[top:bottom]


def _hwc(field: Tensor) -> np.ndarray:
    """``(B, C, H, W)`` to float32 ``(B, H, W, C)``."""
    return np.ascontiguousarray(field.detach().float().cpu().numpy().transpose(0, 2, 3, 1))


def _unit(image: Tensor) -> np.ndarray:
    """``(B, 3, H, W)`` in [-1, 1] to ``(B, H, W, 3)`` in [0, 1]."""
    return (np.clip(_hwc(image), -1, 1) + 1) / 2


def upsampled(field: np.ndarray, window: Window, rows: slice, box: Box) -> np.ndarray:
    """A window's field at photo pixels, bilinear, continued evenly beyond the outermost centres.

    Args:
        field: ``(h, w, C)`` float32 of the window.
        rows: of the photo.
        box: of the photo; its columns are used.

    Returns:
        ``(len(rows), x1 - x0, C)`` float32.
    """
    x0, y0, x1, _ = window.box
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) - y0 + 0.5) * window.scale[1] - 0.5
    y = np.clip(y, 0, window.height - 1)
    above = np.minimum(y.astype(np.intp), max(window.height - 2, 0))
    share = (y - above).astype(np.float32)[:, None, None]
    below = np.minimum(above + 1, window.height - 1)
    mixed = field[above] * (1 - share) + field[below] * share
    wide = cv2.resize(mixed, (x1 - x0, len(y)), interpolation=cv2.INTER_LINEAR).reshape(len(y), x1 - x0, -1)
    if x0 <= box[0] and box[2] <= x1:
        return wide[:, box[0] - x0 : box[2] - x0]
    return wide[:, np.clip(np.arange(box[0], box[2]) - x0, 0, x1 - x0 - 1)]


def _mixed(pixels: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Integer pixels with a share (0..1) of a colour (0..1); a share of 0 leaves them as they are."""
    most = np.iinfo(pixels.dtype).max
    return np.clip(np.rint(pixels + share * (colour * most - pixels)), 0, most).astype(pixels.dtype)


def _span(share: np.ndarray) -> slice:
    """The columns of ``(h, w, 1)`` that hold all that is above 0."""
    columns = np.flatnonzero(share.any(axis=(0, 2)))
    return slice(int(columns[0]), int(columns[-1]) + 1) if columns.size else slice(0, 0)


def _feather(depth: np.ndarray) -> np.ndarray:
    return np.clip(depth / (FEATHER + 1), 0, 1)


def _smooth(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 without a kink at either end."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def _with_border(box: Box, mask: np.ndarray) -> Box:
    """One pixel more on each side inside the photo, so that the rim is seen from within the box."""
    height, width = mask.shape
    return max(box[0] - 1, 0), max(box[1] - 1, 0), min(box[2] + 1, width), min(box[3] + 1, height)
