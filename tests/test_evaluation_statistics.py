"""Averages, clustered intervals and paired gains on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from lightningdrag.evaluation.columns import Column
from lightningdrag.evaluation.compare import verdict
from lightningdrag.evaluation.statistics import estimate, median, paired_gain


def test_the_mean_over_strata_counts_each_stratum_once() -> None:
    result = estimate([1, 1, 1, 1, 5], ["a", "b", "c", "d", "e"], ["small"] * 4 + ["large"])
    assert result.mean == 3
    assert result.pairs == 5
    assert estimate([1, 1, 1, 1, 5], list("abcde")).mean == pytest.approx(1.8)


def test_the_interval_of_independent_values_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)
    result = estimate(values, [str(i) for i in range(400)])
    half_width = 1.645 * values.std() / 20
    assert result.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert result.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


def test_copies_within_a_group_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).normal(size=30)
    groups = [str(i) for i in range(30)]
    once = estimate(values, groups)
    ten_times = estimate(np.repeat(values, 10), np.repeat(groups, 10).tolist())
    assert (ten_times.low, ten_times.high) == pytest.approx((once.low, once.high))


def test_a_single_group_has_no_interval_and_undefined_values_are_left_out() -> None:
    result = estimate([2.0, 4.0, np.nan], ["a", "a", "b"])
    assert (result.mean, result.pairs) == (3.0, 2)
    assert np.isnan([result.low, result.high]).all()
    nothing = estimate([np.nan], ["a"])
    assert nothing.pairs == 0
    assert np.isnan(nothing.mean)


def test_an_infinite_value_has_an_infinite_mean_and_no_interval() -> None:
    result = estimate([np.inf, 1.0], ["a", "b"])
    assert result.mean == np.inf
    assert np.isnan(result.low)


def test_a_stratum_that_few_groups_hold_is_still_averaged() -> None:
    groups = [str(i) for i in range(10)]
    result = estimate([0.0] * 9 + [10.0], groups, ["small"] * 9 + ["large"])
    assert result.mean == 5
    assert result.low <= 5 <= result.high


def test_a_paired_gain_is_certain_where_its_parts_are_not() -> None:
    theirs = np.random.default_rng(3).normal(20, 5, 50)
    groups = [str(i) for i in range(50)]
    gain = paired_gain(theirs + 0.5, theirs, groups)
    assert gain.estimate[:3] == pytest.approx((0.5, 0.5, 0.5))
    assert gain.won == 1


def test_ties_are_half_won_and_two_exact_results_tie() -> None:
    gain = paired_gain([1.0, 2.0, np.inf], [1.0, 1.0, np.inf], ["a", "b", "c"])
    assert gain.won == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert gain.estimate.mean == pytest.approx(1 / 3)


def test_medians_and_shares_won_are_averages_of_the_strata_too() -> None:
    strata = ["small"] * 3 + ["large"]
    assert median([1, 2, 9, 10], strata) == (2 + 10) / 2
    assert median([1, 2, 9, np.nan], strata) == 2
    assert median([1, 2, 9, 10]) == 5.5
    assert np.isnan(median([np.nan], ["small"]))
    gain = paired_gain([1, 1, 1, 0], [0, 0, 2, 1], list("abcd"), strata)
    assert gain.won == pytest.approx((2 / 3 + 0) / 2)


def test_a_change_is_called_by_its_interval_and_by_what_is_better() -> None:
    higher, lower, neither = Column("a", "a", "", 1), Column("b", "b", "", -1), Column("c", "c", "", 0)

    def change(mean: float, low: float, high: float) -> dict[str, float]:
        return {"mean": mean, "low": low, "high": high}

    assert verdict(change(1, 0.5, 2), higher) == "better"
    assert verdict(change(1, 0.5, 2), lower) == "worse"
    assert verdict(change(1, 0.5, 2), neither) == "changed"
    assert verdict(change(1, -0.5, 2), higher) == "noise"
    assert verdict(change(0, 0, 0), higher) == "noise"
    assert verdict(change(-np.inf, np.nan, np.nan), higher) == "worse", "it was perfect before"


def test_weights_count_a_case_as_often_as_it_has_points() -> None:
    result = estimate([10.0, 40.0], ["a", "b"], weights=[3, 1])
    assert result.mean == (3 * 10 + 40) / 4
