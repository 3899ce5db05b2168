"""The API's JSON, for its description and for checking what comes in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lightningdrag.drag import MAX_DRAGS
from lightningdrag.service.jobs import Job
from lightningdrag.service.store import Round, Session

API = "/api/v1"

REQUEST_EXAMPLE = (
    '{"schema": "lightningdrag.edit", "version": 1, '
    '"drags": [{"handle": [210, 140], "target": [260, 120]}], "options": {"seed": 0}}'
)

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Pixel = tuple[Coordinate, Coordinate]


class ProblemRecord(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["urn:lightningdrag:queue-full"])
    title: str
    status: int
    detail: str


class DragRecord(BaseModel):
    model_config = ConfigDict(extra="forbid")

    handle: Pixel = Field(examples=[[210, 140]])
    target: Pixel = Field(examples=[[260, 120]])


class DragsRecord(BaseModel):
    model_config = ConfigDict(extra="forbid")

    drags: list[DragRecord] = Field(min_length=1, max_length=MAX_DRAGS)


class AcceptRecord(BaseModel):
    model_config = ConfigDict(extra="forbid")

    job: str = Field(max_length=100, description="A job of this session that is done.")
    candidate: int = Field(0, ge=0, le=100)


class ModelRecord(BaseModel):
    name: str
    summary: str
    licence: str
    steps: int | None = Field(description="Its own number of steps; null while it loads.")
    guidance: float | None


class Limits(BaseModel):
    bytes: int
    pixels: int
    queue: int


class ModelsRecord(BaseModel):
    models: list[ModelRecord]
    ready: bool
    animations: list[str]
    limits: Limits


class ExampleRecord(BaseModel):
    name: str
    title: str
    photo: str
    width: int
    height: int
    credit: str
    request: dict[str, Any]


class ExamplesRecord(BaseModel):
    examples: list[ExampleRecord]


class StateRecord(BaseModel):
    status: str
    detail: str | None = None


class RoundRecord(BaseModel):
    round: int
    parent: int | None
    photo: str
    request: dict[str, Any] | None

    @classmethod
    def of(cls, session: Session, accepted: Round) -> RoundRecord:
        photo = f"{API}/sessions/{session.id}/rounds/{accepted.number}/photo"
        return cls(round=accepted.number, parent=accepted.parent, photo=photo, request=accepted.request)


class SessionRecord(BaseModel):
    id: str
    width: int
    height: int
    warnings: list[str]
    expires_in: int
    rounds: list[RoundRecord]

    @classmethod
    def of(cls, session: Session, expires_in: int) -> SessionRecord:
        return cls(
            id=session.id,
            width=session.width,
            height=session.height,
            warnings=list(session.warnings),
            expires_in=expires_in,
            rounds=[RoundRecord.of(session, each) for each in session.rounds],
        )


class JobRecord(BaseModel):
    id: str
    session: str
    kind: Literal["edit", "mask", "animation"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    place: int | None
    step: int
    steps: int | None
    model: str
    round: int
    seconds: float | None
    warnings: list[str]
    request: dict[str, Any] | None
    mask: str | None
    candidates: list[str]
    animation: str | None
    problem: ProblemRecord | None

    @classmethod
    def of(cls, job: Job) -> JobRecord:
        base = f"{API}/sessions/{job.session.id}/jobs/{job.id}"
        done = job.state == "done"
        edited = done and job.kind == "edit"
        return cls(
            id=job.id,
            session=job.session.id,
            kind=job.kind,
            state=job.state,
            place=job.place or None,
            step=job.step,
            steps=job.steps,
            model=job.model,
            round=job.round,
            seconds=job.seconds,
            warnings=list(job.warnings),
            request=job.request_record() if done else None,
            mask=f"{base}/mask" if edited else None,
            candidates=[f"{base}/candidates/{index}" for index in range(job.candidates)] if edited else [],
            animation=f"{base}/animation" if done and job.kind == "animation" else None,
            problem=ProblemRecord(**job.problem.record()) if job.problem else None,
        )
