"""A thing that moves keeps its own outline, though displacement between it and its ground is anything."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lightningdrag.compose import compose
from lightningdrag.models.builtin.constraints import AGREE, near_targets
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.network import Rendering, decided, undecided
from lightningdrag.models.builtin.outlines import find_outlines, slope
from lightningdrag.models.protocol import MotionEdit
from lightningdrag.photo import Photo
from lightningdrag.window import Window

SIZE = 96
SHIFT = 16
CENTRE, RADIUS = (36.0, 48.0), 16
THING, GROUND = torch.tensor([0.8, 0.2, -0.4]), torch.tensor([-0.6, -0.2, 0.5])


def disc(x: float, y: float = CENTRE[1], radius: float = RADIUS) -> Tensor:
    """``(1, 1, SIZE, SIZE)``: 1 in a disc with a soft edge, 0 elsewhere."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return (radius + 0.5 - torch.hypot(columns - x, rows - y)).clamp(0, 1)[None, None]


def picture(share: Tensor, thing: Tensor = THING) -> Tensor:
    """A thing of one colour, and some grain, over a ground of another, ``(1, 3, SIZE, SIZE)``."""
    grain = 0.03 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return torch.lerp(GROUND.view(1, 3, 1, 1), thing.view(1, 3, 1, 1), share) + grain


def blurred(x: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(cv2.GaussianBlur(x[0, 0].numpy(), (0, 0), sigma))[None, None]


def batch(source: Tensor) -> DragBatch:
    """The disc's middle, dragged to the right."""
    handle, target = torch.tensor([[CENTRE]]), torch.tensor([[(CENTRE[0] + SHIFT, CENTRE[1])]])
    count = len(source)
    return DragBatch(
        source,
        torch.ones(count, 1, SIZE, SIZE),
        handle.expand(count, -1, -1),
        target.expand(count, -1, -1),
        torch.ones(count, 1),
        torch.zeros(count, 1, 2),
    )


def rendering(sigma: float = 3.0, hidden: Tensor | None = None) -> Rendering:
    """The disc's motion, blurred as a network's is; in what was uncovered the ground's colour is painted."""
    moved = blurred(disc(CENTRE[0] + SHIFT), sigma)
    displacement = torch.cat((-SHIFT * moved, 0 * moved), 1)
    if hidden is None:
        hidden = (disc(CENTRE[0]) > 0) & (disc(CENTRE[0] + SHIFT) == 0)
    visibility = torch.where(hidden, -9.0, 9.0)
    return Rendering(displacement, visibility, GROUND.view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE), 0 * moved)


def finished(answer: Rendering, edit: DragBatch) -> Rendering:
    """With outlines, and fills just as they were painted."""
    outlines = find_outlines(answer, edit)
    parted = outlines.part(answer)
    return outlines.soften(
        dataclasses.replace(parted, origin=torch.zeros_like(parted.displacement)), edit.source
    )


def error(answer: Rendering, source: Tensor, truth: Tensor) -> float:
    return float((answer.compose(source) - truth).abs().mean())


@pytest.mark.parametrize("sigma", [2.0, 4.0])
def test_a_thing_has_its_own_outline_though_the_displacement_has_none(sigma: float) -> None:
    source, truth = picture(disc(CENTRE[0])), picture(disc(CENTRE[0] + SHIFT))
    answer, edit = rendering(sigma), batch(source)
    grain = float((picture(disc(0)) - picture(disc(0)).mean((2, 3), keepdim=True)).abs().mean())
    before, after = error(answer, source, truth) - grain, error(finished(answer, edit), source, truth) - grain
    assert after < 0.5 * before


def test_where_it_stood_no_rim_of_it_stays() -> None:
    """Of the hole, the network has left out a rim of two pixels."""
    source, truth = picture(disc(CENTRE[0])), picture(disc(CENTRE[0] + SHIFT))
    hidden = (disc(CENTRE[0], radius=RADIUS - 2) > 0) & (disc(CENTRE[0] + SHIFT, radius=RADIUS + 2) == 0)
    answer, edit = rendering(hidden=hidden), batch(source)
    old_rim = (disc(CENTRE[0]) > 0.9) & ~hidden & (disc(CENTRE[0] + SHIFT, radius=RADIUS + 6) == 0)
    assert ((answer.compose(source) - truth).abs().mean(1, keepdim=True)[old_rim] > 0.5).float().mean() > 0.3
    rest = (finished(answer, edit).compose(source) - truth).abs().mean(1, keepdim=True)[old_rim]
    assert (rest > 0.3).float().mean() < 0.02


