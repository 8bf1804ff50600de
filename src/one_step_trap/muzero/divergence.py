"""How far a learned model can be unrolled: its error in reward, value and policy, against the depth of the prediction.

A MuZero model says nothing about observations, so that it can only be held to what it does say. From a real observation
o_t, and along the actions a_t, a_{t+1}, … that were really taken, unroll ``s⁰ = h(o_t)``, ``(r̂ᵏ, sᵏ) = g(sᵏ⁻¹, a_{t+k-1})``
for k = 1 … 50, and compare

- **reward**: ``abs(r̂ᵏ - r_{t+k})``, with the reward that really came;
- **value**: ``abs(v(sᵏ) - v(h(o_{t+k})))``, with what the same model says when it looks at what really came;
- **value against returns**: ``abs(v(sᵏ) - G_{t+k})``, with the discounted return that the agent really had from there
  (only along its own actions; at depth 0 this is the error of the value head itself, before any unrolling);
- **policy**: the total variation ``Σ_a abs(p(a; sᵏ) - p(a; h(o_{t+k}))) / 2``.

**Steps after the end** of an episode count: their reward is 0 and their value is 0, as the model was trained on absorbing
states; actions there are drawn uniformly. There is no policy after the end, so that its error is over episodes that still
run. Steps behind a time limit are unknown and count nowhere.

Actions are the agent's own (greedy, "agent") or uniform ("random"); both start at observations that the agent came to.
The distance of latent states ``‖sᵏ - h(o_{t+k})‖`` is measured too, but it is no error: nothing in MuZero's loss ties the
two together, and it is large at depth 1 in a model whose predictions are right. EfficientZero's consistency loss ties them.

**The rule, fixed before measuring**: ``RULE`` (`growths`, `verdict`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from one_step_trap.core.stats import (
    Interval,
    percentile_ends,
    percentile_interval,
)
from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    IntArray,
    check_choice,
    check_count,
    check_kind,
    check_list,
    check_rng,
    check_table,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.environments import Task, VectorEnv, check_task
from one_step_trap.muzero.evaluation import as_model
from one_step_trap.muzero.networks import MuZeroNet
from one_step_trap.muzero.policies import log_ratio, offpolicy_verdict
from one_step_trap.muzero.search import Model, SearchSettings, search

DEPTH = 50
STARTS = 64
WARM_UP = 100
STREAM = 1_000_000
"""The stream of seeds of these episodes: no training or evaluation has one so high."""

Behaviour = Literal["agent", "random"]
BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)
QUANTITIES = ("reward", "value", "policy")
MEASURES = (*QUANTITIES, "value_return", "return_sum", "guess", "latent", "alive")

RULE = (
    "On CartPole-v1 and at equal updates, a cell is one K of 1, 2, 5, 10, one of reward, value and policy, and one kind of "
    "actions (the agent's own, or uniform). It DRIFTS if the 95% interval over training seeds of the mean of "
    "ln(error at depth 4K / error at depth K) lies above ln 1.5, and does not if it lies below; errors under 0.01 in reward, "
    "1 in value and 0.01 in policy count as these, so that a ratio of two negligible errors is 1. The claim HOLDS if all "
    "decided cells drift, DOES NOT HOLD if none does, HOLDS WHEN in the cells that drift if both kinds occur, and is OPEN if "
    "fewer than half of the cells are decided. The number of the ledger is the ratio for K = 5, value, own actions."
)
"""The rule for mu-diverge, written before any training for the study."""
NEEDED = math.log(1.5)
NEGLIGIBLE = {"reward": 0.01, "value": 1.0, "policy": 0.01, "return_sum": 0.01}
RULE_UNROLLS = (1, 2, 5, 10)
FACTOR = 4
FEWEST_SEEDS = 5

OFFPOLICY = (
    "For networks, the rule of policies.RULE is applied with uniform actions as the furthest policy and the agent's greedy "
    "ones as its own, to the error of predicted sums of discounted rewards, for K = 5 at equal updates on CartPole-v1, at "
    "depth 5 = K, where every prediction is within what training unrolled. Depth 20 is printed beside it."
)
"""How mu-offpolicy's rule is applied here, written before any training for the study."""
OFFPOLICY_UNROLL = OFFPOLICY_DEPTH = 5


