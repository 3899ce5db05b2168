"""Pools of worker processes."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.context import SpawnProcess

import pytest

from lightningdrag.processes import end_with_parent, process_pool


def squares(numbers: list[int]) -> list[int]:
    with process_pool(2, end_with_parent, advice="try again") as pool:
        return [done.result() for done in [pool.submit(pow, number, 2) for number in numbers]]


def test_a_pool_works_and_leaves_no_process_behind() -> None:
    assert squares([1, 2, 3]) == [1, 4, 9]
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_while_another_is_being_started_ends_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = SpawnProcess.start

    def start_and_kill_the_others(process: SpawnProcess) -> None:
        others = multiprocessing.active_children()
        start(process)
        for other in others:
            other.kill()
            time.sleep(1)  # until the pool has noticed, and ended those that it knew

    monkeypatch.setattr(SpawnProcess, "start", start_and_kill_the_others)
    with pytest.raises(ChildProcessError, match=r"killed.*try again"):
        squares([1, 2, 3])
    assert not multiprocessing.active_children()


def meet(error: Exception, broken: bool) -> None:
    with process_pool(1, print, advice="go on") as pool:
        pool._broken = broken  # type: ignore[attr-defined]
        raise error


def test_a_pool_that_breaks_while_a_process_starts_is_told_like_any_other() -> None:
    """Killed just then, a worker leaves the next one's start without its pipe: an OSError, by chance."""
    with pytest.raises(ChildProcessError, match="go on"):
        meet(OSError("handle is closed"), broken=True)
    with pytest.raises(FileNotFoundError):
        meet(FileNotFoundError(), broken=False)
