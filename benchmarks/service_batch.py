"""What a batch gains: edits of different photos in one pass of the model, against one after the other.

    python benchmarks/service_batch.py

Both ways alternate, and are compared by the CPU time that they take on a CPU (other work on the machine
does not count), by the clock elsewhere. Windows are encoded before, as in a session's second edit.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from lightningdrag import Drag, DragEditor, EditRequest
from lightningdrag.session import EditSession


def sessions(editor: DragEditor, count: int) -> list[EditSession]:
    """Photos of 512x512, each of its own."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [editor.open(np.kron(photo, np.ones((16, 16, 1), np.uint8))) for photo in coarse]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    editor = DragEditor.from_pretrained("builtin", device=arguments.device)
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter
    photos = sessions(editor, 16)
    requests = [EditRequest((Drag((150, 150 + 9 * k), (180, 150 + 9 * k)),), seed=k) for k in range(16)]

    def seconds(count: int, batch: int) -> float:
        start = clock()
        editor.run_many(photos[:count], requests[:count], batch=batch)
        return (clock() - start) / count

    seconds(16, 16)
    print(f"{torch.get_num_threads()} threads\n")
    print("| batch | an edit of it | an edit alone | gain |\n|---|---|---|---|")
    for batch in (2, 4, 8, 16):
        pairs = [(seconds(batch, batch), seconds(batch, 1)) for _ in range(arguments.rounds)]
        together, apart = np.median(pairs, axis=0)
        print(f"| {batch} | {together:.3f} s | {apart:.3f} s | {apart / together:.2f} x |")


if __name__ == "__main__":
    main()
