"""Fills put together from patches of what is seen.

The painter tells what stands in a hole, but softly: a mean of all that may stand there. Its colours lead a
search for patches of the picture that fit them and the hole's rim, and these are laid over one another, from
coarse to fine (Wexler, Shechtman and Irani, PAMI 2007; the search as in PatchMatch, Barnes et al., SIGGRAPH
2009). What repeats or goes on, such as grain, boards, tiles or leaves, does so in the hole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.ground import carried_on, stillness
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.morphology import grown, shrunk
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.shift_map import shift_map, shifted
from lightningdrag.warp import sample

SIDE = 5
"""Pixels of a patch's side, at each scale."""
REACH = SIDE // 2
ROUNDS = (1, 2, 4)
"""Searches at 1, 1/2 and 1/4 of the window: each puts the fill together anew."""
DEEP = 3
"""Cells from its rim to its middle: a hole that is deeper at 1/2 is begun at 1/4."""
FEW = 64
"""Patches that a scale must have wholly seen to be searched."""
MANY = 8192
"""Cells of a picture from which on the first search skips every second place, across and down."""
GUESSED = 0.6
"""Weight of a pixel of the fill in how well a patch fits; one of the rim has 1."""
LED = 1.5
"""Weight of the painter's colour against that of a whole patch."""
KIN = 0.3
"""How far what moves is from what stands still, as a difference of colours."""
BEST = 0.1
"""Misfit, over the third quartile of the fill's, by which a patch's weight falls to a third."""
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""From a patch to those whose places, moved along, are tried for it; and from its place to others."""
AT_ONCE = 4096
"""Patches that are searched for at a time: what they are compared with takes 4 to 16 kB each."""
BEHIND = 4
"""Pixels by which a fill goes on behind what stands before it: its rim is mixed with it."""
UNSEEN = 1e3
"""Misfit of a patch that is not wholly seen."""


def patched(
    rendering: Rendering, batch: DragBatch, before: Tensor | None = None, luck: Tensor | None = None
) -> Rendering:
    """A rendering whose painted colours in the mask are put together from patches.

    Args:
        before: ``(B, 1, H, W)`` bool, what stands before the fills and has nothing to do with them.
        luck: ``(B, 1, H / 4, W / 4)`` noise; see :func:`patch_fill`.
    """
    before = torch.zeros_like(batch.mask, dtype=torch.bool) if before is None else before
    lucks = [None] * len(before) if luck is None else luck[:, 0].float()
    with torch.autocast(batch.mask.device.type, enabled=False):
        moved = sample(batch.source, rendering.displacement)
        moves = 1 - stillness(rendering.displacement)
        shown = torch.maximum(rendering.shown(), 1 - batch.mask)
        inputs = (x.float() for x in (moved, moves, shown, rendering.colour, rendering.thing))
        fills = [patch_fill(*parts) for parts in zip(*inputs, before, lucks, strict=True)]
    colour, offset = (torch.stack(parts) for parts in zip(*fills, strict=True))
    moved_by = torch.stack(
        [shifted(field, xy.flip(0).long()) for field, xy in zip(rendering.displacement, offset, strict=True)]
    )
    origin = (offset + moved_by) * offset.any(1, keepdim=True)
    return replace(rendering, colour=colour, origin=origin)


def patch_fill(
    picture: Tensor,
    moves: Tensor,
    shown: Tensor,
    colour: Tensor,
    thing: Tensor,
    before: Tensor | None = None,
    luck: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Put together what is hidden from patches of what is not.

    Other fills follow from other colours; where a whole thing stands before them it begins with how the
    picture goes on, and from other luck.

    Args:
        picture: ``(3, h, w)`` in [-1, 1], the source at its displacement; h and w are multiples of 4.
        moves: ``(1, h, w)`` from 0 to 1, whether it moved.
        shown: ``(1, h, w)`` from 0 to 1, where that is right. Within a pixel of what is not nothing is taken.
        colour: ``(3, h, w)``, the painter's.
        thing: ``(1, h, w)`` from 0 to 1, whether that is more of what moved, or of what stands still.
        before: ``(1, h, w)`` bool, the whole thing that stands before it, with its rim, if that is known:
            nothing is taken from there, no patch has to be like it, and the fill goes on some pixels behind.
        luck: ``(h / 4, w / 4)`` noise for :func:`~.shift_map.shift_map`.

    Returns:
        The colours ``(3, h, w)``, the painter's where nothing is hidden or too little is seen; and
        ``(2, h, w)``, x and y in whole pixels, how far each is from where its texture stands in ``picture``,
        0 where there is none.
    """
    hole = grown(shown < 0.5, 1)
    nothing = torch.zeros_like(picture[:2])
    if not hole.any():
        return colour, nothing
    before = torch.zeros_like(hole) if before is None else before
    hole |= before & grown(hole, BEHIND)
    unseen = hole | before
    picture, moves = torch.where(unseen, colour, picture), torch.where(unseen, thing, moves)
    whole = _Scale(picture, moves, hole, before & ~hole)
    scales = _scales(whole)
    if not scales:
        return colour, nothing
    offsets: Tensor | None = None
    if before.any() and (quarter := whole.half().half()).seen.sum() >= FEW:
        scales, offsets = scales[:2], quarter.shifts(luck)
    for scale, rounds in reversed(list(zip(scales, ROUNDS, strict=False))):
        search = _Search(scale, 2 if scale is scales[0] else 1)
        offsets = search.run(rounds, offsets)
    assert offsets is not None
    fill = search.fill.T.unflatten(1, hole.shape[1:]) + search.missing_tone()
    offset = torch.where(hole, search.commonest(offsets), 0).to(nothing).flip(0)
    return torch.where(hole, fill, colour), offset


