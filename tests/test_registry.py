"""Models by name: what is listed, what is verified, what is refused, and what "auto" means."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lightningdrag import DragEditor
from lightningdrag.checkpoints import catalogue, hub
from lightningdrag.checkpoints.catalogue import MODELS, SD15_PARTS, FetchError, ModelError
from lightningdrag.checkpoints.saved import PARTS as SAVED_PARTS
from lightningdrag.commands import build_app
from lightningdrag.models.builtin.model import BuiltinModel


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache of the test's own, and no network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


def put_in_hub(cache: Path, repo: str, files: dict[str, bytes]) -> None:
    """Lay files into a hub cache as the hub's client does: stored under a checksum, linked by name."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    revision = "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(revision)
    (folder / "blobs").mkdir()
    for name, data in files.items():
        blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        link = folder / "snapshots" / revision / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)


def put_sd15(cache: Path) -> None:
    for part in SD15_PARTS:
        put_in_hub(cache, part.repo, {file: f"{part.repo}/{file}".encode() for file in part.files})


def test_the_list_has_source_size_licence_and_checksums() -> None:
    builtin = catalogue.model_info("builtin")
    assert builtin.ready
    assert 0 < builtin.size <= 32e6
    assert builtin.licence == "CC-BY-SA-4.0"
    assert set(builtin.sha256) == {"builtin.safetensors"}

    sd15 = catalogue.model_info("sd15")
    assert not sd15.ready
    assert sd15.size > 1e9
    assert "LightningDrag/lightning-drag-sd15" in sd15.source
    assert "CreativeML OpenRAIL-M" in sd15.licence


def test_the_weights_in_the_package_have_the_checksum_in_the_package() -> None:
    assert [(check.path.name, check.ok) for check in catalogue.verify("builtin")] == [
        ("builtin.safetensors", True)
    ]


def test_a_changed_weight_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'good').hexdigest()}  builtin.safetensors\n")
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    weights = tmp_path / "builtin.safetensors"
    assert [check.actual for check in catalogue.verify("builtin")] == [None]  # missing
    weights.write_bytes(b"good")
    assert [check.ok for check in catalogue.verify("builtin")] == [True]
    weights.write_bytes(b"evil")
    assert [check.ok for check in catalogue.verify("builtin")] == [False]


def test_released_files_are_found_in_the_hub_cache_and_verified(empty_hub: Path) -> None:
    put_sd15(empty_hub)
    info = catalogue.model_info("sd15")
    assert info.ready
    assert info.size == sum(len(f"{part.repo}/{file}") for part in SD15_PARTS for file in part.files)
    assert "h94/IP-Adapter/models/ip-adapter_sd15.bin" in info.sha256
    assert all(check.ok for check in catalogue.verify("sd15"))
    folders = catalogue.released_folders()
    assert set(folders) == {"base", "vae", "ip_adapter", "lightning_drag", "lcm_lora"}
    assert (Path(folders["ip_adapter"]) / "image_encoder" / "config.json").is_file()

    damaged = Path(folders["vae"]) / "config.json"
    damaged.resolve().write_bytes(b"something else")
    assert [c.path.name for c in catalogue.verify("sd15") if not c.ok] == ["config.json"]


def test_sd15_that_is_not_here_names_what_is_missing_and_the_command_that_fetches_it(empty_hub: Path) -> None:
    with pytest.raises(
        ModelError, match=r"sd15 is not on this machine: 19 files .*unet/config\.json.*fetch sd15"
    ):
        hub.load_model("sd15", device="cpu")


def test_whatever_the_hub_client_raises_is_a_failed_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    class ConnectTimeout(Exception):
        """As the client's network library has them: no OSError."""

    def fail(*_: object, **__: object) -> None:
        raise ConnectTimeout("no answer\nin 10 s")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(FetchError, match=r"cannot fetch someone/something: no answer$"):
        catalogue.snapshot("someone/something")


def test_of_a_model_on_the_hub_only_what_can_be_loaded_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[list[str]] = []

    def download(repo: str, allow_patterns: list[str]) -> str:
        wanted.append(allow_patterns)
        return repo

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    catalogue.snapshot("someone/something")
    assert wanted == [["*.json", "*.txt", "*.safetensors"]]


@pytest.mark.parametrize(
    ("file", "content", "kind"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline", "unet": []}, "StableDiffusionXL"),
        ("model_index.json", {"unet": []}, "pipeline without a class"),
        ("config.json", {"_class_name": "AutoencoderKL"}, "AutoencoderKL"),
        ("config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "llama"),
    ],
)
def test_of_something_else_on_the_hub_no_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: object, kind: str
) -> None:
    wanted: list[list[str]] = []
    (tmp_path / file).write_text(json.dumps(content))

    def download(repo: str, allow_patterns: list[str]) -> str:
        wanted.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for load in (catalogue.fetch, hub.load_model):
        with pytest.raises(
            ModelError, match=f"someone/something holds no model for this program but a {kind}"
        ):
            load("someone/something")
    assert wanted == [["*.json"]] * 2


