"""A whole edit as data: drags, mask and options, checked, and to JSON and back.

    {"schema": "lightningdrag.edit", "version": 1,
     "image": "photo.jpg",                                  # optional, relative to the JSON file
     "drags": [{"handle": [210, 140], "target": [260, 120]}],
     "mask": {"png": "mask.png"},                           # or {"size": [W, H], "runs": [...]}, or null
     "options": {"seed": 0}}                                # what is left out keeps its default

Runs are row-major lengths of alternating False and True, beginning with False (which may be 0).
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from lightningdrag.drag import (
    Drag,
    FormatError,
    MaskError,
    OptionError,
    RequestError,
    as_drags,
    brief,
    check_inside,
    meeting,
    pixel_of,
)
from lightningdrag.files import write_atomically
from lightningdrag.masks import derive_mask, from_runs, inside, read_mask, resized_mask, to_runs, widen_mask
from lightningdrag.photo import MAX_BYTES, MAX_PIXELS, PhotoError, read_bytes

SCHEMA = "lightningdrag.edit"
VERSION = 1

_INTEGERS = {"num_images": (1, 16), "steps": (1, 1000), "augment": (0, 16), "seed": (0, 2**63 - 1)}
_NUMBERS = {"guidance": (0.0, 100.0), "temperature": (0.0, 10.0)}
_MAY_BE_NONE = {"steps", "seed", "guidance", "temperature"}


class Options(TypedDict, total=False):
    """The options of :class:`EditRequest` as keywords."""

    num_images: int
    steps: int | None
    guidance: float | None
    guidance_schedule: str
    noise_prior: str
    max_step: float | None
    augment: int
    temperature: float | None
    strict: bool
    seed: int | None


OPTIONS = tuple(Options.__annotations__)


@dataclass(frozen=True, eq=False)
class EditRequest:
    """One edit of one photo.

    Attributes:
        drags: 1..64 pairs, in pixels of the photo. Given in any form that ``as_drags`` reads.
        mask: ``(H, W)`` bool of the photo's size, True where the image may change; None: the model finds it.
            Given as anything that ``masks.read_mask`` reads.
        image: where the photo is, for saved requests; not opened here.
        num_images: how many candidates, 1..16; of readings of one drag without a mask in turns.
        steps: sampling steps, 1..1000; None is the model's default.
        guidance: point-guidance weight, 0..100; None is the model's default.
        guidance_schedule, noise_prior: names of ``guidance.SCHEDULES`` and ``guidance.NOISE_PRIORS``.
        max_step: split drags longer than this many pixels into a sequence; None does not.
        augment: auxiliary pairs around each handle, 0..16.
        temperature: scale of the motion noise, 0..10; None is the model's default.
        strict: refuse handles and targets outside the mask.
        seed: 0..2^63 - 1; None draws one.

    Raises:
        DragError, MaskError, OptionError: all of them ``RequestError``, a ``ValueError``.
    """

    drags: tuple[Drag, ...]
    mask: np.ndarray | None = field(default=None, repr=False)
    image: str | None = None
    num_images: int = 1
    steps: int | None = None
    guidance: float | None = None
    guidance_schedule: str = "inverse_square"
    noise_prior: str = "source"
    max_step: float | None = None
    augment: int = 0
    temperature: float | None = None
    strict: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "drags", as_drags(self.drags))
        if self.mask is not None:
            object.__setattr__(self, "mask", read_mask(self.mask))
            if not np.any(self.mask):
                raise MaskError("the mask is empty; mark what may change (white, 255 or True)")
        _check_options(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EditRequest):
            return NotImplemented
        if self.mask is None or other.mask is None:
            same_mask = self.mask is other.mask
        else:
            same_mask = np.array_equal(self.mask, other.mask)
        names = ("drags", "image", *OPTIONS)
        return same_mask and all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]

    def fitted(self, width: int, height: int) -> tuple[EditRequest, list[str]]:
        """This request checked against a photo of this size, and what had to be changed.

        A mask of another size is scaled if it has the photo's aspect (within a pixel).

        Raises:
            DragError: a handle or target lies outside the photo.
            MaskError: the mask has another aspect.
        """
        check_inside(self.drags, width, height)
        warnings = [
            f"drags {one} and {other} end at one place, where only one of them can"
            for one, other in meeting(self.drags)
        ]
        if self.mask is None or self.mask.shape == (height, width):
            return self, warnings
        mask_height, mask_width = self.mask.shape
        mask = resized_mask(self.mask, width, height)
        warnings.append(f"mask scaled from {mask_width}x{mask_height} to {width}x{height}")
        return replace(self, mask=mask), warnings

    def settled_mask(self, width: int, height: int) -> tuple[np.ndarray, list[str]]:
        """The mask to use, and what to say: as given and widened by targets outside, or from the drags alone.

        Args:
            width, height: of the photo, which the request was :meth:`fitted` to.

        Returns:
            ``(height, width)`` bool, and warnings.

        Raises:
            MaskError: a handle or target lies outside the mask given, and the request is strict.
        """
        mask = self.mask
        if mask is None:
            return derive_mask(self.drags, width, height), []
        astray = [drag for drag in self.drags if not (drag.is_pin or inside(mask, drag.target))]
        outside = [drag for drag in self.drags if not inside(mask, drag.handle)]
        if self.strict and (astray or outside):
            what = f"target of drag {astray[0]}" if astray else f"handle of drag {outside[0]}"
            raise MaskError(f"the {what} lies outside the mask; widen the mask, or do without strict")
        warnings = [f"mask widened to hold the target of drag {drag}" for drag in astray]
        if astray:
            mask = widen_mask(mask, astray)
        warnings += [
            f"handle of drag {drag} lies outside the mask; kept as a constraint"
            for drag in outside
            if not inside(mask, drag.handle)
        ]
        return mask, warnings

    def scaled(self, scale_x: float, scale_y: float) -> EditRequest:
        """The same edit on the photo resized by these factors; the mask follows when it is fitted.

        Of handles that fall on one pixel there, the one that is dragged furthest is kept.
        """
        step = None if self.max_step is None else self.max_step * math.sqrt(scale_x * scale_y)
        drags: dict[tuple[int, int], Drag] = {}
        for drag in self.drags:
            scaled = drag.scaled(scale_x, scale_y)
            rival = drags.setdefault(pixel_of(scaled.handle), scaled)
            if scaled.length > rival.length:
                drags[pixel_of(scaled.handle)] = scaled
        return replace(self, drags=tuple(drags.values()), max_step=step)

    def to_json(self, mask_png: str | None = None) -> str:
        """The request as JSON text, its mask as runs, or as the name of a PNG that the caller keeps."""
        mask: dict[str, Any] | None = None
        if self.mask is not None:
            mask = {"png": mask_png} if mask_png else to_runs(self.mask)
        record = {
            "schema": SCHEMA,
            "version": VERSION,
            "image": self.image,
            "drags": [{"handle": list(drag.handle), "target": list(drag.target)} for drag in self.drags],
            "mask": mask,
            "options": {name: getattr(self, name) for name in OPTIONS},
        }
        return json.dumps(record, allow_nan=False)

    @classmethod
    def from_json(
        cls,
        text: str | bytes,
        folder: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        max_pixels: int = MAX_PIXELS,
    ) -> EditRequest:
        """Read what :meth:`to_json` wrote.

        Args:
            folder: where a mask's PNG path starts. None refuses such paths, so that a request from
                elsewhere cannot name files of this machine.
            max_bytes, max_pixels: refuse a larger mask; as for the photo that it is of.

        Raises:
            FormatError: no JSON, another schema or version, unknown or missing fields.
            RequestError: the request itself is wrong.
        """
        with _bounded_depth():
            record = _parse(text)
            mask = _mask_of(record.get("mask"), folder, max_bytes, max_pixels)
            return _request_of(record, mask)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
    ) -> EditRequest:
        """Read a request file; a mask's PNG path starts at its folder.

        Args:
            max_bytes, max_pixels: refuse a larger file, or mask.

        Raises:
            FormatError: also if the file cannot be read.
            RequestError: as :meth:`from_json`.
        """
        data = _read(path, max_bytes)
        with _naming(path):
            return cls.from_json(data, Path(path).parent, max_bytes=max_bytes, max_pixels=max_pixels)

    @classmethod
    def load_outline(
        cls, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES
    ) -> tuple[EditRequest, Path | None]:
        """Read a request file without its mask, and the path of the PNG that this is in, if it is in one.

        Raises:
            RequestError: as :meth:`load`, but for what is wrong with the mask's pixels.
        """
        data = _read(path, max_bytes)
        with _naming(path), _bounded_depth():
            record = _parse(data)
            png = _mask_png(record.get("mask"))
            return _request_of(record, None), None if png is None else Path(path).parent / png

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the request to a file, whole or not at all.

        Raises:
            OSError: naming the path, if it cannot be written.
        """
        write_atomically(path, (self.to_json() + "\n").encode())


