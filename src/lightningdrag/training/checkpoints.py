"""Checkpoints of a run: whole folders, the last few of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from lightningdrag.training.recipe import PLACES, Recipe, RecipeError, SD15Recipe, absolute

FOLDER = "checkpoints"
HELD = ("model", "learns", "adversarial", "rank")
"""Keys of recipes that say which weights a checkpoint holds; of "adversarial", whether it is 0. Those of SD
1.5 fit the frozen weights, too, which lie elsewhere."""


def save_checkpoint(accelerator: Accelerator, out: Path, step: int, keep: int) -> None:
    """Write everything that accelerate knows of beside, then rename; drop all but the last ``keep``.

    A kill leaves no folder half written under a step's name, at worst an old one half removed.
    """
    final = out / FOLDER / f"step-{step:08d}"
    partial = final.with_suffix(".partial")
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)  # a run that was rewound comes by again
        partial.rename(final)
        for old in list_checkpoints(out)[:-keep]:
            shutil.rmtree(old)
        for left in final.parent.glob("*.partial"):
            shutil.rmtree(left)
    accelerator.wait_for_everyone()


def check_held(before: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuse to go on by a recipe that asks for other weights than a run's checkpoints hold.

    Args:
        before: the fields of the recipe that the run was last started with.

    Raises:
        RecipeError: naming the key and both values.
    """
    for key in (*HELD, *PLACES) if isinstance(recipe, SD15Recipe) else HELD:
        old, new = before.get(key), getattr(recipe, key, None)
        if key in PLACES and old is not None:
            old, new = absolute(old), absolute(str(new))
        if None not in (old, new) and old != new and not (key == "adversarial" and old and new):
            raise RecipeError(
                f"recipe key {key!r} is {new!r} and was {old!r}: the run's checkpoints hold other weights; "
                f"give another --out, or {key}={old}"
            )


def list_checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = (out / FOLDER).glob("step-*")
    return sorted(path for path in found if re.fullmatch(r"step-\d{8}", path.name))