def test_a_stretch_is_left_alone() -> None:
    source = picture(disc(CENTRE[0]))
    columns = torch.arange(SIZE).float().expand(1, 1, SIZE, SIZE)
    ramp = -SHIFT * (1 - (columns - 60).abs() / 30).clamp_min(0)
    answer = dataclasses.replace(
        rendering(), displacement=torch.cat((ramp, 0 * ramp), 1), visibility=torch.full_like(ramp, 9.0)
    )
    assert slope(answer.displacement).max() < 1
    assert not find_outlines(answer, batch(source)).where.any()


def test_where_thing_and_ground_look_alike_nothing_is_torn() -> None:
    """A part of something even, which is drawn along."""
    source = picture(disc(CENTRE[0]), thing=GROUND)
    answer = dataclasses.replace(rendering(), visibility=torch.full((1, 1, SIZE, SIZE), 9.0))
    outlines = find_outlines(answer, batch(source))
    between = (answer.displacement[:, :1] / SHIFT + 0.5).abs() < 0.2
    assert (slope(answer.displacement) > 1)[between].all()
    assert outlines.where[between].float().mean() < 0.1
    assert (outlines.part(answer).shown() > 0.5).all()


def test_a_wide_part_that_the_network_stretches_is_not_hidden() -> None:
    """It drew the thing out from where it stood; all of it is seen, and stays so."""
    edit = batch(picture(disc(CENTRE[0])))
    answer = dataclasses.replace(rendering(5.0), visibility=torch.full((1, 1, SIZE, SIZE), 9.0))
    hidden = find_outlines(answer, edit).part(answer).shown() < 0.5
    assert hidden.sum() < 0.1 * (disc(CENTRE[0]) * (1 - disc(CENTRE[0] + SHIFT))).sum()


def test_a_thing_that_goes_behind_another_does_not_come_before_it() -> None:
    """From column 60 on the network shows the ground, sharply, where the disc would be."""
    source = picture(disc(CENTRE[0]))
    answer = rendering()
    displacement = answer.displacement.clone()
    displacement[..., 60:] = 0
    answer = dataclasses.replace(answer, displacement=displacement)
    assert find_outlines(answer, batch(source)).where[..., 60:62].any()
    behind = finished(answer, batch(source)).compose(source)[..., 60:]
    assert (behind - source[..., 60:]).abs().mean() < 0.01


def test_at_its_target_stands_the_handle() -> None:
    """At the rim, and though the thing as a whole goes less far."""
    edit = batch(picture(disc(CENTRE[0])))
    far = torch.tensor([float(SHIFT + 4), 0])
    at_rim = torch.tensor([[(CENTRE[0] + RADIUS - 6, CENTRE[1])]])
    edit = dataclasses.replace(edit, handles=at_rim, targets=at_rim + far)
    x, y = (int(v) for v in edit.targets[0, 0])
    answer = rendering()
    answer.displacement[..., y - 2 : y + 3, x - 2 : x + 3] = -far[:, None, None]
    answer.visibility[..., y - 2 : y + 3, x - 2 : x + 3] = 9
    assert find_outlines(answer, edit).where[0, 0, y, x]
    done = finished(answer, edit)
    assert (done.displacement[0, :, y, x] + far).abs().max() < 0.5
    assert done.shown()[0, 0, y, x] > 0.99


def test_candidates_have_one_outline_at_the_targets() -> None:
    source = picture(disc(CENTRE[0]))
    one, other = rendering(), rendering(5.0)
    two = Rendering(*(torch.cat((getattr(one, k), getattr(other, k))) for k in list(vars(one))[:4]))
    edit = batch(source.expand(2, -1, -1, -1))
    alone = find_outlines(two, edit)
    outlines = alone.agreed([2], edit)
    near, far = near_targets(edit, AGREE) > 0.9, near_targets(edit, AGREE) < 1e-6
    for name in ("where", "covered", "left"):
        first, second = getattr(outlines, name).float()
        assert (first - second).abs()[near[0]].max() <= 0.1
        assert (getattr(outlines, name) == getattr(alone, name))[far].all()
    assert (alone.covered[0] != alone.covered[1]).any()
    assert alone.agreed([1, 1], edit) is alone


