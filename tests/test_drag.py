"""Drags and requests: what is read, what is refused and in which words, and the way to JSON and back."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightningdrag.drag import (
    Drag,
    DragError,
    FormatError,
    MaskError,
    OptionError,
    RequestError,
    as_drags,
    augmented,
    pixel_of,
    split,
)
from lightningdrag.request import EditRequest

coordinate = st.floats(-1e4, 1e4).map(lambda value: value + 0.0)  # no negative zero
points = st.tuples(coordinate, coordinate)
drags = st.builds(Drag, points, points)
inner = st.tuples(st.floats(0, 199), st.floats(0, 149))
inner_drags = st.lists(
    st.builds(Drag, inner, inner), min_size=1, max_size=8, unique_by=lambda d: pixel_of(d.handle)
)


def test_a_drag_knows_its_length_and_whether_it_is_a_pin() -> None:
    assert Drag((1, 2), (4, 6)).length == 5
    assert Drag((1, 2), (1, 2)).is_pin
    assert not Drag((1, 2), (1, 2.5)).is_pin


@given(drags)
def test_a_drag_is_read_back_from_its_numbers(drag: Drag) -> None:
    (hx, hy), (tx, ty) = drag.handle, drag.target
    assert Drag.parse(f"{hx!r},{hy!r}:{tx!r},{ty!r}") == drag
    assert as_drags([(drag.handle, drag.target)]) == (drag,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("210,140", "no target"),
        ("1,2:3", "is not x,y:x,y"),
        ("1,2:3,4:5,6", "is not x,y:x,y"),
        ("a,b:c,d", "is not x,y:x,y"),
        ("", "no target"),
        ("nan,2:3,4", "nan,"),
        ("1,2:inf,4", "inf"),
    ],
)
def test_text_that_is_no_drag_is_refused(text: str, says: str) -> None:
    with pytest.raises(DragError, match=says):
        Drag.parse(text)


@pytest.mark.parametrize(
    ("given_drags", "says"),
    [
        ([], "no drags"),
        (5, "give a list"),
        ("1,2:3,4", "give a list"),
        ([((1, 2),)], "no target"),
        ([((1, 2), None)], "no target"),
        ([((1, 2), (3,))], "not a point"),
        ([((1, "2"), (3, 4))], "not a point"),
        ([((True, 2), (3, 4))], "not a point"),
        ([((math.nan, 2), (3, 4))], "not finite"),
        ([((10**400, 2), (3, 4))], "not finite"),
        ([7], "not a pair"),
        ([((i, i), (i, i)) for i in range(65)], "65 drags; at most 64"),
        ([((5, 5), (9, 9)), ((5.2, 5), (20, 9))], "two handles on one pixel"),
    ],
)
def test_drags_that_make_no_sense_are_refused(given_drags: object, says: str) -> None:
    with pytest.raises(DragError, match=says):
        as_drags(given_drags)  # type: ignore[arg-type]


def test_a_pair_given_twice_is_kept_once() -> None:
    assert as_drags(["1,2:3,4", "1,2:3,4", "5,5:5,5"]) == (Drag((1, 2), (3, 4)), Drag((5, 5), (5, 5)))


@given(drags, st.floats(0.05, 20), st.floats(0.05, 20))
def test_scaling_there_and_back_is_the_identity(drag: Drag, sx: float, sy: float) -> None:
    back = drag.scaled(sx, sy).scaled(1 / sx, 1 / sy)
    assert np.allclose([*back.handle, *back.target], [*drag.handle, *drag.target], atol=1e-6)


def test_a_request_scales_with_its_photo() -> None:
    request = EditRequest(["9.5,9.5:19.5,9.5"], max_step=4, seed=1).scaled(2, 2)
    assert request == EditRequest(["19.5,19.5:39.5,19.5"], max_step=8, seed=1)


def test_of_handles_that_fall_on_one_pixel_of_a_smaller_photo_the_furthest_dragged_is_kept() -> None:
    """They may go different ways, which no request can say of one pixel; a pin must not win over a drag."""
    request = EditRequest(["9.5,9.5:9.5,9.5", "10.5,9.5:39.5,9.5", "29.5,9.5:29.5,9.5"]).scaled(0.5, 0.5)
    assert [drag.is_pin for drag in request.drags] == [False, True]
    request = EditRequest(["9.5,9.5:19.5,9.5", "10.5,9.5:10.5,39.5", "29.5,9.5:29.5,9.5"]).scaled(0.1, 0.1)
    assert len(request.drags) == 2
    assert request.drags[0].target[1] > request.drags[0].handle[1]


def test_scaling_keeps_a_photos_corners_on_its_corners() -> None:
    drag = Drag((-0.5, -0.5), (99.5, 49.5)).scaled(2, 3)
    assert drag == Drag((-0.5, -0.5), (199.5, 149.5))


@given(inner_drags, st.floats(10, 300))
def test_splitting_joins_up_and_no_stage_is_longer_than_allowed(drags: list[Drag], max_step: float) -> None:
    stages = split(drags, max_step)
    assert [drag.handle for drag in stages[0]] == [drag.handle for drag in drags]
    assert [drag.target for drag in stages[-1]] == [drag.target for drag in drags]
    for before, after in itertools.pairwise(stages):
        assert [drag.target for drag in before] == [drag.handle for drag in after]
    if len(stages) > 1:
        assert max(drag.length for stage in stages for drag in stage) <= max_step * (1 + 1e-9)
    for index, drag in enumerate(drags):
        if drag.is_pin:
            assert all(stage[index].is_pin for stage in stages)


def test_splitting_into_hundreds_of_stages_is_refused() -> None:
    with pytest.raises(OptionError, match=r"use at least 3\.1"):
        split([Drag((0, 0), (100, 0))], 0.1)


@given(inner_drags, st.integers(0, 16))
def test_auxiliary_pairs_go_their_handles_way_and_stay_in_the_photo(drags: list[Drag], count: int) -> None:
    result = augmented(drags, count, 200, 150)
    assert list(result[: len(drags)]) == drags
    assert len(result) <= min(64, len(drags) * (1 + count))
    vectors = np.array([drag.vector for drag in drags])
    for extra in result[len(drags) :]:
        assert np.abs(vectors - extra.vector).max(axis=1).min() < 1e-6
        assert all(0 <= x <= 199 and 0 <= y <= 149 for x, y in (extra.handle, extra.target))
    assert as_drags(result) == result  # no two handles on a pixel


def test_auxiliary_pairs_stay_in_the_mask() -> None:
    mask = np.zeros((150, 200), bool)
    mask[:, 100:] = True
    result = augmented([Drag((80, 75), (100, 75))], 8, 200, 150, mask)
    assert 1 < len(result) < 9
    assert all(mask[pixel_of(drag.target)[::-1]] for drag in result)


requests = st.builds(
    EditRequest,
    drags=inner_drags,
    mask=st.none() | st.integers(0, 2**16 - 2).map(lambda bits: _mask(bits + 1)),
    image=st.none() | st.text(max_size=20),
    num_images=st.integers(1, 16),
    steps=st.none() | st.integers(1, 1000),
    guidance=st.none() | st.floats(0, 100),
    guidance_schedule=st.sampled_from(["inverse_square", "none", "linear"]),
    max_step=st.none() | st.floats(0.01, 1e4),
    augment=st.integers(0, 16),
    temperature=st.none() | st.floats(0, 10),
    strict=st.booleans(),
    seed=st.none() | st.integers(0, 2**63 - 1),
)


def _mask(bits: int) -> np.ndarray:
    return np.array([bits >> i & 1 for i in range(16)], bool).reshape(2, 8)


@given(requests)
def test_a_request_comes_back_from_json_as_it_was(request: EditRequest) -> None:
    assert EditRequest.from_json(request.to_json()) == request


def test_requests_differ_when_any_part_differs() -> None:
    request = EditRequest(["1,2:3,4"], mask=np.eye(4, dtype=bool))
    assert request != EditRequest(["1,2:3,4"])
    assert request != EditRequest(["1,2:3,4"], mask=np.ones((4, 4), bool))
    assert request != EditRequest(["1,2:3,4"], mask=np.eye(4, dtype=bool), seed=1)


def test_a_saved_request_may_name_a_mask_beside_it(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    request = EditRequest(["35,15:40,15"], mask=mask, image="photo.jpg")
    (tmp_path / "edit.json").write_text(request.to_json(mask_png="mask.png"))
    assert EditRequest.load(tmp_path / "edit.json") == request
    with pytest.raises(FormatError, match="no folder"):
        EditRequest.from_json(request.to_json(mask_png="mask.png"))


@pytest.mark.parametrize("png", [None, "mask.png"])
def test_a_saved_mask_may_have_as_many_pixels_as_the_photo_may(tmp_path: Path, png: str | None) -> None:
    Image.new("L", (60, 40), 255).save(tmp_path / "mask.png")
    request = EditRequest(["35,15:40,15"], mask=np.ones((40, 60), bool))
    (tmp_path / "edit.json").write_text(request.to_json(png))
    assert EditRequest.load(tmp_path / "edit.json", max_pixels=2400) == request
    with pytest.raises(ValueError, match=r"mask .*at most 2,399 are taken|mask .*at most 2,399 pixels"):
        EditRequest.load(tmp_path / "edit.json", max_pixels=2399)


def test_saving_and_loading_a_request(tmp_path: Path) -> None:
    request = EditRequest(["1,2:3,4"], seed=3)
    request.save(tmp_path / "edit.json")
    assert EditRequest.load(tmp_path / "edit.json") == request
    assert [path.name for path in tmp_path.iterdir()] == ["edit.json"]
    with pytest.raises(FormatError, match="no such file"):
        EditRequest.load(tmp_path / "none.json")
    with pytest.raises(OSError, match="cannot write"):
        request.save(tmp_path / "missing" / "edit.json")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 0}, r"steps is 0; expected a whole number within 1\.\.1000"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"num_images": 0}, "num_images is 0"),
        ({"num_images": None}, "num_images is None"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "within 0"),
        ({"guidance": math.nan}, "guidance is nan"),
        ({"guidance": "3"}, "expected a number"),
        ({"max_step": 0}, "max_step is 0"),
        ({"max_step": -4}, "max_step is -4"),
        ({"max_step": math.inf}, "max_step is inf"),
        ({"temperature": -1}, "temperature is -1"),
        ({"augment": 17}, "augment is 17"),
        ({"strict": 1}, "strict is 1"),
        ({"guidance_schedule": "inverse_sqare"}, "did you mean 'inverse_square'"),
        ({"noise_prior": "sauce"}, "did you mean 'source'"),
        ({"noise_prior": None}, "unknown noise_prior"),
    ],
)
def test_options_out_of_range_are_refused_by_name_and_value(options: dict, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        EditRequest(["1,2:3,4"], **options)


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(MaskError, match="empty"):
        EditRequest(["1,2:3,4"], mask=np.zeros((5, 5), bool))


def test_a_request_is_fitted_to_its_photo() -> None:
    request = EditRequest(["10,10:20,10"], mask=np.eye(50, dtype=bool))
    assert request.fitted(50, 50) == (request, [])
    scaled, warnings = request.fitted(100, 100)
    assert scaled.mask is not None
    assert scaled.mask.shape == (100, 100)
    assert warnings == ["mask scaled from 50x50 to 100x100"]
    with pytest.raises(MaskError, match="50x50 and the photo 100x80"):
        request.fitted(100, 80)
    with pytest.raises(
        DragError, match=r"target 20,10 .* outside the photo of 16x50; x must be within 0\.\.15"
    ):
        request.fitted(16, 50)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "other"}, "schema is 'other'"),
        ({"version": 2}, "version is 2; this program reads 1"),
        ({"version": True}, "version is True"),
        ({"drags": {}}, "expected a list"),
        ({"drags": [{"handle": [1, 2]}]}, "no target"),
        ({"drags": [{"handle": [1, 2], "taget": [3, 4]}]}, "did you mean 'target'"),
        ({"drags": [[1, 2]]}, "expected an object"),
        ({"drags": []}, "no drags"),
        ({"mask": {"size": [2, 2], "runs": [1, 2]}}, "add up to 2x2"),
        ({"mask": {"size": [10**9, 10**9], "runs": [10**18]}}, "size of the mask"),
        ({"mask": {"size": [2, 2], "runs": [-1, 5]}}, "add up"),
        ({"mask": {"size": [2, 2], "runs": [4]}}, "empty"),
        ({"mask": 3}, "expected an object"),
        ({"options": {"sed": 1}}, "did you mean 'seed'"),
        ({"options": [1]}, "expected an object"),
        ({"image": 3}, "file name"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_a_malformed_record_is_refused(change: dict, says: str) -> None:
    record = json.loads(EditRequest(["1,2:3,4"]).to_json()) | change
    with pytest.raises(RequestError, match=says):
        EditRequest.from_json(json.dumps(record))


@pytest.mark.parametrize("text", ["", "{", "nope", b"\xff\xfe", "[" * 100_000, '{"drags": NaN}', "9" * 5000])
def test_text_that_is_no_request_is_refused(text: str | bytes) -> None:
    with pytest.raises(FormatError):
        EditRequest.from_json(text)
