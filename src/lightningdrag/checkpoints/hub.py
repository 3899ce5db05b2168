"""Models loaded by name, from a folder or file, or from the hub; the device and dtype they get."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightningdrag.checkpoints.catalogue import ModelError, check_name, released_folders, snapshot

if TYPE_CHECKING:
    import torch

    from lightningdrag.models.protocol import DragModel

DTYPES = ("auto", "float32", "bfloat16", "float16")


def check_dtype(dtype: str) -> None:
    """Refuse unknown dtypes, without importing torch.

    Raises:
        ModelError: naming the known ones.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")


def load_model(name_or_path: str, device: str = "auto", dtype: str = "auto") -> DragModel:
    """Load a model by name, from a folder or file, or from the hub.

    Args:
        name_or_path: one of :data:`MODELS`; a folder that ``LightningDragPipeline.save_pretrained``
            wrote; a ``.safetensors`` file (or a folder with one) of the built-in kind; a hub id of either.
        device: "auto" (CUDA, else MPS, else CPU) or a torch device such as "cuda:1".
        dtype: one of :data:`DTYPES`; "auto" chooses for the device (:func:`choose_dtype`).

    Raises:
        ModelError: unknown name, device or dtype; weights that are not here.
        ValueError: weights with missing, extra or wrongly shaped tensors.
    """
    kind = check_name(name_or_path)
    check_dtype(dtype)
    place = choose_device(device)
    if kind == "name":
        return _load_named(name_or_path, place, dtype)
    folder = Path(name_or_path) if kind == "path" else snapshot(name_or_path)
    return _load_folder(folder, place, dtype)


def _load_named(name: str, device: torch.device, dtype: str) -> DragModel:
    if name == "warp":
        from lightningdrag.models.warp import WarpModel

        return WarpModel()
    if name == "builtin":
        from lightningdrag.checkpoints.builtin import load_builtin

        return load_builtin(device=device, dtype=choose_dtype(dtype, device))
    from lightningdrag.models.sd15 import SD15Model
    from lightningdrag.pipeline import LightningDragPipeline

    pipeline = LightningDragPipeline.from_released(
        **released_folders(), dtype=choose_dtype(dtype, device), device=device
    )
    return SD15Model(pipeline)


def _load_folder(path: Path, device: torch.device, dtype: str) -> DragModel:
    if (path / "model_index.json").is_file():
        from lightningdrag.checkpoints.saved import load_saved
        from lightningdrag.models.sd15 import SD15Model

        return SD15Model(load_saved(path, choose_dtype(dtype, device)).to(device))
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise ModelError(
            f"{path} holds no model: expected model_index.json (LightningDragPipeline.save_pretrained), "
            f"or one .safetensors file of the built-in kind, found {len(files)}"
        )
    from lightningdrag.checkpoints.builtin import load_builtin

    return load_builtin(files[0], device=device, dtype=choose_dtype(dtype, device))


def choose_device(device: str) -> torch.device:
    """ "auto" is CUDA, else MPS, else CPU.

    Raises:
        ModelError: a device that torch does not know or that is not here.
    """
    import torch

    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    here = [name for name in ("cuda", "mps", "cpu") if found[name]]
    if device == "auto":
        return torch.device(here[0])
    kind, _, index = device.partition(":")
    known = kind in here and (not index or index.isdecimal())
    if not known or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise ModelError(f"no device {device!r}; here: auto, {', '.join(here)}")
    return torch.device(device)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 where the device computes in it, else float16 on GPUs and float32 on CPUs."""
    import torch

    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Does the CPU multiply in bfloat16 (AMX or AVX512-BF16)? Elsewhere it is slower than float32."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # no Linux
        return False
    return bool(flags & {"amx_bf16", "avx512_bf16"})
