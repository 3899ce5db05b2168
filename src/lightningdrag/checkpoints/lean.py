"""Networks loaded with little memory: weights come out of their file a few at a time, or stay in it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from lightningdrag.checkpoints.tensors import CheckpointError, check_names, weights_file

TOGETHER = 64
"""Tensors read before the file is opened anew: what was read of a mapped file counts as memory until then."""


def load_lean(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A diffusers model on the CPU; loading it takes little more memory than it keeps.

    Args:
        kind: the model's class.
        folder: ``config.json`` and one ``.safetensors`` file with the model's own names.
        dtype: of the weights.

    Raises:
        CheckpointError: a file that is missing, damaged, or does not fit; it is named.
        ModuleNotFoundError: accelerate is not installed.
    """
    network, path = _empty(kind, folder, dtype)
    names = iter(network.state_dict())
    while some := list(islice(names, TOGETHER)):
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).to(dtype, copy=True) for name in some}
        network.load_state_dict(tensors, strict=False, assign=True)
    return network.requires_grad_(False)


def load_on_disk(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A diffusers or transformers model on the CPU whose weights are read, layer by layer, whenever it runs.

    The file must stay while the model is used. Otherwise as :func:`load_lean`.
    """
    from accelerate.hooks import attach_align_device_hook
    from accelerate.utils import OffloadedWeightsLoader

    network, path = _empty(kind, folder, dtype)
    place = {"safetensors_file": str(path), "dtype": str(dtype).removeprefix("torch.")}
    index = {name: {**place, "weight_name": name} for name in network.state_dict()}
    weights = OffloadedWeightsLoader(index=index)
    attach_align_device_hook(network, execution_device="cpu", offload=True, weights_map=weights)
    return network


def _empty(kind: Any, folder: Path, dtype: torch.dtype) -> tuple[Any, Path]:
    """The network without data, and the file that fits it to the last tensor."""
    from accelerate import init_empty_weights

    if not (folder / "config.json").is_file():
        raise CheckpointError(f"missing file: {folder / 'config.json'}")
    path = weights_file(folder)
    try:
        with init_empty_weights():
            if issubclass(kind, PreTrainedModel):
                network = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
            else:
                network = kind.from_config(kind.load_config(folder, local_files_only=True))
    except Exception as error:  # damaged files fail in many ways
        raise CheckpointError(f"{folder / 'config.json'} makes no {kind.__name__}: {error}") from error
    _check_fit(network, path)
    return nn.Module.to(network, dtype).eval(), path


def _check_fit(network: nn.Module, path: Path) -> None:
    """Compare names and shapes with a safetensors file's header."""
    try:
        with safe_open(path, "pt") as file:
            # Position ids are a range; older files hold it, and ordinary loading passes over it, too.
            names = [name for name in file.keys() if not name.endswith(".position_ids")]  # noqa: SIM118
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    check_names(
        str(path),
        missing=own.keys() - shapes.keys(),
        unexpected=shapes.keys() - own.keys(),
        misshapen=(
            (name, shapes[name], shape) for name, shape in own.items() if shapes.get(name, shape) != shape
        ),
    )
