"""What an edit without a mask comes to, by where its mask is taken from: held-out pairs of which only drags
are given. PSNR is taken in the mask that the pair has, strata as in the report; "photo" is PSNR over all of
it; "elsewhere" is how far what stands still within a fifth of the short side around that mask was changed, in
grey levels.

python benchmarks/builtin_masks.py --data dev --stride 4 --drags 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from builtin_ablation import changed
from lightningdrag import Drag, DragEditor, masks
from lightningdrag.data.drawing import STRATA, bin_of
from lightningdrag.drag import as_drags
from lightningdrag.evaluation.case import Case
from lightningdrag.evaluation.metrics import mean_in, psnr
from lightningdrag.evaluation.pairs import PairSet
from lightningdrag.models.builtin import followers, things

Drags = tuple[Drag, ...]
Choice = Callable[[DragEditor, Case, Drags], np.ndarray | None]
STILL = 12
"""Grey levels below which a channel of a pixel has not changed in the true second frame."""


def derived(_: DragEditor, case: Case, drags: Drags, *, of_side: float = masks.REACH_OF_SIDE) -> np.ndarray:
    """From the drags alone, reaching so many short sides around a short one."""
    height, width = case.mask.shape
    with changed((masks,), {"REACH_OF_SIDE": of_side}):
        return masks.derive_mask(drags, width, height)


def found(editor: DragEditor, case: Case, drags: Drags, **constants: float) -> np.ndarray:
    """What follows the drags, as it ships or with other constants."""
    with changed((masks, followers, things), constants):
        return editor.open(case.source).mask_for(drags)


uncut = partial(found, LEAST_AREA=1.0)  # no thing is as large as the window
CHOICES: dict[str, Choice] = {
    "as drawn": lambda _, case, __: case.mask,
    "all of the photo": lambda _, case, __: np.ones_like(case.mask),
    "from the drags alone": derived,
    "the same, 30 % of the side": partial(derived, of_side=0.3),
    "the same, 45 % of the side": partial(derived, of_side=0.45),
    "what follows": found,
    "and companions and outlines: as it ships": lambda *_: None,
    "what follows, nothing cut out": uncut,
    "the same, what moves 6 %": partial(uncut, MOVES=0.06),
    "the same, what moves 25 %": partial(uncut, MOVES=0.25),
    "the same, less room around it, 4 %": partial(uncut, ROOM=0.04),
    "the same, more, 10 %": partial(uncut, ROOM=0.1),
    "the same, looked for within 30 % of the side": partial(uncut, FAR_OF_SIDE=0.3, FAR_OF_LENGTH=6.0),
    "the same, looked for within a short side": partial(uncut, FAR_OF_SIDE=9.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared dataset")
    parser.add_argument("--stride", type=int, default=1, help="take every so many-th pair")
    parser.add_argument("--drags", type=int, default=64, help="give at most this many of a pair's drags")
    parser.add_argument("--model", default="builtin", help="a name or a file of weights")
    parser.add_argument("--only", help="rows whose names hold this")
    arguments = parser.parse_args()
    pairs, editor = PairSet(arguments.data), DragEditor.from_pretrained(arguments.model)
    cases = range(0, len(pairs), arguments.stride)
    print(f"{len(cases)} pairs\n\n| mask | {' | '.join(['average', *STRATA])} | photo | elsewhere |")
    print(f"|---|{'---|' * (3 + len(STRATA))}")
    for name, choice in CHOICES.items():
        if arguments.only and arguments.only not in name:
            continue
        print(
            row(name, [score(editor, pairs[index], choice, arguments.drags) for index in cases]), flush=True
        )


def row(name: str, scores: list[tuple[str, float, float, float]]) -> str:
    """A row of the table."""
    means = [np.mean([decibels for stratum, decibels, *_ in scores if stratum == each]) for each in STRATA]
    photo = np.mean([score[2] for score in scores])
    elsewhere = np.nanmean([score[3] for score in scores])
    cells = [f"{mean:.2f}" for mean in (np.mean(means), *means, photo, elsewhere)]
    return f"| {name} | {' | '.join(cells)} |"


def score(editor: DragEditor, case: Case, choice: Choice, most: int) -> tuple[str, float, float, float]:
    """Stratum, PSNR in the pair's mask and over the photo, and how what stands still around it changed."""
    assert case.truth is not None  # pairs have one
    pairs = list(zip(case.handles.tolist(), case.targets.tolist(), strict=True))
    drags = as_drags(sorted(pairs, key=lambda ends: -float(np.hypot(*np.subtract(*ends))))[:most])
    mask = choice(editor, case, drags)
    result = np.asarray(editor.edit(case.source, drags, mask, seed=0).image)
    size = 2 * round(0.2 * min(case.mask.shape)) + 1
    near = cv2.dilate(case.mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    beside = cv2.dilate(case.mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    still = np.abs(case.truth.astype(int) - case.source).max(2) < STILL
    change = np.abs(result.astype(int) - case.source).mean(2)
    return (
        bin_of(case.motion, STRATA),
        psnr(result, case.truth, case.mask),
        psnr(result, case.truth, np.ones_like(case.mask)),
        mean_in(change, near & beside & still),
    )


if __name__ == "__main__":
    main()
