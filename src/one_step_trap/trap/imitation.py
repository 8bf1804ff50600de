"""Imitation: what a cloned policy's errors cost, against the length of the task.

A policy that acts as the expert would, except with probability ε per step *on the expert's own states*, costs
at most T² ε more than the expert in T steps with costs in [0, 1] (Ross & Bagnell 2010, theorem 2.1). A model
that is iterated and a policy that is followed have the same trouble: after an error they stand where they have
no data. This module asks when the square is real.

1. **Exactly** (``road_cost``): a road on which an error costs 1 a step until one is back. If one never gets
   back the cost grows as T²ε/2 until it saturates, if one is back at once it is Tε, and the chance ``recover``
   to get back is the dial between: the square lasts for about 1/(ε + recover) steps.
2. **Learned, on a road** (``imitate_road``): a table that knows the states it has labels for and guesses
   elsewhere. Behaviour cloning labels the expert's states. DAgger (Ross, Gordon & Bagnell 2011) labels the
   states that the learner itself reaches, with the same number of labels.
3. **Learned, in Gymnasium's CartPole-v1** (``imitate_cartpole``): small networks and a linear expert that
   never falls. A pole that has fallen stays down: cost 1 for each step lost.

**The rule, fixed before looking** (``verdict``). x is the slope of ln(mean cost) over ln T between T = 10 and
T = 100 for tables cloned from 3,000 labels, with a 95% interval bootstrapped over 200 learners. "A policy
cloned from an expert errs quadratically in the length of the task" *holds when the clone cannot get back* if
the interval of x lies above 1.5 (half way between linear and quadratic) on the road with a ditch and below it
on the road without one. It *holds* if it lies above 1.5 on both, *does not hold* if it lies below 1.5 on the
road with a ditch, and is *open* otherwise. The slope in CartPole is printed beside it and is no part of the
rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from one_step_trap.core.stats import (
    Interval,
    bootstrap_interval,
    percentile_interval,
)
from one_step_trap.core.threads import one_thread
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_positive,
    check_probability,
    check_real,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.study import Study
from one_step_trap.trap.bounds import imitation_bound

# --- exactly ----------------------------------------------------------------------------------------------


def recoverable_cost(eps: float, T: int, *, recover: float = 1.0) -> float:
    """Return the expected cost of T steps when one gets back on the road with probability ``recover`` a step.

    Who is back may err at once, with probability ε. Step t costs 1 with probability p_t = ε + λ p_{t-1},
    λ = (1-ε)(1-recover), so that

        J(T) = ε/(1-λ) · ( T - λ(1-λᵀ)/(1-λ) ).

    ``recover`` = 1 gives Tε. ``recover`` = 0 gives T - (1-ε)(1-(1-ε)ᵀ)/ε: 4.89 at ε = .001 and T = 100, about
    half of the bound T²ε = 10.
    """
    eps, recover = check_probability(eps, "eps"), check_probability(recover, "recover")
    T = check_count(T, "T", minimum=0)
    away = eps + recover - eps * recover  # 1 - λ, without cancellation
    if away == 0:
        return 0.0
    if away * T < 1e-4:  # the series avoids a difference of nearly equal numbers
        return eps * (T * (T + 1) / 2 - away * (T + 1) * T * (T - 1) / 6)
    # 1 - λᵀ; log1p and expm1 keep it exact for small ε
    left = 1.0 if away == 1 else -math.expm1(T * math.log1p(-away))
    return eps / away * (T - (1 - away) * left / away)


def road_cost(errors: ArrayLike, *, recover: float = 0.0) -> FloatArray:
    """Return the expected cost J(1) … J(T) when the error probability differs from step to step.

    ``errors`` (T,): ε_t in [0, 1], the chance to err at step t on the road. p_t = ε_t + (1-ε_t)(1-recover)
    p_{t-1} and J(t) = J(t-1) + p_t. With all errors at the first step, ε_1 = Tε, a road without return costs
    exactly T · Tε = T²ε: the bound with the mean error ε is attained.
    """
    eps, recover = check_finite(errors, "errors"), check_probability(recover, "recover")
    if eps.ndim != 1 or not len(eps) or eps.min() < 0 or eps.max() > 1:
        raise BookError("errors must be a vector of probabilities in [0, 1], one a step")
    p, costs = 0.0, np.empty(len(eps))
    for t, e in enumerate(eps):
        p = e + (1 - e) * (1 - recover) * p
        costs[t] = p
    return np.cumsum(costs)


@dataclass(frozen=True)
class CostCurves:
    """Exact expected costs over T steps: ``costs`` (recovers, T) for each chance to ``recover``, and the bound
    min(T, T²ε) (T,).
    """

    eps: float
    horizons: IntArray
    recovers: tuple[float, ...]
    costs: FloatArray
    bound: FloatArray


def cost_curves(
    eps: float, *, longest: int = 10_000, recovers: Sequence[float] = (0.0, 0.1, 1.0), points: int = 60
) -> CostCurves:
    """Return :func:`recoverable_cost` on a logarithmic grid of horizons 1 … ``longest``."""
    longest = check_count(longest, "longest", minimum=2)
    grid = np.unique(
        np.geomspace(1, longest, check_count(points, "points", minimum=2)).round().astype(np.int64)
    )
    chances = tuple(check_finite(recovers, "recovers").ravel().tolist())
    costs = np.array([[recoverable_cost(eps, int(T), recover=r) for T in grid] for r in chances])
    bound = np.array([min(float(T), imitation_bound(eps, int(T))) for T in grid])
    return CostCurves(eps, grid, chances, costs, bound)


def horizon_exponent(
    horizons: ArrayLike, costs: ArrayLike, rng: np.random.Generator, *, resamples: int = 2_000
) -> Interval:
    """Return the least-squares slope of ln(mean cost) over ln T, with a 95% interval over learners.

    ``horizons`` (H,) increasing, at least two; ``costs`` (learners, H), the cost of each learner's policy over
    T steps, at least 0. 1 is linear, 2 quadratic. Percentile bootstrap; resamples without any cost at the
    shortest horizon have no slope and are an error.
    """
    T, J = check_finite(horizons, "horizons"), check_finite(costs, "costs")
    if T.ndim != 1 or len(T) < 2 or (np.diff(T) <= 0).any() or T[0] <= 0:
        raise BookError("horizons must be at least two increasing numbers above 0")
    if J.ndim != 2 or J.shape[1] != len(T) or len(J) < 2 or J.min() < 0:
        raise BookError(f"costs must have shape (learners, {len(T)}), at least 2 learners, none below 0")
    resamples = check_count(resamples, "resamples")
    pick = check_rng(rng).integers(len(J), size=(resamples, len(J)))
    means = np.vstack([J.mean(0), J[pick].mean(1)])  # (1 + resamples, H): the first row is the estimate
    if (means <= 0).any():
        raise BookError("the mean cost is 0 at some horizon: use longer horizons or more learners")
    x = np.log(T) - np.log(T).mean()
    slopes = np.log(means) @ x / (x @ x)
    return percentile_interval(slopes, len(J))


# --- learned, on a road -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Road:
    """A road whose bends come at random, and a ditch beside it.

    On the road each step shows one of ``contexts`` bends, bend i with probability in proportion to
    1/(i+1)^``tail``. One of ``actions`` keeps to the road, a different one for each bend; any other costs 1
    and leads to the bottom of a ditch ``depth`` levels deep. There one right action a level leads up (the
    last one back on the road), any other back to the bottom, and each step that ends in the ditch costs 1.
    ``depth`` 0: one is back on the road at once. ``exits`` False: no action leads up, for nobody.

    The expert knows every right action and never leaves the road, so that no demonstration shows the ditch.
    From its bottom it is back after ``depth`` steps: that is the u of DAgger's bound u T ε.
    """

    contexts: int = 200
    tail: float = 1.0
    actions: int = 4
    depth: int = 3
    exits: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "contexts", check_count(self.contexts, "contexts"))
        object.__setattr__(self, "actions", check_count(self.actions, "actions", minimum=2))
        object.__setattr__(self, "depth", check_count(self.depth, "depth", minimum=0))
        if check_real(self.tail, "tail") < 0:
            raise BookError(f"tail must be at least 0, got {self.tail:g}")
        if not self.exits and self.depth == 0:
            raise BookError("a road without exits needs a ditch: depth at least 1")

    @property
    def bends(self) -> FloatArray:
        """Probability of each bend, (contexts,)."""
        weights = (1.0 + np.arange(self.contexts)) ** -self.tail
        return np.asarray(weights / weights.sum())

    @property
    def u(self) -> float:
        """The most that one wrong action costs if the expert takes over: ``depth``, at least 1; or no limit."""
        return float(max(self.depth, 1)) if self.exits else math.inf

    @property
    def states(self) -> int:
        """Number of states: the bends, then the ditch from its top (next to the road) to its bottom."""
        return self.contexts + self.depth


@dataclass(frozen=True)
class Clones:
    """Tables of many learners: ``right`` (learners, states), whether each would take the expert's action."""

    road: Road
    right: NDArray[np.bool_]

    @property
    def expert_error(self) -> FloatArray:
        """Probability of an error on the expert's states, (learners,): exact, no held-out sample needed.

        The wrong bends are added up: 1 less the right ones may round to less than 0.
        """
        return np.minimum(~self.right[:, : self.road.contexts] @ self.road.bends, 1.0)

    def follow(self, T: int) -> tuple[FloatArray, FloatArray]:
        """Return the expected costs J(1) … J(T) and the error on the learner's own states, exactly.

        Shapes (learners, T) and (learners,). The distribution over {road, levels of the ditch} is propagated
        step by step; the error is averaged over the T states that the learner stands in.
        """
        T, road, depth = check_count(T, "T"), self.road, self.road.depth
        on, ditch = np.ones(len(self.right)), np.zeros((len(self.right), depth))
        e, climbs = self.expert_error, self.right[:, road.contexts :] & road.exits  # (learners, depth)
        costs, errors = np.empty((len(on), T)), np.zeros(len(on))
        for t in range(T):
            wrong = (ditch * ~self.right[:, road.contexts :]).sum(1)
            errors += on * e + wrong
            up = ditch * climbs
            fall = on * e + (ditch - up).sum(1)
            back = up[:, 0] if depth else fall
            costs[:, t] = fall + up[:, 1:].sum(1)
            on = on * (1 - e) + back
            ditch = np.concatenate([up[:, 1:], fall[:, None]], axis=1) if depth else ditch
        return np.cumsum(costs, axis=1), errors / T


