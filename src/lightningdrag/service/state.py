"""The parts of one server, and what its routes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends, Query, Request, UploadFile
from starlette.responses import Response

from lightningdrag.masks import read_mask
from lightningdrag.photo import Photo, PhotoError, encode_photo, open_photo
from lightningdrag.request import EditRequest
from lightningdrag.service.animation import reduced
from lightningdrag.service.job_queue import JobQueue
from lightningdrag.service.jobs import Job
from lightningdrag.service.metrics import Metrics
from lightningdrag.service.problems import Problem
from lightningdrag.service.settings import Settings
from lightningdrag.service.store import Session, Store
from lightningdrag.service.workers import Worker

T = TypeVar("T")

ImageKind = Literal["png", "jpeg", "webp"]
Format = Annotated[ImageKind, Query(description="Of the image that is answered.")]
Side = Annotated[int | None, Query(ge=16, le=8192, description="Shrink to this longer side.")]

MAX_TEXT = 10**6
"""Bytes of an edit request as JSON."""
HEAVY_AT_ONCE = 2
"""Photos decoded or encoded at a time; opening takes 1.3 GB at worst, for 80 million pixels of 16 bits."""


class State:
    """One server: its sessions, its queue, its workers."""

    def __init__(self, settings: Settings, metrics: Metrics, workers: Sequence[Worker]) -> None:
        self.settings = settings
        self.store = Store(settings)
        self._limiter = CapacityLimiter(HEAVY_AT_ONCE)
        self.queue = JobQueue(workers, self.store, settings, metrics, self._limiter)
        metrics.gauge("sessions", "Sessions kept.", lambda: len(self.store))
        metrics.gauge("store_bytes", "Bytes of all sessions.", lambda: self.store.size)
        metrics.gauge("evicted_sessions", "Sessions forgotten for space.", lambda: self.store.evicted)

    async def heavy(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run what computes on pixels in a thread, a few at a time.

        Raises:
            Problem: for what is wrong with a photo or request.
        """
        try:
            return await anyio.to_thread.run_sync(work, *arguments, limiter=self._limiter)
        except PhotoError as error:
            raise Problem("photo", str(error)) from None
        except ValueError as error:
            raise Problem("request", str(error)) from None

    async def upload(self, data: bytes) -> Session:
        """A session of a photo's bytes."""
        limits = {"max_bytes": self.settings.max_bytes, "max_pixels": self.settings.max_pixels}
        photo = await self.heavy(lambda: open_photo(data, **limits))
        return await self.store.add(data, photo)

    async def image(self, photo: Photo, kind: ImageKind, side: int | None) -> Response:
        """A photo as an answer."""
        data, notes = await self.heavy(_encoded, photo, kind, side)
        headers = {"X-Notes": quote("; ".join(notes))} if notes else {}
        return Response(data, media_type=f"image/{kind}", headers=headers)

    async def submit(
        self,
        session: Session,
        request: str | UploadFile,
        mask: UploadFile | None,
        model: str | None,
        number: int | None,
        **kind: Any,
    ) -> Job:
        """Queue a job of a form's fields, checked as far as that is possible without the model."""
        light = await mask.read() if mask is not None else b""
        text = request if isinstance(request, str) else await request.read(MAX_TEXT + 1)
        edit, warnings = await self.heavy(self._checked, text, light, session)
        job = self.job(session, edit, model, number, warnings=tuple(warnings), **kind)
        self.queue.submit(job)
        return job

    def job(
        self, session: Session, request: EditRequest, model: str | None, number: int | None, **kind: Any
    ) -> Job:
        """A job that waits nowhere yet, by a model and from a round that there are."""
        known = (*self.settings.models, "warp")
        if model is not None and model not in known:
            raise Problem("request", f"unknown model; known: {', '.join(dict.fromkeys(known))}")
        start = session.round(len(session.rounds) - 1 if number is None else number)
        return Job(session, model or known[0], start.number, request, **kind)

    def _checked(self, text: str | bytes, light: bytes, session: Session) -> tuple[EditRequest, list[str]]:
        """A request of the photo's size, for its mask waits in the queue, and warnings."""
        if len(text) > MAX_TEXT:
            raise Problem(
                "request", f"the request has more than {MAX_TEXT:,} bytes; send its mask as an image"
            )
        most, pixels = self.settings.max_bytes, self.settings.max_pixels
        try:
            request = EditRequest.from_json(text, max_bytes=most, max_pixels=pixels)
            if light:
                request = replace(request, mask=read_mask(light, max_bytes=most, max_pixels=pixels))
        except PhotoError as error:
            raise Problem("request", f"the mask cannot be opened: {error}") from None
        return request.fitted(session.width, session.height)

    async def sweep(self) -> None:
        """Forget sessions whose time is over, for ever."""
        while True:
            await asyncio.sleep(min(30.0, self.settings.ttl / 4))
            for session in self.store.expired():
                self.queue.remove(session)


def _encoded(photo: Photo, kind: ImageKind, side: int | None) -> tuple[bytes, list[str]]:
    if side is not None:
        photo = replace(reduced(photo, side), exif=None, xmp=None)
    try:
        return encode_photo(photo, kind.upper())
    except PhotoError as error:
        raise ValueError(str(error)) from None  # the asker's choice of format, not the photo


# These are coroutines because FastAPI runs plain functions in threads, and the store is the event loop's own.


async def state_of(request: Request) -> State:
    """The server that a request came to."""
    return request.app.state.service


Server = Annotated[State, Depends(state_of)]


async def session_of(session: str, server: Server) -> Session:
    """The session that an address names."""
    return server.store.get(session)


ASession = Annotated[Session, Depends(session_of)]


async def job_of(job: str, session: ASession) -> Job:
    """The job that an address names."""
    try:
        return session.jobs[job]
    except KeyError:
        raise Problem("not-found", "no such job; old ones are forgotten") from None


AJob = Annotated[Job, Depends(job_of)]
