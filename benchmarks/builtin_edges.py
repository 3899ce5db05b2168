"""Where a thing that is moved whole ends in a large photo: PSNR at the front of its rim, against the same
scene drawn with the thing where it was dragged to. With the edges of the window alone, and the photo's own.

    python benchmarks/builtin_edges.py
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from PIL import Image
from skimage import data

from builtin_ablation import changed
from lightningdrag import Drag, DragEditor
from lightningdrag.models.builtin import outlines

MIDDLE, WAY = np.array([0.45, 0.5]), np.array([0.1, 0.03])
"""Of the thing, and how far it is dragged, in sides."""
RIM = 60
"""Share of the side, as a divisor, that the rim is wide."""


def share_of(side: int, middle: np.ndarray) -> np.ndarray:
    """Of a lobed thing, ``(side, side)`` float32, soft over a pixel and a half."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    x, y = x - middle[0], y - middle[1]
    angle = np.arctan2(y, x)
    radius = 0.16 + 0.02 * np.sin(5 * angle + 0.4) + 0.012 * np.sin(11 * angle)
    return np.clip((radius - np.hypot(x, 1.15 * y)) * side / 1.5 + 0.5, 0, 1).astype(np.float32)


def scene(side: int, ground: str, share: np.ndarray, way: np.ndarray) -> np.ndarray:
    """The thing, moved by a way, on gravel or grass with detail at the photo's own size, ``(side, side, 3)``
    uint8."""
    below = cv2.resize(getattr(data, ground)(), (side, side), interpolation=cv2.INTER_CUBIC).astype(
        np.float32
    )
    noise = np.random.default_rng(0).normal(0, 14, (side, side)).astype(np.float32)
    below = (below + cv2.GaussianBlur(noise, (0, 0), 1.2))[..., None].repeat(3, 2)
    thing = cv2.resize(data.coffee()[50:350, 150:450], (side, side), interpolation=cv2.INTER_CUBIC)
    thing = thing * np.array([1, 0.55, 0.35], np.float32) + np.array([60, 0, 0], np.float32)
    thing = np.roll(thing, tuple(np.rint(way[::-1] * side).astype(int)), (0, 1))
    return (below + share[..., None] * (thing - below)).clip(0, 255).astype(np.uint8)


def row(editor: DragEditor, side: int, ground: str) -> str:
    """Of the table."""
    after = share_of(side, MIDDLE + WAY)
    source = scene(side, ground, share_of(side, MIDDLE), 0 * WAY)
    truth = scene(side, ground, after, WAY).astype(np.float32)
    box = np.ones((side // RIM,) * 2, np.uint8)
    rim = cv2.dilate(after, box) - cv2.erode(after, box) > 0.01
    rim[:, : round((MIDDLE[0] + WAY[0] + 0.03) * side)] = False  # beside what it uncovers, which nobody knows
    drag = Drag(tuple(MIDDLE * side), tuple((MIDDLE + WAY) * side))
    decibels = []
    for changes in ({"by_colour": lambda picture, _: picture.new_zeros(1, 5, 1, 1)}, {}):
        with changed((outlines,), changes):
            result = np.asarray(editor.edit(Image.fromarray(source), [drag], seed=0).image, np.float32)
        decibels.append(10 * np.log10(255**2 / np.square(result - truth).mean(2)[rim].mean()))
    return f"| {side} x {side}, on {ground} | {decibels[0]:.1f} | {decibels[1]:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[320, 640, 1500, 3000])
    arguments = parser.parse_args()
    editor = DragEditor.from_pretrained("builtin", device="cpu")
    print("| photo | the window's edges, dB | the photo's own, dB |\n|---|---|---|")
    for side in arguments.sides:
        for ground in ("gravel", "grass"):
            print(row(editor, side, ground), flush=True)


if __name__ == "__main__":
    main()
