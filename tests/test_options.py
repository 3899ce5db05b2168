"""The ways to run SD 1.5: the exact ones make the same edit, the approximate ones skip what they say."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import OffloadedWeightsLoader
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lightningdrag.checkpoints import hub
from lightningdrag.checkpoints.catalogue import ModelError
from lightningdrag.checkpoints.hub import load_model, sd15_model
from lightningdrag.checkpoints.saved import load_saved
from lightningdrag.checkpoints.tensors import CheckpointError
from lightningdrag.models.protocol import DragInputs
from lightningdrag.models.sd15 import SD15Model
from lightningdrag.pipeline import LightningDragPipeline
from sd15_tiny import HEIGHT, PARTS, WIDTH, edit_inputs, load_pipeline, lora_tensors, relative_error

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    load_pipeline().save_pretrained(folder)
    return folder


def edit(pipeline: LightningDragPipeline, steps: int = 4, **changes: Any) -> Tensor:
    noise = torch.randn(1, 4, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(7))
    given = {"guidance_scale": 3.0, "sample_posterior": False, "output_type": "latent", "noise": noise}
    return pipeline(**edit_inputs(), **{**given, **changes}, num_inference_steps=steps).images


def calls_of(module: nn.Module) -> list[int]:
    """The batch of every call that really computes something, filled in as they come."""
    batches: list[int] = []
    module.register_forward_hook(lambda _, args, __: batches.append(len(args[0])))
    return batches


@pytest.mark.parametrize("low_memory", [False, True])
def test_compiling_waits_for_the_first_edit(low_memory: bool):
    pipeline = load_pipeline(low_memory=low_memory)
    assert sd15_model(pipeline, ["compile"]).pipeline.unet._compiled_call_impl is not None


# Low memory: by itself on a CPU, on request on a GPU


LOOK_ONCE = {"image_encoder", "appearance_encoder"}


def on_disk(model: Any) -> set[str]:
    """The networks whose weights stay in their files."""
    networks = {name: part for name, part in model.pipeline.components.items() if isinstance(part, nn.Module)}
    return {name for name, part in networks.items() if any(weight.is_meta for weight in part.parameters())}


def load_on_cpu(source: str | Path, options: Collection[str] = ()) -> Any:
    return load_model(str(source), device="cpu", dtype="float32", options=options)


def painted(model: Any, num_images: int = 2, steps: int = 3) -> Tensor:
    """Candidates by the editor's protocol: a look at the window, then an edit."""
    return model.generate(*drag_inputs(model, num_images, steps)).image


def drag_inputs(model: Any, num_images: int = 1, steps: int = 1) -> tuple[Any, ...]:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[32:96, 32:128] = True
    points = torch.tensor([[48.0, 48.0]])
    window = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    inputs = DragInputs(points, points + 16, mask, num_images=num_images, steps=steps)
    return model.encode(window), inputs, torch.Generator().manual_seed(0)