def _guesses(road: Road, learners: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which first guesses happen to be right, (learners, states): each with probability 1/actions."""
    lucky = rng.random((learners, road.states)) < 1 / road.actions
    if not road.exits:
        lucky[:, road.contexts :] = True  # where nothing helps, any action agrees with the expert's
    return lucky


def clone_road(road: Road, labels: int, learners: int, rng: np.random.Generator) -> Clones:
    """Return tables cloned from ``labels`` states of the expert (behaviour cloning).

    The expert stays on the road, so its states are independent bends. A bend that never came up keeps the
    learner's guess, one action drawn once and then kept.
    """
    labels, learners = check_count(labels, "labels", minimum=0), check_count(learners, "learners")
    right = _guesses(_check_road(road), learners, check_rng(rng))
    seen = _draw_bends(road, (labels, learners), rng)
    right[np.arange(learners)[None, :], seen] = True
    return Clones(road, right)


def _draw_bends(road: Road, shape: tuple[int, int], rng: np.random.Generator) -> IntArray:
    """Return bends drawn with their probabilities, of the given shape."""
    edges = np.cumsum(road.bends)
    return np.minimum(np.searchsorted(edges, rng.random(shape), side="right"), road.contexts - 1)


def dagger_road(
    road: Road, labels: Sequence[int], T: int, learners: int, rng: np.random.Generator
) -> tuple[Clones, ...]:
    """Return DAgger's tables after each number of ``labels`` (increasing multiples of T).

    The first episode of T steps is driven by the expert, each later one by the policy learned so far, and the
    expert labels every state on the way. (The variant of Ross, Gordon & Bagnell 2011 that needs no parameter:
    β = 1 in the first round and 0 after it.)
    """
    T, amounts = check_count(T, "T"), _check_labels(labels, check_count(T, "T"))
    learners = check_count(learners, "learners")
    right = _guesses(_check_road(road), learners, check_rng(rng))  # what each learner would do
    who, snapshots = np.arange(learners), []
    for episode in range(amounts[-1] // T):
        bends = _draw_bends(road, (T, learners), rng)
        states = bends if episode == 0 else drive(road, right, bends)  # (T, learners)
        right[who[None, :], states] = True
        if (episode + 1) * T in amounts:
            snapshots.append(Clones(road, right.copy()))
    return tuple(snapshots)


def drive(road: Road, right: NDArray[np.bool_], bends: IntArray) -> IntArray:
    """Return the states (T, learners) of one episode of all learners; ``bends`` come up while on the road."""
    who, bottom = np.arange(right.shape[0]), road.states - 1
    states = np.empty_like(bends)
    level = np.full(len(who), -1)  # -1 on the road, else the level of the ditch, 0 at its top
    for t, bend in enumerate(bends):
        s = np.where(level < 0, bend, road.contexts + level)
        states[t] = s
        good = right[who, s] & (road.exits | (level < 0))
        # A right action keeps to the road or climbs a level (from level 0 to the road, -1).
        level = np.where(good, np.maximum(level - 1, -1), bottom - road.contexts)
    return states


def _check_road(road: Road) -> Road:
    if not isinstance(road, Road):
        raise BookError(f"pass a Road, got {type(road).__name__}")
    return road


def _check_labels(labels: Sequence[int], T: int, name: str = "labels") -> tuple[int, ...]:
    """Return increasing whole numbers that are multiples of T."""
    array = check_finite(labels, name)
    if array.ndim != 1 or not len(array) or (np.diff(array) <= 0).any():
        raise BookError(f"{name} must be a list of increasing whole numbers, got {labels!r}")
    amounts = tuple(check_count(float(n), name) for n in array)
    if any(n % T for n in amounts):
        raise BookError(f"{name} must be multiples of the episode's length T = {T}, got {amounts}")
    return amounts


@dataclass(frozen=True)
class RoadStudy:
    """What was learned on one road: arrays (2, labels, learners), first behaviour cloning, then DAgger.

    ``cost`` over T steps, ``expert_error`` and ``own_error`` per step; ``curves`` (2, labels, learners, T):
    the cost of the first 1 … T steps.
    """

    road: Road
    T: int
    labels: tuple[int, ...]
    expert_error: FloatArray
    own_error: FloatArray
    curves: FloatArray

    @property
    def cost(self) -> FloatArray:
        """Expected cost of T steps, (2, labels, learners)."""
        return np.asarray(self.curves[..., -1])

    def table(self, rng: np.random.Generator) -> pd.DataFrame:
        """Return one row an algorithm and number of labels: means with 95% intervals over learners.

        Columns: ``algorithm``, ``labels``, ``learners``, then ``cost``, ``expert_error`` and ``own_error``,
        each with ``_low`` and ``_high``.
        """
        rows = []
        for i, name in enumerate(ALGORITHMS):
            for j, labels in enumerate(self.labels):
                row: dict[str, Any] = {"algorithm": name, "labels": labels, "learners": self.cost.shape[-1]}
                for column in ("cost", "expert_error", "own_error"):
                    e = bootstrap_interval(getattr(self, column)[i, j], rng, resamples=2_000)
                    row |= {column: e.value, f"{column}_low": e.low, f"{column}_high": e.high}
                rows.append(row)
        return pd.DataFrame(rows)

    def exponent(
        self,
        algorithm: str,
        labels: int,
        rng: np.random.Generator,
        *,
        horizons: Sequence[int] = (10, 20, 50, 100),
    ) -> Interval:
        """Return :func:`horizon_exponent` of the cost curves of one algorithm at one number of labels."""
        if algorithm not in ALGORITHMS or labels not in self.labels:
            raise BookError(f"algorithm must be one of {ALGORITHMS} and labels one of {self.labels}")
        grid = np.array(_check_labels(horizons, 1, "horizons"))
        if grid[-1] > self.T:
            raise BookError(f"horizons must lie in 1 … {self.T}, got {horizons}")
        curves = self.curves[ALGORITHMS.index(algorithm), self.labels.index(labels)]
        return horizon_exponent(grid, curves[:, grid - 1], rng)


ALGORITHMS = ("cloning", "DAgger")
ROAD_LABELS = (100, 200, 500, 1_000, 2_000, 3_000, 5_000)


def imitate_road(
    road: Road,
    *,
    T: int = 100,
    labels: Sequence[int] = ROAD_LABELS,
    learners: int = 200,
    seed: int = 0,
) -> RoadStudy:
    """Return what behaviour cloning and DAgger make of equally many labels on one road.

    ``labels``: increasing multiples of ``T``; ``learners`` independent learners of each kind.
    """
    T, road = check_count(T, "T"), _check_road(road)
    amounts = _check_labels(labels, T)
    streams = np.random.SeedSequence(check_count(seed, "seed", minimum=0)).spawn(len(amounts) + 1)
    clones = [
        clone_road(road, n, learners, np.random.default_rng(stream))
        for n, stream in zip(amounts, streams, strict=False)
    ]
    daggers = dagger_road(road, amounts, T, learners, np.random.default_rng(streams[-1]))
    followed = [[tables.follow(T) for tables in kind] for kind in (clones, daggers)]
    return RoadStudy(
        road,
        T,
        amounts,
        np.array([[tables.expert_error for tables in kind] for kind in (clones, daggers)]),
        np.array([[own for _, own in kind] for kind in followed]),
        np.array([[curve for curve, _ in kind] for kind in followed]),
    )


# --- learned, in CartPole ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class CartPole:
    """Settings of the study in CartPole-v1; labels, learners and networks are the same for both algorithms.

    ``gain`` (4,): the expert pushes right where gain · (position, velocity, angle, angular velocity) > 0.
    ``labels`` increasing: behaviour cloning gets that many consecutive states of expert episodes; DAgger gets
    the first of them, and from there to the next number the states of its own episodes. ``T`` steps an
    episode (500 in CartPole-v1) and ``episodes`` to judge each policy. Each learner is a perceptron with one
    layer of ``hidden`` tanh units, trained afresh in each round by ``updates`` steps of Adam on ``batch``
    labels. ``learners`` of a part are trained side by side; every part has its own seed.
    """

    gain: tuple[float, ...] = (0.1, 0.2, 1.0, 0.3)
    labels: tuple[int, ...] = (25, 50, 100, 200, 400, 800, 1_600)
    T: int = 500
    episodes: int = 20
    horizons: tuple[int, ...] = (50, 100, 200, 300, 400, 500)
    hidden: int = 32
    updates: int = 600
    batch: int = 64
    learning_rate: float = 0.01
    learners: int = 10
    parts: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        gain = check_finite(self.gain, "gain")
        if gain.shape != (4,) or not gain.any():
            raise BookError(f"gain must hold 4 numbers, not all 0, got {self.gain!r}")
        object.__setattr__(self, "gain", tuple(gain.tolist()))
        object.__setattr__(self, "labels", _check_labels(self.labels, 1))
        for name in ("T", "episodes", "hidden", "updates", "batch", "learners", "parts"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        check_positive(self.learning_rate, "learning_rate")
        check_count(self.seed, "seed", minimum=0)
        if max(_check_labels(self.horizons, 1, "horizons")) > self.T:
            raise BookError(f"horizons must not exceed T = {self.T}, got {self.horizons}")


GymPolicy = Callable[[FloatArray], IntArray]  # (learners, episodes, 4) -> (learners, episodes)


def cartpole_expert(observations: FloatArray, gain: Sequence[float] = CartPole.gain) -> IntArray:
    """Return the expert's actions for observations (..., 4): 1 (right) where gain · observation > 0."""
    return np.asarray(observations @ np.asarray(gain) > 0, dtype=np.int64)


def play_cartpole(policy: GymPolicy, learners: int, episodes: int, T: int, seed: int) -> FloatArray:
    """Return the observations (T, learners, episodes, 4) of episodes played side by side; NaN after a fall.

    ``policy`` maps observations (learners, episodes, 4) to actions (learners, episodes); episodes end when
    the pole falls or after T steps. Start states come from ``seed``.
    """
    learners, episodes = check_count(learners, "learners"), check_count(episodes, "episodes")
    if not callable(policy):
        raise BookError(
            "policy must be callable: observations (learners, episodes, 4) -> actions (learners, episodes)"
        )
    T, seed, count = check_count(T, "T"), check_count(seed, "seed", minimum=0), learners * episodes
    env = gymnasium.make_vec(
        "CartPole-v1", num_envs=count, vectorization_mode="vector_entry_point", max_episode_steps=T
    )
    seen = np.full((T, count, 4), np.nan)
    observation, _ = env.reset(seed=seed)
    up = np.ones(count, dtype=bool)
    for t in range(T):
        seen[t, up] = observation[up]
        batch = np.asarray(observation, dtype=np.float64).reshape(learners, episodes, 4)
        observation, _, fallen, timed_out, _ = env.step(policy(batch).reshape(count))
        up &= ~(fallen | timed_out)  # a copy whose episode is over starts another one, which is not looked at
        if not up.any():
            break
    env.close()
    return seen.reshape(T, learners, episodes, 4)


def _visited(seen: FloatArray) -> list[FloatArray]:
    """Return each learner's states (n, 4) in the order of time, one episode after the other."""
    in_order = np.moveaxis(seen, 0, 2)  # (learners, episodes, T, 4)
    flat = in_order.reshape(len(in_order), -1, 4)
    return [states[~np.isnan(states[:, 0])] for states in flat]


def _collect(policy: GymPolicy, learners: int, wanted: int, T: int, seeds: Sequence[int]) -> FloatArray:
    """Return ``wanted`` consecutive states of each learner's episodes, (learners, wanted, 4)."""
    pools = [np.empty((0, 4))] * learners
    for seed in seeds:
        new = _visited(play_cartpole(policy, learners, 16, T, seed))
        pools = [np.concatenate(pair) for pair in zip(pools, new, strict=True)]
        if min(map(len, pools)) >= wanted:
            return np.stack([pool[:wanted] for pool in pools])
    raise BookError(f"the learners fall too soon to gather {wanted} states: ask for fewer labels at once")


class Networks:
    """Perceptrons of several learners, each with its own data: batched, and independent of one another.

    ``weights``: tensors with the learners along the first axis. The inputs are normalised by each learner's
    own data.
    """

    def __init__(self, states: FloatArray, hidden: int, rngs: Sequence[np.random.Generator]) -> None:
        self.mean = torch.from_numpy(states.mean(1, keepdims=True))  # (learners, 1, 4)
        self.sd = torch.from_numpy(states.std(1, keepdims=True) + 1e-8)
        sizes = [(states.shape[-1], hidden), (hidden, 1)]
        self.weights: list[Tensor] = []
        for fan_in, fan_out in sizes:
            draws = [rng.standard_normal((fan_in, fan_out)) / math.sqrt(fan_in) for rng in rngs]
            self.weights.append(torch.from_numpy(np.stack(draws)).requires_grad_())
            self.weights.append(torch.zeros(len(rngs), 1, fan_out, dtype=torch.float64, requires_grad=True))

    def logits(self, states: Tensor) -> Tensor:
        """Return the log odds of pushing right, (learners, n), for states (learners, n, 4)."""
        W_1, b_1, W_2, b_2 = self.weights
        h = torch.tanh(torch.baddbmm(b_1, (states - self.mean) / self.sd, W_1))  # (learners, n, hidden)
        return torch.baddbmm(b_2, h, W_2)[..., 0]

    def __call__(self, states: FloatArray) -> IntArray:
        """Return actions (learners, n) for states (learners, n, 4)."""
        with torch.no_grad():
            return np.asarray((self.logits(torch.from_numpy(states)) > 0).numpy(), dtype=np.int64)


@one_thread()
def train_clones(
    states: FloatArray, actions: IntArray, settings: CartPole, rngs: Sequence[np.random.Generator]
) -> Networks:
    """Return networks fitted by logistic regression to each learner's labels, all in one batch.

    ``states`` (learners, n, 4), ``actions`` (learners, n), one generator a learner for its first weights and
    its mini-batches. The sum of the learners' losses has their own gradients, and Adam works number by
    number, so that each learner learns what it would learn alone.
    """
    networks = Networks(states, settings.hidden, rngs)
    X, y = torch.from_numpy(states), torch.from_numpy(actions.astype(np.float64))
    picks = np.stack([rng.integers(X.shape[1], size=(settings.updates, settings.batch)) for rng in rngs])
    indices = torch.from_numpy(picks)  # (learners, updates, batch)
    learner = torch.arange(len(X))[:, None]
    optimiser = torch.optim.Adam(networks.weights, lr=settings.learning_rate)
    loss = torch.nn.BCEWithLogitsLoss(reduction="sum")
    for update in range(settings.updates):
        batch = indices[:, update]
        for group in optimiser.param_groups:  # falls to 0 in a straight line
            group["lr"] = settings.learning_rate * (1 - update / settings.updates)
        optimiser.zero_grad()
        (loss(networks.logits(X[learner, batch]), y[learner, batch]) / settings.batch).backward()
        optimiser.step()
    return networks


def imitate_cartpole(settings: CartPole, part: int = 0) -> pd.DataFrame:
    """Return what cloning and DAgger make of equally many labels, one row an algorithm, learner and number.

    One part of the study: ``settings.learners`` learners with seeds of their own. ``COLUMNS`` is the data
    dictionary. Raises where learners fall so soon that DAgger cannot gather its labels.
    """
    part = check_count(part, "part", minimum=0)
    if part >= settings.parts:
        raise BookError(f"part must be below {settings.parts}, got {part}")
    L, T = settings.learners, settings.T

    def expert(states: FloatArray) -> IntArray:
        return cartpole_expert(states, settings.gain)

    def seeds(algorithm: int, step: int, count: int) -> list[int]:
        """Seeds that do not depend on which other numbers of labels are asked for."""
        state = np.random.SeedSequence([settings.seed, part, algorithm, step]).generate_state(count)
        return [int(seed) for seed in state]

    rows = []
    with one_thread():
        shown = _collect(expert, L, settings.labels[-1], T, seeds(2, 0, 64))
        unseen = play_cartpole(
            expert, L, 2, T, seeds(2, 1, 1)[0]
        )  # the expert's states for the held-out error
        for a, algorithm in enumerate(ALGORITHMS):
            gathered = shown[:, : settings.labels[0]]
            for i, labels in enumerate(settings.labels):
                states = shown[:, :labels] if algorithm == "cloning" else gathered
                streams = np.random.SeedSequence([settings.seed, part, 3, labels]).spawn(L)
                rngs = [np.random.default_rng(stream) for stream in streams]
                policy = train_clones(states, expert(states), settings, rngs)
                judge, *more = seeds(a, labels, 65)
                played = play_cartpole(policy, L, settings.episodes, T, judge)
                rows += _judge(algorithm, labels, part * L, policy, played, unseen, settings)
                if algorithm == "DAgger" and labels < settings.labels[-1]:
                    new = _collect(policy, L, settings.labels[i + 1] - labels, T, more)
                    gathered = np.concatenate([gathered, new], axis=1)
    return pd.DataFrame(rows)


def _judge(
    algorithm: str,
    labels: int,
    first: int,
    policy: GymPolicy,
    played: FloatArray,
    unseen: FloatArray,
    settings: CartPole,
) -> list[dict[str, Any]]:
    """Return one row a learner: return, imitation errors on both kinds of states, cost by horizon."""
    lengths = (~np.isnan(played[..., 0])).sum(0)  # (learners, episodes), steps until the fall
    expert_error, own_error = (_disagreement(policy, seen, settings.gain) for seen in (unseen, played))
    rows = []
    for i, steps in enumerate(lengths):
        row = {"algorithm": algorithm, "learner": first + i, "labels": labels, "return": steps.mean()}
        row |= {"expert_error": expert_error[i], "own_error": own_error[i]}
        row |= {f"cost_{T}": np.maximum(T - steps, 0).mean() for T in settings.horizons}
        rows.append(row)
    return rows


def _disagreement(policy: GymPolicy, seen: FloatArray, gain: Sequence[float]) -> FloatArray:
    """Return the share of visited states in which each learner acts unlike the expert, (learners,)."""
    states = np.moveaxis(seen, 0, 2).reshape(seen.shape[1], -1, 4)  # (learners, n, 4)
    there = ~np.isnan(states[..., 0])
    states = np.where(there[..., None], states, 0.0)
    differs = (policy(states) != cartpole_expert(states, gain)) & there
    return np.asarray(differs.sum(1) / there.sum(1))


FULL = CartPole()
# Small enough to be trained again whenever the chapter runs: its rows must be those of part 0 of the study.
SLICE = replace(FULL, labels=FULL.labels[:5])
COLUMNS = {
    "algorithm": "cloning (labels on the expert's states) or DAgger (labels on the learner's own states)",
    "learner": "number of the learner; ten at a time are trained side by side",
    "labels": "expert actions that the learner was trained on",
    "return": "steps until the pole falls, at most 500: mean over 20 episodes",
    "expert_error": "share of states of unseen expert episodes in which the learner acts unlike the expert",
    "own_error": "the same share on the states that the learner reaches itself",
} | {f"cost_{T}": f"steps lost of the first {T}: mean over 20 episodes" for T in FULL.horizons}


def run_part(part: int) -> pd.DataFrame:
    """Return one part of the study: ten learners of each kind."""
    return imitate_cartpole(FULL, part)


STUDY = Study(
    name="01-one-step-trap/imitation",
    keys=("algorithm", "learner", "labels"),
    title="Imitation in CartPole-v1: behaviour cloning and DAgger against the number of expert labels",
    parts=FULL.parts,
    run=run_part,
    settings=asdict(FULL),
    columns=COLUMNS,
)


def summarise_cartpole(runs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return means with 95% intervals over learners, one row an algorithm and number of labels.

    Columns: ``algorithm``, ``labels``, ``learners``, then ``return``, ``expert_error`` and ``own_error``,
    each with ``_low`` and ``_high``.
    """
    _check_runs(runs)
    rows = []
    for (algorithm, labels), group in runs.groupby(["algorithm", "labels"], sort=True):
        row: dict[str, Any] = {"algorithm": algorithm, "labels": labels, "learners": len(group)}
        for column in ("return", "expert_error", "own_error"):
            e = bootstrap_interval(group[column], rng, resamples=2_000)
            row |= {column: e.value, f"{column}_low": e.low, f"{column}_high": e.high}
        rows.append(row)
    return pd.DataFrame(rows)


def cartpole_costs(runs: pd.DataFrame, algorithm: str, labels: int) -> tuple[IntArray, FloatArray]:
    """Return the horizons (H,) and each learner's cost over them (learners, H), from the study's table."""
    _check_runs(runs)
    chosen = runs[(runs["algorithm"] == algorithm) & (runs["labels"] == labels)]
    if chosen.empty:
        raise BookError(f"the table has no runs of {algorithm!r} with {labels} labels")
    columns = [column for column in runs.columns if column.startswith("cost_")]
    horizons = np.array([int(column.removeprefix("cost_")) for column in columns])
    return horizons, chosen[columns].to_numpy(dtype=np.float64)


def disagreement(live: pd.DataFrame, stored: pd.DataFrame) -> float:
    """Return by how much a part that was run again differs from its stored rows, in standard errors.

    For each algorithm and number of labels: the difference of the mean returns over the standard error of
    that difference (at least one step); the largest in size is returned. On the machine that stored the
    rows it is 0; elsewhere rounding may change a network, and a value above 4 means that something is wrong.
    """
    _check_runs(live)
    _check_runs(stored)
    keys, worst = ["algorithm", "labels"], 0.0
    kept = stored[stored["learner"].isin(live["learner"])].groupby(keys)["return"]
    for key, group in live.groupby(keys)["return"]:
        if key not in kept.groups:
            raise BookError(f"the stored table has no rows for {key[0]} with {key[1]} labels")
        before = kept.get_group(key)
        error = math.sqrt(sum(runs.var(ddof=0) / max(len(runs) - 1, 1) for runs in (group, before)))
        worst = max(worst, abs(group.mean() - before.mean()) / max(error, 1.0))
    return float(worst)


def _check_runs(runs: pd.DataFrame) -> None:
    missing = {"algorithm", "learner", "labels", "return", "expert_error", "own_error"} - set(
        getattr(runs, "columns", ())
    )
    if missing:
        raise BookError(f"the table of runs lacks the columns {', '.join(sorted(missing))}")


# --- the verdict ------------------------------------------------------------------------------------------


def verdict(ditch: Interval, free: Interval) -> str:
    """Return the verdict on "errs quadratically" by the rule of this module, from the two slopes."""
    if not (isinstance(ditch, Interval) and isinstance(free, Interval)):
        raise BookError(
            "a verdict needs two intervals: of the slopes of the road with and without a way back"
        )
    if ditch.low > 1.5 and free.high < 1.5:
        return "holds when"
    if ditch.low > 1.5 and free.low > 1.5:
        return "holds"
    return "does not hold" if ditch.high < 1.5 else "open"
