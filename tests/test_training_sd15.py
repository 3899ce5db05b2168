"""Training and distilling the SD 1.5 model, at toy width: what learns, what it learns, what loads."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import Tensor

from lightningdrag.checkpoints.released import fuse_lcm_lora
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.sd15 import SD15Model
from lightningdrag.training.lcm import LCMTask, denoised
from lightningdrag.training.loader import Batch, Mixture, stack
from lightningdrag.training.log import read_log
from lightningdrag.training.loop import Trainer
from lightningdrag.training.losses import Labels
from lightningdrag.training.recipe import LCMRecipe, RecipeError, SD15Recipe
from lightningdrag.training.sd15 import SD15Task, mix, start_pipeline
from lightningdrag.training.task import Task
from moving_square import write_dataset
from sd15_tiny import PARTS, load_pipeline

RECIPE = SD15Recipe(
    base=str(PARTS["base"]),
    vae=str(PARTS["vae"]),
    ip_adapter=str(PARTS["ip_adapter"]),
    size=64,
    batch=4,
    micro_batch=2,
    steps=4,
    warmup=1,
    mixture={"video": 1.0},
    workers=0,
    precision="fp32",
    point_dropout=0.0,
    validate_every=0,
    log_every=1,
    preview_steps=2,
    trackers=(),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def batch(data: Path) -> Batch:
    mixture = Mixture(str(data), RECIPE, 64)
    return stack([mixture[i] for i in range(4)])


def gradients(task: Task, batch: Batch) -> dict[str, Tensor]:
    task.zero_grad()
    task(batch)["loss"].backward()
    return {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


def trainer(task: Task, data: Path, out: Path) -> Trainer:
    AcceleratorState._reset_state(reset_partial_state=True)
    return Trainer(task, data, out, lambda record: None)


def test_the_appearance_encoder_starts_as_the_denoiser() -> None:
    pipeline = start_pipeline(RECIPE)
    torch.testing.assert_close(
        pipeline.appearance_encoder.conv_in.weight, pipeline.unet.conv_in.weight[:, :4]
    )
    middle = "mid_block.resnets.0.conv1.weight"
    torch.testing.assert_close(
        pipeline.appearance_encoder.get_parameter(middle), pipeline.unet.get_parameter(middle)
    )


def test_every_part_of_the_method_learns_and_nothing_else_does(batch: Batch) -> None:
    task = SD15Task(RECIPE, load_pipeline())
    found = gradients(task, batch)
    assert found.keys() == dict(task.named_parameters()).keys()
    assert {name.split(".")[0] for name in found} == {"appearance_encoder", "point_encoder"}
    assert all(gradient.abs().sum() > 0 for name, gradient in found.items() if "point_encoder" in name)
    assert all(p.grad is None for p in task.pipeline.unet.parameters())


def test_gradient_checkpointing_changes_no_gradient(batch: Batch) -> None:
    kept = gradients(SD15Task(replace(RECIPE, gradient_checkpointing=False), load_pipeline()), batch)
    again = gradients(SD15Task(RECIPE, load_pipeline()), batch)
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-3, atol=1e-6)


def test_a_sample_whose_points_are_dropped_does_not_see_them(batch: Batch) -> None:
    task = SD15Task(replace(RECIPE, point_dropout=1.0), load_pipeline())
    moved = replace(batch, drags=replace(batch.drags, targets=batch.drags.targets.flip(0)))
    assert task(batch)["loss"] == task(moved)["loss"]
    seeing = SD15Task(RECIPE, load_pipeline())
    assert seeing(batch)["loss"] != seeing(moved)["loss"]


def test_a_batch_costs_what_its_samples_cost_alone(data: Path) -> None:
    """So it does not matter how samples are split over processes and accumulated."""
    task = SD15Task(RECIPE, load_pipeline())
    mixture = Mixture(str(data), RECIPE, 64)
    examples = [mixture[i] for i in range(3)]
    with torch.no_grad():
        together = task(stack(examples))["loss"]
        alone = torch.stack([task(stack([example]))["loss"] for example in examples]).mean()
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


class WholeTask(SD15Task):
    """At toy width no denoiser is pretrained, so it learns, too."""

    learning = (*SD15Task.learning, "unet")


def left_or_right(first: int, count: int, swapped: bool = False) -> Batch:
    """A square that was dragged to the left in every other sample, and to the right in the others."""

    def frame(x: int) -> Tensor:
        picture = torch.linspace(-0.8, 0.2, 64).expand(3, 64, 64).clone()
        picture[:, 24:40, x : x + 16] = 0.9
        return picture

    left = [(first + i) % 2 == 0 for i in range(count)]
    truth = torch.stack([frame(8 if side else 40) for side in left])
    targets = torch.tensor([[[16.0 if side != swapped else 48.0, 32.0]] for side in left])
    handles = torch.full((count, 1, 2), 32.0)
    mask = torch.zeros(count, 1, 64, 64)
    mask[:, :, 20:44, 4:60] = 1
    grid = torch.zeros(count, 1, 32, 32)
    drags = DragBatch(
        frame(24).expand(count, -1, -1, -1), mask, handles, targets, torch.ones(count, 1), handles
    )
    labels = Labels(truth, grid.expand(-1, 2, -1, -1), grid, grid)
    return Batch(drags, labels, list(range(first, first + count)), ["made here"] * count)


def test_training_lowers_the_loss_and_makes_points_matter() -> None:
    """The same photo and mask go with two results; which one, the points alone say."""
    task = WholeTask(RECIPE, load_pipeline())
    vae = task.pipeline.vae
    vae.quant_conv.weight[4:], vae.quant_conv.bias[4:] = 0, -20  # the toy's posteriors are mostly noise
    vae.register_to_config(scaling_factor=3.0)

    @torch.no_grad()
    def loss(swapped: bool) -> float:
        return float(task(left_or_right(10_000, 24, swapped))["loss"])

    before = loss(swapped=False)
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-3, betas=(0.9, 0.99))
    for step in range(60):
        task(left_or_right(4 * step, 4))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss(swapped=False) < 0.6 * before
    assert loss(swapped=True) > 1.005 * loss(swapped=False)


def test_a_run_previews_its_edits(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=1, validate_every=1, validation_crops=2)
    trainer(SD15Task(recipe, load_pipeline()), data, tmp_path).run()
    assert "dev_model" in read_log(tmp_path / "log.jsonl")[-1]
    assert (tmp_path / "dev-000001.png").exists()


def test_sharded_weights_learn_what_whole_ones_do(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=2, schedule="constant")
    trainer(SD15Task(recipe, load_pipeline()), data, tmp_path / "whole").run()
    program = [sys.executable, Path(__file__).with_name("training_sharded.py")]
    subprocess.run([*program, data, tmp_path / "shards", "2"], check=True, timeout=600)
    whole, shards = (read_log(tmp_path / name / "log.jsonl") for name in ("whole", "shards"))
    for name in ("loss", "gradient"):
        assert [r[name] for r in shards] == pytest.approx([r[name] for r in whole], rel=1e-3)
    ours, theirs = (load_file(tmp_path / name / "sd15.safetensors") for name in ("shards", "whole"))
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=1e-2, atol=1e-4)


def test_what_cannot_be_sharded_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(ValueError, match="fsdp_version: 2"):
        trainer(SD15Task(RECIPE, load_pipeline()), data, tmp_path)
    monkeypatch.setattr(Accelerator, "is_fsdp2", True)
    with pytest.raises(RecipeError, match="'ema' must be 0"):
        trainer(SD15Task(replace(RECIPE, ema=0.9), load_pipeline()), data, tmp_path)
    with pytest.raises(ValueError, match="'lcm' cannot be trained with FSDP"):
        trainer(lcm_task(), data, tmp_path)


def lcm_task(ddim_steps: int = 50) -> LCMTask:
    names = ("base", "vae", "ip_adapter", "size", "batch", "micro_batch", "steps", "warmup", "mixture",
             "workers", "precision", "validate_every", "log_every", "trackers")  # fmt: skip
    recipe = LCMRecipe(**{name: getattr(RECIPE, name) for name in names}, rank=4, learning_rate=1e-2)
    return LCMTask(replace(recipe, batch=2, steps=2, ddim_steps=ddim_steps), load_pipeline())


def test_the_consistency_function_is_the_identity_at_the_end() -> None:
    task = lcm_task()
    noisy, eps = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(task.answer(noisy, torch.tensor([0, 0]), eps), noisy)
    late = torch.tensor([999, 500])
    clean = denoised(mix(noisy, eps, task.alphas[late]), eps, task.alphas[late])
    torch.testing.assert_close(clean, noisy, rtol=1e-3, atol=1e-3)


def test_the_student_learns_the_timesteps_that_its_sampler_visits() -> None:
    task = lcm_task(ddim_steps=20)
    scheduler = task.pipeline.scheduler
    for steps in (1, 2, 4, 8):
        scheduler.set_timesteps(steps)
        assert set(scheduler.timesteps.tolist()) <= set(task.solver_steps.tolist())
    with pytest.raises(RecipeError, match="'ddim_steps' is 30; it must divide the scheduler's 1000"):
        lcm_task(ddim_steps=30)


def test_a_distilled_lora_changes_few_step_edits_in_the_editor(
    data: Path, batch: Batch, tmp_path: Path
) -> None:
    task = lcm_task()
    assert {name.split(".")[0] for name, _ in task.named_parameters()} == {"lora"}
    with torch.no_grad():
        before = task(batch)["loss"]
    trainer(task, data, tmp_path).run()
    with torch.no_grad():
        assert task(batch)["loss"] != before
    plain, student = load_pipeline(), load_pipeline()
    fuse_lcm_lora(student, tmp_path)
    assert SD15Model(student).default_steps == 8
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert not torch.equal(student.unet.get_parameter(name), plain.unet.get_parameter(name))
