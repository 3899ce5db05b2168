"""What the built-in model is told about an edit, as tensors at 1/4 and 1/8 of the window.

Points and displacements are divided by L, the longest drag in the window, because drags run from a
few pixels to 40 % of the side; log(L / S) says how long it is, S the geometric mean side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.warp import NUM_ANCHORS, drag_displacement, pixel_grid, similarity_displacement

STRIDE = 4
"""The evidence is computed at 1/4 of the window and averaged down from there."""
RIM = 16
"""How many of the anchors hold the rim; with all of them nothing but the targets themselves moves far."""
STIFFNESS = 0.1
"""Drags that lie nearer to each other than this do not tell of a turn, in geometric mean sides."""
SHORTEST = 2.0
"""Pixels: L of an edit whose drags are shorter, or all pins."""
POINT_SIGMA = 6.0
"""Pixels: width of the Gaussian that marks a point."""
EVIDENCE_CHANNELS = 13


@dataclass(frozen=True)
class DragBatch:
    """A batch of edits in window pixels.

    Attributes:
        source: ``(B, 3, H, W)`` in [-1, 1].
        mask: ``(B, 1, H, W)`` float, 1 where the image may change.
        handles, targets: ``(B, N, 2)`` (x, y).
        valid: ``(B, N)`` float, 0 for points to leave out; padding has its handle equal to its target.
        anchors: ``(B, M, 2)`` points of the mask's rim.
    """

    source: Tensor
    mask: Tensor
    handles: Tensor
    targets: Tensor
    valid: Tensor
    anchors: Tensor

    def without_points(self) -> DragBatch:
        """The same edits, in the same units, with no points: the branch that guidance steers away from."""
        return DragBatch(
            self.source, self.mask, self.handles, self.targets, torch.zeros_like(self.valid), self.anchors
        )


@dataclass(frozen=True)
class Evidence:
    """Evidence at 1/4 of the window; displacements in units of L.

    Attributes:
        length: ``(B, 1, 1, 1)``, L in pixels.
        mask: ``(B, 1, H/4, W/4)``.
        anchored: ``(B, 2, H/4, W/4)``, the analytic warp: still on the mask's rim.
        free: ``(B, 2, H/4, W/4)``, the drags alone, as far as they go turning and growing what they hold;
            one drag moves everything by the same vector.
        features: ``(B, EVIDENCE_CHANNELS, H/4, W/4)``: both fields, mask, marks of handles and targets
            (with their vectors), pins, log(L / S).
    """

    length: Tensor
    mask: Tensor
    anchored: Tensor
    free: Tensor
    features: Tensor


def gather_evidence(batch: DragBatch) -> Evidence:
    """Compute the evidence of a batch, in float32 whatever the caller's autocast says."""
    with torch.autocast(batch.mask.device.type, enabled=False):
        return _evidence(batch)


def _evidence(batch: DragBatch) -> Evidence:
    height, width = batch.mask.shape[-2:]
    side = (height * width) ** 0.5
    vectors = batch.handles - batch.targets
    lengths = vectors.norm(dim=-1)
    longest = lengths.amax(1).clamp_min(SHORTEST)[:, None, None, None]
    vectors = vectors * batch.valid[..., None]
    grid = pixel_grid(height, width, STRIDE, batch.mask.device)

    mask = F.avg_pool2d(batch.mask, STRIDE)
    rim = batch.anchors[:, :: NUM_ANCHORS // RIM]
    anchored = drag_displacement(
        batch.handles, batch.targets, rim, batch.mask, stride=STRIDE, weights=batch.valid
    )
    free = similarity_displacement(batch.targets, vectors, batch.valid, grid, STIFFNESS * side) * mask
    pinned = (lengths < 0.5) & (batch.valid > 0)
    unit = torch.cat((vectors / longest[:, :, 0], torch.ones_like(vectors[..., :1])), -1)
    marks = [
        mark_points(batch.handles, unit, batch.valid, grid),
        mark_points(batch.targets, unit, batch.valid, grid),
        mark_points(batch.targets, unit[..., 2:], pinned.float(), grid),
    ]
    relative = torch.log(longest / side).expand(-1, -1, *mask.shape[-2:]) / 3
    anchored, free = anchored / longest, free / longest
    features = torch.cat((anchored, free, mask, *marks, relative), 1)
    return Evidence(longest, mask, anchored, free, features)


def mark_points(points: Tensor, values: Tensor, weights: Tensor, grid: Tensor) -> Tensor:
    """Gaussians at points that carry values: ``(B, N, 2)``, ``(B, N, C)``, ``(B, N)`` to ``(B, C, h, w)``."""
    offset = grid[None, None] - points[:, :, None, None]
    bump = torch.exp(-offset.square().sum(-1) / (2 * POINT_SIGMA**2)) * weights[..., None, None]
    strongest = bump.amax(1, keepdim=True).clamp_min(1e-6)
    total = bump.sum(1, keepdim=True).clamp_min(1e-6)
    return torch.einsum("bnc,bnhw->bchw", values, bump) * (strongest / total)
