"""The ``pairs`` benchmark on scenes whose motion is known: baselines, scores, table and sheets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lightningdrag import DragEditor
from lightningdrag.commands import build_app
from lightningdrag.data.pairs import FramePair
from lightningdrag.data.shards import ShardWriter, encode_sample
from lightningdrag.evaluation import metrics
from lightningdrag.evaluation.baselines import (
    BASELINES,
    EditorMethod,
    identity,
    reference_warp,
    reference_warp_inpainted,
)
from lightningdrag.evaluation.pairs import TRUTH, Pair, PairScores, PairSet, run, score
from lightningdrag.evaluation.report import build_report, markdown, to_json, write_report
from lightningdrag.evaluation.sheets import choose, context_box, write_pair_sheets

HEIGHT, WIDTH, RADIUS = 96, 128, 14
CENTRE = (50, 48)


def texture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip(128 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def disc(x: float, y: float, radius: float = RADIUS) -> np.ndarray:
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return np.hypot(columns - x, rows - y) <= radius


def scene(drag: tuple[int, int], seed: int = 0) -> Pair:
    """A textured disc that moves by ``drag`` before a textured background."""
    background, mover = texture(seed), texture(seed + 1000)
    x, y = CENTRE
    before, after = disc(x, y), disc(x + drag[0], y + drag[1])
    moved = np.roll(mover, (drag[1], drag[0]), (0, 1))
    return Pair(
        name=f"scene {seed}",
        group=f"group {seed % 3}",
        source=np.where(before[..., None], mover, background),
        truth=np.where(after[..., None], moved, background),
        mask=disc(x + drag[0] / 2, y + drag[1] / 2, RADIUS + np.hypot(*drag) / 2 + 8),
        handles=np.array([[x, y]], np.float32),
        targets=np.array([[x + drag[0], y + drag[1]]], np.float32),
        uncovered=before & ~after,
    )


def prepared(folder: Path, drags: list[tuple[int, int]], split: str = "dev") -> Path:
    """The scenes as a prepared dataset on disk."""
    with ShardWriter(folder) as writer:
        for seed, drag in enumerate(drags):
            pair = scene(drag, seed)
            still = np.zeros((2, HEIGHT // 2, WIDTH // 2), np.float32)
            state = np.ones((HEIGHT // 2, WIDTH // 2), np.uint8)
            state[pair.uncovered[::2, ::2]] = 0
            moving = np.ones_like(state)
            frames = FramePair(pair.source, pair.truth, still, still, np.ones_like(state), state, moving)
            meta = {
                "kind": "video",
                "clip": pair.name,
                "group": pair.group,
                "licence": "made here",
                "handles": pair.handles.tolist(),
                "targets": pair.targets.tolist(),
                "motion": pair.motion,
                "split": split,
            }
            writer.add(encode_sample(frames, pair.mask, meta))
    return folder


def jittered_warp(
    source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """The reference warp with noise of two grey levels in the mask: a method with candidates."""
    warped = reference_warp(source, handles, targets, mask, seed).astype(np.float64)
    noise = np.random.default_rng(seed).normal(0, 2, warped.shape)
    return np.clip(warped + noise * mask[..., None], 0, 255).round().astype(np.uint8)


class JitteredWarp:
    def __call__(
        self, source: np.ndarray, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray, seed: int
    ) -> np.ndarray:
        return jittered_warp(source, handles, targets, mask, seed)

    def candidates(
        self,
        source: np.ndarray,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray,
        seed: int,
        count: int,
    ) -> list[np.ndarray]:
        return [self(source, handles, targets, mask, seed + i) for i in range(count)]


DRAGS = [(2, 1), (3, 0), (0, 6), (8, 2), (16, 0), (14, 9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("pairs") / "data", DRAGS)


@pytest.fixture(scope="module")
def scores(folder: Path) -> list[PairScores]:
    return list(run(PairSet(folder), {**BASELINES, "jittered": JitteredWarp()}))


# Baselines -------------------------------------------------------------------------------------


def test_every_baseline_leaves_the_outside_of_the_mask_alone() -> None:
    pair = scene((12, 4))
    for name, method in BASELINES.items():
        result = method(pair.source, pair.handles, pair.targets, pair.mask, 0)
        assert (result.shape, result.dtype) == (pair.source.shape, np.uint8)
        assert metrics.changed_outside(pair.source, result, pair.mask) == 0, name


def test_the_reference_warp_follows_its_formula_at_a_pixel() -> None:
    """Shepard's weights 1/d^3 over one target and 64 anchors on the rim, written out."""
    from lightningdrag.evaluation.baselines import displacement
    from lightningdrag.warp import rim_anchors

    pair = scene((12, 4))
    anchors = rim_anchors(pair.mask)
    assert len(anchors) == 64
    pixel = np.array([55.0, 52.0])
    to_target = np.linalg.norm(pixel - pair.targets[0]) ** -3.0
    to_anchors = (np.linalg.norm(pixel - anchors, axis=1) ** -3.0).sum()
    expected = to_target / (to_target + to_anchors) * np.array([-12.0, -4.0])
    field = displacement(pair.handles, pair.targets, pair.mask)
    assert field[:, 52, 55] == pytest.approx(expected, abs=1e-4)
    assert field[:, 0, 0] == pytest.approx([0, 0])


