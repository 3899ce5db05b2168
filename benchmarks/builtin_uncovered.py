"""What fills are worth where a thing that is moved whole uncovers its ground: a thing is laid over a photo,
away from its middle, where mostly ground is, and said to have come from beside that, where the photo is the
truth.

    python benchmarks/builtin_uncovered.py --photos photos

"texture" is how much neighbouring pixels of the fill differ, against the truth's; the median over photos.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from builtin_ablation import changed
from builtin_edges import share_of
from lightningdrag.ground import carried_on
from lightningdrag.models.builtin import patch_fill
from lightningdrag.models.builtin.morphology import grown
from lightningdrag.models.builtin.surroundings import MARGIN
from lightningdrag.training.losses import masked_means, ssim
from lightningdrag.training.validate import psnr

SIDE = 256
LENGTH = 0.06, 0.12
"""Of the way, in sides."""
FROM_MIDDLE = 0.35
"""Of the photo, in sides."""

Scene = tuple[Tensor, Tensor, Tensor, Tensor]
"""The photo, with a thing, what is shown, where the thing stands, and the ground carried on."""


def direction(length: float, draw: random.Random) -> np.ndarray:
    """Any, ``(2,)``."""
    angle = draw.uniform(0, 2 * math.pi)
    return length * np.array([math.cos(angle), math.sin(angle)])


def scene(photo: Tensor, draw: random.Random) -> Scene:
    """A thing on a photo ``(3, SIDE, SIDE)`` that has left the place beside it."""
    place = 0.5 + direction(FROM_MIDDLE, draw)
    there = place + direction(draw.uniform(*LENGTH), draw)
    left, thing = (torch.from_numpy(share_of(SIDE, x) > 0.5)[None] for x in (place, there))
    shown = (~left | thing).float()
    seen = torch.where(thing, torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1), photo * shown)
    known = ~grown(shown < 0.5, 2 * MARGIN) & ~grown(thing, MARGIN)
    return seen, shown, thing, carried_on(seen[None], known[None].float())[0]


def with_shifts(seen: Tensor, shown: Tensor, thing: Tensor, ground: Tensor) -> Tensor:
    return patch_fill.patch_fill(seen, thing.float(), shown, ground, torch.zeros_like(shown), thing)[0]


def without_shifts(seen: Tensor, shown: Tensor, thing: Tensor, ground: Tensor) -> Tensor:
    """Begun with the ground carried on."""
    with changed((patch_fill._Scale,), {"shifts": lambda scale: None}):
        return with_shifts(seen, shown, thing, ground)


CHOICES: dict[str, Callable[..., Tensor]] = {
    "the ground carried on": lambda seen, shown, thing, ground: ground,
    "patches, begun with that": without_shifts,
    "patches, begun with how the ground goes on: as it ships": with_shifts,
}


def differences(picture: Tensor, where: Tensor) -> Tensor:
    """Of each pixel from the one to its left, on average."""
    return (picture[..., 1:] - picture[..., :-1]).abs().mean(0)[where[0, :, 1:]].mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    paths = sorted(x for x in arguments.photos.iterdir() if x.suffix.lower() in (".jpg", ".jpeg", ".png"))
    rows: dict[str, list[list[Tensor]]] = defaultdict(list)
    for path in paths:
        pixels = np.array(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        photo = torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
        parts = scene(photo, draw)
        hole = parts[1] < 0.5
        for name, fill in CHOICES.items():
            result = torch.where(hole, fill(*parts), photo)
            both, weight = (result[None], photo[None]), hole[None].float()
            texture = differences(result, hole) / differences(photo, hole).clamp_min(1e-3)
            rows[name].append([psnr(*both, weight)[0], masked_means(ssim(*both), weight)[0], texture])
    print(f"{len(paths)} photos\n\n| what was uncovered is | PSNR there, dB | SSIM | texture |")
    print("|---|---|---|---|")
    for name, values in rows.items():
        decibels, alike, texture = torch.tensor(values).T
        print(f"| {name} | {decibels.mean():.2f} | {alike.mean():.3f} | {texture.median():.2f} |")


if __name__ == "__main__":
    main()
