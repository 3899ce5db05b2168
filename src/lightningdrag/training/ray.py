"""The trainer on the workers of a Ray cluster, one process each, through Ray Train."""

from __future__ import annotations

from pathlib import Path

import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from lightningdrag.training.log import Record
from lightningdrag.training.loop import Trainer
from lightningdrag.training.recipe import Recipe, absolute, with_absolute_places
from lightningdrag.training.task import make_task


def train_on_ray(recipe: Recipe, data: str, out: Path, workers: int, resume: bool, threads: int = 0) -> None:
    """Train on ``workers`` processes, each with a GPU if the cluster has one for it.

    Ray sets the process group up, accelerate finds it, and the trainer is the same as everywhere. The
    run's folder and the data must be reachable from every worker under the same name. ``threads`` are those
    of each worker on a CPU; 0 leaves the choice to torch.
    """
    # Ray's workers stand in another directory.
    recipe, data, out = with_absolute_places(recipe), absolute(data), out.resolve()
    ray.init(ignore_reinit_error=True)
    use_gpu = ray.cluster_resources().get("GPU", 0) >= workers

    def work() -> None:
        if threads:
            torch.set_num_threads(threads)
        trainer = Trainer(make_task(recipe), data, out, report)
        if resume:
            trainer.resume()
        trainer.run()

    def report(record: Record) -> None:
        print("  ".join(f"{key} {value}" for key, value in record.items()), flush=True)

    TorchTrainer(
        work,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(name=out.name, storage_path=str(out / "ray")),
    ).fit()
