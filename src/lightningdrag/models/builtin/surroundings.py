"""What stands around a hole, carried into it: the plain part of a fill."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.models.builtin.morphology import least_around

STILL = 1.5
"""Pixels: what moves further is no background."""
MARGIN = 2
"""Pixels of the map at hand around a hole: they mix the colours of what left it and of what is behind."""
LITTLE = 1e-3
"""Weight of what moves in the ground, and of the ground in what moves: where there is nothing else."""
TRUST = 4.0
"""A cell of the pyramid that is known to a fourth needs nothing from coarser ones."""


def surroundings(picture: Tensor, still: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """What stands still, and what moves, each carried on smoothly to where it is not known.

    The first is the ground that a thing uncovers, the second more of the thing itself. What borders on a
    hole counts as unknown, too: it is tinged with what stood there.

    Args:
        picture: ``(B, 3, h, w)``, the source at its displacement.
        still: ``(B, 1, h, w)``, see :func:`stillness`.
        shown: ``(B, 1, h, w)``, 1 where the picture is right.

    Returns:
        Twice ``(B, 3, h, w)``.
    """
    known = least_around(shown, MARGIN)
    return carried_on(picture, known * (still + LITTLE)), carried_on(picture, known * (1 - still + LITTLE))


def without_outline(visibility: Tensor, displacement: Tensor) -> Tensor:
    """Hide what stands still right beside a hole: else a thing that left leaves its outline behind.

    Args:
        visibility: ``(B, 1, h, w)``, shares or logits.
        displacement: ``(B, 2, h, w)`` backward, in pixels.
    """
    return torch.lerp(visibility, least_around(visibility, MARGIN), stillness(displacement))


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