@pytest.fixture(params=["saved", "released"])
def source(request: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model to load by name: a saved folder, or the released files with LCM-LoRA."""
    if request.param == "saved":
        return str(folder)
    save_file(lora_tensors(load_pipeline().unet), tmp_path / "pytorch_lora_weights.safetensors")
    parts = {role: str(path) for role, path in {**PARTS, "lcm_lora": tmp_path}.items()}
    monkeypatch.setattr(hub, "released_folders", lambda: parts)
    return "sd15"


@pytest.mark.parametrize(
    ("options", "expected"), [([], LOOK_ONCE), (["low-memory"], LOOK_ONCE), (["resident"], set())]
)
def test_on_a_cpu_what_looks_at_a_photo_once_stays_on_disk_unless_all_shall_be_resident(
    source: str, options: list[str], expected: set[str]
):
    assert on_disk(load_on_cpu(source, options)) == expected


@pytest.mark.parametrize(
    ("options", "low_memory"), [([], False), (["resident"], False), (["low-memory"], True)]
)
def test_on_a_gpu_networks_are_resident_unless_memory_is_said_to_be_short(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], low_memory: bool
):
    placed: list[tuple[torch.device, bool]] = []
    monkeypatch.setattr(hub, "choose_device", torch.device)
    monkeypatch.setattr(LightningDragPipeline, "place", lambda _, *place: placed.append(place))
    model = load_model(str(folder), device="cuda", dtype="float16", options=options)
    assert placed == [(torch.device("cuda"), low_memory)]
    assert on_disk(model) == set()


def test_the_same_edit_is_made_either_way(source: str):
    assert relative_error(painted(load_on_cpu(source)), painted(load_on_cpu(source, ["resident"]))) < 1e-5


@pytest.mark.parametrize("option", ["deep-cache", "tiny-decoder"])
def test_the_other_options_go_with_either_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
):
    torch.manual_seed(0)
    AutoencoderTiny().save_pretrained(tmp_path)
    monkeypatch.setattr(hub, "snapshot", lambda *_: tmp_path)
    lean, resident = load_on_cpu(folder, [option]), load_on_cpu(folder, [option, "resident"])
    assert on_disk(lean) == LOOK_ONCE
    assert on_disk(resident) == set()
    assert relative_error(painted(lean), painted(resident)) < 1e-5


def test_another_edit_of_an_open_photo_reads_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    get = OffloadedWeightsLoader.__getitem__
    monkeypatch.setattr(
        OffloadedWeightsLoader, "__getitem__", lambda weights, name: read.append(name) or get(weights, name)
    )
    model = load_on_cpu(folder)
    encoded, inputs, generator = drag_inputs(model)
    assert read
    read.clear()
    for _ in range(2):
        model.generate(encoded, inputs, generator)
    assert read == []


def test_files_that_cannot_be_read_in_pieces_are_loaded_whole(folder: Path, tmp_path: Path):
    load_pipeline().save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / UNET_FILE).with_suffix(".bin").is_file()
    pickled = load_on_cpu(tmp_path)
    assert "appearance_encoder" not in on_disk(pickled)
    assert relative_error(painted(pickled), painted(load_on_cpu(folder))) < 1e-5


def test_without_accelerate_all_networks_are_resident(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    assert on_disk(load_on_cpu(folder)) == set()


def test_a_saved_folder_with_little_memory_makes_the_same_edit(folder: Path):
    lean = load_saved(folder, low_memory=True)
    lean.set_progress_bar_config(disable=True)
    assert {parameter.device.type for parameter in lean.image_encoder.parameters()} == {"meta"}
    assert relative_error(edit(lean), edit(load_pipeline())) < 1e-5


def test_weights_come_out_of_their_file_in_the_wanted_dtype(folder: Path):
    lean = load_saved(folder, torch.bfloat16, low_memory=True)
    lean.set_progress_bar_config(disable=True)
    assert {parameter.dtype for parameter in lean.unet.parameters()} == {torch.bfloat16}
    assert relative_error(edit(lean), edit(load_pipeline(dtype=torch.bfloat16))) < 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_in.bias": None}, "missing tensors: conv_in.bias"),
        ({"more": torch.zeros(1)}, "unexpected tensors: more"),
        ({"conv_in.bias": torch.zeros(5)}, r"conv_in.bias \(\(5,\), expected"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_it_is_read(
    folder: Path, tmp_path: Path, change: dict[str, Tensor | None], message: str
):
    for path in folder.rglob("*"):
        if path.is_file() and path != folder / UNET_FILE:
            copy = tmp_path / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    tensors = {**load_file(folder / UNET_FILE), **change}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, tmp_path / UNET_FILE)
    with pytest.raises(CheckpointError, match=message):
        load_saved(tmp_path, low_memory=True)


# Approximations


def test_deep_features_are_computed_at_every_other_step_and_anew_for_every_edit():
    exact, pipeline = load_pipeline(), load_pipeline()
    sd15_model(pipeline, ["deep-cache"])
    deep, shallow = calls_of(pipeline.unet.mid_block.resnets[0]), calls_of(pipeline.unet.conv_in)
    first, again = edit(pipeline), edit(pipeline)
    assert deep == [2, 2] * 2
    assert shallow == [2, 2, 2, 2] * 2
    assert torch.equal(first, again)
    assert 1e-4 < relative_error(first, edit(exact)) < 0.5
    assert torch.equal(edit(pipeline, steps=1), edit(exact, steps=1))


def test_a_change_of_the_number_of_branches_computes_deep_features_anew():
    pipeline = load_pipeline()
    sd15_model(pipeline, ["deep-cache"])
    deep, shallow = calls_of(pipeline.unet.mid_block.resnets[0]), calls_of(pipeline.unet.conv_in)
    edit(pipeline, steps=5, guidance_schedule="first_half")
    assert shallow == [2, 2, 2, 1, 1]
    assert deep == [2, 2, 1]


def test_a_tiny_decoder_decodes_instead_of_the_vae(folder: Path, tmp_path: Path, monkeypatch: Any):
    AutoencoderTiny().save_pretrained(tmp_path)
    monkeypatch.setattr(hub, "snapshot", lambda *_: tmp_path)
    model = load_model(str(folder), device="cpu", dtype="float32", options=["tiny-decoder"])
    assert isinstance(model, SD15Model)
    full, tiny = calls_of(model.pipeline.vae.decoder), calls_of(model.decoder.decoder)
    assert painted(model, num_images=2, steps=1).shape == (2, 3, HEIGHT, WIDTH)
    assert (full, tiny) == ([], [1, 1])


# Options by name


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        (
            "builtin",
            "faster",
            "unknown option 'faster'; known: low-memory, resident, compile, deep-cache, tiny-decoder",
        ),
        ("builtin", "deep-cache", "builtin has no option deep-cache"),
        ("warp", "low-memory", "warp has no option low-memory"),
        ("builtin", "resident", "builtin has no option resident"),
    ],
)
def test_an_option_that_a_model_has_not_is_named(name: str, option: str, message: str):
    with pytest.raises(ModelError, match=message):
        load_model(name, device="cpu", options=[option])


def test_networks_are_either_on_disk_or_resident(folder: Path):
    with pytest.raises(ModelError, match="low-memory and resident exclude each other"):
        load_on_cpu(folder, ["resident", "low-memory"])
