"""A block before its ground that is dragged to the right, and a motion that knows it vaguely."""

from __future__ import annotations

import cv2
import torch
from torch import Tensor

from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.network import Rendering

SIDE, SHIFT = 128, 20
THING, GROUND = torch.tensor([0.8, 0.2, -0.4]), torch.tensor([-0.6, -0.2, 0.5])


def block(left: int, width: int = 40) -> Tensor:
    """``(1, 1, SIDE, SIDE)``: 1 in a block 48 pixels high."""
    share = torch.zeros(1, 1, SIDE, SIDE)
    share[..., 40:88, left : left + width] = 1
    return share


def picture(share: Tensor, thing: Tensor = THING) -> Tensor:
    grain = 0.03 * torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return torch.lerp(GROUND.view(1, 3, 1, 1), thing.view(1, 3, 1, 1), share) + grain


def batch(source: Tensor, mask: Tensor | None = None) -> DragBatch:
    """The block's middle, dragged to the right."""
    count = len(source)
    handle, target = torch.tensor([[(44.0, 64.0)]]), torch.tensor([[(44.0 + SHIFT, 64.0)]])
    return DragBatch(
        source,
        torch.ones(count, 1, SIDE, SIDE) if mask is None else mask,
        handle.expand(count, -1, -1),
        target.expand(count, -1, -1),
        torch.ones(count, 1),
        torch.zeros(count, 1, 2),
    )


def vague(sigma: float = 3.0, by: float = SHIFT) -> Rendering:
    """The block's motion, blurred, which hides nothing and stretches what is around."""
    moved = torch.from_numpy(cv2.GaussianBlur(block(24 + SHIFT)[0, 0].numpy(), (0, 0), sigma))[None, None]
    colour = torch.zeros(1, 3, SIDE, SIDE)
    return Rendering(torch.cat((-by * moved, 0 * moved), 1), torch.full_like(moved, 9.0), colour, 0 * moved)
