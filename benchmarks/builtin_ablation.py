"""The built-in model's choices at sampling time, each changed alone, on the held-out pairs: how good a result
is, and how four candidates differ.

python benchmarks/builtin_ablation.py --data prepared --limit 120
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lightningdrag import DragEditor
from lightningdrag.evaluation.baselines import EditorMethod, reference_warp
from lightningdrag.evaluation.columns import REFERENCE
from lightningdrag.evaluation.job import Job, Workshop
from lightningdrag.evaluation.report import build_report
from lightningdrag.evaluation.run import run
from lightningdrag.evaluation.tables import markdown
from lightningdrag.models.builtin import constraints, model, network, outlines, patch_fill
from lightningdrag.models.builtin.model import BuiltinModel

WITHOUT_PATCHES = {"FEW": 10**9}
WITHOUT_OUTLINES = {"LEAST_AREA": 10**9}

VARIANTS: dict[str, dict[str, Any]] = {
    "as it ships": {},
    "odds, not decisions (decisiveness 1)": {"DECISIVENESS": 1.0},
    "decisiveness 4": {"DECISIVENESS": 4.0},
    "paint at even odds (doubt 0)": {"DOUBT": 0.0},
    "doubt 1": {"DOUBT": 1.0},
    "doubt 3": {"DOUBT": 3.0},
    "weak holes, too (certain 2)": {"CERTAIN": 2.0},
    "certain 3": {"CERTAIN": 3.0},
    "certain 4.5": {"CERTAIN": 4.5},
    "certain 5": {"CERTAIN": 5.0},
    "certain 6": {"CERTAIN": 6.0},
    "doubt 1, certain 3": {"DOUBT": 1.0, "CERTAIN": 3.0},
    "paint nothing": {"DOUBT": 100.0, **WITHOUT_OUTLINES},
    "fills without patches": WITHOUT_PATCHES,
    "fills without patches, certain 3": {**WITHOUT_PATCHES, "CERTAIN": 3.0},
    "outlines as the network has them": WITHOUT_OUTLINES,
    "outlines where displacement changes by 2": {"STEEP": 2.0},
    "outlines where it changes by 0.7": {"STEEP": 0.7},
    "candidates free at targets": {"AGREE": 1e-3},
    "candidates agree further": {"AGREE": 0.1},
    "noise nearer to targets": {"CALM": 0.09},
    "noise further from targets": {"CALM": 0.15},
    "candidates' temperature 4": {"candidate_temperature": 4.0},
    "two steps": {"default_steps": 2},
    "motion noise 0.3": {"default_temperature": 0.3},
    "motion noise 1": {"default_temperature": 1.0},
    "window of 192 x 192": {"working_area": 192 * 192},
    "window of 320 x 320": {"working_area": 320 * 320},
}

OPTIONS: dict[str, dict[str, Any]] = {
    "drags split at 15 px": {"max_step": 15.0},
    "drags split at 30 px": {"max_step": 30.0},
}
"""Variants of how an edit is asked for."""
PLACES = (constraints, network, model, outlines, patch_fill, BuiltinModel)
"""Where the constants are."""


@dataclass(frozen=True)
class Variant:
    """The editor with some of the model's constants changed, or other options."""

    editor: DragEditor
    changes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
    ) -> np.ndarray:
        with changed(PLACES, self.changes):
            return EditorMethod(self.editor, self.options)(source, handles, targets, mask, seed)

    def candidates(self, *asked: Any) -> list[np.ndarray]:
        with changed(PLACES, self.changes):
            return EditorMethod(self.editor, self.options).candidates(*asked)


@contextmanager
def changed(places: tuple[ModuleType | type, ...], changes: Mapping[str, Any]) -> Iterator[None]:
    """Set names wherever they are defined, and set them back."""
    before = [
        (place, name, getattr(place, name)) for place in places for name in changes if hasattr(place, name)
    ]
    for place, name, _ in before:
        setattr(place, name, changes[name])
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared dataset")
    parser.add_argument("--limit", type=int, help="at most this many pairs")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--only", choices=[*VARIANTS, *OPTIONS], nargs="+", help="some rows")
    arguments = parser.parse_args()
    editor = DragEditor.from_pretrained(arguments.model)
    shop = Workshop(Job("pairs", str(arguments.data), limit=arguments.limit))
    shop.methods = {REFERENCE: reference_warp}
    for name in arguments.only or [*VARIANTS, *OPTIONS]:
        shop.methods[name] = Variant(editor, VARIANTS.get(name, {}), OPTIONS.get(name, {}))
    outcomes = run(shop, range(len(shop.cases)))
    scores = [outcome.scores for outcome in outcomes if outcome.scores is not None]
    print(markdown(build_report(scores, {"benchmark": "pairs", "command": "builtin_ablation"})))


if __name__ == "__main__":
    main()
