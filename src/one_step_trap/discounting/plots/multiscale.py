"""Mixtures of discounts against the hyperbola, and learning by time scale against learning at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from one_step_trap.core.validate import check_kinds, check_table
from one_step_trap.discounting.multiscale import Mixture, hyperbolic_weight
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    INK,
    MARKERS,
    legend_above,
    new_figure,
)


def plot_mixtures(mixtures: Sequence[Mixture], steps: ArrayLike) -> Figure:
    """Return two panels against the distance: the weights with 1/(1+kn) above, their relative error below.

    All mixtures share the ``k`` of the first; errors below 10⁻⁷ are not shown.
    """
    mixtures = check_kinds(mixtures, Mixture, "mixtures", most=len(COLORS))
    figure, (top, bottom) = new_figure(2, 1, height=5.6, sharex=True)
    top.plot(steps, hyperbolic_weight(steps, mixtures[0].k), color=INK, lw=1, label="hyperbola, 1/(1+kn)")
    for i, mixture in enumerate(mixtures):
        style = {"color": COLORS[i], "ls": DASHES[(i + 1) % len(DASHES)]}
        top.plot(steps, mixture.weight(steps), label=f"{mixture.name}, {len(mixture.gammas)}", **style)
        bottom.plot(steps, mixture.relative_error(steps), **style)
    top.set(xscale="log", yscale="log", ylabel="weight left")
    top.set_ylim(float(np.min(hyperbolic_weight(steps, mixtures[0].k))) / 3, 1.5)
    bottom.set(
        yscale="log", ylim=(1e-7, 3), xlabel="distance of the reward n (steps)", ylabel="relative error"
    )
    for ax in (top, bottom):
        ax.grid(which="minor", visible=False)
    legend_above(top, ncols=1)
    return figure


def plot_scales(frame: pd.DataFrame) -> Figure:
    """Return the error of every method against its number of steps, from :meth:`ScaleStudy.frame`: means
    with intervals.
    """
    check_table(frame, ("method", "n_step", "error", "low", "high"), "frame (of ScaleStudy.frame)")
    figure, ax = new_figure(height=3.6)
    for i, (method, rows) in enumerate(frame.groupby("method", sort=False)):
        spread = [rows["error"] - rows["low"], rows["high"] - rows["error"]]
        ax.errorbar(
            rows["n_step"],
            rows["error"],
            yerr=np.array(spread),
            color=COLORS[i],
            ls=DASHES[i],
            marker=MARKERS[i],
            capsize=3,
            label=str(method),
        )
    steps = sorted(frame["n_step"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(steps, [str(n) for n in steps])
    ax.set(
        xlabel="steps n (the most that a scale may use)",
        ylabel="error of the value\nwhile learning (rewards)",
    )
    ax.set_ylim(bottom=0)
    legend_above(ax, ncols=1)
    return figure
