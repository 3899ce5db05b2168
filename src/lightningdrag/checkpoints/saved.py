"""A pipeline in one folder, as ``LightningDragPipeline.save_pretrained`` writes it, loaded strictly."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from lightningdrag.checkpoints.released import loader
from lightningdrag.models.appearance import AppearanceEncoder
from lightningdrag.models.image_prompt import ImagePrompt
from lightningdrag.models.point_encoder import PointEncoder
from lightningdrag.pipeline import LightningDragPipeline

PARTS = {
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "image_encoder": CLIPVisionModelWithProjection,
    "image_prompt": ImagePrompt,
    "appearance_encoder": AppearanceEncoder,
    "point_encoder": PointEncoder,
    "unet": UNet2DConditionModel,
}


def load_saved(
    folder: Path, dtype: torch.dtype = torch.float32, low_memory: bool = False
) -> LightningDragPipeline:
    """Load a saved pipeline, on the CPU.

    ``LightningDragPipeline.from_pretrained`` by itself fills missing tensors with random numbers, or
    leaves them without data, and passes over extra ones; here every file must fit to the last tensor.

    Raises:
        CheckpointError: a file that is missing, damaged, or does not fit; it is named.
        OSError: the scheduler's or the tokenizer's files are missing.
    """
    parts = {name: loader(name, low_memory)(kind, folder / name, dtype) for name, kind in PARTS.items()}
    return LightningDragPipeline.from_pretrained(folder, **parts, local_files_only=True)
