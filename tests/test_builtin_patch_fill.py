"""Fills that are put together from patches: what repeats goes on, and all is taken from what is seen."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.compose import compose
from lightningdrag.models.builtin import patch_fill as module
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.patch_fill import patch_fill, patched
from lightningdrag.models.protocol import MotionEdit
from lightningdrag.photo import Photo
from lightningdrag.window import Box, Window

SIZE = 96
STILL = torch.zeros(1, SIZE, SIZE)


def tiles(size: int = SIZE, tile: int = 12) -> Tensor:
    """Bright tiles with dark joints, ``(3, size, size)`` in [-1, 1]."""
    y, x = np.mgrid[:size, :size]
    joints = (y % tile < 3) | (x % tile < 3)
    image = cv2.GaussianBlur(np.where(joints, -0.8, 0.6).astype(np.float32), (0, 0), 0.7)
    return torch.from_numpy(image).expand(3, -1, -1).contiguous()


def boards() -> Tensor:
    """Three, grained along, with a dark joint between each and the next, ``(3, SIZE, SIZE)``."""
    grain = np.random.default_rng(0).normal(0, 1, (SIZE, SIZE)).astype(np.float32)
    grain = 0.3 * cv2.GaussianBlur(grain, (0, 0), sigmaX=8, sigmaY=0.8)
    joints = np.isin(np.arange(SIZE) % 32, (14, 15, 16))[:, None]
    return torch.from_numpy(np.where(joints, -0.8, 0.3 + grain)).float().expand(3, -1, -1).contiguous()


def shown_but(*boxes: tuple[int, int, int, int], size: int = SIZE) -> Tensor:
    """``(1, size, size)``: 0 in boxes of x0, y0, x1, y1, 1 elsewhere."""
    shown = torch.ones(1, size, size)
    for x0, y0, x1, y1 in boxes:
        shown[:, y0:y1, x0:x1] = 0
    return shown


def error_in(hole: Tensor, a: Tensor, b: Tensor) -> float:
    return float(((a - b).square().mean(0) * hole[0]).sum() / hole.sum()) ** 0.5


def test_a_pattern_goes_on_in_the_hole_where_the_painter_knows_but_its_mean() -> None:
    picture, shown = tiles(), shown_but((40, 34, 66, 60))
    painted = picture.mean((1, 2), keepdim=True).expand_as(picture)
    fill, _ = patch_fill(picture * shown, STILL, shown, painted, STILL)
    assert error_in(1 - shown, painted, picture) > 0.5
    assert error_in(1 - shown, fill, picture) < 0.1


def test_what_the_painter_blurs_has_its_edge_and_its_grain_again() -> None:
    rng = torch.Generator().manual_seed(0)
    flat = torch.full((3, SIZE, SIZE), -0.5)
    flat[..., SIZE // 2 :] = 0.5
    picture = flat + 0.1 * torch.randn(3, SIZE, SIZE, generator=rng)
    shown = shown_but((36, 36, 60, 60))
    painted = torch.from_numpy(cv2.GaussianBlur(flat.permute(1, 2, 0).numpy(), (0, 0), 6)).permute(2, 0, 1)
    fill, _ = patch_fill(picture, STILL, shown, painted, STILL)
    middle = fill[:, 38:58, 38:58]
    assert ((middle - flat[:, 38:58, 38:58]).abs() > 0.5).float().mean() < 0.1
    assert middle[..., :7].std() > 0.04
    assert painted[:, 38:58, 38:58][..., :7].std(1).max() < 0.01


def test_of_what_looks_alike_the_ground_goes_on_with_what_stands_still() -> None:
    picture, moves = tiles(), torch.zeros(1, SIZE, SIZE)
    moves[..., 48:] = 1
    shown = shown_but((36, 36, 60, 60))
    columns = torch.arange(SIZE).expand(SIZE, -1)
    for thing in (0.0, 1.0):
        _, offset = patch_fill(picture, moves, shown, picture, torch.full_like(moves, thing))
        middle = (slice(40, 56), slice(42, 54))
        from_moving = ((columns + offset[0])[middle] >= 48).float().mean()
        assert abs(from_moving - thing) < 0.1


@pytest.mark.parametrize("seed", range(6))
def test_patches_are_taken_from_what_is_seen_alone(seed: int) -> None:
    """Though nothing is as like what is painted as what is painted beside it, and at the window's border."""
    noise = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)
    shown = shown_but((30, 30, 60, 60), (70, 10, 80, 20), (0, 70, 20, SIZE))
    fill, offset = patch_fill(noise, STILL, shown, torch.zeros(3, SIZE, SIZE), STILL)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    taken = offset.any(0)
    assert taken[shown[0] == 0].float().mean() > 0.99
    assert not taken[:8].any()
    to_x, to_y = x + offset[0].long(), y + offset[1].long()
    assert (-F.max_pool2d(-shown, 3, 1, 1)[0, to_y[taken], to_x[taken]] == 1).all()
    assert fill[shown.expand_as(fill) == 0].std() > 0.2


