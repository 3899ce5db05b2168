"""The window of a photo that a model looks at: where it lies, how it is scaled, what is asked for in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from lightningdrag.drag import Drag, Point
from lightningdrag.masks import bounding_box
from lightningdrag.models.protocol import Callback, DragInputs, DragModel
from lightningdrag.photo import to_8bit

if TYPE_CHECKING:
    from lightningdrag.request import EditRequest

CONTEXT = 0.25
"""Room on each side of what changes, as a share of its longer side."""
PLEASANT_ASPECT = 2.0
"""Windows are made no longer than this where the photo has room, for models learn from squarish crops."""
LARGEST_ASPECT = 4.0

LARGEST_BORDER = 4
"""Of windows that leave the photo: those of at most so many times the pixels that the photo has in them are
continued at its own scale, others at the window's."""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, ends exclusive."""


@dataclass(frozen=True)
class Window:
    """A box of photo pixels, seen at ``width`` x ``height``.

    Attributes:
        box: in the photo's pixels; it may leave the photo, which is then continued by reflection.
        width, height: the window at the model's resolution.
    """

    box: Box
    width: int
    height: int

    @property
    def scale(self) -> tuple[float, float]:
        """Window pixels to a photo pixel, (x, y)."""
        x0, y0, x1, y1 = self.box
        return self.width / (x1 - x0), self.height / (y1 - y0)

    def to_window(self, points: np.ndarray) -> np.ndarray:
        """``(N, 2)`` photo pixels to window pixels, (x, y)."""
        scale = np.asarray(self.scale)
        return (np.asarray(points, float) - self.box[:2] + 0.5) * scale - 0.5

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """``(N, 2)`` window pixels to photo pixels, (x, y)."""
        return (np.asarray(points, float) + 0.5) / np.asarray(self.scale) - 0.5 + self.box[:2]

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """The window of a photo ``(H, W, 3)`` uint8 or uint16, as ``(height, width, 3)`` uint8."""
        # A copy: a photo may be a read-only array, which torch does not take without a warning.
        return np.array(to_8bit(self._seen(pixels, cv2.BORDER_REFLECT_101)))

    def crop_mask(self, mask: np.ndarray) -> np.ndarray:
        """The window of a mask, ``(height, width)`` bool: True where any of a pixel may change."""
        return self._seen(mask, cv2.BORDER_CONSTANT) > 0

    def photo_mask(self, mask: np.ndarray, width: int, height: int) -> np.ndarray:
        """A mask of the window at the photo's size, ``(height, width)`` bool; False beyond the window."""
        x0, y0, x1, y1 = self.box
        left, top, right, bottom = inside = self._inside(width, height)
        soft = mask * np.uint8(255)
        if self._is_strip(inside):
            rows, columns = self._share(inside)
            part = cv2.resize(soft[rows, columns], (right - left, bottom - top))
        else:
            part = cv2.resize(soft, (x1 - x0, y1 - y0))[top - y0 : bottom - y0, left - x0 : right - x0]
        whole = np.zeros((height, width), bool)
        whole[top:bottom, left:right] = part > 127
        return whole

    def _seen(self, pixels: np.ndarray, border: int) -> np.ndarray:
        """The box at the window's size, a mask's from 0 to 255; beyond the photo it is continued."""
        x0, y0, x1, y1 = self.box
        left, top, right, bottom = inside = self._inside(*pixels.shape[1::-1])
        part = pixels[top:bottom, left:right]
        part = part * np.uint8(255) if part.dtype == bool else part  # not all of the photo's
        if self._is_strip(inside):
            rows, columns = self._share(inside)
            part = _resized(part, columns.stop - columns.start, rows.stop - rows.start)
            room = rows.start, self.height - rows.stop, columns.start, self.width - columns.stop
        else:
            room = top - y0, y1 - bottom, left - x0, x1 - right
        part = cv2.copyMakeBorder(part, *room, border) if any(room) else part
        return _resized(part, self.width, self.height)

    def _inside(self, width: int, height: int) -> Box:
        """What of a photo is in the box."""
        x0, y0, x1, y1 = self.box
        return max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)

    def _is_strip(self, inside: Box) -> bool:
        """Is what is inside so small a part of the box that it is better continued at the window's size?"""
        x0, y0, x1, y1 = self.box
        left, top, right, bottom = inside
        return (x1 - x0) * (y1 - y0) > LARGEST_BORDER * (right - left) * (bottom - top)

    def _share(self, inside: Box) -> tuple[slice, slice]:
        """The window's rows and columns of what is inside, to within half a pixel, and one at least."""
        ends = (np.reshape(inside, (2, 2)) - self.box[:2]) * self.scale
        start = np.minimum(np.rint(ends[0]).astype(int), (self.width - 1, self.height - 1))
        stop = np.maximum(np.rint(ends[1]).astype(int), start + 1)
        columns, rows = (slice(*map(int, side)) for side in zip(start, stop, strict=True))
        return rows, columns


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    smaller = width * height < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC if pixels.ndim == 3 else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), interpolation=method)


def window_for(model: DragModel, mask: np.ndarray, drags: Sequence[Drag]) -> Window:
    """Where a model looks: all that changes and all that is pulled. Far pins need not be seen.

    Args:
        mask: ``(H, W)`` bool of the photo's size, not empty.
        drags: in the photo's pixels, inside it.
    """
    height, width = mask.shape
    handles = [drag.handle for drag in drags if not drag.is_pin]
    return choose_window(
        box_of(bounding_box(mask), handles, width, height),
        width,
        height,
        area=model.working_area,
        multiple=model.multiple,
        max_upscale=model.max_upscale,
    )


