"""Models that paint at once what can be told apart, and pictures for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightningdrag import EditCancelled
from lightningdrag.models.protocol import (
    DragInputs,
    Encoded,
    Followers,
    PaintedEdit,
)


class Painter:
    """A DragModel that paints noise over the whole window, unlike the source everywhere; it counts."""

    name = "painter"
    multiple = 16
    working_area = 128 * 128
    max_upscale = 2.0
    default_steps = 3
    default_guidance = 1.0

    def __init__(self) -> None:
        self.encoded: list[Tensor] = []
        self.inputs: list[DragInputs] = []

    def encode(self, window: Tensor) -> Encoded:
        assert window.shape[2] % self.multiple == window.shape[3] % self.multiple == 0
        assert -1 <= window.min() <= window.max() <= 1
        self.encoded.append(window)
        return Encoded(window)

    def generate(self, encoded: Encoded, inputs: DragInputs, generator: torch.Generator) -> PaintedEdit:
        assert inputs.mask.shape == encoded.window.shape[2:]
        self.inputs.append(inputs)
        steps = inputs.steps or self.default_steps
        for step in range(1, steps + 1):
            if inputs.callback is not None and inputs.callback(step, steps) is False:
                raise EditCancelled
        shape = (inputs.num_images, *encoded.window.shape[1:])
        return PaintedEdit(torch.rand(shape, generator=generator) * 2 - 1)


class Finder(Painter):
    """One that finds the left half of what it looks at, whatever is pulled."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms: list[Tensor] = []

    def followers(self, encoded: Encoded, inputs: DragInputs) -> list[Followers]:
        assert inputs.mask.shape == encoded.window.shape[2:]
        self.rooms.append(inputs.mask)
        found = torch.zeros_like(inputs.mask)
        found[:, : found.shape[1] // 2] = True
        return [Followers(found, torch.tensor([[20.0, 90.0], [1.0, 30.0], [110.0, 60.0]]))]


def noise(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def disc(side: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return (np.hypot(x - centre[0], y - centre[1]) < radius).astype(np.float32)


def gradient(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.dstack((x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height))).astype(np.uint8)
