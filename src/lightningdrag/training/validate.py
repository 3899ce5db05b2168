"""A quick look at a model in training: the gain over the analytic warp on dev crops, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags, side_by_side
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.training.loader import Batch
from lightningdrag.warp import drag_displacement, sample

GRID_ROWS = 24


def psnr(image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """PSNR in dB in the mask, per sample; images in [-1, 1]."""
    error = ((image - truth).square() * mask).mean(1).sum((1, 2)) / mask.sum((1, 2, 3)).clamp_min(1)
    return -10 * torch.log10(error / 4 + 1e-10)


def validate(
    edit: Callable[[Batch], dict[str, Tensor]], batches: Iterable[Batch]
) -> tuple[dict[str, float], Image.Image]:
    """Mean PSNR in the mask, in dB, of the analytic warp and of each result that ``edit`` gives by name.

    Returns:
        The scores, and rows of source with drags, analytic warp, result, truth.
    """
    scores: dict[str, list[Tensor]] = {}
    rows: list[Image.Image] = []
    for batch in batches:
        drags, truth = batch.drags, batch.labels.image
        field = drag_displacement(
            drags.handles, drags.targets, drags.anchors, drags.mask, weights=drags.valid
        )
        images = {"warp": sample(drags.source, field), **edit(batch)}
        for name, image in images.items():
            scores.setdefault(name, []).append(psnr(image, truth, drags.mask))
        rows += [picture_row(drags, images["warp"], images["model"], truth, i) for i in range(len(truth))]
    chosen = np.linspace(0, len(rows) - 1, min(GRID_ROWS, len(rows))).astype(int)
    return {name: float(torch.cat(values).mean()) for name, values in scores.items()}, picture_grid(
        [rows[i] for i in chosen]
    )


def picture_row(batch: DragBatch, warp: Tensor, result: Tensor, truth: Tensor, i: int) -> Image.Image:
    count = int(batch.valid[i].sum())
    drags = [
        Drag(tuple(handle), tuple(target))
        for handle, target in zip(
            batch.handles[i, :count].tolist(), batch.targets[i, :count].tolist(), strict=True
        )
    ]
    drawn = draw_drags(to_image(batch.source[i]), drags, batch.mask[i, 0].cpu().numpy() > 0.5)
    return side_by_side([drawn, *(to_image(x[i]) for x in (warp, result, truth))], gap=2)


def to_image(x: Tensor) -> Image.Image:
    """``(3, H, W)`` in [-1, 1] to an 8-bit picture."""
    values = ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def picture_grid(rows: list[Image.Image], columns: int = 3) -> Image.Image:
    """Rows of pictures, several side by side."""
    width, height = rows[0].size
    lines = -(-len(rows) // columns)
    grid = Image.new("RGB", ((width + 8) * columns, (height + 4) * lines), "white")
    for i, row in enumerate(rows):
        grid.paste(row, ((i % columns) * (width + 8), (i // columns) * (height + 4)))
    return grid