_FIELDS = ("schema", "version", "image", "drags", "mask", "options")


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for a mistyped name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_options(request: EditRequest) -> None:
    from lightningdrag.guidance import NOISE_PRIORS, SCHEDULES

    for name, (low, high) in _INTEGERS.items():
        value = getattr(request, name)
        if value is None and name in _MAY_BE_NONE:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            raise OptionError(f"{name} is {brief(value)}; expected a whole number within {low}..{high}")
        object.__setattr__(request, name, int(value))
    for name, (least, most) in _NUMBERS.items():
        _check_number(request, name, least, most)
    _check_number(request, "max_step", 0.0, math.inf)
    if request.max_step == 0:
        raise OptionError("max_step is 0; expected a number of pixels above 0")
    if not isinstance(request.strict, bool):
        raise OptionError(f"strict is {brief(request.strict)}; expected true or false")
    _check_name(request, "guidance_schedule", SCHEDULES)
    _check_name(request, "noise_prior", NOISE_PRIORS)


def _check_number(request: EditRequest, name: str, low: float, high: float) -> None:
    value = getattr(request, name)
    if value is None:
        return
    right = f"within {low:g}..{high:g}" if math.isfinite(high) else f"above {low:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise OptionError(f"{name} is {brief(value)}; expected a number {right}")
    if not low <= value <= min(high, 1e9):  # false for NaN, too
        raise OptionError(f"{name} is {brief(value)}; expected a number {right}")
    object.__setattr__(request, name, float(value))


