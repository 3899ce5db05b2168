"""The appearance encoder: a UNet that runs once on the clean source and hands over what it saw.

It gives the denoiser the layer-normalised input (the output of ``norm1``) of every self-attention. Its
last transformer ends there, and nothing behind it exists, as in the released weights.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from diffusers import (
    ModelMixin,  # noqa: F401 -- a pipeline finds how to load a component by this name in its module
    UNet2DConditionModel,
)
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn


@dataclass
class Bank:
    """Recorded states by block number; an object, since hooks that move a module's inputs copy dicts."""

    states: dict[int, Tensor] = field(default_factory=dict)


class RecordingProcessor(AttnProcessor2_0):
    """Ordinary attention; self-attentions (``block`` given) also note their input in the bank."""

    def __init__(self, block: int | None) -> None:
        super().__init__()
        self.block = block

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        bank: Bank,
    ) -> Tensor:
        if self.block is not None:
            bank.states[self.block] = hidden_states
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask)


class RecordingEnd(nn.Module):
    """What is left of the last transformer block: its first norm, recorded."""

    def __init__(self, norm1: nn.Module, block: int) -> None:
        super().__init__()
        self.norm1 = norm1
        self.block = block

    def forward(self, hidden_states: Tensor, *, cross_attention_kwargs: dict[str, Any], **_: Any) -> Tensor:
        cross_attention_kwargs["bank"].states[self.block] = self.norm1(hidden_states)
        return hidden_states


class AppearanceEncoder(UNet2DConditionModel):
    """An SD UNet with four input channels, cut off behind the first norm of its last transformer block.

    Run it through :func:`record_references`.
    """

    @functools.wraps(UNet2DConditionModel.__init__)  # type: ignore[misc]  # from_config reads the signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        blocks = [name for name, module in self.named_modules() if isinstance(module, BasicTransformerBlock)]
        numbers = {name: number for number, name in enumerate(blocks)}
        last = [name for name in blocks if name.startswith("up_blocks")][-1]
        transformer = self.up_blocks[-1].attentions[-1]
        transformer.transformer_blocks[-1] = RecordingEnd(self.get_submodule(last).norm1, numbers[last])
        transformer.proj_out = nn.Identity()
        self.conv_norm_out = None
        self.conv_out = nn.Identity()
        self.set_attn_processor(
            {
                name: RecordingProcessor(numbers[name.split(".attn")[0]] if ".attn1." in name else None)
                for name in self.attn_processors
            }
        )


def record_references(encoder: AppearanceEncoder, latents: Tensor, text: Tensor) -> list[Tensor]:
    """Look at a source once.

    Args:
        encoder: the appearance encoder.
        latents: ``(B, 4, h, w)``, the clean source latent in the scaled space.
        text: ``(B, 77, C)``, the encoding of the empty prompt; no image tokens.

    Returns:
        For each transformer block ``(B, tokens, channels)``, ordered down, up, mid.
    """
    bank = Bank()
    encoder(latents, 0, text, cross_attention_kwargs={"bank": bank}, return_dict=False)
    return [bank.states[block] for block in sorted(bank.states)]
