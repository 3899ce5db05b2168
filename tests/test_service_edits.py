"""The service with the built-in model in its real worker process: edits, rounds, animations, faults."""

from __future__ import annotations

import asyncio
import errno
import io
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service's extra is not installed")

from PIL import Image

from lightningdrag import Drag, DragEditor, EditRequest
from lightningdrag.masks import derive_mask
from lightningdrag.service import workbench, workers
from lightningdrag.service.animation import encode_animation, reduced_mask
from lightningdrag.service.app import create_app
from lightningdrag.service.problems import Problem
from lightningdrag.service.server import Server
from lightningdrag.service.settings import Settings
from lightningdrag.service.task import Outcome, Task
from lightningdrag.service.workbench import Workbench
from lightningdrag.service.workers import ProcessWorker, answer, last_cancelled
from service_running import (
    DRAG,
    Photo,
    Running,
    photo_bytes,
    request_text,
    run_apart,
    running,
    wait_until,
    work_short_of_memory,
)

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def worker() -> ProcessWorker:
    return ProcessWorker(("builtin",), "cpu", "float32", 120)


@pytest.fixture(scope="module")
def server(worker: ProcessWorker) -> Iterator[Running]:
    with running(Settings(rate=1e6, burst=10**6), [worker]) as server:
        wait_until(lambda: server.client.get("/readyz").status_code == 200)
        yield server


@pytest.fixture
def photo(server: Running) -> Photo:
    return server.open()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def test_a_job_gives_what_the_library_gives(photo: Photo) -> None:
    done = photo.finish(photo.job(seed=7, num_images=2))
    assert done["state"] == "done", done["problem"]
    assert done["request"]["options"]["seed"] == 7
    editor = DragEditor.from_pretrained("builtin", device="cpu", dtype="float32")
    expected = editor.run(photo_bytes(), EditRequest.from_json(request_text(seed=7, num_images=2)))
    assert len(done["candidates"]) == 2
    for address, image in zip(done["candidates"], expected.images, strict=True):
        difference = np.abs(pixels(photo.image(address)).astype(int) - pixels(image))
        assert difference.max() <= 1  # numbers of threads may differ
    assert (np.asarray(photo.image(done["mask"])) > 0).tolist() == expected.mask.tolist()


def test_an_accepted_candidate_is_the_photo_of_the_next_round(server: Running, photo: Photo) -> None:
    first = photo.finish(photo.job(seed=1))
    accepted = server.client.post(f"{photo.address}/rounds", json={"job": first["id"], "candidate": 0})
    assert accepted.status_code == 201
    assert (accepted.json()["round"], accepted.json()["parent"]) == (1, 0)
    result = pixels(photo.image(first["candidates"][0]))
    assert np.array_equal(pixels(photo.image(accepted.json()["photo"])), result)

    second = photo.finish(photo.job(seed=2))
    assert second["round"] == 1
    editor = DragEditor.from_pretrained("builtin", device="cpu", dtype="float32")
    expected = editor.run(result, EditRequest.from_json(request_text(seed=2)))
    difference = np.abs(pixels(photo.image(second["candidates"][0])).astype(int) - pixels(expected.image))
    assert difference.max() <= 1

    again = photo.finish(photo.job(data={"round": 0}, seed=1))  # undone: the first round's photo
    assert np.array_equal(pixels(photo.image(again["candidates"][0])), result)
    rounds = server.client.get(photo.address).json()["rounds"]
    assert [each["round"] for each in rounds] == [0, 1]


def test_nothing_changes_outside_a_mask(photo: Photo) -> None:
    mask = np.zeros((120, 160), np.uint8)
    mask[30:80, 40:100] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    done = photo.finish(photo.job(files={"mask": ("mask.png", buffer.getvalue(), "image/png")}))
    before, after = (
        pixels(photo.image(a)) for a in (f"{photo.address}/rounds/0/photo", done["candidates"][0])
    )
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert not np.array_equal(before, after)


