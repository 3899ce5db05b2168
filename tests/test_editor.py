"""The editor: the photo's own size back, nothing changed outside the mask, rounds, rules, seams."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lightningdrag
from lightningdrag import Drag, DragEditor, EditCancelled, EditRequest
from lightningdrag.compose import FEATHER, compose
from lightningdrag.drag import DragError, MaskError, OptionError, pixel_of
from lightningdrag.models.builtin.model import BuiltinModel
from lightningdrag.models.protocol import (
    Call,
    CandidateModel,
    MotionEdit,
    PaintedEdit,
)
from lightningdrag.models.warp import WarpModel
from lightningdrag.photo import Photo, PhotoError, open_photo
from lightningdrag.window import Window, choose_window
from painters import Painter, disc, gradient, noise


@st.composite
def edits(draw: st.DrawFn) -> tuple[np.ndarray, list[Drag], np.ndarray | None]:
    width, height = draw(st.integers(64, 400)), draw(st.integers(64, 400))
    point = st.tuples(st.floats(-0.5, width - 0.5), st.floats(-0.5, height - 0.5))
    drags = draw(
        st.lists(
            st.builds(Drag, point, point), min_size=1, max_size=4, unique_by=lambda d: pixel_of(d.handle)
        )
    )
    mask = None
    if draw(st.booleans()):
        mask = np.zeros((height, width), bool)
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        mask[y : y + draw(st.integers(1, height)), x : x + draw(st.integers(1, width))] = True
    channels = draw(st.sampled_from([3, 4]))
    return noise(height, width, channels, draw(st.sampled_from([np.uint8, np.uint16]))), drags, mask


@settings(max_examples=40, deadline=None)
@given(edits(), st.sampled_from([WarpModel, Painter]))
def test_every_pixel_outside_the_mask_is_the_sources(edit, model) -> None:  # type: ignore[no-untyped-def]
    pixels, drags, mask = edit
    result = DragEditor(model()).edit(pixels, drags, mask, seed=0)
    photo = result.photos[0]
    assert photo.pixels.shape == pixels[..., :3].shape
    assert photo.pixels.dtype == pixels.dtype
    assert np.array_equal(photo.pixels[~result.mask], pixels[..., :3][~result.mask])
    if pixels.shape[2] == 4:
        assert photo.alpha is not None
        assert np.array_equal(photo.alpha[~result.mask], pixels[..., 3][~result.mask])
    if mask is not None:
        assert (result.mask >= mask).all()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 256), (1200, 300), (700, 1000)])
@pytest.mark.parametrize("model", [WarpModel, Painter])
def test_photos_of_any_size_come_back_at_it_and_changed(height: int, width: int, model: type) -> None:
    pixels = noise(height, width)
    result = DragEditor(model()).edit(
        pixels, [((width / 2, height / 2), (width / 2 + 9, height / 2))], seed=1
    )
    assert result.image.size == (width, height)
    assert (np.asarray(result.image) != pixels).any()


def test_a_warp_takes_the_handle_to_the_target_at_the_photos_own_sharpness() -> None:
    pixels = np.full((1500, 2000, 3), 90, np.uint8)
    pixels[696:705, 896:905] = 255  # a square around (900, 700), finer than the window can see
    result = DragEditor(WarpModel(128 * 128)).edit(pixels, [((900, 700), (1100, 800))], seed=0)
    moved = np.asarray(result.image)[..., 0].astype(float) - 90
    y, x = np.mgrid[:1500, :2000]
    bright = np.where((moved > 40) & (np.hypot(x - 1100, y - 800) < 50), moved, 0)
    assert np.allclose(
        ((bright * x).sum() / bright.sum(), (bright * y).sum() / bright.sum()), (1100, 800), atol=2
    )
    assert moved.max() > 150


def test_a_displacement_fades_to_nothing_at_the_rim() -> None:
    photo = open_photo(gradient(200, 200))
    mask = np.zeros((200, 200), bool)
    mask[50:150, 50:150] = True
    window = choose_window((50, 50, 150, 150), 200, 200, area=128**2, multiple=8, max_upscale=1.0)
    shift = torch.full((1, 2, window.height, window.width), 4.0)
    motion = MotionEdit(shift, torch.ones_like(shift[:, :1]), torch.zeros(1, 3, window.height, window.width))
    change = np.abs(compose(photo, window, motion, mask)[0].pixels.astype(int) - photo.pixels).sum(axis=2)
    assert change[100, 100] > 8
    assert change[50, 60:140].max() <= 4
    along = change[100, 50:75]
    assert np.abs(np.diff(along)).max() < change[100, 100] / 2  # no step


@pytest.mark.parametrize("painted", [True, False])
def test_colour_blends_within_three_pixels_inside_the_mask(painted: bool) -> None:
    photo = Photo(np.zeros((200, 200, 3), np.uint8))
    mask = np.zeros((200, 200), bool)
    mask[50:150, 50:150] = True
    window = choose_window((50, 50, 150, 150), 200, 200, area=128**2, multiple=8, max_upscale=1.0)
    white = torch.ones(1, 3, window.height, window.width)
    hidden = MotionEdit(torch.zeros_like(white[:, :2]), torch.zeros_like(white[:, :1]), white)
    row = compose(photo, window, PaintedEdit(white) if painted else hidden, mask)[0].pixels[100, :, 0]
    assert (row[:50] == 0).all()
    assert (np.diff(row[49:54].astype(int)) > 0).all()
    assert (row[50 + FEATHER : 150 - FEATHER] == 255).all()


def test_a_mask_that_runs_out_of_the_photo_has_no_rim_there() -> None:
    photo = Photo(np.zeros((80, 80, 3), np.uint8))
    white = torch.ones(1, 3, 80, 80)
    window = choose_window((0, 0, 80, 80), 80, 80, area=80 * 80, multiple=8, max_upscale=1.0)
    assert (compose(photo, window, PaintedEdit(white), np.ones((80, 80), bool))[0].pixels == 255).all()


def test_a_mask_that_fills_its_window_still_has_its_rim() -> None:
    photo = Photo(np.zeros((100, 100, 3), np.uint8))
    mask = np.zeros((100, 100), bool)
    mask[20:84, 20:84] = True
    row = compose(photo, Window((20, 20, 84, 84), 32, 32), PaintedEdit(torch.ones(1, 3, 32, 32)), mask)[
        0
    ].pixels[50, :, 0]
    assert (row[:20] == 0).all()
    assert 0 < row[20] < row[21] < row[22] < row[23] == 255


def test_transparency_moves_with_what_it_belongs_to() -> None:
    pixels = np.full((200, 200, 4), 255, np.uint8)
    pixels[95:106, 75:86, 3] = 0
    alpha = DragEditor(WarpModel()).edit(pixels, [((80, 100), (110, 100))], seed=0).photos[0].alpha
    assert alpha is not None
    assert alpha[100, 110] == 0
    assert alpha[100, 70] == 255


def test_a_thing_on_transparent_ground_leaves_transparency_and_takes_no_dark_edge_along() -> None:
    alpha = (cv2.GaussianBlur(disc(200, (70, 100), 30), (0, 0), 1.5) * 255).astype(np.uint8)
    photo = Photo(np.where(alpha[..., None] > 0, 255, 0).astype(np.uint8).repeat(3, 2), alpha)
    mask = np.ones((200, 200), bool)
    window = Window((0, 0, 200, 200), 200, 200)
    there = torch.from_numpy(disc(200, (130.4, 100), 40))[None, None]
    gone = torch.from_numpy(disc(200, (70, 100), 36))[None, None] * (1 - there)
    displacement = torch.cat((-60.4 * there, torch.zeros_like(there)), 1)
    edit = MotionEdit(displacement, 1 - gone, torch.full((1, 3, 200, 200), -1.0))
    result = compose(photo, window, edit, mask)[0]
    assert result.alpha is not None
    assert result.alpha[100, 50] == 0, "what was uncovered is as transparent as what is around"
    assert result.alpha[100, 130] == 255
    assert result.pixels[result.alpha > 4].min() > 250


def test_what_lies_below_transparency_outside_the_mask_stays_to_the_bit() -> None:
    pixels = noise(60, 90, 4)
    pixels[:, 30:, 3] = 0
    mask = np.zeros((60, 90), bool)
    mask[20:40, 15:50] = True
    photo = DragEditor(WarpModel()).edit(pixels, [((25, 30), (32, 30))], mask, seed=0).photos[0]
    np.testing.assert_array_equal(photo.pixels[~mask], pixels[..., :3][~mask])


def test_where_a_model_paints_no_transparency_it_is_said() -> None:
    pixels = noise(100, 150, 4)
    mask = np.ones((100, 150), bool)
    painted = DragEditor(Painter()).edit(pixels, [((50, 50), (70, 50))], mask, seed=0)
    assert "painter paints no transparency: in the mask it stays as it was" in painted.warnings
    pixels[..., 3] = 255
    assert not DragEditor(Painter()).edit(pixels, [((50, 50), (70, 50))], mask, seed=0).warnings


def test_what_was_painted_larger_than_the_photo_is_averaged_not_thinned_out() -> None:
    photo = Photo(np.zeros((64, 64, 3), np.uint8))
    window = Window((0, 0, 64, 64), 256, 256)
    lines = torch.full((1, 3, 256, 256), -1.0)
    lines[..., ::4] = 1.0  # a white line a photo pixel, a quarter of it wide
    patch = compose(photo, window, PaintedEdit(lines), np.ones((64, 64), bool))[0].pixels
    assert (np.abs(patch.astype(int) - 64) <= 1).all()


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_grey_photo_stays_grey(depth: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(depth).max, (64, 64), depth)
    photo = open_photo(pixels)
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    tinged = torch.tensor([0.5, 0.1, -0.4])[:, None, None].expand(3, 64, 64)[None]
    (result,) = compose(photo, Window((0, 0, 64, 64), 64, 64), PaintedEdit(tinged), mask)
    assert (result.pixels == result.pixels[..., :1]).all()
    assert (result.pixels[~mask] == photo.pixels[~mask]).all()
    assert (result.pixels[mask] != photo.pixels[mask]).any()


def test_an_answer_that_is_not_finite_is_no_picture() -> None:
    photo = Photo(np.zeros((64, 64, 3), np.uint8))
    broken = PaintedEdit(torch.full((1, 3, 64, 64), torch.nan))
    with pytest.raises(FloatingPointError, match="not finite; dtype float32 may help"):
        compose(photo, Window((0, 0, 64, 64), 64, 64), broken, np.ones((64, 64), bool))


def test_the_same_seed_gives_the_same_images_and_another_seed_others() -> None:
    editor, pixels = DragEditor(Painter()), noise(100, 150)
    first = editor.edit(pixels, ["70,50:80,50"], num_images=2, seed=7)
    again = editor.edit(pixels, ["70,50:80,50"], num_images=2, seed=7)
    other = editor.edit(pixels, ["70,50:80,50"], num_images=2)
    assert all(np.array_equal(a, b) for a, b in zip(first.images, again.images, strict=True))
    assert not np.array_equal(first.images[0], first.images[1])
    assert not np.array_equal(first.images[0], other.images[0])
    repeated = editor.run(pixels, EditRequest.from_json(other.request.to_json()))
    assert np.array_equal(repeated.images[1], other.images[1])
    assert repeated.seed == other.seed


def test_options_reach_the_model_in_its_windows_pixels() -> None:
    model = Painter()
    options = {"guidance": 2.5, "guidance_schedule": "linear", "noise_prior": "source", "temperature": 0.3}
    DragEditor(model).edit(noise(64, 64), ["20,30:40,30"], steps=2, num_images=3, seed=0, **options)
    (inputs,) = model.inputs
    assert {name: getattr(inputs, name) for name in options} == options
    assert (inputs.steps, inputs.num_images) == (2, 3)
    factor = model.encoded[0].shape[3] / 64
    assert factor > 1  # a small photo is enlarged, as far as the model wants
    assert torch.allclose((inputs.targets - inputs.handles)[0], torch.tensor([20 * factor, 0]), rtol=0.05)


def test_a_long_drag_is_split_and_every_stage_starts_from_the_last_result() -> None:
    model, calls = Painter(), []
    result = DragEditor(model).edit(
        noise(200, 200),
        ["60,100:120,100", "20,20:20,20"],
        max_step=25,
        num_images=2,
        seed=0,
        callback=lambda step, total: calls.append((step, total)),
    )
    assert len(model.inputs) == 1 + 2 * 2
    assert [inputs.num_images for inputs in model.inputs] == [2, 1, 1, 1, 1]
    assert calls == [(step, 15) for step in range(1, 16)]
    assert not any(torch.equal(model.encoded[0], later) for later in model.encoded[1:])
    assert torch.equal(model.inputs[0].targets, model.inputs[1].handles)
    assert len(result.images) == 2


def test_the_candidates_of_a_split_drag_are_the_same_however_many_there_are() -> None:
    pixels, drags = noise(200, 200), ["60,100:120,100"]
    one, three = (
        DragEditor(Painter()).edit(pixels, drags, max_step=25, num_images=count, seed=5).images
        for count in (1, 3)
    )
    assert np.array_equal(one[0], three[0])
    assert not np.array_equal(three[0], three[1])


class WarmPainter(Painter):
    """A Painter whose candidates after the first have a temperature of their own."""

    candidate_temperature = 6.0


@pytest.mark.parametrize(
    ("model", "given_temperature", "expected"),
    [
        (WarmPainter(), None, [None, None, 6.0, None, 6.0]),
        (WarmPainter(), 0.5, [0.5] * 5),
        (Painter(), None, [None] * 5),
        (Painter(), 0.5, [0.5] * 5),
    ],
)
def test_candidates_keep_their_temperature_through_a_split_drag(
    model: Painter, given_temperature: float | None, expected: list[float | None]
) -> None:
    """A model that is asked for one edit alone would give it the temperature of the first candidate."""
    options = {"max_step": 25, "num_images": 2, "temperature": given_temperature, "seed": 0}
    DragEditor(model).edit(noise(200, 200), ["60,100:120,100"], **options)
    assert [inputs.temperature for inputs in model.inputs] == expected


def test_the_built_in_model_has_a_temperature_for_candidates_and_the_warp_has_none() -> None:
    without_weights = BuiltinModel.__new__(BuiltinModel)
    assert isinstance(without_weights, CandidateModel)
    assert not isinstance(WarpModel(), CandidateModel)


class BatchPainter(Painter):
    """A Painter that answers several calls at once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def generate_batch(self, calls: list[Call]) -> list[PaintedEdit]:
        self.batches.append(len(calls))
        return [self.generate(*call) for call in calls]


