"""The public benchmarks in their authors' layouts: read safely, counted, and scored."""

from __future__ import annotations

import codecs
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation_scenes import HEIGHT, WIDTH, scene
from lightningdrag.evaluation.benchmarks import LAYOUTS, FolderBenchmark, read_result
from lightningdrag.evaluation.evaluate import evaluate
from lightningdrag.evaluation.job import Job
from lightningdrag.evaluation.plain_pickle import load_plain


def meta(points: list[tuple[int, int]]) -> dict[str, Any]:
    mask = scene((12, 4)).mask.astype(np.uint8)
    return {"prompt": "a disc", "points": points, "mask": mask}


def write_sample(folder: Path, regions: bool = False) -> None:
    folder.mkdir(parents=True)
    Image.fromarray(scene((12, 4)).source).save(folder / "original_image.png")
    points = [(50, 48), (62, 52), (45, 48), (57, 52)]
    (folder / "meta_data.pkl").write_bytes(pickle.dumps(meta(points)))
    if regions:
        dense = [p for y in range(40, 52) for x in range(44, 56) for p in ((x, y), (x + 12, y + 4))]
        (folder / "meta_data_region.pkl").write_bytes(pickle.dumps(meta(dense)))


def dragbench(root: Path) -> Path:
    for name in ("animals/one", "animals/two", "art_work/three"):
        write_sample(root / name)
    return root


def test_dragbench_is_read_as_distributed(tmp_path: Path) -> None:
    bench = FolderBenchmark("dragbench", dragbench(tmp_path))
    assert [bench.label(i) for i in range(len(bench))] == ["animals/one", "animals/two", "art_work/three"]
    case = bench[2]
    assert (case.name, case.category, case.prompt) == ("art_work/three", "art_work", "a disc")
    assert case.handles.tolist() == [[50, 48], [45, 48]], "points are (x, y), handle and target in turn"
    assert case.targets.tolist() == [[62, 52], [57, 52]]
    assert (case.mask == scene((12, 4)).mask).all()
    assert (case.source == scene((12, 4)).source).all()
    assert bench.result_paths(2) == [Path("art_work/three/dragged_image.png")]


def test_regions_are_dragged_and_the_points_are_scored(tmp_path: Path) -> None:
    write_sample(tmp_path / "art_0", regions=True)
    case = FolderBenchmark("dragbench-sr", tmp_path)[0]
    assert case.category == "art"
    assert len(case.handles) == 64, "as many as a request holds, of 144"
    assert (case.targets - case.handles == [12, 4]).all()
    assert case.probed[0].tolist() == [[50, 48], [45, 48]]


