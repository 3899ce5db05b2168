"""Training: recipes are checked, crops keep the truth, losses know it, runs stop and go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich import progress

import training_small
from lightningdrag.commands.train import reporting
from lightningdrag.data import storage
from lightningdrag.data.shards import Dataset, open_shards
from lightningdrag.data.tracks import PLAIN, VISIBLE
from lightningdrag.training import loader
from lightningdrag.training.builtin import take
from lightningdrag.training.critic import Critic, adversarial_terms
from lightningdrag.training.crops import collate, fixed_crop, make_crop
from lightningdrag.training.loader import Batch, Mixture, validation_batches
from lightningdrag.training.log import read_log
from lightningdrag.training.loop import learning_rate
from lightningdrag.training.losses import (
    colour_loss,
    motion_errors,
    photometric_loss,
    ssim,
    visibility_loss,
)
from lightningdrag.training.recipe import Recipe, RecipeError, SD15Recipe, load_recipe, with_absolute_places
from lightningdrag.training.validate import validate
from lightningdrag.warp import sample
from moving_square import moving_square, write_dataset
from training_small import small_trainer

RECIPE = replace(training_small.RECIPE, steps=6, large_size=96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return open_shards(folder)


def test_a_recipe_file_overrides_defaults_and_words_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("batch: 4\nlearning_rate: 1\n")
    recipe = load_recipe(path, ["batch=8", "licences=[MIT, CC0-1.0]", "weight_decay=1e-3"])
    assert recipe.batch == 8
    assert recipe.weight_decay == 0.001
    assert recipe.learning_rate == 1.0
    assert recipe.licences == ("MIT", "CC0-1.0")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("batchs=3", "did you mean 'batch'"),
        ("batch=many", "takes a whole number"),
        ("batch", "key=value"),
        ("batch=true", "takes a whole number"),
        ("batch=0", "at least 1"),
        ("micro_batch=-4", "at least 0"),
        ("clip=0", "above 0"),
        ("learning_rate=-1", "above 0"),
        ("ema=1", "below 1"),
        ("point_dropout=2", "from 0 to 1"),
        ("large_from=.nan", "from 0 to 1"),
        ("size=100", "multiple of 32"),
        ("schedule=linear", "one of cosine, constant"),
        ("model=sd51", "did you mean 'sd15'"),
        ("validation_crops=0", "at least 1"),
        ("rank=4", "unknown key 'rank' in a recipe for builtin"),
        ("trackers=[mlflow]", "known: 'tensorboard'"),
        ("a: b=[1", "not YAML"),
        ("mixture={vidoe: 1}", "did you mean 'video'"),
        ("mixture={video: most}", "takes a number"),
        ("mixture={video: -1}", "at least 0"),
        ("mixture={video: 0}", "no share above 0"),
        ("licences=[1]", "takes text"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path: Path, word: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, [word])


def test_a_critic_needs_a_painter() -> None:
    with pytest.raises(RecipeError, match=r"'adversarial' is 0\.1, but with learns=motion"):
        replace(RECIPE, learns="motion", adversarial=0.1)


def test_the_recipes_of_the_repository_load() -> None:
    for path in (Path(__file__).parent.parent / "recipes").glob("*.yaml"):
        load_recipe(path)


@pytest.mark.parametrize("seed", range(8))
def test_a_crop_keeps_the_truth(dataset: Dataset, seed: int) -> None:
    """Where the label says so, the source through the labelled motion is the second frame."""
    rng = np.random.default_rng(seed)
    batch, labels = collate([make_crop(dataset.read(seed), 96, rng)])
    displacement = torch.nn.functional.interpolate(labels.displacement, scale_factor=2)
    error = (sample(batch.source, displacement) - labels.image).abs().mean(1, keepdim=True)
    visible = torch.nn.functional.interpolate(labels.visible, scale_factor=2) * batch.mask
    assert (error * visible).sum() / visible.sum() < 0.08
    moved = (batch.source - labels.image).abs().mean(1, keepdim=True)
    assert (error * visible).sum() < 0.5 * (moved * visible).sum()


def test_motion_that_is_known_but_takes_no_handle_is_learned_from_all_the_same(dataset: Dataset) -> None:
    pair = dataset.read(0)
    state = np.where(pair.backward_state == VISIBLE, PLAIN, pair.backward_state)
    plain = fixed_crop(replace(pair, backward_state=state), 96)
    np.testing.assert_array_equal(plain.visible, fixed_crop(pair, 96).visible)


@pytest.mark.parametrize("seed", range(4))
def test_drags_of_a_crop_follow_its_motion(dataset: Dataset, seed: int) -> None:
    crop = fixed_crop(dataset.read(seed), 96)
    for handle, target in zip(crop.handles, crop.targets, strict=True):
        column, row = np.round((target - 0.5) / 2).astype(int)
        near = crop.displacement[:, row - 1 : row + 2, column - 1 : column + 2].reshape(2, -1)
        assert np.abs(near.T - (handle - target)).max(-1).min() < 0.3
        assert crop.mask[round(float(target[1])), round(float(target[0]))]


def test_an_identity_crop_changes_nothing(dataset: Dataset) -> None:
    crop = make_crop(dataset.read(0), 64, np.random.default_rng(0), identity=True)
    np.testing.assert_array_equal(crop.source, crop.truth)
    assert not crop.displacement.any()


def test_pictures_are_never_scaled_up(folder: Path, dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="160x160 is smaller than a crop of 192"):
        fixed_crop(dataset.read(0), 192)
    with pytest.raises(ValueError, match=r"measure 160 px .* crops of 192 px; .* frames.short_side"):
        Mixture(str(folder), replace(RECIPE, large_size=192), 64)
    with pytest.raises(ValueError, match="no dev pair"):
        validation_batches(str(folder), 192, 4, 2)


@pytest.mark.parametrize("member", ["first.jpg", "motion.npz", "mask.png", "meta.json"])
def test_a_damaged_sample_is_named_and_passed_over(tmp_path: Path, member: str) -> None:
    folder = str(write_dataset(tmp_path, count=2))
    recipe = replace(RECIPE, large_size=0)
    damage(tmp_path / "train-video-00000.tar", 0, member)
    with pytest.warns(UserWarning, match="passed over: a sample of clip0 in .* is damaged"):
        examples = [Mixture(folder, recipe, 64)[i] for i in range(4)]
    assert {example.pair for example in examples} == {"video clip1 0-1"}
    again = [Mixture(folder, recipe, 64)[i] for i in (3, 2)]
    np.testing.assert_array_equal(again[0].crop.source, examples[3].crop.source)


def test_damaged_dev_samples_are_left_out_and_a_dataset_of_nothing_else_is_refused(tmp_path: Path) -> None:
    folder = str(write_dataset(tmp_path, count=1))
    damage(tmp_path / "dev-video-00000.tar", 1, "second.jpg")
    with pytest.warns(UserWarning, match="clip2"):
        assert sum(len(batch.pairs) for batch in validation_batches(folder, 64, 4, 2)) == 3
    damage(tmp_path / "train-video-00000.tar", 0, "second.jpg")
    with pytest.warns(UserWarning, match="clip0"), pytest.raises(ValueError, match="are all damaged"):
        Mixture(folder, RECIPE, 64)


def test_what_cannot_be_read_is_tried_again(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError("the network"), OSError("the network")]

    def read(self: Dataset, index: int) -> str:
        if failures:
            raise failures.pop()
        return "a sample"

    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(Dataset, "read", read)
    assert loader.read_whole(dataset, 0) == "a sample"
    failures += [OSError("the network")] * 3
    with pytest.raises(OSError, match="the network"):
        loader.read_whole(dataset, 0)


def test_a_dataset_that_hardly_has_a_crop_ends_the_run_instead_of_being_searched_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "MOST_DRAWS", 5)
    with pytest.raises(ValueError, match=r"5 pairs in a row gave no crop of 512 px; of the last, a picture"):
        Mixture(str(folder), RECIPE, 512)[0]


def damage(tar: Path, number: int, member: str) -> None:
    """Overwrite the beginning of a sample's file."""
    offset, size = json.loads(tar.with_suffix(".json").read_text())[number]["members"][member]
    content = bytearray(tar.read_bytes())
    content[offset : offset + size // 2] = b"\x07" * (size // 2)
    tar.write_bytes(content)


def test_dev_metrics_are_those_of_the_evaluation(folder: Path) -> None:
    batches = validation_batches(str(folder), 96, 4, 2)

    def mixture(batch: Batch) -> dict[str, torch.Tensor]:
        return {"model": torch.lerp(batch.labels.image, batch.drags.source, 0.5)}

    truth, _ = validate(lambda batch: {"model": batch.labels.image}, batches)
    assert (truth["sharpness"], truth["half_transparent"], truth["won"]) == (1, 0, 1)
    assert truth["gain"] == pytest.approx(truth["model"] - truth["warp"], abs=1e-3)
    half, picture = validate(mixture, batches)
    assert half["half_transparent"] > 0.9
    assert half["sharpness"] < 1
    assert picture.height > 96


def test_the_true_motion_scores_best(dataset: Dataset) -> None:
    batch, labels = collate([fixed_crop(dataset.read(i), 96) for i in range(4)])
    half = torch.nn.functional.avg_pool2d(batch.mask, 2)
    length = torch.full((4, 1, 1, 1), 20.0)
    truth = labels.displacement
    assert (motion_errors(truth, labels, half, length).sizes() < 1e-6).all()
    beside = motion_errors(truth + 3, labels, half, length)
    assert (beside.sizes() > 0.05).all()
    assert (beside.incoherence() < 1e-6).all()
    torn = truth + 3 * (torch.arange(truth.shape[-1]) % 8 > 3)
    assert (motion_errors(torn, labels, half, length).incoherence() > 1e-3).all()
    coarse = torch.nn.functional.avg_pool2d(torn, 4)
    assert (motion_errors(coarse, labels, half, length).incoherence() > 1e-3).all()
    full = torch.nn.functional.interpolate(truth, scale_factor=2)
    right = photometric_loss(full, batch.source, labels, batch.mask)
    assert right < 0.5 * photometric_loss(full * 0, batch.source, labels, batch.mask)
    sure = (labels.visible - labels.hidden) * 8
    assert visibility_loss(sure, labels, half) < 0.01
    assert visibility_loss(-sure, labels, half) > 1
    assert colour_loss(labels.image, labels, batch.mask) == 0
    torch.testing.assert_close(ssim(labels.image, labels.image), torch.ones_like(labels.image))


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = Recipe(warmup=10)
    assert learning_rate(recipe, 0, 0) == pytest.approx(recipe.learning_rate / 10)
    assert learning_rate(recipe, 100, 0.5) == recipe.learning_rate
    assert learning_rate(recipe, 100, 1) == pytest.approx(recipe.learning_rate / 100)


def test_a_run_leaves_weights_a_log_and_a_picture(folder: Path, tmp_path: Path) -> None:
    small_trainer(RECIPE, folder, tmp_path).run()
    records = read_log(tmp_path / "log.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(records[-1]["dev_model"])
    assert {p.name for p in tmp_path.iterdir()} == {
        "builtin.safetensors", "checkpoints", "log.jsonl", "dev-000006.png", "run.json"
    }  # fmt: skip


def test_the_time_left_is_told_though_log_lines_are_minutes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    minutes, bars = 0, []

    class Bar(progress.Progress):
        def __init__(self, *columns: progress.ProgressColumn, **options: Any) -> None:
            super().__init__(*columns, get_time=lambda: 60.0 * minutes, **options)
            bars.append(self)

    monkeypatch.setattr(progress, "Progress", Bar)
    with reporting() as report:
        for minutes in (2, 4, 6):
            report({"step": minutes, "progress": minutes / 100})
    assert bars[0].tasks[0].time_remaining == pytest.approx(94 * 60, abs=1)


def test_training_learns_from_listed_licences_only(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MIT"):
        small_trainer(replace(RECIPE, licences=("MIT",)), folder, tmp_path).run()


def test_the_moving_square_is_true_to_itself() -> None:
    pair = moving_square(np.random.default_rng(0))
    assert (pair.forward_state == 0).sum() > 0
    assert np.abs(pair.forward).max() == np.abs(pair.backward).max()


def test_painter_and_critic_learn_from_their_own_losses_alone(dataset: Dataset) -> None:
    _, labels = collate([fixed_crop(dataset.read(0), 64)])
    labels = replace(labels, hidden=torch.ones_like(labels.hidden))
    critic, colour = Critic(channels=8), torch.zeros(1, 3, 64, 64, requires_grad=True)
    terms = adversarial_terms(critic, colour, labels, torch.ones(1, 1, 64, 64))

    terms["adversarial"].backward(retain_graph=True)
    assert colour.grad is not None
    assert colour.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in critic.parameters())

    colour.grad = None
    terms["critic"].backward()
    assert colour.grad is None
    assert all(weight.grad is not None for weight in critic.parameters())


def test_how_a_batch_is_split_does_not_change_the_critic_s_loss(dataset: Dataset) -> None:
    _, labels = collate([fixed_crop(dataset.read(i), 64) for i in range(2)])
    hidden = torch.ones_like(labels.hidden)
    hidden[0, :, 8:] = 0  # fills of different sizes
    labels = replace(labels, hidden=hidden)
    critic, grey, mask = Critic(channels=8).eval(), torch.zeros(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    whole = adversarial_terms(critic, grey, labels, mask)
    halves = [
        adversarial_terms(critic, grey[i : i + 1], take(labels, torch.tensor([i])), mask[i : i + 1])
        for i in range(2)
    ]
    for name, term in whole.items():
        torch.testing.assert_close(term, (halves[0][name] + halves[1][name]) / 2)


def test_paths_of_a_recipe_are_made_absolute_and_hub_ids_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = with_absolute_places(SD15Recipe(base="base", vae="stabilityai/sd-vae-ft-mse"))
    assert isinstance(recipe, SD15Recipe)
    assert (recipe.init, recipe.base, recipe.vae) == ("", str(tmp_path / "base"), "stabilityai/sd-vae-ft-mse")


def test_a_critic_learns_to_tell_a_grey_fill_from_a_photograph(dataset: Dataset) -> None:
    _, labels = collate([fixed_crop(dataset.read(0), 64)])
    labels = replace(labels, hidden=torch.ones_like(labels.hidden))
    torch.manual_seed(0)
    critic, grey, mask = Critic(channels=8), torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = adversarial_terms(critic, grey, labels, mask)["critic"]
        loss.backward()
        optimizer.step()
    assert critic(labels.image, mask).mean() > 0 > critic(grey, mask).mean()
