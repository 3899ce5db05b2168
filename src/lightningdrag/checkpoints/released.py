"""The paper's released files, as they come: local folders or hub names.

<base>/             an SD 1.5 inpainting checkpoint: unet/ text_encoder/ tokenizer/ scheduler/
<vae>/              AutoencoderKL
<ip_adapter>/       image_encoder/, ip-adapter_sd15.safetensors or .bin
<lightning_drag>/   appearance_encoder/, point_embedding/point_embedding.pt, lightning-drag-sd15-attn.bin
<lcm_lora>/         pytorch_lora_weights.safetensors
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LCMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection, PreTrainedModel

from lightningdrag.checkpoints.catalogue import SD15_PARTS, check_name, snapshot
from lightningdrag.checkpoints.lean import load_lean, load_on_disk
from lightningdrag.checkpoints.tensors import (
    PICKLE_SUFFIXES,
    WEIGHTS,
    CheckpointError,
    check_names,
    check_unpacked,
    load_strict,
    load_tensors,
    weights_file,
)
from lightningdrag.models.appearance import AppearanceEncoder
from lightningdrag.models.attention import attention_blocks
from lightningdrag.models.image_prompt import ImagePrompt
from lightningdrag.models.point_encoder import PointEncoder

RELEASED_BASE_CHANNELS = 16
MAX_BASE_CHANNELS = 64
"""Bound on the point embedding's width, which its file tells."""
LOW_MEMORY = {"unet": load_lean, "image_encoder": load_on_disk, "appearance_encoder": load_on_disk}
"""How the large networks are loaded where memory is short: those that look at a source once stay on disk.

Files of other kinds than safetensors cannot be read a few tensors at a time; they are loaded whole.
"""
HUB_FILES = {part.role: part.files for part in SD15_PARTS}


def load_components(
    base: str | Path,
    vae: str | Path,
    ip_adapter: str | Path,
    lightning_drag: str | Path,
    dtype: torch.dtype = torch.float32,
    low_memory: bool = False,
) -> dict[str, Any]:
    """Load what :class:`lightningdrag.pipeline.LightningDragPipeline` is made of, on the CPU.

    Args:
        base, vae, ip_adapter, lightning_drag: local folders laid out as above, or hub names
            ``owner/name`` (fetched once; with ``HF_HUB_OFFLINE=1`` only what is here is used).
        dtype: of all the weights.
        low_memory: see :data:`LOW_MEMORY`.

    Raises:
        CheckpointError: a folder or file that is missing, damaged, or does not fit; it is named.
        ModelError, FetchError: neither a folder nor a hub name; the hub cannot be reached.
    """
    drag_folder = resolve(lightning_drag, "lightning_drag")
    parts = load_base(base, vae, ip_adapter, dtype, low_memory)
    appearance_folder = drag_folder / "appearance_encoder"
    return {
        **parts,
        "appearance_encoder": load_network(
            "appearance_encoder", AppearanceEncoder, appearance_folder, dtype, low_memory
        ),
        "point_encoder": _cast(_load_point_encoder(drag_folder, parts["unet"]), dtype),
    }


def load_base(
    base: str | Path,
    vae: str | Path,
    ip_adapter: str | Path,
    dtype: torch.dtype = torch.float32,
    low_memory: bool = False,
) -> dict[str, Any]:
    """What the method builds on, and does not train: all components but its own two.

    Arguments and errors as for :func:`load_components`.
    """
    base_folder = resolve(base, "base")
    prompt_folder = resolve(ip_adapter, "ip_adapter")
    unet = load_network("unet", UNet2DConditionModel, base_folder / "unet", dtype, low_memory)
    if unet.config.in_channels != 9:
        raise CheckpointError(
            f"{base_folder / 'unet'} takes {unet.config.in_channels} channels;"
            " the base must be an SD 1.5 inpainting checkpoint, which takes 9"
        )
    image_encoder = load_network(
        "image_encoder", CLIPVisionModelWithProjection, prompt_folder / "image_encoder", dtype, low_memory
    )
    return {
        "vae": load_part(AutoencoderKL, resolve(vae, "vae"), dtype),
        "text_encoder": load_part(CLIPTextModel, base_folder / "text_encoder", dtype),
        "tokenizer": load_tokenizer(base_folder / "tokenizer"),
        "image_encoder": image_encoder,
        "image_prompt": _cast(_load_image_prompt(prompt_folder, image_encoder, unet), dtype),
        "unet": unet,
        "scheduler": _load_scheduler(base_folder / "scheduler"),
    }


