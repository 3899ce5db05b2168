"""The API's routes; docs/service.md says how they go together."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.security import HTTPBearer
from PIL import Image
from pydantic import Field
from starlette.responses import FileResponse, Response, StreamingResponse

from lightningdrag.drag import Drag, as_drags, check_inside
from lightningdrag.masks import derive_mask
from lightningdrag.photo import Photo
from lightningdrag.request import EditRequest
from lightningdrag.service.animation import available_formats
from lightningdrag.service.examples import load_examples, photo_path
from lightningdrag.service.jobs import Job
from lightningdrag.service.problems import Problem
from lightningdrag.service.schema import (
    API,
    REQUEST_EXAMPLE,
    AcceptRecord,
    DragsRecord,
    ExamplesRecord,
    JobRecord,
    Limits,
    ModelRecord,
    ModelsRecord,
    ProblemRecord,
    RoundRecord,
    SessionRecord,
)
from lightningdrag.service.state import MAX_TEXT, AJob, ASession, Format, Server, Side
from lightningdrag.service.store import Session
from lightningdrag.service.task import Patch, patched

ALIVE = 10.0
"""Seconds between signs of life in a stream of events."""


def _answers(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Documents that some types of content are answered."""
    return {200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}}}


_PROBLEM = {
    "model": ProblemRecord,
    "content": {"application/problem+json": {}},
    "description": "A problem, told as RFC 9457 says.",
}
_IMAGES = _answers("image/png", "image/jpeg", "image/webp")

Edit = Annotated[
    Annotated[str, Field(max_length=MAX_TEXT)] | UploadFile,
    File(description="An edit request, as JSON text or as a file of it.", examples=[REQUEST_EXAMPLE]),
]
Mask = Annotated[UploadFile | None, File(description="An image, light where the photo may change.")]
Model = Annotated[str | None, Form(max_length=200, description="A name of /models; the first without it.")]
RoundNumber = Annotated[
    int | None, Form(ge=0, le=10**6, description="Where to start; the newest without it.")
]

router = APIRouter(
    prefix=API,
    responses={"4XX": _PROBLEM, "5XX": _PROBLEM, 422: _PROBLEM},
    dependencies=[Depends(HTTPBearer(auto_error=False, description="Where the server has a token."))],
)


@router.get("/models")
def models(server: Server) -> ModelsRecord:
    """What can be asked for, and how much."""
    from lightningdrag.checkpoints.catalogue import MODELS, model_info

    records = []
    for name in dict.fromkeys((*server.settings.models, "warp")):
        info = model_info(name) if name in MODELS else None
        about = server.queue.models.get(name, {})
        records.append(
            ModelRecord(
                name=name,
                summary=info.summary if info else "a model of this server's own",
                licence=info.licence if info else "as its makers state",
                steps=about.get("steps"),
                guidance=about.get("guidance"),
            )
        )
    settings = server.settings
    return ModelsRecord(
        models=records,
        ready=server.queue.state[0] == "ready",
        animations=list(available_formats()),
        limits=Limits(bytes=settings.max_bytes, pixels=settings.max_pixels, queue=settings.queue),
    )


@router.get("/examples")
def examples() -> ExamplesRecord:
    """Photos to try, each with an edit."""
    return ExamplesRecord(examples=load_examples())


@router.get("/examples/{name}", response_class=FileResponse, responses=_answers("image/jpeg"))
def example(name: str) -> FileResponse:
    """An example's photo."""
    path = photo_path(name)
    if path is None:
        raise Problem("not-found", "no such example")
    return FileResponse(path, media_type="image/jpeg")


