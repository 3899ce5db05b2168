"""A quick look at a model in training: the gain over the analytic warp on dev crops, and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags, side_by_side
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.builtin.model import BuiltinModel
from lightningdrag.training.losses import Labels, to_device
from lightningdrag.warp import drag_displacement, sample

GRID_ROWS = 24


def psnr(image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """PSNR in dB in the mask, per sample; images in [-1, 1]."""
    error = ((image - truth).square() * mask).mean(1).sum((1, 2)) / mask.sum((1, 2, 3)).clamp_min(1)
    return -10 * torch.log10(error / 4 + 1e-10)


@torch.inference_mode()
def validate(
    model: BuiltinModel, batches: list[tuple[DragBatch, Labels]], picture: Path | None
) -> dict[str, float]:
    """Mean PSNR of the analytic warp and of the model's result and its bare warp, in dB.

    Args:
        picture: where to write rows of source with drags, analytic warp, result, truth; None for no picture.
    """
    generator = torch.Generator().manual_seed(0)
    scores: dict[str, list[Tensor]] = {"warp": [], "model": [], "model_warp": []}
    rows: list[Image.Image] = []
    for batch, labels in batches:
        batch, labels = to_device(batch, model.device), to_device(labels, model.device)
        field = drag_displacement(
            batch.handles, batch.targets, batch.anchors, batch.mask, weights=batch.valid
        )
        warp = sample(batch.source, field)
        with model.autocast():
            appearance = model.network.appearance(batch.source)
        rendering = model.sample(
            batch,
            appearance,
            generator,
            weights=[1.0] * model.default_steps,
            temperature=torch.full((len(batch.source), 1, 1, 1), model.default_temperature),
        )
        inside = batch.mask
        result = torch.lerp(batch.source, rendering.compose(batch.source), inside)
        moved = sample(batch.source, rendering.displacement)
        for name, image in (("warp", warp), ("model", result), ("model_warp", moved)):
            scores[name].append(psnr(image, labels.image, inside))
        if picture is not None:
            rows += [picture_row(batch, warp, result, labels.image, i) for i in range(len(result))]
    if picture is not None:
        chosen = np.linspace(0, len(rows) - 1, min(GRID_ROWS, len(rows))).astype(int)
        save_grid([rows[i] for i in chosen], picture)
    return {name: float(torch.cat(values).mean()) for name, values in scores.items()}


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


def save_grid(rows: list[Image.Image], path: Path, columns: int = 3) -> None:
    """Rows of pictures, several side by side."""
    width, height = rows[0].size
    lines = -(-len(rows) // columns)
    grid = Image.new("RGB", ((width + 8) * columns, (height + 4) * lines), "white")
    for i, row in enumerate(rows):
        grid.paste(row, ((i % columns) * (width + 8), (i // columns) * (height + 4)))
    grid.save(path)
