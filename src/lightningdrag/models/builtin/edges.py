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
"""By so much a share has to differ within REACH for there to be an edge."""


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
    model = torch.zeros_like(picture[:, :1]).expand(-1, 5, -1, -1).clone()
    if not edge.any():
        return model
    both = torch.cat((picture, share), 1)
    products = (both[:, :, None] * both[:, None]).flatten(1, 2)
    means = _mean(torch.cat((both, products), 1)).movedim(1, -1)[edge]  # (N, 4 + 16)
    mean, second = means[:, :4], means[:, 4:].unflatten(1, (4, 4))
    covariance = (second - mean[:, :, None] * mean[:, None]).cpu()  # not every device solves
    slope = torch.linalg.solve(covariance[:, :3, :3] + NOISE * torch.eye(3), covariance[:, :3, 3:])[..., 0]
    told = (slope * covariance[:, :3, 3]).sum(1) / covariance[:, 3, 3].clamp_min(1e-6)
    slope, told = slope.to(mean), told.clamp(0, 1).to(mean)
    level = mean[:, 3] - (slope * mean[:, :3]).sum(1)
    model.movedim(1, -1)[edge] = torch.cat((slope, level[:, None], told[:, None]), 1)
    model = _mean(model)
    model[:, 4:] *= most_around(share, 1) - least_around(share, 1) > LITTLE
    return model


def _mean(image: Tensor) -> Tensor:
    side = 2 * REACH + 1
    return F.avg_pool2d(F.pad(image, (REACH,) * 4, mode="replicate"), side, stride=1)
