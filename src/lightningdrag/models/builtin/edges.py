"""Edges of things at the photo's own size, where a photo is larger than its window.

Near its end a thing's share of a pixel is about linear in the colours there (guided filter; He, Sun and Tang,
PAMI 2013), and what the window tells of that holds for the photo (fast guided filter; He and Sun, 2015).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.models.builtin.morphology import grown, least_around, most_around

REACH = 2
"""Pixels of the window to each side over which a share is taken for linear."""
NOISE = 0.01
"""Variance of colours, from -1 to 1, that tells nothing."""
LITTLE = 0.02
"""By so much a share differs within REACH where an edge is looked at, and within a pixel where it is told."""


def by_colour(picture: Tensor, share: Tensor) -> Tensor:
    """How a share follows from colours, near its edges.

    Args:
        picture: ``(B, 3, H, W)`` in [-1, 1].
        share: ``(B, 1, H, W)`` from 0 to 1.

    Returns:
        ``(B, 5, H, W)``: three slopes and a level, share = slopes · colour + level; and from 0 to 1 how much
        of the share's variance they explain, 0 away from edges.
    """
    edge = grown(most_around(share, REACH) - least_around(share, REACH) > LITTLE, REACH)[:, 0]
    model = torch.zeros_like(picture[:, :1]).repeat(1, 5, 1, 1)
    if not edge.any():
        return model
    values = _around(torch.cat((picture, share), 1), edge)
    mean = values.mean(1, keepdim=True)
    covariance = ((values - mean).mT @ (values - mean) / values.shape[1]).cpu()  # not every device solves
    slope = torch.linalg.solve(covariance[:, :3, :3] + NOISE * torch.eye(3), covariance[:, :3, 3:])[..., 0]
    told = (slope * covariance[:, :3, 3]).sum(1) / covariance[:, 3, 3].clamp_min(1e-6)
    slope, told = slope.to(mean), told.clamp(0, 1).to(mean)
    level = mean[:, 0, 3] - (slope * mean[:, 0, :3]).sum(1)
    model.movedim(1, -1)[edge] = torch.cat((slope, level[:, None], told[:, None]), 1)
    model = F.avg_pool2d(F.pad(model, (REACH,) * 4, mode="replicate"), 2 * REACH + 1, stride=1)
    model[:, 4:] *= most_around(share, 1) - least_around(share, 1) > LITTLE
    return model


def _around(image: Tensor, where: Tensor) -> Tensor:
    """What stands in ``(B, C, H, W)`` within REACH of N pixels of ``(B, H, W)`` bool, ``(N, side^2, C)``."""
    edit, row, column = where.nonzero().T[..., None]
    steps = torch.arange(-REACH, REACH + 1, device=image.device)
    down, right = torch.cartesian_prod(steps, steps).T
    row, column = (row + down).clamp(0, where.shape[1] - 1), (column + right).clamp(0, where.shape[2] - 1)
    return image.movedim(1, -1)[edit, row, column]
