"""Ways to drag, behind one small interface: what every table compares a model with, and the model.

A method is any callable ``(source, handles, targets, mask, seed) -> result``. A peer's model joins
the table by being wrapped in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from PIL import Image

from lightningdrag.drag import as_drags
from lightningdrag.request import EditRequest
from lightningdrag.warp import drag_displacement, forward_warp, rim_anchors, sample

if TYPE_CHECKING:
    from lightningdrag.editor import DragEditor

COVERAGE = 0.5
"""Pixels of the result where less than this arrives count as uncovered."""
DENSITY_WINDOW = 5
"""Coverage is averaged over this many pixels: a stretch leaves a comb of covered and empty ones."""
INPAINT_RADIUS = 3.0
MLS_STRIDE = 2
MLS_ANCHORS = 16


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


Asked = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Source, handles, targets and mask, as an :class:`EditMethod` is given them."""


@runtime_checkable
class BatchMethod(Protocol):
    """A method that can do several edits in one pass."""

    def many(self, asked: Sequence[Asked], seed: int, batch: int) -> list[np.ndarray]:
        """A result for each, the same as alone to within rounding; ``batch`` at most in a pass."""
        ...


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
    """The reference warp, with what it uncovered (:func:`_uncovered`) inpainted: Telea 2004, as in OpenCV.

    There the warp alone can only stretch what lies beside it.
    """
    warped = reference_warp(source, handles, targets, mask, seed)
    return cv2.inpaint(warped, _uncovered(handles, targets, mask), INPAINT_RADIUS, cv2.INPAINT_TELEA)


def reference_warp_navier_stokes(
    source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """The same with OpenCV's other inpainting (Bertalmio et al. 2001)."""
    warped = reference_warp(source, handles, targets, mask, seed)
    return cv2.inpaint(warped, _uncovered(handles, targets, mask), INPAINT_RADIUS, cv2.INPAINT_NS)


def moving_least_squares(
    source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """Rigid deformation by moving least squares (Schaefer et al., SIGGRAPH 2006).

    The control points are the drags and 16 anchors on the mask's rim; weights 1/d^3 (alpha = 1.5) as the
    reference warp's. By 1/d^2, or with its 64 anchors, the rim holds all but the targets themselves still.
    Solved on every other pixel and interpolated between.
    """
    anchors = rim_anchors(mask, MLS_ANCHORS)
    to_points, from_points = np.concatenate([targets, anchors]), np.concatenate([handles, anchors])
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    sides = (np.arange(0.0, side + MLS_STRIDE, MLS_STRIDE) for side in (width, height))
    grid = np.stack(np.meshgrid(*sides), -1) + np.array([left, top])
    coarse = rigid_displacement(to_points, from_points, grid)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    field = np.zeros((2, *mask.shape), np.float32)
    box = np.s_[top : top + height, left : left + width]
    for plane, values in zip(field, coarse, strict=True):
        plane[box] = cv2.remap(values, x / MLS_STRIDE, y / MLS_STRIDE, cv2.INTER_LINEAR)
    return warp(source, field * mask, mask)


def rigid_displacement(points: np.ndarray, moved: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Moving least squares, rigid: what carries ``points`` to ``moved``, at the positions of a grid.

    With points as complex numbers p -> q, weights w = 1/|p - v|^3 and their weighted means p*, q*, the
    rotation at v is a/|a|, a = sum w conj(p - p*) (q - q*), and v goes to a/|a| (v - p*) + q*.

    Args:
        points, moved: ``(N, 2)`` (x, y).
        grid: ``(h, w, 2)`` (x, y).

    Returns:
        ``(2, h, w)`` float32, (dx, dy).
    """
    p, q, v = (np.asarray(x, np.float64) @ [1, 1j] for x in (points, moved, grid))
    weights = 1 / np.maximum(np.abs(v[..., None] - p), 1e-3) ** 3
    weights /= weights.sum(-1, keepdims=True)
    p_mean, q_mean = weights @ p, weights @ q
    turn = (weights * np.conj(p - p_mean[..., None]) * (q - q_mean[..., None])).sum(-1)
    size = np.abs(turn)
    turn = np.where(size > 1e-9, turn / np.maximum(size, 1e-9), 1)
    shift = turn * (v - p_mean) + q_mean - v
    return np.stack([shift.real, shift.imag]).astype(np.float32)


def bidirectional_warp(
    source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """A bidirectional warp in the way that Inpaint4Drag describes (ICCV 2025), in the mask given.

    Every source pixel in the mask is sent forward by the drags; each pixel of the result then goes back
    by the mean displacement of what arrived around it, weighted by nearness. Where nothing arrived the
    reference warp stands. (Theirs moves the mask itself as the object; here it is what may change.)
    """
    forward = torch.from_numpy(displacement(targets, handles, mask))[None]
    back, coverage = forward_warp(-forward, forward)
    field = torch.where(coverage > 0, back, torch.from_numpy(displacement(handles, targets, mask)))[0]
    return warp(source, field.numpy() * mask, mask)


def bidirectional_warp_inpainted(
    source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """The bidirectional warp, with what it uncovered inpainted as :func:`reference_warp_inpainted`."""
    warped = bidirectional_warp(source, handles, targets, mask, seed)
    return cv2.inpaint(warped, _uncovered(handles, targets, mask), INPAINT_RADIUS, cv2.INPAINT_TELEA)


def _uncovered(handles: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Where, averaged over 5x5 pixels, less than half of the source arrives; ``(H, W)`` uint8, 0 or 1."""
    forward = torch.from_numpy(displacement(targets, handles, mask))[None]
    _, coverage = forward_warp(torch.zeros_like(forward[:, :1]), forward)
    density = cv2.blur(coverage[0, 0].numpy(), (DENSITY_WINDOW, DENSITY_WINDOW))
    return ((density < COVERAGE) & mask).astype(np.uint8)


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
    "reference warp + Navier-Stokes": reference_warp_navier_stokes,
    "moving least squares": moving_least_squares,
    "bidirectional warp": bidirectional_warp,
    "bidirectional warp + inpainting": bidirectional_warp_inpainted,
}


@dataclass(frozen=True)
class EditorMethod:
    """A :class:`DragEditor` as a method.

    Attributes:
        options: of ``DragEditor.edit``, such as ``{"steps": 2}``; what is not named is the model's choice.
    """

    editor: DragEditor
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
    ) -> np.ndarray:
        return self.many([(source, handles, targets, mask)], seed, 1)[0]

    def many(self, asked: Sequence[Asked], seed: int, batch: int) -> list[np.ndarray]:
        images = [Image.fromarray(source) for source, *_ in asked]
        requests = [self._request(*edit, seed=seed) for _, *edit in asked]
        return [np.asarray(result.image) for result in self.editor.run_many(images, requests, batch=batch)]

    def candidates(
        self,
        source: np.ndarray,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray,
        seed: int,
        count: int,
    ) -> list[np.ndarray]:
        request = self._request(handles, targets, mask, seed=seed, num_images=count)
        return [np.asarray(image) for image in self.editor.run(Image.fromarray(source), request).images]

    def _request(
        self, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, **options: Any
    ) -> EditRequest:
        drags = as_drags(zip(handles.tolist(), targets.tolist(), strict=True))
        return EditRequest(drags, mask, **options, **self.options)