@pytest.mark.parametrize(("shift", "ground"), [(24, 3), (24, -3), (30, 6)])
def test_ground_that_moves_a_little_is_ground_still(shift: int, ground: int) -> None:
    """A larger window, where all of the ground goes with a camera."""
    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    grain = 0.1 * torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(1))

    def scene(x: float, along: int) -> Tensor:
        share = (20.5 - torch.hypot(columns - x, rows - 80)).clamp(0, 1)[None, None]
        return torch.lerp(
            GROUND.view(1, 3, 1, 1) + grain.roll(along, -1), THING.view(1, 3, 1, 1).expand_as(grain), share
        )

    source, truth = scene(60, 0), scene(60 + shift, ground)
    moved = (20.5 - torch.hypot(columns - 60 - shift, rows - 80)).clamp(0, 1)[None, None]
    soft = torch.from_numpy(cv2.GaussianBlur(moved[0, 0].numpy(), (0, 0), 3))[None, None]
    displacement = torch.cat((-ground - (shift - ground) * soft, 0 * soft), 1)
    stood = (20.5 - torch.hypot(columns - 60 - ground, rows - 80)).clamp(0, 1)[None, None]
    answer = Rendering(displacement, torch.where((stood > 0) & (moved == 0), -9.0, 9.0), truth, 0 * soft)
    handle = torch.tensor([[(60.0, 80.0)]])
    edit = DragBatch(
        source,
        torch.ones(1, 1, 160, 160),
        handle,
        handle + torch.tensor([float(shift), 0]),
        torch.ones(1, 1),
        torch.zeros(1, 1, 2),
    )
    inside = (slice(None), slice(None), slice(40, 120), slice(20, 140))
    wrong = [
        int(((x.compose(source) - truth).abs().amax(1, keepdim=True) > 0.4)[inside].sum())
        for x in (answer, finished(answer, edit))
    ]
    assert wrong[0] > 150
    assert wrong[1] < 0.3 * wrong[0]


def test_it_is_the_same_lying_on_its_side() -> None:
    """A window that is not square, and a drag that goes along neither side."""
    source = picture(disc(CENTRE[0]))[..., 16:80, :]
    moved = blurred(disc(CENTRE[0] + 12, CENTRE[1] - 8), 3)[..., 16:80, :]
    hidden = ((disc(CENTRE[0]) > 0) & (disc(CENTRE[0] + 12, CENTRE[1] - 8) == 0))[..., 16:80, :]
    answer = Rendering(
        torch.cat((-12 * moved, 8 * moved), 1), torch.where(hidden, -9.0, 9.0), 0 * source, 0 * moved
    )
    handle = torch.tensor([[(CENTRE[0], CENTRE[1] - 16)]])
    target = handle + torch.tensor([12.0, -8.0])
    rest = (torch.ones(1, 1), torch.zeros(1, 1, 2))
    upright = find_outlines(answer, DragBatch(source, torch.ones_like(moved), handle, target, *rest))
    lying = Rendering(*(x.mT for x in list(vars(answer).values())[:4]))
    lying = dataclasses.replace(lying, displacement=lying.displacement.flip(1))
    flipped = find_outlines(
        lying, DragBatch(source.mT, torch.ones_like(moved).mT, handle.flip(2), target.flip(2), *rest)
    )
    assert upright.where.any()
    assert (upright.where != flipped.where.mT).float().mean() < 1e-3
    assert (upright.covered - flipped.covered.mT).abs()[upright.where].mean() < 1e-3


def test_at_the_border_outlines_are_found_as_inside() -> None:
    """The disc goes half out of the window."""
    inside = rendering()
    for shift in (0, 36):
        source = picture(disc(CENTRE[0] + shift))
        answer = Rendering(*(x.roll(shift, -1) for x in list(vars(inside).values())[:4]))
        edit = batch(source)
        edit = dataclasses.replace(edit, handles=edit.handles + torch.tensor([float(shift), 0]))
        where = find_outlines(answer, edit).where
        shown = slice(int(CENTRE[0]) + shift, min(int(CENTRE[0]) + shift + 24, SIZE - 2))
        assert where[..., 20:76, shown].float().mean() > 0.2


