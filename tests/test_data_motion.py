"""Decoding, cuts, cameras and chained motion, on films whose truth is known."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from data_scenes import HEIGHT, SQUARE, WIDTH, camera_film, corner, square_film, texture, write_video
from lightningdrag.data.camera import MOVING, STATIC, STEADY, find_camera, stabilise
from lightningdrag.data.clips import shot_pairs
from lightningdrag.data.doubts import distinct_cells, doubtful_cells
from lightningdrag.data.drawing import draw_drags
from lightningdrag.data.pairs import Rejected, build_pair
from lightningdrag.data.recipe import DEFAULT, Frames
from lightningdrag.data.shots import split_shots
from lightningdrag.data.tracks import (
    OCCLUDED,
    PLAIN,
    VISIBLE,
    cell_centres,
    clip_flow,
    disagreement,
    follow,
    look_up_cells,
    motion_states,
    polish,
)
from lightningdrag.data.video import read_video, without_bars

GRID = cell_centres(HEIGHT, WIDTH)
LEVEL = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
QUARTER_TURN = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
"""How an MP4's track is to be shown: as it is, or turned clockwise."""


def inside_square(frame: int, margin: float = 4) -> np.ndarray:
    x, y = corner(frame)
    offset = GRID - (x, y)
    return ((offset >= margin) & (offset < SQUARE - margin)).all(-1)


def chained(film: np.ndarray, start: int, stop: int) -> np.ndarray:
    return follow(clip_flow(film), GRID, start, stop) - GRID


