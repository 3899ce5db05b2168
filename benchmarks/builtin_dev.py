"""The built-in model on the held-out pairs, against the bars that it has to clear.

    python benchmarks/builtin_dev.py --data prepared --out runs/dev

Prints the table with machine, commit and command, then each bar; exits with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lightningdrag.commands.evaluate import STEPS, model_rows
from lightningdrag.evaluation.case import STRATA
from lightningdrag.evaluation.columns import AVERAGE, REFERENCE
from lightningdrag.evaluation.evaluate import evaluate
from lightningdrag.evaluation.job import Job
from lightningdrag.evaluation.tables import markdown


def bars(report: dict[str, Any], method: str) -> dict[str, bool]:
    """What is asked of the model, and whether it holds."""
    table = report["table"]
    strata = [name for name in STRATA if name in table]
    ours, warp = table[AVERAGE][method], table[AVERAGE][REFERENCE]
    gains = {
        f"gain over the warp above 0, {name} drags": table[name][method]["gain"]["mean"] for name in strata
    }
    return {
        **{bar: gain > 0 for bar, gain in gains.items()},
        "no more half-transparent doubles than the warp": ours["half_transparent"]["mean"]
        <= warp["half_transparent"]["mean"],
        "no more ghosts than the warp": ours["ghost"]["mean"] <= warp["ghost"]["mean"],
        "no pixel changed outside the mask": ours["changed_outside"]["mean"] == 0,
    }


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
        for bar, holds in bars(report, method).items():
            print(f"  {'holds ' if holds else 'MISSED'}  {bar}")
            missed += not holds
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
