"""The models that can be measured: all that can be loaded, and SD 1.5 with random weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from lightningdrag.checkpoints.catalogue import ModelError, check_name
from lightningdrag.checkpoints.hub import choose_device, choose_dtype, load_model, sd15_model

if TYPE_CHECKING:
    from lightningdrag.models.protocol import DragModel

RANDOM = "sd15-random"


def check_model(name: str) -> None:
    """Refuse what can be no model, without importing torch.

    Raises:
        ModelError: with the nearest known name.
    """
    if name != RANDOM:
        check_name(name)


def model_to_measure(
    name: str, device: str = "auto", dtype: str = "auto", options: Collection[str] = ()
) -> DragModel:
    """Load a model, or make one with random weights; see ``checkpoints.hub.load_model``.

    Random weights are in no file, and resident on every device.

    Raises:
        ModelError: as ``checkpoints.hub.load_model``; random weights with "low-memory".
    """
    if name != RANDOM:
        return load_model(name, device=device, dtype=dtype, options=options)
    if "low-memory" in options:
        raise ModelError(f"{RANDOM} has no files to read; benchmarks/sd15_full_size.py writes some first")
    from lightningdrag.bench.random_sd15 import random_sd15

    place = choose_device(device)
    return sd15_model(random_sd15(choose_dtype(dtype, place)).to(place), options)
