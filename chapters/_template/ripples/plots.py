"""The figure of the chapter: it takes results and computes nothing."""

from __future__ import annotations

from matplotlib.figure import Figure
from one_step_trap.core.validate import FloatArray
from one_step_trap.pages.figures import BLUE, new_figure


def plot_half_lives(lives: FloatArray) -> Figure:
    """Return a histogram of the half-lives (steps)."""
    figure, ax = new_figure()
    ax.hist(lives, bins=20, color=BLUE)
    ax.set(xlabel="half-life (steps)", ylabel="ripples")
    return figure
