"""What ``lightningdrag edit`` is given wrongly, and what its error then says: the table of ``test_cli``."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

DRAG = ("--drag", "30,30:40,34")
WIDTH, HEIGHT = 96, 80


def bomb(path: Path, side: int = 30_000) -> Path:
    """A PNG of some hundred bytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


def paged_tiff(path: Path, pages: int) -> Path:
    """A TIFF of so many pages in 114 bytes each: directories of one picture, 16x16 and black."""
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16, 279: 256}
    page = struct.pack("<H", len(tags))
    page += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    starts = [8 + 256 + (len(page) + 4) * i for i in range(pages)]
    head = struct.pack("<2sHI", b"II", 42, starts[0]) + bytes(256)
    path.write_bytes(head + b"".join(page + struct.pack("<I", after) for after in (*starts[1:], 0)))
    return path


def blank(path: Path, size: tuple[int, int], value: int = 0) -> Path:
    Image.new("L", size, value).save(path)
    return path


def truncated(path: Path, photo: Path) -> Path:
    path.write_bytes(photo.read_bytes()[:-200])
    return path


def link(path: Path, to: Path) -> Path:
    path.symlink_to(to)
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


Case = Callable[[Path, Path], tuple[object, ...]]

REFUSED: dict[str, tuple[Case, str]] = {
    "no such file": (lambda p, d: (d / "gone.png", *DRAG), r"no such file: .*gone\.png"),
    "mask from stdin": (lambda p, d: (p, *DRAG, "--mask", "-"), r"--mask -: .*name a file"),
    "request to stdout": (lambda p, d: (p, *DRAG, "--save-request", "-"), r"--save-request -: .*name a file"),
    "no image": (lambda p, d: (written(d / "x.png", b"hello" * 9), *DRAG), r"x\.png is not an image"),
    "truncated": (lambda p, d: (truncated(d / "t.png", p), *DRAG), r"t\.png"),
    "0 bytes": (lambda p, d: (written(d / "0.png", b""), *DRAG), r"0\.png is empty"),
    "bomb": (lambda p, d: (bomb(d / "b.png"), *DRAG), r"b\.png.*(30,?000|900,?000,?000)"),
    "more pixels than allowed": (lambda p, d: (p, *DRAG, "--max-pixels", 100), r"photo\.png.*100"),
    "more bytes than allowed": (lambda p, d: (p, *DRAG, "--max-bytes", 100), r"photo\.png.*100"),
    "outside": (lambda p, d: (p, "-d", "30,30:96,34"), r"96,34.*outside the photo of 96x80"),
    "NaN": (lambda p, d: (p, "-d", "nan,30:40,34"), r"nan.*not finite"),
    "infinite": (lambda p, d: (p, "-d", "30,30:inf,34"), r"inf.*not finite"),
    "no target": (lambda p, d: (p, "-d", "30,30"), r"'30,30' has a handle but no target"),
    "not numbers": (lambda p, d: (p, "-d", "a,b:c,d"), r"'a,b:c,d'"),
    "no drags": (lambda p, d: (p,), r"no drags.*--drag 210,140:260,120"),
    "65 drags": (
        lambda p, d: (p, *(word for i in range(65) for word in ("-d", f"{i},5:{i},9"))),
        r"65 drags; at most 64",
    ),
    "two ways": (
        lambda p, d: (p, "-d", "30,30:40,34", "-d", "30,30:20,34"),
        r"30,30:40,34 and 30,30:20,34",
    ),
    "empty mask": (lambda p, d: (p, *DRAG, "--mask", blank(d / "m.png", (WIDTH, HEIGHT))), r"mask is empty"),
    "mask of another shape": (
        lambda p, d: (p, *DRAG, "--mask", blank(d / "m.png", (50, 80), 255)),
        r"50x80.*96x80",
    ),
    "no such mask": (lambda p, d: (p, *DRAG, "--mask", d / "gone.png"), r"no such file: .*gone\.png"),
    "steps 0": (lambda p, d: (p, *DRAG, "--steps", 0), r"steps is 0.*1\.\.1000"),
    "guidance NaN": (lambda p, d: (p, *DRAG, "--guidance", "nan"), r"guidance is nan"),
    "no candidates": (lambda p, d: (p, *DRAG, "-n", 0), r"num_images is 0"),
    "schedule": (lambda p, d: (p, *DRAG, "--schedule", "cubik"), r"'cubik'.*cubic"),
    "max-step 0": (lambda p, d: (p, *DRAG, "--max-step", 0), r"max_step is 0"),
    "model": (
        lambda p, d: (p, *DRAG, "--model", "bultin"),
        r"unknown model 'bultin' \(did you mean 'builtin'",
    ),
    "no such model folder": (lambda p, d: (p, *DRAG, "--model", "./gone"), r"no such model .*\./gone"),
    "mistyped weights": (lambda p, d: (p, *DRAG, "--model", "runs/b.safetensors"), r"no such model .*runs/b"),
    "folder without a model": (lambda p, d: (p, *DRAG, "--model", d), r"holds no model"),
    "device": (lambda p, d: (p, *DRAG, "--device", "tpu"), r"no device 'tpu'; here: auto"),
    "dtype": (lambda p, d: (p, *DRAG, "--dtype", "int8"), r"unknown dtype 'int8'"),
    "no such output folder": (lambda p, d: (p, *DRAG, "-o", d / "gone" / "o.png"), r"no such folder.*gone"),
    "output that is a folder": (lambda p, d: (p, *DRAG, "-o", d), r"is a folder"),
    "output format": (lambda p, d: (p, *DRAG, "-o", d / "o.xyz"), r"o\.xyz ends in \.xyz"),
    "overwriting the photo": (lambda p, d: (p, *DRAG, "-o", p), r"photo\.png would overwrite the photo"),
    "overwriting the photo with a candidate": (
        lambda p, d: (p.rename(d / "o-2.png"), *DRAG, "-n", 2, "-o", d / "o.png"),
        r"o-2\.png would overwrite the photo",
    ),
    "overwriting the photo with the request": (
        lambda p, d: (p, *DRAG, "--save-request", p),
        r"photo\.png would overwrite the photo",
    ),
    "overwriting the mask": (
        lambda p, d: (p, *DRAG, "--mask", blank(d / "m.png", (WIDTH, HEIGHT), 255), "-o", d / "m.png"),
        r"m\.png would overwrite the mask",
    ),
    "overwriting the mask with the request": (
        lambda p, d: (
            p,
            *DRAG,
            "--mask",
            blank(d / "m.png", (WIDTH, HEIGHT), 255),
            "--save-request",
            d / "m.png",
        ),
        r"m\.png would overwrite the mask",
    ),
    "overwriting the mask by another name of its": (
        lambda p, d: (
            p,
            *DRAG,
            "--mask",
            blank(d / "m.png", (WIDTH, HEIGHT), 255),
            "-o",
            link(d / "n.png", d / "m.png"),
        ),
        r"n\.png would overwrite the mask",
    ),
    "overwriting the mask of the request": (
        lambda p, d: (
            *(p, "--request", written(d / "r.json", _request(mask={"png": "m.png"}))),
            *("-o", blank(d / "m.png", (WIDTH, HEIGHT), 255)),
        ),
        r"m\.png would overwrite the mask of the request",
    ),
    "overwriting the request": (
        lambda p, d: (p, "--request", written(d / "r.json", _request()), "--save-request", d / "r.json"),
        r"r\.json would overwrite the request",
    ),
    "several to stdout": (lambda p, d: (p, *DRAG, "-n", 2, "-o", "-"), r"2 candidates cannot go to stdout"),
    "no such request": (lambda p, d: ("--request", d / "gone.json"), r"no such file: .*gone\.json"),
    "request of another schema": (
        lambda p, d: ("--request", written(d / "r.json", b'{"schema": "other"}')),
        r"r\.json: schema is 'other'",
    ),
    "request that is no JSON": (
        lambda p, d: ("--request", written(d / "r.json", b"\xff{")),
        r"r\.json.*JSON",
    ),
    "request with a bad drag": (
        lambda p, d: (p, "--request", written(d / "r.json", _request(drags=[{"handle": [3, 4]}]))),
        r"r\.json: .*no target",
    ),
    "request with options that are no object": (
        lambda p, d: (p, "--request", written(d / "r.json", _request(options=[]))),
        r"r\.json: options is \[\]; expected an object",
    ),
    "request with a misspelt option": (
        lambda p, d: (p, "--request", written(d / "r.json", _request(options={"step": 3}))),
        r"unknown field 'step'.*'steps'",
    ),
    "request folder missing": (lambda p, d: (p, *DRAG, "--save-request", d / "gone" / "r.json"), r"gone"),
    "request that is a folder": (lambda p, d: (p, *DRAG, "--save-request", d), r"it is a folder"),
    "result and request in one file": (
        lambda p, d: (p, *DRAG, "-o", d / "x.png", "--save-request", d / ".." / d.name / "x.png"),
        r"result and the request would both be .*x\.png",
    ),
}


def _request(**fields: object) -> bytes:
    record = {
        "schema": "lightningdrag.edit",
        "version": 1,
        "drags": [{"handle": [30, 30], "target": [40, 34]}],
    }
    return json.dumps({**record, **fields}).encode()
