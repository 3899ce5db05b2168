"""What distillation keeps: the LCM recipe at toy width, on drags whose truth is known.

    python benchmarks/sd15_distillation.py [--teacher-steps 600] [--steps 300] [--threads 1]

A narrow denoiser and the method's own parts learn drags as in ``training_points.py``; then ``distill``'s own
task learns a LoRA from that teacher. Both edit drags that neither has seen, from the same noise.

Printed, over latents in the mask: the squared error to the teacher's own answer in 50 guided steps, to the
truth, and the share of edits that are nearer to their truth than to the three ways in which the same square
moves in others: a quarter by chance.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import fields

import torch
from torch import Tensor

from lightningdrag.models import codec
from lightningdrag.pipeline import LightningDragPipeline
from lightningdrag.training.lcm import LCMTask
from lightningdrag.training.loader import Batch
from lightningdrag.training.recipe import LCMRecipe
from training_points import HELD_OUT, RECIPE, drags, toy_task, train, train_on_drags

COUNT = 32
"""Edits that are measured; each of the four ways is among them."""
GUIDANCE = 3.0


@torch.no_grad()
def edit(pipeline: LightningDragPipeline, batch: Batch, steps: int, guidance: float) -> Tensor:
    """Latents ``(B, 4, h, w)`` of all edits, each from noise of its own that is the same in every row."""
    pipeline.set_progress_bar_config(disable=True)
    results = []
    for i, source in enumerate(batch.drags.source):
        generator = torch.Generator().manual_seed(i)
        features = pipeline.encode(source[None], sample_posterior=False)
        results.append(
            pipeline.sample(
                features,
                batch.drags.mask[i, 0],
                batch.drags.handles[i],
                batch.drags.targets[i],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generator,
                sample_posterior=False,
            )
        )
    return torch.cat(results)


class Measure:
    """Rows of the table."""

    def __init__(self, pipeline: LightningDragPipeline, batch: Batch) -> None:
        self.truth = codec.encode(pipeline.vae, batch.labels.image, sample_posterior=False)
        self.mask = codec.latent_mask(batch.drags.mask, *self.truth.shape[-2:]) > 0.5
        moves = (batch.drags.targets - batch.drags.handles)[:, 0].tolist()
        ways = sorted({tuple(move) for move in moves})
        self.way = torch.tensor([ways.index(tuple(move)) for move in moves])
        self.ends = torch.stack([self.truth[int((self.way == k).nonzero()[0])] for k in range(len(ways))])
        self.teacher = edit(pipeline, batch, 50, GUIDANCE)

    def error(self, latents: Tensor, to: Tensor) -> Tensor:
        """``(B,)`` mean squared error in the mask."""
        squared = (latents - to).square() * self.mask
        return squared.sum((1, 2, 3)) / (self.mask.sum((1, 2, 3)) * latents.shape[1])

    def row(self, name: str, latents: Tensor) -> None:
        distances = torch.stack([self.error(latents, end.expand_as(latents)) for end in self.ends])
        right = (distances.argmin(0) == self.way).float().mean()
        to_teacher, to_truth = (float(self.error(latents, to).mean()) for to in (self.teacher, self.truth))
        print(f"| {name} | {to_teacher:.3f} | {to_truth:.3f} | {100 * right:.0f} % |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--denoiser-steps", type=int, default=600)
    parser.add_argument("--teacher-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=300, help="of the distillation")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    teacher = toy_task(arguments.denoiser_steps, arguments.teacher_steps)
    train_on_drags(teacher, lambda step: None)

    kept = {field.name: getattr(RECIPE, field.name) for field in fields(RECIPE)}
    names = {"model", "learning_rate", "steps", "preview_steps"}
    recipe = LCMRecipe(
        **{name: value for name, value in kept.items() if name not in names},
        learning_rate=arguments.learning_rate,
        steps=arguments.steps,
        rank=8,
    )
    student = LCMTask(recipe, copy.deepcopy(teacher.pipeline))
    losses: list[float] = []

    def loss(step: int) -> Tensor:
        error = student(drags(step * recipe.batch, recipe.batch))["loss"]
        losses.append(float(error.detach()))
        return error

    train(student, recipe, loss, lambda step: None)
    twentieth = max(1, len(losses) // 20)
    early, late = (sum(part) / len(part) for part in (losses[:twentieth], losses[-twentieth:]))
    print(f"distillation loss {early:.4f} at first, {late:.4f} at last; {time.process_time():.0f} s of CPU")

    batch = drags(HELD_OUT, COUNT)
    measure = Measure(teacher.pipeline, batch)
    print("| | error to the teacher's 50 steps | error to the truth | right way |\n|---|---|---|---|")
    measure.row("teacher, 50 steps, guided", measure.teacher)
    for steps in (8, 4, 2, 1):
        measure.row(f"teacher, {steps} steps, guided", edit(teacher.pipeline, batch, steps, GUIDANCE))
    for steps in (4, 1):
        measure.row(f"teacher, {steps} steps, unguided", edit(teacher.pipeline, batch, steps, 1.0))
    for steps in (8, 4, 2, 1):
        measure.row(f"student, {steps} steps", edit(student.pipeline, batch, steps, 1.0))


if __name__ == "__main__":
    main()
