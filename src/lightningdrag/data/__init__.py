"""Training data: from videos and photos to pairs, and reading them back."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from lightningdrag.data.drawing import draw_drags, draw_mask
from lightningdrag.data.shards import KINDS, Dataset, Sample, open_shards

if TYPE_CHECKING:
    from lightningdrag.data.stream import Stream

__all__ = ["Dataset", "Sample", "draw_drags", "draw_mask", "open", "open_shards"]


def open(
    folder: str | Path,
    split: str = "train",
    kinds: Collection[str] = KINDS,
    licences: Collection[str] | None = None,
    *,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    batch: int = 1,
) -> Stream:
    """Stream a prepared dataset, shuffled; ``open_shards`` gives random access instead.

    Args:
        folder, split, kinds, licences: as for :func:`open_shards`, which tells the errors, too.
        seed: of the shuffle.
        rank, world: which part of how many processes this is.
        batch: samples in a batch, which is what workers of a ``DataLoader`` take turns by.
    """
    from lightningdrag.data.stream import Stream  # brings torch, which preparing does without

    return Stream(open_shards(folder, split, kinds, licences), seed, rank, world, batch)
