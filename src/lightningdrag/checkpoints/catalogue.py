"""The models that have a name: where their weights come from, whether they are here and whole.

Names are checked before torch is imported, so that a mistake costs no wait.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightningdrag.request import nearest

MODELS = ("builtin", "warp", "sd15")
"""The names that have a meaning of their own; folders, files and hub ids are models, too."""

OPTIONS = {
    "low-memory": "what looks at a photo once stays on disk, or off the GPU; the default on a CPU",
    "resident": "all networks stay in memory, for servers and photo after photo; the default on a GPU",
    "compile": "torch.compile of the denoiser: the first edit of each shape takes minutes, later ones less",
    "deep-cache": "approximate: deep features of the denoiser at every other step only",
    "tiny-decoder": "approximate: TAESD instead of the VAE's decoder (fetched once, 10 MB)",
}
"""Ways to run SD 1.5, by name. Of the first two the device chooses; the others are on only if asked for.

What they save and cost: docs/speed.md.
"""

WEIGHTS = Path(__file__).parent.parent / "weights"
SHA256SUMS = "SHA256SUMS"
MODEL_FILES = ("*.json", "*.txt", "*.safetensors")
"""What is fetched of a model that has no list of files: a saved pipeline's, or the built-in kind's."""
_OWN_PARTS = {"image_prompt", "appearance_encoder", "point_encoder"}
"""Of a saved pipeline; what else it is made of, others have, too."""
_WEIGHTS_ENDINGS = (".safetensors", ".bin", ".pt", ".ckpt")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class ModelError(ValueError):
    """A model, device or dtype is unknown or not here; the message says what would be right."""


class FetchError(RuntimeError):
    """Weights could not be downloaded, or what came is not what the hub announces."""


@dataclass(frozen=True)
class Part:
    """Files of one hub repository that a model is made of.

    Attributes:
        role: what the part is for; the argument of ``LightningDragPipeline.from_released``.
        repo: hub id.
        files: paths in the repository.
        licence: of these files.
    """

    role: str
    repo: str
    files: tuple[str, ...]
    licence: str


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model.

    Attributes:
        name: what ``load_model`` takes.
        summary: one line.
        source: where the weights come from.
        licence: of the weights.
        size: bytes; announced (about) until the files are here, then exact.
        sha256: of each file that is here and has a known checksum, by path.
        ready: can it be loaded without the network?
    """

    name: str
    summary: str
    source: str
    licence: str
    size: int
    sha256: dict[str, str]
    ready: bool


@dataclass(frozen=True)
class FileCheck:
    """A file of weights, compared with its known checksum.

    Attributes:
        path: the file.
        expected: SHA-256 (or git's SHA-1 of small text files on the hub); None if nothing is known.
        actual: what the file has; None if it is missing.
    """

    path: Path
    expected: str | None
    actual: str | None

    @property
    def ok(self) -> bool:
        return self.actual is not None and self.expected in (None, self.actual)


_WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
SD15_PARTS = (
    Part(
        "base",
        "Lykon/dreamshaper-8-inpainting",
        (
            "unet/config.json",
            f"unet/{_WEIGHTS_FILE}",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/merges.txt",
            "tokenizer/special_tokens_map.json",
            "tokenizer/tokenizer_config.json",
            "tokenizer/vocab.json",
            "scheduler/scheduler_config.json",
        ),
        "CreativeML OpenRAIL-M",
    ),
    Part("vae", "stabilityai/sd-vae-ft-mse", ("config.json", _WEIGHTS_FILE), "MIT"),
    Part(
        "ip_adapter",
        "h94/IP-Adapter",
        (
            "models/image_encoder/config.json",
            "models/image_encoder/model.safetensors",
            "models/ip-adapter_sd15.bin",
        ),
        "Apache-2.0",
    ),
    Part(
        "lightning_drag",
        "LightningDrag/lightning-drag-sd15",
        (
            "appearance_encoder/config.json",
            f"appearance_encoder/{_WEIGHTS_FILE}",
            "point_embedding/point_embedding.pt",
            "lightning-drag-sd15-attn.bin",
        ),
        "as its page on the hub states",
    ),
    Part(
        "lcm_lora",
        "latent-consistency/lcm-lora-sdv1-5",
        ("pytorch_lora_weights.safetensors",),
        "CreativeML OpenRAIL++-M",
    ),
)
TINY_DECODER = Part("tiny_decoder", "madebyollin/taesd", ("config.json", _WEIGHTS_FILE), "MIT")
_SD15_ABOUT = 10_000_000_000  # bytes, before the files are here