def test_exif_and_16_bits_are_kept(server: Running) -> None:
    exif = Image.Exif()
    exif[0x013B] = "a photographer"
    photo = server.open(photo_bytes(kind="JPEG", exif=exif, quality=95))
    done = photo.finish(photo.job())
    for kind in ("png", "jpeg", "webp"):
        image = photo.image(done["candidates"][0], format=kind)
        assert image.format == kind.upper()
        assert image.size == (160, 120)
        assert image.getexif()[0x013B] == "a photographer"
    small = photo.image(done["candidates"][0], format="webp", side=40)
    assert small.size == (40, 30)

    import cv2

    deep = np.random.default_rng(0).integers(0, 2**16, (64, 64, 3), dtype=np.uint16)
    photo = server.open(cv2.imencode(".png", deep)[1].tobytes())
    done = photo.finish(photo.job(drags=[{"handle": [30, 30], "target": [34, 30]}]))
    answer = server.client.get(done["candidates"][0])
    result = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert result.dtype == np.uint16
    assert np.array_equal(result[:8], deep[:8])
    assert (
        "8%20bits" in server.client.get(done["candidates"][0], params={"format": "jpeg"}).headers["X-Notes"]
    )


def test_one_shot_edit_and_preview(server: Running, photo: Photo) -> None:
    form = {"request": request_text(seed=3)}
    answer = server.client.post("/api/v1/edit", data=form, files={"image": photo_bytes()})
    assert answer.headers["content-type"] == "image/png"
    done = photo.finish(photo.job(seed=3))
    assert np.array_equal(
        pixels(Image.open(io.BytesIO(answer.content))), pixels(photo.image(done["candidates"][0]))
    )
    shown = photo.start("preview")
    editor = DragEditor.from_pretrained("warp")
    expected = editor.run(photo_bytes(), EditRequest.from_json(request_text()))
    assert np.array_equal(pixels(Image.open(io.BytesIO(shown.content))), pixels(expected.image))
    assert len(server.state.store.get(photo.record["id"]).jobs) == 1  # the preview's is forgotten


def test_the_mask_that_an_edit_without_one_uses(server: Running, photo: Photo) -> None:
    found = photo.found_mask()
    assert np.array_equal(found, np.asarray(photo.image(photo.finish(photo.job())["mask"])) > 0)
    assert np.array_equal(
        photo.found_mask("?model=warp"), derive_mask([Drag(DRAG["handle"], DRAG["target"])], 160, 120)
    )
    both = photo.image(photo.finish(photo.job(num_images=2))["mask"])
    assert np.array_equal(photo.found_mask("?num_images=2"), np.asarray(both) > 0)
    small = photo.found_mask("?side=80")
    assert small.shape == (60, 80)
    assert abs(small.mean() - found.mean()) < 0.02
    assert len(server.state.store.get(photo.record["id"]).jobs) == 2  # the masks' own are forgotten
    for query in ("?model=none", f"?model={'x' * 201}", "?round=-1", "?round=2000000", "?num_images=17"):
        answer = server.client.post(f"{photo.address}/mask{query}", json={"drags": [DRAG]})
        assert answer.status_code == 422, query
    astray = server.client.post(
        f"{photo.address}/mask", json={"drags": [{"handle": [60, 50], "target": [999, 50]}]}
    )
    assert astray.status_code == 422
    assert "999" in astray.json()["detail"]


def test_a_mask_keeps_its_smallest_part_when_it_is_scaled_down() -> None:
    mask = np.zeros((4000, 6000), bool)
    mask[2001:2004, 3001] = True
    small = reduced_mask(mask, 1024, 683)
    assert small.shape == (683, 1024)
    assert 1 <= small.sum() <= 4
    assert reduced_mask(mask, 6000, 4000) is mask


