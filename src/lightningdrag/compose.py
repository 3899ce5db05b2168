"""A model's answer, put into the photo at the photo's own resolution, inside the mask only.

A motion is rendered from the photo's own pixels, so that a large photo stays sharp though the model saw
a small window: result(p) = v(p) source(p + d(p)) + (1 - v(p)) colour(p).  Towards the mask's rim the
*displacement* fades to zero, which keeps one sharp image where blending two would make doubles; colour
blends over three pixels at most.  Both seams lie inside the mask.
"""

from __future__ import annotations

import cv2
import numpy as np

from lightningdrag.masks import bounding_box, distance_to_rim
from lightningdrag.models.protocol import MotionEdit, PaintedEdit
from lightningdrag.photo import Photo
from lightningdrag.window import Box, Window

FEATHER = 3
"""Photo pixels over which colour blends into the source."""
FADE = 2
"""Window pixels (and at least FEATHER photo pixels) over which a displacement fades."""
BAND = 256
"""Rows rendered at a time: memory stays small whatever the photo's size."""


def compose(photo: Photo, window: Window, edit: PaintedEdit | MotionEdit, mask: np.ndarray) -> list[Photo]:
    """Every candidate of an edit, as a photo of the source's size.

    Args:
        edit: with fields of the window's height and width.
        mask: ``(H, W)`` bool at the photo's size; every pixel outside it stays as it is.
    """
    if isinstance(edit, PaintedEdit):
        painted = (edit.image.float().clamp(-1, 1).cpu().numpy() + 1) / 2
        return [_paint(photo, window, image.transpose(1, 2, 0), mask) for image in painted]
    motion = np.concatenate(
        [edit.displacement.float().cpu().numpy(), edit.visibility.float().clamp(0, 1).cpu().numpy()], axis=1
    )
    colours = (edit.colour.float().clamp(-1, 1).cpu().numpy() + 1) / 2
    return [
        render_motion(photo, window, field.transpose(1, 2, 0), colour.transpose(1, 2, 0), mask)
        for field, colour in zip(motion, colours, strict=True)
    ]


def render_motion(
    photo: Photo, window: Window, motion: np.ndarray, colour: np.ndarray, mask: np.ndarray
) -> Photo:
    """Move a photo's pixels.

    Args:
        motion: ``(h, w, 3)`` of the window: backward displacement (dx, dy) in window pixels, visibility.
        colour: ``(h, w, 3)`` in [0, 1], shown where visibility is below 1.
        mask: ``(H, W)`` bool at the photo's size.
    """
    box = _with_border(bounding_box(mask), mask)
    depth = distance_to_rim(mask[box[1] : box[3], box[0] : box[2]])
    scale_x, scale_y = window.scale
    fade = max(FADE / min(scale_x, scale_y), FEATHER)
    hidden = bool((motion[..., 2] < 1).any())
    source = photo.pixels if photo.alpha is None else np.dstack((photo.pixels, photo.alpha))
    result = source.copy()
    xs = np.arange(box[0], box[2], dtype=np.float32)
    for top in range(box[1], box[3], BAND):
        rows = slice(top, min(top + BAND, box[3]))
        inside = depth[rows.start - box[1] : rows.stop - box[1]]
        moved = upsampled(motion[..., :2] / np.array((scale_x, scale_y), np.float32), window, rows, box)
        moved *= _smooth(inside / (fade + 1))[..., None]
        moved[..., 0] += xs
        moved[..., 1] += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        shown = cv2.remap(
            source, moved[..., 0], moved[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        if hidden:
            share = (1 - upsampled(motion[..., 2:], window, rows, box)) * _feather(inside)[..., None]
            _blend(shown[..., :3], upsampled(colour, window, rows, box), share)
        np.copyto(result[rows, box[0] : box[2]], shown, where=(inside > 0)[..., None])
    return _photo_of(photo, result)


def _paint(photo: Photo, window: Window, painted: np.ndarray, mask: np.ndarray) -> Photo:
    box = _with_border(bounding_box(mask), mask)
    depth = distance_to_rim(mask[box[1] : box[3], box[0] : box[2]])
    result = photo.pixels.copy()
    for top in range(box[1], box[3], BAND):
        rows = slice(top, min(top + BAND, box[3]))
        inside = depth[rows.start - box[1] : rows.stop - box[1]]
        shown = result[rows, box[0] : box[2]].copy()
        _blend(shown, upsampled(painted, window, rows, box), _feather(inside)[..., None])
        np.copyto(result[rows, box[0] : box[2]], shown, where=(inside > 0)[..., None])
    return photo.with_pixels(result, photo.alpha)


def upsampled(field: np.ndarray, window: Window, rows: slice, box: Box) -> np.ndarray:
    """A window's field at photo pixels, bilinear, continued evenly beyond the outermost centres.

    Args:
        field: ``(h, w, C)`` float32 of the window.
        rows: of the photo, within the window.
        box: its columns are used, also within the window.

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
    wide = cv2.resize(mixed, (x1 - x0, len(y)), interpolation=cv2.INTER_LINEAR)
    return wide.reshape(len(y), x1 - x0, -1)[:, box[0] - x0 : box[2] - x0].astype(np.float32)


def _blend(shown: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    """Mix a share (0..1) of a colour (0..1) into integer pixels, in place."""
    most = np.iinfo(shown.dtype).max
    mixed = shown + share * (colour * most - shown)
    shown[:] = np.clip(np.rint(mixed), 0, most)


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


def _photo_of(photo: Photo, result: np.ndarray) -> Photo:
    if photo.alpha is None:
        return photo.with_pixels(result, None)
    return photo.with_pixels(np.ascontiguousarray(result[..., :3]), np.ascontiguousarray(result[..., 3]))
