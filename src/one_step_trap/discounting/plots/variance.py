"""Standard deviation of the return against the horizon: up, up more slowly, and down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from one_step_trap.core.validate import check_finite, check_kinds
from one_step_trap.discounting.variance import VarianceCurve
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    MARKERS,
    legend_above,
    new_figure,
)


def plot_variance(
    curves: Sequence[VarianceCurve],
    *,
    simulated: Mapping[str, Sequence[tuple[float, float, float, float]]] | None = None,
) -> Figure:
    """Return sd(G) against the effective horizon, one line a process, on logarithmic axes.

    ``simulated`` maps the name of a curve to (gamma, sd, low, high): Monte Carlo estimates with their
    intervals, drawn as markers.
    """
    curves = check_kinds(curves, VarianceCurve, "curves", most=len(COLORS))
    if simulated is not None and not isinstance(simulated, Mapping):
        raise BookError("simulated must map the name of a curve to a list of (gamma, sd, low, high)")
    figure, ax = new_figure(height=3.5)
    for i, curve in enumerate(curves):
        ax.plot(curve.horizon, curve.sd, color=COLORS[i], ls=DASHES[i], label=curve.name)
        points = check_finite((simulated or {}).get(curve.name, []), "simulated")
        if len(points):
            if points.ndim != 2 or points.shape[1] != 4:
                raise BookError(f"simulated[{curve.name!r}] must be a list of (gamma, sd, low, high)")
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
