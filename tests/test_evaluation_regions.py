"""Measures without a second frame, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation_scenes import scene
from lightningdrag.evaluation.baselines import identity
from lightningdrag.evaluation.measures import pixels, returned
from lightningdrag.evaluation.regions import DAI_RADII, dragging_accuracies, dragging_accuracy, rim

HANDLES, TARGETS = np.array([[30.0, 40]]), np.array([[42.0, 40]])


def test_the_rim_is_four_pixels_either_side_of_the_border() -> None:
    mask = np.zeros((40, 60), bool)
    mask[:, 30:] = True
    assert np.flatnonzero(rim(mask)[20]).tolist() == list(range(26, 34))


def test_dai_is_the_squared_rgb_difference_of_the_patches() -> None:
    source = np.full((96, 96, 3), 100, np.uint8)
    result = source.copy()
    result[40, 42] = (151, 100, 49)  # one pixel of the patch, +-0.2 in two channels
    assert dragging_accuracy(source, result, HANDLES, TARGETS, 1) == pytest.approx(2 * 0.2**2 / 9)
    assert dragging_accuracy(source, result, HANDLES, TARGETS, 5) == pytest.approx(2 * 0.2**2 / 121)


def test_dai_is_zero_where_the_patch_was_carried_along() -> None:
    source = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    assert dragging_accuracy(source, np.roll(source, 12, 1), HANDLES, TARGETS, 10) == 0


def test_dai_at_the_border_compares_what_both_patches_have() -> None:
    source = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    handles, targets = np.array([[2.0, 40]]), np.array([[14.0, 40]])
    assert dragging_accuracy(source, np.roll(source, 12, 1), handles, targets, 20) == 0
    assert dragging_accuracy(source, source, handles, handles + np.array([200, 0]), 5) > 0


def test_the_released_dai_divides_by_the_number_of_points_twice() -> None:
    source = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    handles, targets = np.repeat(HANDLES, 4, 0), np.repeat(TARGETS, 4, 0)
    scores = dragging_accuracies(source, source, handles, targets)
    assert DAI_RADII == (1, 5, 10, 20)
    for radius in DAI_RADII:
        assert scores[f"dai_{radius}_released"] == pytest.approx(scores[f"dai_{radius}"] / 4)
    assert scores["dai_5"] == pytest.approx(dragging_accuracy(source, source, HANDLES, TARGETS, 5))


def test_doing_nothing_keeps_the_outside_and_comes_back_exactly() -> None:
    case = scene((12, 4))
    result = identity(case.source, case.handles, case.targets, case.mask, 0)
    scores = pixels(case, {"identity": result})["identity"]
    assert (scores["psnr_outside"], scores["changed_outside"]) == (math.inf, 0)
    assert scores["ssim_outside"] == pytest.approx(1)
    assert returned(result, case)["psnr_back"] == math.inf
    assert scores["point_error"] == pytest.approx(1, abs=0.02), "it stands a drag's length from its target"


def test_what_is_changed_outside_the_mask_is_seen() -> None:
    case = scene((12, 4))
    result = case.source.copy()
    result[0, :10] ^= 0xFF
    scores = pixels(case, {"it": result})["it"]
    assert scores["changed_outside"] == 10
    assert scores["psnr_outside"] == scores["psnr_outside_truth"] < 40, "there the truth is the source's"
    assert scores["ssim_outside_truth"] < 1


def test_without_a_truth_only_what_needs_none_is_scored() -> None:
    case = scene((12, 4))
    blind = type(case)(case.name, case.group, case.source, case.mask, case.handles, case.targets)
    scores = pixels(blind, {"it": case.source})["it"]
    assert scores.keys() >= {"point_error", "dai_1", "psnr_outside"}
    assert not scores.keys() & {"psnr", "ssim", "psnr_rim", "psnr_outside_truth", "ghost"}
