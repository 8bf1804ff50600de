"""Standard deviation of the return against the horizon: up, up more slowly, and down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from one_step_trap.discounting.variance import VarianceCurve
from one_step_trap.figures import COLORS, DASHES, MARKERS, legend_above, new_figure


def plot_variance(
    curves: Sequence[VarianceCurve],
    *,
    simulated: Mapping[str, Sequence[tuple[float, float, float, float]]] | None = None,
) -> Figure:
    """Return sd(G) against the effective horizon, one line a process, on logarithmic axes.

    ``simulated`` maps the name of a curve to (gamma, sd, low, high): Monte Carlo estimates with their
    intervals, drawn as markers.
    """
    figure, ax = new_figure(height=3.5)
    for i, curve in enumerate(curves):
        ax.plot(curve.horizon, curve.sd, color=COLORS[i], ls=DASHES[i], label=curve.name)
        points = np.array((simulated or {}).get(curve.name, []))
        if len(points):
            gamma, sd, low, high = points.T
            ax.errorbar(
                1 / (1 - gamma),
                sd,
                yerr=[sd - low, high - sd],
                fmt=MARKERS[i],
                ms=6,
                color=COLORS[i],
                capsize=3,
            )
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="effective horizon 1/(1-γ) (steps)", ylabel="standard deviation of\nthe return (rewards)")
    ax.grid(which="minor", visible=False)
    legend_above(ax)
    return figure
