"""What a run tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Skipped:
    """An input that gave nothing, or of which only a part could be used (then ``partly``)."""

    place: str
    reason: str
    partly: bool = False


@dataclass(frozen=True)
class Result:
    """What a run has come to.

    Attributes:
        pairs: samples in the dataset.
        frames: video frames that were looked at.
        dropped: pairs and runs of frames left out, by reason.
        skipped: inputs that gave nothing, or were used in part only.
        seconds: the work of all processes together.
    """

    pairs: int
    frames: int
    dropped: dict[str, int]
    skipped: list[Skipped]
    seconds: float
