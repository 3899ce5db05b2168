"""The model card of a run: what it learned from, how, for how long, and how well it did."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightningdrag.data.shards import KINDS, open_shards
from lightningdrag.report.plots import lines
from lightningdrag.training.loader import stored_kind
from lightningdrag.training.log import Record
from lightningdrag.training.recipe import Recipe, make_recipe, published

ABSOLUTE = re.compile(r"(?<![\w./:])/(?:[^\s/'=]+/)*")
"""Folders of absolute paths, which tell of a machine."""
NOT_STATED = "not stated"
"""The licence of weights if nobody says it."""
SHARE_ALIKE = re.compile(r"\b(?:SA|share-?alike|GPL)\b", re.IGNORECASE)
"""In a licence's name: what is made from it goes under the same."""
CURVE_ROWS = 12
"""Rows of dev metrics that the card shows, evenly over the run."""


def model_card(
    name: str,
    recipe: Recipe,
    starts: Sequence[Mapping[str, Any]],
    step: int,
    log: Sequence[Record],
    licence: str,
) -> str:
    """A card in Markdown.

    Args:
        starts: how the run was started and continued, as the trainer writes it into ``run.json``: where
            (:func:`evaluation.provenance.provenance`), by which recipe, on which shards of which dataset.
        step: that the weights are of.
        log: the run's records up to there.
        licence: of the weights, as whoever publishes them states it.

    Raises:
        ValueError: the licence is not share-alike, but some of the data is.
    """
    rows = data_rows([Learned.from_start(start) for start in starts])
    _check_licence(licence, rows)
    commands = dict.fromkeys(ABSOLUTE.sub("", start["command"]) for start in starts)
    ends = [*(start["step"] for start in starts[1:]), step]
    batches = [start["recipe"]["batch"] for start in starts]
    samples = sum(
        (end - start["step"]) * batch for start, end, batch in zip(starts, ends, batches, strict=True)
    )
    sizes = " and ".join(map(str, dict.fromkeys(batches)))
    facts = {
        "model": recipe.model,
        "licence": licence,
        "made by": ", then ".join(f"`{command}`" for command in commands),
        "commit": ", ".join(dict.fromkeys(start["commit"] for start in starts)),
        "compute": f"{log[-1]['seconds'] / 3600:.2f} h, {step} steps of {sizes} samples "
        f"({samples} in all), started {len(starts)} times, on "
        + "; ".join(dict.fromkeys(start["machine"] for start in starts)),
    }
    plain = type(recipe)()
    own = {k: v for k, v in published(recipe).items() if v != getattr(plain, k) or k == "model"}
    return "\n".join(
        [
            f"# Model card: {name}\n",
            _table(("", ""), facts.items()),
            "## Results in training\n",
            "In the mask of held-out crops: PSNR of the analytic warp and of what the model makes, its gain "
            "over the warp in dB, the share of crops won, sharpness, half-transparent windows. Measure in "
            "full with `lightningdrag evaluate`.\n",
            _dev_table(log),
            "![loss over steps](loss.svg)\n",
            "## Recipe\nFields that differ from the recipe's defaults:\n",
            "```json\n" + json.dumps(own, indent=1, ensure_ascii=False) + "\n```\n",
            "## Data\nPairs by kind, source and licence; one of several pictures counts for each of them.\n",
            _table(("kind", "source", "licence", "pairs", "clips or photos"), rows),
        ]
    )


def loss_curve(log: Sequence[Record]) -> bytes:
    """The loss over steps, as SVG."""
    records = [record for record in log if "loss" in record]
    series = ([record["step"] for record in records], [record["loss"] for record in records])
    return lines({"loss": series}, "step", "loss")


@dataclass(frozen=True)
class Learned:
    """What one start of a run draws from.

    Attributes:
        data: a prepared dataset.
        recipe: whose mixture and licences choose among its pairs.
        shards: of the dataset; None is all of them.
    """

    data: str
    recipe: Recipe
    shards: Sequence[str] | None = None

    @classmethod
    def from_start(cls, start: Mapping[str, Any]) -> Learned:
        """From what the trainer writes into ``run.json``."""
        return cls(start["data"], make_recipe(start["recipe"]), start["shards"])

    def pairs(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each pair of a kind: what tells it from all others, and its facts."""
        mixture = self.recipe.mixture.items()
        if not any(share > 0 for name, share in mixture if stored_kind(name) == kind):
            return
        dataset = open_shards(self.data, "train", [kind], self.recipe.licences or None, self.shards)
        for i in range(len(dataset)):
            yield f"{self.data} {dataset.keys[i]}", dataset.read_meta(i)


def data_rows(learned: Sequence[Learned]) -> list[tuple[object, ...]]:
    """(kind, source, licence, pairs, clips or photos) of what a run has learned from, start by start.

    A pair of several pictures says under which licences they are, but not which is whose. A source that is
    in such pairs alone is "among" all licences of theirs.
    """
    rows: list[tuple[object, ...]] = []
    for kind in KINDS:
        metas = {key: meta for start in learned for key, meta in start.pairs(kind)}
        pairs: dict[str, int] = defaultdict(int)
        pictures: dict[str, set[str]] = defaultdict(set)
        alone: dict[str, set[str]] = defaultdict(set)
        shared: dict[str, set[str]] = defaultdict(set)
        for meta in metas.values():
            sources = str(meta["source"]).split(" + ")
            for place in {repository(source) for source in sources}:
                pairs[place] += 1
                (alone if len(sources) == 1 else shared)[place] |= set(str(meta["licence"]).split(" + "))
            for source in sources:
                pictures[repository(source)].add(source)
        for place in sorted(pairs, key=lambda place: -pairs[place]):
            known = alone[place] or shared[place]
            among = "among " if not alone[place] and len(known) > 1 else ""
            licence = among + "; ".join(sorted(known))
            rows.append((kind, place, licence, pairs[place], len(pictures[place])))
    return rows


def _check_licence(licence: str, rows: Sequence[tuple[object, ...]]) -> None:
    names = {name for row in rows for name in str(row[2]).removeprefix("among ").split("; ")}
    alike = sorted(filter(SHARE_ALIKE.search, names))
    if licence != NOT_STATED and alike and not SHARE_ALIKE.search(licence):
        raise ValueError(
            f"the licence {licence!r} is not share-alike, but some of the data is ({', '.join(alike)}): "
            "give a share-alike licence, or train on others (the recipe's `licences`)"
        )


def repository(source: str) -> str:
    """The first two parts of "owner/name/path/in/it"."""
    return "/".join(source.split("/")[:2])


def _dev_table(log: Sequence[Record]) -> str:
    records = [record for record in log if any(key.startswith("dev_") for key in record)]
    if not records:
        return "None were taken.\n"
    names = [key for key in records[0] if key.startswith("dev_")]
    stride = max(1, -(-len(records) // CURVE_ROWS))
    shown = records[::-1][::stride][::-1]
    rows = [(r["step"], f"{r['seconds'] / 60:.0f}", *(r[name] for name in names)) for r in shown]
    return _table(("step", "minutes", *(name.removeprefix("dev_") for name in names)), rows)


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in lines)
        + "\n"
    )