class TestVideo:
    def test_frames_come_back_in_order_scaled_to_the_short_side_and_even(self, tmp_path: Path) -> None:
        film = square_film(9)
        (piece,) = read_video(write_video(tmp_path / "film.mkv", film), Frames(short_side=101))
        assert piece.shape == (9, 100, 134, 3)
        assert piece.dtype == np.uint8

    def test_small_frames_are_not_enlarged(self, tmp_path: Path) -> None:
        film = square_film(3)
        (piece,) = read_video(write_video(tmp_path / "film.mkv", film))
        assert piece.shape == film.shape
        assert np.abs(piece.astype(int) - film).mean() < 4

    def test_a_long_film_comes_in_pieces(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "film.mkv", square_film(11))
        assert [len(piece) for piece in read_video(path, Frames(piece=4))] == [4, 4, 3]

    def test_a_fast_film_is_thinned_by_its_time_stamps(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "film.mkv", square_film(20), rate=40)
        (piece,) = read_video(path, Frames(max_rate=10.0))
        assert len(piece) == 5

    def test_frames_that_come_unevenly_are_thinned_by_their_times(self, tmp_path: Path) -> None:
        film, times = square_film(6), (0, 20, 40, 300, 320, 600)
        with av.open(str(tmp_path / "film.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=50)
            stream.height, stream.width = film.shape[1:3]
            stream.codec_context.time_base = Fraction(1, 1000)
            for image, time in zip(film, times, strict=True):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        (piece,) = read_video(tmp_path / "film.mkv", Frames(max_rate=10.0))
        assert [np.abs(film.astype(int) - image).mean((1, 2, 3)).argmin() for image in piece] == [0, 3, 5]

    def test_a_film_made_with_the_camera_on_its_side_is_upright(self, tmp_path: Path) -> None:
        film = square_film(3)
        path = write_video(tmp_path / "film.mp4", film)
        level, quarter_turn = (struct.pack(">9i", *matrix) for matrix in (LEVEL, QUARTER_TURN))
        content = path.read_bytes()
        start = content.index(level, content.index(b"tkhd"))
        path.write_bytes(content[:start] + quarter_turn + content[start + len(level) :])
        (piece,) = read_video(path)
        assert np.abs(piece[0].astype(int) - np.rot90(film[0], -1)).mean() < 4

    def test_letterbox_bars_are_cropped(self) -> None:
        film = square_film(3)
        film[:, :16] = 0
        film[:, -20:] = 3
        cropped = without_bars(film)
        assert HEIGHT - 36 - 6 <= cropped.shape[1] <= HEIGHT - 36
        assert cropped.shape[2] == WIDTH

    def test_a_dark_film_without_bars_stays_whole(self) -> None:
        film = np.zeros((2, 32, 32, 3), np.uint8)
        assert without_bars(film).shape == film.shape


class TestShots:
    def test_a_cut_is_found_where_it_is(self) -> None:
        film = np.concatenate((square_film(7, seed=1), square_film(5, seed=2)))
        assert split_shots(film) == [(0, 7), (7, 12)]

    def test_motion_is_no_cut(self) -> None:
        assert split_shots(square_film(10, step=(9, 3))) == [(0, 10)]

    def test_no_pair_crosses_a_cut(self) -> None:
        film = np.concatenate((square_film(7, seed=1), square_film(7, seed=2)))
        for start, stop in split_shots(film):
            assert len({film[k, 0, 0].tobytes() for k in range(start, stop)}) == 1


class TestTracks:
    def test_chained_motion_is_right_to_a_pixel(self) -> None:
        film = square_film(8)
        motion = chained(film, 0, 7)
        error = np.linalg.norm(motion - (28, 7), axis=-1)[inside_square(0)]
        assert np.median(error) < 1.0

    def test_chaining_works_backwards_in_time(self) -> None:
        film = square_film(8)
        error = np.linalg.norm(chained(film, 7, 0) - (-28, -7), axis=-1)[inside_square(7)]
        assert np.median(error) < 1.0

    def test_a_step_of_flow_is_found_once_and_none_is_beyond_the_film(self) -> None:
        flow = clip_flow(square_film(4))
        assert len(flow.forward) == len(flow.backward) == 3
        assert flow.forward[2] is flow.forward[2]
        with pytest.raises(IndexError):
            flow.backward[3]

    def test_polishing_takes_the_drift_out_of_a_chain(self) -> None:
        film = square_film(8)
        grey = film[..., 1]
        motion = polish(grey[0].copy(), grey[7].copy(), chained(film, 0, 7))
        assert np.median(np.linalg.norm(motion - (28, 7), axis=-1)[inside_square(0)]) < 0.3

    def test_states_know_the_mover_the_ground_and_what_is_covered(self) -> None:
        film = square_film(8)
        forward, backward = chained(film, 0, 7), chained(film, 7, 0)
        state, back_state = motion_states(film[0], film[7], forward, backward)
        assert (state[inside_square(0)] == VISIBLE).mean() > 0.9
        covered = inside_square(7, 6) & ~inside_square(0, -6)
        uncovered = inside_square(0, 6) & ~inside_square(7, -6)
        assert (state[covered] == VISIBLE).mean() < 0.05
        assert (back_state[uncovered] == VISIBLE).mean() < 0.1
        assert (back_state[uncovered] == OCCLUDED).mean() > 0.3
        far = ~inside_square(0, -16) & ~inside_square(7, -16) & (GRID[..., 1] < 20)
        assert (state[far] == VISIBLE).mean() > 0.95

    def test_disagreement_of_exact_opposites_is_nothing(self) -> None:
        shift = np.broadcast_to(np.float32((3, -2)), (40, 40, 2)).copy()
        assert disagreement(shift, -shift).max() < 1e-5

    def test_look_up_on_cells_reads_positions_in_full_size_pixels(self) -> None:
        assert np.allclose(look_up_cells(GRID, GRID), GRID, atol=1e-3)


def shifted(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


class TestCamera:
    @staticmethod
    def view(film: np.ndarray) -> tuple[str, np.ndarray]:
        motion = chained(film, 0, len(film) - 1)
        found = find_camera(film[0], film[-1], motion, np.ones(motion.shape[:2], bool))
        return found.kind, found.homography

    def test_a_still_camera_is_static_though_something_moves(self) -> None:
        assert self.view(camera_film(np.eye(3), 5))[0] == STATIC

    @pytest.mark.parametrize(
        "step",
        [
            shifted(3, -1),
            np.array([[1.02, 0, -1], [0, 1.02, -1], [0, 0, 1.0]]),
            np.array([[0.9998, -0.02, 2], [0.02, 0.9998, -1.5], [0, 0, 1.0]]),
        ],
        ids=["pan", "zoom", "roll"],
    )
    def test_a_moderate_motion_is_found_and_undone(self, step: np.ndarray) -> None:
        film = camera_film(step, 4)
        motion = chained(film, 0, 3)
        found = find_camera(film[0], film[3], motion, np.ones(motion.shape[:2], bool))
        assert found.kind == STEADY
        true = np.linalg.matrix_power(step, 3)
        points = np.array([[10, 10, 1], [180, 20, 1], [90, 130, 1.0]]).T
        difference = (true @ points)[:2] / (true @ points)[2]
        difference -= (found.homography @ points)[:2] / (found.homography @ points)[2]
        assert np.abs(difference).max() < 1.0
        left, top, right, bottom = found.window
        ground = camera_film(step, 4, mover=False)
        error = np.abs(stabilise(ground[3], found).astype(int) - ground[0])[top:bottom, left:right]
        assert np.median(error) <= 3

    def test_a_long_pan_is_moving(self) -> None:
        assert self.view(camera_film(shifted(8, 0), 5))[0] == MOVING

    def test_a_background_that_moves_behind_a_still_thing_is_moving(self) -> None:
        wide = texture(HEIGHT, WIDTH + 60, 3)
        film = np.stack([wide[:, 5 * k : 5 * k + WIDTH] for k in range(5)])
        film[:, 20:124, 40:152] = texture(104, 112, 4)  # a face that fills the middle
        assert self.view(film)[0] == MOVING


class TestMovingCamera:
    film = camera_film(shifted(8, 0), 8)

    def test_its_pairs_are_dropped(self) -> None:
        dropped: Counter[str] = Counter()
        assert not list(shot_pairs(self.film, 4, np.random.default_rng(0), dropped))
        assert dropped["the camera moves"] > 0

    def test_a_steadied_pair_whose_things_move_less_than_the_camera_did_may_be_parallax(self) -> None:
        slow, fast = (camera_film(shifted(x, 0), 4) for x in (2, 5))  # the square moves 4.1 px a frame
        dropped: Counter[str] = Counter()
        assert not list(shot_pairs(fast, 4, np.random.default_rng(0), dropped))
        assert dropped["the camera moves further than the things"] > 0
        assert {drawn.camera for drawn in shot_pairs(slow, 4, np.random.default_rng(0), Counter())} == {
            STEADY
        }

    def test_they_are_kept_on_request(self) -> None:
        recipe = replace(DEFAULT, camera=replace(DEFAULT.camera, keep_moving=True))
        pairs = list(shot_pairs(self.film, 2, np.random.default_rng(0), Counter(), recipe))
        assert [drawn.camera for drawn in pairs] == [MOVING, MOVING]
        for drawn in pairs:
            ground = 8.0 * (drawn.frames[1] - drawn.frames[0])
            assert np.abs(np.median(drawn.targets - drawn.handles, axis=0) - (ground, 0)).max() < 1.5


class TestPairs:
    def test_outside_the_moving_part_motion_is_exactly_zero(self) -> None:
        film = square_film(8)
        pair = build_pair(film[0], film[7], chained(film, 0, 7), chained(film, 7, 0))
        assert (pair.moving[inside_square(0)] == 1).mean() > 0.99
        assert (pair.moving[inside_square(7)] == 1).mean() > 0.99
        assert pair.moving.mean() < 0.4
        still = pair.moving == 0
        assert not pair.forward[:, still].any()
        assert not pair.backward[:, still].any()
        assert (pair.forward_state[still] == VISIBLE).all()

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda film: film[0], "too little moves"),
            (lambda film: cv2.add(film[3], (4, 4, 4, 0)), "light"),
            (lambda film: texture(HEIGHT, WIDTH, 55), "whole picture"),
        ],
        ids=["nothing", "flicker", "everything"],
    )
    def test_unfit_pairs_are_rejected_with_their_reason(self, change, reason: str) -> None:  # type: ignore[no-untyped-def]
        film = square_film(4)
        still = np.zeros_like(GRID)
        with pytest.raises(Rejected, match=reason):
            build_pair(film[0], change(film), still, still)

    @pytest.mark.parametrize(
        "ground", [texture(HEIGHT, WIDTH, 3), np.full((HEIGHT, WIDTH, 3), 150, np.uint8)]
    )
    def test_a_moving_shadow_is_no_motion(self, ground: np.ndarray) -> None:
        film = []
        for k in (0, 1):
            shade = np.ones((HEIGHT, WIDTH), np.float32)
            cv2.circle(shade, (70 + 12 * k, 70), 30, 0.75, -1)
            film.append((ground * cv2.GaussianBlur(shade, (0, 0), 5)[..., None]).astype(np.uint8))
        motion = np.broadcast_to(np.float32((12, 0)), GRID.shape).copy()
        changed = np.abs(film[0].astype(int) - film[1]).max(-1)[::2, ::2] > 10
        assert doubtful_cells(film[0], film[1], motion)[changed].mean() > 0.9

    def test_ground_that_flow_drags_along_is_not_distinct_and_the_thing_is(self) -> None:
        film = square_film(4)
        motion = np.where(inside_square(0, -8)[..., None], np.float32((12, 3)), np.float32((0, 0)))
        distinct = distinct_cells(film[0], film[3], motion, 0.0)
        assert not distinct[~inside_square(0, -2)].any()
        assert distinct[inside_square(0)].mean() > 0.5

    def test_the_inside_of_an_even_surface_is_not_distinct(self) -> None:
        film = square_film(4)
        for k, frame in enumerate(film):
            x, y = (round(v) for v in corner(k))
            frame[y : y + SQUARE, x : x + SQUARE] = 90
        motion = np.where(inside_square(0, 0)[..., None], np.float32((12, 3)), np.float32((0, 0)))
        assert not distinct_cells(film[0], film[3], motion, 0.0)[inside_square(0, 6)].any()

    def test_handles_go_on_distinct_cells_alone(self) -> None:
        film = square_film(8)
        pair = build_pair(film[0], film[7], chained(film, 0, 7), chained(film, 7, 0))
        assert set(np.unique(pair.forward_state[inside_square(0)])) >= {VISIBLE, PLAIN}
        handles, _ = draw_drags(pair.forward, pair.forward_state, pair.moving, np.random.default_rng(0))
        column, row = ((handles + 0.5) // 2).astype(int).T
        assert (pair.forward_state[row, column] == VISIBLE).all()

    def test_a_motion_between_unlike_places_is_doubted_and_a_true_one_is_not(self) -> None:
        film = square_film(4)
        true, false = (np.broadcast_to(np.float32(step), GRID.shape).copy() for step in ((12, 3), (9, 9)))
        assert doubtful_cells(film[0], film[3], true)[inside_square(0, 12)].mean() < 0.02
        assert doubtful_cells(film[0], film[3], false)[inside_square(0, 12)].mean() > 0.8

    def test_a_shot_gives_pairs_over_a_range_of_motions(self) -> None:
        dropped: Counter[str] = Counter()
        pairs = list(shot_pairs(square_film(16), 12, np.random.default_rng(0), dropped))
        motions = np.array([drawn.motion for drawn in pairs])
        assert len(pairs) >= 8
        assert motions.min() < 0.06
        assert motions.max() > 0.15
        assert ((motions > DEFAULT.gaps.reach[0] / 2) & (motions < 0.5)).all()

    def test_drags_follow_the_square(self) -> None:
        for drawn in shot_pairs(square_film(16), 8, np.random.default_rng(1), Counter()):
            gap = drawn.frames[1] - drawn.frames[0]
            error = np.linalg.norm(drawn.targets - drawn.handles - np.array((4.0, 1.0)) * gap, axis=-1)
            assert np.median(error) < 1.5
