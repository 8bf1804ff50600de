"""Figures of prediction errors against the depth of the unrolling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_choice, check_table
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    GREY,
    MARKERS,
    legend_above,
    legend_over,
    new_figure,
)

if TYPE_CHECKING:
    from one_step_trap.muzero.instrument import MuZeroReport

LABELS = {
    "reward": "reward\n(mean abs error)",
    "value": "value, against the\nmodel that looks",
    "value_return": "value, against\nreal returns",
    "policy": "policy\n(total variation)",
    "return_sum": "sum of rewards\n(mean abs error)",
    "latent": "latent state\n(distance)",
}
ACTIONS = {"agent": "own actions", "random": "uniform actions"}
CURVE = ("unroll_steps", "behaviour", "depth", "value", "low", "high")


def plot_divergence(curves: Mapping[str, pd.DataFrame], guess: pd.DataFrame | None = None) -> Figure:
    """Return errors against depth: one row of panels a measure, own actions left and uniform ones right.

    ``curves`` maps a measure (reward, value, policy, …) to `divergence.curves`; one line a K, with a marker where the depth is
    K. Bands: 95% intervals over trainings. ``guess``: curves of the measure guess, drawn in grey beside the reward: the
    error of the best constant at that depth, mean over K.
    """
    if not isinstance(curves, Mapping) or not 1 <= len(curves) <= 4:
        raise BookError("curves must map one to four measures to tables of divergence.curves")
    for name, table in curves.items():
        check_choice(name, LABELS, "every measure")
        check_table(table, CURVE, f"the table of {name}")
    figure, grid = new_figure(len(curves), 2, height=1.2 + 2.15 * len(curves), sharex=True, squeeze=False)
    for row, (name, table) in zip(grid, curves.items(), strict=True):
        for ax, behaviour in zip(row, ACTIONS, strict=True):
            _lines(ax, table[table["behaviour"] == behaviour])
            if guess is not None and name == "reward":
                blind = guess[guess["behaviour"] == behaviour].groupby("depth")["value"].mean()
                ax.plot(blind.index, blind, color=GREY, lw=1.2, label="knows the depth only")
        top = max(ax.get_ylim()[1] for ax in row)
        for ax in row:
            ax.set_ylim(0, top)
        row[0].set_ylabel(LABELS[name])
        row[1].tick_params(labelleft=False)
    for ax, words in zip(grid[-1], ACTIONS.values(), strict=True):
        ax.set_xlabel(f"depth (steps),\n{words}")
    _legend(figure, grid[0][0])
    return figure


def _lines(ax: Axes, table: pd.DataFrame) -> None:
    """Draw one line a K with its band, and a marker at depth K."""
    for i, (K, rows) in enumerate(table.groupby("unroll_steps", sort=True)):
        if i >= len(COLORS):
            raise BookError(f"at most {len(COLORS)} values of K fit into one figure")
        style = {"color": COLORS[i], "ls": DASHES[i]}
        ax.fill_between(rows["depth"], rows["low"], rows["high"], color=COLORS[i], alpha=0.15, lw=0)
        ax.plot(
            rows["depth"],
            rows["value"],
            **style,
            marker=MARKERS[i],
            ms=7,
            markevery=_at(rows, K),
            label=f"K = {K}",
        )


def _at(rows: pd.DataFrame, K: object) -> list[int]:
    return np.flatnonzero(rows["depth"] == K).tolist()


def _legend(figure: Figure, ax: Axes) -> None:
    """Put one legend above all panels, in two lines if need be."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=min(3, len(labels)),
        columnspacing=1.2,
        handlelength=2.2,
        frameon=False,
        fontsize=11,
    )


