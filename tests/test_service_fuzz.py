"""Requests nobody would send: answered as the API's description says, never by a fault of the server."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="the service's extra is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lightningdrag.service.settings import Settings
from service_running import GatedWorker, Running, photo_bytes, request_text, running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 8
"""For each route; benchmarks/service_fuzz.py sends thousands."""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(rate=1e6, burst=10**6), [GatedWorker(steps=0)]) as server:
        yield server


def test_every_route_answers_as_described(server: Running) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    photo = server.open()
    job = photo.finish(photo.job())
    # Half of the time the address is one that exists, else nothing but 404 would be seen.
    known = {"session": photo.record["id"], "job": job["id"], "index": 0, "number": 0, "name": "coffee"}
    routes = [each.ok() for each in schema.get_all_operations()]
    assert len(routes) >= 20
    for route in routes:
        if route.method.upper() == "DELETE":
            continue  # it would end the session for the others

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given(case=route.as_strategy(), real=st.booleans())
        def answers_as_described(case, real: bool) -> None:
            if real:
                case.path_parameters = {n: known.get(n, v) for n, v in (case.path_parameters or {}).items()}
            case.call_and_validate(checks=CHECKS, timeout=20)

        answers_as_described()


def test_damaged_photos_and_forms_never_break_the_server(server: Running) -> None:
    rng = random.Random(0)
    whole = [photo_bytes(64, 48, kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")]
    for number in range(150):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randint(1, len(data))] if number % 3 == 0 else data
        answer = server.client.post("/api/v1/sessions", content=bytes(data))
        assert answer.status_code in (201, 422)
        text = bytearray(request_text(seed=1).encode())
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.randrange(32, 127)
        form = {"request": ("r.json", bytes(text)), "image": whole[0], "mask": ("m", bytes(data))}
        assert server.client.post("/api/v1/edit", files=form).status_code in (200, 422)
    assert len(server.state.store) > 0
