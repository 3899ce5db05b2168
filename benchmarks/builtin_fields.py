"""How near the analytic fields alone come to the true motion: what the built-in model has to choose from.

python benchmarks/builtin_fields.py --data prepared

Errors over (L + 2 px) where the motion of held-out crops of 192 px is known, as in training; "best choice"
takes in each cell the nearest of anchored, free and standing still.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.models.builtin.evidence import RIM, SHORTEST, STIFFNESS, STRIDE
from lightningdrag.training.loader import Batch, validation_batches
from lightningdrag.training.losses import LABEL_STRIDE, masked_means
from lightningdrag.warp import (
    NUM_ANCHORS,
    drag_displacement,
    pixel_grid,
    scattered_displacement,
    similarity_displacement,
)

SIZE = 192
SHEPARD = "free, Shepard's"


def anchored_fields(batch: Batch) -> dict[str, Tensor]:
    """Still on the rim, by how many anchors hold it."""
    drags = batch.drags
    return {
        f"anchored, {count} anchors": drag_displacement(
            drags.handles,
            drags.targets,
            drags.anchors[:, :: NUM_ANCHORS // count],
            drags.mask,
            stride=STRIDE,
            weights=drags.valid,
        )
        for count in (NUM_ANCHORS, 32, RIM, 8)
    }


def free_fields(batch: Batch) -> dict[str, Tensor]:
    """The drags alone."""
    drags = batch.drags
    vectors, grid = drags.handles - drags.targets, pixel_grid(SIZE, SIZE, STRIDE)
    inside = F.avg_pool2d(drags.mask, STRIDE)
    fields = {SHEPARD: scattered_displacement(drags.targets, vectors, drags.valid, grid) * inside}
    for share in (0.02, STIFFNESS, 0.2):
        field = similarity_displacement(drags.targets, vectors, drags.valid, grid, share * SIZE)
        fields[f"free, similarities, stiffness {share}"] = field * inside
    return fields


def errors(batch: Batch) -> dict[str, Tensor]:
    """The error of each field and of each best choice, ``(B,)``."""
    labels, drags = batch.labels, batch.drags
    pool = STRIDE // LABEL_STRIDE
    known = labels.visible * F.avg_pool2d(drags.mask, LABEL_STRIDE)
    weight = F.avg_pool2d(known, pool)
    truth = F.avg_pool2d(labels.displacement * known, pool) / weight.clamp_min(1e-3)
    longest = (drags.handles - drags.targets).norm(dim=-1).amax(1).clamp_min(SHORTEST)[:, None, None, None]

    def error(field: Tensor) -> Tensor:
        return ((field - truth) / (longest + 2)).norm(dim=1, keepdim=True)

    anchored = {name: error(field) for name, field in anchored_fields(batch).items()}
    free = {name: error(field) for name, field in free_fields(batch).items()}
    still = error(torch.zeros_like(truth))
    maps = {"still": still, **anchored, **free}
    few = anchored[f"anchored, {RIM} anchors"]
    for name, other in free.items():
        maps[f"best choice with {NUM_ANCHORS} anchors; {name}"] = torch.stack(
            (still, next(iter(anchored.values())), other)
        ).amin(0)
        maps[f"best choice with {RIM} anchors; {name}"] = torch.stack((still, few, other)).amin(0)
    return {name: masked_means(values, weight) for name, values in maps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="a prepared dataset with a dev split")
    options = parser.parse_args()
    batches = validation_batches(options.data, SIZE, 384, 16)
    counts = torch.cat([batch.drags.valid.sum(1) for batch in batches])
    rows = [errors(batch) for batch in batches]
    groups = {"one drag": counts == 1, "two or three": (counts > 1) & (counts < 4), "more": counts > 3}
    print(f"| field, {len(counts)} crops | all | {' | '.join(groups)} |\n|---|---|{'---|' * len(groups)}")
    for name in rows[0]:
        values = torch.cat([row[name] for row in rows])
        parts = [values.mean(), *(values[chosen].mean() for chosen in groups.values())]
        print(f"| {name} | {' | '.join(f'{float(part):.3f}' for part in parts)} |")


if __name__ == "__main__":
    main()
