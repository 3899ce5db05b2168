"""The cases of a row from its best to its worst."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lightningdrag.evaluation.case import CaseScores
from lightningdrag.evaluation.columns import REFERENCE
from lightningdrag.evaluation.report import values_of

EXTREMES = 20
"""How many of the best and of the worst cases a report names and shows."""


def extremes(scores: Sequence[CaseScores], rows: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """``extremes[row]`` = {best, worst}: the names of the cases, the most extreme first."""
    orders = {row: [scored.name for scored in ranked(scores, row)] for row in rows}
    return {row: {"best": order[:EXTREMES], "worst": order[::-1][:EXTREMES]} for row, order in orders.items()}


def _ranking_key(scores: Sequence[CaseScores], row: str) -> tuple[str, int]:
    """The measure that ranks the cases of a row, and 1 if higher is better, -1 if lower is."""
    for key, sign in (("psnr", 1), ("md", -1), ("point_error", -1)):
        if np.isfinite(values_of(scores, row, key)).any():
            return key, sign
    return "dai_5", -1


def ranked(scores: Sequence[CaseScores], row: str) -> list[CaseScores]:
    """The cases from a row's best to its worst: by the gain in PSNR over the reference warp, or, without
    a truth, by its distance; cases where that is not defined are left out."""
    key, sign = _ranking_key(scores, row)
    values = sign * values_of(scores, row, key)
    if key == "psnr":
        with np.errstate(invalid="ignore"):
            values = values - values_of(scores, REFERENCE, key)
    order = [i for i in np.argsort(-values, kind="stable") if not np.isnan(values[i])]
    return [scores[i] for i in order]
