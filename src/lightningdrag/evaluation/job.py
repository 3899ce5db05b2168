"""An evaluation as plain data, which another process can open again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightningdrag.checkpoints.builtin import WEIGHTS
from lightningdrag.data.shards import INDEX
from lightningdrag.evaluation.baselines import BASELINES, EditMethod, EditorMethod
from lightningdrag.evaluation.benchmarks import FolderBenchmark, read_result
from lightningdrag.evaluation.case import TRUTH, Benchmark, Case
from lightningdrag.evaluation.measures import Measure, pixels
from lightningdrag.evaluation.networks import load_networks
from lightningdrag.evaluation.pairs import PairSet


@dataclass(frozen=True)
class Job:
    """What is to be scored.

    Attributes:
        benchmark: "pairs" or one of ``benchmarks.LAYOUTS``.
        root: the prepared dataset, or the benchmark's folder.
        split, limit: of the pairs; ``limit`` of any benchmark.
        model: name, folder or hub id; None if only baselines and results are scored.
        model_options: how SD 1.5 runs (``checkpoints.catalogue.OPTIONS``).
        rows: the model's rows: their names, and the options of each (``DragEditor.edit``).
        results: folders of results in the benchmark's layout, each a row of its own.
        weights: where the networks of some measures are (``networks.load_networks``).
        seed: of every edit.
        batch: at most this many cases are edited in one pass, by methods that can (``BatchMethod``); the
            time of an edit is then its share.
    """

    benchmark: str
    root: str
    split: str = "dev"
    limit: int | None = None
    model: str | None = None
    model_options: tuple[str, ...] = ()
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    results: tuple[str, ...] = ()
    weights: str | None = None
    seed: int = 0
    batch: int = 1

    def stamp(self) -> str:
        """Changes when the files of the model, the networks, the pairs or the results do; a hub id is taken
        as it is."""
        places = [Path(place) for place in (self.model, self.weights, *self.results) if place is not None]
        within = ([place] if place.is_file() else sorted(place.rglob("*")) for place in places)
        files = [WEIGHTS, *(file for some in within for file in some)]
        files += Path(self.root).glob(INDEX)
        return hashlib.sha256(
            repr([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]).encode()
        ).hexdigest()[:16]

    def open_benchmark(self) -> Benchmark:
        """Raises FileNotFoundError or ValueError if the folder is not what it should be."""
        if self.benchmark == "pairs":
            return PairSet(Path(self.root), self.split, self.limit)
        return FolderBenchmark(self.benchmark, Path(self.root), self.limit)


class Workshop:
    """A job, opened: its cases, methods and measures.

    Args:
        peers: methods of others, by the names of their rows.

    Raises:
        ValueError, OSError: the benchmark, the model or a folder is not there, or two rows have one name.
    """

    def __init__(self, job: Job, peers: Mapping[str, EditMethod] | None = None) -> None:
        from lightningdrag.editor import DragEditor

        self.job, self.peers = job, dict(peers or {})
        self.cases = job.open_benchmark()
        for folder in job.results:
            if not Path(folder).is_dir():
                raise FileNotFoundError(2, "no such folder of results", folder)
        names = [*BASELINES, TRUTH, *self.own_rows]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two rows would be called {repeated[0]!r}")
        self.methods: dict[str, EditMethod] = dict(BASELINES)
        if job.model is not None:
            editor = DragEditor.from_pretrained(job.model, options=job.model_options)
            self.methods |= {name: EditorMethod(editor, options) for name, options in job.rows.items()}
        self.methods |= self.peers
        measures, self.absent = load_networks(job.weights)
        self.measures: list[Measure] = [pixels, *measures]

    @property
    def own_rows(self) -> list[str]:
        """The rows that are not baselines: the model's, the folders of results, the peers'."""
        return [*self.job.rows, *(Path(folder).name for folder in self.job.results), *self.peers]

    def read_results(self, index: int, case: Case) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """A case's results from the folders by their rows' names, and what is wrong with the others."""
        read, wrong = {}, {}
        height, width = case.mask.shape
        for folder in self.job.results:
            try:
                paths = self.cases.result_paths(index)
                read[Path(folder).name] = read_result(Path(folder), paths, (width, height))
            except (OSError, ValueError) as error:
                wrong[Path(folder).name] = describe(error)
        return read, wrong


def describe(error: Exception) -> str:
    """What an error says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
