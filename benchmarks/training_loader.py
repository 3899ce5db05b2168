"""Does the loader keep up with the step? Time spent waiting for batches, beside the time spent on them.

    python benchmarks/training_loader.py RECIPE --data prepared [--workers 0,1,2] [--steps 20] [key=value ...]

Both sides are measured in one run, so that a busy machine slows both; CPU seconds a sample, which other
programs change little, say how many workers a device that is k times as fast as this one wants.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from lightningdrag.training.loader import Mixture, Share, batches, stack
from lightningdrag.training.loop import micro_batch
from lightningdrag.training.recipe import load_recipe
from lightningdrag.training.task import make_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--workers", default="0,1,2", help='of each run; "" for the loader alone')
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("overrides", nargs="*", help="recipe fields, as key=value")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(arguments.threads)
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, micro = make_task(recipe).to(device), micro_batch(recipe, 1)

    mixture = Mixture(arguments.data, recipe, recipe.size)
    mixture[0]  # which opens the shards
    begun, begun_cpu = time.perf_counter(), time.process_time()
    for i in range(arguments.steps):
        stack([mixture[micro * i + k] for k in range(micro)])
    made, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    print(f"{device}, {arguments.threads} threads, {recipe.size} px, micro-batches of {micro}")
    scale = 1000 / (arguments.steps * micro)
    print(f"reading, decoding and cropping: {scale * made:.1f} ms a sample, {scale * cpu:.1f} of CPU")

    for workers in map(int, filter(None, arguments.workers.split(","))):
        share = Share(0, (arguments.steps + 1) * micro, micro)
        stream = batches(arguments.data, replace(recipe, workers=workers), recipe.size, share)
        waited = worked = cpu = 0.0
        for i in range(arguments.steps + 1):
            start = time.perf_counter()
            batch = next(stream).to(device)
            middle, cpu_middle = time.perf_counter(), time.process_time()
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = task(batch)["loss"]
            loss.backward()
            float(loss.detach())  # waits for the device
            if i:  # the first one waits for the workers to start
                waited += middle - start
                worked += time.perf_counter() - middle
                cpu += time.process_time() - cpu_middle
        count = arguments.steps * micro
        print(
            f"{workers} workers: {1000 * worked / count:.1f} ms a sample in the step "
            f"({1000 * cpu / count:.1f} of CPU), {1000 * waited / count:.1f} ms waiting "
            f"({waited / (waited + worked):.1%} of the time)"
        )


if __name__ == "__main__":
    main()
