"""Things that are moved whole, with their own edges, and the ground that they uncover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.morphology import grown, most_around
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.outlines import LITTLE, STEP, Layers, Outlines, by_colours, sharp
from lightningdrag.models.builtin.surroundings import MARGIN, carried_on, stillness
from lightningdrag.models.builtin.things import cut_out, length_of
from lightningdrag.warp import sample

RIM = 2
"""Pixels on either side of a cut that colours tell anew."""
CUT = 0.35
"""Weight of the cut there, against what colours say."""
GOES, STAYS = 0.75, 0.1
"""Shares of the way from which on a pixel shows how the thing moves, and up to which how its ground does."""


def with_cutouts(
    outlines: Outlines, rendering: Rendering, batch: DragBatch, whole: Sequence[bool]
) -> tuple[Outlines, Rendering]:
    """Outlines, those of things that are moved whole where these end in the source, and what that uncovers.

    Each goes as its drag says, all of it, and all of it has left where it stood.

    Args:
        whole: the edits that move one thing whole.
    """
    cuts = cut_out(rendering.displacement, rendering.shown(), batch, whole, known=True)
    if all(cut is None for cut in cuts):
        return outlines, rendering
    device = batch.mask.device
    is_cut = torch.tensor([cut is not None for cut in cuts], device=device)[:, None, None, None]
    things = [np.zeros(batch.mask.shape[2:], bool) if cut is None else cut for cut in cuts]
    with torch.autocast(device.type, enabled=False):
        ends = _outlines(torch.from_numpy(np.stack(things)[:, None]).to(device), rendering, batch)
        colour, bare = _ground(ends, rendering, batch)

    def either(first: Tensor, second: Tensor) -> Tensor:
        return torch.where(is_cut, first, second)

    names = [field.name for field in fields(Layers)]
    layers = Layers(*(either(getattr(ends.layers, x), getattr(outlines.layers, x)) for x in names))
    where, covered, left, before = (
        either(getattr(ends, x), getattr(outlines, x)) for x in ("where", "covered", "left", "before")
    )
    bare = bare & is_cut
    painted = replace(
        rendering,
        colour=torch.where(bare, colour, rendering.colour),
        thing=torch.where(bare, 0.0, rendering.thing),
    )
    return Outlines(where, covered, left, layers, before), painted


def _ground(ends: Outlines, rendering: Rendering, batch: DragBatch) -> tuple[Tensor, Tensor]:
    """Ground carried on, ``(B, 3, H, W)``, and the pixels that need it: just hidden, or behind the thing,
    they have no paint."""
    parted = ends.part(rendering)
    hidden = parted.shown() < 0.5
    bare = hidden & ends.where & grown(hidden & ends.where & (rendering.shown() > 0.5), 1) | ends.before
    away = ~grown(hidden, 2 * MARGIN) & ~grown(ends.where & (ends.covered > 0.5), MARGIN)
    known = away & (stillness(parted.displacement) > 0)
    bare &= known.flatten(1).any(1)[:, None, None, None]
    return carried_on(sample(batch.source, parted.displacement), known.float()), bare


def _outlines(thing: Tensor, rendering: Rendering, batch: DragBatch) -> Outlines:
    """How things ``(B, 1, H, W)`` bool of the sources meet their grounds."""
    displacement, seen = rendering.displacement, rendering.shown() > 0.5
    sides = torch.cat((~grown(~thing, RIM), ~grown(thing, RIM)), 1).float()
    rim = ~sides.any(1, keepdim=True)
    cut = thing.float() * 2 - 1
    found = torch.where(rim, by_colours(sides, batch.source, rim) + CUT * cut, cut)
    own = sample(found, displacement)
    way = torch.hypot(displacement[:, :1], displacement[:, 1:]) / length_of(batch)
    moving = seen & (own > 0.5) & (way > GOES)
    still = seen & (own < -0.5) & (way < STAYS) | (batch.mask < 0.5)
    ground = carried_on(displacement, still.float())
    # One drag says nothing of turning or growing, and what the motion says of it is noise.
    thing_moves = (batch.handles - batch.targets)[:, 0, :, None, None].expand_as(displacement)
    layers = Layers(moving, still, thing_moves, ground)

    within = _within(layers.thing)
    covered = sharp(torch.where(within, sample(found, layers.thing), -1))
    left = most_around(sharp(sample(found, layers.ground)), MARGIN)
    left = torch.maximum(left, (~seen & (covered < 0.5)).float())
    apart = (layers.thing - layers.ground).square().sum(1, keepdim=True) > STEP**2
    before = grown(covered > LITTLE, 1) & (batch.mask > 0.5)
    return Outlines((batch.mask > 0.5) & apart, covered, left, layers, before)


def _within(displacement: Tensor) -> Tensor:
    """Where a displacement leads to a place in the window, ``(B, 1, H, W)`` bool."""
    height, width = displacement.shape[2:]
    x = torch.arange(width, device=displacement.device) + displacement[:, :1]
    y = torch.arange(height, device=displacement.device)[:, None] + displacement[:, 1:]
    return (x > -1.5) & (x < width + 0.5) & (y > -1.5) & (y < height + 0.5)
