"""Things that are moved whole, found in the picture where they have their edges.

A motion says roughly what follows a drag, and is vague at the thing's end.  Where that stands out from what
is around it, the picture knows better: GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004) begins with
what the motion is sure of and ends at the picture's edges.  A thing that hangs on another, or bends, has no
such outline, and is left to the motion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.outlines import STEP
from lightningdrag.warp import forward_warp

STRIDE = 2
"""Things are looked for at this stride of the window, and then cut out at every pixel."""
ROUNDS = 2
"""Of GrabCut at that stride."""
UNSURE = 4
"""Pixels on either side of such an outline among which the finer one runs."""
LIKELY, SURE = 0.45, 0.75
"""Share of the drag's way from which on a pixel is probably the thing's, and surely (away from its rim)."""
STILL, FAR = 0.04, 3
"""The share below which it is surely ground, and how many cells from anything that moves more."""
TO_BE_KEPT = 0.6
"""A part of what was cut out is the thing's if it somewhere goes so far."""
LEAST_AREA, LEAST_COMMON = 0.015, 0.5
"""What a thing has to be: its share of the window, and how much of it and of what probably moves both have in
common (intersection over union)."""
CONTRAST, BESIDE = 0.35, 4
"""Difference of the mean colours, from -1 to 1, on both sides of an outline that shows, and over how many
cells the means are taken."""
AROUND, BINS = 6, 8
"""Cells around a thing whose colours are compared with its own, and bins of each colour's histogram."""
HOLES = 0.04
"""Share of a thing's area up to which what it surrounds is a mark on it, not a view through it."""
MOST_ALIKE, MOST_UNLIKE = 1.0, 0.35
"""Share of a thing's own area that may be added to it of what hangs on it and looks like it, and of what
looks like nothing that is a little further away."""
BESIDE_IT, FURTHER, LEAST_GROUND = 14, 24, 100
"""Cells from a thing within which the latter is looked for, and from there on up to which the ground is; and
how much of that has to be seen."""
ENDS_WITHIN = 3
"""Cells of the last of these: what comes so far goes on."""
GRAIN = 4.0
"""Grey levels, a standard deviation, by which that ground may differ from itself at least."""
TOUCHES, INWARD = 3, 0.3
"""Cells within two of the border by which a thing goes on beyond it, and the share of its way that leads away
from there from which on that cannot be."""


_Colours = tuple[np.ndarray, np.ndarray]
"""GrabCut's mixtures, of the ground's colours and of the thing's."""


@dataclass(frozen=True)
class _Rule:
    """What is taken for a thing that is moved whole.

    Attributes:
        least_move: how far it goes on average, as a share of the drag's way.
        most_grown: how many times as large it is as what probably moves, at most.
        outlined: the share of its outline that shows.
        same_colours: common area of the colour histograms of it and of what is around it, at most.
    """

    least_move: float
    most_grown: float
    outlined: float
    same_colours: float


SEEMS = _Rule(least_move=0.6, most_grown=1.45, outlined=0.82, same_colours=0.47)
"""By its motion and its looks, both."""
OWN = _Rule(least_move=0.6, most_grown=1.6, outlined=0.78, same_colours=0.33)
"""Its colours are its own."""
SHOWS = _Rule(least_move=0.5, most_grown=2.0, outlined=0.88, same_colours=0.22)
"""It stands out so clearly that the picture knows better than the motion what goes along."""
CLEAR = SEEMS, OWN, SHOWS
KNOWN = _Rule(least_move=0.5, most_grown=2.0, outlined=0.6, same_colours=0.7)
"""It was found before, and only has to be found again; or it may be one, for a second candidate. Milder than
any of the others."""