def test_texture_comes_in_pieces_and_keeps_its_strength() -> None:
    stds, alike = [], []
    for seed in range(3):
        noise = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)
        shown = shown_but((30, 30, 60, 60))
        fill, offset = patch_fill(noise, STILL, shown, torch.zeros(3, SIZE, SIZE), STILL)
        stds.append(fill[:, 30:60, 30:60].std())
        inside = offset[:, 30:60, 30:60]
        alike.append((inside.diff(dim=-1) == 0).all(0).float().mean())
    assert sum(stds) / 3 > 0.5
    assert sum(alike) / 3 > 0.8


def test_in_training_too_it_computes_in_float32() -> None:
    shown = shown_but((36, 36, 60, 60))
    answer = patched(rendering(shown), batch(torch.ones(1, SIZE, SIZE)))
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = patched(rendering(shown), batch(torch.ones(1, SIZE, SIZE)))
    assert (answer.colour == under_autocast.colour).all()


def test_a_narrow_hole_in_a_small_window_is_filled_so_too() -> None:
    picture, shown = tiles(64), shown_but((24, 24, 36, 36), size=64)
    still = torch.zeros(1, 64, 64)
    fill, _ = patch_fill(picture, still, shown, torch.zeros_like(picture), still)
    assert error_in(1 - shown, fill, picture) < 0.2


@pytest.mark.parametrize(
    "shown", [torch.ones(1, SIZE, SIZE), shown_but((0, 0, SIZE, SIZE)), shown_but((3, 3, SIZE - 3, SIZE - 3))]
)
def test_where_nothing_is_hidden_or_hardly_anything_is_seen_the_painters_colours_stay(shown: Tensor) -> None:
    painted = torch.full((3, SIZE, SIZE), 0.25)
    fill, offset = patch_fill(tiles(), STILL, shown, painted, STILL)
    assert (fill == painted).all()
    assert not offset.any()


def test_a_large_hole_is_searched_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (tiles(), STILL, shown_but((30, 30, 60, 60)), torch.zeros(3, SIZE, SIZE), STILL)
    whole, _ = patch_fill(*arguments)
    monkeypatch.setattr(module, "AT_ONCE", 100)
    torch.testing.assert_close(patch_fill(*arguments)[0], whole)


def rendering(shown: Tensor) -> Rendering:
    """Nothing moves but what stands in the right half, which came from 7 pixels to the left."""
    displacement = torch.zeros(1, 2, SIZE, SIZE)
    displacement[:, 0, :, 48:] = -7
    flat = torch.zeros(1, 3, SIZE, SIZE)
    return Rendering(displacement, (shown[None] - 0.5) * 40, flat, flat[:, :1])


def worn_tiles() -> Tensor:
    """Tiles no two of which are alike."""
    return tiles() + 0.1 * torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def batch(mask: Tensor) -> DragBatch:
    point, anchors = torch.zeros(1, 1, 2), torch.zeros(1, 16, 2)
    return DragBatch(worn_tiles()[None], mask[None], point, point, torch.ones(1, 1), anchors)


