"""Load on a real server with the built-in model: latency by queue depth, memory, throughput.

    python benchmarks/service_load.py --clients 50 --seconds 120
    python benchmarks/service_load.py --address http://127.0.0.1:7860/     # a server that runs already

Starts ``lightningdrag serve`` on a free port. Each client opens a session of a 512x512 photo and edits two
parts of it, which has every window encoded: that is the warm-up, 100 edits for 50 clients. Then it edits
again and again: it queues an edit, listens to its events, fetches the result as a thumbnail, and waits as
Retry-After says where it is refused. Latency and throughput are those after the warm-up, memory that of
server and worker together from its end.

The bare model is a loop in a process of its own that does no more than has to be done: the same photos
opened and the same windows encoded before, then edits through ``DragEditor``, one after the other, each to
the bytes of its thumbnail. It runs alone, before the load and after it, since other work on the machine may
change meanwhile. Clients and server share the cores with the worker; their CPU time is told apart.

Cannot show: networks, real people's pauses, photos of many megapixels.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

BARE = """
import sys, time, json
from lightningdrag import DragEditor, EditRequest
from lightningdrag.photo import encode_photo
from lightningdrag.service.animation import reduced
path, requests, seconds, photos = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
editor = DragEditor.from_pretrained("builtin", device="cpu")
sessions = [editor.open(path) for _ in range(photos)]
def edit(count):
    text = requests[count // photos % len(requests)]
    result = sessions[count % photos].run(EditRequest.from_json(text))
    return encode_photo(reduced(result.photos[0], 256), "WEBP")
for count in range(photos * len(requests)):
    edit(count)
start, before, count = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - start < seconds:
    edit(count)
    count += 1
print(count / (time.perf_counter() - start), (time.process_time() - before) / count)
"""


class Load:
    """What all clients saw."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.states: Counter[str] = Counter()
        self.latencies: dict[int, list[float]] = defaultdict(list)
        self.deepest = 0
        self.memory: dict[int, float] = {}
        self.seconds = 0.0
        self.client_seconds = 0.0  # of the CPU
        self.server_seconds = [0.0, 0.0]  # of the server and of its worker

    @property
    def done(self) -> int:
        return self.states["done"]


def requests() -> list[str]:
    """Edits of two parts of the photo."""

    def text(x: float, y: float, dx: float) -> str:
        drag = {"handle": [x, y], "target": [x + dx, y]}
        return json.dumps({"schema": "lightningdrag.edit", "version": 1, "drags": [drag]})

    return [text(150, 150, 30), text(360, 330, -30)]


def photo_file() -> bytes:
    """A 512x512 JPEG of smooth colour and noise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((512, 512), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@contextmanager
def served(*options: str) -> Iterator[tuple[str, psutil.Process]]:
    """The command line's server, ready."""
    command = [sys.executable, "-m", "lightningdrag", "serve", "--port", "0", "--device", "cpu"]
    command += ["--rate", "100000", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        while httpx.get(f"{address}readyz", timeout=60).status_code != 200:
            time.sleep(0.2)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def resident(process: psutil.Process | None) -> float:
    """Megabytes of the server and its worker; 0 where they run elsewhere."""
    if process is None:
        return 0
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 2**20


class Client:
    """Somebody with one photo, who edits it again and again."""

    def __init__(self, http: httpx.AsyncClient, photo: bytes) -> None:
        self.http = http
        self.photo = photo
        self.number = 0

    async def open(self, load: Load) -> None:
        opened = await self.http.post("/api/v1/sessions", content=self.photo)
        load.statuses[opened.status_code] += 1
        self.address = f"/api/v1/sessions/{opened.json()['id']}"

    async def edit(self, load: Load) -> None:
        """One edit, from the request to its thumbnail, or a refusal and its pause."""
        start = time.monotonic()
        answer = await self.http.post(f"{self.address}/jobs", data={"request": requests()[self.number % 2]})
        load.statuses[answer.status_code] += 1
        if answer.status_code == 429:
            await asyncio.sleep(float(answer.headers["Retry-After"]) * random.uniform(0.5, 1.5))
            return
        job = answer.json()
        load.deepest = max(load.deepest, job["place"])
        async with self.http.stream("GET", f"{self.address}/jobs/{job['id']}/events") as events:
            async for line in events.aiter_lines():
                if line.startswith("data: "):
                    last = json.loads(line[6:])
        load.states[last["state"]] += 1
        load.latencies[job["place"]].append(time.monotonic() - start)
        shown = await self.http.get(last["candidates"][0], params={"format": "webp", "side": 256})
        load.statuses[shown.status_code] += 1
        self.number += 1


async def run_load(
    address: str, process: psutil.Process | None, clients: int, seconds: float
) -> tuple[Load, Load]:
    """The warm-up and the load proper."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=600, limits=limits) as http:
        everyone = [Client(http, photo_file()) for _ in range(clients)]
        first, load = Load(), Load()

        async def warm_up(one: Client) -> None:
            await one.open(first)
            while one.number < len(requests()):
                await one.edit(first)

        async def go_on(one: Client) -> None:
            await asyncio.sleep(random.random())
            while time.monotonic() < end:
                await one.edit(load)
                hundreds = (first.done + load.done) // 100 * 100  # several may end at once
                if hundreds not in load.memory:
                    load.memory[hundreds] = resident(process)

        await asyncio.gather(*map(warm_up, everyone))
        load.memory[first.done] = resident(process)
        before, server_before = time.process_time(), cpu_seconds_of_both(process)
        start = time.monotonic()
        end = start + seconds
        await asyncio.gather(*map(go_on, everyone))
        load.seconds = time.monotonic() - start
        load.client_seconds = time.process_time() - before
        load.server_seconds = [
            now - then for now, then in zip(cpu_seconds_of_both(process), server_before, strict=True)
        ]
    return first, load


def bare_model(seconds: float, folder: Path, photos: int) -> tuple[float, float]:
    """Edits a second, and CPU seconds an edit, of the model alone in a process of its own."""
    path = folder / "photo.jpg"
    path.write_bytes(photo_file())
    command = [sys.executable, "-c", BARE, str(path), json.dumps(requests()), str(seconds), str(photos)]
    rate, cpu = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(rate), float(cpu)


def cpu_seconds_of_both(process: psutil.Process | None) -> list[float]:
    """Of the server, and of its worker, which was started last; 0 where they run elsewhere."""
    if process is None:
        return [0, 0]
    times = [each.cpu_times() for each in (process, process.children()[-1])]
    return [each.user + each.system for each in times]


def report(load: Load, bare: list[tuple[float, float]]) -> None:
    print("| place in the queue | edits | p50 | p95 |\n|---|---|---|---|")
    for low, high in ((1, 1), (2, 4), (5, 8), (9, 16), (17, 32)):
        values = [v for place in range(low, high + 1) for v in load.latencies.get(place, [])]
        if values:
            p50, p95 = np.percentile(values, (50, 95))
            print(f"| {low}-{high} | {len(values)} | {p50:.2f} s | {p95:.2f} s |")
    answers = dict(sorted(load.statuses.items()))
    rate = load.done / load.seconds
    print(f"\nanswers {answers}, jobs {dict(load.states)}, deepest {load.deepest}, {rate:.2f} edits/s")
    if not bare:
        return
    alone = sum(rate for rate, _ in bare) / len(bare)
    told = " and ".join(f"{rate:.2f}" for rate, _ in bare)
    print(f"throughput {rate:.2f} edits/s, {rate / alone:.0%} of the bare model's: {told} before and after")
    server, worker = (seconds / load.done for seconds in load.server_seconds)
    print(
        f"CPU seconds an edit: server {server:.3f}, worker {worker:.3f}, "
        f"clients {load.client_seconds / load.done:.3f}; bare model {bare[0][1]:.3f} and {bare[1][1]:.3f}"
    )
    print("memory after so many edits:", ", ".join(f"{n}: {m:.0f} MB" for n, m in load.memory.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--queue", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--bare-seconds", type=float, default=15)
    parser.add_argument(
        "--address", help="of a server; without it one is started, and the bare model beside it"
    )
    arguments = parser.parse_args()

    def loaded(address: str, process: psutil.Process | None) -> tuple[Load, Load]:
        return asyncio.run(run_load(address, process, arguments.clients, arguments.seconds))

    if arguments.address:
        _, load = loaded(arguments.address, None)
        report(load, [])
        return
    with tempfile.TemporaryDirectory() as folder:
        bare = [bare_model(arguments.bare_seconds, Path(folder), arguments.clients)]
        with served("--queue", str(arguments.queue), "--batch", str(arguments.batch)) as (address, process):
            first, load = loaded(address, process)
        bare.append(bare_model(arguments.bare_seconds, Path(folder), arguments.clients))
    report(load, bare)
    assert not [status for status in (first.statuses | load.statuses) if status >= 500], "the server failed"
    assert max(first.deepest, load.deepest) <= arguments.queue, "the queue's bound was not honoured"


if __name__ == "__main__":
    main()
