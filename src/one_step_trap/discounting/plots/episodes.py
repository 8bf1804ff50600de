"""Figures of episode lengths: the caps that specs state, and the lengths that are played."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_kinds, check_table
from one_step_trap.discounting.episodes import Episodes
from one_step_trap.pages.figures import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    legend_above,
    new_figure,
)


def _log_steps(ax, low: float, high: float) -> None:  # type: ignore[no-untyped-def]
    """Set a logarithmic axis of steps with plain numbers on it."""
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ticks = [t for t in (1, 10, 100, 1_000, 10_000, 100_000) if low <= t <= high]
    ax.set_xticks(ticks, [f"{t // 1_000}k" if t >= 1_000 else f"{t}" for t in ticks])
    ax.minorticks_off()


def caps(table: pd.DataFrame, *, horizon: float | None = None) -> Figure:
    """Draw how many specs of each family state which cap; ``table`` from `registry_table` or `latest`.

    The area of a disc is the number of specs with that cap, written inside; specs without a cap stand at
    the right. ``horizon`` (steps) is drawn as a line, for example the effective horizon 1/(1-γ).
    """
    check_table(table, ("family", "cap"), "table (of registry_table)")
    counts = table.groupby("family")["cap"].agg(["size", "count"]).sort_values("size")
    families = list(counts.index)
    figure, ax = new_figure(height=0.8 + 0.5 * len(families))
    top = 12_000.0  # where "no cap" stands
    for y, family in enumerate(families):
        sizes = table.loc[table["family"] == family, "cap"].dropna().value_counts().sort_index()
        near = np.array([999 <= cap <= 1000 for cap in sizes.index], dtype=np.bool_)
        x, n = sizes.index.to_numpy(dtype=float), sizes.to_numpy(dtype=float)
        for mask, color, marker in ((near, VERMILLION, "D"), (~near, BLUE, "o")):
            ax.scatter(x[mask], y + 0 * x[mask], s=90 + 45 * n[mask], color=color, marker=marker, zorder=3)
        for cap, number in zip(x, n, strict=True):
            ax.annotate(
                f"{int(number)}", (cap, y), ha="center", va="center", color="white", fontsize=10.5, zorder=4
            )
        none = int(counts.loc[family, "size"] - counts.loc[family, "count"])
        if none:
            ax.annotate(f"{none}", (top, y), ha="center", va="center", color=INK)
    _log_steps(ax, 30, 24_000)
    ax.set_xticks([50, 100, 200, 500, 1_000, 2_000, top], ["50", "100", "200", "500", "1k", "2k", "no cap"])
    if horizon is not None:
        ax.axvline(horizon, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    ax.set_yticks(range(len(families)), [str(family).replace("_", " ") for family in families])
    ax.set_ylim(-0.6, len(families) - 0.4)
    ax.set_xlabel("cap on the length of an episode (steps)")
    for color, marker, label in ((VERMILLION, "D", "999 or 1,000 steps"), (BLUE, "o", "another cap")):
        ax.scatter([], [], s=90, color=color, marker=marker, label=label)
    legend_above(ax, ncols=2)
    return figure


def lengths(played: Sequence[Episodes], *, horizon: float | None = None) -> Figure:
    """Draw the spread of played lengths, their mean, and the cap of each environment.

    Bars run from the 5th to the 95th percentile of the episodes, the dot is the mean up to the cap, the
    upright stroke is the cap (open where it is ours and the spec has none). On the right, the share of
    episodes that were cut off. ``horizon`` as in `caps`.
    """
    order = sorted(check_kinds(played, Episodes, "played"), key=lambda run: float(run.lengths.mean()))
    figure, ax = new_figure(height=1.0 + 0.36 * len(order))
    for y, run in enumerate(order):
        low, high = np.quantile(run.lengths, [0.05, 0.95])
        first = y == 0
        ax.plot([low, high], [y, y], color=BLUE, linewidth=6, alpha=0.45, solid_capstyle="butt",
                label="5% to 95%" if first else None)  # fmt: skip
        ax.plot(run.lengths.mean(), y, "o", color=BLUE, zorder=4, label="mean" if first else None)
        color = GREY if run.cap_is_ours else VERMILLION
        label = None if run.cap_is_ours or any(not r.cap_is_ours for r in order[:y]) else "cap"
        ax.plot(run.cap, y, "|", color=color, markersize=15, markeredgewidth=2.6, zorder=3, label=label)
        ax.annotate(f"{run.censored.mean():.0%}", (1.02, y), xycoords=("axes fraction", "data"), va="center",
                    annotation_clip=False)  # fmt: skip
    _log_steps(ax, 0.8, 40_000)
    if horizon is not None:
        ax.axvline(horizon, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    ax.set_yticks(range(len(order)), [run.id for run in order])
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.annotate(
        "cut off", (1.0, len(order) - 0.25), xycoords=("axes fraction", "data"), annotation_clip=False
    )
    ax.set_xlabel("length of an episode under random actions (steps)")
    legend_above(ax, ncols=3)
    return figure
