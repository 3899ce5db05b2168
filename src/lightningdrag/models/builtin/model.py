"""Sampling the built-in model behind the editor's protocol."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from lightningdrag.guidance import guidance_weights
from lightningdrag.models.builtin.evidence import DragBatch, Evidence, gather_evidence
from lightningdrag.models.builtin.network import (
    NOISE_CHANNELS,
    Appearance,
    BuiltinNetwork,
    Motion,
    Rendering,
)
from lightningdrag.models.protocol import Callback, DragInputs, EditCancelled, Encoded, MotionEdit
from lightningdrag.warp import rim_anchors

PRIOR_SIGMA = 0.5
"""Standard deviation of the noise on the motion's prior at t = 1, in units of L."""


def motion_prior(evidence: Evidence, kind: str = "source") -> Tensor:
    """The mean of the generated motion at t = 1, ``(B, 3, H/8, W/8)``.

    "source" (the default) starts from the analytic displacement with everything visible, the
    counterpart of the paper's noised source latent; "noise" from zero; "copy_paste" from the drags'
    own displacement, unanchored; "mixed" half way between "source" and "noise".
    """
    fields = {"source": evidence.anchored, "mixed": evidence.anchored / 2, "copy_paste": evidence.free}
    field = fields.get(kind, torch.zeros_like(evidence.anchored))
    visible = torch.ones_like(field[:, :1]) if kind != "noise" else torch.zeros_like(field[:, :1])
    return torch.nn.functional.avg_pool2d(torch.cat((field, visible), 1), 2)


class BuiltinModel:
    """A :class:`~lightningdrag.models.protocol.DragModel` with about eight million weights.

    Args:
        network: the weights, on the device they shall run on.
        dtype: bfloat16 or float16 run under autocast; geometry stays in float32.
    """

    name = "builtin"
    multiple = 32
    working_area = 256 * 256
    max_upscale = 2.0
    default_steps = 1
    default_guidance = 1.0
    default_temperature = 0.0

    def __init__(self, network: BuiltinNetwork, dtype: torch.dtype = torch.float32) -> None:
        self.network = network.eval()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @torch.inference_mode()
    def encode(self, window: Tensor) -> Encoded:
        """Run the appearance encoder once on a window ``(1, 3, H, W)`` in [-1, 1]."""
        window = window.to(self.device, torch.float32)
        with self.autocast():
            return Encoded(window, self.network.appearance(window))

    @torch.inference_mode()
    def generate(self, encoded: Encoded, inputs: DragInputs, generator: torch.Generator) -> MotionEdit:
        """Generate motions, then render them. See :class:`DragInputs` for the units.

        The first candidate's motion is the likeliest one (temperature 0), the others' are drawn at
        temperature 1; a given ``temperature`` holds for all. Cost grows linearly with candidates and
        steps; guidance above 1 doubles that of the steps.
        """
        guidance = self.default_guidance if inputs.guidance is None else inputs.guidance
        steps = inputs.steps or self.default_steps
        batch = self.batch(encoded.window, inputs)
        rendering = self.sample(
            batch,
            encoded.features.expand(inputs.num_images),
            generator,
            weights=guidance_weights(inputs.guidance_schedule, max(guidance, 1.0), steps),
            temperature=self.temperatures(inputs),
            noise_prior=inputs.noise_prior,
            callback=inputs.callback,
        )
        return MotionEdit(rendering.displacement, rendering.shown(), rendering.colour.clamp(-1, 1))

    @torch.inference_mode()
    def sample(
        self,
        batch: DragBatch,
        appearance: Appearance,
        generator: torch.Generator,
        *,
        weights: list[float],
        temperature: Tensor,
        noise_prior: str = "source",
        callback: Callback | None = None,
    ) -> Rendering:
        """Generate and render a batch of edits.

        Args:
            weights: the point-guidance weight of each step.
            temperature: ``(B, 1, 1, 1)``, scale of the motion noise.
        """
        evidence = gather_evidence(batch)
        prior = motion_prior(evidence, noise_prior)
        motion_noise, noise = self.draw(prior.shape, evidence.mask.shape, generator)
        state = prior + PRIOR_SIGMA * temperature.to(self.device) * motion_noise
        with self.autocast():
            motion = self.sample_motion(state, weights, batch, evidence, appearance, callback)
            return self.network.renderer(motion, batch, evidence, appearance, noise)

    def sample_motion(
        self,
        state: Tensor,
        weights: list[float],
        batch: DragBatch,
        evidence: Evidence,
        appearance: Appearance,
        callback: Callback | None,
    ) -> Motion:
        """Flow matching with x-prediction: from t = 1 to 0 in equal steps along straight lines."""
        steps = len(weights)
        blank = batch.without_points()
        blank_evidence = gather_evidence(blank) if max(weights) > 1 else evidence
        for i, weight in enumerate(weights):
            t = torch.full((len(state),), 1 - i / steps, device=state.device)
            motion = self.network.motion(state, t, batch, evidence, appearance)
            if weight > 1:
                without = self.network.motion(state, t, blank, blank_evidence, appearance)
                motion = Motion(
                    torch.lerp(without.displacement, motion.displacement, weight),
                    torch.lerp(without.visibility, motion.visibility, weight),
                )
            clean = motion.state()
            state = clean + (1 - 1 / (steps - i)) * (state - clean)
            if callback is not None and callback(i + 1, steps) is False:
                raise EditCancelled(f"stopped after step {i + 1} of {steps}")
        return motion

    def batch(self, window: Tensor, inputs: DragInputs) -> DragBatch:
        count = inputs.num_images
        anchors = torch.from_numpy(rim_anchors(inputs.mask.cpu().numpy()))

        def repeat(x: Tensor) -> Tensor:
            return x.to(self.device, torch.float32).expand(count, *x.shape)

        return DragBatch(
            repeat(window[0]),
            repeat(inputs.mask[None]),
            repeat(inputs.handles),
            repeat(inputs.targets),
            repeat(torch.ones(len(inputs.handles))),
            repeat(anchors),
        )

    def temperatures(self, inputs: DragInputs) -> Tensor:
        if inputs.temperature is not None:
            return torch.full((inputs.num_images, 1, 1, 1), inputs.temperature)
        temperature = torch.ones(inputs.num_images, 1, 1, 1)
        temperature[0] = self.default_temperature
        return temperature

    def draw(
        self, motion: torch.Size, quarter: torch.Size, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Gaussian noise for motions and fills, candidate by candidate: the first ones stay when more follow.

        It comes from the generator's own device, so that a seed means one image.
        """

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=generator.device)

        count = motion[0]
        draws = [(normal(*motion[1:]), normal(NOISE_CHANNELS, *quarter[2:])) for _ in range(count)]
        first, second = (torch.stack(noise).to(self.device) for noise in zip(*draws, strict=True))
        return first, second
