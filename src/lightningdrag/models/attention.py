"""Point-following self-attention and image-prompted cross-attention, as diffusers processors.

LightningDrag (arXiv 2405.13722): with h the normalised hidden states of a block, r the appearance
encoder's ones of the same block, and E the projected point embeddings,

    Q = Wq h + E_target      K = [Wk h + E_target ; Wk r + E_handle]      V = [Wv h ; Wv r]

Processors hold no weights and no state: what they attend to comes with each call of the denoiser, as
``cross_attention_kwargs={"conditioning": Conditioning(...)}``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from lightningdrag.models.point_attention import multi_head_attention, point_following_attention

KeyValue = tuple[Tensor, Tensor]
"""Projected keys and values, each ``(B or 1, tokens, C)``."""


@dataclass
class Conditioning:
    """What the denoiser's attentions see beside the latent, the same over the steps of one edit.

    In an edit everything has batch 1 and serves all candidates and both guidance branches; in training each
    row has its own. Make a new one for every edit.

    Attributes:
        references: for each of the blocks ``(1 or B, M, C)``, recorded by the appearance encoder.
        points: for each block (E_handle, E_target), each ``(1 or B, M, C)``.
        image_prompt: for each block the image prompt's keys and values, ``(1 or B, 4, C)``.
        with_points: ``(B, 1, 1)`` or a number: 1 for rows of the batch that see the points, 0 for the
            others. Set before each call of the denoiser.
        projected: from :func:`project_source`; the references are then not looked at. Where it is empty,
            as in training, every call projects them.
        deep_features: what ``models.deep_cache`` keeps between steps.
    """

    references: list[Tensor]
    points: list[tuple[Tensor, Tensor]]
    image_prompt: list[KeyValue]
    with_points: Tensor | float = 1.0
    projected: dict[str, KeyValue] = field(default_factory=dict, repr=False)
    deep_features: dict[Any, Any] = field(default_factory=dict, repr=False)

    def reference(self, block: int, attn: Attention) -> KeyValue:
        """Keys and values of the reference in a self-attention."""
        kept = self.projected.get(f"reference {block}")
        return _project(attn, self.references[block]) if kept is None else kept

    def text(self, block: int, attn: Attention, text: Tensor) -> KeyValue:
        """Keys and values of the text in a cross-attention."""
        kept = self.projected.get(f"text {block}")
        return _project(attn, text) if kept is None else kept


class PointFollowingProcessor:
    """Self-attention of the denoiser's block number ``block``."""

    def __init__(self, block: int) -> None:
        self.block = block

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        conditioning: Conditioning,
    ) -> Tensor:
        reference_key, reference_value = conditioning.reference(self.block, attn)
        handle, target = conditioning.points[self.block]
        attended = point_following_attention(
            attn.to_q(hidden_states),
            attn.to_k(hidden_states),
            attn.to_v(hidden_states),
            reference_key,
            reference_value,
            handle * conditioning.with_points,
            target * conditioning.with_points,
            attn.heads,
        )
        return _project_out(attn, attended)


class ImagePromptProcessor:
    """Cross-attention of block ``block`` (IP-Adapter, arXiv 2308.06721):

    softmax(Q K_text) V_text + softmax(Q K_image) V_image.
    """

    def __init__(self, block: int) -> None:
        self.block = block

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        conditioning: Conditioning,
    ) -> Tensor:
        if encoder_hidden_states is None:
            raise ValueError("cross-attention needs encoder_hidden_states, the text (1, tokens, C)")
        query = attn.to_q(hidden_states)
        text_key, text_value = conditioning.text(self.block, attn, encoder_hidden_states)
        attended = multi_head_attention(query, text_key, text_value, attn.heads)
        attended = attended + multi_head_attention(query, *conditioning.image_prompt[self.block], attn.heads)
        return _project_out(attn, attended)


def _project(attn: Attention, states: Tensor) -> KeyValue:
    return attn.to_k(states), attn.to_v(states)


def _project_out(attn: Attention, attended: Tensor) -> Tensor:
    for layer in attn.to_out:  # the projection, then dropout
        attended = layer(attended)
    return attended


def install_processors(unet: UNet2DConditionModel) -> None:
    """Give every attention of a denoiser its processor.

    Blocks are numbered as the released weights count them, in the order of ``unet.attn_processors``:
    down, up, mid, a self-attention and a cross-attention each.
    """
    unet.set_attn_processor(
        {
            name: (PointFollowingProcessor if "attn1" in name else ImagePromptProcessor)(number // 2)
            for number, name in enumerate(unet.attn_processors)
        }
    )


@apply_forward_hook  # an offloaded denoiser comes to its device, as when it is called
def project_source(unet: UNet2DConditionModel, references: list[Tensor], text: Tensor) -> dict[str, KeyValue]:
    """Keys and values of references and text in a denoiser with this method's processors, by name.

    They depend on the source alone: its edits share them. Made outside the denoiser's own calls, so that
    a compiled one runs one graph at every step.
    """
    projected = {}
    for name, processor in unet.attn_processors.items():
        attn = unet.get_submodule(name.removesuffix(".processor"))
        if isinstance(processor, PointFollowingProcessor):
            projected[f"reference {processor.block}"] = _project(attn, references[processor.block])
        else:
            projected[f"text {processor.block}"] = _project(attn, text)
    return projected


def attention_blocks(unet: UNet2DConditionModel) -> list[tuple[int, int]]:
    """(level, channels) of each transformer block in that order; level i works at 1/8 * 2^-i of the image."""
    config = unet.config
    widths = config.block_out_channels
    down = [(level, kind) for level, kind in enumerate(config.down_block_types)]
    up = [(len(widths) - 1 - i, kind) for i, kind in enumerate(config.up_block_types)]
    blocks = [level for level, kind in down if "CrossAttn" in kind for _ in range(config.layers_per_block)]
    blocks += [level for level, kind in up if "CrossAttn" in kind for _ in range(config.layers_per_block + 1)]
    blocks.append(len(widths) - 1)
    return [(level, widths[level]) for level in blocks]
