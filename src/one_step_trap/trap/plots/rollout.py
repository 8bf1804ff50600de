"""Open-loop error against depth, and the steps to one standard deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    GREY,
    INK,
    MARKERS,
    legend_above,
    legend_over,
    new_figure,
)
from one_step_trap.trap import real
from one_step_trap.trap.rollout import Steps

if TYPE_CHECKING:
    from one_step_trap.trap.instrument import TrapReport

LABELS = {
    "network": "network",
    "ensemble": "ensemble",
    "linear": "linear fit",
    "twins once": "twins, once",
    "twins every step": "twins, every step",
}
FLOOR = 1e-4
"""Errors are drawn from here up: below lies rounding, and a zero has no logarithm."""


def _short(env: str) -> str:
    """Return the id of an environment without its version, short enough for a phone."""
    return env.rsplit("-v", 1)[0].replace("MountainCarContinuous", "MountainCar")


def _one_sd(ax: Axes) -> None:
    ax.axhline(1, color=INK, lw=1, ls=(0, (4, 3)))


def _log_error(ax: Axes, top: float = 10.0) -> None:
    """Set a logarithmic axis of errors from 0.0001 to ``top`` sd, with plain numbers on it."""
    ax.set_yscale("log")
    ticks = [0.0001, 0.001, 0.01, 0.1, 1, 10, 100]
    ax.set_yticks(ticks, ["0.0001", "0.001", "0.01", "0.1", "1", "10", "100"])
    ax.minorticks_off()
    ax.set_ylim(FLOOR, top)


def _check_subjects(subjects: Sequence[str]) -> None:
    unknown = [s for s in subjects if s not in LABELS]
    if unknown or not len(subjects):
        raise BookError(f"subjects must be some of {', '.join(LABELS)}, got {list(subjects)}")


def plot_real(
    runs: pd.DataFrame,
    *,
    cases: Sequence[tuple[str, str, str]] | None = None,
    subjects: Sequence[str] = ("network", "twins every step", "twins once"),
) -> Figure:
    """Return error against depth, one small panel a case, with the interval over seeds of the first subject.

    ``runs``: the table of `one_step_trap.trap.real.study`. ``cases``: (environment, trained, evaluated); by default every
    environment on-policy, random actions on the left and the other policy on the right. ``subjects``: rows of the table.
    """
    _check_subjects(subjects)
    if cases is None:
        envs = dict.fromkeys(runs["env"])
        cases = [(env, policy, policy) for env in envs for policy in real.POLICIES[env]]
    rows = math.ceil(len(cases) / 2)
    figure, axes = new_figure(rows, 2, height=1.0 + 1.8 * rows, sharex=True, sharey=True, squeeze=False)
    for ax, (env, trained, evaluated) in zip(axes.flat, cases, strict=False):
        for i, subject in enumerate(subjects):
            curve = real.curve(runs, env, subject, evaluated, trained)
            x = curve["depth"]
            ax.plot(x, curve["error"].clip(lower=FLOOR), color=COLORS[i], ls=DASHES[i], label=LABELS[subject])
            if i == 0:
                ax.fill_between(
                    x, curve["low"].clip(lower=FLOOR), curve["high"], color=COLORS[i], alpha=0.2, lw=0
                )
        _one_sd(ax)
        _log_error(ax)
        ax.set_xticks([0, 50, 100, 150, 200])
        where = evaluated if trained == evaluated else f"{trained} → {evaluated}"
        # Above the panel: inside it would cover a curve.
        ax.annotate(f"{_short(env)}, {where}", (0, 1.03), xycoords="axes fraction", va="bottom", fontsize=10)
    for ax in axes.flat[len(cases) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("depth (steps)")
    for ax in axes[:, 0]:
        ax.set_ylabel("error (sd)")
    legend_over(figure, axes.flat[0])
    return figure


def _dot(ax: Axes, y: float, steps: Steps, color: str, marker: str) -> None:
    """Draw a number of steps with its interval; beyond the limit it is an open marker with an arrow at the limit."""
    low, high, value = (min(x, steps.limit) for x in (steps.low, steps.high, steps.value))
    face = "none" if steps.censored else color
    ax.plot([low, high], [y, y], color=color, lw=1.6, zorder=2)
    ax.plot([value], [y], marker, color=color, mfc=face, ms=7, ls="none", zorder=3)
    if math.isinf(steps.high):
        arrow = {"arrowstyle": "->", "color": color, "lw": 1.4}
        ax.annotate(
            "", (high, y), xytext=(14, 0), textcoords="offset points", arrowprops=arrow | {"arrowstyle": "<-"}
        )


def _steps_axis(ax: Axes, limit: float) -> None:
    ax.set_xscale("log")
    ticks = [t for t in (1, 3, 10, 30, 100, 300, 1_000, 3_000) if t <= limit * 1.01]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()
    ax.set_xlim(0.8, limit * 1.6)
    ax.set_xlabel("steps to one standard deviation")
    ax.grid(axis="y", visible=False)


def plot_steps(runs: pd.DataFrame, *, subjects: Sequence[str] = ("network", "twins every step")) -> Figure:
    """Return the steps to one sd of every environment and pair of policies, with intervals over seeds.

    An open marker with an arrow: not within the depth that it stands at. Rows: trained on → rolled out on.
    """
    _check_subjects(subjects)
    table = real.steps_table(runs, subjects=subjects)
    cases = list(dict.fromkeys(zip(table["env"], table["trained"], table["evaluated"], strict=True)))
    figure, ax = new_figure(height=1.2 + 0.36 * len(cases))
    gap = 0.24
    for row, (env, trained, evaluated) in enumerate(cases):
        for i, subject in enumerate(subjects):
            found = real.steps(runs, env, subject, evaluated, trained)
            y = row + gap * (i - (len(subjects) - 1) / 2)
            _dot(ax, y, found, COLORS[i], MARKERS[i])
        if row and cases[row - 1][0] != env:
            ax.axhline(row - 0.5, color=GREY, lw=0.6)
    for i, subject in enumerate(subjects):
        ax.plot([], [], MARKERS[i], color=COLORS[i], ms=7, label=LABELS[subject])
    labels = [f"{_short(env)}  {trained} → {evaluated}" for env, trained, evaluated in cases]
    ax.set_yticks(range(len(cases)), labels)
    ax.tick_params(axis="y", labelsize=10, length=0)
    ax.set_ylim(len(cases) - 0.4, -0.6)
    _steps_axis(ax, 200)
    legend_above(ax, ncols=2)
    return figure


def plot_one_step(runs: pd.DataFrame, *, subject: str = "network") -> Figure:
    """Return the steps to one sd against the one-step error, one marker a seed and case: the one does not tell the other.

    On-policy cases; open markers did not reach one sd within the depth that they stand at.
    """
    figure, ax = new_figure(height=3.8)
    for i, env in enumerate(dict.fromkeys(runs["env"])):
        for policy in real.POLICIES[env]:
            rows = real.select(runs, env, subject, policy, policy)
            inside = np.isfinite(rows["steps"])
            for chosen, face in ((inside, COLORS[i]), (~inside, "none")):
                ax.plot(
                    rows["one_step"][chosen],
                    np.minimum(rows["steps"], rows["limit"])[chosen],
                    MARKERS[i],
                    color=COLORS[i],
                    mfc=face,
                    ms=6,
                    alpha=0.9,
                )
        ax.plot([], [], MARKERS[i], color=COLORS[i], label=_short(env))
    ax.set(xscale="log", yscale="log", xlabel="error of one step (sd)", ylabel="steps to one sd")
    ax.set_yticks([10, 20, 50, 100, 200], ["10", "20", "50", "100", "200"])
    ax.set_xticks([0.001, 0.01, 0.1, 1], ["0.001", "0.01", "0.1", "1"])
    ax.minorticks_off()
    legend_above(ax, ncols=3)
    return figure


def _depths(depth: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(1, depth + 1)


# --- one run of the instrument ----------------------------------------------------------------------------


def plot_run(report: TrapReport) -> Figure:
    """Return the curves of one run of the instrument: its models, the twins, and the guess of the mean."""
    figure, ax = new_figure(height=3.9)
    named = [(f"through {m.unroll_steps}", m.curve) for m in report.models]
    for i, (name, curve) in enumerate(named):
        ax.plot(_depths(len(curve)), curve, color=COLORS[i % 6], ls=DASHES[(i + i // 6) % 6], label=name)
    for dash, guess in zip((":", (0, (1, 3))), report.twins, strict=False):
        ax.plot(_depths(len(guess.curve)), guess.curve, color=INK, ls=dash, label=f"twins, {guess.name}")
    mean = report.baselines[0]
    ax.plot(_depths(len(mean.curve)), mean.curve, color=GREY, lw=1.2, label="guess: the mean")
    _one_sd(ax)
    _log_error(ax)
    ax.set(xlabel="depth (steps)", ylabel="typical error (sd)", xlim=(0, report.depth * 1.02))
    legend_above(ax, ncols=2)
    return figure


def plot_run_steps(report: TrapReport) -> Figure:
    """Return the steps to one sd of one run of the instrument, with intervals."""
    entries = [(f"trained through {m.unroll_steps}", m.steps) for m in report.models]
    entries += [(f"twins, {g.name}", g.steps) for g in report.twins]
    entries += [(f"guess: {g.name}", g.steps) for g in report.baselines if g.name != "mean"]
    figure, ax = new_figure(height=1.0 + 0.36 * len(entries))
    for row, (_, steps) in enumerate(entries):
        _dot(ax, row, steps, COLORS[0], MARKERS[0])
    ax.set_yticks(range(len(entries)), [name for name, _ in entries])
    ax.tick_params(axis="y", labelsize=11, length=0)
    ax.set_ylim(len(entries) - 0.4, -0.6)
    _steps_axis(ax, max(steps.limit for _, steps in entries))
    return figure
