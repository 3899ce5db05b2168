"""The SD 1.5 model in training: predict the noise in the second frame, given the first, mask and points.

LightningDrag (arXiv 2405.13722): the appearance encoder, the point embedding and its projections learn;
the inpainting denoiser, IP-Adapter, CLIP and the VAE stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from lightningdrag.checkpoints.released import load_base
from lightningdrag.checkpoints.saved import load_saved
from lightningdrag.checkpoints.tensors import save_half
from lightningdrag.models import codec
from lightningdrag.models.appearance import AppearanceEncoder, record_references
from lightningdrag.models.attention import Conditioning, attention_blocks
from lightningdrag.models.image_prompt import clip_pixels
from lightningdrag.models.point_embedding import point_maps
from lightningdrag.models.point_encoder import PointEncoder
from lightningdrag.models.protocol import DragInputs
from lightningdrag.models.sd15 import SD15Model
from lightningdrag.pipeline import LightningDragPipeline
from lightningdrag.training.draws import Draws
from lightningdrag.training.loader import Batch
from lightningdrag.training.recipe import SD15Recipe
from lightningdrag.training.task import Task

POINT_CHANNELS = 16
"""The released model's e."""


@dataclass
class Prepared:
    """A batch as the denoiser sees it.

    Attributes:
        clean: ``(B, 4, h, w)``, the second frame's latent.
        fixed: ``(B, 5, h, w)``, mask and masked source.
        text: ``(B, 77, C)``, the empty prompt.
        conditioning: source, points and image prompt.
    """

    clean: Tensor
    fixed: Tensor
    text: Tensor
    conditioning: Conditioning


class SD15Task(Task):
    """Trains the parts of LightningDrag that are its own.

    Args:
        pipeline: all parts, in float32 or as the frozen ones shall be; None loads them as the recipe says.
    """

    weights_file = "sd15.safetensors"
    learning: tuple[str, ...] = ("appearance_encoder", "point_encoder")
    """The pipeline's parts that are trained, in float32."""
    preview_guidance: float | None = None
    """Point guidance of :meth:`samples`; None is the model's own."""

    def __init__(self, recipe: SD15Recipe, pipeline: LightningDragPipeline | None = None) -> None:
        super().__init__()
        self.recipe: SD15Recipe = recipe
        self.pipeline = pipeline or start_pipeline(recipe)
        frozen = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
        for name, part in self.pipeline.components.items():
            if isinstance(part, nn.Module):
                nn.Module.to(part, torch.float32 if name in self.learning else frozen)
                part.eval().requires_grad_(name in self.learning)
                if name in self.learning:
                    self.add_module(name, part)
        if recipe.gradient_checkpointing:
            self.pipeline.unet.enable_gradient_checkpointing()
            encoder = self.pipeline.appearance_encoder
            encoder.enable_gradient_checkpointing()
            encoder.up_blocks[-1].attentions[-1].gradient_checkpointing = False  # ends behind its first norm

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of the predicted noise, at timesteps that are all equally likely."""
        draws = Draws(self.recipe.seed, batch.numbers, batch.drags.source.device)
        shown = (draws.uniform() >= self.recipe.point_dropout).float()
        prepared = self.prepare(batch, draws)
        alphas = self.alphas.to(prepared.clean)
        timesteps = draws.integers(len(alphas))
        noise = draws.normal(*prepared.clean.shape[1:])
        noisy = mix(prepared.clean, noise, alphas[timesteps])
        estimate = self.predict(noisy, timesteps, prepared, shown)
        return {"loss": F.mse_loss(estimate, noise)}

    def prepare(self, batch: Batch, draws: Draws) -> Prepared:
        """Encode a batch; gradients flow into the trained parts only."""
        self._place(batch.drags.source.device)
        pipeline, drags = self.pipeline, batch.drags
        height, width = drags.source.shape[-2:]
        with torch.no_grad():
            source, clean, masked = (
                encode_latents(pipeline.vae, image, draws)
                for image in (drags.source, batch.labels.image, codec.masked_source(drags.source, drags.mask))
            )
            text = self._empty_prompt().expand(len(source), -1, -1)
            pixels = [
                clip_pixels(image[None], pipeline.image_encoder.config.image_size) for image in drags.source
            ]
            seen = pipeline.image_encoder(torch.cat(pixels).to(source.device, pipeline.image_encoder.dtype))
            _, image_prompt = pipeline.image_prompt(seen.image_embeds)
        maps = point_maps(drags.handles, drags.targets, height, width, drags.valid)
        conditioning = Conditioning(
            record_references(pipeline.appearance_encoder, source, text),
            pipeline.point_encoder(maps),
            image_prompt,
        )
        small = codec.latent_mask(drags.mask, *source.shape[-2:])
        return Prepared(clean, torch.cat((small, masked), 1), text, conditioning)

    def predict(self, noisy: Tensor, timesteps: Tensor, prepared: Prepared, with_points: Tensor) -> Tensor:
        """The noise in ``(B, 4, h, w)`` latents at ``(B,)`` timesteps, float32.

        Args:
            with_points: ``(B,)``, 0 for rows that see no points; the source stands in all.
        """
        # One of its own: what checkpointing computes again in the backward pass has to see the same.
        conditioning = replace(prepared.conditioning, with_points=with_points[:, None, None])
        unet = self.pipeline.unet
        inputs = torch.cat((noisy, prepared.fixed), 1).to(unet.dtype)
        kwargs = {"conditioning": conditioning}
        estimate = unet(inputs, timesteps, prepared.text, cross_attention_kwargs=kwargs, return_dict=False)[0]
        return estimate.float()

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """Edits by the sampler that users have, with fewer steps."""
        self._place(batch.drags.source.device)
        model, drags, results = SD15Model(self.pipeline), batch.drags, []
        for i, source in enumerate(drags.source):
            count = int(drags.valid[i].sum())
            inputs = DragInputs(
                drags.handles[i, :count],
                drags.targets[i, :count],
                drags.mask[i, 0] > 0.5,
                steps=self.recipe.preview_steps,
                guidance=self.preview_guidance,
            )
            edit = model.generate(model.encode(source[None]), inputs, torch.Generator().manual_seed(0))
            results.append(torch.lerp(source[None], edit.image, drags.mask[i : i + 1]))
        return {"model": torch.cat(results)}

    def save_weights(self, weights: Mapping[str, Tensor], path: Path, facts: Mapping[str, object]) -> None:
        save_half(weights, path, facts)

    @property
    def alphas(self) -> Tensor:
        """``(T,)``, the scheduler's cumulative alphas."""
        return self.pipeline.scheduler.alphas_cumprod

    def _place(self, device: torch.device) -> None:
        """Bring what accelerate does not know of to where the batches are."""
        if self.pipeline.vae.device != device:
            self.pipeline.to(device)

    def _empty_prompt(self) -> Tensor:
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        tokens = tokenizer("", padding="max_length", max_length=length, return_tensors="pt")
        return self.pipeline.text_encoder(tokens.input_ids.to(self.pipeline.vae.device))[0]


