"""A worker process that dies, for the tests of what starts some."""

from __future__ import annotations

import multiprocessing
import threading
import time


def kill_first_worker() -> None:
    """From a thread: kill the first process that this one starts from now on."""
    threading.Thread(target=_kill, daemon=True).start()


def _kill() -> None:
    while not (workers := multiprocessing.active_children()):
        time.sleep(0.01)
    workers[0].kill()
