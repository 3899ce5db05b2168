"""Workers as the server sees them, and the process behind one.

A process of its own holds the models: what kills it (a driver, the system's memory guard) fails one job,
and cannot take the server along; and Python's global lock never makes the page wait for the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from lightningdrag.memory import is_out_of_memory
from lightningdrag.service.problems import Problem
from lightningdrag.service.task import Outcome, Task

if TYPE_CHECKING:
    from lightningdrag.models.protocol import Callback
    from lightningdrag.service.workbench import Workbench

log = logging.getLogger("lightningdrag.service")

START_TIMEOUT = 600.0
"""Seconds that loading the models may take."""

OnStep = Callable[[int, int, int], None]
"""Told the index of a task, its step, and of how many."""
Answer = Outcome | Problem
"""What became of a task."""


class Cancelled(Exception):
    """The worker stopped as it was asked to."""


class Unloadable(Problem):
    """A worker's models cannot be loaded on its device: no passing trouble."""


class Worker(Protocol):
    """Does one batch of tasks at a time."""

    async def start(self) -> dict[str, dict[str, Any]]:
        """Be ready, again if need be; returns each model's defaults.

        Raises:
            Problem: it cannot be (``not-ready``); :class:`Unloadable` if another try would end likewise.
        """
        ...

    async def run(self, tasks: Sequence[Task], on_step: OnStep) -> list[Answer]:
        """Do tasks together; a problem of one leaves the others alone.

        Raises:
            Problem: ``worker``, if the worker is gone and has to be started again.
            Cancelled: after :meth:`cancel`.
        """
        ...

    def cancel(self) -> None:
        """Ask for the running batch to be given up at its next step."""
        ...

    async def stop(self) -> None: ...


class ProcessWorker:
    """A worker process on one device of this machine.

    Args:
        models, device, dtype, options: as :class:`~lightningdrag.service.workbench.Workbench`.
        timeout: seconds between two signs of life while it works; then the process is killed.
    """

    def __init__(
        self,
        models: tuple[str, ...],
        device: str,
        dtype: str,
        timeout: float,
        options: tuple[str, ...] = (),
    ) -> None:
        self._arguments = (models, device, dtype, options)
        self._timeout = timeout
        self._context = multiprocessing.get_context("spawn")  # a forked torch would not be whole
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._count = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> dict[str, dict[str, Any]]:
        await self._kill()
        try:
            self._tasks, tasks = self._context.Pipe()
            cancels, self._cancels = self._context.Pipe(duplex=False)
            self._process = self._context.Process(
                target=work, args=(tasks, cancels, *self._arguments), name="lightningdrag-worker", daemon=True
            )
            await asyncio.get_running_loop().run_in_executor(self._thread, self._process.start)
        except OSError as error:  # the system is out of memory, processes or files
            raise Problem("not-ready", f"no process can be started for the worker: {error}") from None
        tasks.close()  # so that the death of the process ends the connection
        cancels.close()
        kind, value = await self._receive(START_TIMEOUT)
        if kind == "ready":
            return value
        raise (Unloadable if kind == "unloadable" else Problem)("not-ready", value)

    async def run(self, tasks: Sequence[Task], on_step: OnStep) -> list[Answer]:
        self._count += 1
        try:
            await self._send(tasks)
        except OSError:  # nothing of these tasks had begun
            log.error("the worker had died while it waited; starting another")
            try:
                await self.start()
                await self._send(tasks)
            except (OSError, Problem) as error:
                raise Problem("worker", f"the worker had died, and none could be started: {error}") from None
        while True:
            kind, value = await self._receive(self._timeout)
            if kind == "step":
                on_step(*value)
            elif kind == "done":
                return value
            else:
                raise Cancelled

    def cancel(self) -> None:
        with contextlib.suppress(OSError):  # it is dead, which also ends the task
            self._cancels.send(self._count)

    async def stop(self) -> None:
        await self._kill()
        self._thread.shutdown(wait=False)

    async def _send(self, tasks: Sequence[Task]) -> None:
        message = (self._count, tasks)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._tasks.send, message)

    async def _receive(self, timeout: float) -> tuple[str, Any]:
        """The next message of the process.

        Raises:
            Problem: ``worker``, if the process dies or says nothing for too long.
        """
        received = asyncio.get_running_loop().run_in_executor(self._thread, self._tasks.recv)
        # Where nobody waits for it any more, its end is no news.
        received.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            return await asyncio.wait_for(asyncio.shield(received), timeout)
        except asyncio.TimeoutError:  # an OSError since Python 3.11
            reason = f"the worker said nothing for {timeout:g} seconds"
        except (EOFError, OSError):
            reason = "the worker died (killed, or out of memory)"
        await self._kill()
        log.error("%s", reason)
        raise Problem("worker", f"{reason}; the next job gets a new one")

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.pid is None:  # the start may have been given up in the middle: the thread ends it
            await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)
        if process.pid is not None:
            process.kill()  # it holds nothing that would have to be put in order
            while process.is_alive():
                await asyncio.sleep(0.01)
            process.join()
        self._cancels.close()


