"""Things that are moved whole, with their own edges, and the ground that they uncover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from lightningdrag.ground import carried_on, stillness
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.morphology import grown, most_around
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.outlines import LITTLE, Layers, Outlines, by_colours, sharp
from lightningdrag.models.builtin.surroundings import MARGIN
from lightningdrag.models.builtin.things import cut_again
from lightningdrag.warp import sample

RIM = 2
"""Pixels on either side of a cut that colours tell anew."""
CUT = 0.35
"""Weight of the cut there, against what colours say."""
AROUND = 4
"""Pixels around where a thing stood that are hidden with it: tinged by it, or in its shade."""


def with_cutouts(
    outlines: Outlines, rendering: Rendering, batch: DragBatch, things: Sequence[np.ndarray | None]
) -> tuple[Outlines, Rendering]:
    """Outlines, those of things that are moved whole where these end in the source, and what that uncovers.

    Each goes as its drag says, all of it, and all of it has left where it stood.

    Args:
        things: of each edit the thing that it moves whole, if it does, ``(H, W)`` bool.
    """
    cuts = cut_again(rendering.displacement, rendering.shown(), batch, things)
    if all(cut is None for cut in cuts):
        return outlines, rendering
    device = batch.mask.device
    is_cut = torch.tensor([cut is not None for cut in cuts], device=device)[:, None, None, None]
    ours = np.stack([np.zeros(batch.mask.shape[2:], bool) if cut is None else cut for cut in cuts])
    with torch.autocast(device.type, enabled=False):
        ends = _outlines(torch.from_numpy(ours[:, None]).to(device), rendering, batch)
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
    """How things ``(B, 1, H, W)`` bool of the sources meet their grounds.

    Things go their drags' ways and all else stays: one drag says nothing of turning or growing, and what the
    motion says of that, and of the ground, is noise.
    """
    sides = torch.cat((~grown(~thing, RIM), ~grown(thing, RIM)), 1).float()
    rim = ~sides.any(1, keepdim=True)
    cut = thing.float() * 2 - 1
    found = torch.where(rim, by_colours(sides, batch.source, rim) + CUT * cut, cut)
    way = (batch.handles - batch.targets)[:, 0, :, None, None].expand_as(rendering.displacement)
    covered = sharp(torch.where(_within(way), sample(found, way), -1))
    hidden = (rendering.shown() < 0.5) & (covered < 0.5)
    left = torch.maximum(most_around(sharp(found), AROUND), hidden.float())
    inside = batch.mask > 0.5
    layers = Layers(covered > 0.5, left < 0.5, way, torch.zeros_like(way))
    return Outlines(inside, covered, left, layers, grown(covered > LITTLE, 1) & inside)


def _within(displacement: Tensor) -> Tensor:
    """Where a displacement leads to a place in the window, ``(B, 1, H, W)`` bool."""
    height, width = displacement.shape[2:]
    x = torch.arange(width, device=displacement.device) + displacement[:, :1]
    y = torch.arange(height, device=displacement.device)[:, None] + displacement[:, 1:]
    return (x > -1.5) & (x < width + 0.5) & (y > -1.5) & (y < height + 0.5)
