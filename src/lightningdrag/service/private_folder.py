"""A temporary folder for the owner's eyes only; one whose process was killed is removed by the next."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where it is left behind
    fcntl = None  # type: ignore[assignment]

PREFIX, LOCK = "lightningdrag-", ".lock"
_held: list[BinaryIO] = []
"""Locks of this process, until it ends."""


def private_folder() -> Path:
    """A new one. Those that nobody holds any more go."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = (folder / LOCK).open("wb")
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():  # else another process took it for abandoned in between
            _held.append(lock)
            return folder
        lock.close()


def _remove_abandoned(parent: Path) -> None:
    if fcntl is None:
        return
    for path in parent.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with path.open("rb") as lock:  # another user's cannot be opened
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:  # it is held, or just gone
            continue
