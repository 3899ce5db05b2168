"""The command from videos to shards, and reading shards back."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from data_scenes import square_film, texture, write_video
from lightningdrag.commands import build_app
from lightningdrag.data import open_shards
from lightningdrag.data.recipe import Amounts
from lightningdrag.data.tasks import read_manifest, video_tasks


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), ["prepare", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips in three groups, one of them broken; three photos; a pair of photographs."""
    folder = tmp_path_factory.mktemp("material")
    for name in ("videos", "photos", "poses"):
        (folder / name).mkdir()
    for k in range(4):
        film = square_film(10, step=(5.0 - k, 1.0 + k), seed=k)
        write_video(folder / "videos" / f"clip{k}.mkv", film)
    (folder / "videos" / "broken.mp4").write_bytes(b"nothing")
    rows = ["file,group,licence,source_repo,path_in_repo,description"]
    rows += [f"clip{k}.mkv,g{k // 2},MIT,owner/repo,clips/{k},a square" for k in range(4)]
    (folder / "manifest.csv").write_text("\n".join(rows))
    (folder / "holdout.txt").write_text("clip3.mkv\n")
    for k in range(3):
        cv2.imwrite(str(folder / "photos" / f"photo{k}.png"), texture(160, 200, k))
    film = square_film(3, step=(6.0, 2.0))
    for k in (0, 1):
        cv2.imwrite(str(folder / "poses" / f"p_{k}.png"), film[k][..., ::-1])
    (folder / "poses" / "manifest.csv").write_text("id,frame0,frame1\np,p_0.png,p_1.png\n")
    return folder


@pytest.fixture(scope="module")
def dataset(material: Path) -> Path:
    return prepared(material, material / "data", workers=2)


def prepared(material: Path, out: Path, workers: int) -> Path:
    result = run(
        material / "videos",
        *("--out", out),
        *("--manifest", material / "manifest.csv"),
        *("--holdout", material / "holdout.txt"),
        *("--photos", material / "photos"),
        *("--pairs", material / "poses"),
        *("--workers", workers),
        *("--per-group", 8),
    )
    assert result.exit_code == 1, result.output  # one clip is broken
    return out


def test_held_out_clips_are_in_dev_and_their_group_is_nowhere_else(dataset: Path) -> None:
    train, dev = open_shards(dataset), open_shards(dataset, "dev")
    assert set(dev.clips) == {"clip3"}
    assert "clip2" not in train.clips  # of the same group
    assert {"clip0", "clip1"} <= set(train.clips)
    assert not set(train.groups) & set(dev.groups)


def test_all_kinds_are_there_and_can_be_chosen(dataset: Path) -> None:
    assert set(open_shards(dataset).kinds) == {"video", "synthetic", "pose"}
    assert set(open_shards(dataset, kinds=["pose"]).kinds) == {"pose"}
    only = open_shards(dataset, licences={"MIT"})
    assert set(only.kinds) == {"video"}


def test_a_group_gives_no_more_than_its_share(dataset: Path) -> None:
    assert 4 <= open_shards(dataset, kinds=["video"]).groups.count("g0") <= 8