def test_the_origin_of_a_fill_is_a_place_of_the_source() -> None:
    shown = shown_but((36, 36, 60, 60))
    result = patched(rendering(shown), batch(torch.ones(1, SIZE, SIZE)))
    assert result.origin is not None
    moves = torch.full((1, SIZE, SIZE), 0.0)
    moves[..., 48:] = 1
    picture = torch.cat((worn_tiles()[..., :48], worn_tiles()[..., 41 : SIZE - 7]), -1)
    _, offset = patch_fill(picture, moves, shown, torch.zeros(3, SIZE, SIZE), STILL)
    hidden = offset.any(0)
    stands = torch.arange(SIZE).expand(SIZE, -1) + offset[0]
    away = torch.where(stands >= 48, offset[0] - 7, offset[0])
    assert hidden[40:56, 40:56].all()
    torch.testing.assert_close(result.origin[0, 0][hidden], away[hidden])
    assert not result.origin[0][:, ~hidden].any()


def test_outside_the_mask_nothing_is_hidden() -> None:
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, 30:66, 30:66] = 1
    result = patched(rendering(shown_but((0, 36, SIZE, 60))), batch(mask))
    assert result.origin is not None
    assert result.origin[..., 40:56, 40:56].any(1).all()
    assert not result.origin[..., :28].any()


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("box", [(0, 0, 4 * SIZE, 4 * SIZE), (41, 23, 41 + 5 * SIZE, 23 + 3 * SIZE)])
def test_a_large_photo_lends_its_fills_the_detail_that_its_window_lacks(box: Box, depth: type) -> None:
    """The fill has the window's colours from elsewhere; at the photo's size it is that place to the pixel."""
    white = np.iinfo(depth).max
    noise = np.random.default_rng(0).integers(0.25 * white, 0.75 * white, (440, 540, 3)).astype(depth)
    window, away = Window(box, SIZE, SIZE), 20
    seen = torch.from_numpy(window.crop(noise)).permute(2, 0, 1)[None] / 127.5 - 1
    hidden = torch.zeros(1, 1, SIZE, SIZE)
    hidden[..., 40:56, 40:56] = 1
    origin = torch.zeros(1, 2, SIZE, SIZE)
    origin[:, 0] = -away
    flat = MotionEdit(torch.zeros_like(origin), 1 - hidden, torch.roll(seen, away, -1))
    across, down = (int(1 / scale) for scale in window.scale)
    left, top = box[0] + 42 * across, box[1] + 42 * down
    rows, width = slice(top, top + 11 * down), 11 * across
    truth = noise[rows, left - away * across : left - away * across + width].astype(float)

    def error(edit: MotionEdit) -> float:
        (result,) = compose(Photo(noise), window, edit, np.ones(noise.shape[:2], bool))
        return float(np.abs(result.pixels[rows, left : left + width] - truth).mean()) / white

    assert error(flat) > 0.08
    assert error(replace(flat, origin=origin)) < 0.01
    assert error(replace(flat, origin=torch.zeros_like(origin))) == error(flat)


def test_between_two_pieces_of_texture_the_photo_fades_from_one_to_the_other() -> None:
    noise = np.random.default_rng(0).integers(60, 190, (4 * SIZE, 4 * SIZE, 3), dtype=np.uint8)
    window = Window((0, 0, 4 * SIZE, 4 * SIZE), SIZE, SIZE)
    grey = torch.zeros(1, 3, SIZE, SIZE)

    def result(left: float, right: float) -> np.ndarray:
        origin = torch.zeros(1, 2, SIZE, SIZE)
        origin[:, 0, :, :48], origin[:, 0, :, 48:] = left, right
        edit = MotionEdit(grey[:, :2], grey[:, :1], grey, origin)
        (photo,) = compose(Photo(noise), window, edit, np.ones(noise.shape[:2], bool))
        return photo.pixels[100:200].astype(float)

    one, other, both = result(20, 20), result(-20, -20), result(20, -20)
    # Pixels 190 to 193 lie at 1/8, 3/8, 5/8 and 7/8 of the way from the window's pixel 47 to its 48.
    for column, share in zip(range(190, 194), (1 / 8, 3 / 8, 5 / 8, 7 / 8), strict=True):
        expected = (1 - share) * one[:, column] + share * other[:, column]
        assert np.abs(both[:, column] - expected).max() <= 1
    assert (both[:, :189] == one[:, :189]).all()
    assert (both[:, 195:] == other[:, 195:]).all()