def test_photos_edited_together_come_out_as_one_by_one_with_like_windows_in_one_pass() -> None:
    photos = [noise(100, 150, 3), noise(150, 100, 4), noise(100, 150, 3)[::-1], noise(100, 150, 3)[:, ::-1]]
    wide, tall = np.ones((100, 150), bool), np.ones((150, 100), bool)
    requests = [
        EditRequest((Drag((70, 50), (80, 50)),), wide, seed=1),
        EditRequest((Drag((50, 70), (50, 80)),), tall, num_images=2, seed=2),
        EditRequest((Drag((30, 50), (90, 50)),), wide, max_step=25, seed=3),
        EditRequest((Drag((40, 40), (70, 40)),), wide, seed=4),
    ]
    model = BatchPainter()
    editor, alone = DragEditor(model), DragEditor(Painter())
    session = editor.open(photos[3])
    results = editor.run_many([*photos[:3], session], requests)
    assert model.batches == [3], "the tall photo's window is another; the long drag goes on by itself"
    for photo, request, result in zip(photos, requests, results, strict=True):
        images = alone.run(photo, request).images
        assert all(np.array_equal(a, b) for a, b in zip(result.images, images, strict=True))
    assert session.accept() is results[3].photos[0]

    model.batches.clear()
    editor.run_many(photos, requests, batch=2)
    assert model.batches == [2], "the third one is left alone"
    assert len(alone.run_many(photos, requests)) == 4, "a model that takes one at a time"


