"""A thing that is moved whole ends where the picture says so, however vague the motion is."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.things import cut_again, cut_out
from thing_scenes import GROUND, SHIFT, SIDE, THING, batch, block, picture, vague

DARK = torch.tensor([-0.9, -0.9, -0.9])


def cut(answer: Rendering, edit: DragBatch) -> np.ndarray | None:
    [thing] = cut_out(answer.displacement, answer.shown(), edit)
    return thing


def again(answer: Rendering, edit: DragBatch, found: Tensor) -> np.ndarray | None:
    """What was found before, ``(1, 1, H, W)``."""
    [thing] = cut_again(answer.displacement, answer.shown(), edit, [found[0, 0].numpy() > 0])
    return thing


def difference(thing: np.ndarray | None, truth: Tensor) -> float:
    """Pixels in which a cutout and the truth differ, as a share of the truth."""
    assert thing is not None
    return float((thing != (truth[0, 0].numpy() > 0.5)).sum() / truth.sum())


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


@pytest.mark.parametrize("beyond", [0, 8])
@pytest.mark.parametrize(("by", "cuts"), [(SHIFT, False), (-SHIFT, True)])
def test_a_thing_that_the_border_cuts_is_not_moved_whole_to_where_more_of_it_would_have_to_be_seen(
    by: int, cuts: bool, beyond: int
) -> None:
    """A block at the photo's left border goes to the right, or to the left; the window may go beyond it."""
    mask = torch.ones(1, 1, SIDE, SIDE)
    mask[..., :beyond] = 0
    edit = batch(picture(block(0, 56)), mask)
    edit = dataclasses.replace(edit, targets=edit.handles + torch.tensor([by, 0.0]))
    moved = torch.from_numpy(cv2.GaussianBlur(block(0, 56 + by)[0, 0].numpy(), (0, 0), 3.0))[None, None]
    answer = dataclasses.replace(vague(), displacement=torch.cat((-by * moved, 0 * moved), 1))
    assert (cut(answer, edit) is not None) == cuts


def with_box(source: Tensor, rows: slice, columns: slice, colour: Tensor) -> Tensor:
    """With a box of a colour in it."""
    source = source.clone()
    source[..., rows, columns] = colour.view(1, 3, 1, 1)
    return source


def share_of(thing: np.ndarray | None, rows: slice, columns: slice) -> float:
    assert thing is not None
    return float(thing[rows, columns].mean())


def test_what_was_found_once_is_cut_out_at_every_pixel() -> None:
    edit = batch(picture(block(25, width=39)))
    finer = difference(again(vague(), edit, block(24)), block(25, width=39))
    assert finer < difference(cut(vague(), edit), block(25, width=39))
    assert finer < 0.02


def test_what_was_found_once_is_cut_out_though_the_motion_leaves_it() -> None:
    edit, still = batch(picture(block(24))), vague(by=0.0)
    assert cut(still, edit) is None
    assert difference(again(still, edit, block(26)), block(24)) < 0.02


def test_what_the_motion_knows_more_of_than_was_found_goes_along() -> None:
    edit = batch(picture(block(24)))
    assert difference(again(vague(), edit, block(24, width=24)), block(24)) < 0.02


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_is_not_in_the_window_or_is_all_of_it_is_not_cut_out(share: float) -> None:
    assert again(vague(by=0.0), batch(picture(block(24))), torch.full((1, 1, SIDE, SIDE), share)) is None


def test_where_nothing_was_found_nothing_is_cut_out() -> None:
    edit, answer = batch(picture(block(24))), vague()
    assert cut_again(answer.displacement, answer.shown(), edit, [None]) == [None]


def test_a_part_that_looks_like_the_thing_goes_along_though_the_motion_leaves_it() -> None:
    arm = slice(60, 70), slice(64, 92)
    source = picture(block(24))
    source[..., arm[0], arm[1]] = picture(block(0, SIDE))[..., arm[0], arm[1]]
    thing = cut(vague(), batch(source))
    assert share_of(thing, *arm) > 0.95
    assert share_of(thing, slice(74, 86), slice(70, 90)) == 0


def test_what_is_unlike_the_ground_further_away_goes_along_unless_it_goes_on_as_far() -> None:
    wheel, road = (slice(88, 96), slice(28, 44)), (slice(88, 96), slice(24, 128))
    for box, goes in ((wheel, True), (road, False)):
        source = with_box(picture(block(24)), *box, DARK)
        edit = batch(source)
        for thing in (cut(vague(), edit), again(vague(), edit, block(24))):
            assert (share_of(thing, *wheel) > 0.8) == goes


def test_a_mark_on_a_thing_goes_along_in_the_colour_of_its_ground() -> None:
    mark = slice(60, 68), slice(40, 48)
    assert share_of(cut(vague(), batch(with_box(picture(block(24)), *mark, GROUND))), *mark) == 1


def test_what_stands_out_clearly_goes_whole_though_the_motion_leaves_a_part_of_it() -> None:
    """The block's right edge goes all the way, its left one hardly."""
    share = torch.linspace(0.28, 1, 40)
    arrives = torch.arange(24, 64) + SHIFT * share
    there = torch.from_numpy(np.interp(np.arange(SIDE), arrives, share, left=0, right=0)).float()
    moved = torch.zeros(1, 1, SIDE, SIDE)
    moved[..., 40:88, :] = there
    answer = dataclasses.replace(vague(), displacement=torch.cat((-SHIFT * moved, 0 * moved), 1))
    source = picture(block(24))
    assert difference(cut(answer, batch(source)), block(24)) < 0.1
    for rows in (slice(24, 37), slice(91, 104)):
        source = with_box(source, rows, slice(12, 76), THING)
    assert cut(answer, batch(source)) is None