def start_pipeline(recipe: SD15Recipe) -> LightningDragPipeline:
    """What training starts from: a saved pipeline, or a base with the method's own parts untrained."""
    if recipe.init:
        return load_saved(Path(recipe.init))
    torch.manual_seed(recipe.seed)
    parts: dict[str, Any] = load_base(recipe.base, recipe.vae, recipe.ip_adapter)
    levels, widths = zip(*attention_blocks(parts["unet"]), strict=True)
    return LightningDragPipeline(
        **parts,
        appearance_encoder=copied_encoder(parts["unet"]),
        point_encoder=PointEncoder(POINT_CHANNELS, list(levels), list(widths)),
    )


def copied_encoder(unet: UNet2DConditionModel) -> AppearanceEncoder:
    """An appearance encoder with an inpainting denoiser's weights, less what is not the latent's input."""
    encoder = AppearanceEncoder.from_config({**unet.config, "in_channels": 4})
    weights = unet.state_dict()
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :4]
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder


def encode_latents(vae: Any, image: Tensor, draws: Draws) -> Tensor:
    """``(B, 4, h, w)`` float32, drawn from the VAE's posterior, in the scaled space."""
    posterior = vae.encode(image.to(vae.dtype)).latent_dist
    latents = posterior.mean.float() + posterior.std.float() * draws.normal(*posterior.mean.shape[1:])
    return latents * vae.config.scaling_factor


def mix(clean: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
    """Latents at ``(B,)`` cumulative alphas: sqrt(a) clean + sqrt(1 - a) noise."""
    a = alphas[:, None, None, None]
    return a.sqrt() * clean + (1 - a).sqrt() * noise