# --- what really happened -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Episodes:
    """What really happened to B starts in H steps under one behaviour; every start is in an episode of its own.

    ``observations`` (B, H + 1, O), zeros after the end; ``actions`` (B, H), uniform after the end; ``rewards`` (B, H), 0
    after the end; ``alive`` (B, H + 1), whether the episode still runs at that depth; ``known`` (B, H + 1), whether what
    happens at that depth is known: False behind a time limit. ``returns`` (B, H + 1): the agent's discounted return
    from each depth on, 0 after the end; None unless the agent itself acted. ``discount`` γ of these returns.
    """

    behaviour: Behaviour
    discount: float
    observations: NDArray[np.float32]
    actions: IntArray
    rewards: FloatArray
    alive: BoolArray
    known: BoolArray
    returns: FloatArray | None = None

    @property
    def depth(self) -> int:
        """The depth H."""
        return int(self.actions.shape[1])

    @property
    def starts(self) -> int:
        """The number of starts B."""
        return len(self.actions)


def record(
    model: MuZeroNet | Model,
    task: Task | str,
    settings: SearchSettings | None = None,
    *,
    behaviour: Behaviour = "agent",
    depth: int = DEPTH,
    starts: int = STARTS,
    warm_up: int = WARM_UP,
    seed: int = 0,
    return_steps: int = 500,
) -> Episodes:
    """Return what really happens from observations that the agent comes to, under its own or under uniform actions.

    The agent (the most visited action of a search without noise) plays ``starts`` environments, each for a random number
    of steps below ``warm_up``, beginning anew whenever an episode ends; that is where the starts are. Then ``depth`` steps
    of the ``behaviour`` follow. Under its own actions the agent goes on, for at most ``return_steps`` steps, so that the
    returns are known; where an episode still runs then, or was cut off, the search's value stands for the rest. Both
    behaviours have the same starts for the same ``seed``.
    """
    task, known = check_task(task), as_model(model)
    settings = check_kind(SearchSettings() if settings is None else settings, SearchSettings, "settings")
    check_choice(behaviour, BEHAVIOURS, "behaviour")
    depth, starts = check_count(depth, "depth"), check_count(starts, "starts")
    warm_up, tail = check_count(warm_up, "warm_up"), check_count(return_steps, "return_steps", minimum=0)
    lanes = VectorEnv(task, starts, seed, STREAM)
    rng = np.random.default_rng([lanes.seed, STREAM])
    try:
        _warm_up(lanes, known, settings, rng.integers(warm_up, size=starts))
        steps = depth + (tail if behaviour == "agent" else 0)
        return _follow(lanes, known, settings, behaviour, depth, steps, rng)
    finally:
        lanes.close()


def _greedy(
    model: Model, observations: NDArray[Any], settings: SearchSettings
) -> tuple[IntArray, FloatArray]:
    """Return the agent's actions and the search's values of observations."""
    found = search(model, model.represent(observations), settings, threads=1)
    return found.actions, found.root_values


def _warm_up(lanes: VectorEnv, model: Model, settings: SearchSettings, steps: IntArray) -> None:
    """Let the agent play each lane for so many steps, beginning anew where an episode ends."""
    for t in range(int(steps.max())):
        playing = np.flatnonzero(steps > t)
        step = lanes.step(_greedy(model, lanes.observations[playing], settings)[0], playing)
        for lane in playing[step.terminated | step.truncated]:
            lanes.reset(int(lane))


