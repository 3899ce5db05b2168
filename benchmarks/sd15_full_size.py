"""Time and memory of one edit by the SD 1.5 pipeline at its real size, with random weights.

    python benchmarks/sd15_full_size.py [--dtype bfloat16] [--steps 8] [--guidance 3.0] [--threads 2]

Nothing is downloaded: the configurations below are those of the released checkpoints. Beside the figures
stand those of the released code on a CPU (2 cores with AMX, bfloat16; 512x512, LCM, 8 steps, 1 candidate).
On a machine that is busy with other things, ``--threads 1`` and the CPU seconds tell most.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, LCMScheduler, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from lightningdrag.models.appearance import AppearanceEncoder
from lightningdrag.models.attention import attention_blocks
from lightningdrag.models.image_prompt import ImagePrompt
from lightningdrag.models.point_encoder import PointEncoder
from lightningdrag.pipeline import LightningDragPipeline

UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
VISION = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}
RELEASED = {"one edit": "57-66 s", "denoiser": "33-38 s", "peak memory": "6.6 GB"}


def two_word_tokenizer() -> CLIPTokenizer:
    """A tokenizer that knows the empty prompt, which is all that is ever asked."""
    words = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps(words))
        Path(folder, "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=77)


def build(dtype: torch.dtype) -> LightningDragPipeline:
    """The pipeline at the widths of SD 1.5, IP-Adapter with CLIP ViT-H, and e = 16."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)  # no float32 copy is ever made
    unet = UNet2DConditionModel(in_channels=9, **UNET)
    levels, widths = zip(*attention_blocks(unet), strict=True)
    pipeline = LightningDragPipeline(
        vae=AutoencoderKL(**VAE),
        text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT)),
        tokenizer=two_word_tokenizer(),
        image_encoder=CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
        image_prompt=ImagePrompt(1024, 768, list(widths)),
        appearance_encoder=AppearanceEncoder(in_channels=4, **UNET),
        point_encoder=PointEncoder(16, list(levels), list(widths)),
        unet=unet,
        scheduler=LCMScheduler(**SCHEDULE),
    )
    torch.set_default_dtype(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


class Stopwatch:
    """Calls of modules, their seconds, and the seconds that the process's threads computed meanwhile."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        for name, module in modules.items():
            module.register_forward_pre_hook(lambda *_, name=name: self._add(name, -1))
            module.register_forward_hook(lambda *_, name=name: self._add(name, 1))

    def _add(self, name: str, sign: int) -> None:
        self.seconds[name] += sign * time.perf_counter()
        self.cpu_seconds[name] += sign * time.process_time()
        self.calls[name] += sign > 0


def peak_memory() -> float:
    """GB that the process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32", "float16"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    pipeline = build(getattr(torch, args.dtype))
    parameters = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in pipeline.components.items()
        if isinstance(part, nn.Module)
    }
    for name, count in parameters.items():
        print(f"{name:20s} {count / 1e6:7.1f} M parameters")
    print(f"weights loaded: {peak_memory():.1f} GB\n")

    watch = Stopwatch(
        {
            "VAE encoder": pipeline.vae.encoder,
            "text encoder": pipeline.text_encoder,
            "CLIP": pipeline.image_encoder,
            "appearance encoder": pipeline.appearance_encoder,
            "point encoder": pipeline.point_encoder,
            "denoiser": pipeline.unet,
            "VAE decoder": pipeline.vae.decoder,
        }
    )
    rng = np.random.default_rng(0)
    mask = np.zeros((512, 512), bool)
    mask[150:400, 150:400] = True
    inputs: dict[str, Any] = {
        "image": rng.integers(0, 256, (512, 512, 3), dtype=np.uint8),
        "mask": mask,
        "handles": [(200, 200), (300, 300)],
        "targets": [(260, 220), (300, 300)],
    }
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    begin, cpu_begin = time.perf_counter(), time.process_time()
    pipeline(
        **inputs,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        generator=torch.Generator().manual_seed(0),
    )
    total, cpu_total = time.perf_counter() - begin, time.process_time() - cpu_begin

    print(f"512x512, LCM, {args.steps} steps, guidance {args.guidance:g}, 1 candidate, {args.dtype},")
    print(f"{args.threads} threads, load before the run {load:.1f}\n")
    print(f"{'':20s} {'':>3s} {'seconds':>9s} {'CPU s':>9s}    released code, 2 AMX cores")
    for name, seconds in watch.seconds.items():
        counted = f"{watch.calls[name]:3d} {seconds:9.2f} {watch.cpu_seconds[name]:9.2f}"
        print(f"{name:20s} {counted}    {RELEASED.get(name, '')}".rstrip())
    print(f"{'one edit':24s} {total:9.2f} {cpu_total:9.2f}    {RELEASED['one edit']}")
    print(f"{'peak memory':24s} {peak_memory():9.2f} GB           {RELEASED['peak memory']}")


if __name__ == "__main__":
    main()
