"""One edit taken apart: seconds by part, operations by kind, peak memory."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from lightningdrag.bench.ceiling import synchronize
from lightningdrag.bench.scene import edit_request, photo_bytes
from lightningdrag.editor import DragEditor
from lightningdrag.memory import peak_bytes, reset_peak
from lightningdrag.models.protocol import DragModel

OPEN, REST = "open photo", "mask, window, composite"
MODEL_REST = "model, between its networks"


@dataclass(frozen=True)
class Case:
    """What is edited.

    Attributes:
        size: side of the square photo, in pixels; its mask makes the whole of it the window.
        steps: sampling steps; None is the model's default.
        candidates: how many results.
        window: side of the window at the model's resolution; None is the model's default.
        points: pairs of points.
    """

    size: int = 512
    steps: int | None = None
    candidates: int = 1
    window: int | None = None
    points: int = 1


@dataclass(frozen=True)
class Measurement:
    """What it cost.

    Attributes:
        case: what was edited.
        seconds: median wall time from a file's bytes to images in memory.
        again: the same for another edit of the opened photo.
        parts: median seconds of each part; within one edit they add up.
        calls: how often each part of the model ran.
        operations: FLOPs of one edit by kind, a multiply-add counted as two.
        part_operations: of each network by kind, all its calls together.
        weights: bytes of each network's weights.
        peak: bytes held at most, weights included.
    """

    case: Case
    seconds: float
    again: float
    parts: dict[str, float]
    calls: dict[str, int]
    operations: dict[str, int]
    part_operations: dict[str, dict[str, int]]
    weights: dict[str, int]
    peak: int


class Stopwatch:
    """Seconds and calls by name."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self._device, self._clock = device, clock
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def start(self, name: str) -> None:
        synchronize(self._device)
        self.seconds[name] -= self._clock()

    def stop(self, name: str) -> None:
        synchronize(self._device)
        self.seconds[name] += self._clock()
        self.calls[name] += 1

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        self.start(name)
        yield
        self.stop(name)


def networks_of(model: Any) -> dict[str, nn.Module]:
    """The networks of a model by name; none overlap."""
    pipeline = getattr(model, "pipeline", None)
    if pipeline is not None:
        return {
            "VAE encoder": pipeline.vae.encoder,
            "text encoder": pipeline.text_encoder,
            "CLIP": pipeline.image_encoder,
            "appearance encoder": pipeline.appearance_encoder,
            "point encoder": pipeline.point_encoder,
            "denoiser": pipeline.unet,
            "VAE decoder": model.decoder.decoder,
        }
    network = getattr(model, "network", None)
    return dict(network.named_children()) if network is not None else {}


def device_of(model: DragModel) -> torch.device:
    """Where a model computes; the CPU for one without weights."""
    networks = list(networks_of(model).values())
    return next(networks[-1].parameters()).device if networks else torch.device("cpu")


class TimedModel:
    """A model that keeps time of itself and its networks; otherwise the model it is given."""

    def __init__(self, model: DragModel, watch: Stopwatch) -> None:
        self._model, self._watch = model, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, *args: Any) -> Any:
        with self._watch.time("encode"):
            return self._model.encode(*args)

    def generate(self, *args: Any) -> Any:
        with self._watch.time("generate"):
            return self._model.generate(*args)


@contextmanager
def network_times(model: DragModel, watch: Stopwatch) -> Iterator[None]:
    """Within, every call of a model's networks is timed."""
    handles = []
    for name, network in networks_of(model).items():
        handles.append(network.register_forward_pre_hook(lambda *_, name=name: watch.start(name)))
        handles.append(network.register_forward_hook(lambda *_, name=name: watch.stop(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def measure(model: DragModel, case: Case, repeats: int = 3) -> Measurement:
    """Edit a made-up photo ``1 + repeats`` times, each time once more, and then to count operations.

    Memory, caches and kernels are set up by the first edit, which does not count.
    """
    device = device_of(model)
    data = photo_bytes(case.size)
    request = edit_request(case.size, case.steps, case.candidates, case.points)
    runs, again = [], []
    with window_of(model, case.window):
        for index in range(1 + repeats):
            if index == 1:
                reset_peak(device)
            watch = Stopwatch(device)
            with network_times(model, watch):
                with watch.time(OPEN):
                    session = DragEditor(TimedModel(model, watch)).open(data)
                with watch.time(REST):
                    session.run(request)
            parts, calls = _apart(watch), dict(watch.calls)
            start = time.perf_counter()
            session.run(request)
            if index:
                runs.append(parts)
                again.append(time.perf_counter() - start)
        peak = peak_bytes(device)
        with FlopCounterMode(display=False, custom_mapping=_ON_CPU) as counter:
            DragEditor(model).run(data, request)
    counts = counter.get_flop_counts()  # by the class of what is called, then of what that calls
    networks = networks_of(model)
    return Measurement(
        case,
        seconds=statistics.median(sum(parts.values()) for parts in runs),
        again=statistics.median(again),
        parts={name: statistics.median(parts[name] for parts in runs) for name in parts},
        calls={name: count for name, count in calls.items() if name in parts},
        operations=_by_kind(counts["Global"]),
        part_operations={name: _by_kind(counts[type(part).__name__]) for name, part in networks.items()},
        weights={name: _weights(part) for name, part in networks.items()},
        peak=peak,
    )


@contextmanager
def window_of(model: Any, side: int | None) -> Iterator[None]:
    """Within, a model works at windows of about this side, and takes smaller ones enlarged to it."""
    if side is None:
        yield
        return
    before = model.working_area, model.max_upscale
    model.working_area, model.max_upscale = side * side, 8.0
    try:
        yield
    finally:
        model.working_area, model.max_upscale = before


def _apart(watch: Stopwatch) -> dict[str, float]:
    """Parts that add up, from times of which some contain others."""
    seconds = dict(watch.seconds)
    opening, everything = seconds.pop(OPEN), seconds.pop(REST)
    model = seconds.pop("encode") + seconds.pop("generate")
    return {
        OPEN: opening,
        **seconds,
        MODEL_REST: model - sum(seconds.values()),
        REST: everything - model,
    }


def _weights(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def _by_kind(counts: dict[Any, int]) -> dict[str, int]:
    kinds = {"matmul": 0, "convolution": 0, "attention": 0}
    for operator, count in counts.items():
        name = str(operator)
        kind = "attention" if "attention" in name else "convolution" if "conv" in name else "matmul"
        kinds[kind] += count
    return kinds


def _attention_on_cpu(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


_ON_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpu}
"""The one kernel that torch's counter does not know."""
