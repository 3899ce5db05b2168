"""How a picture goes on in a hole: by the few shifts at which it is like itself.

A line, a row of boards or a meadow is like itself some way along. The commonest of these shifts are found
(He and Sun, ECCV 2012), and each cell of the hole shows what stands at one of them, so that neighbours go
together and the rim goes on (shift-map editing; Pritch, Kav-Venaki and Peleg, ICCV 2009).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.models.builtin.morphology import grown, most_around, shrunk

SHIFTS = 40
"""To choose from."""
LEAST = 4
"""Cells of a shift, across or down: nearer, all is like itself."""
SIDE = 5
"""Cells of the side of the patches that are compared."""
AROUND = 32
"""Cells from a hole within which its shifts are looked for."""
RIM = 2.0
"""Weight of how well a cell of the rim goes on."""
ROUNDS = 10
"""Of messages between neighbours; a hole is seldom wider than as many cells, twice."""
LUCK = 0.02
"""Cost of a shift by luck, a standard deviation."""
UNSEEN = 50.0
"""Cost of a shift that leads to what is not seen: more than any two colours differ."""


def shift_map(picture: Tensor, hole: Tensor, closed: Tensor, luck: Tensor | None = None) -> Tensor:
    """For each cell of a hole and of its rim the shift to what it shows.

    Minimises, over the shift s of each cell x, by loopy belief propagation (min-sum),

        sum of |I(x + s_x) - I(x + s_y)|^2 + |I(y + s_x) - I(y + s_y)|^2 over neighbours x and y
        + RIM |I(x + s_x) - I(x)|^2 over the rim.

    The cost of a cell is that of SHIFTS^2 numbers in each round.

    Args:
        picture: ``(C, h, w)``.
        hole: ``(h, w)`` bool.
        closed: ``(h, w)`` bool, the hole and whatever else is not to be shown.
        luck: ``(h, w)`` noise, of which each shift costs as much as it leads to: other noise, another way
            to go on (perturb and MAP; Papandreou and Yuille, ICCV 2011). None is the likeliest one.

    Returns:
        ``(2, h, w)`` int64, y and x, each to what is seen; 0 elsewhere, and where no shifts lead there.
    """
    shifts = common_shifts(picture, hole, closed)
    fees = picture.new_zeros(len(shifts)) if luck is None else LUCK * luck[shifts[:, 0], shifts[:, 1]]
    if not len(shifts):
        return torch.zeros((2, *hole.shape), dtype=torch.long, device=hole.device)
    found = _chosen(picture, hole, closed, shifts, fees)
    filled, left = picture, hole
    while True:
        # Deep in a large hole no shift leads out of it: there what is filled by now is seen, too.
        reached = left & found.any(0)
        left = left & ~reached
        if not left.any() or not reached.any():
            return found
        filled = torch.where(reached, shifted(filled, found), filled)
        further = _chosen(filled, left, closed & ~(hole & ~left), shifts, fees) * left
        found = found + torch.where(further.any(0), further + shifted(found * hole, further), 0)


def _chosen(picture: Tensor, hole: Tensor, closed: Tensor, shifts: Tensor, fees: Tensor) -> Tensor:
    """Of some shifts the best ones, ``(2, h, w)``; 0 where none leads to what is seen.

    Args:
        fees: ``(K,)``, what each shift costs by itself.
    """
    found = torch.zeros((2, *hole.shape), dtype=torch.long, device=hole.device)
    nodes = (grown(hole, 1) & (hole | ~closed)).nonzero()  # (N, 2)
    if not len(nodes):
        return found
    shown, seen = _looked_up(picture, closed, nodes[:, None] + shifts)
    own = picture[:, nodes[:, 0], nodes[:, 1]].T[:, None]
    is_rim = ~hole[nodes[:, 0], nodes[:, 1]][:, None]
    cost = torch.where(seen, RIM * is_rim * (shown - own).square().sum(2) + fees, UNSEEN)
    label = _least_cost(cost, torch.cdist(shown, shown).square(), _neighbours(nodes, hole.shape))
    found[:, nodes[:, 0], nodes[:, 1]] = (shifts[label] * seen.gather(1, label[:, None])).T
    return found


def common_shifts(picture: Tensor, hole: Tensor, closed: Tensor) -> Tensor:
    """The commonest shifts, ``(K, 2)`` y and x, K <= SHIFTS, from patches to those that are most like them.

    Of every second patch, across and down, that is seen within AROUND of the hole. A shift counts with those
    beside it, and with its reverse.
    """
    height, width = closed.shape
    reach = SIDE // 2
    whole = shrunk(~closed, reach)
    asked = whole & grown(hole, AROUND)
    asked[1::2] = False
    asked[:, 1::2] = False
    places, middles = whole.nonzero(), asked.nonzero()
    if not len(middles):
        return middles
    patches = F.unfold(picture[None], SIDE, padding=reach)[0].T  # (h * w, C * SIDE^2)
    there, here = (patches[x[:, 0] * width + x[:, 1]] for x in (places, middles))
    misfit = torch.addmm(there.square().sum(1)[None], here, there.T, alpha=-2)
    y, x = ((to - at[:, None]).abs() < LEAST for to, at in zip(places.T, middles.T, strict=True))
    least, best = misfit.masked_fill_(y & x, float("inf")).min(1)
    shift = (places[best] - middles)[least.isfinite()]
    votes = picture.new_zeros(2 * height + 1, 2 * width + 1)
    votes.index_put_((shift[:, 0] + height, shift[:, 1] + width), votes.new_ones(len(shift)), accumulate=True)
    votes = votes + votes.flip((0, 1))
    bell = votes.new_tensor([0.25, 0.5, 0.25])
    smooth = F.conv2d(votes[None, None], torch.outer(bell, bell)[None, None], padding=1)[0, 0]
    peaks = smooth * ((most_around(smooth, 1) == smooth) & (smooth > 0))
    count = min(SHIFTS, int((peaks > 0).sum()))
    index = peaks.flatten().topk(count).indices
    return torch.stack((index // votes.shape[1] - height, index % votes.shape[1] - width), 1)


def _least_cost(cost: Tensor, apart: Tensor, neighbours: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The label of each node, ``(N,)``, by ROUNDS of messages, each halfway from the one before.

    Args:
        cost: ``(N, K)``.
        apart: ``(N, K, K)``, symmetric; two neighbours cost the sum of theirs at both their labels.
        neighbours: the pairs to the right and down, ``(E,)`` and ``(E,)`` each.
    """
    edges = [(first, second, apart[first] + apart[second]) for first, second in neighbours]
    messages = cost.new_zeros(2 * len(edges), *cost.shape)  # to the second of a pair, and to the first
    for step in range(ROUNDS):
        belief = cost + messages.sum(0)
        new = torch.zeros_like(messages)
        for i, (first, second, together) in enumerate(edges):
            forth = (belief - messages[2 * i + 1])[first]
            back = (belief - messages[2 * i])[second]
            new[2 * i, second] = (forth[:, :, None] + together).amin(1)
            new[2 * i + 1, first] = (back[:, :, None] + together).amin(1)
        new -= new.amin(2, keepdim=True)
        messages = torch.lerp(messages, new, 0.5 if step else 1.0)
    return (cost + messages.sum(0)).argmin(1)


