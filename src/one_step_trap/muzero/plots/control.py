"""Figures of control: return against K, refresh interval, simulations and depth cap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_real, check_table
from one_step_trap.errors import BookError
from one_step_trap.muzero.published import DE_VRIES_CARTPOLE, DE_VRIES_MOUNTAINCAR
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREY,
    MARKERS,
    PURPLE,
    VERMILLION,
    legend_above,
    new_figure,
)

TABLE = ("x", "value", "low", "high")
NOTED = "de Vries et al. (our notes)"
"""Not "published": ``published.py`` says that these numbers come from our notes."""


def plot_return_by_k(updates: pd.DataFrame, compute: pd.DataFrame, *, published: bool = True) -> Figure:
    """Return the mean return against K at equal updates and at equal compute; columns unroll_steps, value, low, high.

    ``published``: beside them the means of de Vries et al. 2021, as our notes have them.
    """
    figure, ax = new_figure(height=3.7)
    for i, (name, rows) in enumerate((("equal updates", updates), ("equal compute", compute))):
        check_table(rows, ("unroll_steps", "value", "low", "high"), f"the table at {name}")
        bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["value"].to_numpy())
        style = {"color": (BLUE, VERMILLION)[i], "ls": DASHES[i], "marker": MARKERS[i]}
        ax.errorbar(
            rows["unroll_steps"] * 1.03**i, rows["value"], yerr=bars, capsize=3, ms=6, label=name, **style
        )
    if published:
        theirs = [(one.unroll_steps, one.mean_return) for one in DE_VRIES_CARTPOLE]
        ax.plot(*zip(*theirs, strict=True), color=PURPLE, ls=DASHES[2], marker="^", label=NOTED)
    ax.set(
        xscale="log",
        xlabel="steps K unrolled in training",
        ylabel="mean return\n(CartPole-v1)",
        ylim=(0, 520),
    )
    _plain(ax, updates["unroll_steps"])
    legend_above(ax, ncols=2)
    return figure


def plot_refresh(table: pd.DataFrame, random: float, *, best: float | None = 500.0) -> Figure:
    """Return the return against the refresh interval, one line a K, with a marker at the interval K (`control.table`).

    ``random``: the return of uniform actions, in grey. Bands: 95% intervals over trainings.
    """
    check_table(table, ("unroll_steps", *TABLE), "table")
    figure, ax = new_figure(height=3.9)
    groups = list(table.groupby("unroll_steps", sort=True))
    if len(groups) > len(COLORS):
        raise BookError(f"at most {len(COLORS)} values of K fit into one figure, got {len(groups)}")
    for i, (K, rows) in enumerate(groups):
        ax.fill_between(rows["x"], rows["low"], rows["high"], color=COLORS[i], alpha=0.15, lw=0)
        ax.plot(rows["x"], rows["value"], color=COLORS[i], ls=DASHES[i], label=f"K = {K}")
        at = np.interp(np.log(float(str(K))), np.log(rows["x"]), rows["value"])
        ax.plot([K], [at], color=COLORS[i], marker=MARKERS[i], ms=8)
    ax.axhline(check_real(random, "random"), color=GREY, lw=1.2, label="random")
    ax.set(xscale="log", xlabel="steps from one look to the next", ylabel="mean return", ylim=(0, None))
    if best is not None:
        ax.set_ylim(0, 1.04 * check_real(best, "best"))
    _plain(ax, table["x"])
    legend_above(ax)
    return figure


def plot_blindfold(table: pd.DataFrame) -> Figure:
    """Return MountainCar's return against the refresh interval, ours (`control.table`) beside de Vries et al. 2021."""
    check_table(table, TABLE, "table")
    figure, ax = new_figure(height=3.5)
    ax.fill_between(table["x"], table["low"], table["high"], color=BLUE, alpha=0.2, lw=0)
    ax.plot(table["x"], table["value"], color=BLUE, marker="o", ms=6, label="here")
    theirs = [(one.refresh, one.mean_return) for one in DE_VRIES_MOUNTAINCAR]
    ax.plot(*zip(*theirs, strict=True), color=PURPLE, ls=DASHES[1], marker="^", ms=6, label=NOTED)
    ax.axhline(-200, color=GREY, lw=1.0)
    ax.set(xscale="log", xlabel="steps from one look to the next", ylabel="mean return\n(MountainCar-v0)")
    _plain(ax, table["x"])
    legend_above(ax)
    return figure


def plot_scaling(tables: Mapping[str, pd.DataFrame], *, xlabel: str = "simulations of the search") -> Figure:
    """Return scores (0 random, 1 best) against simulations or depth caps, one line a name; columns x, value, low, high.

    A point at 0 simulations, the policy head alone, is drawn at the left edge, apart from the line.
    """
    if not isinstance(tables, Mapping) or not 1 <= len(tables) <= len(COLORS):
        raise BookError(f"tables must map one to {len(COLORS)} names to tables of x, value, low, high")
    figure, ax = new_figure(height=4.2)
    ticks: set[float] = set()
    for i, (name, table) in enumerate(tables.items()):
        check_table(table, TABLE, f"the table of {name}")
        searched, head = table[table["x"] > 0], table[table["x"] == 0]
        style = {"color": COLORS[i], "marker": MARKERS[i], "ms": 5}
        ax.fill_between(searched["x"], searched["low"], searched["high"], color=COLORS[i], alpha=0.12, lw=0)
        ax.plot(searched["x"], searched["value"], ls=DASHES[i], label=str(name), **style)
        for row in head.itertuples():
            bars = np.abs(np.array([[row.low - row.value], [row.high - row.value]]))
            ax.errorbar([0.5 * 1.06 ** (i - 2)], [row.value], yerr=bars, capsize=2, mfc="none", **style)
        ticks |= set(searched["x"])
    ax.set(xscale="log", xlabel=xlabel, ylabel="score (0 random, 1 best)")
    _plain(ax, pd.Series(sorted(ticks)))
    if any((table["x"] == 0).any() for table in tables.values()):
        ax.set_xticks([0.5, *ax.get_xticks()], ["policy\nhead", *(f"{x:g}" for x in ax.get_xticks())])
    legend_above(ax, ncols=2)
    return figure


def _plain(ax: Axes, values: pd.Series) -> None:
    """Label a logarithmic x axis with at most six of the values themselves."""
    ticks = sorted(set(values))
    chosen = ticks[:: max(1, -(-len(ticks) // 6))]
    ax.set_xticks(chosen)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.grid(which="minor", visible=False)
