"""What the built-in model is trained to do: move rightly, know what is uncovered, look right.

All means are taken inside the mask, sample by sample, so that a small edit counts like a large one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.models.builtin.evidence import Evidence
from lightningdrag.models.builtin.network import Motion, Rendering, upsample
from lightningdrag.training.recipe import BuiltinRecipe
from lightningdrag.warp import sample

SURE = 8.0
"""Logit of what is known to be visible."""
LABEL_STRIDE = 2
"""Motion labels stand at 1/2 of the crop."""
CODEC_NOISE = 1e-3
"""Squared error, of colours in [-1, 1], below which it is the clips' compression: 36 dB."""


@dataclass(frozen=True)
class Labels:
    """The truth.

    Attributes:
        image: ``(B, 3, H, W)`` in [-1, 1], the second frame.
        displacement: ``(B, 2, H/2, W/2)`` backward, in crop pixels.
        visible: ``(B, 1, H/2, W/2)`` 1 where the source shows what stands here, checked.
        hidden: ``(B, 1, H/2, W/2)`` 1 where it does not. Neither: unknown.
    """

    image: Tensor
    displacement: Tensor
    visible: Tensor
    hidden: Tensor


def to_device(item: Any, device: torch.device) -> Any:
    """A dataclass of tensors, moved."""
    return type(item)(**{name: value.to(device) for name, value in vars(item).items()})


