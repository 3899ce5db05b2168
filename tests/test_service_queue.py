"""Jobs of the service: order, events, cancellation, bounds, and how it stops. The worker is a gated one."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi", reason="the service's extra is not installed")

from anyio import CapacityLimiter

from lightningdrag.photo import open_photo
from lightningdrag.request import EditRequest
from lightningdrag.service.job_queue import JobQueue
from lightningdrag.service.jobs import Job
from lightningdrag.service.metrics import Metrics
from lightningdrag.service.problems import Problem
from lightningdrag.service.routes import _events
from lightningdrag.service.settings import Settings
from lightningdrag.service.state import State
from lightningdrag.service.store import Store
from service_running import (
    DRAG,
    GatedWorker,
    Running,
    photo_bytes,
    request_text,
    run_apart,
    running,
    wait_until,
)


@pytest.fixture
def worker() -> GatedWorker:
    return GatedWorker()


@pytest.fixture
def server(worker: GatedWorker) -> Iterator[Running]:
    settings = Settings(queue=3, session_jobs=2, session_results=2, abandon_after=0.2, grace=0.5)
    with running(settings, [worker]) as server:
        yield server


def problem(answer) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.json()["type"].removeprefix("urn:lightningdrag:")


def test_a_job_tells_its_place_its_steps_and_its_end(server: Running, worker: GatedWorker) -> None:
    first, second = server.open(), server.open()
    running_job = first.job()
    waiting = second.job()
    wait_until(lambda: first.state_of(running_job)["state"] == "running")
    assert second.state_of(waiting)["place"] == 1
    events = second.events(waiting)
    assert next(events)[0] == "queued"
    worker.let(6)
    rest = list(events)
    assert [name for name, _ in rest] == ["step"] * (len(rest) - 1) + ["done"]
    steps = [record["step"] for name, record in rest if name == "step"]
    assert steps == sorted(steps)
    assert rest[-1][1]["steps"] == 3
    assert rest[-1][1]["seconds"] == 0.1


def test_a_job_that_ends_while_a_step_is_being_told_still_tells_its_end() -> None:
    async def told() -> list[str]:
        store = Store(Settings())
        session = await store.add(photo_bytes(), open_photo(photo_bytes()))
        job = Job(session, "builtin", 0, EditRequest.from_json(request_text()), state="running")
        states = []
        async for _ in job.watch():
            states.append(job.state)
            if job.state == "running":
                job.change(state="done")
        store.close()
        return states

    assert run_apart(told()) == ["running", "done"]


def test_an_end_that_comes_just_before_a_step_is_told_is_told_once() -> None:
    class EndsAtOnce(Job):
        async def watch(self) -> AsyncIterator[None]:
            async for _ in super().watch():
                self.change(state="done")
                yield

    async def told() -> tuple[list[str], int]:
        state = State(Settings(), Metrics(), [])
        session = await state.store.add(photo_bytes(), open_photo(photo_bytes()))
        job = EndsAtOnce(session, "builtin", 0, EditRequest.from_json(request_text()), state="running")
        events = [event async for event in _events(job, state)]
        state.store.close()
        return events, job.listeners

    events, listeners = run_apart(told())
    assert [event.partition("\n")[0] for event in events] == ["event: done"]
    assert listeners == 0


def test_who_comes_back_is_told_the_state_at_once(server: Running, worker: GatedWorker) -> None:
    photo = server.open()
    job = photo.job()
    worker.let(3)
    assert photo.finish(job)["state"] == "done"
    assert [name for name, _ in photo.events(job)] == ["done"]


def test_a_running_job_stops_at_its_next_step(server: Running, worker: GatedWorker) -> None:
    photo = server.open()
    job = photo.job()
    worker.let(1)
    wait_until(lambda: photo.state_of(job)["step"] == 1)
    answer = server.client.post(f"{photo.address}/jobs/{job['id']}/cancel")
    assert answer.json()["state"] == "cancelled"
    assert worker.asked_to_stop
    worker.let(1)  # the step at which it stops
    after = photo.job()
    worker.let(3)
    assert photo.finish(after)["state"] == "done"
    assert problem(server.client.get(f"{photo.address}/jobs/{job['id']}/candidates/0")) == "not-finished"


def test_a_waiting_job_can_be_cancelled(server: Running, worker: GatedWorker) -> None:
    photo = server.open()
    running_job, waiting = photo.job(), photo.job()
    server.client.post(f"{photo.address}/jobs/{waiting['id']}/cancel")
    assert photo.state_of(waiting)["state"] == "cancelled"
    worker.let(3)
    assert photo.finish(running_job)["state"] == "done"
    assert len(worker.tasks) == 1


def test_a_full_queue_refuses_and_says_when_to_come_back(server: Running, worker: GatedWorker) -> None:
    photos = [server.open() for _ in range(5)]
    jobs = [photos[0].job()]
    wait_until(lambda: photos[0].state_of(jobs[0])["state"] == "running")
    jobs += [photo.job() for photo in photos[1:4]]
    answer = photos[4].start()
    assert (answer.status_code, problem(answer)) == (429, "queue-full")
    assert int(answer.headers["Retry-After"]) >= 1
    worker.let(12)
    assert all(photo.finish(job)["state"] == "done" for photo, job in zip(photos, jobs, strict=False))
    assert photos[4].start().status_code == 202


def test_one_session_cannot_fill_the_queue(server: Running) -> None:
    photo = server.open()
    photo.job(), photo.job()
    assert problem(photo.start()) == "queue-full"


def test_edits_that_wait_are_done_in_batches() -> None:
    worker = GatedWorker(batches=True)
    with running(Settings(batch=3), [worker]) as server:
        photos = [server.open() for _ in range(6)]
        jobs = [photos[0].job()]
        wait_until(lambda: worker.batches == [1])
        jobs += [photo.job() for photo in photos[1:5]]
        jobs.append(photos[5].job(num_images=2))  # too large to join the fifth
        worker.let(3)
        wait_until(lambda: worker.batches == [1, 3])
        server.client.post(f"{photos[2].address}/jobs/{jobs[2]['id']}/cancel")
        assert not worker.asked_to_stop  # the others go on
        worker.let(9)
        ends = [photo.finish(job)["state"] for photo, job in zip(photos, jobs, strict=True)]
        assert ends == ["done", "done", "cancelled", "done", "done", "done"]
        assert worker.batches == [1, 3, 1, 1]
        assert [task.session for task in worker.tasks] == [photo.record["id"] for photo in photos]


def test_a_search_for_a_mask_parts_no_batch_and_pushes_out_no_result() -> None:
    worker = GatedWorker(batches=True)
    with running(Settings(batch=4, session_results=1), [worker]) as server, ThreadPoolExecutor() as threads:
        photos = [server.open() for _ in range(4)]
        jobs = [photos[0].job()]
        wait_until(lambda: worker.batches == [1])
        masks = []
        for photo in photos[1:]:
            jobs.append(photo.job())
            masks.append(threads.submit(photo.found_mask))
            known = server.state.store.get(photo.record["id"]).jobs
            wait_until(lambda known=known: len(known) == 2)
        worker.let(15)
        assert [photo.finish(job)["state"] for photo, job in zip(photos, jobs, strict=True)] == ["done"] * 4
        assert [mask.result().sum() for mask in masks] == [200] * 3
        assert worker.batches == [1, 3, 1, 1, 1]
        assert [task.mask_only for task in worker.tasks] == [False] * 4 + [True] * 3
        for photo, job in zip(photos, jobs, strict=True):
            assert photo.state_of(job)["state"] == "done"
            assert len(server.state.store.get(photo.record["id"]).jobs) == 1


def test_searches_for_masks_take_no_room_from_edits_and_are_bounded_themselves(
    server: Running, worker: GatedWorker
) -> None:
    photos = [server.open() for _ in range(4)]
    photos[0].job()
    wait_until(lambda: worker.tasks)
    with ThreadPoolExecutor() as threads:
        masks = [threads.submit(photo.found_mask) for photo in photos[1:]]
        wait_until(lambda: all(server.state.store.get(photo.record["id"]).jobs for photo in photos))
        assert problem(
            photos[0].running.client.post(f"{photos[0].address}/mask", json={"drags": [DRAG]})
        ) == ("queue-full")
        assert all(photo.start().status_code == 202 for photo in photos[1:])  # the queue's three places
        assert problem(photos[0].start()) == "queue-full"
        worker.let(21)
        assert all(mask.result().sum() == 200 for mask in masks)


def test_a_batch_stops_when_nobody_wants_it_any_more() -> None:
    worker = GatedWorker(batches=True)
    with running(Settings(), [worker]) as server:
        photos = [server.open() for _ in range(3)]
        jobs = [photos[0].job()]
        wait_until(lambda: worker.batches == [1])
        jobs += [photo.job() for photo in photos[1:]]
        worker.let(3)
        wait_until(lambda: worker.batches == [1, 2])
        for photo in photos[1:]:
            assert not worker.asked_to_stop
            assert server.client.delete(photo.address).status_code == 204
        assert worker.asked_to_stop


def test_a_job_whose_listener_is_gone_is_cancelled(server: Running, worker: GatedWorker) -> None:
    photo = server.open()
    job = photo.job()
    next(photo.events(job))  # dropping the generator hangs up
    wait_until(lambda: photo.state_of(job)["state"] == "cancelled")
    assert worker.asked_to_stop


def test_each_time_the_listener_leaves_it_has_the_whole_time_to_return() -> None:
    settings = Settings(abandon_after=0.5)

    async def seconds_until_cancelled() -> float:
        loop, store = asyncio.get_running_loop(), Store(settings)
        queue = JobQueue([], store, settings, Metrics(), CapacityLimiter(2))
        session = await store.add(photo_bytes(), open_photo(photo_bytes()))
        job = Job(session, "builtin", 0, EditRequest.from_json(request_text()))
        queue.submit(job)
        for pause in (0.2, 0):
            queue.join(job)
            queue.leave(job)
            left = loop.time()
            await asyncio.sleep(pause)
        await job.wait()
        store.close()
        return loop.time() - left

    assert run_apart(seconds_until_cancelled()) >= settings.abandon_after


def test_a_one_shot_edit_is_given_up_with_its_client(server: Running, worker: GatedWorker) -> None:
    import httpx

    with pytest.raises(httpx.ReadTimeout):
        server.client.post(
            "/api/v1/edit",
            data={"request": request_text()},
            files={"image": photo_bytes()},
            timeout=0.5,
        )
    wait_until(lambda: worker.asked_to_stop and len(server.state.store) == 0)


def test_only_the_last_results_are_kept(server: Running, worker: GatedWorker) -> None:
    photo = server.open()
    worker.let(9)
    jobs = []
    for _ in range(3):
        jobs.append(photo.job())
        photo.finish(jobs[-1])
    assert problem(server.client.get(f"{photo.address}/jobs/{jobs[0]['id']}")) == "not-found"
    assert photo.state_of(jobs[1])["state"] == "done"


def test_only_the_last_jobs_are_kept_however_they_ended(server: Running, worker: GatedWorker) -> None:
    photo = server.open()
    jobs = []
    for _ in range(5):
        jobs.append(photo.job()["id"])
        server.client.post(f"{photo.address}/jobs/{jobs[-1]}/cancel")
    assert list(server.state.store.get(photo.record["id"]).jobs) == jobs[-2:]


def test_a_job_that_took_longest_is_not_forgotten_for_those_that_ended_before(
    server: Running, worker: GatedWorker
) -> None:
    photo = server.open()
    slow = photo.job()
    wait_until(lambda: worker.tasks)
    for _ in range(3):
        server.client.post(f"{photo.address}/jobs/{photo.job()['id']}/cancel")
    worker.let(3)
    assert photo.finish(slow)["state"] == "done"
    assert photo.state_of(slow)["state"] == "done"


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
def test_a_job_that_has_ended_holds_no_mask(server: Running, worker: GatedWorker, end: str) -> None:
    photo = server.open()
    job = photo.job(files={"mask": photo_bytes()})
    kept = server.state.store.get(photo.record["id"]).jobs[job["id"]]
    assert kept.request.mask is not None
    wait_until(lambda: worker.tasks)
    if end == "cancelled":
        server.client.post(f"{photo.address}/jobs/{job['id']}/cancel")
    if end == "failed":
        shutil.rmtree(kept.session.folder)  # there is nowhere to write the results
    worker.let(3)
    assert photo.finish(job)["state"] == end
    assert kept.request.mask is None
    assert worker.tasks[0].request.mask is not None  # it was used


def test_a_removed_session_takes_its_jobs_along(server: Running, worker: GatedWorker) -> None:
    photo = server.open()
    photo.job()
    wait_until(lambda: worker.tasks)
    assert server.client.delete(photo.address).status_code == 204
    assert worker.asked_to_stop
    assert problem(server.client.get(photo.address)) == "session-gone"
    worker.let(3)
    other = server.open()
    job = other.job()
    worker.let(3)
    assert other.finish(job)["state"] == "done"
    assert sum(path.is_dir() for path in server.state.store.folder.iterdir()) == 1


def test_a_stopping_server_fails_its_jobs_cleanly(worker: GatedWorker) -> None:
    with running(Settings(grace=0.2), [worker]) as server:
        photo = server.open()
        jobs = [photo.job(), photo.job()]
        ends: dict[str, dict] = {}
        listeners = [
            threading.Thread(target=lambda job=job: ends.update({job["id"]: photo.finish(job)}))
            for job in jobs
        ]
        for listener in listeners:
            listener.start()
        wait_until(
            lambda: all(job.listeners for job in server.state.store.get(photo.record["id"]).jobs.values())
        )
        folder = server.state.store.folder
    for listener in listeners:
        listener.join(5)
    assert [ends[job["id"]]["problem"]["type"] for job in jobs] == ["urn:lightningdrag:stopping"] * 2
    assert not folder.exists()


def test_a_stopping_server_says_so_to_those_who_come_late() -> None:
    async def submit_late() -> None:
        store = Store(Settings())
        queue = JobQueue([], store, Settings(), Metrics(), CapacityLimiter(2))
        session = await store.add(photo_bytes(), open_photo(photo_bytes()))
        await queue.close()
        try:
            queue.submit(Job(session, "builtin", 0, EditRequest.from_json(request_text())))
        finally:
            store.close()

    with pytest.raises(Problem) as told:
        run_apart(submit_late())
    assert (told.value.status_code, told.value.kind) == (503, "stopping")


def test_a_stopping_server_lets_short_jobs_finish(worker: GatedWorker) -> None:
    with running(Settings(grace=5), [worker]) as server:
        photo = server.open()
        photo.job()
        wait_until(lambda: worker.tasks)
        job = next(iter(server.state.store.get(photo.record["id"]).jobs.values()))
        threading.Timer(0.3, worker.let, (3,)).start()
    assert job.state == "done"
