"""Thousands of damaged requests to a real server with the built-in model: never a 500, never a hang.

    python benchmarks/service_fuzz.py --requests 10000

Photos, masks, requests, addresses and JSON are valid ones with some bytes changed, cut or put elsewhere.
Every answer must come within 30 seconds, with a status that the API's description names, and every error as
application/problem+json; at last a session opened before must still give its photo, byte for byte the same.
tests/test_service_fuzz.py does the same, smaller, and checks answers against the OpenAPI description.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections import Counter

import httpx
import numpy as np
from PIL import Image

from service_load import served

REQUEST = (
    '{"schema": "lightningdrag.edit", "version": 1, "drags": [{"handle": [20, 20], "target": [30, 20]}]}'
)
KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")


def photo(kind: str) -> bytes:
    """A small photo in a format."""
    y, x = np.mgrid[:48, :64]
    pixels = np.dstack((x * 4, y * 5, x + y)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, and perhaps a piece cut off, doubled or moved."""
    part = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 4, 16))):
        part[rng.randrange(len(part))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    a, b = sorted(rng.randrange(len(part) + 1) for _ in range(2))
    how = rng.randrange(6)
    if how == 0:
        part = part[:b]
    elif how == 1:
        part[a:a] = part[a:b][:10_000]
    elif how == 2:
        part = part[a:b] + part[:a]
    return bytes(part)


def one(http: httpx.Client, rng: random.Random, session: str, photos: list[bytes]) -> httpx.Response:
    """A damaged request of a random kind."""
    text = REQUEST.replace("20", str(rng.choice((20, 20, 0, 45, -1, 1e9)))).encode()
    text = damaged(text, rng) if rng.random() < 0.7 else text
    mask = damaged(rng.choice(photos), rng) if rng.random() < 0.3 else None
    form: dict[str, tuple[str, bytes]] = {"request": ("r", text)}
    if mask is not None:
        form["mask"] = ("m", mask)
    address = f"/api/v1/sessions/{session}"
    how = rng.randrange(6)
    if how == 0:
        return http.post("/api/v1/sessions", content=damaged(rng.choice(photos), rng))
    if how == 1:
        return http.post("/api/v1/edit", files={**form, "image": ("i", damaged(rng.choice(photos), rng))})
    if how == 2:
        return http.post(f"{address}/{rng.choice(('jobs', 'preview', 'animations'))}", files=form)
    if how == 3:
        body = damaged(b'{"drags": [{"handle": [10, 10], "target": [20, 10]}]}', rng)
        return http.post(f"{address}/mask", content=body, headers={"Content-Type": "application/json"})
    if how == 4:
        body = damaged(b"--b\r\nContent-Disposition: form-data; name=request\r\n\r\n{}\r\n--b--\r\n", rng)
        content_type = {"Content-Type": "multipart/form-data; boundary=b"}
        return http.post(f"{address}/jobs", content=body, headers=content_type)
    path = damaged(f"{address}/rounds/0/photo?format=png&side=32".encode(), rng)
    return http.get("/" + path.decode("latin-1").lstrip("/").replace("\n", "").replace("\r", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    photos = [photo(kind) for kind in KINDS]
    statuses: Counter[int] = Counter()
    slowest = 0.0
    with served() as (address, _), httpx.Client(base_url=address, timeout=30) as http:
        session = http.post("/api/v1/sessions", content=photos[0]).json()["id"]
        kept = f"/api/v1/sessions/{session}/rounds/0/photo"
        before = http.get(kept).content
        sent = 0
        while sent < arguments.requests:
            start = time.perf_counter()
            try:
                answer = one(http, rng, session, photos)
            except httpx.InvalidURL:
                continue  # not sent
            sent += 1
            slowest = max(slowest, time.perf_counter() - start)
            statuses[answer.status_code] += 1
            problem = answer.headers.get("content-type") == "application/problem+json"
            assert answer.status_code < 500, (answer.status_code, answer.text)
            assert problem == (answer.status_code >= 400), (answer.status_code, answer.text)
        assert http.get(kept).content == before
    print(f"{sent} requests, answers {dict(sorted(statuses.items()))}, slowest {slowest:.1f} s")


if __name__ == "__main__":
    main()
