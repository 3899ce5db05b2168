"""Memory and time of optimiser steps of the SD 1.5 recipe at full size, with random weights.

    python benchmarks/sd15_training.py [--size 512] [--micro-batch 1] [--steps 1] [--bf16-weights]

Nothing is downloaded. Prints where the memory goes, samples/s, and the share of the arithmetic ceiling (the
fastest plain matrix product measured on this machine) that the model's own FLOPs reach: one forward pass of
the frozen denoiser counts twice (forward and backward to its inputs), one of the trained appearance encoder
three times; what gradient checkpointing computes again is not counted.

--bf16-weights keeps the trained weights, gradients and AdamW's moments in bfloat16: half the memory, to see
the step through on a small machine. Updates smaller than 1/256 of a weight are lost then: no way to train.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lightningdrag.bench.ceiling import measure_ceiling, synchronize
from lightningdrag.bench.random_sd15 import random_sd15
from lightningdrag.memory import peak_bytes, reset_peak
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.training.loader import Batch
from lightningdrag.training.loop import parameter_groups
from lightningdrag.training.losses import Labels
from lightningdrag.training.recipe import SD15Recipe
from lightningdrag.training.sd15 import SD15Task


def made_up_batch(size: int, count: int) -> Batch:
    """Noise for pictures, and three drags."""
    pictures = torch.rand(2, count, 3, size, size) * 2 - 1
    mask = torch.zeros(count, 1, size, size)
    mask[:, :, size // 4 : -size // 4, size // 4 : -size // 4] = 1
    handles = torch.tensor([[0.3, 0.3], [0.5, 0.5], [0.6, 0.4]]).mul(size).expand(count, -1, -1)
    drags = DragBatch(pictures[0], mask, handles, handles + 0.05 * size, torch.ones(count, 3), handles)
    grid = torch.zeros(count, 1, size // 2, size // 2)
    labels = Labels(pictures[1], grid.expand(-1, 2, -1, -1), grid, grid)
    return Batch(drags, labels, list(range(count)), ["made up"] * count)


def model_flops(task: SD15Task, batch: Batch) -> int:
    """FLOPs of a step on a batch, with nothing computed twice."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task(batch)
    counts = {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    denoiser, encoder = counts["UNet2DConditionModel"], counts["SD15Task.appearance_encoder"]
    return counter.get_total_flops() + denoiser + 2 * encoder


def gigabytes(tensors: Sequence[torch.Tensor]) -> float:
    return sum(x.numel() * x.element_size() for x in tensors) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--bf16-weights", action="store_true")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep all activations")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    recipe = SD15Recipe(size=arguments.size, gradient_checkpointing=not arguments.no_checkpointing)
    task = SD15Task(recipe, random_sd15(torch.bfloat16))
    if arguments.bf16_weights:
        task.to(torch.bfloat16)
    task.to(device)
    optimizer = torch.optim.AdamW(parameter_groups(task, recipe.weight_decay), lr=5e-5, foreach=False)
    batch = made_up_batch(arguments.size, arguments.micro_batch).to(device)
    print(f"{device}, {arguments.threads} threads, {arguments.size} px, micro-batch {arguments.micro_batch}")
    frozen = [p for part in task.pipeline.components.values() if isinstance(part, torch.nn.Module)
              for p in part.parameters() if not p.requires_grad]  # fmt: skip
    trained = list(task.parameters())
    print(f"trained: {sum(p.numel() for p in trained) / 1e6:.0f} M parameters, {gigabytes(trained):.2f} GB")
    print(f"frozen:  {sum(p.numel() for p in frozen) / 1e6:.0f} M parameters, {gigabytes(frozen):.2f} GB")

    with torch.autocast(device.type, torch.bfloat16):
        flops = model_flops(task, batch)
    reset_peak(device)
    for step in range(arguments.steps):
        begun = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            loss = task(batch)["loss"]
        forward = peak_bytes(device) / 1e9
        loss.backward()
        backward = peak_bytes(device) / 1e9
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)
        seconds = time.perf_counter() - begun
        print(
            f"step {step}: loss {float(loss.detach()):.4f}, {seconds:.1f} s, "
            f"{arguments.micro_batch / seconds:.3f} samples/s; peak memory "
            f"{forward:.2f} GB in the forward pass, {backward:.2f} in the backward pass, "
            f"{peak_bytes(device) / 1e9:.2f} in AdamW",
            flush=True,
        )
    ceiling = measure_ceiling(device, torch.bfloat16).matmul
    print(
        f"{flops / 1e12:.2f} TFLOP of the model a step; ceiling {ceiling / 1e12:.2f} TFLOP/s; "
        f"utilisation {flops / seconds / ceiling:.1%}"
    )


if __name__ == "__main__":
    main()
