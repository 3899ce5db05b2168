"""A mask of what follows: the thing where it was and where it goes, with room, and no other thing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightningdrag import Drag, DragEditor
from lightningdrag.masks import derive_mask, inside
from lightningdrag.models.builtin.followers import (
    APART,
    BETWEEN,
    COMPANIONS,
    INNER,
    MOVES,
    ROOM,
    SWAYS,
    WIDE_ROOM,
    companions,
    followers,
    whole_thing,
)
from moving_square import SIDE as SQUARE_SIDE
from moving_square import texture

EXAMPLES = Path(__file__).parent.parent / "examples"
CELLS, CELL = 32, 8
SIDE = CELLS * CELL
LENGTH = 40.0
HANDLE, TARGET = np.array([[80.0, 120.0]]), np.array([[80.0 + LENGTH, 120.0]])


def field(*things: tuple[slice, slice, float]) -> np.ndarray:
    """A displacement of nothing but some blocks of cells, which came from the left by so many pixels."""
    displacement = np.zeros((CELLS, CELLS, 2), np.float32)
    for rows, columns, by in things:
        displacement[rows, columns, 0] = -by
    return displacement


THING = slice(8, 20), slice(11, 19), LENGTH
"""Now in x 88..151 and y 64..159; before, 40 to the left."""


def test_the_mask_holds_a_thing_where_it_was_and_where_it_goes_with_room_and_no_more() -> None:
    mask = followers(field(THING), HANDLE, TARGET, CELL)
    room = round(ROOM * SIDE)
    assert mask.shape == (SIDE, SIDE)
    assert mask[64:160, 48:152].all()
    assert mask[112, 48 - room + CELL : 152 + room - CELL].all()
    assert not mask[: 64 - room - CELL].any()
    assert not mask[:, : 48 - room - CELL].any()
    assert not mask[:, 152 + room + CELL :].any()


def test_another_thing_that_moves_stays_out_and_so_does_the_room_where_it_lies() -> None:
    other = slice(8, 20), slice(20, 24), LENGTH
    alone, beside = (followers(field(*things), HANDLE, TARGET, CELL) for things in ([THING], [THING, other]))
    there = np.zeros((SIDE, SIDE), bool)
    there[72:152, 164:188] = True
    assert alone[there].any()
    assert not beside[there].any()


def test_what_hardly_moves_does_not_follow() -> None:
    sways = slice(8, 20), slice(19, 26), 0.8 * MOVES * LENGTH
    assert np.array_equal(
        followers(field(THING, sways), HANDLE, TARGET, CELL), followers(field(THING), HANDLE, TARGET, CELL)
    )


def test_what_follows_a_short_drag_beside_a_long_one_moves_little() -> None:
    slow = slice(8, 20), slice(11, 19), 0.2 * LENGTH
    near = np.array([[80.0 + 0.2 * LENGTH, 120.0]])
    alone = followers(field(slow), HANDLE, near, CELL)
    fast = slice(4, 10), slice(25, 29), 2 * LENGTH
    handles, targets = ([*HANDLE, (216.0, -24.0)], [*near, (216.0, 56.0)])
    both = followers(field(slow, fast), np.array(handles), np.array(targets), CELL)
    assert alone[80, 120]
    assert both[80, 120]
    assert both[40, 216]


def test_the_ground_sways_with_a_long_drag_and_does_not_follow_a_short_one() -> None:
    sways = slice(0, 32), slice(0, 24), 0.9 * SWAYS * 2 * LENGTH
    handles = np.array([[40.0, 200.0], [216.0, 20.0]])
    targets = np.array([[41.0, 200.0], [216.0, 20.0 + 2 * LENGTH]])
    assert not followers(field(sways), handles, targets, CELL)[40, 100]


def test_a_thing_that_goes_along_as_a_whole_has_companions_far_from_each_other() -> None:
    places = companions(field(THING), HANDLE, TARGET, CELL)
    assert 3 <= len(places) <= 6
    assert ((places > (88, 64)) & (places < (152, 160))).all()
    apart = np.linalg.norm(places[:, None] - [*places, *TARGET], axis=2)
    assert apart[apart > 0].min() >= BETWEEN * CELL


@pytest.mark.parametrize("rest", [0.3, 0.6])
def test_a_thing_that_bends_or_stretches_has_none(rest: float) -> None:
    half = slice(8, 20), slice(11, 19), rest * LENGTH
    firm = slice(13, 17), slice(11, 19), LENGTH
    assert len(companions(field(half, firm), HANDLE, TARGET, CELL)) == 0
    assert len(companions(field(half), HANDLE, TARGET, CELL)) == 0


def test_several_drags_say_themselves_how_a_thing_moves() -> None:
    assert len(companions(field(THING), np.tile(HANDLE, (2, 1)), np.tile(TARGET, (2, 1)), CELL)) == 0


def test_a_thing_that_was_cut_out_goes_whole_and_has_room_where_it_was_and_where_it_goes() -> None:
    thing = np.zeros((SIDE, SIDE), bool)
    thing[64:160, 48:112] = True
    mask, places = whole_thing(thing, HANDLE[0], TARGET[0])
    room = round(WIDE_ROOM * SIDE)
    assert mask[64:160, 48:152].all()
    assert mask[112, 48 - room : 152 + room].all()
    assert not mask[: 64 - room - 1].any()
    assert not mask[:, 152 + room + 1 :].any()
    stood = (places - (LENGTH, 0)).round().astype(int)
    assert len(places) == COMPANIONS
    assert all(thing[y - INNER + 1 : y + INNER, x - INNER + 1 : x + INNER].all() for x, y in stood)
    apart = np.linalg.norm(places[:, None] - [*places, *TARGET], axis=2)
    assert apart[apart > 0].min() >= APART


def test_a_thing_too_thin_for_companions_has_none() -> None:
    thing = np.zeros((SIDE, SIDE), bool)
    thing[64:160, 80:86] = True
    assert len(whole_thing(thing, HANDLE[0], TARGET[0])[1]) == 0


def test_a_drag_too_short_to_see_has_no_companions() -> None:
    assert len(companions(field(), TARGET, TARGET, CELL)) == 0


def test_a_flower_that_is_moved_by_one_drag_keeps_its_shape() -> None:
    photo = np.array(Image.open(EXAMPLES / "flower.jpg").convert("RGB"))
    session = DragEditor.from_pretrained("builtin").open(photo)
    drag = Drag((320, 210), (380, 210))
    alone, whole = (session.edit([drag], mask, seed=0) for mask in (session.mask_for([drag]), None))
    assert (len(alone.drags), len(whole.drags)) == (1, 7)
    y, x = np.indices(photo.shape[:2])
    behind = (np.abs(np.hypot(y - 222, x - 368) - 100) < 20) & (x < 320)  # petals that one drag draws out
    moved = np.roll(photo, 61, axis=1)[behind].astype(int)
    errors = [np.abs(np.asarray(result.image)[behind] - moved).mean() for result in (alone, whole)]
    assert errors[1] < 0.6 * errors[0], errors


@pytest.mark.parametrize(("max_step", "stages"), [(60, 1), (30, 2), (60 / 32, 32)])
def test_companions_take_no_more_stages_than_their_drag(max_step: float, stages: int) -> None:
    steps: list[int] = []
    result = DragEditor.from_pretrained("builtin").edit(
        EXAMPLES / "flower.jpg",
        [((320, 210), (380, 210))],
        max_step=max_step,
        augment=2,
        callback=lambda step, total: steps.append(total),
    )
    assert len(result.drags) > 5
    assert [drag.target for drag in result.drags[:1]] == [(380, 210)]
    assert set(steps) == {stages}


def test_pins_say_nothing() -> None:
    pin = np.array([[230.0, 230.0]])
    pinned = followers(field(THING), np.concatenate((HANDLE, pin)), np.concatenate((TARGET, pin)), CELL)
    assert np.array_equal(pinned, followers(field(THING), HANDLE, TARGET, CELL))
    assert not followers(field(THING), pin, pin, CELL).any()


@given(st.integers(0, 2**32 - 1))
def test_the_ways_of_the_drags_are_inside_whatever_a_network_predicts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wild = rng.normal(0, 60, (CELLS, CELLS, 2)).astype(np.float32)
    handles, targets = rng.uniform(0, SIDE - 1, (2, 3, 2))
    mask = followers(wild, handles, targets, CELL)
    for share in np.linspace(0, 1, 9):
        x, y = np.rint((1 - share) * handles + share * targets).astype(int).T
        assert mask[y, x].all()


def test_the_shipped_model_finds_a_thing_that_is_larger_than_the_room_of_its_drag() -> None:
    """A square of textures half as wide as the picture, pulled at a corner."""
    rng = np.random.default_rng(1)
    side = 2 * SQUARE_SIDE
    ground, thing = (cv2.resize(texture(rng, *tones), (side, side)) for tones in ((0, 90), (150, 255)))
    square = slice(70, 230)
    photo = ground.copy()
    photo[square, square] = thing[square, square]
    drag = Drag((90, 90), (120, 105))
    alone = derive_mask([drag], side, side)
    result = DragEditor.from_pretrained("builtin").edit(photo, [drag])
    assert alone[square, square].mean() < 0.8
    assert result.mask[square, square].mean() > 0.9
    assert inside(result.mask, drag.target)


@pytest.mark.parametrize("to", [100.0000001, 100.02, 100.4])
def test_a_drag_that_is_too_short_for_a_window_to_show_still_has_a_mask(to: float) -> None:
    photo = cv2.resize(texture(np.random.default_rng(3), 0, 255), (400, 300))
    editor = DragEditor.from_pretrained("builtin")
    for others in ([], [((300, 200), (330, 210))]):
        mask = editor.edit(photo, [((100, 100), (to, 100)), *others]).mask
        assert mask[100, 100]
        assert others or mask.mean() < 0.1
        assert not others or mask[210, 330]


@pytest.mark.parametrize(("width", "height"), [(16, 2000), (2000, 16)])
def test_a_strip_of_a_photo_is_edited_without_a_mask(width: int, height: int) -> None:
    photo = np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = DragEditor.from_pretrained("builtin").edit(photo, [((1, 1), (1.2, 1))])
    assert 0 < result.mask.sum() < 0.2 * result.mask.size


@pytest.mark.parametrize("scale", [1, 3])
def test_a_found_mask_scales_with_the_photo(scale: int) -> None:
    photo = texture(np.random.default_rng(2), 0, 255)
    large = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    drag = Drag((60, 70), (80, 76))
    editor = DragEditor.from_pretrained("builtin")
    mask = editor.edit(large, [drag.scaled(scale, scale)]).mask[scale // 2 :: scale, scale // 2 :: scale]
    assert (mask != editor.edit(photo, [drag]).mask).mean() < 0.06
