"""The service on a local Ray with two replicas."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest

pytest.importorskip("fastapi", reason="the service's extra is not installed")
pytest.importorskip("ray.serve", reason="the ray extra is not installed")

from lightningdrag.service.settings import Settings
from service_running import Photo, Running, wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    # A busy machine starts Ray's own processes slowly, most of all at the low priority they take.
    os.environ |= {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", "RAY_worker_niceness": "0"}
    import ray
    from ray import serve

    from lightningdrag.service.ray_engine import APP, build

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build(Settings(rate=1e6, burst=10**6), 2, cpus=0.5), name=APP, route_prefix="/")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until(lambda: client.get("/readyz").status_code == 200, 120)
            yield Running(client, SimpleNamespace(), port)  # its inside is in another process
    finally:
        serve.shutdown()
        ray.shutdown()


def test_a_session_edits_in_rounds(server: Running) -> None:
    photo = server.open()
    job = photo.job(seed=1)
    events = list(photo.events(job))
    assert [events[-1][0], events[-1][1]["state"]] == ["done", "done"], events[-1]
    accepted = server.client.post(f"{photo.address}/rounds", json={"job": job["id"], "candidate": 0})
    assert accepted.json()["round"] == 1
    assert photo.finish(photo.job(seed=2))["round"] == 1
    assert photo.image(f"{photo.address}/rounds/1/photo").size == (160, 120)


def test_two_replicas_work_at_once_and_stop_when_asked(server: Running) -> None:
    photos: list[Photo] = [server.open(), server.open()]
    jobs = [photo.job(steps=1000) for photo in photos]

    def both_step() -> bool:
        return all(photo.state_of(job)["step"] > 0 for photo, job in zip(photos, jobs, strict=True))

    wait_until(both_step, 120)
    for photo, job in zip(photos, jobs, strict=True):
        server.client.post(f"{photo.address}/jobs/{job['id']}/cancel")
        assert photo.finish(job)["state"] == "cancelled"
    assert photos[0].finish(photos[0].job())["state"] == "done"
