"""What stands around a hole, carried into it: the plain part of a fill."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

STILL = 1.5
"""Pixels: what moves further is no background."""
TRUST = 4.0
"""A cell of the pyramid that is known to a fourth needs nothing from coarser ones."""


def surroundings(source: Tensor, displacement: Tensor, shown: Tensor) -> Tensor:
    """The still parts of a source, carried on smoothly to where they are not known.

    Args:
        source: ``(B, 3, h, w)``.
        displacement: ``(B, 2, h, w)`` backward, in pixels.
        shown: ``(B, 1, h, w)``, 1 where the source stays visible.

    Returns:
        ``(B, 3, h, w)``: the source where it is still and shown; elsewhere what is around.
    """
    moved = displacement.norm(dim=1, keepdim=True) / STILL
    return carried_on(source, shown * (1 - moved.clamp(max=1)))


def carried_on(image: Tensor, known: Tensor) -> Tensor:
    """Fill what is not known from ever wider means (pull and push; Gortler et al., SIGGRAPH 1996).

    Args:
        image: ``(B, C, h, w)``.
        known: ``(B, 1, h, w)`` from 0 to 1; if it is 0 everywhere the result is 0.
    """
    levels = [(image * known, known)]
    while min(levels[-1][0].shape[-2:]) > 1:
        total, weight = levels[-1]
        levels.append((F.avg_pool2d(total, 2, ceil_mode=True), F.avg_pool2d(weight, 2, ceil_mode=True)))
    total, weight = levels.pop()
    filled = total / weight.clamp_min(1e-6)
    for total, weight in reversed(levels):
        coarser = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
        share = (TRUST * weight).clamp(max=1)
        filled = coarser + share * (total / weight.clamp_min(1e-6) - coarser)
    return filled
