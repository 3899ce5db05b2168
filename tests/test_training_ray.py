"""The trainer on two workers of a local Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.train", exc_type=ImportError)  # it needs pandas, which ray alone does not bring

from lightningdrag.training.checkpoints import list_checkpoints  # noqa: E402
from lightningdrag.training.log import read_log  # noqa: E402
from lightningdrag.training.ray import train_on_ray  # noqa: E402
from moving_square import write_dataset  # noqa: E402
from training_small import RECIPE  # noqa: E402


@pytest.fixture
def cluster() -> Iterator[None]:
    os.environ |= {"RAY_worker_niceness": "0"}  # workers would give way to all else on a busy machine
    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_two_workers_share_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "pairs")
    out = tmp_path / "run"
    monkeypatch.chdir(tmp_path)  # paths are the caller's, not the workers'
    train_on_ray(replace(RECIPE, steps=2, validate_every=0), "pairs", Path("run"), workers=2, resume=True)
    assert [record["step"] for record in read_log(out / "log.jsonl")] == [1, 2]
    assert [path.name for path in list_checkpoints(out)] == ["step-00000002"]
    assert (out / "builtin.safetensors").exists()
