"""The models that can be measured: all that can be loaded, and SD 1.5 with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightningdrag.checkpoints.catalogue import check_name
from lightningdrag.checkpoints.hub import choose_device, choose_dtype, load_model

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


def model_to_measure(name: str, device: str = "auto", dtype: str = "auto") -> DragModel:
    """Load a model, or make one with random weights.

    Raises:
        ModelError: as ``checkpoints.hub.load_model``.
    """
    if name != RANDOM:
        return load_model(name, device=device, dtype=dtype)
    from lightningdrag.bench.random_sd15 import random_sd15
    from lightningdrag.models.sd15 import SD15Model

    place = choose_device(device)
    return SD15Model(random_sd15(choose_dtype(dtype, place)).to(place))