@pytest.mark.parametrize("kind", ["webp", "mp4"])
def test_an_animation_goes_from_the_photo_to_the_result(server: Running, photo: Photo, kind: str) -> None:
    if kind == "mp4":
        pytest.importorskip("av", reason="PyAV is not installed")
    answer = photo.start("animations", data={"format": kind, "frames": 4}, seed=5)
    done = photo.finish(answer.json())
    assert (done["state"], done["steps"]) == ("done", 3)
    data = server.client.get(done["animation"]).content
    last = pixels(photo.image(photo.finish(photo.job(seed=5))["candidates"][0])).astype(int)
    first = pixels(photo.image(f"{photo.address}/rounds/0/photo")).astype(int)
    if kind == "webp":
        image = Image.open(io.BytesIO(data))
        assert image.n_frames == 4
        frames = []
        for index in (0, 3):
            image.seek(index)
            frames.append(pixels(image))
    else:
        import av

        with av.open(io.BytesIO(data)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    nearer = [np.abs(frame - first).mean() < np.abs(frame - last).mean() for frame in (frames[0], frames[-1])]
    assert nearer == [True, False]


def test_what_is_transparent_is_white_where_a_format_has_no_transparency() -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    clear = Image.new("RGBA", (64, 48), (200, 0, 0, 0))
    with av.open(io.BytesIO(encode_animation([clear, clear], "mp4"))) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.min() > 245


def test_what_can_be_edited_can_be_animated_at_a_smaller_size_too() -> None:
    """Animations are made at most 1024 pixels wide, where two handles can fall on one pixel."""
    drags = [{"handle": [600, 500], "target": [650, 500]}, {"handle": [601, 500], "target": [600, 560]}]
    request = EditRequest.from_json(request_text(drags=drags, seed=0))
    bench = Workbench(["warp"], "cpu")
    for frames in (0, 3):
        task = Task("photo/0", photo_bytes(2048, 1500), 10**7, None, "warp", request, frames)
        (outcome,) = bench.run([task], [lambda step, steps: True])
        assert outcome.request.drags == request.drags


@pytest.mark.parametrize("upright", [False, True])
def test_the_longest_photo_can_be_animated_too(upright: bool) -> None:
    size, drag = (11_000, 16), {"handle": [5000, 8], "target": [5400, 8]}
    if upright:
        size, drag = size[::-1], {end: place[::-1] for end, place in drag.items()}
    request = EditRequest.from_json(request_text(drags=[drag], seed=0))
    task = Task("photo/0", photo_bytes(*size), 10**7, None, "warp", request, frames=3, format="webp")
    (outcome,) = Workbench(["warp"], "cpu").run([task], [lambda step, steps: True])
    with Image.open(io.BytesIO(outcome.animation)) as animation:
        assert sorted(animation.size) == [16, 1024]


def test_a_thing_that_is_moved_whole_is_so_in_every_frame() -> None:
    """A flower keeps its rim on its way, not only at its end."""
    flower, drag = EXAMPLES / "flower.jpg", {"handle": [320, 210], "target": [380, 210]}
    source = np.asarray(Image.open(flower).convert("RGB")).astype(int)
    request = EditRequest.from_json(request_text(drags=[drag], seed=0))
    task = Task("flower/0", flower.read_bytes(), 10**7, None, "builtin", request, frames=4, format="webp")
    (outcome,) = Workbench(["builtin"], "cpu").run([task], [lambda step, steps: True])
    y, x = np.indices(source.shape[:2])
    rim = (np.abs(np.hypot(y - 222, x - 368) - 88) < 12) & (y < 300)
    with Image.open(io.BytesIO(outcome.animation)) as animation:
        for frame, shift in ((1, 20), (2, 40), (3, 60)):
            animation.seek(frame)
            there = np.roll(np.asarray(animation.convert("RGB")).astype(int), -shift, axis=1)
            assert np.abs(there - source)[rim].mean() < 11, frame


def test_a_wrong_edit_of_a_batch_leaves_the_others_alone() -> None:
    mask = np.zeros((120, 160), bool)
    mask[30:80, 40:65] = True  # without the target
    right = EditRequest.from_json(request_text(seed=1))
    wrong = replace(right, mask=mask, strict=True)
    batch = [
        Task(f"{key}/0", photo_bytes(), 10**6, None, "builtin", request)
        for key, request in enumerate((right, wrong, right))
    ]
    bench = Workbench(["builtin"], "cpu")
    kind, answers = answer(bench, batch, lambda index, step, steps: True)
    assert kind == "done"
    assert [type(each) for each in answers] == [Outcome, Problem, Outcome]
    assert "target" in answers[1].detail
    (alone,) = bench.run(batch[:1], [lambda step, steps: True])
    assert np.array_equal(answers[2].candidates[0].pixels, alone.candidates[0].pixels)
    assert answer(bench, batch[::2], lambda index, step, steps: index == 0) == ("cancelled", [])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (RuntimeError("CUDA error: out of memory"), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (ValueError("drags are allocated to no pixel"), "request"),
        (RuntimeError("no such allocation"), "internal"),
    ],
)
def test_too_little_memory_is_told_from_other_faults(
    error: Exception, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(DragEditor, "run_many", fail)
    request = EditRequest.from_json(request_text())
    task = Task("session/0", photo_bytes(), 10**6, None, "warp", request)
    _, [problem] = answer(Workbench(["warp"], "cpu"), [task], lambda *_: True)
    assert isinstance(problem, Problem)
    assert problem.kind == kind


def test_encoded_windows_count_in_what_a_worker_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "CACHE_BYTES", 10 * 120 * 160 * 3)  # the pixels of ten such photos
    request = EditRequest.from_json(request_text(seed=1))
    bench = Workbench(["builtin"], "cpu")
    for key in ("first", "second"):
        bench.run([Task(key, photo_bytes(), 10**6, None, "builtin", request)], [lambda step, steps: True])
    assert list(bench._sessions) == [("second", "builtin")]


