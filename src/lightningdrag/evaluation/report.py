"""The table of a benchmark: averages with their intervals, as plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lightningdrag.evaluation.case import (
    MASK_BINS,
    OCCLUSION_BINS,
    POINT_BINS,
    STRATA,
    TRUTH,
    CaseScores,
    Problem,
)
from lightningdrag.evaluation.columns import AVERAGE, CANDIDATE_COLUMNS, COLUMNS, REFERENCE
from lightningdrag.evaluation.statistics import LEVEL, estimate, median, paired_gain


def summarise(scores: Sequence[CaseScores]) -> dict[str, dict[str, dict[str, Any]]]:
    """``table[section][method][metric]`` = {mean, low, high, pairs}.

    Sections: "average" (of the three strata's means where the truth is known, else of the cases), and
    each stratum, category, and bin of the number of points, the mask's area and the occlusion that
    holds a case. "gain" is the paired difference in PSNR to the reference warp, with "won", the share of
    cases won against it; in "average", "difference" holds that of every measure.
    """
    sections: dict[str, list[CaseScores]] = {AVERAGE: list(scores)}
    for names, bin_of in _binnings(scores):
        sections |= {name: [s for s in scores if bin_of(s) == name] for name in names}
    return {name: _summarise_section(name, members) for name, members in sections.items() if members}


def _binnings(scores: Sequence[CaseScores]) -> list[tuple[list[str], Callable[[CaseScores], str]]]:
    categories = sorted({s.category for s in scores if s.category})
    return [
        (list(STRATA), lambda s: s.stratum),
        (list(POINT_BINS), lambda s: s.point_bin),
        (list(OCCLUSION_BINS), lambda s: s.occlusion_bin),
        (list(MASK_BINS), lambda s: s.mask_bin),
        (categories, lambda s: s.category),
    ]


def values_of(scores: Sequence[CaseScores], method: str, key: str) -> np.ndarray:
    """One measure of one method over the cases, NaN where it is missing."""
    return np.array([s.scores.get(method, {}).get(key, math.nan) for s in scores], np.float64)


def _summarise_section(section: str, scores: Sequence[CaseScores]) -> dict[str, dict[str, Any]]:
    groups = [s.group for s in scores]
    methods = list(dict.fromkeys(method for s in scores for method in s.scores))
    strata = [s.stratum for s in scores] if TRUTH in methods else None
    points = [float(s.num_points) for s in scores]
    whole = section == AVERAGE
    columns = [c for c in (*COLUMNS, *CANDIDATE_COLUMNS) if whole or section in STRATA or c.main]
    rows: dict[str, dict[str, Any]] = {}
    for method in methods:
        row: dict[str, Any] = {"cases": sum(method in s.scores for s in scores)}
        differences: dict[str, Any] = {}
        for column in columns:
            values = values_of(scores, method, column.key)
            defined = values[~np.isnan(values)]
            if not len(defined):
                continue
            if column.median:
                row[column.key] = {"mean": median(values, strata), "pairs": len(defined)}
                continue
            weights = points if column.by_point else None
            row[column.key] = estimate(values, groups, strata, weights=weights)._asdict()
            if not whole and column.key != "psnr":
                continue
            theirs = values_of(scores, REFERENCE, column.key)
            gain = paired_gain(values, theirs, groups, strata, weights=weights)
            if method != REFERENCE and gain.estimate.pairs:
                differences[column.key] = gain.estimate._asdict()
            if column.key == "psnr":
                row["gain"] = {**gain.estimate._asdict(), "won": gain.won}
        rows[method] = {**row, "difference": differences} if whole else row
    return rows


def build_report(
    scores: Sequence[CaseScores],
    about: dict[str, str],
    expected: int | None = None,
    problems: Sequence[Problem] = (),
    absent: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole outcome as plain data: what was run and where, the table, and every case's scores.

    Args:
        expected: how many cases the benchmark has; None if that is all there are.
        problems: what could not be scored.
        absent: the measures that are absent, and why.
    """
    return {
        "version": 1,
        "about": about,
        "pairs": len(scores),
        "expected": len(scores) if expected is None else expected,
        "groups": len({s.group for s in scores}),
        "interval": LEVEL,
        "table": summarise(scores),
        "absent": dict(absent or {}),
        "problems": [asdict(problem) for problem in problems],
        "scores": [{**asdict(s), "stratum": s.stratum} for s in scores],
    }


def to_json(report: dict[str, Any]) -> str:
    """JSON of a report; an undefined figure is null, an infinite one the string "Infinity"."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return value

    return json.dumps(plain(report), indent=1, allow_nan=False)
