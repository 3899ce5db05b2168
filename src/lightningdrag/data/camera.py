"""What the camera did between two frames, and undoing it.

The rule, on points of a chained motion that are textured and were tracked reliably. A hypothesis about the
camera *explains* a point that it carries to within 1 px. *Spread* counts the cells of a 4x4 grid with at
least 3 explained points.

- **static**: standing still explains at least 30 % of the points, spread over at least 6 cells, and a
  homography does not explain 20 % more; or no homography will do and at least 45 % of all pixels kept
  their colour. Nothing is resampled.
- **steady** after stabilisation: a homography explains at least 60 % of the points, spread over at least 8
  cells that touch three sides of the picture; it moves no corner by more than 15 % of the short side and
  leaves at least 70 % of the picture as an upright rectangle seen by both frames.
- **moving**: anything else, and whatever leaves the picture's border unexplained, on the left and on the
  right both, or by more than 60 % as a whole: then it is the background that moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lightningdrag.data.recipe import DEFAULT, CameraRule
from lightningdrag.data.tracks import cell_centres, largest_channel, to_cells

CAMERAS = STATIC, STEADY, MOVING = "static", "steady", "moving"

MIN_POINTS = 8
SPACING = 4  # cells between the points that are looked at


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

    @property
    def shift(self) -> float:
        """How far it moves the view's corners on average, px: no parallax is larger by much."""
        left, top, right, bottom = self.window
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        return float(np.linalg.norm(transform(self.homography, corners) - corners, axis=-1).mean())


def find_camera(
    first: np.ndarray,
    second: np.ndarray,
    motion: np.ndarray,
    reliable: np.ndarray,
    rule: CameraRule = DEFAULT.camera,
) -> Camera:
    """Classify the camera between two frames by the module's rule.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB.
        motion: ``(h, w, 2)`` from the first's grid of stride 2 to the second, camera included.
        reliable: ``(h, w)`` bool, where the motion may be used.
    """
    chosen = (reliable & textured(first, rule))[::SPACING, ::SPACING]
    start = coarse_points(*first.shape[:2])[chosen]
    return camera_of_points(first, second, start, motion[::SPACING, ::SPACING][chosen], rule)


def coarse_points(height: int, width: int) -> np.ndarray:
    """``(h / 4, w / 4, 2)``, the points of the grid whose motion tells the camera's."""
    return cell_centres(height, width)[::SPACING, ::SPACING]


def camera_of_points(
    first: np.ndarray,
    second: np.ndarray,
    start: np.ndarray,
    vector: np.ndarray,
    rule: CameraRule = DEFAULT.camera,
) -> Camera:
    """As :func:`find_camera`, from textured points ``(N, 2)`` and their motions alone."""
    height, width = size = first.shape[:2]
    whole = (0, 0, width, height)
    still = np.linalg.norm(vector, axis=-1) < rule.explained
    homography, carried, window = _fit(start, start + vector, size, rule)
    lead = carried.mean() - still.mean() if len(start) and window is not None else -1.0
    if _supports(start, still, size, rule.static_share, rule.static_cells) and lead < rule.steady_lead:
        view, explained = Camera(STATIC, np.eye(3), whole), still
    elif window is not None:
        view, explained = Camera(STEADY, homography, window), carried
    elif unchanged_share(first, second, rule) >= rule.unchanged_share:
        view, explained = Camera(STATIC, np.eye(3), whole), still
    else:
        return Camera(MOVING, np.eye(3), whole)
    return Camera(MOVING, np.eye(3), whole) if _border_moves(start, explained, size, rule) else view


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


def textured(image: np.ndarray, rule: CameraRule = DEFAULT.camera) -> np.ndarray:
    """``(H, W, 3)`` -> ``(h, w)`` bool: where there is enough texture to tell a motion."""
    grey = to_cells(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).astype(np.float32)
    mean = cv2.blur(grey, (7, 7))
    return cv2.blur(grey * grey, (7, 7)) - mean * mean > rule.texture**2


def unchanged_share(first: np.ndarray, second: np.ndarray, rule: CameraRule = DEFAULT.camera) -> float:
    """The share of textured pixels' neighbourhoods that kept their colour."""
    difference = largest_channel(cv2.blur(cv2.absdiff(first, second), (5, 5)))
    return float((difference < rule.unchanged_level).mean())


def _fit(
    start: np.ndarray, end: np.ndarray, size: tuple[int, int], rule: CameraRule
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int] | None]:
    """A homography, the points it explains, and the window both frames see; None if it will not do."""
    nothing = np.eye(3), np.zeros(len(start), bool), None
    if len(start) < 2 * MIN_POINTS:
        return nothing
    cv2.setRNGSeed(0)
    homography, inlier = cv2.findHomography(start, end, cv2.RANSAC, rule.explained, maxIters=300)
    if homography is None:
        return nothing
    explained = inlier[:, 0] > 0
    if not _supports(start, explained, size, rule.steady_share, rule.steady_cells, rule.steady_sides):
        return nothing
    return homography, explained, _common_window(homography, *size, rule)


def _supports(
    points: np.ndarray, chosen: np.ndarray, size: tuple[int, int], share: float, cells: int, sides: int = 0
) -> bool:
    if len(points) < 2 * MIN_POINTS or chosen.mean() < share:
        return False
    scale = np.array([4 / size[1], 4 / size[0]], np.float32)
    column, row = np.clip((points[chosen] * scale).astype(int), 0, 3).T
    filled = np.bincount(row * 4 + column, minlength=16).reshape(4, 4) >= 3
    touched = sum(int(side.sum() >= 2) for side in (filled[0], filled[-1], filled[:, 0], filled[:, -1]))
    return bool(filled.sum() >= cells and touched >= sides)


def _border_moves(points: np.ndarray, explained: np.ndarray, size: tuple[int, int], rule: CameraRule) -> bool:
    height, width = size
    depth = rule.border * min(size)
    x, y = points[:, 0], points[:, 1]
    left, right = x < depth, x > width - depth
    border = left | right | (y < depth) | (y > height - depth)

    def moves(part: np.ndarray) -> bool:
        return bool(part.sum() >= MIN_POINTS and explained[part].mean() < rule.border_share)

    return (moves(left) and moves(right)) or moves(border)


def _common_window(
    homography: np.ndarray, height: int, width: int, rule: CameraRule
) -> tuple[int, int, int, int] | None:
    """The upright rectangle of the first's view that lies inside the second frame, or None if too small."""
    corners = np.array([[[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]], np.float32)
    try:
        seen = cv2.perspectiveTransform(corners, np.linalg.inv(homography))[0]
    except np.linalg.LinAlgError:
        return None
    if np.abs(seen - corners[0]).max() > rule.max_corner_shift * min(height, width):
        return None
    left = max(0, int(np.ceil(max(seen[0, 0], seen[3, 0]) / 2)) * 2)
    top = max(0, int(np.ceil(max(seen[0, 1], seen[1, 1]) / 2)) * 2)
    right = min(width, int(min(seen[1, 0], seen[2, 0]) + 1) // 2 * 2)
    bottom = min(height, int(min(seen[2, 1], seen[3, 1]) + 1) // 2 * 2)
    if (right - left) * (bottom - top) < rule.min_area * height * width:
        return None
    return left, top, right, bottom
