"""What a learned model is good for in control: looking rarely, searching deeper, searching more, and longer unrolls.

`play` lets an agent act with a model, and varies three things, one at a time:

- **refresh** m: the agent looks at every m-th step only. In between it goes on from the *unrolled* state,
  ``s ← g(s, a)`` with its own action, and searches from there (the "blindfold" of de Vries et al. 2021, arXiv 2102.12924);
- **depth cap** of the search: how far it may look ahead (Hamrick et al. 2021, arXiv 2011.04021);
- **simulations** of the search; 0 means that the policy head alone acts (its most likely action).

Everything is greedy and without noise, and all settings of one agent start from the same episodes.

**Rules, fixed before measuring**: ``CONTROL_RULE``, ``OPENLOOP_RULE`` and ``SEARCH_RULE``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from one_step_trap.core.stats import (
    Interval,
    percentile_ends,
    percentile_interval,
)
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_kind,
    check_list,
    check_real,
    check_rng,
    check_table,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.divergence import resamples
from one_step_trap.muzero.environments import DRY, GRID, Task, VectorEnv, check_task
from one_step_trap.muzero.evaluation import as_model
from one_step_trap.muzero.networks import MuZeroNet
from one_step_trap.muzero.search import Model, SearchSettings, search

INTERVALS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 100)
SIMULATIONS = (0, 1, 2, 5, 10, 25, 50, 100)
CAPS = (1, 2, 3, 5, 10, 25)
EPISODES = 20
STREAM = 2_000_000
"""The stream of seeds of these episodes: no training, evaluation or prediction error uses it."""

CONTROL_RULE = (
    "On CartPole-v1, K = 1, 2, 5, 10, 20, each with the same seeds. The return of a training is the mean of its evaluations "
    "in the last quarter of its steps. The trend is the slope of the return against log2 K, by least squares for each seed; "
    "its mean over seeds has a 95% bootstrap interval. A longer K plays better if the interval lies above 0, and does not if "
    "it lies below 10 points (of 500) for each doubling. The claim HOLDS if it does so at equal updates and at equal "
    "compute, DOES NOT HOLD if in neither, HOLDS WHEN in one of them if only there, and is OPEN if one is undecided and no "
    "other decides it. (An interval above 0 and below 10 counts as better.) The ledger's number is the trend at equal updates."
)
"""The rule for mu-control, written before any training for the study."""
RELEVANT = 10.0

OPENLOOP_RULE = (
    "On CartPole-v1 at equal updates. The knee of an agent is the refresh interval at which half is lost of what its return "
    "has above that of random actions when it looks at every step (interpolated in the logarithm of the interval); agents "
    "that see every step and reach less than 100 are left out and counted. An agent that never loses half counts with twice "
    "the longest interval. 'Breaks beyond about K steps' is true of a K if the 95% interval of the median over seeds of "
    "log2(knee / K) lies within -1 and 1, and false if it lies outside. The claim HOLDS if true of all K of 1, 2, 5, 10, 20 "
    "that have 5 such agents or more, DOES NOT HOLD if false of all, HOLDS WHEN for the K of which it is true if both occur, "
    "and is OPEN otherwise. The ledger's number is the median knee for K = 5."
)
"""The rule for mu-openloop, written before any training for the study."""
ABLE = 100.0

SEARCH_RULE = (
    "A cell is a task (CartPole-v1, Acrobot-v1, MountainCar-v0, the grid, FrozenLake-v1 with and without slipping) and a "
    "stage (a quarter of the training, or all of it). Returns are put on a scale where 0 is random play and 1 the best "
    "known (BEST). The slope of the score against log2 of the simulations, from 1 to 100, by least squares for each "
    "training seed, has a 95% bootstrap interval of its mean over seeds. Search scales in a cell if the interval lies above"
    " 0.01 for each doubling, and does not if it lies below. Cells whose mean score with 1 simulation is 0.95 or more have "
    "no room and are left out. 'Search scales' HOLDS if it does in all decided cells, DOES NOT HOLD if in none, HOLDS WHEN "
    "in those where it does otherwise, and is OPEN if no cell is decided. Scaling by learning is shown by the learning "
    "curves and is no part of the rule."
)
"""The rule for scale-search, written before any training for the study."""
STEEP, FULL = 0.01, 0.95
BEST: dict[str, float] = {
    "CartPole-v1": 500.0,
    "Acrobot-v1": -80.0,
    GRID: 1.0,
    DRY: 1.0,
    "FrozenLake-v1": 0.74,
    "MountainCar-v0": -110.0,
}
"""Returns that count as 1: CartPole's limit, the grid's optimum, FrozenLake's optimum in 100 steps, and what Gymnasium
calls solved for the other two or a little better. They only set the unit."""


# --- playing --------------------------------------------------------------------------------------------------------


def play(
    model: MuZeroNet | Model,
    task: Task | str,
    settings: SearchSettings | None = None,
    *,
    refresh: int = 1,
    simulations: int | None = None,
    max_depth: int | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
) -> FloatArray:
    """Return the undiscounted returns (episodes,) of an agent that looks at every ``refresh``-th step only.

    ``simulations`` and ``max_depth`` replace those of the ``settings``; 0 simulations let the policy head act alone.
    """
    task, known, m = check_task(task), as_model(model), check_count(refresh, "refresh")
    settings = check_kind(SearchSettings() if settings is None else settings, SearchSettings, "settings")
    count = (
        settings.simulations if simulations is None else check_count(simulations, "simulations", minimum=0)
    )
    if max_depth is not None:
        settings = replace(settings, max_depth=max_depth)
    searched = replace(settings, simulations=count) if count else None
    lanes = VectorEnv(task, check_count(episodes, "episodes"), seed, STREAM)
    returns, running, t = np.zeros(lanes.count), np.arange(lanes.count), 0
    states: NDArray[Any] = np.zeros(0)
    while len(running):
        if t % m == 0:  # look
            states = np.asarray(known.represent(lanes.observations[running]))
        actions = _choose(known, states, searched)
        step = lanes.step(actions, running)
        returns[running] += step.rewards
        going = ~(step.terminated | step.truncated)
        t += 1
        if t % m and going.any():  # do not look at the next step: imagine it
            states = np.asarray(known.dynamics(states[going], actions[going])[1])
        running = running[going]
    lanes.close()
    return returns


def _choose(model: Model, states: NDArray[Any], settings: SearchSettings | None) -> IntArray:
    """Return the most visited actions of a search from states, or the most likely ones of the policy head."""
    if settings is None:
        return np.asarray(np.asarray(model.predict(states)[0]).argmax(axis=1), dtype=np.int64)
    return search(model, states, settings, threads=1).actions


def random_returns(task: Task | str, *, episodes: int = EPISODES, seed: int = 0) -> FloatArray:
    """Return the returns (episodes,) of uniform random actions."""
    task = check_task(task)
    lanes = VectorEnv(task, check_count(episodes, "episodes"), seed, STREAM)
    rng = np.random.default_rng([lanes.seed, STREAM])
    returns, running = np.zeros(lanes.count), np.arange(lanes.count)
    while len(running):
        step = lanes.step(rng.integers(task.actions, size=len(running)), running)
        returns[running] += step.rewards
        running = running[~(step.terminated | step.truncated)]
    lanes.close()
    return returns


def sweep(
    model: MuZeroNet | Model,
    task: Task | str,
    settings: SearchSettings | None = None,
    *,
    refresh: Iterable[int] = (),
    simulations: Iterable[int] = (),
    caps: Iterable[int] = (),
    episodes: int = EPISODES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return mean returns over all given refresh intervals, simulations and depth caps; columns kind, x, value.

    ``kind`` is refresh, simulations or cap. Each is varied alone; the rest is as in ``settings``, looking at every step.
    """
    rows = []
    for kind, name, grid in (
        ("refresh", "refresh", refresh),
        ("simulations", "simulations", simulations),
        ("cap", "max_depth", caps),
    ):
        for x in check_list(grid, name, empty=True):
            varied: dict[str, Any] = {name: x}
            found = play(model, task, settings, episodes=episodes, seed=seed, **varied)
            rows.append((kind, int(x), float(found.mean())))
    return pd.DataFrame(rows, columns=["kind", "x", "value"])


