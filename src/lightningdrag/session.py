"""One photo through several rounds of edits.

A session settles the mask, chooses a window around the edit, asks a model for it, and puts the answer back
inside the mask.  It knows a model only through ``models.protocol.DragModel``.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from PIL import Image

from lightningdrag.allocator import kept_memory
from lightningdrag.batching import in_step
from lightningdrag.compose import compose, patches
from lightningdrag.drag import Drag, DragLike, Point, accompanied, as_drags, augmented, split
from lightningdrag.masks import MaskLike, read_mask, search_room, ways
from lightningdrag.models.protocol import (
    Call,
    Callback,
    CandidateModel,
    DragModel,
    Encoded,
    Followers,
    MaskModel,
    PaintedEdit,
)
from lightningdrag.models.warp import WarpModel
from lightningdrag.photo import Photo, save_photo, to_8bit
from lightningdrag.request import EditRequest
from lightningdrag.window import Window, drag_inputs, window_for

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lightningdrag.request import Options

CACHED_WINDOWS = 4
"""Encoded windows kept for each photo; an edit near an earlier one uses its window again."""
HISTORY_BYTES = 2**30
"""Of the photos kept for undoing; the oldest rounds are forgotten beyond that."""
_PREVIEW = WarpModel(working_area=96 * 96)
"""A smooth field needs no more: it is interpolated at the photo's size."""


@dataclass(frozen=True)
class _Reading:
    """One way to read a request: where the photo may change, and what the model found that goes along, if it
    was the model that found that: companions, and ``(H, W)`` bool the thing that is moved whole."""

    mask: np.ndarray
    companions: tuple[Point, ...] = ()
    thing: np.ndarray | None = None


@dataclass(frozen=True)
class EditResult:
    """What an edit gave.

    Attributes:
        photos: the candidates at the source's size and depth, with all that it carried.
        mask: ``(H, W)`` bool, the mask that was used: outside it every pixel is the source's.
        drags: those that were made, with auxiliary ones; of several readings of an edit without a mask the
            first candidate's.
        thing: ``(H, W)`` bool, what the first candidate moves whole, if the model found such a thing.
        request: the request with its seed settled; repeating it gives the same images.
        seconds: wall time of the edit, opening the photo not included; of all edits made together.
        warnings: what had to be changed, and what opening the photo had to change.
    """

    photos: tuple[Photo, ...]
    mask: np.ndarray = field(repr=False)
    drags: tuple[Drag, ...]
    request: EditRequest
    seconds: float
    thing: np.ndarray | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def images(self) -> list[Image.Image]:
        """The candidates as PIL images, RGB or RGBA, 8 bits a channel."""
        return [photo.image for photo in self.photos]

    @property
    def image(self) -> Image.Image:
        """The first candidate."""
        return self.photos[0].image

    @property
    def seed(self) -> int:
        assert self.request.seed is not None  # settled before the edit
        return self.request.seed

    def save(self, path: str | os.PathLike[str], index: int = 0) -> list[str]:
        """Write a candidate, in the format that the name asks for; returns what that could not keep.

        PNG and TIFF keep every pixel to the bit; JPEG, WebP and AVIF compress the whole picture anew,
        outside the mask, too.

        Raises:
            PhotoError: unknown ending, no such folder, read-only, full disk.
        """
        return save_photo(self.photos[index], path)


