"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write beside ``path``, then rename: a reader never sees half a file, an error leaves nothing.

    Raises:
        OSError: naming ``path``, if the folder is missing or read-only or the disk is full.
    """
    with written_together() as write:
        write(path, data)


@contextmanager
def written_together() -> Iterator[Callable[[str | os.PathLike[str], bytes], None]]:
    """Files that take their names together: ``write(path, data)`` writes beside ``path``, the end renames.

    Until then nothing that was there before is touched, and an error leaves all of it as it was.

    Raises:
        OSError: naming the path, as :func:`write_atomically`.
    """
    parts: list[tuple[Path, Path]] = []

    def write(path: str | os.PathLike[str], data: bytes) -> None:
        path = Path(path)
        with _naming(path):
            handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
            part = Path(name)
            parts.append((part, path))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            part.chmod(0o666 & ~_umask())  # mkstemp makes private files; the result is an ordinary one

    try:
        yield write
        for part, path in parts:
            with _naming(path):
                part.replace(path)
    finally:
        for part, _ in parts:  # those that are renamed are no longer here
            part.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an error name the file that was wanted instead of the one beside it."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(path)) from error


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
