"""What each part of the built-in model's motion generator carries.

python benchmarks/builtin_design.py --data prepared --steps 400

A part is taken out of the finished model, which then trains on without it, its motion alone; the first row
trains on as it is.  Dev crops of 128 px; gains are those of the source moved by the motion alone, unpainted.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightningdrag.checkpoints.builtin import WEIGHTS
from lightningdrag.models.builtin.evidence import STRIDE, DragBatch, Evidence, gather_evidence
from lightningdrag.models.builtin.model import motion_prior
from lightningdrag.models.builtin.network import Appearance, upsample
from lightningdrag.training.builtin import BuiltinTask
from lightningdrag.training.loader import Batch, validation_batches
from lightningdrag.training.loop import Trainer
from lightningdrag.training.losses import motion_errors
from lightningdrag.training.recipe import BuiltinRecipe
from lightningdrag.training.validate import psnr
from lightningdrag.warp import drag_displacement, sample

SIZE = 128
FIELDS = 4
"""Channels of the evidence's features that are the two analytic fields."""

Inputs = tuple[Tensor, Tensor, DragBatch, Evidence, Appearance]


def no_warp_evidence(module: nn.Module, inputs: Inputs) -> Inputs:
    """Neither analytic field, as a prior, as a feature, or to choose from."""
    state, t, batch, evidence, appearance = inputs
    features = torch.cat((torch.zeros_like(evidence.features[:, :FIELDS]), evidence.features[:, FIELDS:]), 1)
    nothing = torch.zeros_like(evidence.anchored)
    state = state - motion_prior(evidence) * t[:, None, None, None]
    return state, t, batch, replace(evidence, anchored=nothing, free=nothing, features=features), appearance


def plainer_fields(module: nn.Module, inputs: Inputs) -> Inputs:
    """Both analytic fields as Shepard's interpolation, with all of the anchors on the rim."""
    state, t, batch, evidence, appearance = inputs
    drags = batch.handles, batch.targets
    anchored = drag_displacement(*drags, batch.anchors, batch.mask, stride=STRIDE, weights=batch.valid)
    free = drag_displacement(*drags, batch.anchors[:, :0], batch.mask, stride=STRIDE, weights=batch.valid)
    fields = torch.cat((anchored, free), 1) / evidence.length
    features = torch.cat((fields, evidence.features[:, FIELDS:]), 1)
    plainer = replace(evidence, anchored=fields[:, :2], free=fields[:, 2:], features=features)
    state = state + (motion_prior(plainer) - motion_prior(evidence)) * t[:, None, None, None]
    return state, t, batch, plainer, appearance


def no_references(module: nn.Module, inputs: Inputs) -> Inputs:
    """The attentions see no appearance encoder, and so no handles."""
    state, t, batch, evidence, appearance = inputs
    nothing = torch.zeros_like(appearance.reference)
    return state, t, batch, evidence, replace(appearance, reference=nothing)


def no_points(module: nn.Module, inputs: Any, levels: list[tuple[Tensor, Tensor]]) -> Any:
    """Point embeddings of nothing."""
    return [(torch.zeros_like(handle), torch.zeros_like(target)) for handle, target in levels]


@dataclass(frozen=True)
class Variant:
    """A change to the network, and to what it learns from."""

    change: Callable[[BuiltinTask], object] = lambda task: None
    mixture: tuple[tuple[str, float], ...] = (("video", 0.55), ("synthetic", 0.4), ("identity", 0.05))


def taking_out(hook: Callable[..., Any]) -> Variant:
    return Variant(lambda task: task.network.motion.register_forward_pre_hook(hook))


VARIANTS = {
    "as it is": Variant(),
    "without warp evidence": taking_out(no_warp_evidence),
    "with Shepard's fields": taking_out(plainer_fields),
    "without reference attention": taking_out(no_references),
    "without point embeddings": Variant(
        lambda task: task.network.motion.point_embedding.register_forward_hook(no_points)
    ),
    "without synthetic pairs": Variant(mixture=(("video", 0.95), ("identity", 0.05))),
    "without video pairs": Variant(mixture=(("synthetic", 0.95), ("identity", 0.05))),
}


def trained(variant: Variant, data: str, steps: int) -> BuiltinTask:
    """The shipped model, changed and trained on from the prior alone."""
    recipe = BuiltinRecipe(
        init=str(WEIGHTS),
        learns="motion",
        steps=max(steps, 1),
        size=SIZE,
        large_size=0,
        learning_rate=3e-4,
        warmup=50,
        ema=0.99,
        start_share=1.0,
        mixture=dict(variant.mixture),
        validate_every=0,
        trackers=(),
    )
    task = BuiltinTask(recipe)
    variant.change(task)
    if steps:
        with tempfile.TemporaryDirectory() as out:
            Trainer(task, data, Path(out), report=lambda line: None).run()
            with_average = BuiltinTask(replace(recipe, init=str(Path(out) / task.weights_file)))
        variant.change(with_average)
        return with_average
    return task


@torch.inference_mode()
def measure(task: BuiltinTask, dev: list[Batch]) -> tuple[float, float, float]:
    """Error of the motion / (L + 2 px) where it is known, gain over the warp in dB, share won."""
    errors, gains = [], []
    for drags, labels in ((batch.drags, batch.labels) for batch in dev):
        evidence = gather_evidence(drags)
        prior = motion_prior(evidence)
        with torch.autocast("cpu", torch.bfloat16):
            appearance = task.network.appearance(drags.source)
            motion = task.network.motion(prior, torch.ones(len(prior)), drags, evidence, appearance)
        field = motion.displacement.float() * evidence.length
        errors.append(motion_errors(field, labels, F.avg_pool2d(drags.mask, 2), evidence.length).sizes())
        score = partial(psnr, truth=labels.image, mask=drags.mask)
        warp = drag_displacement(drags.handles, drags.targets, drags.anchors, drags.mask, weights=drags.valid)
        moved = sample(drags.source, upsample(field, 8) * drags.mask)
        gains.append(score(moved) - score(sample(drags.source, warp)))
    error, gain = torch.cat(errors), torch.cat(gains)
    return float(error.mean()), float(gain.mean()), float((gain > 0).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="a prepared dataset with a dev split")
    parser.add_argument("--dev", help="another one whose dev split to measure on")
    parser.add_argument("--steps", type=int, default=400, help="of 16 crops; 0 only switches the parts off")
    parser.add_argument("--only", choices=VARIANTS, help="one row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dev = validation_batches(options.dev or options.data, SIZE, 384, 16)
    print("| motion | error | gain, dB | won |\n|---|---|---|---|")
    for name in [options.only] if options.only else VARIANTS:
        error, gain, won = measure(trained(VARIANTS[name], options.data, options.steps), dev)
        print(f"| {name} | {error:.3f} | {gain:+.2f} | {won:.0%} |", flush=True)


if __name__ == "__main__":
    main()