def test_a_worker_keeps_photos_and_no_results() -> None:
    request = EditRequest.from_json(request_text(seed=1, num_images=2))
    bench = Workbench(["warp"], "cpu")
    tasks = [Task(key, photo_bytes(), 10**6, None, "warp", request) for key in ("first", "second")]
    bench.run(tasks, [lambda step, steps: True] * 2)
    assert len(bench._sessions) == 2
    for session in bench._sessions.values():
        with pytest.raises(ValueError, match="nothing to accept"):
            session.accept()


def test_transparency_counts_in_what_a_session_takes() -> None:
    opaque, clear = (np.zeros((120, 160, channels), np.uint8) for channels in (3, 4))
    editor = DragEditor.from_pretrained("warp")
    assert editor.open(clear).nbytes == editor.open(opaque).nbytes + 120 * 160


def test_options_are_given_to_the_models_that_are_sd15(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model_index.json").touch()  # of a saved pipeline
    given = {}
    monkeypatch.setattr(
        DragEditor, "from_pretrained", lambda name, options, **_: given.update({name: options})
    )
    Workbench(["builtin", "sd15", str(tmp_path), "owner/model"], options=("deep-cache",))
    having = [name for name, options in given.items() if options == ("deep-cache",)]
    assert having == ["sd15", str(tmp_path), "owner/model"]
    assert [name for name, options in given.items() if not options] == ["builtin", "warp"]


def test_a_killed_worker_fails_its_job_and_the_next_one_works(
    server: Running, worker: ProcessWorker, photo: Photo
) -> None:
    job = photo.job(steps=1000)
    wait_until(lambda: photo.state_of(job)["step"] > 0)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    ended = photo.finish(job)
    assert ended["state"] == "failed"
    assert ended["problem"]["type"] == "urn:lightningdrag:worker"
    assert photo.finish(photo.job())["state"] == "done"
    assert "lightningdrag_worker_restarts_total 1.0" in server.client.get("/metrics").text


def test_a_worker_that_was_killed_while_it_waited_costs_no_job(worker: ProcessWorker, photo: Photo) -> None:
    assert photo.finish(photo.job())["state"] == "done"
    process = worker._process
    assert process is not None
    process.kill()
    wait_until(lambda: not process.is_alive())
    assert photo.finish(photo.job())["state"] == "done"


def test_of_those_asked_to_stop_the_last_counts_and_none_is_left() -> None:
    cancels, server = multiprocessing.Pipe(duplex=False)
    for number in (1, 2, 3):
        server.send(number)
    assert last_cancelled(cancels) == 3
    assert last_cancelled(cancels) == 0


def test_a_mask_of_another_size_waits_at_the_photos_and_this_is_said_once(photo: Photo) -> None:
    light = Image.new("L", (320, 240), 255)
    buffer = io.BytesIO()
    light.save(buffer, "PNG")
    done = photo.finish(photo.start(files={"mask": buffer.getvalue()}).json())
    assert done["warnings"] == ["mask scaled from 320x240 to 160x120"]


def test_signals_to_the_whole_group_are_left_to_the_server(
    server: Running, worker: ProcessWorker, photo: Photo
) -> None:
    job = photo.job(steps=20)
    wait_until(lambda: photo.state_of(job)["step"] > 0)
    assert worker.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # as Ctrl-C and an init of a container send them
        os.kill(worker.pid, number)
    assert photo.finish(job)["state"] == "done"


def test_a_silent_worker_is_replaced(server: Running, worker: ProcessWorker, photo: Photo) -> None:
    job = photo.job(steps=1000)
    wait_until(lambda: photo.state_of(job)["step"] > 0)
    worker._timeout, kept = 5, worker._timeout
    try:
        step = photo.state_of(job)["step"]
        wait_until(lambda: photo.state_of(job)["step"] > step)  # what is waited for now has the new bound
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        problem = photo.finish(job)["problem"]
        assert problem["type"] == "urn:lightningdrag:worker"
        assert "said nothing for 5 seconds" in problem["detail"]
    finally:
        worker._timeout = kept
    assert photo.finish(photo.job())["state"] == "done"


def test_a_long_edit_is_cancelled_between_steps(photo: Photo) -> None:
    job = photo.job(steps=1000)
    wait_until(lambda: photo.state_of(job)["step"] > 0)
    photo.running.client.post(f"{photo.address}/jobs/{job['id']}/cancel")
    assert photo.finish(photo.job())["state"] == "done"
    assert photo.state_of(job)["state"] == "cancelled"


def test_a_full_disk_is_told_and_leaves_nothing(server: Running, photo: Photo) -> None:
    import resource

    size = len(photo_bytes()) + 100
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, kept[1]))  # files end here, as on a full disk
    try:
        job = photo.finish(photo.job())
        refused = server.client.post("/api/v1/sessions", content=photo_bytes(400, 300))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        signal.signal(signal.SIGXFSZ, ignored)
    assert job["problem"]["type"] == "urn:lightningdrag:storage"
    assert (refused.status_code, refused.json()["type"]) == (507, "urn:lightningdrag:storage")
    assert [path.name for path in server.state.store.get(photo.record["id"]).folder.iterdir()] == ["photo"]
    assert photo.finish(photo.job())["state"] == "done"


