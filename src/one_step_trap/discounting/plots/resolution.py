"""The chapter's central figure: what a decision stands out by, what it drowns in, and the samples that
this costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from one_step_trap.core.validate import check_kind, check_kinds
from one_step_trap.discounting.resolution import Method, Resolution
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    INK,
    MARKERS,
    VERMILLION,
    legend_above,
    new_figure,
)

HORIZON = "effective horizon 1/(1-γ) (steps)"
METHOD_NAMES: dict[Method, str] = {
    "independent": "separate rollouts",
    "shared": "shared random numbers",
    "bootstrapped": "one step + exact value",
}


def plot_resolution(result: Resolution) -> Figure:
    """Return two panels against the horizon: gap and noise above, samples needed below.

    Lines are medians over MDPs, bands the middle half of the MDPs.
    """
    samples = _independent(check_kind(result, Resolution, "result", made_by="resolution"))
    figure, (top, bottom) = new_figure(2, 1, height=5.4, sharex=True)
    _line(top, result.horizon, result.sd, 1, "noise: sd of the return", VERMILLION)
    _line(top, result.horizon, result.gap, 0, "gap: best minus second-best action", BLUE)
    top.set(xscale="log", yscale="log", ylabel="rewards")
    legend_above(top, ncols=1)
    _line(bottom, result.horizon, samples, 2, None, COLORS[2])
    bottom.set(xscale="log", yscale="log", xlabel=HORIZON, ylabel="returns per action\nto tell them apart")
    for ax in (top, bottom):
        ax.grid(which="minor", visible=False)
    return figure


def plot_samples(results: Sequence[Resolution]) -> Figure:
    """Return the samples needed against the horizon, one line a family of MDPs: where the claim holds and
    where not.
    """
    shown = [(r, _independent(r)) for r in check_kinds(results, Resolution, "results", most=len(COLORS))]
    figure, ax = new_figure(height=3.8)
    for i, (result, samples) in enumerate(shown):
        _line(ax, result.horizon, samples, i, result.name, COLORS[i])
    ax.set(xscale="log", yscale="log", xlabel=HORIZON, ylabel="returns per action\nto tell them apart")
    ax.grid(which="minor", visible=False)
    ax.axhline(1, color=INK, lw=0.8)
    legend_above(ax, ncols=2)
    return figure


def plot_methods(result: Resolution) -> Figure:
    """Return the samples needed against the horizon, one line a way of comparing two actions in the same
    MDPs.
    """
    check_kind(result, Resolution, "result", made_by="resolution")
    figure, ax = new_figure(height=3.8)
    for i, (method, samples) in enumerate(result.samples.items()):
        _line(ax, result.horizon, samples, i, METHOD_NAMES[method], COLORS[i])
    ax.set(xscale="log", yscale="log", xlabel=HORIZON, ylabel="samples per action\nto tell them apart")
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=1)
    return figure


def _independent(result: Resolution) -> NDArray[Any]:
    """Return the samples needed with separate rollouts, (M, G), or raise where they were not measured."""
    if "independent" not in result.samples:
        raise BookError(
            f"{result.name}: the figure shows separate rollouts; add 'independent' to resolution's methods"
        )
    return result.samples["independent"]


def _line(
    ax: Axes, horizon: NDArray[Any], values: NDArray[Any], i: int, label: str | None, color: str
) -> None:
    """Draw the median over MDPs (axis 0) with a band from the lower to the upper quartile; what is not
    positive is left out.
    """
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0, method="nearest")
    shown = np.isfinite(high) & (low > 0)
    ax.fill_between(horizon[shown], low[shown], high[shown], color=color, alpha=0.18, lw=0)
    ax.plot(horizon[shown], middle[shown], color=color, ls=DASHES[i], marker=MARKERS[i], ms=5, label=label)