def test_samples_are_whole(dataset: Path) -> None:
    data = open_shards(dataset)
    for index in range(len(data)):
        sample = data.read(index)
        height, width = sample.first.shape[:2]
        assert sample.second.shape == (height, width, 3)
        assert sample.first.dtype == sample.second.dtype == np.uint8
        grid = (height // 2, width // 2)
        assert sample.forward.shape == sample.backward.shape == (2, *grid)
        assert sample.forward.dtype == np.float32
        assert sample.forward_state.shape == sample.backward_state.shape == sample.moving.shape == grid
        assert sample.mask.shape == (height, width)
        handles, targets = np.array(sample.meta["handles"]), np.array(sample.meta["targets"])
        assert 1 <= len(handles) == len(targets) <= 20
        for x, y in np.concatenate((handles, targets)).round().astype(int):
            assert sample.mask[y, x]
        length = np.linalg.norm(targets - handles, axis=-1).mean()
        assert sample.meta["motion"] == pytest.approx(length / min(height, width), abs=1e-3)
        assert data.motions[index] == pytest.approx(sample.meta["motion"], abs=1e-4)
        assert (data.groups[index], data.clips[index]) == (sample.meta["group"], sample.meta["clip"])


def test_provenance_is_kept(dataset: Path) -> None:
    sample = open_shards(dataset, kinds=["video"]).read(0)
    assert sample.meta["licence"] == "MIT"
    assert sample.meta["source"].startswith("owner/repo/clips/")
    assert sample.meta["camera"] == "static"
    assert len(sample.meta["frames"]) == 2


def test_what_was_dropped_is_counted(dataset: Path) -> None:
    report = json.loads((dataset / "report.json").read_text())
    assert {"place": "broken.mp4", "reason": "not a video", "partly": False} in report["skipped"]
    assert sum(report["dropped"].values()) > 0


def test_shards_are_plain_tar_files_with_their_checksums(dataset: Path) -> None:
    for shard in json.loads((dataset / "index.json").read_text())["shards"]:
        content = (dataset / shard["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]
        with tarfile.open(dataset / shard["file"]) as tar:
            names = tar.getnames()
        assert len(names) == 5 * shard["samples"]
        assert {name.split(".", 1)[1] for name in names} == {
            "first.jpg",
            "second.jpg",
            "motion.npz",
            "mask.png",
            "meta.json",
        }
    assert not list(dataset.glob("*.part"))


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text('file,licence\na.mp4,"MIT\nb.mp4,MIT\n')
    with pytest.raises(ValueError, match=r"m\.csv is no CSV after line 1: unexpected end"):
        read_manifest(str(manifest))


def test_rows_of_a_manifest_may_lack_their_last_cells(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,group,description\na.mp4,g\n")
    (task,) = video_tasks({"a.mp4": "a.mp4"}, read_manifest(str(tmp_path / "m.csv")), set(), Amounts())
    assert (task.group, task.count) == ("g", Amounts().per_group)


def test_samples_can_be_read_by_spawned_workers(dataset: Path) -> None:
    data = open_shards(dataset)
    here = data.read(0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(data.read, (0,))
    assert (there.first == here.first).all()
    assert there.meta == here.meta


def test_the_number_of_workers_changes_nothing_and_the_seed_does(material: Path, dataset: Path) -> None:
    again = prepared(material, material / "again", workers=1)
    assert (again / "index.json").read_bytes() == (dataset / "index.json").read_bytes()
    checksums = set()
    for seed in (0, 1):
        out = material / f"seed{seed}"
        result = run(material / "videos" / "clip0.mkv", "--out", out, "--seed", seed, "--per-group", 2)
        assert result.exit_code == 0, result.output
        checksums.add(json.loads((out / "index.json").read_text())["shards"][0]["sha256"])
    assert len(checksums) == 2


class TestRefusals:
    def test_a_folder_that_holds_a_dataset(self, material: Path, dataset: Path) -> None:
        result = run(material / "videos", "--out", dataset)
        assert result.exit_code == 2
        assert "already holds a dataset" in result.output

    def test_a_video_that_is_not_there(self, tmp_path: Path) -> None:
        result = run(tmp_path / "none.mp4", "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "none.mp4 does not exist" in result.output

    def test_a_holdout_list_of_other_clips(self, material: Path, tmp_path: Path) -> None:
        (tmp_path / "holdout.txt").write_text("elsewhere.mp4")
        result = run(material / "videos", "--out", tmp_path / "out", "--holdout", tmp_path / "holdout.txt")
        assert result.exit_code == 2
        assert "elsewhere.mp4" in result.output

    def test_a_manifest_without_file_names(self, material: Path, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("name,group\na,b\n")
        result = run(material / "videos", "--out", tmp_path / "out", "--manifest", tmp_path / "m.csv")
        assert result.exit_code == 2
        assert "no column 'file'" in result.output

    def test_photograph_pairs_without_their_columns(self, material: Path, tmp_path: Path) -> None:
        (tmp_path / "manifest.csv").write_text("id,frame0\np,p_0.png\n")
        result = run(material / "videos", "--out", tmp_path / "out", "--pairs", tmp_path)
        assert result.exit_code == 2
        assert "no column 'frame1'" in result.output

    def test_reading_what_is_no_dataset(self, tmp_path: Path, dataset: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no prepared dataset"):
            open_shards(tmp_path)
        with pytest.raises(ValueError, match="'test'"):
            open_shards(dataset, "test")
