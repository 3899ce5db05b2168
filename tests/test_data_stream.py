"""Reading for training: shuffled, split over ranks and workers, resumed; on URLs, and by other libraries."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from torch.utils.data import DataLoader

import lightningdrag.data
from data_runs import RECIPE, contents, plan, run, write_films
from lightningdrag.data import Sample, open_shards, storage
from lightningdrag.data.samples import run_task
from lightningdrag.data.shards import DamagedSample, decode_sample, encode_sample
from lightningdrag.data.tasks import find_videos


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    run(plan(write_films(folder / "films", 4)), folder / "data")
    return folder / "data"


def name(sample: Sample) -> tuple[object, ...]:
    return (sample.meta["clip"], *sample.meta["frames"], *np.ravel(sample.meta["handles"]))


def names(batch: list[Sample]) -> list[tuple[object, ...]]:
    return [name(sample) for sample in batch]


def test_ranks_share_an_epoch_evenly_and_every_epoch_has_another_order(dataset: Path) -> None:
    streams = [lightningdrag.data.open(dataset, seed=1, rank=rank, world=2) for rank in (0, 1)]
    halves = [[name(sample) for sample in stream] for stream in streams]
    whole = [name(open_shards(dataset).read(k)) for k in range(len(open_shards(dataset)))]
    assert len(halves[0]) == len(halves[1]) == len(streams[0]) == len(whole) // 2
    assert len(set(halves[0]) | set(halves[1])) == len(whole) // 2 * 2
    assert set(halves[0]) | set(halves[1]) <= set(whole)
    streams[0].epoch = 1
    assert [name(sample) for sample in streams[0]] != halves[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_the_same_batches_and_go_on_where_they_stopped(dataset: Path, workers: int) -> None:
    stream = lightningdrag.data.open(dataset, batch=2)

    def batches() -> list[list[tuple[object, ...]]]:
        return list(DataLoader(stream, batch_size=2, num_workers=workers, collate_fn=names))

    order = [name(stream.dataset.read(int(k))) for k in stream.order()]
    assert batches() == [order[k : k + 2] for k in range(0, len(order), 2)]
    stream.skip = 4
    assert batches() == [order[k : k + 2] for k in range(4, len(order), 2)]


def test_a_rank_out_of_range_is_refused(dataset: Path) -> None:
    with pytest.raises(ValueError, match="rank is 2"):
        lightningdrag.data.open(dataset, rank=2, world=2)


def test_inputs_and_output_may_lie_on_urls(dataset: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(dataset.parent / "films"), "/films", recursive=True)
    run(plan("memory://films"), "memory://out")
    files = {path.removeprefix("/out/"): memory.cat(path) for path in memory.find("/out")}
    assert {key: value for key, value in files.items() if key.endswith(".tar")} == {
        key: value for key, value in contents(dataset).items() if key.endswith(".tar")
    }
    there, here = open_shards("memory://out"), open_shards(dataset)
    assert len(there) == len(here)
    assert np.array_equal(there.read(1).first, here.read(1).first)


def test_a_url_whose_package_is_missing_is_told() -> None:
    if importlib.util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(ValueError, match=r"gs://bucket/films cannot be opened here: .*gcsfs"):
        find_videos(["gs://bucket/films"])


def test_webdataset_reads_the_shards(dataset: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    tars = sorted(str(path) for path in dataset.glob("*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    data = open_shards(dataset)
    assert len(samples) == len(data)
    assert samples[0]["first.jpg"].shape == data.read(0).first.shape
    assert samples[0]["meta.json"] == data.read(0).meta
    assert samples[0]["motion.npz"]["forward"].shape == data.read(0).forward.shape


def test_the_report_shows_pairs_and_names_what_was_dropped(dataset: Path) -> None:
    page = (dataset / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page
    assert "data:image/svg+xml;base64," in page
    assert f"{len(open_shards(dataset))} pairs from 4 clips" in page


def test_what_a_url_s_file_system_raises_is_an_error_of_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the loader tries again: an answer of 503 is a class of aiohttp's own, and a body may break off."""

    def busy(*asked: object, **more: object) -> bytes:
        raise RuntimeError("503, busy")

    system = fsspec.filesystem("memory")
    system.pipe_file("/some/file", b"0123456789")
    assert storage.read_range("memory://some/file", 2, 3) == b"234"
    monkeypatch.setattr(type(system), "cat_file", lambda *asked, **more: b"23")
    with pytest.raises(OSError, match="of memory://some/file, 2 bytes came instead of 3"):
        storage.read_range("memory://some/file", 2, 3)
    monkeypatch.setattr(type(system), "cat_file", busy)
    with pytest.raises(OSError, match=r"memory://some/file cannot be read: RuntimeError: 503"):
        storage.read_range("memory://some/file", 2, 3)