def test_drag100_is_read_as_distributed(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    folder.mkdir()
    case = scene((12, 4))
    Image.fromarray(case.source).save(folder / "original.jpg", quality=95)
    Image.fromarray(case.mask.astype(np.uint8) * 255).save(folder / "mask.png")
    (folder / "points.json").write_text(json.dumps({"points": [[50, 48], [62, 52]]}))
    read = FolderBenchmark("drag100", tmp_path)[0]
    assert (read.handles.tolist(), read.targets.tolist()) == ([[50, 48]], [[62, 52]])
    assert (read.mask == case.mask).all()


def test_missing_images_and_pairs_are_counted(tmp_path: Path) -> None:
    assert {n: (x.images, x.pairs) for n, x in LAYOUTS.items()} == {
        "dragbench": (205, 349),
        "dragbench-dr": (205, None),
        "dragbench-sr": (100, None),
        "drag100": (100, None),
    }
    bench = FolderBenchmark("dragbench", dragbench(tmp_path))
    assert [p.problem for p in bench.problems] == [
        "3 images, the benchmark has 205",
        "6 pairs of points, the benchmark has 349",
    ]
    assert FolderBenchmark("dragbench", tmp_path, limit=2).problems == []


def test_damaged_samples_are_listed_and_the_rest_is_scored(tmp_path: Path) -> None:
    root = dragbench(tmp_path / "bench")
    (root / "animals" / "one" / "meta_data.pkl").unlink()
    (root / "animals" / "two" / "original_image.png").write_bytes(b"no image")
    report = evaluate(Job("dragbench", str(root)), tmp_path / "out")
    listed = {p["case"]: p["problem"] for p in report["problems"]}
    assert "lacks meta_data.pkl" in listed["animals/one"]
    assert "cannot identify image" in listed["animals/two"]
    assert (report["pairs"], report["expected"]) == (1, 205)
    row = report["table"]["average"]["identity"]
    assert row["point_error"]["mean"] == pytest.approx(1, abs=0.02)
    assert "psnr" not in row, "nobody knows the truth"
    assert "art_work" in report["table"], "a table for each category"
    assert "1 of 205 images" in (tmp_path / "out" / "report.md").read_text()
    assert "1 of 205 images" in (tmp_path / "out" / "report.html").read_text()


def test_a_sample_with_an_empty_mask_is_listed_and_the_rest_is_scored(tmp_path: Path) -> None:
    root = dragbench(tmp_path / "bench")
    empty = {**meta([(50, 48), (62, 52)]), "mask": np.zeros((HEIGHT, WIDTH), np.uint8)}
    (root / "animals" / "one" / "meta_data.pkl").write_bytes(pickle.dumps(empty))
    report = evaluate(Job("dragbench", str(root)), tmp_path / "out")
    listed = {p["case"]: p["problem"] for p in report["problems"]}
    assert "the mask is empty" in listed["animals/one"]
    assert report["pairs"] == 2


def test_where_nothing_can_be_scored_the_first_sample_says_why(tmp_path: Path) -> None:
    root = dragbench(tmp_path / "bench")
    for image in root.rglob("original_image.png"):
        image.write_bytes(b"no image")
    with pytest.raises(ValueError, match="the first problem: animals/one: cannot identify image"):
        evaluate(Job("dragbench", str(root)), tmp_path / "out")


def test_drags_that_meet_are_scored_though_nothing_leads_back_from_there(tmp_path: Path) -> None:
    """What stands at one pixel cannot be asked to go back to two."""
    root = dragbench(tmp_path / "bench")
    meeting = [(50, 48), (62, 52), (45, 48), (62, 52)]
    (root / "animals" / "one" / "meta_data.pkl").write_bytes(pickle.dumps(meta(meeting)))
    job = Job("dragbench", str(root), limit=3, model="warp", rows={"warp": {}})
    for batch in (1, 3):
        report = evaluate(replace(job, batch=batch), tmp_path / "out")
        assert report["problems"] == []
        for row in ("warp", "reference warp"):
            back = [np.isfinite(s["scores"][row].get("psnr_back", np.nan)) for s in report["scores"]]
            assert back == [False, True, True]
            assert all(np.isfinite(s["scores"][row]["seconds"]) for s in report["scores"])


def test_a_wrong_folder_is_refused_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not dragbench as distributed: nothing matches \*/\*/"):
        FolderBenchmark("dragbench", tmp_path)
    with pytest.raises(FileNotFoundError):
        FolderBenchmark("dragbench", tmp_path / "nowhere")


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("__import__('pathlib').Path('ran').touch()",))


def test_a_pickle_cannot_run_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.pkl").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match=r"refused: it asks for builtins\.eval"):
        load_plain(Path("bad.pkl"))
    assert not Path("ran").exists()


class Forged:
    """An array of objects whose pointers the file chooses: reading one would be reading any memory."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return (np.ndarray, ((1,), *self.arguments))


class Growing:
    """Bytes in a codec that doubles them."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (codecs.encode, (b"ab", "hex"))


def test_a_pickle_cannot_grow(tmp_path: Path) -> None:
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(b"\xff\x00", 2))
    assert load_plain(tmp_path / "old.pkl") == b"\xff\x00"
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Growing()))
    with pytest.raises(ValueError, match="refused: it has bytes in 'hex'"):
        load_plain(tmp_path / "bad.pkl")


