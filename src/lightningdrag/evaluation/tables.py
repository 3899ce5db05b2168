"""A report's tables as text, for markdown, the page and the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightningdrag.evaluation.case import STRATA, TRUTH
from lightningdrag.evaluation.columns import (
    AVERAGE,
    BREAKDOWN_KEYS,
    CANDIDATE_COLUMNS,
    COLUMNS,
    REFERENCE,
    Column,
)

UNDEFINED = "-"


@dataclass(frozen=True)
class TextTable:
    """One table: a title, the heads of its columns and its rows; the first cell names the row."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def markdown(self) -> list[str]:
        """The lines of a markdown section."""
        widths = [max(len(row[i]) for row in (self.head, *self.rows)) for i in range(len(self.head))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in (self.head, *self.rows)
        ]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return [f"### {self.title}", "", lines[0], rule, *lines[1:], ""]


def tables(report: dict[str, Any]) -> list[TextTable]:
    """The average first, then strata, then the breakdowns."""
    table = report["table"]
    average, total = table[AVERAGE], report["expected"]
    known = TRUTH in average
    main = [c for c in COLUMNS if c.main]
    first = _section(average, main, "Average of the strata" if known else "All cases", total)
    more = _section(
        average, [c for c in COLUMNS if not c.main], "Rim, outside, dragged back, patches, memory"
    )
    made = [first, _intervals(average, main), more, *_candidates(average)]
    for name, rows in table.items():
        if name == AVERAGE:
            continue
        columns = main if name in STRATA else [c for c in COLUMNS if c.key in BREAKDOWN_KEYS]
        title = f"{name} drags" if name in STRATA else name
        count = max(row["cases"] for row in rows.values())
        made.append(_section(rows, columns, f"{title[0].upper()}{title[1:]}, {count} {_cases(report)}"))
    return made


def difference_table(report: dict[str, Any]) -> TextTable:
    """Each measure's paired difference to the reference warp, with its interval."""
    rows = {m: row["difference"] for m, row in report["table"][AVERAGE].items() if row["difference"]}
    shown = [c for c in COLUMNS if any(c.key in row for row in rows.values())]
    body = [[method, *(signed(row.get(c.key), c) for c in shown)] for method, row in rows.items()]
    return TextTable(f"Difference to the {REFERENCE}", ["", *(c.title for c in shown)], body)


def markdown(report: dict[str, Any]) -> str:
    """The report's tables, to be read by people."""
    lines = [
        f"{coverage(report)} in {report['groups']} groups; intervals hold with "
        f"{report['interval']:.0%}, bootstrapped over groups.",
        "",
        *(f"- {name}: {value}" for name, value in report["about"].items()),
        "",
        *(line for table in tables(report) for line in table.markdown()),
    ]
    if report["absent"]:
        lines += [
            "### Absent measures",
            "",
            *(f"- {name}: {why}" for name, why in report["absent"].items()),
            "",
        ]
    if report["problems"]:
        lines += ["### Not scored", "", *(f"- {text}" for text in problem_lines(report)), ""]
    return "\n".join(lines)


def coverage(report: dict[str, Any]) -> str:
    """ "375 pairs", or "187 of 205 images" where some are missing."""
    scored, expected = report["pairs"], report["expected"]
    return f"{scored if scored == expected else f'{scored} of {expected}'} {_cases(report)}"


def _cases(report: dict[str, Any]) -> str:
    """What the cases are: "pairs" of frames, or "images" without a truth."""
    return "pairs" if TRUTH in report["table"][AVERAGE] else "images"


def problem_lines(report: dict[str, Any]) -> list[str]:
    """What could not be scored, a line each."""
    return [
        ": ".join(part for part in (p["case"], p["method"], p["problem"]) if part) for p in report["problems"]
    ]


def _section(
    rows: dict[str, dict[str, Any]], columns: Sequence[Column], title: str, total: int | None = None
) -> TextTable:
    """Rows of methods; with ``total``, a column says over how many of them where some are missing."""
    shown = [c for c in columns if any(c.key in row for row in rows.values())]
    gains = shown[:1] == [COLUMNS[0]]  # the PSNR, which they are read beside
    partial = total is not None and any(row["cases"] != total for row in rows.values())
    head, body = ["", *(c.title for c in shown)], []
    for method, row in rows.items():
        body.append([method, *(cell(row.get(c.key), c) for c in shown)])
        if gains:
            body[-1][2:2] = [_gain(method, row), _won(method, row)]
    if gains:
        head[2:2] = ["gain over warp, dB", "won"]
    if partial:
        head.append("scored")
        for line, row in zip(body, rows.values(), strict=True):
            line.append(f"{row['cases']} of {total}")
    return TextTable(title, head, body)


def _candidates(rows: dict[str, dict[str, Any]]) -> list[TextTable]:
    sampled = {m: row for m, row in rows.items() if any(c.key in row for c in CANDIDATE_COLUMNS)}
    if not sampled:
        return []
    head = ["", *(c.title for c in CANDIDATE_COLUMNS), "pairs"]
    body = [
        [
            method,
            *(cell(row.get(c.key), c) for c in CANDIDATE_COLUMNS),
            str(max(row[c.key]["pairs"] for c in CANDIDATE_COLUMNS if c.key in row)),
        ]
        for method, row in sampled.items()
    ]
    return [TextTable("Four candidates of one edit", head, body)]


def _intervals(rows: dict[str, dict[str, Any]], columns: Sequence[Column]) -> TextTable:
    shown = [c for c in columns if not c.median and any(c.key in row for row in rows.values())]
    body = [[method, *(spanned(row.get(c.key), c) for c in shown)] for method, row in rows.items()]
    return TextTable("Averages with their intervals", ["", *(c.title for c in shown)], body)


def cell(value: dict[str, Any] | None, column: Column) -> str:
    """The mean of a measure, in the measure's own form."""
    if value is None:
        return UNDEFINED
    return "∞" if math.isinf(value["mean"]) else column.form.format(value["mean"])


def spanned(value: dict[str, Any] | None, column: Column) -> str:
    """The mean of a measure with its interval."""
    return cell(value, column) if value is None or math.isinf(value["mean"]) else _span(value, column.form)


def signed(value: dict[str, Any] | None, column: Column) -> str:
    """A difference with its interval."""
    if value is None or not math.isfinite(value["mean"]):
        return UNDEFINED
    return _span(value, column.form.replace(":", ":+"))


def _span(value: dict[str, Any], form: str) -> str:
    """A mean with its interval, where one is defined."""
    mean, low, high = (form.format(value[key]) for key in ("mean", "low", "high"))
    return mean if math.isnan(value["low"]) else f"{mean} [{low}, {high}]"


def _gain(method: str, row: dict[str, Any]) -> str:
    if method in {REFERENCE, TRUTH} or "gain" not in row:
        return UNDEFINED
    return _span(row["gain"], "{:+.2f}")


def _won(method: str, row: dict[str, Any]) -> str:
    return UNDEFINED if method in {REFERENCE, TRUTH} or "gain" not in row else f"{row['gain']['won']:.0%}"
