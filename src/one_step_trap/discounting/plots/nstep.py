"""Figures of n-step TD: the error of each n, its two parts, and the worlds where another n wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from one_step_trap.core.validate import check_kind, check_list, check_real, check_table
from one_step_trap.discounting.nstep import NStepResult
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREEN,
    INK,
    MARKERS,
    VERMILLION,
    legend_above,
    legend_over,
    new_figure,
)


def plot_errors(result: NStepResult, *, n_shown: Iterable[int] = (1, 2, 4, 8, 32, 512)) -> Figure:
    """Return figure 7.2: RMS error against α, one curve for each of at most six n, marked at its best α.

    As in the book's figure, errors far above those of learning nothing (α = 0, if it was run) are cut off.
    """
    shown = _check_shown(result, n_shown)
    figure, ax = new_figure(height=3.8)
    rms = result.rms()
    for k, i in enumerate(shown):
        style = {"color": COLORS[k], "ls": DASHES[k], "marker": MARKERS[k]}
        best = int(rms[i].argmin())
        ax.plot(result.alphas, rms[i], **style, ms=7, markevery=[best], label=f"n = {result.n_steps[i]}")
    nothing = float(np.sqrt(np.mean(rms[:, 0] ** 2))) if result.alphas[0] == 0 else float(rms[shown].max())
    ax.set_ylim(rms[shown].min() * 0.9, nothing * 1.04)
    ax.set_xlim(left=0)
    ax.set_xlabel("step size α")
    episodes = result.errors.shape[1]
    ax.set_ylabel(f"RMS error, mean of the\nfirst {episodes} episodes (value)")
    legend_above(ax)
    return figure


def plot_bias_variance(result: NStepResult, *, alpha: float) -> Figure:
    """Return bias² and variance against n: on the left one α for every n, on the right each n's best α."""
    check_kind(result, NStepResult, "result", made_by="n_step_td")
    if check_real(alpha, "alpha") not in result.alphas:
        raise BookError(f"alpha = {alpha} is not among the step sizes that were run")
    figure, axes = new_figure(1, 2, height=3.6, sharey=True)
    n_index, same = np.arange(len(result.n_steps)), result.alphas.index(alpha)
    bias, variance = result.bias_squared.mean(axis=0), result.variance.mean(axis=0)
    for ax, alpha_index, name in (
        (axes[0], np.full(len(n_index), same), f"n (α = {alpha:g} for all)"),
        (axes[1], result.best_alpha(), "n (best α for each)"),
    ):
        parts = bias[n_index, alpha_index], variance[n_index, alpha_index]
        for k, (label, values) in enumerate(
            (("bias²", parts[0]), ("variance", parts[1]), ("their sum", parts[0] + parts[1]))
        ):
            color = (BLUE, VERMILLION, GREEN)[k]
            ax.plot(result.n_steps, values, color=color, ls=DASHES[k], marker=MARKERS[k], ms=5, label=label)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(FixedLocator([n for n in result.n_steps if n in (1, 8, 64, 512)]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.set_xlabel(name)
    axes[0].set_ylabel("squared error (value²)")
    axes[0].set_ylim(bottom=0)
    legend_over(figure, axes[0])
    return figure


def plot_settings(table: pd.DataFrame, labels: Iterable[str]) -> Figure:
    """Return, for each row of ``sweep``'s table, how much worse n = 1 and the longest n are than the best n.

    Points with 95% intervals; a point at 0 means that this end is itself the best n, or acts like it.
    """
    columns = [f"over_{end}{part}" for end in ("shortest", "longest") for part in ("", "_low", "_high")]
    check_table(table, ["best_n", *columns], "table (of sweep)")
    # A mapping (label -> setting) names its settings too.
    names = check_list(list(labels) if isinstance(labels, Mapping) else labels, "labels")
    if len(names) != len(table) or not names:
        raise BookError(f"one label a setting is needed: got {len(names)} labels for {len(table)} settings")
    figure, ax = new_figure(height=1.3 + 0.36 * len(names))
    y = np.arange(len(names))
    for k, (column, label) in enumerate((("over_shortest", "shortest n"), ("over_longest", "longest n"))):
        value = table[column].to_numpy()
        spread = [value - table[f"{column}_low"], table[f"{column}_high"] - value]
        style = {"color": (BLUE, VERMILLION)[k], "marker": MARKERS[k], "ms": 6, "ls": "none", "capsize": 3}
        ax.errorbar(value, y + 0.16 * (2 * k - 1), xerr=np.maximum(spread, 0), label=label, **style)
    ax.axvline(0, color=INK, lw=1)
    for row, best_n in zip(y, table["best_n"], strict=True):
        ax.annotate(f"{best_n}", (1.03, row), xycoords=("axes fraction", "data"), color=INK, va="center")
    ax.annotate("best n", (1.0, 1.01), xycoords="axes fraction", color=INK, va="bottom", fontsize=11)
    ax.set_yticks(y, names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("RMS error above that of the best n (value)")
    legend_above(ax, ncols=2)
    return figure


def _check_shown(result: NStepResult, n_shown: Iterable[int]) -> list[int]:
    check_kind(result, NStepResult, "result", made_by="n_step_td")
    wanted = check_list(n_shown, "n_shown")
    missing = [n for n in wanted if n not in result.n_steps]
    if missing or not 1 <= len(wanted) <= len(COLORS):
        raise BookError(
            f"n_shown must name 1 to {len(COLORS)} of the n that were run, {result.n_steps}; got {wanted}"
        )
    return [result.n_steps.index(n) for n in wanted]