def fuse_lcm_lora(pipeline: Any, lcm_lora: str | Path) -> None:
    """Fuse LCM-LoRA into a pipeline's denoiser and give it the LCM scheduler.

    Args:
        pipeline: a :class:`lightningdrag.pipeline.LightningDragPipeline`.
        lcm_lora: local folder or hub name.

    Raises:
        CheckpointError: the file is missing, damaged or fits no layer.
        ModuleNotFoundError: peft is not installed.
    """
    try:
        import peft  # noqa: F401 -- diffusers loads a LoRA through it
    except ModuleNotFoundError as error:
        message = "fusing a LoRA needs peft; run in the repository: pip install '.[sd15]'"
        raise ModuleNotFoundError(message, name="peft") from error
    path = resolve(lcm_lora, "lcm_lora") / "pytorch_lora_weights.safetensors"
    tensors = load_tensors(path)
    try:
        pipeline.load_lora_weights(tensors)
    except (ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit the denoiser: {error}") from error
    pipeline.fuse_lora(components=["unet"])
    pipeline.unload_lora_weights()
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)


def resolve(name: str | Path, part: str) -> Path:
    """The local folder of a part, fetched if ``name`` is a hub name that is not in the cache yet.

    Args:
        name: a folder, or ``owner/name`` on the hub.
        part: one of :data:`HUB_FILES`.
    """
    folder = Path(name)
    if not folder.is_dir():
        if isinstance(name, Path) or check_name(name) != "hub":
            raise CheckpointError(f"{part}: {name} is no folder")
        folder = _fetched(name, HUB_FILES[part])
    if part == "ip_adapter" and (folder / "models" / "image_encoder").is_dir():
        return folder / "models"  # the layout of the whole IP-Adapter repository
    return folder


def _fetched(repo: str, files: tuple[str, ...]) -> Path:
    """The folder of a hub repository, with each file under the first of its names that is there."""
    folder = snapshot(repo, files)
    for file in files:
        present = file
        for other in _other_names(PurePosixPath(file)):
            if (folder / present).is_file():
                break
            snapshot(repo, (str(other),))
            present = str(other)
    return folder


def _other_names(file: PurePosixPath) -> list[PurePosixPath]:
    """What else a file of weights may be called, in the order of :func:`weights_file`."""
    if file.stem not in WEIGHTS:
        return []
    pickled = "pytorch_model" if file.stem == "model" else file.stem  # as transformers calls it
    return [file.with_name(f"{file.stem}.fp16.safetensors"), file.with_name(f"{pickled}.bin")]


def load_network(name: str, kind: Any, folder: Path, dtype: torch.dtype, low_memory: bool) -> Any:
    """A component of the pipeline from its folder; ``low_memory``: see :data:`LOW_MEMORY`."""
    lean = low_memory and name in LOW_MEMORY and weights_file(folder).suffix == ".safetensors"
    return (LOW_MEMORY[name] if lean else load_part)(kind, folder, dtype)


