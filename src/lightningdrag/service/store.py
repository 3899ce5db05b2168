"""Sessions: photos, what was accepted, what jobs left.  Bytes lie in one private folder."""

from __future__ import annotations

import io
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.concurrency import run_in_threadpool

from lightningdrag.photo import Photo, open_photo
from lightningdrag.service.private_folder import private_folder
from lightningdrag.service.problems import Problem
from lightningdrag.service.task import Box, Patch, patched

if TYPE_CHECKING:
    from lightningdrag.service.jobs import Job
    from lightningdrag.service.settings import Settings

OPEN_BYTES = 256 * 2**20
"""Of photos that stay decoded in the server, for the next image that is asked for; none is larger."""


@contextmanager
def _session_files() -> Iterator[None]:
    """Around the use of a session's files: one that is missing was removed with the session.

    Raises:
        Problem: ``session-gone``.
    """
    try:
        yield
    except FileNotFoundError:
        raise Problem("session-gone", "this session has just been removed") from None


@dataclass(frozen=True)
class Round:
    """A photo as accepted: its parent with one part changed.

    Attributes:
        number: 0 is the photo as uploaded.
        parent: the round it was made from.
        patch: name of the changed part's file, and its box.
        request: that made it.
    """

    number: int
    parent: int | None = None
    patch: tuple[str, Box] | None = None
    request: dict[str, Any] | None = None


@dataclass(eq=False)
class Session:
    """One photo of one client.

    Attributes:
        folder: of its files, the store's own.
        used: when it was last asked for, on the store's clock.
        files: bytes of each of its files by name, of arrays that are being written, too.
    """

    id: str
    folder: Path
    width: int
    height: int
    warnings: tuple[str, ...]
    used: float
    files: dict[str, int] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=lambda: [Round(0)])
    jobs: OrderedDict[str, Job] = field(default_factory=OrderedDict)

    @property
    def busy(self) -> bool:
        return any(not job.finished for job in self.jobs.values())

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(self.files.values())

    @_session_files()
    def photo_bytes(self) -> bytes:
        """The file as uploaded."""
        return (self.folder / "photo").read_bytes()

    def round(self, number: int) -> Round:
        """A round by its number.

        Raises:
            Problem: there is none.
        """
        if not 0 <= number < len(self.rounds):
            raise Problem("not-found", f"no round {number}; there are 0..{len(self.rounds) - 1}")
        return self.rounds[number]

    def lineage(self, number: int) -> Iterator[Round]:
        """A round and those that it was made from, back to the upload."""
        step = self.round(number)
        while step.parent is not None:
            yield step
            step = self.rounds[step.parent]
        yield step

    @_session_files()
    def load(self, name: str) -> np.ndarray:
        """An array that the store keeps.

        Raises:
            Problem: ``not-found``, it has been forgotten; ``session-gone``, with all of the session.
        """
        try:
            return np.load(self.folder / f"{name}.npy", allow_pickle=False)
        except FileNotFoundError:
            if self.folder.is_dir():
                raise Problem("not-found", "this result has just been forgotten") from None
            raise


