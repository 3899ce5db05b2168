"""Pairs made from photos, whose motion and disocclusion are known exactly.

A scene is a stack of layers seen in two states. A layer's motion is given backwards, second -> first, as an
affine map after a smooth displacement: b(q) = A(q + s(q)). That is exact at every pixel of the second
picture; the way forward solves q + s(q) = A^-1(p) by fixed-point iteration, which converges since s is made
with a slope below one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lightningdrag.data.deformations import local_deformation, random_motion
from lightningdrag.data.pairs import QUANTUM, FramePair, Rejected
from lightningdrag.data.tracks import (
    OCCLUDED,
    STRIDE,
    UNKNOWN,
    VISIBLE,
    cell_centres,
    look_up,
    pixel_grid,
    to_cells,
)

CUT_OUT_SHARE = (0.01, 0.25)  # of the photo a segment is cut from


@dataclass(frozen=True)
class Layer:
    """One thing that moves.

    Attributes:
        image: ``(H, W, 3)`` uint8 as it stands in the first picture.
        alpha: ``(H, W)`` float32 in [0, 1], 1 where the layer is.
        affine: ``(2, 3)`` float64, the map A.
        smooth: ``(H, W, 2)`` float32, the displacement s.
    """

    image: np.ndarray
    alpha: np.ndarray
    affine: np.ndarray
    smooth: np.ndarray

    def backward(self) -> np.ndarray:
        """b(q) - q at every pixel, ``(H, W, 2)``."""
        grid = pixel_grid(*self.alpha.shape)
        return _affine(self.affine, grid + self.smooth) - grid

    def forward(self, positions: np.ndarray) -> np.ndarray:
        """Where first-picture points ``(h, w, 2)`` go, as positions in the second picture."""
        goal = _affine(cv2.invertAffineTransform(self.affine), positions)
        found = goal
        for _ in range(60):
            found = goal - look_up(self.smooth, found)
        return found


def synthetic_pair(photos: list[np.ndarray], rng: np.random.Generator) -> FramePair:
    """A pair from photos: something cut out that moves over a true background, or a local deformation.

    Args:
        photos: ``(H, W, 3)`` uint8 RGB, even sides. The first is the background, or what is deformed;
            things are cut out of the others.

    Raises:
        Rejected: no thing could be cut out, or what came out hardly moves.
    """
    background = photos[0]
    shape = background.shape[:2]
    identity = np.eye(2, 3)
    still = np.zeros((*shape, 2), np.float32)
    opaque = np.ones(shape, np.float32)
    if len(photos) == 1 or rng.random() < 0.3:
        smooth = local_deformation(shape, rng)
        return render([Layer(background, opaque, identity, smooth)])
    layers = [Layer(background, opaque, identity, still)]
    for photo in photos[1:]:
        image, alpha = _pasted(photo, cut_out(photo, rng), shape, rng)
        affine, smooth = random_motion(alpha, rng)
        layers.append(Layer(image, alpha, affine, smooth))
    return render(layers)


def render(layers: list[Layer]) -> FramePair:
    """Both pictures of a stack of layers (back to front), and the exact motion between them.

    Raises:
        Rejected: too little or too much moves.
    """
    shape = layers[0].alpha.shape
    grid = cell_centres(*shape)
    first = layers[0].image.astype(np.float32)
    second = np.zeros_like(first)
    first_top = np.zeros(grid.shape[:2], np.uint8)
    second_top = np.zeros_like(first_top)
    backward = np.zeros_like(grid)
    for index, layer in enumerate(layers):
        field = layer.backward()
        x, y = cv2.split(pixel_grid(*shape) + field)
        image = cv2.remap(layer.image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        alpha = layer.alpha
        if index:
            alpha = cv2.remap(layer.alpha, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            first = _over(layer.image, layer.alpha, first)
            first_top[to_cells(layer.alpha) > 0.5] = index
        second = _over(image, alpha, second)
        here = to_cells(alpha) > 0.5
        second_top[here] = index
        backward[here] = to_cells(field)[here]
    forward = np.zeros_like(backward)
    apart = np.zeros(first_top.shape, np.float32)
    for index, layer in enumerate(layers):
        there = layer.forward(grid)
        error = np.linalg.norm(there + look_up(layer.backward(), there) - grid, axis=-1)
        mine = first_top == index
        forward[mine] = (there - grid)[mine]
        apart[mine] = error[mine]
    forward_state = _exact_states(forward, first_top, second_top)
    forward_state[apart > 0.5] = UNKNOWN
    backward_state = _exact_states(backward, second_top, first_top)
    return _packed(
        first.round().clip(0, 255).astype(np.uint8),
        second.round().clip(0, 255).astype(np.uint8),
        (forward, backward),
        (forward_state, backward_state),
        (first_top, second_top),
    )


def cut_out(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a thing out of a photo along its edges: ``(H, W)`` bool.

    Watershed superpixels are grown into a region of like colour; at times the photo's middle is
    separated from its surroundings by GrabCut instead.

    Raises:
        Rejected: nothing of a fitting size was found.
    """
    segment = _middle(photo) if rng.random() < 0.4 else _grown(photo, rng)
    segment = cv2.morphologyEx(segment.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(segment)
    if len(stats) < 2:
        raise Rejected("no thing could be cut out")
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    share = stats[largest, cv2.CC_STAT_AREA] / segment.size
    if not CUT_OUT_SHARE[0] / 2 <= share <= 2 * CUT_OUT_SHARE[1]:
        raise Rejected("no thing could be cut out")
    thing = (parts == largest).astype(np.uint8)
    rims, _ = cv2.findContours(thing, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(thing), rims, -1, 1, -1) > 0


def _middle(photo: np.ndarray) -> np.ndarray:
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    h, w = small.shape[:2]
    labels = np.zeros((h, w), np.uint8)
    box = (w // 8, h // 8, w * 3 // 4, h * 3 // 4)
    cv2.setRNGSeed(0)
    cv2.grabCut(small, labels, box, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_RECT)
    thing = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    return cv2.resize(thing, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0


def _grown(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = photo.shape[:2]
    step = 20
    seeds = np.zeros((height, width), np.int32)
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    jitter = rng.integers(-step // 3, step // 3 + 1, (2, *rows.shape))
    count = rows.size
    seeds[(rows + jitter[0]).clip(1, height - 2), (columns + jitter[1]).clip(1, width - 2)] = np.arange(
        1, count + 1
    ).reshape(rows.shape)
    label = cv2.watershed(cv2.GaussianBlur(photo, (5, 5), 0), seeds).clip(0)
    label = cv2.dilate(label.astype(np.float32), np.ones((3, 3))).astype(int)
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float64)
    area = np.bincount(label.ravel(), minlength=count + 1)
    total = np.stack([np.bincount(label.ravel(), lab[:, c], count + 1) for c in range(3)], -1)
    mean = total / np.maximum(area, 1)[:, None]
    edges = {tuple(sorted(pair)) for pair in _neighbours(label)}
    near: dict[int, set[int]] = {}
    for a, b in edges:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    goal = np.exp(rng.uniform(*np.log(CUT_OUT_SHARE))) * label.size
    region = {
        int(label[rng.integers(height // 5, height * 4 // 5), rng.integers(width // 5, width * 4 // 5)])
    }
    rim = set(near.get(next(iter(region)), ())) - {0}
    while rim and area[list(region)].sum() < goal:
        inside = list(region)
        own = (mean[inside] * area[inside, None]).sum(0) / area[inside].sum()
        best = min(rim, key=lambda part: float(np.linalg.norm(mean[part] - own)) + 8 * rng.random())
        region.add(best)
        rim = (rim | near[best]) - region - {0}
    return np.isin(label, list(region))


def _neighbours(label: np.ndarray) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for a, b in ((label[:, :-1], label[:, 1:]), (label[:-1], label[1:])):
        differ = a != b
        pairs |= set(zip(a[differ].tolist(), b[differ].tolist(), strict=True))
    return pairs


def _pasted(
    photo: np.ndarray, segment: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Put a segment somewhere on a canvas, turned and scaled down; image and soft alpha."""
    height, width = shape
    alpha = cv2.erode(segment.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    x, y, w, h = cv2.boundingRect(segment.astype(np.uint8))
    scale = min(np.exp(rng.uniform(-0.7, 0.0)), 0.8 * width / w, 0.8 * height / h)
    place = np.array([rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height])
    matrix = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), float(rng.normal(0, 20)), scale)
    if rng.random() < 0.5:
        matrix = matrix @ np.array([[-1, 0, 2 * x + w], [0, 1, 0], [0, 0, 1]])
    matrix[:, 2] += place - np.array([x + w / 2, y + h / 2])
    image = cv2.warpAffine(
        photo, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101
    )
    soft = cv2.GaussianBlur(alpha, (0, 0), 0.7)
    return image, cv2.warpAffine(soft, matrix, (width, height))


def _exact_states(motion: np.ndarray, top_here: np.ndarray, top_there: np.ndarray) -> np.ndarray:
    height, width = (STRIDE * n for n in top_here.shape)
    landing = cell_centres(height, width) + motion
    x, y = landing[..., 0], landing[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    column = ((x + 0.5) // STRIDE).clip(0, width // STRIDE - 1).astype(int)
    row = ((y + 0.5) // STRIDE).clip(0, height // STRIDE - 1).astype(int)
    return np.where(inside & (top_there[row, column] == top_here), VISIBLE, OCCLUDED).astype(np.uint8)


def _packed(
    first: np.ndarray,
    second: np.ndarray,
    motions: tuple[np.ndarray, np.ndarray],
    states: tuple[np.ndarray, np.ndarray],
    tops: tuple[np.ndarray, np.ndarray],
) -> FramePair:
    moving = (np.linalg.norm(motions[0], axis=-1) > 0.25) | (np.linalg.norm(motions[1], axis=-1) > 0.25)
    moving |= to_cells(cv2.absdiff(first, second)).max(-1) > 4
    moving |= tops[0] != tops[1]
    whole = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    whole = cv2.dilate(whole, np.ones((3, 3), np.uint8))
    if not 0.002 < whole.mean() < 0.7:
        raise Rejected("too little or too much moves")
    fields = []
    for motion, state in zip(motions, states, strict=True):
        rounded = np.round(motion / QUANTUM) * QUANTUM
        rounded[whole == 0] = 0
        state[whole == 0] = VISIBLE
        fields.append(np.ascontiguousarray(rounded.transpose(2, 0, 1), np.float32))
    return FramePair(first, second, fields[0], fields[1], states[0], states[1], whole)


def _over(image: np.ndarray, alpha: np.ndarray, below: np.ndarray) -> np.ndarray:
    return below + alpha[..., None] * (image.astype(np.float32) - below)


def _affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)
