"""Figures of planning with a wrong model: value lost against the horizon, its parts, and the best horizon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from one_step_trap.core.stats import Interval
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    GREY,
    INK,
    MARKERS,
    legend_over,
    new_figure,
)
from one_step_trap.trap.lookahead import LookaheadResult, Summary
from one_step_trap.trap.mpc import LossCurve


def plot_parts(curves: Sequence[LossCurve], forgetful: LossCurve | None = None) -> Figure:
    """Return what horizon and search lose with the true dynamics (left), and what the models' errors add (right).

    ``curves`` end with the true dynamics; ``forgetful`` is the true dynamics under the poorer search.
    """
    _check_curves(curves)
    figure, axes = new_figure(1, 2, height=3.6, sharey=True)
    *wrong, true = curves
    _band(axes[0], true.horizons, true.lost, _style(0, last=True), "true model")
    if forgetful is not None:
        style = {"color": GREY, "ls": DASHES[2], "marker": MARKERS[5]}
        _band(axes[0], true.horizons, forgetful.lost, style, "true model, plans forgotten")
    for i, curve in enumerate(wrong):
        _band(axes[1], curve.horizons, curve.by_model, _style(i), curve.label)
    axes[1].axhline(0, color=INK, lw=0.8)
    for ax, name in zip(axes, ("horizon and search", "error of the model"), strict=True):
        _steps(ax, true.horizons, few=True)
        ax.set_xlabel(f"h (steps):\n{name}")
    axes[0].set_ylabel("value lost (reward an episode)")
    handles = [x for ax in axes for x in ax.get_legend_handles_labels()[0]]
    labels = [x for ax in axes for x in ax.get_legend_handles_labels()[1]]
    figure.legend(
        handles, labels, loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.8, frameon=False
    )
    return figure


def plot_best(
    quality: pd.DataFrame, *, groups: tuple[str, ...] = ("network, k = 1", "wrong constant")
) -> Figure:
    """Return the best horizon against the model's one-step error, beside what the bounds say (`mpc.quality`).

    One panel for each of up to two ``groups`` of models.
    """
    needed = {"group", "delta", "best", "low", "high", "depth_bound", "depth_estimate", "depth_measured"}
    if not needed <= set(quality.columns):
        raise BookError(f"the table must have the columns {', '.join(sorted(needed))}")
    known = list(dict.fromkeys(quality["group"]))
    if not 1 <= len(groups) <= 2 or not set(groups) <= set(known):
        raise BookError(f"groups must be one or two of {', '.join(known)}, got {groups!r}")
    figure, axes = new_figure(1, len(groups), height=4.0, sharey=True, squeeze=False)
    lines = {
        "depth_measured": ("error 1 sd, measured", COLORS[1], DASHES[0]),
        "depth_estimate": ("… by typical growth", COLORS[2], DASHES[1]),
        "depth_bound": ("… by the Lipschitz bound", COLORS[3], DASHES[2]),
    }
    for ax, group in zip(axes[0], groups, strict=True):
        rows = quality[quality["group"] == group].sort_values("delta")
        for column, (label, color, dash) in lines.items():
            finite = rows[np.isfinite(rows[column])]
            ax.plot(finite["delta"], finite[column], color=color, ls=dash, label=label)
        ax.axhline(1, color=GREY, ls=DASHES[3], label="TV formula: 1 step")
        _best(ax, rows["delta"].to_numpy(), rows[["best", "low", "high"]].to_numpy())
        ax.set(xscale="log", yscale="log")
        ticks = [
            t for t in (0.005, 0.01, 0.02, 0.05, 0.1) if rows["delta"].min() / 2 < t < rows["delta"].max() * 2
        ]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set_xlabel(f"one-step error (sd)\n{group}")
    axes[0, 0].set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    axes[0, 0].set_ylabel("steps")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=2, columnspacing=1.2, handlelength=1.8, frameon=False
    )
    return figure


def plot_tables(results: Sequence[LookaheadResult], summaries: Sequence[Summary]) -> Figure:
    """Return the best horizon against the mean ε_TV in up to two worlds, beside the formula for a hard horizon."""
    if not 1 <= len(results) <= 2 or len(results) != len(summaries):
        raise BookError(
            f"give one or two results, and a summary of each, got {len(results)} and {len(summaries)}"
        )
    figure, axes = new_figure(1, len(results), height=3.6, sharey=True, squeeze=False)
    for ax, result, summary in zip(axes[0], results, summaries, strict=True):
        eps = result.eps_mean.mean(axis=1)
        grid = np.geomspace(eps.min(), 1, 200)
        ax.plot(grid, 1 / (2 * grid) + 0.5, color=GREY, ls=DASHES[1], label="1/(2ε) + 1/2")
        ax.plot(grid, 1 / (4 * grid) + 0.5, color=GREY, ls=DASHES[2], label="1/(4ε) + 1/2")
        _best(ax, eps, np.array([(b.value, b.low, b.high) for b in summary.best]))
        ax.set(xscale="log", yscale="log")
        ax.set_xlabel(f"mean ε (TV)\n{result.name}")
        ax.grid(which="minor", visible=False)
    axes[0, 0].set_ylabel("steps planned ahead")
    legend_over(figure, axes[0, 0])
    return figure


def _best(ax: Axes, x: NDArray[np.float64], best: NDArray[np.float64]) -> None:
    """Draw best horizons, rows (value, low, high), with their intervals."""
    value, low, high = best.T
    sides = np.maximum(
        [value - low, high - value], 0
    )  # an estimate may lie outside of its bootstrap interval
    ax.errorbar(x, value, yerr=sides, color=COLORS[0], marker="o", ms=7, capsize=3, ls="none", label="best h")


def _check_curves(curves: Sequence[LossCurve]) -> None:
    if not 2 <= len(curves) <= len(COLORS):
        raise BookError(
            f"a figure holds 2 to {len(COLORS)} curves, the last one of the true model, got {len(curves)}"
        )


def _style(i: int, *, last: bool = False) -> dict[str, Any]:
    if last:
        return {"color": INK, "ls": "-", "marker": MARKERS[4]}
    return {"color": COLORS[i], "ls": DASHES[i], "marker": MARKERS[i]}


def _band(
    ax: Axes, horizons: Sequence[int], lost: Sequence[Interval], style: dict[str, Any], label: str
) -> None:
    value, low, high = np.array([(x.value, x.low, x.high) for x in lost]).T
    ax.plot(horizons, value, ms=5, label=label, **style)
    ax.fill_between(horizons, low, high, color=style["color"], alpha=0.15, lw=0)


def _steps(ax: Axes, horizons: Sequence[int], *, few: bool = False) -> None:
    """Label a logarithmic axis of steps with round numbers."""
    ax.set_xscale("log")
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200) if horizons[0] <= t <= horizons[-1]]
    ax.set_xticks(ticks[:: 2 if few else 1], [str(t) for t in ticks[:: 2 if few else 1]])
    ax.minorticks_off()
    ax.set_xlabel("steps planned ahead, h")
