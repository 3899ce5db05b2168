"""Point tracks through all the frames between, as a second opinion on the dense motion.

Flow and point tracks err differently. Some points that a handle could be put on are followed by a point
tracker, and where it ends elsewhere than the flow, the motion around is not to be trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np

from lightningdrag.data.camera import Camera, transform
from lightningdrag.data.pairs import FramePair, Rejected
from lightningdrag.data.recipe import DEFAULT, Checks
from lightningdrag.data.tracks import UNKNOWN, VISIBLE, cell_centres, tolerance

PointTracker = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Follows points ``(N, 2)`` float32 (x, y) of the first of the frames ``(T, H, W, 3)`` uint8 RGB.

Gives ``(T, N, 2)`` float32, where they are in each frame, and ``(T, N)`` bool, whether they are seen there.
"""

POINTS = 48  # that are followed each way
LK_WINDOW = (15, 15)
LK_LEVELS = 3
LK_ERROR = 20.0  # grey levels; mean difference between a point's surroundings and where it was found


def lucas_kanade(frames: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's pyramidal Lucas-Kanade from frame to frame as a :data:`PointTracker`."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    tracks = [points.astype(np.float32)]
    seen = [np.ones(len(points), bool)]
    for before, after in pairwise(grey):
        at = tracks[-1][:, None]
        found, status, error = cv2.calcOpticalFlowPyrLK(
            before, after, at, at.copy(), winSize=LK_WINDOW, maxLevel=LK_LEVELS
        )
        tracks.append(np.asarray(found[:, 0], np.float32))
        seen.append(seen[-1] & (status[:, 0] > 0) & (error[:, 0] < LK_ERROR))
    return np.stack(tracks), np.stack(seen)


def confirm(
    pair: FramePair,
    frames: np.ndarray,
    view: Camera,
    tracker: PointTracker = lucas_kanade,
    checks: Checks = DEFAULT.checks,
) -> FramePair:
    """The pair with motions unknown where the nearest point track ends elsewhere.

    Args:
        pair: cropped to the view's window, its second picture as the first one's camera would see it.
        frames: ``(T, H, W, 3)`` uint8 RGB, whole, from the pair's first frame to its second.

    Raises:
        Rejected: less than ``checks.min_confirmed`` of the tracks end where the flow does.
    """
    corner = np.array(view.window[:2], np.float32)
    inverse = np.linalg.inv(view.homography)

    def there(points: np.ndarray) -> np.ndarray:
        ends, seen = tracker(frames, points + corner)
        return np.where(seen[-1, :, None], transform(inverse, ends[-1]) - corner, np.nan)

    def back(points: np.ndarray) -> np.ndarray:
        ends, seen = tracker(frames[::-1], transform(view.homography, points + corner))
        return np.where(seen[-1, :, None], ends[-1] - corner, np.nan)

    return replace(
        pair,
        forward_state=_confirmed(pair.forward, pair.forward_state, pair.moving, there, checks),
        backward_state=_confirmed(pair.backward, pair.backward_state, pair.moving, back, checks),
    )


def _confirmed(
    motion: np.ndarray,
    state: np.ndarray,
    moving: np.ndarray,
    follow: Callable[[np.ndarray], np.ndarray],
    checks: Checks,
) -> np.ndarray:
    distinct = (state == VISIBLE) & (moving > 0)
    cells = np.flatnonzero(distinct)
    some = cells[np.linspace(0, len(cells) - 1, min(POINTS, len(cells))).astype(int)]
    start = cell_centres(2 * state.shape[0], 2 * state.shape[1]).reshape(-1, 2)
    flow = motion.reshape(2, -1).T
    apart = np.linalg.norm(follow(start[some]) - start[some] - flow[some], axis=-1)
    agrees = apart < 0.5 + tolerance(flow[some])  # False where a track was lost
    if agrees.mean() < checks.min_confirmed:
        raise Rejected("point tracks disagree")
    nearest = np.linalg.norm(start[cells, None] - start[some], axis=-1).argmin(1)
    state = state.copy()
    state.ravel()[cells[~agrees[nearest]]] = UNKNOWN
    return state
