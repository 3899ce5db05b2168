"""Pickles of plain data from outside: read without running them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

MAX_BYTES = 256 * 2**20

_ALLOWED = {
    ("_codecs", "encode"),  # how older pickles spell bytes
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.{module}", name)  # numpy 1 and 2
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def load_plain(path: Path) -> Any:
    """Containers, strings, numbers and numpy arrays from a pickle; nothing else can be built.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, damaged, or asks for anything but plain data.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes; at most {MAX_BYTES} are read")
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except (OSError, KeyboardInterrupt):
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{path} is no pickle of plain data and was refused: {error}") from error
