"""Figures of the data wall and of what the base model has to beat."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREY,
    MARKERS,
    VERMILLION,
    legend_above,
    legend_over,
    new_figure,
)
from one_step_trap.sampling.wall import CLEAR


def short(number: float) -> str:
    """Return a count as an axis has room for it: 65,536 as 66k, 1,048,576 as 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= 0.95 * size:
            value = number / size
            return (
                f"{value:.0f}" if value >= 10 or abs(value - round(value)) < 0.05 else f"{value:.1f}"
            ) + letter
    return f"{number:.0f}"


def _count_axis(ax: Axes, values: pd.Series, label: str) -> None:
    """Make a logarithmic x-axis with a tick at each value that occurs."""
    ticks = sorted(values.unique())
    ax.set(xscale="log", xlabel=label, xticks=ticks)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(which="minor", visible=False)
    ax.minorticks_off()


def _curves(count: int) -> None:
    if count > len(COLORS):
        raise BookError(f"at most {len(COLORS)} curves fit into one figure, got {count}")


def plot_surface(losses: pd.DataFrame, found: pd.DataFrame | None = None) -> Figure:
    """Return held-out bits per byte against parameters, one line a data size; rings mark the wall.

    ``losses`` as `wall.surface` gives them, ``found`` as `wall.walls` does. Bars are 95% intervals over passages and seeds.
    """
    figure, ax = new_figure(height=4.0)
    groups = list(losses.groupby("tokens"))
    _curves(len(groups))
    for i, (tokens, rows) in enumerate(groups):
        x, y = rows["parameters"], rows["bits_per_byte"]
        spread = np.abs(rows[["low", "high"]].to_numpy().T - y.to_numpy())
        ax.errorbar(
            x,
            y,
            spread,
            color=COLORS[i],
            ls=DASHES[i],
            marker=MARKERS[i],
            ms=5,
            capsize=2,
            label=f"{short(tokens)} tokens",
        )
        for row in (
            () if found is None else found[(found["tokens"] == tokens) & (found["wall"] > 0)].itertuples()
        ):
            at = float(y[x == row.wall].iloc[0])
            ax.plot([row.wall], [at], "o", ms=15, mfc="none", mec=COLORS[i], mew=1.6)
    _count_axis(ax, losses["parameters"], "parameters without the embedding")
    ax.set_ylabel("held-out bits per byte")
    legend_above(ax, ncols=3)
    return figure


def plot_steps(gains: pd.DataFrame) -> Figure:
    """Return what four times the parameters gain (left) and four times the data (right), one line a model.

    ``gains`` as `wall.steps` gives them. The thin line is the gain that a step must certainly have to count as helping.
    """
    figure, axes = new_figure(1, 2, height=3.8, sharey=True)
    models = sorted(gains["parameters"].unique())
    _curves(len(models))
    for ax, step, name in zip(axes, ("parameters", "data"), ("4 × parameters", "4 × data"), strict=True):
        for i, model in enumerate(models):
            rows = gains[(gains["step"] == step) & (gains["parameters"] == model)]
            spread = np.abs(rows[["low", "high"]].to_numpy().T - rows["gain"].to_numpy())
            ax.errorbar(
                rows["tokens"],
                rows["gain"],
                spread,
                color=COLORS[i],
                ls=DASHES[i],
                marker=MARKERS[i],
                ms=5,
                capsize=2,
                label=f"from {short(model)}",
            )
        ax.axhline(CLEAR, color=GREY, lw=1)
        _count_axis(ax, gains["tokens"], f"tokens of data\n{name}")
    axes[0].set_ylabel("gain (bits per byte)")
    (legend_over if len(models) <= 3 else _two_rows)(figure, axes[1])
    return figure


def _two_rows(figure: Figure, ax: Axes) -> None:
    """Put one legend of two columns above all panels: four labels do not fit side by side."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=2, columnspacing=1.2, handlelength=2.2, frameon=False
    )


def plot_repetition(table: pd.DataFrame, parameters: int) -> Figure:
    """Return the excess loss of repeated over new text against the number of epochs, for one model.

    ``table`` as `wall.repetition` gives it; bars go from the least to the largest of the seeds.
    """
    rows = table[table["parameters"] == parameters]
    if not len(rows):
        raise BookError(f"there is no model of {parameters} parameters in the table")
    figure, ax = new_figure(height=3.6)
    groups = list(rows.groupby("tokens"))
    _curves(len(groups))
    for i, (tokens, own) in enumerate(groups):
        spread = np.abs(own[["low", "high"]].to_numpy().T - own["excess"].to_numpy())
        ax.errorbar(
            own["epochs"],
            own["excess"],
            spread,
            color=COLORS[i],
            ls=DASHES[i],
            marker=MARKERS[i],
            ms=5,
            capsize=2,
            label=f"{short(tokens)} tokens",
        )
    ax.axhline(0, color=GREY, lw=1)
    _count_axis(ax, rows["epochs"], "times that the text was read")
    ax.set_ylabel("excess over new text\n(bits per byte)")
    legend_above(ax, ncols=2)
    return figure


def plot_baselines(table: pd.DataFrame) -> Figure:
    """Return held-out bits per byte of the base model and of what it has to beat, one row each, best at the top.

    ``table``: ``name``, ``bits_per_byte``, ``low``, ``high`` (a compressor's has no interval: low = high).
    """
    rows = table.sort_values("bits_per_byte", ascending=False, ignore_index=True)
    figure, ax = new_figure(height=0.9 + 0.36 * len(rows))
    for i, row in rows.iterrows():
        ours = str(row["name"]).startswith("our")
        color, marker = (VERMILLION, "s") if ours else (BLUE, "o")
        ax.plot([row["low"], row["high"]], [i, i], color=color, lw=3, alpha=0.5, solid_capstyle="butt")
        ax.plot(row["bits_per_byte"], i, marker, color=color, ms=7)
        ax.annotate(
            f"{row['bits_per_byte']:.2f}", (row["high"], i), xytext=(8, -4), textcoords="offset points"
        )
    ax.set_yticks(range(len(rows)), rows["name"])
    ax.set(xlabel="bits per byte of held-out text", ylim=(-0.6, len(rows) - 0.4))
    ax.set_xlim(rows["low"].min() - 0.15, rows["high"].max() + 0.35)
    return figure
