"""The built-in model on the held-out pairs, against the bars that it has to clear.

    python benchmarks/builtin_dev.py --data prepared --out runs/dev

Prints the table with machine, commit and command, then each bar; exits with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightningdrag.commands.evaluate import STEPS, model_rows
from lightningdrag.evaluation.case import STRATA
from lightningdrag.evaluation.columns import AVERAGE, REFERENCE
from lightningdrag.evaluation.evaluate import evaluate
from lightningdrag.evaluation.job import Job
from lightningdrag.evaluation.tables import markdown


@dataclass(frozen=True)
class Bar:
    """What is asked of the model, and what it does."""

    name: str
    value: float
    least: float = -math.inf
    most: float = math.inf

    @property
    def holds(self) -> bool:
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        asked = [f"at least {self.least:.4g}"] * math.isfinite(self.least)
        asked += [f"at most {self.most:.4g}"] * math.isfinite(self.most)
        return f"{'holds ' if self.holds else 'MISSED'}  {self.name}: {self.value:.3f}, {' and '.join(asked)}"


def bars(report: dict[str, Any], method: str) -> Iterator[Bar]:
    """The bars that are set for the built-in model, for one of its rows."""
    table = report["table"]

    def mean(measure: str, row: str = method, part: str = AVERAGE) -> float:
        return float(table[part][row][measure]["mean"])

    yield Bar("gain over the warp, dB", mean("gain"), least=1.5)
    for part in (name for name in STRATA if name in table):
        yield Bar(f"gain, {part} drags, dB", mean("gain", part=part), least=0.7)
        yield Bar(f"share won, {part} drags", table[part][method]["gain"]["won"], least=0.65)
    yield Bar("sharpness, of the truth's", mean("sharpness"), least=0.75, most=1.25)
    yield Bar("half-transparent windows", mean("half_transparent"), most=0.08)
    yield Bar("ghost", mean("ghost"), most=mean("ghost", REFERENCE))
    yield Bar("point error", mean("point_error"), most=mean("point_error", REFERENCE))
    if "best_candidate_gain" in table[AVERAGE][method]:
        yield Bar("candidates' deviation where uncovered, /255", mean("deviation_uncovered"), least=4)
        yield Bar("candidates' deviation at targets and pins, /255", mean("deviation_targets"), most=1)
        yield Bar("best of four over their mean, dB", mean("best_candidate_gain"), least=0.3)
    yield Bar("pixels changed outside the mask", mean("changed_outside"), most=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report and the sheets")
    parser.add_argument("--limit", type=int, help="at most this many pairs")
    parser.add_argument("--model", default="builtin", help="built-in name, or a folder with other weights")
    parser.add_argument("--steps", default=STEPS, help="such as 1,2,4")
    parser.add_argument("--workers", type=int, default=1, help="processes that edit and score")
    arguments = parser.parse_args()
    job = Job(
        benchmark="pairs",
        root=str(arguments.data),
        limit=arguments.limit,
        model=arguments.model,
        rows=model_rows(arguments.model, arguments.steps),
    )
    report = evaluate(job, arguments.out, arguments.workers)
    print(markdown(report))
    missed = 0
    for method in job.rows:
        print(f"\n{method}")
        for bar in bars(report, method):
            print(f"  {bar}")
            missed += not bar.holds
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
