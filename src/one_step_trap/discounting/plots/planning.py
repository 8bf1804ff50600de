"""Figures of planning in a learned model: the loss against γ, its parts, and the policies γ lets through."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_kind
from one_step_trap.discounting.planning import PlanningResult, Summary
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    INK,
    MARKERS,
    VERMILLION,
    legend_above,
    legend_over,
    new_figure,
)


def plot_loss(result: PlanningResult, summary: Summary) -> Figure:
    """Return the mean planning loss against γ, a curve for each n, marked at its best γ with interval."""
    sizes = _sizes(result)
    if check_kind(summary, Summary, "summary", made_by="summarise").trajectories != sizes:
        raise BookError(f"the summary is of data sets of {summary.trajectories}, the result of {sizes}")
    figure, ax = new_figure(height=3.8)
    gammas, loss = result.study.gammas, result.mean_loss()
    for i, n in enumerate(sizes):
        ax.plot(gammas, loss[i], color=COLORS[i], ls=DASHES[i], label=f"n = {n}")
        best, height = summary.best_gamma[i], loss[i].min()
        ax.errorbar(
            best.value,
            height,
            xerr=[[best.value - best.low], [best.high - best.value]],
            color=COLORS[i],
            marker=MARKERS[i],
            ms=8,
            capsize=4,
            ls="none",
        )
    ax.set_xlabel("discount used for planning γ")
    ax.set_ylabel(f"planning loss (value at γ = {result.study.gamma_eval:g})")
    ax.set_ylim(bottom=0)
    ax.set_xlim(0, 1)
    legend_above(ax, ncols=4)
    return figure


def plot_parts(result: PlanningResult, *, sizes: tuple[int, int] | None = None) -> Figure:
    """Return horizon and estimation loss, stacked, against γ, for two sizes n (by default the extremes)."""
    known = _sizes(result)
    if sizes is not None and (not isinstance(sizes, tuple) or len(sizes) != 2):
        raise BookError("sizes must be a pair (few, many) of numbers of trajectories")
    few, many = sizes or (known[0], known[-1])
    if few not in known or many not in known:
        raise BookError(f"sizes must be among the numbers of trajectories that were run, {known}")
    figure, axes = new_figure(1, 2, height=3.6, sharey=True)
    gammas, horizon = np.array(result.study.gammas), result.horizon_loss.mean(axis=0)
    estimation = result.estimation_loss()
    for ax, n in zip(axes, (few, many), strict=True):
        total = horizon + estimation[known.index(n)]
        ax.fill_between(gammas, 0, horizon, color=BLUE, alpha=0.75, lw=0, label="horizon loss")
        ax.fill_between(
            gammas, horizon, total, color=VERMILLION, alpha=0.55, lw=0, hatch="///", label="estimation loss"
        )
        ax.plot(gammas, total, color=INK, lw=1.8)
        ax.set_xlabel(f"γ (n = {n})")
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.3, 0.6, 0.9])
    axes[0].set_ylabel(f"planning loss (value at γ = {result.study.gamma_eval:g})")
    axes[0].set_ylim(bottom=0)
    legend_over(figure, axes[0])
    return figure


def _sizes(result: PlanningResult) -> tuple[int, ...]:
    sizes = check_kind(result, PlanningResult, "result", made_by="run_study").study.trajectories
    if len(sizes) > len(COLORS):
        raise BookError(f"at most {len(COLORS)} sizes fit into one figure, got {len(sizes)}")
    return sizes
