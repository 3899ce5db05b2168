"""Drag a photo of any size and get it back at that size."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from lightningdrag.allocator import kept_memory
from lightningdrag.batching import in_step
from lightningdrag.drag import DragLike
from lightningdrag.masks import MaskLike
from lightningdrag.models.protocol import Callback, DragModel
from lightningdrag.photo import MAX_BYTES, MAX_PIXELS, ImageLike, Photo, open_photo
from lightningdrag.request import EditRequest
from lightningdrag.session import EditResult, EditSession, request_of

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    from lightningdrag.request import Options


class DragEditor:
    """Edits photos with one model.

    Args:
        model: anything that obeys ``DragModel``.
    """

    def __init__(self, model: DragModel) -> None:
        self.model = model

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str] = "builtin",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        options: Collection[str] = (),
    ) -> DragEditor:
        """An editor with a model by name ("builtin", "sd15", "warp"), a folder, or a hub id.

        Args:
            device: "auto", "cpu", "cuda", "cuda:1", "mps", or a torch.device.
            dtype: "auto", "float32", "bfloat16", "float16", or torch's own.
            options: ways to run SD 1.5, of ``checkpoints.catalogue.OPTIONS``, such as "low-memory".

        Raises:
            ValueError: no such model, device, dtype or option, or a damaged model.
            FetchError: (``checkpoints.catalogue``) weights on the hub could not be downloaded.
        """
        from lightningdrag.checkpoints.hub import load_model

        return cls(load_model(os.fspath(name), device=device, dtype=dtype, options=options))

    def open(
        self, image: ImageLike | Photo, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
    ) -> EditSession:
        """Open a photo for several edits; the model looks at each window of it once.

        Raises:
            PhotoError: see ``photo.open_photo``.
        """
        return EditSession(self.model, open_photo(image, max_bytes=max_bytes, max_pixels=max_pixels))

    def edit(
        self,
        image: ImageLike | Photo,
        drags: Iterable[DragLike],
        mask: MaskLike | None = None,
        *,
        callback: Callback | None = None,
        **options: Unpack[Options],
    ) -> EditResult:
        """Edit a photo once.

        Args:
            image: a path, the bytes of a file, a PIL image, or an array (``photo.open_photo``).
            drags: handles and targets in the photo's pixels (``drag.as_drags``).
            mask: white or True where the photo may change; None takes that of ``EditSession.mask_for``.
            callback: ``callback(step, total)`` after each step; returning False stops the edit.
            options: ``num_images``, ``steps``, ``guidance``, ``guidance_schedule``, ``noise_prior``,
                ``max_step``, ``augment``, ``temperature``, ``strict``, ``seed`` of ``EditRequest``.

        Raises:
            PhotoError, RequestError: subclasses of ``ValueError`` that name what is wrong.
            EditCancelled: the callback returned False.
        """
        return self.open(image).run(request_of(drags, mask, **options), callback)

    def run(
        self, image: ImageLike | Photo, request: EditRequest, callback: Callback | None = None
    ) -> EditResult:
        """Edit a photo as a request says, such as a loaded one. Raises as :meth:`edit`."""
        return self.open(image).run(request, callback)

    @kept_memory()
    def run_many(
        self,
        images: Iterable[ImageLike | Photo | EditSession],
        requests: Iterable[EditRequest],
        callbacks: Sequence[Callback | None] | None = None,
        *,
        batch: int = 8,
    ) -> list[EditResult]:
        """One edit of each of several photos, the same images as by :meth:`run` to within rounding.

        Where the model can, windows of one size that are sampled alike go through it together.

        Args:
            images: photos, or sessions of this editor.
            callbacks: one for each edit, as for :meth:`edit`; None for no such.
            batch: at most this many edits in one pass.

        Raises:
            PhotoError, RequestError: as :meth:`edit`; then none of the edits is made.
            EditCancelled: a callback returned False; it ends them all.
            ValueError: ``batch`` is below 1, or there are not as many requests as images.
        """
        asked = list(requests)
        proposals = [
            (image if isinstance(image, EditSession) else self.open(image)).proposal(request, callback)
            for image, request, callback in zip(images, asked, callbacks or [None] * len(asked), strict=True)
        ]
        return in_step(self.model, proposals, batch)