def test_the_ground_beside_an_outline_keeps_its_own_opacity() -> None:
    """A photo with stripes that are clear, over which the disc goes."""
    source = picture(disc(CENTRE[0]))
    done = finished(rendering(), batch(source))
    assert done.origin is not None
    alpha = np.full((SIZE, SIZE), 255, np.uint8)
    alpha[:, 60::6] = 0
    alpha[:, 61::6] = 0
    pixels = ((source[0].permute(1, 2, 0).clamp(-1, 1).numpy() + 1) * 127.5).round().astype(np.uint8)
    edit = MotionEdit(done.displacement, done.shown(), done.colour.clamp(-1, 1), done.origin)
    photo = Photo(pixels, alpha)
    result = compose(photo, Window((0, 0, SIZE, SIZE), SIZE, SIZE), edit, np.ones((SIZE, SIZE), bool))[0]
    assert result.alpha is not None
    outlines = find_outlines(rendering(), batch(source))
    ground = (outlines.where & (outlines.covered < 0.01) & (outlines.left < 0.01))[0, 0].numpy()
    assert ground.sum() > 30
    assert np.abs(result.alpha.astype(int) - alpha)[ground].mean() < 5


def test_what_does_not_move_and_what_lies_outside_the_mask_stays() -> None:
    source = picture(disc(CENTRE[0]))
    answer, edit = rendering(), batch(source)
    edit.mask[..., 62:] = 0
    assert not find_outlines(answer, edit).where[..., 62:].any()
    still = dataclasses.replace(answer, displacement=0 * answer.displacement)
    assert not find_outlines(still, edit).where.any()


def test_edits_of_a_batch_do_not_know_of_each_other() -> None:
    sources = torch.cat((picture(disc(CENTRE[0])), picture(disc(CENTRE[0]), thing=GROUND)))
    single = rendering()
    both = Rendering(*(x.expand(2, -1, -1, -1) for x in list(vars(single).values())[:4]))
    together = find_outlines(both, batch(sources))
    for i in range(2):
        alone = find_outlines(single, batch(sources[i : i + 1]))
        assert (alone.where == together.where[i : i + 1]).all()
        assert torch.allclose(alone.covered, together.covered[i : i + 1], atol=1e-5)


def test_in_training_too_it_computes_in_float32() -> None:
    source = picture(disc(CENTRE[0]))
    answer = find_outlines(rendering(), batch(source))
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = find_outlines(rendering(), batch(source))
    assert (answer.covered == under_autocast.covered).all()


def test_a_larger_photo_shows_nothing_from_between_the_two() -> None:
    """Beside the thing is a bright stripe, which it comes to cover: displacements in between show it."""
    source = picture(disc(CENTRE[0]))
    rim = int(CENTRE[0] + RADIUS)
    source[..., rim + 5 : rim + 8] = 1
    answer = rendering(2.0)
    photo = torch.nn.functional.interpolate(source, scale_factor=4, mode="bicubic").clamp(-1, 1)
    pixels = ((photo[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
    window = Window((0, 0, 4 * SIZE, 4 * SIZE), SIZE, SIZE)
    mask = np.ones(pixels.shape[:2], bool)

    def bright(done: Rendering) -> int:
        origin = torch.zeros_like(done.displacement) if done.origin is None else done.origin
        edit = MotionEdit(done.displacement, done.shown(), done.colour.clamp(-1, 1), origin)
        result = compose(Photo(pixels), window, edit, mask)[0].pixels
        return int((result[:, (rim + SHIFT - 2) * 4 :].min(-1) > 180).sum())

    assert bright(answer) > 150
    assert bright(finished(answer, batch(source))) < 0.1 * bright(answer)


def test_shares_are_shown_as_they_were_meant() -> None:
    shares = torch.linspace(0.001, 0.999, 9)
    assert torch.allclose(decided(undecided(shares)), shares, atol=1e-4)
    assert decided(undecided(torch.tensor([0.0, 1.0]))).sub(torch.tensor([0.0, 1.0])).abs().max() < 1e-5


def test_slopes() -> None:
    step = torch.zeros(1, 2, 8, 8)
    step[:, 0, :, 4:] = 3
    assert slope(step)[0, 0, 0].tolist() == [0, 0, 0, 3, 3, 0, 0, 0]
