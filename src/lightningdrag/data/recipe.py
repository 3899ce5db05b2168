"""Every number that decides which pairs are made, in one dataclass that a YAML file may override."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe that names an unknown key or gives one a value of the wrong kind or range."""


ABOVE_ZERO = {
    *("per_shard", "short_side", "max_rate", "piece", "max_side", "least_side"),
    *("steps", "starts", "reach", "bins"),
}
"""Keys whose numbers must be above 0; no other number may be below it."""


@dataclass(frozen=True)
class Amounts:
    """How many pairs to draw."""

    per_group: int = 40
    """Video pairs from each group of clips."""
    limited: str = "robot|on a table|sign language"
    """Groups whose description matches this pattern (there are too many like them) give fewer pairs."""
    per_limited_group: int = 12
    per_photo: int = 6
    """Synthetic pairs from each photo."""
    per_dev_clip: int = 12
    """Pairs from each held-out clip, evenly over small, medium and large motions."""
    per_shard: int = 256
    """Inputs are packed into shards until they promise this many pairs."""


@dataclass(frozen=True)
class Frames:
    """Reading videos."""

    short_side: int = 288
    """Frames are scaled down to this, never up; pixels."""
    max_rate: float = 12.5
    """Frames a second that are kept at most, by their time stamps."""
    piece: int = 96
    """Frames held in memory at once: 96 at 512x288 and their flows take about 0.3 GB."""
    max_side: int = 8192
    """A video or photo with a longer side than this is skipped: one of its frames would take 200 MB."""
    least_side: int = 64
    """A shot is dropped, and a photo skipped, with a shorter side than this; what is left of a title card
    between its black bars can be a few lines, which DIS flow does not survive."""
    bar_level: int = 24
    """Letterbox bars are darker than this everywhere, the codec's noise included; grey levels."""
    comb_share: float = 0.15
    """A frame is combed when so much of what changed in it stands out from the lines above and below."""


@dataclass(frozen=True)
class Shots:
    """Splitting into shots; differences are between thumbnails, in grey levels."""

    cut_level: float = 18.0
    """Mean absolute difference at a cut, at least."""
    cut_ratio: float = 4.0
    """At a cut the difference is so many times the median of its neighbours."""
    flash_level: float = 5.0
    """A median change between neighbouring frames above this is a flash, or the light being switched."""
    fade_level: float = 12.0
    """Mean absolute difference over 8 frames in a fade, at least..."""
    fade_blend: float = 0.2
    """...while each frame is the mean of those 4 before and 4 after, to within this share of it."""


@dataclass(frozen=True)
class CameraRule:
    """Telling cameras apart; :mod:`lightningdrag.data.camera` explains the rule that these numbers fill."""

    keep_moving: bool = False
    """Also makes pairs whose camera moves and cannot be steadied: the ground moves in them, too."""
    explained: float = 1.0
    """px; a hypothesis explains a point that it carries to within this."""
    static_share: float = 0.30
    static_cells: int = 6
    steady_share: float = 0.60
    steady_cells: int = 8
    steady_sides: int = 3
    steady_lead: float = 0.20
    """A homography must explain so much more than standing still does."""
    unchanged_share: float = 0.45
    unchanged_level: int = 6
    border: float = 0.12
    """Depth of the picture's border over the short side."""
    border_share: float = 0.40
    max_corner_shift: float = 0.15
    """Over the short side."""
    min_area: float = 0.70
    """Share of the picture that both frames see."""
    texture: float = 4.0
    """Standard deviation in 7x7 cells, grey levels, of places whose motion can be told."""


@dataclass(frozen=True)
class Gaps:
    """Choosing which two frames make a pair."""

    steps: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48)
    """Gaps that are tried, in frames."""
    starts: int = 16
    """Frames of a shot from which they are tried."""
    reach: tuple[float, float] = (0.01, 0.40)
    """How far what moves goes, over the short side; covered evenly in the logarithm."""
    bins: int = 8
    patience: int = 5
    """A shot is given up when fewer than one in so many of its pairs was fit."""
    duplicate_level: float = 1.5
    """Two pairs of a shot whose thumbnails differ by less, at both ends, are one; grey levels."""


