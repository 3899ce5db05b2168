"""Runs a job: edits and their scores, in this process or several, going on where it was stopped."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from lightningdrag import __version__
from lightningdrag.evaluation import measures
from lightningdrag.evaluation.baselines import Asked, BatchMethod, EditMethod, SamplingMethod
from lightningdrag.evaluation.case import TRUTH, Case, CaseScores, Problem
from lightningdrag.evaluation.job import Job, Workshop, describe
from lightningdrag.evaluation.provenance import provenance
from lightningdrag.files import write_atomically
from lightningdrag.memory import peak_bytes, reset_peak
from lightningdrag.processes import end_with_parent, process_pool

NUM_CANDIDATES = 4
CANDIDATE_CASES = 48
"""Candidates are compared on this many cases, spread evenly: they cost as much as all else."""
QUEUED_EDITS = 2
"""How many cases' edits may wait to be scored."""
BATCHES_AHEAD = 4
"""Cases of like size, which go through a model together, are looked for among this many batches."""
PROGRESS = "progress.jsonl"
EDITS = "edits"


@dataclass(frozen=True)
class Outcome:
    """One case, done: its scores (None if it could not be read) and what went wrong."""

    index: int
    scores: CaseScores | None
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Edits:
    """All results of one case, before they are scored."""

    index: int
    case: Case | None
    """None if it could not be read."""
    results: dict[str, np.ndarray]
    known: dict[str, measures.Scores]
    """Scores that were taken while editing."""
    problems: list[Problem]


def run(shop: Workshop, indices: Sequence[int], out: Path | None = None) -> Iterator[Outcome]:
    """Edit and score cases in this process; some are scored while the next are edited.

    Args:
        out: where the pictures of the model's rows go; None keeps none.
    """
    waiting: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(1) as scorer:
        for some in _portions(shop.job, indices):
            waiting += [scorer.submit(_score, shop, edits, out) for edits in _edit(shop, some)]
            while len(waiting) > QUEUED_EDITS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _portions(job: Job, indices: Sequence[int]) -> list[Sequence[int]]:
    """The cases that are edited before the first of them is scored."""
    size = 1 if job.batch == 1 else BATCHES_AHEAD * job.batch
    return [indices[start : start + size] for start in range(0, len(indices), size)]


_worker: tuple[Workshop, Path]
"""What a worker process has opened; set in such processes only."""


def run_in_processes(shop: Workshop, indices: Sequence[int], out: Path, workers: int) -> Iterator[Outcome]:
    """The same by several processes, each with its own model and its share of the cores; in order.

    Raises:
        ChildProcessError: a worker was killed.
    """
    asked = (shop.job, shop.peers, out, workers)
    with process_pool(workers, _open_in_worker, *asked, advice="run the same command again") as pool:
        for outcomes in pool.map(_run_in_worker, _portions(shop.job, indices)):
            yield from outcomes


