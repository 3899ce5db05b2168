"""A run's weights as a model that the editor loads, in one folder, with its card."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open

from lightningdrag.checkpoints.released import fuse_lcm_lora
from lightningdrag.checkpoints.tensors import load_strict, load_tensors
from lightningdrag.models.sd15 import set_defaults
from lightningdrag.pipeline import LightningDragPipeline
from lightningdrag.training.builtin import BuiltinTask
from lightningdrag.training.card import NOT_STATED, loss_curve, model_card
from lightningdrag.training.lcm import lcm_scheduler
from lightningdrag.training.log import LOG_FILE, read_log
from lightningdrag.training.loop import RUN_FILE
from lightningdrag.training.recipe import LCMRecipe, SD15Recipe, make_recipe
from lightningdrag.training.sd15 import SD15Task, start_pipeline


class ExportError(ValueError):
    """A folder that holds no finished run, or a place that is taken."""


def export(run: Path, out: Path, *, data: str | None = None, licence: str = NOT_STATED) -> None:
    """Write a model in float16 and its card, all or nothing.

    Args:
        run: what ``lightningdrag train`` or ``distill`` wrote.
        out: a folder that is not there yet. For the built-in model it holds ``builtin.safetensors``, for
            SD 1.5 a pipeline as ``save_pretrained`` writes it (a distilled one with the LoRA fused, the LCM
            scheduler, and its few steps without guidance as defaults), for both ``README.md`` and
            ``loss.svg``.
        data: where the dataset lies now; None is where it lay in training.
        licence: of the weights, for the card.

    Raises:
        ExportError: see there.
        ValueError: the licence is not share-alike, but some of the data is.
    """
    if not (run / RUN_FILE).is_file():
        raise ExportError(f"{run} is no run: it has no {RUN_FILE}; give the --out of a training")
    if out.exists():
        raise ExportError(f"{out} is there already; give a new folder")
    facts = json.loads((run / RUN_FILE).read_text())
    recipe, step = make_recipe(facts["recipe"]), _saved_step(run)
    log = [record for record in read_log(run / LOG_FILE) if record["step"] <= step]
    if not log:
        raise ExportError(f"{run} has no step in its {LOG_FILE}; let the training come to its first")
    starts = [start for start in facts["starts"] if start["step"] < step]  # those that the weights are of
    if data is not None:
        starts = [{**start, "data": data} for start in starts]
    card = model_card(out.name, recipe, starts, step, log, licence)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
        folder = Path(beside) / out.name
        folder.mkdir()
        if isinstance(recipe, SD15Recipe):
            _trained_pipeline(run, recipe).save_pretrained(folder)
        else:
            shutil.copyfile(run / BuiltinTask.weights_file, folder / BuiltinTask.weights_file)
        (folder / "README.md").write_text(card)
        (folder / "loss.svg").write_bytes(loss_curve(log))
        folder.rename(out)


def _saved_step(run: Path) -> int:
    """The step that the weights are of: the log may have gone on before the run was killed."""
    weights = next(run.glob("*.safetensors"), None)
    if weights is None:
        raise ExportError(f"{run} holds no weights yet; let the training come to its first checkpoint")
    with safe_open(weights, "pt") as file:
        return int(file.metadata()["step"])


def _trained_pipeline(run: Path, recipe: SD15Recipe) -> LightningDragPipeline:
    """The pipeline with what a run learned, float16."""
    pipeline = start_pipeline(recipe)
    if isinstance(recipe, LCMRecipe):
        fuse_lcm_lora(pipeline, run)
        pipeline.scheduler = lcm_scheduler(pipeline, recipe.ddim_steps)
        set_defaults(pipeline, recipe.preview_steps, guidance=1.0)  # the teacher's guidance is in the student
    else:
        path = run / SD15Task.weights_file
        tensors = load_tensors(path)
        for name in SD15Task.learning:
            own = {
                key.removeprefix(f"{name}."): x for key, x in tensors.items() if key.startswith(f"{name}.")
            }
            load_strict(getattr(pipeline, name), own, str(path))
    return pipeline.to(torch.float16)
