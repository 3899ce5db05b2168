"""Sheets of pictures: what the figures of a benchmark look like."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags
from lightningdrag.evaluation.case import TRUTH, Benchmark, Case, CaseScores
from lightningdrag.evaluation.columns import REFERENCE
from lightningdrag.evaluation.page import PictureOf
from lightningdrag.evaluation.ranking import ranked
from lightningdrag.files import write_atomically

NUM_EXTREME = 8
NUM_RANDOM = 16
CELL = (300, 220)
CAPTION = 16
CONTEXT = 0.25
"""Border shown around the mask, over its longer side."""

Box = tuple[int, int, int, int]


def choose(scores: Sequence[CaseScores], method: str, seed: int = 0) -> dict[str, list[CaseScores]]:
    """The best and the worst cases of a method (``ranking.ranked``), and random ones."""
    best = ranked(scores, method)
    order = np.random.default_rng(seed).permutation(len(scores))[:NUM_RANDOM]
    return {
        "best": best[:NUM_EXTREME],
        "worst": best[::-1][:NUM_EXTREME],
        "random": [scores[i] for i in sorted(order)],
    }


def write_sheets(
    scores: Sequence[CaseScores],
    cases: Benchmark,
    rows: Sequence[str],
    picture_of: PictureOf,
    directory: Path,
) -> list[Path]:
    """One PNG a row and choice: source with its drags, warp, result, truth if it is known."""
    written = []
    for row in rows:
        for kind, chosen in choose(scores, row).items():
            lines = [_line(s, cases[s.index], row, picture_of) for s in chosen if row in s.scores]
            path = directory / f"{re.sub('[^a-z0-9]+', '-', row.lower())}-{kind}.png"
            write_sheet(lines, path)
            written.append(path)
    return written


def _line(scored: CaseScores, case: Case, row: str, picture_of: PictureOf) -> tuple[str, list[Image.Image]]:
    points = zip(case.handles.tolist(), case.targets.tolist(), strict=True)
    drags = [Drag(handle, target) for handle, target in points]
    pictures = [draw_drags(Image.fromarray(case.source), drags, case.mask)]
    captions = ["drags"]
    shown = {name: picture_of(case, scored.index, name) for name in (REFERENCE, row)}
    for name, image in {**shown, TRUTH: case.truth}.items():
        if image is not None:
            pictures.append(Image.fromarray(image))
            value = scored.scores.get(name, {}).get("psnr", float("nan"))
            captions.append(f"{name} {value:.2f} dB" if np.isfinite(value) else name)
    box = context_box(case.mask)
    return f"{scored.name}   {' | '.join(captions)}", [picture.crop(box) for picture in pictures]


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