def _open_in_worker(job: Job, peers: Mapping[str, EditMethod], out: Path, workers: int) -> None:
    global _worker
    end_with_parent()
    threads = max(1, (os.cpu_count() or 1) // workers)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    _worker = (Workshop(job, peers), out)


def _run_in_worker(indices: Sequence[int]) -> list[Outcome]:
    shop, out = _worker
    return [_score(shop, edits, out) for edits in _edit(shop, indices)]


def _edit(shop: Workshop, indices: Sequence[int]) -> list[_Edits]:
    """Every method's results for some cases, timed, dragged back, and some with candidates."""
    edits = [_opened(shop, index) for index in indices]
    for name, method in shop.methods.items():
        _edit_by(name, method, [each for each in edits if each.case is not None], shop)
    for each in edits:
        if each.case is not None:
            read, wrong = shop.read_results(each.index, each.case)
            each.results.update(read)
            each.problems.extend(
                Problem(shop.cases.label(each.index), name, text) for name, text in wrong.items()
            )
    return edits


def _opened(shop: Workshop, index: int) -> _Edits:
    try:
        return _Edits(index, shop.cases[index], {}, {}, [])
    except (OSError, ValueError) as error:
        return _Edits(index, None, {}, {}, [Problem(shop.cases.label(index), "", describe(error))])


def _edit_by(name: str, method: EditMethod, edits: Sequence[_Edits], shop: Workshop) -> None:
    """Add a method's results; it does the cases together if it can."""
    seed, batch = shop.job.seed, shop.job.batch
    if len(edits) > 1 and isinstance(method, BatchMethod):
        with suppress(Exception):  # if one of them is wrong, one by one says which
            return _make(name, method, lambda asked: method.many(asked, seed, batch), edits, shop)
    for each in edits:
        try:
            _make(name, method, lambda asked: [method(*edit, seed) for edit in asked], [each], shop)
        except Exception as error:  # a method may fail in any way; the others go on
            each.problems.append(Problem(shop.cases.label(each.index), name, describe(error)))


def _make(
    name: str,
    method: EditMethod,
    make: Callable[[Sequence[Asked]], list[np.ndarray]],
    edits: Sequence[_Edits],
    shop: Workshop,
) -> None:
    """Make and score some results, which share their time; all are added or none."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = [each.case for each in edits if each.case is not None]
    reset_peak(device)
    start = time.perf_counter()
    results = make([(case.source, case.handles, case.targets, case.mask) for case in cases])
    seconds, peak = time.perf_counter() - start, peak_bytes(device)
    there = [(_checked(result, case), case) for result, case in zip(results, cases, strict=True)]
    returning = [(result, case) for result, case in there if case.reversible]
    backs = iter(make([(result, case.targets, case.handles, case.mask) for result, case in returning]))
    stride = max(1, len(shop.cases) // CANDIDATE_CASES)
    for each, (result, case) in zip(edits, there, strict=True):
        scores = {"seconds": seconds / len(edits), "megabytes": peak / 1e6}
        if case.reversible:
            scores |= measures.returned(next(backs), case)
        if isinstance(method, SamplingMethod) and each.index % stride == 0:
            asked = (case.source, case.handles, case.targets, case.mask, shop.job.seed)
            scores |= measures.candidates(method.candidates(*asked, NUM_CANDIDATES), case)
        each.results[name], each.known[name] = result, scores


def _checked(result: np.ndarray, case: Case) -> np.ndarray:
    if result.shape != case.source.shape or result.dtype != np.uint8:
        raise ValueError(f"the result is {result.dtype} {result.shape}; wanted uint8 {case.source.shape}")
    return result


def _score(shop: Workshop, edits: _Edits, out: Path | None) -> Outcome:
    case = edits.case
    if case is None:
        return Outcome(edits.index, None, edits.problems)
    results = dict(edits.results)
    if case.truth is not None:
        results[TRUTH] = case.truth
    scored = CaseScores.of(edits.index, case)
    for name in results:
        scored.scores[name] = dict(edits.known.get(name, {}))
    for measure in shop.measures:
        try:
            for name, values in measure(case, results).items():
                scored.scores[name] |= values
        except Exception as error:  # such as a network that runs out of memory; the case's other scores stay
            title = f"the measure {getattr(measure, '__name__', type(measure).__name__)}"
            edits.problems.append(Problem(shop.cases.label(edits.index), title, describe(error)))
    if out is not None:
        for name in shop.own_rows:
            if name in results:
                _save(results[name], edit_path(out, shop, name, edits.index))
    return Outcome(edits.index, scored, edits.problems)


def edit_path(out: Path, shop: Workshop, row: str, index: int) -> Path:
    """Where a row's result for a case is kept while the job is not finished; a row's name may hold "/"."""
    return out / EDITS / str(shop.own_rows.index(row)) / f"{index:05d}.png"


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, compress_level=1)


class Progress:
    """What of a job is done, on disk line by line: a run that was killed goes on from there.

    What was left by other settings, files or another version is not taken up, nor are cases that had a
    problem: what was missing may be there now. Pictures that it left are forgotten, for they would stand
    where this run makes none.
    """

    def __init__(self, shop: Workshop, out: Path) -> None:
        self._path = out / PROGRESS
        self._head = json.dumps(
            {
                "job": asdict(shop.job),
                "rows": shop.own_rows,
                "files": shop.job.stamp(),
                "version": __version__,
                "commit": provenance()["commit"],
            }
        )
        self.done = self._read()
        if not self.done:
            shutil.rmtree(out / EDITS, ignore_errors=True)
        lines = [self._head, *(_to_line(outcome) for outcome in self.done.values())]
        write_atomically(self._path, "".join(f"{line}\n" for line in lines).encode())

    def _read(self) -> dict[int, Outcome]:
        if not self._path.is_file():
            return {}
        head, *lines = self._path.read_text().split("\n")
        if head != self._head:
            return {}
        outcomes = [_from_line(line) for line in lines[:-1]]  # what a kill cut short has no newline
        return {outcome.index: outcome for outcome in outcomes if not outcome.problems}

    def add(self, outcome: Outcome) -> None:
        self.done[outcome.index] = outcome
        with self._path.open("a") as file:
            file.write(f"{_to_line(outcome)}\n")

    def finish(self) -> None:
        """Forget what was kept for going on."""
        self._path.unlink()
        shutil.rmtree(self._path.parent / EDITS, ignore_errors=True)


def _to_line(outcome: Outcome) -> str:
    return json.dumps(asdict(outcome))  # Python reads its own NaN and Infinity back


def _from_line(line: str) -> Outcome:
    values = json.loads(line)
    scores = values["scores"]
    return Outcome(
        values["index"],
        None if scores is None else CaseScores(**scores),
        [Problem(**problem) for problem in values["problems"]],
    )
