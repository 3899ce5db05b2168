"""Hostile input: whatever bytes come, only the documented errors leave."""

from __future__ import annotations

import contextlib
import io
import json
import random
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from lightningdrag import DragEditor, EditRequest, PhotoError, RequestError
from lightningdrag.drag import as_drags
from lightningdrag.masks import read_mask
from lightningdrag.models.warp import WarpModel
from lightningdrag.photo import encode_photo, open_photo

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged metadata

KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000")


def photo_file(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    carried = {"exif": exif, "icc_profile": profile} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **carried)
    return buffer.getvalue()


FILES = [photo_file(kind) for kind in KINDS]
if find_spec("pillow_heif"):
    FILES.append(encode_photo(open_photo(FILES[0]), "HEIF")[0])
FILES += [
    cv2.imencode(ending, np.full((32, 40, 3), 40_000, np.uint16))[1].tobytes() for ending in (".png", ".tif")
]


def mutated(data: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled, or the end lost; more often near the head."""
    result = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        position = dice.randrange(max(1, min(len(result), dice.choice([64, 256, len(result)]))))
        action = dice.randrange(4)
        if action == 0:
            result[position : position + 1] = bytes([dice.randrange(256)])
        elif action == 1:
            result[position : position + 4] = dice.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
        elif action == 2:
            del result[position : position + dice.randint(1, 16)]
        elif len(result) < 100_000:
            result[position:position] = result[position : position + dice.randint(1, 64)]
        if not result:
            break
    return bytes(result)


@pytest.mark.parametrize("index", range(len(FILES)))
def test_mutated_photos_open_or_say_why_not(index: int) -> None:
    dice, refusals = random.Random(index), []
    for _ in range(100):
        try:
            photo = open_photo(mutated(FILES[index], dice), max_pixels=1_000_000)
        except PhotoError as error:
            refusals.append(str(error))
            continue
        assert photo.pixels.ndim == 3
        assert photo.pixels.shape[2] == 3
        encode_photo(photo, "PNG")
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_open_or_say_why_not(data: bytes) -> None:
    with pytest.raises(PhotoError):
        open_photo(data)
    with pytest.raises(PhotoError):
        read_mask(data)


REQUEST = EditRequest(
    ["3,4:9,9", "20,20:20,20"], mask=np.eye(32, dtype=bool), image="photo.png", seed=1
).to_json()

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def paths(record: object, path: tuple = ()) -> list[tuple]:
    """Every place in a JSON value."""
    items = (
        record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    )
    return [path, *(place for key, value in items for place in paths(value, (*path, key)))]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_request_with_any_value_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    record = json.loads(REQUEST)
    place = data.draw(st.sampled_from(paths(record)[1:]))
    parent = record
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = data.draw(values)
    try:
        request = EditRequest.from_json(json.dumps(record))
    except RequestError:
        return
    assert EditRequest.from_json(request.to_json()) == request


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_mutated_json_is_read_or_refused(seed: int) -> None:
    with contextlib.suppress(RequestError):
        EditRequest.from_json(mutated(REQUEST.encode(), random.Random(seed)))


@settings(max_examples=100, deadline=None)
@given(st.lists(values, max_size=4) | values)
def test_any_value_as_drags_is_read_or_refused(value: object) -> None:
    try:
        drags = as_drags(value)  # type: ignore[arg-type]
    except RequestError:
        return
    assert all(np.isfinite([*drag.handle, *drag.target]).all() for drag in drags)


numbers = st.floats(-50, 150) | st.just(float("nan")) | st.just(float("inf"))
drags = st.lists(st.tuples(st.tuples(numbers, numbers), st.tuples(numbers, numbers)), max_size=5)


@settings(max_examples=60, deadline=None)
@given(drags, st.none() | st.integers(1, 130), st.booleans(), st.integers(0, 17), st.floats(-1, 200))
def test_any_drags_and_options_give_an_edit_or_a_documented_error(
    drags: list, side: int | None, strict: bool, augment: int, max_step: float
) -> None:
    pixels = np.zeros((90, 100, 3), np.uint8)
    mask = None if side is None else np.tri(side, 100, dtype=bool)
    try:
        result = DragEditor(WarpModel()).edit(
            pixels, drags, mask, strict=strict, augment=augment, max_step=max_step, seed=0
        )
    except RequestError:
        return
    assert result.image.size == (100, 90)
