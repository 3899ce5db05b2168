"""What the SD 1.5 pipeline is given: checked, and made tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightningdrag.drag import MAX_DRAGS

MULTIPLE = 64
"""Height and width of an image are multiples of this."""

ImageInput = Image.Image | np.ndarray | Tensor
Points = Sequence[Sequence[float]] | np.ndarray | Tensor


def image_tensor(image: ImageInput) -> Tensor:
    """An image as ``(1, 3, H, W)`` float32 in [-1, 1]; see ``LightningDragPipeline``."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image array must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    else:
        tensor = image.float()
        if tensor.ndim != 4 or tensor.shape[:2] != (1, 3) or not tensor.abs().max() <= 1 + 1e-3:
            raise ValueError(f"image tensor must be (1, 3, H, W) in [-1, 1], got {tuple(tensor.shape)}")
    height, width = tensor.shape[-2:]
    if height % MULTIPLE or width % MULTIPLE or not height or not width:
        raise ValueError(f"image size must be multiples of {MULTIPLE}, got {width}x{height}")
    return tensor


def mask_tensor(mask: ImageInput, height: int, width: int) -> Tensor:
    """A mask as ``(1, 1, H, W)`` float32 of 0 and 1; see ``LightningDragPipeline``."""
    if isinstance(mask, Image.Image):
        mask = np.array(mask.convert("L"))
    tensor = torch.as_tensor(mask)
    if tensor.dtype == torch.uint8:
        tensor = tensor / 255
    if tensor.shape[-2:] != (height, width) or tensor.numel() != height * width:
        raise ValueError(
            f"mask must have the image's size {width}x{height}, got the shape {tuple(tensor.shape)}"
        )
    change = (tensor.float() >= 0.5).float().reshape(1, 1, height, width)
    if not change.any():
        raise ValueError("mask is empty: it must be set where the image may change")
    return change


def check_points(handles: Points, targets: Points, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Both as ``(N, 2)`` float32 on the CPU, or a ValueError that names what is wrong.

    Handles may coincide: those of a split drag can meet on their way, and the point maps move them apart.
    """
    starts, ends = (
        torch.as_tensor(points, dtype=torch.float32, device="cpu").detach() for points in (handles, targets)
    )
    if starts.ndim != 2 or starts.shape[1] != 2 or starts.shape != ends.shape:
        raise ValueError(
            f"handles and targets must both be (N, 2), got {tuple(starts.shape)} and {tuple(ends.shape)}"
        )
    if not 1 <= len(starts) <= MAX_DRAGS:
        raise ValueError(f"an edit takes 1 to {MAX_DRAGS} pairs of points, got {len(starts)}")
    size = torch.tensor([width, height])
    for name, points in (("handle", starts), ("target", ends)):
        outside = ~((points >= -0.5) & (points < size - 0.5)).all(-1)  # true for NaN as well
        if outside.any():
            k = int(outside.nonzero()[0])
            x, y = points[k].tolist()
            raise ValueError(f"{name} {k} at ({x:g}, {y:g}) lies outside the image of {width}x{height}")
    return starts, ends
