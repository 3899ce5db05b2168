"""What makes frames and pairs unfit, each rule on a film made to break it; and the recipe of all rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_scenes import HEIGHT, WIDTH, square_film, texture
from lightningdrag.data.clips import DrawnPair, shot_pairs
from lightningdrag.data.pairs import Rejected, build_pair
from lightningdrag.data.recipe import DEFAULT, RecipeError, load_recipe
from lightningdrag.data.samples import even_strata
from lightningdrag.data.shots import split_shots
from lightningdrag.data.tracks import cell_centres

GRID = cell_centres(HEIGHT, WIDTH)


def blended(first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    weight = np.linspace(0, 1, steps)[:, None, None, None]
    return ((1 - weight) * first + weight * second).round().astype(np.uint8)


class TestShots:
    @pytest.mark.parametrize("other", [np.zeros((HEIGHT, WIDTH, 3)), texture(HEIGHT, WIDTH, 9)])
    def test_a_fade_or_a_dissolve_is_left_out(self, other: np.ndarray) -> None:
        film = square_film(8)
        fade = blended(film[-1], other, 16)
        dropped: Counter[str] = Counter()
        shots = split_shots(np.concatenate((film, fade, np.repeat(fade[-1:], 6, 0))), dropped)
        assert dropped["fade"] == 1
        assert shots[0][1] <= 9
        assert shots[-1][0] >= 22

    def test_no_shot_holds_the_change_of_a_flash(self) -> None:
        film = square_film(12)
        film[5] = np.minimum(film[5].astype(int) + 12, 255)
        dropped: Counter[str] = Counter()
        assert [shot for shot in split_shots(film, dropped) if shot[1] - shot[0] > 1] == [(0, 5), (6, 12)]
        assert dropped["flash"] == 2

    def test_motion_is_neither(self) -> None:
        dropped: Counter[str] = Counter()
        assert split_shots(square_film(24, (5, 2)), dropped) == [(0, 24)]
        assert not dropped


class TestScrollingText:
    @staticmethod
    def film(letters: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Two frames and the motion between them: a band of dark letters moves left over a bright bar."""
        ground = texture(HEIGHT, WIDTH, 3)
        band = np.full((20, 3 * WIDTH, 3), 230, np.uint8)
        for x in range(0, 3 * WIDTH - 8, 10):
            band[4:16, x : x + 6] = texture(12, 6, x) // 4
        frames = []
        for k in (0, 1):
            frame = ground.copy()
            frame[110:130, WIDTH - width :] = band[:, letters + 7 * k :][:, :width]
            frames.append(frame)
        inside = (GRID[..., 1] >= 110) & (GRID[..., 1] < 130) & (GRID[..., 0] >= WIDTH - width)
        motion = np.where(inside[..., None], np.float32((-7, 0)), np.float32((0, 0)))
        return frames[0], frames[1], motion

    def test_a_line_of_text_that_scrolls_through_the_picture_is_dropped(self) -> None:
        first, second, motion = self.film(0, WIDTH)
        with pytest.raises(Rejected, match="text scrolls"):
            build_pair(first, second, motion, -motion)

    def test_a_thing_that_slides_is_not(self) -> None:
        first, second, motion = self.film(0, WIDTH // 2)
        checks = replace(DEFAULT.checks, min_distinct=0.0)  # its letters look much alike
        assert build_pair(first, second, motion, -motion, checks).moving.any()


def test_the_same_pair_is_not_taken_twice() -> None:
    film = square_film(6)
    film = np.concatenate((film, film[::-1])[:2] * 3)  # to and fro
    dropped: Counter[str] = Counter()
    pairs = list(shot_pairs(film, 40, np.random.default_rng(0), dropped))
    assert dropped["near-duplicate"] > 0
    ends = {tuple(film[k].tobytes() for k in drawn.frames) for drawn in pairs}
    assert len(ends) == len(pairs)


class TestEvenStrata:
    @staticmethod
    def chosen(count: int, *motions: float) -> list[float]:
        pairs = [DrawnPair(None, (0, 1), "static", *[np.zeros(0)] * 3, motion) for motion in motions]  # type: ignore[arg-type]
        return [drawn.motion for drawn in even_strata(pairs, count)]

    def test_small_medium_and_large_motions_take_turns(self) -> None:
        motions = (0.01, 0.02, 0.03, 0.05, 0.06, 0.07, 0.2, 0.3, 0.4)
        assert self.chosen(4, *motions) == [0.01, 0.05, 0.2, 0.02]
        assert self.chosen(6, *motions) == [0.01, 0.05, 0.2, 0.02, 0.06, 0.3]

    def test_a_clip_of_one_kind_of_motion_still_gives_as_many_as_are_wanted(self) -> None:
        assert len(self.chosen(12, *[0.01] * 20)) == 12
        assert self.chosen(4, 0.2, 0.01, 0.02, 0.03) == [0.01, 0.2, 0.02, 0.03]
        assert self.chosen(4, 0.01) == [0.01]

    def test_the_strata_are_those_that_are_measured_by(self) -> None:
        assert self.chosen(2, 0.04, 0.03, 0.05) == [0.04, 0.05]


class TestRecipe:
    def test_what_a_file_names_is_changed_and_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text(
            "seed: 3\ngaps: {reach: [0.02, 0.3]}\nchecks: {max_motion: 1, min_motion: 1e-2}\n"
        )
        recipe = load_recipe(tmp_path / "recipe.yaml")
        assert (recipe.seed, recipe.gaps.reach, recipe.checks.max_motion) == (3, (0.02, 0.3), 1.0)
        assert recipe.checks.min_motion == 0.01
        assert recipe.camera == DEFAULT.camera

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("chekcs: {}", "did you mean 'checks'"),
            ("camera: {static_shares: 0.3}", r"recipe\.yaml: camera has no key .* 'static_share'"),
            ("camera: 3", "takes a mapping"),
            ("frames: {piece: many}", "piece is 'many'"),
            ("gaps: {steps: 3}", "takes a list like"),
            ("gaps: {steps: [1, x]}", "steps is 'x'"),
            ("seed: -1", "seed is -1; it must be 0 or more"),
            ("frames: {piece: 0}", "piece is 0; it must be above 0"),
            ("checks: {patch: .nan}", "patch is nan"),
            ("gaps: {reach: [0.1]}", r"reach is \[0\.1\]; it takes a lower and an upper bound"),
            ("a: [", "no YAML"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(RecipeError, match=message):
            load_recipe(tmp_path / "recipe.yaml")
