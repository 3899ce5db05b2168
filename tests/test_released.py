"""Released files load from where they lie, and what is missing, foul or unfitting is named."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lightningdrag.checkpoints import released, tensors
from lightningdrag.checkpoints.catalogue import FetchError, ModelError
from lightningdrag.checkpoints.hub import load_model
from lightningdrag.checkpoints.released import load_components
from lightningdrag.checkpoints.saved import PARTS as SAVED_PARTS
from lightningdrag.checkpoints.saved import load_saved
from lightningdrag.checkpoints.tensors import CheckpointError, load_strict, load_tensors
from sd15_tiny import FOLDER, PARTS, load_pipeline, lora_tensors

EMBEDDING = "lightning-drag-sd15/point_embedding/point_embedding.pt"
PROJECTIONS = "lightning-drag-sd15/lightning-drag-sd15-attn.bin"
PROMPT = "ip_adapter/ip-adapter_sd15.bin"
APPEARANCE = "lightning-drag-sd15/appearance_encoder/diffusion_pytorch_model.safetensors"
UNET = "base/unet/diffusion_pytorch_model.safetensors"
CLIP = "ip_adapter/image_encoder/model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the released files that a test may spoil."""
    copy = tmp_path / "released"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("*.png", "reference_tensors*"))
    return copy


