"""The run from tasks to shards: whole or resumed, on any engine, with the same bytes at the end.

A unit is the tasks of one shard. Which tasks these are depends on the inputs and the recipe alone, and a unit
is done by one process from beginning to end: it writes its shard, then a record of it in the folder
``work``. A record that is there means a shard that is finished; a run that was killed loses the units it
was at, and ``resume`` does those again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lightningdrag import __version__
from lightningdrag.data import storage
from lightningdrag.data.engines import Record, run_units
from lightningdrag.data.outcome import Result, Skipped
from lightningdrag.data.recipe import DataRecipe
from lightningdrag.data.samples import run_task
from lightningdrag.data.shards import INDEX, write_index, write_shard
from lightningdrag.data.tasks import Unit

WORK, PLAN, LOCK, CARD = "work", "plan", ".lock", "dataset.json"
INDEX_EVERY = 10.0  # seconds; what is read while it is being made may be as old


def prepare(
    units: list[Unit],
    out: str,
    recipe: DataRecipe,
    skipped: list[Skipped] | None = None,
    engine: str = "local",
    workers: int = 1,
    resume: bool = False,
) -> Iterator[tuple[int, Result]]:
    """Do all units and write their shards; the same units and recipe give the same bytes.

    Args:
        out: a folder, or a URL of one that all workers can reach.
        skipped: inputs that were left out already.
        resume: go on with what an earlier run began; what is finished stays as it is.

    Yields:
        (units done, what there is so far), at the beginning and after each unit.

    Raises:
        FileExistsError: ``out`` holds a dataset and ``resume`` is not set, or another run writes it.
        ValueError: ``out`` was begun from other inputs or with another recipe.
    """
    plan = {"lightningdrag": f"{__version__}, {_code()}", "recipe": asdict(recipe), "inputs": _digest(units)}
    with _locked(out):
        records = _begin(units, out, plan, resume)
        left = [unit for unit in units if unit.name not in records]
        yield len(records), _result(units, records, skipped)
        if storage.exists(storage.join(out, CARD)):
            return
        indexed = 0.0
        for record in run_units(left, partial(_make_unit, out=out, recipe=recipe), engine, workers):
            records[record["name"]] = record
            if time.monotonic() > indexed + INDEX_EVERY:
                _index(units, records, out)
                indexed = time.monotonic()
            yield len(records), _result(units, records, skipped)
        from lightningdrag.data.report import write_report  # brings matplotlib, which no worker needs

        result = _result(units, records, skipped)
        _index(units, records, out)
        write_report(out, result)
        storage.write(storage.join(out, CARD), _json(_card(plan, records, result)))
        storage.remove(storage.join(out, WORK))


def _make_unit(unit: Unit, out: str, recipe: DataRecipe) -> Record:
    began = time.perf_counter()
    samples: list[dict[str, bytes]] = []
    dropped: Counter[str] = Counter()
    skipped: list[Skipped] = []
    frames = 0
    for task in unit.tasks:
        outcome = run_task(task, recipe)
        samples += outcome.samples
        dropped += outcome.dropped
        skipped += outcome.skipped
        frames += outcome.frames
    record: Record = {
        "name": unit.name,
        "split": unit.split,
        "kind": unit.kind,
        "samples": len(samples),
        "sha256": write_shard(out, unit.name, samples) if samples else "",
        "dropped": dict(sorted(dropped.items())),
        "skipped": [asdict(one) for one in skipped],
        "frames": frames,
        "seconds": round(time.perf_counter() - began, 3),
    }
    storage.write(_work(out, unit.name), _json(record))
    return record


def _begin(units: list[Unit], out: str, plan: dict[str, Any], resume: bool) -> dict[str, Record]:
    """Check that the folder is new, or the one that is to be resumed; the records that it has."""
    card = storage.join(out, CARD)
    if storage.exists(card):
        earlier = json.loads(storage.read(card))
    elif storage.exists(_work(out, PLAN)):
        earlier = json.loads(storage.read(_work(out, PLAN)))
    elif storage.exists(storage.join(out, INDEX)):
        raise FileExistsError(f"{out} already holds a dataset; give an empty folder")
    else:
        storage.write(_work(out, PLAN), _json(plan))
        return {}
    if not resume:
        raise FileExistsError(
            f"{out} already holds a dataset or the beginning of one; give an empty folder, or --resume"
        )
    differences = {
        "lightningdrag": "by another version",
        "recipe": "with another recipe or seed",
        "inputs": "from other inputs",
    }
    for part, what in differences.items():
        if earlier.get(part) != json.loads(_json(plan))[part]:
            raise ValueError(f"{out} was begun {what}; it cannot be resumed with these")
    if storage.exists(card):
        if storage.exists(storage.join(out, WORK)):  # killed while it was tidying up
            storage.remove(storage.join(out, WORK))
        return {record["name"]: record for record in earlier["units"]}
    for path in Path(out).glob(".*.part") if not storage.is_url(out) else ():
        path.unlink(missing_ok=True)  # left by a process that was killed
    places = {unit.name: _work(out, unit.name) for unit in units}
    return {name: json.loads(storage.read(place)) for name, place in places.items() if storage.exists(place)}


def _index(units: list[Unit], records: dict[str, Record], out: str) -> None:
    done = [records[unit.name] for unit in units if unit.name in records]
    kept = ("kind", "split", "samples", "sha256")
    shards = [
        {"file": f"{record['name']}.tar", **{key: record[key] for key in kept}}
        for record in done
        if record["samples"]
    ]
    write_index(out, shards, dropped=_dropped(done))


def _result(units: list[Unit], records: dict[str, Record], skipped: list[Skipped] | None) -> Result:
    done = [records[unit.name] for unit in units if unit.name in records]
    return Result(
        pairs=sum(record["samples"] for record in done),
        frames=sum(record["frames"] for record in done),
        dropped=_dropped(done),
        skipped=[*(skipped or ()), *(Skipped(**one) for record in done for one in record["skipped"])],
        seconds=sum(record.get("seconds", 0.0) for record in done),
    )


def _dropped(records: list[Record]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for record in records:
        total.update(record["dropped"])
    return dict(sorted(total.items()))


def _card(plan: dict[str, Any], records: dict[str, Record], result: Result) -> dict[str, Any]:
    """What made the dataset and what it came to, without what differs from run to run."""
    units = [
        {key: value for key, value in records[name].items() if key != "seconds"} for name in sorted(records)
    ]
    counts = {"pairs": result.pairs, "frames": result.frames, "dropped": result.dropped}
    skipped = [asdict(one) for one in result.skipped]
    return {**plan, **counts, "skipped": skipped, "units": units}


def _code() -> str:
    """Changes with the code that makes pairs."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:12]


def _digest(units: list[Unit]) -> str:
    """Changes with the tasks and with the size of any local input."""
    places = {place for unit in units for task in unit.tasks for place in task.places}
    local = [Path(place) for place in sorted(places) if not storage.is_url(place)]
    sizes = [(str(path), path.stat().st_size if path.exists() else -1) for path in local]
    return hashlib.sha256(repr((units, sizes)).encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def _locked(out: str) -> Iterator[None]:
    """Hold a folder for one run; the operating system lets go of it when the process ends, however it does.

    Object stores know no locks: there it is for the caller to start one run only.
    """
    if storage.is_url(out):
        yield
        return
    Path(out).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(out) / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise FileExistsError(f"{out} is being written by another run") from None
    try:
        yield
    finally:
        lock.release()


def _work(out: str, name: str) -> str:
    return storage.join(storage.join(out, WORK), f"{name}.json")


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
