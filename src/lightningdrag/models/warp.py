"""The analytic warp as a model: no weights, no choice, a baseline and the live preview."""

from __future__ import annotations

import torch
from torch import Tensor

from lightningdrag.models.protocol import DragInputs, EditCancelled, Encoded, MotionEdit
from lightningdrag.warp import drag_displacement, rim_anchors


class WarpModel:
    """Answers every request with the displacement of ``warp.drag_displacement``; all is visible.

    A ``DragModel``. Every seed and candidate is alike.
    """

    name = "warp"
    multiple = 8
    max_upscale = 1.0
    default_steps = 1
    default_guidance = 0.0  # it has none

    def __init__(self, working_area: int = 256 * 256) -> None:
        self.working_area = working_area

    def encode(self, window: Tensor) -> Encoded:
        return Encoded(window)

    def generate(self, encoded: Encoded, inputs: DragInputs, generator: torch.Generator) -> MotionEdit:
        displacement = displacement_of(inputs)
        if inputs.callback is not None and inputs.callback(1, 1) is False:
            raise EditCancelled
        count = inputs.num_images
        return MotionEdit(
            displacement=displacement.expand(count, -1, -1, -1),
            visibility=torch.ones_like(displacement[:, :1]).expand(count, -1, -1, -1),
            colour=encoded.window.float().cpu().expand(count, -1, -1, -1),
        )


def displacement_of(inputs: DragInputs) -> Tensor:
    """The analytic backward displacement of a request, ``(1, 2, H, W)`` window pixels, on the CPU."""
    mask = inputs.mask.cpu()
    anchors = torch.from_numpy(rim_anchors(mask.numpy()))
    handles, targets = inputs.handles.cpu().float(), inputs.targets.cpu().float()
    return drag_displacement(handles[None], targets[None], anchors[None], mask[None, None])