def load_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A diffusers or transformers model whose file fits it to the last tensor."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"missing file: {folder / 'config.json'}")
    path = weights_file(folder)
    dtype_name = "dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype"
    try:
        if path.suffix in PICKLE_SUFFIXES:
            check_unpacked(path)
        model, info = kind.from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are listed below
            local_files_only=True,
            use_safetensors=path.suffix == ".safetensors",
            variant="fp16" if ".fp16." in path.name else None,
            **{dtype_name: dtype},
        )
    except Exception as error:  # damaged files fail in many ways
        raise CheckpointError(f"{path} could not be loaded: {error}") from error
    check_names(str(path), info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return model.eval()


def _cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """``model.to(dtype)``, past the warning that diffusers gives for every model."""
    return nn.Module.to(model, dtype).eval()


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer: ``vocab.json`` and ``merges.txt``, or the newer ``tokenizer.json``."""
    for name in ("vocab.json", "merges.txt"):
        if not ((folder / name).is_file() or (folder / "tokenizer.json").is_file()):
            raise CheckpointError(f"missing file: {folder / name}")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # damaged files fail in many ways
        raise CheckpointError(f"{folder} holds no tokenizer: {error}") from error


def _load_scheduler(folder: Path) -> DDIMScheduler:
    """DDIM with the base's noise schedule; what an SD base may leave out is not the library's default."""
    if not (folder / "scheduler_config.json").is_file():
        raise CheckpointError(f"missing file: {folder / 'scheduler_config.json'}")
    try:
        config = dict(DDIMScheduler.load_config(folder))
        stated = {"set_alpha_to_one": False, "steps_offset": 1, **config, "clip_sample": False}
        return DDIMScheduler.from_config(stated)
    except Exception as error:  # damaged files fail in many ways
        raise CheckpointError(f"{folder / 'scheduler_config.json'} makes no scheduler: {error}") from error


def _load_image_prompt(
    folder: Path, image_encoder: CLIPVisionModelWithProjection, unet: UNet2DConditionModel
) -> ImagePrompt:
    path = folder / "ip-adapter_sd15.safetensors"
    if not path.is_file():
        path = path.with_suffix(".bin")
    tensors = load_tensors(path)
    prompt = ImagePrompt(
        image_encoder.config.projection_dim,
        unet.config.cross_attention_dim,
        [width for _, width in attention_blocks(unet)],
    )

    def file_name(name: str) -> str:
        part, _, rest = name.partition(".")
        if part == "tokens":
            return f"image_proj.{rest}"
        block, _, rest = rest.partition(".")
        return f"ip_adapter.{2 * int(block) + 1}.{rest}"

    load_strict(prompt, tensors, str(path), file_name)
    return prompt


def _load_point_encoder(folder: Path, unet: UNet2DConditionModel) -> PointEncoder:
    embedding_path = folder / "point_embedding" / "point_embedding.pt"
    projections_path = folder / "lightning-drag-sd15-attn.bin"
    embedding, projections = load_tensors(embedding_path), load_tensors(projections_path)
    blocks = attention_blocks(unet)
    encoder = PointEncoder(
        _base_channels(embedding.get("conv_in.weight"), embedding_path),
        [level for level, _ in blocks],
        [width for _, width in blocks],
    )

    def file_name(name: str) -> str:
        block, _, rest = name.partition(".")
        return f"{2 * int(block)}.{rest}"

    load_strict(encoder.embedding, embedding, str(embedding_path))
    load_strict(encoder.projections, projections, str(projections_path), file_name)
    return encoder


def _base_channels(first: torch.Tensor | None, path: Path) -> int:
    """e, as the first convolution's ``(2e, 2, 3, 3)`` tells; the released model's, where it is missing."""
    if first is None:
        return RELEASED_BASE_CHANNELS
    shape = tuple(first.shape)
    if shape[1:] != (2, 3, 3) or shape[0] not in range(2, 2 * MAX_BASE_CHANNELS + 1, 2):
        raise CheckpointError(
            f"{path} does not fit the model. conv_in.weight has the shape {shape}, "
            f"expected (2e, 2, 3, 3) with e = 1..{MAX_BASE_CHANNELS}"
        )
    return shape[0] // 2
