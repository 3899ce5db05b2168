"""Frames out of video files, a bounded number of them at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lightningdrag.data import storage
from lightningdrag.data.recipe import DEFAULT, Frames
from lightningdrag.data.tracks import largest_channel

if TYPE_CHECKING:
    import av

COMBED_FRAMES = 0.25  # share of the frames that make a video interlaced
COMBED_AFTER = 16  # frames, before which a video is not given up
COMB_CHANGED = 0.002  # share of a frame that must change to tell
COMB_LEVEL = 12  # grey levels by which a line stands out from both its neighbours


class UnreadableVideo(ValueError):
    """A file that gives no frames; the message is the reason, as counted."""


class Video:
    """A video file's frames, in pieces.

    Attributes:
        place: a path or a URL of anything FFmpeg reads.
        seconds: how long it says it is; 0 before it is opened, or where it does not say.
        damaged: it ended before its time; what came before was given.
    """

    def __init__(self, place: str | Path, rule: Frames = DEFAULT.frames) -> None:
        self.place = str(place)
        self.rule = rule
        self.seconds = 0.0
        self.damaged = False
        self._reached = 0.0

    def pieces(self) -> Iterator[np.ndarray]:
        """Pieces in order, ``(T, H, W, 3)`` uint8 RGB, upright, H and W even.

        Raises:
            UnreadableVideo: not one frame can be decoded, the frames are too large, or they are
                interlaced.
            storage.Unreachable: a URL's file system failed.
        """
        piece: list[np.ndarray] = []
        lines: list[np.ndarray] = []
        count = combed = 0
        for frame in self._frames():
            image = _upright(frame)
            lines = [*lines[-1:], image[:, ::4, 1].astype(np.int16)]
            combed += _is_combed(lines[0], lines[-1], self.rule.comb_share)
            image = scaled_photo(image, self.rule.short_side)
            if piece and (image.shape != piece[0].shape or len(piece) == self.rule.piece):
                yield np.stack(piece)
                piece = []
            piece.append(image)
            count += 1
            if count > 2 and combed > COMBED_FRAMES * max(count, COMBED_AFTER):
                raise UnreadableVideo("interlaced")
        if not count:
            raise UnreadableVideo("no frame can be decoded")
        if count > 2 and combed > COMBED_FRAMES * count:
            raise UnreadableVideo("interlaced")
        yield np.stack(piece)

    def _frames(self) -> Iterator[av.VideoFrame]:
        """Frames at no more than the rule's rate, by their time stamps."""
        import av

        try:
            if not storage.size(self.place):
                raise UnreadableVideo("empty file")
            with storage.opened(self.place) as file, av.open(file) as container:
                if not container.streams.video:
                    raise UnreadableVideo("no video stream")
                self.seconds, begin = _times(container)
                codec = container.streams.video[0].codec_context
                if max(codec.width, codec.height) > self.rule.max_side:
                    raise UnreadableVideo(f"frames larger than {self.rule.max_side} px")
                try:
                    yield from _thinned(self._decoded(container), self.rule.max_rate)
                except av.error.FFmpegError:
                    self.damaged = True
                except OSError as error:
                    if storage.is_url(self.place):
                        raise storage.unreachable(self.place, error) from error
                    self.damaged = True
                # A file cut off may end without an error.
                self.damaged |= self._reached - begin < 0.9 * self.seconds - 0.5
        except PermissionError as error:
            raise UnreadableVideo("may not be read") from error
        except (av.error.FFmpegError, FileNotFoundError) as error:
            raise UnreadableVideo("not a video") from error
        except OSError as error:
            if storage.is_url(self.place):
                raise storage.unreachable(self.place, error) from error
            raise UnreadableVideo("not a video") from error

    def _decoded(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        """The pictures; and how far the file was read, by its sound too, which may go on after them."""
        pictures = container.streams.video[0]
        for packet in container.demux():
            if packet.stream is pictures:
                if packet.has_sidedata("encryption_info"):
                    raise UnreadableVideo("encrypted")
                for frame in pictures.decode(packet):
                    self._reached = max(self._reached, frame.time or 0.0)
                    yield frame
            elif packet.pts is not None and packet.time_base is not None:
                self._reached = max(self._reached, float(packet.pts * packet.time_base))


def read_video(path: str | Path, rule: Frames = DEFAULT.frames) -> Iterator[np.ndarray]:
    """:meth:`Video.pieces` of a file."""
    return Video(path, rule).pieces()


def first_frame(path: str | Path, rule: Frames = DEFAULT.frames) -> np.ndarray:
    """The first frame of a video, ``(H, W, 3)`` uint8 RGB, scaled as in :meth:`Video.pieces`."""
    for frame in Video(path, rule)._frames():
        return scaled_photo(_upright(frame), rule.short_side)
    raise UnreadableVideo("no frame can be decoded")


def without_bars(frames: np.ndarray, level: int = DEFAULT.frames.bar_level) -> np.ndarray:
    """Crop black letterbox bars that stay through all frames, ``(T, H, W, 3)`` -> ``(T, H', W', 3)``."""
    brightest = largest_channel(reduce(cv2.max, frames))
    rows = np.flatnonzero(np.percentile(brightest, 95, axis=1) > level)
    columns = np.flatnonzero(np.percentile(brightest, 95, axis=0) > level)
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


def scaled_photo(image: np.ndarray, short_side: int = DEFAULT.frames.short_side) -> np.ndarray:
    """An image ``(H, W, 3)`` scaled down to a short side, never up, and cropped to even sides."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    return np.ascontiguousarray(image[: height - height % 2, : width - width % 2])


def _times(container: av.container.InputContainer) -> tuple[float, float]:
    """How many seconds the pictures say they last, and when they begin; the sound may be longer."""
    stream = container.streams.video[0]
    whole = (container.duration or 0) / 1e6  # microseconds
    if stream.time_base is None:
        return whole, 0.0
    begin = float((stream.start_time or 0) * stream.time_base)
    return (float(stream.duration * stream.time_base) if stream.duration else whole), begin


def _thinned(frames: Iterator[av.VideoFrame], max_rate: float) -> Iterator[av.VideoFrame]:
    due = float("-inf")
    for frame in frames:
        if frame.time is not None:
            if frame.time < due - 0.1 / max_rate:  # time stamps jitter
                continue
            due = max(due, frame.time) + 1 / max_rate
        yield frame


def _upright(frame: av.VideoFrame) -> np.ndarray:
    image = frame.to_ndarray(format="rgb24")
    return np.rot90(image, (frame.rotation // 90) % 4) if frame.rotation else image


def _is_combed(before: np.ndarray, lines: np.ndarray, share: float) -> bool:
    """Two fields of an interlaced frame are of two moments: along what moved, every other line stands out.

    A line stands out where it differs from both its neighbours the same way while these two, and the next
    lines of its own field, are alike.

    Args:
        before, lines: ``(H, W)`` int16 of the frame before and of this one.
        share: of what changed between them.
    """
    if before.shape != lines.shape:
        return False
    changed = (np.abs(lines - before) > COMB_LEVEL)[2:-2]
    above, here, below = lines[1:-3], lines[2:-2], lines[3:-1]
    apart = np.minimum(np.abs(here - above), np.abs(here - below))
    alike = (here > above) == (here > below)
    field = np.abs(lines[:-4] - here) + np.abs(lines[4:] - here)
    combed = changed & alike & (apart > COMB_LEVEL) & (np.abs(above - below) < apart) & (field < apart)
    return bool(changed.mean() > COMB_CHANGED and combed.sum() > share * changed.sum())
