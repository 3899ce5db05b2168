"""Sheets of pictures: what the figures of a benchmark look like."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags
from lightningdrag.evaluation.baselines import EditMethod, reference_warp
from lightningdrag.evaluation.pairs import Pair, PairScores, PairSet
from lightningdrag.evaluation.report import REFERENCE
from lightningdrag.files import write_atomically

NUM_EXTREME = 8
NUM_RANDOM = 16
CELL = (300, 220)
CAPTION = 16
CONTEXT = 0.25
"""Border shown around the mask, over its longer side."""

Box = tuple[int, int, int, int]


def choose(scores: Sequence[PairScores], method: str, seed: int = 0) -> dict[str, list[PairScores]]:
    """The best and the worst pairs of a method by its gain over the reference warp, and random ones."""

    def gain(score: PairScores) -> float:
        return score.scores[method]["psnr"] - score.scores[REFERENCE]["psnr"]

    ranked = sorted((s for s in scores if not np.isnan(gain(s))), key=gain, reverse=True)
    order = np.random.default_rng(seed).permutation(len(scores))[:NUM_RANDOM]
    return {
        "best": ranked[:NUM_EXTREME],
        "worst": ranked[::-1][:NUM_EXTREME],
        "random": [scores[i] for i in sorted(order)],
    }


def write_pair_sheets(
    scores: Sequence[PairScores],
    pairs: PairSet,
    methods: Mapping[str, EditMethod],
    directory: Path,
    seed: int = 0,
) -> list[Path]:
    """One PNG a method and choice: rows of source with its drags, warp, result, truth.

    ``methods`` are those worth a sheet; their results are made again, from the same seed.
    """
    written = []
    for name, method in methods.items():
        for kind, chosen in choose(scores, name, seed).items():
            rows = [_pair_row(s, pairs[s.index], name, method, seed) for s in chosen]
            path = directory / f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{kind}.png"
            write_sheet(rows, path)
            written.append(path)
    return written


def _pair_row(
    scored: PairScores, pair: Pair, name: str, method: EditMethod, seed: int
) -> tuple[str, list[Image.Image]]:
    request = (pair.source, pair.handles, pair.targets, pair.mask, seed)
    points = zip(pair.handles.tolist(), pair.targets.tolist(), strict=True)
    drags = [Drag(handle, target) for handle, target in points]
    pictures = [
        draw_drags(Image.fromarray(pair.source), drags, pair.mask),
        *(Image.fromarray(image) for image in (reference_warp(*request), method(*request), pair.truth)),
    ]
    ours, warp = scored.scores[name]["psnr"], scored.scores[REFERENCE]["psnr"]
    caption = f"{scored.name}   drags | warp {warp:.2f} dB | {name} {ours:.2f} dB | truth"
    box = context_box(pair.mask)
    return caption, [picture.crop(box) for picture in pictures]


def context_box(mask: np.ndarray) -> Box:
    """(left, top, right, bottom) of a mask with some context, inside the image."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, width, height
    border = int(CONTEXT * max(rows[-1] - rows[0], columns[-1] - columns[0]))
    return (
        max(0, int(columns[0]) - border),
        max(0, int(rows[0]) - border),
        min(width, int(columns[-1]) + 1 + border),
        min(height, int(rows[-1]) + 1 + border),
    )


def write_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]], path: Path) -> None:
    """Lay captioned rows of pictures out on one PNG, each picture fitted into a cell of its own."""
    fitted = [(caption, [_fit(picture) for picture in pictures]) for caption, pictures in rows]
    heights = [CAPTION + max(picture.height for picture in pictures) for _, pictures in fitted]
    columns = max((len(pictures) for _, pictures in fitted), default=1)
    sheet = Image.new("RGB", (columns * CELL[0], max(1, sum(heights))), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for (caption, pictures), height in zip(fitted, heights, strict=True):
        pen.text((4, top + 2), caption, fill="black")
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * CELL[0] + (CELL[0] - picture.width) // 2, top + CAPTION))
        top += height
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()
    sheet.save(encoded, format="PNG")
    write_atomically(path, encoded.getvalue())


def _fit(picture: Image.Image) -> Image.Image:
    scale = min((CELL[0] - 4) / picture.width, (CELL[1] - 2) / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
