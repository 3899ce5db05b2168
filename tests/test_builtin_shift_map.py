"""What a hole shows stands some common shift away: lines go on, and what repeats does."""

from __future__ import annotations

import torch
from torch import Tensor

from lightningdrag.models.builtin.shift_map import LEAST, common_shifts, shift_map

SIZE = 48


def stripes(slope: float = 0.5) -> Tensor:
    """Slanting ones of a period of 14 cells across, ``(3, SIZE, SIZE)``, of their own colours."""
    y, x = torch.meshgrid(*(2 * [torch.arange(float(SIZE))]), indexing="ij")
    phase = 2 * torch.pi * (x - slope * y) / 14
    return torch.stack((phase.sin(), phase.cos(), -phase.sin()))


def box(top: int, left: int, height: int, width: int) -> Tensor:
    where = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    where[top : top + height, left : left + width] = True
    return where


def shown(picture: Tensor, shifts: Tensor) -> Tensor:
    y, x = torch.meshgrid(*(2 * [torch.arange(SIZE)]), indexing="ij")
    return picture[:, y + shifts[0], x + shifts[1]]


def test_stripes_are_like_themselves_along_and_by_their_period_across() -> None:
    hole = box(16, 16, 12, 12)
    shifts = common_shifts(stripes(), hole, hole)
    off = (shifts[:, 1] - 0.5 * shifts[:, 0] + 7) % 14 - 7
    assert len(shifts) >= 10
    assert (shifts.abs().amax(1) >= LEAST).all()
    assert (off.abs() <= 1).float().mean() > 0.9


def test_stripes_go_on_in_a_hole() -> None:
    picture, hole = stripes(), box(16, 16, 14, 14)
    shifts = shift_map(picture.masked_fill(hole, 0.0), hole, hole)
    error = (shown(picture, shifts) - picture).abs().mean(0)[hole]
    assert error.mean() < 0.1
    assert shifts[:, hole].any(0).all()


def test_nothing_is_shown_from_the_hole_or_from_what_is_closed_or_beyond_the_border() -> None:
    picture, hole = stripes(), box(30, 20, 18, 10)
    closed = hole | box(30, 30, 18, 18)
    shifts = shift_map(torch.where(closed, 1.0, picture), hole, closed)
    y, x = hole.nonzero().T
    to = torch.stack((y, x)) + shifts[:, y, x]
    assert ((to >= 0) & (to < SIZE)).all()
    moved = shifts[:, y, x].any(0)
    assert moved.float().mean() > 0.9
    assert not closed[to[0], to[1]][moved].any()
    assert not shifts[:, closed & ~hole].any()


def test_where_two_grounds_meet_the_border_between_them_goes_on() -> None:
    picture = torch.zeros(3, SIZE, SIZE)
    picture[:, 22:] = 1
    picture += 0.02 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    hole = box(14, 18, 16, 12)
    fill = shown(picture, shift_map(picture.masked_fill(hole, 0.5), hole, hole))
    assert (fill - picture).abs().mean(0)[hole].mean() < 0.05


def test_without_anything_that_is_seen_there_are_no_shifts() -> None:
    hole = torch.ones(SIZE, SIZE, dtype=torch.bool)
    assert len(common_shifts(stripes(), hole, hole)) == 0
    assert not shift_map(stripes(), hole, hole).any()


def test_a_picture_without_a_hole_is_not_shifted() -> None:
    nothing = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    assert not shift_map(stripes(), nothing, nothing).any()


def test_a_hole_wider_than_the_picture_s_shifts_is_filled_to_its_middle() -> None:
    y, x = torch.meshgrid(*(2 * [torch.arange(SIZE)]), indexing="ij")
    picture = torch.stack((y % 5, x % 5, (x + y) % 5)) / 4.0
    hole = box(8, 8, 40, 34)
    shifts = shift_map(picture.masked_fill(hole, 0.5), hole, hole)
    assert shifts[:, hole].any(0).all()
    assert (shown(picture, shifts) - picture).abs().mean(0)[hole].mean() < 0.05


def test_luck_chooses_among_ways_to_go_on_that_are_alike() -> None:
    picture = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 0.05
    hole = box(18, 18, 12, 12)
    ways = [
        shift_map(picture, hole, hole, luck)
        for luck in (
            None,
            torch.zeros(SIZE, SIZE),
            *torch.randn(2, SIZE, SIZE, generator=torch.Generator().manual_seed(1)),
        )
    ]
    assert torch.equal(ways[0], ways[1])
    for first, second in ((1, 2), (2, 3)):
        assert (ways[first] != ways[second]).any(0)[hole].float().mean() > 0.5


def test_no_luck_makes_a_line_go_on_elsewhere() -> None:
    picture, hole = stripes(), box(16, 16, 14, 14)
    luck = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    shifts = shift_map(picture.masked_fill(hole, 0.0), hole, hole, luck)
    assert (shown(picture, shifts) - picture).abs().mean(0)[hole].mean() < 0.15
