"""Where the best action changes with the discount, and where it changes for the last time."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from one_step_trap.figures import COLORS, DASHES, INK, MARKERS, legend_above, new_figure


def plot_advantages(gammas: ArrayLike, curves: Mapping[str, tuple[ArrayLike, float]]) -> Figure:
    """Return the advantage of the Blackwell-optimal action over the other one against the discount.

    ``curves`` maps a name to (values at ``gammas``, Blackwell discount); the discount is marked on the line
    of 0.
    """
    figure, ax = new_figure(height=3.8)
    ax.axhline(0, color=INK, lw=0.8)
    for i, (name, (values, gamma)) in enumerate(curves.items()):
        ax.plot(gammas, values, color=COLORS[i], ls=DASHES[i], label=name)
        ax.plot([gamma], [0], MARKERS[i], color=COLORS[i], ms=8)
    ax.set_yscale("symlog", linthresh=0.01, linscale=0.6)
    ax.set(xlabel="discount γ", ylabel="advantage of the action that\nis best near γ = 1 (rewards)")
    legend_above(ax, ncols=1)
    return figure