def test_workers_open_every_photo_that_the_server_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow's own bound, here made small, is not theirs: ``--max-pixels`` may go beyond it."""
    (tmp_path / "sitecustomize.py").write_text("from PIL import Image\nImage.MAX_IMAGE_PIXELS = 1000\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with running(Settings(), [ProcessWorker(("warp",), "cpu", "float32", 60)]) as server:
        photo = server.open()
        done = photo.finish(photo.job(data={"model": "warp"}))
    assert done["state"] == "done", done["problem"]


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    missing = tmp_path / "no.safetensors"
    missing.write_bytes(b"nothing")
    worker = ProcessWorker((str(missing),), "cpu", "auto", 60)
    server = Server(create_app(Settings(models=(str(missing),)), [worker]))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        thread.join(60)
    assert not thread.is_alive()
    assert server.failure is not None
    assert "cannot be loaded" in server.failure


def test_a_worker_that_the_system_has_no_process_for_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: BaseProcess) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(SpawnProcess, "start", refuse)
        with running(Settings(), [ProcessWorker(("warp",), "cpu", "float32", 60)]) as server:
            wait_until(lambda: server.client.get("/readyz").json()["status"] == "failed")
            assert "Cannot allocate memory" in server.client.get("/readyz").json()["detail"]
            answer = server.open().start()
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:lightningdrag:not-ready")
            patch.undo()
            wait_until(lambda: server.client.get("/readyz").json()["status"] == "ready")


def test_a_model_that_there_is_no_memory_for_is_loaded_when_there_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "work", work_short_of_memory)
    with running(Settings(), [ProcessWorker(("warp",), "cpu", "float32", 60)]) as server:
        why = "the model cannot be loaded: CUDA out of memory"
        wait_until(lambda: server.client.get("/readyz").json()["status"] == "failed")
        assert why in server.client.get("/readyz").json()["detail"]
        assert f"a worker does not start: {why}" in caplog.text
        answer = server.open().start()
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:lightningdrag:not-ready")
        monkeypatch.undo()  # the others have given it back
        wait_until(lambda: server.client.get("/readyz").json()["status"] == "ready")


def test_a_worker_can_be_stopped_while_it_starts() -> None:
    async def start_and_stop() -> None:
        worker = ProcessWorker(("warp",), "cpu", "float32", 60)
        starting = asyncio.ensure_future(worker.start())
        while not worker._process:
            await asyncio.sleep(0)
        starting.cancel()
        await worker.stop()

    before = set(multiprocessing.active_children())
    run_apart(start_and_stop())
    assert set(multiprocessing.active_children()) <= before
