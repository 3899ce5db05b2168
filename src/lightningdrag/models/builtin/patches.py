"""Fills put together from patches of what is seen.

The painter tells what stands in a hole, but softly: a mean of all that may stand there. Its colours lead a
search for patches of the picture that fit them and the hole's rim, and these are laid over one another, from
coarse to fine (Wexler, Shechtman and Irani, PAMI 2007; the search between scales as in PatchMatch, Barnes et
al., SIGGRAPH 2009). What repeats or goes on, such as grain, boards, tiles or leaves, does so in the hole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.surroundings import stillness
from lightningdrag.warp import sample

SIDE = 5
"""Pixels of a patch's side, at each scale."""
REACH = SIDE // 2
ROUNDS = (6, 4, 2)
"""Searches at 1/4, 1/2 and 1 of the window: each puts the fill together anew."""
GUESSED = 0.3
"""Weight of a pixel of the fill in how well a patch fits; one of the rim has 1."""
LED = 0.5
"""Weight of the painter's colour, against a whole patch's;"""
KIN = 1.0
"""and how far what moves is from what stands still, as a difference of colours."""
FEW = 64
"""Places that whole patches may be taken from: with fewer, the painter's colours stay."""
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""From a patch to those whose places, moved along, are tried for it; and from its place to others."""
AT_ONCE = 4096
"""Patches that are searched for at a time: their candidates take 4 kB each."""
NOWHERE = 1e3
"""Distance of a patch that is not wholly seen."""


def patched(rendering: Rendering, batch: DragBatch) -> Rendering:
    """A rendering whose painted colours in the mask are put together from patches."""
    moved = sample(batch.source, rendering.displacement)
    moves = 1 - stillness(rendering.displacement)
    shown = torch.maximum(rendering.shown(), 1 - batch.mask)
    inputs = (moved, moves, shown, rendering.colour.float(), rendering.thing.float())
    fills = [patch_fill(*parts) for parts in zip(*inputs, strict=True)]
    colour, offset = (torch.stack(parts) for parts in zip(*fills, strict=True))
    origin = (offset + _picked(rendering.displacement, offset)) * offset.any(1, keepdim=True)
    return replace(rendering, colour=colour, origin=origin)


def patch_fill(
    picture: Tensor, moves: Tensor, shown: Tensor, colour: Tensor, thing: Tensor
) -> tuple[Tensor, Tensor]:
    """Put together what is hidden from patches of what is not.

    Deterministic: other fills follow from other colours.

    Args:
        picture: ``(3, h, w)`` in [-1, 1], the source at its displacement; h and w are multiples of 4.
        moves: ``(1, h, w)`` from 0 to 1, whether it moved.
        shown: ``(1, h, w)`` from 0 to 1, where that is right. Within a pixel of what is not nothing is taken.
        colour: ``(3, h, w)``, the painter's.
        thing: ``(1, h, w)`` from 0 to 1, whether that is more of what moved, or of what stands still.

    Returns:
        The colours ``(3, h, w)``, the painter's where nothing is hidden; and ``(2, h, w)``, how far each is
        from where the middle of its patch stands in ``picture``, x and y in pixels, 0 where there is none.
    """
    hole = F.max_pool2d((shown < 0.5).float()[None], 3, stride=1, padding=1)[0]
    nothing = torch.zeros_like(picture[:2])
    if not hole.any():
        return colour, nothing
    painted, moving = (torch.where(hole > 0, a, b) for a, b in ((colour, picture), (thing, moves)))
    scales = [_Scale(painted, moving, hole > 0)]
    for _ in ROUNDS[1:]:
        scales.append(scales[-1].half())
    fill = scales[-1].picture
    offsets: Tensor | None = None
    for scale, rounds in zip(reversed(scales), ROUNDS, strict=True):
        if fill.shape != scale.picture.shape:
            fill = F.interpolate(fill[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
        search = _Search(scale, torch.where(scale.hole, fill, scale.picture))
        if search.places < FEW:
            return colour, nothing
        fill, offsets = search.run(rounds, offsets)
    assert offsets is not None
    return torch.where(hole > 0, fill, colour), torch.where(hole > 0, offsets, 0).to(nothing).flip(0)


@dataclass(frozen=True)
class _Scale:
    """A picture, and what of it moves, with the painter's answers in its hole, ``(1, h, w)`` bool."""

    picture: Tensor
    moves: Tensor
    hole: Tensor

    def half(self) -> _Scale:
        """At half the size: a cell of the hole is one that holds any of it."""
        hole = F.max_pool2d(self.hole.float()[None], 2)[0] > 0
        picture, moves = (F.avg_pool2d(x[None], 2)[0] for x in (self.picture, self.moves))
        return _Scale(picture, moves, hole)


