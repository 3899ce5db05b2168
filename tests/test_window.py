"""Windows: what they hold, how they are shaped, and points to them and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightningdrag.window import Box, Window, box_of, choose_window

Case = tuple[Box, int, int, Window, dict]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    width = draw(st.integers(64, 8000))
    height = draw(st.integers(max(64, -(-width // 4)), min(8000, 4 * width)))
    x = sorted(draw(st.tuples(st.integers(0, width - 1), st.integers(0, width - 1))))
    y = sorted(draw(st.tuples(st.integers(0, height - 1), st.integers(0, height - 1))))
    needed = x[0], y[0], x[1] + 1, y[1] + 1
    model = {
        "area": draw(st.sampled_from([256**2, 384**2, 512**2])),
        "multiple": draw(st.sampled_from([8, 16, 64])),
        "max_upscale": draw(st.sampled_from([1.0, 2.0, 8.0])),
    }
    return needed, width, height, choose_window(needed, width, height, **model), model


@given(cases())
def test_a_window_holds_what_is_needed_at_the_models_size(case: Case) -> None:
    needed, _, _, window, model = case
    x0, y0, x1, y1 = window.box
    assert x0 <= needed[0] < needed[2] <= x1
    assert y0 <= needed[1] < needed[3] <= y1
    assert window.width % model["multiple"] == window.height % model["multiple"] == 0
    assert max(window.scale) <= model["max_upscale"] * 1.05
    assert window.scale[0] == pytest.approx(window.scale[1], rel=0.1)  # things keep their shape
    assert window.width * window.height <= model["area"] * 1.6
    assert max(window.width / window.height, window.height / window.width) <= 6


@given(cases())
def test_a_window_leaves_the_photo_only_where_the_photo_is_too_small(case: Case) -> None:
    _, width, height, window, _ = case
    x0, y0, x1, y1 = window.box
    assert (x0 >= 0 and x1 <= width) or x1 - x0 > width
    assert (y0 >= 0 and y1 <= height) or y1 - y0 > height


@given(cases())
def test_corners_of_the_box_are_corners_of_the_window(case: Case) -> None:
    window = case[3]
    x0, y0, x1, y1 = window.box
    corners = window.to_window(np.array([(x0 - 0.5, y0 - 0.5), (x1 - 0.5, y1 - 0.5)]))
    assert np.allclose(corners, [(-0.5, -0.5), (window.width - 0.5, window.height - 0.5)])


def test_a_point_of_the_photo_is_where_the_window_says() -> None:
    pixels = np.zeros((600, 900, 3), np.uint8)
    pixels[280:320, 480:520] = 255  # around (499.5, 299.5)
    window = choose_window((300, 200, 700, 400), 900, 600, area=256**2, multiple=8, max_upscale=1.0)
    seen = window.crop(pixels)[..., 0].astype(float)
    assert seen.shape == (window.height, window.width)
    y, x = np.mgrid[: window.height, : window.width]
    centre = (seen * x).sum() / seen.sum(), (seen * y).sum() / seen.sum()
    assert np.allclose(window.to_window(np.array([(499.5, 299.5)])), centre, atol=0.02)


def test_a_small_photo_is_seen_whole_and_continued_by_reflection() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    window = choose_window((0, 0, 100, 70), 100, 70, area=512**2, multiple=64, max_upscale=1.0)
    assert (window.width, window.height) == (128, 128)
    x0, y0, _, _ = window.box
    seen = window.crop(pixels)
    assert np.array_equal(seen[-y0 : 70 - y0, -x0 : 100 - x0], pixels)
    assert np.array_equal(seen[-y0 : 70 - y0, -x0 - 1], pixels[:, 1])
    mask = window.crop_mask(np.ones((70, 100), bool))
    assert mask.sum() == 70 * 100  # what is not the photo cannot change


@pytest.mark.parametrize("size", [(3000, 60), (60, 3000)])
def test_a_strip_is_scaled_down_before_it_is_continued(size: tuple[int, int]) -> None:
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.repeat((127 + 60 * np.sin(x / 200) + 60 * np.sin(y / 200)).astype(np.uint8)[..., None], 3, 2)
    window = choose_window((0, 0, width, height), width, height, area=256**2, multiple=32, max_upscale=2.0)
    x0, y0, x1, y1 = window.box
    assert (x1 - x0) * (y1 - y0) > 10 * width * height
    ends = window.to_window(np.array([(0, 0), (width - 1, height - 1)]))
    (left, top), (right, bottom) = np.ceil(ends[0]).astype(int), np.floor(ends[1]).astype(int)
    row, column = np.mgrid[top : bottom + 1, left : right + 1]
    there = window.to_photo(np.stack((column, row), -1).reshape(-1, 2)).round().astype(int)
    expected = pixels[there[:, 1], there[:, 0], 0].reshape(row.shape).astype(int)
    seen = window.crop(pixels)[top : bottom + 1, left : right + 1, 0]
    assert np.abs(seen - expected).max() <= 4
    inside = window.crop_mask(np.ones((height, width), bool))
    assert inside[top : bottom + 1, left : right + 1].all()
    assert inside.sum() <= 2 * row.size
    assert window.photo_mask(inside, width, height).all()
    assert not window.photo_mask(~inside, width, height).any()


def test_a_mask_of_the_window_comes_back_to_the_photo_and_is_false_beyond_it() -> None:
    there = np.zeros((600, 900), bool)
    there[230:310, 420:560] = True
    for box in ((300, 200, 700, 400), (300, 0, 900, 600)):
        window = choose_window(box, 900, 600, area=128**2, multiple=8, max_upscale=1.0)
        back = window.photo_mask(window.crop_mask(there), 900, 600)
        assert back.shape == there.shape
        assert (back != there).sum() < 0.15 * there.sum()
        assert (back[233:307, 423:557]).all()
    small = choose_window((0, 0, 100, 70), 100, 70, area=512**2, multiple=64, max_upscale=1.0)
    everything = np.ones((small.height, small.width), bool)
    assert small.photo_mask(everything, 100, 70).all()
    elsewhere = choose_window((300, 200, 700, 400), 2000, 600, area=128**2, multiple=8, max_upscale=1.0)
    mask = elsewhere.photo_mask(np.ones((elsewhere.height, elsewhere.width), bool), 2000, 600)
    x0, y0, x1, y1 = elsewhere.box
    assert mask[y0:y1, x0:x1].all()
    assert mask.sum() == (x1 - x0) * (y1 - y0)


def test_a_speck_of_a_mask_is_seen_however_small_the_window() -> None:
    mask = np.zeros((3000, 4000), bool)
    mask[1500, 2000] = mask[10, 10] = True
    window = choose_window((10, 10, 2001, 1501), 4000, 3000, area=256**2, multiple=8, max_upscale=1.0)
    seen = window.crop_mask(mask)
    for point in ((2000, 1500), (10, 10)):
        x, y = np.rint(window.to_window(np.array([point]))[0]).astype(int)
        assert seen[y, x]


def test_like_edits_share_a_window() -> None:
    model = {"area": 384**2, "multiple": 16, "max_upscale": 1.0}
    first = choose_window((1003, 805, 1790, 1290), 4000, 3000, **model)
    assert choose_window((1010, 812, 1780, 1282), 4000, 3000, **model) == first


def test_a_box_grows_to_hold_points_within_the_photo() -> None:
    assert box_of((10, 10, 20, 20), [(30.4, 5.5), (-0.4, 99.5)], 50, 100) == (0, 5, 32, 100)
