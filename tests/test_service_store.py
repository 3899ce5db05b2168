"""What a session keeps of its rounds, and what of it goes to a worker."""

from __future__ import annotations

import asyncio
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service's extra is not installed")

from lightningdrag.photo import open_photo
from lightningdrag.request import EditRequest
from lightningdrag.service import store as service_store
from lightningdrag.service.jobs import Job
from lightningdrag.service.problems import Problem
from lightningdrag.service.settings import Settings
from lightningdrag.service.store import Session, Store
from lightningdrag.service.task import Box
from service_running import photo_bytes, request_text, run_apart

REQUEST = EditRequest.from_json(request_text())
WHOLE = (0, 0, 160, 120)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(Settings())
    yield store
    store.close()


@pytest.fixture
def session(store: Store) -> Session:
    return run_apart(store.add(photo_bytes(), open_photo(photo_bytes())))


def accept(store: Store, session: Session, box: Box, value: int) -> None:
    """A round more, in which a box has one value everywhere."""
    job = Job(session, "builtin", len(session.rounds) - 1, REQUEST, state="done", candidates=1, box=box)
    x0, y0, x1, y1 = box

    async def keep() -> None:
        await store.save(session, f"{job.id}-0", np.full((y1 - y0, x1 - x0, 3), value, np.uint8))
        await store.accept(session, job, 0)

    run_apart(keep())


def test_a_worker_gets_all_that_changed_in_one_piece(store: Store, session: Session) -> None:
    expected = open_photo(photo_bytes()).pixels.copy()
    for value, (x0, y0, x1, y1) in enumerate([(30, 20, 50, 40), (60, 20, 90, 30), (40, 25, 65, 60)]):
        accept(store, session, (x0, y0, x1, y1), value)
        expected[y0:y1, x0:x1] = value
        task = Job(session, "builtin", value + 1, REQUEST).task(store, 10**6)
        assert np.array_equal(task.open().pixels, expected)
    assert task.patch is not None
    assert task.patch.box == (30, 20, 90, 60)
    assert Job(session, "builtin", 0, REQUEST).task(store, 10**6).patch is None


def test_a_task_is_no_larger_for_many_rounds(store: Store, session: Session) -> None:
    for value in range(20):
        accept(store, session, WHOLE, value)
    task = Job(session, "builtin", 20, REQUEST).task(store, 10**6)
    assert task.patch is not None
    assert task.patch.pixels.nbytes == 160 * 120 * 3