class _Search:
    """The search at one scale: for each patch that touches the hole, the one like it that is seen.

    With t a patch of the fill, weights W of its pixels, s a patch that is seen, and l its mean colour and
    KIN times its share of what moves, against the painter's p,

        misfit = sum W (t - s)^2 / sum W + LED / 3 |p - l|^2,

    multiplied out to a scalar product of what depends on t and what depends on s, and a constant.

    Attributes:
        fill: ``(3, h, w)``, as it stands.
        targets: ``(N, 2)``, the middles of the patches that touch the hole, y and x.
        pixels: ``(N, SIDE^2)``, the indices of theirs.
        library: ``(h * w, D)``, what of the misfit depends on s.
    """

    def __init__(self, scale: _Scale, fill: Tensor) -> None:
        self.fill, self.picture, self.hole = fill, scale.picture, scale.hole
        _, self.height, self.width = fill.shape
        hole = scale.hole.float()[None]
        self.touched = F.max_pool2d(hole, SIDE, stride=1, padding=REACH)[0, 0] > 0
        self.targets = self.touched.nonzero()
        self.pixels = self._around(self.targets)
        self.seen = F.max_pool2d(F.pad(hole, (REACH,) * 4, value=1.0), SIDE, stride=1).flatten() == 0
        led_by = torch.cat((scale.picture, KIN * scale.moves))
        led_by = F.avg_pool2d(F.pad(led_by[None], (REACH,) * 4, mode="replicate"), SIDE, stride=1)[0]
        led_by = led_by.flatten(1).T
        squares = scale.picture.square().sum(0, keepdim=True)
        away = torch.where(self.seen, 0.0, NOWHERE)[:, None]
        self.library = _with_patches(
            torch.cat((scale.picture, squares)),
            torch.cat((led_by.square().sum(1, keepdim=True), led_by, away), 1),
        )
        weight = torch.where(scale.hole, GUESSED, 1.0).flatten()[self.pixels]
        self.weight = weight / weight.sum(1, keepdim=True)
        middle = self._index(self.targets)
        share, wanted = LED / 3 * scale.hole.flatten()[middle].float()[:, None], led_by[middle]
        self.led = torch.cat((share, -2 * share * wanted, torch.ones_like(share)), 1)
        self.led_constant = (share * wanted.square()).sum(1)

    @property
    def places(self) -> int:
        """How many patches are wholly seen."""
        return int(self.seen.sum())

    def run(self, rounds: int, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Put the fill together anew, some times; also the offsets to where its patches stand.

        Args:
            offsets: the coarser scale's, ``(2, h/2, w/2)``, y and x.
        """
        y, x = self.targets.T
        origins = None if offsets is None else self.targets + 2 * offsets[:, y // 2, x // 2].T
        for _ in range(rounds):
            origins, misfit = self.nearest(origins)
            self.lay(origins, misfit)
        assert origins is not None
        return self.fill, self.spread(origins)

    def nearest(self, origins: Tensor | None) -> tuple[Tensor, Tensor]:
        """The places ``(N, 2)`` of the patches that fit best, and their misfit ``(N,)``.

        All places are searched where there are no ``origins``, else those around them.
        """
        patches = self.fill.flatten(1)[:, self.pixels].transpose(0, 1)  # (N, 3, SIDE^2)
        weight = self.weight[:, None]
        queries = torch.cat(((-2 * weight * patches).flatten(1), self.weight, self.led), 1)
        constant = (weight * patches.square()).sum((1, 2)) + self.led_constant
        if origins is None:
            places = self.seen.nonzero()[:, 0]
            misfit, best = (queries @ self.library[places].T).min(1)
            index = places[best]
        else:
            index, misfit = self._best(self._index(self._candidates(origins)), queries)
        found = torch.stack((index // self.width, index % self.width), 1)
        return found, (misfit + constant).clamp_min(0)

    def _best(self, candidates: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Of each row's candidates the best, and its misfit less the constant."""
        parts = []
        for some, query in zip(candidates.split(AT_ONCE), queries.split(AT_ONCE), strict=True):
            misfit, best = torch.bmm(self.library[some], query[:, :, None])[..., 0].min(1)
            parts.append((some.gather(1, best[:, None])[:, 0], misfit))
        index, misfits = (torch.cat(column) for column in zip(*parts, strict=True))
        return index, misfits

    def lay(self, origins: Tensor, misfit: Tensor) -> None:
        """Put the fill together: each pixel is the mean of the patches over it, the better the heavier.

        The patch around a neighbour, moved by the neighbour's offset, shows here what stands there at that
        offset from here.
        """
        weight = torch.exp(-misfit / (2 * misfit.quantile(0.75) + 1e-6)) + 1e-3
        weights = weight.new_zeros(self.height, self.width)
        weights[self.targets[:, 0], self.targets[:, 1]] = weight
        here = self.hole[0].nonzero()
        around = self._around(here)
        there = here[:, None] + self.spread(origins).flatten(1).T[around]
        shown = self.picture.flatten(1)[:, self._index(self._inside(there))]
        weight = weights.flatten()[around]
        self.fill = self.fill.clone()
        self.fill[:, here[:, 0], here[:, 1]] = (shown * weight).sum(2) / weight.sum(1)

    def spread(self, origins: Tensor) -> Tensor:
        """Offsets to the origins on the whole grid, ``(2, h, w)``, y and x; 0 where there is none."""
        offsets = origins.new_zeros(2, self.height, self.width)
        offsets[:, self.targets[:, 0], self.targets[:, 1]] = (origins - self.targets).T
        return offsets

    def _candidates(self, origins: Tensor) -> Tensor:
        """``(N, K, 2)``: the places at hand, those that neighbours lead to, and those beside them."""
        offsets = self.spread(origins)
        candidates = [origins]
        for step in STEPS:
            y, x = self._inside(self.targets + self.targets.new_tensor(step)).T
            led = self.targets + offsets[:, y, x].T
            candidates.append(torch.where(self.touched[y, x][:, None], led, origins))
        candidates += [origins + origins.new_tensor(step) for step in STEPS]
        return self._inside(torch.stack(candidates, 1))

    def _inside(self, places: Tensor) -> Tensor:
        return places.clamp(min=0).minimum(places.new_tensor([self.height - 1, self.width - 1]))

    def _index(self, places: Tensor) -> Tensor:
        return places[..., 0] * self.width + places[..., 1]

    def _around(self, places: Tensor) -> Tensor:
        """Indices ``(N, SIDE^2)`` of the pixels of patches."""
        steps = torch.arange(-REACH, REACH + 1, device=places.device)
        grid = torch.cartesian_prod(steps, steps)
        return self._index(self._inside(places[:, None] + grid))


def _picked(field: Tensor, offset: Tensor) -> Tensor:
    """A field ``(B, C, h, w)`` at whole offsets ``(B, 2, h, w)`` from each pixel."""
    height, width = field.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(n, device=field.device) for n in (height, width)), indexing="ij")
    index = (y + offset[:, 1].long()) * width + x + offset[:, 0].long()
    flat = index.flatten(1)[:, None].expand(-1, field.shape[1], -1)
    return field.flatten(2).gather(2, flat).unflatten(2, (height, width))


def _with_patches(image: Tensor, more: Tensor) -> Tensor:
    """Every patch of an image ``(C, h, w)``, and ``(h * w, D)`` more, ``(h * w, C * SIDE^2 + D)``."""
    (channels, height, width), size = image.shape, len(image) * SIDE**2
    rows = image.new_empty(height * width, size + more.shape[1])
    padded = F.pad(image[None], (REACH,) * 4, mode="replicate")[0]
    patches = padded.unfold(1, SIDE, 1).unfold(2, SIDE, 1)
    into = rows[:, :size].unflatten(1, (channels, SIDE, SIDE)).unflatten(0, (height, width))
    into.copy_(patches.permute(1, 2, 0, 3, 4))
    rows[:, size:] = more
    return rows