def test_photos_edited_together_are_checked_before_any_is_edited() -> None:
    model = BatchPainter()
    requests = [EditRequest((Drag((20, 30), (x, 30)),), seed=0) for x in (40, 400)]
    with pytest.raises(DragError, match="400"):
        DragEditor(model).run_many([noise(64, 64)] * 2, requests)
    assert model.inputs == []
    with pytest.raises(ValueError, match="batch is 0"):
        DragEditor(model).run_many([noise(64, 64)], requests[:1], batch=0)
    told: list[int] = []
    with pytest.raises(EditCancelled):
        DragEditor(model).run_many(
            [noise(64, 64)] * 2, requests[:1] * 2, [lambda step, total: told.append(step), lambda *_: False]
        )
    assert told == [1, 2, 3]


def test_auxiliary_pairs_are_given_to_the_model_but_not_to_the_request() -> None:
    model = Painter()
    result = DragEditor(model).edit(noise(200, 200), ["60,100:80,100"], augment=6, seed=0)
    assert len(model.inputs[0].handles) == 7
    assert len(result.request.drags) == 1


def test_a_callback_stops_the_edit() -> None:
    steps: list[int] = []

    def stop(step: int, total: int) -> bool:
        steps.append(step)
        return step < 2

    with pytest.raises(EditCancelled):
        DragEditor(Painter()).edit(noise(64, 64), ["20,30:40,30"], callback=stop)
    assert steps == [1, 2]


