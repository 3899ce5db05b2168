"""Jobs: an edit, an animation or a mask, from waiting to its results."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from lightningdrag.request import EditRequest
from lightningdrag.service.problems import Problem
from lightningdrag.service.store import Session, Store
from lightningdrag.service.task import Box, Task


@dataclass(eq=False)
class Job:
    """An edit of one session's photo, an animation, or the search for a mask.

    Attributes:
        kind: "edit", "mask" for what an edit without one would use, or "animation".
        round: of the session, where it starts.
        frames, format: of an animation.
        state: queued, running, done, failed or cancelled.
        place: in the queue, 1 is next.
        step, steps: how far it is.
        candidates: how many results there are.
        box: what the results hold.
        found: ``(h, w)`` bool within the box, of a job of kind "mask"; it is kept nowhere else.
        problem: why it failed.
        listeners: of its events.
        abandonment: cancels the job some time after the last one has gone.
    """

    session: Session
    model: str
    round: int
    request: EditRequest
    kind: Literal["edit", "mask", "animation"] = "edit"
    frames: int = 0
    format: str = "webp"
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: Literal["queued", "running", "done", "failed", "cancelled"] = "queued"
    place: int = 0
    step: int = 0
    steps: int | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    candidates: int = 0
    box: Box = (0, 0, 0, 0)
    found: np.ndarray | None = None
    problem: Problem | None = None
    listeners: int = 0
    abandonment: asyncio.TimerHandle | None = None
    created: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def goes_with(self, other: Job) -> bool:
        """Can a worker do both in one batch?"""
        return self.kind == other.kind == "edit" and self.model == other.model

    def change(self, **values: Any) -> None:
        """Set attributes, and tell those who watch."""
        for name, value in values.items():
            setattr(self, name, value)
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch(self) -> AsyncIterator[None]:
        """Yields now, and whenever something changed since; the last time when the job has ended.

        It may end while who watches still tells what it was: then that is not the last time.
        """
        while True:
            changed, finished = self._changed, self.finished
            yield
            if finished:
                return
            await changed.wait()

    async def wait(self) -> None:
        """Until the job has ended."""
        async for _ in self.watch():
            pass

    def candidate(self, index: int) -> str:
        """The name under which the session keeps a result.

        Raises:
            Problem: there is none.
        """
        self.check_done("edit")
        if not 0 <= index < self.candidates:
            raise Problem("not-found", f"no candidate {index}; there are {self.candidates}, from 0")
        return f"{self.id}-{index}"

    def check_done(self, *kinds: str) -> None:
        """Refuse jobs without results of one of these kinds.

        Raises:
            Problem: ``not-finished`` or ``not-found``.
        """
        if self.kind not in kinds:
            raise Problem(
                "not-found", f"this job is of kind {self.kind!r}; it has no results of an {kinds[0]}"
            )
        if self.state != "done":
            raise Problem("not-finished", f"the job is {self.state}; only done ones have results")

    def files(self) -> list[str]:
        """All names under which the session may keep something of this job."""
        return [f"{self.id}-{name}" for name in (*range(self.request.num_images), "mask", "animation")]

    def request_record(self) -> dict[str, Any]:
        """The request as JSON, without its mask, which has an address of its own."""
        return json.loads(replace(self.request, mask=None, image=None).to_json())

    def task(self, store: Store, max_pixels: int) -> Task:
        """What a worker needs; reads files."""
        return Task(
            key=f"{self.session.id}/{self.round}",
            photo=self.session.photo_bytes(),
            max_pixels=max_pixels,
            patch=store.changed(self.session, self.round),
            model=self.model,
            request=self.request,
            mask_only=self.kind == "mask",
            frames=self.frames,
            format=self.format,
        )
