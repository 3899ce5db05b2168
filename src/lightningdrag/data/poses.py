"""Motion between two photographs of one scene, with no frames between."""

from __future__ import annotations

import cv2
import numpy as np

from lightningdrag.data.camera import MOVING, find_camera, stabilise, transform
from lightningdrag.data.clips import DrawnPair, draw_request, viewed_pair
from lightningdrag.data.pairs import Rejected, changed_cells
from lightningdrag.data.recipe import DEFAULT, DataRecipe
from lightningdrag.data.tracks import cell_centres, dis_flow, disagreement, to_cells, tolerance

SCALES = (1.0, 0.5, 0.25)
SEARCH = 0.22  # of the short side, how far matching by blocks looks
BLOCK = 12


def photograph_pair(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, recipe: DataRecipe = DEFAULT
) -> DrawnPair:
    """A pair with a request from two photographs ``(H, W, 3)`` uint8 RGB of one size.

    Raises:
        Rejected: as in :func:`~lightningdrag.data.pairs.build_pair`, or the camera moved.
    """
    forward, backward = far_motion(first, second)
    reliable = disagreement(forward, backward) < tolerance(forward)
    view = find_camera(first, second, forward, reliable, recipe.camera)
    if view.kind == MOVING:
        raise Rejected("the camera moves")
    if np.any(view.homography != np.eye(3)):
        second = stabilise(second, view)
        grid = cell_centres(*first.shape[:2])
        forward = transform(np.linalg.inv(view.homography), grid + forward) - grid
        backward = far_motion(second, first)[0]
    elif rng.random() < 0.5:
        first, second, forward, backward = second, first, backward, forward
    pair = viewed_pair(first, second, forward, backward, view, recipe.checks)
    return draw_request(pair, (0, 1), view.kind, rng, recipe.checks)


def far_motion(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forward and backward motion ``(h, w, 2)``: of several starts, the one most often confirmed both ways.

    DIS flow starts from nothing at three scales, and from a search by blocks.
    """
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    changed = changed_cells(first, second)[0]
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    starts = [(_coarse_flow(grey[0], grey[1], s), _coarse_flow(grey[1], grey[0], s)) for s in SCALES]
    starts.append((_block_motion(first, second), _block_motion(second, first)))
    for there, back in starts:
        forward = to_cells(dis_flow(grey[0], grey[1], there))
        backward = to_cells(dis_flow(grey[1], grey[0], back))
        agree = disagreement(forward, backward) < tolerance(forward)
        score = float((agree & changed).sum())
        if best is None or score > best[0]:
            best = score, forward, backward
    assert best is not None
    return best[1], best[2]


def _coarse_flow(first: np.ndarray, second: np.ndarray, scale: float) -> np.ndarray | None:
    if scale == 1:
        return None
    height, width = first.shape
    size = (round(width * scale), round(height * scale))
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (first, second)]
    return cv2.resize(dis_flow(small[0], small[1]), (width, height)) / scale


def _block_motion(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The best whole-block shift of every place within :data:`SEARCH`, ``(H, W, 2)``."""
    height, width = first.shape[:2]
    size = (width // BLOCK * 2, height // BLOCK * 2)  # two cells a block
    a, b = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (first, second))
    reach = round(SEARCH * min(size))
    padded = cv2.copyMakeBorder(b, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    least = np.full((size[1], size[0]), np.inf, np.float32)
    shift = np.zeros((size[1], size[0], 2), np.float32)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            moved = padded[reach + dy : reach + dy + size[1], reach + dx : reach + dx + size[0]]
            cost = cv2.blur(cv2.absdiff(a, moved).sum(-1, dtype=np.float32), (5, 5))
            cost += 0.3 * np.hypot(dx, dy)  # like places: the nearer one
            better = cost < least
            least[better] = cost[better]
            shift[better] = (dx, dy)
    shift = np.stack([cv2.medianBlur(np.ascontiguousarray(shift[..., c]), 5) for c in range(2)], -1)
    return cv2.resize(shift, (width, height)) * (width / size[0])
