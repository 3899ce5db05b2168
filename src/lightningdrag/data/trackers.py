"""What finds motion: dense flow and point tracks, by name.

The defaults are OpenCV's and need no weights. A name is one of those below, one that an installed package
declares as an entry point, or ``package.module:factory``. A factory takes the place of the weights (``""``
where none are given) and returns a :data:`~lightningdrag.data.tracks.FlowTracker` or a
:data:`~lightningdrag.data.points.PointTracker`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lightningdrag.data.points import PointTracker, lucas_kanade
from lightningdrag.data.recipe import RecipeError
from lightningdrag.data.tracks import FlowTracker, clip_flow

FLOWS = {
    "raft-small": "lightningdrag.data.raft:small",
    "raft-large": "lightningdrag.data.raft:large",
}
"""Besides ``dis``, which needs nothing: RAFT (Teed and Deng, 2020; BSD-3) of torchvision."""

POINT_TRACKERS = {
    "tapir": "lightningdrag.data.learned_points:tapir",
    "tapnext": "lightningdrag.data.learned_points:tapnext",
    "cotracker": "lightningdrag.data.learned_points:cotracker",
}
"""Besides ``lk``, which needs nothing: TAPIR and TAPNext (Apache-2.0), CoTracker (CC-BY-NC 4.0)."""

NOTICES = {
    "cotracker": "CoTracker's code and weights are under CC-BY-NC 4.0: what they give may not be used "
    "commercially; that holds for a dataset made with them"
}
"""What has to be told to whoever chooses a tracker."""


@dataclass(frozen=True)
class Trackers:
    """What finds motion in a shot."""

    flow: FlowTracker = clip_flow
    points: PointTracker = lucas_kanade


CLASSIC = Trackers()
"""OpenCV's."""


@lru_cache(maxsize=1)
def load_trackers(
    flow: str = "dis", flow_weights: str = "", tracker: str = "lk", weights: str = ""
) -> Trackers:
    """The trackers by their names.

    Raises:
        RecipeError: nothing has this name, or its weights are missing or of another network.
    """
    return Trackers(
        clip_flow if flow == "dis" else _made("flow", flow, flow_weights, FLOWS),
        lucas_kanade if tracker == "lk" else _made("tracker", tracker, weights, POINT_TRACKERS),
    )


def _made(kind: str, name: str, weights: str, known: Mapping[str, str]) -> Any:
    if name in known and not weights:
        raise RecipeError(f"the {kind} {name} needs its weights: set {kind}_weights to their file")
    try:
        factory: Callable[[str], Any] = _entry(kind, name, known).load()
        return factory(weights)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"the {kind} {name!r} cannot be loaded: {error}") from error


def _entry(kind: str, name: str, known: Mapping[str, str]) -> EntryPoint:
    group = f"lightningdrag.{kind}s"
    if name in known or ":" in name:
        return EntryPoint(name, known.get(name, name), group)
    found = {entry.name: entry for entry in entry_points(group=group)}
    if name not in found:
        there = ", ".join(("dis" if kind == "flow" else "lk", *known, *found))
        raise RecipeError(f"there is no {kind} {name!r}; there are {there}, or package.module:factory")
    return found[name]
