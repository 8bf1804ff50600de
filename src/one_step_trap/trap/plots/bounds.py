"""Figures of the bounds: how tight each is, the leak that attains one, and what k branched steps are worth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREY,
    INK,
    MARKERS,
    VERMILLION,
    legend_above,
    legend_over,
    new_figure,
)
from one_step_trap.trap.bounds import BranchCurves, LeakCurves
from one_step_trap.trap.bounds_check import BoundCheck

LEAST = 1e-4  # left end of the axis of tightness


def plot_tightness(checks: Iterable[BoundCheck]) -> Figure:
    """Return error/bound for every bound: from the median (open) to the largest (filled), by kind of world."""
    rows = list(checks)
    if not rows:
        raise BookError("checks must hold at least one result")
    figure, ax = new_figure(height=1.1 + 0.46 * len(rows))
    kinds = (("random", BLUE, "o", -0.16), ("adversarial", VERMILLION, "s", 0.16))
    for kind, color, marker, shift in kinds:
        for i, one in enumerate(rows):
            tightness = one.tightness[one.kind == kind]
            median, largest = max(float(np.median(tightness)), LEAST), float(tightness.max())
            y = i + shift
            ax.plot([median, largest], [y, y], color=color, lw=1.6)
            ax.plot(median, y, marker=marker, color=color, mfc="none", ms=7)
            ax.plot(largest, y, marker=marker, color=color, ms=7, label=kind if i == 0 else None, ls="none")
    ax.axvline(1, color=INK, lw=1.2)
    ax.set_yticks(range(len(rows)), [one.bound.label for one in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set(xscale="log", xlim=(LEAST / 1.3, 1.5), xlabel="error / bound: median (open) and largest (filled)")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y", visible=False)
    legend_above(ax, ncols=2)
    return figure


def plot_leak(curves: LeakCurves) -> Figure:
    """Return the value error of the two-state leak against the horizon, with both bounds and the ceiling 1/(1-γ)."""
    figure, ax = new_figure(height=3.6)
    horizon = 1 / (1 - curves.gammas)
    ax.plot(horizon, curves.simulation, color=VERMILLION, ls=DASHES[1], label="simulation lemma")
    ax.plot(horizon, curves.ceiling, color=GREY, ls=DASHES[2], label="all there is to lose")
    ax.plot(horizon, curves.lobel_parr, color=BLUE, label="Lobel–Parr")
    few = np.unique(np.linspace(0, len(horizon) - 1, 9).astype(int))
    ax.plot(
        horizon[few], curves.error[few], color=INK, ls="none", marker=MARKERS[0], ms=6, label="exact error"
    )
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="effective horizon 1/(1-γ) (steps)", ylabel="value error (rewards)")
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=2)
    return figure


def plot_branches(cases: Iterable[tuple[str, BranchCurves]]) -> Figure:
    """Return theorem 4.3 and its sharper version against the branch length k, one panel a case, with the ceiling."""
    panels = list(cases)
    if not 1 <= len(panels) <= 2:
        raise BookError(f"one or two cases fit side by side, got {len(panels)}")
    figure, axes = new_figure(1, len(panels), height=3.5, sharey=True, squeeze=False)
    for ax, (name, one) in zip(axes[0], panels, strict=True):
        k = one.branches
        ax.plot(k, one.published, color=COLORS[1], ls=DASHES[1], label="theorem 4.3")
        ax.plot(k, one.sharp, color=COLORS[0], label="sharper")
        ax.axhline(one.ceiling, color=GREY, ls=DASHES[2], lw=1.8, label="largest possible")
        best = int(one.published.argmin())
        ax.plot(k[best], one.published[best], color=COLORS[1], marker=MARKERS[1], ms=7, ls="none")
        ax.set_xlabel(f"model steps k\n({name})")
        ax.set_xticks(np.linspace(0, k[-1], 4).round())
        ax.grid(which="minor", visible=False)
    axes[0, 0].set_ylabel("bound on the difference\nof returns (rewards)")
    axes[0, 0].set_yscale("log")
    legend_over(figure, axes[0, 0])
    return figure
