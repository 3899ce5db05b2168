"""Where units of work are done: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from typing import Any

import cv2

from lightningdrag.data.tasks import Unit
from lightningdrag.processes import end_with_parent, process_pool

Record = dict[str, Any]
Make = Callable[[Unit], Record]

OBJECT_STORE = 128 * 2**20  # bytes; only records go through a local Ray, no pictures


def run_units(units: list[Unit], make: Make, engine: str, workers: int) -> Iterator[Record]:
    """Do every unit and yield what ``make`` returns for it, in any order.

    Args:
        make: can be pickled; writes its results itself and returns a small record.
        engine: ``"local"``, or ``"ray"`` for Ray Data on the cluster that ``RAY_ADDRESS`` names, else on
            a Ray of this machine that lasts as long as the run.
        workers: processes; on a cluster, how many units are in work at once.

    Raises:
        ChildProcessError: a worker was killed, or Ray gave a unit up.
    """
    if engine == "ray":
        return _on_ray(units, make, workers)
    if workers == 1:
        return _here(units, make)
    return _in_processes(units, make, workers)


def _here(units: list[Unit], make: Make) -> Iterator[Record]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for unit in units:
            yield make(unit)
    finally:
        cv2.setNumThreads(threads)


def _in_processes(units: list[Unit], make: Make, workers: int) -> Iterator[Record]:
    workers = min(workers, max(1, len(units)))
    # The folder stays locked until the last of them has ended.
    with process_pool(workers, _begin_worker, advice="run again with --resume") as pool:
        for done in as_completed([pool.submit(make, unit) for unit in units]):
            yield done.result()


def _begin_worker() -> None:
    cv2.setNumThreads(1)
    end_with_parent()


def _on_ray(units: list[Unit], make: Make, workers: int) -> Iterator[Record]:
    import ray
    from ray.exceptions import RayError

    ours = not ray.is_initialized()
    if ours and "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    elif ours:
        ray.init(
            num_cpus=workers,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # the run has a progress bar of its own
        ray.data.DataContext.get_current().enable_progress_bars = False
        units_there = ray.put(units)

        def run(row: dict[str, int]) -> Record:
            cv2.setNumThreads(1)
            return {"record": make(ray.get(units_there)[row["item"]])}

        pool = ray.data.TaskPoolStrategy(size=workers)
        numbers = ray.data.from_items(list(range(len(units))), override_num_blocks=len(units))
        for row in numbers.map(run, num_cpus=1, compute=pool).iter_rows():
            yield row["record"]
    except RayError as error:
        stated = re.findall(r"^(?:\w+\.)*\w+(?:Error|Exception): .*$", str(error), re.MULTILINE)
        reason = stated[0] if stated else str(error).partition("\n")[0]  # the first is what caused the others
        raise ChildProcessError(
            f"Ray gave up: {reason}; what is finished is kept: run again with --resume"
        ) from error
    finally:
        if ours:
            ray.shutdown()
