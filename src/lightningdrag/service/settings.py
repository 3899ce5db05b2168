"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightningdrag.checkpoints.catalogue import check_name

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """How a server behaves; the defaults are meant for one person's own machine.

    Attributes:
        models: names, folders or hub ids; the first is used where a request names none.
        devices: one worker process for each.
        dtype: as ``DragEditor.from_pretrained``.
        options: the same, for those models that :func:`takes_options`.
        token: wanted of every caller of the API; None wants none.
        any_host: answer whatever the Host header says; False takes loopback names only, which keeps
            other sites' pages from reaching a server without token by rebinding a name.
        max_bytes, max_pixels: of a request's body and of a photo.
        queue: jobs that may wait; more are refused.
        batch: edits that a worker does in one pass, where the model can.
        session_jobs: unfinished jobs of one session.
        session_results: finished jobs that a session keeps; the oldest are forgotten.
        session_rounds: accepted results of a session.
        ttl: seconds after which an unused session is forgotten.
        store_bytes: of all sessions together; beyond, those unused longest are forgotten.
        sessions: kept at most, however small; beyond, again, those unused longest are forgotten.
        rate, burst: requests a second from one address, over time and at once.
        abandon_after: seconds after which a job that nobody listens to any more is cancelled.
        job_timeout: seconds between two signs of life of a worker; then it is replaced.
        grace: seconds that running jobs have to finish when the server stops.
    """

    models: tuple[str, ...] = ("builtin",)
    devices: tuple[str, ...] = ("auto",)
    dtype: str = "auto"
    options: tuple[str, ...] = ()
    token: str | None = None
    any_host: bool = False
    max_bytes: int = 64 * 2**20
    max_pixels: int = 80_000_000
    queue: int = 32
    batch: int = 4
    session_jobs: int = 4
    session_results: int = 16
    session_rounds: int = 200
    ttl: float = 3600.0
    store_bytes: int = 4 * 2**30
    sessions: int = 4096
    rate: float = 20.0
    burst: int = 200
    abandon_after: float = 15.0
    job_timeout: float = 600.0
    grace: float = 10.0


def takes_options(model: str) -> bool:
    """Is it SD 1.5, which options are for? A hub id may be; if it is not, loading it refuses them."""
    kind = check_name(model)
    return (
        model == "sd15" or kind == "hub" or (kind == "path" and (Path(model) / "model_index.json").is_file())
    )
