"""The SD 1.5 pipeline at its real size with random weights: what it costs can be measured without them.

The configurations are those of the released checkpoints.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, LCMScheduler, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from lightningdrag.models.appearance import AppearanceEncoder
from lightningdrag.models.attention import attention_blocks
from lightningdrag.models.image_prompt import ImagePrompt
from lightningdrag.models.point_encoder import PointEncoder
from lightningdrag.pipeline import LightningDragPipeline

UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
VISION = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}
Network = TypeVar("Network", bound=nn.Module)

SPREAD = 0.02
"""Weights are uniform in +- this: activations stay finite, and no value is one that hardware favours."""


def random_sd15(dtype: torch.dtype) -> LightningDragPipeline:
    """The pipeline at the widths of SD 1.5, IP-Adapter with CLIP ViT-H, and e = 16, on the CPU, with LCM."""
    return _pipeline({name: random_network(make, dtype) for name, make in _makers().items()})


def save_random_sd15(folder: Path, dtype: torch.dtype) -> None:
    """Write the same pipeline as ``save_pretrained`` does, with one network in memory at a time."""
    for name, make in _makers().items():
        random_network(make, dtype).save_pretrained(folder / name)
    with torch.device("meta"):
        empty = _pipeline({name: make() for name, make in _makers().items()})
    empty.save_config(folder)
    empty.tokenizer.save_pretrained(folder / "tokenizer")
    empty.scheduler.save_pretrained(folder / "scheduler")


def _makers() -> dict[str, Callable[[], Any]]:
    """How each network is made, by its name in the pipeline."""
    with torch.device("meta"):
        blocks = attention_blocks(UNet2DConditionModel(in_channels=9, **UNET))
    levels, widths = (list(column) for column in zip(*blocks, strict=True))
    return {
        "vae": lambda: AutoencoderKL(**VAE),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**TEXT)),
        "image_encoder": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
        "image_prompt": lambda: ImagePrompt(1024, 768, widths),
        "appearance_encoder": lambda: AppearanceEncoder(in_channels=4, **UNET),
        "point_encoder": lambda: PointEncoder(16, levels, widths),
        "unet": lambda: UNet2DConditionModel(in_channels=9, **UNET),
    }


def _pipeline(networks: Mapping[str, Any]) -> LightningDragPipeline:
    pipeline = LightningDragPipeline(
        **networks, tokenizer=_two_word_tokenizer(), scheduler=LCMScheduler(**SCHEDULE)
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_network(make: Callable[[], Network], dtype: torch.dtype) -> Network:
    """A network of this dtype with random weights; no float32 copy is made, nor any weight drawn twice.

    Raises:
        ModuleNotFoundError: accelerate is not installed.
    """
    from accelerate import init_empty_weights

    with init_empty_weights():
        network = make()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.empty(2**20, dtype=dtype).uniform_(-SPREAD, SPREAD, generator=generator)  # used repeatedly
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            values = torch.empty(parameter.shape, dtype=dtype)
            for part in values.view(-1).split(len(drawn)):
                part.copy_(drawn[: len(part)])
            setattr(module, name, nn.Parameter(values, requires_grad=False))
    return network.eval()


def _two_word_tokenizer() -> CLIPTokenizer:
    """A tokenizer that knows the empty prompt, which is all that is ever asked."""
    words = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps(words))
        Path(folder, "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=77)
