"""Drags, and how they are read, checked, scaled, augmented and split.

A point is (x, y) in pixels of the photo, integers at pixel centres, so a photo W pixels wide spans
-0.5 <= x <= W - 0.5.  Scaling a photo by s takes x to (x + 0.5) s - 0.5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Point = tuple[float, float]

MAX_DRAGS = 64
"""Every model takes up to this many pairs."""
MAX_STAGES = 32
"""The longest sequence that ``max_step`` may split a drag into."""


class RequestError(ValueError):
    """Something in a request is wrong; the message names the value and what would be right."""


class DragError(RequestError):
    """A drag cannot be read, is not finite, lies outside the photo, or contradicts another."""


class MaskError(RequestError):
    """A mask is empty, of the wrong size or kind, or, when strict, does not hold the drags."""


class OptionError(RequestError):
    """An option is out of its range or of the wrong kind."""


class FormatError(RequestError):
    """A saved request is no JSON, of another schema, or lacks or adds fields."""


@dataclass(frozen=True)
class Drag:
    """One handle and the target it is dragged to; equal ones pin the point in place.

    Raises:
        DragError: if a point is not two finite numbers.
    """

    handle: Point
    target: Point

    def __post_init__(self) -> None:
        object.__setattr__(self, "handle", _point(self.handle, "handle"))
        object.__setattr__(self, "target", _point(self.target, "target"))

    @property
    def is_pin(self) -> bool:
        return self.handle == self.target

    @property
    def length(self) -> float:
        """Distance from handle to target in pixels."""
        return math.dist(self.handle, self.target)

    @property
    def vector(self) -> Point:
        return self.target[0] - self.handle[0], self.target[1] - self.handle[1]

    @classmethod
    def parse(cls, text: str) -> Drag:
        """Read ``"x,y:x,y"`` (handle, then target).

        Raises:
            DragError: if the text is anything else, or the target is missing.
        """
        parts = text.split(":")
        if len(parts) == 1:
            raise DragError(
                f"drag {text!r} has a handle but no target; write x,y:x,y, such as 210,140:260,120"
            )
        points = [re.split(r"\s*,\s*", part.strip()) for part in parts]
        try:
            (hx, hy), (tx, ty) = points
            return cls((float(hx), float(hy)), (float(tx), float(ty)))
        except DragError:
            raise
        except ValueError:
            raise DragError(f"drag {text!r} is not x,y:x,y, such as 210,140:260,120") from None

    def scaled(self, scale_x: float, scale_y: float) -> Drag:
        """The same drag on the photo resized by these factors."""

        def scale(point: Point) -> Point:
            return (point[0] + 0.5) * scale_x - 0.5, (point[1] + 0.5) * scale_y - 0.5

        return Drag(scale(self.handle), scale(self.target))

    def __str__(self) -> str:
        return f"{_show(self.handle)}:{_show(self.target)}"


DragLike = Drag | str | Sequence[Any]
"""A Drag, ``"x,y:x,y"``, or ((x, y), (x, y))."""


def as_drags(drags: Iterable[DragLike]) -> tuple[Drag, ...]:
    """Read drags and check them against each other; a pair given twice is kept once.

    Raises:
        DragError: no drags, more than 64, a handle without a target, a number that is not finite, or
            two handles on one pixel with different targets.
    """
    if isinstance(drags, (str, bytes, Drag)) or not isinstance(drags, Iterable):
        raise DragError(f"drags is {brief(drags)}; give a list, such as [((210, 140), (260, 120))]")
    read = [_as_drag(drag) for drag in drags]
    if not read:
        raise DragError("no drags; give at least one handle and target, such as ((210, 140), (260, 120))")
    kept: dict[tuple[int, int], Drag] = {}
    for drag in read:
        first = kept.setdefault(pixel_of(drag.handle), drag)
        if pixel_of(first.target) != pixel_of(drag.target):
            raise DragError(f"two handles on one pixel go to different targets: {first} and {drag}; keep one")
    if len(kept) > MAX_DRAGS:
        raise DragError(f"{len(kept)} drags; at most {MAX_DRAGS} are taken")
    return tuple(kept.values())


def meeting(drags: Iterable[Drag]) -> list[tuple[Drag, Drag]]:
    """Those that end on the pixel where an earlier one does."""
    there: dict[tuple[int, int], Drag] = {}
    pairs = [(there.setdefault(pixel_of(drag.target), drag), drag) for drag in drags]
    return [(first, other) for first, other in pairs if first is not other]


def pixel_of(point: Point) -> tuple[int, int]:
    """The pixel that a point lies on."""
    return math.floor(point[0] + 0.5), math.floor(point[1] + 0.5)


def check_inside(drags: Iterable[Drag], width: int, height: int) -> None:
    """Refuse drags that leave a photo of this size.

    Raises:
        DragError: naming the first point outside, and the bounds.
    """
    for drag in drags:
        for name, (x, y) in (("handle", drag.handle), ("target", drag.target)):
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise DragError(
                    f"{name} {_show((x, y))} of drag {drag} is outside the photo of {width}x{height}; "
                    f"x must be within 0..{width - 1} and y within 0..{height - 1}"
                )


def split(drags: Sequence[Drag], max_step: float | None) -> list[tuple[Drag, ...]]:
    """A long drag as a sequence of shorter ones, each on the last result.

    Every drag covers the same share of its way in each stage, so that they stay in step; pins stay.

    Args:
        max_step: no drag is longer than this in any stage, in pixels; None does not split.

    Raises:
        OptionError: if that takes more than 32 stages.
    """
    longest = max(drag.length for drag in drags) * (1 - 1e-9)  # auxiliary ones are longer by rounding
    if max_step is None or longest <= max_step:
        return [tuple(drags)]
    if longest > max_step * MAX_STAGES:
        raise OptionError(
            f"max_step {max_step:g} would split the longest drag ({longest:.1f} px) into more than "
            f"{MAX_STAGES} stages; use at least {longest / MAX_STAGES:.1f}"
        )
    stages = math.ceil(longest / max_step)

    def on_the_way(drag: Drag, stage: int) -> Point:
        if stage == stages:  # arrive exactly, free of rounding
            return drag.target
        share = stage / stages
        return drag.handle[0] + share * drag.vector[0], drag.handle[1] + share * drag.vector[1]

    return [
        tuple(Drag(on_the_way(drag, stage), on_the_way(drag, stage + 1)) for drag in drags)
        for stage in range(stages)
    ]


def augmented(
    drags: Sequence[Drag], count: int, width: int, height: int, mask: np.ndarray | None = None
) -> tuple[Drag, ...]:
    """Drags with auxiliary pairs around each handle, which make its neighbourhood move rigidly.

    The pairs stand evenly on a circle around the handle and go the handle's own way.  Its radius is
    3 % of the photo's short side, at most a third of the way to the nearest other handle.  Some are
    left out as by :func:`accompanied`.

    Args:
        count: auxiliary pairs for each drag; 0 adds none.
        mask: ``(H, W)`` bool that auxiliary targets must stay in.
    """
    places: list[tuple[Drag, Point]] = []
    for ring in range(count):
        for drag in drags:
            others = [math.dist(drag.handle, other.handle) for other in drags if other is not drag]
            radius = min([0.03 * min(width, height), *(distance / 3 for distance in others)])
            angle = 2 * math.pi * ring / count
            (x, y), dx, dy = drag.target, radius * math.cos(angle), radius * math.sin(angle)
            places.append((drag, (x + dx, y + dy)))
    return accompanied(drags, places, width, height, mask)


def accompanied(
    drags: Sequence[Drag],
    places: Iterable[tuple[Drag, Point]],
    width: int,
    height: int,
    mask: np.ndarray | None = None,
) -> tuple[Drag, ...]:
    """Drags with auxiliary pairs that go the way of one of them, to other targets.

    A pair is left out where it would leave the photo or the mask, where its handle is taken, and when 64
    are reached.

    Args:
        places: each a drag whose way is gone, and a target.
        mask: ``(H, W)`` bool that auxiliary targets must stay in.
    """
    result = list(drags)
    taken = {pixel_of(drag.handle) for drag in drags}
    for drag, (x, y) in places:
        auxiliary = Drag((x - drag.vector[0], y - drag.vector[1]), (x, y))
        if pixel_of(auxiliary.handle) in taken or len(result) >= MAX_DRAGS:
            continue
        if _holds(auxiliary, width, height, mask):
            taken.add(pixel_of(auxiliary.handle))
            result.append(auxiliary)
    return tuple(result)


def _holds(drag: Drag, width: int, height: int, mask: np.ndarray | None) -> bool:
    """Is the drag inside the photo, and its target inside the mask?"""
    if not all(0 <= x <= width - 1 and 0 <= y <= height - 1 for x, y in (drag.handle, drag.target)):
        return False
    x, y = pixel_of(drag.target)
    return mask is None or bool(mask[y, x])


def _as_drag(value: DragLike) -> Drag:
    if isinstance(value, Drag):
        return value
    if isinstance(value, str):
        return Drag.parse(value)
    try:
        pair = list(value)
    except TypeError:
        raise DragError(f"drag {brief(value)} is not a pair of points ((x, y), (x, y))") from None
    if len(pair) == 1 or (len(pair) == 2 and pair[1] is None):
        raise DragError(f"drag {brief(value)} has a handle but no target; give ((x, y), (x, y))")
    if len(pair) != 2:
        raise DragError(f"drag {brief(value)} is not a pair of points ((x, y), (x, y))")
    return Drag(pair[0], pair[1])


def _point(value: Any, name: str) -> Point:
    try:
        numbers = list(value) if not isinstance(value, (str, bytes)) else []
    except TypeError:
        numbers = []
    if len(numbers) != 2 or not all(_is_number(number) for number in numbers):
        raise DragError(f"{name} {brief(value)} is not a point (x, y) of two numbers")
    try:
        x, y = float(numbers[0]), float(numbers[1])
    except OverflowError:
        x = y = math.inf
    if not (math.isfinite(x) and math.isfinite(y)):
        raise DragError(f"{name} ({x:g}, {y:g}) is not finite; give two numbers in pixels")
    return x, y


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _show(point: Point) -> str:
    return f"{point[0]:g},{point[1]:g}"


def brief(value: Any) -> str:
    """A value for an error message, never longer than a line."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge integer"
    return text if len(text) <= 60 else text[:57] + "..."
