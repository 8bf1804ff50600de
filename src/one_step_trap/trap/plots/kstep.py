"""Where the wall is of models trained through k steps: error against depth, horizon against k, and the cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    GREY,
    INK,
    MARKERS,
    legend_above,
    new_figure,
)
from one_step_trap.trap import kstep


def _plain(axis, ticks: Sequence[float]) -> None:  # type: ignore[no-untyped-def]
    """Give a logarithmic axis a few ticks with plain numbers."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def plot_errors(
    table: pd.DataFrame,
    worlds: Sequence[str] = ("pendulum", "frames"),
    *,
    regime: str = kstep.MAIN,
    unroll_steps: Sequence[int] = (1, 5, 20, 50),
) -> Figure:
    """Return the open-loop error against depth, a panel a world and a line a k; the marker on a line is at depth k."""
    figure, axes = new_figure(len(worlds), 1, height=1.0 + 2.5 * len(worlds), sharex=True, squeeze=False)
    for ax, world in zip(axes[:, 0], worlds, strict=True):
        curves = kstep.error_curves(table, world, regime)
        shown = [k for k in unroll_steps if (curves["k"] == k).any()]
        for i, k in enumerate(shown):
            line = curves[curves["k"] == k]
            depth, error = line["depth"].to_numpy(), line["error"].to_numpy()
            ax.plot(depth, error, color=COLORS[i], ls=DASHES[i], label=f"k = {k}")
            ax.plot(
                k,
                np.exp(np.interp(np.log(k), np.log(depth), np.log(error))),
                MARKERS[i],
                color=COLORS[i],
                ms=8,
            )
        ax.axhline(kstep.MAIN_THRESHOLD, color=GREY, lw=1.2, ls=(0, (2, 2)))
        ax.set(xscale="log", yscale="log", ylabel=f"error (sd of the data)\n{kstep.WORLD_WORDS[world]}")
        ax.set_ylim(bottom=2e-3)
        _plain(ax.xaxis, (1, 3, 10, 30, 100, 400))
        _plain(ax.yaxis, (0.01, 0.1, 0.3, 1, 10))
    axes[-1, 0].set_xlabel("depth (steps)")
    legend_above(axes[0, 0], ncols=4)
    return figure


def plot_horizons(
    table: pd.DataFrame,
    *,
    regime: str = kstep.MAIN,
    threshold: float = kstep.MAIN_THRESHOLD,
    limit: int = kstep.FULL.depth,
) -> Figure:
    """Return the horizon against k on logarithmic axes, a line a world, with the diagonal that the claim draws.

    The band holds the walls within a factor of 2 of k. Lines of the same k are set apart a little, so that their
    intervals can be read. A horizon beyond the last depth is drawn at ``limit``.
    """
    figure, ax = new_figure(height=4.6)
    worlds = [world for world in kstep.WORLDS if (table["world"] == world).any()]
    diagonal = np.array([1.0, 60.0])
    ax.fill_between(diagonal, diagonal / kstep.FACTOR, diagonal * kstep.FACTOR, color=GREY, alpha=0.25, lw=0)
    ax.plot(diagonal, diagonal, color=INK, lw=1.2)
    ax.annotate(
        "wall at k", (2, 2), rotation=38, va="top", ha="left", xytext=(6, -2), textcoords="offset points"
    )
    for i, world in enumerate(worlds):
        found = kstep.walls(table, world, regime, threshold, limit=limit)
        k = np.array(list(found)) * 1.05 ** (i - (len(worlds) - 1) / 2)
        value, low, high = (
            np.minimum([getattr(wall, end) for wall in found.values()], limit)
            for end in ("value", "low", "high")
        )
        ax.errorbar(
            k,
            value,
            yerr=[value - low, high - value],
            fmt=MARKERS[i],
            ms=6,
            ls=DASHES[i],
            color=COLORS[i],
            capsize=2,
            label=kstep.WORLD_WORDS[world],
        )
    ax.set(xscale="log", yscale="log", xlabel="k (steps the training unrolls)", ylabel="horizon (steps)")
    ax.set_ylim(0.8, limit * 1.2)
    _plain(ax.xaxis, kstep.UNROLL_STEPS)
    _plain(ax.yaxis, (1, 3, 10, 30, 100, 400))
    legend_above(ax, ncols=2)
    return figure


def plot_costs(
    table: pd.DataFrame, rng: np.random.Generator, *, threshold: float = kstep.MAIN_THRESHOLD
) -> Figure:
    """Return the CPU seconds of a training by k, and how much further the wall is than at k = 1, at equal compute.

    In the lower panel the rightmost group is the other remedy: data as demonstrator.
    """
    figure, (above, below) = new_figure(2, 1, height=5.8, gridspec_kw={"height_ratios": (2, 3)})
    seconds = kstep.costs(table)
    above.errorbar(
        seconds["k"],
        seconds["seconds"],
        yerr=[seconds["seconds"] - seconds["low"], seconds["high"] - seconds["seconds"]],
        fmt="o",
        ls="-",
        color=COLORS[0],
        capsize=3,
    )
    above.set(xscale="log", yscale="log", xlabel="k (steps)", ylabel="training, equal\nupdates (CPU-s)")
    _plain(above.xaxis, kstep.UNROLL_STEPS)
    _plain(above.yaxis, (1, 2, 5, 10))
    worlds = [world for world in kstep.WORLDS if (table["world"] == world).any()]
    ks = [k for k in sorted(table["k"].unique()) if k > 1]
    for i, world in enumerate(worlds):
        gains = [kstep.gain(table, world, k, rng, regime="compute", threshold=threshold) for k in ks]
        gains.append(kstep.demonstrator_gain(table, world, rng, threshold=threshold))
        x = np.arange(len(gains)) + 0.13 * (i - (len(worlds) - 1) / 2)
        value, low, high = np.array([each[:3] for each in gains]).T
        below.errorbar(
            x,
            value,
            yerr=[value - low, high - value],
            fmt=MARKERS[i],
            ms=6,
            ls="none",
            color=COLORS[i],
            capsize=2,
            label=kstep.WORLD_WORDS[world],
        )
    below.axhline(1, color=INK, lw=1.2)
    below.set(
        yscale="log",
        ylabel="horizon against that of\nk = 1, equal compute",
        xlabel="k (steps), or the other remedy",
    )
    below.set_xticks(range(len(ks) + 1), [*map(str, ks), "demon-\nstrator"])
    _plain(below.yaxis, (0.5, 1, 2, 4))
    legend_above(below, ncols=2)
    return figure
