"""Pickles of plain data from outside: read without running them.

Arrays are put together here from their bytes. numpy's own way back from a pickle would take an array of
objects whose pointers the file chooses.
"""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 256 * 2**20
_NUMBERS = re.compile(r"[biuf][1248]")


class _Kind:
    """A dtype as a pickle gives it: kind and size, then its byte order as a state."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not _NUMBERS.fullmatch(code):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}")
        self._dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        self._dtype = self._dtype.newbyteorder(order if order in "<>" else "|")

    def array(self, content: bytes, shape: tuple[int, ...], order: Any = "C") -> np.ndarray:
        if len(content) != math.prod(shape) * self._dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(content)} bytes are no array of shape {shape}")
        return np.frombuffer(content, self._dtype).reshape(shape, order=order)


class _Array:
    """An array as a pickle gives it: empty, then its content as a state."""

    def __init__(self, *_: object) -> None:
        self.content = np.zeros(0)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Kind, bool, bytes]) -> None:
        _, shape, kind, fortran, content = state
        self.content = kind.array(content, shape, "F" if fortran else "C")


def _from_buffer(content: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> np.ndarray:
    return kind.array(content, shape, order)


def _scalar(kind: _Kind, content: bytes) -> Any:
    return kind.array(content, (1,))[0]


def _bytes(text: str, codec: str) -> bytes:
    """How older pickles spell bytes. With other codecs a few of them would fill the memory."""
    if codec != "latin1":
        raise pickle.UnpicklingError(f"it has bytes in {codec!r}")
    return text.encode(codec)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _bytes,
    ("numpy", "ndarray"): None,  # named as what an array is to be, never called
    ("numpy", "dtype"): _Kind,
}
for _core in ("core", "_core"):  # numpy 1 and 2
    _ALLOWED[f"numpy.{_core}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"numpy.{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"numpy.{_core}.numeric", "_frombuffer"] = _from_buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]


def _unwrapped(value: Any, known: dict[int, Any]) -> Any:
    """With the arrays themselves in place of what stood for them.

    Args:
        known: what each container came to, by its id: one that is met again is not gone through again, or a
            few bytes of lists of lists would take for ever.
    """
    if isinstance(value, _Array):
        return value.content
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) not in known:
        if isinstance(value, dict):
            known[id(value)] = {key: _unwrapped(item, known) for key, item in value.items()}
        else:
            known[id(value)] = type(value)(_unwrapped(item, known) for item in value)
    return known[id(value)]


def load_plain(path: Path) -> Any:
    """Containers, strings, numbers and numpy arrays of numbers from a pickle; nothing else can be built.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, damaged, or asks for anything but plain data.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes; at most {MAX_BYTES} are read")
    try:
        with path.open("rb") as file:
            return _unwrapped(_PlainUnpickler(file).load(), {})
    except (OSError, KeyboardInterrupt):
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{path} is no pickle of plain data and was refused: {error}") from error