def check_name(name_or_path: str) -> str:
    """Refuse what can be no model, without importing or loading anything.

    Returns:
        "name", "path" or "hub": what the argument is.

    Raises:
        ModelError: with the nearest known name.
    """
    if name_or_path in MODELS:
        return "name"
    if name_or_path and Path(name_or_path).exists():
        return "path"
    if _means_a_path(name_or_path):
        raise ModelError(f"no such model folder or file: {name_or_path}")
    if _HUB_ID.fullmatch(name_or_path):
        return "hub"
    raise ModelError(
        f"unknown model {name_or_path!r}{nearest(name_or_path, MODELS)}; "
        f"known: {', '.join(MODELS)}, a folder, or a hub id OWNER/NAME"
    )


def _means_a_path(name: str) -> bool:
    """Can a name that is no file be no hub id either, but a mistyped path?"""
    folder, slash, _ = name.partition("/")
    if name.startswith((".", "/", "~")) or name.endswith(_WEIGHTS_ENDINGS):
        return True
    return bool(slash) and Path(folder).is_dir()


def check_options(options: Collection[str]) -> None:
    """Refuse unknown options and contradictory ones, without importing torch.

    Raises:
        ModelError: naming the known ones, or those that exclude each other.
    """
    for option in options:
        if option not in OPTIONS:
            raise ModelError(f"unknown option {option!r}; known: {', '.join(OPTIONS)}")
    if "low-memory" in options and "resident" in options:
        raise ModelError("the options low-memory and resident exclude each other; give one of them")


def model_info(name: str) -> ModelInfo:
    """What is known of a model, from this machine alone.

    Raises:
        ModelError: unknown name.
    """
    if name == "warp":
        return ModelInfo(
            name,
            "the analytic warp: no weights, a baseline and the live preview",
            "computed",
            "Apache-2.0",
            0,
            {},
            True,
        )
    if name == "builtin":
        files = [path for path, _ in _builtin_files()]
        return ModelInfo(
            name,
            "small, fast, on any CPU: motion first, then what it uncovered",
            "in the package",
            "CC-BY-SA-4.0",
            sum(path.stat().st_size for path in files if path.is_file()),
            {path.name: checksum for path, checksum in _builtin_files()},
            bool(files) and all(path.is_file() for path in files),
        )
    if name != "sd15":
        check_name(name)
        raise ModelError(f"{name!r} is not in the list of models: {', '.join(MODELS)}")
    found = list(_released_files())
    ready = all(path.is_file() for path, _ in found)
    return ModelInfo(
        name,
        "LightningDrag on Stable Diffusion 1.5, the released checkpoints",
        ", ".join(part.repo for part in SD15_PARTS),
        "; ".join(f"{part.repo.split('/')[1]}: {part.licence}" for part in SD15_PARTS),
        sum(path.stat().st_size for path, _ in found) if ready else _SD15_ABOUT,
        {path_on_hub(path): checksum for path, checksum in found if checksum is not None},
        ready,
    )


def fetch(name: str) -> None:
    """Download a model's files from the hub; what is here already is not fetched again.

    Raises:
        ModelError: unknown name, or a hub id of something else than a model for this program.
        FetchError: no network, or files that are missing or damaged afterwards.
    """
    if check_name(name) == "hub":
        model_snapshot(name)
        return
    if name != "sd15":
        return  # nothing to download
    for part in SD15_PARTS:
        snapshot(part.repo, part.files)
    bad = [check.path.name for check in verify(name) if not check.ok]
    if bad:
        raise FetchError(f"missing or damaged after the download: {', '.join(bad)}; fetch again")


