"""Images to latents and back, in the scaled space that the denoiser works in."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F


def encode(
    vae: AutoencoderKL,
    image: Tensor,
    *,
    sample_posterior: bool,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Encode an image, ``(B, 3, H, W)`` in [-1, 1], as ``(B, 4, H / 8, W / 8)`` float32.

    Args:
        vae: the autoencoder.
        image: any float type and device.
        sample_posterior: draw from the posterior, with ``generator``; otherwise take its mode.
        generator: what is drawn from; None is the global one.
    """
    posterior = vae.encode(image.to(vae.dtype)).latent_dist
    latents = posterior.sample(generator) if sample_posterior else posterior.mode()
    return latents.float() * vae.config.scaling_factor


@torch.no_grad()
def decode(vae: AutoencoderKL | AutoencoderTiny, latents: Tensor) -> Tensor:
    """Decode ``(B, 4, h, w)`` to ``(B, 3, 8h, 8w)`` float32, about [-1, 1], not clamped.

    One candidate at a time: decoding is where memory peaks, and a batch is no faster there.
    """
    scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
    return torch.cat([vae.decode(latent[None], return_dict=False)[0].float() for latent in scaled])


def masked_source(image: Tensor, mask: Tensor) -> Tensor:
    """The source with mid-grey (0) where it may change: ``(B, 3, H, W)``, ``(B, 1, H, W)`` of 0 and 1."""
    return image * (1 - mask)


def latent_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask ``(B, 1, H, W)`` of 0 and 1 at latent size, by the nearest neighbour.

    One that falls between the neighbours, and would vanish, takes every latent pixel that it touches.
    """
    nearest = F.interpolate(mask, size=(height, width), mode="nearest")
    vanished = nearest.amax((1, 2, 3), keepdim=True) == 0
    return torch.where(vanished, F.adaptive_max_pool2d(mask, (height, width)), nearest)
