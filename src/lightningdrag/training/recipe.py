"""A training recipe: one dataclass for each model, overridden by a short YAML file and by ``key=value``."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

PAIRS = ("video", "pose", "synthetic", "identity")
"""Kinds of pairs that a mixture may have."""
PLACES = ("init", "base", "vae", "ip_adapter")
"""Fields that name a file, a folder or a hub id."""
AT_LEAST_ONE = {
    *("steps", "size", "batch", "warmup", "log_every", "keep", "validation_crops"),
    *("candidates", "rank", "ddim_steps", "preview_steps"),
}
ABOVE_ZERO = {"learning_rate", "clip", "explode"}
SHARES = {"large_from", "point_dropout", "start_share"}
"""Fields from 0 to 1. No number of a recipe is below 0."""


class RecipeError(ValueError):
    """A recipe that names an unknown key or gives one a value of the wrong kind or out of its range."""


@dataclass(frozen=True)
class Recipe:
    """What the trainer and the loader are told, whatever the model is."""

    model: str = ""
    """What is trained: one of :data:`RECIPES`."""

    # Stretch of compute
    steps: int = 8000
    """Optimiser steps; the learning rate has come down to nearly nothing at the last."""
    minutes: float = 0.0
    """Bound of training in minutes (0 = none), without starting, validating and saving, which come on top:
    the schedule follows whichever of the two is further on."""
    size: int = 128
    """Side of the training crops in pixels, a multiple of ``multiple``."""
    large_size: int = 0
    """Side of the crops in the last part of the run; 0 = the same throughout."""
    large_from: float = 0.7
    """Where that part begins, as a fraction of the run."""
    batch: int = 16
    """Samples of one optimiser step, over all processes."""
    micro_batch: int = 0
    """Samples that a process takes at once; gradients accumulate up to ``batch``. 0 = its whole share."""
    seed: int = 0
    """All that is drawn at random follows from it and a sample's number."""
    init: str = ""
    """Weights to start from; empty = as the model's recipe says."""

    # Optimiser
    learning_rate: float = 5e-4
    """At its highest; AdamW with betas of 0.9 and 0.99."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Behind the warm-up: a plateau and from 60 % of the run a cosine down to 1 %; or the plateau alone."""
    weight_decay: float = 0.01
    """Of matrices and kernels; norms and biases have none."""
    warmup: int = 200
    """Steps in which the learning rate rises from 0."""
    clip: float = 1.0
    """Largest norm of the gradient, above 0; .inf = as large as it is."""
    ema: float = 0.999
    """Decay of the averaged weights, which are what is validated and kept, below 1; 0 = no average."""
    explode: float = 30.0
    """The run stops when the loss is this many times its running mean, from the 50th step on."""

    # Machine
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the networks' arithmetic; what is trained is kept in float32."""
    gradient_checkpointing: bool = False
    """Keep less for the backward pass and compute it again, where the model can."""
    compile: bool = False
    """torch.compile, which takes minutes at the start."""

    # Data
    mixture: dict[str, float] = field(
        default_factory=lambda: {"video": 0.5, "pose": 0.1, "synthetic": 0.35, "identity": 0.05}
    )
    """Share of each kind of pair. "identity" pins every point of a video frame: nothing may change."""
    licences: tuple[str, ...] = ()
    """Licences to learn from; empty = all. The weights' licence follows from it."""
    workers: int = 1
    """Processes that decode and crop, for each process that trains."""
    point_dropout: float = 0.1
    """Share of samples whose points are hidden, for guidance above 1."""

    # Logging
    log_every: int = 20
    """Steps between log records."""
    validate_every: int = 500
    """Steps between pictures and dev metrics; 0 = never, and no dev split is needed."""
    validation_crops: int = 192
    """Of the dev split, evenly from all of it."""
    checkpoint_minutes: float = 3.0
    """What a kill costs at most."""
    keep: int = 2
    """Checkpoints that are kept, the last ones."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Beside log.jsonl: "tensorboard", "wandb", or none."""

    multiple: ClassVar[int] = 32
    """Crop sizes that the model takes are multiples of this."""

    def __post_init__(self) -> None:
        for key in fields(self):
            _check_range(key.name, getattr(self, key.name))
        for name in ("size", "large_size"):
            if getattr(self, name) % self.multiple:
                raise RecipeError(
                    f"recipe key {name!r} is {getattr(self, name)}; it must be a multiple of {self.multiple}"
                )
        for name, share in self.mixture.items():
            if name not in PAIRS:
                raise RecipeError(
                    f"recipe key 'mixture' names {name!r}{_nearest(name, PAIRS)}; known: {', '.join(PAIRS)}"
                )
            if not share >= 0:
                raise RecipeError(f"recipe key 'mixture' gives {name} {share}; it must be at least 0")
        if not sum(self.mixture.values()) > 0:
            raise RecipeError("recipe key 'mixture' has no share above 0")
        for name in self.trackers:
            if name not in ("tensorboard", "wandb"):
                raise RecipeError(f"recipe key 'trackers' names {name!r}; known: 'tensorboard', 'wandb'")


