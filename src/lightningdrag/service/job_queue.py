"""The queue before the workers: bounded, in order, told and stopped in order, too."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import anyio.to_thread
import numpy as np
from anyio import CapacityLimiter

from lightningdrag.service.jobs import Job
from lightningdrag.service.metrics import Metrics
from lightningdrag.service.problems import Problem, storage_problem
from lightningdrag.service.settings import Settings
from lightningdrag.service.store import Session, Store
from lightningdrag.service.task import Outcome, Task
from lightningdrag.service.workers import Answer, Cancelled, Unloadable, Worker

log = logging.getLogger("lightningdrag.service")

PLACES_PAUSE = 0.25
"""Seconds in which changes of the queue are told together."""
LONGEST_PAUSE = 30.0
"""Seconds between attempts to start a worker that does not come up."""


class JobQueue:
    """A bounded queue before some workers.

    Args:
        workers: one for each device.
        store: where results go.
        limiter: of the threads in which photos are decoded.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        store: Store,
        settings: Settings,
        metrics: Metrics,
        limiter: CapacityLimiter,
    ) -> None:
        self._workers = workers
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._limiter = limiter
        self._waiting: deque[Job] = deque()
        self._running: dict[Job, Worker] = {}
        self._arrived = asyncio.Event()
        self._ready: set[Worker] = set()
        self._failure: str | None = None
        self._unloadable = 0
        self._stopping = False
        self._places_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._usual_seconds = 1.0
        self.models: dict[str, dict[str, Any]] = {}
        metrics.gauge("queue_length", "Jobs that wait.", lambda: len(self._waiting))
        metrics.gauge("workers_ready", "Workers that have their models loaded.", lambda: len(self._ready))

    @property
    def state(self) -> tuple[str, str]:
        """ready, loading, failed or stopping, and a sentence for people."""
        if self._stopping:
            return "stopping", "the server is stopping"
        if self._ready:
            return "ready", "edits are taken"
        if self._failure is not None:
            return "failed", self._failure
        return "loading", "the model is being loaded"

    @property
    def hopeless(self) -> str | None:
        """Why none of the workers could load its models the first time, if none could."""
        return self._failure if 0 < self._unloadable == len(self._workers) else None

    def start(self) -> None:
        """Start all workers, in the background."""
        for worker in self._workers:
            self._spawn(self._serve(worker))

    def submit(self, job: Job) -> None:
        """Queue a job of a session. Searches for masks, short as they are, take no room from the others.

        Raises:
            Problem: ``queue-full``, with the time it takes until there may be room; ``not-ready``;
                ``stopping``; ``session-gone``.
        """
        self._store.get(job.session.id)  # it may have been removed while the form was read
        state, detail = self.state
        if state == "stopping":
            raise Problem("stopping", detail)
        if state == "failed":
            raise Problem("not-ready", detail)

        def rivals(jobs: Iterable[Job]) -> list[Job]:
            return [each for each in jobs if job.kind == "mask" or each.kind != "mask"]

        unfinished = sum(not each.finished for each in rivals(job.session.jobs.values()))
        if unfinished >= self._settings.session_jobs:
            raise Problem(
                "queue-full", f"this session has {unfinished} unfinished jobs", self._seconds_for(1)
            )
        waiting = len(rivals(self._waiting))
        if waiting >= self._settings.queue:
            raise Problem("queue-full", f"{waiting} jobs wait already", self._seconds_for(waiting))
        job.session.jobs[job.id] = job
        self._waiting.append(job)
        job.place = len(self._waiting)
        self._arrived.set()

    def cancel(self, job: Job) -> None:
        """End a job; one that runs stops at its next step, and is not waited for."""
        if job.finished:
            return
        self._end(job, state="cancelled")
        worker = self._running.get(job)
        if worker is None:
            self._waiting.remove(job)
            self._tell_places_soon()
        elif all(each.finished for each in self._running if self._running[each] is worker):
            worker.cancel()

    def forget(self, job: Job) -> None:
        """Cancel a job if need be, and drop its results."""
        self.cancel(job)
        job.session.jobs.pop(job.id, None)
        for name in job.files():
            self._store.discard(job.session, name)

    def remove(self, session: Session) -> None:
        """Cancel a session's jobs, and drop all of it."""
        for job in list(session.jobs.values()):
            self.cancel(job)
        self._store.remove(session)

    def join(self, job: Job) -> None:
        """A listener has come."""
        job.listeners += 1
        if job.abandonment is not None:
            job.abandonment.cancel()

    def leave(self, job: Job) -> None:
        """A listener has gone; if it was the last one and none comes back soon, the job is cancelled."""
        assert job.listeners
        job.listeners -= 1
        if not job.listeners and not job.finished:
            pause = self._settings.abandon_after
            job.abandonment = asyncio.get_running_loop().call_later(pause, self.cancel, job)

    async def close(self) -> None:
        """Refuse new jobs, fail those that wait, give those that run some seconds, end the workers."""
        if self._stopping:
            return
        self._stopping = True
        stopped = Problem("stopping", "the server was stopped before the job was done")
        self._fail_waiting(stopped)
        running = [asyncio.ensure_future(job.wait()) for job in self._running]
        if running:
            _, late = await asyncio.wait(running, timeout=self._settings.grace)
            for waiter in late:
                waiter.cancel()
        for job in list(self._running):
            self._end(job, state="failed", problem=stopped)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers:
            await worker.stop()

    async def _serve(self, worker: Worker) -> None:
        """One worker's life: started, given jobs, and started again when it was lost."""
        while True:
            await self._start(worker)
            while worker in self._ready:
                while not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                jobs = self._next_batch()
                self._running |= dict.fromkeys(jobs, worker)
                self._tell_places_soon()
                try:
                    await self._do(worker, jobs)
                finally:
                    for job in jobs:
                        del self._running[job]

    def _next_batch(self) -> list[Job]:
        """The job that is next, with those right behind it that go along; some are left to other workers.

        Searches for masks, which come with every pull, do not part edits: these go past them.
        """
        jobs = [self._waiting.popleft()]
        batches = self.models.get(jobs[0].model, {}).get("batches", False)
        others = [each for each in self._waiting if each.kind != "mask"]
        most = min(self._settings.batch, 1 + len(others) // len(self._workers)) if batches else 1
        for job in others:
            if not job.goes_with(jobs[0]) or sum(each.request.num_images for each in (*jobs, job)) > most:
                break
            self._waiting.remove(job)
            jobs.append(job)
        return jobs

    async def _start(self, worker: Worker) -> None:
        pause = 1.0
        while True:
            try:
                self.models = await worker.start()
                self._ready.add(worker)
                self._failure = None
                return
            except Problem as problem:
                log.error("a worker does not start: %s", problem.detail)
                self._failure = str(problem.detail)
                self._unloadable += isinstance(problem, Unloadable) and pause == 1.0 and not self.models
            if not self._ready:
                self._fail_waiting(Problem("not-ready", self._failure))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _do(self, worker: Worker, jobs: Sequence[Job]) -> None:
        started = time.monotonic()
        for job in jobs:
            self._metrics.wait_seconds.observe(started - job.created)
            job.change(state="running", place=0)

        tasks = await asyncio.gather(*map(self._task_of, jobs))
        ready = {job: task for job, task in zip(jobs, tasks, strict=True) if task and not job.finished}
        if not ready:  # cancelled before the worker knew of it
            return

        def on_step(index: int, step: int, steps: int) -> None:
            job = list(ready)[index]
            if not job.finished:
                job.change(step=step, steps=steps)

        try:
            answers: Sequence[Answer] = await worker.run(list(ready.values()), on_step)
        except Cancelled:
            return  # as all its jobs were
        except Exception as error:
            problem = _problem_of(error)
            if problem.kind == "worker":
                self._ready.discard(worker)
                self._metrics.restarts.inc()
            answers = [problem] * len(ready)
        seconds = (time.monotonic() - started) / len(ready)
        if jobs[0].kind != "mask":
            self._usual_seconds += 0.2 * (seconds - self._usual_seconds)
        for job in ready:
            self._metrics.job_seconds.labels(job.kind).observe(seconds)
        await asyncio.gather(*map(self._finish, ready, answers))

    async def _task_of(self, job: Job) -> Task | None:
        try:
            return await anyio.to_thread.run_sync(
                job.task, self._store, self._settings.max_pixels, limiter=self._limiter
            )
        except Exception as error:
            self._end(job, state="failed", problem=_problem_of(error))
            return None

    async def _finish(self, job: Job, answer: Answer) -> None:
        try:
            if isinstance(answer, Problem):
                raise answer
            await self._keep(job, answer)
        except Exception as error:
            self._end(job, state="failed", problem=_problem_of(error))

    async def _keep(self, job: Job, outcome: Outcome) -> None:
        """Store a job's results, if it is still wanted."""
        if job.kind == "mask":
            self._end(job, state="done", box=outcome.box, found=outcome.mask)
            return
        results = {f"{job.id}-{index}": patch.pixels for index, patch in enumerate(outcome.candidates)}
        results[f"{job.id}-mask"] = outcome.mask
        if job.kind == "animation":
            results = {f"{job.id}-animation": np.frombuffer(outcome.animation, np.uint8)}
        try:
            for name, array in results.items():
                if not job.finished:
                    await self._store.save(job.session, name, array)
        except (Problem, OSError):
            self._discard(job)
            raise
        if job.finished:  # cancelled meanwhile
            self._discard(job)
            return
        request = replace(job.request, seed=outcome.request.seed)
        self._end(
            job,
            state="done",
            request=request,
            box=outcome.box,
            candidates=len(outcome.candidates),
            seconds=round(outcome.seconds, 3),
            warnings=(*job.warnings, *outcome.warnings),
        )

    def _discard(self, job: Job) -> None:
        for name in job.files():
            self._store.discard(job.session, name)

    def _end(self, job: Job, **values: Any) -> None:
        """Give a job its final state, and forget what its session need not keep for it any more."""
        if job.finished:
            return
        job.session.used = time.monotonic()
        job.change(place=0, **values)
        job.request = replace(job.request, mask=None)  # as large as the photo; what was used is in a file
        self._metrics.jobs.labels(job.kind, job.state).inc()
        if job.kind != "mask":
            self._forget_oldest(job)

    def _forget_oldest(self, ended: Job) -> None:
        """Keep so many finished jobs of a session as the settings say, with the one that has just ended."""
        jobs = [each for each in ended.session.jobs.values() if each.kind != "mask"]
        others = [each for each in jobs if each.finished and each is not ended]
        for old in others[: max(0, len(others) + 1 - self._settings.session_results)]:
            self.forget(old)

    def _fail_waiting(self, problem: Problem) -> None:
        while self._waiting:
            self._end(self._waiting.popleft(), state="failed", problem=problem)

    def _tell_places_soon(self) -> None:
        """Some times a second at most: everyone who waits is told, after every job."""
        if not self._places_due:
            self._places_due = True
            asyncio.get_running_loop().call_later(PLACES_PAUSE, self._tell_places)

    def _tell_places(self) -> None:
        self._places_due = False
        for place, job in enumerate(self._waiting, 1):
            if job.place != place:
                job.change(place=place)

    def _seconds_for(self, jobs: int) -> float:
        """How long so many jobs take, about."""
        return jobs * self._usual_seconds / len(self._workers)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError):
        return storage_problem(error)
    log.error("a job failed", exc_info=error)
    return Problem("internal", "a fault of the server; its log has more")
