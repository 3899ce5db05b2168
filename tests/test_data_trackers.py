"""Finding motion by name: the default, and RAFT on random weights where torchvision is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data_scenes import square_film
from lightningdrag.data.trackers import load_tracker
from lightningdrag.data.tracks import clip_flow


def test_the_default_needs_nothing() -> None:
    assert load_tracker("dis") is clip_flow


@pytest.mark.parametrize(
    ("name", "reason"), [("cotracker", "there are dis, raft-small"), ("raft-large", "weights")]
)
def test_what_cannot_be_loaded_is_told(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_tracker(name)


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
    flow = load_tracker("raft-small", str(raft_weights))(film)
    assert flow.forward.shape == flow.backward.shape == (2, 100, 150, 2)
    assert np.isfinite(flow.forward).all()


def test_weights_of_another_network_are_refused(raft_weights: Path) -> None:
    with pytest.raises(ValueError, match="no weights of raft-large"):
        load_tracker("raft-large", str(raft_weights))
