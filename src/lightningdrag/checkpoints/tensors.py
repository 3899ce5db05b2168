"""Weight files that nobody vouches for: read without running them, loaded only where they fit exactly."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MAX_PICKLE_BYTES = 4 * 2**30
"""Bound on a pickle's size, unpacked; the largest released one has 0.3 GB."""
MAX_NESTING = 4
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
NAMES_SHOWN = 5
WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")
"""What diffusers and transformers call a file of weights."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, is no plain set of tensors, or does not fit its model."""


def weights_file(folder: Path) -> Path:
    """The file of weights in a folder of diffusers' or transformers' kind.

    Raises:
        CheckpointError: there is none.
    """
    names = [f"{name}{end}" for end in (".safetensors", ".fp16.safetensors", ".bin") for name in WEIGHTS]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"missing file: one of {', '.join(names)} in {folder}")


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a weight file as tensors on the CPU.

    ``.safetensors`` are read as they are; ``.bin`` and ``.pt`` are pickles and are unpacked with
    ``weights_only=True``, which runs no code. Nested dicts are flattened: ``{"a": {"b": t}}`` -> ``"a.b"``.

    Raises:
        CheckpointError: no such file, an unknown kind of file, a damaged one, one that is too large, or
            one that holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"missing file: {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    if path.suffix in PICKLE_SUFFIXES:
        return dict(_flatten(_unpickle(path), path))
    raise CheckpointError(f"{path} is no weight file: expected .safetensors, .bin or .pt")


def check_unpacked(path: Path) -> None:
    """Refuse a pickle of tensors that unpacks to more than ``MAX_PICKLE_BYTES``.

    Raises:
        CheckpointError: it does.
    """
    if (size := _unpacked_size(path)) > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{path} unpacks to {size} bytes; the limit is {MAX_PICKLE_BYTES}")


def _unpickle(path: Path) -> Any:
    try:
        check_unpacked(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # damaged files fail in many ways
        # torch's message begins with the advice to load it without weights_only: the last thing to do.
        lines = (line.strip() for line in str(error).splitlines() if "weights_only" not in line)
        reason = next(filter(None, lines), type(error).__name__)
        raise CheckpointError(f"{path} is no plain state dict and was not loaded: {reason}") from error


def _unpacked_size(path: Path) -> int:
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    return size


def _flatten(value: Any, path: Path, prefix: str = "", depth: int = 0) -> Iterable[tuple[str, Tensor]]:
    if not isinstance(value, Mapping) or depth > MAX_NESTING:
        where = f" at {prefix[:-1]!r}" if prefix else ""
        raise CheckpointError(
            f"{path} is no plain state dict: expected named tensors, found {type(value).__name__}{where}"
        )
    for name, item in value.items():
        if isinstance(item, Tensor):
            yield f"{prefix}{name}", item
        else:
            yield from _flatten(item, path, f"{prefix}{name}.", depth + 1)


def save_half(tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, object]) -> None:
    """Write tensors in float16, with facts in the file's header; beside, then renamed."""
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    save_file(half, partial, {key: str(value) for key, value in facts.items()})
    partial.replace(path)


def load_strict(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    what: str,
    file_name: Callable[[str], str] = str,
) -> None:
    """Load a module's whole state, or raise and leave it as it was.

    Args:
        module: takes the tensors, in its own dtype and on its own device.
        tensors: as from :func:`load_tensors`.
        what: the file, for the error.
        file_name: the name in the file of a tensor of the module, where the two differ.

    Raises:
        CheckpointError: tensors are missing, are too many, or have a wrong shape; names the first few.
    """
    own = {file_name(name): (name, tensor) for name, tensor in module.state_dict().items()}
    check_names(
        what,
        missing=own.keys() - tensors.keys(),
        unexpected=tensors.keys() - own.keys(),
        misshapen=(
            (name, tuple(tensors[name].shape), tuple(tensor.shape))
            for name, (_, tensor) in own.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ),
    )
    module.load_state_dict({name: tensors[key] for key, (name, _) in own.items()})


def check_names(
    what: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    misshapen: Iterable[tuple[str, Any, Any]],
) -> None:
    """Raise CheckpointError if any of the three lists holds something; names the first few of each.

    Args:
        what: the file, for the error.
        missing: names that the model has and the file lacks.
        unexpected: names that the file has and the model lacks.
        misshapen: (name, shape in the file, shape in the model).
    """
    shapes = (f"{name} ({tuple(found)}, expected {tuple(wanted)})" for name, found, wanted in misshapen)
    problems = [
        f"{label}: {_first_few(sorted(names))}"
        for label, names in (
            ("missing tensors", list(missing)),
            ("unexpected tensors", list(unexpected)),
            ("tensors of the wrong shape", list(shapes)),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"{what} does not fit the model. {'; '.join(problems)}")


def _first_few(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