def test_the_reference_warp_brings_the_handle_to_its_target() -> None:
    pair = scene((12, 4))
    result = reference_warp(pair.source, pair.handles, pair.targets, pair.mask, 0)
    x, y = CENTRE
    assert (result[y + 4, x + 12] == pair.source[y, x]).all()


def test_inpainting_changes_only_what_the_warp_stretched() -> None:
    pair = scene((14, 0))
    request = (pair.source, pair.handles, pair.targets, pair.mask, 0)
    repainted = (reference_warp(*request) != reference_warp_inpainted(*request)).any(-1)
    assert repainted.any()
    columns = np.nonzero(repainted)[1]
    assert columns.mean() < CENTRE[0] + 14, "what is stretched lies behind the target"
    assert repainted.sum() < 0.5 * pair.mask.sum()


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


def test_a_folder_without_such_pairs_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no prepared dataset"):
        PairSet(tmp_path)
    with pytest.raises(ValueError, match="'train'"):
        PairSet(folder, split="train")
    with pytest.raises(ValueError, match="limit is 0"):
        PairSet(folder, limit=0)


def test_strata_are_cut_at_4_and_10_percent_of_the_short_side() -> None:
    def stratum(motion: float) -> str:
        return PairScores(0, "", "", motion, 1, 0).stratum

    assert [stratum(m) for m in (0.039, 0.041, 0.1, 0.101)] == ["small", "medium", "medium", "large"]


def test_methods_are_timed_and_held_to_the_mask_and_the_truth_is_not(scores: list[PairScores]) -> None:
    for scored in scores:
        assert scored.scores["jittered"]["changed_outside"] == 0
        assert scored.scores["jittered"]["seconds"] > 0
        assert "changed_outside" not in scored.scores[TRUTH]


def test_candidates_are_compared_only_where_a_method_offers_them(scores: list[PairScores]) -> None:
    for scored in scores:
        assert "deviation_targets" not in scored.scores["reference warp"]
        jittered = scored.scores["jittered"]
        assert 0.5 < jittered["deviation_targets"] < 3
        assert 0 <= jittered["best_candidate_gain"] < 1


def test_an_editor_is_a_method(folder: Path) -> None:
    """With the model that is the analytic warp: near the reference, and never outside the mask."""
    pair = PairSet(folder)[4]
    method = EditorMethod(DragEditor.from_pretrained("warp", device="cpu"), steps=1)
    request = (pair.source, pair.handles, pair.targets, pair.mask, 0)
    result = method(*request)
    assert metrics.changed_outside(pair.source, result, pair.mask) == 0
    assert abs(score(result, pair)["psnr"] - score(reference_warp(*request), pair)["psnr"]) < 1
    assert len(method.candidates(*request, count=3)) == 3


# The command -----------------------------------------------------------------------------------


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["evaluate", *map(str, arguments)])


