"""A dataset as a stream for training: shuffled, split over ranks and workers, resumable."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from lightningdrag.data.shards import Dataset, Sample


class Stream(IterableDataset[Sample]):
    """One epoch of a dataset in an order that depends on ``seed`` and :attr:`epoch` alone.

    Every rank gets as many samples as every other; up to ``world - 1`` are left out of an epoch. The
    workers of a ``DataLoader`` take turns of ``batch`` samples: with ``batch`` as its ``batch_size`` the
    loader gives the same batches however many workers it has, and ``skip = n * batch`` goes on after n of
    them.

    Attributes:
        epoch: which shuffle; set it before each pass.
        skip: samples of this epoch that this rank has already had; set it to resume.
    """

    def __init__(self, dataset: Dataset, seed: int, rank: int, world: int, batch: int) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank}; it must be at least 0 and below world, which is {world}")
        self.dataset = dataset
        self.seed = seed
        self.rank = rank
        self.world = world
        self.batch = batch
        self.epoch = 0
        self.skip = 0

    def order(self) -> np.ndarray:
        """Indices into the dataset, in the order in which this rank gets them in this epoch."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset))
        return order[: len(order) // self.world * self.world][self.rank :: self.world]

    def __len__(self) -> int:
        """Samples of this rank that are left in this epoch."""
        return max(0, len(self.dataset) // self.world - self.skip)

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        first, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, index in enumerate(self.order()[self.skip :]):
            if number // self.batch % workers == first:
                yield self.dataset.read(int(index))
