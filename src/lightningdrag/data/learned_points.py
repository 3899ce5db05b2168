"""TAPIR, TAPNext and CoTracker as point trackers, with the user's packages and weights.

Weights are a plain state dict (CoTracker's: its checkpoint), for which the package that defines the network
has to be installed; or a TorchScript file of a network that is called in the same way, which needs
no package. Public interfaces as of tapnet (github.com/google-deepmind/tapnet) and CoTracker 3
(github.com/facebookresearch/co-tracker).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lightningdrag.data.points import PointTracker
from lightningdrag.data.recipe import RecipeError

if TYPE_CHECKING:
    import torch

SIDE = 256  # px; TAPIR and TAPNext were trained on squares of this side

Ask = Callable[["torch.nn.Module", "torch.Tensor", "torch.Tensor"], tuple["torch.Tensor", "torch.Tensor"]]
"""Calls a network with a film ``(1, T, h, w, 3)``, [0, 255], and points ``(1, N, 2)`` (x, y), px from the
frame's corner, of its first frame; gives where they are, ``(N, T, 2)``, and whether seen, ``(N, T)``."""


def tapir(weights: str) -> PointTracker:
    """TAPIR (Doersch et al., 2023) or BootsTAPIR; Apache-2.0."""

    def build() -> torch.nn.Module:
        from tapnet.torch.tapir_model import TAPIR

        return TAPIR()

    def ask(model: Any, film: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = model(film / 127.5 - 1, _timed(points.flip(-1)))
        seen = (1 - found["occlusion"].sigmoid()) * (1 - found["expected_dist"].sigmoid()) > 0.5
        return found["tracks"][0], seen[0]

    return Learned(_loaded(weights, build), ask, SIDE)


def tapnext(weights: str) -> PointTracker:
    """TAPNext (Zholus et al., 2025); Apache-2.0."""

    def build() -> torch.nn.Module:
        from tapnet.tapnext.tapnext_torch import TAPNext

        return TAPNext(image_size=(SIDE, SIDE))

    def ask(model: Any, film: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tracks, _, visible, *_ = model(film / 127.5 - 1, _timed(points.flip(-1)))
        return tracks[0].transpose(0, 1).flip(-1), visible[0, ..., 0].transpose(0, 1) > 0

    return Learned(_loaded(weights, build), ask, SIDE)


def cotracker(weights: str) -> PointTracker:
    """CoTracker 3, offline (Karaev et al., 2024); CC-BY-NC 4.0, not for commercial use."""

    def build() -> torch.nn.Module:
        from cotracker.predictor import CoTrackerPredictor

        return CoTrackerPredictor(checkpoint=weights, offline=True, window_len=60)

    def ask(model: Any, film: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tracks, visible = model(film.permute(0, 1, 4, 2, 3), queries=_timed(points - 0.5))
        return tracks[0].transpose(0, 1) + 0.5, visible[0].reshape(visible.shape[1:3]).transpose(0, 1) > 0.5

    return Learned(_loaded(weights, build, own=True), ask)


class Learned:
    """A network as a :data:`~lightningdrag.data.points.PointTracker`, on a GPU if there is one.

    Args:
        side: frames are scaled to squares of this side; None leaves them as they are.
    """

    def __init__(self, model: torch.nn.Module, ask: Ask, side: int | None = None) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device)
        self.ask, self.side = ask, side

    def __call__(self, frames: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(T, H, W, 3)`` uint8 RGB, ``(N, 2)`` -> ``(T, N, 2)`` float32, ``(T, N)`` bool."""
        import torch

        height, width = frames.shape[1:3]
        if self.side:
            size = (self.side, self.side)
            frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
        scale = np.array([frames.shape[2] / width, frames.shape[1] / height], np.float32)
        film = torch.from_numpy(np.ascontiguousarray(frames))[None].to(self.device).float()
        starts = torch.from_numpy(((points + 0.5) * scale).astype(np.float32))[None].to(self.device)
        with torch.inference_mode():
            tracks, seen = self.ask(self.model, film, starts)
        ends = tracks.transpose(0, 1).float().cpu().numpy() / scale - np.float32(0.5)
        return ends, seen.transpose(0, 1).cpu().numpy()


def _timed(points: torch.Tensor) -> torch.Tensor:
    """``(1, N, 2)`` -> ``(1, N, 3)``, asked for in the first frame."""
    import torch

    return torch.cat((torch.zeros_like(points[..., :1]), points), -1)


def _loaded(weights: str, build: Callable[[], torch.nn.Module], own: bool = False) -> torch.nn.Module:
    """A TorchScript file as it is, else the built network with the weights in it.

    Args:
        own: the network reads the file by itself.
    """
    import torch

    try:
        return torch.jit.load(weights, map_location="cpu")
    except RuntimeError:  # no TorchScript
        model = build()
    if own:
        return model
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (RuntimeError, KeyError) as error:
        raise RecipeError(f"{weights} holds no weights of {type(model).__name__}") from error
    return model
