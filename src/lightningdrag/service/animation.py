"""A drag as an animation: the photo at a growing share of the way."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
from PIL import Image

from lightningdrag.photo import MIN_SIDE, Photo, over_white, to_8bit

FORMATS = ("webp", "mp4")
LONGER_SIDE = 1024
"""Animations are made at most so large: they are for showing."""
FRAMES_PER_SECOND = 16
HOLD = 8
"""Frames that the last one stays."""


def available_formats() -> tuple[str, ...]:
    """Those that can be written here; MP4 needs PyAV."""
    return FORMATS if importlib.util.find_spec("av") else FORMATS[:1]


def reduced(photo: Photo, longer_side: int) -> Photo:
    """The photo no longer than this, 8 bits a channel; as it is if it is small enough.

    What is very long keeps the least width that a photo has.
    """
    scale = longer_side / max(photo.width, photo.height)
    if scale >= 1:
        return photo
    size = max(MIN_SIDE, round(photo.width * scale)), max(MIN_SIDE, round(photo.height * scale))

    def shrunk(values: np.ndarray) -> np.ndarray:
        return cv2.resize(to_8bit(values), size, interpolation=cv2.INTER_AREA)

    return photo.with_pixels(shrunk(photo.pixels), None if photo.alpha is None else shrunk(photo.alpha))


def reduced_mask(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """A mask scaled down, ``(height, width)`` bool: True where any of a pixel may change."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask * np.uint16(65535), (width, height), interpolation=cv2.INTER_AREA) > 0


def encode_animation(images: Sequence[Image.Image], kind: str) -> bytes:
    """Frames of one size, RGB or RGBA, as the bytes of an animated WebP (endless) or an MP4 (H.264).

    MP4 holds no transparency: what is transparent is white there.
    """
    return _mp4(images) if kind == "mp4" else _webp(images)


def _webp(images: Sequence[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    each = round(1000 / FRAMES_PER_SECOND)
    durations = [each] * (len(images) - 1) + [each * HOLD]
    images[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=list(images[1:]),
        duration=durations,
        loop=0,
        quality=85,
        method=2,
    )
    return buffer.getvalue()


def _mp4(images: Sequence[Image.Image]) -> bytes:
    import av

    buffer = io.BytesIO()
    width, height = (side // 2 * 2 for side in images[0].size)  # the format halves its colour
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in [*images, *[images[-1]] * (HOLD - 1)]:
            opaque = over_white(image) if image.mode == "RGBA" else image
            frame = av.VideoFrame.from_image(opaque.crop((0, 0, width, height)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
