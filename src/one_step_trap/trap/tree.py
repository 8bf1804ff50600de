"""The tree of futures: what it costs to predict n steps ahead from a one-step model, and to plan n steps ahead.

A one-step model of S states gives each state s its b successors s' with probabilities ``p(s'|s)``. Wanted is the expectation
of f(S_n) from a start, with f in [0, 1]. Three ways, with cost counted in *nodes*: how often the model is asked for a
next state.

- **Enumeration** imagines every path: ``b + b² + ... + bⁿ`` nodes.
- **Merged states** (dynamic programming) carry one probability for each state: at most ``n S b`` nodes.
- **Sampling** (Monte Carlo) follows N random paths: ``n N`` nodes. By Hoeffding's inequality the error exceeds τ with
  probability at most ``2 exp(-2Nτ²)``, whatever n, b and S are.

Sutton's essay says that the cost is exponential in the length of the prediction. That is so for enumeration, for merged
states where no two paths meet, and for *control*: a plan has to find the best of Aⁿ action sequences, and sampling a
fixed number of them does not (`lock_by_sampling`). It is not so for predicting what a given policy leads to.

**The rule, fixed before looking** (`cost_verdict`): the cost of a method is exponential if, over the longer half of the
horizons, each step multiplies the nodes by ``EXPONENTIAL`` = 1.5 or more in the geometric mean. It is not if the
multiplier is below 1.5 and the exponent of a power law over the same horizons is at most 2. For sampling the
root-mean-square error at the longest horizon must also be no larger than ``1/(2√N)``, the most that independent samples of f
allow. The claim holds if all three methods are exponential, holds conditionally if enumeration is and another is not, and
does not hold if enumeration is not. Nodes are counted, so that the verdict depends on no clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import bootstrap_interval, proportion_interval
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_positive,
    check_probability,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.trap.chains import check_steps

Way = Literal["enumeration", "merged states", "Monte Carlo"]

EXPONENTIAL = 1.5
BLOCK = 2**16  # nodes that are held at once: the tree is walked block by block, never stored
MAX_NODES = 20_000_000
MAX_SECONDS = 5.0
MAX_PLAN_NODES = 5_000_000  # look-ahead trees are kept in memory, for the way back


# --- prediction -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BranchingModel:
    """A one-step model in which every state has b successors.

    ``successors`` (S, b) states, ``probabilities`` (S, b) with rows that sum to 1, ``f`` (S,) in [0, 1]: what is to be
    predicted.
    """

    successors: IntArray
    probabilities: FloatArray
    f: FloatArray

    def __post_init__(self) -> None:
        successors, p, f = _check_table(self.successors, self.probabilities, self.f, "f", axes=2)
        if f.shape != successors.shape[:1]:
            raise BookError(f"f must give each of {len(successors)} states a number, got shape {f.shape}")
        for name, value in (("successors", successors), ("probabilities", p), ("f", f)):
            object.__setattr__(self, name, value)

    @property
    def branches(self) -> int:
        """Branching factor b: successors of a state."""
        return int(self.successors.shape[1])


class Future(NamedTuple):
    """A prediction of f(S_n) and how many next states were asked of the model for it."""

    value: float
    nodes: int


def random_model(rng: np.random.Generator, *, states: int = 50, branches: int = 3) -> BranchingModel:
    """Return a random model: distinct successors, Dirichlet probabilities, f uniform in [0, 1]."""
    states, branches = check_count(states, "states"), check_count(branches, "branches")
    if branches > states:
        raise BookError(
            f"branches must not exceed states: {branches} successors among {states} cannot differ"
        )
    order = check_rng(rng).random((states, states)).argsort(axis=1)[:, :branches]
    return BranchingModel(order, rng.dirichlet(np.ones(branches), states), rng.random(states))


def tree_nodes(branches: int, horizon: int) -> int:
    """Return ``b + b² + ... + bⁿ``, the nodes of the whole tree without its root, exactly."""
    b, n = check_count(branches, "branches"), check_count(horizon, "horizon")
    return n if b == 1 else (b ** (n + 1) - b) // (b - 1)


def enumerate_futures(
    model: BranchingModel, start: int, horizon: int, *, max_nodes: int = MAX_NODES
) -> Future:
    """Return E[f(S_n)] by imagining every path and weighting it by its probability, ``BLOCK`` nodes at a time.

    Refuses, before it starts, a tree of more than ``max_nodes`` nodes.
    """
    start, horizon = _check_question(model, start, horizon)
    _within(tree_nodes(model.branches, horizon), max_nodes)
    total, nodes = 0.0, 0
    stack = [(np.array([start]), np.ones(1), horizon)]  # states, probabilities of their paths, steps left
    while stack:
        s, p, left = stack.pop()
        if left == 0:
            total += float(p @ model.f[s])
            continue
        s, p = model.successors[s].ravel(), (p[:, None] * model.probabilities[s]).ravel()
        nodes += len(s)
        stack += [(s[i : i + BLOCK], p[i : i + BLOCK], left - 1) for i in range(0, len(s), BLOCK)]
    return Future(total, nodes)


def merge_futures(model: BranchingModel, start: int, horizon: int) -> Future:
    """Return E[f(S_n)] by carrying one probability for each state: ``p'(s') = Σₛ p(s) p(s'|s)``."""
    start, horizon = _check_question(model, start, horizon)
    *_, (p, nodes) = _merged(model, start, horizon)
    return Future(float(p @ model.f), nodes)


def _merged(model: BranchingModel, start: int, horizon: int) -> Iterator[tuple[FloatArray, int]]:
    """Yield the distribution over states (S,) and the nodes so far, after each step."""
    S, nodes = len(model.f), 0
    p = np.eye(1, S, start)[0]
    for _ in range(horizon):
        s = np.flatnonzero(p)  # only states that can be reached are asked about
        flow = p[s, None] * model.probabilities[s]  # (reached, b)
        p = np.bincount(model.successors[s].ravel(), flow.ravel(), S).astype(np.float64, copy=False)
        nodes += flow.size
        yield p, nodes


def sample_futures(
    model: BranchingModel, start: int, horizon: int, rng: np.random.Generator, *, rollouts: int = 10_000
) -> Future:
    """Return the mean of f(S_n) over ``rollouts`` independent random paths, an estimate of E[f(S_n)]."""
    start, horizon = _check_question(model, start, horizon)
    count = check_count(rollouts, "rollouts")
    *_, s = _walks(model, np.full(count, start), horizon, check_rng(rng))
    return Future(float(model.f[s].mean()), count * horizon)


def _walks(model: BranchingModel, s: IntArray, horizon: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield the states of all walkers after each step; ``s`` of any shape holds where they start."""
    cumulative = model.probabilities.cumsum(axis=1)[:, :-1]  # (S, b - 1)
    for _ in range(horizon):
        u = rng.random(s.shape)
        choice = np.zeros(s.shape, dtype=np.int64)
        for column in cumulative.T:  # a loop over the few branches is faster than one more axis
            choice += u >= column[s]
        s = model.successors[s, choice]
        yield s


def cost_curve(
    model: BranchingModel,
    rng: np.random.Generator,
    *,
    start: int = 0,
    horizons: ArrayLike = (*range(1, 21), 30, 50, 100, 200, 300, 500, 1_000),
    rollouts: int = 10_000,
    max_nodes: int = MAX_NODES,
    max_seconds: float = MAX_SECONDS,
) -> pd.DataFrame:
    """Return nodes, seconds and error of the three ways against the horizon, each until its budget is spent.

    Columns: ``method``, ``branches``, ``horizon``, ``nodes``, ``seconds``, ``error`` (absolute, against merged states).
    A method stops for good before a horizon that would take more than ``max_nodes`` nodes, or when its last horizon
    took so long that the next one is expected to exceed ``max_seconds``. (Seconds differ from run to run; nodes
    do not.)
    """
    grid = check_steps(horizons)
    start, _ = _check_question(model, start, int(grid[-1]))
    budget, limit = check_count(max_nodes, "max_nodes"), check_positive(max_seconds, "max_seconds")
    check_count(rollouts, "rollouts")
    check_rng(rng)
    rows = []
    for method in get_args(Way):
        before, seconds = 0, 0.0
        for n in grid:
            nodes = _planned_nodes(method, model, int(n), rollouts)
            if nodes > budget or (before and seconds * nodes / before > limit):
                break
            begin = time.perf_counter()
            found = _ask(method, model, start, int(n), rng, rollouts, budget)
            seconds, before = time.perf_counter() - begin, nodes
            truth = merge_futures(model, start, int(n)).value
            rows.append((method, model.branches, int(n), found.nodes, seconds, abs(found.value - truth)))
    return pd.DataFrame(rows, columns=["method", "branches", "horizon", "nodes", "seconds", "error"])


def _planned_nodes(method: Way, model: BranchingModel, horizon: int, rollouts: int) -> int:
    """Return the most nodes that a method can take: known before it starts."""
    tree = tree_nodes(model.branches, horizon)
    return {
        "enumeration": tree,
        "merged states": min(tree, horizon * model.successors.size),
        "Monte Carlo": horizon * rollouts,
    }[method]


def _ask(
    method: Way,
    model: BranchingModel,
    start: int,
    horizon: int,
    rng: np.random.Generator,
    rollouts: int,
    max_nodes: int,
) -> Future:
    if method == "enumeration":
        return enumerate_futures(model, start, horizon, max_nodes=max_nodes)
    if method == "merged states":
        return merge_futures(model, start, horizon)
    return sample_futures(model, start, horizon, rng, rollouts=rollouts)


def sampling_error(
    model: BranchingModel,
    rng: np.random.Generator,
    *,
    start: int = 0,
    horizons: ArrayLike = (1, 3, 10, 30, 100, 300, 1_000),
    rollouts: ArrayLike = (1_000,),
    repeats: int = 50,
) -> pd.DataFrame:
    """Return the root-mean-square error of sampling against the horizon and the number of rollouts.

    Columns: ``horizon``, ``rollouts``, ``rms`` with ``low`` and ``high`` (bootstrap over ``repeats`` independent estimates),
    ``repeats`` and ``limit`` = ``1/(2√N)``: a number in [0, 1] has a standard deviation of at most ½. The walks of one
    estimate are followed to the longest horizon, so that the horizons share them; the numbers of rollouts do not.
    """
    grid, sizes = check_steps(horizons), check_steps(rollouts)
    repeats = check_count(repeats, "repeats", minimum=2)
    start, longest = _check_question(model, start, int(grid[-1]))
    truth = [float(p @ model.f) for p, _ in _merged(model, start, longest)]
    rows = []
    for count in sizes:
        walkers = np.full((repeats, int(count)), start)
        for n, s in enumerate(_walks(model, walkers, longest, check_rng(rng)), start=1):
            if n in grid:
                squares = (model.f[s].mean(axis=1) - truth[n - 1]) ** 2  # (repeats,)
                mean = bootstrap_interval(squares, rng)
                rms = np.sqrt([mean.value, mean.low, mean.high])
                rows.append((n, int(count), *rms, repeats, 0.5 / math.sqrt(count)))
    return pd.DataFrame(rows, columns=["horizon", "rollouts", "rms", "low", "high", "repeats", "limit"])


class Cost(NamedTuple):
    """How the nodes of a method grow: ``factor`` a step, ``exponent`` of a power law, and what the rule makes of it."""

    method: str
    branches: int
    factor: float
    exponent: float
    law: Literal["exponential", "polynomial", "open"]


def cost_growth(costs: pd.DataFrame) -> tuple[Cost, ...]:
    """Return the growth of the nodes of each method and branching factor over the longer half of its horizons.

    ``factor``: geometric mean of what one more step multiplies the nodes by. ``exponent``: slope of ln nodes against ln n.
    The law follows the rule of this module. At least 3 horizons a method.
    """
    _check_columns(costs, {"method", "branches", "horizon", "nodes"})
    result = []
    for (method, branches), rows in costs.groupby(["method", "branches"], sort=False):
        ordered = rows.sort_values("horizon")
        n, nodes = ordered["horizon"].to_numpy(float), ordered["nodes"].to_numpy(float)
        if len(n) < 3:
            raise BookError(
                f"{method} with b = {branches} was run for {len(n)} horizons; it takes at least 3"
            )
        half = n >= n[-1] / 2
        if half.sum() < 2:
            half[-2:] = True
        n, nodes = n[half], nodes[half]
        factor = float((nodes[-1] / nodes[0]) ** (1 / (n[-1] - n[0])))
        exponent = float(np.log(nodes[-1] / nodes[0]) / np.log(n[-1] / n[0]))
        law: Literal["exponential", "polynomial", "open"] = "open"
        if factor >= EXPONENTIAL:
            law = "exponential"
        elif exponent <= 2:
            law = "polynomial"
        result.append(Cost(str(method), int(branches), factor, exponent, law))
    return tuple(result)


def cost_verdict(
    growths: Sequence[Cost], errors: pd.DataFrame
) -> Literal["all", "enumeration only", "not enumeration", "open"]:
    """Apply the rule of this module to `cost_growth` and `sampling_error` (of any number of models)."""
    _check_columns(errors, {"horizon", "rms", "limit"})
    laws = {method: {one.law for one in growths if one.method == method} for method in get_args(Way)}
    if not all(laws.values()) or errors.empty:
        raise BookError("the rule needs the growth of all three methods and errors of sampling")
    far = errors[errors["horizon"] == errors["horizon"].max()]
    if (far["rms"] > far["limit"]).any():
        laws["Monte Carlo"] = {"open"}  # cheap, but not an answer
    if laws["enumeration"] != {"exponential"}:
        return "not enumeration" if laws["enumeration"] == {"polynomial"} else "open"
    others = [laws["merged states"], laws["Monte Carlo"]]
    if all(law == {"exponential"} for law in others):
        return "all"
    return "enumeration only" if any(law == {"polynomial"} for law in others) else "open"


# --- control: a lock --------------------------------------------------------------------------------------


def lock_success(horizon: ArrayLike, actions: int, rollouts: int) -> FloatArray:
    """Return ``1 - (1 - A⁻ⁿ)^N``, the chance that one of N random sequences of n actions is the key; ``horizon`` n (...).

    No other way of trying N sequences does better than ``N/Aⁿ`` against a uniformly random key: each try tests one.
    """
    n = check_steps(horizon).astype(np.float64)
    A, N = check_count(actions, "actions"), check_count(rollouts, "rollouts")
    if A == 1:
        return np.ones(len(n))
    return np.asarray(-np.expm1(N * np.log1p(-(float(A) ** -n))))


def lock_by_sampling(
    rng: np.random.Generator,
    *,
    horizons: ArrayLike = tuple(range(1, 21)),
    actions: int = 2,
    rollouts: int = 1_000,
    repeats: int = 200,
) -> pd.DataFrame:
    """Return how often one of ``rollouts`` random action sequences opens a lock with a random key, against its length.

    Columns: ``horizon``, ``actions``, ``rollouts``, ``success`` with ``low`` and ``high`` (exact, over ``repeats`` independent
    locks), ``repeats``, ``theory`` (`lock_success`), ``nodes`` (n N) and ``merged_nodes`` (what planning over merged states
    takes, which always succeeds).
    """
    grid = check_steps(horizons)
    A, N = check_count(actions, "actions"), check_count(rollouts, "rollouts")
    repeats = check_count(repeats, "repeats")
    rows = []
    for n in map(int, grid):
        opened = 0
        for _ in range(repeats):
            key = check_rng(rng).integers(A, size=n)
            left = N
            for digit in key:  # of the sequences that are right so far, those whose next action is right
                left = int((rng.integers(A, size=left) == digit).sum())
            opened += left > 0
        share = proportion_interval(opened, repeats)
        theory = float(lock_success([n], A, N)[0])
        rows.append((n, A, N, share.value, share.low, share.high, repeats, theory, n * N, 2 * A * n))
    return pd.DataFrame(
        rows,
        columns=[
            *("horizon", "actions", "rollouts", "success", "low", "high"),
            *("repeats", "theory", "nodes", "merged_nodes"),
        ],
    )


# --- control: look-ahead trees ----------------------------------------------------------------------------


@dataclass(frozen=True)
class DecisionModel:
    """A one-step model with actions: ``successors``, ``probabilities`` (S, A, b) and ``rewards`` (S, A) in [0, 1]."""

    successors: IntArray
    probabilities: FloatArray
    rewards: FloatArray

    def __post_init__(self) -> None:
        successors, p, r = _check_table(self.successors, self.probabilities, self.rewards, "rewards", axes=3)
        if r.shape != successors.shape[:2]:
            raise BookError(f"rewards must have shape {successors.shape[:2]}, got {r.shape}")
        for name, value in (("successors", successors), ("probabilities", p), ("rewards", r)):
            object.__setattr__(self, name, value)


class Plan(NamedTuple):
    """The value of every first action, (A,), and how many next states were asked for."""

    Q: FloatArray
    nodes: int


def random_decisions(
    rng: np.random.Generator, *, states: int = 50, actions: int = 2, branches: int = 3
) -> DecisionModel:
    """Return random dynamics and rewards: successors drawn uniformly, Dirichlet probabilities, rewards uniform in [0, 1]."""
    S, A = check_count(states, "states"), check_count(actions, "actions")
    b = check_count(branches, "branches")
    successors = check_rng(rng).integers(S, size=(S, A, b))
    return DecisionModel(successors, rng.dirichlet(np.ones(b), (S, A)), rng.random((S, A)))


def plan_merged(model: DecisionModel, start: int, horizon: int, gamma: float = 1.0) -> Plan:
    """Return ``Q_n(start, a)`` by value iteration over states, ``V_k(s) = maxₐ r(s,a) + γ Σ p V_{k-1}(s')``; S A b n nodes."""
    start, horizon, gamma = _check_planning(model, start, horizon, gamma)
    V = np.zeros(len(model.rewards))
    for _ in range(horizon):
        Q = model.rewards + gamma * (model.probabilities * V[model.successors]).sum(axis=-1)  # (S, A)
        V = Q.max(axis=-1)
    return Plan(Q[start], horizon * model.successors.size)


def plan_enumerated(
    model: DecisionModel, start: int, horizon: int, gamma: float = 1.0, *, max_nodes: int = MAX_PLAN_NODES
) -> Plan:
    """Return ``Q_n(start, a)`` by the full look-ahead tree, every action and successor: ``Σ_{k ≤ n} (A b)ᵏ`` nodes."""
    start, horizon, gamma = _check_planning(model, start, horizon, gamma)
    _, A, b = model.successors.shape
    _within(tree_nodes(A * b, horizon), max_nodes)
    return _look_ahead(model, start, horizon, gamma, lambda s: (model.successors[s], model.probabilities[s]))


def plan_sparsely(
    model: DecisionModel,
    start: int,
    horizon: int,
    rng: np.random.Generator,
    *,
    width: int,
    gamma: float = 1.0,
    max_nodes: int = MAX_PLAN_NODES,
) -> Plan:
    """Return an estimate of ``Q_n(start, a)`` from a tree with ``width`` C sampled successors: ``Σ_{k ≤ n} (A C)ᵏ`` nodes.

    Sparse sampling (Kearns, Mansour & Ng 2002, Machine Learning 49, 193-208): the nodes do not depend on the number of states
    nor on b, and remain exponential in the horizon. The last level pays its reward and is not looked beyond, as
    in `plan_merged`.
    """
    start, horizon, gamma = _check_planning(model, start, horizon, gamma)
    C, rng = check_count(width, "width"), check_rng(rng)
    _within(tree_nodes(model.successors.shape[1] * C, horizon), max_nodes)
    cumulative = model.probabilities.cumsum(axis=-1)[..., None, :-1]  # (S, A, 1, b - 1)

    def sample(s: IntArray) -> tuple[IntArray, FloatArray]:
        u = rng.random((len(s), model.successors.shape[1], C, 1))
        choice = (u >= cumulative[s]).sum(axis=-1)  # (nodes, A, C)
        drawn = np.take_along_axis(model.successors[s], choice, axis=-1)
        return drawn, np.full(choice.shape, 1 / C)

    return _look_ahead(model, start, horizon, gamma, sample)


def _look_ahead(model: DecisionModel, start: int, horizon: int, gamma: float, imagine: Any) -> Plan:
    """Grow the tree level by level, then back up its values."""
    levels, nodes = [np.array([start])], 0
    weights = []
    for _ in range(horizon):
        s, p = imagine(levels[-1])  # (nodes, A, successors)
        nodes += s.size
        levels.append(s.ravel())
        weights.append(p)
    V = np.zeros(len(levels[-1]))
    for s, p in zip(reversed(levels[:-1]), reversed(weights), strict=True):
        Q = model.rewards[s] + gamma * (p * V.reshape(p.shape)).sum(axis=-1)  # (nodes, A)
        V = Q.max(axis=-1)
    return Plan(Q[0], nodes)


def planning_costs(
    rng: np.random.Generator,
    *,
    states: int = 50,
    actions: int = 2,
    branches: int = 3,
    width: int = 4,
    gamma: float = 0.9,
    longest: int = 8,
    max_nodes: int = 1_000_000,
) -> pd.DataFrame:
    """Return nodes and error of planning from state 0 of one random model, each way until ``max_nodes`` a plan.

    Columns: ``method`` ("merged states", "look-ahead tree", "sparse sampling"), ``horizon``, ``nodes`` and ``error``, the
    largest difference in Q from merged states.
    """
    model = random_decisions(rng, states=states, actions=actions, branches=branches)
    width, budget = check_count(width, "width"), check_count(max_nodes, "max_nodes")
    rows = []
    for n in range(1, check_count(longest, "longest") + 1):
        exact = plan_merged(model, 0, n, gamma)
        plans = {"merged states": exact}
        if tree_nodes(actions * branches, n) <= budget:
            plans["look-ahead tree"] = plan_enumerated(model, 0, n, gamma, max_nodes=budget)
        if tree_nodes(actions * width, n) <= budget:
            plans["sparse sampling"] = plan_sparsely(
                model, 0, n, rng, width=width, gamma=gamma, max_nodes=budget
            )
        rows += [
            (method, n, plan.nodes, float(np.abs(plan.Q - exact.Q).max())) for method, plan in plans.items()
        ]
    return pd.DataFrame(rows, columns=["method", "horizon", "nodes", "error"])


# --- checks -----------------------------------------------------------------------------------------------


def _check_table(
    successors: Any, probabilities: Any, numbers: Any, name: str, *, axes: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    table, p = check_finite(successors, "successors"), check_finite(probabilities, "probabilities")
    if table.ndim != axes or 0 in table.shape or p.shape != table.shape:
        raise BookError(
            f"successors and probabilities must have the same {axes} axes, got {table.shape} and {p.shape}"
        )
    if (table != np.floor(table)).any() or (table < 0).any() or (table >= len(table)).any():
        raise BookError(f"successors must be states from 0 to {len(table) - 1}")
    if (p < 0).any() or np.abs(p.sum(axis=-1) - 1).max() > 1e-8:
        raise BookError("probabilities must be at least 0 and sum to 1 over the successors")
    values = check_finite(numbers, name)
    if (values < 0).any() or (values > 1).any():
        raise BookError(f"{name} must lie in [0, 1]")
    return table.astype(np.int64), p / p.sum(axis=-1, keepdims=True), values


def _check_start(start: Any, states: int) -> int:
    state = check_count(start, "start", minimum=0)
    if state >= states:
        raise BookError(f"start must be a state below {states}, got {state}")
    return state


def _check_question(model: Any, start: Any, horizon: Any) -> tuple[int, int]:
    if not isinstance(model, BranchingModel):
        raise BookError(f"model must be a BranchingModel, got {type(model).__name__}")
    return _check_start(start, len(model.f)), check_count(horizon, "horizon")


def _check_planning(model: Any, start: Any, horizon: Any, gamma: Any) -> tuple[int, int, float]:
    if not isinstance(model, DecisionModel):
        raise BookError(f"model must be a DecisionModel, got {type(model).__name__}")
    return (
        _check_start(start, len(model.rewards)),
        check_count(horizon, "horizon"),
        check_probability(gamma, "gamma"),
    )


def _check_columns(table: Any, needed: set[str]) -> None:
    missing = needed - set(getattr(table, "columns", ()))
    if missing:
        raise BookError(f"the table lacks the columns {', '.join(sorted(missing))}")


def _within(nodes: int, max_nodes: int) -> None:
    if nodes > check_count(max_nodes, "max_nodes"):
        raise BookError(
            f"the tree has {_words(nodes)} nodes, over the budget of {max_nodes:,}; look less far"
        )


def _words(nodes: int) -> str:
    return f"{nodes:,}" if nodes < 10**12 else f"about 10^{math.floor(math.log10(nodes))}"
