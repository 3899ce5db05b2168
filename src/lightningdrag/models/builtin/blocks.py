"""The few blocks that the built-in model is made of."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightningdrag.models.point_attention import multi_head_attention, point_following_attention

HEAD_CHANNELS = 32

M = TypeVar("M", bound=nn.Module)


class PixelNorm(nn.Module):
    """Layer norm over the channels of each pixel, so that nothing depends on the window's size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        channels = (x.shape[1],)
        return F.layer_norm(x.permute(0, 2, 3, 1), channels, self.weight, None, 1e-5).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, twice; an embedding of the noise level scales and shifts the second norm."""

    def __init__(self, inputs: int, outputs: int, embedding: int | None = None) -> None:
        super().__init__()
        self.norm1 = PixelNorm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = PixelNorm(outputs)
        self.conv2 = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.modulation = zeroed(nn.Linear(embedding, 2 * outputs)) if embedding else None
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class Transformer(nn.Module):
    """Point-following self-attention and a feed-forward layer.

    With h the normalised input and r a reference's (the appearance encoder's at the same block),

        Q = Wq h + E_target    K = [Wk h + E_target ; Wk r + E_handle]    V = [Wv h ; Wv r]

    (LightningDrag, arXiv 2405.13722), here with rotary positions on Q and K. Without a reference it
    is plain self-attention.
    """

    def __init__(self, channels: int, point_channels: int | None = None) -> None:
        super().__init__()
        self.norm1 = PixelNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.out = zeroed(nn.Linear(channels, channels))
        self.points = zeroed(nn.Linear(point_channels, channels, bias=False)) if point_channels else None
        self.norm2 = PixelNorm(channels)
        self.feed_forward = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1), nn.SiLU(), zeroed(nn.Conv2d(2 * channels, channels, 1))
        )

    def forward(
        self, x: Tensor, reference: Tensor | None = None, points: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x: ``(B, C, h, w)``.
            reference: ``(B, C, h, w)`` normalised hidden states of the reference.
            points: (handle, target) point embeddings, each ``(B, P, h, w)``.
        """
        height, width = x.shape[-2:]
        h = tokens(self.norm1(x))
        query, key, value = self.query(h), self.key(h), self.value(h)
        heads = query.shape[-1] // HEAD_CHANNELS
        angles = rotary_angles(height, width, x.device)
        if reference is None:
            attended = multi_head_attention(query, key, value, heads, angles)
        else:
            r = tokens(reference)
            handle, target = self.project_points(points)
            attended = point_following_attention(
                query, key, value, self.key(r), self.value(r), handle, target, heads, angles
            )
        attended = self.out(attended)
        x = x + attended.transpose(1, 2).unflatten(2, (height, width))
        return x + self.feed_forward(self.norm2(x))

    def project_points(self, points: tuple[Tensor, Tensor] | None) -> tuple[Tensor | float, Tensor | float]:
        """E_handle and E_target, or zeros where there are no points to follow."""
        if points is None or self.points is None:
            return 0.0, 0.0
        handle, target = points
        return self.points(tokens(handle)), self.points(tokens(target))


class Layer(nn.Module):
    """A residual block, then a transformer; the identity until it has learned something."""

    def __init__(
        self, channels: int, embedding: int | None = None, point_channels: int | None = None
    ) -> None:
        super().__init__()
        self.block = ResidualBlock(channels, channels, embedding)
        self.attention = Transformer(channels, point_channels)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor | None = None,
        reference: Tensor | None = None,
        points: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        return self.attention(self.block(x, embedding), reference, points)


def zeroed(module: M) -> M:
    """Start a layer at zero, so that its block begins as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def tokens(x: Tensor) -> Tensor:
    """``(B, C, h, w)`` to ``(B, h * w, C)``, in row-major order."""
    return x.flatten(2).transpose(1, 2)


def rotary_angles(height: int, width: int, device: torch.device) -> Tensor:
    """Angles ``(h * w, HEAD_CHANNELS / 2)``: half of the pairs turn with x, half with y.

    Frequencies fall geometrically from a period of 6 cells to one of 200 cells.
    """
    count = HEAD_CHANNELS // 4
    steps = torch.arange(count, device=device, dtype=torch.float32) / (count - 1)
    frequency = (2 * math.pi / 6) * (6 / 200) ** steps
    y = torch.arange(height, device=device, dtype=torch.float32)[:, None, None] * frequency
    x = torch.arange(width, device=device, dtype=torch.float32)[None, :, None] * frequency
    angles = torch.cat((x.expand(height, -1, -1), y.expand(-1, width, -1)), -1)
    return angles.flatten(0, 1)


def noise_level_embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoidal features ``(B, channels)`` of t ``(B,)`` in [0, 1]."""
    frequency = torch.exp(torch.linspace(0, math.log(100), channels // 2, device=t.device))
    angle = t[:, None] * frequency * math.pi
    return torch.cat((angle.cos(), angle.sin()), -1)
