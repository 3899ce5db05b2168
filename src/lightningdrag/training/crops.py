"""From stored pairs to training crops: redrawn drags and masks, crop, scale, flip, colour jitter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from lightningdrag.data.drawing import draw_drags, draw_mask
from lightningdrag.data.shards import Sample
from lightningdrag.data.tracks import OCCLUDED, VISIBLE, is_known
from lightningdrag.drag import Drag
from lightningdrag.masks import derive_mask
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.training.losses import LABEL_STRIDE, Labels
from lightningdrag.warp import NUM_ANCHORS, rim_anchors

MAX_POINTS = 20
LOOSE_MASKS = 0.6
"""Share of masks that are widened around the drags, as masks derived from drags alone are."""
BANDS = (0.06, 0.45)
"""How far such masks reach from a drag, over the short side, where they are not just those."""
PINNED = 0.25
"""Share of samples that get a pinned point where nothing moves."""
TURN = 10.0
"""Degrees: standard deviation of the angle by which a crop is turned, as far as the picture reaches."""
CLICK_NOISE = 0.7
"""Pixels: standard deviation of a click around the point that was meant."""


@dataclass(frozen=True)
class Crop:
    """One training example; arrays as in :class:`DragBatch` and :class:`Labels`, without the batch axis."""

    source: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    handles: np.ndarray
    targets: np.ndarray
    displacement: np.ndarray
    visible: np.ndarray
    hidden: np.ndarray


@dataclass
class _Scene:
    """A pair on its way to a crop, at full size; motion grids are of stride 2."""

    source: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    handles: np.ndarray
    targets: np.ndarray
    backward: np.ndarray
    state: np.ndarray


def make_crop(sample: Sample, size: int, rng: np.random.Generator, *, identity: bool = False) -> Crop:
    """Draw an example from a stored pair.

    Args:
        size: side of the square crop in pixels, a multiple of 32.
        identity: make an edit in which every point is pinned and nothing changes.

    Raises:
        ValueError: the pair is smaller than the crop, or nothing in it moves enough to draw a drag on.
    """
    scene = _scene(sample, rng, identity)
    if rng.random() < PINNED and not identity:
        _add_pin(scene, rng)
    crop = _cut(scene, size, rng, np.radians(rng.normal(0, TURN)))
    return _jittered(crop, size, rng)


def fixed_crop(sample: Sample, size: int) -> Crop:
    """A stored pair with its stored drags and mask, cut around the mask: for validation.

    Raises:
        ValueError: the pair is smaller than the crop, or no drag lies inside it.
    """
    meta = sample.meta
    scene = _Scene(
        sample.first,
        sample.second,
        sample.mask,
        np.array(meta["handles"], np.float32),
        np.array(meta["targets"], np.float32),
        sample.backward,
        sample.backward_state,
    )
    return _cut(scene, size, np.random.default_rng(0))


def _scene(sample: Sample, rng: np.random.Generator, identity: bool) -> _Scene:
    forward = (sample.first, sample.forward, sample.forward_state)
    backward = (sample.second, sample.backward, sample.backward_state)
    (source, motion, state), (truth, label, label_state) = (
        (forward, backward) if rng.random() < 0.5 else (backward, forward)
    )
    handles, targets = draw_drags(motion, state, sample.moving, rng, MAX_POINTS - 1)
    mask = draw_mask(sample.moving, handles, targets, rng)
    if rng.random() < LOOSE_MASKS:
        mask = _loosened(mask, sample.moving, handles, targets, rng)
    if identity:
        return _Scene(
            source, source, mask, handles, handles.copy(), np.zeros_like(label), np.full_like(state, VISIBLE)
        )
    return _Scene(source, truth, mask, handles, targets, label, label_state)


def _loosened(
    mask: np.ndarray, moving: np.ndarray, handles: np.ndarray, targets: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The mask and what is derived from the drags alone, save where something else moves by itself.

    Half of these are derived just as in edits without a mask, half are bands of any width.
    """
    height, width = mask.shape
    drags = [Drag(tuple(h), tuple(t)) for h, t in zip(handles.tolist(), targets.tolist(), strict=True)]
    reach = None if rng.random() < 0.5 else rng.uniform(*BANDS) * min(mask.shape)
    room = derive_mask(drags, width, height, reach)
    full = cv2.resize(moving, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    others = cv2.dilate((full & ~mask).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return mask | (room & ~others)


def _add_pin(scene: _Scene, rng: np.random.Generator) -> None:
    still = (np.abs(scene.backward).max(0) < 0.25) & is_known(scene.state)
    inside = scene.mask[::LABEL_STRIDE, ::LABEL_STRIDE][: still.shape[0], : still.shape[1]]
    cells = np.flatnonzero(still & inside)
    if len(cells):
        row, column = divmod(int(rng.choice(cells)), still.shape[1])
        pin = np.array([[LABEL_STRIDE * column + 0.5, LABEL_STRIDE * row + 0.5]], np.float32)
        scene.handles = np.concatenate((scene.handles, pin))
        scene.targets = np.concatenate((scene.targets, pin))


def _cut(scene: _Scene, size: int, rng: np.random.Generator, angle: float = 0.0) -> Crop:
    """Cut a square around the mask, turned by ``angle``, and scale it down, never up, to ``size``."""
    height, width = scene.mask.shape
    short = min(height, width)
    if short < size:
        raise ValueError(f"a picture of {width}x{height} is smaller than a crop of {size}")
    columns, rows = (np.flatnonzero(scene.mask.any(axis)) for axis in (0, 1))
    points = np.concatenate((scene.handles, scene.targets))
    low = np.minimum((columns[0], rows[0]), points.min(0))
    high = np.maximum((columns[-1] + 1, rows[-1] + 1), points.max(0) + 1)
    extent = float((high - low).max())
    wider = abs(np.cos(angle)) + abs(np.sin(angle))  # what a turned square of side 1 spans
    if wider * size > short:
        angle, wider = 0.0, 1.0
    side = float(np.clip(extent * rng.uniform(1.1, 2.0), size, short / wider))
    centre = np.empty(2)
    for axis, length in enumerate((width, height)):
        first, last = sorted((high[axis] - side / 2, low[axis] + side / 2))
        centre[axis] = np.clip(rng.uniform(first, last), wider * side / 2, length - wider * side / 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = size / side

    def transform(stride: int, out_stride: int) -> np.ndarray:
        # Affine map from output grid indices to input grid indices; centres lie at half cells.
        matrix = turn * (out_stride / (stride * scale))
        offset = (turn.sum(1) * (out_stride - size) / (2 * scale) + centre) / stride - 0.5
        return np.concatenate((matrix, offset[:, None]), 1).astype(np.float32)

    def resample(image: np.ndarray, stride: int, out_stride: int, mode: int) -> np.ndarray:
        extent = (size // out_stride, size // out_stride)
        return cv2.warpAffine(
            image, transform(stride, out_stride), extent, flags=mode | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip

    def picture(image: np.ndarray) -> np.ndarray:
        # Averaging before sampling: warpAffine alone would alias when it shrinks.
        sigma = 0.35 * max(1 / scale - 1, 0)
        return resample(
            cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.1 else image, 1, 1, cv2.INTER_LINEAR
        )

    handles, targets = (
        ((p + 0.5 - centre) @ turn * scale + (size - 1) / 2).astype(np.float32)
        for p in (scene.handles, scene.targets)
    )
    inside = ((handles > 0) & (handles < size - 1) & (targets > 0) & (targets < size - 1)).all(-1)
    if not inside.any():
        raise ValueError("no drag lies wholly inside the crop")
    state = resample(scene.state, 2, LABEL_STRIDE, cv2.INTER_NEAREST)
    motion = resample(
        np.ascontiguousarray(scene.backward.transpose(1, 2, 0)), 2, LABEL_STRIDE, cv2.INTER_NEAREST
    )
    mask = resample(scene.mask.astype(np.uint8), 1, 1, cv2.INTER_NEAREST) > 0
    return Crop(
        picture(scene.source),
        picture(scene.truth),
        mask,
        handles[inside],
        targets[inside],
        np.ascontiguousarray((motion @ (turn * scale)).transpose(2, 0, 1), np.float32),
        is_known(state),
        state == OCCLUDED,
    )


def _jittered(crop: Crop, size: int, rng: np.random.Generator) -> Crop:
    """Flip left to right, change the colours of both pictures alike, move the points as clicks do."""
    gain = np.exp(rng.normal(0, 0.1, 3) + rng.normal(0, 0.15))
    gamma = np.exp(rng.normal(0, 0.15))
    curve = np.clip((np.linspace(0, 1, 256)[:, None] ** gamma) * gain * 255, 0, 255).astype(np.uint8)
    source, truth = (cv2.LUT(np.ascontiguousarray(x), curve[:, None]) for x in (crop.source, crop.truth))
    length = float(np.linalg.norm(crop.targets - crop.handles, axis=-1).max())
    noise = rng.normal(0, min(CLICK_NOISE, 0.1 * length), crop.handles.shape).astype(np.float32)
    handles, targets = crop.handles + noise, crop.targets + noise
    displacement, mask, visible, hidden = crop.displacement, crop.mask, crop.visible, crop.hidden
    if rng.random() < 0.5:
        source, truth, mask, visible, hidden = (x[:, ::-1] for x in (source, truth, mask, visible, hidden))
        handles, targets = (p * (-1, 1) + (size - 1, 0) for p in (handles, targets))
        displacement = displacement[:, :, ::-1] * np.array([-1, 1], np.float32)[:, None, None]
    return Crop(source, truth, mask, handles, targets, displacement, visible, hidden)


def collate(crops: list[Crop]) -> tuple[DragBatch, Labels]:
    """Stack crops of one size; points are padded to the most that any has."""
    most = max(len(crop.handles) for crop in crops)
    points = np.zeros((2, len(crops), most, 2), np.float32)
    valid = np.zeros((len(crops), most), np.float32)
    anchors = np.zeros((len(crops), NUM_ANCHORS, 2), np.float32)
    for i, crop in enumerate(crops):
        count = len(crop.handles)
        points[0, i, :count], points[1, i, :count], valid[i, :count] = crop.handles, crop.targets, 1
        anchors[i] = rim_anchors(crop.mask)

    def images(name: str) -> Tensor:
        stacked = np.stack([getattr(crop, name) for crop in crops]).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(stacked)).float() / 127.5 - 1

    def maps(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(crop, name) for crop in crops])[:, None].astype(np.float32))

    batch = DragBatch(
        images("source"),
        maps("mask"),
        torch.from_numpy(points[0]),
        torch.from_numpy(points[1]),
        torch.from_numpy(valid),
        torch.from_numpy(anchors),
    )
    displacement = torch.from_numpy(np.ascontiguousarray(np.stack([crop.displacement for crop in crops])))
    return batch, Labels(images("truth"), displacement, maps("visible"), maps("hidden"))
