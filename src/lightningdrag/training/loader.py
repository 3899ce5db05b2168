"""Batches for training: pairs drawn by kind and by group, cropped in worker processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightningdrag.data.shards import KINDS, Dataset, open_shards
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.training.crops import Crop, collate, fixed_crop, make_crop
from lightningdrag.training.losses import Labels
from lightningdrag.training.recipe import Recipe

LARGEST_WEIGHT = 0.2
"""Pairs that move further than this share of the short side are drawn no more often for it."""

Batch = tuple[DragBatch, Labels]


class Mixture(IterableDataset[Batch]):
    """An endless stream of batches.

    A kind is drawn by its share, then a group of like scenes, so that a scene filmed many times counts
    like one filmed once, then a pair of it, in proportion to its motion: video moves little from frame to
    frame, and people drag far.

    Args:
        start: number of batches already seen; a resumed run continues with fresh draws from there.
    """

    def __init__(self, folder: Path, recipe: Recipe, size: int, start: int = 0) -> None:
        self.recipe = recipe
        self.size = size
        self.start = start
        self.datasets: dict[str, Dataset] = {}
        self.members: dict[str, list[list[int]]] = {}
        for kind in KINDS:
            if not any(share > 0 for name, share in recipe.mixture.items() if stored_kind(name) == kind):
                continue
            dataset = open_shards(folder, "train", [kind], recipe.licences or None)
            groups = defaultdict(list)
            for i, group in enumerate(dataset.groups):
                groups[group].append(i)
            if not groups:
                raise ValueError(f"no {kind} pair of {folder} is under a licence of {recipe.licences}")
            self.datasets[kind] = dataset
            self.members[kind] = list(groups.values())

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        cv2.setNumThreads(1)
        number = self.start + first
        while True:
            rng = np.random.default_rng((self.recipe.seed, number))
            yield collate([self._crop(rng) for _ in range(self.recipe.batch)])
            number += stride

    def _crop(self, rng: np.random.Generator) -> Crop:
        names = list(self.recipe.mixture)
        share = np.array([self.recipe.mixture[name] for name in names])
        while True:  # a few pairs hold no motion inside any crop: draw another
            name = names[rng.choice(len(names), p=share / share.sum())]
            kind = stored_kind(name)
            dataset, group = self.datasets[kind], self.members[kind][rng.integers(len(self.members[kind]))]
            weight = dataset.motions[group].clip(max=LARGEST_WEIGHT).astype(np.float64)
            sample = dataset.read(int(rng.choice(group, p=weight / weight.sum())))
            try:
                return make_crop(sample, self.size, rng, identity=name == "identity")
            except ValueError:
                continue


def stored_kind(name: str) -> str:
    """The kind of shard that a share of the mixture draws from."""
    return "video" if name == "identity" else name


def batches(folder: Path, recipe: Recipe, size: int, start: int) -> Iterator[Batch]:
    """Stream batches of ``size`` crops through ``recipe.workers`` processes."""
    mixture = Mixture(folder, recipe, size, start)
    if recipe.workers == 0:
        return iter(mixture)
    # Spawned, not forked: OpenCV's threads do not survive a fork.
    return iter(
        DataLoader(
            mixture,
            batch_size=None,
            num_workers=recipe.workers,
            prefetch_factor=4,
            multiprocessing_context="spawn",
        )
    )


def validation_batches(folder: Path, size: int, count: int, batch: int) -> list[Batch]:
    """The same ``count`` dev crops every time, spread over the dev split."""
    dataset = open_shards(folder, "dev", ["video"])
    crops = []
    for i in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int):
        try:
            crops.append(fixed_crop(dataset.read(int(i)), size))
        except ValueError:  # a drag longer than the crop
            continue
    return [collate(crops[i : i + batch]) for i in range(0, len(crops), batch)]
