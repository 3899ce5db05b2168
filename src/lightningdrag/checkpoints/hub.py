"""Models loaded by name, from a folder or file, or from the hub; the device and dtype they get."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lightningdrag.checkpoints.catalogue import (
    TINY_DECODER,
    ModelError,
    check_name,
    check_options,
    model_snapshot,
    released_folders,
    snapshot,
)

if TYPE_CHECKING:
    import torch

    from lightningdrag.models.protocol import DragModel
    from lightningdrag.models.sd15 import SD15Model
    from lightningdrag.pipeline import LightningDragPipeline

DTYPES = ("auto", "float32", "bfloat16", "float16")


def check_dtype(dtype: str) -> None:
    """Refuse unknown dtypes, without importing torch.

    Raises:
        ModelError: naming the known ones.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")


def load_model(
    name_or_path: str,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    options: Collection[str] = (),
) -> DragModel:
    """Load a model by name, from a folder or file, or from the hub.

    Args:
        name_or_path: one of :data:`MODELS`; a folder that ``LightningDragPipeline.save_pretrained``
            wrote; a ``.safetensors`` file (or a folder with one) of the built-in kind; a hub id of either.
        device: "auto" (CUDA, else MPS, else CPU) or a torch device or its name, such as "cuda:1".
        dtype: one of :data:`DTYPES`, or torch's own; "auto" chooses for the device (:func:`choose_dtype`).
        options: names of :data:`~lightningdrag.checkpoints.catalogue.OPTIONS`, for SD 1.5 alone. On a CPU
            it runs with "low-memory" unless "resident" is asked for: its files must then stay where they
            are while it is used. On a GPU it is the other way round.

    Raises:
        ModelError: unknown name, device, dtype or option; weights that are not here.
        FetchError: a model on the hub, or the tiny decoder, could not be downloaded.
        ModuleNotFoundError: "low-memory" was asked for and accelerate is not installed.
        ValueError: weights with missing, extra or wrongly shaped tensors.
    """
    kind = check_name(name_or_path)
    options = (options,) if isinstance(options, str) else options
    dtype = str(dtype).removeprefix("torch.")
    check_dtype(dtype)
    check_options(options)
    place = choose_device(str(device))
    folder = None
    if kind != "name":
        folder = Path(name_or_path) if kind == "path" else model_snapshot(name_or_path)
    if name_or_path == "sd15" or (folder is not None and (folder / "model_index.json").is_file()):
        return _load_sd15(folder, place, choose_dtype(dtype, place), options)
    if options:
        raise ModelError(f"{name_or_path} has no option {', '.join(options)}; options are for SD 1.5")
    if name_or_path == "warp":
        from lightningdrag.models.warp import WarpModel

        return WarpModel()
    from lightningdrag.checkpoints.builtin import load_builtin

    return load_builtin(_builtin_file(folder), device=place, dtype=choose_dtype(dtype, place))


def _load_sd15(
    folder: Path | None, device: torch.device, dtype: torch.dtype, options: Collection[str]
) -> DragModel:
    """The paper's model from a saved folder, or from the released files."""
    from lightningdrag.checkpoints.saved import load_saved
    from lightningdrag.pipeline import LightningDragPipeline

    low_memory = _low_memory(device, options)
    if folder is not None:
        pipeline = load_saved(folder, dtype, low_memory and device.type == "cpu")
        pipeline.place(device, low_memory)
    else:
        pipeline = LightningDragPipeline.from_released(
            **released_folders(), dtype=dtype, device=device, low_memory=low_memory
        )
    return sd15_model(pipeline, options)


def _low_memory(device: torch.device, options: Collection[str]) -> bool:
    """Is it asked for, or what the device does by itself?

    On a CPU it takes half of the memory for a second or two a photo. It needs accelerate, which the lean
    install lacks; a saved folder is then loaded without.
    """
    if device.type == "cpu" and "resident" not in options and find_spec("accelerate") is not None:
        return True
    return "low-memory" in options


def sd15_model(pipeline: LightningDragPipeline, options: Collection[str] = ()) -> SD15Model:
    """A loaded pipeline behind the editor's protocol, run as the options say.

    Raises:
        FetchError: the tiny decoder is not here and could not be downloaded.
    """
    from lightningdrag.allocator import give_back
    from lightningdrag.models.deep_cache import DeepCache
    from lightningdrag.models.sd15 import SD15Model

    tiny = None
    if "tiny-decoder" in options:
        from diffusers import AutoencoderTiny

        from lightningdrag.checkpoints.released import load_part

        folder = snapshot(TINY_DECODER.repo, TINY_DECODER.files)
        tiny = load_part(AutoencoderTiny, folder, pipeline.unet.dtype).to(pipeline._execution_device)
    if "deep-cache" in options:
        DeepCache(pipeline.unet)
    if "compile" in options:
        pipeline.unet.compile()
    give_back()
    return SD15Model(pipeline, tiny)


def _builtin_file(path: Path | None) -> Path | None:
    """The one file of weights of the built-in kind; None is the package's own."""
    if path is None:
        return None
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise ModelError(
            f"{path} holds no model: expected model_index.json (LightningDragPipeline.save_pretrained), "
            f"or one .safetensors file of the built-in kind, found {len(files)}"
        )
    return files[0]


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
