"""Load on a real server with the built-in model: latency by queue depth, memory, throughput.

    python benchmarks/service_load.py --clients 50 --seconds 120

Starts ``lightningdrag serve`` on a free port. Each client opens a session of a 512x512 photo, then edits it
again and again: it queues an edit, listens to its events, fetches the result as a thumbnail, and waits as
Retry-After says where it is refused. Every second edit drags somewhere else, so that the model has to look
at another window. The bare model does the same edits through ``DragEditor`` in a process of its own,
first alone, then again after the load, since other work on the machine may change meanwhile.

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
from lightningdrag.photo import open_photo
photo, requests, seconds = open_photo(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])
session = DragEditor.from_pretrained("builtin", device="cpu").open(photo)
for text in requests:
    session.run(EditRequest.from_json(text))
start, before, count = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - start < seconds:
    session.run(EditRequest.from_json(requests[count % len(requests)]))
    count += 1
print(count / (time.perf_counter() - start), (time.process_time() - before) / count)
"""


class Load:
    """What all clients saw."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.statuses: Counter[int] = Counter()
        self.states: Counter[str] = Counter()
        self.latencies: dict[int, list[float]] = defaultdict(list)
        self.deepest = 0
        self.memory: list[tuple[int, float]] = []

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
def served(queue: int) -> Iterator[tuple[str, psutil.Process]]:
    """The command line's server, ready."""
    command = [sys.executable, "-m", "lightningdrag", "serve", "--port", "0", "--queue", str(queue)]
    command += ["--rate", "100000", "--device", "cpu"]
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


def resident(process: psutil.Process) -> float:
    """Megabytes of the server and its worker."""
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 2**20


async def client(http: httpx.AsyncClient, load: Load, process: psutil.Process, photo: bytes) -> None:
    opened = await http.post("/api/v1/sessions", content=photo)
    load.statuses[opened.status_code] += 1
    address = f"/api/v1/sessions/{opened.json()['id']}"
    await asyncio.sleep(random.random())
    number = random.randrange(2)
    while time.monotonic() < load.end:
        start = time.monotonic()
        answer = await http.post(f"{address}/jobs", data={"request": requests()[number % 2]})
        load.statuses[answer.status_code] += 1
        if answer.status_code == 429:
            await asyncio.sleep(float(answer.headers["Retry-After"]) * random.uniform(0.5, 1.5))
            continue
        job = answer.json()
        load.deepest = max(load.deepest, job["place"])
        async with http.stream("GET", f"{address}/jobs/{job['id']}/events") as events:
            async for line in events.aiter_lines():
                if line.startswith("data: "):
                    last = json.loads(line[6:])
        load.states[last["state"]] += 1
        load.latencies[job["place"]].append(time.monotonic() - start)
        if load.done % 50 == 0:
            load.memory.append((load.done, resident(process)))
        shown = await http.get(last["candidates"][0], params={"format": "webp", "side": 256})
        load.statuses[shown.status_code] += 1
        number += 1


async def run_load(address: str, process: psutil.Process, clients: int, seconds: float) -> Load:
    load = Load(time.monotonic() + seconds)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as http:
        photo = photo_file()
        await asyncio.gather(*(client(http, load, process, photo) for _ in range(clients)))
    return load


def bare_model(seconds: float, folder: Path) -> tuple[float, float]:
    """Edits a second, and CPU seconds an edit, of the model alone in a process of its own."""
    path = folder / "photo.jpg"
    path.write_bytes(photo_file())
    command = [sys.executable, "-c", BARE, str(path), json.dumps(requests()), str(seconds)]
    rate, cpu = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(rate), float(cpu)


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def report(load: Load, rate: float, cpu: list[float], bare: list[tuple[float, float]]) -> None:
    print("| place in the queue | edits | p50 | p95 |\n|---|---|---|---|")
    for low, high in ((1, 1), (2, 4), (5, 8), (9, 16), (17, 32)):
        values = [v for place in range(low, high + 1) for v in load.latencies.get(place, [])]
        if values:
            p50, p95 = np.percentile(values, (50, 95))
            print(f"| {low}-{high} | {len(values)} | {p50:.2f} s | {p95:.2f} s |")
    print(
        f"\nanswers {dict(sorted(load.statuses.items()))}, jobs {dict(load.states)}, deepest {load.deepest}"
    )
    print(f"throughput {rate:.2f} edits/s; bare model {bare[0][0]:.2f} before and {bare[1][0]:.2f} after")
    print(
        f"CPU seconds an edit: server {cpu[0] / load.done:.3f}, worker {cpu[1] / load.done:.3f}; "
        f"bare model {bare[0][1]:.3f} and {bare[1][1]:.3f}"
    )
    print("memory after so many edits:", ", ".join(f"{n}: {m:.0f} MB" for n, m in load.memory[::4]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--queue", type=int, default=32)
    parser.add_argument("--bare-seconds", type=float, default=15)
    arguments = parser.parse_args()

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        bare = [bare_model(arguments.bare_seconds, Path(folder))]
        with served(arguments.queue) as (address, process):
            both = [process, *process.children()[-1:]]  # the worker was started last
            before = [cpu_seconds(each) for each in both]
            start = time.monotonic()
            load = asyncio.run(run_load(address, process, arguments.clients, arguments.seconds))
            rate = load.done / (time.monotonic() - start)
            cpu = [cpu_seconds(each) - then for each, then in zip(both, before, strict=True)]
            settled = resident(process)
        bare.append(bare_model(arguments.bare_seconds, Path(folder)))
    report(load, rate, cpu, bare)
    print(f"memory at the end: {settled:.0f} MB")
    assert not [status for status in load.statuses if status >= 500], "the server failed"
    assert load.deepest <= arguments.queue, "the queue's bound was not honoured"


if __name__ == "__main__":
    main()
