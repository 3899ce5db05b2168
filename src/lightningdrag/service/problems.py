"""Errors as clients see them: RFC 9457 problem details."""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse

log = logging.getLogger("lightningdrag.service")

TITLES = {
    "token": (401, "A token is needed"),
    "origin": (403, "Not from here"),
    "not-found": (404, "Not found"),
    "session-gone": (404, "The session is gone"),
    "method": (405, "Method not allowed"),
    "slow": (408, "The request came too slowly"),
    "not-finished": (409, "No result"),
    "too-large": (413, "Too large"),
    "photo": (422, "Not a photo that can be edited"),
    "request": (422, "The request is wrong"),
    "queue-full": (429, "The server is busy"),
    "rate": (429, "Too many requests"),
    "internal": (500, "Something went wrong in the server"),
    "worker": (500, "The worker was lost"),
    "not-ready": (503, "The server cannot take jobs"),
    "stopping": (503, "The server is stopping"),
    "storage": (507, "The server's disk is full"),
    "memory": (507, "The server ran out of memory"),
}
"""Status and title of every type of problem."""

_BY_STATUS = {400: "request", 404: "not-found", 405: "method", 413: "too-large"}


class Problem(HTTPException):
    """An error with a type of :data:`TITLES`, told to the client.

    Args:
        kind: the type.
        detail: one sentence for people.
        retry_after: seconds; sent as ``Retry-After``.
    """

    def __init__(self, kind: str, detail: str, retry_after: float | None = None) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after)))}
        if kind == "token":
            headers["WWW-Authenticate"] = "Bearer"
        super().__init__(TITLES[kind][0], detail, headers)
        self.kind = kind

    def record(self) -> dict[str, Any]:
        """The problem as JSON."""
        status, title = TITLES[self.kind]
        return {
            "type": f"urn:lightningdrag:{self.kind}",
            "title": title,
            "status": status,
            "detail": self.detail,
        }

    def response(self) -> JSONResponse:
        return JSONResponse(
            self.record(), self.status_code, self.headers, media_type="application/problem+json"
        )


def storage_problem(error: OSError) -> Problem:
    """What a failed read or write means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Problem("storage", "the server's disk is full; try again later")
    return Problem("internal", "the server cannot use its temporary folder")


def add_handlers(app: FastAPI) -> None:
    """Answer every error of an app with a problem."""
    app.add_exception_handler(StarletteHTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(OSError, _on_os_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    if isinstance(error.__cause__, OSError):  # a form's file did not fit on the disk
        return storage_problem(error.__cause__).response()
    if not isinstance(error, Problem):
        kind = _BY_STATUS.get(error.status_code, "request" if error.status_code < 500 else "internal")
        phrase = HTTPStatus(error.status_code).phrase
        text = "no such address" if kind == "not-found" else str(error.detail or phrase)
        problem = Problem(kind, text)
        problem.headers = {**(error.headers or {}), **(problem.headers or {})}
        return problem.response()
    return error.response()


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return Problem("request", f"{where or 'the body'}: {first['msg']}").response()


async def _on_os_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    log.error("cannot store: %s", error.strerror)
    return storage_problem(error).response()


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    return Problem("internal", "this is a fault of the server; its log has more").response()
