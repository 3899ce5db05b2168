"""The ``pairs`` benchmark on scenes whose motion is known: baselines, scores, table and sheets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation_scenes import DRAGS, JitteredWarp, prepared, scene
from lightningdrag import DragEditor
from lightningdrag.evaluation import metrics
from lightningdrag.evaluation.baselines import (
    BASELINES,
    EditorMethod,
    identity,
    reference_warp,
)
from lightningdrag.evaluation.case import TRUTH, Case, CaseScores
from lightningdrag.evaluation.job import Job, Workshop
from lightningdrag.evaluation.measures import pixels
from lightningdrag.evaluation.pairs import PairSet
from lightningdrag.evaluation.ranking import EXTREMES, extremes
from lightningdrag.evaluation.report import build_report, to_json
from lightningdrag.evaluation.run import run
from lightningdrag.evaluation.sheets import choose, context_box, write_sheets
from lightningdrag.evaluation.tables import markdown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("pairs") / "data", DRAGS)


@pytest.fixture(scope="module")
def scores(folder: Path) -> list[CaseScores]:
    return scored(folder)


def scored(folder: Path) -> list[CaseScores]:
    shop = Workshop(Job("pairs", str(folder)), {"jittered": JitteredWarp()})
    return [outcome.scores for outcome in run(shop, range(len(shop.cases))) if outcome.scores is not None]


def score(result: np.ndarray, case: Case) -> dict[str, float]:
    return pixels(case, {"it": result})["it"]


# Scores ----------------------------------------------------------------------------------------


def test_doing_nothing_scores_as_the_source_still_standing_there() -> None:
    pair = scene((12, 4))
    scored = score(identity(pair.source, pair.handles, pair.targets, pair.mask, 0), pair)
    assert scored["ghost"] == pytest.approx(1)
    assert scored["half_transparent"] == 0
    assert scored["point_error"] == pytest.approx(1, abs=0.02)


def test_the_true_frame_scores_perfectly_on_a_rigid_motion() -> None:
    scored = score(scene((12, 4)).truth, scene((12, 4)))
    assert scored["psnr"] == float("inf")
    assert (scored["ghost"], scored["half_transparent"]) == (0, 0)
    assert scored["ssim"] == pytest.approx(1)
    assert scored["point_error"] < 0.02


def test_a_mixture_of_source_and_truth_is_half_transparent() -> None:
    pair = scene((12, 4))
    mixture = ((pair.source.astype(int) + pair.truth) // 2).astype(np.uint8)
    assert score(mixture, pair)["half_transparent"] > 0.99


# The benchmark ---------------------------------------------------------------------------------


def test_pairs_come_back_from_disk_as_they_were_prepared(folder: Path) -> None:
    pairs = PairSet(folder)
    assert len(pairs) == len(DRAGS)
    read, made = pairs[4], scene(DRAGS[4], 4)
    assert (read.mask == made.mask).all()
    assert read.targets == pytest.approx(made.targets)
    assert np.abs(read.source.astype(int) - made.source).mean() < 3
    assert read.occlusion == pytest.approx(made.occlusion, rel=0.1)
    assert (read.group, read.name) == ("group 1", "scene 4 #4")


def test_a_limit_spreads_over_the_list(folder: Path) -> None:
    names = [PairSet(folder, limit=3)[i].name for i in range(3)]
    assert names == ["scene 0 #0", "scene 2 #2", "scene 4 #4"]
    assert len(PairSet(folder, split="all", limit=100)) == len(DRAGS)


def test_a_limit_leaves_each_pair_the_result_that_is_made_of_it(folder: Path) -> None:
    few = PairSet(folder, limit=3)
    assert [few.result_paths(i) for i in range(3)] == [[Path(f"0000{place}.png")] for place in (0, 2, 4)]
    assert few.label(1) == "00002"


def test_a_folder_without_such_pairs_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no prepared dataset"):
        PairSet(tmp_path)
    with pytest.raises(ValueError, match="'train'"):
        PairSet(folder, split="train")
    with pytest.raises(ValueError, match="limit is 0"):
        PairSet(folder, limit=0)


def test_strata_are_cut_at_4_and_10_percent_of_the_short_side() -> None:
    def stratum(motion: float) -> str:
        return CaseScores(0, "", "", motion, 1, 0).stratum

    assert [stratum(m) for m in (0.039, 0.041, 0.1, 0.101)] == ["small", "medium", "medium", "large"]


def test_methods_are_timed_and_held_to_the_mask_and_the_truth_is_not(scores: list[CaseScores]) -> None:
    for scored in scores:
        assert scored.scores["jittered"]["changed_outside"] == 0
        assert scored.scores["jittered"]["seconds"] > 0
        assert "changed_outside" not in scored.scores[TRUTH]


def test_candidates_are_compared_only_where_a_method_offers_them(scores: list[CaseScores]) -> None:
    for scored in scores:
        assert "deviation_targets" not in scored.scores["reference warp"]
        jittered = scored.scores["jittered"]
        assert 0.5 < jittered["deviation_targets"] < 3
        assert 0 <= jittered["best_candidate_gain"] < 1


def test_an_editor_is_a_method(folder: Path) -> None:
    """With the model that is the analytic warp: near the reference, and never outside the mask."""
    pair = PairSet(folder)[4]
    method = EditorMethod(DragEditor.from_pretrained("warp", device="cpu"), {"steps": 1})
    request = (pair.source, pair.handles, pair.targets, pair.mask, 0)
    result = method(*request)
    assert metrics.changed_outside(pair.source, result, pair.mask) == 0
    assert abs(score(result, pair)["psnr"] - score(reference_warp(*request), pair)["psnr"]) < 1
    assert len(method.candidates(*request, count=3)) == 3


# The report ------------------------------------------------------------------------------------


def test_the_average_is_that_of_the_strata(scores: list[CaseScores]) -> None:
    table = build_report(scores, {})["table"]
    average, *strata = (table[name]["identity"] for name in ("average", "small", "medium", "large"))
    for key, figure in (("ssim", "mean"), ("sharpness", "mean"), ("seconds", "mean"), ("gain", "won")):
        assert average[key][figure] == pytest.approx(np.mean([row[key][figure] for row in strata])), key
    by_hand = [s.scores["identity"]["ssim"] for s in scores if s.stratum == "large"]
    assert strata[2]["ssim"]["mean"] == pytest.approx(np.mean(by_hand))


def test_gains_are_paired_with_the_reference_warp(scores: list[CaseScores]) -> None:
    row = build_report(scores, {})["table"]["average"]["identity"]
    differences = [s.scores["identity"]["psnr"] - s.scores["reference warp"]["psnr"] for s in scores]
    strata = {s.stratum for s in scores}
    won = [[d > 0 for d, s in zip(differences, scores, strict=True) if s.stratum == name] for name in strata]
    assert row["gain"]["won"] == pytest.approx(np.mean([np.mean(each) for each in won]))
    assert row["gain"]["low"] <= row["gain"]["mean"] <= row["gain"]["high"]


def test_the_report_is_valid_json_and_a_table_for_people(scores: list[CaseScores]) -> None:
    report = build_report(scores, {"machine": "here"})
    read = json.loads(to_json(report))
    assert read["table"]["average"][TRUTH]["psnr"]["mean"] == "Infinity"
    assert read["about"] == {"machine": "here"}
    assert len(read["scores"]) == len(DRAGS)
    assert to_json({"undefined": float("nan")}) == '{\n "undefined": null\n}'
    text = markdown(report)
    for name in (*BASELINES, TRUTH, "Small drags, 2 pairs", "1 point, 6 pairs"):
        assert name in text
    mean, low, high = (report["table"]["average"]["identity"]["psnr"][key] for key in ("mean", "low", "high"))
    assert f"{mean:.2f} [{low:.2f}, {high:.2f}]" in text


def test_best_and_worst_are_ranked_by_gain(scores: list[CaseScores]) -> None:
    chosen = choose(scores, "jittered")
    gains = [s.scores["jittered"]["psnr"] - s.scores["reference warp"]["psnr"] for s in chosen["best"]]
    assert gains == sorted(gains, reverse=True)
    assert [s.index for s in chosen["worst"]] == [s.index for s in chosen["best"]][::-1]
    assert [s.index for s in chosen["random"]] == list(range(len(DRAGS)))
    named = extremes(scores, ["jittered"])["jittered"]
    assert named["best"] == [s.name for s in chosen["best"]] == named["worst"][::-1]
    assert EXTREMES == 20


def test_sheets_show_four_pictures_a_row(scores: list[CaseScores], folder: Path, tmp_path: Path) -> None:
    def picture_of(case: Case, index: int, row: str) -> np.ndarray:
        return JitteredWarp()(case.source, case.handles, case.targets, case.mask, 0)

    written = write_sheets(scores, PairSet(folder), ["jittered"], picture_of, tmp_path)
    assert [path.name for path in written] == [
        "jittered-best.png",
        "jittered-worst.png",
        "jittered-random.png",
    ]
    pairs = PairSet(folder)
    heights = []
    for i in range(len(DRAGS)):
        left, top, right, bottom = context_box(pairs[i].mask)
        heights.append(16 + round((bottom - top) * min(296 / (right - left), 218 / (bottom - top))))
    with Image.open(written[0]) as sheet:
        assert sheet.size == (4 * 300, sum(heights))


def test_a_sheet_shows_the_mask_with_context() -> None:
    mask = np.zeros((100, 200), bool)
    mask[40:60, 80:120] = True
    assert context_box(mask) == (71, 31, 129, 69)
    assert context_box(~mask) == (0, 0, 200, 100)
