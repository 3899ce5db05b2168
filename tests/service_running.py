"""A real server on a free port of this machine, for tests."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

from lightningdrag.service.app import create_app
from lightningdrag.service.server import Server
from lightningdrag.service.settings import Settings
from lightningdrag.service.state import State
from lightningdrag.service.task import Outcome, Patch, Task
from lightningdrag.service.workers import Answer, Cancelled, OnStep, Worker


def run_apart(work: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run in a thread of its own: once a browser was open, Playwright's loop runs in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


DRAG = {"handle": [60, 50], "target": [75, 50]}


@dataclass
class Running:
    """A server, a client of it, and its inside."""

    client: httpx.Client
    state: State
    port: int

    def open(self, data: bytes | None = None) -> Photo:
        answer = self.client.post("/api/v1/sessions", content=data if data is not None else photo_bytes())
        assert answer.status_code == 201, answer.text
        return Photo(self, answer.json())


@dataclass
class Photo:
    """A session of a running server."""

    running: Running
    record: dict[str, Any]

    @property
    def address(self) -> str:
        return f"/api/v1/sessions/{self.record['id']}"

    def start(
        self, kind: str = "jobs", files: Any = None, data: Any = None, **options: Any
    ) -> httpx.Response:
        form = {"request": request_text(**options), **(data or {})}
        return self.running.client.post(f"{self.address}/{kind}", data=form, files=files)

    def job(self, **options: Any) -> dict[str, Any]:
        answer = self.start(**options)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def state_of(self, job: dict[str, Any]) -> dict[str, Any]:
        return self.running.client.get(f"{self.address}/jobs/{job['id']}").json()

    def found_mask(self, query: str = "") -> np.ndarray:
        """What an edit without a mask would change, ``(H, W)`` bool."""
        answer = self.running.client.post(f"{self.address}/mask{query}", json={"drags": [DRAG]})
        assert answer.headers["content-type"] == "image/png", answer.text
        return np.asarray(Image.open(io.BytesIO(answer.content))) > 0

    def finish(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job when it has ended."""
        return list(self.events(job))[-1][1]

    def events(self, job: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        with self.running.client.stream("GET", f"{self.address}/jobs/{job['id']}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                if line.startswith("data: "):
                    yield name, json.loads(line[6:])

    def image(self, address: str, **query: Any) -> Image.Image:
        answer = self.running.client.get(address, params=query)
        assert answer.status_code == 200, answer.text
        return Image.open(io.BytesIO(answer.content))


class GatedWorker:
    """A worker whose steps happen when a test says so; it inverts what may change."""

    def __init__(self, steps: int = 3, batches: bool = False) -> None:
        self.steps = steps
        self.about = {"builtin": {"steps": steps, "guidance": 1.0, "batches": batches}}
        self.gate = threading.Semaphore(0)
        self.asked_to_stop = False
        self.tasks: list[Task] = []
        self.batches: list[int] = []

    async def start(self) -> dict[str, dict[str, Any]]:
        return self.about

    async def run(self, tasks: Sequence[Task], on_step: OnStep) -> list[Answer]:
        self.asked_to_stop = False
        self.tasks += tasks
        self.batches.append(len(tasks))
        for step in range(1, self.steps + 1):
            while not self.gate.acquire(blocking=False):
                await asyncio.sleep(0.005)
            for index in range(len(tasks)):
                on_step(index, step, self.steps)
            if self.asked_to_stop:
                raise Cancelled
        return [inverted(task) for task in tasks]

    def cancel(self) -> None:
        self.asked_to_stop = True

    async def stop(self) -> None:
        pass

    def let(self, steps: int) -> None:
        for _ in range(steps):
            self.gate.release()


def inverted(task: Task) -> Outcome:
    """What a :class:`GatedWorker` makes of a photo."""
    box = (10, 10, 30, 20)
    changed = Patch(box, 255 - Patch.of(task.open(), box).pixels)
    return Outcome(box, np.ones((10, 20), bool), (changed,), b"", task.request, 0.1, ())


@contextmanager
def running(settings: Settings | None = None, workers: Sequence[Worker] | None = None) -> Iterator[Running]:
    """Serve on a free port until the block ends; without workers, nothing is ever ready."""
    app = create_app(settings or Settings(), workers)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = Server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        wait_until(lambda: server.started)
        port = sock.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            try:
                yield Running(client, app.state.service, port)
            finally:
                server.should_exit = True
                thread.join(30)
                assert not thread.is_alive()


def work_short_of_memory(*arguments: Any) -> None:
    """The process of a worker whose device's memory others hold."""
    import torch

    from lightningdrag.service import workbench, workers

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    workbench.DragEditor.from_pretrained = fail
    workers.work(*arguments)


def wait_until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen in time"
        time.sleep(0.01)


def photo_bytes(width: int = 160, height: int = 120, kind: str = "PNG", **options: Any) -> bytes:
    """A smooth photo, a different value in every place."""
    y, x = np.mgrid[:height, :width]
    pixels = np.dstack((x * 255 / width, y * 255 / height, (x + y) % 64 * 4)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def request_text(drags: Any = None, **options: Any) -> str:
    record = {"schema": "lightningdrag.edit", "version": 1, "drags": drags or [DRAG], "options": options}
    return json.dumps(record)
