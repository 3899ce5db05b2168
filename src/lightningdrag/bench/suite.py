"""Several cases on one machine, beside what that machine can do at most."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from lightningdrag.bench.ceiling import Ceiling, measure_ceiling
from lightningdrag.bench.measure import Case, Measurement, device_of, measure
from lightningdrag.bench.models import model_to_measure
from lightningdrag.checkpoints.hub import choose_dtype
from lightningdrag.evaluation.provenance import provenance


@dataclass(frozen=True)
class Suite:
    """All that one run measured.

    Attributes:
        model: its name.
        dtype: what it computed in.
        ceiling: of this machine, measured in the same run.
        measurements: one for each case.
        about: command, commit, machine, versions.
    """

    model: str
    dtype: str
    ceiling: Ceiling
    measurements: list[Measurement]
    about: dict[str, str]


def run_suite(
    model: str,
    device: str,
    dtype: str,
    cases: Sequence[Case],
    repeats: int = 5,
    threads: int | None = None,
    on_case: Callable[[str], None] = lambda text: None,
    options: Collection[str] = (),
) -> Suite:
    """Load a model once and measure every case with it; ``on_case`` is told what comes next.

    Raises:
        ModelError: as ``checkpoints.hub.load_model``.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = model_to_measure(model, device, dtype, options)
    place = device_of(loaded)
    computed = choose_dtype(dtype, place)
    on_case("what the machine can do")
    ceiling = measure_ceiling(place, computed)
    measurements = []
    for case in cases:
        on_case(
            f"{model}, {case.size}x{case.size}, steps {case.steps or 'default'}, {case.candidates} candidates"
        )
        measurements.append(measure(loaded, case, repeats))
    name = " + ".join((model, *options))
    return Suite(name, str(computed).removeprefix("torch."), ceiling, measurements, provenance())
