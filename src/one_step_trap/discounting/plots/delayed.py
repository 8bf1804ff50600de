"""Figures of delayed rewards: what is preferred, what is seen, how slowly news travels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_table
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    INK,
    MARKERS,
    legend_above,
    new_figure,
)


def _delay_axis(ax: Axes, delays: list[int]) -> None:
    """Set a logarithmic axis of delays with plain numbers on it."""
    ax.set_xscale("log")
    ticks = [t for t in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000) if min(delays) <= t <= max(delays)]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()


def _label(gamma: float) -> str:
    return "γ = 1" if gamma == 1 else f"γ = {gamma:g}".replace("0.", ".")


def success(
    table: pd.DataFrame,
    *,
    boundaries: Mapping[float, float] | None = None,
    exact: pd.DataFrame | None = None,
) -> Figure:
    """Draw the share of agents that choose the far reward against its delay, one curve a discount.

    ``table``: one task and one n of `success_table`, exact intervals over seeds. ``boundaries``:
    discount -> exact delay beyond which the optimum itself prefers the near reward (a dashed upright line
    in the colour of the curve). ``exact``: columns ``gamma``, ``delay``, ``probability``, drawn as lines
    behind the measured points (`seen_curve`).
    """
    check_table(
        table, ("task", "n_step", "gamma", "delay", "success", "low", "high"), "table (of success_table)"
    )
    if exact is not None:
        check_table(exact, ("gamma", "delay", "probability"), "exact (of seen_curve)")
    if table[["task", "n_step"]].drop_duplicates().shape[0] != 1:
        raise BookError("one figure shows one task and one n_step: select them in the table first")
    figure, ax = new_figure(height=3.6)
    gammas = sorted(table["gamma"].unique())
    for i, gamma in enumerate(gammas):
        rows = table[table["gamma"] == gamma].sort_values("delay")
        # The discounts are set apart a little, so that equal points do not hide each other.
        x = rows["delay"] * 1.035 ** (i - (len(gammas) - 1) / 2)
        color = COLORS[i % len(COLORS)]
        errors = [rows["success"] - rows["low"], rows["high"] - rows["success"]]
        dash = DASHES[i % len(DASHES)]
        joined = dash if exact is None and boundaries is None else "none"
        ax.errorbar(
            x,
            rows["success"],
            yerr=errors,
            color=color,
            marker=MARKERS[i % len(MARKERS)],
            markersize=5.5,
            elinewidth=1.1,
            linestyle=joined,
            label=_label(gamma),
            zorder=3,
        )
        if exact is not None:
            curve = exact[exact["gamma"] == gamma].sort_values("delay")
            ax.plot(curve["delay"], curve["probability"], color=color, linestyle=dash, linewidth=1.4)
        if boundaries is not None:
            low, high = float(table["delay"].min()), float(table["delay"].max())
            edge = min(max(boundaries.get(gamma, math.inf), low), high)
            end = 1.0 if boundaries.get(gamma, math.inf) > high else 0.0
            ax.plot([low, edge, edge, high], [1, 1, end, end], color=color, linestyle=dash, linewidth=1.4)
    _delay_axis(ax, list(table["delay"]))
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel("delay of the far reward (steps)")
    ax.set_ylabel("agents that choose it")
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    legend_above(ax, ncols=3)
    return figure


def propagation(runs: pd.DataFrame, expected: pd.DataFrame) -> Figure:
    """Draw the episodes until the far reward is chosen for good against its delay, one curve for each n.

    ``runs``: rows of `study` of one task and one discount (points: medians over seeds, bars: 5th to 95th
    percentile). ``expected``: columns ``n_step``, ``delay``, ``episodes``,
    the exact expectation (lines, `expected_learning`).
    """
    check_table(runs, ("task", "gamma", "n_step", "delay", "learned_at", "episodes"), "runs (of study)")
    check_table(expected, ("n_step", "delay", "episodes"), "expected (of expected_learning)")
    if runs[["task", "gamma"]].drop_duplicates().shape[0] != 1:
        raise BookError("one figure shows one task and one gamma: select them in the runs first")
    figure, ax = new_figure(height=3.6)
    for i, n in enumerate(sorted(runs["n_step"].unique())):
        color, marker, dash = COLORS[i], MARKERS[i], DASHES[i]
        # A run that never learns counts as learning at the end; shown is where at least half learn.
        late = runs[runs["n_step"] == n].assign(
            at=lambda rows: rows["learned_at"].clip(upper=rows["episodes"])
        )
        spread = late.groupby("delay")["at"].quantile([0.05, 0.5, 0.95]).unstack()
        spread = spread[spread[0.5] < runs["episodes"].max()]
        label = "Monte Carlo" if math.isinf(n) else "one-step TD" if n == 1 else f"{n:g}-step TD"
        errors = [spread[0.5] - spread[0.05], spread[0.95] - spread[0.5]]
        ax.errorbar(
            spread.index,
            spread[0.5],
            yerr=errors,
            color=color,
            marker=marker,
            linestyle="none",
            label=label,
            elinewidth=1.2,
        )
        line = expected[expected["n_step"] == n].sort_values("delay")
        ax.plot(line["delay"], line["episodes"], color=color, linestyle=dash, linewidth=1.4)
    _delay_axis(ax, list(expected["delay"]))
    ax.set_yscale("log")
    limit = int(runs["episodes"].max())
    ax.axhline(limit, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
    ax.annotate(
        "end of training",
        (min(expected["delay"]), limit),
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=11,
    )
    ticks = [1, 10, 100, 1_000, 10_000, 100_000]
    ax.set_yticks(ticks, [f"{t:,}" for t in ticks])
    ax.set_ylim(1, 1e5)
    ax.minorticks_off()
    ax.set_xlabel("delay of the far reward (steps)")
    ax.set_ylabel("episodes to learn to wait")
    legend_above(ax, ncols=3)
    return figure
