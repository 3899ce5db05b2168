"""A tiny dataset with exact truth: textured squares that move over a textured background."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lightningdrag.data.drawing import draw_drags, draw_mask
from lightningdrag.data.pairs import FramePair
from lightningdrag.data.shards import encode_sample, write_index, write_shard

SIDE = 160


def texture(rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    """``(SIDE, SIDE, 3)`` uint8, smooth enough to survive scaling."""
    cells = rng.integers(low, high, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    return cv2.resize(cells, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def moving_square(rng: np.random.Generator) -> FramePair:
    """One square of 48 px, moved by up to 32 px."""
    background, thing = texture(rng, 0, 110), texture(rng, 130, 255)[:48, :48]
    start = rng.integers(8, (SIDE - 96) // 2, 2) * 2  # even: the motion grid has stride 2
    shift = rng.integers(4, 17, 2) * 2 * rng.choice((-1, 1), 2)
    end = np.clip(start + shift, 0, SIDE - 48)
    frames, inside = [], []
    for x, y in (start, end):
        frame = background.copy()
        frame[y : y + 48, x : x + 48] = thing
        here = np.zeros((SIDE, SIDE), bool)
        here[y : y + 48, x : x + 48] = True
        frames.append(frame)
        inside.append(here[::2, ::2])
    motion = (end - start).astype(np.float32)
    fields = [
        np.where(here, sign * motion[:, None, None], 0) for here, sign in zip(inside, (1, -1), strict=True)
    ]
    states = [np.where(other & ~here, 0, 1).astype(np.uint8) for here, other in (inside, inside[::-1])]
    return FramePair(
        frames[0],
        frames[1],
        fields[0].astype(np.float32),
        fields[1].astype(np.float32),
        states[0],
        states[1],
        (inside[0] | inside[1]).astype(np.uint8),
    )


def write_dataset(folder: Path, count: int = 12) -> Path:
    """``count`` training and four dev pairs, each a clip and group of its own."""
    rng = np.random.default_rng(0)
    samples: dict[str, list[dict[str, bytes]]] = {"train": [], "dev": []}
    for i in range(count + 4):
        pair = moving_square(rng)
        handles, targets = draw_drags(pair.forward, pair.forward_state, pair.moving, rng)
        mask = draw_mask(pair.moving, handles, targets, rng)
        split = "train" if i < count else "dev"
        meta = {
            "kind": "video",
            "clip": f"clip{i}",
            "group": f"group{i}",
            "licence": "CC0-1.0",
            "source": "made here",
            "frames": [0, 1],
            "camera": "static",
            "handles": handles.tolist(),
            "targets": targets.tolist(),
            "motion": float(np.linalg.norm(targets - handles, axis=-1).mean() / SIDE),
            "mask_share": float(mask.mean()),
            "split": split,
        }
        samples[split].append(encode_sample(pair, mask, meta))
    shards = []
    for split, members in samples.items():
        name = f"{split}-video-00000"
        facts = {"file": f"{name}.tar", "split": split, "kind": "video", "samples": len(members)}
        shards.append({**facts, "sha256": write_shard(str(folder), name, members)})
    write_index(str(folder), shards)
    return folder
