"""``lightningdrag evaluate``: what it writes, goes on with, compares, and says of bad input."""

from __future__ import annotations

import json
import math
import multiprocessing
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from evaluation_scenes import DRAGS, JitteredWarp, prepared
from killing import kill_first_worker
from lightningdrag.commands import build_app
from lightningdrag.commands.evaluate import model_rows
from lightningdrag.evaluation import provenance
from lightningdrag.evaluation.baselines import BASELINES, Asked
from lightningdrag.evaluation.case import TRUTH, Case, CaseScores, Problem
from lightningdrag.evaluation.evaluate import evaluate
from lightningdrag.evaluation.job import Job, Workshop
from lightningdrag.evaluation.page import _against_length
from lightningdrag.evaluation.pairs import PairSet
from lightningdrag.evaluation.report import to_json
from lightningdrag.evaluation.run import (
    PROGRESS,
    Outcome,
    Progress,
    edit_path,
    run,
    run_in_processes,
)
from lightningdrag.guidance import NOISE_PRIORS, SCHEDULES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("pairs") / "data", DRAGS)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["evaluate", *map(str, arguments)])


def written(out: Path) -> set[str]:
    return {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("command") / "out"
    return invoke("--data", folder, "--out", out, "--model", "warp", "--steps", "1,2", "--limit", 3), out


def test_the_command_writes_tables_a_page_and_sheets(done: tuple[Any, Path]) -> None:
    result, out = done
    assert result.exit_code == 0, result.output
    sheets = {
        f"sheets/warp-{s}-{kind}.png" for s in ("1-step", "2-steps") for kind in ("best", "worst", "random")
    }
    assert written(out) == {"report.json", "report.md", "report.html"} | sheets
    report = json.loads((out / "report.json").read_text())
    assert list(report["table"]["average"]) == [*BASELINES, "warp, 1 step", "warp, 2 steps", TRUTH]
    assert report["about"].keys() >= {"command", "commit", "machine", "split"}
    assert list(report["extremes"]) == ["warp, 1 step", "warp, 2 steps"]
    assert "warp, 2 steps" in result.stdout


def test_the_page_has_every_row_the_edits_and_where_it_comes_from(done: tuple[Any, Path]) -> None:
    report = json.loads((done[1] / "report.json").read_text())
    page = (done[1] / "report.html").read_text()
    for text in (*BASELINES, "warp, 1 step", "scene 2 #2", report["about"]["machine"], "gain over warp, dB"):
        assert text in page
    assert page.count('class="edit"') == 3
    assert page.count("data:image/svg+xml") == 4, "accuracy, time, error and gain by drag length"


def test_a_row_that_the_first_case_lacks_is_in_the_plot_all_the_same() -> None:
    rows = [{"identity": {"point_error": 1.0}}, {"peer": {"point_error": 0.5}}]
    scores = [CaseScores(k, str(k), "group", 0.1 + k, 1, math.nan, scores=row) for k, row in enumerate(rows)]
    plot = _against_length(scores, "point_error", gain=False)
    assert plot is not None
    assert b"peer" in plot.svg


def test_measures_without_their_weights_are_absent_with_the_reason(done: tuple[Any, Path]) -> None:
    report = json.loads((done[1] / "report.json").read_text())
    assert set(report["absent"]) == {"image fidelity and LPIPS", "CLIP similarity", "mean distance by DIFT"}
    assert all("--weights" in reason for reason in report["absent"].values())
    assert "lpips" not in report["table"]["average"]["identity"]
    assert "mean distance by DIFT" in (done[1] / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--steps", "0"], "0"),
        (["--steps", "1,two"], "1,two"),
        (["--steps", "1,2", "--sweep", "noise_prior"], "one number of steps"),
        (["--limit", "0"], "limit"),
        (["--benchmark", "nonesuch"], "nonesuch"),
        (["--benchmark", "dragbench"], "--root"),
        (["--model", "nonesuch"], "nonesuch"),
        (["--option", "nonesuch"], "nonesuch"),
        (["--option", "resident"], "builtin has no option resident"),
        (["--weights", "nowhere"], "nowhere"),
        (["--results", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_argument_is_one_error_and_nothing_is_written(
    arguments: list[str], named: str, folder: Path, tmp_path: Path
) -> None:
    result = invoke("--data", folder, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    result = invoke("--data", tmp_path / "nowhere", "--out", tmp_path / "out", "--model", "warp")
    assert result.exit_code == 2
    assert "nowhere is no prepared dataset" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_sweep_has_a_row_for_each_value() -> None:
    priors = model_rows("runs/mine", sweep="noise_prior")
    assert list(priors) == [f"mine, noise_prior {prior}" for prior in NOISE_PRIORS]
    assert [row["noise_prior"] for row in priors.values()] == list(NOISE_PRIORS)
    schedules = model_rows("sd15", "8", 3.0, "guidance_schedule")
    assert schedules["sd15, guidance_schedule cubic"] == {
        "guidance_schedule": "cubic",
        "guidance": 3.0,
        "steps": 8,
    }
    assert len(schedules) == len(SCHEDULES)
    assert model_rows("sd15", "4,8", sweep="steps") == {
        "sd15, 4 steps": {"steps": 4},
        "sd15, 8 steps": {"steps": 8},
    }


# Going on, and in several processes ------------------------------------------------------------


def test_a_killed_run_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    job = Job("pairs", str(folder), limit=3)
    shop = Workshop(job, {"jittered": JitteredWarp()})
    progress = Progress(shop, tmp_path)
    for outcome in run(shop, [0, 1], tmp_path):
        progress.add(outcome)
    with (tmp_path / PROGRESS).open("a") as file:
        file.write('{"index": 2, "sco')  # what a kill cuts short

    again = Progress(shop, tmp_path)
    assert sorted(again.done) == [0, 1]
    before = json.dumps(progress.done[1].scores.scores["jittered"])  # type: ignore[union-attr]
    assert json.dumps(again.done[1].scores.scores["jittered"]) == before  # type: ignore[union-attr]
    report = evaluate(job, tmp_path, peers={"jittered": JitteredWarp()})
    assert report["pairs"] == 3
    assert report["scores"][1]["scores"]["jittered"] == json.loads(before)
    assert not (tmp_path / PROGRESS).exists()

    failed = Progress(shop, tmp_path)
    failed.add(Outcome(0, None, [Problem("00000", "", "no such file")]))
    assert Progress(shop, tmp_path).done == {}, "what had a problem is tried again"

    other = Workshop(Job("pairs", str(folder), limit=3, seed=1))
    Progress(shop, tmp_path).add(next(run(shop, [0])))
    assert Progress(other, tmp_path).done == {}, "another job does not take it up"


def test_pictures_that_another_run_left_are_not_shown_as_this_ones(folder: Path, tmp_path: Path) -> None:
    peers = {"jittered": JitteredWarp()}
    left, this = (Workshop(Job("pairs", str(folder), seed=seed), peers) for seed in (0, 1))
    progress = Progress(left, tmp_path)
    for outcome in run(left, [0], tmp_path):
        progress.add(outcome)
    picture = edit_path(tmp_path, left, "jittered", 0)
    assert picture.is_file()
    Progress(left, tmp_path)
    assert picture.is_file(), "it is the same run"
    Progress(this, tmp_path)
    assert not picture.exists()


def test_networks_that_came_later_make_another_run(folder: Path, tmp_path: Path) -> None:
    job = Job("pairs", str(folder), weights=str(tmp_path))
    before = job.stamp()
    assert job.stamp() == before
    (tmp_path / "alex.pth").touch()
    assert job.stamp() != before


def test_a_weight_file_that_was_written_anew_makes_another_run(folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "builtin.safetensors"
    weights.write_bytes(b"one")
    job = Job("pairs", str(folder), model=str(weights))
    before = job.stamp()
    weights.write_bytes(b"another")
    assert job.stamp() != before


def test_processes_score_as_one_does_and_none_is_left(folder: Path, tmp_path: Path) -> None:
    job = Job("pairs", str(folder), limit=2)
    one, two = (evaluate(job, tmp_path / str(n), workers=n) for n in (1, 2))
    assert not multiprocessing.active_children()

    def figures(report: dict[str, Any]) -> list[dict[str, float]]:
        timed = {"seconds", "megabytes"}
        return [
            {k: v for k, v in row.items() if k not in timed and not math.isnan(v)}
            for scored in report["scores"]
            for row in scored["scores"].values()
        ]

    assert figures(one) == figures(two)


def test_cases_edited_together_score_as_one_by_one(folder: Path) -> None:
    """With the built-in model: its passes hold several cases, and what they change is rounding."""
    job = Job("pairs", str(folder), limit=4, model="builtin", rows={"builtin": {"steps": 1}})
    passes: dict[int, set[int]] = {1: set(), 3: set()}
    scores: list[list[dict[str, float]]] = []
    for batch, sizes in passes.items():
        shop = Workshop(replace(job, batch=batch))
        shop.methods = {"builtin": shop.methods["builtin"]}
        renderer = shop.methods["builtin"].editor.model.network.renderer  # type: ignore[attr-defined]
        renderer.register_forward_pre_hook(lambda _, given, sizes=sizes: sizes.add(len(given[1].source)))
        scores.append([o.scores.scores["builtin"] for o in run(shop, range(4)) if o.scores])
    assert passes == {1: {1, 4}, 3: {1, 3, 4}}, "four are the candidates of one edit"
    alone, together = scores
    for one, two in zip(alone, together, strict=True):
        for key in ("psnr", "psnr_back", "ssim", "deviation_targets"):
            assert two[key] == pytest.approx(one[key], abs=0.1, nan_ok=True), key


def test_of_cases_edited_together_only_the_one_that_fails_is_listed(folder: Path) -> None:
    class Failing(JitteredWarp):
        def many(self, asked: list[Asked], seed: int, batch: int) -> list[np.ndarray]:
            return [self(*edit, seed) for edit in asked]

        def __call__(self, source: np.ndarray, *edit: Any) -> np.ndarray:
            if (source == bad).all():
                raise ValueError("no such thing")
            return super().__call__(source, *edit)

    bad = PairSet(folder)[1].source
    shop = Workshop(Job("pairs", str(folder), batch=2), {"failing": Failing()})
    outcomes = list(run(shop, range(3)))
    assert ["failing" in o.scores.scores for o in outcomes if o.scores] == [True, False, True]
    assert [p.problem for o in outcomes for p in o.problems] == ["no such thing"]


def test_a_worker_that_is_killed_ends_the_run_with_one_line(folder: Path, tmp_path: Path) -> None:
    shop = Workshop(Job("pairs", str(folder), limit=1))
    running = run_in_processes(shop, [0], tmp_path, workers=1)
    kill_first_worker()
    with pytest.raises(ChildProcessError, match="run the same command again"):
        next(running)


# Results of any method -------------------------------------------------------------------------


def test_results_from_a_folder_score_as_the_method_that_made_them(folder: Path, tmp_path: Path) -> None:
    pairs = PairSet(folder, limit=2)
    (tmp_path / "peer").mkdir()
    for index in range(len(pairs)):
        case = pairs[index]
        result = BASELINES["moving least squares"](case.source, case.handles, case.targets, case.mask, 0)
        Image.fromarray(result).save(tmp_path / "peer" / pairs.result_paths(index)[0])
    arguments = ("--data", folder, "--out", tmp_path / "out", "--limit", 2)
    result = invoke(*arguments, "--results", tmp_path / "peer")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["table"]["average"]
    assert list(rows) == [*BASELINES, "peer", TRUTH]
    for key in ("psnr", "point_error", "dai_5", "psnr_rim"):
        assert rows["peer"][key] == rows["moving least squares"][key]


@pytest.mark.parametrize("name", ["identity", TRUTH])
def test_results_cannot_take_the_row_of_a_baseline(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    result = invoke("--data", folder, "--out", tmp_path / "out", "--results", tmp_path / name)
    assert result.exit_code == 2
    assert f"two rows would be called '{name}'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_package_in_somebodys_repository_is_not_of_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "provenance.py"
    installed.parent.mkdir()
    installed.touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.provenance()["commit"] == "unknown"
    for words in (["add", str(installed)], ["commit", "-q", "-m", "ours"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert head.startswith(provenance.provenance()["commit"])


def test_half_finished_results_are_listed_and_the_rest_is_scored(folder: Path, tmp_path: Path) -> None:
    pairs = PairSet(folder)
    (tmp_path / "peer").mkdir()
    Image.fromarray(pairs[0].source).save(tmp_path / "peer" / "00000.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "peer" / "00001.png")
    (tmp_path / "peer" / "00003.png").write_bytes(b"no image")  # 2 and 5 are not among four of six
    arguments = ("--data", folder, "--out", tmp_path / "out", "--limit", 4, "--results", tmp_path / "peer")

    result = invoke(*arguments)
    assert result.exit_code == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(p["case"], p["method"]) for p in report["problems"]] == [
        ("00001", "peer"),
        ("00003", "peer"),
        ("00004", "peer"),
    ]
    assert "is 8x8, the source 128x96" in report["problems"][0]["problem"]
    assert report["table"]["average"]["peer"]["cases"] == 1
    assert "1 of 4" in result.stdout
    assert invoke(*arguments, "--limit", 2, "--allow-missing").exit_code == 0


def test_a_method_that_fails_or_returns_another_size_is_listed(folder: Path, tmp_path: Path) -> None:
    def failing(source: np.ndarray, *request: object) -> np.ndarray:
        raise ValueError("no such thing")

    def shrinking(source: np.ndarray, *request: object) -> np.ndarray:
        return source[::2, ::2]

    job = Job("pairs", str(folder), limit=1)
    report = evaluate(job, tmp_path, peers={"failing": failing, "shrinking": shrinking})
    assert [p["problem"] for p in report["problems"]] == [
        "no such thing",
        "the result is uint8 (48, 64, 3); wanted uint8 (96, 128, 3)",
    ]
    assert list(report["table"]["average"]) == [*BASELINES, TRUTH]


def test_whatever_a_method_or_a_measure_raises_the_rest_is_scored(folder: Path) -> None:
    def failing(source: np.ndarray, *request: object) -> np.ndarray:
        raise KeyError("a bug")

    def exhausted(case: Case, results: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        raise RuntimeError("out of memory")

    shop = Workshop(Job("pairs", str(folder), limit=1), {"failing": failing})
    shop.measures.append(exhausted)
    (outcome,) = run(shop, [0])
    assert [(p.method, p.problem) for p in outcome.problems] == [
        ("failing", "'a bug'"),
        ("the measure exhausted", "out of memory"),
    ]
    assert outcome.scores is not None
    assert outcome.scores.scores["identity"]["ssim"] > 0


# Comparing -------------------------------------------------------------------------------------


def test_compare_tells_a_change_from_noise(folder: Path, tmp_path: Path) -> None:
    models = {"old model": BASELINES["identity"], "new model": BASELINES["reference warp"]}
    report = evaluate(Job("pairs", str(folder)), tmp_path, peers=models)
    paths = [tmp_path / f"{name}.json" for name in models]
    for path in paths:  # two reports, a model in each
        scores = [
            {
                **s,
                "scores": {row: v for row, v in s["scores"].items() if row not in models or row == path.stem},
            }
            for s in report["scores"]
        ]
        path.write_text(to_json({**report, "scores": scores}))
    result = invoke("compare", *paths)
    assert result.exit_code == 0, result.output
    assert "old model -> new model, 6 cases" in result.stdout
    verdicts = {
        cells[1]: cells[5]
        for cells in ([c.strip() for c in x.split("|")] for x in result.stdout.splitlines() if x[:1] == "|")
        if len(cells) > 5
    }
    assert verdicts["point error"] == "better"
    assert verdicts["half-transparent"] in {"worse", "noise"}
    assert verdicts["px changed outside"] == "noise"
    assert verdicts["sharpness"] == "-", "of medians nothing is said"

    same = invoke("compare", paths[0], paths[0])
    assert "better" not in same.stdout
    assert "worse" not in same.stdout


def test_compare_refuses_other_pairs_of_the_same_names(folder: Path, tmp_path: Path) -> None:
    report = evaluate(Job("pairs", str(folder), limit=2), tmp_path)
    paths = [tmp_path / "one.json", tmp_path / "other.json"]
    for path, motion in zip(paths, (0.05, 0.11), strict=True):
        scores = [{**s, "motion": motion} for s in report["scores"]]
        path.write_text(to_json({**report, "scores": scores}))
    result = invoke("compare", *paths)
    assert result.exit_code == 2
    assert "has motion 0.05 in one report and 0.11 in the other" in result.stderr


def test_compare_refuses_what_is_no_report(tmp_path: Path, done: tuple[Any, Path]) -> None:
    (tmp_path / "x.json").write_text("{}")
    result = invoke("compare", tmp_path / "x.json", done[1] / "report.json")
    assert result.exit_code == 2
    assert "x.json is no report" in result.stderr
