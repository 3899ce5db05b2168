"""Runs: stopped and killed ones go on as if nothing had been, two processes learn what one learns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from lightningdrag.commands import build_app
from lightningdrag.data.shards import read_index, write_index
from lightningdrag.training.checkpoints import check_held, list_checkpoints
from lightningdrag.training.log import read_log
from lightningdrag.training.loop import Diverged, micro_batch
from lightningdrag.training.recipe import BuiltinRecipe, LCMRecipe, RecipeError, SD15Recipe
from moving_square import write_dataset
from training_small import RECIPE, small_trainer

PROGRAM = str(Path(__file__).parent / "training_small.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the runs in processes of their own have: sums come out alike to the last bit only then."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 40 steps that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight")
    small_trainer(RECIPE, data, out).run()
    return out


def losses(out: Path) -> list[float]:
    records = [record for record in read_log(out / "log.jsonl") if "loss" in record]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return [record["loss"] for record in records]


def start(*words: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, PROGRAM, *map(str, words)]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def wait_for_step(out: Path, step: int) -> None:
    log, deadline = out / "log.jsonl", time.monotonic() + 300
    while not log.exists() or f'"step": {step},' not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_run_continues_the_very_same_curve(data: Path, straight: Path, tmp_path: Path) -> None:
    running = start(data, tmp_path, "checkpoint_minutes=0.005")
    wait_for_step(tmp_path, 20)
    running.kill()
    running.wait()
    assert list_checkpoints(tmp_path)
    trainer = small_trainer(RECIPE, data, tmp_path)
    assert trainer.resume()
    assert 0 < trainer.step <= 21
    trainer.run()
    assert losses(tmp_path) == losses(straight)
    ours, theirs = (load_file(out / "builtin.safetensors") for out in (tmp_path, straight))
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name


def test_sigterm_saves_and_ends_a_run_cleanly(data: Path, straight: Path, tmp_path: Path) -> None:
    running = start(data, tmp_path, "checkpoint_minutes=60")
    wait_for_step(tmp_path, 5)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=300) == 0
    steps = len(losses(tmp_path))
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step-{steps:08d}"]
    assert losses(tmp_path) == losses(straight)[:steps]


def test_ctrl_c_and_sigterm_reach_the_loader_s_workers_and_the_run_still_saves(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    """A terminal and torchrun signal whole groups of processes."""
    running = start(data, tmp_path, "workers=1", "steps=1000", "checkpoint_minutes=60")
    wait_for_step(tmp_path, 5)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(running.pid, number)
    assert running.wait(timeout=300) == 0
    steps = len(losses(tmp_path))
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step-{steps:08d}"]
    assert losses(tmp_path)[:5] == losses(straight)[:5]


def test_the_loader_s_workers_end_with_a_run_that_is_killed(data: Path, tmp_path: Path) -> None:
    running = start(data, tmp_path, "workers=1", "steps=1000")
    wait_for_step(tmp_path, 2)
    workers = psutil.Process(running.pid).children()
    running.kill()
    running.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert workers
    assert not alive


def test_the_loader_s_workers_end_with_a_run_that_fails(data: Path, tmp_path: Path) -> None:
    assert start(data, tmp_path, "workers=1", "steps=100", "explode=0.00001").wait(timeout=300) == 1
    assert (tmp_path / "diverged.json").exists()


def test_two_processes_learn_what_one_does_though_they_are_killed_on_the_way(
    data: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    small_trainer(replace(RECIPE, steps=8, batch=4), data, one).run()
    words = (data, two, "steps=8", "batch=4", "checkpoint_minutes=0.001")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    running = start(*words, launcher=launcher)
    wait_for_step(two, 4)
    family = [*psutil.Process(running.pid).children(recursive=True), psutil.Process(running.pid)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=60)
    assert list_checkpoints(two)
    assert start(*words, launcher=launcher).wait(timeout=300) == 0
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-3)


def test_accumulated_gradients_learn_what_whole_batches_do(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=6, batch=4)
    small_trainer(recipe, data, tmp_path / "whole").run()
    small_trainer(replace(recipe, micro_batch=1), data, tmp_path / "parts").run()
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=1e-3)


def test_a_run_goes_on_by_the_recipe_as_it_is_now(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=6, batch=4, schedule="constant", checkpoint_minutes=60)
    small_trainer(recipe, data, tmp_path / "straight").run()
    small_trainer(replace(recipe, steps=3), data, tmp_path / "changed").run()
    changed = replace(recipe, micro_batch=2, ema=0.9, weight_decay=0.02)
    trainer = small_trainer(changed, data, tmp_path / "changed")
    trainer.resume()
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.02, 0.0]
    assert trainer.average.kept is not None
    assert trainer.average.kept.decay == 0.9
    trainer.run()
    np.testing.assert_allclose(losses(tmp_path / "changed"), losses(tmp_path / "straight"), rtol=2e-3)


def test_a_dataset_that_grows_does_not_change_the_runs_that_learn_from_it(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "pairs", count=4)
    recipe = replace(RECIPE, steps=4, large_size=96, large_from=0.75, schedule="constant", validate_every=0)
    small_trainer(recipe, folder, tmp_path / "straight").run()
    small_trainer(replace(recipe, steps=2), folder, tmp_path / "run").run()
    more = write_dataset(tmp_path / "more", count=8) / "train-video-00000"
    for suffix in (".tar", ".json"):
        more.with_suffix(suffix).rename(folder / f"train-video-00001{suffix}")
    shards = read_index(str(folder))["shards"]
    write_index(str(folder), [{**shards[0], "file": "train-video-00001.tar"}, *shards])

    trainer = small_trainer(recipe, folder, tmp_path / "run")
    trainer.resume()
    trainer.run()
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["shards"] == [
        "train-video-00000.tar",
        "dev-video-00000.tar",
    ]
    write_index(str(folder), shards[1:])
    trainer = small_trainer(replace(recipe, steps=6), folder, tmp_path / "run")
    trainer.resume()
    with pytest.raises(ValueError, match=r"has no shard train-video-00000\.tar any more"):
        trainer.run()


def test_a_run_that_goes_on_with_another_dataset_takes_all_of_it(data: Path, tmp_path: Path) -> None:
    small_trainer(replace(RECIPE, steps=1, validate_every=0), data, tmp_path / "run").run()
    other = write_dataset(tmp_path / "other")
    shards = read_index(str(other))["shards"]
    for suffix in (".tar", ".json"):
        shutil.copy(other / f"train-video-00000{suffix}", other / f"train-video-00001{suffix}")
    write_index(str(other), [*shards, {**shards[0], "file": "train-video-00001.tar"}])
    trainer = small_trainer(replace(RECIPE, steps=2, validate_every=0), other, tmp_path / "run")
    trainer.resume()
    trainer.run()
    starts = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    assert [(start["step"], start["data"]) for start in starts] == [
        (0, str(data.resolve())),
        (1, str(other.resolve())),
    ]
    assert [len(start["shards"]) for start in starts] == [len(shards), len(shards) + 1]


def test_records_are_means_of_the_steps_since_the_last_also_over_a_stop(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, log_every=8, validate_every=0, checkpoint_minutes=0.0)
    running = start(data, tmp_path / "run", "log_every=8", "validate_every=0", "checkpoint_minutes=0.0")
    wait_for_step(tmp_path / "run", 8)
    running.kill()
    running.wait()
    trainer = small_trainer(recipe, data, tmp_path / "run")
    trainer.resume()
    trainer.run()
    every = read_log(straight / "log.jsonl")
    for record in read_log(tmp_path / "run" / "log.jsonl"):
        since = [one for one in every if record["step"] - 8 < one["step"] <= record["step"] and "loss" in one]
        assert record["loss"] == pytest.approx(np.mean([one["loss"] for one in since]), rel=1e-4)
        assert record["learning_rate"] == pytest.approx(
            np.mean([o["learning_rate"] for o in since]), rel=1e-4
        )


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.9), (0.9, 0.0)])
def test_a_run_that_goes_on_may_take_up_an_average_of_its_weights_or_drop_it(
    data: Path, tmp_path: Path, before: float, after: float
) -> None:
    recipe = replace(RECIPE, steps=2, schedule="constant", validate_every=0)
    small_trainer(replace(recipe, ema=before), data, tmp_path).run()
    trainer = small_trainer(replace(recipe, ema=after, steps=4), data, tmp_path)
    trainer.resume()
    weights = [weight.detach().clone() for weight in trainer.trained]
    with trainer.average.in_place():  # what was loaded, not what the network was made with
        assert all(map(torch.equal, trainer.trained, weights))
    trainer.run()
    assert len(losses(tmp_path)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learns": "motion"}, "recipe key 'learns' is 'motion' and was 'all'"),
        ({"adversarial": 0.1}, r"recipe key 'adversarial' is 0\.1 and was 0\.0"),
    ],
)
def test_a_change_of_what_the_checkpoints_hold_is_refused_by_name(
    data: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    recipe = replace(RECIPE, steps=1, validate_every=0)
    small_trainer(recipe, data, tmp_path).run()
    before = (tmp_path / "run.json").read_bytes()
    trainer = small_trainer(replace(recipe, steps=2, **change), data, tmp_path)
    with pytest.raises(RecipeError, match=message):
        trainer.resume()
    assert (tmp_path / "run.json").read_bytes() == before


def test_other_models_and_ranks_are_refused_and_weights_of_losses_are_not() -> None:
    with pytest.raises(RecipeError, match="'model' is 'sd15' and was 'lcm'"):
        check_held(asdict(LCMRecipe()), SD15Recipe())
    with pytest.raises(RecipeError, match=r"'rank' is 4 and was 64: .* rank=64"):
        check_held(asdict(LCMRecipe()), LCMRecipe(rank=4))
    check_held(asdict(BuiltinRecipe(adversarial=0.1)), BuiltinRecipe(adversarial=0.2, seed=3))
    check_held({}, BuiltinRecipe())
    check_held(asdict(BuiltinRecipe(init="a")), BuiltinRecipe(init="b"))  # all weights are in the checkpoint
    with pytest.raises(RecipeError, match="'base' is 'b/b' and was 'a/a'"):
        check_held(asdict(SD15Recipe(base="a/a")), SD15Recipe(base="b/b"))
    with pytest.raises(RecipeError, match="'init' is 'b' and was 'a'"):
        check_held(asdict(LCMRecipe(init="a")), LCMRecipe(init="b"))


def test_a_run_logs_and_validates_its_last_step_once_and_is_left_alone_then(
    data: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=4, log_every=3, validate_every=2)
    small_trainer(recipe, data, tmp_path).run()
    records = read_log(tmp_path / "log.jsonl")
    assert [record["step"] for record in records if "loss" in record] == [3, 4]
    assert [record["step"] for record in records if "dev_model" in record] == [2, 4]
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    again = small_trainer(recipe, data, tmp_path)
    again.resume()
    again.run()
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_a_run_that_is_stopped_waits_for_no_more_than_a_micro_batch_and_loses_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, steps=3, batch=4, micro_batch=1, validate_every=1)
    small_trainer(recipe, data, tmp_path / "straight").run()
    trainer = small_trainer(recipe, data, tmp_path / "stopped")
    agree, taken = trainer._agree, 0

    def stop_in_the_second_step(losses: dict[str, torch.Tensor]) -> dict[str, float]:
        nonlocal taken
        taken += 1
        trainer._asked_to_stop = taken == 6
        return agree(losses)

    monkeypatch.setattr(trainer, "_agree", stop_in_the_second_step)
    trainer.run()
    assert taken == 6
    assert [path.name for path in list_checkpoints(tmp_path / "stopped")] == ["step-00000001"]
    again = small_trainer(recipe, data, tmp_path / "stopped")
    again.resume()
    again.run()
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")


@pytest.mark.parametrize("step", [1, 2], ids=["in a step", "while validating"])
def test_a_run_that_is_stopped_does_not_validate_before_it_ends(
    data: Path, tmp_path: Path, step: int
) -> None:
    trainer = small_trainer(replace(RECIPE, steps=4, validate_every=2), data, tmp_path)

    def ask_to_stop(*_: object) -> None:
        trainer._asked_to_stop = trainer.step == step

    trainer.model.register_forward_pre_hook(ask_to_stop)
    trainer.run()
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl") if "loss" in record] == [1, 2]
    assert not any("dev_model" in record for record in read_log(tmp_path / "log.jsonl"))
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002"]


def test_the_last_validation_is_made_up_for_if_a_kill_came_before_it(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=2, validate_every=2)
    small_trainer(recipe, data, tmp_path).run()
    log = tmp_path / "log.jsonl"
    whole = log.read_text()
    *kept, last = whole.splitlines(keepends=True)
    assert "dev_model" in last
    log.write_text("".join(kept))
    (tmp_path / "dev-000002.png").unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = small_trainer(recipe, data, tmp_path)
    again.resume()
    again.run()
    assert log.read_text() == whole
    assert (tmp_path / "dev-000002.png").exists()
    assert all(path.read_bytes() == content for path, content in before.items() if path != log)


def test_a_run_starts_anew_in_a_folder_without_checkpoints_only(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=2)
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 9}\n')  # of a run that was killed early
    small_trainer(recipe, data, tmp_path).run()
    assert len(losses(tmp_path)) == 2
    smoke = Path(__file__).parents[1] / "recipes" / "smoke.yaml"
    words = ["train", str(smoke), "--data", str(data), "--out", str(tmp_path)]
    result = CliRunner().invoke(build_app(), [*words, "--resume", "never"])
    assert result.exit_code == 2
    assert "holds a run already" in result.output


def test_a_batch_must_divide_among_the_processes() -> None:
    assert micro_batch(replace(RECIPE, batch=16), 4) == 4
    with pytest.raises(RecipeError, match="batch of 16 does not divide"):
        micro_batch(replace(RECIPE, batch=16), 3)


def test_the_last_checkpoints_are_kept_and_half_written_ones_ignored(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=4, checkpoint_minutes=0.0, keep=2)
    (tmp_path / "checkpoints" / "step-00000009.partial").mkdir(parents=True)
    trainer = small_trainer(recipe, data, tmp_path)
    assert not trainer.resume()
    trainer.run()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000003", "step-00000004"]


def test_a_damaged_checkpoint_is_named_with_the_one_to_go_back_to(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=3, checkpoint_minutes=0.0, keep=2)
    small_trainer(recipe, data, tmp_path).run()
    newest = tmp_path / "checkpoints" / "step-00000003"
    for file in newest.glob("*.safetensors"):
        file.write_bytes(b"damaged")
    with pytest.raises(
        ValueError, match=r"step-00000003 cannot be read .*to go on from step-00000002, remove it"
    ):
        small_trainer(recipe, data, tmp_path).resume()
    shutil.rmtree(newest)
    again = small_trainer(recipe, data, tmp_path)
    assert again.resume()
    assert again.step == 2


def test_half_precision_learns_what_float32_does(data: Path, straight: Path, tmp_path: Path) -> None:
    small_trainer(replace(RECIPE, steps=2, precision="bf16"), data, tmp_path).run()
    assert losses(tmp_path) == pytest.approx(losses(straight)[:2], rel=0.02)
    gradients = [read_log(out / "log.jsonl")[0]["gradient"] for out in (tmp_path, straight)]
    assert gradients[0] == pytest.approx(
        gradients[1], rel=0.1
    )  # of all parts, those run without it before, too
    assert all(x.dtype == torch.float16 for x in load_file(tmp_path / "builtin.safetensors").values())


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_samples(data: Path, tmp_path: Path) -> None:
    trainer = small_trainer(RECIPE, data, tmp_path)
    with torch.no_grad():
        trainer.task.get_parameter("network.motion.norm.weight").fill_(float("nan"))
    with pytest.raises(Diverged, match="at step 0"):
        trainer.run()
    assert not list_checkpoints(tmp_path)
    record = json.loads((tmp_path / "diverged.json").read_text())
    assert [sample["number"] for sample in record["samples"]] == [0, 1]
    assert all(sample["pair"].startswith("video clip") for sample in record["samples"])


def test_a_loss_that_explodes_stops_the_run(data: Path, tmp_path: Path) -> None:
    trainer = small_trainer(RECIPE, data, tmp_path)
    trainer.step, trainer.usual_loss = 60, 1e-3
    trainer.recipe = replace(RECIPE, steps=100)
    with pytest.raises(Diverged, match="at step 60"):
        trainer.run()


def test_the_trackers_get_curves_and_pictures(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = replace(RECIPE, steps=2, validate_every=2, trackers=("tensorboard",))
    small_trainer(recipe, data, tmp_path).run()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "lightningdrag"))
    events.Reload()
    assert {"loss", "dev_model", "rate"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"]
