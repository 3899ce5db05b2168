"""The same app on Ray Serve: one front, as many replicas of the workbench as there is work for.

The front keeps sessions and the queue, as on one machine.  A task carries all that is needed to do it, so
any replica can; Serve's router prefers the one that did the session's last task and has it decoded and
encoded still (Ray's model multiplexing, with a session in the place of a model).
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from fastapi import FastAPI
from PIL import Image
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from lightningdrag.service.app import create_app
from lightningdrag.service.problems import Problem
from lightningdrag.service.settings import Settings
from lightningdrag.service.task import Task
from lightningdrag.service.workers import Answer, Cancelled, OnStep, answer

APP = "lightningdrag"
PINNED = 16
"""Sessions that a replica is known for."""


class Replica:
    """A workbench behind Serve."""

    def __init__(self, models: tuple[str, ...], dtype: str, options: tuple[str, ...]) -> None:
        from lightningdrag.service.workbench import Workbench

        Image.MAX_IMAGE_PIXELS = None  # a task brings the front's own bound
        self._bench = Workbench(models, "auto", dtype, options)
        self._thread = ThreadPoolExecutor(1)

    async def about(self) -> dict[str, dict[str, Any]]:
        """Each model's defaults."""
        return self._bench.about()

    @serve.multiplexed(max_num_models_per_replica=PINNED)
    async def pin(self, session: str) -> str:
        """Tell the router that this replica knows a session."""
        return session

    async def run(self, tasks: Sequence[Task]) -> AsyncIterator[tuple[str, Any]]:
        """Do a batch: yields ("step", (index, step, steps)) and at last its answer; giving up stops it."""
        for task in tasks:
            await self.pin(task.session)
        loop = asyncio.get_running_loop()
        messages: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        stop = threading.Event()

        def tell(message: tuple[str, Any]) -> None:
            loop.call_soon_threadsafe(messages.put_nowait, message)

        def on_step(index: int, step: int, steps: int) -> bool:
            tell(("step", (index, step, steps)))
            return not stop.is_set()

        self._thread.submit(lambda: tell(answer(self._bench, tasks, on_step)))
        kind = "step"
        try:
            while kind == "step":
                kind, value = await messages.get()
                yield kind, value
        finally:
            stop.set()


class RayWorker:
    """One batch at a time, on whichever replica is free."""

    def __init__(self) -> None:
        self._response: Any = None  # a DeploymentResponseGenerator
        self._asked_to_stop = False

    async def start(self) -> dict[str, dict[str, Any]]:
        self._handle = serve.get_deployment_handle(Replica.__name__, app_name=APP)
        try:
            return await self._handle.about.remote()
        except (RayError, RayServeException) as error:
            raise Problem("not-ready", f"no replica starts: {type(error).__name__}") from None

    async def run(self, tasks: Sequence[Task], on_step: OnStep) -> list[Answer]:
        self._asked_to_stop = False
        pinned = tasks[0].session
        streaming = self._handle.options(method_name="run", stream=True, multiplexed_model_id=pinned)
        try:
            self._response = streaming.remote(tasks)
            async for kind, value in self._response:
                if kind == "step":
                    on_step(*value)
                elif kind == "done":
                    return value
        except (RayError, RayServeException, asyncio.CancelledError) as error:
            if not self._asked_to_stop:
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise Problem("worker", "the replica died; the next job gets another one") from None
        raise Cancelled

    def cancel(self) -> None:
        self._asked_to_stop = True
        if self._response is not None:
            self._response.cancel()

    async def stop(self) -> None:
        """Replicas are Serve's to stop."""


def build(settings: Settings, replicas: int, gpus: float = 0, cpus: float = 1) -> serve.Application:
    """The Serve application.

    Args:
        replicas: the most there may be; at least one is kept.
        gpus, cpus: of each replica.
    """

    def front() -> FastAPI:
        Image.MAX_IMAGE_PIXELS = None  # the settings have a bound of their own
        return create_app(settings, [RayWorker() for _ in range(replicas)])

    workbench: Any = serve.deployment(
        Replica,
        name=Replica.__name__,
        max_ongoing_requests=1,
        ray_actor_options={"num_gpus": gpus, "num_cpus": cpus},
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": replicas,
            "target_ongoing_requests": 1,
            "upscale_delay_s": 3,
        },
    )
    options: Any = {"max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0.5}}
    app: Any = serve.deployment(serve.ingress(front)(), name="Front", **options)
    return app.bind(workbench.bind(settings.models, settings.dtype, settings.options))


def serve_on_ray(settings: Settings, host: str, port: int, *, replicas: int, gpus: float) -> None:
    """Deploy on the Ray that RAY_ADDRESS names, or on one of this machine, until SIGINT or SIGTERM."""
    ray.init(ignore_reinit_error=True, include_dashboard=False)
    serve.start(http_options={"host": host, "port": port})
    serve.run(build(settings, replicas, gpus), name=APP, route_prefix="/")
    print(f"lightningdrag is at http://{host}:{port}/, on Ray", flush=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    serve.shutdown()
    ray.shutdown()
