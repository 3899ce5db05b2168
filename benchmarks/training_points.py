"""Do points come to matter? The SD 1.5 recipe at toy width, on drags whose truth is known.

    python benchmarks/training_points.py [--denoiser-steps 600] [--steps 300] [--threads 1]

First a narrow inpainting denoiser learns to fill masks in pictures of a square on a ground, as an SD 1.5
checkpoint has learned it: it knows of no source and of no points. Then it is frozen, and the recipe's own
task (``training/sd15.py``) trains a copy of it as appearance encoder, the point embedding, its projections.
One photo and mask go with four results, a square moved left, right, up or down: which, the points alone say.

Printed while it learns: the error of the predicted noise on drags that are not trained on, at five
timesteps, with their own points, with another sample's (one in four goes the same way) and with none. All
else is equal, so that differences are the points'; "sigma" is their mean over its standard error.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from lightningdrag.bench.random_sd15 import VAE
from lightningdrag.checkpoints.released import load_base
from lightningdrag.models import codec
from lightningdrag.models.attention import attention_blocks
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.image_prompt import ImagePrompt
from lightningdrag.models.point_encoder import PointEncoder
from lightningdrag.pipeline import LightningDragPipeline
from lightningdrag.training.draws import Draws
from lightningdrag.training.loader import Batch
from lightningdrag.training.loop import learning_rate, parameter_groups
from lightningdrag.training.losses import Labels
from lightningdrag.training.recipe import SD15Recipe
from lightningdrag.training.sd15 import SD15Task, copied_encoder, mix

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
SIDE, SQUARE, START, POINTS = 64, 16, 24, 3
WAYS = torch.tensor([[-16, 0], [16, 0], [0, -16], [0, 16]])
TOKEN = 16
"""Width of the golden text encoder, and so of what cross-attentions take."""
UNET = {
    "sample_size": SIDE // 8,
    "block_out_channels": (16, 32, 32, 32),
    "layers_per_block": 1,
    "cross_attention_dim": TOKEN,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
RECIPE = SD15Recipe(
    size=SIDE,
    batch=8,
    micro_batch=8,
    learning_rate=5e-3,
    warmup=20,
    precision="fp32",
    gradient_checkpointing=False,
)
DENOISER_RATE = 3e-3
BASE_CHANNELS = 4
"""e of the point embedding; 16 in the released model."""
HELD_OUT, CALIBRATION, DENOISERS = 10**6, 2 * 10**6, 3 * 10**6
"""Numbers from which the samples for validation, the VAE's scale and the denoiser are counted."""
TIMESTEPS = (99, 299, 499, 699, 899)


