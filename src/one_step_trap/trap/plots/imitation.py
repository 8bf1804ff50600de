"""Figures of imitation: cost against the length of the task, and learning from equally many labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREY,
    VERMILLION,
    legend_above,
    legend_over,
    new_figure,
)
from one_step_trap.trap.imitation import CostCurves

STYLES = {"cloning": (BLUE, "-", "o"), "DAgger": (VERMILLION, DASHES[1], "s")}


def plot_cost_curves(curves: CostCurves) -> Figure:
    """Return exact expected cost against T on logarithmic axes, one curve a chance to recover, and the bound."""
    if len(curves.recovers) > len(COLORS):
        raise BookError(f"at most {len(COLORS)} curves fit into one figure, got {len(curves.recovers)}")
    figure, ax = new_figure(height=3.7)
    ax.plot(curves.horizons, curves.bound, color=GREY, lw=1.2, label="bound min(T, T²ε)")
    for i, (recover, costs) in enumerate(zip(curves.recovers, curves.costs, strict=True)):
        name = {0.0: "never recovers", 1.0: "recovers at once: Tε"}.get(
            recover, f"recovers at rate {recover:g}"
        )
        ax.plot(curves.horizons, costs, color=COLORS[i], ls=DASHES[i], label=name)
    ax.set(xscale="log", yscale="log", xlabel="length of the task T (steps)")
    ax.set_ylabel(f"expected cost at ε = {curves.eps:g}\n(steps off the road)")
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=2)
    return figure


def plot_roads(tables: Mapping[str, pd.DataFrame], T: int) -> Figure:
    """Return expected cost of ``T`` steps against the number of labels, one panel a road (one or two).

    ``tables`` maps the name of a road to ``RoadStudy.table``. Bands are 95% intervals over learners.
    """
    if not 1 <= len(tables) <= 2:
        raise BookError(f"one or two roads fit into one figure, got {len(tables)}")
    figure, axes = new_figure(1, len(tables), height=3.4, sharey=True)
    panels = list(np.atleast_1d(axes))
    for ax, (name, table) in zip(panels, tables.items(), strict=True):
        _by_labels(ax, table, "cost")
        ax.set(yscale="log", xlabel=f"expert labels\n{name}")
    panels[0].set_ylabel(f"expected cost\nof {T} steps")
    legend_over(figure, panels[0])
    return figure


def plot_cartpole(summary: pd.DataFrame, T: int = 500) -> Figure:
    """Return the steps survived, and the imitation errors on both kinds of states, against the labels.

    ``summary`` as ``summarise_cartpole`` gives it. Filled markers: error on the expert's states; open
    markers, dotted: on the learner's own.
    """
    figure, (top, bottom) = new_figure(2, 1, height=6.0, sharex=True)
    _by_labels(top, summary, "return")
    top.axhline(T, color=GREY, lw=1.2)
    top.set_ylabel(f"steps until the fall\n(the expert: {T})")
    top.set_ylim(0, T * 1.08)
    legend_above(top)
    for name, (color, dash, marker) in STYLES.items():
        rows = summary[summary["algorithm"] == name]
        for column, label, fill, style in (
            ("expert_error", "expert's states", color, dash),
            ("own_error", "own states", "none", DASHES[2]),
        ):
            bottom.plot(
                rows["labels"],
                rows[column],
                color=color,
                ls=style,
                marker=marker,
                mfc=fill,
                ms=5,
                label=f"{name}, {label}",
            )
            bottom.fill_between(
                rows["labels"], rows[f"{column}_low"], rows[f"{column}_high"], color=color, alpha=0.15, lw=0
            )
    bottom.set(xscale="log", xlabel="expert labels", ylim=(0, None))
    bottom.set_ylabel("share of actions unlike\nthe expert's")
    _plain_ticks(bottom, summary["labels"])
    legend_above(bottom, ncols=2)
    return figure


def _by_labels(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """Draw one column against the number of labels for both algorithms, with its intervals."""
    for name, (color, dash, marker) in STYLES.items():
        rows = table[table["algorithm"] == name]
        ax.fill_between(
            rows["labels"], rows[f"{column}_low"], rows[f"{column}_high"], color=color, alpha=0.2, lw=0
        )
        ax.plot(rows["labels"], rows[column], color=color, ls=dash, marker=marker, ms=5, label=name)
    ax.set_xscale("log")
    ax.grid(which="minor", visible=False)


def _plain_ticks(ax: Axes, values: pd.Series) -> None:
    """Label a logarithmic x axis with at most four of the values themselves."""
    ticks = sorted(values.unique())
    ax.set_xticks(ticks[:: max(1, (len(ticks) + 3) // 4)])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
