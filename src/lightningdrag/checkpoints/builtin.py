"""The built-in model's weights: one safetensors file of half-precision tensors, in the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from lightningdrag.checkpoints.tensors import load_strict, load_tensors
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


def save_builtin(network: BuiltinNetwork, path: Path, facts: Mapping[str, object]) -> None:
    """Write a network's weights in float16, with facts about the run in the file's header."""
    tensors = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in network.state_dict().items()
    }
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {key: str(value) for key, value in facts.items()})
    partial.replace(path)
