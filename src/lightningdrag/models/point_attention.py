"""Point-following attention (LightningDrag, arXiv 2405.13722), as functions of tensors.

The SD 1.5 denoiser and the built-in model share it; neither diffusers nor any weights are needed here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def multi_head_attention(
    query: Tensor, key: Tensor, value: Tensor, num_heads: int, angles: Tensor | None = None
) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V over heads; ``(B, L, C)``, ``(B or 1, M, C)`` twice -> ``(B, L, C)``.

    Args:
        angles: ``(L, C / num_heads / 2)`` of the queries' positions, for rotary position embedding
            (arXiv 2104.09864) of queries and keys. M is then a multiple of L: the keys are one or more
            maps of the same grid, one behind the other. None leaves positions out.
    """

    def heads(x: Tensor) -> Tensor:
        return x.expand(len(query), -1, -1).unflatten(-1, (num_heads, -1)).transpose(1, 2)

    q, k = heads(query), heads(key)
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles.repeat(k.shape[2] // len(angles), 1))
    attended = F.scaled_dot_product_attention(q, k, heads(value))
    return attended.transpose(1, 2).flatten(2)


def point_following_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reference_key: Tensor,
    reference_value: Tensor,
    handle_embedding: Tensor | float,
    target_embedding: Tensor | float,
    num_heads: int,
    angles: Tensor | None = None,
) -> Tensor:
    """Self-attention that also sees the source, matched by points.

    A token at a target carries its pair's target embedding in the query, the source's token at the
    handle carries the handle embedding in the key: training makes the two find each other.

    Args:
        query, key, value: ``(B, L, C)``, Wq h, Wk h, Wv h.
        reference_key, reference_value: ``(B or 1, M, C)``, Wk r, Wv r.
        handle_embedding: ``(B or 1, M, C)``, or 0 for no points.
        target_embedding: ``(B or 1, L, C)``, or 0 for no points.
        num_heads: heads that C is split into.
        angles: see :func:`multi_head_attention`; needs M = L.

    Returns:
        ``(B, L, C)``, before the output projection.
    """
    reference_key = reference_key + handle_embedding
    keys = torch.cat((key + target_embedding, reference_key.expand(len(key), -1, -1)), dim=1)
    values = torch.cat((value, reference_value.expand(len(value), -1, -1)), dim=1)
    return multi_head_attention(query + target_embedding, keys, values, num_heads, angles)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of channels of ``(B, heads, T, d)`` by ``(T, d / 2)`` angles."""
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)
