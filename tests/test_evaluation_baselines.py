"""What every table compares a model with: baselines keep the mask and follow their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation_scenes import CENTRE, scene
from lightningdrag.evaluation import metrics
from lightningdrag.evaluation.baselines import (
    BASELINES,
    bidirectional_warp,
    displacement,
    identity,
    moving_least_squares,
    reference_warp,
    reference_warp_inpainted,
    rigid_displacement,
)
from lightningdrag.warp import rim_anchors


def test_every_baseline_leaves_the_outside_of_the_mask_alone() -> None:
    pair = scene((12, 4))
    for name, method in BASELINES.items():
        result = method(pair.source, pair.handles, pair.targets, pair.mask, 0)
        assert (result.shape, result.dtype) == (pair.source.shape, np.uint8)
        assert metrics.changed_outside(pair.source, result, pair.mask) == 0, name


def test_the_reference_warp_follows_its_formula_at_a_pixel() -> None:
    """Shepard's weights 1/d^3 over one target and 64 anchors on the rim, written out."""
    pair = scene((12, 4))
    anchors = rim_anchors(pair.mask)
    assert len(anchors) == 64
    pixel = np.array([55.0, 52.0])
    to_target = np.linalg.norm(pixel - pair.targets[0]) ** -3.0
    to_anchors = (np.linalg.norm(pixel - anchors, axis=1) ** -3.0).sum()
    expected = to_target / (to_target + to_anchors) * np.array([-12.0, -4.0])
    field = displacement(pair.handles, pair.targets, pair.mask)
    assert field[:, 52, 55] == pytest.approx(expected, abs=1e-4)
    assert field[:, 0, 0] == pytest.approx([0, 0])


def test_the_reference_warp_brings_the_handle_to_its_target() -> None:
    pair = scene((12, 4))
    result = reference_warp(pair.source, pair.handles, pair.targets, pair.mask, 0)
    x, y = CENTRE
    assert (result[y + 4, x + 12] == pair.source[y, x]).all()


def test_inpainting_changes_only_what_the_warp_stretched() -> None:
    pair = scene((14, 0))
    request = (pair.source, pair.handles, pair.targets, pair.mask, 0)
    repainted = (reference_warp(*request) != reference_warp_inpainted(*request)).any(-1)
    assert repainted.any()
    columns = np.nonzero(repainted)[1]
    assert columns.mean() < CENTRE[0] + 14, "what is stretched lies behind the target"
    assert repainted.sum() < 0.5 * pair.mask.sum()


@pytest.mark.parametrize("method", [reference_warp, moving_least_squares, bidirectional_warp])
def test_a_deformation_brings_what_was_at_the_handle_to_the_target(method: object) -> None:
    pair = scene((12, 4))
    error = metrics.point_errors(
        pair.source,
        method(pair.source, pair.handles, pair.targets, pair.mask, 0),  # type: ignore[operator]
        pair.handles,
        pair.targets,
    )
    assert error.drags < 0.25


def test_pins_alone_change_nothing() -> None:
    pair = scene((12, 4))
    for name, method in BASELINES.items():
        result = method(pair.source, pair.handles, pair.handles, pair.mask, 0)
        assert (
            np.abs(result.astype(int) - identity(pair.source, *[pair.handles] * 2, pair.mask, 0)).max() <= 1
        ), name


def test_moving_least_squares_gives_a_rotation_back_exactly() -> None:
    """Where all control points turn together, every pixel turns with them (Schaefer et al. 2006)."""
    points = np.array([[10.0, 10], [60, 20], [30, 50], [5, 40]])
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    grid = np.stack(np.meshgrid(np.arange(0.0, 64, 8), np.arange(0.0, 64, 8)), -1)
    field = rigid_displacement(points, points @ turn + [5, -3], grid)
    assert field == pytest.approx(np.moveaxis(grid @ turn + [5, -3] - grid, -1, 0), abs=1e-4)


def test_moving_least_squares_meets_its_control_points() -> None:
    points, moved = np.array([[8.0, 8], [40, 16]]), np.array([[12.0, 9], [40, 16]])
    field = rigid_displacement(points, moved, points[None])
    assert field[:, 0] == pytest.approx((moved - points).T, abs=1e-2)