@dataclass(frozen=True)
class BuiltinRecipe(Recipe):
    """How the built-in model is trained. ``init``: a weight file of its kind; empty = from scratch."""

    model: str = "builtin"
    large_size: int = 192
    learns: Literal["all", "motion", "renderer"] = "all"
    """"motion" (with the appearance encoder) leaves the renderer as it is, "renderer" all the rest: each at
    about half the cost of "all"."""
    start_share: float = 0.5
    """Share of samples at the prior without noise, where the first candidate starts."""
    candidates: int = 3
    """Draws of noise for each of the other samples; it learns from the one that comes nearest the truth."""
    displacement: float = 1.0
    """From here on: weights of the loss terms (:mod:`lightningdrag.training.losses`)."""
    coherence: float = 1.0
    visibility: float = 0.2
    photometric: float = 0.3
    colour: float = 1.0
    picture: float = 2.0
    adversarial: float = 0.0
    """Above 0 a critic learns to tell fills from photographs, and the painter to fool it."""
    critic: float = 0.1
    """AdamW does not feel this weight, but the clipping of gradients does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adversarial and self.learns == "motion":
            raise RecipeError(
                f"recipe key 'adversarial' is {self.adversarial}, but with learns=motion nothing is painted "
                "that a critic could see; it must be 0"
            )


@dataclass(frozen=True)
class SD15Recipe(Recipe):
    """How the SD 1.5 model is trained (LightningDrag, arXiv 2405.13722).

    The appearance encoder, the point embedding and its projections learn; denoiser, IP-Adapter, VAE and
    text encoder stay as they are. ``init``: a saved pipeline's folder to go on from; empty = the base
    below, with an appearance encoder that starts as a copy of its denoiser.
    """

    model: str = "sd15"
    size: int = 512
    batch: int = 256
    micro_batch: int = 4
    learning_rate: float = 5e-5
    ema: float = 0.0
    gradient_checkpointing: bool = True
    base: str = "Lykon/dreamshaper-8-inpainting"
    """An SD 1.5 inpainting checkpoint: a folder or a hub id, like the next two."""
    vae: str = "stabilityai/sd-vae-ft-mse"
    ip_adapter: str = "h94/IP-Adapter"
    preview_steps: int = 8
    """Sampling steps for pictures and dev metrics; a full 25 would cost more than they tell."""
    validate_every: int = 2000
    validation_crops: int = 16
    checkpoint_minutes: float = 30.0

    multiple: ClassVar[int] = 64


@dataclass(frozen=True)
class LCMRecipe(SD15Recipe):
    """How a trained SD 1.5 model is distilled to a few steps: LCM-LoRA (arXiv 2311.05556).

    ``init``: the teacher, a saved pipeline's folder; it must be given.
    """

    model: str = "lcm"
    learning_rate: float = 1e-4
    batch: int = 32
    micro_batch: int = 2
    steps: int = 2000
    rank: int = 64
    """Of the LoRA."""
    ddim_steps: int = 50
    """Timesteps of the teacher's solver; a student's step spans one of its intervals."""
    guidance: tuple[float, float] = (2.0, 5.0)
    """The teacher's point guidance is drawn from this range and distilled into the student."""
    preview_steps: int = 4


