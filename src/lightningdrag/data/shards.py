"""Samples in WebDataset tar shards, and random access to them.

Each sample is ``first.jpg``, ``second.jpg``, ``motion.npz``, ``mask.png``, ``meta.json`` under one key.
Beside ``NAME.tar`` lies ``NAME.json``, which says where in the tar each sample's files are; ``index.json``
lists the finished shards. A shard stands whole in its place before the index names it, so a reader sees
whole shards only, even while more are being written.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lightningdrag.data import storage
from lightningdrag.data.pairs import FramePair

INDEX = "index.json"
FORMAT = "lightningdrag-pairs-1"
KINDS = ("video", "pose", "synthetic")
LARGEST_SAMPLE = 2**28
"""Bytes of a sample, at most: what an index says is not believed beyond that."""
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


class DamagedSample(ValueError):
    """A stored sample that cannot be decoded; its clip is named."""


@dataclass(frozen=True)
class Sample:
    """A stored pair; the fields are those of :class:`~lightningdrag.data.pairs.FramePair`, and:

    Attributes:
        mask: ``(H, W)`` bool, a mask as a user would draw it.
        meta: kind, clip, group, licence, source, frames, camera, handles, targets, motion, split.
    """

    first: np.ndarray
    second: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    forward_state: np.ndarray
    backward_state: np.ndarray
    moving: np.ndarray
    mask: np.ndarray
    meta: dict[str, Any]


def encode_sample(pair: FramePair, mask: np.ndarray, meta: dict[str, Any]) -> dict[str, bytes]:
    """The files of a sample, by their names without the key."""
    motion = io.BytesIO()
    np.savez_compressed(
        motion,
        forward=pair.forward.astype(np.float16),
        backward=pair.backward.astype(np.float16),
        forward_state=pair.forward_state,
        backward_state=pair.backward_state,
        moving=pair.moving,
    )
    return {
        "first.jpg": _encode(".jpg", pair.first[..., ::-1], _JPEG),
        "second.jpg": _encode(".jpg", pair.second[..., ::-1], _JPEG),
        "motion.npz": motion.getvalue(),
        "mask.png": _encode(".png", mask.astype(np.uint8) * 255, []),
        "meta.json": json.dumps(meta, ensure_ascii=False).encode(),
    }


def decode_sample(files: dict[str, bytes]) -> Sample:
    """The inverse of :func:`encode_sample`, up to JPEG's loss.

    Raises:
        ValueError: sizes that do not go together, or facts that are not there; and what the decoders raise.
    """
    with np.load(io.BytesIO(files["motion.npz"]), allow_pickle=False) as motion:
        sample = Sample(
            first=_decode(files["first.jpg"]),
            second=_decode(files["second.jpg"]),
            forward=motion["forward"].astype(np.float32),
            backward=motion["backward"].astype(np.float32),
            forward_state=motion["forward_state"],
            backward_state=motion["backward_state"],
            moving=motion["moving"],
            mask=_decode(files["mask.png"], cv2.IMREAD_GRAYSCALE) > 127,
            meta=json.loads(files["meta.json"]),
        )
    _check(sample)
    return sample


def _check(sample: Sample) -> None:
    """Do the parts of a sample go together?"""
    height, width = sample.first.shape[:2]
    grid = height // 2, width // 2
    for name, shape in (
        ("first", (height, width, 3)),
        ("second", (height, width, 3)),
        ("mask", (height, width)),
        ("forward", (2, *grid)),
        ("backward", (2, *grid)),
        ("forward_state", grid),
        ("backward_state", grid),
        ("moving", grid),
    ):
        found = getattr(sample, name).shape
        if found != shape:
            raise ValueError(f"its {name} has the shape {found}, its first picture asks for {shape}")
    lists = [sample.meta[name] for name in ("frames", "handles", "targets")]
    if not all(isinstance(each, list) for each in lists) or len(lists[1]) != len(lists[2]):
        raise ValueError("its frames, handles and targets are no lists that go together")


def write_shard(folder: str, name: str, samples: list[dict[str, bytes]]) -> str:
    """Write samples, as :func:`encode_sample` gives them, into ``NAME.tar``, and ``NAME.json`` beside it.

    The same samples give the same bytes.

    Returns:
        The tar's SHA-256.
    """
    buffer = io.BytesIO()
    entries = []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, files in enumerate(samples):
            key = f"{name}-{number:05d}"
            members, checks = {}, {}
            for member, content in files.items():
                header = tarfile.TarInfo(f"{key}.{member}")
                header.size = len(content)
                members[member] = (buffer.tell() + tarfile.BLOCKSIZE, len(content))
                checks[member] = zlib.crc32(content)
                tar.addfile(header, io.BytesIO(content))
            entries.append(
                {"key": key, "members": members, "crc32": checks, **_facts(json.loads(files["meta.json"]))}
            )
    content = buffer.getvalue()
    storage.write(storage.join(folder, f"{name}.tar"), content)
    storage.write(storage.join(folder, f"{name}.json"), json.dumps(entries, ensure_ascii=False).encode())
    return hashlib.sha256(content).hexdigest()


def write_index(folder: str, shards: list[dict[str, Any]], **facts: Any) -> None:
    """Name the finished shards (``file``, ``split``, ``kind``, ``samples``, ``sha256``) in the index."""
    index = {"format": FORMAT, "shards": shards, **facts}
    storage.write(storage.join(folder, INDEX), json.dumps(index, indent=1, ensure_ascii=False).encode())


def read_index(folder: str) -> dict[str, Any]:
    """The index of a prepared dataset.

    Raises:
        FileNotFoundError: the folder has no index.
        ValueError: the index has another format.
    """
    place = storage.join(folder, INDEX)
    if not storage.exists(place):
        raise FileNotFoundError(f"{folder} is no prepared dataset: it has no {INDEX}")
    index: dict[str, Any] = json.loads(storage.read(place))
    if index.get("format") != FORMAT:
        raise ValueError(f"{place} has format {index.get('format')!r}; expected {FORMAT!r}")
    return index


class Dataset:
    """Random access to the samples of a split; safe to share with worker processes, however started.

    Attributes:
        groups: the group of each sample.
        clips: the clip of each sample.
        kinds: the kind of each sample.
        keys: its name in its shard's tar, which no other of the dataset has.
        motions: ``(len,)`` float32, mean drag length over the short side.
    """

    def __init__(self, folder: str, shards: list[dict[str, Any]], licences: Collection[str] | None) -> None:
        self.groups: list[str] = []
        self.clips: list[str] = []
        self.kinds: list[str] = []
        self.keys: list[str] = []
        self._places: list[tuple[str, dict[str, tuple[int, int]], dict[str, int]]] = []
        motions = []
        for shard in shards:
            tar = storage.join(folder, shard["file"])
            for entry in read_entries(folder, shard):
                if licences is not None and not set(entry["licence"].split(" + ")) <= set(licences):
                    continue
                self.groups.append(entry["group"])
                self.clips.append(entry["clip"])
                self.kinds.append(shard["kind"])
                self.keys.append(entry["key"])
                motions.append(entry["motion"])
                self._places.append((tar, entry["members"], entry.get("crc32", {})))
        self.motions = np.array(motions, np.float32)

    def __len__(self) -> int:
        return len(self._places)

    def read_meta(self, index: int) -> dict[str, Any]:
        """One sample's ``meta``, without its pictures."""
        tar, members, _ = self._places[index]
        meta: dict[str, Any] = json.loads(storage.read_range(tar, *members["meta.json"]))
        return meta

    def read(self, index: int) -> Sample:
        """Decode one sample: its files lie in a row in the tar, and are read at once.

        Raises:
            DamagedSample: what was read is no sample.
            OSError: it could not be read.
        """
        tar, members, checks = self._places[index]
        try:
            start, stop = _span(members)
        except (TypeError, ValueError) as error:
            raise DamagedSample(f"a sample of {self.clips[index]} in the index of {tar}: {error}") from error
        content = memoryview(storage.read_range(tar, start, stop - start))
        files = {name: bytes(content[at - start : at - start + size]) for name, (at, size) in members.items()}
        try:
            # A JPEG decodes whatever its bytes are.
            if wrong := [name for name, check in checks.items() if zlib.crc32(files[name]) != check]:
                raise ValueError(f"the checksum of {wrong[0]} is wrong")
            return decode_sample(files)
        except Exception as error:  # damaged files fail in many ways
            raise DamagedSample(f"a sample of {self.clips[index]} in {tar} is damaged: {error}") from error


