"""``lightningdrag bench``: parts add up, operations are counted, floors follow, comparisons are in pairs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lightningdrag import DragEditor
from lightningdrag.bench import compare, random_sd15
from lightningdrag.bench.ceiling import Ceiling, measure_ceiling
from lightningdrag.bench.measure import Case, measure, networks_of
from lightningdrag.bench.models import RANDOM, model_to_measure
from lightningdrag.bench.scene import edit_request, photo_bytes
from lightningdrag.checkpoints.catalogue import ModelError
from lightningdrag.checkpoints.hub import load_model
from lightningdrag.commands import build_app
from lightningdrag.memory import peak_bytes, reset_peak
from lightningdrag.models.protocol import DragModel
from lightningdrag.models.sd15 import SD15Model
from sd15_tiny import load_pipeline

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def builtin() -> DragModel:
    return load_model("builtin", device="cpu")


def test_the_parts_of_an_edit_add_up(builtin: DragModel):
    measured = measure(builtin, Case(size=128), repeats=1)
    assert sum(measured.parts.values()) == pytest.approx(measured.seconds)
    assert min(measured.parts.values()) >= 0
    assert {"appearance", "motion", "renderer"} <= set(measured.parts)
    assert measured.calls["motion"] == 1


def test_steps_cost_operations_of_the_motion_alone(builtin: DragModel):
    one, three = (measure(builtin, Case(size=128, steps=steps), 1) for steps in (1, 3))
    assert three.calls == {**one.calls, "motion": 3}
    assert sum(one.operations.values()) < sum(three.operations.values()) < 3 * sum(one.operations.values())


def test_a_larger_window_costs_in_proportion_and_attention_by_its_square(builtin: DragModel):
    small, large = (measure(builtin, Case(size=256, window=side), 1).operations for side in (128, 256))
    assert large["convolution"] == pytest.approx(4 * small["convolution"], rel=0.01)
    assert large["attention"] == pytest.approx(16 * small["attention"], rel=0.01)


def test_networks_of_the_papers_model_are_told_apart():
    measured = measure(SD15Model(load_pipeline()), Case(size=128, steps=2, window=128), 1)
    assert measured.calls["denoiser"] == 2
    assert measured.calls["appearance encoder"] == 1
    assert measured.operations["attention"] > 0


def test_the_window_a_measurement_asks_for_is_the_models_no_longer(builtin: DragModel):
    before = builtin.working_area
    measure(builtin, Case(size=128, window=64), 1)
    assert builtin.working_area == before


def test_the_floor_is_each_kinds_operations_at_its_own_rate():
    ceiling = Ceiling(matmul=2e9, convolution=4e9, attention=1e9, copy=1e9)
    assert ceiling.floor({"matmul": 2 * 10**9, "convolution": 10**9, "attention": 10**9}) == 2.25


def test_a_machine_has_a_ceiling():
    ceiling = measure_ceiling(CPU, torch.float32, repeats=1)
    assert min(ceiling.matmul, ceiling.convolution, ceiling.attention, ceiling.copy) > 1e8


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is reset on Linux only")
def test_the_peak_counts_from_its_reset():
    size = 2**28
    torch.ones(size, dtype=torch.uint8)
    reset_peak(CPU)
    before = peak_bytes(CPU)
    torch.ones(size, dtype=torch.uint8)
    assert peak_bytes(CPU) - before > size / 2


def test_the_scene_is_one_window_and_always_the_same(builtin: DragModel):
    assert photo_bytes(128) == photo_bytes(128)
    request = edit_request(128, None, 1, points=3)
    assert len(request.drags) == 3
    assert DragEditor(builtin).run(photo_bytes(128), request).image.size == (128, 128)


def test_a_ratio_is_of_pairs_and_has_an_interval():
    ratio, low, high = compare._ratio([(1.0, 2.0), (10.0, 20.0), (1.0, 2.2)])
    assert ratio == pytest.approx(2.0)
    assert low <= ratio <= high


def test_two_settings_in_turns():
    settings = {
        "model": "warp",
        "device": "cpu",
        "dtype": "auto",
        "threads": 1,
        "steps": None,
        "candidates": 1,
        "options": "",
    }
    found = compare.compare(settings, "candidates=4", size=128, pairs=2)
    assert len(found.seconds) == len(found.again) == 2
    assert found.ratio > 0


def test_a_commit_is_another_source_tree_and_leaves_no_worktree(tmp_path: Path):
    def git(*words: str) -> str:
        name = ["-c", "user.name=t", "-c", "user.email=t@t"]
        done = subprocess.run(
            ["git", *name, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout

    git("init", "-q")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text("old")
    git("add", "src")
    git("commit", "-q", "-m", "old")
    (tmp_path / "src" / "code.py").write_text("new")
    with compare._checkout(tmp_path, "HEAD") as source:
        assert (source / "code.py").read_text() == "old"
    assert len(git("worktree", "list").splitlines()) == 1
    with (
        pytest.raises(compare.ComparisonError, match="cannot check out 'nowhere'"),
        compare._checkout(tmp_path, "nowhere"),
    ):
        pass


@pytest.mark.parametrize("options", [[], ["resident"]])
def test_random_weights_have_no_files_and_are_resident(monkeypatch: pytest.MonkeyPatch, options: list[str]):
    monkeypatch.setattr(random_sd15, "random_sd15", lambda dtype: load_pipeline(dtype=dtype))
    model = model_to_measure(RANDOM, device="cpu", options=options)
    assert isinstance(model, SD15Model)
    networks = networks_of(model).values()
    assert not [weight for network in networks for weight in network.parameters() if weight.is_meta]
    with pytest.raises(ModelError, match="sd15-random has no files to read"):
        model_to_measure(RANDOM, device="cpu", options=["low-memory"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "colour=red"], "cannot compare 'colour=red'; give one of model, device"),
        (["--against", "threads=many"], "'many' is no whole number"),
        (["--against", "steps=2", "--size", "128", "--size", "256"], "it takes one case"),
        (["--against", "steps=2", "--out", "bench"], "no --out"),
        (["--against", "dtype=int3"], "unknown dtype 'int3'"),
        (["--model", "bultin"], "did you mean 'builtin'"),
        (["--size", "20"], "20 is not within 64..8192"),
        (["--dtype", "int3"], "unknown dtype 'int3'"),
        (["--option", "faster"], "unknown option 'faster'; known: low-memory, resident, compile"),
        (["--option", "deep-cache"], "builtin has no option deep-cache"),
        (["--option", "resident", "--option", "low-memory"], "exclude each other; give one of them"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str):
    result = CliRunner().invoke(build_app(), ["bench", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_table_json_and_page(tmp_path: Path):
    pytest.importorskip("matplotlib")
    arguments = ["bench", "--model", "warp", "--size", "64", "--size", "128", "--repeats", "1"]
    result = CliRunner().invoke(build_app(), [*arguments, "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0
    printed, kept = json.loads(result.stdout), json.loads((tmp_path / "bench.json").read_text())
    assert printed == kept
    assert [each["case"]["size"] for each in kept["measurements"]] == [64, 128]
    assert "<svg" not in (tmp_path / "bench.html").read_text().split("data:image")[0]
    table = CliRunner().invoke(build_app(), arguments)
    assert "floor, s" in table.stdout
    assert "open photo" in table.stdout