def cut_out(
    displacement: Tensor, shown: Tensor, batch: DragBatch, *, perhaps: bool = False
) -> list[np.ndarray | None]:
    """The things that the edits of a batch move whole, each ``(H, W)`` bool in its source, if there is one.

    At every STRIDE-th pixel, which is enough to know what follows.

    Args:
        displacement: ``(B, 2, H, W)`` backward, in pixels of the window; each edit's drags all go one way.
        shown: ``(B, 1, H, W)`` from 0 to 1, how much of the source is shown there.
        perhaps: take what may be one, too.
    """
    rules = (KNOWN,) if perhaps else CLEAR
    cuts = [_cut(*edit, rules) for edit in _edits(displacement, shown, batch)]
    return [None if cut is None else _enlarged(cut, *batch.mask.shape[2:]) for cut in cuts]


def cut_again(
    displacement: Tensor, shown: Tensor, batch: DragBatch, things: Sequence[np.ndarray | None]
) -> list[np.ndarray | None]:
    """Things that were found before, if they were, at every pixel.

    Each is looked for in its edit's own motion, which may know more of it; where it is not found there it
    is what it was, if any of it and of its ground is in the window.

    Args:
        displacement, shown: as for :func:`cut_out`.
        things: each ``(H, W)`` bool.
    """
    if all(thing is None for thing in things):
        return [None] * len(things)
    cuts: list[np.ndarray | None] = []
    for edit, thing in zip(_edits(displacement, shown, batch), things, strict=True):
        if thing is None:
            cuts.append(None)
            continue
        source, cells = edit[0], _cut(*edit, (KNOWN,))
        cells = _reduced(thing.astype(np.float32)) > 0.5 if cells is None else cells
        cuts.append(_at_every_pixel(cells, source) if 0 < cells.sum() < cells.size else None)
    return cuts