def _span(members: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Where a sample's files begin in a tar, and where they end.

    Raises:
        TypeError, ValueError: they lie nowhere, or are larger than a sample is.
    """
    if not members or any(at < 0 or size < 0 for at, size in members.values()):
        raise ValueError(f"its files lie at {members}")
    start, stop = min(at for at, _ in members.values()), max(at + size for at, size in members.values())
    if stop - start > LARGEST_SAMPLE:
        raise ValueError(f"it has {stop - start} bytes; at most {LARGEST_SAMPLE} are read")
    return start, stop


def open_shards(
    folder: str | Path,
    split: str = "train",
    kinds: Collection[str] = KINDS,
    licences: Collection[str] | None = None,
    only: Sequence[str] | None = None,
) -> Dataset:
    """Open a prepared dataset; shards that are finished now are seen, later ones are not.

    Args:
        folder: what ``lightningdrag prepare`` wrote, a path or a URL.
        split: ``"train"`` or ``"dev"``.
        kinds: any of ``"video"``, ``"pose"``, ``"synthetic"``.
        licences: keep samples all of whose pictures are under these licences; None keeps all.
        only: the shards' files (:func:`shard_files`), for the same samples however many there are by then;
            None opens all.

    Raises:
        FileNotFoundError: the folder has no index.
        ValueError: the index has another format, lacks one of ``only``, or no shard or sample fits.
    """
    folder = str(folder)
    finished = {shard["file"]: shard for shard in read_index(folder)["shards"]}
    files = list(finished) if only is None else only
    if gone := [file for file in files if file not in finished]:
        raise ValueError(f"{folder} has no shard {gone[0]} any more")
    shards = [s for s in map(finished.__getitem__, files) if s["split"] == split and s["kind"] in kinds]
    if not shards:
        there = sorted({(s["split"], s["kind"]) for s in finished.values()})
        raise ValueError(f"{folder} has no {split!r} shard of kinds {sorted(kinds)}; it has {there}")
    dataset = Dataset(folder, shards, licences)
    if licences is not None and not len(dataset):
        there = sorted({entry["licence"] for shard in shards for entry in read_entries(folder, shard)})
        raise ValueError(
            f"no {' or '.join(sorted(kinds))} pair of {folder} is under a licence of {sorted(licences)}; "
            f"theirs are {there}"
        )
    return dataset


def shard_files(folder: str | Path) -> list[str]:
    """The shards that are finished now.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_index` does.
    """
    return [shard["file"] for shard in read_index(str(folder))["shards"]]


def read_entries(folder: str, shard: dict[str, Any]) -> list[dict[str, Any]]:
    """What ``NAME.json`` says of each sample of a shard in the index."""
    place = storage.join(folder, shard["file"].removesuffix(".tar") + ".json")
    entries: list[dict[str, Any]] = json.loads(storage.read(place))
    return entries


def _facts(meta: dict[str, Any]) -> dict[str, Any]:
    """What is known of a sample without opening it."""
    facts = {name: meta[name] for name in ("clip", "group", "licence", "motion")}
    if "frames" in meta:
        facts["gap"] = abs(meta["frames"][1] - meta["frames"][0])
        facts["points"] = len(meta["handles"])
        facts |= {name: meta[name] for name in ("camera", "mask_share")}
    return facts


def _encode(suffix: str, image: np.ndarray, options: list[int]) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1])


def _decode(content: bytes, mode: int = cv2.IMREAD_COLOR_RGB) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), mode)
    if image is None:
        raise ValueError("a picture cannot be decoded")
    return np.asarray(image)
