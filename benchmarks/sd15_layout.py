"""What layout and kept memory do for the VAE and the denoiser of SD 1.5, at full size, bfloat16, on the CPU.

    python benchmarks/sd15_layout.py [vae] [denoiser] [--threads 2]

Seconds of CPU time of one call, which hold on a busy machine, too, if ``--threads`` is 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from lightningdrag.allocator import kept_memory
from lightningdrag.bench.random_sd15 import UNET, VAE, random_network
from lightningdrag.models.attention import Conditioning, attention_blocks, install_processors

DTYPE = torch.bfloat16
Call = Callable[[], object]


def vae_calls() -> tuple[nn.Module, dict[str, Call]]:
    vae = random_network(lambda: AutoencoderKL(**VAE), DTYPE)
    image, latents = torch.rand(1, 3, 512, 512).to(DTYPE), torch.randn(1, 4, 64, 64).to(DTYPE)
    return vae, {"VAE encoder": lambda: vae.encode(image), "VAE decoder": lambda: vae.decode(latents)}


def denoiser_calls(branches: int = 2) -> tuple[nn.Module, dict[str, Call]]:
    unet = random_network(lambda: UNet2DConditionModel(in_channels=9, **UNET), DTYPE)
    install_processors(unet)

    def tokens(count: int, width: int) -> torch.Tensor:
        return torch.randn(1, count, width).to(DTYPE)

    blocks = [((64 >> level) ** 2, width) for level, width in attention_blocks(unet)]
    conditioning = Conditioning(
        references=[tokens(*block) for block in blocks],
        points=[(tokens(*block), tokens(*block)) for block in blocks],
        image_prompt=[(tokens(4, width), tokens(4, width)) for _, width in blocks],
        with_points=torch.arange(branches, dtype=DTYPE)[:, None, None],
    )
    latents, text = torch.randn(branches, 9, 64, 64).to(DTYPE), tokens(77, 768)
    given = {"conditioning": conditioning}
    return unet, {"denoiser": lambda: unet(latents, 500, text, cross_attention_kwargs=given)}


def cpu_seconds(call: Call, keep: bool, warm: bool = True) -> float:
    """Of a second call, if ``warm``; the first sets up kernels and memory."""
    with torch.no_grad(), kept_memory() if keep else nullcontext():
        if warm:
            call()
        start = time.process_time()
        call()
        return time.process_time() - start


def rows(network: nn.Module, calls: dict[str, Call]) -> Iterator[str]:
    seconds = {name: [cpu_seconds(call, keep) for keep in (False, True)] for name, call in calls.items()}
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, call in calls.items():
        seconds[name] += [cpu_seconds(call, keep) for keep in (False, True)]
        yield f"| {name} | " + " | ".join(f"{value:.2f}" for value in seconds[name]) + " |"


def main() -> None:
    makers = {"vae": vae_calls, "denoiser": denoiser_calls}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="vae|denoiser", help="default: both")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    if unknown := set(args.networks) - set(makers):
        parser.error(f"no network {min(unknown)!r}; there are {', '.join(makers)}")
    torch.set_num_threads(args.threads)
    print("| | as loaded | memory kept | channels last | both |\n|---|---|---|---|---|")
    for name in args.networks or makers:
        for row in rows(*makers[name]()):
            print(row, flush=True)


if __name__ == "__main__":
    main()