class EditSession:
    """One photo through several rounds of edits.

    ``edit`` proposes, ``accept`` makes a proposal the photo of the next round, ``undo`` and ``redo`` go
    back and forth between accepted photos.
    """

    def __init__(self, model: DragModel, photo: Photo) -> None:
        self._model = model
        self._history = [photo]
        self._round = 0
        self._proposed: EditResult | None = None
        self._encoded: OrderedDict[Window, Encoded] = OrderedDict()
        self._searched: tuple[tuple[Drag, ...], int, Window, Sequence[Followers]] | None = None

    @property
    def photo(self) -> Photo:
        """The photo as accepted so far."""
        return self._history[self._round]

    @property
    def _size(self) -> tuple[int, int]:
        return self.photo.width, self.photo.height

    @property
    def nbytes(self) -> int:
        """Bytes of the photo and of the windows of it that are kept encoded."""
        return self.photo.nbytes + sum(encoded.nbytes for encoded in self._encoded.values())

    def preview(self, drags: Iterable[DragLike], mask: MaskLike | None = None) -> Image.Image:
        """The analytic warp of the photo, in milliseconds: where things will go, without a model.

        Raises:
            RequestError: as :meth:`edit`.
        """
        request, _ = request_of(drags, mask).fitted(*self._size)
        settled, _ = request.settled_mask(*self._size)
        window = window_for(_PREVIEW, settled, request.drags)
        motion = _PREVIEW.generate(
            Encoded(torch.zeros(1, 3, window.height, window.width)),
            drag_inputs(window, request.drags, settled, request),
            torch.Generator(),
        )
        box, patch = next(patches(self.photo, window, motion, settled))
        image = self.photo.image
        image.paste(Image.fromarray(to_8bit(patch)), box[:2])
        return image

    @kept_memory()
    def mask_for(self, drags: Iterable[DragLike], num_images: int = 1) -> np.ndarray:
        """The mask of an edit without one, ``(H, W)`` bool: what follows the drags, with room around it.

        It holds all readings of the drags that so many candidates have.

        A model that cannot say what follows has ``masks.derive_mask``. (An edit without a mask also holds a
        rigid thing together, where one drag moves it; with this one as its mask it does not.)

        Raises:
            RequestError: as :meth:`edit`.
        """
        request, _ = request_of(drags, None, num_images=num_images).fitted(*self._size)
        readings, _ = self._readings(request)
        return _together(readings)

    def edit(
        self,
        drags: Iterable[DragLike],
        mask: MaskLike | None = None,
        *,
        callback: Callback | None = None,
        **options: Unpack[Options],
    ) -> EditResult:
        """Propose an edit of the photo as accepted so far; arguments as ``DragEditor.edit``."""
        return self.run(request_of(drags, mask, **options), callback)

    @kept_memory()
    def run(
        self, request: EditRequest, callback: Callback | None = None, *, thing: np.ndarray | None = None
    ) -> EditResult:
        """Propose the edit that a request says. Raises as ``DragEditor.edit``.

        Args:
            thing: what its drags, in a mask that is given, are known to move whole; another result's.

        Raises:
            ValueError: the thing is not of the photo's size, or no mask is given.
        """
        if thing is not None and (request.mask is None or thing.shape != self._size[::-1]):
            raise ValueError(
                f"a thing of shape {thing.shape} {'without' if request.mask is None else 'with'} a mask; "
                f"it needs a mask, and the photo's shape, {self._size[::-1]}"
            )
        return in_step(self._model, [self.proposal(request, callback, thing=thing)])[0]

    def proposal(
        self, request: EditRequest, callback: Callback | None, *, thing: np.ndarray | None = None
    ) -> Generator[Call, Any, EditResult]:
        """An edit as a dialogue, so that several can ask their model together.

        Its readings take turns with the candidates.
        """
        start = time.perf_counter()
        photo = self.photo
        fitted, warnings = request.fitted(photo.width, photo.height)
        readings, more = self._readings(fitted, thing)
        seed = secrets.randbits(31) if request.seed is None else request.seed
        every = [self._drags(fitted, reading) for reading in readings]
        asked = [
            replace(
                fitted, drags=drags, seed=seed, num_images=len(range(first, fitted.num_images, len(every)))
            )
            for first, drags in enumerate(every)
        ]
        calls = sum(self._calls(each) for each in asked)
        progress = (_part(callback, call, calls) for call in range(calls))
        photos = [photo] * fitted.num_images
        for first, (each, reading) in enumerate(zip(asked, readings, strict=True)):
            made, painted = yield from self._stages(each, reading, progress)
            photos[first :: len(readings)] = made
        mask = _together(readings)
        if fitted.guidance is not None and fitted.guidance > 1 == self._model.default_guidance:
            more.append(f"{self._model.name} is made for guidance 1; at {fitted.guidance:g} things may tear")
        if all(drag.is_pin for drag in fitted.drags):
            more.append("no drag moves anything: each target is its handle")
        if painted and photo.alpha is not None and photo.alpha[mask].min() < np.iinfo(photo.alpha.dtype).max:
            more.append(f"{self._model.name} paints no transparency: in the mask it stays as it was")
        self._proposed = EditResult(
            photos=tuple(photos),
            mask=mask,
            drags=every[0],
            request=replace(request, seed=seed),
            seconds=time.perf_counter() - start,
            thing=readings[0].thing,
            warnings=(*photo.warnings, *warnings, *more),
        )
        return self._proposed

    def accept(self, index: int = 0) -> Photo:
        """Make a candidate of the last edit the photo of the next round; what was undone is forgotten.

        Raises:
            ValueError: no edit was proposed since the last change, or it has no such candidate.
        """
        if self._proposed is None:
            raise ValueError("nothing to accept; call edit first")
        if not 0 <= index < len(self._proposed.photos):
            raise ValueError(f"no candidate {index}; there are {len(self._proposed.photos)}, from 0")
        self._history[self._round + 1 :] = [self._proposed.photos[index]]
        del self._history[: max(0, len(self._history) - max(2, HISTORY_BYTES // self.photo.nbytes))]
        self._go_to(len(self._history) - 1)
        return self.photo

    def forget_proposal(self) -> None:
        """Drop the candidates of the last edit, each as large as the photo; they can be accepted no more."""
        self._proposed = None

    def undo(self) -> Photo:
        """Back to the photo before the last accepted edit.

        Raises:
            ValueError: this is the first one kept.
        """
        if self._round == 0:
            raise ValueError("nothing to undo; this is the photo as opened, or the oldest one kept")
        self._go_to(self._round - 1)
        return self.photo

    def redo(self) -> Photo:
        """Forth again to what was undone.

        Raises:
            ValueError: nothing was undone since the last accepted edit.
        """
        if self._round + 1 == len(self._history):
            raise ValueError("nothing to redo")
        self._go_to(self._round + 1)
        return self.photo

    def _go_to(self, index: int) -> None:
        self._round = index
        self._proposed = None
        self._encoded.clear()
        self._searched = None

    def _readings(
        self, request: EditRequest, thing: np.ndarray | None = None
    ) -> tuple[list[_Reading], list[str]]:
        """How a fitted request may be read, the likeliest first and as many at most as it has candidates, and
        what to say; a mask that is not given is found by the model if it can."""
        model, drags, size = self._model, request.drags, self._size
        if request.mask is not None or not isinstance(model, MaskModel) or all(drag.is_pin for drag in drags):
            mask, warnings = request.settled_mask(*size)
            return [_Reading(mask, thing=thing)], warnings
        if self._searched is None or self._searched[:2] != (drags, request.num_images):
            room = search_room(drags, *size)
            window = window_for(model, room, drags)
            found = model.followers(
                self._encode(self.photo, window), drag_inputs(window, drags, room, request)
            )
            self._searched = drags, request.num_images, window, found
        *_, window, found = self._searched
        return [self._reading(each, window, drags) for each in found], []

    def _reading(self, found: Followers, window: Window, drags: Sequence[Drag]) -> _Reading:
        """What was found in a window, in the photo."""
        size = self._size
        mask = window.photo_mask(found.mask.numpy(), *size)
        mask |= ways(drags, *size)  # of drags that are too short for the window, too
        places = window.to_photo(found.companions.numpy()).tolist()
        thing = None if found.thing is None else window.photo_mask(found.thing.numpy(), *size)
        return _Reading(mask, tuple((x, y) for x, y in places), thing)

    def _drags(self, request: EditRequest, reading: _Reading) -> tuple[Drag, ...]:
        """A request's drags and the auxiliary ones."""
        size, mask = self._size, reading.mask
        drags = augmented(request.drags, request.augment, *size, mask)
        return accompanied(drags, [(drags[0], place) for place in reading.companions], *size, mask)

    def _calls(self, request: EditRequest) -> int:
        """How often :meth:`_stages` asks the model."""
        return 1 + (len(split(request.drags, request.max_step)) - 1) * request.num_images

    def _stages(
        self, request: EditRequest, reading: _Reading, progress: Iterator[Callback | None]
    ) -> Generator[Call, Any, tuple[list[Photo], bool]]:
        """All candidates through all stages of a split drag, each stage on its own last result; and whether
        the model painted them.

        After the first stage each candidate goes on alone: with a generator of its own, so that it is the
        same however many there are, and at the temperature that the model has for it among the others.

        Args:
            progress: a callback for each call of the model.
        """
        mask, seed = reading.mask, request.seed or 0
        first, *later = split(request.drags, request.max_step)
        window = window_for(self._model, mask, request.drags)
        inputs = drag_inputs(window, first, mask, request, next(progress), thing=reading.thing)
        answer = yield self._encode(self.photo, window), inputs, torch.Generator().manual_seed(seed)
        photos = compose(self.photo, window, answer, mask)
        seeds = torch.randint(2**62, (len(photos),), generator=torch.Generator().manual_seed(seed))
        generators = [torch.Generator().manual_seed(each) for each in seeds.tolist()]
        for drags in later:
            thing = None if reading.thing is None else _moved(reading.thing, first[0].handle, drags[0].handle)
            for index, source in enumerate(photos):
                inputs = replace(
                    drag_inputs(window, drags, mask, request, next(progress), thing=thing),
                    num_images=1,
                    temperature=self._temperature(request, index),
                )
                answer = yield self._encode(source, window), inputs, generators[index]
                [photos[index]] = compose(source, window, answer, mask)
        return photos, isinstance(answer, PaintedEdit)

    def _temperature(self, request: EditRequest, candidate: int) -> float | None:
        """Of a candidate that is generated by itself: a model would take it for the first one."""
        if request.temperature is None and candidate > 0 and isinstance(self._model, CandidateModel):
            return self._model.candidate_temperature
        return request.temperature

    def _encode(self, photo: Photo, window: Window) -> Encoded:
        """A window as the model sees it; those of the session's own photo are kept."""
        kept = self._encoded if photo is self.photo else OrderedDict()
        if window not in kept:
            pixels = torch.from_numpy(window.crop(photo.pixels)).permute(2, 0, 1)[None]
            kept[window] = self._model.encode(pixels.float() / 127.5 - 1)
        kept.move_to_end(window)
        if len(kept) > CACHED_WINDOWS:
            kept.popitem(last=False)
        return kept[window]


def request_of(drags: Iterable[DragLike], mask: MaskLike | None, **options: Unpack[Options]) -> EditRequest:
    """The arguments of ``edit`` as a request. Raises as it does."""
    return EditRequest(as_drags(drags), None if mask is None else read_mask(mask), **options)


def _together(readings: Sequence[_Reading]) -> np.ndarray:
    """The mask of them all."""
    return reduce(np.logical_or, (reading.mask for reading in readings))


def _moved(thing: np.ndarray, handle: Point, to: Point) -> np.ndarray:
    """A thing ``(H, W)`` bool where a drag has taken it so far."""
    way = np.array([[1, 0, to[0] - handle[0]], [0, 1, to[1] - handle[1]]], np.float32)
    return cv2.warpAffine(thing.astype(np.uint8), way, thing.shape[::-1], flags=cv2.INTER_NEAREST) > 0


def _part(callback: Callback | None, call: int, calls: int) -> Callback | None:
    """A callback for one of several equal calls of a model that counts all their steps together."""
    if callback is None:
        return None
    return lambda step, total: callback(call * total + step, calls * total)