def plot_consistency(
    plain: Mapping[str, pd.DataFrame], tied: Mapping[str, pd.DataFrame], *, behaviour: str = "agent"
) -> Figure:
    """Return errors with and without the consistency loss, one panel a measure (two to four, e.g. latent and value).

    Both map measures to `divergence.curves`. Filled markers at depth K.
    """
    if not isinstance(plain, Mapping) or not isinstance(tied, Mapping) or list(plain) != list(tied):
        raise BookError("plain and tied must map the same measures to tables of divergence.curves")
    if not 2 <= len(plain) <= 4:
        raise BookError(f"two to four measures fit into the figure, got {len(plain)}")
    check_choice(behaviour, ACTIONS, "behaviour")
    rows = (len(plain) + 1) // 2
    figure, grid = new_figure(rows, 2, height=1.3 + 2.5 * rows, squeeze=False)
    for ax, name in zip(grid.flat, plain, strict=False):
        check_choice(name, LABELS, "every measure")
        i = 0
        for kind, tables in (("", plain), (", consistent", tied)):
            table = check_table(tables[name], CURVE, f"the table of {name}")
            for K, part in table[table["behaviour"] == behaviour].groupby("unroll_steps", sort=True):
                style = {"color": COLORS[i], "ls": DASHES[i], "marker": MARKERS[i], "markevery": _at(part, K)}
                ax.fill_between(part["depth"], part["low"], part["high"], color=COLORS[i], alpha=0.15, lw=0)
                ax.plot(part["depth"], part["value"], **style, ms=7, label=f"K = {K}{kind}")
                i += 1
        ax.set(xlabel="depth (steps)", ylim=(0, None))
        ax.set_ylabel(LABELS[name])
    for ax in list(grid.flat)[len(plain) :]:
        ax.set_axis_off()
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=2, handlelength=2.2, frameon=False, fontsize=11
    )
    return figure


def plot_growths(cells: pd.DataFrame) -> Figure:
    """Return the error at depth 4K over that at depth K (`divergence.growths`), with intervals and the rule's line at 1.5."""
    check_table(cells, ("unroll_steps", "behaviour", "measure", "ratio", "low", "high"), "cells")
    figure, axes = new_figure(1, 2, height=3.6, sharey=True)
    for ax, (behaviour, words) in zip(axes, ACTIONS.items(), strict=True):
        ax.axhline(1.5, color=GREY, lw=1.0, ls=DASHES[2])
        ax.axhline(1.0, color=GREY, lw=1.0)
        for i, (measure, rows) in enumerate(
            cells[cells["behaviour"] == behaviour].groupby("measure", sort=False)
        ):
            x = np.arange(len(rows)) + 0.18 * (i - 1)
            bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["ratio"].to_numpy())
            ax.errorbar(
                x,
                rows["ratio"],
                yerr=bars,
                color=COLORS[i],
                marker=MARKERS[i],
                ls="",
                ms=6,
                capsize=3,
                label=str(measure),
            )
            ax.set_xticks(np.arange(len(rows)), rows["unroll_steps"].astype(str))
        ax.set(yscale="log", xlabel=f"K in training\n({words})")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.grid(which="minor", visible=False)
    axes[0].set_ylabel("error at depth 4K /\nerror at depth K")
    legend_over(figure, axes[0])
    return figure


def plot_run(report: MuZeroReport) -> Figure:
    """Return the errors that the instrument found against depth, own and uniform actions; the line marks K."""
    figure, axes = new_figure(3, 1, height=6.6, sharex=True)
    for ax, name in zip(axes, ("reward", "value", "policy"), strict=True):
        for i, (behaviour, words) in enumerate(ACTIONS.items()):
            e = report.errors
            rows = e[(e["measure"] == name) & (e["behaviour"] == behaviour)]
            ax.fill_between(rows["depth"], rows["low"], rows["high"], color=COLORS[i], alpha=0.2, lw=0)
            ax.plot(rows["depth"], rows["value"], color=COLORS[i], ls=DASHES[i], label=words)
        ax.axvline(report.unroll_steps, color=GREY, lw=1.0, ls=DASHES[2], label=f"K = {report.unroll_steps}")
        ax.set_ylim(bottom=0)
        ax.set_ylabel(LABELS[name])
    axes[-1].set_xlabel("depth of the prediction (steps)")
    legend_above(axes[0])
    return figure
