"""What every request passes before any route: who may ask, how much, how often; headers; one log line."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections import OrderedDict
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightningdrag.service.metrics import Metrics
from lightningdrag.service.problems import Problem
from lightningdrag.service.settings import LOOPBACK, Settings

log = logging.getLogger("lightningdrag.service")

OPEN_PATHS = ("/healthz", "/readyz")
GUARDED_PATHS = ("/api/", "/metrics", "/openapi.json")
"""What wants a token; the rest is the page, the same for everyone."""
METHODS = ("GET", "HEAD", "POST", "DELETE")
"""Of the API and the page; clients may write anything, which would be a figure each."""
BODY_PAUSE = 30.0
"""Seconds without a byte after which an upload is given up."""
BODY_RATE = 4096
"""Bytes a second that an upload must keep up after those first seconds."""
ADDRESSES = 10_000
"""Clients whose rate is watched; the longest silent are forgotten."""

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Rate:
    """A bucket for each client that fills steadily and holds a burst."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count a request.

        Raises:
            Problem: ``rate``, if the bucket is empty.
        """
        now = time.monotonic()
        level, then = self._buckets.pop(client, (float(self._burst), now))
        level = min(self._burst, level + (now - then) * self._rate)
        self._buckets[client] = (max(level - 1, 0.0) if level >= 1 else level, now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        if level < 1:
            raise Problem("rate", "too many requests from this address", (1 - level) / self._rate)


class Guard:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._rate = Rate(settings.rate, settings.burst)
        self._token = settings.token.encode() if settings.token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                private = scope["path"].startswith(GUARDED_PATHS) or scope["path"] in OPEN_PATHS
                headers["Cache-Control"] = "no-store" if private else "no-cache"
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._bounded(scope, receive), send_with_headers)
        except Problem as problem:
            await problem.response()(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "page" if status < 400 else "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, route, status).inc()
            # The route, not the path: a session's address is its key.
            log.info("%s %s %d %.3f s", method, route, status, time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if not self._settings.any_host and _host_name(headers.get("host", "")) not in LOOPBACK:
            raise Problem("origin", "this server answers to 127.0.0.1 and localhost only; see --host")
        origin = headers.get("origin")
        if origin is not None and _authority(origin) != headers.get("host"):
            raise Problem("origin", "other sites' pages may not use this server")
        if not scope["path"].startswith(GUARDED_PATHS):
            return
        client = scope["client"][0] if scope.get("client") else "unknown"
        self._rate.take(client)
        if self._token is not None:
            kind, _, given = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token)
            if kind.lower() != "bearer" or not same:
                raise Problem("token", "give the server's token as 'Authorization: Bearer TOKEN'")

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """The request's body, refused as soon as it is too long, stands still, or hardly moves."""
        most = self._settings.max_bytes
        too_large = Problem("too-large", f"the request is larger than {most:,} bytes")
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > most:
            raise too_large
        count, complete, started = 0, False, time.monotonic()

        async def bounded() -> Message:
            nonlocal count, complete
            if complete:
                return await receive()
            left = BODY_PAUSE + count / BODY_RATE - (time.monotonic() - started)
            try:
                message = await asyncio.wait_for(receive(), min(BODY_PAUSE, left))
            except asyncio.TimeoutError:
                raise Problem("slow", f"only {count:,} bytes came in time") from None
            complete = not message.get("more_body", False)
            count += len(message.get("body", b""))
            if count > most:
                raise too_large
            return message

        return bounded


def _authority(origin: str) -> str:
    """Name and port in an Origin header; nothing where it has none ("null"), or is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; IPv6 without brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
