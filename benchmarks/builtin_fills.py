"""What fills are worth: held-out crops in which it is known what was hidden, filled in several ways.

python benchmarks/builtin_fills.py --data prepared --size 192 --limit 192

Where the label says hidden, and nowhere else, the model fills; its motion is its own.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from builtin_ablation import WITHOUT_OUTLINES, WITHOUT_PATCHES, changed
from lightningdrag.checkpoints.builtin import load_builtin
from lightningdrag.ground import carried_on
from lightningdrag.models.builtin import outlines, patch_fill
from lightningdrag.models.builtin.model import BuiltinModel
from lightningdrag.models.builtin.network import Rendering
from lightningdrag.models.builtin.patch_fill import patched
from lightningdrag.training.loader import Batch, validation_batches
from lightningdrag.training.losses import LABEL_STRIDE, masked_means, ssim, with_true_visibility
from lightningdrag.training.validate import psnr
from lightningdrag.warp import sample

VARIANTS: dict[str, dict[str, float]] = {
    "patches: as it ships": {},
    "all patches over a pixel alike": {"BEST": 100.0},
    "all but the best hardly count": {"BEST": 0.02},
    "led by the painter a third as much": {"LED": 0.5},
    "hardly led by the painter": {"LED": 0.05},
    "guessed pixels weigh half as much": {"GUESSED": 0.3},
    "kin not asked": {"KIN": 0.0},
    "kin as black and white": {"KIN": 2.0},
    "always begun at 1/4": {"DEEP": 0},
    "always begun at 1/2": {"DEEP": 99},
}
"""Constants of the search, each changed alone."""
LEAST = 100
"""Hidden pixels that a crop must have to count."""


@torch.inference_mode()
def fills(model: BuiltinModel, batch: Batch, hidden: Tensor) -> dict[str, Tensor]:
    """Pictures ``(B, 3, H, W)`` by how what was hidden is filled."""
    drags = batch.drags
    rendering = painted(model, batch)
    moved = sample(drags.source, rendering.displacement)
    known = torch.lerp(rendering.shown(), 1 - hidden, drags.mask)
    colours = {"all around carried on": carried_on(moved, known), "painted": rendering.colour}
    for name, changes in VARIANTS.items():
        with changed((patch_fill,), changes):
            colours[name] = patched(rendering, drags).colour
    return {name: torch.lerp(moved, colour, hidden) for name, colour in colours.items()}


def painted(model: BuiltinModel, batch: Batch) -> Rendering:
    """What the model renders, its colours as painted, with visibility known."""
    with changed((patch_fill, outlines), {**WITHOUT_PATCHES, **WITHOUT_OUTLINES}):
        rendering = model.likeliest(batch.drags)
    rendering = with_true_visibility(rendering, batch.labels)
    unknown = F.interpolate(batch.labels.visible + batch.labels.hidden, scale_factor=LABEL_STRIDE) == 0
    return replace(rendering, visibility=torch.where(unknown, 8.0, rendering.visibility))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="prepared dataset")
    parser.add_argument("--size", type=int, default=192, help="side of the crops, a multiple of 32")
    parser.add_argument("--limit", type=int, default=192, help="at most this many crops")
    parser.add_argument("--weights", help="a built-in model's file; the shipped one if not given")
    arguments = parser.parse_args()
    model = load_builtin(arguments.weights, dtype=torch.bfloat16)
    rows: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for batch in validation_batches(arguments.data, arguments.size, arguments.limit, 16):
        truth, mask = batch.labels.image, batch.drags.mask
        hidden = F.interpolate(batch.labels.hidden, scale_factor=LABEL_STRIDE) * mask
        enough = hidden.sum((1, 2, 3)) >= LEAST
        for name, picture in fills(model, batch, hidden).items():
            alike = masked_means(ssim(picture, truth), hidden)
            rows[name].append((psnr(picture, truth, hidden)[enough], alike[enough]))
    print(f"{len(torch.cat([decibels for decibels, _ in rows['painted']]))} crops of {arguments.size} px")
    print("\n| what was hidden is | PSNR there, dB | SSIM there |\n|---|---|---|")
    for name, values in rows.items():
        decibels, alike = (torch.cat(column).mean() for column in zip(*values, strict=True))
        print(f"| {name} | {decibels:.2f} | {alike:.3f} |")


if __name__ == "__main__":
    main()
