"""What a large photo lends to a fill: the detail that the window which the model saw does not show.

A fill is put together in the window, from patches of it; where their texture stands in the photo, the photo
has more of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from lightningdrag.models.protocol import MotionEdit
from lightningdrag.window import Window

ROWS = 64
"""Places are read as a picture of so many rows: in one, OpenCV takes 32,767 at most."""
_NO_MAP = np.empty(0, np.float32)
"""Stands for OpenCV's second map when the first holds x and y."""


def grains(pixels: np.ndarray, window: Window, edit: MotionEdit) -> list[Grain | None]:
    """What each candidate's fill lacks; nothing where the window shows all that the photo has.

    Args:
        pixels: ``(H, W, 3)`` uint8 or uint16, the photo's.
    """
    if edit.origin is None or min(window.scale) >= 1:
        return [None] * len(edit.colour)
    seen = window.crop(pixels)
    return [
        Grain(pixels, seen, window, origin)
        for origin in edit.origin.float().cpu().permute(0, 2, 3, 1).numpy()
    ]


@dataclass(frozen=True)
class Grain:
    """The detail that a photo has over its window, at the places where a fill's texture comes from.

    Attributes:
        pixels: the photo's.
        seen: ``(h, w, 3)`` uint8, its window.
        origin: ``(h, w, 2)`` of the window, see :class:`MotionEdit`.
    """

    pixels: np.ndarray
    seen: np.ndarray
    window: Window
    origin: np.ndarray

    def add_to(self, paint: np.ndarray, where: np.ndarray, corner: tuple[int, int]) -> None:
        """Add it to a part of the photo, as shares of white.

        A photo's pixel lies between four of the window's, which may have their texture from four places.

        Args:
            paint: ``(h, w, 3 or more)`` float32.
            where: ``(h, w)`` bool.
            corner: the part's first column and row in the photo.
        """
        row, column = np.nonzero(where)
        if not row.size:
            return
        place = np.stack((column + corner[0], row + corner[1]), 1).astype(np.float32)
        within = (place - self.window.box[:2] + 0.5) * np.array(self.window.scale, np.float32) - 0.5
        before = np.floor(within)
        after = within - before
        x, y = (
            np.clip((before[:, axis], before[:, axis] + 1), 0, size - 1).astype(np.intp)
            for axis, size in enumerate((self.window.width, self.window.height))
        )
        detail = self._detail(place, within, self.origin[y[0], x[0]])
        mixed = np.flatnonzero(self.mixed[y[0], x[0]])
        if mixed.size:
            place, within, across, down = place[mixed], within[mixed], after[mixed, 0], after[mixed, 1]
            total, weights = np.zeros((mixed.size, 3), np.float32), np.full(mixed.size, 1e-6, np.float32)
            for i, share_y in enumerate((1 - down, down)):
                for j, share_x in enumerate((1 - across, across)):
                    away = self.origin[y[i, mixed], x[j, mixed]]
                    weight = share_y * share_x * _is_somewhere(away)
                    total += weight[:, None] * self._detail(place, within, away)
                    weights += weight
            detail[mixed] = total / weights[:, None]
        paint[row, column, :3] += detail

    @cached_property
    def mixed(self) -> np.ndarray:
        """``(h, w)`` bool: whether a pixel and those to its right and below have several origins."""
        mixed = np.zeros(self.origin.shape[:2], bool)
        across = (self.origin[:, 1:] != self.origin[:, :-1]).any(-1)
        down = (self.origin[1:] != self.origin[:-1]).any(-1)
        mixed[:, :-1] |= across
        mixed[:-1] |= down
        mixed[:-1, :-1] |= across[1:] | down[:, 1:]
        return mixed

    def _detail(self, place: np.ndarray, within: np.ndarray, away: np.ndarray) -> np.ndarray:
        """What the photo has over its window, ``(N, 3)``; nothing beyond the window.

        Args:
            place, within: ``(N, 2)`` in the photo and in the window.
            away: ``(N, 2)``, from there to the origin, in pixels of the window; 0 is nowhere.
        """
        seen = within + away
        x, y = seen.T
        known = (x >= 0) & (x <= self.window.width - 1) & (y >= 0) & (y <= self.window.height - 1)
        known &= _is_somewhere(away)
        there = place + away / np.array(self.window.scale, np.float32)
        return known[:, None] * (_unit_at(self.pixels, there) - _unit_at(self.seen, seen))


def _is_somewhere(away: np.ndarray) -> np.ndarray:
    """Of ``(N, 2)``; any() over so short an axis takes ten times as long."""
    return (away[:, 0] != 0) | (away[:, 1] != 0)


def _unit_at(pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Pixels at ``(N, 2)`` places, cubic, as shares of white, ``(N, 3)``."""
    columns = -(-len(places) // ROWS)
    grid = np.zeros((ROWS * columns, 2), np.float32)
    grid[: len(places)] = places
    position = grid.reshape(ROWS, columns, 2)
    there = cv2.remap(pixels, position, _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return there.reshape(-1, 3)[: len(places)].astype(np.float32) / np.iinfo(pixels.dtype).max
