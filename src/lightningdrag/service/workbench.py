"""What does the edits, in a worker: the models, and the photos they looked at last.  Imports torch."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from lightningdrag.drag import Drag
from lightningdrag.editor import DragEditor
from lightningdrag.masks import bounding_box, inside
from lightningdrag.models.protocol import BatchModel, Callback, MaskModel
from lightningdrag.service.animation import LONGER_SIDE, encode_animation, reduced, reduced_mask
from lightningdrag.service.settings import takes_options
from lightningdrag.service.task import Outcome, Patch, Task
from lightningdrag.session import EditResult, EditSession

CACHE_BYTES = 2**30
"""Of the photos that stay open, with the windows of them that a model keeps encoded."""
CACHE_PHOTOS = 64
"""How many stay open at most."""


class Workbench:
    """Does tasks.

    Args:
        models: names, folders or hub ids; "warp", which has no weights, is always there.
        device, dtype: as ``DragEditor.from_pretrained``.
        options: the same, for the models that are SD 1.5.

    Raises:
        ValueError: a model that cannot be loaded.
    """

    def __init__(
        self,
        models: Iterable[str],
        device: str = "auto",
        dtype: str = "auto",
        options: Collection[str] = (),
    ) -> None:
        self._editors = {
            name: DragEditor.from_pretrained(
                name, device=device, dtype=dtype, options=options if takes_options(name) else ()
            )
            for name in dict.fromkeys([*models, "warp"])
        }
        self._sessions: OrderedDict[tuple[str, str], EditSession] = OrderedDict()

    def about(self) -> dict[str, dict[str, Any]]:
        """Each model's defaults, whether it gains by batches, and whether it finds masks."""
        return {
            name: {
                "steps": editor.model.default_steps,
                "guidance": editor.model.default_guidance,
                "batches": isinstance(editor.model, BatchModel),
                "masks": isinstance(editor.model, MaskModel),
            }
            for name, editor in self._editors.items()
        }

    def run(self, tasks: Sequence[Task], callbacks: Sequence[Callback]) -> list[Outcome]:
        """Make an animation, find a mask, or do edits by one model, in one pass where their windows allow.

        Args:
            callbacks: one for each task.

        Raises:
            ValueError: something is wrong with one of them.
            EditCancelled: a callback returned False.
        """
        first = tasks[0]
        if first.frames:
            return [self._animate(first, callbacks[0])]
        if first.mask_only:
            return [self._find_mask(first)]
        sessions = [self._session(task) for task in tasks]
        requests = [task.request for task in tasks]
        try:
            results = self._editors[first.model].run_many(sessions, requests, callbacks, batch=len(tasks))
            return [_edited(result) for result in results]
        finally:
            for session in sessions:
                session.forget_proposal()  # the server keeps what changed; whole photos would fill the memory

    def _find_mask(self, task: Task) -> Outcome:
        start = time.perf_counter()
        mask = self._session(task).mask_for(task.request.drags, task.request.num_images)
        x0, y0, x1, y1 = box = bounding_box(mask)
        found = np.ascontiguousarray(mask[y0:y1, x0:x1])
        return Outcome(box, found, (), b"", task.request, time.perf_counter() - start, ())

    def forget(self) -> None:
        """Drop what is kept, to have its memory back."""
        self._sessions.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _session(self, task: Task) -> EditSession:
        """The photo with its encoded windows, as the last task on it left them."""
        key = (task.key, task.model)
        if key not in self._sessions:
            self._sessions[key] = self._editors[task.model].open(task.open())
        self._sessions.move_to_end(key)
        while len(self._sessions) > 1 and self._is_over_full():
            self._sessions.popitem(last=False)
        return self._sessions[key]

    def _is_over_full(self) -> bool:
        kept = sum(session.nbytes for session in self._sessions.values())
        return kept > CACHE_BYTES or len(self._sessions) > CACHE_PHOTOS

    def _animate(self, task: Task, callback: Callback) -> Outcome:
        """Every frame drags the photo itself, with one seed and one mask, further along the way.

        Dragging each frame's result a little further instead would resample it again and again, which blurs.
        """
        start = time.perf_counter()
        photo = task.open()
        small = reduced(photo, LONGER_SIDE)
        request = task.request.scaled(small.width / photo.width, small.height / photo.height)
        mask = None if request.mask is None else reduced_mask(request.mask, small.width, small.height)
        request = replace(request, mask=mask, num_images=1)
        session = EditSession(self._editors[task.model].model, small)
        parts = task.frames - 1  # the first frame is the photo
        last = session.run(request, _part(callback, 0, parts))
        images: list[Image.Image] = [small.image]
        for frame in range(1, parts):
            # Of the auxiliary ones those that come to lie in the mask: the others would widen it.
            shared = [_share(drag, frame / parts) for drag in last.drags]
            asked, more = shared[: len(request.drags)], shared[len(request.drags) :]
            drags = (*asked, *(drag for drag in more if inside(last.mask, drag.target)))
            # Where the whole drag's mask already holds what the part needs, the window stays the same.
            part = replace(request, drags=drags, mask=last.mask, augment=0, strict=False, seed=last.seed)
            images.append(session.run(part, _part(callback, frame, parts), thing=last.thing).image)
        images.append(last.image)
        outcome = _outcome(last, (0, 0, 0, 0), ())
        return replace(
            outcome,
            animation=encode_animation(images, task.format),
            request=replace(task.request, seed=last.seed),
            seconds=time.perf_counter() - start,
        )


def _edited(result: EditResult) -> Outcome:
    box = bounding_box(result.mask)
    return _outcome(result, box, tuple(Patch.of(photo, box) for photo in result.photos))


def _outcome(result: EditResult, box: tuple[int, int, int, int], candidates: tuple[Patch, ...]) -> Outcome:
    x0, y0, x1, y1 = box
    mask = np.ascontiguousarray(result.mask[y0:y1, x0:x1])
    return Outcome(box, mask, candidates, b"", result.request, result.seconds, result.warnings)


def _share(drag: Drag, share: float) -> Drag:
    """The first part of a drag."""
    (hx, hy), (tx, ty) = drag.handle, drag.target
    return Drag(drag.handle, (hx + share * (tx - hx), hy + share * (ty - hy)))


def _part(callback: Callback, part: int, parts: int) -> Callback:
    """A callback for one of several edits, which counts a step for each that is done."""

    def count(step: int, total: int) -> bool | None:
        return callback(part + step // total, parts)

    return count
