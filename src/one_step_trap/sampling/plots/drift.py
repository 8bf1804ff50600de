"""Figures of drift: entropy by position, slopes, loops, what a rule buys and costs, orders beside published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_kind, check_table
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    GREY,
    INK,
    MARKERS,
    VERMILLION,
    legend_above,
    new_figure,
)
from one_step_trap.sampling.drift import cube, edge_windows, window_names
from one_step_trap.sampling.heuristics import BUYS
from one_step_trap.sampling.measures import HUMAN
from one_step_trap.sampling.published import Ordering
from one_step_trap.sampling.survival import Survival

LABELS = {
    "entropy": "entropy of the next token\n(nats)",
    "log_loss": "log-loss of the text\n(nats per token)",
    "entce": "EntCE (nats)",
    "excess": "entropy minus that on\nhuman text (nats)",
}
MOST_RULES = 5  # curves that a panel can tell apart, beside the human control


def plot_curves(
    table: pd.DataFrame,
    sides: Mapping[str, Sequence[str]],
    *,
    quantity: str = "entropy",
    statistic: str = "mean",
) -> Figure:
    """Return a quantity by position, one panel a side, each with the human control and its band.

    ``table`` from ``drift.curves``; ``sides`` maps the name of a panel (one or two) to the rules drawn in it, at most
    five. ``statistic``: "mean" (with 95% intervals over prompts) or "median". Grey band: 95% of the human passages.
    """
    check_table(table, ["rule", "position", statistic, "low", "high", "inner_low", "inner_high"], "table")
    if not isinstance(sides, Mapping) or not 1 <= len(sides) <= 2:
        raise BookError("sides must map the names of one or two panels to rules")
    if quantity not in LABELS:
        raise BookError(f"quantity must be one of {', '.join(LABELS)}, got {quantity!r}")
    figure, axes = new_figure(len(sides), 1, height=0.6 + 3.1 * len(sides), sharex=True)
    panels = list(np.atleast_1d(axes))
    for ax, (name, rules) in zip(panels, sides.items(), strict=True):
        # The legend fills its left column first: long names belong there, where nothing cuts them off.
        _curves(ax, table, sorted(rules, key=len, reverse=True), statistic)
        ax.set_ylabel(f"{name}:\n{LABELS[quantity]}")
        legend_above(ax, ncols=2)
    panels[-1].set_xlabel("tokens after the prompt")
    return figure


def _curves(ax: Axes, table: pd.DataFrame, rules: list[str], statistic: str) -> None:
    if len(rules) > MOST_RULES:
        raise BookError(f"at most {MOST_RULES} rules fit into one panel, got {len(rules)}")
    human = table[table["rule"] == HUMAN]
    ax.fill_between(human["position"], human["inner_low"], human["inner_high"], color=GREY, alpha=0.18, lw=0)
    ax.plot(human["position"], human[statistic], color=INK, lw=2.4, label="human text (band: 95%)")
    for i, rule in enumerate(rules):
        own = table[table["rule"] == rule]
        if own.empty:
            raise BookError(f"the table has no curve of the rule {rule!r}")
        if statistic == "mean":
            ax.fill_between(own["position"], own["low"], own["high"], color=COLORS[i], alpha=0.2, lw=0)
        ax.plot(
            own["position"],
            own[statistic],
            color=COLORS[i],
            ls=DASHES[i],
            marker=MARKERS[i],
            ms=4.5,
            markevery=max(1, len(own) // 5),
            label=rule,
        )


def plot_slopes(summary: pd.DataFrame, *, name: str = "drift") -> Figure:
    """Return drift against the human control as dots with 95% intervals, sorted; grey: the human passages' own spread.

    ``summary`` from ``drift.summarise``; ``name`` is "drift" or "drift_early".
    """
    check_table(summary, ["rule", "slope_sd", name, f"{name}_low", f"{name}_high"], "summary")
    own = summary[summary["rule"] != HUMAN].sort_values(name, ascending=False)
    spread = summary.loc[summary["rule"] == HUMAN, "slope_sd"]
    figure, ax = new_figure(height=1.3 + 0.36 * len(own))
    for sd in spread:
        ax.axvspan(-sd, sd, color=GREY, alpha=0.2, lw=0)
    ax.axvline(0, color=INK, lw=1.2)
    ax.locator_params(axis="x", nbins=5)
    _dots(ax, own["rule"].tolist(), own[[name, f"{name}_low", f"{name}_high"]].to_numpy())
    ax.set_xlabel("drift against human text\n(nats per 100 tokens)")
    return figure


def _dots(ax: Axes, names: list[str], estimates: Any, *, labels: bool = True) -> None:
    """Draw rows of (value, low, high) from the top, each with its name."""
    y = np.arange(len(names))
    value, low, high = np.asarray(estimates, dtype=float).reshape(-1, 3).T
    colors = [COLORS[0] if v >= 0 else VERMILLION for v in value]
    ax.hlines(y, low, high, color=colors, lw=2)
    for i, v in enumerate(value):
        ax.plot(v, i, marker="o" if v >= 0 else "s", color=colors[i], ms=6, ls="none")
    ax.set_yticks(y, names if labels else [""] * len(names))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def plot_survival(curves: Mapping[str, Survival]) -> Figure:
    """Return the share of texts without a loop by the number of tokens, with 95% bands over prompts (at most six)."""
    if not isinstance(curves, Mapping) or not 1 <= len(curves) <= len(COLORS):
        raise BookError(f"between 1 and {len(COLORS)} curves fit into one figure")
    figure, ax = new_figure(height=3.9)
    for i, (rule, curve) in enumerate(curves.items()):
        check_kind(curve, Survival, f"the curve of {rule}", made_by="survival")
        ax.fill_between(curve.tokens, curve.low, curve.high, color=COLORS[i], alpha=0.15, lw=0, step="post")
        ax.step(curve.tokens, curve.share, where="post", color=COLORS[i], ls=DASHES[i], label=rule)
    ax.set(xlabel="tokens drawn", ylabel="share of texts\nwithout a loop", ylim=(-0.02, 1.02))
    legend_above(ax, ncols=2)
    return figure


def plot_buys_and_costs(table: pd.DataFrame) -> Figure:
    """Return what each rule buys and costs as dots with 95% intervals, two panels by two.

    ``table`` from ``heuristics.buys_and_costs``. The order of the rules is that of the table. A rule without a number in
    a panel has no dot there.
    """
    check_table(table, ["rule", "what", "value", "low", "high"], "table")
    rules = list(dict.fromkeys(table["rule"]))
    there = [what for what in BUYS if (table["what"] == what).any()]
    nrows = (len(there) + 1) // 2
    figure, axes = new_figure(nrows, 2, height=nrows * (1.35 + 0.25 * len(rules)))
    panels = list(np.atleast_1d(axes).ravel())
    for i, (ax, what) in enumerate(zip(panels, there, strict=False)):
        own = table[table["what"] == what].set_index("rule").reindex(rules)
        _dots(ax, rules, own[["value", "low", "high"]].to_numpy(), labels=i % 2 == 0)
        ax.axvline({"diversity": 1}.get(what, 0), color=INK, lw=1.2)
        ax.set_xlabel(BUYS[what])
        ax.locator_params(axis="x", nbins=4)
    for ax in panels[len(there) :]:
        ax.set_visible(False)
    return figure


def plot_ordering(orderings: Sequence[Ordering]) -> Figure:
    """Return rules in the published order (left) and in ours (right), joined by lines; a crossing is a swapped pair.

    One or two ``orderings`` (from ``published.orderings``), one panel each; lowest value at the bottom. Rules in a swapped
    pair are dashed. Levels are printed beside the names: they differ, and only the order is compared.
    """
    if not 1 <= len(orderings) <= 2:
        raise BookError(f"one or two orderings fit into one figure, got {len(orderings)}")
    most = max(len(check_kind(o, Ordering, "every ordering").table) for o in orderings)
    figure, axes = new_figure(len(orderings), 1, height=len(orderings) * (0.9 + 0.45 * most))
    for ax, ordering in zip(np.atleast_1d(axes), orderings, strict=True):
        _slope_chart(ax, ordering)
    return figure


def _slope_chart(ax: Axes, ordering: Ordering) -> None:
    table = ordering.table
    left, right = (table[side].rank(method="first").to_numpy() for side in ("published", "ours"))
    swapped = {rule for pair in ordering.swapped for rule in pair}
    for i, row in enumerate(table.itertuples()):
        color, dash = (VERMILLION, DASHES[1]) if row.rule in swapped else (COLORS[0], "-")
        ax.plot([0, 1], [left[i], right[i]], color=color, ls=dash, marker="o", ms=5)
        ax.annotate(f"{row.rule}  {row.published:.3g}", (0, left[i]), xytext=(-8, 0), ha="right", va="center",
                    textcoords="offset points", fontsize=11.5)  # fmt: skip
        ax.annotate(f"{row.ours:.3g}  {row.rule}", (1, right[i]), xytext=(8, 0), ha="left", va="center",
                    textcoords="offset points", fontsize=11.5)  # fmt: skip
    ax.set_xlim(-1.4, 2.4)
    ax.set_ylim(0.5, len(table) + 0.5)
    ax.set_xticks([0, 1], ["published", "ours"])
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_xlabel(f"{ordering.measure.replace('_', ' ')}, in order (Kendall's τ {ordering.tau:.2f})")


def plot_ends(table: pd.DataFrame, rules: Sequence[str]) -> Figure:
    """Return where the texts of some rules end: histograms of their mean entropy over the last 128 tokens, two a row.

    ``table``: rows of texts (`drift.rows`) with the human control, whose outline stands behind each histogram. At most six
    rules. Heights are shares of texts.
    """
    if not 1 <= len(rules) <= len(COLORS):
        raise BookError(f"between 1 and {len(COLORS)} rules fit into one figure, got {len(rules)}")
    edge = edge_windows(table)
    ends = {
        rule: cube(table, rule, window_names(table, "entropy")[-edge:]).mean(-1).ravel()
        for rule in (HUMAN, *rules)
    }
    top = max(float(values.max()) for values in ends.values())
    bins = np.linspace(0, np.ceil(2 * top) / 2, 19)
    nrows = (len(rules) + 1) // 2
    figure, axes = new_figure(nrows, 2, height=0.9 + 1.5 * nrows, sharex=True, sharey=True)
    panels = np.atleast_2d(axes)
    for ax, rule in zip(panels.ravel(), rules, strict=False):
        for name, look in ((rule, {"color": COLORS[0], "alpha": 0.65}), (HUMAN, {"color": INK, "lw": 1.6})):
            share = np.full(len(ends[name]), 1 / len(ends[name]))
            kind = "step" if name == HUMAN else "stepfilled"
            ax.hist(ends[name], bins=bins, weights=share, histtype=kind, **look)
        ax.annotate(rule, (0.97, 0.93), xycoords="axes fraction", ha="right", va="top", size=12)
    for ax in panels.ravel()[len(rules) :]:
        ax.set_visible(False)
    for ax in panels[-1]:
        ax.set_xlabel("entropy at the end (nats)")
    for ax in panels[:, 0]:
        ax.set_ylabel("share of texts")
    return figure
