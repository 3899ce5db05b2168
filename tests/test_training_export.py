"""From the command line: a run is trained, exported with its card, and edits in the editor."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from accelerate.state import AcceleratorState
from diffusers import LCMScheduler
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from evaluation_scenes import HEIGHT, WIDTH, texture
from lightningdrag import DragEditor
from lightningdrag.commands import build_app
from lightningdrag.data.pairs import FramePair
from lightningdrag.data.shards import encode_sample, write_index, write_shard
from lightningdrag.training.card import Learned, data_rows, model_card
from lightningdrag.training.export import ExportError, export
from moving_square import write_dataset
from sd15_tiny import PARTS
from training_small import RECIPE, small_trainer

TINY = {
    "size": 64,
    "batch": 2,
    "micro_batch": 2,
    "steps": 1,
    "mixture": {"video": 1.0},
    "workers": 0,
    "precision": "fp32",
    "validate_every": 0,
    "trackers": [],
    "log_every": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("pairs"))


def call(*words: object, code: int = 0) -> str:
    AcceleratorState._reset_state(reset_partial_state=True)
    result = CliRunner().invoke(build_app(), [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


def write_synthetic(folder: Path, made_of: list[tuple[str, str]]) -> Path:
    """A dataset of synthetic pairs of these sources and licences; what they show does not matter."""
    seen = np.ones((HEIGHT // 2, WIDTH // 2), np.uint8)
    still = np.zeros((2, *seen.shape), np.float32)
    pair = FramePair(texture(0), texture(1), still, still, seen, seen, seen)
    drag = {"handles": [[9, 9]], "targets": [[19, 9]], "motion": 0.1, "mask_share": 1.0}
    facts = {"kind": "synthetic", "frames": [0, 1], "camera": "static", "split": "train", **drag}
    samples = [
        encode_sample(
            pair,
            np.ones((HEIGHT, WIDTH), np.uint8),
            {**facts, "clip": f"{k}", "group": f"{k}", "source": source, "licence": licence},
        )
        for k, (source, licence) in enumerate(made_of)
    ]
    name = "train-synthetic-00000"
    shard = {"file": f"{name}.tar", "split": "train", "kind": "synthetic", "samples": len(samples)}
    write_index(str(folder), [{**shard, "sha256": write_shard(str(folder), name, samples)}])
    return folder


def test_the_card_claims_no_licence_that_the_data_does_not_tell(tmp_path: Path) -> None:
    """Of a pair of several pictures it is known under which licences they are, not which is whose."""
    data = write_synthetic(
        tmp_path,
        [
            ("made/photos/1.jpg", "MIT"),
            ("made/photos/2.jpg + cut/things/3.png", "CC0-1.0 + MIT"),
            ("cut/things/4.png + cut/things/3.png + same/licence/5.png", "CC0-1.0"),
        ],
    )
    assert data_rows([Learned(str(data), replace(RECIPE, mixture={"synthetic": 1.0}))]) == [
        ("synthetic", "made/photos", "MIT", 2, 2),
        ("synthetic", "cut/things", "among CC0-1.0; MIT", 2, 2),
        ("synthetic", "same/licence", "CC0-1.0", 1, 1),
    ]


def test_weights_learned_from_share_alike_material_are_published_share_alike(tmp_path: Path) -> None:
    data = write_synthetic(tmp_path / "data", [("made/photos/1.jpg", "CC-BY-SA-4.0")])
    recipe = replace(RECIPE, mixture={"synthetic": 1.0})
    start = {
        **{"command": "lightningdrag train", "commit": "0", "machine": "one", "step": 0},
        **{"recipe": asdict(recipe), "data": str(data), "shards": None},
    }

    def card(licence: str, *later: dict[str, Any]) -> str:
        return model_card("small", recipe, [start, *later], 3, [{"step": 3, "seconds": 1.0}], licence)

    assert "CC BY-SA 4.0" in card("CC BY-SA 4.0")
    assert "not stated" in card("not stated")
    with pytest.raises(ValueError, match=r"'Apache-2\.0' is not share-alike, but some of the data is"):
        card("Apache-2.0")
    free = write_synthetic(tmp_path / "free", [("other/photos/1.jpg", "CC0-1.0")])
    later = {**start, "step": 1, "recipe": asdict(replace(recipe, batch=5)), "data": str(free)}
    with pytest.raises(ValueError, match=r"some of the data is \(CC-BY-SA-4\.0\)"):
        card("Apache-2.0", later)  # it has learned from both
    both = card("CC BY-SA 4.0", later)
    assert "| synthetic | made/photos |" in both
    assert "| synthetic | other/photos |" in both
    assert f"3 steps of {recipe.batch} and 5 samples ({recipe.batch + 2 * 5} in all)" in both


def test_a_builtin_run_is_exported_with_a_card_made_from_it(data: Path, tmp_path: Path) -> None:
    small_trainer(replace(RECIPE, steps=2), data, tmp_path / "run").run()
    call("export", tmp_path / "run", "--out", tmp_path / "model", "--licence", "CC0-1.0")
    assert {p.name for p in (tmp_path / "model").iterdir()} == {
        "README.md",
        "builtin.safetensors",
        "loss.svg",
    }
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| licence | CC0-1.0 |" in card
    assert "2 steps of 2 samples (4 in all), started 1 times" in card
    assert "| video | made here | CC0-1.0 | 12 | 1 |" in card
    head = "| step | minutes | warp | model | model_warp | gain | won | sharpness | half_transparent |"
    assert head in card
    assert str(tmp_path) not in card


def test_an_sd15_model_is_trained_exported_distilled_exported_and_edits(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "sd15.yaml"
    base = {name: str(PARTS[name]) for name in ("base", "vae", "ip_adapter")}
    recipe.write_text(yaml.safe_dump({"model": "sd15", **base, **TINY}))
    call("train", recipe, "--data", data, "--out", tmp_path / "run")
    call("export", tmp_path / "run", "--out", tmp_path / "teacher")

    recipe.write_text(yaml.safe_dump({"model": "lcm", "rank": 2, **TINY}))
    call("distill", recipe, f"init={tmp_path / 'teacher'}", "--data", data, "--out", tmp_path / "distilled")
    call("export", tmp_path / "distilled", "--out", tmp_path / "student")

    assert str(PARTS["base"].parent) not in (tmp_path / "teacher" / "README.md").read_text()
    index = json.loads((tmp_path / "student" / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "LCMScheduler"]
    editor = DragEditor.from_pretrained(str(tmp_path / "student"))
    assert isinstance(editor.model.pipeline.scheduler, LCMScheduler)
    # The teacher's guidance is in the student, which has learned no edit without points.
    assert (editor.model.default_steps, editor.model.default_guidance) == (4, 1.0)
    taught = DragEditor.from_pretrained(str(tmp_path / "teacher")).model
    assert (taught.default_steps, taught.default_guidance) == (25, 4.0)
    result = editor.edit(Image.new("RGB", (64, 64), "white"), [((20, 20), (40, 30))], steps=1, seed=0)
    assert result.image.size == (64, 64)


def test_the_card_tells_of_the_weights_though_the_run_went_on_before_it_was_killed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    for steps in (1, 2):
        monkeypatch.setattr(sys, "argv", ["lightningdrag", "train", "recipe.yaml", f"steps={steps}"])
        trainer = small_trainer(replace(RECIPE, steps=steps, validate_every=1), data, run)
        trainer.resume()
        trainer.run()
    with (run / "log.jsonl").open("a") as log:
        log.write(
            '{"step": 3, "seconds": 7200, "loss": 1}\n{"step": 3, "seconds": 7200, "dev_model": 99.5}\n'
        )
    export(run, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "0.00 h, 2 steps of 2 samples (4 in all), started 2 times" in card
    assert "99.5" not in card
    made_by = "`lightningdrag train recipe.yaml steps=1`, then `lightningdrag train recipe.yaml steps=2`"
    assert f"| made by | {made_by} |" in card


def test_what_is_no_run_and_what_is_there_already_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no run.json"):
        export(tmp_path, tmp_path / "model")
    (tmp_path / "run.json").write_text(json.dumps({"recipe": {}}))
    with pytest.raises(ExportError, match="is there already"):
        export(tmp_path, tmp_path)
    with pytest.raises(ExportError, match="no weights yet"):
        export(tmp_path, tmp_path / "model")
    save_file({}, tmp_path / "builtin.safetensors", {"step": "1"})
    with pytest.raises(ExportError, match=r"no step in its log.jsonl"):
        export(tmp_path, tmp_path / "model")


def test_distill_takes_recipes_of_distillations_only(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: sd15\n")
    assert "model: lcm" in call("distill", recipe, "--data", data, "--out", tmp_path / "o", code=2)
    recipe.write_text("model: lcm\n")
    assert "teacher" in call("distill", recipe, "--data", data, "--out", tmp_path / "o", code=2)
