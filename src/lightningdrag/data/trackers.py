"""What finds motion: OpenCV's DIS flow, or a network with the user's weights.

A tracker takes the frames of a shot and gives the flow between all neighbours, both ways; chaining, the
checks forward and backward, and occlusion are the same for all (:mod:`lightningdrag.data.tracks`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lightningdrag.data.tracks import ClipFlow, Tracker, clip_flow

TRACKERS = ("dis", "raft-small", "raft-large")
"""``dis`` needs nothing. RAFT (Teed and Deng, 2020; BSD-3) needs torchvision and its weight file."""


@lru_cache(maxsize=1)
def load_tracker(name: str, weights: str = "") -> Tracker:
    """A tracker by its name.

    Raises:
        ValueError: no tracker has this name, or its weights are missing or of another network.
    """
    if name == "dis":
        return clip_flow
    if name not in TRACKERS:
        raise ValueError(f"there is no tracker {name!r}; there are {', '.join(TRACKERS)}")
    if not weights:
        raise ValueError(f"the tracker {name} needs its weights: set tracker_weights to torchvision's file")
    return Raft(name, weights)


class Raft:
    """Torchvision's RAFT as a tracker, on a GPU if there is one.

    Args:
        name: ``"raft-small"`` or ``"raft-large"``.
        weights: a state dict as torchvision publishes it.
    """

    def __init__(self, name: str, weights: str) -> None:
        import torch
        from torchvision.models import optical_flow

        build = optical_flow.raft_small if name == "raft-small" else optical_flow.raft_large
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = build(weights=None)
        try:
            self.model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except RuntimeError as error:
            raise ValueError(f"{weights} holds no weights of {name}") from error
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
