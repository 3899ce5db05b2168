"""Files written whole or not at all."""

from __future__ import annotations

import os
import secrets
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
def written_together(*, anew: bool = False) -> Iterator[Callable[[str | os.PathLike[str], bytes], None]]:
    """Files that take their names together: ``write(path, data)`` writes beside ``path``, the end renames.

    Until then nothing that was there before is touched, and an error leaves all of it as it was. One of the
    renaming itself may come when the first files have replaced others.

    Args:
        anew: take no name that another file has, even if it came at the same time.

    Raises:
        OSError: naming the path, as :func:`write_atomically`; with ``anew`` a FileExistsError, too.
    """
    parts: list[tuple[Path, Path]] = []
    taken: list[Path] = []

    def write(path: str | os.PathLike[str], data: bytes) -> None:
        path = Path(path)
        with _naming(path):
            part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")
            with part.open("xb") as file:  # not one of tempfile's, which are private
                parts.append((part, path))
                file.write(data)

    try:
        yield write
        for part, path in parts:
            with _naming(path):
                if anew:
                    _take(part, path)
                    taken.append(path)
                else:
                    part.replace(path)
    except BaseException:
        for path in taken:
            path.unlink(missing_ok=True)
        raise
    finally:
        for part, _ in parts:  # those that are renamed are no longer here
            part.unlink(missing_ok=True)


def _take(part: Path, path: Path) -> None:
    """Give a file a name that none has."""
    try:
        os.link(part, path)  # whole from its first moment on, and unlike a rename it replaces nothing
    except FileExistsError:
        raise
    except OSError:  # cards and sticks (FAT) have no links
        path.touch(exist_ok=False)
        try:
            part.replace(path)
        except BaseException:
            path.unlink()
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an error name the file that was wanted instead of the one beside it."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(path)) from error
