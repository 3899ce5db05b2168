"""The most and the least within squares around each pixel.

Sliding windows that double in width, a maximum of two shifted pictures each: on a CPU twenty to forty times
as fast as pooling, which for one channel is not vectorised, and as exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def most_around(x: Tensor, pixels: int) -> Tensor:
    """The most of ``(..., H, W)``, float or bool, within a square of so many pixels to each side.

    What lies beyond the border does not count. Cost grows with the logarithm of ``pixels``.
    """
    lowest = float("-inf") if x.is_floating_point() else 0
    for axis, padding in ((-1, (pixels, pixels)), (-2, (0, 0, pixels, pixels))):
        x = F.pad(x, padding, value=lowest)
        width, whole = 1, 2 * pixels + 1
        while width < whole:
            step = min(width, whole - width)
            count = x.shape[axis] - step
            x = torch.maximum(x.narrow(axis, 0, count), x.narrow(axis, step, count))
            width += step
    return x


def least_around(x: Tensor, pixels: int) -> Tensor:
    """The least, likewise."""
    return -most_around(-x, pixels)


def grown(where: Tensor, pixels: int) -> Tensor:
    """``(..., H, W)`` bool, and all within a square of so many pixels to each side."""
    return most_around(where, pixels)


def shrunk(where: Tensor, pixels: int) -> Tensor:
    """``(..., H, W)`` bool, where all within so many pixels to each side is; beyond the border none is."""
    return ~grown(F.pad(~where, (pixels,) * 4, value=True), pixels)[..., pixels:-pixels, pixels:-pixels]
