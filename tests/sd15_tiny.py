"""The toy-width model in ``golden/``, for the tests of the SD 1.5 pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import LCMScheduler
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

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


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Relative L2 error; infinite if the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    difference = actual.detach().float() - expected.float()
    return float(difference.norm() / expected.float().norm())
