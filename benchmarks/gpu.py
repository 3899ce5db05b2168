"""The figures that are aimed at on a GPU, each beside its aim; a few minutes, with no download.

    python benchmarks/gpu.py [--device cuda] [--out out/gpu.json]

The built-in model needs torch alone; without diffusers and transformers the paper's model, here with random
weights at full size, is left out and said to be. Times are medians of repeated edits with the device waited
for, after one that does not count; peaks are what torch allocated. In parts: an edit is from PIL image to
PIL images; "the model alone" is encoding and generating, without opening, window and compositing.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lightningdrag import DragEditor
from lightningdrag.bench.ceiling import median_seconds
from lightningdrag.bench.measure import window_of
from lightningdrag.bench.scene import edit_request, photo_bytes
from lightningdrag.checkpoints.hub import load_model
from lightningdrag.evaluation.provenance import provenance
from lightningdrag.memory import peak_bytes, reset_peak
from lightningdrag.models.protocol import DragModel

Figure = tuple[str, float, str]
"""What was measured, its value, what is aimed at."""


class Recorder:
    """A model that notes what it is asked to generate; otherwise the model it is given."""

    def __init__(self, model: DragModel) -> None:
        self._model = model
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, *call: Any) -> Any:
        self.calls.append(call)
        return self._model.generate(*call)


def builtin(device: torch.device) -> Iterator[Figure]:
    model = load_model("builtin", device=str(device))
    yield from builtin_window(model, device, None, ("15", "300"))
    yield from builtin_window(model, device, 512, ("", ""))
    photos, requests = [picture(512)] * 64, [edit_request(512, None, 1)] * 64
    editor = DragEditor(model)
    many = median_seconds(lambda: editor.run_many(photos, requests, batch=64), device, 3)
    yield "built-in, 64 whole edits at once: edits/s", 64 / many, "300"


def builtin_window(
    model: Any, device: torch.device, side: int | None, aims: tuple[str, str], repeats: int = 20
) -> Iterator[Figure]:
    """Edits of 512 x 512 in a window of this side; None is the model's default."""
    name = "default window" if side is None else f"window of {side} x {side}"
    photo, request = picture(512), edit_request(512, None, 1)
    editor, recorder = DragEditor(model), Recorder(model)
    with window_of(model, side):
        whole = median_seconds(lambda: editor.run(photo, request), device, repeats)
        yield f"built-in, an edit of 512 x 512, {name}: ms", 1e3 * whole, aims[0]
        DragEditor(recorder).run(photo, request)
    call = recorder.calls[0]
    window, rest = call[0].window, call[1:]
    alone = median_seconds(lambda: model.generate(model.encode(window), *rest), device, repeats)
    yield f"built-in, the model alone, {name}: ms", 1e3 * alone, aims[0]
    for batch in (8, 32, 128):
        many = median_seconds(partial(model.generate_batch, [call] * batch), device, 5)
        yield f"built-in, generating in batches of {batch}, {name}: edits/s", batch / many, aims[1]


def paper(device: torch.device, repeats: int = 5) -> Iterator[Figure]:
    """SD 1.5 at full size with random weights, 8 LCM steps, guidance 3."""
    from lightningdrag.bench.models import RANDOM, model_to_measure

    model = model_to_measure(RANDOM, str(device))
    editor = DragEditor(model)
    photo, request = picture(512), edit_request(512, 8, 1, guidance=3.0)

    def seconds(edit: Callable[[], object]) -> float:
        reset_peak(device)
        return median_seconds(edit, device, repeats)

    first = seconds(lambda: editor.run(photo, request))
    yield "SD 1.5, an edit of 512 x 512, exact: s", first, "0.15, hoped for 0.08"
    yield "the same: GB at most", peak_bytes(device) / 1e9, ""
    session = editor.open(photo)
    again = seconds(lambda: session.run(request))
    yield "SD 1.5, another edit of the same photo: share of the first", again / first, "0.85"
    four = seconds(lambda: editor.run(photo, replace(request, num_images=4)))
    yield "SD 1.5, 4 candidates: times one", four / first, "2.5"
    with window_of(model, 1024):
        large = seconds(lambda: editor.run(picture(1024), edit_request(1024, 8, 1, guidance=3.0)))
        yield "SD 1.5, an edit of 1024 x 1024: s", large, ""
        yield "the same: GB at most", peak_bytes(device) / 1e9, "12"


def picture(side: int) -> Image.Image:
    return Image.open(io.BytesIO(photo_bytes(side))).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON, too")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"{provenance()['machine']}\n\n| | measured | aim |\n|---|---|---|")
    figures = []
    parts = [builtin]
    missing = [
        name for name in ("diffusers", "transformers", "accelerate") if not importlib.util.find_spec(name)
    ]
    if not missing:
        parts.append(paper)
    for part in parts:
        for figure in part(device):
            print(f"| {figure[0]} | {figure[1]:.3g} | {figure[2]} |", flush=True)
            figures.append(figure)
    if missing:
        print(f"\nSD 1.5 was left out: {', '.join(missing)} not installed")
    if args.out:
        args.out.write_text(json.dumps({"about": provenance(), "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
