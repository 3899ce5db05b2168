"""What a session keeps of its rounds, and what of it goes to a worker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service's extra is not installed")

from lightningdrag.photo import open_photo
from lightningdrag.request import EditRequest
from lightningdrag.service.jobs import Job
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
