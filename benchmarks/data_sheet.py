"""Random pairs of a prepared dataset as contact sheets, to be looked at and judged.

    python benchmarks/data_sheet.py --data prepared --out sheets --pairs 200
    python benchmarks/data_sheet.py --data prepared --out sheets --pairs 200 --half 1

Beside each pair stand the surroundings of its handles, above those of their targets, enlarged. Groups of
scenes are drawn first, so that a scene filmed many times is seen no more often than others. The number on a
pair is its index in ``open_shards(DIR, split, kinds)``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lightningdrag.data import open_shards
from lightningdrag.data.shards import KINDS
from lightningdrag.data.sheets import draw_sheet, pick


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--per-sheet", type=int, default=6)
    parser.add_argument("--split", default="train")
    parser.add_argument("--kinds", nargs="+", default=["video"], choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", type=int, choices=(0, 1), help="only one half of the groups")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    dataset = open_shards(arguments.data, arguments.split, arguments.kinds)
    picked = pick(dataset, arguments.pairs, arguments.seed, arguments.half)
    for start in range(0, len(picked), arguments.per_sheet):
        sheet = draw_sheet(dataset, picked[start : start + arguments.per_sheet], 1, patches=True)
        sheet.save(arguments.out / f"sheet-{start // arguments.per_sheet:02d}.png")


if __name__ == "__main__":
    main()