def _check_name(request: EditRequest, option: str, known: Iterable[str]) -> None:
    value, names = getattr(request, option), sorted(known)
    if not isinstance(value, str) or value not in names:
        hint = nearest(value, names) if isinstance(value, str) else ""
        raise OptionError(f"unknown {option} {brief(value)}{hint}; known: {', '.join(names)}")


def _read(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    try:
        return read_bytes(path, max_bytes)
    except PhotoError as error:
        raise FormatError(str(error)) from None


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have what is wrong with a request name its file."""
    try:
        yield
    except RequestError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


@contextmanager
def _bounded_depth() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise FormatError("the request is nested too deeply") from None


def _parse(text: str | bytes) -> dict[str, Any]:
    """The JSON object of a request of this version."""
    try:
        record = json.loads(text, parse_constant=_refuse_constant)
    except FormatError:
        raise
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise FormatError(f"the request is no JSON: {error}") from None
    record = _fields(record, "request", _FIELDS)
    if record.get("schema") != SCHEMA:
        raise FormatError(f"schema is {brief(record.get('schema'))}; expected {SCHEMA!r}")
    if type(record.get("version")) is not int or record["version"] != VERSION:
        raise FormatError(f"version is {brief(record.get('version'))}; this program reads {VERSION}")
    return record


def _request_of(record: dict[str, Any], mask: np.ndarray | None) -> EditRequest:
    options = record.get("options")
    options = {} if options is None else _fields(options, "options", OPTIONS)
    drags = record.get("drags")
    if not isinstance(drags, list):
        raise FormatError(f"drags is {brief(drags)}; expected a list")
    pairs = [_fields(drag, "drag", ("handle", "target")) for drag in drags]
    image = record.get("image")
    if not (image is None or isinstance(image, str)):
        raise FormatError(f"image is {brief(image)}; expected a file name")
    return EditRequest(
        drags=as_drags((pair.get("handle"), pair.get("target")) for pair in pairs),
        mask=mask,
        image=image,
        **options,
    )


def _fields(record: Any, what: str, known: Iterable[str]) -> dict[str, Any]:
    """A JSON object that has no other fields than these."""
    if not isinstance(record, dict):
        raise FormatError(f"{what} is {brief(record)}; expected an object")
    for name in record:
        if name not in known:
            raise FormatError(f"unknown field {brief(name)} in the {what}{nearest(name, known)}")
    return record


def _mask_of(
    record: Any, folder: str | os.PathLike[str] | None, max_bytes: int, max_pixels: int
) -> np.ndarray | None:
    png = _mask_png(record)
    if record is None:
        return None
    if png is None:
        return from_runs(record.get("size"), record.get("runs"), max_pixels)
    if folder is None:
        raise FormatError("the mask is a file name, and this request has no folder; give size and runs")
    try:
        return read_mask(Path(folder) / png, max_bytes=max_bytes, max_pixels=max_pixels)
    except PhotoError as error:
        raise MaskError(f"the mask cannot be opened: {error}") from None


def _mask_png(record: Any) -> str | None:
    """The file that a mask is in, unless it is given as runs, or not at all."""
    record = {} if record is None else _fields(record, "mask", ("png", "size", "runs"))
    if "png" in record and (not isinstance(record["png"], str) or len(record) > 1):
        raise FormatError(f"mask is {brief(record)}; expected a png, or a size and runs")
    return record.get("png")


def _refuse_constant(name: str) -> float:
    raise FormatError(f"the request holds {name}; every number must be finite")
