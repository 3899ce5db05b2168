"""LPIPS with AlexNet, version 0.1 (Zhang et al., CVPR 2018), and image fidelity by it.

The network is written out here because torchvision's wheels fit one build of torch each; the weights
are torchvision's AlexNet and the ``lpips`` package's linear heads.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightningdrag.checkpoints.tensors import load_strict, load_tensors

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
CHANNELS = (64, 192, 384, 256, 256)
FIDELITY_SIDE = 224


class AlexFeatures(nn.Module):
    """The five ReLU stages of AlexNet; names of its weights as torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        stages = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                stages.append(x)
        return stages


class Lpips(nn.Module):
    """Perceptual distance of two images, as a map or its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = AlexFeatures()
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1, bias=False) for channels in CHANNELS)
        self.eval().requires_grad_(False)

    @classmethod
    def from_files(cls, alexnet: Path, heads: Path) -> Lpips:
        """Load torchvision's ``alexnet-owt-7be5be79.pth`` and lpips' ``weights/v0.1/alex.pth``.

        Raises:
            CheckpointError: a file is missing or is not this network's.
        """
        model = cls()
        trunk = {k: v for k, v in load_tensors(alexnet).items() if not k.startswith("classifier.")}
        load_strict(model.trunk, trunk, str(alexnet))
        load_strict(model.heads, load_tensors(heads), str(heads), _head_name)
        return model

    @torch.inference_mode()
    def map(self, a: Tensor, b: Tensor) -> Tensor:
        """``(B, 1, H, W)`` distances of two ``(B, 3, H, W)`` images in [-1, 1], at their size."""
        size = a.shape[-2:]
        maps = [F.interpolate(d, size, mode="bilinear", align_corners=False) for d in self._distances(a, b)]
        return torch.stack(maps).sum(0)

    @torch.inference_mode()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``(B,)`` LPIPS: each stage's distances averaged over its own grid, summed over the stages."""
        return torch.stack([d.mean((1, 2, 3)) for d in self._distances(a, b)]).sum(0)

    def _distances(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """``(B, 1, h, w)`` of each stage, at the stage's size."""
        shift, scale = (torch.tensor(x, device=a.device).view(1, 3, 1, 1) for x in (SHIFT, SCALE))
        stages = (self.trunk((x - shift) / scale) for x in (a, b))
        return [
            head((_unit(fa) - _unit(fb)).square()) for head, fa, fb in zip(self.heads, *stages, strict=True)
        ]


def image_fidelity(model: Lpips, source: np.ndarray, results: list[np.ndarray]) -> list[float]:
    """IF = 1 - LPIPS, the whole image resized bilinearly to 224x224; ``(H, W, 3)`` uint8 images."""
    resized = F.interpolate(
        to_tensor([source, *results]), (FIDELITY_SIDE, FIDELITY_SIDE), mode="bilinear", align_corners=False
    )
    return (1 - model(resized[:1].expand(len(results), -1, -1, -1), resized[1:])).tolist()


def to_tensor(images: list[np.ndarray]) -> Tensor:
    """``(H, W, 3)`` uint8 images of one size as ``(B, 3, H, W)`` in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _unit(features: Tensor) -> Tensor:
    """Features of length 1 over the channels."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _head_name(name: str) -> str:
    return f"lin{name.partition('.')[0]}.model.1.weight"
