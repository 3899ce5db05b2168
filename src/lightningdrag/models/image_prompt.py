"""The image prompt: what CLIP sees in the source, as tokens for the cross-attentions (IP-Adapter)."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from PIL import Image
from torch import Tensor, nn

from lightningdrag.models.attention import KeyValue

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(image: Tensor, size: int = 224) -> Tensor:
    """The standard CLIP preprocessing: shortest edge to ``size`` (bicubic), centre crop, normalised.

    Args:
        image: ``(1, 3, H, W)`` float in [-1, 1]; rounded here to the 8-bit image that CLIP knows.
        size: the side that the CLIP model takes, in pixels.

    Returns:
        ``(1, 3, size, size)`` float32 on the CPU.
    """
    levels = ((image[0].float().cpu() + 1) * 127.5).round().clamp(0, 255).byte()
    picture = Image.fromarray(levels.permute(1, 2, 0).numpy())
    shortest = min(picture.size)
    resized = picture.resize(
        (size * picture.width // shortest, size * picture.height // shortest), Image.Resampling.BICUBIC
    )
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    crop = np.asarray(resized.crop((left, top, left + size, top + size)))
    pixels = torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    return ((pixels - mean[:, None, None]) / std[:, None, None])[None]


class ImageTokens(nn.Module):
    """A CLIP image embedding -> Linear -> a few tokens -> LayerNorm."""

    def __init__(self, embedding_dim: int, token_dim: int, num_tokens: int) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.proj = nn.Linear(embedding_dim, num_tokens * token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """``(B, embedding_dim)`` -> ``(B, num_tokens, token_dim)``."""
        return self.norm(self.proj(embedding).unflatten(-1, (self.num_tokens, -1)))


class ImageKeyValue(nn.Module):
    """The image prompt's keys and values for one cross-attention."""

    def __init__(self, token_dim: int, width: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(token_dim, width, bias=False)
        self.to_v_ip = nn.Linear(token_dim, width, bias=False)

    def forward(self, tokens: Tensor) -> KeyValue:
        """``(B, num_tokens, token_dim)`` -> keys and values, ``(B, num_tokens, width)``."""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class ImagePrompt(ModelMixin, ConfigMixin):
    """IP-Adapter's own weights.

    Args:
        embedding_dim: length of the CLIP image embedding (1024 for ViT-H).
        token_dim: channels of a context token (768 in SD 1.5).
        widths: for each cross-attention of the denoiser its channels.
        num_tokens: tokens that stand for the image.
    """

    @register_to_config
    def __init__(self, embedding_dim: int, token_dim: int, widths: list[int], num_tokens: int = 4) -> None:
        super().__init__()
        self.tokens = ImageTokens(embedding_dim, token_dim, num_tokens)
        self.attentions = nn.ModuleList(ImageKeyValue(token_dim, width) for width in widths)

    def forward(self, embedding: Tensor) -> tuple[Tensor, list[KeyValue]]:
        """``(B, embedding_dim)`` -> the tokens, and the keys and values of each cross-attention."""
        tokens = self.tokens(embedding)
        return tokens, [attention(tokens) for attention in self.attentions]