def _at_every_pixel(cells: np.ndarray, source: np.ndarray) -> np.ndarray:
    """A thing ``(H / STRIDE, W / STRIDE)`` bool, cut out finer.

    The colours are learned anew, for what was added to it may have been the ground's.
    """
    sides = np.where(cells, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    return _finer(_enlarged(cells, *source.shape[:2]), source, _learned(_reduced(source), sides, 1))


def _edits(
    displacement: Tensor, shown: Tensor, batch: DragBatch
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each edit what :func:`_cut` takes."""
    share = moved_share(displacement, shown > 0.5, batch).float()
    moved = share.mul(256).round().div(256).cpu().numpy()  # a GPU adds up in any order
    sources = (batch.source.float().cpu().permute(0, 2, 3, 1).numpy() * 127.5 + 127.5).clip(0, 255)
    masks, ways = batch.mask.cpu().numpy() > 0.5, (batch.targets - batch.handles)[:, 0].cpu().numpy()
    return zip(sources.astype(np.uint8), moved[:, 0], masks[:, 0], ways, strict=True)


def moved_share(displacement: Tensor, seen: Tensor, batch: DragBatch) -> Tensor:
    """How far each pixel of the source goes, ``(B, 1, H, W)``, as a share of the drag's length.

    What is hidden in the result was the thing's, mostly; of what is nowhere shown it is not known.
    """
    distance = torch.hypot(displacement[:, :1], displacement[:, 1:]) / length_of(batch)
    share, arrived = forward_warp(distance * seen, displacement)
    unknown = torch.where(seen, 0.5, 0.9)
    return torch.where(arrived > 0.3, share, unknown) * (batch.mask > 0.5)


def length_of(batch: DragBatch) -> Tensor:
    """Of the longest drag, ``(B, 1, 1, 1)``."""
    length = (batch.targets - batch.handles).norm(dim=2) * batch.valid
    return length.amax(1).clamp_min(1e-3)[:, None, None, None]


def _cut(
    source: np.ndarray, moved: np.ndarray, mask: np.ndarray, way: np.ndarray, rules: Sequence[_Rule]
) -> np.ndarray | None:
    """The thing of one edit, ``(H / STRIDE, W / STRIDE)`` bool.

    Args:
        source: ``(H, W, 3)`` uint8.
        moved: ``(H, W)`` float, see :func:`moved_share`.
        mask: ``(H, W)`` bool.
        way: ``(2,)`` x and y of the drag, in pixels.
        rules: of which it has to follow one.
    """
    if np.linalg.norm(way) <= STEP:
        return None
    picture, share, free = (_reduced(x) for x in (source, moved, mask.astype(np.float32)))
    share, inside = cv2.GaussianBlur(share, (0, 0), 1.0), np.greater(free, 0.5)
    labels = _first_labels(share)
    if min((labels == cv2.GC_BGD).sum(), (labels == cv2.GC_FGD).sum()) < LEAST_AREA * labels.size / 4:
        return None
    colours = _learned(picture, labels, ROUNDS)
    _, parts = cv2.connectedComponents((labels & 1).astype(np.uint8))
    thing = _closed(np.isin(parts, np.unique(parts[(share > TO_BE_KEPT) & (parts > 0)])))
    looks = _looks(thing, picture, inside)
    rules = [rule for rule in rules if _moves_as_one(thing, share, rule) and _stands_out(*looks, rule)]
    if not rules:
        return None

    def with_more(more: np.ndarray, most: float) -> np.ndarray:
        shows, common = _looks(more, picture, inside)
        stands_out = any(_stands_out(shows, common, rule) for rule in rules)
        small = more.sum() <= (1 + most) * thing.sum()
        return more if stands_out and small and not _comes_in(more, inside, way) else thing

    if _comes_in(thing, inside, way):
        return None
    thing = with_more(_attached(thing, picture, inside, colours), MOST_ALIKE)
    return with_more(_without_ground(thing, picture, inside), MOST_UNLIKE)


def _reduced(image: np.ndarray) -> np.ndarray:
    size = image.shape[1] // STRIDE, image.shape[0] // STRIDE
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _enlarged(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(cells.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _without_ground(thing: np.ndarray, picture: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """A thing with what hangs on it and is unlike the ground a little further away, such as wheels.

    What goes on that far, or as far as the mask does, is something else.
    """
    beside = _dilated(thing, BESIDE_IT)
    ground = _dilated(thing, FURTHER) & ~beside
    if ground.sum() < LEAST_GROUND:
        return thing
    pixels = np.concatenate((picture[ground], picture[thing])).astype(np.float64)
    pixels += np.random.default_rng(0).normal(0, GRAIN, pixels.shape)  # a plain ground has no spread
    samples = pixels.clip(0, 255).astype(np.uint8)[None]
    labels = np.repeat((cv2.GC_BGD, cv2.GC_FGD), (ground.sum(), thing.sum())).astype(np.uint8)[None]
    more = _attached(thing, picture, inside & beside, _learned(samples, labels, 1))
    _, parts = cv2.connectedComponents((more & ~thing).astype(np.uint8))
    goes_on = np.setdiff1d(parts[beside & ~_eroded(beside & inside, ENDS_WITHIN)], 0)
    return more & ~np.isin(parts, goes_on)


def _learned(picture: np.ndarray, labels: np.ndarray, rounds: int) -> _Colours:
    """GrabCut's mixtures of the ground's and the thing's colours; ``labels`` become its answer."""
    cv2.setRNGSeed(0)  # an edit is the same each time
    colours = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, labels, (0, 0, 0, 0), *colours, rounds, cv2.GC_INIT_WITH_MASK)
    return colours


def _attached(thing: np.ndarray, picture: np.ndarray, free: np.ndarray, colours: _Colours) -> np.ndarray:
    """A thing with what hangs on it, of what is ``free`` to, by known colours."""
    labels = np.where(thing, cv2.GC_FGD, np.where(free, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    cv2.grabCut(picture, labels, (0, 0, 0, 0), *colours, 1, cv2.GC_EVAL_FREEZE_MODEL)
    _, parts = cv2.connectedComponents((labels & 1).astype(np.uint8))
    return _closed(np.isin(parts, np.unique(parts[thing])))


def _closed(thing: np.ndarray) -> np.ndarray:
    """Without small holes."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats((~thing).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= HOLES * thing.sum()
    rims = np.concatenate((parts[0], parts[-1], parts[:, 0], parts[:, -1]))
    small[np.append(rims, 0)] = False
    return thing | small[parts]


def _finer(thing: np.ndarray, source: np.ndarray, colours: _Colours) -> np.ndarray:
    """A cut at every pixel of a source, by the colours of both sides that GrabCut has found."""
    labels = np.where(thing, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[_eroded(thing, UNSURE)] = cv2.GC_FGD
    labels[_eroded(~thing, UNSURE)] = cv2.GC_BGD
    cv2.grabCut(source, labels, (0, 0, 0, 0), *colours, 1, cv2.GC_EVAL_FREEZE_MODEL)
    return labels & 1 > 0


def _first_labels(share: np.ndarray) -> np.ndarray:
    """What GrabCut begins with."""
    labels = np.where(share > LIKELY, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[_eroded(share < STILL, FAR)] = cv2.GC_BGD
    labels[_eroded(share > SURE, 1)] = cv2.GC_FGD
    return labels


def _moves_as_one(thing: np.ndarray, share: np.ndarray, rule: _Rule) -> bool:
    likely = share > LIKELY
    return bool(
        thing.mean() >= LEAST_AREA
        and share[thing].mean() >= rule.least_move
        and (likely & thing).sum() >= LEAST_COMMON * (likely | thing).sum()
        and thing.sum() <= rule.most_grown * likely.sum()
    )


def _stands_out(shows: float, common: float, rule: _Rule) -> bool:
    return shows >= rule.outlined and common <= rule.same_colours


def _comes_in(thing: np.ndarray, inside: np.ndarray, way: np.ndarray) -> bool:
    """Does it go on beyond the border, and would more of it have to be seen where it goes?

    The border is that of the mask's extent: a window may go on beyond its photo, mirrored, and no mask does.
    """
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    within = (thing & inside)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    rims = within[:, :2].any(1), within[:2].any(0), within[:, -2:].any(1), within[-2:].any(0)
    left, top, right, bottom = (rim.sum() >= TOUCHES for rim in rims)
    x, y = way / np.linalg.norm(way)
    return bool(left & (x > INWARD) | top & (y > INWARD) | right & (-x > INWARD) | bottom & (-y > INWARD))


def _looks(thing: np.ndarray, picture: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """The share of its outline, within ``where``, that shows, and the colours that it has in common with what
    is around it, from 0 to 1."""
    edge = _edge(thing) & where
    if not edge.any():
        return 0.0, 1.0
    inside, outside = (_mean_beside(picture, side) for side in (thing, ~thing))
    contrast = np.linalg.norm(inside - outside, axis=2) / 127.5
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    near = cv2.dilate(thing.astype(np.uint8), np.ones((2 * AROUND + 1,) * 2)) > 0
    first, second = (_histogram(lab, part) for part in (thing, near & ~thing))
    return float((contrast[edge] > CONTRAST).mean()), float(np.minimum(first, second).sum())


def _dilated(where: np.ndarray, by: int) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1,) * 2)
    return cv2.dilate(where.astype(np.uint8), disc) > 0


def _edge(thing: np.ndarray) -> np.ndarray:
    """Its outermost cells; not those at the window's border."""
    edge = thing & ~_eroded(thing, 1)
    edge[[0, -1]] = edge[:, [0, -1]] = False
    return edge


def _mean_beside(picture: np.ndarray, side: np.ndarray) -> np.ndarray:
    size = (2 * BESIDE + 1,) * 2
    weight = side.astype(np.float32)[..., None]
    total = cv2.boxFilter(picture * weight, -1, size)
    return total / np.maximum(cv2.boxFilter(weight, -1, size), 1e-3)[..., None]


def _histogram(lab: np.ndarray, part: np.ndarray) -> np.ndarray:
    counts = cv2.calcHist([lab], [0, 1, 2], part.astype(np.uint8), [BINS] * 3, [0, 256] * 3)
    return counts / max(counts.sum(), 1)


def _eroded(where: np.ndarray, by: int) -> np.ndarray:
    return cv2.erode(where.astype(np.uint8), np.ones((2 * by + 1,) * 2)) > 0
