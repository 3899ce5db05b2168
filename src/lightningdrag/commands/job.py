"""One edit as the command line does it: checked before any model is loaded, then run and written."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightningdrag.photo import (
    MAX_BYTES,
    MAX_PIXELS,
    Photo,
    PhotoError,
    encode_photo,
    format_of,
    open_photo,
    save_photo,
)
from lightningdrag.request import EditRequest

if TYPE_CHECKING:
    from lightningdrag.editor import DragEditor

STREAM = "-"
"""Stands for stdin or stdout."""


@dataclass(frozen=True)
class Job:
    """A photo, what to do with it, and where the results go.

    Attributes:
        photo: the opened photo.
        request: checked against the photo.
        outputs: one file name for each candidate, or ("-",) for stdout.
    """

    photo: Photo
    request: EditRequest
    outputs: tuple[str, ...]


def make_job(
    photo_name: str,
    request: EditRequest,
    output: str | None,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> Job:
    """Open the photo and check everything that can be checked without a model.

    Args:
        photo_name: a path, or "-" for stdin.
        output: a path, "-" for stdout, or None: NAME.dragged.EXT beside the photo, stdout for stdin.

    Raises:
        ValueError: what is wrong with photo, request or output.
    """
    source = sys.stdin.buffer.read(max_bytes + 1) if photo_name == STREAM else photo_name
    photo = open_photo(source, max_bytes=max_bytes, max_pixels=max_pixels)
    request.fitted(photo.width, photo.height)
    outputs = _outputs(photo_name, output or _default_output(photo_name), request.num_images)
    image = None if photo_name == STREAM else photo_name
    return Job(photo, replace(request, image=image), outputs)


@dataclass(frozen=True)
class Done:
    """A job that was run.

    Attributes:
        job: what was asked.
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
    lost: list[str] = []
    written: list[Path] = []
    try:
        for name, photo in zip(job.outputs, result.photos, strict=True):
            if name == STREAM:
                lost += _write_stdout(photo)
            else:
                lost += save_photo(photo, name)
                written.append(Path(name))
    except BaseException:  # Ctrl-C, too
        for path in written:
            path.unlink(missing_ok=True)
        raise
    warnings = tuple(dict.fromkeys((*result.warnings, *lost)))
    return Done(job, model, result.request, result.seconds, warnings)


def _write_stdout(photo: Photo) -> list[str]:
    data, lost = encode_photo(photo, "PNG")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return lost


def check_target(path: Path, photo_name: str) -> None:
    """Refuse a file that cannot be written, or that would overwrite the photo, before any work is done.

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
    if photo_name != STREAM and path.exists() and path.samefile(photo_name):
        raise PhotoError(f"{path} would overwrite the photo; name another file")


def writable_ending(photo_name: str) -> str:
    """The photo's own ending, or ".png" if its format can be read but not written."""
    try:
        format_of(photo_name)
    except PhotoError:
        return ".png"
    return Path(photo_name).suffix


def _default_output(photo_name: str) -> str:
    if photo_name == STREAM:
        return STREAM
    path = Path(photo_name)
    return str(path.with_name(f"{path.stem}.dragged{writable_ending(photo_name)}"))


def _outputs(photo_name: str, output: str, count: int) -> tuple[str, ...]:
    if output == STREAM:
        if count > 1:
            raise PhotoError(f"{count} candidates cannot go to stdout; name a file with -o")
        return (STREAM,)
    format_of(output)
    path = Path(output)
    paths = [path]
    if count > 1:
        paths = [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(count)]
    for each in paths:
        check_target(each, photo_name)
    return tuple(map(str, paths))
