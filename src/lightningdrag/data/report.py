"""What a dataset consists of, as a page to look at (``report.html``) and as data (``report.json``)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from typing import Any

import numpy as np

from lightningdrag.data import storage
from lightningdrag.data.camera import CAMERAS
from lightningdrag.data.outcome import Result
from lightningdrag.data.shards import open_shards, read_entries, read_index
from lightningdrag.data.sheets import draw_sheet, pick
from lightningdrag.report import Page, Picture, Plot, Section, Table, Text, data_uri, plots, render_page

SHOWN = 12  # pairs of each split and kind on the page
LISTED = 200  # skipped inputs on the page; report.json has all
SHEET_SEED = 0
FACTS = {
    "motion": "mean drag length over the short side",
    "points": "drags in a pair",
    "mask_share": "share of the picture in the mask",
    "gap": "frames between the two pictures",
}


def write_report(out: str, result: Result) -> None:
    """Write ``report.html`` and ``report.json`` into a prepared dataset.

    They tell the time that the run took: unlike the shards they differ from run to run.
    """
    shards = read_index(out)["shards"]
    entries = [
        {**entry, "kind": shard["kind"], "split": shard["split"]}
        for shard in shards
        for entry in read_entries(out, shard)
    ]
    facts = _summary(entries, result)
    storage.write(storage.join(out, "report.json"), json.dumps(facts, indent=1, ensure_ascii=False).encode())
    page = Page(
        "A prepared dataset",
        [
            Section("What there is", [_counts(entries)]),
            Section("How the pairs are spread", _distributions(entries)),
            Section("Pairs drawn at random", _sheets(out, shards)),
            Section("What was left out", _left_out(result)),
        ],
        lead=f"{len(entries):,} pairs from {len({entry['clip'] for entry in entries}):,} clips and photos.",
        about={
            "Frames looked at": f"{result.frames:,}",
            "Work of all processes": f"{result.seconds:,.0f} s",
            "Pairs a second and process": f"{_per_second(result.pairs, result):.2f}",
        },
    )
    storage.write(storage.join(out, "report.html"), render_page(page).encode())


def _summary(entries: list[dict[str, Any]], result: Result) -> dict[str, Any]:
    kinds = Counter(f"{entry['split']} {entry['kind']}" for entry in entries)
    return {
        "pairs": len(entries),
        "by split and kind": dict(sorted(kinds.items())),
        "by camera": dict(Counter(entry["camera"] for entry in entries)),
        "quartiles": {name: _quartiles([entry[name] for entry in entries]) for name in FACTS},
        "dropped": result.dropped,
        "skipped": [asdict(one) for one in result.skipped],
        "frames": result.frames,
        "seconds": round(result.seconds, 1),
        "pairs_per_second": round(_per_second(result.pairs, result), 3),
    }


def _quartiles(values: list[float]) -> list[float]:
    return [round(float(q), 4) for q in np.quantile(values, np.arange(5) / 4)] if values else []


def _per_second(count: int, result: Result) -> float:
    return count / result.seconds if result.seconds else 0.0


def _counts(entries: list[dict[str, Any]]) -> Table:
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        rows[entry["split"], entry["kind"]].append(entry)
    return Table(
        ("split", "kind", "pairs", "clips or photos", "groups", *CAMERAS),
        [
            (
                *key,
                str(len(some)),
                *(str(len({entry[name] for entry in some})) for name in ("clip", "group")),
                *(str(sum(entry["camera"] == camera for entry in some)) for camera in CAMERAS),
            )
            for key, some in sorted(rows.items())
        ],
    )


def _distributions(entries: list[dict[str, Any]]) -> list[Plot | Text]:
    if not entries:
        return [Text("No pair was made.")]
    return [
        Plot(plots.histogram([entry[name] for entry in entries], label, "pairs"))
        for name, label in FACTS.items()
    ]


def _sheets(out: str, shards: list[dict[str, Any]]) -> list[Picture]:
    pictures = []
    for split, kind in sorted({(shard["split"], shard["kind"]) for shard in shards}):
        dataset = open_shards(out, split, [kind])
        sheet = draw_sheet(dataset, pick(dataset, SHOWN, SHEET_SEED))
        pictures.append(Picture(data_uri(sheet), f"{split}, {kind}: arrows and mask; the second picture"))
    return pictures


def _left_out(result: Result) -> list[Plot | Table | Text]:
    parts: list[Plot | Table | Text] = []
    if result.dropped:
        most = dict(sorted(result.dropped.items(), key=lambda item: -item[1]))
        parts.append(Plot(plots.bars(most, "pairs or runs of frames"), "dropped, by reason"))
    if not result.skipped:
        return [*parts, Text("Every input could be read.")]
    rows = [
        (one.place, one.reason, "in part" if one.partly else "all of it") for one in result.skipped[:LISTED]
    ]
    caption = f"{len(result.skipped)} inputs that could not be used; report.json names them all"
    return [*parts, Table(("input", "reason", "left out"), rows, caption)]