def test_a_round_is_opened_from_the_one_before_it(
    store: Store, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, load = [], Session.load

    def watched(session: Session, name: str) -> np.ndarray:
        read.append(name)
        return load(session, name)

    for value in range(3):
        accept(store, session, WHOLE, value)
    monkeypatch.setattr(Session, "load", watched)
    assert (store.open(session, 2).pixels == 1).all()
    assert len(read) == 2  # on the photo as uploaded
    assert (store.open(session, 3).pixels == 2).all()
    assert len(read) == 3
    assert np.array_equal(store.open(session, 0).pixels, open_photo(photo_bytes()).pixels)


def test_what_a_server_took_it_opens_again(
    store: Store, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many bytes it lets a photo have: the usual bound is of those who set none."""
    monkeypatch.setitem(open_photo.__kwdefaults__, "max_bytes", 10)
    store._open.clear()
    assert store.open(session, 0).width == 160


async def upload(store: Store) -> Session:
    return await store.add(photo_bytes(), open_photo(photo_bytes()))


def test_transparency_counts_in_what_stays_open_and_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    opaque = open_photo(np.zeros((20, 20, 3), np.uint8))
    clear = open_photo(np.arange(1600, dtype=np.uint16).reshape(20, 20, 4))
    monkeypatch.setattr(service_store, "OPEN_BYTES", 2 * 20 * 20 * 4 * 2)
    for photo, most in ((clear, 2), (replace(opaque, icc_profile=bytes(5_000)), 1)):
        store = Store(Settings())
        sessions = [run_apart(store.add(b"", photo)) for _ in range(3)]
        assert len(store._open) == most
        assert store.open(sessions[2], 0) is photo, "with all that it has"
        store.close()


def test_the_photo_asked_for_last_stays_open_longest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (run_apart(upload(store)) for _ in range(2))
    monkeypatch.setattr(service_store, "OPEN_BYTES", 2 * 160 * 120 * 3)
    store.open(first, 0)
    third = run_apart(upload(store))
    assert list(store._open) == [(first.id, 0), (third.id, 0)]
    assert store.open(second, 0).width == 160


def test_a_photo_larger_than_all_that_may_stay_open_does_not(
    store: Store, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = photo_bytes(400, 300)
    monkeypatch.setattr(service_store, "OPEN_BYTES", 400 * 300)
    other = run_apart(store.add(large, open_photo(large)))
    assert store.open(other, 0).width == 400
    assert list(store._open) == [(session.id, 0)]  # nor does it drive out what may


def test_nothing_stays_open_of_a_session_that_was_removed_meanwhile(
    store: Store, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*data: bytes, **limits: int) -> object:
        photo = open_photo(*data, **limits)
        store.remove(session)  # by the event's loop, while a thread opens the photo
        return photo

    store._open.clear()
    monkeypatch.setattr(service_store, "open_photo", slow)
    assert store.open(session, 0).width == 160
    assert not store._open


def test_a_result_that_was_forgotten_is_told_from_a_session_that_is_gone(session: Session) -> None:
    with pytest.raises(Problem) as told:
        session.load("nothing-0")
    assert told.value.kind == "not-found"


def test_photos_are_taken_after_the_folder_was_cleaned_away(store: Store, session: Session) -> None:
    shutil.rmtree(store.folder)  # as those do who clean up /tmp
    later = run_apart(upload(store))
    assert later.photo_bytes() == photo_bytes()
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    with pytest.raises(Problem) as told:
        session.photo_bytes()
    assert told.value.kind == "session-gone"


def test_a_session_does_not_expire_while_it_has_something_to_do(store: Store, session: Session) -> None:
    job = Job(session, "builtin", 0, REQUEST)
    session.jobs[job.id] = job
    for working in (True, False):
        session.used -= 2 * Settings().ttl
        assert store.expired() == ([] if working else [session])
        if working:
            assert store.get(session.id) is session
            job.change(state="done")
    with pytest.raises(Problem, match="gone"):
        store.get(session.id)


def test_arrays_written_at_the_same_time_share_the_room() -> None:
    store = Store(Settings(store_bytes=len(photo_bytes()) + 2500))

    async def save() -> list[BaseException | None]:
        session = await upload(store)
        arrays = (store.save(session, str(k), np.zeros(1000, np.uint8)) for k in range(3))
        return await asyncio.gather(*arrays, return_exceptions=True)

    assert [type(end) for end in run_apart(save())] == [type(None), type(None), Problem]
    assert store.size <= len(photo_bytes()) + 2500
    store.close()


def test_photos_written_at_the_same_time_share_the_room() -> None:
    store = Store(Settings(sessions=2))

    async def add() -> None:
        await asyncio.gather(*(upload(store) for _ in range(4)))

    run_apart(add())
    assert len(store) == sum(path.is_dir() for path in store.folder.iterdir()) == 2
    assert store.evicted == 2
    store.close()


def test_what_is_discarded_while_it_is_written_leaves_nothing(
    store: Store, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, discarded, write = threading.Event(), threading.Event(), service_store._write

    def slow(*what: object) -> None:
        write(*what)
        written.set()
        discarded.wait(10)

    async def save_and_discard() -> None:
        saving = asyncio.ensure_future(store.save(session, "x", np.zeros(1000, np.uint8)))
        await asyncio.to_thread(written.wait, 10)
        store.discard(session, "x")
        discarded.set()
        await saving

    monkeypatch.setattr(service_store, "_write", slow)
    run_apart(save_and_discard())
    assert session.size == len(photo_bytes())
    assert [path.name for path in session.folder.iterdir()] == ["photo"]


def test_nobodys_photo_is_given_up_for_what_fits_nowhere() -> None:
    store = Store(Settings(store_bytes=10_000))
    sessions = [run_apart(upload(store)) for _ in range(3)]
    with pytest.raises(Problem, match="no room"):
        run_apart(store.save(sessions[2], "x", np.zeros(10_000, np.uint8)))
    assert [store.get(each.id) for each in sessions] == sessions
    assert store.evicted == 0
    store.close()
