"""Figures of sequence-level search: what it costs, what it finds, and where the likeliest text leads."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from one_step_trap.core.validate import check_choice, check_kind, check_table
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREEN,
    GREY,
    INK,
    MARKERS,
    VERMILLION,
    legend_above,
    new_figure,
)
from one_step_trap.sampling.exact_search import EMPTY_COLUMNS, Typical


def plot_costs(summary: pd.DataFrame) -> Figure:
    """Return cost against the width of the beam: CPU time and rows a token above, the cache below.

    ``summary``: what ``beam.summarise`` gives. Time is a multiple of greedy decoding's, with 95% intervals over
    prompts; the rows through the network are as many as beams.
    """
    beams = _beams(summary)
    figure, (top, bottom) = new_figure(2, 1, height=5.4, sharex=True)
    k = beams["width"]
    top.plot(k, beams["rows_per_token"], color=GREY, lw=1.2, ls=DASHES[1], label="rows")
    top.fill_between(k, beams["cost_low"], beams["cost_high"], color=BLUE, alpha=0.2, lw=0)
    top.plot(k, beams["cost"], color=BLUE, marker="o", ms=5, label="CPU time")
    top.axhline(10, color=VERMILLION, lw=1.2, ls=DASHES[2], label="limit (k = 8)")
    top.set(yscale="log", ylabel="cost of a token\n(greedy decoding = 1)")
    _plain(top, "y", [1, 10])
    legend_above(top, ncols=3)
    bottom.plot(k, beams["cache_bytes"] / 1e6, color=GREEN, marker="s", ms=5)
    bottom.set(
        xscale="log", yscale="log", xlabel="width k of the beam", ylabel="cache of keys\nand values (MB)"
    )
    _plain(bottom, "x", list(k))
    _plain(bottom, "y", [10, 100, 1_000])
    return figure


def plot_quality(summary: pd.DataFrame, *, measure: str = "seq_rep_4") -> Figure:
    """Return repetition against likelihood along the width of the beam, with best of n and the human text.

    ``summary``: what ``beam.summarise`` gives; ``measure``: seq_rep_4, or said_before_4, which counts what is copied
    from the prompt too. Crosses of thin lines are 95% intervals over prompts; numbers are widths (or draws).
    """
    _beams(summary)
    check_choice(measure, ("seq_rep_4", "said_before_4"), "measure")
    figure, ax = new_figure(height=4.2)
    styles = {
        "beam": (BLUE, "-", "o", "beam of k"),
        "best of": (GREEN, DASHES[1], "^", "best of k"),
        "human": (VERMILLION, "none", "D", "human text"),
    }
    for method, (color, dash, marker, label) in styles.items():
        rows = summary[summary["method"] == method].sort_values("width")
        if rows.empty:
            continue
        x, y = rows["log_prob"], rows[measure]
        errors = {
            f"{axis}err": [rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]]
            for axis, name in (("x", "log_prob"), ("y", measure))
        }
        ax.errorbar(x, y, **errors, color=color, ls="none", elinewidth=0.8, alpha=0.5)
        ax.plot(x, y, color=color, ls=dash, marker=marker, ms=6, label=label)
        if method != "human":
            _name_ends(ax, rows, measure)
    ax.set_xlabel("mean log-probability of a token (nats)")
    ax.set_ylabel(
        "4-grams said before\n(share)"
        if measure == "seq_rep_4"
        else "4-grams said before, here or in\nthe prompt (share)"
    )
    ax.set_ylim(bottom=-0.02)
    ax.margins(x=0.14)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    legend_above(ax, ncols=3)
    return figure


def _name_ends(ax: Axes, rows: pd.DataFrame, measure: str) -> None:
    """Write k = … beside the narrowest and the widest point."""
    for row, side, shift in ((rows.iloc[0], "right", -7), (rows.iloc[-1], "left", 7)):
        ax.annotate(
            f"k = {int(row['width'])}",
            (row["log_prob"], row[measure]),
            textcoords="offset points",
            xytext=(shift, 5),
            ha=side,
            color=INK,
            fontsize=11,
        )


def plot_empty(table: pd.DataFrame) -> Figure:
    """Return the share of learned languages whose mode is empty against the texts learned from, by shortest length.

    ``table``: what ``exact_search.empty_modes`` gives; the learner "counts" is drawn. Bars are exact 95% intervals.
    """
    table = check_table(table, EMPTY_COLUMNS, "table (of empty_modes)")
    rows = table[table["learner"] == "counts"]
    lengths = sorted(rows["shortest"].unique())
    if not 1 <= len(lengths) <= len(COLORS):
        raise BookError(
            f"table must hold the learner counts with 1 to {len(COLORS)} lengths, got {len(lengths)}"
        )
    figure, ax = new_figure(height=3.7)
    for i, m in enumerate(lengths):
        curve = rows[rows["shortest"] == m].sort_values("texts")
        errors = [curve["share"] - curve["low"], curve["high"] - curve["share"]]
        ax.errorbar(
            curve["texts"]
            * 1.04 ** (i - (len(lengths) - 1) / 2),  # set apart a little: equal points would hide
            curve["share"],
            yerr=errors,
            color=COLORS[i],
            ls=DASHES[i],
            marker=MARKERS[i],
            ms=6,
            elinewidth=1,
            label=f"{m} word{'s' if m > 1 else ''}",
        )
    ax.set(xscale="log", xlabel="texts learned from", ylim=(-0.05, 1.05))
    ax.set_ylabel("learned languages whose\nmode is empty (share)")
    ticks = sorted(rows["texts"].unique())
    _plain(ax, "x", ticks[:: max(1, math.ceil(len(ticks) / 4))])
    legend_above(ax, ncols=4, title="no true text is shorter than")
    return figure


def plot_typical(result: Typical) -> Figure:
    """Return the surprise per word of typical texts (mean, two standard deviations) and of the mode, by length."""
    check_kind(result, Typical, "result", made_by="typical_and_mode")
    figure, ax = new_figure(height=3.7)
    n = result.lengths
    ax.fill_between(
        n,
        np.maximum(result.mean - 2 * result.sd, 0),
        result.mean + 2 * result.sd,
        color=BLUE,
        alpha=0.2,
        lw=0,
        label="two standard deviations",
    )
    ax.plot(n, result.mean, color=BLUE, marker="o", ms=5, label="texts as they are drawn")
    ax.plot(n, result.mode, color=VERMILLION, ls=DASHES[1], marker="s", ms=5, label="the likeliest text")
    ax.axhline(result.floor, color=GREY, lw=1.2, ls=DASHES[2], label="the best loop, -λ*")
    ax.set(xscale="log", xlabel="length (words)", ylabel="surprise (nats a word)", ylim=(0, None))
    _plain(ax, "x", list(n)[:: max(1, math.ceil(len(n) / 5))])
    legend_above(ax, ncols=2)
    return figure


def _beams(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of beam search, in the order of their width."""
    columns = (
        "method",
        "width",
        "rows_per_token",
        "cache_bytes",
        "cost",
        "log_prob",
        "seq_rep_4",
        "said_before_4",
    )
    table = check_table(summary, columns, "summary (of summarise)")
    rows = table[table["method"] == "beam"].sort_values("width")
    if rows.empty:
        raise BookError("summary holds no rows of beam search")
    return rows


def _plain(ax: Axes, axis: str, ticks: list[float]) -> None:
    """Put plain numbers on a logarithmic axis, at the given ticks only."""
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_ticks(ticks, [f"{int(t):,}" for t in ticks])
    which.set_minor_locator(NullLocator())
