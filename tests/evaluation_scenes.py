"""Scenes whose motion is known, as cases and as a prepared dataset, for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lightningdrag.data.pairs import FramePair
from lightningdrag.data.shards import encode_sample, write_index, write_shard
from lightningdrag.evaluation.baselines import reference_warp
from lightningdrag.evaluation.case import Case

HEIGHT, WIDTH, RADIUS = 96, 128, 14
CENTRE = (50, 48)


def texture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip(128 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def disc(x: float, y: float, radius: float = RADIUS) -> np.ndarray:
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return np.hypot(columns - x, rows - y) <= radius


def scene(drag: tuple[int, int], seed: int = 0) -> Case:
    """A textured disc that moves by ``drag`` before a textured background."""
    background, mover = texture(seed), texture(seed + 1000)
    x, y = CENTRE
    before, after = disc(x, y), disc(x + drag[0], y + drag[1])
    moved = np.roll(mover, (drag[1], drag[0]), (0, 1))
    return Case(
        name=f"scene {seed}",
        group=f"group {seed % 3}",
        source=np.where(before[..., None], mover, background),
        truth=np.where(after[..., None], moved, background),
        mask=disc(x + drag[0] / 2, y + drag[1] / 2, RADIUS + np.hypot(*drag) / 2 + 8),
        handles=np.array([[x, y]], np.float32),
        targets=np.array([[x + drag[0], y + drag[1]]], np.float32),
        uncovered=before & ~after,
    )


def prepared(folder: Path, drags: list[tuple[int, int]], split: str = "dev") -> Path:
    """The scenes as a prepared dataset on disk."""
    samples = []
    for seed, drag in enumerate(drags):
        case = scene(drag, seed)
        assert case.truth is not None
        assert case.uncovered is not None
        still = np.zeros((2, HEIGHT // 2, WIDTH // 2), np.float32)
        state = np.ones((HEIGHT // 2, WIDTH // 2), np.uint8)
        state[case.uncovered[::2, ::2]] = 0
        moving = np.ones_like(state)
        frames = FramePair(case.source, case.truth, still, still, np.ones_like(state), state, moving)
        meta = {
            "kind": "video",
            "clip": case.name,
            "group": case.group,
            "licence": "CC0-1.0",
            "source": "made here",
            "frames": [0, 1],
            "camera": "static",
            "handles": case.handles.tolist(),
            "targets": case.targets.tolist(),
            "motion": case.motion,
            "mask_share": float(case.mask.mean()),
            "split": split,
        }
        samples.append(encode_sample(frames, case.mask, meta))
    folder.mkdir(parents=True)
    name = f"{split}-video-00000"
    shard = {"file": f"{name}.tar", "split": split, "kind": "video", "samples": len(samples)}
    write_index(str(folder), [{**shard, "sha256": write_shard(str(folder), name, samples)}])
    return folder


class JitteredWarp:
    """The reference warp with noise of two grey levels in the mask: a method with candidates."""

    def __call__(
        self, source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
    ) -> np.ndarray:
        warped = reference_warp(source, handles, targets, mask, seed).astype(np.float64)
        noise = np.random.default_rng(seed).normal(0, 2, warped.shape)
        return np.clip(warped + noise * mask[..., None], 0, 255).round().astype(np.uint8)

    def candidates(
        self,
        source: np.ndarray,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray,
        seed: int,
        count: int,
    ) -> list[np.ndarray]:
        return [self(source, handles, targets, mask, seed + i) for i in range(count)]


DRAGS = [(2, 1), (3, 0), (0, 6), (8, 2), (16, 0), (14, 9)]
