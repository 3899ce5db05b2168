"""A training recipe: one dataclass, overridden by a short YAML file and by ``key=value`` words."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any


class RecipeError(ValueError):
    """A recipe that names an unknown key or gives one a value of the wrong kind."""


@dataclass(frozen=True)
class Recipe:
    """How the built-in model is trained. The default of each field stands beside its reason."""

    # Stretch of compute
    steps: int = 8000
    """Optimiser steps; the learning rate has come down to nearly nothing at the last."""
    minutes: float = 0.0
    """Wall-clock bound (0 = none): the schedule follows whichever of the two is further on."""
    size: int = 128
    """Side of the training crops in pixels, a multiple of 32."""
    large_size: int = 192
    """Side of the crops in the last part of the run."""
    large_from: float = 0.7
    """Where that part begins, as a fraction of the run."""
    batch: int = 16
    seed: int = 0
    init: str = ""
    """Weights to start from (a built-in model's safetensors); empty = from scratch."""

    # Optimiser
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warmup: int = 200
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999

    # Data
    mixture: dict[str, float] = field(
        default_factory=lambda: {"video": 0.5, "pose": 0.1, "synthetic": 0.35, "identity": 0.05}
    )
    """Share of each kind of pair. "identity" pins every point of a video frame: nothing may change."""
    licences: tuple[str, ...] = ()
    """Licences to learn from, by how they begin; empty = all. The weights' licence follows from it."""
    workers: int = 1

    # Objective
    point_dropout: float = 0.1
    """Share of samples whose points are hidden, for guidance above 1."""
    start_share: float = 0.75
    """Share of samples at t = 1, where the first and most visible step is taken."""
    displacement: float = 1.0
    visibility: float = 0.2
    photometric: float = 1.0
    colour: float = 1.0
    picture: float = 2.0

    # Logging
    log_every: int = 20
    validate_every: int = 500
    checkpoint_minutes: float = 3.0


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML file of fields of :class:`Recipe`, then apply ``key=value`` overrides.

    Raises:
        RecipeError: for an unknown key (with the nearest one) or a value of the wrong kind.
    """
    import yaml

    given = yaml.safe_load(Path(path).read_text()) or {}
    if not isinstance(given, dict):
        raise RecipeError(f"{path} holds a {type(given).__name__}; a recipe is a mapping of keys to values")
    for word in overrides or []:
        key, equals, value = word.partition("=")
        if not equals:
            raise RecipeError(f"override {word!r} has no '='; write key=value")
        given[key] = yaml.safe_load(value)
    return replace(Recipe(), **{key: checked(key, value) for key, value in given.items()})


def checked(key: str, value: Any) -> Any:
    """Convert one value to its field's kind, or say what is wrong."""
    defaults = {f.name: getattr(Recipe(), f.name) for f in fields(Recipe)}
    if key not in defaults:
        nearest = difflib.get_close_matches(key, defaults, 1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise RecipeError(f"unknown recipe key {key!r}{hint}")
    kind = type(defaults[key])
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise RecipeError(
            f"recipe key {key!r} is {value!r}, a {type(value).__name__}; it takes a {kind.__name__}"
        )
    return value
