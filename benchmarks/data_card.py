"""What a model learned from: pairs and pictures of a prepared dataset by kind, source and licence.

    python benchmarks/data_card.py --data prepared --recipe recipes/builtin.yaml

A synthetic pair of several pictures counts for the source of each of them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from lightningdrag.data.shards import KINDS, open_shards
from lightningdrag.training.recipe import load_recipe


def repository(source: str) -> str:
    """The first two parts of "owner/name/path/in/it"."""
    return "/".join(source.split("/")[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    print("| kind | source | licence | pairs | clips or photos |\n|---|---|---|---|---|")
    for kind in KINDS:
        if not recipe.mixture.get(kind):  # not learned from
            continue
        dataset = open_shards(arguments.data, "train", [kind], recipe.licences or None)
        pairs: dict[str, int] = defaultdict(int)
        pictures: dict[str, set[str]] = defaultdict(set)
        licences: dict[str, set[str]] = defaultdict(set)
        for i in range(len(dataset)):
            meta = dataset.read(i).meta
            sources = str(meta["source"]).split(" + ")
            for name in {repository(source) for source in sources}:
                pairs[name] += 1
            for source in sources:
                pictures[repository(source)].add(source)
            if len(sources) == 1:
                licences[repository(sources[0])].add(str(meta["licence"]))
        for name in sorted(pairs, key=lambda name: -pairs[name]):
            stated = "; ".join(sorted(licences[name])) or "see the videos"
            print(f"| {kind} | {name} | {stated} | {pairs[name]} | {len(pictures[name])} |")


if __name__ == "__main__":
    main()
