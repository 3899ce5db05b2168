"""Masks of what may change: read, scaled, derived from drags, widened, stored as runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lightningdrag.drag import Drag, FormatError, MaskError, Point, brief, pixel_of
from lightningdrag.photo import MAX_BYTES, MAX_PIXELS, open_photo

MaskLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

REACH_OF_LENGTH = 0.75
REACH_OF_SIDE = 0.2
MOST_OF_SIDE = 0.45
"""Room around a drag: shares of its length and of the photo's short side together, and the most."""
FAR_OF_LENGTH = 8.0
FAR_OF_SIDE = 0.4
"""How far from a drag one may look for what follows: shares of its length or of that side, the larger one,
and a side at most: a long photo would be seen too small."""
ROOM_SIDE = 512
"""Longer side at which that is drawn, in pixels."""


def read_mask(source: MaskLike, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a mask as ``(H, W)`` bool, True where the image may change.

    Args:
        source: an array ``(H, W)`` of bool, of 0 and 1, of 0..255 (128 and above is True) or of floats
            0..1 (0.5 and above is True); or an image or file of one, in which light means True and
            what is transparent does not.

    Raises:
        MaskError: an array of another shape or kind.
        PhotoError: an image that cannot be opened.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    photo = open_photo(source, max_bytes=max_bytes, max_pixels=max_pixels)
    light = photo.pixels.max(axis=2)
    half = np.iinfo(light.dtype).max // 2
    if photo.alpha is None:
        return light > half
    mask = np.minimum(light, photo.alpha) > half
    if not mask.any():
        raise MaskError("the mask is nowhere both white and opaque, which is how it says what may change")
    return mask


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 or array.size == 0:
        raise MaskError(f"the mask has shape {array.shape}; expected (height, width)")
    if array.dtype == bool:
        return array.copy()
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise MaskError("a mask of floats must lie within 0..1")
        return array >= 0.5
    if not np.issubdtype(array.dtype, np.integer) or array.min() < 0 or array.max() > 255:
        raise MaskError(f"the mask is {array.dtype}; expected bool, 0..255, or floats 0..1")
    return array >= (1 if array.max() <= 1 else 128)


def resized_mask(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """A mask at another size of the same aspect (each side within a pixel of the other's scale).

    Raises:
        MaskError: if the aspects differ, or nothing of the mask is left.
    """
    mask_height, mask_width = mask.shape
    aspects = mask_width * height, mask_height * width
    if abs(aspects[0] - aspects[1]) > max(mask_width, mask_height, width, height):
        raise MaskError(
            f"the mask is {mask_width}x{mask_height} and the photo {width}x{height}; "
            "give a mask of the photo's size, or of its aspect"
        )
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0
    if not resized.any():
        raise MaskError(f"nothing is left of the mask when scaled to {width}x{height}; draw it larger")
    return resized


def derive_mask(drags: Sequence[Drag], width: int, height: int, reach: float | None = None) -> np.ndarray:
    """A mask for drags that came without one, from the drags alone, ``(height, width)`` bool.

    The union of a capsule for every drag: all points within r of the straight way from handle to
    target, so that handle, target and the way between are inside, with room for the rest of the part
    to follow. r is three quarters of the drag's own length and 20 % of the photo's short side, together
    45 % of that side at most, or ``reach`` pixels where that is given. Pins add nothing, and may lie inside
    or outside; where all are pins, each has that room around it.
    """
    short = min(width, height)
    return _capsules(drags, width, height, lambda drag: _reach(drag, short) if reach is None else reach)


def search_room(drags: Sequence[Drag], width: int, height: int) -> np.ndarray:
    """Where a model may look for what follows some drags (:class:`~lightningdrag.models.protocol.MaskModel`).

    Like :func:`derive_mask`, with r of eight times the drag's length, but at least 40 % of the photo's short
    side and at most all of it; drawn small and enlarged, as it is large and need not be exact.
    """
    scale = min(1.0, ROOM_SIDE / max(width, height))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    least, most = max(FAR_OF_SIDE * min(small), 1.0), max(min(small), 1.0)
    shrunk = [drag.scaled(small[0] / width, small[1] / height) for drag in drags]
    room = _capsules(shrunk, *small, lambda drag: min(max(FAR_OF_LENGTH * drag.length, least), most))
    return resized_mask(room, width, height)


def ways(drags: Sequence[Drag], width: int, height: int) -> np.ndarray:
    """The pixels along the ways of the drags that move, with those beside them, ``(height, width)`` bool."""
    mask = np.zeros((height, width), np.uint8)
    for drag in drags:
        if not drag.is_pin:
            cv2.line(mask, pixel_of(drag.handle), pixel_of(drag.target), color=1, thickness=3)
    return mask > 0


def _capsules(drags: Sequence[Drag], width: int, height: int, reach: Callable[[Drag], float]) -> np.ndarray:
    """All pixels within their reach of the drags, of which pins count only where all are."""
    mask = np.zeros((height, width), np.uint8)
    for drag in [drag for drag in drags if not drag.is_pin] or drags:
        _draw_capsule(mask, drag.handle, drag.target, reach(drag))
    return mask > 0


def widen_mask(mask: np.ndarray, drags: Iterable[Drag]) -> np.ndarray:
    """The mask with half the room of :func:`derive_mask` around the whole way of each drag."""
    height, width = mask.shape
    short = min(width, height)
    wider = mask.astype(np.uint8)
    for drag in drags:
        _draw_capsule(wider, drag.handle, drag.target, _reach(drag, short) / 2)
    return wider > 0


def _reach(drag: Drag, short: int) -> float:
    return min(REACH_OF_LENGTH * drag.length + REACH_OF_SIDE * short, MOST_OF_SIDE * short)


def inside(mask: np.ndarray, point: Point) -> bool:
    """Is the pixel of a point in the mask? Points on the photo's outermost half pixel count as in it."""
    height, width = mask.shape
    x, y = pixel_of(point)
    return bool(mask[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask that is not empty, ends exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def distance_to_rim(mask: np.ndarray) -> np.ndarray:
    """How deep inside a mask every pixel lies, ``(H, W)`` float32 pixels: 0 outside, 1 on the rim.

    The array's own border is no rim: a mask that runs out of the photo ends nowhere there.
    """
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)


def to_runs(mask: np.ndarray) -> dict[str, Any]:
    """A mask as ``{"size": [W, H], "runs": [...]}``: row-major lengths, False first."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0], changes, [flat.size]))
    runs = np.diff(edges).tolist()
    return {"size": [mask.shape[1], mask.shape[0]], "runs": [0, *runs] if flat[0] else runs}


def from_runs(size: Any, runs: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The mask that :func:`to_runs` stored.

    Raises:
        FormatError: sizes or runs that are not whole, negative, too large, or do not add up.
    """
    if not _whole(size) or len(size) != 2 or min(size) < 1:
        raise FormatError(f"size of the mask is {brief(size)}; expected [width, height]")
    width, height = size
    if width * height > max_pixels:
        raise FormatError(f"size of the mask is {brief(size)}; at most {max_pixels:,} pixels are taken")
    if not _whole(runs) or any(run < 0 for run in runs) or sum(runs) != width * height:
        raise FormatError(f"runs of the mask must be lengths that add up to {width}x{height}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(height, width)


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)


def _draw_capsule(mask: np.ndarray, start: Point, end: Point, radius: float) -> None:
    """Set all pixels within ``radius`` of the way from start to end, and at least those of its ends."""
    height, width = mask.shape
    low = [max(0, int(min(a, b) - radius - 1)) for a, b in zip(start, end, strict=True)]
    x1 = min(width, int(max(start[0], end[0]) + radius + 2))
    y1 = min(height, int(max(start[1], end[1]) + radius + 2))
    x = np.arange(low[0], x1, dtype=np.float32)[None] - np.float32(start[0])
    y = np.arange(low[1], y1, dtype=np.float32)[:, None] - np.float32(start[1])
    dx, dy = end[0] - start[0], end[1] - start[1]
    share = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
    mask[low[1] : y1, low[0] : x1] |= ((x - share * dx) ** 2 + (y - share * dy) ** 2 <= radius**2).view(
        np.uint8
    )
