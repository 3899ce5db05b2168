"""A fixed sheet of deformations that no video holds, on the example photos, to be looked at.

    python benchmarks/deformation_sheet.py --out deformations.png

A row each: drags, reference warp, the model's results for two seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lightningdrag import DragEditor
from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags
from lightningdrag.evaluation.baselines import EditorMethod, reference_warp
from lightningdrag.evaluation.sheets import context_box, write_sheet

EXAMPLES = Path(__file__).parent.parent / "examples"
SEEDS = (0, 1)

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Deformation:
    """One row: points of a photo, where they go, and the mask, an ellipse (centre, half axes)."""

    title: str
    photo: str
    handles: Points
    targets: Points
    ellipse: tuple[int, int, int, int]

    def mask(self, height: int, width: int) -> np.ndarray:
        x, y, half_width, half_height = self.ellipse
        plane = np.zeros((height, width), np.uint8)
        return cv2.ellipse(plane, (x, y), (half_width, half_height), 0, 0, 360, 1, -1) > 0


def turned(points: Points, centre: tuple[float, float], degrees: float, scale: float = 1.0) -> Points:
    """Points rotated about a centre, clockwise as seen, and scaled away from it."""
    factor = scale * np.exp(1j * np.radians(degrees))
    moved = [complex(*centre) + factor * (complex(*p) - complex(*centre)) for p in points]
    return [(z.real, z.imag) for z in moved]


def ring(centre: tuple[float, float], radius: float, count: int) -> Points:
    """Points evenly around a circle."""
    start = [(centre[0] + radius, centre[1])]
    return [turned(start, centre, 360 * i / count)[0] for i in range(count)]


FLOWER, NECK, NOSE = (308.0, 222.0), (222.0, 185.0), (262.0, 240.0)
PETALS, CORE, HEAD = ring(FLOWER, 115, 4), ring(FLOWER, 55, 4), [(222.0, 118.0), (235.0, 32.0)]

SHEET = (
    Deformation(
        "stretch the rocket", "rocket", [(322, 132), (322, 290)], [(322, 82), (322, 290)], (322, 190, 70, 160)
    ),
    Deformation(
        "stretch the roof",
        "china",
        [(206, 35), (110, 110), (304, 110), (206, 170)],
        [(206, 10), (110, 82), (304, 82), (206, 170)],
        (206, 110, 150, 108),
    ),
    Deformation(
        "squeeze the cup", "coffee", [(200, 110), (418, 110)], [(232, 110), (386, 110)], (310, 130, 150, 125)
    ),
    Deformation(
        "turn the flower",
        "flower",
        [*PETALS, FLOWER],
        [*turned(PETALS, FLOWER, 30), FLOWER],
        (308, 222, 165, 165),
    ),
    Deformation(
        "twist the flower's core",
        "flower",
        [*CORE, *PETALS],
        [*turned(CORE, FLOWER, 40), *PETALS],
        (308, 222, 150, 150),
    ),
    Deformation(
        "tilt the head", "astronaut", [*HEAD, NECK], [*turned(HEAD, NECK, 18), NECK], (225, 105, 115, 100)
    ),
    Deformation(
        "lengthen the hair",
        "astronaut",
        [(168, 112), (290, 112)],
        [(160, 165), (300, 165)],
        (228, 120, 105, 90),
    ),
    Deformation(
        "open the mouth",
        "grace_hopper",
        [(268, 292), (268, 318), (268, 276)],
        [(268, 306), (268, 332), (268, 276)],
        (268, 290, 85, 75),
    ),
    Deformation(
        "open the eye", "chelsea", [(172, 90), (172, 146)], [(172, 76), (172, 156)], (172, 116, 75, 70)
    ),
    Deformation(
        "widen the muzzle",
        "chelsea",
        [(222, 235), (302, 240), NOSE],
        [(192, 232), (330, 242), NOSE],
        (262, 240, 125, 60),
    ),
    Deformation(
        "zoom the flower in",
        "flower",
        [*PETALS, FLOWER],
        [*turned(PETALS, FLOWER, 0, 1.3), FLOWER],
        (308, 222, 195, 195),
    ),
    Deformation(
        "zoom the flower out",
        "flower",
        [*PETALS, FLOWER],
        [*turned(PETALS, FLOWER, 0, 0.7), FLOWER],
        (308, 222, 165, 165),
    ),
)


def row(deformation: Deformation, method: EditorMethod) -> tuple[str, list[Image.Image]]:
    """The caption and the pictures of one deformation."""
    source = np.array(Image.open(EXAMPLES / f"{deformation.photo}.jpg").convert("RGB"))
    mask = deformation.mask(*source.shape[:2])
    handles, targets = (np.array(p, np.float32) for p in (deformation.handles, deformation.targets))
    drags = [Drag(h, t) for h, t in zip(deformation.handles, deformation.targets, strict=True)]
    pictures = [draw_drags(Image.fromarray(source), drags, mask)]
    pictures.append(Image.fromarray(reference_warp(source, handles, targets, mask, 0)))
    pictures += [Image.fromarray(method(source, handles, targets, mask, seed)) for seed in SEEDS]
    box = context_box(mask)
    return f"{deformation.title}   drags | reference warp | model, seeds {SEEDS}", [
        p.crop(box) for p in pictures
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a PNG to write")
    parser.add_argument("--model", default="builtin", help="built-in name, folder or hub id")
    parser.add_argument("--steps", type=int, help="sampling steps; the model's own number by default")
    arguments = parser.parse_args()
    method = EditorMethod(DragEditor.from_pretrained(arguments.model), {"steps": arguments.steps})
    write_sheet([row(deformation, method) for deformation in SHEET], arguments.out)
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()
