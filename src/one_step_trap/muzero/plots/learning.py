"""Figures of learning: return against environment steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from one_step_trap.core.validate import check_table
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    DASHES,
    GREY,
    legend_above,
    new_figure,
)

if TYPE_CHECKING:
    from one_step_trap.muzero.instrument import MuZeroReport

RUNS = ("seed", "x", "value")


def plot_learning(runs: Mapping[str, pd.DataFrame], levels: Mapping[str, float] | None = None) -> Figure:
    """Return learning curves, one panel a name (one to six): each training thin, their mean thick.

    ``runs`` maps a name to rows of seed, x (environment steps) and value (mean return). ``levels``: a dotted line in panels.
    """
    if not isinstance(runs, Mapping) or not 1 <= len(runs) <= 6:
        raise BookError("runs must map one to six names to tables of seed, x, value")
    rows, columns = (1, 1) if len(runs) == 1 else ((len(runs) + 1) // 2, 2)
    figure, grid = new_figure(rows, columns, height=0.8 + 2.5 * rows, squeeze=False)
    for ax, (name, table) in zip(grid.flat, runs.items(), strict=False):
        check_table(table, RUNS, f"the table of {name}")
        for _, one in table.groupby("seed"):
            ax.plot(one["x"], one["value"], color=BLUE, lw=0.7, alpha=0.5)
        mean = table.groupby("x")["value"].mean()
        ax.plot(mean.index, mean, color=BLUE, lw=2.4)
        if levels and name in levels:
            ax.axhline(levels[name], color=GREY, lw=1.2, ls=DASHES[2])
        ax.set(xlabel=f"environment steps\n{name}")
        _thousands(ax)
    for ax in list(grid.flat)[len(runs) :]:
        ax.set_axis_off()
    for row in grid:
        row[0].set_ylabel("mean return")
    return figure


def plot_run_learning(report: MuZeroReport) -> Figure:
    """Return the learning curve of the instrument's training, with the return of random play in grey."""
    figure, ax = new_figure(height=3.2)
    ax.plot(
        report.curve["env_steps"],
        report.curve["mean_return"],
        marker="o",
        ms=4,
        label="mean of an evaluation",
    )
    ax.axhline(report.chance, color=GREY, lw=1.2, ls=DASHES[2], label="random play")
    ax.set(xlabel="environment steps", ylabel="mean return")
    _thousands(ax)
    legend_above(ax, ncols=2)
    return figure


def _thousands(ax: Axes) -> None:
    """Write steps as 5k and 10k, at few places."""
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1000:g}k" if v >= 1000 else f"{v:g}"))
