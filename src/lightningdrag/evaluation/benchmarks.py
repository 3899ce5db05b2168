"""The field's public benchmarks, read as their authors distribute them.

DragBench (Shi et al., CVPR 2024), DragBench-SR and -DR (Lu et al., ECCV 2024), Drag100 (Zhang et al.,
ICLR 2025). Where to get them: docs/benchmarks.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightningdrag.drag import MAX_DRAGS
from lightningdrag.evaluation.case import Case, Problem
from lightningdrag.evaluation.pairs import spread
from lightningdrag.evaluation.plain_pickle import load_plain

MAX_PIXELS = 64 * 2**20


@dataclass(frozen=True)
class Layout:
    """How a benchmark lies on disk.

    Attributes:
        folders: glob of its sample folders, below the root.
        files: what a sample folder holds.
        read: makes a case of a sample folder and its category.
        category: names the category of a sample folder.
        images: how many samples it has.
        pairs: how many drags they have together; None if that is not published.
        results: where a method's result for sample ``{0}`` lies.
    """

    folders: str
    files: tuple[str, ...]
    read: Callable[[Path, str], Case]
    category: Callable[[Path], str]
    images: int
    pairs: int | None
    results: tuple[str, ...]


def _read_dragbench(folder: Path, category: str) -> Case:
    meta = _read_meta(folder / "meta_data.pkl")
    handles, targets = _split(meta["points"], folder)
    return _case(folder, "original_image.png", meta["mask"], handles, targets, category, meta["prompt"])


def _read_regions(folder: Path, category: str) -> Case:
    """Regions are dense point pairs: as many as a request holds are dragged, the points are scored."""
    meta, region = (_read_meta(folder / name) for name in ("meta_data.pkl", "meta_data_region.pkl"))
    handles, targets = _split(region["points"], folder)
    kept = spread(range(len(handles)), MAX_DRAGS)
    return _case(
        folder,
        "original_image.png",
        region["mask"],
        handles[kept],
        targets[kept],
        category,
        meta["prompt"],
        _split(meta["points"], folder),
    )


def _read_drag100(folder: Path, category: str) -> Case:
    try:
        points = json.loads((folder / "points.json").read_text())["points"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'points.json'} holds no points: {error}") from error
    handles, targets = _split(points, folder)
    mask = np.asarray(_open_image(folder / "mask.png").convert("L")) > 127
    return _case(folder, "original.jpg", mask, handles, targets, category)


LAYOUTS = {
    "dragbench": Layout(
        "*/*",
        ("original_image.png", "meta_data.pkl"),
        _read_dragbench,
        lambda folder: folder.parent.name,
        205,
        349,
        ("{0}/dragged_image.png",),
    ),
    "dragbench-dr": Layout(
        "*/*",
        ("original_image.png", "meta_data.pkl", "meta_data_region.pkl"),
        _read_regions,
        lambda folder: folder.parent.name,
        205,
        None,
        ("{0}/dragged_image.png",),
    ),
    "dragbench-sr": Layout(
        "*",
        ("original_image.png", "meta_data.pkl", "meta_data_region.pkl"),
        _read_regions,
        lambda folder: folder.name.rpartition("_")[0],
        100,
        None,
        ("{0}/dragged_image.png",),
    ),
    "drag100": Layout(
        "*",
        ("original.jpg", "mask.png", "points.json"),
        _read_drag100,
        lambda folder: "",
        100,
        None,
        ("{0}/output_image.png", "{0}.png"),
    ),
}


class FolderBenchmark:
    """A public benchmark as a ``Benchmark``; the order is that of the names.

    Args:
        name: one of :data:`LAYOUTS`.
        root: the folder that holds the categories or samples.
        limit: at most this many samples, spread evenly.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no sample lies where the layout says.
    """

    def __init__(self, name: str, root: Path, limit: int | None = None) -> None:
        self.name = name
        self._root, self._layout = root, LAYOUTS[name]
        if not root.is_dir():
            raise FileNotFoundError(2, "no such folder", str(root))
        folders = sorted(
            folder
            for folder in root.glob(self._layout.folders)
            if any((folder / file).is_file() for file in self._layout.files)
        )
        if not folders:
            expected = f"{self._layout.folders}/{{{','.join(self._layout.files)}}}"
            raise ValueError(f"{root} is not {name} as distributed: nothing matches {expected}")
        self._folders = spread(folders, limit)
        self.expected = len(self._folders) if limit is not None else self._layout.images
        self.problems = [] if limit is not None else self._miscounted()

    def __len__(self) -> int:
        return len(self._folders)

    def __getitem__(self, index: int) -> Case:
        folder = self._folders[index]
        missing = [file for file in self._layout.files if not (folder / file).is_file()]
        if missing:
            raise ValueError(f"{folder} lacks {', '.join(missing)}")
        return self._layout.read(folder, self._layout.category(folder))

    def label(self, index: int) -> str:
        return self._folders[index].relative_to(self._root).as_posix()

    def result_paths(self, index: int) -> list[Path]:
        return [Path(pattern.format(self.label(index))) for pattern in self._layout.results]

    def _miscounted(self) -> list[Problem]:
        layout, problems = self._layout, []
        if len(self) != layout.images:
            problems.append(f"{len(self)} images, the benchmark has {layout.images}")
        if layout.pairs is not None:
            pairs = 0
            for folder in self._folders:
                try:
                    pairs += len(_read_meta(folder / "meta_data.pkl")["points"]) // 2
                except (OSError, ValueError):
                    continue  # said when the case is read
            if pairs != layout.pairs:
                problems.append(f"{pairs} pairs of points, the benchmark has {layout.pairs}")
        return [Problem("the whole set", "", problem) for problem in problems]


def _read_meta(path: Path) -> dict[str, Any]:
    """``meta_data.pkl``: prompt, points [handle, target, handle, target, ...], mask ``(H, W)``."""
    meta = load_plain(path)
    kinds: dict[str, Any] = {"prompt": str, "points": (list, tuple, np.ndarray), "mask": np.ndarray}
    if not isinstance(meta, dict) or not all(isinstance(meta.get(k), kind) for k, kind in kinds.items()):
        raise ValueError(f"{path} holds no prompt, points and mask")
    return meta


def _split(points: Any, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """[h, t, h, t, ...] as handles and targets, ``(N, 2)`` float32 each."""
    try:
        array = np.asarray(points, np.float32)
    except TypeError as error:
        raise ValueError(f"{folder}: points are no numbers: {error}") from error
    if array.ndim != 2 or array.shape[1] != 2 or not len(array) or len(array) % 2:
        raise ValueError(f"{folder}: points of shape {array.shape} are no pairs of (x, y)")
    if not np.isfinite(array).all():
        raise ValueError(f"{folder}: a point is not finite")
    return array[::2], array[1::2]


def _case(
    folder: Path,
    image: str,
    mask: np.ndarray,
    handles: np.ndarray,
    targets: np.ndarray,
    category: str,
    prompt: str = "",
    probes: tuple[np.ndarray, np.ndarray] | None = None,
) -> Case:
    source = np.asarray(_open_image(folder / image).convert("RGB"))
    if mask.shape != source.shape[:2]:
        raise ValueError(f"{folder}: the mask is {mask.shape}, the image {source.shape[:2]} (height, width)")
    if not mask.any():
        raise ValueError(f"{folder}: the mask is empty")
    return Case(
        name=f"{category}/{folder.name}" if category else folder.name,
        group=folder.name,
        source=source,
        mask=mask > 0,
        handles=handles,
        targets=targets,
        category=category,
        prompt=prompt,
        probes=probes,
    )


def _open_image(path: Path) -> Image.Image:
    """An image, decoded here so that a damaged one is an error here.

    Raises:
        OSError: it is missing, damaged, or no image.
        ValueError: it is too large.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{path} has {image.width}x{image.height} pixels; at most {MAX_PIXELS} are read"
                )
            image.load()
            return image
    except (SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: a damaged PNG's
        raise ValueError(f"{path} is too large or damaged: {error}") from error


def read_result(folder: Path, paths: list[Path], size: tuple[int, int]) -> np.ndarray:
    """A method's result from a folder of results, ``(H, W, 3)`` uint8 RGB.

    Args:
        paths: where it may lie below the folder; the first that is there is read.
        size: (width, height) that it must have.

    Raises:
        OSError: none is there, or it is damaged.
        ValueError: it has another size.
    """
    path = next((folder / path for path in paths if (folder / path).is_file()), None)
    if path is None:
        raise FileNotFoundError(2, "no such result", str(folder / paths[0]))
    image = _open_image(path)
    if image.size != size:
        found, wanted = (f"{w}x{h}" for w, h in (image.size, size))
        raise ValueError(f"{path} is {found}, the source {wanted}")
    return np.asarray(image.convert("RGB"))
