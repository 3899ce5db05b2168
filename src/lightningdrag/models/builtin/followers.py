"""What follows some drags: a mask for edits that came without one, cut out of a motion that had all the room.

A mask around the drags alone cuts through whatever is larger than it, and what is cut tears or stretches.
With much room the motion generator finds the thing by itself, but it lets others come along, and the ground
sway.  So a motion is made twice: once to see what follows, and once more with only that in the mask.
"""

from __future__ import annotations

import cv2
import numpy as np

MOVES = 0.12
"""What moves by this share of a drag's length, or more, follows it."""
SWAYS = 0.03
"""Of the longest drag: by less than this nothing follows a shorter one, for the ground sways as far."""
LEAST = 0.12
"""Pixels of the window: what moves less follows no drag, short as it may be."""
ROOM = 0.07
"""Around what follows, in geometric mean sides of the window: what moves has to end inside the mask."""
WIDE_ROOM = 0.12
"""Around a thing that is moved whole: another look may find more of it, and knows it from its ground."""
WAY = 0.05
"""Within this of a drag's way, likewise, everything counts as what follows, whatever the motion says."""
ALONG, WHOLE = 0.8, 0.6
"""A thing is taken for rigid if so large a share of it (WHOLE) goes so large a share of the way (ALONG)."""
COMPANIONS = 6
"""Points of a rigid thing that are pulled along, at most."""
BETWEEN, APART = 2, 16
"""Cells, or pixels of the window, that are between them at least."""
INNER = 4
"""Pixels of the window from the rim of a thing at which its companions stand."""


def followers(displacement: np.ndarray, handles: np.ndarray, targets: np.ndarray, cell: int) -> np.ndarray:
    """A mask of what follows some drags, of where it was and where it goes, with room around it.

    Args:
        displacement: ``(h, w, 2)`` float32, backward, in pixels of the window.
        handles, targets: ``(N, 2)`` (x, y) in its pixels. Pins among them are left out.
        cell: side of the displacement's cells, in its pixels.

    Returns:
        ``(h * cell, w * cell)`` bool; empty where all are pins.
    """
    lengths = np.linalg.norm(targets - handles, axis=1)
    handles, targets, lengths = (x[lengths > 0] for x in (handles, targets, lengths))
    moves, longest = np.linalg.norm(displacement, axis=2), lengths.max(initial=0)
    part = np.zeros(moves.shape, bool)
    for target, length in zip(targets, lengths, strict=True):
        least = max(MOVES * length, SWAYS * longest, LEAST)
        part |= _connected(moves >= least, (target / cell).astype(int))
    there = _finer(part, cell) > 0.5
    whole = (there | _left(_finer(displacement, cell), there)).astype(np.uint8)
    side = whole.size**0.5
    ways = [*np.rint(np.stack((handles, targets), 1)).astype(np.int32)]
    cv2.polylines(whole, ways, isClosed=False, color=1, thickness=2 * round(WAY * side) + 1)
    room = _with_room(whole, ROOM)
    others = _finer((moves >= max(MOVES * longest, LEAST)) & ~part, cell) > 0.5
    return (room > 0) & ~others | (whole > 0)


def companions(displacement: np.ndarray, handles: np.ndarray, targets: np.ndarray, cell: int) -> np.ndarray:
    """Points that go the way of the only drag: of a thing that hardly changes its shape.

    One drag leaves it open how much of a thing follows, and the mean of all ways to follow draws it out.
    Where most of it goes along, all of it should: these points, far from each other, say so.

    Args:
        displacement, handles, targets, cell: as for :func:`followers`.

    Returns:
        ``(M, 2)`` float32 (x, y), where they go; empty if the thing bends or stretches, or if several drags
        say themselves how it moves.
    """
    if len(targets) != 1:
        return np.zeros((0, 2), np.float32)
    target, length = targets[0], float(np.linalg.norm(targets[0] - handles[0]))
    moves = np.linalg.norm(displacement, axis=2)
    part = _connected(moves >= MOVES * length, (target / cell).astype(int))
    along = part & (moves >= ALONG * length)
    if length < 1 or along.sum() < WHOLE * part.sum():
        return np.zeros((0, 2), np.float32)
    row, column = np.nonzero(along)
    places = (np.stack((column, row), 1) * cell + (cell - 1) / 2).astype(np.float32)
    return _far_from_each_other(places, target, BETWEEN * cell)


def whole_thing(thing: np.ndarray, handle: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of a thing that is known: its mask, and its companions.

    Args:
        thing: ``(H, W)`` bool, where it stands in the window.
        handle, target: ``(2,)`` (x, y) of the only drag.

    Returns:
        ``(H, W)`` bool, where it was and where it goes, with room around it; and ``(M, 2)`` float32 (x, y),
        where its companions go.
    """
    part, way = thing.astype(np.uint8), target - handle
    there = cv2.warpAffine(part, np.array([[1, 0, way[0]], [0, 1, way[1]]], np.float32), part.shape[::-1])
    row, column = np.nonzero(cv2.distanceTransform(np.pad(part, 1), cv2.DIST_L2, 3)[1:-1, 1:-1] > INNER)
    places = _far_from_each_other(np.stack((column, row), 1).astype(np.float32), handle, APART)
    return _with_room(cv2.bitwise_or(part, there), WIDE_ROOM) > 0, places + way.astype(np.float32)


def _far_from_each_other(places: np.ndarray, first: np.ndarray, least: float) -> np.ndarray:
    """Up to COMPANIONS of ``(N, 2)`` places, each as far as can be from a first one and from those before."""
    chosen: list[np.ndarray] = []
    nearest = np.linalg.norm(places - first, axis=1)
    while len(chosen) < COMPANIONS and nearest.max(initial=0) >= least:
        chosen.append(places[nearest.argmax()])
        nearest = np.minimum(nearest, np.linalg.norm(places - chosen[-1], axis=1))
    return np.reshape(chosen, (-1, 2)).astype(np.float32)


def _with_room(whole: np.ndarray, room: float) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(room * whole.size**0.5) + 1,) * 2)
    return cv2.morphologyEx(cv2.dilate(whole, disc), cv2.MORPH_CLOSE, disc)


def _connected(moving: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The part of ``moving``, ``(h, w)`` bool, that holds a cell (x, y), or the border's nearest one."""
    _, part = cv2.connectedComponents(moving.astype(np.uint8))
    x, y = np.clip(place, 0, np.array(moving.shape[::-1]) - 1)
    return moving & (part == part[y, x])


def _left(displacement: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Where what now stands ``there`` was before, ``(H, W)`` bool."""
    height, width = there.shape
    row, column = np.nonzero(there)
    origin = np.rint(np.stack((column, row), 1) + displacement[row, column]).astype(int)
    x, y = origin[((origin >= 0) & (origin < (width, height))).all(1)].T
    left = np.zeros(there.shape, np.uint8)
    left[y, x] = 1
    return cv2.morphologyEx(left, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0  # what grew is scattered


def _finer(cells: np.ndarray, cell: int) -> np.ndarray:
    """Cells as pixels, between their centres linearly."""
    return cv2.resize(cells.astype(np.float32), None, fx=cell, fy=cell, interpolation=cv2.INTER_LINEAR)
