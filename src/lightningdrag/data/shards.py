"""Samples in WebDataset tar shards, and random access to them.

Each sample is ``first.jpg``, ``second.jpg``, ``motion.npz``, ``mask.png``, ``meta.json`` under one key.
Beside ``NAME.tar`` lies ``NAME.json``, which says where in the tar each sample's files are; ``index.json``
lists the finished shards. A shard is renamed into place before the index names it, so a reader sees whole
shards only, even while more are being written.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lightningdrag.data.pairs import FramePair

INDEX = "index.json"
FORMAT = "lightningdrag-pairs-1"
SHARD_SAMPLES = 256
KINDS = ("video", "pose", "synthetic")
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


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
    """The inverse of :func:`encode_sample`, up to JPEG's loss."""
    with np.load(io.BytesIO(files["motion.npz"]), allow_pickle=False) as motion:
        return Sample(
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


class ShardWriter:
    """Writes samples into shards by split and kind; use as a context manager.

    Args:
        folder: made if it is not there; must not hold shards already.
        samples: how many samples go into one shard.
    """

    def __init__(self, folder: Path, samples: int = SHARD_SAMPLES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / INDEX).exists():
            raise FileExistsError(f"{folder} already holds a dataset ({INDEX}); give an empty folder")
        self.folder = folder
        self.samples = samples
        self.dropped: dict[str, int] = {}
        self._shards: list[dict[str, Any]] = []
        self._open: dict[tuple[str, str], list[dict[str, bytes]]] = {}
        self._count = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def add(self, files: dict[str, bytes]) -> None:
        """Add one sample as :func:`encode_sample` gives it."""
        meta = json.loads(files["meta.json"])
        waiting = self._open.setdefault((meta["split"], meta["kind"]), [])
        waiting.append(files)
        if len(waiting) == self.samples:
            self._flush(meta["split"], meta["kind"])

    def count_dropped(self, reasons: dict[str, int]) -> None:
        """Add to the counts of what was left out, by reason; they are written into the index."""
        for reason, count in reasons.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def flush(self) -> None:
        """Write what is still waiting, as shards that are not full."""
        for split, kind in sorted(self._open):
            self._flush(split, kind)

    def close(self) -> None:
        """Write what is still waiting, and the last index."""
        self.flush()
        self._write_index()

    def _flush(self, split: str, kind: str) -> None:
        waiting = self._open[split, kind]
        if not waiting:
            return
        number = sum(shard["split"] == split and shard["kind"] == kind for shard in self._shards)
        name = f"{split}-{kind}-{number:05d}"
        entries, digest = self._write_tar(f"{name}.tar", waiting)
        _replace(self.folder / f"{name}.json", json.dumps(entries, ensure_ascii=False).encode())
        self._shards.append(
            {"file": f"{name}.tar", "kind": kind, "split": split, "samples": len(waiting), "sha256": digest}
        )
        self._open[split, kind] = []
        self._write_index()

    def _write_tar(self, name: str, waiting: list[dict[str, bytes]]) -> tuple[list[dict[str, Any]], str]:
        buffer = io.BytesIO()
        entries = []
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for files in waiting:
                key = f"{self._count:08d}"
                self._count += 1
                meta = json.loads(files["meta.json"])
                members = {}
                for member, content in files.items():
                    header = tarfile.TarInfo(f"{key}.{member}")
                    header.size = len(content)
                    members[member] = (buffer.tell() + tarfile.BLOCKSIZE, len(content))
                    tar.addfile(header, io.BytesIO(content))
                facts = {name: meta[name] for name in ("clip", "group", "licence", "motion")}
                entries.append({"key": key, "members": members, **facts})
        content = buffer.getvalue()
        _replace(self.folder / name, content)
        return entries, hashlib.sha256(content).hexdigest()

    def _write_index(self) -> None:
        index = {"format": FORMAT, "shards": self._shards, "dropped": dict(sorted(self.dropped.items()))}
        _replace(self.folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False).encode())


class Dataset:
    """Random access to the samples of a split; safe to share with forked workers.

    Attributes:
        groups: the group of each sample.
        clips: the clip of each sample.
        kinds: the kind of each sample.
        motions: ``(len,)`` float32, mean drag length over the short side.
    """

    def __init__(self, folder: Path, shards: list[dict[str, Any]], licences: Collection[str] | None) -> None:
        self.groups: list[str] = []
        self.clips: list[str] = []
        self.kinds: list[str] = []
        self._places: list[tuple[Path, dict[str, tuple[int, int]]]] = []
        motions = []
        for shard in shards:
            tar = folder / shard["file"]
            for entry in json.loads(tar.with_suffix(".json").read_text(encoding="utf-8")):
                if licences is not None and not set(entry["licence"].split(" + ")) <= set(licences):
                    continue
                self.groups.append(entry["group"])
                self.clips.append(entry["clip"])
                self.kinds.append(shard["kind"])
                motions.append(entry["motion"])
                self._places.append((tar, entry["members"]))
        self.motions = np.array(motions, np.float32)
        self._files: dict[Path, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> Sample:
        """Decode one sample."""
        tar, members = self._places[index]
        if tar not in self._files:
            self._files[tar] = os.open(tar, os.O_RDONLY)
        descriptor = self._files[tar]
        return decode_sample(
            {name: os.pread(descriptor, size, offset) for name, (offset, size) in members.items()}
        )


def open_shards(
    folder: str | Path,
    split: str = "train",
    kinds: Collection[str] = KINDS,
    licences: Collection[str] | None = None,
) -> Dataset:
    """Open a prepared dataset; shards that are finished now are seen, later ones are not.

    Args:
        folder: what ``lightningdrag prepare`` wrote.
        split: ``"train"`` or ``"dev"``.
        kinds: any of ``"video"``, ``"pose"``, ``"synthetic"``.
        licences: keep samples all of whose pictures are under these licences; None keeps all.

    Raises:
        FileNotFoundError: the folder has no index.
        ValueError: the index has another format, or no shard fits.
    """
    folder = Path(folder)
    if not (folder / INDEX).exists():
        raise FileNotFoundError(f"{folder} is no prepared dataset: it has no {INDEX}")
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if index.get("format") != FORMAT:
        raise ValueError(f"{folder / INDEX} has format {index.get('format')!r}; expected {FORMAT!r}")
    shards = [s for s in index["shards"] if s["split"] == split and s["kind"] in kinds]
    if not shards:
        there = sorted({(s["split"], s["kind"]) for s in index["shards"]})
        raise ValueError(f"{folder} has no {split!r} shard of kinds {sorted(kinds)}; it has {there}")
    return Dataset(folder, shards, licences)


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    beside.replace(path)


def _encode(suffix: str, image: np.ndarray, options: list[int]) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1])


def _decode(content: bytes, mode: int = cv2.IMREAD_COLOR_RGB) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), mode))
