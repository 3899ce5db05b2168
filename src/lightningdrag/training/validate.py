"""A quick look at a model in training: a few of the evaluation's measures on dev crops, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags, side_by_side
from lightningdrag.evaluation import metrics
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
    """What the model makes of dev crops, in the mask.

    Returns:
        Scores, and rows of source with drags, analytic warp, result, truth. The scores are the mean PSNR in
        dB of the analytic warp and of each result that ``edit`` gives by name; and of the model's ``gain``,
        what it has over the warp, ``won``, the share of crops where that is positive, ``sharpness`` (a
        median) and ``half_transparent`` as the evaluation measures them.
    """
    scores: dict[str, list[Tensor]] = {}
    looks: list[tuple[float, float]] = []
    rows: list[Image.Image] = []
    for batch in batches:
        drags, truth = batch.drags, batch.labels.image
        field = drag_displacement(
            drags.handles, drags.targets, drags.anchors, drags.mask, weights=drags.valid
        )
        images = {"warp": sample(drags.source, field), **edit(batch)}
        for name, image in images.items():
            scores.setdefault(name, []).append(psnr(image, truth, drags.mask))
        looks += [_look(drags, images["model"], truth, i) for i in range(len(truth))]
        rows += [picture_row(drags, images["warp"], images["model"], truth, i) for i in range(len(truth))]
    chosen = np.linspace(0, len(rows) - 1, min(GRID_ROWS, len(rows))).astype(int)
    psnrs = {name: torch.cat(values) for name, values in scores.items()}
    gain = psnrs["model"] - psnrs["warp"]
    sharpness, half_transparent = torch.tensor(looks).T
    means = {
        **psnrs,
        "gain": gain,
        "won": (gain.sign() + 1) / 2,
        "sharpness": sharpness.nanmedian(),
        "half_transparent": half_transparent.nanmean(),
    }
    picture = picture_grid([rows[i] for i in chosen])
    return {name: float(values.mean()) for name, values in means.items()}, picture


def _look(drags: DragBatch, result: Tensor, truth: Tensor, i: int) -> tuple[float, float]:
    """Sharpness and share of half-transparent windows of one crop; NaN where it defines none."""
    after, before, real = (np.asarray(to_image(x[i])) for x in (result, drags.source, truth))
    mask = drags.mask[i, 0].cpu().numpy() > 0.5
    double = metrics.doubles(after, before, real, mask)
    return metrics.sharpness(after, real, mask), double.half_transparent


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
