"""Point maps, and the convolutional pyramid that turns them into point embeddings.

Section "Points" of LightningDrag (arXiv 2405.13722): two maps at image resolution say where every
handle and every target is; the pyramid brings them to the resolutions of the denoiser's attentions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_LEVELS = 4
"""Levels of the pyramid: 1/8, 1/16, 1/32 and 1/64 of the image."""

PointLevels = list[tuple[Tensor, Tensor]]
"""(handle embedding, target embedding) of each level, each ``(B, C, h, w)``."""


def point_maps(
    handles: Tensor, targets: Tensor, height: int, width: int, valid: Tensor | None = None
) -> Tensor:
    """Write the k-th pair (k = 1..N) as the value k at its handle's and at its target's pixel.

    A pixel holds one value: of several points on one pixel the last is kept. Callers that cannot
    afford that move the points apart first (:func:`separate_points`).

    Args:
        handles, targets: ``(B, N, 2)`` (x, y) in pixels, rounded here to the nearest pixel. A point
            that falls outside the map is left out.
        height, width: size of the maps in pixels.
        valid: ``(B, N)`` bool, False for the padding of a batch with fewer points.

    Returns:
        ``(B, 2, height, width)`` float32: the handle map, then the target map.
    """
    points = (torch.stack((handles, targets), dim=1).float() + 0.5).floor()
    x, y = points.unbind(-1)
    present = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if valid is not None:
        present &= valid.bool()[:, None]
    numbers = torch.arange(1, points.shape[2] + 1, device=points.device, dtype=torch.float32)
    pixels = torch.where(present, y * width + x, 0).long()
    maps = torch.zeros(len(points), 2, height * width, device=points.device)
    maps.scatter_reduce_(-1, pixels, numbers * present, reduce="amax")
    return maps.unflatten(-1, (height, width))


def separate_points(points: Tensor, height: int, width: int) -> Tensor:
    """Give every point a pixel of its own, so that none erases another in its map.

    Args:
        points: ``(N, 2)`` (x, y), all inside the map.
        height, width: size of the map in pixels.

    Returns:
        ``(N, 2)`` float32: the points, rounded; one whose pixel is taken stands on the nearest free pixel.
    """
    pixels = (points.detach().float().cpu() + 0.5).floor()
    taken = torch.zeros(height, width, dtype=torch.bool)
    for pixel in pixels:
        x, y = (int(value) for value in pixel)
        if taken[y, x]:
            rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            distance = ((rows - y) ** 2 + (columns - x) ** 2).masked_fill(taken, 2 * (height + width) ** 2)
            y, x = divmod(int(distance.argmin()), width)
            pixel.copy_(torch.tensor([x, y]))
        taken[y, x] = True
    return pixels


class DownsampleBlock(nn.Module):
    """Halve the resolution and double the channels: conv, SiLU, conv, SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv2(F.silu(self.conv1(x))))


class PointEmbedding(nn.Module):
    """The pyramid over the point maps; every convolution is bias-free, so empty maps embed as zero.

    Args:
        base_channels: e, the width; 16 in the released model. Level i (resolution 1/8 * 2^-i) has
            8e * 2^i channels for the handles and as many for the targets.
        num_levels: how many levels to make, from 1/8 downwards; 4 in the released model.
    """

    def __init__(self, base_channels: int = 16, num_levels: int = NUM_LEVELS) -> None:
        super().__init__()
        self.base_channels = base_channels
        self.num_levels = num_levels
        self.conv_in = nn.Conv2d(2, 2 * base_channels, 3, padding=1, bias=False)
        widths = [2 * base_channels * 2**i for i in range(2 + num_levels)]
        self.downsample_blocks_vae = nn.ModuleList(DownsampleBlock(width) for width in widths[:3])
        self.downsample_blocks_unet = nn.ModuleList(DownsampleBlock(width) for width in widths[3:])

    @property
    def channels(self) -> list[int]:
        """Channels of one embedding (handle or target) at each level."""
        return [8 * self.base_channels * 2**i for i in range(self.num_levels)]

    def forward(self, maps: Tensor) -> PointLevels:
        """Embed point maps.

        Args:
            maps: ``(B, 2, H, W)`` from :func:`point_maps`; H and W multiples of 64.

        Returns:
            (handle embedding, target embedding) at 1/8, 1/16, 1/32 and 1/64 of the image, each
            ``(B, 8e * 2^i, H / 2^(3+i), W / 2^(3+i))``.
        """
        x = self.conv_in(maps)
        for block in self.downsample_blocks_vae:
            x = block(x)
        levels = [x]
        for block in self.downsample_blocks_unet:
            levels.append(block(levels[-1]))
        return [(handle, target) for handle, target in (level.chunk(2, dim=1) for level in levels)]
