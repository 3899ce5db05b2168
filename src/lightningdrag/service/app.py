"""The app: the API, the page, health and figures, behind one guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from lightningdrag import __version__
from lightningdrag.service.guard import Guard
from lightningdrag.service.metrics import Metrics
from lightningdrag.service.problems import add_handlers
from lightningdrag.service.routes import router
from lightningdrag.service.schema import StateRecord
from lightningdrag.service.settings import Settings
from lightningdrag.service.state import Server, State
from lightningdrag.service.workers import ProcessWorker, Worker

PAGE = Path(__file__).parent / "page"


def process_workers(settings: Settings) -> list[Worker]:
    """One worker process for each device."""
    return [
        ProcessWorker(settings.models, device, settings.dtype, settings.job_timeout, settings.options)
        for device in settings.devices
    ]


def create_app(settings: Settings, workers: Sequence[Worker] | None = None) -> FastAPI:
    """The whole server as an ASGI app; workers start with it and end with it.

    Args:
        workers: None makes a process for each of the settings' devices.
    """

    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = State(settings, metrics, process_workers(settings) if workers is None else workers)
        app.state.service = state
        state.queue.start()
        sweeper = asyncio.ensure_future(state.sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            await state.queue.close()
            state.store.close()

    app = FastAPI(
        title="lightningdrag",
        version=__version__,
        description="Drag a part of a photo to where it should be.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,  # these pages would load scripts from another host
        redoc_url=None,
    )
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    add_handlers(app)
    app.include_router(router)

    @app.head("/healthz", include_in_schema=False)  # as some load balancers ask
    @app.get("/healthz")
    async def healthz() -> StateRecord:
        """Does the process live?"""
        return StateRecord(status="ok")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", responses={503: {"model": StateRecord}})
    async def readyz(server: Server) -> JSONResponse:
        """Are edits done?"""
        status, detail = server.queue.state
        return JSONResponse({"status": status, "detail": detail}, 200 if status == "ready" else 503)

    @app.get("/metrics", response_class=Response)
    async def figures() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    # Mounted, it would answer for the API's addresses, too, where these know no such method.
    app.router.default = StaticFiles(directory=PAGE, html=True, check_dir=False)
    return app
