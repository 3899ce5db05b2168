"""The SD 1.5 pipeline behind the editor's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderTiny, LCMScheduler
from torch import Tensor

from lightningdrag.allocator import give_back
from lightningdrag.models import codec
from lightningdrag.models.protocol import DragInputs, EditCancelled, Encoded, PaintedEdit

if TYPE_CHECKING:
    from lightningdrag.pipeline import LightningDragPipeline

STEPS_KEY, GUIDANCE_KEY = "_default_steps", "_default_guidance"
"""In a scheduler's configuration; diffusers keeps a key with an underscore and does not ask what it means."""


class SD15Model:
    """A :class:`lightningdrag.models.protocol.DragModel` that paints its edits.

    The mode of the VAE's posterior is taken, so that a window is the same however often it is encoded,
    and each candidate has a generator of its own, so that it is the same however many there are.

    Args:
        pipeline: on its device, in its dtype.
        tiny_decoder: decodes instead of the pipeline's VAE: faster, and less exact.
    """

    name = "sd15"
    multiple = 64
    working_area = 512 * 512
    max_upscale = 8.0

    def __init__(self, pipeline: LightningDragPipeline, tiny_decoder: AutoencoderTiny | None = None) -> None:
        self.pipeline = pipeline
        self._lock = Lock()  # a pipeline holds the timesteps of the edit it is at
        self.decoder = pipeline.vae if tiny_decoder is None else tiny_decoder
        pipeline.set_progress_bar_config(disable=True)  # progress goes to the callback

    @property
    def default_steps(self) -> int:
        """What the pipeline was saved with (:func:`set_defaults`), else 8 for LCM, 25 for DDIM."""
        return int(self.pipeline.scheduler.config.get(STEPS_KEY, 8 if self._is_lcm else 25))

    @property
    def default_guidance(self) -> float:
        """What the pipeline was saved with (:func:`set_defaults`), else 3.0 for LCM, 4.0 for DDIM."""
        return float(self.pipeline.scheduler.config.get(GUIDANCE_KEY, 3.0 if self._is_lcm else 4.0))

    @property
    def _is_lcm(self) -> bool:
        return isinstance(self.pipeline.scheduler, LCMScheduler)

    def encode(self, window: Tensor) -> Encoded:
        """Look at a window, ``(1, 3, H, W)`` float in [-1, 1], once."""
        with self._alone():
            features = self.pipeline.encode(window, sample_posterior=False)
        give_back()  # what comes next has little use for the blocks that encoding leaves
        return Encoded(window, features)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One edit at a time, whose networks leave the GPU at its end where they come and go."""
        with self._lock:
            try:
                yield
            finally:
                self.pipeline.maybe_free_model_hooks()

    def generate(self, encoded: Encoded, inputs: DragInputs, generator: torch.Generator) -> PaintedEdit:
        """Paint ``inputs.num_images`` edits.

        Raises:
            EditCancelled: the callback returned False.
        """
        steps = self.default_steps if inputs.steps is None else inputs.steps

        def report(pipeline: LightningDragPipeline, step: int, *_: Any) -> None:
            total = len(pipeline.scheduler.timesteps)  # PNDM makes more of them
            if inputs.callback is not None and inputs.callback(step + 1, total) is False:
                raise EditCancelled(f"stopped after step {step + 1} of {total}")

        seeds = torch.randint(2**62, (inputs.num_images,), generator=generator, device=generator.device)
        with self._alone():
            latents = self.pipeline.sample(
                encoded.features,
                inputs.mask,
                inputs.handles,
                inputs.targets,
                num_inference_steps=steps,
                guidance_scale=self.default_guidance if inputs.guidance is None else inputs.guidance,
                guidance_schedule=inputs.guidance_schedule,
                noise_prior=inputs.noise_prior,
                num_images=inputs.num_images,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds.tolist()],
                sample_posterior=False,
                callback_on_step_end=report,
            )
            give_back()
            image = codec.decode(self.decoder, latents).clamp(-1, 1)
        return PaintedEdit(image.to(encoded.window))


def set_defaults(pipeline: LightningDragPipeline, steps: int, guidance: float) -> None:
    """Say how a pipeline edits when it is not told, here and wherever it is loaded once it is saved."""
    pipeline.scheduler.register_to_config(**{STEPS_KEY: steps, GUIDANCE_KEY: guidance})
