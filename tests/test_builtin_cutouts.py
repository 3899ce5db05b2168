"""A thing that is moved whole takes its own edges along, and uncovers its ground alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from lightningdrag import Drag, DragEditor
from lightningdrag.models.builtin import things
from lightningdrag.models.builtin.cutouts import _within, with_cutouts
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.outlines import find_outlines
from thing_scenes import GROUND, SHIFT, SIDE, batch, block, picture, vague

FOUND = block(24)[0, 0].numpy() > 0
"""Before."""
EXAMPLES = Path(__file__).parent.parent / "examples"


def finished(answer: Rendering, edit: DragBatch, whole: bool = True) -> Rendering:
    """With outlines, and fills just as they were painted."""
    outlines, painted = with_cutouts(find_outlines(answer, edit), answer, edit, [FOUND if whole else None])
    parted = outlines.part(painted)
    plain = dataclasses.replace(parted, origin=torch.zeros_like(parted.displacement))
    return outlines.soften(plain, edit.source)


def test_all_of_it_goes_and_nothing_of_it_stays() -> None:
    source, truth = picture(block(24)), picture(block(24 + SHIFT))
    edit = batch(source)
    errors = [
        float((finished(vague(), edit, whole).compose(source) - truth).abs().mean())
        for whole in (False, True)
    ]
    assert errors[1] < 0.3 * errors[0]
    result = finished(vague(), edit).compose(source)
    left = (block(24) > 0) & (block(24 + SHIFT) == 0)
    left[..., 24 + SHIFT - 3 :] = False  # but for the soft edge
    assert ((result - GROUND.view(1, 3, 1, 1)).abs().amax(1, keepdim=True)[left] < 0.3).all()


def test_all_of_it_goes_the_drag_s_way_however_the_motion_bends_it() -> None:
    bent = vague().displacement
    bent[:, 1] = 1.5 * torch.sin(torch.arange(SIDE) / 6.0) * (bent[:, 0] < -10)
    answer, edit = dataclasses.replace(vague(), displacement=bent), batch(picture(block(24)))
    within = finished(answer, edit).displacement[0, :, 44:84, 28 + SHIFT : 60 + SHIFT]
    torch.testing.assert_close(within, torch.tensor([-float(SHIFT), 0.0]).view(2, 1, 1).expand_as(within))


def test_what_it_tinges_leaves_with_it() -> None:
    """Its shade on the ground, three pixels wide."""
    shade = torch.zeros(1, 1, SIDE, SIDE)
    shade[..., 37:91, 21:67] = 1
    shade[block(24) > 0] = 0
    source = picture(block(24)) - 0.15 * shade
    result = finished(vague(), batch(source)).compose(source)
    left = (shade > 0) & (block(24 + SHIFT - 4, width=48) == 0)
    assert (result - GROUND.view(1, 3, 1, 1)).mean(1, keepdim=True)[left].abs().mean() < 0.05


def test_outside_the_mask_and_in_other_edits_of_a_batch_nothing_is_parted() -> None:
    source = picture(block(24)).expand(2, -1, -1, -1)
    mask = torch.zeros(2, 1, SIDE, SIDE)
    mask[..., 30:98, 14:100] = 1
    edit, one = batch(source, mask), vague()
    answer = Rendering(
        *(torch.cat((x, x)) for x in (one.displacement, one.visibility, one.colour, one.thing))
    )
    before = find_outlines(answer, edit)
    after, painted = with_cutouts(before, answer, edit, [FOUND, None])
    assert after.where[0].any()
    assert not after.where[mask == 0].any()
    for name in ("where", "covered", "left", "before"):
        assert torch.equal(getattr(after, name)[1], getattr(before, name)[1])
    for name in ("moving", "still", "thing", "ground"):
        assert torch.equal(getattr(after.layers, name)[1], getattr(before.layers, name)[1])
    assert torch.equal(painted.colour[1], answer.colour[1])


def test_a_way_leads_within_the_window_until_it_ends_a_pixel_beyond_its_border() -> None:
    for axis, length in ((0, 8), (1, 6)):  # x along the width, y along the height
        for way, ends_within in ((-1.4, True), (-1.6, False)):
            displacement = torch.zeros(1, 2, 6, 8)
            displacement[:, axis] = way
            first = _within(displacement).select(3 - axis, 0)
            last = _within(-displacement).select(3 - axis, length - 1)
            assert bool(first.all()) == bool(last.all()) == ends_within
            assert _within(displacement).narrow(3 - axis, 1, length - 1).all()


def test_without_a_thing_the_outlines_stay_as_they_are() -> None:
    edit = batch(picture(block(24)))
    outlines = find_outlines(vague(), edit)
    assert with_cutouts(outlines, vague(), edit, [None])[0] is outlines


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


@pytest.mark.parametrize(
    ("photo", "drag", "whole"),
    [
        ("flower", Drag((320, 210), (380, 210)), [True, False]),
        ("china", Drag((200, 180), (170, 160)), [False, True]),
        ("chelsea", Drag((262, 232), (232, 238)), [False]),
    ],
)
def test_a_drag_may_be_read_in_two_ways(
    photo: str, drag: Drag, whole: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clear thing goes whole, or else as the motion says; of another that is the second reading."""
    editor = DragEditor.from_pretrained("builtin")
    two = editor.edit(EXAMPLES / f"{photo}.jpg", [drag], seed=0, num_images=2)
    one = editor.edit(EXAMPLES / f"{photo}.jpg", [drag], seed=0)
    assert all((result.thing is not None) == whole[0] for result in (one, two))
    assert np.array_equal(one.image, two.image)
    assert (two.mask >= one.mask).all()
    monkeypatch.setattr(things, "LEAST_AREA", 1.0)  # nothing is cut out
    bends = editor.edit(EXAMPLES / f"{photo}.jpg", [drag], seed=0)
    assert bends.thing is None
    assert np.array_equal(bends.image, two.images[0]) != whole[0]
    if whole[0]:
        assert np.array_equal(bends.image, two.images[1])


def test_candidates_of_a_thing_that_is_moved_whole_differ_in_what_it_uncovers() -> None:
    flower, drag = EXAMPLES / "flower.jpg", Drag((250, 330), (230, 360))
    result = DragEditor.from_pretrained("builtin").edit(flower, [drag], seed=0, num_images=3)
    first, _, third = (np.asarray(image).astype(int) for image in result.images)
    differs = np.abs(first - third).max(2) > 8
    y, x = np.indices(differs.shape)
    thing = np.hypot(y - 252, x - 288) < 95
    assert not differs[thing].any()
    assert differs[~thing].sum() > 200
