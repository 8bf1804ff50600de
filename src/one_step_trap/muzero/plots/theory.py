"""Figures of what MuZero's loss asks for: value equivalence, clocks, chance, other policies, published results."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_list, check_table
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    BLUE,
    COLORS,
    DASHES,
    GREEN,
    GREY,
    MARKERS,
    VERMILLION,
    legend_above,
    new_figure,
)


def plot_dimensions(functions: pd.DataFrame, unrolled: pd.DataFrame) -> Figure:
    """Return the share of models that are still value equivalent, in two panels, one above the other.

    ``functions``: `equivalence.dimension_table`, one line a number of policies. ``unrolled``: `dimension_curve` of one
    world or more, one line a name. Both in shares of the dimensions of all transition models.
    """
    check_table(functions, ("policies", "functions", "share"), "functions")
    check_table(unrolled, ("name", "unroll_steps", "share"), "unrolled")
    figure, (top, bottom) = new_figure(2, 1, height=6.4)
    for i, (m, rows) in enumerate(_few(functions, "policies")):
        _line(top, rows["functions"], 100 * rows["share"], i, f"{m} {'policy' if m == 1 else 'policies'}")
    top.set_xlabel("functions whose Bellman updates must be right")
    for i, (name, rows) in enumerate(_few(unrolled, "name")):
        _line(bottom, rows["unroll_steps"], 100 * rows["share"], i, str(name))
    bottom.set_xlabel("steps K unrolled in training\n(one function: the value)")
    for ax in (top, bottom):
        ax.set_ylabel("freedom left\n(% of dimensions)")
        ax.set_ylim(-4, 104)
        ax.xaxis.get_major_locator().set_params(integer=True)
        legend_above(ax, ncols=3)
    return figure


def plot_clock(curves: pd.DataFrame) -> Figure:
    """Return the largest error of a value against depth, one line a K (`equivalence.clock_curves`); each K is marked."""
    check_table(curves, ("unroll_steps", "depth", "error"), "curves")
    figure, ax = new_figure(height=3.2)
    for i, (K, rows) in enumerate(_few(curves, "unroll_steps")):
        shift = 0.012 * i * curves["error"].max()  # lines that coincide stay visible
        _line(ax, rows["depth"], rows["error"] + shift, i, f"K = {K}", size=3.5)
        ax.axvline(K, color=COLORS[i], ls=DASHES[i], lw=0.8)
    ax.set(xlabel="depth of the prediction (steps)", ylabel="largest error of\na predicted value")
    ax.xaxis.get_major_locator().set_params(integer=True)
    legend_above(ax, ncols=4)
    return figure


def plot_evidence(curves: dict[str, pd.DataFrame], safe: dict[str, float]) -> Figure:
    """Return what the model believes of a gamble against how much its data look, one panel a world (one or two).

    ``curves``: `stochastic.evidence_curve` by name of the world. ``safe``: what the safe action pays there.
    """
    names = check_list(list(curves), "curves")
    if len(names) > 2 or set(names) != set(safe):
        raise BookError("one or two worlds fit into the figure, each with what its safe action pays")
    figure, axes = new_figure(len(names), 1, height=3.0 * len(names) + 0.4, sharex=True)
    panels = list(np.atleast_1d(axes))
    styles = (
        ("believed", "best plan in the learned model", VERMILLION, "-"),
        ("closed_loop", "acting with open eyes", BLUE, DASHES[1]),
        ("open_loop", "best fixed sequence", GREEN, DASHES[2]),
    )
    for ax, name in zip(panels, names, strict=True):
        table = check_table(
            curves[name], ("share", "believed", "closed_loop", "open_loop"), f"curves of {name}"
        )
        for column, label, color, dash in styles:
            ax.plot(100 * table["share"], table[column], color=color, ls=dash, label=label)
        ax.axhline(safe[name], color=GREY, lw=1.0)
        ax.annotate("safe", (1, safe[name]), textcoords="offset points", xytext=(2, 3), fontsize=11)
        ax.set_ylabel(f"{name}: value\nof the gamble")
        ax.set_ylim(-0.05, 1.08)
    panels[-1].set_xlabel("steps in the data that take the best action (%)")
    legend_above(panels[0], ncols=1)
    return figure


def plot_failures(table: pd.DataFrame) -> Figure:
    """Return the share of the optimal value that is lost against the planning depth (`stochastic.failures`).

    One line for each world and data on which anything is lost, and one for the planner that looks, at its worst.
    """
    check_table(table, ("world", "data", "depth", "lost"), "table")
    figure, ax = new_figure(height=3.8)
    blind = table[table["data"] != "looks"]
    lines = [
        (key, rows) for key, rows in blind.groupby(["world", "data"], sort=False) if rows["lost"].max() > 1e-6
    ]
    if len(lines) > len(COLORS) - 1:
        raise BookError(f"at most {len(COLORS) - 1} lines fit into the figure, got {len(lines)}")
    for i, ((world, data), rows) in enumerate(lines):
        _line(ax, rows["depth"], 100 * rows["lost"], i, f"{world}, {data} data")
    looks = table[table["data"] == "looks"].groupby("depth")["lost"].max()
    ax.plot(looks.index, 100 * looks, color=GREY, lw=2.4, label="all, planner looks")
    ax.axhline(5, color=GREY, lw=0.8, ls=DASHES[2])
    ax.set(xlabel="depth of the plan D = K (steps)", ylim=(-4, 106))
    ax.set_ylabel("value of the start that\nis lost (% of the best)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    legend_above(ax, ncols=2)
    return figure


def plot_search(beliefs: pd.DataFrame, searched: pd.DataFrame, safe: float) -> Figure:
    """Return what MuZero's own search believes in a misleading model, and what it loses, one panel above the other.

    ``beliefs``: `stochastic.search_beliefs`; filled markers where it gambles (action 1). ``safe``: what action 0 pays.
    ``searched``: `stochastic.search_failures`.
    """
    check_table(beliefs, ("prior", "simulations", "action", "q", "plan"), "beliefs")
    check_table(searched, ("world", "depth", "lost"), "searched")
    figure, (top, bottom) = new_figure(2, 1, height=6.4)
    for i, (prior, rows) in enumerate(_few(beliefs, "prior")):
        top.plot(rows["simulations"], rows["q"], color=COLORS[i], ls=DASHES[i], label=f"{prior} prior")
        for gambles, fill in ((True, COLORS[i]), (False, "none")):
            part = rows[(rows["action"] == 1) == gambles]
            top.plot(
                part["simulations"], part["q"], color=COLORS[i], ls="", marker=MARKERS[i], mfc=fill, ms=6
            )
    top.axhline(beliefs["plan"].iloc[0], color=GREY, lw=1.0, ls=DASHES[1], label="best plan")
    top.axhline(safe, color=GREY, lw=1.0, label="safe")
    top.set(xscale="log", xlabel="simulations", ylabel="believed value of\nthe action taken")
    top.xaxis.set_major_formatter("{x:g}")
    top.grid(which="minor", visible=False)
    legend_above(top, ncols=2)
    for i, (world, rows) in enumerate(_few(searched, "world")):
        _line(bottom, rows["depth"], 100 * rows["lost"], i, str(world))
    bottom.set(xlabel="depth cap of the search (steps)", ylim=(-4, 106))
    bottom.set_ylabel("value of the start that\nis lost (% of the best)")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    legend_above(bottom)
    return figure


def plot_distance(summary: pd.DataFrame) -> Figure:
    """Return the error of a policy's value against its distance from the behaviour policy (`policies.summarise_distance`).

    Bands: 95% intervals over worlds.
    """
    check_table(summary, ("kind", "distance", "error", "low", "high"), "summary")
    names = {"value": "right about V", "action values": "right about Q", "counted": "counted from data"}
    figure, ax = new_figure(height=3.6)
    for i, (kind, rows) in enumerate(_few(summary, "kind")):
        ax.fill_between(rows["distance"], rows["low"], rows["high"], color=COLORS[i], alpha=0.2, lw=0)
        _line(ax, rows["distance"], rows["error"], i, names.get(str(kind), str(kind)))
    ax.set_xlabel("distance from the behaviour policy (TV)")
    ax.set_ylabel("error of the policy's value\n(reward units)")
    ax.set_ylim(bottom=0)
    legend_above(ax, ncols=2)
    return figure


def plot_priors(table: pd.DataFrame, skills: pd.DataFrame) -> Figure:
    """Return how much search loses with each prior, and for whom the policy prior helps, one panel above the other.

    ``table``: `policies.prior_study`. ``skills``: `policies.skill_study`; bars are 95% intervals over worlds.
    """
    check_table(table, ("model", "prior", "simulations", "regret"), "table")
    check_table(skills, ("skill", "model", "advantage", "low", "high"), "skills")
    figure, (top, bottom) = new_figure(2, 1, height=6.6)
    means = table.groupby(["model", "prior", "simulations"], sort=False)["regret"].mean().reset_index()
    for i, ((model, prior), rows) in enumerate(means.groupby(["model", "prior"], sort=False)):
        _line(top, rows["simulations"], rows["regret"], i, f"{model} model, {prior} prior")
    top.set(xscale="log", xlabel="simulations", ylabel="value lost against\nthe best policy")
    top.xaxis.set_major_formatter("{x:g}")
    top.grid(which="minor", visible=False)
    legend_above(top, ncols=1)
    for i, (model, rows) in enumerate(_few(skills, "model")):
        bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["advantage"].to_numpy())
        style = {"color": (BLUE, VERMILLION)[i % 2], "ls": DASHES[i], "marker": MARKERS[i]}
        bottom.errorbar(
            100 * rows["skill"] + 0.8 * i,
            rows["advantage"],
            yerr=bars,
            capsize=3,
            ms=5,
            label=f"{model} model",
            **style,
        )
    bottom.axhline(0, color=GREY, lw=1.0)
    bottom.set_xlabel("states in which the policy prefers the best action (%)")
    bottom.set_ylabel("value gained by its use\nas the prior")
    legend_above(bottom, ncols=2)
    return figure


def _few(table: pd.DataFrame, column: str) -> list[tuple[object, pd.DataFrame]]:
    """Return the groups of a column, as many as a figure can tell apart."""
    groups = list(table.groupby(column, sort=False))
    if len(groups) > len(COLORS):
        raise BookError(f"at most {len(COLORS)} lines fit into a figure, got {len(groups)}")
    return groups


def _line(ax: Axes, x: pd.Series, y: pd.Series, i: int, label: str, *, size: float = 5) -> None:
    """Draw the i-th line of a panel in its colour, dash and marker."""
    ax.plot(x, y, color=COLORS[i], ls=DASHES[i], marker=MARKERS[i], ms=size, label=label)