# --- over training seeds ----------------------------------------------------------------------------------------------


def table(
    rows: pd.DataFrame, rng: np.random.Generator, *, by: Sequence[str] = ("unroll_steps",), draws: int = 2_000
) -> pd.DataFrame:
    """Return means over training seeds with 95% percentile intervals: the columns ``by``, x, value, low, high, n.

    ``rows``: one a training and x (columns ``by``, seed, x, value). An x that a seed lacks is left out.
    """
    keys = [str(name) for name in check_list(by, "by")]
    check_table(rows, (*keys, "seed", "x", "value"), "rows")
    if rows.duplicated([*keys, "seed", "x"]).any():
        raise BookError(
            "the rows hold a seed twice at the same x: choose one kind of training, or name it in by"
        )
    out = []
    for key, group in rows.groupby(keys, sort=True):
        wide = group.pivot(index="seed", columns="x", values="value").dropna(axis=1)
        means = resamples(len(wide), rng, check_count(draws, "draws")) @ wide.to_numpy()
        low, high = percentile_ends(means)
        n = len(wide)
        out += [(*key, x, *three, n) for x, *three in zip(wide.columns, means[0], low, high, strict=True)]
    return pd.DataFrame(out, columns=[*keys, "x", "value", "low", "high", "n"])


def mean_interval(values: FloatArray, rng: np.random.Generator, draws: int = 4_000) -> Interval:
    """Return the mean of at least two values with its 95% percentile interval."""
    if len(values) < 2:
        raise BookError(f"an interval needs at least 2 training seeds, got {len(values)}")
    return percentile_interval(resamples(len(values), rng, draws) @ values, len(values))


