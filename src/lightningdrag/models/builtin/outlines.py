"""Outlines of what moves, drawn where the picture itself has them.

Between what moves and what stands still a network's displacement passes, over some pixels, through all that
lies between, and frays the picture there. What it says on either side of such a place is surer. So near an
outline each pixel of the source is found to be of the *thing* or of the *ground*, by what pixels of its
colours around it are. In the result the thing then covers the ground as far as it goes, with its own edge,
and where it stood before all of it has left:

    result = covered ? thing : left ? fill : ground

What stretches is left alone: there displacement changes slowly, or the colours do not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.ground import STILL, carried_on
from lightningdrag.models.builtin.constraints import FINE_HOLD, agreed, near_targets
from lightningdrag.models.builtin.edges import by_colour
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.morphology import grown, most_around, shrunk
from lightningdrag.models.builtin.network import Rendering, undecided
from lightningdrag.models.builtin.surroundings import MARGIN
from lightningdrag.warp import forward_warp, sample

STEEP = 1.0
"""Pixels by which displacement changes from one pixel to the next where it is no stretch but an outline."""
BESIDE = 2
"""Pixels beside such a place, and beside the rim of a hole, that are no surer."""
RIM, FAR = 2, 8
"""Pixels from what is seen, and from what moves, within which a hidden one may show the thing after all."""
STANDS, BY = 0.25, 24
"""Share of the farthest that anything moves within so many pixels: what moves less is ground there. Where no
ground is so near, nothing is parted."""
STEP = 2.0
"""Pixels by which both have to move differently."""
LEAST_AREA = 36
"""Pixels that have to move for there to be a thing."""
SIGHT, EVERY = 8, 2
"""Pixels over which, and at every how many of them, a pixel of the source looks for others of its colours."""
AT_ONCE = 8192
"""Pixels that look at a time: each takes some 2 kB."""
ALIKE = 0.12
"""Difference of colours, a Gaussian's sigma; they go from -1 to 1."""
PLAIN = 0.3
"""Weight of finding nothing, in pixels of like colours right beside."""
NETWORK = 0.35
"""Weight of what the network says of a pixel, against what colours say."""
BEHIND = 0.2
"""Share of the way from ground to thing that a displacement has to go for the thing to be in front there."""
SHARP = 2.0
"""How steeply what was found covers."""
APART, KNOWN = 0.25, 0.1
"""How much the colours around a pixel have to change, and how much has to be known of what stands there if it
is to be shown as ground, for it to be parted at all."""
AROUND = 2
"""Pixels to each side over which that is averaged."""
THICK, SPREAD = 2, 6
"""Pixels to each side: what the thing left behind is hidden where it is thinner, and else stretches, as do
thinner parts that hang together with it over so many times as far."""
HELD = 0.65
"""Nearness to a target from which on the network's displacement is sure: what the user said."""
LITTLE = 0.02
"""Share of the thing from which on a pixel is mixed."""
SOMEWHERE = 1e-3
"""Pixels: 0 as an origin is none."""


@dataclass(frozen=True)
class Layers:
    """What moves and what stands still, or moves far less.

    Attributes:
        moving, still: ``(B, 1, H, W)`` bool, the pixels of the result that are surely the one or the other.
        thing, ground: ``(B, 2, H, W)``, displacements, carried on beyond those.
    """

    moving: Tensor
    still: Tensor
    thing: Tensor
    ground: Tensor


@dataclass(frozen=True)
class Outlines:
    """How two layers meet.

    Attributes:
        where: ``(B, 1, H, W)`` bool, the pixels of the result that this holds for.
        covered: ``(B, 1, H, W)`` from 0 to 1, how much of the thing stands here.
        left: ``(B, 1, H, W)`` from 0 to 1, how much of it, or of its rim, stands in the source where the
            ground that belongs here does.
        layers: what meets.
        before: ``(B, 1, H, W)`` bool, where any of the thing stands, and a pixel around that, if its whole
            outline is known: fills behind it have nothing of it.
    """

    where: Tensor
    covered: Tensor
    left: Tensor
    layers: Layers
    before: Tensor

    def agreed(self, counts: Sequence[int], batch: DragBatch) -> Outlines:
        """With the first candidate's outlines at the targets, see :func:`~.constraints.agreed`."""
        if max(counts) == 1:
            return self
        thing, ground = (agreed(x, counts, batch) for x in (self.layers.thing, self.layers.ground))
        return Outlines(
            agreed(self.where.float(), counts, batch) > 0.5,
            agreed(self.covered, counts, batch),
            agreed(self.left, counts, batch),
            replace(self.layers, thing=thing, ground=ground),
            agreed(self.before.float(), counts, batch) > 0.5,
        )

    def part(self, rendering: Rendering) -> Rendering:
        """The rendering with one layer or the other at each pixel, for patches to be taken from."""
        thing = self.covered > 0.5
        hidden = ~thing & (self.left > 0.5)
        displacement = torch.where(thing, self.layers.thing, self.layers.ground)
        return replace(
            rendering,
            displacement=torch.where(self.where, displacement, rendering.displacement),
            visibility=torch.where(self.where, undecided(1 - hidden.float()), rendering.visibility),
        )

    def soften(self, rendering: Rendering, source: Tensor) -> Rendering:
        """What was parted and filled, with soft edges.

        Where the thing ends it is mixed with its ground, which takes a fill's place there; one pixel further
        on, too: a photo has pixels between those of its window, and a displacement between two layers' leads
        nowhere.
        """
        assert rendering.origin is not None
        edge = self.where & grown(self.where & (self.covered > LITTLE), 2)
        beside = self.where & grown(edge, 1) & ~edge
        soft = edge | beside
        colour = torch.lerp(sample(source, self.layers.ground), rendering.colour, self.left)
        shown = torch.where(edge, self.covered, torch.where(beside, 0.0, 1 - self.left))
        origin = torch.where(self.left > 0.5, rendering.origin, self.layers.ground + SOMEWHERE)
        # Not at its rim: from there to the next pixel lie photo pixels whose displacement leads nowhere.
        edges = by_colour(sample(source, self.layers.thing), self.covered) * ~grown(~edge, 1)
        return replace(
            rendering,
            displacement=torch.where(edge, self.layers.thing, rendering.displacement),
            visibility=torch.where(self.where, undecided(shown), rendering.visibility),
            colour=torch.where(soft, colour, rendering.colour),
            origin=torch.where(soft, origin, rendering.origin),
            edges=edges,
        )