def test_the_command_writes_tables_and_sheets(folder: Path, tmp_path: Path) -> None:
    done = invoke(
        "--data", folder, "--out", tmp_path / "out", "--model", "warp", "--steps", "1,2", "--limit", 3
    )
    assert done.exit_code == 0, done.output
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    sheets = {
        f"sheets/warp-{s}-{kind}.png" for s in ("1-step", "2-steps") for kind in ("best", "worst", "random")
    }
    assert written == {"report.json", "report.md"} | sheets
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["table"]["average"]) == [*BASELINES, "warp, 1 step", "warp, 2 steps", TRUTH]
    assert report["about"].keys() >= {"command", "commit", "machine", "split"}
    assert "warp, 2 steps" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--steps", "0"], "0"),
        (["--steps", "1,two"], "1,two"),
        (["--limit", "0"], "limit"),
        (["--benchmark", "nonesuch"], "nonesuch"),
        (["--model", "nonesuch"], "nonesuch"),
    ],
)
def test_a_wrong_argument_is_one_error_and_nothing_is_written(
    arguments: list[str], named: str, folder: Path, tmp_path: Path
) -> None:
    done = invoke("--data", folder, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert named in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    done = invoke("--data", tmp_path / "nowhere", "--out", tmp_path / "out", "--model", "warp")
    assert done.exit_code == 2
    assert "nowhere is no prepared dataset" in done.stderr
    assert not (tmp_path / "out").exists()


# The report ------------------------------------------------------------------------------------


def test_the_average_is_that_of_the_strata(scores: list[PairScores]) -> None:
    table = build_report(scores, {})["table"]
    strata = [table[name]["identity"]["ssim"]["mean"] for name in ("small", "medium", "large")]
    assert table["average"]["identity"]["ssim"]["mean"] == pytest.approx(np.mean(strata))
    by_hand = [s.scores["identity"]["ssim"] for s in scores if s.stratum == "large"]
    assert strata[2] == pytest.approx(np.mean(by_hand))


def test_gains_are_paired_with_the_reference_warp(scores: list[PairScores]) -> None:
    row = build_report(scores, {})["table"]["average"]["identity"]
    differences = [s.scores["identity"]["psnr"] - s.scores["reference warp"]["psnr"] for s in scores]
    assert row["gain"]["won"] == pytest.approx(np.mean([d > 0 for d in differences]))
    assert row["gain"]["low"] <= row["gain"]["mean"] <= row["gain"]["high"]


def test_the_report_is_valid_json_and_a_table_for_people(scores: list[PairScores], tmp_path: Path) -> None:
    report = build_report(scores, {"machine": "here"})
    write_report(report, tmp_path / "new")
    read = json.loads((tmp_path / "new" / "report.json").read_text())
    assert read["table"]["average"][TRUTH]["psnr"]["mean"] == "Infinity"
    assert read["about"] == {"machine": "here"}
    assert len(read["scores"]) == len(DRAGS)
    assert to_json({"undefined": float("nan")}) == '{\n "undefined": null\n}'
    text = (tmp_path / "new" / "report.md").read_text()
    assert text == markdown(report) + "\n"
    for name in (*BASELINES, TRUTH, "Small drags, 2 pairs", "1 point, 6 pairs"):
        assert name in text
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["report.json", "report.md"]


def test_best_and_worst_are_ranked_by_gain(scores: list[PairScores]) -> None:
    chosen = choose(scores, "jittered")
    gains = [s.scores["jittered"]["psnr"] - s.scores["reference warp"]["psnr"] for s in chosen["best"]]
    assert gains == sorted(gains, reverse=True)
    assert [s.index for s in chosen["worst"]] == [s.index for s in chosen["best"]][::-1]
    assert [s.index for s in chosen["random"]] == list(range(len(DRAGS)))


def test_sheets_show_four_pictures_a_row(scores: list[PairScores], folder: Path, tmp_path: Path) -> None:
    written = write_pair_sheets(scores, PairSet(folder), {"jittered": JitteredWarp()}, tmp_path)
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
