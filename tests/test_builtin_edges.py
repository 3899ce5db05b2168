"""A thing ends in a large photo where the photo's own pixels say so, though its window is coarse."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import torch
from torch import Tensor

from lightningdrag.compose import compose
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
    """A thing that stays, before a ground that is painted white."""
    large = disc(SIZE * SCALE)
    window, share = window_of(large)
    white = torch.ones_like(window)
    edit = MotionEdit(torch.zeros_like(window[:, :2]), share, white, edges=by_colour(window, share))
    place = Window((0, 0, SIZE * SCALE, SIZE * SCALE), SIZE, SIZE)
    truth = 255 + large[..., None] * (picture(large).astype(float) - 255)
    rim = (cv2.dilate(large, np.ones((9, 9))) - cv2.erode(large, np.ones((9, 9)))) > 0.01

    def error(edit: MotionEdit) -> float:
        (result,) = compose(Photo(picture(large)), place, edit, np.ones(large.shape, bool))
        return float(np.abs(result.pixels - truth)[rim].mean())

    assert error(edit) < 0.4 * error(dataclasses.replace(edit, edges=None))
