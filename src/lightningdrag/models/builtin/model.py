"""Sampling the built-in model behind the editor's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.guidance import guidance_weights
from lightningdrag.models.builtin.constraints import FINE_HOLD, HOLD, agreed, agreed_fills, calmed, held, seen
from lightningdrag.models.builtin.cutouts import with_cutouts
from lightningdrag.models.builtin.evidence import DragBatch, Evidence, gather_evidence
from lightningdrag.models.builtin.followers import companions, followers, whole_thing
from lightningdrag.models.builtin.network import (
    MOTION_STRIDE,
    NOISE_CHANNELS,
    Appearance,
    BuiltinNetwork,
    Motion,
    Rendering,
    decided,
    upsample,
    without_weak_holes,
)
from lightningdrag.models.builtin.outlines import find_outlines
from lightningdrag.models.builtin.patch_fill import patched
from lightningdrag.models.builtin.surroundings import without_outline
from lightningdrag.models.builtin.things import cut_out
from lightningdrag.models.protocol import (
    Call,
    Callback,
    DragInputs,
    EditCancelled,
    Encoded,
    Followers,
    MotionEdit,
    batch_key,
    check_finite,
)
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
    return F.avg_pool2d(torch.cat((field, visible), 1), 2)


@dataclass(frozen=True)
class _Look:
    """A motion of one edit.

    Attributes:
        displacement: ``(1, 2, h, w)`` in pixels of the window.
        visibility: ``(1, 1, h, w)`` logits.
    """

    batch: DragBatch
    displacement: Tensor
    visibility: Tensor

    def field(self) -> np.ndarray:
        """The displacement, ``(h, w, 2)``."""
        return self.displacement[0].permute(1, 2, 0).contiguous().cpu().numpy()

    def thing(self, *, perhaps: bool = False) -> np.ndarray | None:
        """What it moves whole, ``(H, W)`` bool, if there is such a thing; see :func:`cut_out`."""
        shown = decided(upsample(self.visibility, MOTION_STRIDE))
        [thing] = cut_out(upsample(self.displacement, MOTION_STRIDE), shown, self.batch, perhaps=perhaps)
        return thing


class BuiltinModel:
    """A :class:`~lightningdrag.models.protocol.DragModel` with about ten million weights.

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
    candidate_temperature = 6.0
    """Of all candidates but the first; noise fades around targets, and so it may be strong elsewhere."""

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
        ``candidate_temperature``; a given ``temperature`` holds for all. At the targets all show what the
        first one does. Cost grows linearly with candidates and steps; guidance above 1 doubles that of the
        steps.
        """
        return self.generate_batch([(encoded, inputs, generator)])[0]

    @torch.inference_mode()
    def generate_batch(self, calls: Sequence[Call]) -> list[MotionEdit]:
        """Generate the edits of several windows in one pass (:class:`~.protocol.BatchModel`).

        Each draws from its own generator, so its noise is the same in any company.
        """
        if len({batch_key(encoded, inputs) for encoded, inputs, _ in calls}) != 1:
            raise ValueError("edits of one batch need windows of one size, and the same steps and guidance")
        asked = [inputs for _, inputs, _ in calls]
        first, counts = asked[0], [inputs.num_images for inputs in asked]
        guidance = self.default_guidance if first.guidance is None else first.guidance
        points = max(len(inputs.handles) for inputs in asked)
        rendering = self.sample(
            concatenated([self.batch(encoded.window, inputs, points) for encoded, inputs, _ in calls]),
            concatenated([encoded.features.expand(inputs.num_images) for encoded, inputs, _ in calls]),
            [generator for _, inputs, generator in calls for _ in range(inputs.num_images)],
            counts=counts,
            things=[
                None if inputs.thing is None else inputs.thing.numpy()
                for inputs in asked
                for _ in range(inputs.num_images)
            ],
            weights=guidance_weights(
                first.guidance_schedule, max(guidance, 1.0), first.steps or self.default_steps
            ),
            temperature=torch.cat([self.temperatures(inputs) for inputs in asked]),
            noise_prior=first.noise_prior,
            callback=_together([inputs.callback for inputs in asked]),
        )
        assert rendering.origin is not None
        assert rendering.edges is not None
        colour = rendering.colour.clamp(-1, 1)
        answers = (rendering.displacement, rendering.shown(), colour, rendering.origin, rendering.edges)
        return [MotionEdit(*parts) for parts in zip(*(x.split(counts) for x in answers), strict=True)]

    @torch.inference_mode()
    def followers(self, encoded: Encoded, inputs: DragInputs) -> list[Followers]:
        """What the likeliest motion moves (:class:`~.protocol.MaskModel`).

        One drag alone may be read in two ways: all of a thing goes, or what the motion moves. The first is
        the likelier one where the thing stands out.
        """
        handles, targets = inputs.handles.numpy(), inputs.targets.numpy()
        look = self._look(encoded, inputs)
        field = look.field()
        mask = followers(field, handles, targets, MOTION_STRIDE)
        places = companions(field, handles, targets, MOTION_STRIDE)
        bends = Followers(torch.from_numpy(mask), torch.from_numpy(places))
        if len(targets) > 1:  # several drags say themselves how a thing moves
            return [bends]
        if (thing := look.thing()) is not None:
            return [self._goes_whole(thing, encoded, inputs), bends][: inputs.num_images]
        if inputs.num_images > 1 and (thing := look.thing(perhaps=True)) is not None:
            return [bends, self._goes_whole(thing, encoded, inputs)]
        return [bends]

    def _goes_whole(self, thing: np.ndarray, encoded: Encoded, inputs: DragInputs) -> Followers:
        """One drag, read as a thing ``(H, W)`` bool that moves whole."""
        handle, target = inputs.handles[0].numpy(), inputs.targets[0].numpy()
        mask, places = whole_thing(thing, handle, target)
        # Its companions move more of it than the drag alone did: so another look finds what hangs on it.
        goes = torch.cat((inputs.targets, torch.from_numpy(places)))
        again = replace(inputs, handles=goes - (inputs.targets - inputs.handles), targets=goes)
        if (more := self._look(encoded, again).thing()) is not None:
            thing = more
            mask, places = whole_thing(thing, handle, target)
        return Followers(*(torch.from_numpy(x) for x in (mask, places, thing)))

    def _look(self, encoded: Encoded, inputs: DragInputs) -> _Look:
        """The likeliest motion."""
        batch = self.batch(encoded.window, replace(inputs, num_images=1), len(inputs.handles))
        evidence = gather_evidence(batch)
        with self.autocast():
            motion = self.sample_motion(
                motion_prior(evidence),
                [1.0] * self.default_steps,
                batch,
                evidence,
                encoded.features,
                None,
            )
        return _Look(batch, motion.displacement.float() * evidence.length, motion.visibility)

    @torch.inference_mode()
    def likeliest(self, batch: DragBatch) -> Rendering:
        """The first candidate of each edit of a batch, always with the same noise in its fills."""
        with self.autocast():
            appearance = self.network.appearance(batch.source)
        return self.sample(
            batch,
            appearance,
            torch.Generator().manual_seed(0),
            counts=[1] * len(batch.source),
            things=[None] * len(batch.source),
            weights=[1.0] * self.default_steps,
            temperature=torch.full((len(batch.source), 1, 1, 1), self.default_temperature),
        )

    @torch.inference_mode()
    def sample(
        self,
        batch: DragBatch,
        appearance: Appearance,
        generator: torch.Generator | Sequence[torch.Generator],
        *,
        counts: Sequence[int],
        things: Sequence[np.ndarray | None],
        weights: list[float],
        temperature: Tensor,
        noise_prior: str = "source",
        callback: Callback | None = None,
    ) -> Rendering:
        """Generate and render a batch of edits.

        Args:
            generator: of all noise, or one for each of the batch.
            counts: how many candidates each edit has; they sum to the batch.
            things: of each of the batch the thing that it moves whole, if it does, ``(H, W)`` bool.
            weights: the point-guidance weight of each step.
            temperature: ``(B, 1, 1, 1)``, scale of the motion noise.
        """
        evidence = gather_evidence(batch)
        prior = motion_prior(evidence, noise_prior)
        motion_noise, noise = self.draw(prior.shape, evidence.mask.shape, generator)
        temperature = temperature.to(self.device)
        state = prior + PRIOR_SIGMA * temperature * calmed(motion_noise, batch)
        with self.autocast():
            motion = self.sample_motion(state, weights, batch, evidence, appearance, callback)
            rendering = self.network.renderer(motion, batch, evidence, appearance, calmed(noise, batch))
        check_finite(rendering.displacement, rendering.visibility, rendering.colour, rendering.thing)
        displacement = held(rendering.displacement, batch, 1, FINE_HOLD)
        visibility = without_weak_holes(seen(rendering.visibility, batch))
        answer = agreed(
            torch.cat((displacement, visibility, rendering.colour, rendering.thing), 1), counts, batch
        )
        displacement, visibility, colour, thing = answer.split((2, 1, 3, 1), 1)
        visibility = without_outline(visibility, displacement)
        rendering = Rendering(displacement, visibility, colour, thing)
        outlines, rendering = with_cutouts(find_outlines(rendering, batch), rendering, batch, things)
        outlines = outlines.agreed(counts, batch)
        rendering = outlines.part(rendering)
        rendering = patched(rendering, batch, outlines.before, temperature * noise[:, :1])
        rendering = outlines.soften(rendering, batch.source)
        assert rendering.origin is not None
        colour, origin = agreed_fills(rendering.colour, rendering.origin, counts, batch)
        return replace(rendering, colour=colour, origin=origin)

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
            motion = replace(motion, displacement=held(motion.displacement, batch, evidence.length, HOLD))
            clean = motion.state()
            state = clean + (1 - 1 / (steps - i)) * (state - clean)
            if callback is not None and callback(i + 1, steps) is False:
                raise EditCancelled(f"stopped after step {i + 1} of {steps}")
        check_finite(motion.displacement, motion.visibility)
        return motion

    def batch(self, window: Tensor, inputs: DragInputs, points: int) -> DragBatch:
        """The candidates of one edit, padded to a number of points."""
        count, missing = inputs.num_images, points - len(inputs.handles)
        anchors = torch.from_numpy(rim_anchors(inputs.mask.cpu().numpy()))

        def repeat(x: Tensor) -> Tensor:
            return x.to(self.device, torch.float32).expand(count, *x.shape)

        return DragBatch(
            repeat(window[0]),
            repeat(inputs.mask[None]),
            repeat(F.pad(inputs.handles, (0, 0, 0, missing))),
            repeat(F.pad(inputs.targets, (0, 0, 0, missing))),
            repeat(F.pad(torch.ones(len(inputs.handles)), (0, missing))),
            repeat(anchors),
        )

    def temperatures(self, inputs: DragInputs) -> Tensor:
        if inputs.temperature is not None:
            return torch.full((inputs.num_images, 1, 1, 1), inputs.temperature)
        temperature = torch.full((inputs.num_images, 1, 1, 1), self.candidate_temperature)
        temperature[0] = self.default_temperature
        return temperature

    def draw(
        self,
        motion: torch.Size,
        quarter: torch.Size,
        generator: torch.Generator | Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """Gaussian noise for motions and fills, candidate by candidate: the first ones stay when more follow.

        It comes from the generator's own device, so that a seed means one image.
        """

        generators = [generator] * motion[0] if isinstance(generator, torch.Generator) else generator
        shapes = (motion[1:], (NOISE_CHANNELS, *quarter[2:]))
        draws = [[torch.randn(shape, generator=g, device=g.device) for shape in shapes] for g in generators]
        first, second = (torch.stack(noise).to(self.device) for noise in zip(*draws, strict=True))
        return first, second


def concatenated(parts: Sequence[Any]) -> Any:
    """Tensors, or tuples or dataclasses of them, one after another along the batch."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, tuple):
        return tuple(concatenated(items) for items in zip(*parts, strict=True))
    return type(first)(*(concatenated([getattr(part, f.name) for part in parts]) for f in fields(first)))


def _together(callbacks: Sequence[Callback | None]) -> Callback | None:
    """Tells all; stops when one wants to."""
    told = [callback for callback in callbacks if callback is not None]
    if not told:
        return None

    def tell(step: int, total: int) -> bool:
        answers = [callback(step, total) for callback in told]
        return not any(answer is False for answer in answers)

    return tell
