"""A thing that is moved whole ends where the picture says so, however vague the motion is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lightningdrag import Drag, DragEditor
from lightningdrag.models.builtin.cutouts import with_cutouts
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.outlines import find_outlines
from lightningdrag.models.builtin.things import cut_out

EXAMPLES = Path(__file__).parent.parent / "examples"
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


def cut(answer: Rendering, edit: DragBatch, asked: bool = True) -> np.ndarray | None:
    [thing] = cut_out(answer.displacement, answer.shown(), edit, [asked])
    return thing


def difference(thing: np.ndarray | None, truth: Tensor) -> float:
    """Pixels in which a cutout and the truth differ, as a share of the truth."""
    assert thing is not None
    return float((thing != (truth[0, 0].numpy() > 0.5)).sum() / truth.sum())


def finished(answer: Rendering, edit: DragBatch, whole: list[bool]) -> Rendering:
    """With outlines, and fills just as they were painted."""
    outlines, painted = with_cutouts(find_outlines(answer, edit), answer, edit, whole)
    parted = outlines.part(painted)
    plain = dataclasses.replace(parted, origin=torch.zeros_like(parted.displacement))
    return outlines.soften(plain, edit.source)


def test_a_thing_is_cut_out_where_it_ends() -> None:
    assert difference(cut(vague(), batch(picture(block(24)))), block(24)) < 0.1


def test_it_is_the_same_each_time() -> None:
    edit = batch(picture(block(24)))
    first = cut(vague(), edit)
    cv2.setRNGSeed(5)
    second = cut(vague(), edit)
    assert first is not None
    assert np.array_equal(first, second)


def test_what_looks_like_its_ground_is_no_thing() -> None:
    assert cut(vague(), batch(picture(block(24), thing=GROUND))) is None


def test_a_part_of_a_larger_thing_is_no_thing() -> None:
    """A bar of which one end is moved: where it ends nothing is seen."""
    assert cut(vague(), batch(picture(block(24, width=100)))) is None


def test_what_hardly_follows_is_no_thing() -> None:
    assert cut(vague(by=0.5 * SHIFT), batch(picture(block(24)))) is None


def test_a_drag_too_short_to_see_cuts_nothing_out() -> None:
    edit = batch(picture(block(24)))
    short = dataclasses.replace(edit, targets=edit.handles + 1)
    assert cut(vague(by=1.0), short) is None


def test_only_what_is_asked_for_is_cut_out() -> None:
    assert cut(vague(), batch(picture(block(24))), asked=False) is None


def test_all_of_it_goes_and_nothing_of_it_stays() -> None:
    source, truth = picture(block(24)), picture(block(24 + SHIFT))
    edit = batch(source)
    errors = [
        float((finished(vague(), edit, [whole]).compose(source) - truth).abs().mean())
        for whole in (False, True)
    ]
    assert errors[1] < 0.3 * errors[0]
    result = finished(vague(), edit, [True]).compose(source)
    left = (block(24) > 0) & (block(24 + SHIFT) == 0)
    left[..., 24 + SHIFT - 3 :] = False  # but for the soft edge
    assert ((result - GROUND.view(1, 3, 1, 1)).abs().amax(1, keepdim=True)[left] < 0.3).all()


@pytest.mark.parametrize(("by", "cuts"), [(SHIFT, False), (-SHIFT, True)])
def test_a_thing_that_the_border_cuts_is_not_moved_whole_to_where_more_of_it_would_have_to_be_seen(
    by: int, cuts: bool
) -> None:
    """A block at the photo's left border goes to the right, or to the left."""
    edit = batch(picture(block(0, 56)))
    edit = dataclasses.replace(edit, targets=edit.handles + torch.tensor([by, 0.0]))
    moved = torch.from_numpy(cv2.GaussianBlur(block(0, 56 + by)[0, 0].numpy(), (0, 0), 3.0))[None, None]
    answer = dataclasses.replace(vague(), displacement=torch.cat((-by * moved, 0 * moved), 1))
    assert (cut(answer, edit) is not None) == cuts


def test_outside_the_mask_and_in_other_edits_of_a_batch_nothing_is_parted() -> None:
    source = picture(block(24)).expand(2, -1, -1, -1)
    mask = torch.zeros(2, 1, SIDE, SIDE)
    mask[..., 30:98, 14:100] = 1
    edit, one = batch(source, mask), vague()
    answer = Rendering(
        *(torch.cat((x, x)) for x in (one.displacement, one.visibility, one.colour, one.thing))
    )
    before = find_outlines(answer, edit)
    after, painted = with_cutouts(before, answer, edit, [True, False])
    assert after.where[0].any()
    assert not after.where[mask == 0].any()
    for name in ("where", "covered", "left"):
        assert torch.equal(getattr(after, name)[1], getattr(before, name)[1])
    assert torch.equal(painted.colour[1], answer.colour[1])


def test_without_a_thing_the_outlines_stay_as_they_are() -> None:
    edit = batch(picture(block(24), thing=GROUND))
    outlines = find_outlines(vague(), edit)
    for whole in (True, False):
        assert with_cutouts(outlines, vague(), edit, [whole])[0] is outlines


@pytest.mark.parametrize(
    ("photo", "drag", "ground"),
    [
        ("flower", Drag((250, 330), (230, 360)), (330, 105, 10, 10)),
        ("coffee", Drag((300, 60), (300, 90)), (280, 20, 40, 12)),
    ],
)
def test_one_drag_moves_a_thing_of_a_photo_whole(
    photo: str, drag: Drag, ground: tuple[int, int, int, int]
) -> None:
    """Its pixels stand as far away as it was dragged, and where its rim was there is ground."""
    session = DragEditor.from_pretrained("builtin").open(EXAMPLES / f"{photo}.jpg")
    result = session.edit([drag], seed=0)
    before, after = np.asarray(session.photo.image).astype(int), np.asarray(result.image).astype(int)
    x, y = (round(place) for place in drag.handle)
    dx, dy = (round(way) for way in drag.vector)
    near = slice(y - 20, y + 20), slice(x - 20, x + 20)
    there = slice(y - 20 + dy, y + 20 + dy), slice(x - 20 + dx, x + 20 + dx)
    assert np.abs(after[there] - before[near]).mean() < 6
    assert len(result.drags) > 3
    column, row, width, height = ground
    rim = slice(row, row + height), slice(column, column + width)
    assert np.abs(after[rim] - before[rim]).mean() > 20