@dataclass(frozen=True)
class _Scale:
    """A picture, and what of it moves, with the painter's answers in its hole, and what stands beside that
    and does not count; both ``(1, h, w)`` bool."""

    picture: Tensor
    moves: Tensor
    hole: Tensor
    aside: Tensor

    def half(self) -> _Scale:
        """At half the size: a cell of the hole is one that holds any of it."""
        hole, aside = (F.max_pool2d(x.float()[None], 2)[0] > 0 for x in (self.hole, self.aside))
        picture, moves = (F.avg_pool2d(x[None], 2)[0] for x in (self.picture, self.moves))
        return _Scale(picture, moves, hole, aside & ~hole)

    @cached_property
    def seen(self) -> Tensor:
        """``(h, w)`` bool: around which cells is a whole patch seen?"""
        return shrunk(~(self.hole | self.aside)[0], REACH)

    def shifts(self, luck: Tensor | None) -> Tensor:
        """From where the picture goes on in its hole, ``(2, h, w)``, y and x."""
        return shift_map(self.picture, self.hole[0], (self.hole | self.aside)[0], luck)

    def is_deep(self) -> bool:
        """Is any of the hole farther than DEEP cells from what is seen?"""
        return not bool(grown(~self.hole, DEEP).all())


def _scales(whole: _Scale) -> list[_Scale]:
    """From fine to coarse, those at which to search: a deep hole needs larger patches, a narrow one has
    none that fit it; none where too few patches are seen."""
    scales = [whole, whole.half()]
    if scales[-1].is_deep():
        scales.append(scales[-1].half())
    while scales and scales[-1].seen.sum() < FEW:
        scales.pop()
    return scales


