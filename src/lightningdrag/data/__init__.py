"""Training data: from videos and photos to pairs, and reading them back."""

from __future__ import annotations

from lightningdrag.data.drawing import draw_drags, draw_mask
from lightningdrag.data.shards import Dataset, Sample, open_shards

__all__ = ["Dataset", "Sample", "draw_drags", "draw_mask", "open_shards"]
