"""The points as the SD 1.5 denoiser sees them: the pyramid, projected for each of its self-attentions."""

from __future__ import annotations

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from lightningdrag.models.point_embedding import PointEmbedding


class PointProjection(nn.Module):
    """LayerNorm, then a bias-free Linear that starts at zero: an untrained model ignores the points."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_channels)
        self.proj = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, embedding: Tensor) -> Tensor:
        """``(B, in_channels, h, w)`` -> ``(B, h * w, out_channels)``, tokens in row-major order."""
        return self.proj(self.norm(embedding.flatten(2).transpose(1, 2)))


class PointEncoder(ModelMixin, ConfigMixin):
    """Point embedding and projections.

    Args:
        base_channels: e of :class:`PointEmbedding`.
        levels: for each self-attention of the denoiser its level: 0 is 1/8 of the image, 3 is 1/64.
        widths: for each self-attention its channels.
    """

    @register_to_config
    def __init__(self, base_channels: int, levels: list[int], widths: list[int]) -> None:
        super().__init__()
        self.embedding = PointEmbedding(base_channels)
        self.projections = nn.ModuleList(
            PointProjection(self.embedding.channels[level], width)
            for level, width in zip(levels, widths, strict=True)
        )

    def forward(self, maps: Tensor) -> list[tuple[Tensor, Tensor]]:
        """``(B, 2, H, W)`` point maps -> (E_handle, E_target) per self-attention, ``(B, tokens, width)``."""
        pyramid = self.embedding(maps)
        return [
            (projection(pyramid[level][0]), projection(pyramid[level][1]))
            for level, projection in zip(self.config.levels, self.projections, strict=True)
        ]
