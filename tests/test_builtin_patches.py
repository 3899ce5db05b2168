"""Fills that are put together from patches: what repeats goes on, and all is taken from what is seen."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lightningdrag.compose import compose
from lightningdrag.models.builtin import patches
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.patches import patch_fill, patched
from lightningdrag.models.protocol import MotionEdit
from lightningdrag.photo import Photo
from lightningdrag.window import Window

SIZE = 96
STILL = torch.zeros(1, SIZE, SIZE)


def tiles(size: int = SIZE, tile: int = 12) -> Tensor:
    """Bright tiles with dark joints, ``(3, size, size)`` in [-1, 1]."""
    y, x = np.mgrid[:size, :size]
    joints = (y % tile < 3) | (x % tile < 3)
    image = cv2.GaussianBlur(np.where(joints, -0.8, 0.6).astype(np.float32), (0, 0), 0.7)
    return torch.from_numpy(image).expand(3, -1, -1).contiguous()


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
        from_moving = (columns + offset[0])[middle] >= 48
        assert (from_moving.float().mean() > 0.9) == bool(thing)


def test_patches_are_taken_from_what_is_seen_alone() -> None:
    shown = shown_but((30, 30, 60, 60), (70, 10, 80, 20))
    fill, offset = patch_fill(tiles(), STILL, shown, torch.zeros(3, SIZE, SIZE), STILL)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    to_x, to_y = x + offset[0].long(), y + offset[1].long()
    taken = offset.any(0)
    assert taken[30:60, 30:60].all()
    assert not taken[:8].any()
    assert (shown[0][to_y[taken], to_x[taken]] == 1).all()
    assert torch.isfinite(fill).all()


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
    monkeypatch.setattr(patches, "AT_ONCE", 100)
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


def test_a_large_photo_lends_its_fills_the_detail_that_its_window_lacks() -> None:
    """The fill has the window's colours from elsewhere; at the photo's size it is that place to the pixel."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 190, (4 * SIZE, 4 * SIZE, 3), dtype=np.uint8)
    window = Window((0, 0, 4 * SIZE, 4 * SIZE), SIZE, SIZE)
    away = 20
    seen = torch.from_numpy(window.crop(pixels)).permute(2, 0, 1)[None] / 127.5 - 1
    hidden = torch.zeros(1, 1, SIZE, SIZE)
    hidden[..., 40:56, 40:56] = 1
    origin = torch.zeros(1, 2, SIZE, SIZE)
    origin[:, 0] = -away
    colour = torch.roll(seen, away, -1)
    flat = MotionEdit(torch.zeros_like(origin), 1 - hidden, colour)
    mask = np.ones(pixels.shape[:2], bool)
    truth = pixels[170:214, 170 - 4 * away : 214 - 4 * away].astype(float)

    def error(edit: MotionEdit) -> float:
        (result,) = compose(Photo(pixels), window, edit, mask)
        return float(np.abs(result.pixels[170:214, 170:214] - truth).mean())

    assert error(flat) > 20
    assert error(replace(flat, origin=origin)) < 2
    assert error(replace(flat, origin=torch.zeros_like(origin))) == error(flat)