def find_outlines(rendering: Rendering, batch: DragBatch) -> Outlines:
    """Part what moves from what stands still near where one ends.

    Args:
        rendering: with holes as they are shown.
    """
    with torch.autocast(batch.mask.device.type, enabled=False):
        return _find_outlines(rendering, batch)


def _find_outlines(rendering: Rendering, batch: DragBatch) -> Outlines:
    shown = rendering.shown()
    seen, steep = shown > 0.5, grown(slope(rendering.displacement) > STEEP, BESIDE)
    held = near_targets(batch, FINE_HOLD)
    layers = _layers(rendering.displacement, seen, seen & (~steep | (held > HELD)))
    apart = layers.thing - layers.ground
    distance = apart.square().sum(1, keepdim=True)
    rim = grown(~seen, BESIDE + 1) & grown(seen, RIM)
    near = (steep & seen | rim) & (batch.mask > 0.5) & (distance > STEP**2)
    near &= (layers.moving.sum((1, 2, 3), keepdim=True) > LEAST_AREA) & grown(layers.still, BY)

    found = _found(rendering.displacement, seen, layers, batch, near)
    in_thing, in_ground = sample(found, layers.thing), sample(found, layers.ground)
    way = (rendering.displacement - layers.ground) * apart
    way = (way.sum(1, keepdim=True) / distance.clamp_min(1e-3)).clamp(0, 1)  # 0 = as ground, 1 = as thing
    in_front = ((way - BEHIND) * 10 + 0.5).clamp(0, 1)
    covered = sharp(in_thing + NETWORK * torch.where(seen, 2 * way - 1, 0)) * torch.where(seen, in_front, 1)
    covered *= seen | grown(layers.moving, FAR)
    left = most_around(sharp(in_ground + NETWORK * (1 - 2 * shown)), MARGIN)
    at_target = ((held - HELD) / (0.9 - HELD)).clamp(0, 1)  # there stands its handle, and at a pin the pin
    left, covered = left * (1 - at_target), torch.lerp(covered, way, at_target)

    told = _mean_around(_difference(batch.source, rendering.displacement, layers)) > APART
    told &= (covered > 0.5) | (_mean_around(in_ground.abs()) > KNOWN)
    rest = steep & seen & (covered < 0.5) & (left > 0.5)
    where = near & (told | ~seen) & ~_thick(rest)
    return Outlines(where, covered, left, layers, torch.zeros_like(where))


def _layers(displacement: Tensor, seen: Tensor, sure: Tensor) -> Layers:
    """The displacement parted by how far it goes, compared with what is near where it arrives or stood.

    Args:
        sure: ``(B, 1, H, W)`` bool, the pixels that tell what moves: away from outlines, and at targets.
    """
    distance = torch.hypot(displacement[:, :1], displacement[:, 1:])
    left, _ = forward_warp(distance * seen, displacement)
    most = torch.maximum(distance, left)
    moves = distance > (STANDS * most_around(most, BY)).clamp_min(STILL)
    # Far from what moves farthest, ground that goes along a little is "moving", too, but not the thing.
    fastest = moves & (distance > STANDS * most_around(most, 3 * BY))
    moving, still = sure & moves, sure & ~moves
    return Layers(moving, still, *(carried_on(displacement, x.float()) for x in (sure & fastest, still)))


