"""Averages over pairs that come in groups, and how far they can be trusted.

Pairs of one scene resemble each other, so intervals are bootstrapped over *groups* of like scenes
(Cameron, Gelbach and Miller 2008): groups are drawn with replacement, each with all its pairs.
Where pairs lie in strata, every figure (mean, median, share won) is the average of the strata's, so that a
stratum counts the same however many pairs it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

LEVEL = 0.9
DRAWS = 4000


class Estimate(NamedTuple):
    """A mean with its confidence interval; ``pairs`` is how many define it."""

    mean: float
    low: float
    high: float
    pairs: int


class Gain(NamedTuple):
    """A paired difference: its estimate and the share of pairs won (a tie is half)."""

    estimate: Estimate
    won: float


def estimate(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[str],
    strata: Sequence[str] | None = None,
    level: float = LEVEL,
    weights: Sequence[float] | None = None,
) -> Estimate:
    """Mean (of the strata's means) and its bootstrap interval, clustered by group.

    Args:
        values: one a pair; NaN leaves the pair out, an infinite value makes the mean infinite.
        groups: the group of each pair.
        strata: the stratum of each pair; None is a single one.
        level: probability that the interval is meant to hold.
        weights: how often each pair counts; None counts each once.

    Returns:
        NaN mean and bounds if no value is defined; bounds are NaN if the mean is not finite, or if all
        pairs are of one group, which says nothing about other ones.
    """
    array = np.asarray(values, np.float64)
    defined = ~np.isnan(array)
    array = array[defined]
    if not len(array):
        return Estimate(np.nan, np.nan, np.nan, 0)
    group_index = np.unique(np.asarray(groups)[defined], return_inverse=True)[1]
    stratum_names = np.asarray(strata if strata is not None else [""] * len(defined))[defined]
    stratum_index = np.unique(stratum_names, return_inverse=True)[1]
    weight = np.ones(len(array)) if weights is None else np.asarray(weights, np.float64)[defined]
    if not np.isfinite(array).all():
        return Estimate(float(array.mean()), np.nan, np.nan, len(array))

    shape = (group_index.max() + 1, stratum_index.max() + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (group_index, stratum_index), weight * array)
    np.add.at(counts, (group_index, stratum_index), weight)
    mean = float((sums.sum(0) / counts.sum(0)).mean())
    if shape[0] == 1:
        return Estimate(mean, np.nan, np.nan, len(array))

    drawn = _draws(shape[0])
    with np.errstate(invalid="ignore"):
        stratum_means = (drawn @ sums) / (drawn @ counts)
    # A draw may miss a small stratum altogether: it is then averaged over the strata that it has.
    drawn_means = np.nanmean(stratum_means[~np.isnan(stratum_means).all(1)], axis=1)
    low, high = np.quantile(drawn_means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, float(low), float(high), len(array))


def median(values: Sequence[float] | np.ndarray, strata: Sequence[str] | None = None) -> float:
    """Median (the mean of the strata's medians) of what is defined, NaN if nothing is."""
    return _over_strata(np.asarray(values, np.float64), strata, np.median)


def _over_strata(
    values: np.ndarray, strata: Sequence[str] | None, figure: Callable[[np.ndarray], Any]
) -> float:
    """Mean over the strata of a figure of their values that are defined."""
    defined = ~np.isnan(values)
    if not defined.any():
        return float("nan")
    names = np.asarray(strata if strata is not None else [""] * len(values))[defined]
    return float(np.mean([figure(values[defined][names == name]) for name in np.unique(names)]))


@lru_cache(maxsize=64)
def _draws(groups: int) -> np.ndarray:
    """How often each group comes up in each bootstrap draw, ``(DRAWS, groups)``; always the same draws."""
    return np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)


def paired_gain(
    ours: Sequence[float] | np.ndarray,
    theirs: Sequence[float] | np.ndarray,
    groups: Sequence[str],
    strata: Sequence[str] | None = None,
    level: float = LEVEL,
    weights: Sequence[float] | None = None,
) -> Gain:
    """Mean of ``ours - theirs`` pair by pair, with its interval, and the (strata's mean) share of pairs won.

    Pairs where both are infinite tie with a difference of zero; NaN on either side leaves a pair out.
    """
    left, right = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    difference = np.zeros_like(left)
    np.subtract(left, right, out=difference, where=left != right)
    won = _over_strata((np.sign(difference) + 1) / 2, strata, np.mean)
    return Gain(estimate(difference, groups, strata, level, weights), won)