def work(
    tasks: Connection,
    cancels: Connection,
    models: tuple[str, ...],
    device: str,
    dtype: str,
    options: tuple[str, ...],
) -> None:
    """The worker process: load the models, then answer tasks until the server is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all of a group, they are the server's to handle
        signal.signal(number, signal.SIG_IGN)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    Image.MAX_IMAGE_PIXELS = None  # a task brings the server's own bound
    try:
        from lightningdrag.service.workbench import Workbench

        bench = Workbench(models, device, dtype, options)
    except Exception as error:
        # What others hold of a device's memory now, they may give back.
        kind = "short-of-memory" if is_out_of_memory(error) else "unloadable"
        tasks.send((kind, f"the model cannot be loaded: {str(error) or type(error).__name__}"))
        return
    tasks.send(("ready", bench.about()))
    try:
        while True:
            number, batch = tasks.recv()
            if last_cancelled(cancels) == number:
                tasks.send(("cancelled", []))
            else:
                tasks.send(_answer(bench, number, batch, tasks, cancels))
    except (EOFError, OSError):  # the server is gone
        return


def _answer(
    bench: Workbench, number: int, batch: Sequence[Task], tasks: Connection, cancels: Connection
) -> tuple[str, Any]:
    def callback(index: int, step: int, total: int) -> bool:
        tasks.send(("step", (index, step, total)))
        return last_cancelled(cancels) != number

    return answer(bench, batch, callback)


def last_cancelled(cancels: Connection) -> int:
    """The batch that was last asked to be given up; what is older was meant for one that had ended already.

    All are read before each batch, too: some are never asked along their way, and a full pipe would hold up
    the server.
    """
    asked = 0
    while cancels.poll():
        asked = cancels.recv()
    return asked


def answer(
    bench: Workbench, batch: Sequence[Task], callback: Callable[[int, int, int], bool]
) -> tuple[str, Sequence[Answer]]:
    """Do tasks: "done" with the answers, or "cancelled" with none."""
    from lightningdrag.models.protocol import EditCancelled

    try:
        return "done", _answers(bench, batch, [partial(callback, index) for index in range(len(batch))])
    except EditCancelled:
        return "cancelled", []


def _answers(bench: Workbench, batch: Sequence[Task], callbacks: Sequence[Callback]) -> Sequence[Answer]:
    from lightningdrag.models.protocol import EditCancelled

    try:
        return bench.run(batch, callbacks)
    except EditCancelled:
        raise
    except Exception as error:
        if len(batch) == 1:
            return [_problem_of(error, bench)]
    singly = zip(batch, callbacks, strict=True)  # which of them it was is seen one by one
    return [_answers(bench, [task], [callback])[0] for task, callback in singly]


def _problem_of(error: Exception, bench: Workbench) -> Problem:
    if is_out_of_memory(error):
        bench.forget()
        return Problem("memory", "out of memory; try a smaller photo, or fewer candidates")
    if isinstance(error, ValueError):
        return Problem("request", str(error))
    if isinstance(error, FloatingPointError):
        return Problem("internal", str(error))
    log.exception("an edit failed")
    return Problem("internal", "the edit failed; the server's log has more")
