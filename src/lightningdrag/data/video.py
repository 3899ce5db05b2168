"""Frames out of video files, a bounded number of them at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import av

SHORT_SIDE = 288
MAX_RATE = 12.5
MAX_FRAMES = 96  # a piece of 96 frames at 512x288 and its flows take about 0.3 GB
BAR_LEVEL = 24  # letterbox bars are darker than this everywhere, codec noise included


class UnreadableVideo(ValueError):
    """A file that holds no frame that can be decoded."""


def read_video(
    path: Path, short_side: int = SHORT_SIDE, max_rate: float = MAX_RATE, max_frames: int = MAX_FRAMES
) -> Iterator[np.ndarray]:
    """Pieces of a video, in order; a damaged end is left out.

    Args:
        path: anything FFmpeg reads.
        short_side: frames are scaled down to this, never up.
        max_rate: frames per second kept at most, by time stamp.
        max_frames: frames in a piece, which bounds the memory.

    Yields:
        ``(T, H, W, 3)`` uint8 RGB, upright, H and W even.

    Raises:
        UnreadableVideo: not one frame can be decoded.
    """
    piece: list[np.ndarray] = []
    count = 0
    for frame in _frames(path, max_rate):
        image = _scaled(_upright(frame), short_side)
        if piece and (image.shape != piece[0].shape or len(piece) == max_frames):
            yield np.stack(piece)
            piece = []
        piece.append(image)
        count += 1
    if not count:
        raise UnreadableVideo(f"{path} holds no video frame that can be decoded")
    yield np.stack(piece)


def first_frame(path: Path, short_side: int = SHORT_SIDE) -> np.ndarray:
    """The first frame of a video, ``(H, W, 3)`` uint8 RGB, scaled as in :func:`read_video`."""
    return next(read_video(path, short_side, max_frames=1))[0]


def without_bars(frames: np.ndarray) -> np.ndarray:
    """Crop black letterbox bars that stay through all frames, ``(T, H, W, 3)`` -> ``(T, H', W', 3)``."""
    brightest = frames.max(axis=(0, 3))
    rows = np.flatnonzero(np.percentile(brightest, 95, axis=1) > BAR_LEVEL)
    columns = np.flatnonzero(np.percentile(brightest, 95, axis=0) > BAR_LEVEL)
    if not len(rows) or not len(columns):
        return frames
    height, width = brightest.shape
    if rows[-1] - rows[0] + 1 == height and columns[-1] - columns[0] + 1 == width:
        return frames
    margin = 2  # the codec blurs the bar's edge
    top, left = (int(line[0]) + margin if line[0] else 0 for line in (rows, columns))
    bottom = height if rows[-1] == height - 1 else int(rows[-1]) + 1 - margin
    right = width if columns[-1] == width - 1 else int(columns[-1]) + 1 - margin
    return frames[:, top : bottom - (bottom - top) % 2, left : right - (right - left) % 2]


def scaled_photo(image: np.ndarray, short_side: int = SHORT_SIDE) -> np.ndarray:
    """An image ``(H, W, 3)`` scaled down to a short side, never up, and cropped to even sides."""
    return _scaled(image, short_side)


def _frames(path: Path, max_rate: float) -> Iterator[av.VideoFrame]:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return
            due = float("-inf")
            for frame in container.decode(video=0):
                time = frame.time
                if time is not None:
                    if time < due - 0.1 / max_rate:  # time stamps jitter
                        continue
                    due = max(due, time) + 1 / max_rate
                yield frame
    except (av.error.FFmpegError, OSError):
        return


def _upright(frame: av.VideoFrame) -> np.ndarray:
    image = frame.to_ndarray(format="rgb24")
    return np.rot90(image, (frame.rotation // 90) % 4) if frame.rotation else image


def _scaled(image: np.ndarray, short_side: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    return np.ascontiguousarray(image[: height - height % 2, : width - width % 2])
