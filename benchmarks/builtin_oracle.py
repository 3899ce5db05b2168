"""Where the built-in model's error lies: its results with parts of its answer replaced by the truth.

python benchmarks/builtin_oracle.py --data prepared --size 192 --limit 192

PSNR in the mask over held-out crops, and the gain over the analytic warp.  The truth is known where
optical flow was confirmed both ways; elsewhere the model's own answer stays.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from builtin_ablation import WITHOUT_OUTLINES, changed
from lightningdrag.checkpoints.builtin import load_builtin
from lightningdrag.models.builtin import outlines
from lightningdrag.models.builtin.model import BuiltinModel
from lightningdrag.training.loader import Batch, validation_batches
from lightningdrag.training.losses import LABEL_STRIDE
from lightningdrag.training.validate import psnr
from lightningdrag.warp import drag_displacement, sample


@torch.inference_mode()
def variants(model: BuiltinModel, batch: Batch) -> dict[str, Tensor]:
    """Pictures ``(B, 3, H, W)`` by what is known to be true in them."""
    drags, labels = batch.drags, batch.labels
    source = drags.source
    shipped = model.likeliest(drags).compose(source)
    with changed((outlines,), WITHOUT_OUTLINES):  # they show the ground as a fill
        rendering = model.likeliest(drags)
    visible, hidden = (F.interpolate(x, scale_factor=LABEL_STRIDE) for x in (labels.visible, labels.hidden))
    displacement = F.interpolate(labels.displacement, scale_factor=LABEL_STRIDE)

    motions = {"model": rendering.displacement}
    motions["true"] = torch.where(visible > 0, displacement, rendering.displacement)
    seen = {"model": rendering.shown()}
    seen["true"] = torch.where(visible > 0, 1.0, torch.where(hidden > 0, 0.0, seen["model"]))
    colours = {"model": rendering.colour, "true": labels.image}

    def picture(motion: str, visibility: str, colour: str) -> Tensor:
        shown = seen[visibility]
        return shown * sample(source, motions[motion]) + (1 - shown) * colours[colour]

    field = drag_displacement(drags.handles, drags.targets, drags.anchors, drags.mask, weights=drags.valid)
    return {
        "analytic warp": sample(source, field),
        "model, with outlines": shipped,
        "model": picture("model", "model", "model"),
        "visibility known": picture("model", "true", "model"),
        "visibility and fill known": picture("model", "true", "true"),
        "motion known": picture("true", "model", "model"),
        "motion and visibility known": picture("true", "true", "model"),
        "all known": picture("true", "true", "true"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="prepared dataset")
    parser.add_argument("--size", type=int, default=192, help="side of the crops, a multiple of 32")
    parser.add_argument("--limit", type=int, default=192, help="at most this many crops")
    parser.add_argument("--weights", help="a built-in model's file; the shipped one if not given")
    arguments = parser.parse_args()
    model = load_builtin(arguments.weights, dtype=torch.bfloat16)
    scores: dict[str, list[Tensor]] = defaultdict(list)
    for batch in validation_batches(arguments.data, arguments.size, arguments.limit, 16):
        mask = batch.drags.mask
        for name, picture in variants(model, batch).items():
            scores[name].append(psnr(torch.lerp(batch.drags.source, picture, mask), batch.labels.image, mask))
    warp = torch.cat(scores["analytic warp"])
    print(
        f"{len(warp)} held-out crops of {arguments.size} px\n\n| | PSNR, dB | over the warp |\n|---|---|---|"
    )
    for name, values in scores.items():
        mean = torch.cat(values).mean()
        print(f"| {name} | {mean:.2f} | {mean - warp.mean():+.2f} |")


if __name__ == "__main__":
    main()