class _Search:
    """The search at one scale: for patches that touch the hole, the ones like them that are seen.

    With t a patch of the fill, weights W of its pixels, s a patch that is seen, l its mean colour and KIN
    times its share of what moves, and p the same of what is painted at t and stands around it,

        misfit = sum W (t - s)^2 / sum W + LED / 3 |p - l|^2,

    the second only where t's middle is hidden, or stands aside; multiplied out to a scalar product of what
    depends on t and what depends on s, and a constant.

    Attributes:
        fill: ``(h * w, 3)``, as it stands.
        seen, touched: ``(h, w)`` bool, the middles of patches that are wholly seen, and, where every
            ``stride``-th row and column meet, of those that touch the hole.
        targets: ``(N, 2)``, the latter's, y and x.
        pixels: ``(N, SIDE^2)``, the indices of their patches' pixels.
        weight: ``(N, SIDE^2, 1)`` of those, W.
        colours: ``(h * w, 4)`` of the picture, and the sum of their squares.
        looks: ``(h * w, 6)``, |l|^2, l, and the misfit of what is not seen.
        laid: the offsets ``(2, h, w)`` and the weights ``(1, h, w)`` of which the fill was put together.
    """

    def __init__(self, scale: _Scale, stride: int) -> None:
        self.fill, self.hole, self.seen = _listed(scale.picture), scale.hole[0], scale.seen
        self.laid: tuple[Tensor, Tensor]
        self.closed = self.hole | scale.aside[0]
        self.height, self.width = self.hole.shape
        self.stride = stride
        self.touched = grown(self.hole, REACH) & self._every(self.stride)
        self.targets = self.touched.nonzero()
        self.pixels = self._around(self.targets)
        self.colours = _listed(torch.cat((scale.picture, scale.picture.square().sum(0, keepdim=True))))
        looks = _mean(torch.cat((scale.picture, KIN * scale.moves)))
        unseen = torch.where(self.seen, 0.0, UNSEEN)[None]
        self.looks = _listed(torch.cat((looks.square().sum(0, keepdim=True), looks, unseen)))
        weight = torch.where(self.closed, 0.0, 1.0).masked_fill(self.hole, GUESSED).flatten()[self.pixels]
        self.weight = (weight / weight.sum(1, keepdim=True).clamp_min(1e-6))[..., None]
        middle = self._index(self.targets)
        share, wanted = LED / 3 * self.closed.flatten()[middle].float()[:, None], self.looks[middle, 1:-1]
        self.led = torch.cat((share, -2 * share * wanted, torch.ones_like(share)), 1)
        self.led_constant = (share * wanted.square()).sum(1)

    def run(self, rounds: int, offsets: Tensor | None) -> Tensor:
        """Put the fill together anew, some times; the offsets to where its patches stand, ``(2, h, w)``.

        Args:
            offsets: the coarser scale's, y and x; None searches all places first.
        """
        places = None
        if offsets is not None:
            y, x = self.targets.T
            places = self._inside(self.targets + 2 * offsets[:, y // 2, x // 2].T)
            # As what was found there looks here: made larger it would be soft, and lead to what is.
            misfit = self.looks[self._index(places), -1]
            self.lay(self.spread(places - self.targets), misfit)
        for _ in range(rounds):
            places, misfit = self.nearest(places)
            offsets = self.spread(places - self.targets)
            self.lay(offsets, misfit)
        assert offsets is not None
        # What lies between the targets has the offset of the one before it.
        y, x = (torch.arange(n, device=offsets.device) // self.stride * self.stride for n in self.hole.shape)
        return offsets[:, y][:, :, x]

    def _every(self, stride: int) -> Tensor:
        """``(h, w)`` bool: where rows and columns of so many meet."""
        grid = torch.zeros_like(self.hole)
        grid[::stride, ::stride] = True
        return grid

    def nearest(self, places: Tensor | None) -> tuple[Tensor, Tensor]:
        """The places ``(N, 2)`` of the patches that fit best, and their misfit ``(N,)``.

        Those around the ``places`` at hand are searched, or all that are seen.
        """
        patches = self.fill[self.pixels]  # (N, SIDE^2, 3)
        queries = torch.cat((-2 * self.weight * patches, self.weight), 2).flatten(1)
        constant = (self.weight * patches.square()).sum((1, 2)) + self.led_constant
        index, misfit = self._best_of_all(queries) if places is None else self._best_near(places, queries)
        found = torch.stack((index // self.width, index % self.width), 1)
        return found, (misfit + constant).clamp_min(0)

    def _best_of_all(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the best places, and the misfits less the constant."""
        chosen = self.seen & self._every(2 if self.hole.numel() > MANY else 1)
        places = (chosen if chosen.any() else self.seen).flatten().nonzero()[:, 0]
        patches, looks = self._patches(places).T, self.looks[places].T
        parts = [
            torch.addmm(led @ looks, query, patches).min(1)
            for query, led in zip(queries.split(AT_ONCE), self.led.split(AT_ONCE), strict=True)
        ]
        misfits, best = (torch.cat(column) for column in zip(*parts, strict=True))
        return places[best], misfits

    def _best_near(self, places: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The same, of the places at hand, those that neighbours lead to, and those beside them."""
        offsets = self.spread(places - self.targets)
        candidates = [places]
        for step in STEPS:
            y, x = self._inside(self.targets + self.stride * self.targets.new_tensor(step)).T
            moved_along = self.targets + offsets[:, y, x].T
            candidates.append(torch.where(self.touched[y, x][:, None], moved_along, places))
        candidates += [places + places.new_tensor(step) for step in STEPS]
        index = self._index(self._inside(torch.stack(candidates, 1)))  # (N, K)
        parts = []
        for some, query, led in zip(*(x.split(AT_ONCE) for x in (index, queries, self.led)), strict=True):
            of_looks = (self.looks[some] * led[:, None]).sum(2, keepdim=True)
            misfit, best = torch.baddbmm(of_looks, self._patches(some), query[..., None])[..., 0].min(1)
            parts.append((some.gather(1, best[:, None])[:, 0], misfit))
        found, misfits = (torch.cat(column) for column in zip(*parts, strict=True))
        return found, misfits

    def _patches(self, index: Tensor) -> Tensor:
        """The patches around cells, ``(*index.shape, SIDE^2 * 4)``; beyond the border anything."""
        steps = self._index(_grid(index.device))
        pixels = (index[..., None] + steps).clamp(0, len(self.colours) - 1)
        return self.colours[pixels].flatten(-2)

    def lay(self, offsets: Tensor, misfit: Tensor) -> None:
        """Put the fill together: each pixel is the mean of the patches over it, the better the heavier.

        The patch around a neighbour, moved by the neighbour's offset, shows here what stands there at that
        offset from here.
        """
        certainty = torch.exp(-misfit / (BEST * misfit.quantile(0.75) + 1e-6))[:, None] + 1e-3
        self.laid = offsets, self.spread(certainty)
        here = self.hole.nonzero()
        self.fill = self.fill.clone()
        self.fill[self._index(here)] = self._shown_at(here)[0]

    def missing_tone(self) -> Tensor:
        """What the fill lacks to go on from what is seen, ``(3, h, w)``, 0 beside the hole.

        The patches go over the hole's rim; what they differ there by from what is seen is carried into it
        (as in Farbman et al., SIGGRAPH 2009), for light and shade change where texture does not.
        """
        ring = grown(self.hole, REACH) & ~self.closed
        here = ring.nonzero()
        shown, known = self._shown_at(here)
        missing = self.fill.new_zeros(4, self.height, self.width)
        difference = self.colours[self._index(here), :3] - shown
        missing[:, here[:, 0], here[:, 1]] = torch.cat((difference, (known > 0).float()), 1).T
        return carried_on(missing[None, :3], missing[None, 3:])[0] * self.hole

    def _shown_at(self, here: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the patches as they were laid over pixels, ``(P, 3)``, and their weight ``(P, 1)``."""
        offsets, weights = self.laid
        around = self._around(here)
        there = self._index(self._inside(here[:, None] + offsets.flatten(1).T[around]))
        weight = weights.flatten()[around][..., None]
        total = weight.sum(1)
        return (self.colours[there, :3] * weight).sum(1) / total.clamp_min(1e-9), total

    def commonest(self, offsets: Tensor) -> Tensor:
        """In the hole the commonest of the offsets around each pixel, twice: texture comes in pieces.

        Only offsets to what is seen are taken; where there is none, 0. As one number, (y, x) is 2 w y + x.
        """
        here = self.hole.nonzero()
        around = self._around(here)
        chosen = self._to_seen(here, offsets[:, here[:, 0], here[:, 1]].T)
        for _ in range(2):
            offsets = offsets.clone()
            offsets[:, here[:, 0], here[:, 1]] = chosen.T
            keys = (offsets[0] * 2 * self.width + offsets[1]).flatten()[around]
            key = keys.cpu().mode(1).values.to(keys.device)  # not every device has it
            y = torch.div(key + self.width, 2 * self.width, rounding_mode="floor")
            common = self._to_seen(here, torch.stack((y, key - y * 2 * self.width), 1))
            chosen = torch.where(common.any(1, keepdim=True), common, chosen)
        offsets[:, here[:, 0], here[:, 1]] = chosen.T
        return offsets

    def _to_seen(self, here: Tensor, offsets: Tensor) -> Tensor:
        """Offsets ``(P, 2)`` from pixels, 0 where they do not lead to what is seen."""
        there = here + offsets
        inside = self._inside(there)
        seen = (there == inside).all(1) & ~self.closed.flatten()[self._index(inside)]
        return offsets * seen[:, None]

    def spread(self, values: Tensor) -> Tensor:
        """Values ``(N, C)`` of the targets on the whole grid, ``(C, h, w)``, 0 elsewhere."""
        grid = values.new_zeros(values.shape[1], self.height, self.width)
        grid[:, self.targets[:, 0], self.targets[:, 1]] = values.T
        return grid

    def _inside(self, places: Tensor) -> Tensor:
        return places.clamp(min=0).minimum(places.new_tensor([self.height - 1, self.width - 1]))

    def _index(self, places: Tensor) -> Tensor:
        return places[..., 0] * self.width + places[..., 1]

    def _around(self, places: Tensor) -> Tensor:
        """Indices ``(N, SIDE^2)`` of the pixels of patches; those beyond the border are moved to it."""
        return self._index(self._inside(places[:, None] + _grid(places.device)))


def _grid(device: torch.device) -> Tensor:
    """A patch's pixels from its middle, ``(SIDE^2, 2)``, y and x."""
    steps = torch.arange(-REACH, REACH + 1, device=device)
    return torch.cartesian_prod(steps, steps)


def _mean(image: Tensor) -> Tensor:
    """Of the patch around each pixel of ``(C, h, w)``."""
    return F.avg_pool2d(F.pad(image[None], (REACH,) * 4, mode="replicate"), SIDE, stride=1)[0]


def _listed(image: Tensor) -> Tensor:
    """``(C, h, w)`` as ``(h * w, C)``, the channels of a pixel one behind the other."""
    return image.flatten(1).T.contiguous()
