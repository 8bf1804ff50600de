"""The figure of the affordable horizon: formulas against the worst and against random worlds."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    GREY,
    INK,
    MARKERS,
    legend_above,
    new_figure,
)
from one_step_trap.trap.affordable import (
    Affordable,
    affordable_horizon,
    two_roads_horizon,
)


def plot_horizons(result: Affordable, *, learned: bool = False) -> Figure:
    """Return the best horizon against ε: both formulas, the worst world, and random worlds with intervals.

    ``learned``: the models estimated from samples, in place of those with an error put in.
    """
    cells = [cell for cell in result.cells if cell.level.endswith("samples") == learned]
    if not cells:
        raise BookError("no cell of that kind of model was run")
    figure, ax = new_figure(height=4.0)
    low, high = min(cell.eps_tv for cell in cells), max(cell.eps_tv for cell in cells)
    eps = np.geomspace(low / 1.3, min(high * 1.3, 0.5), 40)
    lines = (
        ("1/(4ε) + 1/2", [affordable_horizon(e) for e in eps], INK, DASHES[0]),
        ("Lobel–Parr", [affordable_horizon(e, limit="lobel-parr") for e in eps], INK, DASHES[1]),
        ("worst world", [two_roads_horizon(e) for e in eps], GREY, DASHES[2]),
    )
    for label, line, color, dash in lines:
        ax.plot(eps, line, color=color, ls=dash, label=label)
    paces = sorted({cell.dwell for cell in cells})
    for i, dwell in enumerate(paces):
        some = [cell for cell in cells if cell.dwell == dwell]
        best, bottom, top = (
            np.array([getattr(cell.best, key) for cell in some]) for key in ("value", "low", "high")
        )
        ax.errorbar(
            np.array([cell.eps_tv for cell in some]) * 1.12 ** (i - (len(paces) - 1) / 2),  # side by side
            best,
            yerr=[best - bottom, top - best],
            fmt=MARKERS[i % 6],
            color=COLORS[i % 6],
            ms=7,
            capsize=3,
            label=f"dwell {dwell:g}",
        )
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="model error ε (total variation)", ylabel="best planning horizon (steps)")
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=3)
    return figure
