"""Figures of imperfect and of perfect one-step models: how errors grow, fade, and where arithmetic gives out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREY,
    INK,
    MARKERS,
    legend_above,
    new_figure,
)
from one_step_trap.trap.chains import geometric_bound
from one_step_trap.trap.perfect import LOST, Precision
from one_step_trap.trap.regimes import MixingStudy, RegimeCurve


def plot_regimes(curves: Sequence[RegimeCurve]) -> Figure:
    """Return the measured n-step error of every regime (markers) with its theory (lines), on logarithmic axes.

    At most 6 regimes. A theory that is an upper bound and not the error itself is drawn thin.
    """
    if not 1 <= len(curves) <= len(COLORS):
        raise BookError(f"plot_regimes draws 1 to {len(COLORS)} regimes, got {len(curves)}")
    figure, ax = new_figure(height=4.0)
    for i, one in enumerate(curves):
        ax.plot(one.steps, one.theory, color=COLORS[i], ls=DASHES[i], lw=1.0 if one.bound else 1.8)
        ax.plot(
            *_drawn(one.steps, one.error),
            color=COLORS[i],
            marker=MARKERS[i],
            ms=5,
            ls="none",
            label=f"{one.name} ({_METRIC[one.metric]})",
        )
    _log_steps(ax)
    ax.set(yscale="log", ylabel="error of the n-step prediction")
    legend_above(ax, ncols=2)
    return figure


_METRIC = {"tv": "TV", "w1": "W₁", "kl": "KL"}


def _log_steps(ax: Axes) -> None:
    ax.set(xscale="log", xlabel="steps ahead n")
    ax.grid(which="minor", visible=False)


def _drawn(steps: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return about five points to a factor of ten: markers closer than that run into each other."""
    keep, last = [], 0.0
    for i, n in enumerate(steps):
        if n >= 1.5 * last or n == steps[-1]:
            keep.append(i)
            last = float(n)
    return steps[keep], error[keep]


def plot_mixing(
    study: MixingStudy, *, place: RegimeCurve | None = None, speed: RegimeCurve | None = None
) -> Figure:
    """Return e(n)/e(1) of random chains: the median, the middle 90%, and the contraction bound of the median chain.

    ``place`` and ``speed``: curves of `wrong_place` and `wrong_speed`, drawn beside them with their own e(1). With the
    median of ``study.kappa`` the first lies on the bound.
    """
    figure, ax = new_figure(height=3.7)
    low, middle, high = np.quantile(study.ratio, [0.05, 0.5, 0.95], axis=0)
    ax.fill_between(study.steps, low, high, color=BLUE, alpha=0.3, lw=0)
    ax.plot(study.steps, middle, color=BLUE, label="random errors")
    bound = geometric_bound(1.0, float(np.median(study.kappa)), study.steps)
    ax.plot(study.steps, bound, color=GREY, ls=DASHES[1], label="bound")
    for i, (one, label) in enumerate(((place, "wrong place"), (speed, "wrong speed")), start=2):
        if one is not None:
            ratio = one.error / one.error[0]
            shown = ratio > 1e-3
            ax.plot(
                *_drawn(one.steps[shown], ratio[shown]),
                color=COLORS[i - 1],
                ls=DASHES[i],
                marker=MARKERS[i],
                ms=5,
                label=label,
            )
    _log_steps(ax)
    ax.set(yscale="log", ylabel="error after n steps /\nerror after one step")
    ax.set_ylim(bottom=0.05)
    ax.yaxis.set_minor_formatter(NullFormatter())
    legend_above(ax, ncols=2)
    return figure


def plot_precision(
    precision: Sequence[Precision], *, names: tuple[str, str] = ("doubling", "rotation")
) -> Figure:
    """Return the error of computed trajectories against the steps: an expansive map on the left, another on the right.

    One curve a type of number: the median over starts. The horizontal line is ``LOST``.
    """
    groups = [[one for one in precision if one.name == name] for name in names]
    if not all(groups):
        raise BookError(f"precision holds no trajectories of {' and '.join(names)}")
    figure, axes = new_figure(1, 2, height=3.8, sharey=True)
    for ax, name, group in zip(axes, names, groups, strict=True):
        for i, one in enumerate(group):
            n = np.arange(len(one.error))
            shown = (one.error > 0) & (n >= 1)
            ax.plot(n[shown], one.error[shown], color=COLORS[i], ls=DASHES[i], label=one.dtype)
        ax.axhline(LOST, color=INK, lw=0.8)
        ax.set(yscale="log", xlabel=f"steps ahead n\n({name} map)")
        ax.grid(which="minor", visible=False)
        if name == "rotation":
            ax.set_xscale("log")
    axes[0].set_ylabel("distance from the\nexact trajectory")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=len(labels), frameon=False, columnspacing=1.2
    )
    return figure