def load(folder: Path, low_memory: bool = False) -> dict[str, Any]:
    return load_components(
        **{part: folder / path.name for part, path in PARTS.items()}, low_memory=low_memory
    )


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors in a file."""
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    change(state)
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={"format": "pt"})
    else:
        torch.save(state, path)


@pytest.mark.parametrize(
    "name",
    [
        EMBEDDING,
        PROJECTIONS,
        PROMPT,
        "base/unet/config.json",
        "base/tokenizer/vocab.json",
        "base/scheduler/scheduler_config.json",
        "vae/config.json",
        "lightning-drag-sd15/appearance_encoder/config.json",
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"missing file: .*{name}"):
        load(folder)


@pytest.mark.parametrize("name", [UNET, APPEARANCE, CLIP, "vae/diffusion_pytorch_model.safetensors"])
def test_missing_weights_are_named_with_their_folder(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(
        CheckpointError, match=rf"missing file: one of .*safetensors.* in .*{Path(name).parent}"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (EMBEDDING, "downsample_blocks_unet.2.conv1.weight"),
        (PROJECTIONS, "30.proj.weight"),
        (APPEARANCE, "up_blocks.3.attentions.2.transformer_blocks.0.norm1.weight"),
        (UNET, "conv_in.weight"),
        (CLIP, "visual_projection.weight"),
    ],
)
@pytest.mark.parametrize("fault", ["missing", "unexpected", "of the wrong shape"])
def test_tensors_that_do_not_fit_are_named(folder: Path, name: str, tensor: str, fault: str):
    def spoil(state: dict[str, Tensor]) -> None:
        if fault == "missing":
            del state[tensor]
        elif fault == "unexpected":
            state["surplus.weight"] = torch.zeros(3)
        else:
            state[tensor] = torch.zeros(3, 5)

    rewrite(folder / name, spoil)
    named = "surplus.weight" if fault == "unexpected" else tensor.replace(".", r"\.")
    with pytest.raises(CheckpointError, match=rf"{Path(name).name} does not fit.*{fault}.*{named}"):
        load(folder)


def test_an_image_prompt_that_does_not_fit_is_named_as_in_its_file(folder: Path):
    rewrite(folder / PROMPT, lambda state: state["ip_adapter"].pop("31.to_k_ip.weight"))
    with pytest.raises(CheckpointError, match=r"missing tensors: ip_adapter\.31\.to_k_ip\.weight$"):
        load(folder)


def test_only_the_first_few_names_are_listed():
    with pytest.raises(CheckpointError) as caught:
        load_strict(nn.Sequential(*[nn.Linear(1, 1) for _ in range(9)]), {}, "weights.pt")
    assert str(caught.value).count("weight,") + str(caught.value).count("bias") == 5
    assert str(caught.value).endswith("and 13 more")


def test_a_module_that_does_not_fit_stays_as_it_was():
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    with pytest.raises(CheckpointError):
        load_strict(module, {"weight": torch.zeros(2, 2)}, "weights.pt")
    assert torch.equal(module.weight, before)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def bare_pickle(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("name", [EMBEDDING, PROJECTIONS, PROMPT])
@pytest.mark.parametrize("writer", [torch.save, bare_pickle])
def test_a_malicious_pickle_is_refused_and_not_run(folder: Path, tmp_path: Path, name: str, writer: Any):
    writer({"conv_in.weight": Malicious(tmp_path / "was run")}, folder / name)
    with pytest.raises(
        CheckpointError, match=f"{Path(name).name} is no plain state dict and was not loaded"
    ) as error:
        load(folder)
    assert "arbitrary code" not in str(error.value)  # torch's advice to load it all the same
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(2)], "found list"),
        ({"a": {"b": 3}}, "found int at 'a.b'"),
        ({"a": "text"}, "found str at 'a'"),
        (torch.zeros(2), "found Tensor"),
    ],
)
def test_a_pickle_of_other_things_is_no_state_dict(tmp_path: Path, content: Any, found: str):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=f"is no plain state dict: expected named tensors, {found}"):
        load_tensors(tmp_path / "weights.pt")


def test_a_pickle_that_holds_itself_is_refused(tmp_path: Path):
    state: dict[str, Any] = {}
    state["state"] = state
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="no plain state dict"):
        load_tensors(tmp_path / "weights.pt")


def test_a_pickle_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10_000_000))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(tensors, "MAX_PICKLE_BYTES", 1_000_000)
    with pytest.raises(CheckpointError, match="unpacks to 10000000 bytes; the limit is 1000000"):
        load_tensors(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"version https://git-lfs.github.com/spec/v1"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str, content: bytes):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"weights{suffix} is no"):
        load_tensors(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_a_wrong_byte_is_read_or_refused(tmp_path: Path, zipped: bool):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(2, 3)}, path, _use_new_zipfile_serialization=zipped)
    whole, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            load_tensors(path)
        except CheckpointError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("first", [torch.tensor(1.0), torch.zeros(1).expand(10**9, 2, 3, 3)])
def test_a_point_embedding_of_an_impossible_width_is_refused_before_it_is_made(folder: Path, first: Tensor):
    rewrite(folder / EMBEDDING, lambda state: state.update({"conv_in.weight": first}))
    with pytest.raises(CheckpointError, match=r"point_embedding\.pt.* conv_in\.weight has the shape"):
        load(folder)


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("content", ["{", '{"block_out_channels": 5}'])
def test_a_damaged_config_is_named(folder: Path, content: str, low_memory: bool):
    (folder / "base/unet/config.json").write_text(content)
    with pytest.raises(CheckpointError, match="base/unet"):
        load(folder, low_memory)


def test_other_kinds_of_files_are_refused(tmp_path: Path):
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"expected \.safetensors, \.bin or \.pt"):
        load_tensors(tmp_path / "weights.npz")


def test_a_base_that_is_no_inpainting_model_is_refused(folder: Path):
    path = folder / "base/unet/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "in_channels": 4}))
    rewrite(
        folder / UNET, lambda state: state.update({"conv_in.weight": state["conv_in.weight"][:, :4].clone()})
    )
    with pytest.raises(CheckpointError, match=r"takes 4 channels; the base must be an SD 1\.5 inpainting"):
        load(folder)


def test_the_image_prompt_may_be_safetensors_and_lie_in_models(folder: Path):
    path = folder / PROMPT
    save_file(load_tensors(path), path.with_suffix(".safetensors"))
    path.unlink()
    (folder / "IP-Adapter").mkdir()
    (folder / "ip_adapter").rename(folder / "IP-Adapter/models")
    options = {part: folder / path.name for part, path in PARTS.items()} | {
        "ip_adapter": folder / "IP-Adapter"
    }
    prompt = load_components(**options)["image_prompt"]
    assert torch.equal(prompt.tokens.proj.weight, load_pipeline().image_prompt.tokens.proj.weight)


def test_the_scheduler_never_clips_and_keeps_the_offset(folder: Path):
    path = folder / "base/scheduler/scheduler_config.json"
    kept = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps")
    config = {name: value for name, value in json.loads(path.read_text()).items() if name in kept}
    path.write_text(json.dumps(config | {"_class_name": "PNDMScheduler", "skip_prk_steps": True}))
    scheduler = load(folder)["scheduler"]
    assert isinstance(scheduler, DDIMScheduler)
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert not scheduler.config.clip_sample
    assert not scheduler.config.set_alpha_to_one
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [751, 501, 251, 1]


@pytest.mark.parametrize(
    ("name", "part"),
    [("base/text_encoder/model.safetensors", "text_model"), (CLIP, "vision_model")],
)
@pytest.mark.parametrize("low_memory", [False, True])
def test_position_ids_of_older_checkpoints_are_no_fault(folder: Path, name: str, part: str, low_memory: bool):
    ids = {f"{part}.embeddings.position_ids": torch.arange(77 if part == "text_model" else 17)[None]}
    rewrite(folder / name, lambda state: state.update(ids))
    load(folder, low_memory)


def test_attention_names_of_older_autoencoders_are_understood(folder: Path):
    """As in ``stabilityai/sd-vae-ft-mse``."""
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(state: dict[str, Tensor]) -> None:
        for name in [name for name in state if ".attentions." in name]:
            for new, old in older.items():
                if f".{new}." in name:
                    state[name.replace(new, old)] = state.pop(name)

    expected = load(folder)["vae"].state_dict()
    rewrite(folder / "vae/diffusion_pytorch_model.safetensors", rename)
    actual = load(folder)["vae"].state_dict()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


# Names on the hub


@pytest.mark.parametrize("name", ["/nowhere/base", "./base"])
def test_a_folder_that_is_not_there_is_named(name: str):
    with pytest.raises(ModelError, match=name):
        released.resolve(name, "base")


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"base: .*model\.ckpt is no folder"):
        released.resolve(str(tmp_path / "model.ckpt"), "base")


def test_offline_is_honoured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FetchError, match="cannot fetch stabilityai/sd-vae-ft-mse"):
        released.resolve("stabilityai/sd-vae-ft-mse", "vae")


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("diffusion_pytorch_model.safetensors", []),
        (
            "diffusion_pytorch_model.bin",
            ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"],
        ),
    ],
)
def test_weights_under_another_name_are_fetched_where_the_first_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, asked: list[str]
):
    calls: list[tuple[str, ...]] = []

    def snapshot(repo: str, files: tuple[str, ...]) -> Path:
        calls.append(files)
        for name in {"config.json", there}.intersection(files):
            (tmp_path / name).touch()
        return tmp_path

    monkeypatch.setattr(released, "snapshot", snapshot)
    assert released.resolve("someone/autoencoder", "vae") == tmp_path
    assert calls[1:] == [(name,) for name in asked]


# LCM-LoRA


def test_lcm_lora_is_fused(tmp_path: Path):
    plain = load_pipeline()
    save_file(lora_tensors(plain.unet), tmp_path / "pytorch_lora_weights.safetensors")
    pipeline = load_pipeline(lcm_lora=tmp_path)
    assert isinstance(pipeline.scheduler, LCMScheduler)
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert set(pipeline.unet.state_dict()) == set(plain.unet.state_dict())

    lora = lora_tensors(plain.unet)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k"
    key = f"lora_unet_{name.replace('.', '_')}"
    delta = lora[f"{key}.lora_up.weight"] @ lora[f"{key}.lora_down.weight"] * (1.0 / 2)  # alpha / rank
    expected = plain.unet.get_submodule(name).weight + delta
    assert torch.allclose(pipeline.unet.get_submodule(name).weight, expected, atol=1e-5)
    unchanged = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    assert torch.equal(
        pipeline.unet.get_submodule(unchanged).weight, plain.unet.get_submodule(unchanged).weight
    )


def test_a_lora_of_another_kind_is_refused(tmp_path: Path):
    save_file({"something.weight": torch.zeros(2)}, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(CheckpointError, match=r"pytorch_lora_weights\.safetensors does not fit the denoiser"):
        load_pipeline(lcm_lora=tmp_path)


def test_a_missing_lora_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"missing file: .*pytorch_lora_weights\.safetensors"):
        load_pipeline(lcm_lora=tmp_path)


def test_a_lora_without_peft_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pipeline = load_pipeline()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[sd15\]'") as error:
        released.fuse_lcm_lora(pipeline, tmp_path)
    assert error.value.name == "peft"  # from which the command line makes one line


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    load_pipeline().save_pretrained(folder)
    return folder


def test_a_saved_folder_is_a_model_whole_and_in_the_dtype_asked_for(saved: Path):
    pipeline = load_model(str(saved), device="cpu", dtype="bfloat16", options=["resident"]).pipeline
    for name, whole in load_pipeline(dtype=torch.bfloat16).components.items():
        if isinstance(whole, nn.Module):
            found = pipeline.components[name].state_dict()
            assert all(torch.equal(found[key], tensor) for key, tensor in whole.state_dict().items())


@pytest.mark.parametrize("part", SAVED_PARTS)
def test_a_saved_folder_with_a_tensor_missing_or_too_many_is_refused(saved: Path, tmp_path: Path, part: str):
    folder = tmp_path / "saved"
    shutil.copytree(saved, folder)
    (path,) = (folder / part).glob("*.safetensors")
    state = load_file(path)
    lost = sorted(state)[0]
    tensor = state.pop(lost)
    save_file({**state, "stray.weight": tensor}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as error:
        load_saved(folder)
    assert f"{path} does not fit the model" in str(error.value)
    assert lost.removeprefix("text_model.") in str(error.value)
    assert "stray.weight" in str(error.value)


@pytest.fixture
def spoiled(saved: Path, tmp_path: Path) -> Path:
    """A copy of a saved folder that a test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / "spoiled"))


def test_a_saved_folder_cannot_choose_what_code_loads_it(spoiled: Path):
    index = spoiled / "model_index.json"
    index.write_text(
        json.dumps(
            {**json.loads(index.read_text()), "tokenizer": ["evil", "Tokenizer"], "scheduler": ["evil", "S"]}
        )
    )
    assert isinstance(load_saved(spoiled).scheduler, DDIMScheduler)
    path = spoiled / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "EulerDiscreteScheduler"}))
    with pytest.raises(CheckpointError, match="names the scheduler 'EulerDiscreteScheduler'; known: DDIM"):
        load_saved(spoiled)


@pytest.mark.parametrize("part", ["tokenizer", "scheduler"])
def test_a_saved_folder_without_tokenizer_or_scheduler_is_refused(spoiled: Path, part: str):
    shutil.rmtree(spoiled / part)
    with pytest.raises(CheckpointError, match=f"missing file: .*{part}"):
        load_saved(spoiled)


@pytest.mark.parametrize("name", [UNET, CLIP])
def test_a_cut_off_file_is_named(folder: Path, name: str):
    (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=f"{Path(name).name} could not be loaded"):
        load(folder)
