"""Two reports of one benchmark, case by case: what changed, and whether it is noise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lightningdrag.evaluation.baselines import BASELINES
from lightningdrag.evaluation.case import TRUTH, CaseScores
from lightningdrag.evaluation.columns import CANDIDATE_COLUMNS, COLUMNS, Column
from lightningdrag.evaluation.report import values_of
from lightningdrag.evaluation.statistics import estimate, median, paired_gain
from lightningdrag.evaluation.tables import UNDEFINED, TextTable, cell, signed

SAME = ("motion", "num_points", "occlusion", "mask_share")
"""Facts of a case by which it is told from another one of its name."""


def read_report(path: Path) -> dict[str, Any]:
    """A report that ``lightningdrag evaluate`` wrote, undefined figures as NaN.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such report.
    """
    try:
        report = json.loads(path.read_text())
        for scored in report["scores"]:
            for row in scored["scores"].values():
                row.update({k: math.nan if v is None else float(v) for k, v in row.items()})
            scored.update({k: math.nan for k, v in scored.items() if v is None})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no report of `lightningdrag evaluate`: {error}") from error
    return report


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[TextTable]:
    """A table for each row that both have, baselines left out: measure by measure A, B, B - A, verdict.

    A verdict is "better" or "worse" where the interval of the paired difference leaves out zero, else
    "noise"; medians are only shown. Where the reports name their models differently, their rows are taken in
    order.

    Raises:
        ValueError: the reports have no case or no row in common, or mean different cases by one name.
    """
    left, right = (_by_name(report) for report in (a, b))
    names = [name for name in left if name in right]
    if not names:
        raise ValueError("the reports have no case in common; were they made on the same benchmark?")
    cases_a, cases_b = [left[n] for n in names], [right[n] for n in names]
    _check_same(cases_a, cases_b)
    matched = _match(cases_a, cases_b)
    if not matched:
        raise ValueError("the reports have no row of a model in common")
    coverage = f"{len(names)} cases"
    if not len(names) == len(left) == len(right):
        coverage += f" in common, of {len(left)} and {len(right)}"
    return [_table(cases_a, cases_b, ours, theirs, coverage) for ours, theirs in matched]


def _by_name(report: dict[str, Any]) -> dict[str, CaseScores]:
    fields = CaseScores.__dataclass_fields__
    scores = [CaseScores(**{k: v for k, v in s.items() if k in fields}) for s in report["scores"]]
    return {s.name: s for s in scores}


def _check_same(a: list[CaseScores], b: list[CaseScores]) -> None:
    """A name counts pairs by their place in a dataset: in another dataset it is that of another pair."""
    for one, other in zip(a, b, strict=True):
        for fact in SAME:
            ours, theirs = getattr(one, fact), getattr(other, fact)
            if not (math.isclose(ours, theirs, rel_tol=1e-3, abs_tol=1e-6) or math.isnan(ours + theirs)):
                raise ValueError(
                    f"case {one.name!r} has {fact} {ours:.4g} in one report and {theirs:.4g} in the other; "
                    "only reports on the same prepared data can be compared"
                )


def _match(a: list[CaseScores], b: list[CaseScores]) -> list[tuple[str, str]]:
    """The rows to compare: by name, the others in order."""
    left, right = (
        [m for m in dict.fromkeys(m for s in side for m in s.scores) if m not in BASELINES and m != TRUTH]
        for side in (a, b)
    )
    alike = [(m, m) for m in left if m in right]
    rest = ([m for m in rows if (m, m) not in alike] for rows in (left, right))
    return alike + list(zip(*rest, strict=False))


def _table(a: list[CaseScores], b: list[CaseScores], ours: str, theirs: str, coverage: str) -> TextTable:
    groups = [s.group for s in a]
    strata = [s.stratum for s in a] if any(TRUTH in s.scores for s in a) else None
    rows = []
    for column in (*COLUMNS, *CANDIDATE_COLUMNS):
        before, after = values_of(a, ours, column.key), values_of(b, theirs, column.key)
        weights = [float(s.num_points) for s in a] if column.by_point else None
        change = paired_gain(after, before, groups, strata, weights=weights).estimate._asdict()
        if not change["pairs"]:
            continue
        middles = [_middle(values, column, groups, strata, weights) for values in (before, after)]
        cells = [cell({"mean": middle}, column) for middle in middles]
        if column.median:  # the interval is that of a mean
            change |= {"mean": middles[1] - middles[0], "low": math.nan, "high": math.nan}
        said = UNDEFINED if column.median else verdict(change, column)
        rows.append([column.title, *cells, signed(change, column), said])
    name = ours if ours == theirs else f"{ours} -> {theirs}"
    return TextTable(f"{name}, {coverage}", ["measure", "A", "B", "B - A", "verdict"], rows)


def _middle(
    values: np.ndarray,
    column: Column,
    groups: list[str],
    strata: list[str] | None,
    weights: list[float] | None,
) -> float:
    """As the report's own table has it."""
    if column.median:
        return median(values, strata)
    return estimate(values, groups, strata, weights=weights).mean


def verdict(change: dict[str, Any], column: Column) -> str:
    """ "better", "worse", "changed" (where neither way is better) or "noise"."""
    certain = math.isinf(change["mean"]) or change["low"] > 0 or change["high"] < 0
    if not certain:
        return "noise"
    if column.better == 0:
        return "changed"
    return "better" if change["mean"] * column.better > 0 else "worse"
