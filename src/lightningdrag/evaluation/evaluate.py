"""A whole evaluation: run a job, write its tables, page and sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightningdrag.evaluation.baselines import BASELINES, EditMethod
from lightningdrag.evaluation.case import Case, CaseScores
from lightningdrag.evaluation.job import Job, Workshop
from lightningdrag.evaluation.page import build_page
from lightningdrag.evaluation.provenance import provenance
from lightningdrag.evaluation.ranking import extremes
from lightningdrag.evaluation.report import build_report, to_json
from lightningdrag.evaluation.run import Progress, edit_path, run, run_in_processes
from lightningdrag.evaluation.sheets import write_sheets
from lightningdrag.evaluation.tables import markdown
from lightningdrag.files import write_atomically
from lightningdrag.report import write_page


def evaluate(
    job: Job, out: Path, workers: int = 1, peers: Mapping[str, EditMethod] | None = None
) -> dict[str, Any]:
    """Score a job with a progress bar; write ``report.json``, ``.md``, ``.html`` and ``sheets/``.

    A run that was stopped goes on where it was if it is called again with the same job and folder.

    Args:
        workers: processes that edit and score; 1 works in this one.
        peers: methods of others, by the names of their rows.

    Returns:
        The report, as ``report.build_report`` makes it, with the best and worst cases of each row.

    Raises:
        ValueError, OSError: there are no such cases, no such model, or ``out`` cannot be written.
    """
    shop = Workshop(job, peers)  # what cannot be opened is an error before anything is written
    out.mkdir(parents=True, exist_ok=True)
    progress = Progress(shop, out)
    _run_rest(shop, progress, out, workers)
    outcomes = [progress.done[index] for index in range(len(shop.cases))]
    scores = [outcome.scores for outcome in outcomes if outcome.scores is not None]
    problems = [*shop.cases.problems, *(p for outcome in outcomes for p in outcome.problems)]
    if not scores:
        first = next(p for outcome in outcomes for p in outcome.problems)
        raise ValueError(f"no case could be scored; the first problem: {first.case}: {first.problem}")
    split = {"split": job.split} if job.benchmark == "pairs" else {}
    about = {"benchmark": job.benchmark, **split, "workers": str(workers), **provenance()}
    report = build_report(scores, about, shop.cases.expected, problems, shop.absent)
    report["extremes"] = extremes(scores, shop.own_rows)
    _write(report, scores, shop, out)
    progress.finish()
    return report


def _run_rest(shop: Workshop, progress: Progress, out: Path, workers: int) -> None:
    from rich.console import Console
    from rich.progress import track

    rest = [index for index in range(len(shop.cases)) if index not in progress.done]
    outcomes = run(shop, rest, out) if workers == 1 else run_in_processes(shop, rest, out, workers)
    for outcome in track(outcomes, "Scoring", total=len(rest), console=Console(stderr=True)):
        progress.add(outcome)


def _write(report: dict[str, Any], scores: Sequence[CaseScores], shop: Workshop, out: Path) -> None:
    def picture_of(case: Case, index: int, row: str) -> np.ndarray | None:
        if row in BASELINES:
            return BASELINES[row](case.source, case.handles, case.targets, case.mask, shop.job.seed)
        path = edit_path(out, shop, row, index)
        return np.asarray(Image.open(path)) if path.is_file() else None

    for name, text in (("report.json", to_json(report)), ("report.md", markdown(report))):
        write_atomically(out / name, f"{text}\n".encode())
    write_page(build_page(report, scores, shop.cases, shop.own_rows, picture_of), out / "report.html")
    write_sheets(scores, shop.cases, shop.own_rows, picture_of, out / "sheets")
