"""Figures of the tree of futures: what prediction and planning cost against how far they look."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREEN,
    MARKERS,
    VERMILLION,
    legend_above,
    new_figure,
)
from one_step_trap.trap.tree import lock_success


def plot_cost(costs: pd.DataFrame) -> Figure:
    """Return the nodes of each method against the horizon (`cost_curve`, of any number of branching factors).

    Enumeration has one line for each branching factor. The two others hardly depend on it: the most costly one is drawn.
    """
    figure, ax = new_figure(height=3.9)
    trees = costs[costs["method"] == "enumeration"]
    if trees.empty:
        raise BookError("the costs hold no enumeration")
    for i, (b, rows) in enumerate(trees.groupby("branches")):
        if i >= len(MARKERS):
            raise BookError(f"plot_cost draws at most {len(MARKERS)} branching factors")
        ax.plot(
            rows["horizon"],
            rows["nodes"],
            color=VERMILLION,
            ls=DASHES[i],
            marker=MARKERS[i],
            ms=5,
            label=f"all paths, b = {b}",
        )
    for method, color, dash in (("merged states", BLUE, "-"), ("Monte Carlo", GREEN, DASHES[1])):
        rows = costs[costs["method"] == method].groupby("horizon")["nodes"].max()
        ax.plot(rows.index, rows.to_numpy(), color=color, ls=dash, lw=2.4, label=method)
    ax.set(xscale="log", yscale="log", xlabel="horizon n (steps)", ylabel="next states asked\nof the model")
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=2)
    return figure


def plot_sampling_error(errors: pd.DataFrame) -> Figure:
    """Return the rms error of sampling against the horizon, one line a number of rollouts (`sampling_error`).

    Bars: 95% interval over independent estimates. Thin lines: the limit 1/(2√N).
    """
    figure, ax = new_figure(height=3.5)
    for i, (count, rows) in enumerate(errors.groupby("rollouts")):
        if i >= len(COLORS):
            raise BookError(f"plot_sampling_error draws at most {len(COLORS)} numbers of rollouts")
        middle = rows["rms"].to_numpy()
        bars = np.abs(rows[["low", "high"]].to_numpy().T - middle)
        ax.errorbar(
            rows["horizon"],
            middle,
            yerr=bars,
            color=COLORS[i],
            ls=DASHES[i],
            marker=MARKERS[i],
            ms=5,
            capsize=3,
            label=f"N = {count:,}",
        )
        ax.plot(rows["horizon"], rows["limit"], color=COLORS[i], ls=DASHES[i], lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel="horizon n (steps)", ylabel="root-mean-square error")
    drawn = errors[["rms", "low", "limit"]].to_numpy()
    low, high = np.log10([drawn[drawn > 0].min(), drawn.max()])
    ax.set_ylim(
        10 ** np.floor(low), 10 ** np.ceil(high)
    )  # whole powers of ten: at least two of them get a number
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(which="minor", visible=False)
    legend_above(ax)
    return figure


def plot_lock(locks: pd.DataFrame) -> Figure:
    """Return how often random action sequences open a lock against its length (`lock_by_sampling`), with the closed form.

    One line for each number of rollouts; planning over merged states, which always opens it, is the line at 1.
    """
    figure, ax = new_figure(height=3.5)
    longest = int(locks["horizon"].max())
    ax.plot([1, longest], [1, 1], color=BLUE, lw=2.4, label="merged states")
    n = np.arange(1, longest + 1)
    for i, ((A, count), rows) in enumerate(locks.groupby(["actions", "rollouts"]), start=1):
        if i >= len(COLORS):
            raise BookError(f"plot_lock draws at most {len(COLORS) - 1} numbers of rollouts")
        middle = rows["success"].to_numpy()
        bars = np.abs(rows[["low", "high"]].to_numpy().T - middle)
        ax.plot(n, lock_success(n, int(A), int(count)), color=COLORS[i], ls=DASHES[i])
        ax.errorbar(
            rows["horizon"],
            middle,
            yerr=bars,
            color=COLORS[i],
            marker=MARKERS[i],
            ms=5,
            capsize=2,
            ls="none",
            label=f"{count:,} tries",
        )
    ax.set(xlabel="length of the lock n (steps)", ylabel="share of locks opened", ylim=(-0.03, 1.06))
    ax.xaxis.get_major_locator().set_params(integer=True)
    legend_above(ax)
    return figure


def plot_planning(table: pd.DataFrame) -> Figure:
    """Return the nodes of three ways to plan against the horizon (`planning_costs`), on a logarithmic axis."""
    figure, ax = new_figure(height=3.5)
    for i, (method, rows) in enumerate(table.groupby("method", sort=False)):
        ax.plot(
            rows["horizon"],
            rows["nodes"],
            color=COLORS[i],
            ls=DASHES[i],
            marker=MARKERS[i],
            ms=5,
            label=method,
        )
    ax.set(yscale="log", xlabel="horizon n (steps)", ylabel="next states asked\nof the model")
    ax.grid(which="minor", visible=False)
    ax.xaxis.get_major_locator().set_params(integer=True)
    legend_above(ax, ncols=2)
    return figure