def _follow(
    lanes: VectorEnv,
    model: Model,
    settings: SearchSettings,
    behaviour: Behaviour,
    depth: int,
    steps: int,
    rng: np.random.Generator,
) -> Episodes:
    """Return ``depth`` steps from where the lanes stand; further ones only serve the returns."""
    B, A = lanes.count, lanes.task.actions
    actions = rng.integers(A, size=(B, depth))
    observations = np.zeros((B, depth + 1, lanes.task.observation_size), dtype=np.float32)
    rewards, values = np.zeros((B, steps)), np.zeros(B)  # values: of the search, where the known steps stop
    alive, known = np.zeros((B, depth + 1), dtype=bool), np.ones((B, depth + 1), dtype=bool)
    lengths = np.full(B, steps)
    running = np.arange(B)
    for t in range(steps + 1):
        if t <= depth:
            observations[running, t], alive[running, t] = lanes.observations[running], True
        if t == steps or not len(running):
            break
        if behaviour == "agent":
            chosen = _greedy(model, lanes.observations[running], settings)[0]
            if t < depth:
                actions[running, t] = chosen
        else:
            chosen = actions[running, t]
        step = lanes.step(chosen, running)
        rewards[running, t] = step.rewards
        lengths[running[step.terminated | step.truncated]] = t + 1
        cut = running[step.truncated]
        if len(cut):
            values[cut] = _greedy(model, lanes.observations[cut], settings)[1]
            if t < depth:  # the last observation is still of a running episode; nothing is known behind it
                observations[cut, t + 1], alive[cut, t + 1], known[cut, t + 2 :] = (
                    lanes.observations[cut],
                    True,
                    False,
                )
        running = running[~(step.terminated | step.truncated)]
    if behaviour == "agent" and len(running):
        values[running] = _greedy(model, lanes.observations[running], settings)[1]
    gamma = settings.gamma
    returns = _returns(rewards, values, lengths, gamma)[:, : depth + 1] if behaviour == "agent" else None
    return Episodes(behaviour, gamma, observations, actions, rewards[:, :depth], alive, known, returns)


def _returns(rewards: FloatArray, values: FloatArray, lengths: IntArray, gamma: float) -> FloatArray:
    """Return ``G_t = r_t + γ G_{t+1}`` (B, T + 1) with G = ``values`` after the ``lengths`` known steps, 0 behind them."""
    B, T = rewards.shape
    G = np.zeros((B, T + 1))
    G[np.arange(B), lengths] = values
    for t in range(T - 1, -1, -1):
        G[:, t] = np.where(t < lengths, rewards[:, t] + gamma * G[:, t + 1], G[:, t])
    return G


# --- what the model says --------------------------------------------------------------------------------------------


class Unrolled(NamedTuple):
    """A model's predictions along actions (B, H): states (B, H + 1, L), rewards (B, H), values and policies at each depth."""

    states: FloatArray
    rewards: FloatArray
    values: FloatArray
    """(B, H + 1)"""
    policies: FloatArray
    """(B, H + 1, A)"""


def unroll(model: MuZeroNet | Model, observations: ArrayLike, actions: ArrayLike) -> Unrolled:
    """Return what a model predicts from observations (B, O) along actions (B, H), never looking again."""
    known, taken = as_model(model, finite=False), np.asarray(actions)
    if taken.ndim != 2 or not taken.size or taken.dtype.kind not in "iu":
        raise BookError(
            f"actions must be whole numbers of shape (starts, depth), got {taken.dtype} of shape {taken.shape}"
        )
    if np.ndim(observations) < 1 or len(np.asarray(observations)) != len(taken):
        raise BookError(f"there must be one observation for each of the {len(taken)} rows of actions")
    states, rewards = [np.asarray(known.represent(observations))], []
    for k in range(taken.shape[1]):
        reward, following = known.dynamics(states[-1], taken[:, k])
        rewards.append(np.asarray(reward))
        states.append(np.asarray(following))
    predicted = [_predict(known, s) for s in states]
    return Unrolled(
        np.stack(states, axis=1),
        np.stack(rewards, axis=1).astype(np.float64),
        np.stack([v for _, v in predicted], axis=1),
        np.stack([p for p, _ in predicted], axis=1),
    )


