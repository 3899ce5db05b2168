"""Pictures of edits for people to look at: arrows, the mask's outline, images side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lightningdrag.drag import Drag, Point

HANDLE = (229, 57, 53)
TARGET = (30, 136, 229)
WHITE = (255, 255, 255)
OUTSIDE_THE_MASK = 0.55  # brightness there
_SHIFT = 4  # OpenCV draws at fractions of a pixel, 1/2^4


def draw_drags(image: Image.Image, drags: Sequence[Drag], mask: np.ndarray | None = None) -> Image.Image:
    """The drags as arrows over a photo; what lies outside the mask is darkened and the mask outlined.

    A red dot marks a handle, a blue one its target, a blue ring in red a point that is pinned.

    Args:
        image: the photo.
        drags: in pixels of the photo.
        mask: ``(H, W)`` bool, True where the photo may change.

    Returns:
        A new RGB image of the photo's size.
    """
    canvas = np.array(image.convert("RGB"))
    unit = max(1.0, min(image.size) / 250)  # line width in pixels
    if mask is not None:
        canvas[~mask] = (canvas[~mask] * OUTSIDE_THE_MASK).astype(np.uint8)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, WHITE, max(1, round(unit)), cv2.LINE_AA)
    for drag in drags:
        _arrow(canvas, drag, unit)
    for drag in drags:
        _dot(canvas, drag.handle, 2.2 * unit, HANDLE)
        _dot(canvas, drag.target, (1.3 if drag.is_pin else 2.2) * unit, TARGET)
    return Image.fromarray(canvas)


def side_by_side(images: Sequence[Image.Image], titles: Sequence[str] = (), gap: int = 8) -> Image.Image:
    """Images in a row on white, all as tall as the first, each with a title above if titles are given.

    Raises:
        ValueError: if there are titles, but not one for each image.
    """
    if titles and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images; give one for each or none")
    height = images[0].height
    panels = [
        image.convert("RGB").resize((max(1, round(image.width * height / image.height)), height))
        for image in images
    ]
    size = max(12, height // 24)
    top = 2 * size if titles else 0
    sheet = Image.new("RGB", (sum(p.width for p in panels) + gap * (len(panels) - 1), height + top), WHITE)
    pen = ImageDraw.Draw(sheet)
    left = 0
    for index, panel in enumerate(panels):
        sheet.paste(panel, (left, top))
        if titles:
            middle = (left + panel.width / 2, top / 2)
            pen.text(middle, titles[index], (40, 40, 40), ImageFont.load_default(size), anchor="mm")
        left += panel.width + gap
    return sheet


def _arrow(canvas: np.ndarray, drag: Drag, unit: float) -> None:
    if drag.is_pin:
        return
    tip = min(0.5, 9 * unit / drag.length)
    for colour, width in ((WHITE, 3.2 * unit), ((20, 20, 20), 1.4 * unit)):
        cv2.arrowedLine(
            canvas,
            _fixed(drag.handle),
            _fixed(drag.target),
            colour,
            max(1, round(width)),
            cv2.LINE_AA,
            _SHIFT,
            tip,
        )


def _dot(canvas: np.ndarray, point: Point, radius: float, colour: tuple[int, int, int]) -> None:
    for ring, fill in ((radius + 1, WHITE), (radius, colour)):
        cv2.circle(canvas, _fixed(point), round(ring * 2**_SHIFT), fill, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _fixed(point: Point) -> tuple[int, int]:
    return round(point[0] * 2**_SHIFT), round(point[1] * 2**_SHIFT)
