"""Drags and masks drawn on known motion."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from lightningdrag.data import draw_drags, draw_mask
from lightningdrag.data.tracks import UNKNOWN, VISIBLE

H, W = 72, 96
Scene = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def two_movers() -> Scene:
    """A thing on the left going down by 12 px, one on the right going left by 8 px."""
    forward = np.zeros((2, H, W), np.float32)
    moving = np.zeros((H, W), np.uint8)
    forward[1, 20:40, 10:26] = 12
    moving[20:46, 10:26] = 1
    forward[0, 30:50, 66:82] = -8
    moving[30:50, 62:82] = 1
    return forward, np.full((H, W), VISIBLE, np.uint8), moving


def cells(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    column, row = ((points + 0.5) // 2).astype(int).T
    return row, column


@pytest.mark.parametrize("seed", range(30))
def test_handles_move_and_targets_are_where_they_go(two_movers: Scene, seed: int) -> None:
    forward, state, moving = two_movers
    handles, targets = draw_drags(forward, state, moving, np.random.default_rng(seed))
    assert 1 <= len(handles) == len(targets) <= 20
    assert handles.dtype == targets.dtype == np.float32
    row, column = cells(handles)
    assert np.allclose(targets - handles, forward[:, row, column].T)
    assert (np.linalg.norm(targets - handles, axis=-1) >= 2).all()


def test_mostly_one_to_four_drags_at_times_many(two_movers: Scene) -> None:
    counts = np.array([len(draw_drags(*two_movers, np.random.default_rng(k))[0]) for k in range(300)])
    assert 0.6 < (counts <= 4).mean() < 0.9
    assert counts.max() > 8
    few = [len(draw_drags(*two_movers, np.random.default_rng(k), max_points=3)[0]) for k in range(50)]
    assert max(few) == 3


def test_motion_that_is_not_trusted_is_not_dragged(two_movers: Scene) -> None:
    forward, state, moving = two_movers
    state[:, :50] = UNKNOWN
    for seed in range(20):
        handles, _ = draw_drags(forward, state, moving, np.random.default_rng(seed))
        assert (handles[:, 0] > 100).all()
    state[:] = UNKNOWN
    with pytest.raises(ValueError, match="nothing with checked motion"):
        draw_drags(forward, state, moving, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(30))
def test_the_mask_holds_points_and_dragged_parts_and_leaves_other_movers_out(
    two_movers: Scene, seed: int
) -> None:
    forward, state, moving = two_movers
    rng = np.random.default_rng(seed)
    state[:, 50:] = UNKNOWN  # only the left one is dragged
    handles, targets = draw_drags(forward, state, moving, rng)
    mask = draw_mask(moving, handles, targets, rng)
    assert mask.shape == (2 * H, 2 * W)
    assert mask.dtype == bool
    for x, y in np.concatenate((handles, targets)).round().astype(int):
        assert mask[y, x]
    full = cv2.resize(moving, (2 * W, 2 * H), interpolation=cv2.INTER_NEAREST) > 0
    assert mask[:, :60][full[:, :60]].mean() > 0.99
    assert not mask[full & (np.arange(2 * W) > 100)].any()
    assert mask.sum() > full[:, :60].sum()


def test_the_same_seed_draws_the_same(two_movers: Scene) -> None:
    def drawn(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        handles, targets = draw_drags(*two_movers, rng)
        return [handles, targets, draw_mask(two_movers[2], handles, targets, rng)]

    assert all(np.array_equal(a, b) for a, b in zip(drawn(5), drawn(5), strict=True))
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(drawn(5), drawn(6), strict=True))


def test_drawing_keeps_up_with_training() -> None:
    rng = np.random.default_rng(0)
    forward = np.full((2, 144, 256), 9, np.float32)
    moving = np.zeros((144, 256), np.uint8)
    moving[40:110, 60:200] = 1
    state = np.full((144, 256), VISIBLE, np.uint8)
    best = np.inf
    for _ in range(10):
        start = time.perf_counter()
        draw_mask(moving, *draw_drags(forward, state, moving, rng), rng)
        best = min(best, time.perf_counter() - start)
    assert best < 0.02
