"""The ground and the thing around a hole, each carried into it."""

from __future__ import annotations

import torch
from torch import Tensor

from lightningdrag.ground import carried_on, stillness
from lightningdrag.models.builtin.morphology import least_around

MARGIN = 2
"""Pixels of the map at hand around a hole: they mix the colours of what left it and of what is behind."""
LITTLE = 1e-3
"""Weight of what moves in the ground, and of the ground in what moves: where there is nothing else."""


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
