"""A thing ends in a large photo where the photo's own pixels say so, though its window is coarse."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lightningdrag import Drag, DragEditor
from lightningdrag.compose import compose
from lightningdrag.models.builtin import outlines
from lightningdrag.models.builtin.edges import by_colour
from lightningdrag.models.protocol import MotionEdit
from lightningdrag.photo import Photo
from lightningdrag.window import Window

SIZE, SCALE = 48, 8
THING, GROUND = np.array([230.0, 90.0, 20.0]), np.array([60.0, 90.0, 120.0])


def disc(size: int) -> np.ndarray:
    """Share of a disc, ``(size, size)`` float32, soft over a pixel."""
    y, x = np.mgrid[:size, :size] + 0.5
    away = np.hypot(x - 0.52 * size, y - 0.47 * size)
    return np.clip(0.3 * size - away + 0.5, 0, 1).astype(np.float32)


def picture(share: np.ndarray, thing: np.ndarray = THING) -> np.ndarray:
    """``(h, w, 3)`` uint8, with some noise."""
    noise = np.random.default_rng(0).normal(0, 2, (*share.shape, 3))
    return (GROUND + share[..., None] * (thing - GROUND) + noise).clip(0, 255).astype(np.uint8)


def window_of(share: np.ndarray, thing: np.ndarray = THING) -> tuple[Tensor, Tensor]:
    """A window of a large picture, ``(1, 3, SIZE, SIZE)`` in [-1, 1], and the share there."""
    small = cv2.resize(picture(share, thing), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    part = cv2.resize(share, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small / 127.5 - 1).float().permute(2, 0, 1)[None], torch.from_numpy(part)[
        None, None
    ]


def fixed(large: np.ndarray) -> tuple[Window, MotionEdit]:
    """A window of a large picture in which a thing stays, before a ground that is painted white."""
    window, share = window_of(large)
    edit = MotionEdit(
        torch.zeros_like(window[:, :2]), share, torch.ones_like(window), edges=by_colour(window, share)
    )
    return Window((0, 0, SIZE * SCALE, SIZE * SCALE), SIZE, SIZE), edit


def test_a_share_follows_from_colours_at_an_edge_and_nothing_is_said_elsewhere() -> None:
    window, share = window_of(disc(SIZE * SCALE))
    model = by_colour(window, share)
    trust = model[:, 4:]
    at_edge = (share > 0.1) & (share < 0.9)
    assert (trust[at_edge] > 0.85).all()
    told = (model[:, :3] * window).sum(1, keepdim=True) + model[:, 3:4]
    assert (told - share)[at_edge].abs().max() < 0.1
    assert not trust[..., :6, :].any()
    assert not trust[..., 20:26, 22:28].any()


def test_where_both_sides_look_alike_colours_are_not_believed() -> None:
    window, share = window_of(disc(SIZE * SCALE), thing=GROUND)
    assert by_colour(window, share)[:, 4].max() < 0.3


def test_without_an_edge_there_is_no_model() -> None:
    window, share = window_of(disc(SIZE * SCALE))
    assert not by_colour(window, torch.ones_like(share)).any()


def test_a_large_photo_shows_the_edge_as_sharp_as_it_is() -> None:
    large = disc(SIZE * SCALE)
    place, edit = fixed(large)
    truth = 255 + large[..., None] * (picture(large).astype(float) - 255)
    rim = (cv2.dilate(large, np.ones((9, 9))) - cv2.erode(large, np.ones((9, 9)))) > 0.01

    def error(edit: MotionEdit) -> float:
        (result,) = compose(Photo(picture(large)), place, edit, np.ones(large.shape, bool))
        return float(np.abs(result.pixels - truth)[rim].mean())

    assert error(edit) < 0.4 * error(dataclasses.replace(edit, edges=None))


def test_sixteen_bits_a_channel_show_the_same_edge_as_eight() -> None:
    large = disc(SIZE * SCALE)
    window, edit = fixed(large)
    pixels, everywhere = picture(large), np.ones(large.shape, bool)
    (eight,) = compose(Photo(pixels), window, edit, everywhere)
    (sixteen,) = compose(Photo(pixels.astype(np.uint16) * 257), window, edit, everywhere)
    assert np.abs(sixteen.pixels / 257 - eight.pixels).max() < 1.5


def test_transparent_pixels_are_not_taken_for_the_thing_though_they_have_its_colour() -> None:
    large = disc(SIZE * SCALE)
    window, edit = fixed(large)
    opaque = (large > 0.5).astype(np.uint8) * 255
    thing = np.broadcast_to(THING.astype(np.uint8), (*large.shape, 3)).copy()
    (result,) = compose(Photo(thing, alpha=opaque), window, edit, np.ones(large.shape, bool))
    beside = (cv2.dilate(large, np.ones((5, 5))) > 0.5) & (large < 0.01)
    assert result.alpha is not None
    told = dataclasses.replace(edit, edges=None)
    (window_alone,) = compose(Photo(thing, alpha=opaque), window, told, np.ones(large.shape, bool))
    assert window_alone.alpha is not None
    assert result.alpha[beside].mean() >= window_alone.alpha[beside].mean()


def test_a_thing_that_one_drag_moves_in_a_large_photo_has_the_photo_s_edge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side, by = 1200, 120
    source, truth = picture(disc(side)), picture(np.roll(disc(side), by, 1)).astype(float)
    share = np.roll(disc(side), by, 1)
    rim = (cv2.dilate(share, np.ones((15, 15))) - cv2.erode(share, np.ones((15, 15)))) > 0.01
    rim[:, : side // 2 + by + 100] = False  # its front, away from what it uncovers
    editor = DragEditor.from_pretrained("builtin", device="cpu")

    def error() -> float:
        at = (0.52 * side, 0.47 * side)
        result = editor.edit(Image.fromarray(source), [Drag(at, (at[0] + by, at[1]))], seed=0)
        return float(np.abs(np.asarray(result.image) - truth)[rim].mean())

    with_edges = error()
    monkeypatch.setattr(outlines, "by_colour", lambda picture, share: picture.new_zeros(1, 5, 1, 1))
    assert with_edges < 0.6 * error()