# --- does a longer K play better? ---------------------------------------------------------------------------------------


def trend(returns: pd.DataFrame, rng: np.random.Generator) -> Interval:
    """Return the slope of the return against log2 K, in points for each doubling: mean over seeds and 95% interval.

    ``returns``: one row a training, columns unroll_steps, seed, value. Seeds that lack a K are left out.
    """
    check_table(returns, ("unroll_steps", "seed", "value"), "returns")
    if returns.duplicated(["unroll_steps", "seed"]).any():
        raise BookError("returns hold a seed twice for the same K: choose one kind of training")
    wide = returns.pivot(index="seed", columns="unroll_steps", values="value").dropna()
    if wide.shape[1] < 2:
        raise BookError("a trend needs returns for at least two K")
    return mean_interval(_slopes(np.log2(wide.columns.to_numpy(dtype=float)), wide.to_numpy()), rng)


def _slopes(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the least-squares slope of each row of y (n, m) against x (m,): exactly 0 where nothing changes."""
    centred = x - x.mean()
    return np.asarray((y - y[:, :1]) @ centred / (centred @ centred))


def control_verdict(updates: Interval, compute: Interval) -> tuple[str, str]:
    """Return the verdict on mu-control and its condition, from the trends at equal updates and at equal compute."""
    better, worse = {}, {}
    for name, one in (("updates", updates), ("compute", compute)):
        check_kind(one, Interval, f"the trend at equal {name}", made_by="trend")
        better[name], worse[name] = one.low > 0, one.low <= 0 and one.high < RELEVANT
    if all(better.values()):
        return "holds", ""
    if all(worse.values()):
        return "does not hold", ""
    for name, other in (("updates", "compute"), ("compute", "updates")):
        if better[name] and worse[other]:
            return "holds when", f"at equal {name}, not at equal {other}"
    return "open", ""


# --- how long may one go without looking? -------------------------------------------------------------------------------


def knee(intervals: ArrayLike, returns: ArrayLike, floor: float, *, share: float = 0.5) -> float:
    """Return the refresh interval at which the ``share`` of what the return has above ``floor`` is lost; infinite if never.

    Interpolated in the logarithm of the interval, between the last interval before and the first one at which the
    return is at or below that level. The returns at the shortest interval must lie above the floor.
    """
    x, y = check_finite(intervals, "intervals"), check_finite(returns, "returns")
    floor, part = check_real(floor, "floor"), check_real(share, "share")
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or x[0] <= 0 or (np.diff(x) <= 0).any():
        raise BookError("intervals must be at least two increasing numbers above 0, with one return each")
    if not 0 < part < 1:
        raise BookError(f"share must lie strictly between 0 and 1, got {part:g}")
    if y[0] <= floor:
        raise BookError(
            f"the return with the shortest interval, {y[0]:g}, is not above the floor {floor:g}: nothing to lose"
        )
    level = y[0] - part * (y[0] - floor)
    below = np.flatnonzero(y <= level)
    if not len(below):
        return math.inf
    i = int(below[0])
    weight = (y[i - 1] - level) / (y[i - 1] - y[i])
    return float(np.exp(np.log(x[i - 1]) + weight * np.log(x[i] / x[i - 1])))


def knees(rows: pd.DataFrame, floor: float, *, able: float = ABLE) -> pd.DataFrame:
    """Return the knee of each agent: columns unroll_steps, seed, knee, never (True: it never loses half), able.

    ``rows``: columns unroll_steps, seed, x (the refresh interval), value (mean return). ``floor``: the return of random play.
    Agents that look at every step and reach less than ``able`` have no knee (NaN).
    """
    check_table(rows, ("unroll_steps", "seed", "x", "value"), "rows")
    floor, needed, out = check_real(floor, "floor"), check_real(able, "able"), []
    for (K, seed), group in rows.sort_values("x").groupby(["unroll_steps", "seed"], sort=True):
        x, y = group["x"].to_numpy(dtype=float), group["value"].to_numpy(dtype=float)
        if y[0] < max(needed, floor + 1e-9):
            out.append((K, seed, math.nan, False, False))
            continue
        found = knee(x, y, floor)
        never = math.isinf(found)
        out.append((K, seed, 2 * x[-1] if never else found, never, True))
    return pd.DataFrame(out, columns=["unroll_steps", "seed", "knee", "never", "able"])


def knee_table(found: pd.DataFrame, rng: np.random.Generator, *, draws: int = 4_000) -> pd.DataFrame:
    """Return by K: unroll_steps, knee (the median over able agents), low, high, n, left_out, never, and about_k.

    ``low`` and ``high``: 95% percentile bootstrap interval of the median. ``about_k``: yes, no or undecided, by
    ``OPENLOOP_RULE``; "too few" with fewer than 5 able agents.
    """
    check_table(found, ("unroll_steps", "seed", "knee", "never", "able"), "found (of knees)")
    out = []
    for K, group in found.groupby("unroll_steps", sort=True):
        able = group[group["able"]]
        ratio = np.log2(able["knee"].to_numpy() / K)
        n, left = len(ratio), len(group) - len(able)
        if n < 5:
            out.append((K, math.nan, math.nan, math.nan, n, left, int(able["never"].sum()), "too few"))
            continue
        medians = np.median(ratio[check_rng(rng).integers(n, size=(draws, n))], axis=1)
        low, high = np.quantile(medians, [0.025, 0.975])
        about = "yes" if low >= -1 and high <= 1 else "no" if high < -1 or low > 1 else "undecided"
        ends = [float(K * 2.0**end) for end in (np.median(ratio), low, high)]
        out.append((K, *ends, n, left, int(able["never"].sum()), about))
    names = ["unroll_steps", "knee", "low", "high", "n", "left_out", "never", "about_k"]
    return pd.DataFrame(out, columns=names)


def median_knee(by_k: pd.DataFrame, unroll_steps: int) -> Interval:
    """Return the median knee of one K with its interval, in steps, from `knee_table`."""
    check_table(by_k, ("unroll_steps", "knee", "low", "high", "n"), "by_k (of knee_table)")
    row = by_k[(by_k["unroll_steps"] == unroll_steps) & by_k["knee"].notna()]
    if len(row) != 1:
        raise BookError(f"the table has no knee for K = {unroll_steps}")
    value, low, high, n = (float(row.iloc[0][name]) for name in ("knee", "low", "high", "n"))
    return Interval(value, low, high, int(n))


def openloop_verdict(by_k: pd.DataFrame) -> tuple[str, str]:
    """Return the verdict on mu-openloop and its condition, from `knee_table`."""
    check_table(by_k, ("unroll_steps", "knee", "about_k"), "by_k (of knee_table)")
    judged = by_k[by_k["about_k"] != "too few"]
    yes, no = judged["about_k"] == "yes", judged["about_k"] == "no"
    if len(judged) and yes.all():
        return "holds", ""
    if len(judged) and no.all():
        return "does not hold", ""
    if yes.any() and no.any():
        rest = ", ".join(f"{row.knee:.3g} at K = {row.unroll_steps}" for row in judged[no].itertuples())
        mine = ", ".join(map(str, judged[yes]["unroll_steps"]))
        return "holds when", f"for K = {mine}; otherwise half is lost at an interval of {rest}"
    return "open", ""


# --- does search scale? -------------------------------------------------------------------------------------------------


def scores(returns: ArrayLike, random: float, best: float) -> FloatArray:
    """Return ``(return - random) / (best - random)``."""
    low, high = check_real(random, "random"), check_real(best, "best")
    if high <= low:
        raise BookError(f"best must lie above random, got {high:g} and {low:g}")
    return (check_finite(returns, "returns") - low) / (high - low)


def search_cells(rows: pd.DataFrame, random: dict[str, float], rng: np.random.Generator) -> pd.DataFrame:
    """Return the cells of ``SEARCH_RULE``: task, stage, prior, one, most (mean scores), slope, low, high, n, scales.

    ``rows``: columns task, stage, seed, x (simulations, 0: the policy head), value (mean return). ``random``: return of random
    play by task. ``prior``, ``one``, ``most``: the score with 0, 1 and the most simulations. ``scales``: yes, no,
    undecided, or full (no room left).
    """
    check_table(rows, ("task", "stage", "seed", "x", "value"), "rows")
    out = []
    for (task, stage), group in rows.groupby(["task", "stage"], sort=False):
        if task not in random or task not in BEST:
            raise BookError(f"the return of random play, or the best one, is not known for {task}")
        wide = group.pivot(index="seed", columns="x", values="value").dropna()
        y = scores(wide.to_numpy(), random[str(task)], BEST[str(task)])
        x = wide.columns.to_numpy(dtype=float)
        if not {0.0, 1.0} <= set(x) or len(x) < 3:
            raise BookError("a cell needs returns with 0, 1 and more simulations")
        slope = mean_interval(_slopes(np.log2(x[x >= 1]), y[:, x >= 1]), rng)
        mean = dict(zip(x, y.mean(axis=0), strict=True))
        scales = "yes" if slope.low > STEEP else "no" if slope.high < STEEP else "undecided"
        scales = "full" if mean[1.0] >= FULL else scales
        out.append((task, stage, mean[0.0], mean[1.0], mean[x.max()], *slope, scales))
    return pd.DataFrame(
        out, columns=["task", "stage", "prior", "one", "most", "slope", "low", "high", "n", "scales"]
    )


def search_number(cells: pd.DataFrame) -> Interval:
    """Return the number of the ledger: the median slope over the cells with room, and the slopes' range over them.

    Its ends are no interval of chance but the smallest and largest slope; n is the number of cells.
    """
    check_table(cells, ("slope", "scales"), "cells (of search_cells)")
    slopes = cells.loc[cells["scales"] != "full", "slope"].to_numpy()
    if not len(slopes):
        raise BookError("no cell has room: the agents are perfect with a single simulation")
    return Interval(float(np.median(slopes)), float(slopes.min()), float(slopes.max()), len(slopes))


def search_verdict(cells: pd.DataFrame) -> tuple[str, str]:
    """Return the verdict on scale-search and its condition, from `search_cells`."""
    check_table(cells, ("task", "stage", "scales"), "cells (of search_cells)")
    yes, no = cells[cells["scales"] == "yes"], cells[cells["scales"] == "no"]
    if not len(yes) and not len(no):
        return "open", ""
    if not len(no):
        return "holds", ""
    if not len(yes):
        return "does not hold", ""
    where, not_there = (", ".join(f"{c.task} ({c.stage})" for c in part.itertuples()) for part in (yes, no))
    return "holds when", f"in {where}; not in {not_there}"
