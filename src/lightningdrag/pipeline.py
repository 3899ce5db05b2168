"""LightningDrag on SD 1.5 as a diffusers pipeline: the sampling loop at the model's resolution.

Photos of other sizes, compositing and rounds are the editor's business (``lightningdrag.DragEditor``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ImagePipelineOutput, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from lightningdrag.guidance import check_noise_prior, guidance_weights, start_latents
from lightningdrag.inputs import ImageInput, Points, check_points, image_tensor, mask_tensor
from lightningdrag.models import codec
from lightningdrag.models.appearance import AppearanceEncoder, record_references
from lightningdrag.models.attention import Conditioning, KeyValue, install_processors, project_source
from lightningdrag.models.image_prompt import ImagePrompt, clip_pixels
from lightningdrag.models.point_embedding import point_maps, separate_points
from lightningdrag.models.point_encoder import PointEncoder

Generators = torch.Generator | list[torch.Generator] | None
StepCallback = Callable[["LightningDragPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


@dataclass(frozen=True)
class SourceFeatures:
    """All that depends on the source image alone, at batch 1; made once, used by every edit of it.

    Attributes:
        image: ``(1, 3, H, W)`` float32 in [-1, 1].
        latents: ``(1, 4, H / 8, W / 8)`` float32, in the scaled space.
        references: the appearance encoder's states, ``(1, tokens, channels)`` for each block; dropped once
            they are projected.
        text: ``(1, 77, C)``, the empty prompt.
        image_tokens: ``(1, 4, C)``, the image prompt.
        image_prompt: its keys and values for each cross-attention.
        projected: keys and values of references and text in the denoiser, made by the first edit.
        masked: the last mask's, ``(1, 1, H, W)``, and the latents of the source masked by it.
    """

    image: Tensor
    latents: Tensor
    references: list[Tensor]
    text: Tensor
    image_tokens: Tensor
    image_prompt: list[KeyValue]
    projected: dict[str, KeyValue] = field(default_factory=dict, repr=False)
    masked: list[tuple[Tensor, Tensor]] = field(default_factory=list, repr=False)


OUTPUT_TYPES = ("pil", "np", "pt", "latent")
MANY_STEPS, LATE = 100, 0.9
"""More steps than that must begin in the last tenth of the timesteps. All begin with the noise of the last
one; where many of them begin much earlier, as 600 do at 600, noise would be left in the image."""


class LightningDragPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """Drag-conditioned inpainting (LightningDrag, arXiv 2405.13722) on Stable Diffusion 1.5.

    Args:
        vae: images to latents and back.
        text_encoder, tokenizer: encode the empty prompt; nothing else is ever asked of them.
        image_encoder, image_prompt: CLIP, and IP-Adapter's weights.
        appearance_encoder: runs once per source image.
        point_encoder: point embedding and projections.
        unet: an SD 1.5 inpainting denoiser (9 input channels); it is given this method's processors.
        scheduler: variance preserving, with ``alphas_cumprod``: DDIM, LCM and their kin.
    """

    model_cpu_offload_seq = (
        "text_encoder->image_encoder->image_prompt->appearance_encoder->point_encoder->unet->vae"
    )
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    image_encoder: CLIPVisionModelWithProjection
    image_prompt: ImagePrompt
    appearance_encoder: AppearanceEncoder
    point_encoder: PointEncoder
    unet: UNet2DConditionModel
    scheduler: Any

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        image_encoder: CLIPVisionModelWithProjection,
        image_prompt: ImagePrompt,
        appearance_encoder: AppearanceEncoder,
        point_encoder: PointEncoder,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            image_prompt=image_prompt,
            appearance_encoder=appearance_encoder,
            point_encoder=point_encoder,
            unet=unet,
            scheduler=scheduler,
        )
        install_processors(unet)
        for network in (vae, appearance_encoder, point_encoder, unet):
            # What libraries compute convolutions in; tokens are then pixels without a copy.
            nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._interrupt = False

    @classmethod
    def from_released(
        cls,
        base: str | Path,
        vae: str | Path,
        ip_adapter: str | Path,
        lightning_drag: str | Path,
        lcm_lora: str | Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        low_memory: bool = False,
    ) -> LightningDragPipeline:
        """Load the released files: see :func:`lightningdrag.checkpoints.released.load_components`.

        With ``lcm_lora`` it is fused into the denoiser and the scheduler is LCM; otherwise DDIM. With
        ``low_memory`` what looks at a source once is read from disk whenever it runs, if ``device`` is a
        CPU; elsewhere each network is on ``device`` only while it runs.
        """
        from lightningdrag.checkpoints.released import fuse_lcm_lora, load_components

        on_disk = low_memory and torch.device(device).type == "cpu"
        pipeline = cls(**load_components(base, vae, ip_adapter, lightning_drag, dtype, on_disk))
        if lcm_lora is not None:
            fuse_lcm_lora(pipeline, lcm_lora)
        pipeline.place(device, low_memory)
        return pipeline

    def place(self, device: str | torch.device, low_memory: bool = False) -> None:
        """Bring the networks to a device, or with ``low_memory`` only while they run.

        On a CPU ``low_memory`` leaves them as they were loaded.
        """
        if not low_memory:
            self.to(device)
        elif torch.device(device).type != "cpu":
            self.enable_model_cpu_offload(device=device)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Write the pipeline to a folder, as any diffusers pipeline.

        Raises:
            ValueError: networks were left on disk (``low_memory``); nothing is written.
        """
        networks = [(name, part) for name, part in self.components.items() if isinstance(part, nn.Module)]
        on_disk = [name for name, part in networks if any(tensor.is_meta for tensor in part.parameters())]
        if on_disk:
            raise ValueError(
                f"{', '.join(on_disk)} were left on disk; to save, load with the option resident, "
                "or without low_memory"
            )
        super().save_pretrained(*args, **kwargs)

    @property
    def _execution_device(self) -> torch.device:
        device = super()._execution_device
        return self.unet.device if device.type == "meta" else device  # weights on disk are "meta"

    @property
    def interrupt(self) -> bool:
        """True once a callback has set ``pipeline._interrupt``; sampling then ends with what it has."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput,
        mask: ImageInput,
        handles: Points,
        targets: Points,
        *,
        # sampling
        num_inference_steps: int = 25,
        guidance_scale: float = 4.0,
        guidance_schedule: str = "inverse_square",
        noise_prior: str = "source",
        # randomness
        num_images: int = 1,
        generator: Generators = None,
        noise: Tensor | None = None,
        sample_posterior: bool = True,
        # result
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
    ) -> ImagePipelineOutput:
        """Drag ``handles`` of an image to ``targets``; nothing is composited back.

        Args:
            image: PIL, ``(H, W, 3)`` uint8, or ``(1, 3, H, W)`` float in [-1, 1]; H and W multiples of 64,
                best of an area about 512 x 512.
            mask: where the image may change: PIL, ``(H, W)`` bool or uint8, or a float tensor of H x W in
                [0, 1]; binarised at one half.
            handles, targets: ``(N, 2)`` (x, y) in pixels, N = 1..64, rounded to the nearest pixel. A point
                whose pixel another of its kind holds moves to the nearest free one.
            num_inference_steps: steps; 25 for DDIM, 8 for LCM.
            guidance_scale: w; 4.0 for DDIM, 3.0 for LCM. At 1 or below one branch runs.
            guidance_schedule: one of :data:`lightningdrag.guidance.SCHEDULES`.
            noise_prior: one of :data:`lightningdrag.guidance.NOISE_PRIORS`.
            num_images: candidates; they differ by their noise.
            generator: all that is drawn comes from it; or a list of one per candidate.
            noise: ``(num_images, 4, H / 8, W / 8)``, the noise at the start instead of a draw.
            sample_posterior: False takes the mode of the VAE's posterior instead of a draw.
            output_type: "pil", "np" or "pt" (in [0, 1]), or "latent".
            callback_on_step_end: called as (pipeline, step, timestep, {"latents": ...}); what it returns
                under "latents" replaces them; ``pipeline._interrupt = True`` in it ends the loop.

        Returns:
            An object whose ``images`` holds ``num_images`` results.

        Raises:
            ValueError: an argument is not as said here.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; it must be one of {', '.join(OUTPUT_TYPES)}")
        asked = (num_inference_steps, guidance_scale, guidance_schedule, noise_prior)
        self._settled(image_tensor(image), mask, handles, targets, *asked)  # before any network runs
        try:
            latents = self.sample(
                self.encode(image, sample_posterior=sample_posterior, generator=generator),
                mask,
                handles,
                targets,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                guidance_schedule=guidance_schedule,
                noise_prior=noise_prior,
                num_images=num_images,
                generator=generator,
                noise=noise,
                sample_posterior=sample_posterior,
                callback_on_step_end=callback_on_step_end,
            )
            images: Any = latents
            if output_type != "latent":
                images = VaeImageProcessor().postprocess(self.decode(latents), output_type=output_type)
        finally:
            self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images)

    @torch.no_grad()
    def encode(
        self, image: ImageInput, *, sample_posterior: bool = True, generator: Generators = None
    ) -> SourceFeatures:
        """Look at a source image once; arguments as for :meth:`__call__`."""
        device = self._execution_device
        source = image_tensor(image).to(device)
        latents = codec.encode(
            self.vae, source, sample_posterior=sample_posterior, generator=_first(generator)
        )
        tokens = self.tokenizer(
            "",
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        text = self.text_encoder(tokens.input_ids.to(device))[0]
        pixels = clip_pixels(source, self.image_encoder.config.image_size)
        embedding = self.image_encoder(pixels.to(device, self.image_encoder.dtype)).image_embeds
        image_tokens, image_prompt = self.image_prompt(embedding)
        references = record_references(
            self.appearance_encoder, latents.to(self.appearance_encoder.dtype), text
        )
        return SourceFeatures(source, latents, references, text, image_tokens, image_prompt)

    @torch.no_grad()
    def sample(
        self,
        features: SourceFeatures,
        mask: ImageInput,
        handles: Points,
        targets: Points,
        *,
        num_inference_steps: int,
        guidance_scale: float,
        guidance_schedule: str = "inverse_square",
        noise_prior: str = "source",
        num_images: int = 1,
        generator: Generators = None,
        noise: Tensor | None = None,
        sample_posterior: bool = True,
        callback_on_step_end: StepCallback | None = None,
    ) -> Tensor:
        """Generate ``(num_images, 4, h, w)`` float32 latents; arguments as for :meth:`__call__`."""
        device = self._execution_device
        height, width = features.image.shape[-2:]
        asked = (num_inference_steps, guidance_scale, guidance_schedule, noise_prior)
        change, pairs = self._settled(features.image, mask, handles, targets, *asked)
        change, timesteps = change.to(device), self._timesteps(num_inference_steps, device)
        noise = self._start_noise(noise, num_images, generator, features.latents)

        small_mask = codec.latent_mask(change, *noise.shape[-2:])
        masked = self._masked_latents(features, change, sample_posterior, generator)
        starts, ends = (separate_points(points, height, width)[None] for points in pairs)
        maps = point_maps(starts, ends, height, width).to(device, self.point_encoder.dtype)
        conditioning = Conditioning(
            [], self.point_encoder(maps), features.image_prompt, projected=self._projected(features)
        )
        latents = start_latents(
            noise_prior,
            features.latents,
            noise,
            float(self.scheduler.alphas_cumprod[-1]) ** 0.5,
            mask=small_mask,
            handles=(pairs[0] + 0.5) * noise.shape[-1] / width - 0.5,
            targets=(pairs[1] + 0.5) * noise.shape[-1] / width - 0.5,
        )

        self._interrupt = False
        weights = guidance_weights(guidance_schedule, guidance_scale, len(timesteps))
        drawn = {"generator": generator} if _takes_generator(self.scheduler) else {}
        fixed = torch.cat((small_mask, masked), dim=1).expand(num_images, -1, -1, -1)
        for i, t in enumerate(self.progress_bar(timesteps)):
            eps = self._predict_noise(latents, fixed, t, weights[i], features.text, conditioning)
            latents = self.scheduler.step(eps, t, latents, **drawn, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = (callback_on_step_end(self, i, t, {"latents": latents}) or {}).get(
                    "latents", latents
                )
            if self.interrupt:
                break
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images, ``(B, 3, H, W)`` float32, about [-1, 1], not clamped."""
        return codec.decode(self.vae, latents)

    def _settled(
        self,
        source: Tensor,
        mask: ImageInput,
        handles: Points,
        targets: Points,
        steps: int,
        scale: float,
        schedule: str,
        noise_prior: str,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The mask and the points of an edit, once all that is asked for is known to make sense.

        Raises:
            ValueError: it does not.
        """
        height, width = source.shape[-2:]
        check_noise_prior(noise_prior)
        guidance_weights(schedule, scale, steps)
        self._timesteps(steps, torch.device("cpu"))
        return mask_tensor(mask, height, width), check_points(handles, targets, height, width)

    def _timesteps(self, steps: int, device: torch.device) -> Tensor:
        """The scheduler's timesteps.

        Raises:
            ValueError: more steps than the scheduler has, or it works on other noise than the denoiser's.
        """
        scheduler, name = self.scheduler, type(self.scheduler).__name__
        distilled = "original_inference_steps" in inspect.signature(scheduler.set_timesteps).parameters
        config = scheduler.config
        most = config.original_inference_steps if distilled else config.num_train_timesteps - 1
        if steps > most:
            raise ValueError(f"steps is {steps}; {name} takes 1..{most}")
        scheduler.set_timesteps(steps, device=device)
        first = int(scheduler.timesteps[0])
        if steps > MANY_STEPS and first < LATE * config.num_train_timesteps:
            raise ValueError(
                f"steps is {steps}, of which {name}'s first would be at timestep {first} of "
                f"{config.num_train_timesteps} and leave noise; take {MANY_STEPS} or fewer"
            )
        if float(scheduler.init_noise_sigma) != 1:
            raise ValueError(f"{name} is not variance preserving; DDIM, LCM, TCD and DPM-Solver are")
        return scheduler.timesteps

    def _projected(self, features: SourceFeatures) -> dict[str, KeyValue]:
        """Keys and values of references and text; nothing else needs the references."""
        if not features.projected:
            features.projected.update(project_source(self.unet, features.references, features.text))
            features.references.clear()
        return features.projected

    def _masked_latents(
        self, features: SourceFeatures, mask: Tensor, sample_posterior: bool, generator: Generators
    ) -> Tensor:
        """The latents of the masked source; where nothing is drawn, those of the last mask serve again."""
        if not sample_posterior:
            for known, latents in features.masked:
                if torch.equal(known, mask):
                    return latents
        latents = codec.encode(
            self.vae,
            codec.masked_source(features.image, mask),
            sample_posterior=sample_posterior,
            generator=_first(generator),
        )
        if not sample_posterior:
            features.masked[:] = [(mask, latents)]
        return latents

    def _predict_noise(
        self,
        latents: Tensor,
        fixed: Tensor,
        timestep: Tensor,
        weight: float,
        text: Tensor,
        conditioning: Conditioning,
    ) -> Tensor:
        """The guided noise prediction, float32; the batch is [without points, with points]."""
        branches = [1.0] if weight == 1 else [0.0, 1.0]
        inputs = torch.cat((self.scheduler.scale_model_input(latents, timestep), fixed), dim=1)
        inputs = inputs.to(self.unet.dtype).repeat(len(branches), 1, 1, 1)
        conditioning.with_points = inputs.new_tensor(branches).repeat_interleave(len(latents))[:, None, None]
        eps = self.unet(
            inputs,
            timestep,
            encoder_hidden_states=text,
            cross_attention_kwargs={"conditioning": conditioning},
            return_dict=False,
        )[0].float()
        if weight == 1:
            return eps
        without, with_points = eps.chunk(2)
        return without + weight * (with_points - without)

    def _start_noise(
        self, noise: Tensor | None, num_images: int, generator: Generators, latents: Tensor
    ) -> Tensor:
        if num_images < 1:
            raise ValueError(f"num_images must be at least 1, got {num_images}")
        if isinstance(generator, list) and len(generator) != num_images:
            raise ValueError(f"{len(generator)} generators for {num_images} images; give one for each")
        shape = (num_images, *latents.shape[1:])
        if noise is None:
            return randn_tensor(shape, generator=generator, device=latents.device, dtype=torch.float32)
        if noise.shape != shape:
            raise ValueError(f"noise must have the shape {shape}, got {tuple(noise.shape)}")
        return noise.to(latents)


def _first(generator: Generators) -> torch.Generator | None:
    return generator[0] if isinstance(generator, list) else generator


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters
