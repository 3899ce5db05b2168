"""What stands still, and what is around a hole carried into it: the plain part of a fill."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STILL = 1.5
"""Pixels: what moves further is no background."""
TRUST = 4.0
"""A cell of the pyramid that is known to a fourth needs nothing from coarser ones."""


def stillness(displacement: Tensor) -> Tensor:
    """``(B, 1, h, w)``: 1 where nothing moves, 0 where something moves by STILL or more."""
    length = torch.hypot(displacement[:, :1], displacement[:, 1:])  # norm() takes seventy times as long
    return 1 - (length / STILL).clamp(max=1)


def carried_on(image: Tensor, known: Tensor) -> Tensor:
    """Fill what is not known from ever wider means (pull and push; Gortler et al., SIGGRAPH 1996).

    Args:
        image: ``(B, C, h, w)``.
        known: ``(B, 1, h, w)`` from 0 to 1; if it is 0 everywhere the result is 0.
    """
    levels = [(image * known, known)]
    while max(levels[-1][0].shape[-2:]) > 1:
        total, weight = levels[-1]
        levels.append((F.avg_pool2d(total, 2, ceil_mode=True), F.avg_pool2d(weight, 2, ceil_mode=True)))
    total, weight = levels.pop()
    filled = total / weight.clamp_min(1e-6)
    for total, weight in reversed(levels):
        coarser = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
        share = (TRUST * weight).clamp(max=1)
        filled = coarser + share * (total / weight.clamp_min(1e-6) - coarser)
    return filled
