"""Randomness that belongs to samples, not to processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Draws:
    """What is drawn at random for a batch, each sample from a generator of its own.

    The draws follow from the seed and the sample's number alone. So a run gives the same curve however its
    batches are split over processes and accumulated, and goes on after a stop without any saved state.

    Args:
        seed: the run's.
        numbers: of the batch's samples, counted from the start of the run.
        device: where the draws go; they are made on the CPU, equal for every device.
    """

    def __init__(self, seed: int, numbers: Sequence[int], device: torch.device) -> None:
        self.device = device
        self.generators = [
            torch.Generator().manual_seed(
                int(np.random.SeedSequence((seed, n)).generate_state(1, np.uint64)[0])
            )
            for n in numbers
        ]

    def uniform(self, *shape: int) -> Tensor:
        """``(B, *shape)`` in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.generators]).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """``(B, *shape)``, standard normal."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)

    def integers(self, high: int) -> Tensor:
        """``(B,)`` int64, each of 0..high - 1 equally likely."""
        drawn = [torch.randint(high, (), generator=g) for g in self.generators]
        return torch.stack(drawn).to(self.device)