def test_a_video_that_cannot_be_reached_is_tried_again_and_never_called_bad(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(dataset.parent / "films"), "/far", recursive=True)
    task = plan("memory://far")[0].tasks[0]
    expected = run_task(task, RECIPE)
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
    answers = []

    def busy(self: object, path: str, mode: str = "rb", **more: object) -> object:
        answers.append(path)
        if len(answers) < fails:
            raise OSError("503, busy")
        return really(self, path, mode, **more)

    really, fails = type(system).open, 3
    monkeypatch.setattr(type(system), "open", busy)
    assert run_task(task, RECIPE) == expected
    answers.clear()
    fails = 100
    with pytest.raises(storage.Unreachable, match=r"far/film\d\.mkv cannot be read: OSError: 503"):
        run_task(task, RECIPE)


def test_a_picture_that_would_be_decoded_though_its_bytes_are_wrong_is_damaged(
    dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    whole = open_shards(dataset)
    tar, members, _ = whole._places[0]
    offset, size = members["first.jpg"]
    path = tmp_path / "copy" / Path(tar).name
    content = bytearray(path.read_bytes())
    content[offset + size // 2 : offset + size // 2 + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DamagedSample, match=r"the checksum of first\.jpg is wrong"):
        open_shards(tmp_path / "copy").read(0)


@pytest.mark.parametrize(
    "place", [None, ["0", 10], [-5, 10], [0, 10**18], [512, -1], [None, None], [10**12, 10]]
)
def test_an_index_that_leads_nowhere_is_damage(dataset: Path, tmp_path: Path, place: list | None) -> None:
    shutil.copytree(dataset, tmp_path / "copy")
    tar = Path(open_shards(dataset)._places[0][0])
    beside = tmp_path / "copy" / tar.with_suffix(".json").name
    entries = json.loads(beside.read_text())
    entries[0]["members"] = {} if place is None else {**entries[0]["members"], "first.jpg": place}
    beside.write_text(json.dumps(entries))
    damaged = open_shards(tmp_path / "copy")
    with pytest.raises(DamagedSample, match=tar.name):
        damaged.read(0)
    assert damaged.read(1).first.size


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("first", np.zeros((100, 100, 3), np.uint8)),
        ("second", np.zeros((100, 100, 3), np.uint8)),
        ("mask", np.zeros((100, 100), bool)),
        ("forward", np.zeros((2, 100, 100), np.float32)),
        ("moving", np.zeros((100, 100), np.uint8)),
        ("frames", 7),
        ("handles", [[1, 2]] * 99),
    ],
)
def test_a_sample_whose_parts_do_not_go_together_is_damaged(dataset: Path, part: str, value: object) -> None:
    sample = open_shards(dataset).read(0)
    decode_sample(encode_sample(sample, sample.mask, sample.meta))  # as it is it is whole
    if part in sample.meta:
        sample = dataclasses.replace(sample, meta={**sample.meta, part: value})
    else:
        sample = dataclasses.replace(sample, **{part: value})
    with pytest.raises(ValueError, match="its "):
        decode_sample(encode_sample(sample, sample.mask, sample.meta))


def test_licences_that_no_pair_has_are_told_with_those_there_are(dataset: Path) -> None:
    with pytest.raises(ValueError, match=r"under a licence of \['CC-BY'\]; theirs are \['unknown'\]"):
        open_shards(dataset, licences=["CC-BY"])
