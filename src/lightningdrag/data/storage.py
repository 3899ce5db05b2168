"""Files by path or by fsspec URL (``s3://...``, ``memory://...``): one spelling for both.

A place is a string. Local files are written beside and renamed; object stores show an object only once it
is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from lightningdrag.files import write_atomically

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


WAITS = (1.0, 5.0, 25.0)
"""Seconds before what could not be read is tried again: what is behind a network fails at times."""


class Unreachable(OSError):
    """What is behind a URL could not be read just now; of the file itself this says nothing."""


def is_url(place: str) -> bool:
    """Whether a place is reached through fsspec."""
    return "://" in place


def join(folder: str, name: str) -> str:
    """The place of ``name`` in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder) / name)


def exists(place: str) -> bool:
    """Whether there is a file or folder."""
    if is_url(place):
        system, path = _system(place)
        return bool(system.exists(path))
    return Path(place).exists()


def size(place: str) -> int:
    """Bytes in a file."""
    if is_url(place):
        system, path = _system(place)
        return int(system.size(path))
    return Path(place).stat().st_size


def read(place: str) -> bytes:
    """All of a file.

    Raises:
        Unreachable: a URL's file system failed, whatever it calls that.
        OSError: it is not there, or may not be read.
    """
    if is_url(place):
        system, path = _system(place)
        try:
            return bytes(system.cat_file(path))
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # each file system has its own: an answer of 503 is aiohttp's
            raise unreachable(place, error) from error
    return Path(place).read_bytes()


def sha256(place: str) -> str:
    """The checksum of a file of any size."""
    total = hashlib.sha256()
    with opened(place) as file, Path(file).open("rb") if isinstance(file, str) else file as content:
        while block := content.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def read_range(place: str, offset: int, count: int) -> bytes:
    """``count`` bytes of a file.

    Raises:
        OSError: they cannot be read, or not all of them came; :class:`Unreachable` as :func:`read` does.
    """
    if is_url(place):
        system, path = _system(place)
        try:
            content = bytes(system.cat_file(path, start=offset, end=offset + count))
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:
            raise unreachable(place, error) from error
        if len(content) < count and offset + count <= system.size(path):
            raise OSError(f"of {place}, {len(content)} bytes came instead of {count}")
        return content
    with Path(place).open("rb") as file:
        file.seek(offset)
        return file.read(count)


def unreachable(place: str, error: Exception) -> Unreachable:
    """What a URL's file system said, with the place."""
    return Unreachable(f"{place} cannot be read: {type(error).__name__}: {error}")


def write(place: str, content: bytes) -> None:
    """Write a file whole or not at all; its folder is made if it is not there."""
    if is_url(place):
        system, path = _system(place)
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.pipe_file(path, content)
    else:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, content)


def remove(folder: str) -> None:
    """Delete a folder with all in it."""
    if is_url(folder):
        system, path = _system(folder)
        system.rm(path, recursive=True)
        return
    shutil.rmtree(folder)


@contextmanager
def opened(place: str) -> Iterator[str | IO[bytes]]:
    """What a decoder can open: a local path as it is, a URL as a file that seeks."""
    if not is_url(place):
        yield place
        return
    system, path = _system(place)
    with system.open(path, "rb") as file:
        yield file


class Found(NamedTuple):
    """A file: where it is, its path within the folder that was searched, and its bytes."""

    place: str
    name: str
    size: int


def list_files(place: str, suffixes: Collection[str], unreadable: list[str] | None = None) -> list[Found]:
    """The files of a folder and the folders in it, by suffix; or the one file that the place is.

    Args:
        unreadable: folders that may not be read are added to it.

    Returns:
        The files by place.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if is_url(place):
        system, path = _system(place)
        if not system.exists(path):
            raise FileNotFoundError(f"{place} does not exist")
        if system.isfile(path):
            return [Found(place, PurePosixPath(path).name, int(system.size(path)))]
        scheme, root = place.partition("://")[0], path.rstrip("/") + "/"
        sizes = {name: facts["size"] for name, facts in system.find(path, detail=True).items()}
        return sorted(
            Found(f"{scheme}://{name}", name.removeprefix(root), sizes[name])
            for name in sizes
            if _suffix(name) in suffixes
        )
    if not Path(place).exists():
        raise FileNotFoundError(f"{place} does not exist")
    if not Path(place).is_dir():
        return [Found(place, Path(place).name, size(place))]
    denied: list[Any] = [] if unreadable is None else unreadable
    files = []
    for folder, _, names in os.walk(place, onerror=lambda error: denied.append(str(error.filename))):
        for name in names:
            file = Path(folder) / name
            if _suffix(name) in suffixes and file.is_file():
                files.append(Found(str(file), file.relative_to(place).as_posix(), file.stat().st_size))
    return sorted(files)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _system(place: str) -> tuple[AbstractFileSystem, str]:
    """A URL's file system and the path in it.

    Raises:
        ValueError: fsspec knows no such protocol, or its package is not installed.
    """
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(place)
    except ImportError as error:  # "Install s3fs to access S3"
        raise ValueError(f"{place} cannot be opened here: {error}") from error
    return system, str(path)
