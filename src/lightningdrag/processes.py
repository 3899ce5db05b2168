"""Worker processes."""

from __future__ import annotations

import multiprocessing
import os
import threading

KILLED = "a worker process was killed (out of memory?); what is finished is kept: "


def end_with_parent() -> None:
    """Called in a worker: it ends when the process that started it does, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
