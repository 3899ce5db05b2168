"""Mean distance by DIFT: where a handle's features are found in the result (Tang et al., NeurIPS 2023).

The constants are those of DragDiffusion's evaluation and of RegionDrag's variant.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.evaluation.case import Case
from lightningdrag.evaluation.lpips import to_tensor

TIMESTEP = 261
UP_BLOCK = 1
ENSEMBLE = 8
DISC_SIDE = 768
DISC_MINIMUM = 5.0


class Dift:
    """Features of one upsampling block of a noised image, averaged over several noises.

    Args:
        unet, vae, scheduler: diffusers' ``UNet2DConditionModel``, ``AutoencoderKL`` and a scheduler with
            ``add_noise``, of one model.
        embed: text to ``(1, L, C)`` embeddings.
    """

    def __init__(self, unet: Any, vae: Any, scheduler: Any, embed: Callable[[str], Tensor]) -> None:
        self._unet, self._vae, self._scheduler, self._embed = unet, vae, scheduler, embed

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Dift:
        """Stable Diffusion 2.1 from a diffusers folder or hub id.

        Raises:
            OSError, ValueError: it is not there or is not such a model.
        """
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        cuda = torch.cuda.is_available()
        device, dtype = ("cuda", torch.float16) if cuda else ("cpu", torch.float32)
        unet, vae, text = (
            kind.from_pretrained(folder, subfolder=part, torch_dtype=dtype).to(device).eval()
            for kind, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"),
                               (CLIPTextModel, "text_encoder"))
        )  # fmt: skip
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")

        def embed(prompt: str) -> Tensor:
            tokens = tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt")
            return text(tokens.input_ids.to(device))[0]

        return cls(unet, vae, DDIMScheduler.from_pretrained(folder, subfolder="scheduler"), embed)

    @torch.inference_mode()
    def features(self, image: np.ndarray, prompt: str, seed: int = 0) -> Tensor:
        """``(C, H, W)`` float32 features of an ``(H, W, 3)`` uint8 image, upsampled to its size.

        The noise depends on the seed alone, so an image is like itself.
        """
        kept: list[Tensor] = []
        hook = self._unet.up_blocks[UP_BLOCK].register_forward_hook(lambda *call: kept.append(call[-1]))
        try:
            self._run(image, prompt, seed)
        finally:
            hook.remove()
        mean = kept[0].float().mean(0, keepdim=True)
        return F.interpolate(mean, image.shape[:2], mode="bilinear", align_corners=False)[0].cpu()

    def _run(self, image: np.ndarray, prompt: str, seed: int) -> None:
        device, dtype = self._unet.device, self._unet.dtype
        generator = torch.Generator().manual_seed(seed)
        posterior = self._vae.encode(to_tensor([image]).to(device, dtype)).latent_dist
        size = (ENSEMBLE, *posterior.mean.shape[1:])
        draw, noise = (torch.randn(size, generator=generator).to(posterior.mean) for _ in range(2))
        latents = (posterior.mean + posterior.std * draw) * self._vae.config.scaling_factor
        time = torch.full((ENSEMBLE,), TIMESTEP, device=device)
        text = self._embed(prompt).to(device, dtype).expand(ENSEMBLE, -1, -1)
        self._unet(self._scheduler.add_noise(latents, noise, time), time, text)


def at_points(features: Tensor, points: np.ndarray) -> Tensor:
    """``(N, C)`` unit vectors of ``(C, H, W)`` features at the pixels nearest to (x, y) points."""
    height, width = features.shape[1:]
    x, y = np.clip(np.rint(points), 0, [width - 1, height - 1]).astype(int).T
    return F.normalize(features[:, y, x].T, eps=1e-8)


def likeness(wanted: Tensor, features: Tensor) -> Tensor:
    """``(N, H, W)`` cosines of unit vectors ``(N, C)`` and each pixel's features ``(C, H, W)``.

    The features are GBs: nothing of their size is made beside them.
    """
    product = (wanted @ features.flatten(1)).unflatten(1, features.shape[1:])
    return product / torch.linalg.vector_norm(features, dim=0).clamp_min(1e-8)


def most_alike(cosines: Tensor, allowed: np.ndarray | None) -> np.ndarray:
    """(x, y) of the highest of ``(H, W)`` cosines, where ``(H, W)`` bool allows it; None is everywhere."""
    if allowed is not None and allowed.any():
        cosines = cosines.masked_fill(~torch.from_numpy(allowed), -2)
    row, column = divmod(int(cosines.argmax()), cosines.shape[1])
    return np.array([column, row], np.float64)


def discs(handle: np.ndarray, target: np.ndarray, side: int = DISC_SIDE) -> np.ndarray:
    """Where MD2 looks: discs of radius max(5, distance / sqrt 2) around handle and target, ``(S, S)``."""
    radius = max(DISC_MINIMUM, float(np.hypot(*(target - handle))) / np.sqrt(2))
    y, x = np.mgrid[:side, :side]
    return np.min([np.hypot(x - px, y - py) for px, py in (handle, target)], axis=0) <= radius


def mean_distances(dift: Dift, case: Case, results: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """MD in its three forms, a mean over the case's points, for every result.

    - ``md``: looked for in the whole image; L2 in pixels (DragDiffusion).
    - ``md_masked``: inside the mask only (m-MD, MD1).
    - ``md_discs``: both images at 768x768, inside two discs (:func:`discs`); each axis of the distance
      divided by the width or height, x100 (MD2 of RegionDrag and Inpaint4Drag).

    No more than one image's features are held at a time.
    """
    handles, targets = (points.astype(np.float64) for points in case.probed)
    height, width = case.source.shape[:2]
    scores: dict[str, dict[str, float]] = {name: {} for name in results}
    wanted = at_points(dift.features(case.source, case.prompt), handles)
    for name, result in results.items():
        cosines = likeness(wanted, dift.features(result, case.prompt))
        for key, allowed in (("md", None), ("md_masked", case.mask)):
            found = np.array([most_alike(each, allowed) for each in cosines])
            scores[name][key] = _mean_length(found - targets)
    scale = np.array([DISC_SIDE / width, DISC_SIDE / height])
    handles, targets = ((points + 0.5) * scale - 0.5 for points in (handles, targets))
    looked_in = [discs(*drag) for drag in zip(handles, targets, strict=True)]
    wanted = at_points(dift.features(_square(case.source), case.prompt), handles)
    for name, result in results.items():
        cosines = likeness(wanted, dift.features(_square(result), case.prompt))
        found = np.array([most_alike(*each) for each in zip(cosines, looked_in, strict=True)])
        scores[name]["md_discs"] = _mean_length(100 * (found - targets) / DISC_SIDE)
    return scores


def _mean_length(vectors: np.ndarray) -> float:
    return float(np.hypot(*vectors.T).mean())


def _square(image: np.ndarray) -> np.ndarray:
    """An image at 768x768, bilinear."""
    from PIL import Image

    resized = Image.fromarray(image).resize((DISC_SIDE, DISC_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(resized)
