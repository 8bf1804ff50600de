"""Figures of iterated against direct models: learning curves, horizons, the dial, and linear systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.core.stats import Interval
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREY,
    MARKERS,
    VERMILLION,
    legend_above,
    legend_over,
    new_figure,
)
from one_step_trap.trap.misspecified import Dial

MODELS = {"iterated": (BLUE, "-", "o"), "direct": (VERMILLION, DASHES[1], "s")}


def plot_learning_curves(
    tables: Mapping[str, tuple[pd.DataFrame, int]], *, ylabel: str = "error (total variation)"
) -> Figure:
    """Return error against the number of transitions, logarithmic, one panel a case (one or two).

    ``tables`` maps the name of a case to (table of ``Comparison.table``, horizon n). Bands are 95% intervals
    over seeds; the dotted line is the error that the iterated model keeps with endless data.
    """
    figure, axes = _panels(tables, height=3.5)
    for ax, (name, (table, n_step)) in zip(axes, tables.items(), strict=True):
        rows = table[table["n_step"] == n_step]
        if rows.empty:
            raise BookError(f"the table of {name} has no rows with n_step = {n_step}")
        _models(ax, rows, "size")
        limit = rows["bias"].max()
        if limit > 1e-9:
            ax.axhline(limit, color=GREY, ls=DASHES[2], label="iterated, endless data")
        ax.set(xscale="log", yscale="log", xlabel=f"transitions N\n{name}, n = {n_step}")
        ax.grid(which="minor", visible=False)
    axes[0].set_ylabel(ylabel)
    _one_legend(figure, axes)
    return figure


def plot_horizons(
    tables: Mapping[str, tuple[pd.DataFrame, int]], *, ylabel: str = "error (total variation)"
) -> Figure:
    """Return error against the horizon n at one data size, one panel a case (one or two).

    ``tables`` maps the name of a case to (table of ``Comparison.table``, size).
    """
    figure, axes = _panels(tables, height=3.8)
    for ax, (name, (table, size)) in zip(axes, tables.items(), strict=True):
        rows = table[table["size"] == size]
        if rows.empty:
            raise BookError(f"the table of {name} has no rows with size = {size}")
        _models(ax, rows, "n_step")
        limit = rows[(rows["model"] == "iterated") & (rows["bias"] > 1e-9)]
        if len(limit):
            ax.plot(limit["n_step"], limit["bias"], color=GREY, ls=DASHES[2], label="iterated, endless data")
        ax.set(xscale="log", yscale="log", xlabel=f"horizon n (steps)\n{name},\nN = {size:,}")
        ax.set_xticks(sorted(rows["n_step"].unique()))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        ax.grid(which="minor", visible=False)
    axes[0].set_ylabel(ylabel)
    _one_legend(figure, axes)
    return figure


def plot_dial(dial: Dial, ratios: Mapping[int, Sequence[Interval]]) -> Figure:
    """Return direct/iterated error against the persistence of the walk, one curve a data size.

    ``ratios`` maps a size to ``Dial.ratios`` of it (at most six sizes). Below the line at 1 the direct model
    has the smaller error.
    """
    if len(ratios) > len(COLORS):
        raise BookError(f"at most {len(COLORS)} sizes fit into one figure, got {len(ratios)}")
    figure, ax = new_figure(height=3.7)
    for i, (size, row) in enumerate(ratios.items()):
        value, low, high = np.array([(r.value, r.low, r.high) for r in row]).T
        ax.fill_between(dial.persistence, low, high, color=COLORS[i], alpha=0.2, lw=0)
        ax.plot(
            dial.persistence,
            value,
            color=COLORS[i],
            ls=DASHES[i],
            marker=MARKERS[i],
            ms=4,
            label=f"N = {size:,}",
        )
    ax.axhline(1, color=GREY, lw=1.2)
    ax.set(yscale="log", xlabel="persistence ρ: 0 well specified, 1 aliased", xlim=(0, 1))
    ax.set_ylabel(f"direct / iterated error\nat n = {dial.n_step}")
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=3)
    return figure


def plot_linear_ratio(
    table: pd.DataFrame, curves: Mapping[int, tuple[Sequence[float], Sequence[float]]]
) -> Figure:
    """Return direct/iterated error of the scalar system against a: measured markers on the closed form.

    ``table`` as ``linear.scalar_check`` gives it; ``curves`` maps n to (values of a, ``scalar_ratio`` there).
    """
    figure, ax = new_figure(height=3.6)
    for i, (n, (a, ratio)) in enumerate(curves.items()):
        ax.plot(a, ratio, color=COLORS[i], ls=DASHES[i], label=f"n = {n}, closed form")
        rows = table[table["n_step"] == n]
        ax.errorbar(
            rows["a"],
            rows["ratio"],
            yerr=[rows["ratio"] - rows["low"], rows["high"] - rows["ratio"]],
            fmt=MARKERS[i],
            ms=6,
            color=COLORS[i],
            capsize=3,
            ls="none",
            label=f"n = {n}, measured",
        )
    ax.axhline(1, color=GREY, lw=1.2)
    ax.set(yscale="log", xlabel="memory of the system a")
    ax.set_ylabel("direct / iterated\nsquared error")
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=2)
    return figure


def _models(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draw both models' errors with their bands."""
    for model, (color, dash, marker) in MODELS.items():
        one = rows[rows["model"] == model]
        ax.fill_between(one[x], one["low"], one["high"], color=color, alpha=0.25, lw=0)
        ax.plot(one[x], one["error"], color=color, ls=dash, marker=marker, ms=4, label=model)


def _panels(cases: Mapping[str, object], *, height: float) -> tuple[Figure, list[Axes]]:
    if not 1 <= len(cases) <= 2:
        raise BookError(f"one or two cases fit into one figure, got {len(cases)}")
    figure, axes = new_figure(1, len(cases), height=height, sharey=True)
    return figure, list(np.atleast_1d(axes))


def _one_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Put the legend of the panel with the most curves above all of them."""
    fullest = max(axes, key=lambda ax: len(ax.get_legend_handles_labels()[1]))
    legend_over(figure, fullest)
