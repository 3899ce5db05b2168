"""What goes to a worker and what comes back: a photo's file, changed parts, requests.  No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lightningdrag.photo import Photo, open_photo
from lightningdrag.request import EditRequest

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, ends exclusive."""


@dataclass(frozen=True, eq=False)
class Patch:
    """The part of a photo that an edit changed.

    Attributes:
        box: where it lies.
        pixels: ``(h, w, 3)``, or ``(h, w, 4)`` with transparency, of the photo's own type.
    """

    box: Box
    pixels: np.ndarray

    @classmethod
    def of(cls, photo: Photo, box: Box) -> Patch:
        x0, y0, x1, y1 = box
        pixels = photo.pixels[y0:y1, x0:x1]
        if photo.alpha is not None:
            pixels = np.dstack((pixels, photo.alpha[y0:y1, x0:x1]))
        return cls(box, np.ascontiguousarray(pixels))


def patched(photo: Photo, patches: Iterable[Patch]) -> Photo:
    """A photo with parts of it replaced, the later ones over the earlier."""
    pixels = photo.pixels.copy()
    alpha = None if photo.alpha is None else photo.alpha.copy()
    for patch in patches:
        x0, y0, x1, y1 = patch.box
        pixels[y0:y1, x0:x1] = patch.pixels[..., :3]
        if alpha is not None:
            alpha[y0:y1, x0:x1] = patch.pixels[..., 3]
    return photo.with_pixels(pixels, alpha)


@dataclass(frozen=True, eq=False)
class Task:
    """A job as a worker gets it: all that is needed to do it, even by one that never saw the photo.

    Attributes:
        key: names the photo as it is now; a worker keeps what it decoded and encoded under it.
        photo: the file as uploaded.
        max_pixels: of the photo.
        patch: what was accepted since, in one piece: never more than the photo, after any number of rounds.
        model: one of the worker's models.
        request: the edit.
        mask_only: find the mask of an edit without one, and no more.
        frames: 0 edits; more make an animation of so many frames.
        format: of an animation, one of ``animation.FORMATS``.
    """

    key: str
    photo: bytes
    max_pixels: int
    patch: Patch | None
    model: str
    request: EditRequest
    mask_only: bool = False
    frames: int = 0
    format: str = "webp"

    @property
    def session(self) -> str:
        """Whose it is."""
        return self.key.partition("/")[0]

    def open(self) -> Photo:
        """The photo as accepted so far."""
        photo = open_photo(self.photo, max_bytes=len(self.photo), max_pixels=self.max_pixels)
        return photo if self.patch is None else patched(photo, [self.patch])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a worker made of a task.

    Attributes:
        box: what the mask used holds.
        mask: ``(h, w)`` bool, the mask within the box.
        candidates: pixels within the box, as ``Patch.pixels``; empty for a mask or an animation.
        animation: an encoded animation, or nothing.
        request: with its seed settled.
        seconds: time of the edit.
        warnings: what had to be changed.
    """

    box: Box
    mask: np.ndarray
    candidates: tuple[Patch, ...]
    animation: bytes
    request: EditRequest
    seconds: float
    warnings: tuple[str, ...]