class Store:
    """All sessions, bounded in bytes, number and time.

    Only :meth:`open` and :meth:`changed` may be called from any thread.

    Args:
        settings: ``ttl``, ``store_bytes``, ``sessions``, ``max_bytes``, ``max_pixels``, ``session_rounds``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._open: OrderedDict[tuple[str, int], Photo] = OrderedDict()
        self._open_lock = threading.Lock()
        self.folder = private_folder()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(session.size for session in self._sessions.values())

    async def add(self, data: bytes, photo: Photo) -> Session:
        """Keep an uploaded photo.

        Args:
            data: its file.
            photo: the same, opened.

        Raises:
            Problem: there is no room for it.
            OSError: the disk is full.
        """
        identity = secrets.token_urlsafe(16)
        self._make_room(len(data), None)
        folder = self._new_folder(identity)
        session = Session(identity, folder, photo.width, photo.height, photo.warnings, time.monotonic())
        try:
            await run_in_threadpool((folder / "photo").write_bytes, data)
            self._make_room(len(data), None)  # others may have come while it was written
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        session.files["photo"] = len(data)
        self._sessions[identity] = session
        self._keep_open(session, 0, photo)
        return session

    def get(self, identity: str) -> Session:
        """A session, which is thereby used.

        Raises:
            Problem: there is none (any more).
        """
        session = self._sessions.get(identity)
        if session is None or self._expired(session):
            raise Problem(
                "session-gone", "this session is gone: unused too long, or the server was restarted"
            )
        session.used = time.monotonic()
        self._sessions.move_to_end(identity)
        return session

    def expires_in(self, session: Session) -> int:
        return max(0, round(self._settings.ttl - (time.monotonic() - session.used)))

    def remove(self, session: Session) -> None:
        """Forget a session with its files; its jobs must have ended."""
        self._sessions.pop(session.id, None)
        with self._open_lock:
            for key in [key for key in self._open if key[0] == session.id]:
                del self._open[key]
        shutil.rmtree(session.folder, ignore_errors=True)

    def expired(self) -> list[Session]:
        """Sessions whose time is over and that have nothing to do."""
        return [each for each in self._sessions.values() if self._expired(each)]

    async def save(self, session: Session, name: str, array: np.ndarray) -> None:
        """Keep an array under a name.

        Raises:
            Problem: there is no room for it, or the session was removed.
            OSError: the disk is full.
        """
        self._make_room(array.nbytes, session)
        session.files[name] = array.nbytes  # what is written at the same time must not take this room, too
        path = session.folder / f"{name}.npy"
        try:
            with _session_files():
                await run_in_threadpool(_write, path, array)
                if name in session.files:
                    session.files[name] = path.stat().st_size
                else:  # discarded while it was written
                    path.unlink(missing_ok=True)
        except BaseException:  # whatever it is, its room is free again
            self.discard(session, name)
            raise

    def discard(self, session: Session, name: str) -> None:
        """Forget an array, if it is there."""
        if session.files.pop(name, None) is not None:
            (session.folder / f"{name}.npy").unlink(missing_ok=True)

    async def accept(self, session: Session, job: Job, index: int) -> Round:
        """Make a candidate a round.

        Raises:
            Problem: too many rounds, or no room.
        """
        if len(session.rounds) > self._settings.session_rounds:
            raise Problem(
                "too-large", f"at most {self._settings.session_rounds} rounds are kept in a session"
            )
        name = f"round-{secrets.token_hex(8)}"
        await self.save(session, name, await run_in_threadpool(session.load, job.candidate(index)))
        accepted = Round(len(session.rounds), job.round, (name, job.box), job.request_record())
        session.rounds.append(accepted)
        return accepted

    def open(self, session: Session, number: int) -> Photo:
        """The photo of a round, decoded: from the nearest one before it that still is."""
        photo = None
        since: list[tuple[str, Box]] = []
        for step in session.lineage(number):
            with self._open_lock:
                photo = self._open.get((session.id, step.number))
            if photo is not None:
                break
            if step.patch is not None:
                since.insert(0, step.patch)
        else:
            limits = {"max_bytes": self._settings.max_bytes, "max_pixels": self._settings.max_pixels}
            photo = open_photo(session.photo_bytes(), **limits)
        if since:
            photo = patched(photo, (Patch(box, session.load(name)) for name, box in since))
        self._keep_open(session, number, photo)
        return photo

    def changed(self, session: Session, number: int) -> Patch | None:
        """The part of a round's photo that holds all that changed since the upload; None if nothing did."""
        boxes = [step.patch[1] for step in session.lineage(number) if step.patch is not None]
        if not boxes:
            return None
        x0, y0, x1, y1 = zip(*boxes, strict=True)
        return Patch.of(self.open(session, number), (min(x0), min(y0), max(x1), max(y1)))

    def close(self) -> None:
        """Remove everything."""
        self._sessions.clear()
        self._open.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _new_folder(self, identity: str) -> Path:
        """A session's folder; in another place if a cleaner of temporary files took the one that was."""
        if not self.folder.is_dir():
            self.folder = private_folder()
        folder = self.folder / identity
        folder.mkdir(mode=0o700)
        return folder

    def _keep_open(self, session: Session, number: int, photo: Photo) -> None:
        with self._open_lock:
            removed = session.id not in self._sessions  # while the photo was opened
            if removed or photo.nbytes > OPEN_BYTES:
                return
            self._open[session.id, number] = photo
            self._open.move_to_end((session.id, number))
            while sum(each.nbytes for each in self._open.values()) > OPEN_BYTES:
                self._open.popitem(last=False)

    def _expired(self, session: Session) -> bool:
        """Is its time over? Not while it has something to do, however long that takes."""
        return not session.busy and time.monotonic() - session.used > self._settings.ttl

    def _make_room(self, size: int, keep: Session | None) -> None:
        """Forget idle sessions, those unused longest first, until so many bytes more may be kept.

        Args:
            keep: the session that they are for; None is one more.

        Raises:
            Problem: all idle ones together do not make room for them; then none is forgotten.
        """
        count, total = len(self._sessions) + (keep is None), self.size + size
        idle = iter([each for each in self._sessions.values() if each is not keep and not each.busy])
        forgotten: list[Session] = []
        while count > self._settings.sessions or total > self._settings.store_bytes:
            session = next(idle, None)
            if session is None:
                raise Problem("storage", "the server has no room for more photos now; try again later")
            forgotten.append(session)
            count, total = count - 1, total - session.size
        for session in forgotten:
            self.remove(session)
            self.evicted += 1


def _write(path: Path, array: np.ndarray) -> None:
    """``np.save``, whose own writing does not tell a full disk from other errors."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    path.write_bytes(buffer.getbuffer())
