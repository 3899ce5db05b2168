"""Point-following attention is what its formula says, and one function for every model."""

from __future__ import annotations

import pytest
import torch

from lightningdrag.models.attention import (
    ImagePromptProcessor,
    PointFollowingProcessor,
    attention_blocks,
    multi_head_attention,
    point_following_attention,
)
from sd15_tiny import load_pipeline

BATCH, TOKENS, CHANNELS, HEADS = 3, 6, 8, 2


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(batch: int) -> torch.Tensor:
        return torch.randn(batch, TOKENS, CHANNELS, generator=generator)

    shared = ("reference_key", "reference_value", "handle_embedding", "target_embedding")
    return {name: draw(BATCH) for name in ("query", "key", "value")} | {name: draw(1) for name in shared}


def by_hand(t: dict[str, torch.Tensor]) -> torch.Tensor:
    """The formula, head by head and query by query."""
    queries = t["query"] + t["target_embedding"]
    keys = torch.cat(
        (
            t["key"] + t["target_embedding"],
            (t["reference_key"] + t["handle_embedding"]).expand(BATCH, -1, -1),
        ),
        1,
    )
    values = torch.cat((t["value"], t["reference_value"].expand(BATCH, -1, -1)), 1)
    size = CHANNELS // HEADS
    heads = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        weights = (queries[..., part] @ keys[..., part].mT / size**0.5).softmax(-1)
        heads.append(weights @ values[..., part])
    return torch.cat(heads, -1)


def test_formula(tensors: dict[str, torch.Tensor]):
    attended = point_following_attention(**tensors, num_heads=HEADS)
    assert torch.allclose(attended, by_hand(tensors), atol=1e-6)


def test_without_points_the_embeddings_are_zero_and_the_reference_stays(tensors: dict[str, torch.Tensor]):
    without = tensors | {"handle_embedding": 0.0, "target_embedding": 0.0}
    zeros = tensors | {name: torch.zeros(1, 1, 1) for name in ("handle_embedding", "target_embedding")}
    attended = point_following_attention(**without, num_heads=HEADS)
    assert torch.equal(attended, point_following_attention(**zeros, num_heads=HEADS))
    other = without | {"reference_value": -tensors["reference_value"]}
    assert not torch.allclose(attended, point_following_attention(**other, num_heads=HEADS))


def test_a_target_finds_its_handle():
    """A query that carries an embedding takes the source's value where the handle carries the same."""
    zeros = torch.zeros(1, TOKENS, CHANNELS)
    handle, target = zeros.clone(), zeros.clone()
    handle[0, 2], target[0, 5] = 20, 20
    values = torch.arange(float(TOKENS))[None, :, None].expand(1, TOKENS, CHANNELS)
    attended = point_following_attention(
        zeros, zeros - target, zeros, zeros, values, handle, target, num_heads=1
    )
    assert torch.allclose(attended[0, 5], torch.full((CHANNELS,), 2.0), atol=1e-4)


def test_shared_keys_serve_the_whole_batch(tensors: dict[str, torch.Tensor]):
    query, key, value = tensors["query"], tensors["reference_key"], tensors["reference_value"]
    together = multi_head_attention(query, key, value, HEADS)
    alone = [multi_head_attention(one[None], key, value, HEADS) for one in query]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_blocks_are_numbered_down_up_mid():
    unet = load_pipeline().unet
    assert attention_blocks(unet) == [
        *[(0, 8)] * 2, *[(1, 16)] * 2, *[(2, 16)] * 2, *[(2, 16)] * 3, *[(1, 16)] * 3, *[(0, 8)] * 3, (3, 16)
    ]  # fmt: skip
    processors = list(unet.attn_processors.items())
    assert len(processors) == 32
    for number, (name, processor) in enumerate(processors):
        kind = PointFollowingProcessor if ".attn1." in name else ImagePromptProcessor
        assert isinstance(processor, kind)
        assert processor.block == number // 2
    assert processors[30][0].startswith("mid_block")