def test_a_photo_lends_nothing_from_beyond_its_window() -> None:
    pixels = np.full((4 * SIZE, 8 * SIZE, 3), 80, np.uint8)
    pixels[:, 4 * SIZE :] = 250
    window = Window((0, 0, 4 * SIZE, 4 * SIZE), SIZE, SIZE)
    grey = torch.full((1, 3, SIZE, SIZE), 80 / 127.5 - 1)
    edit = MotionEdit(grey[:, :2] * 0, grey[:, :1] * 0, grey, origin=torch.full((1, 2, SIZE, SIZE), 60.0))
    mask = np.zeros(pixels.shape[:2], bool)
    mask[:, : 4 * SIZE - 8] = True
    (result,) = compose(Photo(pixels), window, edit, mask)
    assert (result.pixels[:, : 4 * SIZE - 8] == 80).all()


def test_nothing_is_taken_from_what_stands_before_and_the_fill_goes_on_behind_it() -> None:
    """A thing of another colour, part of whose rim is mixed with the ground, beside a hole."""
    picture, shown = tiles(), shown_but((40, 34, 60, 60))
    before = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    before[:, 30:64, 60:84] = True
    red = torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1)
    seen = torch.where(before, red, picture)
    painted = picture.mean((1, 2), keepdim=True).expand_as(picture)
    fill, offset = patch_fill(seen * shown, STILL, shown, painted, STILL, before)
    hole = 1 - shown
    hole[:, 34:60, 60:62] = 1
    assert error_in(hole, fill, picture) < 0.15
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    taken = torch.stack((y + offset[1], x + offset[0])).long()[:, (hole[0] > 0) & offset.any(0)]
    assert not before[0, taken[0], taken[1]].any()


def test_light_that_changes_over_the_picture_does_so_over_the_fill() -> None:
    light = torch.linspace(-0.4, 0.4, SIZE).expand(3, SIZE, SIZE)
    picture, shown = 0.5 * tiles() + light, shown_but((36, 34, 62, 60))
    fill, _ = patch_fill(picture * shown, STILL, shown, torch.zeros_like(picture), STILL)
    assert error_in(1 - shown, fill, picture) < 0.1


def test_boards_go_on_where_a_thing_uncovered_them() -> None:
    """A joint between two boards; the painter knows their mean colour alone."""
    picture = boards()
    shown = shown_but((20, 30, 56, 64))
    before = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    before[:, 30:64, 56:76] = True
    painted = picture.mean((1, 2), keepdim=True).expand_as(picture)
    fill, _ = patch_fill(picture * shown, STILL, shown, painted, STILL, before)
    assert error_in(1 - shown, painted, picture) > 0.3
    assert error_in(1 - shown, fill, picture) < 0.1


def test_a_fill_is_as_grainy_as_what_is_around_it() -> None:
    """Each finer scale begins with what the coarser one has found, as it looks there."""
    picture = 0.4 * torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    shown = shown_but((24, 34, 46, 58))
    for before in (None, (1 - shown).roll(22, -1) > 0):
        fill, _ = patch_fill(picture * shown, STILL, shown, torch.zeros_like(picture), STILL, before)
        assert float(fill[:, 38:54, 28:42].std()) > 0.5 * float(picture.std())
