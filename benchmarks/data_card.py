"""What a model learned from: pairs and pictures of a prepared dataset by kind, source and licence.

    python benchmarks/data_card.py --data prepared --recipe recipes/builtin.yaml

A synthetic pair of several pictures counts for the source of each of them.
"""

from __future__ import annotations

import argparse

from lightningdrag.training.card import Learned, data_rows
from lightningdrag.training.recipe import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", required=True)
    arguments = parser.parse_args()
    print("| kind | source | licence | pairs | clips or photos |\n|---|---|---|---|---|")
    for row in data_rows([Learned(arguments.data, load_recipe(arguments.recipe))]):
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
