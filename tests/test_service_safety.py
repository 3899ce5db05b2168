"""Who may ask the service, how much and how often, and what it keeps to itself."""

from __future__ import annotations

import logging
import shutil
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="the service's extra is not installed")

from lightningdrag.service import guard
from lightningdrag.service import server as service_server
from lightningdrag.service.server import ServiceError, check_access
from lightningdrag.service.settings import Settings
from lightningdrag.service.store import Session, Store
from service_running import GatedWorker, Running, photo_bytes, request_text, running, wait_until

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    settings = Settings(max_bytes=200_000, max_pixels=10**6, rate=1e6, burst=10**6)
    with running(settings, [GatedWorker(steps=0)]) as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    with running(Settings(token=TOKEN, any_host=True), [GatedWorker()]) as server:
        yield server


def kind(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["type"].removeprefix("urn:lightningdrag:")


def test_others_are_let_in_with_a_token_or_on_purpose_only() -> None:
    check_access("127.0.0.1", None, False)
    check_access("0.0.0.0", TOKEN, False)
    check_access("0.0.0.0", None, True)
    with pytest.raises(ServiceError, match="--token"):
        check_access("0.0.0.0", None, False)
    with pytest.raises(ServiceError, match="too short"):
        check_access("0.0.0.0", "abc", False)


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/examples/coffee", "/metrics", "/openapi.json"])
def test_the_api_wants_the_token(guarded: Running, path: str) -> None:
    for header in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
    ):
        answer = guarded.client.get(path, headers=header)
        assert (answer.status_code, kind(answer)) == (401, "token")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_health_and_the_page_want_no_token(guarded: Running) -> None:
    assert guarded.client.get("/healthz").status_code == 200
    assert guarded.client.get("/readyz").status_code == 200
    assert guarded.client.get("/").status_code in (200, 404)


def test_other_sites_are_refused(server: Running) -> None:
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},  # malformed
    ):
        answer = server.client.post("/api/v1/sessions", content=photo_bytes(), headers=headers)
        assert (answer.status_code, kind(answer)) == (403, "origin")
    own = f"http://127.0.0.1:{server.port}"
    answer = server.client.post("/api/v1/sessions", content=photo_bytes(), headers={"Origin": own})
    assert answer.status_code == 201
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_has_the_security_headers(server: Running) -> None:
    for path in ("/", "/healthz", "/api/v1/models", "/api/v1/sessions/none", "/nowhere"):
        headers = server.client.get(path).headers
        assert "default-src 'none'; script-src 'self';" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
    assert server.client.get("/api/v1/models").headers["Cache-Control"] == "no-store"


def test_a_client_in_a_hurry_is_slowed_down() -> None:
    with running(Settings(rate=1, burst=10), [GatedWorker()]) as server:
        answers = [server.client.get("/api/v1/models") for _ in range(15)]
        assert [answer.status_code for answer in answers[:10]] == [200] * 10
        assert kind(answers[-1]) == "rate"
        assert answers[-1].headers["Retry-After"] == "1"
        assert server.client.get("/healthz").status_code == 200
        time.sleep(1.1)
        assert server.client.get("/api/v1/models").status_code == 200


def test_large_bodies_are_refused_before_they_are_read(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**12}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")

    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield bytes(1000)

    answer = server.client.post("/api/v1/sessions", content=endless())
    assert (answer.status_code, kind(answer)) == (413, "too-large")


def test_a_body_that_stands_still_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_PAUSE", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(
            b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def drip(server: Running, start: bytes, byte: bytes, seconds: float = 10) -> bytes:
    """Send a request's start, then a byte at a time; what is answered until the server hangs up."""
    answer, end = b"", time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(start)
        sock.settimeout(0.1)
        while time.monotonic() < end:
            try:
                sock.sendall(byte)
                received = sock.recv(10_000)
            except TimeoutError:
                continue
            except OSError:
                return answer
            if not received:
                return answer
            answer += received
    raise AssertionError("the server still listens")


def test_headers_that_come_byte_by_byte_are_given_up(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_server, "HEAD_SECONDS", 0.5)
    assert drip(server, b"", b"") == b""  # nothing at all
    assert drip(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"a") == b""
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"  # a second one on the same connection
    assert drip(server, first + b"GET /", b"a").count(b"HTTP/1.1 200") == 1


def test_a_body_that_comes_byte_by_byte_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_PAUSE", 0.5)
    monkeypatch.setattr(service_server, "HEAD_SECONDS", 0.5)  # it goes on after the answer
    start = b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    assert drip(server, start, b"a").startswith(b"HTTP/1.1 408")


def test_pixels_are_bounded_before_decoding(server: Running) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    start = time.perf_counter()
    answer = server.client.post("/api/v1/sessions", content=bomb)
    assert (answer.status_code, kind(answer)) == (422, "photo")
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"%!PS-Adobe", b"<svg/>", photo_bytes()[:200], bytes(500)])
def test_what_is_no_photo_is_refused_by_its_content(server: Running, data: bytes) -> None:
    answer = server.client.post("/api/v1/sessions", content=data, headers={"Content-Type": "image/png"})
    assert (answer.status_code, kind(answer)) == (422, "photo")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "request"),
        ("[]", "expected an object"),
        (request_text(drags=[{"handle": [1, 1], "target": [1000, 1]}]), "outside the photo"),
        (request_text(steps=0), "steps is 0"),
        (request_text(sneeds=1), "did you mean 'seed'"),
        (request_text()[:-1] + ', "mask": {"png": "/etc/passwd"}}', "this request has no folder"),
        (request_text()[:-1] + ', "mask": {"size": [5, 5], "runs": [0, 25]}}', "the mask is 5x5"),
    ],
)
def test_a_wrong_request_is_named(server: Running, text: str, told: str) -> None:
    photo = server.open()
    answer = server.client.post(f"{photo.address}/jobs", data={"request": text})
    assert (answer.status_code, kind(answer)) == (422, "request")
    assert told in answer.json()["detail"]


