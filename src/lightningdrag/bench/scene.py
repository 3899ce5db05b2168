"""What is edited when a machine is measured: a made-up photo, a mask and a drag, at any size."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lightningdrag.drag import as_drags
from lightningdrag.request import EditRequest

MASK_SHARE = 2 / 3
"""Of the photo's side; with the room that an editor gives it, the window is then the whole photo."""


def photo_bytes(side: int) -> bytes:
    """A square JPEG with detail at all scales, like a photo's; the same at every call."""
    rng = np.random.default_rng(0)
    layers = np.zeros((side, side, 3), np.float32)
    cells = 4
    while cells <= side:
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers += np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC), np.float32) / cells
        cells *= 2
    layers -= layers.min()
    buffer = io.BytesIO()
    Image.fromarray((layers * (255 / layers.max())).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def edit_request(
    side: int,
    steps: int | None,
    candidates: int,
    points: int = 1,
    guidance: float | None = None,
    schedule: str = "inverse_square",
) -> EditRequest:
    """A mask in the middle, and pairs in it that move an eighth of the side to the right."""
    low, high = round(side * (1 - MASK_SHARE) / 2), round(side * (1 + MASK_SHARE) / 2)
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    rows = np.linspace(side * 0.3, side * 0.7, points) if points > 1 else np.array([side / 2])
    drags = [((side * 0.4, float(y)), (side * 0.525, float(y))) for y in rows]
    return EditRequest(
        as_drags(drags),
        mask,
        num_images=candidates,
        steps=steps,
        guidance=guidance,
        guidance_schedule=schedule,
        seed=0,
    )