def test_a_pickle_cannot_forge_an_array(tmp_path: Path) -> None:
    objects = np.array([None], object)
    for forged in (Forged(np.dtype(object), bytearray(8)), Forged("O", bytearray(8)), objects, objects[0:0]):
        (tmp_path / "bad.pkl").write_bytes(pickle.dumps(forged))
        with pytest.raises(ValueError, match="refused"):
            load_plain(tmp_path / "bad.pkl")
    short = pickle.dumps(np.zeros(64, np.uint8), 2).replace(b"K@\x85", b"K\x7f\x85")
    (tmp_path / "bad.pkl").write_bytes(short)
    with pytest.raises(ValueError, match=r"64 bytes are no array of shape \(127,\)"):
        load_plain(tmp_path / "bad.pkl")


@pytest.mark.parametrize(
    "array", [np.arange(6, dtype=">i4").reshape(2, 3), np.asfortranarray(np.eye(3)), np.ones((2, 2), bool)]
)
def test_arrays_come_back_in_any_byte_order_and_layout(array: np.ndarray, tmp_path: Path) -> None:
    for protocol in (0, 2, 5):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps([array], protocol))
        assert load_plain(tmp_path / "x.pkl")[0].tolist() == array.tolist()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back_from_every_protocol(protocol: int, tmp_path: Path) -> None:
    data = {**meta([(1, 2), (3, 4)]), "x": np.float32(0.5), "old": [1, 2.5, None, b"bytes"]}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(data, protocol))
    read = load_plain(tmp_path / "x.pkl")
    assert (read["mask"] == data["mask"]).all()
    assert (read["points"], read["x"], read["old"]) == (data["points"], 0.5, data["old"])


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"(lp0\n.", pickle.dumps([1, 2]), b"cos\nsystem\n."])
def test_a_damaged_sample_is_one_error_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    write_sample(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "meta_data.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"meta_data\.pkl"):
        FolderBenchmark("dragbench", tmp_path, limit=1)[0]


def test_a_pickle_of_lists_of_the_same_lists_takes_no_time(tmp_path: Path) -> None:
    value: list[object] = []
    for _ in range(200):
        value = [value, value]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value))
    read = load_plain(tmp_path / "x.pkl")
    assert read[0] is read[1]


def test_a_mask_of_another_size_and_odd_points_are_named(tmp_path: Path) -> None:
    write_sample(tmp_path / "a" / "b")
    path = tmp_path / "a" / "b" / "meta_data.pkl"
    path.write_bytes(pickle.dumps({**meta([(1, 2), (3, 4)]), "mask": np.ones((4, 4))}))
    with pytest.raises(ValueError, match=r"the mask is \(4, 4\), the image \(96, 128\)"):
        FolderBenchmark("dragbench", tmp_path, limit=1)[0]
    path.write_bytes(pickle.dumps(meta([(1, 2), (3, 4), (5, 6)])))
    with pytest.raises(ValueError, match="no pairs"):
        FolderBenchmark("dragbench", tmp_path, limit=1)[0]
    path.write_bytes(pickle.dumps({**meta([]), "points": 3}))
    with pytest.raises(ValueError, match=r"meta_data\.pkl holds no prompt, points and mask"):
        FolderBenchmark("dragbench", tmp_path, limit=1)[0]
    path.write_bytes(pickle.dumps({**meta([]), "points": [{}, {}]}))
    with pytest.raises(ValueError, match="no numbers"):
        FolderBenchmark("dragbench", tmp_path, limit=1)[0]


def test_an_image_that_is_far_too_large_is_one_error(tmp_path: Path) -> None:
    write_sample(tmp_path / "a" / "b")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a" / "b" / "original_image.png")
    with pytest.raises(ValueError, match="too large"):
        FolderBenchmark("dragbench", tmp_path, limit=1)[0]


def test_a_result_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    assert read_result(tmp_path, [Path("x.png"), Path("a.png")], (WIDTH, HEIGHT)).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ValueError, match="128x96, the source 64x64"):
        read_result(tmp_path, [Path("a.png")], (64, 64))
    with pytest.raises(FileNotFoundError):
        read_result(tmp_path, [Path("x.png")], (64, 64))
