"""The built-in model's weights: one safetensors file of half-precision tensors, in the package."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from lightningdrag.checkpoints.tensors import load_strict, load_tensors, save_half
from lightningdrag.models.builtin.model import BuiltinModel
from lightningdrag.models.builtin.network import BuiltinNetwork

WEIGHTS = Path(__file__).parent.parent / "weights" / "builtin.safetensors"


def load_builtin(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> BuiltinModel:
    """Load the built-in model.

    Args:
        path: weights written by :func:`save_builtin`; None takes those in the package.
        dtype: what the networks compute in; geometry stays in float32.

    Raises:
        CheckpointError: no such file, a damaged one, or tensors that do not fit (names listed).
    """
    network = BuiltinNetwork()
    load_weights(network, Path(path) if path is not None else WEIGHTS)
    for layer in network.modules():
        # Autocast would cast these anew for every edit, to the same numbers.
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.to(dtype)
    return BuiltinModel(network.to(device), dtype)


def load_weights(network: BuiltinNetwork, path: Path) -> None:
    """Fill a network from a file; every tensor must be there and fit."""
    load_strict(network, load_tensors(path), str(path))


def grow_weights(network: BuiltinNetwork, path: Path) -> None:
    """Fill what a file has of a network, so that a new design starts from an older one's weights.

    Layers that the file lacks stay as they are, which for a new one is the identity, and what the
    network lacks is left out; a warning names the number of both.

    Raises:
        CheckpointError: no such file, a damaged one, or a tensor of the wrong shape.
    """
    tensors, own = load_tensors(path), network.state_dict()
    missing, unexpected = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    if missing or unexpected:
        warnings.warn(
            f"{path} is of another design: {len(missing)} tensors begin anew, {len(unexpected)} are left out",
            stacklevel=2,
        )
    kept = {name: tensor for name, tensor in tensors.items() if name in own}
    load_strict(network, own | kept, str(path))


def save_builtin(network: BuiltinNetwork, path: Path, facts: Mapping[str, object]) -> None:
    """Write a network's weights in float16, with facts about the run in the file's header."""
    save_half(network.state_dict(), path, facts)