def _predict(model: Model, states: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return policies (B, A) and values (B,) in double precision."""
    logits, values = model.predict(states)
    weights = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True), np.asarray(values, dtype=np.float64)


def errors(model: MuZeroNet | Model, episodes: Episodes) -> dict[str, FloatArray]:
    """Return the errors of a model by start and depth 0 … H, each (B, H + 1), NaN where there is none (see the top).

    ``reward``, ``value``, ``value_return``, ``policy``; ``return_sum``, of the discounted rewards of the first k steps,
    ``abs(Σ_{i ≤ k} γⁱ⁻¹ (r̂ⁱ - r_{t+i}))``; ``guess``, of the reward, if the depth is all that is known: the median
    of the real ones there stands for all; ``latent``, the Euclidean distance to the encoded observation; ``alive``, 1 or 0.
    """
    known, e = as_model(model, finite=False), check_kind(episodes, Episodes, "episodes", made_by="record")
    B, H = e.actions.shape
    said = unroll(known, e.observations[:, 0], e.actions)
    flat = np.asarray(known.represent(e.observations.reshape(B * (H + 1), -1)))
    policies, values = _predict(known, flat)
    value = np.where(e.alive, values.reshape(B, H + 1), 0.0)  # worth 0 after the end
    seen, running = np.where(e.known, 1.0, np.nan), np.where(e.alive, 1.0, np.nan)
    rewarded = seen.copy()
    rewarded[:, 0] = np.nan  # no reward comes before the first step
    truth = np.zeros((B, H + 1))
    truth[:, 1:] = e.rewards
    off = np.zeros((B, H + 1))
    off[:, 1:] = said.rewards - e.rewards
    sums = np.zeros((B, H + 1))
    sums[:, 1:] = np.cumsum(off[:, 1:] * e.discount ** np.arange(H), axis=1)
    middle = np.array(
        [np.median(truth[e.known[:, k], k]) if e.known[:, k].any() else 0.0 for k in range(H + 1)]
    )
    away = said.states - flat.reshape(B, H + 1, -1)
    return {
        "reward": np.abs(off) * rewarded,
        "value": np.abs(said.values - value) * seen,
        "value_return": np.full((B, H + 1), np.nan)
        if e.returns is None
        else np.abs(said.values - e.returns) * seen,
        "policy": np.abs(said.policies - policies.reshape(B, H + 1, -1)).sum(-1) / 2 * running,
        "return_sum": np.abs(sums) * rewarded,
        "guess": np.abs(truth - middle) * rewarded,
        "latent": np.sqrt((away.astype(np.float64) ** 2).sum(-1)) * running,
        "alive": np.where(e.known, e.alive.astype(float), np.nan),
    }


FEWEST_STARTS = 5
"""A mean over fewer starts than these (most episodes have ended, or were cut off) is left out."""


def error_table(
    model: MuZeroNet | Model, episodes: Episodes, depths: Iterable[int] | None = None
) -> pd.DataFrame:
    """Return mean errors over starts: columns behaviour, depth, measure, value; one row for each of ``MEASURES`` and depth.

    Means over fewer than 5 starts are left out. ``depths``: which to return, by default all.
    """
    found, e = errors(model, episodes), episodes
    chosen = range(e.depth + 1) if depths is None else [check_count(d, "a depth", minimum=0) for d in depths]
    rows = []
    for name in MEASURES:
        for k in chosen:
            if k > e.depth:
                raise BookError(f"depths must be at most {e.depth}, the depth of these episodes, got {k}")
            column = found[name][:, k]
            column = column[~np.isnan(column)]
            if len(column) >= min(FEWEST_STARTS, e.starts):
                rows.append((e.behaviour, int(k), name, float(column.mean())))
    return pd.DataFrame(rows, columns=["behaviour", "depth", "measure", "value"])


def divergence(
    model: MuZeroNet | Model,
    task: Task | str,
    settings: SearchSettings | None = None,
    *,
    behaviours: Sequence[Behaviour] = BEHAVIOURS,
    depths: Iterable[int] | None = None,
    depth: int = DEPTH,
    starts: int = STARTS,
    warm_up: int = WARM_UP,
    seed: int = 0,
) -> pd.DataFrame:
    """Return `error_table` of fresh episodes (`record`), for each behaviour."""
    wanted = (
        None
        if depths is None
        else [check_count(d, "a depth", minimum=0) for d in check_list(depths, "depths")]
    )
    tables = []
    for behaviour in check_list(behaviours, "behaviours"):
        episodes = record(
            model, task, settings, behaviour=behaviour, depth=depth, starts=starts, warm_up=warm_up, seed=seed
        )
        tables.append(error_table(model, episodes, wanted))
    return pd.concat(tables, ignore_index=True)


# --- over training seeds --------------------------------------------------------------------------------------------

KEYS = ("unroll_steps", "seed", "behaviour", "depth", "measure", "value")


def resamples(n: int, rng: np.random.Generator, count: int) -> FloatArray:
    """Return weights (1 + count, n) of means over n seeds: first all alike, then as the bootstrap draws them."""
    picks = check_rng(rng).multinomial(n, np.full(n, 1 / n), size=count)
    return np.vstack([np.ones(n), picks]) / n


def curves(rows: pd.DataFrame, measure: str, rng: np.random.Generator, *, draws: int = 2_000) -> pd.DataFrame:
    """Return means over training seeds with 95% percentile intervals: unroll_steps, behaviour, depth, value, low, high, n.

    ``rows``: one a training, behaviour, depth and measure (`error_table`, with the columns unroll_steps and seed). Depths at
    which a seed has no value are left out.
    """
    check_table(rows, KEYS, "rows")
    part = rows[rows["measure"] == check_choice(measure, MEASURES, "measure")]
    if part.empty:
        raise BookError(f"the rows hold no errors of the kind {measure}")
    out = []
    for (K, behaviour), group in part.groupby(["unroll_steps", "behaviour"], sort=True):
        wide = group.pivot(index="seed", columns="depth", values="value").dropna(axis=1)
        means = resamples(len(wide), rng, check_count(draws, "draws")) @ wide.to_numpy()
        low, high = percentile_ends(means)
        n = len(wide)
        out += [
            (K, behaviour, d, *three, n) for d, *three in zip(wide.columns, means[0], low, high, strict=True)
        ]
    return pd.DataFrame(out, columns=["unroll_steps", "behaviour", "depth", "value", "low", "high", "n"])


def at_depth(rows: pd.DataFrame, unroll_steps: int, behaviour: str, measure: str, depth: int) -> pd.Series:
    """Return the errors of all seeds at one depth, negligible ones raised to ``NEGLIGIBLE``, by seed."""
    check_table(rows, KEYS, "rows")
    picked = rows[
        (rows["unroll_steps"] == unroll_steps)
        & (rows["behaviour"] == behaviour)
        & (rows["measure"] == measure)
        & (rows["depth"] == depth)
    ]
    found = picked.set_index("seed")["value"].dropna()
    if found.index.has_duplicates:
        raise BookError(
            f"the rows hold seed {found.index[found.index.duplicated()][0]} twice: choose one kind of training"
        )
    return found.clip(lower=NEGLIGIBLE.get(measure, 0.0))


def growth(
    rows: pd.DataFrame,
    rng: np.random.Generator,
    *,
    unroll_steps: int,
    behaviour: str,
    measure: str,
    factor: int = FACTOR,
    draws: int = 4_000,
) -> Interval:
    """Return the geometric mean over seeds of error at depth ``factor`` K / error at depth K, with its 95% interval.

    An error if fewer than 5 seeds have both.
    """
    K, far = check_count(unroll_steps, "unroll_steps"), check_count(factor, "factor")
    pair = [at_depth(rows, K, behaviour, measure, depth) for depth in (K, far * K)]
    both = pd.concat(pair, axis=1, join="inner").to_numpy()
    if len(both) < FEWEST_SEEDS:
        raise BookError(
            f"a growth needs {FEWEST_SEEDS} seeds with errors at depths {K} and {far * K}, {len(both)} have both"
        )
    logs = np.log(both[:, 1] / both[:, 0])
    means = percentile_interval(resamples(len(logs), rng, draws) @ logs, len(logs))
    value, low, high = np.exp(means[:3])
    return Interval(float(value), float(low), float(high), len(logs))


def growths(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the cells of ``RULE``: unroll_steps, behaviour, measure, ``at_k``, ``at_2k``, ``at_4k`` (mean errors), ratio, low,
    high, n, and ``drifts`` (yes, no, undecided).

    A cell with fewer than 5 seeds is undecided, its ratio NaN.
    """
    out = []
    for K in RULE_UNROLLS:
        for behaviour in BEHAVIOURS:
            for measure in QUANTITIES:
                means = [at_depth(rows, K, behaviour, measure, m * K).mean() for m in (1, 2, FACTOR)]
                try:
                    ratio = growth(rows, rng, unroll_steps=K, behaviour=behaviour, measure=measure)
                except BookError:
                    ratio = Interval(math.nan, math.nan, math.nan, 0)
                drifts = (
                    "yes"
                    if ratio.low > math.exp(NEEDED)
                    else "no"
                    if ratio.high < math.exp(NEEDED)
                    else "undecided"
                )
                out.append((K, behaviour, measure, *means, *ratio, drifts))
    names = [
        "unroll_steps",
        "behaviour",
        "measure",
        "at_k",
        "at_2k",
        "at_4k",
        "ratio",
        "low",
        "high",
        "n",
        "drifts",
    ]
    return pd.DataFrame(out, columns=names)


def verdict(cells: pd.DataFrame) -> tuple[str, str]:
    """Return the verdict on mu-diverge and its condition, by ``RULE``, from the table of `growths`."""
    check_table(cells, ("unroll_steps", "behaviour", "measure", "drifts"), "cells (of growths)")
    yes, no = cells["drifts"] == "yes", cells["drifts"] == "no"
    if 2 * int((yes | no).sum()) < len(cells):
        return "open", ""
    if not no.any():
        return "holds", ""
    if not yes.any():
        return "does not hold", ""
    parts = []
    for (behaviour, measure), group in cells[yes].groupby(["behaviour", "measure"], sort=False):
        actions = "its own" if behaviour == "agent" else "uniform"
        parts.append(f"{measure} under {actions} actions (K = {', '.join(map(str, group['unroll_steps']))})")
    return (
        "holds when",
        f"for {'; '.join(parts)}: {int(yes.sum())} of {len(cells)} cells drift, {int(no.sum())} do not",
    )


def learned_offpolicy(
    rows: pd.DataFrame,
    rng: np.random.Generator,
    *,
    unroll_steps: int = OFFPOLICY_UNROLL,
    depth: int = OFFPOLICY_DEPTH,
) -> Interval:
    """Return the mean over trainings of ln(error under uniform actions / error under own ones), see ``OFFPOLICY``."""
    own, far = (at_depth(rows, unroll_steps, b, "return_sum", depth) for b in BEHAVIOURS)
    both = pd.concat([own, far], axis=1, join="inner").to_numpy()
    if len(both) < 2:
        raise BookError(
            f"an interval needs at least 2 seeds with K = {unroll_steps} at depth {depth}, got {len(both)}"
        )
    return log_ratio(both[:, 1], both[:, 0], rng)


def offpolicy(tables: Interval, networks: Interval) -> str:
    """Return the verdict on mu-offpolicy: `policies.offpolicy_verdict` of counted tables and of networks."""
    return offpolicy_verdict(tables, networks)
