"""The most and the least around each pixel: exact, and nothing beyond the border counts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lightningdrag.models.builtin.morphology import grown, least_around, most_around, shrunk


@pytest.mark.parametrize("pixels", [0, 1, 2, 4, 7, 12, 24, 72])
def test_the_most_around_is_what_pooling_gives(pixels: int) -> None:
    x = torch.randn(2, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    largest = x
    for _ in range(pixels):
        largest = F.max_pool2d(largest, 3, stride=1, padding=1)
    assert (most_around(x, pixels) == largest).all()
    assert (least_around(-x, pixels) == -largest).all()


def test_a_dot_grows_to_a_square_and_shrinks_back() -> None:
    dot = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    dot[..., 4, 4] = True
    assert grown(dot, 2).sum() == 25
    assert (shrunk(grown(dot, 2), 2) == dot).all()
    assert not shrunk(torch.ones(4, 4, dtype=torch.bool), 1)[0].any()  # beyond the border is none
