"""Contact sheets: random pairs of a dataset with their arrows and masks, to be looked at."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from lightningdrag.data.shards import Dataset, Sample
from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags

GAP = 4
PATCH, PATCHES = 29, 6  # px around a point; how many points are shown
MARGIN = 0.2  # of what is shown, around the mask


def draw_pair(sample: Sample, size: int = 240) -> Image.Image:
    """The first picture with arrows and mask, the second with the targets, both as far as the mask goes."""
    handles, targets = (np.array(sample.meta[name]) for name in ("handles", "targets"))
    box = _surroundings(sample.mask)
    scale = size / max(box[2] - box[0], box[3] - box[1])
    extent = (round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale))
    crop = [
        Image.fromarray(image).crop(box).resize(extent, Image.Resampling.LANCZOS)
        for image in (sample.first, sample.second)
    ]
    mask = np.array(Image.fromarray(sample.mask).crop(box).resize(extent)) > 0
    placed = [(points + 0.5 - box[:2]) * scale - 0.5 for points in (handles, targets)]
    drags = [Drag((a[0], a[1]), (b[0], b[1])) for a, b in zip(*placed, strict=True)]
    pair = Image.new("RGB", (2 * size + GAP // 2, size), "white")
    pair.paste(draw_drags(crop[0], drags, mask), (0, 0))
    pair.paste(draw_drags(crop[1], [Drag(drag.target, drag.target) for drag in drags]), (size + GAP // 2, 0))
    return pair


def draw_patches(sample: Sample, size: int = 240) -> Image.Image:
    """What is around up to six handles, above what is around their targets, each with a cross on the point.

    Only so large can it be seen whether both are the same place.
    """
    edge = size // 2
    handles, targets = (np.array(sample.meta[name]) for name in ("handles", "targets"))
    chosen = np.linspace(0, len(handles) - 1, min(PATCHES, len(handles))).astype(int)
    patches = Image.new("RGB", (PATCHES * (edge + GAP // 2), size + GAP // 2), "white")
    draw = ImageDraw.Draw(patches)
    for column, k in enumerate(chosen):
        for row, (image, point) in enumerate(((sample.first, handles[k]), (sample.second, targets[k]))):
            x, y = column * (edge + GAP // 2), row * (edge + GAP // 2)
            left, top = point + 0.5 - PATCH / 2
            patch = Image.fromarray(image).transform(
                (edge, edge),
                Image.Transform.EXTENT,
                (left, top, left + PATCH, top + PATCH),
                Image.Resampling.BICUBIC,
            )
            patches.paste(patch, (x, y))
            draw.line((x + edge / 2 - 5, y + edge / 2, x + edge / 2 + 5, y + edge / 2), fill="red")
            draw.line((x + edge / 2, y + edge / 2 - 5, x + edge / 2, y + edge / 2 + 5), fill="red")
    return patches


def draw_sheet(
    dataset: Dataset, indices: Sequence[int], columns: int = 2, size: int = 240, patches: bool = False
) -> Image.Image:
    """Pairs as :func:`draw_pair` shows them, row by row, each with its index; ``patches`` beside them."""
    width, rows = 2 * size + GAP // 2, -(-len(indices) // columns)
    if patches:
        width += GAP + PATCHES * (size // 2 + GAP // 2)
    sheet = Image.new("RGB", (columns * (width + GAP), rows * (size + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for k, index in enumerate(indices):
        x, y = k % columns * (width + GAP), k // columns * (size + GAP)
        sample = dataset.read(index)
        sheet.paste(draw_pair(sample, size), (x, y))
        if patches:
            sheet.paste(draw_patches(sample, size), (x + 2 * size + GAP, y))
        draw.text((x + 3, y + 2), str(index), fill="white", stroke_width=2, stroke_fill="black")
    return sheet


def pick(dataset: Dataset, count: int, seed: int = 0, half: int | None = None) -> list[int]:
    """Indices of ``count`` pairs: a group of scenes first, evenly, then a pair of it.

    Args:
        half: 0 or 1, only groups whose name has an even or odd CRC-32: one half to tune rules on, one to
            judge them by.
    """
    rng = np.random.default_rng([seed, 3])
    groups = np.array(dataset.groups)
    names = [name for name in np.unique(groups) if half is None or zlib.crc32(name.encode()) % 2 == half]
    order = rng.permutation(names).tolist()
    left = {name: rng.permutation(np.flatnonzero(groups == name)).tolist() for name in order}
    picked: list[int] = []
    while len(picked) < min(count, sum(map(len, left.values())) + len(picked)):
        picked += [left[name].pop() for name in order if left[name]]
    return picked[:count]


def _surroundings(mask: np.ndarray) -> tuple[int, int, int, int]:
    """What is shown of a picture whose mask is ``(H, W)``: left, top, right, bottom."""
    sides = []
    for axis in (0, 1):
        line: np.ndarray = np.asarray(mask.any(axis))
        inside = np.flatnonzero(line)
        margin = max(MARGIN * (inside[-1] - inside[0]), 24)
        sides.append((max(0, int(inside[0] - margin)), min(len(line), int(inside[-1] + margin) + 1)))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom
