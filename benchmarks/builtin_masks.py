"""What an edit without a mask comes to, by how far derived masks reach: held-out pairs of which only the
drags are given. PSNR is taken in the mask that the pair has, strata as in the report; "elsewhere" is how far
what stands still within a fifth of the short side around that mask was changed, in grey levels.

python benchmarks/builtin_masks.py --data dev --limit 120
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from builtin_ablation import changed
from lightningdrag import DragEditor, masks
from lightningdrag.data.drawing import STRATA, bin_of
from lightningdrag.evaluation.case import Case
from lightningdrag.evaluation.metrics import mean_in, psnr
from lightningdrag.evaluation.pairs import PairSet

REACHES = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
STILL = 12
"""Grey levels below which a channel of a pixel has not changed in the true second frame."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared dataset")
    parser.add_argument("--limit", type=int, help="at most this many pairs")
    parser.add_argument("--models", default=["builtin"], nargs="+", help="names or weight files")
    arguments = parser.parse_args()
    cases = PairSet(arguments.data, limit=arguments.limit)
    print(f"| mask | {' | '.join(['average', *STRATA])} | elsewhere |\n|---|{'---|' * (2 + len(STRATA))}")
    for name in arguments.models:
        editor = DragEditor.from_pretrained(name)
        print(row(f"{name}: as drawn", editor, cases))
        for reach in REACHES:
            print(row(f"{name}: derived, {reach}", editor, cases, {"REACH_OF_SIDE": reach}), flush=True)


def row(name: str, editor: DragEditor, cases: PairSet, reach: Mapping[str, float] | None = None) -> str:
    """A row of the table; ``reach`` changes constants of derived masks, None keeps the pairs' own masks."""
    with changed((masks,), reach or {}):
        scores = [score(editor, cases[index], reach is None) for index in range(len(cases))]
    means = [np.mean([decibels for stratum, decibels, _ in scores if stratum == each]) for each in STRATA]
    elsewhere = np.nanmean([strayed for _, _, strayed in scores])
    return f"| {name} | {' | '.join(f'{mean:.2f}' for mean in [np.mean(means), *means])} | {elsewhere:.2f} |"


def score(editor: DragEditor, case: Case, drawn: bool) -> tuple[str, float, float]:
    """Stratum, PSNR in the pair's mask, and the mean change of what stands still around it."""
    assert case.truth is not None  # pairs have one
    drags = list(zip(case.handles.tolist(), case.targets.tolist(), strict=True))
    result = np.asarray(editor.edit(case.source, drags, case.mask if drawn else None, seed=0).image)
    size = 2 * round(0.2 * min(case.mask.shape)) + 1
    near = cv2.dilate(case.mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    beside = cv2.dilate(case.mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    still = np.abs(case.truth.astype(int) - case.source).max(2) < STILL
    change = np.abs(result.astype(int) - case.source).mean(2)
    return (
        bin_of(case.motion, STRATA),
        psnr(result, case.truth, case.mask),
        mean_in(change, near & beside & still),
    )


if __name__ == "__main__":
    main()
