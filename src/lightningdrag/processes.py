"""Worker processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

KILLED = "a worker process was killed (out of memory?); what is finished is kept: "


@contextmanager
def process_pool(
    workers: int, begin: Callable[..., None], *arguments: Any, advice: str
) -> Iterator[ProcessPoolExecutor]:
    """A pool of new processes that call ``begin`` first. At its end all of them have ended.

    Raises:
        ChildProcessError: a worker was killed; ``advice`` says how to go on.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin, arguments)
    try:
        yield pool
    except (BrokenProcessPool, OSError) as error:
        # One that is killed while the next is being started can leave that without its pipe instead.
        if isinstance(error, OSError) and not getattr(pool, "_broken", False):
            raise
        # The pool ends those that it knows. One that was just being started is not among them, and the pool
        # would wait for it for ever.
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise ChildProcessError(f"{KILLED}{advice}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Called in a worker: it ends when the process that started it does, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
