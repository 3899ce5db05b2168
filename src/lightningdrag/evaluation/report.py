"""The table of a benchmark: averages with their intervals, as JSON and as markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightningdrag.evaluation.pairs import OCCLUSION_BINS, POINT_BINS, STRATA, TRUTH, PairScores
from lightningdrag.evaluation.statistics import LEVEL, estimate, paired_gain
from lightningdrag.files import write_atomically

REFERENCE = "reference warp"
AVERAGE = "average"


@dataclass(frozen=True)
class Column:
    """One measure in the tables. ``median`` columns are a median over the pairs, without an interval."""

    key: str
    title: str
    form: str
    median: bool = False


COLUMNS = (
    Column("psnr", "PSNR, dB", "{:.2f}"),
    Column("ssim", "SSIM", "{:.3f}"),
    Column("sharpness", "sharpness", "{:.2f}", median=True),
    Column("ghost", "ghost", "{:.3f}"),
    Column("half_transparent", "half-transparent", "{:.3f}"),
    Column("point_error", "point error", "{:.3f}"),
    Column("pin_error", "pins, px", "{:.2f}"),
    Column("changed_outside", "px changed outside", "{:.0f}"),
    Column("seconds", "s/edit", "{:.2f}", median=True),
)
CANDIDATE_COLUMNS = (
    Column("deviation_uncovered", "deviation where uncovered, /255", "{:.2f}"),
    Column("deviation_targets", "deviation at targets and pins, /255", "{:.2f}"),
    Column("best_candidate_gain", "best of four over their mean, dB", "{:.2f}"),
)
BREAKDOWN_COLUMNS = tuple(c for c in COLUMNS if c.key in {"psnr", "half_transparent", "point_error"})


def summarise(scores: Sequence[PairScores]) -> dict[str, dict[str, dict[str, Any]]]:
    """``table[section][method][metric]`` = {mean, low, high, pairs}.

    Sections: "average" (of the three strata's means), each stratum, and each bin of the number of
    points and of the occlusion that holds a pair. "gain" is the paired difference in PSNR to the
    reference warp, with "won", the share of pairs won against it.
    """
    sections: dict[str, list[PairScores]] = {AVERAGE: list(scores)}
    for names, bin_of in _binnings():
        sections |= {name: [s for s in scores if bin_of(s) == name] for name in names}
    return {name: _summarise_section(members) for name, members in sections.items() if members}


def _binnings() -> list[tuple[list[str], Callable[[PairScores], str]]]:
    return [
        (list(STRATA), lambda s: s.stratum),
        (list(POINT_BINS), lambda s: s.point_bin),
        (list(OCCLUSION_BINS), lambda s: s.occlusion_bin),
    ]


def _summarise_section(scores: Sequence[PairScores]) -> dict[str, dict[str, Any]]:
    groups, strata = [s.group for s in scores], [s.stratum for s in scores]

    def values(method: str, key: str) -> np.ndarray:
        return np.array([s.scores[method].get(key, math.nan) for s in scores])

    rows: dict[str, dict[str, Any]] = {}
    for method in scores[0].scores:
        row: dict[str, Any] = {}
        for column in (*COLUMNS, *CANDIDATE_COLUMNS):
            column_values = values(method, column.key)
            defined = column_values[~np.isnan(column_values)]
            if not len(defined):
                continue
            if column.median:
                row[column.key] = {"mean": float(np.median(defined)), "pairs": len(defined)}
            else:
                row[column.key] = estimate(column_values, groups, strata)._asdict()
        gain = paired_gain(values(method, "psnr"), values(REFERENCE, "psnr"), groups, strata)
        row["gain"] = {**gain.estimate._asdict(), "won": gain.won}
        rows[method] = row
    return rows


def build_report(scores: Sequence[PairScores], about: dict[str, str]) -> dict[str, Any]:
    """The whole outcome as plain data: what was run and where, the table, and every pair's scores."""
    return {
        "version": 1,
        "about": about,
        "pairs": len(scores),
        "groups": len({s.group for s in scores}),
        "interval": LEVEL,
        "table": summarise(scores),
        "scores": [{**asdict(s), "stratum": s.stratum} for s in scores],
    }


def markdown(report: dict[str, Any]) -> str:
    """The report's tables, to be read by people."""
    table = report["table"]
    lines = [
        f"{report['pairs']} pairs in {report['groups']} groups; intervals hold with "
        f"{report['interval']:.0%}, bootstrapped over groups.",
        "",
        *(f"- {name}: {value}" for name, value in report["about"].items()),
        "",
        *_section(AVERAGE, table[AVERAGE], COLUMNS, "Average of the strata"),
        *_candidates(table[AVERAGE]),
    ]
    counts = {name: next(iter(rows.values()))["psnr"]["pairs"] for name, rows in table.items()}
    for name, rows in table.items():
        if name != AVERAGE:
            columns = COLUMNS if name in STRATA else BREAKDOWN_COLUMNS
            drags = f"{name} drags" if name in STRATA else name
            lines += _section(name, rows, columns, f"{drags[0].upper()}{drags[1:]}, {counts[name]} pairs")
    return "\n".join(lines)


def _section(name: str, rows: dict[str, dict[str, Any]], columns: Sequence[Column], title: str) -> list[str]:
    shown = [c for c in columns if any(c.key in row for row in rows.values())]
    head = ["", *(c.title for c in shown), "gain over warp, dB", "won"]
    body = [
        [method, *(_cell(row.get(c.key), c) for c in shown), _gain(method, row), _won(method, row)]
        for method, row in rows.items()
    ]
    return [f"### {title}", "", *_markdown_table(head, body), ""]


def _candidates(rows: dict[str, dict[str, Any]]) -> list[str]:
    sampled = {m: row for m, row in rows.items() if any(c.key in row for c in CANDIDATE_COLUMNS)}
    if not sampled:
        return []
    head = ["", *(c.title for c in CANDIDATE_COLUMNS), "pairs"]
    body = [
        [
            method,
            *(_cell(row.get(c.key), c) for c in CANDIDATE_COLUMNS),
            str(max(row[c.key]["pairs"] for c in CANDIDATE_COLUMNS if c.key in row)),
        ]
        for method, row in sampled.items()
    ]
    return ["### Four candidates of one edit", "", *_markdown_table(head, body), ""]


def _markdown_table(head: list[str], body: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, *body)
    ]
    return [rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]]


def _cell(value: dict[str, Any] | None, column: Column) -> str:
    if value is None:
        return "-"
    return "∞" if math.isinf(value["mean"]) else column.form.format(value["mean"])


def _gain(method: str, row: dict[str, Any]) -> str:
    if method in {REFERENCE, TRUTH}:
        return "-"
    gain = row["gain"]
    return f"{gain['mean']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"


def _won(method: str, row: dict[str, Any]) -> str:
    return "-" if method in {REFERENCE, TRUTH} else f"{row['gain']['won']:.0%}"


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


def write_report(report: dict[str, Any], directory: Path) -> None:
    """Write ``report.json`` and ``report.md``, each whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.json", to_json(report)), ("report.md", markdown(report))):
        write_atomically(directory / name, f"{text}\n".encode())
