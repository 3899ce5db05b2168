"""``lightningdrag distill RECIPE --data DIR``: a few-step LoRA of a trained SD 1.5 model."""

from __future__ import annotations

from pathlib import Path

import typer

from lightningdrag.commands.train import Data, Out, Overrides, Ray, RecipeFile, Resume, Threads, run


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(distill)


def distill(
    recipe: RecipeFile,
    data: Data,
    overrides: Overrides = None,
    out: Out = Path("runs/distill"),
    resume: Resume = "auto",
    threads: Threads = 0,
    ray: Ray = 0,
) -> None:
    """Distil a model to a few steps, such as recipes/lcm.yaml with init=FOLDER of the teacher."""
    from lightningdrag.training.recipe import LCMRecipe, RecipeError, load_recipe

    settings = load_recipe(recipe, overrides)
    if not isinstance(settings, LCMRecipe):
        raise RecipeError(f"{recipe} trains {settings.model!r}; a distillation's recipe says model: lcm")
    run(settings, data, out, resume, threads, ray)
