"""Point guidance over the sampling steps, and the noise that sampling starts from.

Both follow LightningDrag (arXiv 2405.13722): guidance compares the model with and without the points,
eps = eps_without + w_i (eps_with - eps_without), and the start is the noised source rather than noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the names below are read where torch is not wanted yet
    from torch import Tensor

SCHEDULES = ("inverse_square", "none", "linear", "square", "cubic", "first_half")
"""How the guidance weight falls from w towards 1 over the steps; the first is the paper's choice."""

NOISE_PRIORS = ("source", "noise", "mixed", "copy_paste")
"""What sampling starts from (:func:`start_latents`); the first is the paper's choice."""


def check_schedule(schedule: str) -> None:
    """Raise ValueError if ``schedule`` is none of :data:`SCHEDULES`."""
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown guidance schedule {schedule!r}; choose one of {', '.join(SCHEDULES)}")


def check_noise_prior(prior: str) -> None:
    """Raise ValueError if ``prior`` is none of :data:`NOISE_PRIORS`."""
    if prior not in NOISE_PRIORS:
        raise ValueError(f"unknown noise prior {prior!r}; choose one of {', '.join(NOISE_PRIORS)}")


def guidance_weights(schedule: str, w: float, steps: int) -> list[float]:
    """Point-guidance weight w_i of each step i = 0..T-1, with s = i / T:

        inverse_square  (w - 1) (1 - s)^2 + 1
        none            w
        linear          w (1 - s) + s
        square          w (1 - s^2) + s^2
        cubic           w (1 - s^3) + s^3
        first_half      as inverse_square while s < 1/2, then 1: an approximation for speed

    A step whose weight is 1 needs the branch with points only; w <= 1 makes every step one of these.

    Args:
        schedule: one of :data:`SCHEDULES`.
        w: weight at the first step, finite.
        steps: T >= 1.

    Returns:
        T floats.

    Raises:
        ValueError: an unknown schedule, a weight that is not finite, or no steps.
    """
    check_schedule(schedule)
    if not math.isfinite(w):
        raise ValueError(f"guidance must be a finite number, got {w}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if w <= 1:
        return [1.0] * steps
    progress = [i / steps for i in range(steps)]
    if schedule == "none":
        return [float(w)] * steps
    if schedule in ("inverse_square", "first_half"):
        end = 1 / 2 if schedule == "first_half" else 1
        return [(w - 1) * (1 - s) ** 2 + 1 if s < end else 1.0 for s in progress]
    power = {"linear": 1, "square": 2, "cubic": 3}[schedule]
    return [w * (1 - s**power) + s**power for s in progress]


def start_latents(
    prior: str,
    source: Tensor,
    noise: Tensor,
    signal: float,
    *,
    mask: Tensor,
    handles: Tensor,
    targets: Tensor,
    radius: int = 2,
) -> Tensor:
    """Where sampling starts. With noised(z) = signal * z + sqrt(1 - signal^2) * noise:

        source      noised(source): the paper's choice
        noise       noise alone
        mixed       noise where the image may change, noised(source) elsewhere
        copy_paste  noised(source), in which the square patch around each handle is cut out (noise stays)
                    and pasted around its target, pairs in order

    The paper names the last three in its ablation without formulas; these are the plain readings.

    Args:
        prior: one of :data:`NOISE_PRIORS`.
        source: ``(B or 1, C, h, w)``, the clean source.
        noise: ``(B, C, h, w)``, standard normal.
        signal: sqrt of the scheduler's cumulative alpha at the start, in [0, 1].
        mask: ``(B or 1, 1, h, w)``, 1 where the image may change.
        handles, targets: ``(N, 2)`` (x, y) in cells of the latent, rounded to the nearest.
        radius: half the side of a pasted patch, in cells.

    Returns:
        ``(B, C, h, w)``.

    Raises:
        ValueError: an unknown prior.
    """
    check_noise_prior(prior)
    if prior == "noise":
        return noise
    noised = signal * source + math.sqrt(1 - signal**2) * noise
    if prior == "mixed":
        return mask * noise + (1 - mask) * noised
    if prior == "copy_paste":
        return _paste_patches(noised, noise, handles, targets, radius)
    return noised


def _paste_patches(noised: Tensor, noise: Tensor, handles: Tensor, targets: Tensor, radius: int) -> Tensor:
    height, width = noised.shape[-2:]
    pairs = [
        (round(hx), round(hy), round(tx), round(ty))
        for (hx, hy), (tx, ty) in zip(handles.tolist(), targets.tolist(), strict=True)
    ]

    def extent(handle: int, target: int, size: int) -> range:
        """Offsets from both points that stay inside the latent."""
        return range(max(-radius, -handle, -target), min(radius, size - 1 - handle, size - 1 - target) + 1)

    start = noised.clone()
    for hx, hy, _, _ in pairs:
        rows = slice(max(hy - radius, 0), hy + radius + 1)
        columns = slice(max(hx - radius, 0), hx + radius + 1)
        start[..., rows, columns] = noise[..., rows, columns]
    for hx, hy, tx, ty in pairs:
        dx, dy = extent(hx, tx, width), extent(hy, ty, height)
        if len(dx) and len(dy):
            start[..., ty + dy.start : ty + dy.stop, tx + dx.start : tx + dx.stop] = noised[
                ..., hy + dy.start : hy + dy.stop, hx + dx.start : hx + dx.stop
            ]
    return start
