"""One edit as the command line does it: checked before any model is loaded, then run and written."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightningdrag.files import written_together
from lightningdrag.photo import MAX_BYTES, MAX_PIXELS, Photo, PhotoError, encode_photo, format_of, open_photo
from lightningdrag.request import EditRequest

if TYPE_CHECKING:
    from lightningdrag.editor import DragEditor

STREAM = "-"
"""Stands for stdin or stdout."""

Inputs = Mapping[tuple[int, int], str]
"""What a run reads and must not write over: what each file is, by its device and inode."""


@dataclass(frozen=True)
class Job:
    """A photo, what to do with it, and where the results go.

    Attributes:
        photo: the opened photo.
        request: checked against the photo.
        outputs: one file name for each candidate, or ("-",) for stdout.
        named_after: the photo, where no name was given: then the outputs are free names beside it.
    """

    photo: Photo
    request: EditRequest
    outputs: tuple[str, ...]
    named_after: str | None = None


def make_job(
    photo_name: str,
    request: EditRequest,
    output: str | None,
    inputs: Inputs,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> Job:
    """Open the photo and check everything that can be checked without a model.

    Args:
        photo_name: a path, or "-" for stdin.
        output: a path, "-" for stdout, or None: a free name like NAME.dragged.EXT beside the photo,
            stdout for stdin.
        inputs: of :func:`inputs_of`.

    Raises:
        ValueError: what is wrong with photo, request or output.
    """
    source = sys.stdin.buffer.read(max_bytes + 1) if photo_name == STREAM else photo_name
    photo = open_photo(source, max_bytes=max_bytes, max_pixels=max_pixels)
    request.fitted(photo.width, photo.height)
    outputs = _outputs(photo_name, output, request.num_images)
    for name in outputs:
        if name != STREAM:
            check_target(Path(name), inputs)
    image = None if photo_name == STREAM else photo_name
    return Job(photo, replace(request, image=image), outputs, image if output is None else None)


@dataclass(frozen=True)
class Done:
    """A job that was run.

    Attributes:
        job: what was asked, with the names that were taken.
        model: the model's name.
        request: with its seed settled.
        seconds: wall time of the edit.
        warnings: what had to be changed, and what the output's format could not keep.
    """

    job: Job
    model: str
    request: EditRequest
    seconds: float
    warnings: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "schema": "lightningdrag.result",
            "version": 1,
            "outputs": list(self.job.outputs),
            "width": self.job.photo.width,
            "height": self.job.photo.height,
            "model": self.model,
            "seed": self.request.seed,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            "request": json.loads(self.request.to_json()),
        }


def run_job(job: Job, editor: DragEditor, model: str, callback: Callable[[int, int], None]) -> Done:
    """Edit, and write every candidate under its name, all of them whole or none."""
    result = editor.run(job.photo, job.request, callback)
    while True:
        try:
            lost = _write(job, result.photos)
            break
        except FileExistsError:
            if job.named_after is None:
                raise
            # Another edit has taken a name since it was found free.
            job = replace(job, outputs=_free_names(job.named_after, job.request.num_images))
    warnings = tuple(dict.fromkeys((*result.warnings, *lost)))
    return Done(job, model, result.request, result.seconds, warnings)


def _write(job: Job, photos: Sequence[Photo]) -> list[str]:
    """Write candidates; returns what their format could not keep."""
    lost: list[str] = []
    with written_together(anew=job.named_after is not None) as write:
        for name, photo in zip(job.outputs, photos, strict=True):
            data, notes = encode_photo(photo, "PNG" if name == STREAM else format_of(name))
            lost += notes
            if name == STREAM:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            else:
                write(name, data)
    return lost


def inputs_of(files: Mapping[str, str | Path | None]) -> Inputs:
    """The files that are there, of those given by what they are."""
    found = {role: _identity(Path(path)) for role, path in files.items() if path}
    return {identity: role for role, identity in found.items() if identity}


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, the same by whatever name a file is called; None if there is no file."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return stat.st_dev, stat.st_ino


def check_target(path: Path, inputs: Inputs) -> None:
    """Refuse a file that cannot be written, or that would overwrite an input, before any work is done.

    Raises:
        PhotoError: naming the file or its folder.
    """
    folder = path.parent
    if not folder.is_dir():
        raise PhotoError(f"no such folder to write to: {folder}")
    if not os.access(folder, os.W_OK):
        raise PhotoError(f"cannot write to {folder}: the folder is read-only")
    if path.is_dir():
        raise PhotoError(f"cannot write {path}: it is a folder")
    identity = _identity(path)
    if identity and identity in inputs:
        raise PhotoError(f"{path} would overwrite {inputs[identity]}; choose another name or folder")


def writable_ending(photo_name: str) -> str:
    """The photo's own ending, or ".png" if its format can be read but not written."""
    try:
        format_of(photo_name)
    except PhotoError:
        return ".png"
    return Path(photo_name).suffix


def numbered(output: str, count: int, first: int = 1) -> tuple[str, ...]:
    """The names of so many candidates: the one given if it is the first and only, else OUT-1, OUT-2, ..."""
    path = Path(output)
    if count == first == 1:
        return (str(path),)
    return tuple(str(path.with_name(f"{path.stem}-{first + i}{path.suffix}")) for i in range(count))


def _outputs(photo_name: str, output: str | None, count: int) -> tuple[str, ...]:
    if output is None and photo_name != STREAM:
        return _free_names(photo_name, count)
    if output in (None, STREAM):
        if count > 1:
            raise PhotoError(f"{count} candidates cannot go to stdout; name a file with -o")
        return (STREAM,)
    format_of(output)
    return numbered(output, count)


def _free_names(photo_name: str, count: int) -> tuple[str, ...]:
    """Beside the photo: the first names in a row that no file has, so that no earlier result is lost."""
    path = Path(photo_name)
    default = str(path.with_name(f"{path.stem}.dragged{writable_ending(photo_name)}"))
    rows = (numbered(default, count, first) for first in itertools.count(1))
    return next(names for names in rows if not any(map(os.path.lexists, names)))