def _found(displacement: Tensor, seen: Tensor, layers: Layers, batch: DragBatch, near: Tensor) -> Tensor:
    """What each pixel of the source is, ``(B, 1, H, W)``: 1 of the thing, -1 of the ground, 0 of neither.

    What moves or stands still in the result says it of where it is taken from; what is hidden says that a
    thing stood there; outside the mask all is ground. Pixels that are asked for, by ``near`` through either
    layer, are found by those of their colours around.
    """
    claims, arrived = forward_warp(torch.cat((layers.moving, layers.still), 1).float(), displacement)
    # Rounded, for a GPU adds up in any order, and an edit shall be the same each time.
    thing, ground = ((claims * arrived).clamp(max=1) * 256).round().div(256).split(1, 1)
    hole = ~grown(seen, BESIDE + 1)
    thing = torch.maximum(thing, hole.float())
    ground = torch.maximum(ground * ~grown(~seen, BESIDE), 1 - batch.mask) * ~hole
    return by_colours(torch.cat((thing, ground), 1), batch.source, _taken(near, layers))


def _taken(where: Tensor, layers: Layers) -> Tensor:
    """The pixels of the source, ``(B, 1, H, W)`` bool, that pixels of the result ask for through either."""
    height, width = where.shape[-2:]
    edit, _, y, x = where.nonzero().T
    taken = torch.zeros_like(where)
    for layer in (layers.thing, layers.ground):
        across, down = layer.round().long()[edit, :, y, x].T
        taken[edit, 0, _reflected(y + down, height), _reflected(x + across, width)] = True
    return grown(taken, 1)


def _reflected(index: Tensor, size: int) -> Tensor:
    """As :func:`~lightningdrag.warp.sample` looks beyond the border."""
    return (size - 1 - (size - 1 - index.abs()).abs()).clamp(0, size - 1)


def by_colours(claims: Tensor, source: Tensor, asked: Tensor) -> Tensor:
    """Of which of two claims pixels of like colours around are.

    A joint bilateral mean (Petschnigg et al., SIGGRAPH 2004).

    Args:
        claims: ``(B, 2, H, W)`` from 0 to 1.
        source: ``(B, 3, H, W)`` in [-1, 1].
        asked: ``(B, 1, H, W)`` bool, the pixels that are asked for.

    Returns:
        ``(B, 1, H, W)``: 1 for the first claim, -1 for the second and 0 for neither, or where it was not
        asked.
    """
    count, _, height, width = source.shape
    edit, _, y, x = asked.nonzero().T
    steps = torch.arange(-SIGHT, SIGHT + 1, EVERY, device=source.device)
    around = torch.cartesian_prod(steps, steps)
    around = around[around.square().sum(1) <= SIGHT**2]
    down, across = around.T
    there = (y[:, None] + down).clamp(0, height - 1) * width + (x[:, None] + across).clamp(0, width - 1)
    there = there + edit[:, None] * height * width
    here = (edit * height + y) * width + x
    table = torch.cat((source, claims), 1).permute(0, 2, 3, 1).reshape(-1, 5)
    distance = around.float().square().sum(1) / (SIGHT / 2) ** 2
    answer = claims.new_zeros(count * height * width)
    for some, others in zip(here.split(AT_ONCE), there.split(AT_ONCE), strict=True):
        colours, votes = table[others].split((3, 2), 2)
        difference = (colours - table[some, None, :3]).square().sum(2) / ALIKE**2
        weight = torch.exp(-(difference + distance) / 2)
        first, second = torch.einsum("nk,nkc->cn", weight, votes) * EVERY**2
        answer[some] = (first - second) / (first + second + PLAIN)
    return answer.view(count, 1, height, width)


def _difference(source: Tensor, displacement: Tensor, layers: Layers) -> Tensor:
    """``(B, 1, H, W)``: the farthest from each other of the colours, from -1 to 1, that either layer shows
    here and the network's displacement does."""
    three = [sample(source, field) for field in (displacement, layers.thing, layers.ground)]
    pairs = torch.stack([three[i] - three[i - 1] for i in range(3)])
    return pairs.square().sum(2, keepdim=True).amax(0).sqrt()


def slope(displacement: Tensor) -> Tensor:
    """``(B, 1, H, W)``: by how much a displacement ``(B, 2, H, W)`` changes towards the neighbours."""
    across = (displacement[..., 1:] - displacement[..., :-1]).square().sum(1, keepdim=True)
    down = (displacement[..., 1:, :] - displacement[..., :-1, :]).square().sum(1, keepdim=True)
    across = torch.maximum(F.pad(across, (0, 1)), F.pad(across, (1, 0)))
    down = torch.maximum(F.pad(down, (0, 0, 0, 1)), F.pad(down, (0, 0, 1, 0)))
    return (across + down).sqrt()


def _thick(where: Tensor) -> Tensor:
    """The parts that are somewhere thicker than THICK to each side, and what hangs together with those."""
    if not where.any():
        return where
    part = shrunk(where, THICK)
    for _ in range(SPREAD):
        part = grown(part, THICK) & where
    return part


def sharp(found: Tensor) -> Tensor:
    return (SHARP * found + 0.5).clamp(0, 1)


def _mean_around(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2 * AROUND + 1, stride=1, padding=AROUND, count_include_pad=False)
