"""Figures of languages whose truth is known: divergence and entropy by position, accumulated error, (1-e)ⁿ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from one_step_trap.core.validate import FloatArray, check_finite, check_table
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    GREY,
    INK,
    MARKERS,
    STYLE,
    legend_above,
    new_figure,
)

CURVES = ("world", "pairs", "t", "value", "low", "high")


def plot_marginals(table: pd.DataFrame, predicted: pd.DataFrame | None = None) -> Figure:
    """Return KL(p_t‖q_t) against the position t, a panel a world and a curve a size of data, on logarithmic axes.

    ``table``: `exposure_study.curves` of "kl", at most six worlds and six sizes; bands are 95% intervals over seeds.
    ``predicted``: the same of "kl_predicted", drawn as open circles.
    """
    worlds, sizes = _worlds(table, 6), _sizes(table)
    rows = (len(worlds) + 1) // 2
    figure, axes = new_figure(rows, min(len(worlds), 2), height=1.0 + 2.0 * rows, sharex=True, sharey=True)
    panels = list(np.ravel(axes))
    for ax, world in zip(panels, worlds, strict=False):
        for i, pairs in enumerate(sizes):
            part = _of(table, world, pairs)
            ax.fill_between(part["t"], part["low"], part["high"], color=COLORS[i], alpha=0.2, lw=0)
            ax.plot(part["t"], part["value"], color=COLORS[i], ls=DASHES[i], label=_power(pairs))
            if predicted is not None:
                theory = _of(check_table(predicted, CURVES, "predicted"), world, pairs)[::4]
                ax.plot(theory["t"], theory["value"], "o", mfc="none", mec=COLORS[i], ms=4, mew=1)
        _name(ax, world)
        ax.set(xscale="log", yscale="log")
        _positions(ax, table["t"])
    for ax in panels[: len(worlds)][-2:]:
        ax.tick_params(labelbottom=True)
    _shared_labels(figure, panels[: len(worlds)], "position t (tokens)", "KL of the token at t (nats)")
    handles, labels = panels[0].get_legend_handles_labels()
    if predicted is not None:
        handles.append(Line2D([], [], ls="", marker="o", mfc="none", mec=INK, ms=4))
        labels.append("prediction")
    spare = panels[len(worlds) :]
    with mpl.rc_context(STYLE):
        if spare:
            spare[0].axis("off")
            spare[0].legend(handles, labels, loc="center", title="training pairs")
        else:
            figure.legend(handles, labels, loc="outside upper left", ncols=4, title="training pairs")
    return figure


def plot_entropy(table: pd.DataFrame, pairs: int) -> Figure:
    """Return the entropy of the next token on the model's own text minus that on human text, by position.

    ``table``: `exposure_study.curves` of "entropy_gap", at most six worlds, drawn for learners of ``pairs`` pairs;
    bands are 95% intervals over seeds.
    """
    worlds = _worlds(table, len(COLORS))
    figure, ax = new_figure(height=3.7)
    ax.axhline(0, color=GREY, lw=1)
    for i, world in enumerate(worlds):
        _band(ax, _of(table, world, pairs), i, world)
    ax.set(xscale="log", xlabel="position t (tokens)")
    ax.set_ylabel("entropy on own text\nminus on human text (nats)")
    _positions(ax, table["t"])
    legend_above(ax, ncols=2)
    return figure


def plot_accumulated(table: pd.DataFrame, pairs: int) -> Figure:
    """Return accumulated error AccErr against the length, with the lines T and T², on logarithmic axes.

    ``table``: `exposure_study.curves` of "accumulated", at most five worlds, drawn for learners of ``pairs`` pairs;
    bands are 95% intervals over seeds. The curve is in units of one step's error on human text.
    """
    worlds = _worlds(table, len(COLORS) - 1)
    figure, ax = new_figure(height=4.0)
    lengths = np.sort(table["t"].unique()).astype(float)
    top = float(table.loc[table["pairs"] == pairs, "high"].max())
    square = lengths[lengths**2 <= 8 * top]
    for line, name in ((lengths, "T"), (square**2, "T²")):
        ax.plot(lengths[: len(line)], line, color=INK, lw=1)
        ax.annotate(
            name, (lengths[len(line) - 1], line[-1]), xytext=(4, 0), textcoords="offset points", va="center"
        )
    for i, world in enumerate(worlds):
        _band(ax, _of(table, world, pairs), i, world)
    ax.set(xscale="log", yscale="log", xlabel="length T of the model's own text (tokens)")
    ax.set_ylabel("accumulated error AccErr\n(errors of one human step)")
    _positions(ax, table["t"])
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=2)
    return figure


def plot_way_back() -> Figure:
    """Return the two states of a text, human text and what nobody would write, with the rates between them."""
    figure, ax = new_figure(height=2.3)
    places = {"human\ntext": 0.0, "never\nwritten": 1.0}
    for i, (name, x) in enumerate(places.items()):
        ax.plot([x], [0], "o", ms=86, mfc="none", mec=(COLORS[0], COLORS[1])[i], mew=2)
        ax.annotate(name, (x, 0), ha="center", va="center", size=12, color=INK)
    arrows = (
        (0.0, 1.0, COLORS[1], DASHES[1], 0.78, "leaves, rate λ"),
        (1.0, 0.0, COLORS[0], "-", -0.78, "finds back, rate ρ"),
    )
    for tail, head, color, dash, height, name in arrows:
        look = {"arrowstyle": "-|>", "color": color, "ls": dash, "lw": 1.8, "shrinkA": 46, "shrinkB": 46}
        look["connectionstyle"] = "arc3,rad=-0.35"
        ax.annotate("", (head, 0), xytext=(tail, 0), arrowprops=look)
        ax.annotate(name, (0.5, height), ha="center", va="center", size=12, color=INK)
    ax.set(xlim=(-0.4, 1.4), ylim=(-1, 1))
    ax.set_axis_off()
    return figure


def plot_fade(table: pd.DataFrame, name: str = "share") -> Figure:
    """Return what is left at the last token against the size of data, one curve a world, with the prediction.

    ``table``: `exposure_study.cells`, at most six worlds. ``name``: "share", of text where no human text is, or "kl_last", in
    nats. Markers are means over seeds; thin grey lines are the prediction (of the share only). Values of 0 are left out.
    """
    labels = {"share": "share of own text\nwhere no human text is", "kl_last": "KL of the last token (nats)"}
    if name not in labels:
        raise BookError(f"name must be one of {', '.join(labels)}, got {name!r}")
    check_table(table, ("world", "pairs", name, "share_predicted"), "table (of cells)")
    worlds = _worlds(table, len(COLORS), columns=("world", "pairs"))
    figure, ax = new_figure(height=3.9)
    for i, world in enumerate(worlds):
        rows = table[(table["world"] == world) & (table[name] > 0)]
        if rows.empty:
            continue
        if name == "share":
            ax.plot(rows["pairs"], rows["share_predicted"], color=GREY, lw=1)
        ax.plot(
            rows["pairs"], rows[name], color=COLORS[i], ls=DASHES[i], marker=MARKERS[i], ms=5, label=world
        )
    ax.set(xscale="log", yscale="log", xlabel="training data (pairs of tokens)", ylabel=labels[name])
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=2)
    return figure


def plot_survival(curves: Mapping[str, Callable[[FloatArray], FloatArray]], longest: int = 1_000) -> Figure:
    """Return LeCun's (1-e)ⁿ and its critics' curves against n, at most six, as `keytokens.arguments` gives them."""
    if not 1 <= len(curves) <= len(COLORS):
        raise BookError(f"1 to {len(COLORS)} curves fit into one figure, got {len(curves)}")
    n = np.unique(np.geomspace(10, longest, 40).round(-1))
    figure, ax = new_figure(height=4.2)
    for i, (name, curve) in enumerate(curves.items()):
        ax.plot(n, curve(n), color=COLORS[i], ls=DASHES[i], label=name)
    ax.set(xscale="log", ylim=(0, 1.02), xlabel="length n (tokens)", ylabel="probability")
    ax.set_xticks([10, 100, longest], labels=["10", "100", f"{longest:,}"])
    ax.xaxis.set_minor_formatter("")
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=2)
    return figure


def plot_agreement(agreement: ArrayLike, coincidence: ArrayLike, tv: ArrayLike, grid: ArrayLike) -> Figure:
    """Return, for one harmless language, what falls exponentially beside what does not change, by position.

    ``agreement`` and ``coincidence`` (T + 1,) as `exposure` gives them: probability that the model (at best), and that
    another human, writes the same n tokens. ``tv`` (K,) at the positions ``grid`` (K,): TV = L1/2 of the token's law.
    Probabilities below 1e-12 are cut off.
    """
    falls = [check_finite(a, name) for a, name in ((agreement, "agreement"), (coincidence, "coincidence"))]
    where, distance = check_finite(grid, "grid"), check_finite(tv, "tv")
    if where.shape != distance.shape or where.ndim != 1 or any(a.ndim != 1 for a in falls):
        raise BookError(
            "agreement and coincidence must be vectors, and tv must have one number a position of grid"
        )
    figure, ax = new_figure(height=3.6)
    names = ("model agrees with a human, at best", "another human agrees")
    for i, (values, name) in enumerate(zip(falls, names, strict=True)):
        n = np.arange(1, len(values))
        keep = values[1:] > 1e-12
        ax.plot(n[keep], values[1:][keep], color=COLORS[i], ls=DASHES[i], label=name)
    ax.plot(where, distance, color=COLORS[2], ls=DASHES[2], marker="^", ms=4, label="TV of the token at n")
    ax.set(xscale="log", yscale="log", ylim=(1e-12, 2), xlabel="n (tokens)", ylabel="probability, or TV")
    _positions(ax, pd.Series(where))
    ax.grid(which="minor", visible=False)
    legend_above(ax, ncols=1)
    return figure


def _worlds(table: pd.DataFrame, most: int, columns: Sequence[str] = CURVES) -> list[str]:
    """Return the names of the worlds in a table, of which ``most`` fit into a figure."""
    worlds = list(check_table(table, columns, "table")["world"].unique())
    if len(worlds) > most:
        raise BookError(f"at most {most} worlds fit into one figure, got {len(worlds)}")
    return worlds


def _sizes(table: pd.DataFrame) -> list[int]:
    sizes = sorted(table["pairs"].unique())
    if len(sizes) > len(COLORS):
        raise BookError(f"at most {len(COLORS)} sizes of data fit into one figure, got {len(sizes)}")
    return sizes


def _of(table: pd.DataFrame, world: str, pairs: int) -> pd.DataFrame:
    """Return the rows of one world and size."""
    rows = table[(table["world"] == world) & (table["pairs"] == pairs)]
    if rows.empty:
        raise BookError(f"the table has no rows of {world!r} with {pairs:,} pairs")
    return rows


def _band(ax: Axes, rows: pd.DataFrame, i: int, label: str) -> None:
    """Draw a curve with its interval, the i-th of the figure."""
    ax.fill_between(rows["t"], rows["low"], rows["high"], color=COLORS[i], alpha=0.2, lw=0)
    ax.plot(
        rows["t"],
        rows["value"],
        color=COLORS[i],
        ls=DASHES[i],
        marker=MARKERS[i],
        ms=4,
        markevery=3,
        label=label,
    )


def _name(ax: Axes, name: str) -> None:
    """Write a panel's name above it."""
    ax.annotate(name, (0, 1.02), xycoords="axes fraction", va="bottom", fontsize=11, color=INK)


def _shared_labels(figure: Figure, panels: Sequence[Axes], x: str, y: str) -> None:
    """Label the axes once for all panels."""
    figure.supxlabel(x, fontsize=12)
    figure.supylabel(y, fontsize=12)
    for ax in panels:
        ax.grid(which="minor", visible=False)


def _power(pairs: int) -> str:
    """Return 10ᵏ for a power of ten, else the number itself."""
    k = round(np.log10(pairs))
    digits = str(k).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}" if 10**k == pairs else f"{pairs:,}"


def _positions(ax: Axes, t: pd.Series) -> None:
    """Label a logarithmic axis of positions with 1, 32 and the last, or the like."""
    last = int(t.max())
    ticks = [k for k in (1, 10, 100) if k < last / 3] + [last]
    ax.set_xticks(ticks, labels=[f"{k:,}" for k in ticks])
    ax.xaxis.set_minor_formatter("")