def drags(first: int, count: int) -> Batch:
    """Samples by number, each the same square on the same ground, moved in one of four ways."""
    draws = [torch.Generator().manual_seed(number) for number in range(first, first + count)]
    ways = torch.stack([WAYS[torch.randint(len(WAYS), (), generator=draw)] for draw in draws])
    handles = START + (SQUARE - 1) * torch.stack([torch.rand(POINTS, 2, generator=draw) for draw in draws])
    ground = torch.linspace(-0.3, 0.3, SIDE).expand(3, SIDE, SIDE)

    def frame(x: int, y: int) -> Tensor:
        picture = ground.clone()
        picture[:, y : y + SQUARE, x : x + SQUARE] = torch.tensor([0.9, 0.6, -0.9])[:, None, None]
        return picture

    source = frame(START, START).expand(count, -1, -1, -1)
    truth = torch.stack([frame(*(START + way).tolist()) for way in ways])
    mask = torch.zeros(count, 1, SIDE, SIDE)
    mask[:, :, 8:-8, 8:-8] = 1
    edits = DragBatch(source, mask, handles, handles + ways[:, None], torch.ones(count, POINTS), handles)
    grid = torch.zeros(count, 1, SIDE // 2, SIDE // 2)
    labels = Labels(truth, grid.expand(-1, 2, -1, -1), grid, grid)
    return Batch(edits, labels, list(range(first, first + count)), ["made up"] * count)


def narrow_parts() -> dict[str, Any]:
    """What SD 1.5 and IP-Adapter would give, narrow and untrained; no image prompt is heard."""
    torch.manual_seed(0)
    parts = load_base(GOLDEN / "base", GOLDEN / "vae", GOLDEN / "ip_adapter")
    unet = UNet2DConditionModel(in_channels=9, **UNET)
    vae = AutoencoderKL(
        **{**VAE, "block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4}
    )
    with torch.no_grad():  # random, its posteriors would be mostly noise, of any mean and scale
        vae.quant_conv.weight[4:], vae.quant_conv.bias[4:] = 0, -20
        latents = vae.encode(drags(CALIBRATION, 64).labels.image).latent_dist.mean
        mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        vae.quant_conv.weight[:4] /= deviation[:, None, None, None]
        vae.quant_conv.bias[:4] = (vae.quant_conv.bias[:4] - mean) / deviation
    vae.register_to_config(scaling_factor=1.0)
    widths = [width for _, width in attention_blocks(unet)]
    prompt = ImagePrompt(parts["image_prompt"].config.embedding_dim, TOKEN, widths)
    for attention in prompt.attentions:
        nn.init.zeros_(attention.to_v_ip.weight)
    return {**parts, "unet": unet, "vae": vae.requires_grad_(False), "image_prompt": prompt}


def train(
    network: nn.Module, recipe: SD15Recipe, loss: Callable[[int], Tensor], look: Callable[[int], None]
) -> None:
    """The recipe's optimiser; ``loss`` and ``look`` are told the step."""
    groups = parameter_groups(network, recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, step / recipe.steps)
        loss(step).backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        look(step + 1)


def train_denoiser(parts: dict[str, Any], steps: int) -> None:
    """Inpainting without points or source, on other samples than the recipe's."""
    vae, unet, alphas = parts["vae"], parts["unet"], parts["scheduler"].alphas_cumprod
    words = parts["tokenizer"]("", padding="max_length", max_length=77, return_tensors="pt")
    text = parts["text_encoder"](words.input_ids)[0].detach()
    recent: list[float] = []

    def loss(step: int) -> Tensor:
        batch = drags(DENOISERS + step * RECIPE.batch, RECIPE.batch)
        draws = Draws(1, batch.numbers, torch.device("cpu"))
        truth, mask = batch.labels.image, batch.drags.mask
        clean, masked = (
            codec.encode(vae, image, sample_posterior=False)
            for image in (truth, codec.masked_source(truth, mask))
        )
        timesteps, noise = draws.integers(len(alphas)), draws.normal(*clean.shape[1:])
        noisy = mix(clean, noise, alphas[timesteps])
        inputs = torch.cat((noisy, codec.latent_mask(mask, *clean.shape[-2:]), masked), 1)
        estimate = unet(inputs, timesteps, text.expand(len(clean), -1, -1)).sample
        error = F.mse_loss(estimate, noise)
        recent.append(float(error.detach()))
        return error

    def look(step: int) -> None:
        if step % 100 == 0:
            print(f"denoiser, step {step}: loss {fmean(recent[-100:]):.4f}", flush=True)

    train(unet, replace(RECIPE, learning_rate=DENOISER_RATE, steps=steps), loss, look)


@torch.no_grad()
def errors(task: SD15Task, batch: Batch, shown: float = 1.0) -> Tensor:
    """``(timesteps, B)`` mean squared errors of the predicted noise."""
    draws = Draws(0, batch.numbers, torch.device("cpu"))
    prepared = task.prepare(batch, draws)
    noise = draws.normal(*prepared.clean.shape[1:])
    rows = []
    for timestep in TIMESTEPS:
        timesteps = torch.full((len(noise),), timestep)
        noisy = mix(prepared.clean, noise, task.alphas[timesteps])
        estimate = task.predict(noisy, timesteps, prepared, torch.full((len(noise),), shown))
        rows.append((estimate - noise).square().mean((1, 2, 3)))
    return torch.stack(rows)


def toy_task(denoiser_steps: int, steps: int) -> SD15Task:
    """The recipe's task on a denoiser that has learned to inpaint; what the recipe trains is untrained."""
    parts = narrow_parts()
    train_denoiser(parts, denoiser_steps)
    unet = parts["unet"]
    levels, widths = (list(column) for column in zip(*attention_blocks(unet), strict=True))
    return SD15Task(
        replace(RECIPE, steps=steps),
        LightningDragPipeline(
            **parts,
            appearance_encoder=copied_encoder(unet),
            point_encoder=PointEncoder(BASE_CHANNELS, levels, widths),
        ),
    )


def train_on_drags(task: SD15Task, look: Callable[[int], None]) -> None:
    batch = task.recipe.batch
    train(task, task.recipe, lambda step: task(drags(step * batch, batch))["loss"], look)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--denoiser-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    task = toy_task(arguments.denoiser_steps, arguments.steps)
    own = drags(HELD_OUT, 64)
    handles, ways = own.drags.handles, own.drags.targets - own.drags.handles
    others = replace(own, drags=replace(own.drags, targets=handles + ways.roll(1, 0)))

    def look(step: int) -> None:
        if step % 50:
            return
        true, shuffled, without = errors(task, own), errors(task, others), errors(task, own, shown=0.0)
        gap = (shuffled - true).mean(0)
        sigma = gap.mean() / (gap.std() / len(gap) ** 0.5).clamp_min(1e-12)
        print(
            f"step {step}: error {true.mean():.4f}, with another's points {shuffled.mean():.4f} "
            f"({sigma:.1f} sigma), without {without.mean():.4f}; {time.process_time():.0f} s of CPU\n   "
            + ", ".join(
                f"t = {t}: {a:.4f}, {b:.4f}, {c:.4f}"
                for t, a, b, c in zip(TIMESTEPS, true.mean(1), shuffled.mean(1), without.mean(1), strict=True)
            ),
            flush=True,
        )

    look(0)
    train_on_drags(task, look)


if __name__ == "__main__":
    main()