RECIPES: dict[str, type[Recipe]] = {"builtin": BuiltinRecipe, "sd15": SD15Recipe, "lcm": LCMRecipe}
"""The recipe of each model that can be trained; the YAML's ``model`` chooses, "builtin" if it is silent."""


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML file of fields of a recipe, then apply ``key=value`` overrides.

    Raises:
        RecipeError: for an unknown key or model (with the nearest one), or a value of the wrong kind.
        OSError: the file cannot be read.
    """
    import yaml

    try:
        given = yaml.safe_load(Path(path).read_text()) or {}
        if not isinstance(given, dict):
            raise RecipeError(f"{path} holds a {type(given).__name__}; a recipe maps keys to values")
        for word in overrides or []:
            key, equals, value = word.partition("=")
            if not equals:
                raise RecipeError(f"override {word!r} has no '='; write key=value")
            given[key] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} or an override is not YAML: {error}") from None
    return make_recipe(given)


def make_recipe(given: dict[str, Any]) -> Recipe:
    """A recipe from its fields by name; see :func:`load_recipe`."""
    model = given.get("model", "builtin")
    if model not in RECIPES:
        raise RecipeError(
            f"unknown model {model!r}{_nearest(str(model), RECIPES)}; known: {', '.join(RECIPES)}"
        )
    kind = RECIPES[model]
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    for key in given:
        if key not in names:
            raise RecipeError(f"unknown key {key!r} in a recipe for {model}{_nearest(str(key), names)}")
    return kind(**{key: _checked(key, value, hints[key]) for key, value in given.items()})


def published(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe; of files and folders only the name, since paths tell of a machine."""
    return {
        key: Path(value).name if key in PLACES and Path(value).exists() else value
        for key, value in asdict(recipe).items()
    }


def absolute(place: str) -> str:
    """A place that is there as an absolute path; a URL or a hub id as it is."""
    return str(Path(place).resolve()) if place and Path(place).exists() else place


def with_absolute_places(recipe: Recipe) -> Recipe:
    """The same recipe for a process that stands in another directory."""
    names = [f.name for f in fields(recipe) if f.name in PLACES]
    places: dict[str, Any] = {name: absolute(getattr(recipe, name)) for name in names}
    return replace(recipe, **places)


def _check_range(key: str, value: Any) -> None:
    """Refuse a number, or numbers, out of a field's range."""
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (str, bool, dict)):
            continue
        if key in AT_LEAST_ONE:
            fits, range_ = number >= 1, "at least 1"
        elif key in ABOVE_ZERO:
            fits, range_ = number > 0, "above 0"
        elif key in SHARES:
            fits, range_ = 0 <= number <= 1, "from 0 to 1"
        elif key == "ema":
            fits, range_ = 0 <= number < 1, "at least 0 and below 1"
        else:
            fits, range_ = number >= 0, "at least 0"
        if not fits:
            raise RecipeError(f"recipe key {key!r} is {value}; it must be {range_}")


def _checked(key: str, value: Any, hint: Any) -> Any:
    """Convert one value to its field's kind, or say what is wrong."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise RecipeError(f"recipe key {key!r} is {value!r}; it takes one of {', '.join(get_args(hint))}")
        return value
    kind = get_origin(hint) or hint
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError):  # YAML takes 1e-4, without a point, for text
            return float(value)
    if kind is tuple and isinstance(value, list):
        kinds = get_args(hint)
        if Ellipsis not in kinds and len(value) != len(kinds):
            raise RecipeError(f"recipe key {key!r} has {len(value)} values; it takes {len(kinds)}")
        return tuple(_checked(key, each, kinds[0]) for each in value)
    if kind is dict and isinstance(value, dict):
        return {name: _checked(key, each, get_args(hint)[1]) for name, each in value.items()}
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        takes = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise RecipeError(f"recipe key {key!r} is {value!r}; it takes {takes.get(kind, kind.__name__)}")
    return value


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