def test_a_target_outside_widens_the_mask_and_a_handle_outside_is_kept() -> None:
    mask = np.zeros((200, 200), bool)
    mask[80:120, 80:120] = True
    model = Painter()
    result = DragEditor(model).edit(noise(200, 200), ["100,100:140,100", "40,60:90,90"], mask, seed=0)
    assert result.mask[100, 140]
    assert not result.mask[60, 40]
    assert result.warnings == (
        "mask widened to hold the target of drag 100,100:140,100",
        "handle of drag 40,60:90,90 lies outside the mask; kept as a constraint",
    )
    assert len(model.inputs[0].handles) == 2


def test_a_handle_that_the_widened_mask_holds_is_not_said_to_lie_outside() -> None:
    mask = np.zeros((200, 200), bool)
    mask[150:, 150:] = True
    result = DragEditor(Painter()).edit(noise(200, 200), ["50,50:120,60"], mask, seed=0)
    assert result.mask[50, 50]
    assert result.warnings == ("mask widened to hold the target of drag 50,50:120,60",)


def test_drags_that_end_at_one_place_are_told() -> None:
    result = DragEditor(Painter()).edit(noise(200, 200), ["50,50:90,60", "80,80:90,60.2", "9,9:9,9"], seed=0)
    said = "drags 50,50:90,60 and 80,80:90,60.2 end at one place, where only one of them can"
    assert result.warnings == (said,)


