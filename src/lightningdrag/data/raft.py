"""Torchvision's RAFT (Teed and Deng, 2020; BSD-3) as a flow tracker, with the user's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lightningdrag.data.recipe import RecipeError
from lightningdrag.data.tracks import ClipFlow

if TYPE_CHECKING:
    import torch


def small(weights: str) -> Raft:
    """RAFT-S with a state dict as torchvision publishes it."""
    from torchvision.models.optical_flow import raft_small

    return Raft(raft_small, weights)


def large(weights: str) -> Raft:
    """RAFT with a state dict as torchvision publishes it."""
    from torchvision.models.optical_flow import raft_large

    return Raft(raft_large, weights)


class Raft:
    """A RAFT network as a :data:`~lightningdrag.data.tracks.FlowTracker`, on a GPU if there is one.

    Raises:
        RecipeError: the weights are of another network.
    """

    def __init__(self, build: Callable[..., torch.nn.Module], weights: str) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = build(weights=None)
        try:
            self.model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except RuntimeError as error:
            raise RecipeError(f"{weights} holds no weights of {build.__name__}") from error
        self.model.eval().to(self.device)

    def __call__(self, frames: np.ndarray) -> ClipFlow:
        """``(T, H, W, 3)`` uint8 RGB -> the flow between neighbours."""
        steps = range(len(frames) - 1)
        return ClipFlow(
            np.stack([self._flow(frames[k], frames[k + 1]) for k in steps]),
            np.stack([self._flow(frames[k + 1], frames[k]) for k in steps]),
        )

    def _flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """``(H, W, 2)``. RAFT takes sides of 128 px and more, multiples of 8."""
        import torch

        height, width = first.shape[:2]
        pad = [(0, max(128, -(-height // 8) * 8) - height), (0, max(128, -(-width // 8) * 8) - width), (0, 0)]
        images = [torch.from_numpy(np.pad(image, pad, "edge")) for image in (first, second)]
        batch = [image.permute(2, 0, 1)[None].to(self.device) / 127.5 - 1 for image in images]
        with torch.inference_mode():
            flow = self.model(*batch)[-1][0, :, :height, :width]
        return np.ascontiguousarray(flow.permute(1, 2, 0).float().cpu().numpy())