def verify(name: str) -> Iterator[FileCheck]:
    """Compare each file of a model with its checksum: the package's own, or the hub's.

    Raises:
        ModelError: a name that is not in :data:`MODELS`.
    """
    if name not in MODELS:
        check_name(name)
        raise ModelError(f"{name!r} has no checksums here; known: {', '.join(MODELS)}")
    files = {"builtin": _builtin_files, "sd15": _released_files, "warp": lambda: iter(())}[name]
    for path, expected in files():
        actual = None
        if path.is_file():
            actual = _git_sha1(path) if expected is not None and len(expected) == 40 else _sha256(path)
        yield FileCheck(path, expected, actual)


def released_folders() -> dict[str, str]:
    """The local folders of the released checkpoints, as arguments of ``from_released``.

    Raises:
        ModelError: naming the first files that are not here, and the command that fetches them.
    """
    missing = [path_on_hub(path) for path, _ in _released_files() if not path.is_file()]
    if missing:
        raise ModelError(
            f"sd15 is not on this machine: {len(missing)} files are missing ({', '.join(missing[:2])}, ...); "
            f"run: lightningdrag models fetch sd15 (about {_SD15_ABOUT / 1e9:.0f} GB)"
        )
    folders = {part.role: _local_snapshot(part.repo) for part in SD15_PARTS}
    folders["ip_adapter"] /= "models"
    return {role: str(folder) for role, folder in folders.items()}


def _builtin_files() -> Iterator[tuple[Path, str]]:
    """The package's weights and their checksums, in the format of ``sha256sum``."""
    sums = WEIGHTS / SHA256SUMS
    if not sums.is_file():
        raise ModelError(f"the package is incomplete: {sums} is missing; install it again")
    for line in sums.read_text().splitlines():
        checksum, _, file = line.partition("  ")
        yield WEIGHTS / file, checksum


def _released_files() -> Iterator[tuple[Path, str | None]]:
    """Where each released file is or would be, and its checksum as far as the cache knows it."""
    for part in SD15_PARTS:
        folder = _local_snapshot(part.repo)
        for file in part.files:
            path = folder / file
            # The hub's cache keeps a file under its checksum and links to it.
            stored_as = path.resolve().name if path.is_symlink() else ""
            yield path, stored_as if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", stored_as) else None


def _local_snapshot(repo: str) -> Path:
    """The folder of a repository in the hub's cache; it need not exist."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except LocalEntryNotFoundError:
        return Path(constants.HF_HUB_CACHE) / "missing" / repo


def model_snapshot(repo: str) -> Path:
    """The folder of a model on the hub, fetched; of anything else only the small files that tell.

    Raises:
        ModelError: no such repository, or it holds something else; its kind is named.
        FetchError: as :func:`snapshot`.
    """
    folder = snapshot(repo, ("*.json",))
    index, config = (_record(folder / name) for name in ("model_index.json", "config.json"))
    kind = None
    if index and not index.keys() >= _OWN_PARTS:
        kind = index.get("_class_name", "pipeline without a class")
    elif config and not index:
        kind = config.get("_class_name") or config.get("model_type")
    if kind is not None:
        raise ModelError(
            f"{repo} holds no model for this program but a {kind}; expected a saved LightningDragPipeline, "
            "or one .safetensors file of the built-in kind"
        )
    return snapshot(repo)


def _record(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def snapshot(repo: str, files: tuple[str, ...] = MODEL_FILES) -> Path:
    """A repository's folder, downloaded as far as needed.

    Args:
        repo: hub id.
        files: paths or patterns; what the repository does not have is passed over.

    Raises:
        ModelError: no such repository.
        FetchError: its terms are not accepted, or it cannot be reached or written here.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=list(files)))
    except GatedRepoError:
        raise FetchError(
            f"{repo} asks you to accept its terms on the hub first (then: hf auth login)"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"{repo!r} is neither a folder nor a model on the hub") from None
    except Exception as error:  # the client's own, its network library's, the file system's
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FetchError(f"cannot fetch {repo}: {reason}") from None


def path_on_hub(path: Path) -> str:
    """``folder/file`` of a file in the hub's cache, without the cache's own folders."""
    text = path.as_posix()
    return re.sub(r"^.*/(?:models--(.+?)--(.+?)/snapshots/[^/]+/|missing/)", r"\1/\2/", text).lstrip("/")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _git_sha1(path: Path) -> str:
    """Git's name for a file's content, which is the hub's checksum of small files."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
