"""Contact sheets: random pairs of a dataset with their arrows and masks, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from lightningdrag.data.shards import Dataset, Sample
from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags

GAP = 6


def draw_pair(sample: Sample, height: int = 216) -> Image.Image:
    """The first picture with arrows and mask, and the second one with the same arrows, side by side."""
    drags = [
        Drag(tuple(handle), tuple(target))
        for handle, target in zip(sample.meta["handles"], sample.meta["targets"], strict=True)
    ]
    drawn = [
        draw_drags(Image.fromarray(sample.first), drags, sample.mask),
        draw_drags(Image.fromarray(sample.second), drags),
    ]
    width = round(height * drawn[0].width / drawn[0].height)
    pair = Image.new("RGB", (2 * width + GAP // 2, height), "white")
    for k, image in enumerate(drawn):
        pair.paste(image.resize((width, height), Image.Resampling.LANCZOS), (k * (width + GAP // 2), 0))
    return pair


def draw_sheet(dataset: Dataset, indices: Sequence[int], columns: int = 2, height: int = 216) -> Image.Image:
    """Pairs as :func:`draw_pair` shows them, row by row, each with its index."""
    pairs = [draw_pair(dataset.read(index), height) for index in indices]
    width = max(pair.width for pair in pairs)
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP), rows * (height + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (index, pair) in enumerate(zip(indices, pairs, strict=True)):
        x, y = k % columns * (width + GAP), k // columns * (height + GAP)
        sheet.paste(pair, (x, y))
        draw.text((x + 3, y + 2), str(index), fill="white", stroke_width=2, stroke_fill="black")
    return sheet


def pick(dataset: Dataset, count: int, seed: int = 0) -> list[int]:
    """Indices of ``count`` pairs: a group of scenes first, evenly, then a pair of it."""
    rng = np.random.default_rng([seed, 3])
    groups = np.array(dataset.groups)
    order = rng.permutation(np.unique(groups)).tolist()
    picked: list[int] = []
    left = {name: list(rng.permutation(np.flatnonzero(groups == name))) for name in order}
    while len(picked) < min(count, len(dataset)):
        picked += [int(left[name].pop()) for name in order if left[name]]
    return picked[:count]
