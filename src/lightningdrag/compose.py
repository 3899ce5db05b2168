"""A model's answer, put into the photo at the photo's own resolution, inside the mask only.

A motion is rendered from the photo's own pixels, so that a large photo stays sharp though the model saw
a small window: result(p) = v(p) source(p + d(p)) + (1 - v(p)) colour(p), and where a colour has its texture
from elsewhere in the window, the photo adds what the window does not show of it.  Towards the mask's rim the
*displacement* fades to zero, which keeps one sharp image where blending two would make doubles; colour
blends over three pixels at most.  Both seams lie inside the mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from lightningdrag.grain import Grain, grains
from lightningdrag.ground import carried_on, stillness
from lightningdrag.masks import bounding_box, distance_to_rim
from lightningdrag.models.protocol import MotionEdit, PaintedEdit, check_finite
from lightningdrag.photo import Photo
from lightningdrag.warp import sample
from lightningdrag.window import Box, Window

FEATHER = 3
"""Photo pixels over which colour blends into the source."""
FADE = 2
"""Window pixels (and at least FEATHER photo pixels) over which a displacement fades."""
BLEED = 2
"""Pixels over which colours go on into transparency: as far as cubic sampling sees."""
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
        pixels[rows, columns] = _grey(patch) if photo.grey else patch[..., :3]
        if alpha is not None:
            alpha = alpha.copy()
            alpha[rows, columns] = patch[..., 3]
        results.append(photo.with_pixels(pixels, alpha))
    return results


def _grey(patch: np.ndarray) -> np.ndarray:
    """A patch without the tinge that a model may give it, ``(h, w, 1)``; grey pixels stay as they are."""
    return cv2.cvtColor(np.ascontiguousarray(patch[..., :3]), cv2.COLOR_RGB2GRAY)[..., None]


def patches(
    photo: Photo, window: Window, edit: PaintedEdit | MotionEdit, mask: np.ndarray
) -> Iterator[tuple[Box, np.ndarray]]:
    """The part of each candidate that holds the mask: its box, and its pixels as ``(h, w, 3 or 4)``."""
    box = _with_border(bounding_box(mask), mask)
    depth = distance_to_rim(mask[box[1] : box[3], box[0] : box[2]])
    if isinstance(edit, PaintedEdit):
        source = photo.pixels if photo.alpha is None else np.dstack((photo.pixels, photo.alpha))
        for painted in _unit(edit.image):
            smaller, there = _shrunk(painted, window)
            yield box, _painted(source, there, smaller, box, depth)
        return
    displacement, visibility = _hwc(edit.displacement), np.clip(_hwc(edit.visibility), 0, 1)
    fills = _unit(edit.colour)
    source = before = photo.pixels
    if photo.alpha is not None:
        before = np.dstack((photo.pixels, photo.alpha))
        source = np.dstack((_coloured_through(photo.pixels, photo.alpha), photo.alpha))
        fills = np.concatenate((fills, _opacity_behind(photo.alpha, window, edit)), -1)
    details = grains(photo.pixels, window, edit)
    edges: Iterable[np.ndarray | None] = [None] * len(fills)
    if edit.edges is not None and min(window.scale) < 1:
        edges = _hwc(edit.edges)
    parts = zip(displacement, visibility, edges, fills, details, strict=True)
    for moved, visible, edge, fill, grain in parts:
        patch = before[box[1] : box[3], box[0] : box[2]].copy()
        _move_into(patch, source, window, moved, visible, edge, fill, grain, box, depth)
        yield box, patch


def _move_into(
    patch: np.ndarray,
    source: np.ndarray,
    window: Window,
    displacement: np.ndarray,
    visibility: np.ndarray,
    edges: np.ndarray | None,
    fill: np.ndarray,
    grain: Grain | None,
    box: Box,
    depth: np.ndarray,
) -> None:
    """Render the box of a photo, ``patch``, where it lies within the mask."""
    scale = np.array(window.scale, np.float32)
    displacement = displacement / scale
    fade = max(FADE / scale.min(), FEATHER)
    hidden = bool((visibility < 1).any())
    columns = np.arange(box[0], box[2], dtype=np.float32)
    for rows, shown, inside in _bands(patch, box, depth):
        position = upsampled(displacement, window, rows, box)
        position *= _smooth(inside / (fade + 1))[..., None]
        position[..., 0] += columns
        position[..., 1] += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        warped = cv2.remap(source, position, _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        if hidden:
            visible = upsampled(visibility, window, rows, box)
            if edges is not None:
                _sharpen(visible, warped, edges, window, rows, box)
            share = (1 - visible) * _feather(inside)[..., None]
            part = _span(share)
            painted = (box[0] + part.start, 0, box[0] + part.stop, 0)
            paint = upsampled(fill, window, rows, painted)
            if grain is not None:
                grain.add_to(paint, share[:, part, 0] > 0, (painted[0], rows.start))
            warped[:, part] = _mixed(warped[:, part], paint, share[:, part])
        np.copyto(shown, warped, where=(inside > 0)[..., None])


def _sharpen(
    visible: np.ndarray, moved: np.ndarray, edges: np.ndarray, window: Window, rows: slice, box: Box
) -> None:
    """What is visible, ``(h, w, 1)``, as the photo's own colours tell near the edges of things."""
    part = _span(upsampled(edges[..., 4:], window, rows, box))
    if part.start == part.stop:
        return
    model = upsampled(edges, window, rows, (box[0] + part.start, 0, box[0] + part.stop, 0))
    colours = moved[:, part, :3] * np.float32(2 / np.iinfo(moved.dtype).max) - 1
    told = np.clip((model[..., :3] * colours).sum(2) + model[..., 3], 0, 1)
    if moved.shape[2] == 4:
        told *= moved[:, part, 3] > 0  # what is transparent has its colour from beside it
    visible[:, part, 0] += model[..., 4] * (told - visible[:, part, 0])


def _painted(
    source: np.ndarray, window: Window, painted: np.ndarray, box: Box, depth: np.ndarray
) -> np.ndarray:
    patch = source[box[1] : box[3], box[0] : box[2]].copy()
    for rows, shown, inside in _bands(patch, box, depth):
        colour = upsampled(painted, window, rows, box)
        shown[..., :3] = _mixed(shown[..., :3], colour, _feather(inside)[..., None])
    return patch


def _shrunk(painted: np.ndarray, window: Window) -> tuple[np.ndarray, Window]:
    """A window that was painted larger than it is in the photo, averaged down to its size there."""
    x0, y0, x1, y1 = window.box
    if window.width <= x1 - x0 or window.height <= y1 - y0:
        return painted, window
    smaller = cv2.resize(painted, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return smaller, replace(window, width=x1 - x0, height=y1 - y0)


def _coloured_through(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Pixels whose colours go on a little way into what is fully transparent.

    What lies there, black mostly, would be mixed into the soft edges of what is moved.
    """
    seen = (alpha > 0).astype(np.float32)
    reach = (2 * BLEED + 1, 2 * BLEED + 1)
    if seen.all():
        return pixels
    weight = cv2.boxFilter(seen, -1, reach, normalize=False)[..., None]
    around = cv2.boxFilter(pixels * seen[..., None], -1, reach, normalize=False)
    bled = np.rint(around / np.maximum(weight, 1)).astype(pixels.dtype)
    return np.where((seen[..., None] == 0) & (weight > 0.5), bled, pixels)


def _opacity_behind(alpha: np.ndarray, window: Window, edit: MotionEdit) -> np.ndarray:
    """How opaque the ground is that a thing uncovers, ``(B, h, w, 1)`` from 0 to 1: as the place that its
    colour is from, else as what stands still around it."""
    seen = torch.from_numpy(window.crop(np.dstack([alpha] * 3))).permute(2, 0, 1)[None, :1] / 255.0
    motion, visibility = edit.displacement.float().cpu(), edit.visibility.float().cpu()
    known = visibility * (stillness(motion) + 1e-3)
    seen = seen.expand(len(known), -1, -1, -1)
    behind = carried_on(seen, known)
    if edit.origin is not None:
        origin = edit.origin.float().cpu()
        behind = torch.where(origin.any(1, keepdim=True), sample(seen, origin), behind)
    return _hwc(behind).clip(0, 1)


def _bands(patch: np.ndarray, box: Box, depth: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Bands of a patch: their rows in the photo, views of the patch, and depths."""
    for top in range(0, len(patch), BAND):
        bottom = min(top + BAND, len(patch))
        yield slice(box[1] + top, box[1] + bottom), patch[top:bottom], depth[top:bottom]


def _hwc(field: Tensor) -> np.ndarray:
    """``(B, C, H, W)`` to float32 ``(B, H, W, C)``.

    Raises:
        FloatingPointError: it is not finite; as pixels it would look like an answer.
    """
    check_finite(field)
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
