"""Running the app on a port, and stopping it in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
import urllib.parse
import urllib.request
import webbrowser

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from lightningdrag.service.app import create_app
from lightningdrag.service.settings import LOOPBACK, Settings

HEAD_SECONDS = 10.0
"""In which the headers of a request must have come, all together; ``Guard`` bounds the body."""


class ServiceError(ValueError):
    """The server cannot be started as asked."""


class Connection(H11Protocol):
    """A connection on which nobody can take for ever to ask. uvicorn itself bounds idle ones only."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unwatch()

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """A server whose jobs end before its connections: streams of events end with their jobs.

    Attributes:
        failure: why it ended by itself, if it did: none of its workers could load its models.
    """

    failure: str | None = None

    def __init__(self, app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Connection,
            log_config=None,
            access_log=False,  # it would log the addresses of sessions, which are their keys
            server_header=False,
            # Only a proxy that is named may say who the client is, for its rate.
            proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self._app = app

    async def on_tick(self, counter: int) -> bool:
        self.failure = self._app.state.service.queue.hopeless
        return await super().on_tick(counter) or self.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.state.service.queue.close()
        await super().shutdown(sockets)


def check_access(host: str, token: str | None, insecure: bool) -> None:
    """Refuse to open a server to others without a token.

    Raises:
        ServiceError: saying what to do.
    """
    if token is not None and len(token) < 8:
        raise ServiceError("the token is too short; give at least 8 characters")
    if host not in LOOPBACK and token is None and not insecure:
        raise ServiceError(
            f"--host {host} lets others in: give a --token, or --insecure if all who can reach it may use it"
        )


def serve(settings: Settings, host: str, port: int, *, open_browser: bool = False) -> None:
    """Serve until the process is told to stop (SIGINT or SIGTERM).

    Raises:
        ServiceError: the port is taken, or is not this user's to take; or no worker can load its models.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("lightningdrag.service").setLevel(logging.INFO)
    sock = _bind(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}/"
    print(f"lightningdrag is at {address}", flush=True)
    if open_browser:
        fragment = f"#token={urllib.parse.quote(settings.token, safe='')}" if settings.token else ""
        threading.Thread(target=_open_when_up, args=(address, fragment), daemon=True).start()
    with contextlib.closing(sock):
        server = Server(create_app(settings), host, port)
        server.run(sockets=[sock])
    if server.failure is not None:
        raise ServiceError(server.failure)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)  # who comes before the app is up waits
    except (OSError, OverflowError) as error:
        sock.close()
        raise ServiceError(f"cannot listen on {host}:{port}: {error}; another --port?") from None
    return sock


def _open_when_up(address: str, fragment: str) -> None:
    """Open the page as soon as it answers."""
    for _ in range(100):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}healthz", timeout=1):
            webbrowser.open(address + fragment)
            return
        time.sleep(0.1)