@pytest.mark.parametrize("index", [None, {name: [] for name in (*SAVED_PARTS, "tokenizer", "scheduler")}])
def test_a_model_of_this_program_on_the_hub_is_fetched_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: object
) -> None:
    wanted: list[list[str]] = []
    if index:
        (tmp_path / "model_index.json").write_text(json.dumps(index))

    def download(repo: str, allow_patterns: list[str]) -> str:
        wanted.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    catalogue.fetch("someone/something")
    assert wanted == [["*.json"], list(catalogue.MODEL_FILES)]


def test_a_fetch_without_network_says_so() -> None:
    with pytest.raises(FetchError, match="cannot fetch Lykon/dreamshaper-8-inpainting"):
        catalogue.fetch("sd15")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bultin", r"'bultin' \(did you mean 'builtin'\?\)"),
        ("sd1.5", r"'sd1\.5' \(did you mean 'sd15'\?\)"),
        ("", r"unknown model ''"),
        ("runs/builtin.safetensors", r"no such model folder or file: runs/builtin\.safetensors"),
        ("sd15-tuned.ckpt", r"no such model folder or file: sd15-tuned\.ckpt"),
        ("./none", r"no such model folder or file: \./none"),
        ("a/b/c", r"unknown model 'a/b/c'"),
    ],
)
def test_unknown_names_give_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        hub.load_model(name)


def test_a_name_below_a_folder_that_is_here_is_no_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert catalogue.check_name("runs/sd15") == "hub"
    (tmp_path / "runs").mkdir()
    with pytest.raises(ModelError, match="no such model folder or file: runs/sd15"):
        catalogue.check_name("runs/sd15")
    (tmp_path / "runs" / "sd15").mkdir()
    assert catalogue.check_name("runs/sd15") == "path"


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model: expected model_index\.json"):
        hub.load_model(str(tmp_path), device="cpu")


def test_a_weight_file_and_a_folder_of_one_are_models() -> None:
    for path in (catalogue.WEIGHTS / "builtin.safetensors", catalogue.WEIGHTS):
        assert hub.load_model(str(path), device="cpu").name == "builtin"


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junk.safetensors"
    path.write_bytes(b"junk" * 9)
    with pytest.raises(ValueError, match=r"junk\.safetensors"):
        hub.load_model(str(path), device="cpu")


def test_device_and_dtype_are_chosen_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has_bfloat16, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(hub, "_cpu_has_bfloat16", lambda has=has_bfloat16: has)
        assert hub.choose_dtype("auto", cpu) is expected
    assert hub.choose_dtype("float16", cpu) is torch.float16
    assert hub.choose_dtype("auto", torch.device("mps")) is torch.float16

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert hub.choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert hub.choose_device("auto") == cpu
    for device in ("cuda", "cuda:x", "gpu", "cpu:x", ""):
        with pytest.raises(ModelError, match="here: auto, cpu"):
            hub.choose_device(device)


def test_torchs_own_devices_and_dtypes_are_taken() -> None:
    model = DragEditor.from_pretrained("builtin", device=torch.device("cpu"), dtype=torch.float32).model
    assert isinstance(model, BuiltinModel)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    with pytest.raises(ModelError, match=r"unknown dtype 'int8'; known: auto, float32"):
        hub.load_model("builtin", dtype=torch.int8)
    with pytest.raises(ModelError, match=r"no device 'meta'; here: auto"):
        hub.load_model("builtin", device=torch.device("meta"))


def test_an_edit_with_a_model_that_cannot_be_fetched_is_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    words = ["edit", str(tmp_path / "photo.png"), "-d", "20,20:30,30", "--model", "someone/something"]
    result = CliRunner().invoke(build_app(), words)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("lightningdrag: error: cannot fetch someone/something")


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(build_app(), ["models", *words])
    return result.exit_code, result.stdout, result.stderr


def test_models_lists_every_model_with_its_checksum() -> None:
    for words in ((), ("list",)):
        code, listing, _ = run(*words)
        assert code == 0
        for name in MODELS:
            assert f"\n{name}  " in f"\n{listing}"
        assert "sha256" in listing
        assert "lightningdrag models fetch sd15" in listing


def test_models_list_as_json() -> None:
    code, listing, _ = run("--json")
    models = json.loads(listing)["models"]
    assert code == 0
    assert [model["name"] for model in models] == list(MODELS)
    assert set(models[0]) == {"name", "summary", "source", "licence", "size", "sha256", "ready"}
    assert run("list", "--json")[1] == listing


def test_json_may_stand_before_what_is_asked_of_models() -> None:
    for words in (("list",), ("verify",), ("verify", "sd15")):
        assert run("--json", *words) == run(*words, "--json") != run(*words)
    code, listing, said = run("--json", "fetch", "builtin")
    assert (code, listing) == (2, "")
    assert "Invalid value for --json: fetch prints no result" in said


def test_models_verify_and_fetch_have_stable_exit_codes() -> None:
    assert run("verify")[0] == 0
    assert json.loads(run("verify", "builtin", "--json")[1])["ok"] is True
    code, listing, said = run("verify", "sd15")
    assert code == 1
    assert "missing" in listing
    assert said == "lightningdrag: error: sd15 is not here; run: lightningdrag models fetch sd15\n"
    assert run("fetch", "builtin")[0] == 0
    code, _, said = run("fetch", "sd15")
    assert (code, said.count("\n")) == (1, 1)
    code, _, said = run("fetch", "bultin")
    assert (code, said.count("\n")) == (2, 1)