def _neighbours(nodes: Tensor, shape: torch.Size) -> list[tuple[Tensor, Tensor]]:
    """Pairs of nodes of which one is to the right of the other, and below it."""
    index = nodes.new_full((shape[0] + 1, shape[1] + 1), -1)
    index[nodes[:, 0], nodes[:, 1]] = torch.arange(len(nodes), device=nodes.device)
    pairs = []
    for down, right in ((0, 1), (1, 0)):
        other = index[nodes[:, 0] + down, nodes[:, 1] + right]
        first = (other >= 0).nonzero()[:, 0]
        pairs.append((first, other[first]))
    return pairs


def _looked_up(picture: Tensor, closed: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """What a picture shows at ``(..., 2)``, ``(..., C)``, and whether it is seen there."""
    last = places.new_tensor(closed.shape) - 1
    inside = places.clamp(min=0).minimum(last)
    y, x = inside.unbind(-1)
    return picture[:, y, x].movedim(0, -1), (inside == places).all(-1) & ~closed[y, x]


def shifted(image: Tensor, shifts: Tensor) -> Tensor:
    """An image ``(C, h, w)`` at shifts ``(2, h, w)`` int64, y and x, from each cell."""
    y, x = torch.meshgrid(*(torch.arange(n, device=image.device) for n in image.shape[1:]), indexing="ij")
    return image[:, y + shifts[0], x + shifts[1]]
