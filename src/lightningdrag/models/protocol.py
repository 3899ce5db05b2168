"""What the editor asks of a model, and what a model answers.

Two models stand behind this protocol: the SD 1.5 pipeline, which paints an image, and the built-in
model, which decides a motion and what it uncovers.  Here every coordinate is a pixel of the *window*
at the model's resolution, (x, y), integer values at pixel centres.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Callback = Callable[[int, int], bool | None]
"""``callback(step, total)`` after each step, step = 1..total; returning False stops the edit."""


class EditCancelled(Exception):
    """Raised out of ``generate`` when the callback asked to stop."""


@dataclass(frozen=True)
class DragInputs:
    """One edit of a window, in the window's own pixels.

    Attributes:
        handles: ``(N, 2)`` float32, (x, y) of what is pulled. N is 1..64.
        targets: ``(N, 2)`` float32, where it goes. A row equal to its handle pins that point.
        mask: ``(H, W)`` bool, True where the image may change.
        num_images: how many candidates to generate.
        steps: sampling steps; None leaves the choice to the model.
        guidance: point-guidance weight w; None leaves it to the model; <= 1 runs one branch only.
        guidance_schedule: one of ``guidance.SCHEDULES``.
        noise_prior: one of ``guidance.NOISE_PRIORS``.
        temperature: scale of the motion noise; None is the model's default. SD 1.5 ignores it.
        thing: ``(H, W)`` bool, on the CPU: the one thing that the drags move whole, see
            :class:`Followers`. SD 1.5 ignores it.
        callback: see :data:`Callback`.
    """

    handles: Tensor
    targets: Tensor
    mask: Tensor
    num_images: int = 1
    steps: int | None = None
    guidance: float | None = None
    guidance_schedule: str = "inverse_square"
    noise_prior: str = "source"
    temperature: float | None = None
    thing: Tensor | None = None
    callback: Callback | None = None


@dataclass(frozen=True)
class Encoded:
    """A window that a model has looked at once; reused by every edit of that window.

    Attributes:
        window: ``(1, 3, H, W)`` float in [-1, 1], the source.
        features: whatever the model wants to keep.
    """

    window: Tensor
    features: Any = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the window and of all tensors in the features; these may grow with the first edit."""
        tensors = {id(tensor): tensor for tensor in _tensors((self.window, self.features))}
        return sum(tensor.nbytes for tensor in tensors.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in dataclasses, dicts, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
        return
    if is_dataclass(value):
        value = [getattr(value, each.name) for each in fields(value)]
    elif isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        yield from _tensors(part)


@dataclass(frozen=True)
class PaintedEdit:
    """An answer in pixels: ``image`` is ``(B, 3, H, W)`` in [-1, 1]."""

    image: Tensor


@dataclass(frozen=True)
class MotionEdit:
    """An answer in motion; the editor renders it from the photo's own pixels.

    result(p) = v(p) * source(p + d(p)) + (1 - v(p)) * colour(p)

    Attributes:
        displacement: ``(B, 2, H, W)`` backward displacement d = (dx, dy) in window pixels.
        visibility: ``(B, 1, H, W)`` v in [0, 1]: is what stands here visible in the source? 0 as well beside
            the outline of what moves, where the ground stands in the colour.
        colour: ``(B, 3, H, W)`` in [-1, 1], what was hidden.
        origin: ``(B, 2, H, W)`` like d, where the colour's texture comes from in the source: from there a
            photo that is larger than the window lends it what the window does not show. 0 = nowhere; what
            has its origin right here is a thousandth of a pixel from it.
        edges: ``(B, 5, H, W)``, how v follows from source(p + d(p)), in [-1, 1], where a thing ends: three
            slopes and a level, and from 0 to 1 how far that is to be believed. A photo that is larger than
            the window shows by its own pixels where the thing ends.
    """

    displacement: Tensor
    visibility: Tensor
    colour: Tensor
    origin: Tensor | None = None
    edges: Tensor | None = None


class DragModel(Protocol):
    """A drag-conditioned generator of window-sized edits."""

    name: str
    multiple: int
    """Window height and width must be multiples of this at the model's resolution."""
    working_area: int
    """Pixels of a window at the model's resolution (height x width), about."""
    max_upscale: float
    """How far a window smaller than ``working_area`` may be enlarged to reach it (1 = never)."""

    @property
    def default_steps(self) -> int: ...

    @property
    def default_guidance(self) -> float:
        """1 of a model that is made for one branch, 0 of one that knows of no guidance."""
        ...

    def encode(self, window: Tensor) -> Encoded:
        """Look at a window, ``(1, 3, H, W)`` float in [-1, 1], once."""
        ...

    def generate(
        self, encoded: Encoded, inputs: DragInputs, generator: torch.Generator
    ) -> PaintedEdit | MotionEdit:
        """Make ``inputs.num_images`` edits; the same generator state gives the same edits."""
        ...


Call = tuple[Encoded, DragInputs, torch.Generator]
"""What ``generate`` is given."""


@runtime_checkable
class BatchModel(Protocol):
    """A ``DragModel`` that can edit several windows in one pass."""

    def generate_batch(self, calls: Sequence[Call]) -> Sequence[PaintedEdit | MotionEdit]:
        """Answer each call as ``generate`` does, to within rounding.

        Args:
            calls: those of different photos that agree in :func:`batch_key`.

        Raises:
            ValueError: they do not agree.
            EditCancelled: the callback of one of them returned False; it ends them all.
        """
        ...


@dataclass(frozen=True)
class Followers:
    """What follows some drags, by one reading of them.

    Attributes:
        mask: ``(H, W)`` bool, on the CPU: where it was and where it goes, with room around it.
        companions: ``(M, 2)`` float32, on the CPU: places, (x, y), to which the rest of a rigid thing goes
            the same way as the only drag.
        thing: ``(H, W)`` bool, on the CPU: where it stands, if it is one thing that has an outline, and
            moves as it is.
    """

    mask: Tensor
    companions: Tensor
    thing: Tensor | None = None


@runtime_checkable
class MaskModel(Protocol):
    """A ``DragModel`` that finds what follows some drags, which makes a better mask than the drags alone."""

    def followers(self, encoded: Encoded, inputs: DragInputs) -> Sequence[Followers]:
        """Look for it within the mask of the inputs.

        Drags may be read in several ways: the whole thing is meant, or a part of it. The likeliest comes
        first, and there are as many at most as the inputs ask for candidates; their other options say
        nothing here.
        """
        ...


@runtime_checkable
class CandidateModel(Protocol):
    """A ``DragModel`` whose candidates after the first have a default temperature of their own.

    A call for all of them gives it to them by itself; whoever asks for one of them alone names it.
    """

    candidate_temperature: float
    """As ``DragInputs.temperature``."""


def batch_key(encoded: Encoded, inputs: DragInputs) -> Hashable:
    """Calls with equal keys can be answered together: windows of one size, sampled alike."""
    size = encoded.window.shape
    return size, inputs.steps, inputs.guidance, inputs.guidance_schedule, inputs.noise_prior


def check_finite(*answers: Tensor) -> None:
    """Refuse numbers that would not look like an answer.

    Raises:
        FloatingPointError: infinite ones, or none.
    """
    if not all(bool(answer.isfinite().all()) for answer in answers):
        raise FloatingPointError("the model's answer is not finite; dtype float32 may help")