def masked_means(x: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``(B, C, h, w)`` by weights ``(B, 1, h, w)`` for each sample, ``(B,)``."""
    total = (x.mean(1, keepdim=True) * weight).sum((1, 2, 3))
    return total / (weight.sum((1, 2, 3)) + 1)


def masked_mean(x: Tensor, weight: Tensor) -> Tensor:
    """:func:`masked_means`, averaged over the samples."""
    return masked_means(x, weight).mean()


@dataclass(frozen=True)
class MotionErrors:
    """What is wrong with a displacement, over L + 2 px, and where the label is trusted.

    Attributes:
        error: ``(B, 2, h, w)``.
        weight: ``(B, 1, h, w)`` from 0 to 1.
    """

    error: Tensor
    weight: Tensor

    def sizes(self) -> Tensor:
        """Charbonnier of the error, for each sample, ``(B,)``."""
        return masked_means(charbonnier(self.error), self.weight)

    def incoherence(self) -> Tensor:
        """Charbonnier of how the error differs between neighbouring cells, for each sample, ``(B,)``.

        A mean of motions is right nowhere, but what the cells of a thing have in common is known: it keeps
        its shape.
        """
        total = self.error.new_zeros(len(self.error))
        for axis in (-1, -2):
            size = self.error.shape[axis] - 1
            (a, b), (p, q) = (
                (x.narrow(axis, 0, size), x.narrow(axis, 1, size)) for x in (self.error, self.weight)
            )
            total = total + masked_means(charbonnier(b - a), torch.minimum(p, q))
        return total


def charbonnier(error: Tensor) -> Tensor:
    """``(B, 1, h, w)``: a norm that is smooth at 0. The root over all channels at once keeps it isotropic."""
    return (error.square().sum(1, keepdim=True) + 1e-4).sqrt() - 1e-2


def motion_errors(estimate: Tensor, labels: Labels, mask: Tensor, length: Tensor) -> MotionErrors:
    """Compare a displacement with the truth.

    Args:
        estimate: ``(B, 2, h, w)`` in crop pixels, at 1/2 of the crop or coarser.
        mask: ``(B, 1, H/2, W/2)``.
        length: ``(B, 1, 1, 1)`` L in pixels.
    """
    weight, truth = labels.visible * mask, labels.displacement
    stride = weight.shape[-1] // estimate.shape[-1]
    if stride > 1:
        pooled = F.avg_pool2d(weight, stride)
        truth = F.avg_pool2d(truth * weight, stride) / pooled.clamp_min(1e-3)
        weight = pooled
    return MotionErrors((estimate - truth) / (length + 2), weight)


def visibility_loss(logits: Tensor, labels: Labels, mask: Tensor) -> Tensor:
    """Binary cross-entropy where visibility is known."""
    visible, hidden = labels.visible * mask, labels.hidden * mask
    stride = visible.shape[-1] // logits.shape[-1]
    if stride > 1:
        visible, hidden = F.avg_pool2d(visible, stride), F.avg_pool2d(hidden, stride)
    return masked_mean(F.softplus(-logits), visible) + masked_mean(F.softplus(logits), hidden)


def photometric_loss(displacement: Tensor, source: Tensor, labels: Labels, mask: Tensor) -> Tensor:
    """How far the source through the warp is from the truth, in bel of squared error, at three scales.

    In the logarithm, as PSNR is, so that a faint picture counts like one of strong contrast. On visible
    pixels, and at half weight on those of which nothing is known; at the coarser scales errors are pooled
    with their weights, so that there these count for less still.
    """
    error = sample(source, displacement) - labels.image
    weight = F.interpolate((1 + labels.visible - labels.hidden) / 2, scale_factor=LABEL_STRIDE) * mask
    total = _bel(error, weight)
    for _ in range(2):
        error, weight = F.avg_pool2d(error * weight, 2), F.avg_pool2d(weight, 2)
        total = total + _bel(error, (weight > 0.25).float())
    return total / 3


def _bel(error: Tensor, weight: Tensor) -> Tensor:
    """Mean of log10(1 + squared error / noise) over the samples."""
    return torch.log10(1 + masked_means(error.square(), weight) / CODEC_NOISE).mean()


def colour_loss(colour: Tensor, labels: Labels, mask: Tensor) -> Tensor:
    """L1 of the painted colour: what stands here given that it was hidden.

    Visible and unknown pixels count for little: there the truth may be what stood here before, and a
    painter that hedges between the two paints half-transparent doubles.
    """
    unknown = 1 - labels.visible - labels.hidden
    seen = labels.hidden + 0.1 * unknown + 0.02 * labels.visible
    return masked_mean((colour - labels.image).abs(), F.interpolate(seen, scale_factor=LABEL_STRIDE) * mask)


def picture_loss(result: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """L1, L1 of the gradients, and 1 - SSIM of the finished picture, in the mask."""
    error = result - truth
    loss = masked_mean(error.abs(), mask)
    across = masked_mean((error[..., :, 1:] - error[..., :, :-1]).abs(), mask[..., :, 1:])
    down = masked_mean((error[..., 1:, :] - error[..., :-1, :]).abs(), mask[..., 1:, :])
    # Structure at half size and in grey: the pooling is costly on a CPU.
    structure = ssim(*(F.avg_pool2d(x.mean(1, keepdim=True), 2) for x in (result, truth)))
    return loss + (across + down) / 2 + 0.25 * masked_mean(1 - structure, F.avg_pool2d(mask, 2))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity map ``(B, C, H, W)`` over 7x7 boxes of images in [-1, 1]."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 7, stride=1, padding=3, count_include_pad=False)

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )


def with_true_visibility(rendering: Rendering, labels: Labels) -> Rendering:
    """The rendering as it would be with visibility known.

    A picture must not teach the visibility, since hiding the unsure behind a blur lowers any error of
    colours, nor teach the colour what to show where nothing was hidden.
    """
    known = SURE * F.interpolate(labels.visible - labels.hidden, scale_factor=LABEL_STRIDE)
    return replace(rendering, visibility=torch.where(known != 0, known, rendering.visibility.detach()))


def motion_terms(
    motion: Motion, source: Tensor, mask: Tensor, evidence: Evidence, labels: Labels
) -> dict[str, Tensor]:
    """What the motion generator answers for; ``source`` and ``mask`` are ``(B, C, H, W)``."""
    half_mask = F.avg_pool2d(mask, LABEL_STRIDE)
    estimate = motion.displacement * evidence.length
    errors = motion_errors(estimate, labels, half_mask, evidence.length)
    return {
        "displacement": errors.sizes().mean(),
        "coherence": errors.incoherence().mean(),
        "visibility": visibility_loss(motion.visibility, labels, half_mask),
        "photometric": photometric_loss(upsample(estimate, 8) * mask, source, labels, mask),
    }


def rendering_terms(
    rendering: Rendering, source: Tensor, mask: Tensor, evidence: Evidence, labels: Labels
) -> dict[str, Tensor]:
    """What the renderer answers for."""
    half_mask, half = F.avg_pool2d(mask, LABEL_STRIDE), F.avg_pool2d(rendering.displacement, LABEL_STRIDE)
    result = with_true_visibility(rendering, labels).compose(source)
    return {
        "displacement": motion_errors(half, labels, half_mask, evidence.length).sizes().mean(),
        "visibility": visibility_loss(F.avg_pool2d(rendering.visibility, 2), labels, half_mask),
        "photometric": photometric_loss(rendering.displacement, source, labels, mask),
        "colour": colour_loss(rendering.colour, labels, mask),
        "picture": picture_loss(result, labels.image, mask),
    }


def weighted_sum(recipe: BuiltinRecipe, *groups: dict[str, Tensor]) -> dict[str, Tensor]:
    """``"loss"``, the sum of all terms by the recipe's weights, and the terms for the log."""
    terms: dict[str, Tensor] = {}
    for name, term in (pair for group in groups for pair in group.items()):
        terms[name] = terms[name] + term if name in terms else term
    loss = torch.stack([getattr(recipe, name) * term for name, term in terms.items()]).sum()
    return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}
