"""A pipeline in one folder, as ``LightningDragPipeline.save_pretrained`` writes it, loaded strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from lightningdrag.checkpoints.released import load_network, load_tokenizer
from lightningdrag.checkpoints.tensors import CheckpointError
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
SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""Classes of diffusers that a folder may name: variance preserving ones."""


def load_saved(
    folder: Path, dtype: torch.dtype = torch.float32, low_memory: bool = False
) -> LightningDragPipeline:
    """Load a saved pipeline, on the CPU.

    ``LightningDragPipeline.from_pretrained`` by itself fills missing tensors with random numbers, or
    leaves them without data, and passes over extra ones; here every file must fit to the last tensor.
    What classes the folder's ``model_index.json`` names is not looked at: the parts' classes are known.
    ``low_memory``: see :data:`lightningdrag.checkpoints.released.LOW_MEMORY`.

    Raises:
        CheckpointError: a file that is missing, damaged, or does not fit; it is named.
    """
    parts: dict[str, Any] = {
        name: load_network(name, kind, folder / name, dtype, low_memory) for name, kind in PARTS.items()
    }
    return LightningDragPipeline(
        **parts,
        tokenizer=load_tokenizer(folder / "tokenizer"),
        scheduler=_load_scheduler(folder / "scheduler"),
    )


def _load_scheduler(folder: Path) -> SchedulerMixin:
    path = folder / "scheduler_config.json"
    if not path.is_file():
        raise CheckpointError(f"missing file: {path}")
    try:
        config = DDIMScheduler.load_config(folder, local_files_only=True)
        name = config.get("_class_name")
        if name in SCHEDULERS:
            return getattr(diffusers, name).from_config(config)
    except Exception as error:  # damaged files fail in many ways
        raise CheckpointError(f"{path} makes no scheduler: {error}") from error
    raise CheckpointError(f"{path} names the scheduler {name!r}; known: {', '.join(SCHEDULERS)}")
