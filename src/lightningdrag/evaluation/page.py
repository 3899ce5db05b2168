"""A report as a page: tables, plots and a gallery of edits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lightningdrag.evaluation.case import TRUTH, Benchmark, Case, CaseScores
from lightningdrag.evaluation.columns import AVERAGE, COLUMNS, REFERENCE
from lightningdrag.evaluation.ranking import EXTREMES, ranked
from lightningdrag.evaluation.report import values_of
from lightningdrag.evaluation.tables import TextTable, coverage, difference_table, problem_lines, tables
from lightningdrag.report import Edit, Gallery, Page, Part, Plot, Section, Table, Text, data_uri, plots

PICTURE_SIDE = 384
CURVE_BINS = 8
LEAST_SECONDS = 1e-4
TITLES = {column.key: column.title for column in COLUMNS}

PictureOf = Callable[[Case, int, str], "np.ndarray | None"]
"""The result of a row for a case and its index, ``(H, W, 3)`` uint8; None if there is none."""


def build_page(
    report: dict[str, Any],
    scores: Sequence[CaseScores],
    cases: Benchmark,
    rows: Sequence[str],
    picture_of: PictureOf,
) -> Page:
    """The whole page.

    Args:
        report: as ``report.build_report`` makes it.
        rows: the rows that are not baselines; the first ranks the gallery.
        picture_of: results to show, of these rows and of the reference warp.
    """
    made = tables(report)
    results: list[Part] = [_table(made[0], rows), _table(difference_table(report), rows)]
    results += _plots(report, scores)
    sections = [
        Section("Results", results),
        Section("Gallery", [_gallery(scores, cases, rows, picture_of)]),
        Section("More tables", [_table(table, rows) for table in made[1:]]),
    ]
    if report["problems"]:
        sections.insert(1, Section("Not scored", [Text(line) for line in problem_lines(report)]))
    if report["absent"]:
        absent = [Text(f"{name}: {why}") for name, why in report["absent"].items()]
        sections.append(Section("Absent measures", absent))
    lead = (
        f"{coverage(report)} in {report['groups']} groups. Intervals hold with {report['interval']:.0%}, "
        "bootstrapped over groups. A measure that rewards doing nothing is read beside the identity's row."
    )
    return Page(f"lightningdrag on {report['about']['benchmark']}", sections, lead, report["about"])


def _table(table: TextTable, rows: Sequence[str]) -> Table:
    marked = frozenset(i for i, row in enumerate(table.rows) if row[0] in rows)
    return Table(["method", *table.head[1:]], table.rows, table.title, marked)


def _plots(report: dict[str, Any], scores: Sequence[CaseScores]) -> list[Plot]:
    average = report["table"][AVERAGE]
    known = TRUTH in average
    accuracy = "md" if any("md" in row for row in average.values()) else "point_error"
    fidelity = "image_fidelity" if any("image_fidelity" in row for row in average.values()) else "ssim"
    quality = "psnr" if known else accuracy
    drawn = [
        _scatter(average, accuracy, fidelity, "Accuracy against fidelity.", False),
        _scatter(average, "seconds", quality, "Time against quality.", True),
        _against_length(scores, accuracy, False),
        _against_length(scores, quality, True) if known else None,
    ]
    return [plot for plot in drawn if plot is not None]


def _scatter(rows: Mapping[str, Any], x: str, y: str, caption: str, log_x: bool) -> Plot | None:
    points = {
        name: (row[x]["mean"], row[y]["mean"])
        for name, row in rows.items()
        if name != TRUTH and x in row and y in row
    }
    if log_x:  # what takes no time has no place there
        points = {name: (a if a > LEAST_SECONDS else math.nan, b) for name, (a, b) in points.items()}
    if not any(math.isfinite(a) and math.isfinite(b) for a, b in points.values()):
        return None
    return Plot(plots.scatter(points, TITLES[x], TITLES[y], log_x), caption)


def _against_length(scores: Sequence[CaseScores], key: str, gain: bool) -> Plot | None:
    """A measure, or what a method gains in it over the warp, in equal shares of the cases by length."""
    length = 100 * np.array([s.motion for s in scores])
    edges = np.quantile(length, np.linspace(0, 1, CURVE_BINS + 1))
    place = np.clip(np.searchsorted(edges, length, side="right") - 1, 0, CURVE_BINS - 1)
    curves = {}
    for method in dict.fromkeys(method for s in scores for method in s.scores):
        if method == TRUTH:
            continue
        values = values_of(scores, method, key)
        if gain:
            values = values - values_of(scores, REFERENCE, key)
        bins = [i for i in range(CURVE_BINS) if np.isfinite(values[place == i]).any()]
        means = [float(np.mean(v[np.isfinite(v)])) for v in (values[place == i] for i in bins)]
        if bins:
            curves[method] = ([float(np.median(length[place == i])) for i in bins], means)
    if not curves:
        return None
    label = "gain over the warp, dB" if gain else TITLES[key]
    svg = plots.lines(curves, "mean drag length, % of the short side", label, log_x=True)
    return Plot(svg, f"{'Gain' if gain else 'Error'} by drag length.")


def _gallery(
    scores: Sequence[CaseScores], cases: Benchmark, rows: Sequence[str], picture_of: PictureOf
) -> Gallery:
    """The best and worst of the first row, and some between, with every row's result."""
    leading = next(iter(rows), REFERENCE)
    order = ranked(scores, leading)
    between = order[EXTREMES:-EXTREMES]
    step = max(1, math.ceil(len(between) / EXTREMES))
    chosen = [*order[:EXTREMES], *between[::step], *order[EXTREMES:][-EXTREMES:]]
    shown = [*rows, *([REFERENCE] if REFERENCE not in rows else [])]
    edits = [_edit(scored, cases[scored.index], shown, leading, picture_of) for scored in chosen]
    caption = (
        f"The {EXTREMES} best and the {EXTREMES} worst cases of {leading}, and {EXTREMES} between. "
        "An arrow leads from a handle (red) to its target; a red dot alone is a pin. "
        "Slide between before (left) and after (right)."
    )
    return Gallery(edits, caption, frozenset(column.title for column in COLUMNS if not column.main))


def _edit(scored: CaseScores, case: Case, rows: Sequence[str], leading: str, picture_of: PictureOf) -> Edit:
    pictures = {row: picture_of(case, scored.index, row) for row in rows}
    after = {row: data_uri(p, PICTURE_SIDE) for row, p in pictures.items() if p is not None}
    if case.truth is not None:
        after[TRUTH] = data_uri(case.truth, PICTURE_SIDE)
    ours, warp = scored.scores.get(leading, {}), scored.scores.get(REFERENCE, {})
    values = {"drag length, %": 100 * scored.motion}
    if "psnr" in ours and "psnr" in warp:
        values = {"gain over warp, dB": ours["psnr"] - warp["psnr"], **values}
    values |= {c.title: ours[c.key] for c in COLUMNS if c.key in ours}
    height, width = case.mask.shape
    drags = list(zip(case.handles.tolist(), case.targets.tolist(), strict=True))
    return Edit(case.name, data_uri(case.source, PICTURE_SIDE), after, (width, height), drags, values)
