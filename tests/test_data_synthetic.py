"""Pairs made from photos agree with the pictures they come with."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from data_scenes import texture
from lightningdrag.data.deformations import end_motion, local_deformation, stretched
from lightningdrag.data.pairs import FramePair, Rejected
from lightningdrag.data.synthetic import Layer, cut_out, render, synthetic_pair
from lightningdrag.data.tracks import (
    OCCLUDED,
    UNKNOWN,
    VISIBLE,
    cell_centres,
    disagreement,
    look_up_cells,
    to_cells,
)

SHAPE = (160, 200)


def photo_with_disc(seed: int) -> np.ndarray:
    photo = texture(*SHAPE, seed) // 3
    thing = texture(*SHAPE, seed + 50) // 3 + 160
    disc = cv2.circle(np.zeros(SHAPE, np.uint8), (100, 80), 36, 1, -1)[..., None]
    return np.where(disc, thing, photo).astype(np.uint8)


def bar_that_bends(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The motion of a bar at (30, 70)-(170, 90)."""
    y, x = np.mgrid[70:90, 30:170]
    return end_motion(shape, np.stack((x.ravel(), y.ravel()), -1).astype(np.float64), rng)


def moved_square() -> FramePair:
    """A square at (60, 50)-(100, 90) that is shifted by (30, 10)."""
    ground, thing = texture(*SHAPE, 1), texture(*SHAPE, 2)
    alpha = np.zeros(SHAPE, np.float32)
    alpha[50:90, 60:100] = 1
    still = np.zeros((*SHAPE, 2), np.float32)
    back = np.array([[1, 0, -30], [0, 1, -10.0]])
    ones = np.ones(SHAPE, np.float32)
    return render([Layer(ground, ones, np.eye(2, 3), still), Layer(thing, alpha, back, still)])


def test_a_shifted_layer_has_exact_motion_and_true_disocclusion() -> None:
    pair = moved_square()
    x, y = cell_centres(*SHAPE).transpose(2, 0, 1)
    before = (x > 60) & (x < 99) & (y > 50) & (y < 89)
    after = (x > 90) & (x < 129) & (y > 60) & (y < 99)
    assert np.allclose(pair.forward[:, before].T, (30, 10))
    assert np.allclose(pair.backward[:, after].T, (-30, -10))
    assert (pair.forward_state[before] == VISIBLE).all()
    assert (pair.backward_state[before & ~after & (x < 88)] == OCCLUDED).all()
    assert (pair.forward_state[after & ~before & (x > 101)] == OCCLUDED).all()
    assert (pair.second[50:90, 60:88] == texture(*SHAPE, 1)[50:90, 60:88]).all()
    assert not pair.forward[:, pair.moving == 0].any()


def test_a_stretch_keeps_one_end_and_draws_out_the_other() -> None:
    ones, still = np.ones(SHAPE, np.float32), np.zeros((*SHAPE, 2), np.float32)
    back = stretched(np.array([20.0, 30.0]), np.array([3.0, 0.0]), 1.5)
    layer = Layer(texture(*SHAPE, 1), ones, back, still)
    ends = np.array([[[20.0, 30.0], [60.0, 30.0], [20.0, 50.0]]])
    assert np.allclose(layer.forward(ends), [[[20, 30], [80, 30], [20, 50]]])


@pytest.mark.parametrize("seed", range(8))
def test_what_bends_moves_at_one_end_and_stays_at_the_other(seed: int) -> None:
    moved = np.linalg.norm(bar_that_bends(SHAPE, np.random.default_rng(seed)), axis=-1)[70:90]
    left, right = moved[:, 30].max(), moved[:, 169].max()
    assert min(left, right) == 0
    assert max(left, right) > 1


@pytest.mark.parametrize("deform", [local_deformation, bar_that_bends])
def test_a_deformation_is_inverted_exactly(
    deform: Callable[[tuple[int, int], np.random.Generator], np.ndarray],
) -> None:
    rng = np.random.default_rng(3)
    ones = np.ones(SHAPE, np.float32)
    for _ in range(10):
        smooth = deform(SHAPE, rng)
        layer = Layer(texture(*SHAPE, 1), ones, np.eye(2, 3), smooth)
        grid = cell_centres(*SHAPE)
        there = layer.forward(grid)
        back = there + cv2.remap(
            smooth, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        # OpenCV looks up at 1/32 px, which a slope of 0.85 makes up to seven times as much.
        assert np.linalg.norm(back - grid, axis=-1).max() < 0.2


@pytest.mark.parametrize("seed", range(12))
def test_pictures_and_motion_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pair = synthetic_pair([photo_with_disc(seed), photo_with_disc(seed + 20)], rng)
    forward, backward = (field.transpose(1, 2, 0) for field in (pair.forward, pair.backward))
    visible = (pair.backward_state == VISIBLE) & (pair.moving > 0)
    colour = look_up_cells(to_cells(pair.first), cell_centres(*SHAPE) + backward)
    error = np.abs(colour.astype(int) - to_cells(pair.second)).mean(-1)
    assert np.median(error[visible]) < 12
    both = cv2.erode((pair.forward_state == VISIBLE).astype(np.uint8), np.ones((5, 5))) > 0
    assert np.median(disagreement(forward, backward)[both]) < 0.2
    assert (pair.forward_state == UNKNOWN).mean() < 0.05
    outside = np.repeat(np.repeat(pair.moving == 0, 2, 0), 2, 1)
    assert np.abs(pair.first.astype(int) - pair.second)[outside].max() <= 16


def test_cut_outs_follow_edges() -> None:
    photo = photo_with_disc(4)
    disc = cv2.circle(np.zeros(SHAPE, np.uint8), (100, 80), 36, 1, -1) > 0
    overlaps = []
    for seed in range(12):
        try:
            thing = cut_out(photo, np.random.default_rng(seed))
        except Rejected:
            continue
        overlaps.append(max((thing & disc).sum(), (thing & ~disc).sum()) / thing.sum())
    assert len(overlaps) >= 6
    assert np.median(overlaps) > 0.9
