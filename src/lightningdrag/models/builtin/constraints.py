"""What the user said is not up for prediction: at a drag's target stands its handle, in every candidate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.warp import pixel_grid, scattered_displacement

STRIDE = 4
"""Corrections are computed at 1/4 of the window at the finest; they are smooth."""
HOLD = 1 / 14
"""How far the correction of a motion reaches around a target: a Gaussian's sigma, in sides of the window."""
FINE_HOLD = 1 / 32
"""The same for the rendered displacement, where little is left to correct."""
CALM = 0.12
"""How far around a target noise has faded, likewise."""
AGREE = 0.07
"""How far around a target candidates show what the first one does, likewise."""


def held(displacement: Tensor, batch: DragBatch, unit: Tensor | float, reach: float) -> Tensor:
    """A displacement, corrected so that it takes every target back to its handle.

    What is missing at the targets is interpolated between them (Shepard's, which is exact at each) and
    fades with the distance to the nearest.

    Args:
        displacement: ``(B, 2, h, w)`` over the window, backward, in units of ``unit`` pixels.
        unit: ``(B, 1, 1, 1)``, or one number.
        reach: one of the above.
    """
    height, width = batch.mask.shape[-2:]
    stride = max(width // displacement.shape[-1], STRIDE)
    position = (batch.targets + 0.5) / batch.targets.new_tensor([width, height]) * 2 - 1
    # The map goes on evenly beyond its outermost centres, as "border" does, which MPS long did not have.
    centres = 1 - 1 / position.new_tensor([displacement.shape[-1], displacement.shape[-2]])
    position = torch.minimum(torch.maximum(position, -centres), centres)
    there = F.grid_sample(displacement.float(), position[:, :, None], align_corners=False)
    missing = (batch.handles - batch.targets)[..., None] / unit - there.transpose(1, 2)
    grid = pixel_grid(height, width, stride, batch.mask.device)
    correction = scattered_displacement(batch.targets, missing[..., 0], batch.valid, grid)
    correction = correction * nearness(batch, stride, reach)
    if correction.shape != displacement.shape:
        correction = F.interpolate(correction, displacement.shape[-2:], mode="bilinear")
    return displacement + correction * F.avg_pool2d(batch.mask, height // displacement.shape[-2])


def calmed(noise: Tensor, batch: DragBatch) -> Tensor:
    """Noise ``(B, C, h, w)`` over the window that fades to none at the targets."""
    return noise * (1 - nearness(batch, batch.mask.shape[-1] // noise.shape[-1], CALM))


def agreed(x: Tensor, counts: Sequence[int], batch: DragBatch) -> Tensor:
    """Something of all candidates ``(B, C, H, W)``; at the targets it becomes the first candidate's.

    Args:
        counts: the batch's candidates, edit by edit.
    """
    if max(counts) == 1:
        return x
    return torch.lerp(x, _firsts(x, counts), near_targets(batch, AGREE))


def agreed_fills(
    colour: Tensor, origin: Tensor, counts: Sequence[int], batch: DragBatch
) -> tuple[Tensor, Tensor]:
    """Fills and their origins of all candidates: at the targets those of the first, where it has any.

    The one or the other: a mean of two would be soft.
    """
    if max(counts) == 1:
        return colour, origin
    first = _firsts(origin, counts)
    same = (near_targets(batch, AGREE) > 0.5) & first.any(1, keepdim=True)
    return torch.where(same, _firsts(colour, counts), colour), torch.where(same, first, origin)


def seen(visibility: Tensor, batch: DragBatch) -> Tensor:
    """Logits ``(B, 1, H, W)``, raised at the targets to visible: the handle stands there, and is no guess."""
    return torch.lerp(visibility, visibility.clamp_min(0), near_targets(batch, FINE_HOLD))


def nearness(batch: DragBatch, stride: int, reach: float) -> Tensor:
    """1 at targets, falling to 0, ``(B, 1, H // stride, W // stride)``.

    Args:
        reach: sigma of the Gaussian, in geometric mean sides of the window.
    """
    height, width = batch.mask.shape[-2:]
    offset = pixel_grid(height, width, stride, batch.mask.device) - batch.targets[:, :, None, None]
    sigma = reach * (height * width) ** 0.5
    bump = torch.exp(-offset.square().sum(-1) / (2 * sigma**2)) * batch.valid[..., None, None]
    return bump.amax(1, keepdim=True)


def near_targets(batch: DragBatch, reach: float) -> Tensor:
    """:func:`nearness` at every pixel."""
    near = nearness(batch, STRIDE, reach)
    return F.interpolate(near, scale_factor=STRIDE, mode="bilinear")


def _firsts(x: Tensor, counts: Sequence[int]) -> Tensor:
    """What the first candidate of each one's edit has."""
    return torch.cat([edit[:1].expand_as(edit) for edit in x.split(list(counts))])
