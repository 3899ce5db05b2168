"""A run that is killed and resumed, on any engine, ends with the bytes of one that was not."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from data_runs import RECIPE, contents, plan, run, write_films
from killing import kill_first_worker
from lightningdrag.commands import build_app
from lightningdrag.data import open_shards
from lightningdrag.data.engines import run_units
from lightningdrag.data.preparation import prepare
from lightningdrag.data.recipe import DataRecipe
from lightningdrag.data.tasks import Unit

KILLS = 20
FORK = multiprocessing.get_context("fork")  # no imports to wait for: kills fall into the work itself


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("restart") / "films", 4)


@pytest.fixture(scope="module")
def whole(films: Path) -> Path:
    out = films.parent / "whole"
    run(plan(films), out)
    return out


def resume(films: Path, out: Path) -> None:
    cv2.setNumThreads(1)
    run(plan(films), out, resume=True)


def test_killed_twenty_times_at_random_the_result_is_the_same(
    films: Path, whole: Path, tmp_path: Path
) -> None:
    began = time.monotonic()
    run(plan(films), tmp_path / "timed")
    seconds = time.monotonic() - began
    rng = np.random.default_rng(0)
    kills = 0
    while kills < KILLS:
        out = tmp_path / f"out{kills}"
        while kills < KILLS:
            process = FORK.Process(target=resume, args=(films, out))
            process.start()
            process.join(rng.uniform(0, 0.7 * seconds))
            finished = process.exitcode is not None
            process.kill()
            process.join()
            kills += 1
            if finished:
                break
            for tar in out.glob("*.tar"):  # none is half written
                assert tar.read_bytes() == (whole / tar.name).read_bytes()
        resume(films, out)
        assert contents(out) == contents(whole)


def test_workers_die_with_their_parent_and_their_folder_is_free_again(
    films: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    config = tmp_path / "recipe.yaml"
    config.write_text("amounts: {per_group: 3, per_shard: 3}")
    arguments = [
        "prepare",
        str(films),
        "--out",
        str(out),
        "--config",
        str(config),
        "--workers",
        "2",
        "--resume",
    ]
    parent = subprocess.Popen([sys.executable, "-m", "lightningdrag", *arguments], stdout=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    while len(children) < 3 and parent.poll() is None:  # two workers, and Python's resource tracker
        children = psutil.Process(parent.pid).children()
        time.sleep(0.01)
    result = CliRunner().invoke(build_app(), arguments)
    assert result.exit_code == 2
    assert "being written by another run" in result.output
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    result = CliRunner().invoke(build_app(), arguments)
    assert result.exit_code == 0, result.output
    assert contents(out) == contents(whole)


def test_ray_makes_the_same_bytes(films: Path, whole: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    run(plan(films)[:2], tmp_path / "out", engine="ray", workers=1)
    for unit in plan(films)[:2]:
        name = f"{unit.name}.tar"
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()
    assert not ray.is_initialized()


def test_a_unit_that_ray_gives_up_is_told_in_one_line(films: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")

    def fail(unit: Unit) -> dict[str, object]:
        raise RuntimeError(f"{unit.name} is cursed")

    with pytest.raises(ChildProcessError, match=r"Ray gave up: .* is cursed; .*--resume") as told:
        list(run_units(plan(films)[:1], fail, "ray", 1))
    assert "\n" not in str(told.value)


def test_a_whole_dataset_is_resumed_by_doing_nothing(films: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir() if path.name != ".lock"}
    result = run(plan(films), whole, resume=True)
    assert result.pairs == len(open_shards(whole))
    assert before == {path: path.stat().st_mtime_ns for path in whole.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize(
    ("recipe", "inputs", "reason"),
    [(DataRecipe(seed=1, amounts=RECIPE.amounts), 4, "another recipe"), (RECIPE, 3, "other inputs")],
)
def test_a_run_is_not_resumed_with_something_else(
    films: Path, whole: Path, recipe: DataRecipe, inputs: int, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        next(prepare(plan(films, recipe)[:inputs], str(whole), recipe, resume=True))


def test_a_run_is_not_resumed_with_a_file_that_has_changed(films: Path, whole: Path, tmp_path: Path) -> None:
    changed = tmp_path / "films"
    shutil.copytree(films, changed)
    run(plan(changed), tmp_path / "out")
    with (changed / "film1.mkv").open("ab") as file:
        file.write(bytes(10))
    with pytest.raises(ValueError, match="other inputs"):
        next(prepare(plan(changed), str(tmp_path / "out"), RECIPE, resume=True))


def test_finished_shards_can_be_read_before_the_end(films: Path, tmp_path: Path) -> None:
    progress = prepare(plan(films), str(tmp_path), RECIPE)
    next(progress)
    assert next(progress)[0] == 1
    first = len(open_shards(tmp_path))
    for _ in progress:
        pass
    assert 0 < first < len(open_shards(tmp_path))


def test_a_worker_that_is_killed_ends_the_run_with_one_line(films: Path, tmp_path: Path) -> None:
    running = prepare(plan(films), str(tmp_path / "out"), RECIPE, workers=2)
    next(running)
    kill_first_worker()
    with pytest.raises(ChildProcessError, match="--resume"):
        list(running)
