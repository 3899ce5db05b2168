"""Drags to dense displacement, and images through it: the analytic warp.

Displacements are *backward*: output pixel p shows source pixel p + d(p), d = (dx, dy) in pixels.
The analytic field is a weighted mean, by inverse distance, of the drags (which pull their targets
back to their handles) and of anchors on the mask's rim (which stand still):

    d(p) = sum_k w_k(p) (handle_k - target_k) / sum_j w_j(p),   w_j(p) = 1 / |p - q_j|^3

over the targets and anchors q_j (Shepard's interpolation), and zero outside the mask.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NUM_ANCHORS = 64


def rim_anchors(mask: np.ndarray, count: int = NUM_ANCHORS) -> np.ndarray:
    """Points spread evenly along the rim of a mask.

    Args:
        mask: ``(H, W)`` bool, True where the image may change.
        count: how many points, over all parts and holes of the mask together.

    Returns:
        ``(count, 2)`` float32, (x, y). Empty ``(0, 2)`` if the mask is empty.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.zeros((0, 2), np.float32)
    rim = np.concatenate([contour[:, 0] for contour in contours]).astype(np.float32)
    return rim[(np.arange(count) * len(rim)) // count]


def pixel_grid(height: int, width: int, stride: int = 1, device: torch.device | str = "cpu") -> Tensor:
    """Centres of the cells of a grid, as ``(H // stride, W // stride, 2)`` (x, y) in full-size pixels."""
    centre = (stride - 1) / 2
    y = torch.arange(height // stride, device=device, dtype=torch.float32) * stride + centre
    x = torch.arange(width // stride, device=device, dtype=torch.float32) * stride + centre
    return torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)


def scattered_displacement(points: Tensor, vectors: Tensor, weights: Tensor, grid: Tensor) -> Tensor:
    """Shepard's interpolation of vectors given at scattered points.

    Args:
        points: ``(B, N, 2)`` (x, y).
        vectors: ``(B, N, 2)``, the values there.
        weights: ``(B, N)``, multiplies each point's weight; 0 removes the point.
        grid: ``(h, w, 2)`` (x, y) where the field is wanted.

    Returns:
        ``(B, 2, h, w)``; zero where every weight is zero.
    """
    return _means(points, vectors, weights, grid).transpose(1, 2).unflatten(2, grid.shape[:2])


def similarity_displacement(
    points: Tensor, vectors: Tensor, weights: Tensor, grid: Tensor, stiffness: float
) -> Tensor:
    """What turns and grows with the vectors given at scattered points: moving least squares of similarities.

    Each place moves by the similarity that fits the vectors best, nearer ones counting more
    (Schaefer et al., SIGGRAPH 2006). With points and vectors as complex numbers p and u, shares w that
    sum to 1 and means p* and u*, the displacement at v is

        u* + a (v - p*),   a = sum_k w_k conj(p_k - p*) (u_k - u*) / (sum_k w_k |p_k - p*|^2 + stiffness^2)

    One vector moves everything alike; two points that are close together say little of a turn.

    Args:
        points, vectors, weights, grid: as in :func:`scattered_displacement`.
        stiffness: in pixels; turning and growing fade for points that lie nearer to each other than this.

    Returns:
        ``(B, 2, h, w)``; zero where every weight is zero.
    """
    (px, py), (ux, uy) = points.unbind(-1), vectors.unbind(-1)
    products = (px * ux + py * uy, px * uy - py * ux, px * px + py * py)
    values = torch.stack((px, py, ux, uy, *products), -1)
    x, y, shift_x, shift_y, dot, cross, square = _means(points, values, weights, grid).unbind(-1)
    spread = square - x * x - y * y + stiffness**2
    grow = (dot - x * shift_x - y * shift_y) / spread
    turn = (cross - x * shift_y + y * shift_x) / spread
    dx, dy = (grid.reshape(1, -1, 2) - torch.stack((x, y), -1)).unbind(-1)
    field = torch.stack((shift_x + grow * dx - turn * dy, shift_y + turn * dx + grow * dy), 1)
    return field.unflatten(2, grid.shape[:2])


def _means(points: Tensor, values: Tensor, weights: Tensor, grid: Tensor) -> Tensor:
    """Means of values ``(B, N, C)`` by 1 / distance^3 at each cell of a grid, ``(B, h * w, C)`` float32."""
    cells = grid.reshape(1, -1, 2).expand(len(points), -1, -1)
    with torch.autocast(points.device.type, enabled=False):  # 1 / distance^3 is beyond float16
        distance = torch.cdist(cells.float(), points.float(), compute_mode="donot_use_mm_for_euclid_dist")
        nearness = distance.clamp_min(1e-2).reciprocal()
        kernel = weights[:, None, :].float() * nearness * nearness * nearness
        return (kernel @ values.float()) / kernel.sum(-1, keepdim=True).clamp_min(1e-20)


def drag_displacement(
    handles: Tensor,
    targets: Tensor,
    anchors: Tensor,
    mask: Tensor,
    *,
    stride: int = 1,
    weights: Tensor | None = None,
) -> Tensor:
    """The analytic backward displacement of a set of drags.

    Args:
        handles, targets: ``(B, N, 2)`` (x, y).
        anchors: ``(B, M, 2)`` (x, y) that stand still (:func:`rim_anchors`).
        mask: ``(B, 1, H, W)`` float or bool; the field is zero where it is zero.
        stride: the field is computed at 1/stride of the mask's size, in full-size pixels.
        weights: ``(B, N)`` of 0 and 1 when a batch is padded with absent drags.

    Returns:
        ``(B, 2, H // stride, W // stride)``.
    """
    height, width = mask.shape[-2:]
    if weights is None:
        weights = torch.ones_like(handles[..., 0])
    field = scattered_displacement(
        torch.cat((targets, anchors), 1),
        torch.cat((handles - targets, torch.zeros_like(anchors)), 1),
        torch.cat((weights, torch.ones_like(anchors[..., 0])), 1),
        pixel_grid(height, width, stride, handles.device),
    )
    inside = mask.float()
    if stride > 1:
        inside = F.avg_pool2d(inside, stride)
    return field * inside


def sample(image: Tensor, displacement: Tensor) -> Tensor:
    """Backward warp: bilinear samples of ``image`` (B, C, H, W) at p + d(p), reflected at the border.

    ``displacement`` is ``(B, 2, H, W)`` in pixels of the image. A pixel whose displacement is zero
    comes back to within rounding.
    """
    height, width = image.shape[-2:]
    position = pixel_grid(height, width, device=image.device) + displacement.permute(0, 2, 3, 1).float()
    scale = position.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    warped = F.grid_sample(
        image.float(), position * scale - 1, mode="bilinear", padding_mode="reflection", align_corners=True
    )
    return warped.to(image.dtype)


def forward_warp(image: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
    """Send every source pixel p to p + f(p), sharing it bilinearly among the four pixels there.

    The forward field of some drags is :func:`drag_displacement` with handles and targets exchanged.

    Args:
        image: ``(B, C, H, W)``.
        displacement: ``(B, 2, H, W)``, forward, in pixels.

    Returns:
        The image, ``(B, C, H, W)``, the weighted mean of what arrived and zero where nothing did; and
        the coverage, ``(B, 1, H, W)`` >= 0, how much arrived: 1 where nothing moves, more where things
        pile up, less where they spread, 0 where nothing of the source reaches.
    """
    batch, channels, height, width = image.shape
    position = pixel_grid(height, width, device=image.device) + displacement.permute(0, 2, 3, 1).float()
    position = position.reshape(batch, height * width, 2)
    corner = position.floor()
    share = position - corner
    values = torch.cat((image.float(), position.new_ones(batch, 1, height, width)), 1).flatten(2)
    total = torch.zeros(batch, channels + 1, height * width, device=image.device)
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = corner[..., 0] + right, corner[..., 1] + down
        weight = (share[..., 0] if right else 1 - share[..., 0]) * (
            share[..., 1] if down else 1 - share[..., 1]
        )
        weight = weight * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
        index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
        total.scatter_add_(2, index[:, None].expand_as(total), values * weight[:, None])
    total = total.reshape(batch, channels + 1, height, width)
    coverage = total[:, channels:]
    return (total[:, :channels] / coverage.clamp_min(1e-6)).to(image.dtype), coverage


def uncovered(displacement: Tensor, least: float = 0.1) -> Tensor:
    """Where nothing of the source arrives, ``(B, 1, H, W)`` bool: what a forward motion lays bare.

    Args:
        displacement: ``(B, 2, H, W)``, forward, in pixels.
        least: the coverage (see :func:`forward_warp`) below which a pixel counts as laid bare. A part
            stretched three times as long and wide still covers more than this.
    """
    _, coverage = forward_warp(displacement[:, :0], displacement)
    return coverage < least