def drag_inputs(
    window: Window,
    drags: Sequence[Drag],
    mask: np.ndarray,
    request: EditRequest,
    callback: Callback | None = None,
    *,
    thing: np.ndarray | None = None,
) -> DragInputs:
    """What a model is asked for, in the window's pixels; pins beyond its border are held at the border.

    Args:
        drags, mask: of the photo's pixels; in place of the request's own, of which they are what is left
            to do and what it comes to.
        request: whose options are taken.
        thing: ``(H, W)`` bool of the photo's size, the one thing that the drags move whole.
    """
    last = (window.width - 1, window.height - 1)
    handles, targets = (
        np.clip(window.to_window(np.array(points)), 0, last).astype(np.float32)
        for points in ([drag.handle for drag in drags], [drag.target for drag in drags])
    )
    return DragInputs(
        handles=torch.from_numpy(handles),
        targets=torch.from_numpy(targets),
        mask=torch.from_numpy(window.crop_mask(mask)),
        num_images=request.num_images,
        steps=request.steps,
        guidance=request.guidance,
        guidance_schedule=request.guidance_schedule,
        noise_prior=request.noise_prior,
        temperature=request.temperature,
        thing=None if thing is None else torch.from_numpy(window.crop_mask(thing)),
        callback=callback,
    )


def choose_window(
    needed: Box, photo_width: int, photo_height: int, *, area: int, multiple: int, max_upscale: float
) -> Window:
    """A window that holds what is needed, with context, at a model's working size.

    The needed box is snapped outward to a coarse grid, so that the windows of like edits are equal and
    an encoded one serves again.  It gets room on all sides and a pleasant shape as far as the photo
    goes, and grows until nothing has to be enlarged beyond ``max_upscale``.  Only where the photo ends
    before the window has its smallest size or the largest aspect does the window leave the photo.

    Args:
        needed: what must be inside, within the photo.
        area: pixels of the window at the model's resolution, about.
        multiple: of which its width and height are multiples.
        max_upscale: how far a photo smaller than ``area`` may be enlarged.
    """
    needed = _snapped(needed, photo_width, photo_height)
    least_width, least_height = needed[2] - needed[0], needed[3] - needed[1]
    width, height = _with_context(least_width, least_height, photo_width, photo_height, area / max_upscale**2)
    scale = min(max_upscale, math.sqrt(area / (width * height)))
    model_width = _rounded(width * scale, least_width * scale, multiple)
    model_height = _rounded(height * scale, least_height * scale, multiple)
    x0, x1 = _placed(needed[0], needed[2], max(least_width, round(model_width / scale)), photo_width)
    y0, y1 = _placed(needed[1], needed[3], max(least_height, round(model_height / scale)), photo_height)
    return Window((x0, y0, x1, y1), model_width, model_height)


def box_of(boxes: Box, points: Sequence[Point], width: int, height: int) -> Box:
    """The smallest box that holds a box and the pixels of some points, within the photo."""
    x0, y0, x1, y1 = boxes
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return (
        max(0, min([x0, *(math.floor(x) for x in xs)])),
        max(0, min([y0, *(math.floor(y) for y in ys)])),
        min(width, max([x1, *(math.ceil(x) + 1 for x in xs)])),
        min(height, max([y1, *(math.ceil(y) + 1 for y in ys)])),
    )


def _snapped(box: Box, photo_width: int, photo_height: int) -> Box:
    """The box grown to a grid of about an eighth of its longer side."""
    longer = max(box[2] - box[0], box[3] - box[1])
    step = max(8, 2 ** int(math.log2(longer / 8)) if longer >= 16 else 8)
    return (
        box[0] // step * step,
        box[1] // step * step,
        min(photo_width, -(-box[2] // step) * step),
        min(photo_height, -(-box[3] // step) * step),
    )


def _with_context(
    width: int, height: int, photo_width: int, photo_height: int, least_area: float
) -> tuple[float, float]:
    """Width and height of a window around a box of this size, at the photo's scale."""
    room = 2 * CONTEXT * max(width, height)
    w, h = min(width + room, photo_width), min(height + room, photo_height)
    w = max(w, min(h / PLEASANT_ASPECT, photo_width))
    h = max(h, min(w / PLEASANT_ASPECT, photo_height))
    if w * h < least_area:
        grow = math.sqrt(least_area / (w * h))
        w, h = min(w * grow, photo_width), min(h * grow, photo_height)
        w = min(max(w, least_area / h), photo_width, max(w, LARGEST_ASPECT * h))
        h = min(max(h, least_area / w), photo_height, max(h, LARGEST_ASPECT * w))
    return max(w, h / LARGEST_ASPECT), max(h, w / LARGEST_ASPECT)


def _rounded(size: float, least: float, multiple: int) -> int:
    """The nearest multiple, or the next one where the nearest would cut off what is needed."""
    nearest = round(size / multiple) * multiple
    return nearest if nearest >= max(least, 1) else math.ceil(max(least, 1) / multiple) * multiple


def _placed(low: int, high: int, size: int, photo_size: int) -> tuple[int, int]:
    """A span of this size, centred on low..high, then moved into the photo if it fits."""
    start = (low + high - size) // 2
    start = (photo_size - size) // 2 if size >= photo_size else min(max(start, 0), photo_size - size)
    return start, start + size