@dataclass(frozen=True)
class Checks:
    """What makes a pair unfit."""

    min_motion: float = 0.01
    """Mean drag length over the short side."""
    max_motion: float = 0.45
    min_moving: float = 0.002
    """Share of the picture that moves."""
    max_moving: float = 0.65
    max_unknown: float = 0.5
    """Share of the moving part in the mask whose motion is not known."""
    max_patches: float = 0.10
    """Share of it in patches that are unknown in both frames..."""
    patch: float = 0.025
    """...of this radius over the short side."""
    max_flicker: float = 2.5
    """Median change of a channel where nothing moves, grey levels."""
    min_sharpness: float = 0.45
    """Of the blurrier frame relative to the other, in the moving part."""
    shaded: float = 0.4
    """Correlation of detail in 7x7 cells above which it stood still."""
    min_likeness: float = 0.5
    """The same between the two ends of a motion, at least..."""
    detail: float = 4.0
    """...where detail has this standard deviation, grey levels."""
    texture: float = 2.0
    """A handle's detail has this gradient in every direction, grey levels a pixel..."""
    match: float = 0.85
    """...and this correlation with what is where it lands."""
    min_distinct: float = 0.08
    """Share of what moves that must have such detail."""
    min_confirmed: float = 0.6
    """Share of the point tracks that end where the flow does."""
    bare: float = 6.0
    """A surface has nothing that can be seen to move where its detail's deviation is less; the same up to
    twice this where the light changed..."""
    light_change: float = 0.025
    """...by more than this, in the logarithm."""
    noise_floor: float = 7.0
    """Changes up to this and three times the noise are no changes, grey levels."""
    max_noise: float = 4.0
    scroll_share: float = 0.85
    """Text scrolls where so much of what moves in a band from side to side goes one way along it."""


@dataclass(frozen=True)
class DataRecipe:
    """How a dataset is made; the same recipe, inputs and seed give the same shards."""

    seed: int = 0
    flow: str = "dis"
    """What finds dense motion; :mod:`lightningdrag.data.trackers` has the names."""
    flow_weights: str = ""
    """Its weight file, where it needs one."""
    tracker: str = "lk"
    """What follows points, to confirm the flow."""
    tracker_weights: str = ""
    amounts: Amounts = field(default_factory=Amounts)
    frames: Frames = field(default_factory=Frames)
    shots: Shots = field(default_factory=Shots)
    camera: CameraRule = field(default_factory=CameraRule)
    gaps: Gaps = field(default_factory=Gaps)
    checks: Checks = field(default_factory=Checks)


DEFAULT = DataRecipe()


def load_recipe(path: Path) -> DataRecipe:
    """Read a YAML file of fields of :class:`DataRecipe`; what it does not name keeps its default.

    Raises:
        RecipeError: for an unknown key (with the nearest one) or a value of the wrong kind or range.
    """
    import yaml

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is no YAML: {error}") from error
    recipe = _filled(DEFAULT, given, str(path))
    reach = recipe.gaps.reach
    if len(reach) != 2 or reach[0] >= reach[1]:
        raise RecipeError(f"{path}: gaps: reach is {list(reach)}; it takes a lower and an upper bound")
    return recipe


def _filled(default: T, given: Any, where: str) -> T:
    """A dataclass with the values of a mapping put in, its fields that are dataclasses likewise."""
    if not isinstance(given, dict):
        raise RecipeError(f"{where} is {given!r}; it takes a mapping of keys to values")
    values = {f.name: getattr(default, f.name) for f in fields(default)}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in values:
            nearest = difflib.get_close_matches(str(key), values, 1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; it has {', '.join(values)}"
            raise RecipeError(f"{where} has no key {key!r}{hint}")
        values[key] = _checked(values[key], value, f"{where}: {key}", key in ABOVE_ZERO)
    return replace(default, **values)  # type: ignore[type-var]


def _checked(default: Any, value: Any, where: str, above_zero: bool) -> Any:
    if is_dataclass(default):
        return _filled(default, value, where)
    if isinstance(default, tuple):
        if not isinstance(value, list) or not value:
            raise RecipeError(f"{where} is {value!r}; it takes a list like {list(default)}")
        return tuple(_checked(default[0], one, where, above_zero) for one in value)
    kind = type(default)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError):  # YAML takes 1e-4, without a point, for text
            value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise RecipeError(f"{where} is {value!r}; it takes a value like {default!r}")
    if kind not in (str, bool) and (not value >= 0 or (above_zero and not value)):
        raise RecipeError(f"{where} is {value!r}; it must be {'above 0' if above_zero else '0 or more'}")
    return value