def test_guidance_is_told_where_a_model_is_made_for_none() -> None:
    for guidance, said in ((1.0, ()), (3.0, ("painter is made for guidance 1; at 3 things may tear",))):
        result = DragEditor(Painter()).edit(noise(64, 64), ["20,30:40,30"], seed=0, guidance=guidance)
        assert result.warnings == said
    assert not DragEditor(WarpModel()).edit(noise(64, 64), ["20,30:40,30"], guidance=3.0).warnings  # has none


@pytest.mark.parametrize(("drag", "says"), [("100,100:140,100", "target"), ("40,60:90,90", "handle")])
def test_strict_refuses_both(drag: str, says: str) -> None:
    mask = np.zeros((200, 200), bool)
    mask[80:120, 80:120] = True
    with pytest.raises(MaskError, match=f"{says} of drag {drag} lies outside the mask"):
        DragEditor(Painter()).edit(noise(200, 200), [drag], mask, strict=True)


def test_far_pins_do_not_widen_the_window() -> None:
    alone, pinned = Painter(), Painter()
    pixels = noise(1000, 1000)
    DragEditor(alone).edit(pixels, ["100,100:120,100"], seed=0)
    DragEditor(pinned).edit(pixels, ["100,100:120,100", "990,990:990,990"], seed=0)
    assert torch.equal(alone.encoded[0], pinned.encoded[0])
    assert torch.equal(pinned.inputs[0].handles[1], pinned.inputs[0].targets[1])


