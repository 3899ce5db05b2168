"""Masks: read from anything, derived from drags, widened, stored as runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from lightningdrag.drag import Drag, FormatError, MaskError
from lightningdrag.masks import (
    bounding_box,
    derive_mask,
    distance_to_rim,
    from_runs,
    inside,
    read_mask,
    resized_mask,
    search_room,
    to_runs,
    ways,
    widen_mask,
)

WIDTH, HEIGHT = 120, 90
points = st.tuples(st.floats(-0.5, WIDTH - 0.5), st.floats(-0.5, HEIGHT - 0.5))
drags = st.lists(st.builds(Drag, points, points), min_size=1, max_size=5)
masks = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_masks_are_read_from_arrays_images_and_files(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:10, 5:20] = True
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    image.save(tmp_path / "mask.png")
    sources = [mask, mask * np.uint8(255), mask.astype(np.int64), mask.astype(float), mask[..., None]]
    painted = Image.new("RGBA", image.size, (255, 255, 255, 0))  # as an editor leaves an empty layer
    painted.paste("white", mask=image)
    for source in [*sources, painted, image, image.convert("RGB"), image.convert("1"), tmp_path / "mask.png"]:
        assert np.array_equal(read_mask(source), mask)


@pytest.mark.parametrize(
    "array",
    [
        *(np.zeros((2, 3, 3)), np.zeros(5), np.zeros((0, 5)), np.zeros((2, 2), complex)),
        *(np.full((2, 2), value) for value in (np.nan, 2.0, -1, 300, "a")),
    ],
)
def test_arrays_that_are_no_masks_are_refused(array: np.ndarray) -> None:
    with pytest.raises(MaskError, match="mask"):
        read_mask(array)


@given(masks)
def test_runs_hold_the_mask(mask: np.ndarray) -> None:
    record = to_runs(mask)
    assert record["size"] == [mask.shape[1], mask.shape[0]]
    assert np.array_equal(from_runs(record["size"], record["runs"]), mask)


@pytest.mark.parametrize(
    ("size", "runs"),
    [
        ([2, 2], [3]),
        ([2, 2], [1.0, 3]),
        ([2], [4]),
        ([0, 2], [0]),
        ([2, 2], [True, 3]),
        (None, [4]),
        ([2, 2], None),
    ],
)
def test_runs_that_make_no_mask_are_refused(size: object, runs: object) -> None:
    with pytest.raises(FormatError, match="mask"):
        from_runs(size, runs)


def test_runs_of_more_pixels_than_the_photo_may_have_are_refused_with_the_bound() -> None:
    size, runs = [20, 10], [0, 200]
    assert from_runs(size, runs, max_pixels=200).all()
    with pytest.raises(FormatError, match=r"mask is \[20, 10\]; at most 199 pixels are taken"):
        from_runs(size, runs, max_pixels=199)


@given(drags)
def test_a_derived_mask_holds_handles_targets_and_the_way_between(drags: list[Drag]) -> None:
    mask = derive_mask(drags, WIDTH, HEIGHT)
    moving = [drag for drag in drags if not drag.is_pin]
    for drag in moving or drags:
        for share in np.linspace(0, 1, 9):
            point = tuple((1 - share) * np.array(drag.handle) + share * np.array(drag.target))
            assert inside(mask, point)


@given(drags)
def test_a_derived_mask_scales_with_the_photo(drags: list[Drag]) -> None:
    small = derive_mask(drags, WIDTH, HEIGHT)
    large = derive_mask([drag.scaled(3, 3) for drag in drags], 3 * WIDTH, 3 * HEIGHT)
    assert (large[1::3, 1::3] != small).mean() < 0.02


def test_a_longer_drag_gets_more_room_and_a_pin_none() -> None:
    short = derive_mask([Drag((50, 45), (55, 45))], WIDTH, HEIGHT)
    long = derive_mask([Drag((40, 45), (70, 45))], WIDTH, HEIGHT)
    assert long[:, 55].sum() > short[:, 52].sum()
    pinned = derive_mask([Drag((50, 45), (55, 45)), Drag((10, 10), (10, 10))], WIDTH, HEIGHT)
    assert np.array_equal(pinned, short)
    assert derive_mask([Drag((10, 10), (10, 10))], WIDTH, HEIGHT)[10, 10]


def test_there_is_more_room_to_look_in_than_to_change_whatever_the_photos_size() -> None:
    drags = [Drag((50, 45), (55, 45)), Drag((90, 80), (90, 80))]
    room = search_room(drags, WIDTH, HEIGHT)
    assert (room >= derive_mask(drags, WIDTH, HEIGHT)).all()
    assert not room.all()
    assert search_room([Drag((50, 45), (80, 45))], WIDTH, HEIGHT).all()
    along = np.flatnonzero(search_room([Drag((1000, 50), (1090, 50))], 2000, 100).any(axis=0))
    assert (along[0], along[-1]) == pytest.approx((900, 1190), abs=8)  # a short side at most
    assert search_room([Drag((1, 0), (1.2, 0))], 16, 6000).any()
    large = search_room([drag.scaled(20, 20) for drag in drags], 20 * WIDTH, 20 * HEIGHT)
    assert (large[10::20, 10::20] != room).mean() < 0.02


@given(drags)
def test_the_ways_of_drags_are_thin_and_hold_both_ends(drags: list[Drag]) -> None:
    mask = ways(drags, WIDTH, HEIGHT)
    moving = [drag for drag in drags if not drag.is_pin]
    assert all(inside(mask, end) for drag in moving for end in (drag.handle, drag.target))
    assert mask.sum() <= sum(6 * (drag.length + 8) for drag in moving)


def test_a_given_reach_is_that_of_every_drag() -> None:
    mask = derive_mask([Drag((50, 45), (52, 45)), Drag((30, 45), (45, 45))], WIDTH, HEIGHT, reach=10.5)
    assert np.flatnonzero(mask[45]).tolist() == list(range(20, 63))
    assert np.flatnonzero(mask.any(axis=1)).tolist() == list(range(35, 56))


def test_widening_adds_the_way_of_a_drag_and_takes_nothing_away() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[40:50, 20:30] = True
    wider = widen_mask(mask, [Drag((25, 45), (60, 45))])
    assert (wider >= mask).all()
    assert wider[45, 25:61].all()
    assert not wider[45, 100]


def test_a_mask_is_resized_only_to_its_own_aspect() -> None:
    mask = np.zeros((60, 90), bool)
    mask[20:40, 30:60] = True
    assert bounding_box(resized_mask(mask, 180, 120)) == (60, 40, 120, 80)
    assert resized_mask(mask, 1001, 667).shape == (667, 1001)  # as near as whole pixels come
    with pytest.raises(MaskError, match="90x60 and the photo 90x90"):
        resized_mask(mask, 90, 90)
    speck = np.zeros((60, 90), bool)
    speck[0, 0] = True
    with pytest.raises(MaskError, match="nothing is left"):
        resized_mask(speck, 30, 20)


@given(masks.filter(np.any))
def test_distance_is_zero_outside_and_about_one_on_the_rim(mask: np.ndarray) -> None:
    depth = distance_to_rim(mask)
    assert ((depth > 0) == mask).all()
    if mask.all():
        assert np.isinf(depth).all()
        return
    outside = np.argwhere(~mask)
    for y, x in np.argwhere(mask):
        true = np.hypot(*(outside - (y, x)).T).min()
        assert abs(depth[y, x] - true) <= 0.05 * true
