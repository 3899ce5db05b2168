"""The measures of one case: every method's result against source and truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lightningdrag.evaluation import metrics
from lightningdrag.evaluation.case import TRUTH, Case
from lightningdrag.evaluation.regions import dragging_accuracies, rim

Scores = dict[str, float]
Measure = Callable[[Case, dict[str, np.ndarray]], dict[str, Scores]]
"""Scores by method of the results by method, ``(H, W, 3)`` uint8 RGB, of one case."""


def pixels(case: Case, results: Mapping[str, np.ndarray]) -> dict[str, Scores]:
    """All that needs no network; the true frame is scored against the truth alone."""
    return {
        name: {
            **(against_truth(result, case) if case.truth is not None else {}),
            **carried(result, case),
            **(kept(result, case) if name != TRUTH else {}),
        }
        for name, result in results.items()
    }


def against_truth(result: np.ndarray, case: Case) -> Scores:
    """How near a result comes to what really happened, in the mask, at its rim and outside."""
    assert case.truth is not None
    double = metrics.doubles(result, case.source, case.truth, case.mask)
    similarity = metrics.ssim_map(result, case.truth)
    border, outside = rim(case.mask), ~case.mask
    return {
        "psnr": metrics.psnr(result, case.truth, case.mask),
        "ssim": metrics.mean_in(similarity, case.mask),
        "psnr_rim": metrics.psnr(result, case.truth, border),
        "ssim_rim": metrics.mean_in(similarity, border),
        "psnr_outside_truth": metrics.psnr(result, case.truth, outside),
        "ssim_outside_truth": metrics.mean_in(similarity, outside),
        "sharpness": metrics.sharpness(result, case.truth, case.mask),
        "ghost": double.ghost,
        "half_transparent": double.half_transparent,
    }


def carried(result: np.ndarray, case: Case) -> Scores:
    """Whether what stood at the handles stands at the targets."""
    handles, targets = case.probed
    points = metrics.point_errors(case.source, result, handles, targets)
    return {
        "point_error": points.drags,
        "pin_error": points.pins,
        **dragging_accuracies(case.source, result, handles, targets),
    }


def kept(result: np.ndarray, case: Case) -> Scores:
    """Whether the outside of the mask is the source's, as an edit must leave it."""
    outside = ~case.mask
    return {
        "psnr_outside": metrics.psnr(result, case.source, outside),
        "ssim_outside": metrics.ssim(result, case.source, outside),
        "changed_outside": metrics.changed_outside(case.source, result, case.mask),
    }


def returned(back: np.ndarray, case: Case) -> Scores:
    """What is left of the source after dragging there and back (DragLoRA's test), in the mask."""
    return {
        "psnr_back": metrics.psnr(back, case.source, case.mask),
        "ssim_back": metrics.ssim(back, case.source, case.mask),
    }


def candidates(results: list[np.ndarray], case: Case) -> Scores:
    """How candidates of one edit differ: much where something was uncovered, little at the targets."""
    height, width = case.mask.shape
    near = metrics.around(case.targets, height, width) & case.mask
    scores = {"deviation_targets": metrics.seed_deviation(results, near)}
    if case.truth is not None and case.uncovered is not None:
        psnrs = [metrics.psnr(result, case.truth, case.mask) for result in results]
        scores |= {
            "deviation_uncovered": metrics.seed_deviation(results, case.uncovered),
            "best_candidate_gain": max(psnrs) - float(np.mean(psnrs)),
        }
    return scores
