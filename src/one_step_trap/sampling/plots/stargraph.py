"""Figures of the star graph: the task, learning curves, accuracy by position, and the guess at higher degrees."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_count, short_repr
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    INK,
    OCHRE,
    PURPLE,
    VERMILLION,
    legend_above,
    new_figure,
)
from one_step_trap.sampling.stargraph import ARMS, Stars

# Each arm has one look in every figure; forward-tied is the control of forward and differs from it by dash and marker.
LOOKS = {
    "forward": (VERMILLION, "-", "o"),
    "forward-tied": (VERMILLION, DASHES[2], "x"),
    "reversed": (BLUE, DASHES[1], "s"),
    "multi-token": (GREEN, DASHES[3], "^"),
    "teacherless": (PURPLE, DASHES[4], "D"),
    "structured": (OCHRE, DASHES[5], "v"),
    "arm-wise": (GREY, DASHES[1], "P"),
}


def plot_star(stars: Stars, i: int = 0) -> Figure:
    """Return one graph drawn twice: with the answer told forward, and told backwards from the goal.

    The arm that is asked for is coloured; numbers on its edges give the order in which its tokens are predicted, and the
    token that takes more than one lookup is marked ``guess``.
    """
    if not isinstance(stars, Stars):
        raise BookError(f"stars must be Stars (made by draw), got {short_repr(stars)}")
    i = check_count(i, "i", minimum=0)
    if i >= len(stars.start):
        raise BookError(f"i must be below the number of graphs, {len(stars.start)}, got {i}")
    figure, axes = new_figure(2, 1, height=1.9 + 1.1 * stars.family.degree)
    for ax, backwards in zip(axes, (False, True), strict=True):
        _draw_graph(ax, stars, i, backwards)
    return figure


def _draw_graph(ax: Axes, stars: Stars, i: int, backwards: bool) -> None:
    """Draw the graph from left (start) to right (ends of the arms), the asked arm on top."""
    d, T = stars.family.degree, stars.family.answer
    for arm in range(d):
        y = -float(arm)
        places = [(0.0, -(d - 1) / 2), *((1.0 + t, y) for t in range(T))]
        asked = arm == 0
        for t, (left, right) in enumerate(pairwise(places)):
            order = (T - t if backwards else t + 1) if asked else 0
            _draw_edge(
                ax, left, right, order, hard=asked and order == 1 and not backwards, backwards=backwards
            )
        for (x, height), node in zip(places[1:], stars.arms[i, arm], strict=True):
            _draw_node(ax, x, height, int(node), BLUE if asked else GREY)
    _draw_node(ax, 0.0, -(d - 1) / 2, int(stars.start[i]), BLUE)
    ax.annotate("start", (0, -(d - 1) / 2), textcoords="offset points", xytext=(0, -26), ha="center", size=12)
    ax.annotate("goal", (T, 0), textcoords="offset points", xytext=(26, 0), ha="center", va="center", size=12)
    path = " ".join(map(str, stars.path(backwards=backwards)[i]))
    given = (stars.goal if backwards else stars.start)[i]
    told = "reversed" if backwards else "forward"
    ax.annotate(
        f"{told}:  … {stars.start[i]} {stars.goal[i]} = {given} → {path}",
        (0, 1),
        xycoords="axes fraction",
        va="top",
        size=12,
    )
    ax.set(xlim=(-0.4, T + 0.6), ylim=(-(d - 1) - 0.5, 1.1))
    ax.set_axis_off()


def _draw_edge(
    ax: Axes,
    left: tuple[float, float],
    right: tuple[float, float],
    order: int,
    *,
    hard: bool,
    backwards: bool,
) -> None:
    """Draw an edge; one of the asked arm as an arrow in the order of prediction, with its number."""
    tail, head = (right, left) if backwards else (left, right)
    color = VERMILLION if hard else BLUE if order else GREY
    style: dict[str, Any] = {
        "arrowstyle": "-|>" if order else "-",
        "color": color,
        "lw": 1.8,
        "shrinkA": 11,
        "shrinkB": 11,
    }
    if hard:
        style["ls"] = (0, (4, 2))
    ax.annotate("", head, xytext=tail, arrowprops=style)
    if order:
        middle = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
        text = f"{order}: guess" if hard else f"{order}"
        side = "right" if hard else "center"
        ax.annotate(text, middle, textcoords="offset points", xytext=(-4, 7), ha=side, size=12)


def _draw_node(ax: Axes, x: float, y: float, value: int, color: str) -> None:
    ax.plot([x], [y], "o", ms=20, mfc="none", mec=color, mew=1.6)
    ax.annotate(str(value), (x, y), ha="center", va="center", color=INK, size=12)


def plot_learning(table: pd.DataFrame, *, degree: int = 2) -> Figure:
    """Return the share of paths generated exactly against training steps, a curve an arm and the guess as a line.

    ``table`` as `curves` gives it. Bands span the lowest and the highest run; a run that had solved the task and stopped
    keeps its value.
    """
    _check(table, ("arm", "step", "mean", "low", "high"))
    figure, ax = new_figure(height=4.0)
    guess = 1 / check_count(degree, "degree")
    for arm in _arms(table):
        rows, (color, dash, marker) = table[table["arm"] == arm], LOOKS[arm]
        ax.fill_between(rows["step"], rows["low"], rows["high"], color=color, alpha=0.15, lw=0)
        ax.plot(rows["step"], rows["mean"], color=color, ls=dash, marker=marker, ms=5, markevery=2, label=arm)
    _guess(ax, guess)
    ax.set(ylim=(-0.02, 1.04), xlabel="training step", ylabel="share of held-out paths\ngenerated exactly")
    ax.locator_params(axis="x", nbins=5)
    legend_above(ax, ncols=3)
    return figure


def plot_positions(table: pd.DataFrame, *, degree: int = 2) -> Figure:
    """Return accuracy under teacher forcing by position of the answer, a curve an arm; bars span the runs.

    ``table`` as `by_position` gives it.
    """
    _check(table, ("arm", "position", "forced", "forced_low", "forced_high"))
    figure, ax = new_figure(height=3.9)
    arms = _arms(table)
    guess = 1 / check_count(degree, "degree")
    for k, arm in enumerate(arms):
        rows, (color, dash, marker) = table[table["arm"] == arm], LOOKS[arm]
        x = rows["position"] + 0.07 * (k - (len(arms) - 1) / 2)
        reach = np.abs(rows[["forced_low", "forced_high"]].to_numpy().T - rows["forced"].to_numpy())
        ax.errorbar(x, rows["forced"], reach, color=color, ls=dash, lw=1.2, marker=marker, ms=6, label=arm)
    positions = sorted(table["position"].unique())
    ax.set_xticks(positions)
    _guess(ax, guess)
    ax.set(ylim=(0, 1.05), xlabel="position in the answer", ylabel="share right with true\ntokens before it")
    legend_above(ax, ncols=3)
    return figure


def _guess(ax: Axes, guess: float) -> None:
    """Draw the level of a guessed first token, named beside the axes."""
    ax.axhline(guess, color=GREY, lw=1.2)
    place: dict[str, Any] = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "va": "center",
    }
    ax.annotate("1/d", (1, guess), xytext=(4, 0), **place, size=12)


def _check(table: Any, columns: tuple[str, ...]) -> None:
    """Raise unless ``table`` is a DataFrame with the columns, at least one row, and known arms."""
    if not isinstance(table, pd.DataFrame) or not set(columns) <= set(map(str, table.columns)) or table.empty:
        raise BookError(
            f"the table to plot must be a DataFrame with rows and the columns {', '.join(columns)}"
        )
    unknown = sorted(set(map(str, table["arm"])) - set(ARMS))
    if unknown:
        raise BookError(f"the table to plot names unknown arms: {', '.join(unknown)}")


def _arms(table: pd.DataFrame) -> list[Any]:
    """Return the arms of a table in the order of the study."""
    return [arm for arm in ARMS if (table["arm"] == arm).any()]
