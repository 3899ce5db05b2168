"""Batches for training: pairs drawn by kind and by group, cropped in worker processes."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from lightningdrag.data import storage
from lightningdrag.data.shards import KINDS, DamagedSample, Dataset, Sample, open_shards
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.training.crops import Crop, collate, fixed_crop, make_crop
from lightningdrag.training.losses import Labels, to_device
from lightningdrag.training.recipe import Recipe

LARGEST_WEIGHT = 0.2
"""Pairs that move further than this share of the short side are drawn no more often for it."""
PREFETCH = 4
"""Batches that a worker holds ready."""
MEASURED = 8
"""Pairs of each kind that are opened to see whether the dataset is large enough for the crops."""
MOST_DRAWS = 1000
"""Pairs that one example may try: by then the dataset has hardly any that will do."""


@dataclass(frozen=True)
class Example:
    """A crop, its number in the run, and the pair that it was cut from."""

    number: int
    pair: str
    crop: Crop


@dataclass(frozen=True)
class Batch:
    """Examples, stacked.

    Attributes:
        drags: sources, masks and points, as the built-in model takes them.
        labels: the truth.
        numbers: of the examples.
        pairs: names of the stored pairs.
    """

    drags: DragBatch
    labels: Labels
    numbers: list[int]
    pairs: list[str]

    def to(self, device: torch.device) -> Batch:
        """The same with its tensors on a device."""
        return Batch(to_device(self.drags, device), to_device(self.labels, device), self.numbers, self.pairs)

    def with_points(self, shown: Tensor) -> DragBatch:
        """The edits; ``shown``, ``(B,)`` bool, is False for those whose points are hidden."""
        drags = self.drags
        valid = drags.valid * shown[:, None]
        return DragBatch(drags.source, drags.mask, drags.handles, drags.targets, valid, drags.anchors)


class Mixture(TorchDataset[Example]):
    """An endless numbered list of examples; each follows from its number and the recipe's seed alone.

    A kind is drawn by its share, then a group of like scenes in proportion to its pairs, of which
    preparing has bounded the number, then a pair of it in proportion to its motion: video moves little
    from frame to frame, and people drag far.

    Args:
        data: a prepared dataset's folder.
        size: side of the crops in pixels. Pairs smaller than it are passed over, and damaged ones.
        shards: the dataset's files to draw from; None takes all that are finished now.

    Raises:
        ValueError: the dataset has no pairs of a kind or licence, or none large enough.
    """

    def __init__(self, data: str, recipe: Recipe, size: int, shards: Sequence[str] | None = None) -> None:
        self.recipe = recipe
        self.size = size
        self.datasets: dict[str, Dataset] = {}
        self.members: dict[str, list[list[int]]] = {}
        self.sizes: dict[str, np.ndarray] = {}
        for kind in KINDS:
            if not any(share > 0 for name, share in recipe.mixture.items() if stored_kind(name) == kind):
                continue
            dataset = open_shards(data, "train", [kind], recipe.licences or None, shards)
            groups = defaultdict(list)
            for i, group in enumerate(dataset.groups):
                groups[group].append(i)
            _check_size(dataset, f"{kind} pairs of {data}", recipe)
            self.datasets[kind] = dataset
            self.members[kind] = list(groups.values())
            self.sizes[kind] = np.array([len(group) for group in groups.values()]) / len(dataset)

    def __getitem__(self, number: int) -> Example:
        rng = np.random.default_rng((self.recipe.seed, number))
        names = list(self.recipe.mixture)
        share = np.array([self.recipe.mixture[name] for name in names])
        reason = ""
        for _ in range(MOST_DRAWS):  # a few are damaged, too small or hold no motion inside any crop
            name = names[rng.choice(len(names), p=share / share.sum())]
            kind = stored_kind(name)
            dataset, groups = self.datasets[kind], self.members[kind]
            group = groups[rng.choice(len(groups), p=self.sizes[kind])]
            weight = dataset.motions[group].clip(max=LARGEST_WEIGHT).astype(np.float64)
            sample = read_whole(dataset, int(rng.choice(group, p=weight / weight.sum())))
            if sample is None:
                reason = "it is damaged"
                continue
            try:
                crop = make_crop(sample, self.size, rng, identity=name == "identity")
            except ValueError as error:
                reason = str(error)
                continue
            return Example(number, pair_name(sample), crop)
        raise ValueError(f"{MOST_DRAWS} pairs in a row gave no crop of {self.size} px; of the last, {reason}")


@dataclass(frozen=True)
class Share:
    """The sample numbers of each micro-batch that one of several processes takes, in order.

    Attributes:
        start, end: sample numbers, from the first up to before the last.
        micro: samples of a micro-batch.
        process, processes: this one, of how many.
    """

    start: int
    end: int
    micro: int
    process: int = 0
    processes: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(self.start + self.process * self.micro, self.end, self.processes * self.micro):
            yield list(range(first, first + self.micro))


def stored_kind(name: str) -> str:
    """The kind of shard that a share of the mixture draws from."""
    return "video" if name == "identity" else name


def pair_name(sample: Sample) -> str:
    """Kind, clip and frames of a stored pair, for people."""
    meta = sample.meta
    return f"{meta['kind']} {meta['clip']} {'-'.join(str(frame) for frame in meta['frames'])}"


def stack(examples: list[Example]) -> Batch:
    """Examples of one size as a batch."""
    drags, labels = collate([example.crop for example in examples])
    return Batch(drags, labels, [e.number for e in examples], [e.pair for e in examples])


def read_whole(dataset: Dataset, index: int) -> Sample | None:
    """A sample; None, with a warning that names its clip, if it is damaged.

    Raises:
        OSError: it could not be read, however often.
    """
    try:
        for wait in storage.WAITS:
            with suppress(OSError):
                return dataset.read(index)
            time.sleep(wait)
        return dataset.read(index)
    except DamagedSample as error:
        warnings.warn(f"passed over: {error}", stacklevel=2)
        return None


def batches(
    data: str, recipe: Recipe, size: int, share: Share, shards: Sequence[str] | None = None
) -> Iterator[Batch]:
    """Stream micro-batches of ``size`` crops through ``recipe.workers`` processes.

    Raises:
        ValueError: as :class:`Mixture` does.
    """
    workers = recipe.workers
    # Closed when this process ends, in whatever way: the workers' sign to end, too.
    end, held = multiprocessing.Pipe(duplex=False)
    atexit.register(held.close)
    return iter(
        DataLoader(
            Mixture(data, recipe, size, shards),
            batch_sampler=share,
            collate_fn=stack,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            # Spawned, not forked: OpenCV's threads do not survive a fork.
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=partial(_begin_worker, end),
            pin_memory=False,
        )
    )


def validation_batches(
    data: str, size: int, count: int, micro: int, shards: Sequence[str] | None = None
) -> list[Batch]:
    """The same ``count`` dev crops every time, spread over the dev split.

    Raises:
        ValueError: there is none.
    """
    dataset = open_shards(data, "dev", ["video"], only=shards)
    examples = []
    for i in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int):
        sample = read_whole(dataset, int(i))
        if sample is None:
            continue
        try:
            examples.append(Example(int(i), pair_name(sample), fixed_crop(sample, size)))
        except ValueError:  # a drag longer than the crop, or a picture smaller
            continue
    if not examples:
        raise ValueError(f"no dev pair of {data} holds a crop of {size} px")
    return [stack(examples[i : i + micro]) for i in range(0, len(examples), micro)]


def _check_size(dataset: Dataset, name: str, recipe: Recipe) -> None:
    """Refuse a dataset whose pictures are too small for the crops that the run will come to."""
    largest = max(recipe.size, recipe.large_size)
    some = np.linspace(0, len(dataset) - 1, min(MEASURED, len(dataset))).round().astype(int)
    sizes = [min(sample.mask.shape) for i in some if (sample := read_whole(dataset, int(i)))]
    if not sizes:
        raise ValueError(f"of the {name}, the {len(some)} that were opened are all damaged")
    short = max(sizes)
    if short < largest:
        raise ValueError(
            f"the {name} measure {short} px on the short side, too few for crops of {largest} px; prepare "
            f"them with frames.short_side above {largest} from videos that have as many, or lower size or "
            "large_size"
        )


def _begin_worker(end: Connection, worker: int) -> None:
    """One thread, and deaf to the signals that stop a run: it saves first, and needs batches until then."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def follow() -> None:
        with suppress(EOFError):
            end.recv()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
