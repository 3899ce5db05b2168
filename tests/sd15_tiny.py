"""The toy-width model in ``golden/``, for the tests of the SD 1.5 pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import LCMScheduler
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from lightningdrag.pipeline import LightningDragPipeline

FOLDER = Path(__file__).parent / "golden"
PARTS = {
    "base": FOLDER / "base",
    "vae": FOLDER / "vae",
    "ip_adapter": FOLDER / "ip_adapter",
    "lightning_drag": FOLDER / "lightning-drag-sd15",
}
HEIGHT, WIDTH = 128, 192


def load_pipeline(**options: Any) -> LightningDragPipeline:
    pipeline = LightningDragPipeline.from_released(**{**PARTS, **options})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def use_lcm(pipeline: LightningDragPipeline) -> LightningDragPipeline:
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    return pipeline


def reference_tensors() -> dict[str, Tensor]:
    return load_file(FOLDER / "reference_tensors.safetensors")


def edit_inputs() -> dict[str, Any]:
    """The golden edit: image, mask and points as a caller of the pipeline gives them."""
    tensors = reference_tensors()
    return {
        "image": Image.open(FOLDER / "source.png"),
        "mask": Image.open(FOLDER / "mask.png"),
        "handles": tensors["handles_yx"].flip(-1),
        "targets": tensors["targets_yx"].flip(-1),
    }


def lora_tensors(unet: nn.Module, rank: int = 2) -> dict[str, Tensor]:
    """A LoRA in the format of ``latent-consistency/lcm-lora-sdv1-5`` on an attention and a convolution."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name in ("mid_block.attentions.0.transformer_blocks.0.attn1.to_k", "mid_block.resnets.0.conv1"):
        layer = unet.get_submodule(name)
        out_channels, in_channels, *kernel = layer.weight.shape
        key = f"lora_unet_{name.replace('.', '_')}"
        state[f"{key}.lora_down.weight"] = torch.randn(rank, in_channels, *kernel, generator=generator)
        state[f"{key}.lora_up.weight"] = torch.randn(
            out_channels, rank, *[1] * len(kernel), generator=generator
        )
        state[f"{key}.alpha"] = torch.tensor(1.0)
    return state


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Relative L2 error; infinite if the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    difference = actual.detach().float() - expected.float()
    return float(difference.norm() / expected.float().norm())
