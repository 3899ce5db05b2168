"""What a model learned from: pairs, clips and groups of a prepared dataset by kind, source and licence.

python benchmarks/data_card.py --data prepared --recipe recipes/builtin.yaml
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from lightningdrag.data.shards import KINDS, open_shards
from lightningdrag.training.recipe import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    print("| kind | source | licence | pairs | clips or photos |\n|---|---|---|---|---|")
    for kind in KINDS:
        if not recipe.mixture.get(kind):
            continue
        dataset = open_shards(arguments.data, "train", [kind], recipe.licences or None)
        pairs: dict[tuple[str, str], int] = defaultdict(int)
        clips: dict[tuple[str, str], set[str]] = defaultdict(set)
        for i, clip in enumerate(dataset.clips):
            meta = dataset.read(i).meta
            repository = "/".join(str(meta["source"]).split("/")[:2])
            key = (repository, str(meta["licence"]))
            pairs[key] += 1
            clips[key].add(clip)
        for key in sorted(pairs, key=lambda key: -pairs[key]):
            print(f"| {kind} | {key[0]} | {key[1]} | {pairs[key]} | {len(clips[key])} |")


if __name__ == "__main__":
    main()
