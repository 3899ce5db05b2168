"""Ways to drag, behind one small interface: what every table compares a model with, and the model.

A method is any callable ``(source, handles, targets, mask, seed) -> result``. A peer's model joins
the table by being wrapped in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from PIL import Image

from lightningdrag.warp import drag_displacement, forward_warp, rim_anchors, sample

if TYPE_CHECKING:
    from lightningdrag.editor import DragEditor

COVERAGE = 0.5
"""Pixels of the result where less than this arrives count as uncovered."""
DENSITY_WINDOW = 5
"""Coverage is averaged over this many pixels: a stretch leaves a comb of covered and empty ones."""
TELEA_RADIUS = 3.0


class EditMethod(Protocol):
    """One way to drag.

    Args:
        source: ``(H, W, 3)`` uint8 RGB.
        handles, targets: ``(N, 2)`` float32, (x, y) in pixels; a row that is equal in both is a pin.
        mask: ``(H, W)`` bool, True where the image may change.
        seed: of every random draw.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """

    def __call__(
        self, source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
    ) -> np.ndarray: ...


@runtime_checkable
class SamplingMethod(Protocol):
    """A method that can offer several candidates for one edit, as a person would be shown them."""

    def candidates(
        self,
        source: np.ndarray,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray,
        seed: int,
        count: int,
    ) -> list[np.ndarray]: ...


def identity(
    source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """Do nothing."""
    return source


def reference_warp(
    source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """The analytic warp that gains are measured against.

    Displacement by inverse-distance weights 1/d^3 over the targets and 64 anchors on the mask's rim
    that stand still, zero outside the mask; the source sampled bilinearly, reflected at its border.
    """
    return warp(source, displacement(handles, targets, mask), mask)


def reference_warp_inpainted(
    source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """The reference warp, with what it uncovered inpainted (Telea 2004, as in OpenCV).

    Uncovered is where, averaged over 5x5 pixels, less than half of the source arrives that the same
    drags send forward: there the warp can only stretch what lies beside it.
    """
    forward = torch.from_numpy(displacement(targets, handles, mask))[None]
    _, coverage = forward_warp(torch.zeros_like(forward[:, :1]), forward)
    density = cv2.blur(coverage[0, 0].numpy(), (DENSITY_WINDOW, DENSITY_WINDOW))
    uncovered = (density < COVERAGE) & mask
    warped = reference_warp(source, handles, targets, mask, seed)
    return cv2.inpaint(warped, uncovered.astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA)


def displacement(handles: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The reference warp's backward displacement, ``(2, H, W)`` float32 (dx, dy)."""
    field = np.zeros((2, *mask.shape), np.float32)
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    # Only the mask's box is worth computing; the field depends on differences between points alone.
    box = np.s_[top : top + height, left : left + width]
    handle_points, target_points, anchors = (
        torch.from_numpy(np.asarray(p, np.float32) - np.array([left, top], np.float32))[None]
        for p in (handles, targets, rim_anchors(mask))
    )
    inside = torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None]
    cropped = drag_displacement(handle_points, target_points, anchors, inside)[0]
    field[0][box], field[1][box] = cropped.numpy()
    return field


def warp(source: np.ndarray, field: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Source pixels through a backward displacement inside the mask, untouched outside."""
    planes = torch.tensor(source).permute(2, 0, 1)[None].float()
    warped = sample(planes, torch.from_numpy(field)[None])[0].permute(1, 2, 0)
    return np.where(mask[..., None], warped.round().clamp(0, 255).numpy().astype(np.uint8), source)


BASELINES: dict[str, EditMethod] = {
    "identity": identity,
    "reference warp": reference_warp,
    "reference warp + inpainting": reference_warp_inpainted,
}


@dataclass(frozen=True)
class EditorMethod:
    """A :class:`DragEditor` as a method. ``steps`` None leaves the number to the model."""

    editor: DragEditor
    steps: int | None = None

    def __call__(
        self, source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
    ) -> np.ndarray:
        return self.candidates(source, handles, targets, mask, seed, 1)[0]

    def candidates(
        self,
        source: np.ndarray,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray,
        seed: int,
        count: int,
    ) -> list[np.ndarray]:
        drags = [
            (tuple(handle), tuple(target))
            for handle, target in zip(handles.tolist(), targets.tolist(), strict=True)
        ]
        result = self.editor.edit(
            Image.fromarray(source), drags, mask=mask, seed=seed, steps=self.steps, num_images=count
        )
        return [np.asarray(image) for image in result.images]