def test_a_session_looks_at_a_window_once() -> None:
    model = Painter()
    session = DragEditor(model).open(noise(300, 300))
    mask = np.zeros((300, 300), bool)
    mask[50:150, 50:150] = True
    session.edit(["100,100:120,100"], mask, seed=0)
    session.edit(["100,100:110,120", "70,70:70,70"], mask, seed=1)
    assert len(model.encoded) == 1
    session.accept()
    session.edit(["100,100:120,100"], mask, seed=0)
    assert len(model.encoded) == 2


def test_rounds_are_accepted_undone_and_redone() -> None:
    pixels = noise(100, 100)
    session = DragEditor(Painter()).open(pixels)
    with pytest.raises(ValueError, match="nothing to accept"):
        session.accept()
    with pytest.raises(ValueError, match="nothing to undo"):
        session.undo()
    first = session.edit(["40,40:50,40"], num_images=2, seed=0)
    with pytest.raises(ValueError, match="no candidate 2"):
        session.accept(2)
    assert session.accept(1) is first.photos[1]
    second = session.edit(["60,60:50,60"], seed=0)
    session.accept()
    assert session.undo() is first.photos[1]
    assert np.array_equal(session.undo().pixels, pixels)
    assert session.redo() is first.photos[1]
    assert session.redo() is second.photos[0]
    with pytest.raises(ValueError, match="nothing to redo"):
        session.redo()


@pytest.mark.parametrize(("channels", "kept"), [(3, 4), (4, 3)])
def test_transparency_counts_in_what_is_kept_for_undoing(
    channels: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightningdrag.session.HISTORY_BYTES", 12 * 64 * 64)
    session = DragEditor(Painter()).open(noise(64, 64, channels))
    for seed in range(6):
        session.edit(["20,30:40,30"], seed=seed)
        session.accept()
    for _ in range(kept - 1):
        session.undo()
    with pytest.raises(ValueError, match="nothing to undo"):
        session.undo()


def test_a_preview_is_the_warp_of_the_whole_photo() -> None:
    pixels = gradient(300, 400)
    image = DragEditor(Painter()).open(pixels).preview(["200,150:240,150"])
    assert image.size == (400, 300)
    shown = np.asarray(image).astype(int)
    assert np.abs(shown[150, 240] - pixels[150, 200]).max() <= 3
    assert np.array_equal(shown[:50], pixels[:50])
    with pytest.raises(DragError, match="outside the photo"):
        DragEditor(Painter()).open(pixels).preview(["200,150:440,150"])


def test_a_result_is_saved_with_what_the_photo_carried(tmp_path: Path) -> None:
    photo = dataclasses.replace(open_photo(noise(64, 64, 3, np.uint16)), warnings=("said",))
    result = DragEditor(WarpModel()).edit(photo, ["20,30:40,30"], seed=0)
    assert result.warnings == ("said",)
    assert result.save(tmp_path / "out.png") == []
    assert np.array_equal(open_photo(tmp_path / "out.png").pixels, result.photos[0].pixels)
    with pytest.raises(PhotoError, match="photos are written as"):
        result.save(tmp_path / "out.doc")


def test_wrong_requests_are_refused_before_the_model_runs() -> None:
    model = Painter()
    editor = DragEditor(model)
    with pytest.raises(OptionError, match="steps is 0"):
        editor.edit(noise(64, 64), ["20,30:40,30"], steps=0)
    with pytest.raises(DragError, match="outside the photo of 64x64"):
        editor.edit(noise(64, 64), ["20,30:80,30"])
    with pytest.raises(MaskError, match="mask is 32x64 and the photo 64x64"):
        editor.edit(noise(64, 64), ["20,30:40,30"], np.ones((64, 32), bool))
    assert model.encoded == []


def test_importing_the_package_is_quick_and_needs_no_torch() -> None:
    code = "import lightningdrag, sys; lightningdrag.Drag; assert not {'torch', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(lightningdrag.__all__) <= set(dir(lightningdrag))
    with pytest.raises(AttributeError, match="nothing"):
        _ = lightningdrag.nothing
