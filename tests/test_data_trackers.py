"""Finding motion by name: OpenCV's defaults, networks with the user's weights, a package's or one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from data_scenes import HEIGHT, SQUARE, WIDTH, corner, square_film, write_video
from lightningdrag.commands import build_app
from lightningdrag.data.camera import STATIC, Camera
from lightningdrag.data.pairs import Rejected, build_pair
from lightningdrag.data.points import confirm, lucas_kanade
from lightningdrag.data.recipe import RecipeError
from lightningdrag.data.trackers import CLASSIC, load_trackers
from lightningdrag.data.tracks import UNKNOWN, VISIBLE, cell_centres, clip_flow, follow

MINE = """
from lightningdrag.data.points import lucas_kanade

def factory(weights):
    assert weights == "w"
    return lucas_kanade
"""


class TestNames:
    def test_the_default_needs_nothing(self) -> None:
        assert load_trackers() == CLASSIC

    @pytest.mark.parametrize(
        ("names", "reason"),
        [
            ({"flow": "farneback"}, "no flow 'farneback'; there are dis, raft-small, raft-large"),
            ({"tracker": "pips"}, "no tracker 'pips'; there are lk, tapir, tapnext, cotracker"),
            ({"flow": "raft-large"}, "set flow_weights"),
            ({"tracker": "tapir"}, "set tracker_weights"),
            ({"tracker": "nowhere:factory"}, "No module named 'nowhere'"),
            ({"tracker": "json:factory"}, "no attribute 'factory'"),
        ],
    )
    def test_what_cannot_be_loaded_is_told(self, names: dict[str, str], reason: str) -> None:
        with pytest.raises(RecipeError, match=reason):
            load_trackers(**names)

    def test_a_factory_of_ones_own_is_named_by_its_module(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "my_tracker.py").write_text(MINE)
        monkeypatch.syspath_prepend(tmp_path)
        assert load_trackers(tracker="my_tracker:factory", weights="w").points is lucas_kanade

    def test_an_installed_package_declares_an_entry_point(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "their_tracker.py").write_text(MINE)
        facts = tmp_path / "theirs-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("[lightningdrag.trackers]\ntheirs = their_tracker:factory\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert load_trackers(tracker="theirs", weights="w").points is lucas_kanade

    def test_a_licence_that_forbids_commercial_use_is_shown(self, tmp_path: Path) -> None:
        video = write_video(tmp_path / "film.mkv", square_film(4))
        config = tmp_path / "recipe.yaml"
        config.write_text(f"tracker: cotracker\ntracker_weights: {tmp_path / 'none.pth'}")
        result = CliRunner().invoke(
            build_app(), ["prepare", str(video), "--out", str(tmp_path / "out"), "--config", str(config)]
        )
        assert result.exit_code == 2
        assert "CC-BY-NC 4.0" in result.output
        assert "none.pth" in result.output


def points_of_the_square() -> np.ndarray:
    x, y = corner(0)
    return np.array([(x + a, y + b) for a in (8, SQUARE - 8) for b in (8, SQUARE // 2)], np.float32)


class TestLucasKanade:
    def test_points_are_followed_through_all_frames(self) -> None:
        start = points_of_the_square()
        tracks, seen = lucas_kanade(square_film(8), start)
        true = start + np.arange(8)[:, None, None] * np.array((4.0, 1.0))
        assert np.abs(tracks - true).max() < 0.5
        assert seen.all()

    def test_what_is_covered_is_lost(self) -> None:
        film = square_film(8)
        film[4:, 30:110, 20:140] = 128
        _, seen = lucas_kanade(film, points_of_the_square())
        assert seen[:4].all()
        assert not seen[-1].any()


class TestConfirmation:
    grid = cell_centres(HEIGHT, WIDTH)
    whole = Camera(STATIC, np.eye(3), (0, 0, WIDTH, HEIGHT))

    def pair(self, film: np.ndarray):  # type: ignore[no-untyped-def]
        flow, last = clip_flow(film), len(film) - 1
        forward, backward = follow(flow, self.grid, 0, last), follow(flow, self.grid, last, 0)
        return build_pair(film[0], film[-1], forward - self.grid, backward - self.grid)

    def test_where_tracks_and_flow_agree_nothing_changes(self) -> None:
        film = square_film(6)
        pair = self.pair(film)
        same = confirm(pair, film, self.whole)
        assert (same.forward_state == pair.forward_state).mean() > 0.99

    def test_where_they_do_not_the_motion_is_unknown(self) -> None:
        film = square_film(6)
        pair = self.pair(film)
        left = corner(0)[0] + SQUARE / 2

        def half(frames: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            tracks, seen = lucas_kanade(frames, points)
            tracks[-1, points[:, 0] < left] += 9
            return tracks, seen

        state = confirm(pair, film, self.whole, half).forward_state
        distinct = (pair.forward_state == VISIBLE) & (pair.moving > 0)
        far = np.abs(self.grid[..., 0] - left) > 8
        assert (state[distinct & far & (self.grid[..., 0] < left)] == UNKNOWN).all()
        assert (state[distinct & far & (self.grid[..., 0] > left)] == VISIBLE).all()

    def test_a_pair_most_of_whose_tracks_end_elsewhere_is_dropped(self) -> None:
        film = square_film(6)
        with pytest.raises(Rejected, match="point tracks disagree"):
            confirm(self.pair(film), film, self.whole, lambda frames, points: _shifted(frames, points, 7.0))


def _shifted(frames: np.ndarray, points: np.ndarray, by: float) -> tuple[np.ndarray, np.ndarray]:
    tracks, seen = lucas_kanade(frames, points)
    return tracks + np.float32(by), seen


class ScriptedTapir(torch.nn.Module):
    """Called as TAPIR is: points go 2 px right and 1 px down a frame of 256 px, those on the right hide."""

    def forward(self, video: torch.Tensor, query_points: torch.Tensor) -> dict[str, torch.Tensor]:
        assert video.abs().max() <= 1
        assert video.shape[2] == 256
        t = torch.arange(video.shape[1], dtype=torch.float32)[None, None, :]
        y, x = query_points[..., 1:2] + t, query_points[..., 2:3] + 2 * t
        hidden = torch.where(x > 128, 9.0, -9.0)
        return {
            "tracks": torch.stack((x, y), -1),
            "occlusion": hidden,
            "expected_dist": torch.full_like(x, -9.0),
        }


class ScriptedTapnext(torch.nn.Module):
    """Called as TAPNext is; the same motion, (y, x) by frame and point."""

    def forward(
        self, video: torch.Tensor, query_points: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        t = torch.arange(video.shape[1], dtype=torch.float32)[None, :, None]
        y, x = query_points[:, None, :, 1] + t, query_points[:, None, :, 2] + 2 * t
        visible = torch.where(x > 128, -9.0, 9.0)[..., None]
        return torch.stack((y, x), -1), visible, visible, video.shape[1]


class ScriptedCotracker(torch.nn.Module):
    """Called as CoTracker's predictor is: channels first, 0 to 255, (t, x, y) with whole pixel centres."""

    def forward(self, video: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert video.shape[2] == 3
        assert video.max() > 1
        width = video.shape[4]
        t = torch.arange(video.shape[1], dtype=torch.float32)[None, :, None]
        x = queries[:, None, :, 1] + 2 * width / 256 * t
        y = queries[:, None, :, 2] + video.shape[3] / 256 * t
        return torch.stack((x, y), -1), x < width / 2 - 0.5


@pytest.mark.parametrize(
    ("name", "network"),
    [("tapir", ScriptedTapir), ("tapnext", ScriptedTapnext), ("cotracker", ScriptedCotracker)],
)
def test_networks_are_asked_and_read_in_their_own_way(
    name: str, network: type[torch.nn.Module], tmp_path: Path
) -> None:
    torch.jit.script(network()).save(str(tmp_path / "network.pt"))
    tracker = load_trackers(tracker=name, weights=str(tmp_path / "network.pt")).points
    film = square_film(5)
    start = np.array([(10, 20), (WIDTH - 20, 40)], np.float32)
    tracks, seen = tracker(film, start)
    step = np.array((2 * WIDTH / 256, HEIGHT / 256))
    assert np.abs(tracks - (start + np.arange(5)[:, None, None] * step)).max() < 1e-3
    assert (seen == (True, False)).all()


def test_a_network_whose_package_is_missing_is_told(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(RecipeError, match="'tapir' cannot be loaded: No module named 'tapnet'"):
        load_trackers(tracker="tapir", weights=str(tmp_path / "weights.pt"))


@pytest.fixture
def raft_weights(tmp_path: Path) -> Path:
    try:
        from torchvision.models.optical_flow import raft_small
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises the latter
        pytest.skip(f"torchvision is not installed, or not for this torch: {error}")
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    return tmp_path / "raft.pth"


def test_raft_gives_flow_both_ways_for_frames_of_any_size(raft_weights: Path) -> None:
    film = square_film(3)[:, :100, :150]
    flow = load_trackers("raft-small", str(raft_weights)).flow(film)
    assert flow.forward.shape == flow.backward.shape == (2, 100, 150, 2)
    assert np.isfinite(flow.forward).all()


def test_weights_of_another_network_are_refused(raft_weights: Path) -> None:
    with pytest.raises(RecipeError, match="no weights of raft_large"):
        load_trackers("raft-large", str(raft_weights))
