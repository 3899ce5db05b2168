"""What the camera did between two frames, and undoing it.

The rule, in order, on points of a chained motion that are textured and were tracked reliably:

- **static**: at least 30 % of the points, spread over at least 6 of the 16 cells of a 4x4 grid, stayed
  within 0.75 px; or at least 45 % of all pixels kept their colour. Nothing is resampled.
- **steady** after stabilisation: a homography carries at least 40 % of the points, spread over at least
  8 cells, to within 1.5 px; it moves no corner by more than 15 % of the short side and leaves at least
  70 % of the picture as an upright rectangle seen by both frames.
- **moving**: anything else.

When static and steady both hold, static wins: what does not change needs no camera to explain it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lightningdrag.data.tracks import cell_centres, to_cells

STATIC, STEADY, MOVING = "static", "steady", "moving"

STILL = 0.75
STATIC_SHARE, STATIC_CELLS = 0.30, 6
UNCHANGED_SHARE, UNCHANGED_LEVEL = 0.45, 6
INLIER, INLIER_SHARE, INLIER_CELLS = 1.5, 0.40, 8
MAX_CORNER_SHIFT, MIN_AREA = 0.15, 0.70
SPACING = 4  # cells between the points that are looked at
TEXTURE = 4.0  # grey-level standard deviation in 7x7 cells


@dataclass(frozen=True)
class Camera:
    """The camera between two frames.

    Attributes:
        kind: ``"static"``, ``"steady"`` or ``"moving"``.
        homography: ``(3, 3)`` float64, takes pixels of the first frame's view to the second frame.
        window: (left, top, right, bottom), half open, even: the part of the first's view both frames see.
    """

    kind: str
    homography: np.ndarray
    window: tuple[int, int, int, int]


def find_camera(first: np.ndarray, second: np.ndarray, motion: np.ndarray, reliable: np.ndarray) -> Camera:
    """Classify the camera between two frames by the module's rule.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB.
        motion: ``(h, w, 2)`` from the first's grid of stride 2 to the second, camera included.
        reliable: ``(h, w)`` bool, where the motion may be used.
    """
    height, width = first.shape[:2]
    whole = (0, 0, width, height)
    grid = cell_centres(height, width)
    chosen = (reliable & textured(first))[::SPACING, ::SPACING]
    start = grid[::SPACING, ::SPACING][chosen]
    vector = motion[::SPACING, ::SPACING][chosen]
    still = np.linalg.norm(vector, axis=-1) < STILL
    if _supports(start, still, (height, width), STATIC_SHARE, STATIC_CELLS) or (
        unchanged_share(first, second) >= UNCHANGED_SHARE
    ):
        return Camera(STATIC, np.eye(3), whole)
    if len(start) < 16:
        return Camera(MOVING, np.eye(3), whole)
    cv2.setRNGSeed(0)
    homography, inlier = cv2.findHomography(start, start + vector, cv2.RANSAC, INLIER, maxIters=300)
    if homography is None or not _supports(
        start, inlier[:, 0] > 0, (height, width), INLIER_SHARE, INLIER_CELLS
    ):
        return Camera(MOVING, np.eye(3), whole)
    window = _common_window(homography, height, width)
    if window is None:
        return Camera(MOVING, np.eye(3), whole)
    return Camera(STEADY, homography, window)


def stabilise(image: np.ndarray, camera: Camera) -> np.ndarray:
    """The second frame ``(H, W, 3)`` as the first one's camera would see it."""
    if camera.kind == STATIC:
        return image
    height, width = image.shape[:2]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(
        image, camera.homography, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )


def transform(homography: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Points ``(h, w, 2)`` (x, y) through a homography."""
    points = positions.reshape(-1, 1, 2).astype(np.float64)
    return cv2.perspectiveTransform(points, homography).reshape(positions.shape).astype(np.float32)


def textured(image: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` -> ``(h, w)`` bool: where there is enough texture to tell a motion."""
    grey = to_cells(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).astype(np.float32)
    mean = cv2.blur(grey, (7, 7))
    return cv2.blur(grey * grey, (7, 7)) - mean * mean > TEXTURE**2


def unchanged_share(first: np.ndarray, second: np.ndarray) -> float:
    """The share of textured pixels' neighbourhoods that kept their colour."""
    difference = cv2.blur(cv2.absdiff(first, second), (5, 5)).max(-1)
    return float((difference < UNCHANGED_LEVEL).mean())


def _supports(
    points: np.ndarray, chosen: np.ndarray, size: tuple[int, int], share: float, cells: int
) -> bool:
    if len(points) < 16 or chosen.mean() < share:
        return False
    scale = np.array([4 / size[1], 4 / size[0]], np.float32)
    column, row = np.clip((points[chosen] * scale).astype(int), 0, 3).T
    return bool((np.bincount(row * 4 + column, minlength=16) >= 3).sum() >= cells)


def _common_window(homography: np.ndarray, height: int, width: int) -> tuple[int, int, int, int] | None:
    """The upright rectangle of the first's view that lies inside the second frame, or None if too small."""
    corners = np.array([[[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]], np.float32)
    try:
        seen = cv2.perspectiveTransform(corners, np.linalg.inv(homography))[0]
    except np.linalg.LinAlgError:
        return None
    if np.abs(seen - corners[0]).max() > MAX_CORNER_SHIFT * min(height, width):
        return None
    left = max(0, int(np.ceil(max(seen[0, 0], seen[3, 0]) / 2)) * 2)
    top = max(0, int(np.ceil(max(seen[0, 1], seen[1, 1]) / 2)) * 2)
    right = min(width, int(min(seen[1, 0], seen[2, 0]) + 1) // 2 * 2)
    bottom = min(height, int(min(seen[2, 1], seen[3, 1]) + 1) // 2 * 2)
    if (right - left) * (bottom - top) < MIN_AREA * height * width:
        return None
    return left, top, right, bottom
