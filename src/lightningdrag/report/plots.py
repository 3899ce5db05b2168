"""Plots as SVG: the few kinds that reports need, in one style."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small files, sharp at any size
    "svg.hashsalt": "lightningdrag",  # the same data give the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which colour-blind readers can tell apart; with MARKERS, for as many as a table has."""
MARKERS = "os^"
SIZE = (6.4, 4.6)


def scatter(
    points: Mapping[str, tuple[float, float]], x_label: str, y_label: str, log_x: bool = False
) -> bytes:
    """Named points, with a legend; those not finite are left out, and the others look as if they were in."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(x_label, y_label)
        for i, (name, (x, y)) in enumerate(points.items()):
            if np.isfinite((x, y)).all():
                axes.scatter([x], [y], s=44, label=name, **_look(i))
        if log_x:
            _log_x(axes)
        axes.margins(0.15)
        _legend(figure)
        return _svg(figure)


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    log_x: bool = False,
) -> bytes:
    """Curves (xs, ys) by name."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(x_label, y_label)
        for i, (name, (xs, ys)) in enumerate(series.items()):
            axes.plot(xs, ys, markersize=4, linewidth=1.6, label=name, **_look(i))
        if log_x:
            _log_x(axes)
        if len(series) > 1:
            _legend(figure)
        return _svg(figure)


def histogram(values: Sequence[float] | np.ndarray, x_label: str, y_label: str, bins: int = 30) -> bytes:
    """How often values occur; what is not finite is left out."""
    array = np.asarray(values, np.float64)
    with mpl.rc_context(STYLE):
        figure, axes = _axes(x_label, y_label)
        axes.hist(array[np.isfinite(array)], bins=bins, color=COLOURS[0])
        return _svg(figure)


def bars(values: Mapping[str, float], x_label: str) -> bytes:
    """Named values, one horizontal bar each, in the order given from above."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(x_label, "", (SIZE[0], 0.8 + 0.3 * len(values)))
        drawn = axes.barh(list(values), list(values.values()), color=COLOURS[0])
        axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=9)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
        return _svg(figure)


def _axes(x_label: str, y_label: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")  # no pyplot: nothing global, safe in threads
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _log_x(axes: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def _look(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index // len(COLOURS) % len(MARKERS)]}


def _legend(figure: Figure) -> None:
    """Below the plot, where it hides nothing, on narrow screens either."""
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)


def _svg(figure: Figure) -> bytes:
    encoded = io.BytesIO()
    figure.savefig(encoded, format="svg", metadata={"Date": None})
    return encoded.getvalue()
