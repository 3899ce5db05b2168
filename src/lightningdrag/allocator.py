"""Memory that a computation frees and soon needs again stays with the process meanwhile."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # M_TRIM_THRESHOLD, ... of glibc's malloc.h
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}
_AFTER = {_TRIM_THRESHOLD: 64 * 2**20, _MMAP_THRESHOLD: 32 * 2**20, _MMAP_MAX: 65536}
"""What glibc's thresholds grow to by themselves; once one is set they stay, and its first values are slow."""

_lock = threading.Lock()
_inside = 0


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within, what numpy and torch free on the CPU is kept for what they allocate next.

    glibc gives large blocks back to the system at once and gets them anew page by page; for feature maps
    of many megabytes that takes longer than what is computed on them. At the end of the outermost use,
    free memory goes back. In threads other than the first glibc keeps blocks below 64 MiB only. Without
    glibc nothing is changed.
    """
    global _inside
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _inside += 1
        _set(libc, _KEEP)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _set(libc, _AFTER)
                libc.malloc_trim(0)


def give_back() -> None:
    """Give free memory back to the system now, between two computations that need different blocks."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def _set(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)
