"""What a machine can do at most, measured with the four things that models spend their time on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Ceiling:
    """The fastest that plain torch calls run here, one after the other.

    Attributes:
        matmul: FLOP/s of a product of two 2048 x 2048 matrices.
        convolution: FLOP/s of a 3x3 convolution, 320 channels to 320, 64x64, channels last.
        attention: FLOP/s of scaled dot-product attention, 8 heads of 40, 1024 queries, 8192 keys.
        copy: bytes/s read and written by copying 64 MiB.
    """

    matmul: float
    convolution: float
    attention: float
    copy: float

    def floor(self, operations: dict[str, int]) -> float:
        """Seconds that FLOPs by kind (``matmul``, ``convolution``, ``attention``) take at these rates."""
        return sum(count / getattr(self, kind) for kind, count in operations.items())


@torch.inference_mode()
def measure_ceiling(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> Ceiling:
    """Measure for a second or two; the median of ``repeats`` runs each."""

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device).to(dtype)

    matrix = draw(2048, 2048)
    features = draw(2, 320, 64, 64).to(memory_format=torch.channels_last)
    kernel = draw(320, 320, 3, 3).to(memory_format=torch.channels_last)
    query, keys = draw(1, 8, 1024, 40), draw(1, 8, 8192, 40)
    source = torch.zeros(2**26, dtype=torch.uint8, device=device)
    copy = torch.zeros_like(source)

    def rate(amount: float, call: Callable[[], object]) -> float:
        return amount / median_seconds(call, device, repeats)

    return Ceiling(
        matmul=rate(2 * 2048**3, lambda: matrix @ matrix),
        convolution=rate(2 * features.numel() * 320 * 9, lambda: F.conv2d(features, kernel, padding=1)),
        attention=rate(
            4 * query.numel() * keys.shape[2], lambda: F.scaled_dot_product_attention(query, keys, keys)
        ),
        copy=rate(2 * source.numel(), lambda: copy.copy_(source)),
    )


def median_seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median wall time of a call, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def synchronize(device: torch.device) -> None:
    """Wait for what a device still computes; a CPU never does."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