@router.post(
    "/sessions",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def open_session(http: Request, response: Response, server: Server) -> SessionRecord:
    """Upload a photo: the body is its file."""
    session = await server.upload(await http.body())
    response.headers["Location"] = f"{API}/sessions/{session.id}"
    return SessionRecord.of(session, server.store.expires_in(session))


@router.get("/sessions/{session}")
async def get_session(session: ASession, server: Server) -> SessionRecord:
    """A session's size and rounds; asking keeps it alive."""
    return SessionRecord.of(session, server.store.expires_in(session))


@router.delete("/sessions/{session}", status_code=204)
async def delete_session(session: ASession, server: Server) -> None:
    """Cancel a session's jobs and remove its files."""
    server.queue.remove(session)


@router.post("/sessions/{session}/mask", response_class=Response, responses=_answers("image/png"))
async def found_mask(
    http: Request,
    session: ASession,
    drags: DragsRecord,
    server: Server,
    side: Side = None,
    model: Annotated[str | None, Query(max_length=200, description="As of an edit.")] = None,
    round: Annotated[int | None, Query(ge=0, le=10**6, description="As of an edit.")] = None,
    num_images: Annotated[int, Query(ge=1, le=16, description="As of an edit.")] = 1,
) -> Response:
    """The mask that an edit by these drags uses without one, 255 where the photo may change."""

    def request() -> EditRequest:
        read = as_drags((drag.handle, drag.target) for drag in drags.drags)
        check_inside(read, session.width, session.height)
        return EditRequest(read, num_images=num_images)

    job = server.job(session, await server.heavy(request), model, round, kind="mask")
    if server.queue.models.get(job.model, {}).get("masks", True):
        server.queue.submit(job)
        return await _result(http, server, job, lambda: used_mask(job, server, side))
    return Response(await server.heavy(_derived, job.request.drags, session, side), media_type="image/png")


@router.post("/sessions/{session}/preview", response_class=Response, responses=_IMAGES)
async def preview(
    http: Request,
    session: ASession,
    server: Server,
    request: Edit,
    mask: Mask = None,
    round: RoundNumber = None,
    format: Format = "png",
    side: Side = None,
) -> Response:
    """Where things will go: the analytic warp."""
    job = await server.submit(session, request, mask, "warp", round)
    return await _result(http, server, job, lambda: candidate(job, 0, server, format, side))


@router.post("/sessions/{session}/jobs", status_code=202)
async def start_job(
    session: ASession,
    server: Server,
    response: Response,
    request: Edit,
    mask: Mask = None,
    model: Model = None,
    round: RoundNumber = None,
) -> JobRecord:
    """Queue an edit."""
    return _accepted(await server.submit(session, request, mask, model, round), response)


@router.post("/sessions/{session}/animations", status_code=202)
async def start_animation(
    session: ASession,
    server: Server,
    response: Response,
    request: Edit,
    mask: Mask = None,
    model: Model = None,
    round: RoundNumber = None,
    format: Annotated[Literal["webp", "mp4"], Form()] = "webp",
    frames: Annotated[int, Form(ge=2, le=48)] = 24,
) -> JobRecord:
    """Queue an animation of an edit."""
    if format not in available_formats():
        raise Problem("request", f"format is {format}; this server writes {', '.join(available_formats())}")
    kind = {"kind": "animation", "format": format, "frames": frames}
    return _accepted(await server.submit(session, request, mask, model, round, **kind), response)


@router.get("/sessions/{session}/jobs/{job}")
async def get_job(job: AJob) -> JobRecord:
    """How far a job is."""
    return JobRecord.of(job)


@router.get(
    "/sessions/{session}/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def job_events(job: AJob, server: Server) -> StreamingResponse:
    """Server-sent events of a job, from its state now to its end."""
    return StreamingResponse(_events(job, server), media_type="text/event-stream")


@router.post("/sessions/{session}/jobs/{job}/cancel", status_code=202)
async def cancel_job(job: AJob, server: Server) -> JobRecord:
    """Stop a job at its next step; what is finished stays as it is."""
    server.queue.cancel(job)
    return JobRecord.of(job)


@router.delete("/sessions/{session}/jobs/{job}", status_code=204)
async def delete_job(job: AJob, server: Server) -> None:
    """Stop a job and forget its results."""
    server.queue.forget(job)


@router.get("/sessions/{session}/jobs/{job}/candidates/{index}", response_class=Response, responses=_IMAGES)
async def candidate(
    job: AJob, index: int, server: Server, format: Format = "png", side: Side = None
) -> Response:
    """One of a job's results, by default at full size."""
    name = job.candidate(index)

    def compose() -> Photo:
        before = server.store.open(job.session, job.round)
        return patched(before, [Patch(job.box, job.session.load(name))])

    return await server.image(await server.heavy(compose), format, side)


@router.get("/sessions/{session}/jobs/{job}/mask", response_class=Response, responses=_answers("image/png"))
async def used_mask(job: AJob, server: Server, side: Side = None) -> Response:
    """The mask that a job used: as given and widened, or found."""
    job.check_done("edit", "mask")

    def whole() -> bytes:
        mask = np.zeros((job.session.height, job.session.width), bool)
        x0, y0, x1, y1 = job.box
        mask[y0:y1, x0:x1] = job.session.load(f"{job.id}-mask") if job.found is None else job.found
        return _grey(mask, side)

    return Response(await server.heavy(whole), media_type="image/png")


@router.get(
    "/sessions/{session}/jobs/{job}/animation",
    response_class=Response,
    responses=_answers("image/webp", "video/mp4"),
)
async def animation(job: AJob, server: Server) -> Response:
    """An animation, when it is done."""
    job.check_done("animation")
    data = await server.heavy(job.session.load, f"{job.id}-animation")
    return Response(data.tobytes(), media_type="video/mp4" if job.format == "mp4" else "image/webp")


@router.post("/sessions/{session}/rounds", status_code=201)
async def accept(session: ASession, accepted: AcceptRecord, server: Server) -> RoundRecord:
    """Make a candidate a round to go on from."""
    job = session.jobs.get(accepted.job)
    if job is None:
        raise Problem("not-found", "no such job; old ones are forgotten")
    return RoundRecord.of(session, await server.store.accept(session, job, accepted.candidate))


@router.get("/sessions/{session}/rounds/{number}/photo", response_class=Response, responses=_IMAGES)
async def round_photo(
    session: ASession, number: int, server: Server, format: Format = "png", side: Side = None
) -> Response:
    """The photo of a round; 0 is the one uploaded."""
    session.round(number)
    photo = await server.heavy(server.store.open, session, number)
    return await server.image(photo, format, side)


@router.post("/edit", response_class=Response, responses=_IMAGES)
async def edit(
    http: Request,
    server: Server,
    image: Annotated[UploadFile, File(description="The photo.")],
    request: Edit,
    mask: Mask = None,
    model: Model = None,
    format: Format = "png",
) -> Response:
    """One edit of one photo, for scripts: answers the result and keeps nothing."""
    session = await server.upload(await image.read())
    try:
        job = await server.submit(session, request, mask, model, 0)
        return await _result(http, server, job, lambda: candidate(job, 0, server, format))
    finally:
        server.queue.remove(session)


async def _result(
    http: Request, server: Server, job: Job, answer: Callable[[], Awaitable[Response]]
) -> Response:
    """Wait for a job, answer something of it and forget it; whoever hangs up gives it up."""
    try:
        gone = asyncio.ensure_future(_hangs_up(http))
        done = asyncio.ensure_future(job.wait())
        await asyncio.wait((gone, done), return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        done.cancel()
        if job.problem is not None:
            raise job.problem
        return await answer()
    finally:
        server.queue.forget(job)


async def _hangs_up(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _events(job: Job, server: Server) -> AsyncIterator[str]:
    server.queue.join(job)
    changes = job.watch()
    pending: asyncio.Future[None] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(changes))
            done, _ = await asyncio.wait((pending,), timeout=ALIVE)
            if not done:
                yield ": alive\n\n"
                continue
            try:
                pending.result()
            except StopAsyncIteration:
                return
            pending = None
            finished = job.finished
            name = "step" if job.state == "running" else job.state
            yield f"event: {name}\ndata: {JobRecord.of(job).model_dump_json()}\n\n"
            if finished:  # perhaps since the watch last looked
                return
    finally:
        if pending is not None:
            pending.cancel()
        server.queue.leave(job)


def _accepted(job: Job, response: Response) -> JobRecord:
    response.headers["Location"] = f"{API}/sessions/{job.session.id}/jobs/{job.id}"
    return JobRecord.of(job)


def _derived(drags: Sequence[Drag], session: Session, side: int | None) -> bytes:
    """The mask of models that cannot say what follows, drawn at the size that is asked for."""
    scale = min(1.0, (side or np.inf) / max(session.width, session.height))
    width, height = max(1, round(session.width * scale)), max(1, round(session.height * scale))
    shrunk = [drag.scaled(width / session.width, height / session.height) for drag in drags]
    return _grey(derive_mask(shrunk, width, height))


def _grey(mask: np.ndarray, side: int | None = None) -> bytes:
    """A mask as a PNG of black and white."""
    image = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
