"""The paper's released files, as they come: local folders or hub names.

    <base>/             an SD 1.5 inpainting checkpoint: unet/ text_encoder/ tokenizer/ scheduler/
    <vae>/              AutoencoderKL
    <ip_adapter>/       image_encoder/, ip-adapter_sd15.safetensors or .bin
    <lightning_drag>/   appearance_encoder/, point_embedding/point_embedding.pt, lightning-drag-sd15-attn.bin
    <lcm_lora>/         pytorch_lora_weights.safetensors
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LCMScheduler, UNet2DConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from lightningdrag.checkpoints.tensors import CheckpointError, check_names, load_strict, load_tensors
from lightningdrag.models.appearance import AppearanceEncoder
from lightningdrag.models.attention import attention_blocks
from lightningdrag.models.image_prompt import ImagePrompt
from lightningdrag.models.point_encoder import PointEncoder

BASE = "Lykon/dreamshaper-8-inpainting"
VAE = "stabilityai/sd-vae-ft-mse"
IP_ADAPTER = "h94/IP-Adapter/models"
LIGHTNING_DRAG = "LightningDrag/lightning-drag-sd15"
LCM_LORA = "latent-consistency/lcm-lora-sdv1-5"

RELEASED_BASE_CHANNELS = 16
WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")
MODEL_FILES = ["config.json", *(f"{name}.safetensors" for name in WEIGHTS[:2])]
HUB_FILES = {
    "base": [
        *(f"{part}/{name}" for part in ("unet", "text_encoder") for name in MODEL_FILES),
        "tokenizer/*",
        "scheduler/*",
    ],
    "vae": MODEL_FILES,
    "ip_adapter": [*(f"image_encoder/{name}" for name in MODEL_FILES), "ip-adapter_sd15.safetensors"],
    "lightning_drag": [
        *(f"appearance_encoder/{name}" for name in MODEL_FILES),
        "point_embedding/point_embedding.pt",
        "lightning-drag-sd15-attn.bin",
    ],
    "lcm_lora": ["pytorch_lora_weights.safetensors"],
}
"""What is fetched of each hub repository; the safetensors where it has them."""


def load_components(
    base: str | Path,
    vae: str | Path,
    ip_adapter: str | Path,
    lightning_drag: str | Path,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """Load what :class:`lightningdrag.pipeline.LightningDragPipeline` is made of, on the CPU.

    Args:
        base, vae, ip_adapter, lightning_drag: local folders laid out as above, or hub names,
            ``owner/name`` or ``owner/name/folder`` (fetched once; ``HF_HUB_OFFLINE=1`` stays local).
        dtype: of all the weights.

    Raises:
        CheckpointError: a folder or file that is missing, damaged, or does not fit; it is named.
    """
    base_folder = resolve(base, "base")
    prompt_folder = resolve(ip_adapter, "ip_adapter")
    drag_folder = resolve(lightning_drag, "lightning_drag")
    unet = _load_model(UNet2DConditionModel, base_folder / "unet", dtype)
    if unet.config.in_channels != 9:
        raise CheckpointError(
            f"{base_folder / 'unet'} takes {unet.config.in_channels} channels;"
            " the base must be an SD 1.5 inpainting checkpoint, which takes 9"
        )
    image_encoder = _load_model(CLIPVisionModelWithProjection, prompt_folder / "image_encoder", dtype)
    return {
        "vae": _load_model(AutoencoderKL, resolve(vae, "vae"), dtype),
        "text_encoder": _load_model(CLIPTextModel, base_folder / "text_encoder", dtype),
        "tokenizer": _load_tokenizer(base_folder / "tokenizer"),
        "image_encoder": image_encoder,
        "image_prompt": _load_image_prompt(prompt_folder, image_encoder, unet).to(dtype),
        "appearance_encoder": _load_model(AppearanceEncoder, drag_folder / "appearance_encoder", dtype),
        "point_encoder": _load_point_encoder(drag_folder, unet).to(dtype),
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
        ImportError: peft is not installed.
    """
    try:
        import peft  # noqa: F401 -- diffusers loads a LoRA through it
    except ImportError as error:
        raise ImportError("fusing a LoRA needs peft: pip install 'lightningdrag[sd15]'") from error
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
        name: a folder, or ``owner/name[/folder]`` on the hub.
        part: one of :data:`HUB_FILES`.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)", str(name))
    if match is None or isinstance(name, Path):
        raise CheckpointError(f"no such folder for {part}: {name}")
    repository, inner = match[1], match[2].strip("/")
    patterns = [f"{inner}/{file}" if inner else file for file in HUB_FILES[part]]
    try:
        fetched = snapshot_download(repository, allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{part}: {name} is no folder here, and could not be fetched from the hub: {reason}"
        ) from error
    return Path(fetched) / inner


def _load_model(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A diffusers or transformers model whose file fits it to the last tensor."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"missing file: {folder / 'config.json'}")
    path = _weights_file(folder)
    options: dict[str, Any] = {
        "torch_dtype" if issubclass(kind, torch.nn.Module) and "diffusers" in _library(kind) else "dtype": dtype
    }
    try:
        model, info = kind.from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are listed below
            local_files_only=True,
            use_safetensors=path.suffix == ".safetensors",
            variant="fp16" if ".fp16." in path.name else None,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} could not be loaded: {error}") from error
    check_names(str(path), info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return model.eval()


def _library(kind: type) -> str:
    return " ".join(base.__module__ for base in kind.__mro__)


def _weights_file(folder: Path) -> Path:
    names = [f"{name}{end}" for end in (".safetensors", ".fp16.safetensors", ".bin") for name in WEIGHTS]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"missing file: one of {', '.join(names)} in {folder}")


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file():
            raise CheckpointError(f"missing file: {folder / name}")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _load_scheduler(folder: Path) -> DDIMScheduler:
    """DDIM with the base's noise schedule; what an SD base may leave out is not the library's default."""
    if not (folder / "scheduler_config.json").is_file():
        raise CheckpointError(f"missing file: {folder / 'scheduler_config.json'}")
    config = dict(DDIMScheduler.load_config(folder))
    stated = {"set_alpha_to_one": False, "steps_offset": 1, **config, "clip_sample": False}
    return DDIMScheduler.from_config(stated)


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
    return prompt.eval()


def _load_point_encoder(folder: Path, unet: UNet2DConditionModel) -> PointEncoder:
    embedding_path = folder / "point_embedding" / "point_embedding.pt"
    projections_path = folder / "lightning-drag-sd15-attn.bin"
    embedding, projections = load_tensors(embedding_path), load_tensors(projections_path)
    first = embedding.get("conv_in.weight")
    blocks = attention_blocks(unet)
    encoder = PointEncoder(
        RELEASED_BASE_CHANNELS if first is None else len(first) // 2,
        [level for level, _ in blocks],
        [width for _, width in blocks],
    )

    def file_name(name: str) -> str:
        block, _, rest = name.partition(".")
        return f"{2 * int(block)}.{rest}"

    load_strict(encoder.embedding, embedding, str(embedding_path))
    load_strict(encoder.projections, projections, str(projections_path), file_name)
    return encoder.eval()
