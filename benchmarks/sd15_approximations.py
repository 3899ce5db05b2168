"""What the named approximations save and cost at full size, with random weights, all in one process.

    python benchmarks/sd15_approximations.py [--threads 2] [--steps 8] [--size 512]
    python benchmarks/sd15_approximations.py --calls [--threads 2]     # single calls, a minute

Seconds are of an edit of a newly opened photo, and CPU seconds hold on a busy machine, too, with
``--threads 1``. How far a result is from the exact one is said as relative difference and PSNR inside the
mask. Random weights make no images: neither says much about the loss that people see with real ones, and
for the tiny decoder, which would have to be trained to agree with the VAE, nothing is said at all.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import nn

from lightningdrag import DragEditor, EditRequest
from lightningdrag.allocator import kept_memory
from lightningdrag.bench.measure import Stopwatch, network_times
from lightningdrag.bench.random_sd15 import random_network, random_sd15
from lightningdrag.bench.scene import edit_request, photo_bytes
from lightningdrag.models.deep_cache import DeepCache
from lightningdrag.models.sd15 import SD15Model
from sd15_layout import cpu_seconds, denoiser_calls, vae_calls

CPU = torch.device("cpu")
HEAD = ("approximation", "s", "CPU s", "denoiser, CPU s", "decoder, CPU s", "difference", "PSNR, dB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--calls", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.calls:
        print_calls()
        return

    pipeline = random_sd15(torch.bfloat16)
    exact, tiny = SD15Model(pipeline), SD15Model(pipeline, random_network(AutoencoderTiny, torch.bfloat16))
    photo, request = photo_bytes(args.size), edit_request(args.size, args.steps, 1, guidance=3.0)
    half = replace(request, guidance_schedule="first_half")
    few = replace(request, steps=args.steps // 2)
    edit(exact, photo, replace(request, steps=1))  # sets up memory and kernels

    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    reference, figures = edit(exact, photo, request)
    print_row("none: exact", figures)
    for name, model, asked in (
        (f"--steps {args.steps // 2}", exact, few),
        ("--schedule first_half", exact, half),
        ("--option tiny-decoder", tiny, request),
    ):
        image, figures = edit(model, photo, asked)
        print_row(name, figures, () if model is tiny else difference(image, reference, request))
    DeepCache(pipeline.unet)  # from here on
    for name, model, asked in (
        ("--option deep-cache", exact, request),
        ("deep-cache, first_half", exact, half),
        ("deep-cache, first_half, tiny-decoder", tiny, half),
    ):
        image, figures = edit(model, photo, asked)
        print_row(name, figures, () if model is tiny else difference(image, reference, request))


@torch.no_grad()
def print_calls() -> None:
    """CPU seconds of a second call of the denoiser and the decoder, exact and not."""
    print("| call | CPU s |\n|---|---|")
    vae, calls = vae_calls()
    tiny = random_network(AutoencoderTiny, torch.bfloat16)
    for network in (vae, tiny):
        nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
    latents = torch.randn(1, 4, 64, 64).to(torch.bfloat16)
    print(f"| VAE decoder | {cpu_seconds(calls['VAE decoder'], keep=True):.2f} |")
    print(f"| tiny decoder | {cpu_seconds(lambda: tiny.decode(latents), keep=True):.2f} |", flush=True)
    for branches in ("two branches", "one branch"):
        unet, calls = denoiser_calls(2 if branches == "two branches" else 1)
        unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        DeepCache(unet)
        with kept_memory():
            seconds = [cpu_seconds(calls["denoiser"], keep=True, warm=False) for _ in range(4)]
        print(f"| denoiser, {branches} | {seconds[2]:.2f} |")
        print(f"| denoiser, {branches}, deep features from the last step | {seconds[3]:.2f} |", flush=True)
        del unet, calls


def edit(model: SD15Model, photo: bytes, request: EditRequest) -> tuple[np.ndarray, list[float]]:
    """The image, and seconds: wall, CPU, CPU of the denoiser, CPU of the decoder."""
    watch = Stopwatch(CPU, time.process_time)
    wall, cpu = time.perf_counter(), time.process_time()
    with network_times(model, watch):
        image = np.asarray(DragEditor(model).run(photo, request).image, np.float64)
    taken = [time.perf_counter() - wall, time.process_time() - cpu]
    return image, [*taken, watch.seconds["denoiser"], watch.seconds["VAE decoder"]]


def difference(image: np.ndarray, exact: np.ndarray, request: EditRequest) -> list[float]:
    """Relative L2 difference, and PSNR, of two images inside the mask."""
    error, levels = ((array)[request.mask] for array in (image - exact, exact))
    mean_square = float(np.mean(error**2))
    return [float(np.linalg.norm(error) / np.linalg.norm(levels)), 10 * np.log10(255**2 / mean_square)]


def print_row(name: str, seconds: list[float], quality: list[float] | tuple[()] = ()) -> None:
    cells = [f"{value:.1f}" for value in seconds]
    cells += [f"{quality[0]:.3f}", f"{quality[1]:.1f}"] if quality else ["", ""]
    print(f"| {' | '.join([name, *cells])} |", flush=True)


if __name__ == "__main__":
    main()
