"""What batching could gain: candidates of one edit in one call, against as many calls.

    python benchmarks/service_batch.py

Candidates share the encoded window, so this is the most that a batch of different edits could save. Rounds
of both ways alternate, and ratios are of their medians.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from lightningdrag import DragEditor
from lightningdrag.editor import EditSession


def seconds(session: EditSession, candidates: int, calls: int) -> float:
    start = time.perf_counter()
    for seed in range(calls):
        session.edit([((150, 150), (180, 150))], num_images=candidates, seed=seed)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    photo = np.kron(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
    session = DragEditor.from_pretrained("builtin", device=arguments.device).open(photo)
    seconds(session, 8, 1)
    print(
        f"{torch.get_num_threads()} threads\n\n| batch | one call | as many calls | gain |\n|---|---|---|---|"
    )
    for batch in (2, 4, 8):
        pairs = [(seconds(session, batch, 1), seconds(session, 1, batch)) for _ in range(arguments.rounds)]
        together, apart = np.median(pairs, axis=0)
        print(f"| {batch} | {together:.2f} s | {apart:.2f} s | {apart / together:.2f} x |")


if __name__ == "__main__":
    main()
