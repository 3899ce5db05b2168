"""Two settings, or two commits, measured in turns: what else a machine does then strikes both alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lightningdrag
from lightningdrag.bench.scene import edit_request, photo_bytes

WORKER = Path(__file__).with_name("worker.py")
COMMIT = "commit"


class ComparisonError(ValueError):
    """A setting that cannot be compared, or a side that could not be run; the message says which."""


@dataclass(frozen=True)
class Comparison:
    """What two sides took, pair by pair.

    Attributes:
        seconds: of each pair (this side, the other side), in the order measured.
        again: the same for another edit of the opened photo.
        ratio: the median over pairs of other / this; above 1 this side is faster.
        low, high: the ratio's 90 % interval, by resampling pairs.
    """

    seconds: list[tuple[float, float]]
    again: list[tuple[float, float]]
    ratio: float
    low: float
    high: float


def compare(settings: dict[str, Any], change: str, size: int, pairs: int = 10) -> Comparison:
    """Measure settings against the same with one change.

    Args:
        settings: ``model``, ``device``, ``dtype``, ``threads``, ``steps``, ``candidates``, and ``options``,
            joined by commas.
        change: ``NAME=VALUE`` of one of the settings, or ``commit=REVISION`` of this repository.
        size: side of the photo.
        pairs: how often both sides edit, in turns; who begins alternates.

    Raises:
        ComparisonError: no such setting or commit; a side failed, with what it said last.
    """
    name, _, value = change.partition("=")
    if not value or name not in (*settings, COMMIT):
        raise ComparisonError(
            f"cannot compare {change!r}; give one of {', '.join(settings)}, {COMMIT} as NAME=VALUE"
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "photo.jpg").write_bytes(photo_bytes(size))
        here = Path(lightningdrag.__file__).parent.parent
        there = stack.enter_context(_checkout(here, value)) if name == COMMIT else here
        changed = settings if name == COMMIT else {**settings, name: _like(settings[name], value)}
        sides = [
            stack.enter_context(_side(folder, source, side, size, str(index)))
            for index, (source, side) in enumerate(((here, settings), (there, changed)))
        ]
        runs = [_in_turns(sides, reverse=bool(index % 2)) for index in range(pairs)]
    seconds, again = ([(a[key], b[key]) for a, b in runs] for key in ("seconds", "again"))
    return Comparison(seconds, again, *_ratio(seconds))


def _in_turns(sides: list[_Side], reverse: bool) -> tuple[dict[str, float], ...]:
    order = list(reversed(sides)) if reverse else sides
    answers = [side.ask() for side in order]
    return tuple(reversed(answers) if reverse else answers)


@dataclass(frozen=True)
class _Side:
    """A process that edits when it is asked to, and the file of what it complains of."""

    process: subprocess.Popen[str]
    complaints: Path

    def ask(self) -> dict[str, float]:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has stopped: it does not answer, either
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return json.loads(self.answer())

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            said = self.complaints.read_text().strip().splitlines() or ["nothing"]
            raise ComparisonError(f"a side stopped, saying last: {said[-1]}")
        return line


@contextmanager
def _side(folder: Path, source: Path, settings: dict[str, Any], size: int, name: str) -> Iterator[_Side]:
    """A process that has loaded its model and waits to be asked."""
    request, complaints = folder / f"request-{name}.json", folder / f"stderr-{name}.txt"
    request.write_text(edit_request(size, settings["steps"], settings["candidates"]).to_json())
    with complaints.open("w") as stderr:  # a pipe that nobody reads would fill up
        process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(settings), str(folder / "photo.jpg"), str(request)],
            env={**os.environ, "PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        side = _Side(process, complaints)
        side.answer()
        yield side
    finally:
        process.kill()
        with suppress(BrokenPipeError):
            process.communicate()


@contextmanager
def _checkout(source: Path, revision: str) -> Iterator[Path]:
    """The ``src`` folder of another commit, in a git worktree of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tree = str(Path(folder, "tree"))
        git = ["git", "-C", str(source)]
        try:
            subprocess.run(
                [*git, "worktree", "add", "--detach", tree, revision],
                check=True,
                capture_output=True,
                text=True,
            )
        except FileNotFoundError:
            raise ComparisonError("comparing commits needs git") from None
        except subprocess.CalledProcessError as error:
            raise ComparisonError(
                f"cannot check out {revision!r}: {error.stderr.strip().splitlines()[-1]}"
            ) from None
        try:
            yield Path(tree, "src")
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", tree], check=True, capture_output=True)


def _like(before: Any, value: str) -> Any:
    """A setting's new value, of its old one's kind."""
    if before is not None and not isinstance(before, int):
        return value
    try:
        return int(value)
    except ValueError:
        raise ComparisonError(f"{value!r} is no whole number") from None


def _ratio(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    ratios = np.array([other / this for this, other in pairs])
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.05, 0.95])
    return statistics.median(ratios), float(low), float(high)
