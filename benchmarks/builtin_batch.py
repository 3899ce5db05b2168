"""What editing several photos in one pass of the built-in model saves.

    python benchmarks/builtin_batch.py

Edits eight made-up 512x512 photos whose windows are alike, with 1 to 3 points, one by one and 4 or 8 in a
pass, in turns, with one thread. Prints processor milliseconds an edit, photo in to photo out (median of the
turns), the ratio to one by one, and how far the results differ, in grey levels of 255.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import numpy as np
import torch

from lightningdrag import DragEditor
from lightningdrag.bench.scene import edit_request, photo_bytes
from lightningdrag.photo import open_photo

SIDE, PHOTOS, BATCHES = 512, 8, (1, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    editor = DragEditor.from_pretrained("builtin", device="cpu")
    pixels = open_photo(photo_bytes(SIDE)).pixels
    photos = [np.roll(pixels, 37 * i, (0, 1)) for i in range(PHOTOS)]
    requests = [edit_request(SIDE, None, 1, points=1 + i % 3) for i in range(PHOTOS)]

    spent: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    images: dict[int, np.ndarray] = {}
    for turn in range(arguments.turns + 1):
        for batch in BATCHES:
            start = time.process_time()
            results = editor.run_many(photos, requests, batch=batch)
            if turn:  # the first turn warms up
                spent[batch].append(1e3 * (time.process_time() - start) / PHOTOS)
            images[batch] = np.stack([np.asarray(result.image) for result in results]).astype(int)

    print(f"{'in a pass':>9}  {'ms an edit':>10}  {'ratio':>5}  {'mean difference':>15}  {'largest':>7}")
    alone = statistics.median(spent[1])
    for batch, times in spent.items():
        middle, difference = statistics.median(times), np.abs(images[batch] - images[1])
        print(
            f"{batch:>9}  {middle:>10.1f}  {alone / middle:>5.2f}  "
            f"{difference.mean():>15.4f}  {difference.max():>7}"
        )


if __name__ == "__main__":
    main()
