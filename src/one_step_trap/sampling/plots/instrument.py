"""Figures of one run of the instrument: entropy by position, and drift with its intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    INK,
    MARKERS,
    legend_above,
    new_figure,
)
from one_step_trap.sampling.measures import HUMAN

if TYPE_CHECKING:
    from one_step_trap.sampling.instrument import SampleReport

TOGETHER = 5  # curves that a panel can tell apart, beside the human control


def plot_run(report: SampleReport) -> Figure:
    """Return the entropy by position, the rules that rise most first, five to a panel, each with the human control."""
    found = sorted(report.rules, key=lambda rule: -(rule.drift or rule.slope).value)
    groups = [found[i : i + TOGETHER] for i in range(0, len(found), TOGETHER)]
    figure, axes = new_figure(len(groups), 1, height=0.6 + 3.1 * len(groups), sharex=True, sharey=True)
    panels: list[Axes] = list(np.atleast_1d(axes))
    for ax, group in zip(panels, groups, strict=True):
        if report.human is not None:
            _curve(ax, report.curves, HUMAN, INK, "-", "", "human text")
        for i, rule in enumerate(group):
            _curve(ax, report.curves, rule.rule, COLORS[i], DASHES[i], MARKERS[i], rule.rule)
        ax.set_ylabel("entropy of the next\ntoken (nats)")
        legend_above(ax, ncols=2)
    panels[-1].set_xlabel("tokens after the prompt")
    return figure


def _curve(
    ax: Axes, table: pd.DataFrame, rule: str, color: str, dash: object, marker: str, label: str
) -> None:
    own = table[table["rule"] == rule]
    ax.fill_between(own["position"], own["low"], own["high"], color=color, alpha=0.15, lw=0)
    width, every = 2.4 if rule == HUMAN else 1.8, max(1, len(own) // 5)
    ax.plot(own["position"], own["mean"], color=color, ls=dash, marker=marker, ms=4.5, markevery=every, lw=width,
            label=label)  # fmt: skip


def plot_run_drift(report: SampleReport) -> Figure:
    """Return the drift of each rule (without a control: its slope) with its 95% interval over passages."""
    found = [(rule.rule, rule.drift or rule.slope) for rule in report.rules]
    figure, ax = new_figure(height=1.3 + 0.36 * len(found))
    ax.axvline(0, color=INK, lw=1.2)
    for y, (_, e) in enumerate(found):
        up = e.value >= 0
        ax.hlines(y, e.low, e.high, color=COLORS[0 if up else 1], lw=2)
        ax.plot(e.value, y, marker="o" if up else "s", color=COLORS[0 if up else 1], ms=6, ls="none")
    ax.set_yticks(range(len(found)), [name for name, _ in found])
    ax.set_ylim(len(found) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.locator_params(axis="x", nbins=5)
    what = "slope of the entropy" if report.human is None else "drift against human text"
    ax.set_xlabel(f"{what}\n(nats per 100 tokens)")
    return figure