def test_a_job_is_read_through_its_own_session_only(server: Running) -> None:
    mine, other = server.open(), server.open()
    job = mine.finish(mine.job())
    for rest in ("", "/events", "/candidates/0", "/mask"):
        assert server.client.get(f"{mine.address}/jobs/{job['id']}{rest}").status_code == 200
        answer = server.client.get(f"{other.address}/jobs/{job['id']}{rest}")
        assert kind(answer) == "not-found"
    answer = server.client.post(f"{other.address}/rounds", json={"job": job["id"], "candidate": 0})
    assert kind(answer) == "not-found"


def test_sessions_are_looked_up_in_one_thread(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has no lock: requests at the same time would find its order changed under them."""
    threads, get = set(), Store.get

    def watched(store: Store, identity: str) -> Session:
        threads.add(threading.get_ident())
        return get(store, identity)

    monkeypatch.setattr(Store, "get", watched)
    photo = server.open()
    photo.finish(photo.job())
    photo.image(f"{photo.address}/rounds/0/photo")
    assert len(threads) == 1


def test_nothing_lists_sessions_and_ids_cannot_be_guessed(server: Running) -> None:
    ids = {server.open().record["id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(len(identity) >= 22 for identity in ids)  # 128 bits
    answers = [server.client.get(path).text for path in ("/api/v1/sessions", "/metrics", "/api/v1/models")]
    assert not [identity for identity in ids for text in answers if identity in text]


def test_what_an_address_does_not_know_is_told_as_such(server: Running) -> None:
    assert server.client.head("/healthz").status_code == 200
    assert server.client.head("/readyz").status_code == 200
    answer = server.client.get("/api/v1/sessions")
    assert answer.status_code == 405
    assert answer.json()["type"] == "urn:lightningdrag:method"
    assert server.client.get("/api/v1/nothing").status_code == 404
    assert server.client.get("/").headers["content-type"].startswith("text/html")


def test_figures_cannot_be_multiplied_by_strange_methods(server: Running) -> None:
    assert server.client.request("PROPFIND", "/healthz").status_code == 405
    figures = server.client.get("/metrics").text
    assert "PROPFIND" not in figures
    assert 'method="other"' in figures


def test_what_is_removed_in_the_middle_of_a_request_is_gone(server: Running) -> None:
    photo = server.open()
    job = photo.finish(photo.job())
    shutil.rmtree(server.state.store.folder / photo.record["id"])
    for method, rest, body in (
        ("GET", f"/jobs/{job['id']}/candidates/0", None),
        ("GET", f"/jobs/{job['id']}/mask", None),
        ("POST", "/rounds", {"job": job["id"], "candidate": 0}),
    ):
        answer = server.client.request(method, photo.address + rest, json=body)
        assert (answer.status_code, kind(answer)) == (404, "session-gone")
    again = photo.finish(photo.job())
    assert again["problem"]["type"] == "urn:lightningdrag:session-gone"


def test_a_new_photo_that_cannot_be_stored_is_no_session_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Settings(), [GatedWorker()]) as server:
        shutil.rmtree(server.state.store.folder)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        answer = server.client.post("/api/v1/sessions", content=photo_bytes())
        assert (answer.status_code, kind(answer)) == (500, "internal")
        monkeypatch.undo()
        assert server.client.post("/api/v1/sessions", content=photo_bytes()).status_code == 201


def test_unused_sessions_are_forgotten_with_their_files() -> None:
    with running(Settings(ttl=0.4), [GatedWorker()]) as server:
        folder = server.state.store.folder
        photo = server.open()
        assert folder.stat().st_mode & 0o077 == 0
        assert sum(path.is_dir() for path in folder.iterdir()) == 1
        wait_until(lambda: not any(path.is_dir() for path in folder.iterdir()))
        assert kind(server.client.get(photo.address)) == "session-gone"
    assert not folder.exists()


@pytest.mark.parametrize("bound", [{"store_bytes": 3 * len(photo_bytes())}, {"sessions": 3}])
def test_sessions_unused_longest_make_room(bound: dict[str, int]) -> None:
    with running(Settings(**bound, grace=0.1), [GatedWorker()]) as server:
        first, second, third = (server.open() for _ in range(3))
        server.client.get(first.address)
        server.open()
        assert kind(server.client.get(second.address)) == "session-gone"
        assert (
            server.client.get(first.address).status_code
            == server.client.get(third.address).status_code
            == 200
        )
        busy = Running(server.client, server.state, server.port)
        for photo in (first, third):
            photo.job()
        newest = busy.open()  # takes the place of the idle one
        newest.job()
        refused = server.client.post("/api/v1/sessions", content=photo_bytes())
        assert (refused.status_code, kind(refused)) == (507, "storage")


def test_the_log_holds_no_keys_and_no_names(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "lightningdrag.service"):
        photo = server.open()
        photo.finish(photo.job())
        server.client.get(photo.address, params={"token": TOKEN})
    assert "POST /api/v1/sessions/{session}/jobs 202" in caplog.text
    assert photo.record["id"] not in caplog.text
    assert TOKEN not in caplog.text
