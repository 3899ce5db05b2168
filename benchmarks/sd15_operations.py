"""What one edit by the paper's model has to compute and to read, and the least time that takes here.

    python benchmarks/sd15_operations.py [--size 512] [--steps 8] [--threads 2]

Operations are counted on tensors without data, so nothing is computed but the machine's ceilings. The
floor is each kind of operation at the rate that plain torch calls reach here: what attention, convolutions
and matrix products cost alone, with all between them free.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from lightningdrag.bench.ceiling import Ceiling, measure_ceiling
from lightningdrag.bench.random_sd15 import UNET, VAE, VISION
from lightningdrag.models.appearance import AppearanceEncoder, record_references
from lightningdrag.models.attention import Conditioning, attention_blocks, install_processors
from lightningdrag.models.point_encoder import PointEncoder

ATTENTION = {"aten.bmm", "aten.baddbmm"}
"""What attention consists of on tensors without data; no other layer of these networks uses them."""


@dataclass(frozen=True)
class Work:
    """One call of a network: FLOPs by kind, and the number of its weights."""

    name: str
    operations: dict[str, int]
    weights: int


def count(name: str, network: nn.Module, call: Callable[[], object]) -> Work:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    operations = {"matmul": 0, "convolution": 0, "attention": 0}
    for operator, flops in counter.get_flop_counts()["Global"].items():
        kind = "attention" if str(operator) in ATTENTION else "matmul"
        operations["convolution" if "conv" in str(operator) else kind] += flops
    return Work(name, operations, sum(parameter.numel() for parameter in network.parameters()))


def denoiser(size: int, branches: int = 2) -> Work:
    """One call of the denoiser for a window of ``size`` x ``size``, all guidance branches together."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(in_channels=9, **UNET)
        install_processors(unet)
        blocks = [((size // 8 >> level) ** 2, width) for level, width in attention_blocks(unet)]
        seen = [torch.empty(1, tokens, width) for tokens, width in blocks]
        prompt = [(torch.empty(1, 4, width), torch.empty(1, 4, width)) for _, width in blocks]
        points = [(tokens, tokens) for tokens in seen]
        conditioning = Conditioning(seen, points, prompt, torch.empty(branches, 1, 1))
        latents = torch.empty(branches, 9, size // 8, size // 8)
        step, text = torch.empty(()), torch.empty(1, 77, 768)
    given = {"conditioning": conditioning}
    return count("denoiser", unet, lambda: unet(latents, step, text, cross_attention_kwargs=given))


def other_networks(size: int) -> Iterator[tuple[int, Work]]:
    """What else runs in an edit, and how often; the text encoder (0.02 TFLOP) is left out."""
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
        image, latents = torch.empty(1, 3, size, size), torch.empty(1, 4, size // 8, size // 8)
        appearance, text = AppearanceEncoder(in_channels=4, **UNET), torch.empty(1, 77, 768)
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION))
        pixels: Tensor = torch.empty(1, 3, 224, 224)
        levels, widths = (list(column) for column in zip(*attention_blocks(appearance), strict=True))
        points, maps = PointEncoder(16, levels, widths), torch.empty(1, 2, size, size)
    yield 2, count("VAE encoder", vae.encoder, lambda: vae.encoder(image))
    yield 1, count("CLIP", clip, lambda: clip(pixels))
    yield 1, count("appearance encoder", appearance, lambda: record_references(appearance, latents, text))
    yield 1, count("point encoder", points, lambda: points(maps))
    yield 1, count("VAE decoder", vae.decoder, lambda: vae.decoder(latents))


def row(calls: int, work: Work, ceiling: Ceiling) -> list[str]:
    kinds = [f"{calls * flops / 1e12:.2f}" for flops in work.operations.values()]
    return [
        work.name,
        str(calls),
        *kinds,
        f"{work.weights * 2 / 1e9:.2f}",
        f"{calls * floor(work, ceiling):.2f}",
    ]


def floor(work: Work, ceiling: Ceiling) -> float:
    """Seconds of a call: its operations, or reading its weights in 16 bits where that takes longer."""
    return max(ceiling.floor(work.operations), 2 * work.weights / ceiling.copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ceiling = measure_ceiling(torch.device("cpu"), torch.bfloat16)
    print(
        f"bfloat16, {args.threads} threads: {ceiling.matmul / 1e12:.2f} TFLOP/s in matrix products, "
        f"{ceiling.convolution / 1e12:.2f} in convolutions, {ceiling.attention / 1e12:.2f} in attention, "
        f"{ceiling.copy / 1e9:.1f} GB/s copied\n"
    )
    print("| part | calls | TFLOP in products | convolutions | attention | weights, GB | floor, s |")
    print("|---|---|---|---|---|---|---|")
    works = [(args.steps, denoiser(args.size)), *other_networks(args.size)]
    for calls, work in works:
        print(f"| {' | '.join(row(calls, work, ceiling))} |")
    total = sum(calls * sum(work.operations.values()) for calls, work in works)
    least = sum(calls * floor(work, ceiling) for calls, work in works)
    print(f"\none edit: {total / 1e12:.1f} TFLOP, at least {least:.1f} s")


if __name__ == "__main__":
    main()
