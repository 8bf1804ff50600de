"""How far to plan with a model learned from little data (Jiang, Kulesza, Singh & Lewis 2015).

An agent is judged at the discount γ_eval, but plans in a model that it estimated from n short trajectories.
It may plan at a smaller γ. With π̂_γ the policy that is optimal in the model at γ, the **planning loss** is

    loss(γ, n) = mean over states of  V*_{γ_eval}(s) - V^{π̂_γ}_{γ_eval}(s)  >= 0,      values in the true MDP.

It is a sum of two parts: what even a perfect model loses by looking less far, and what the model's errors
cost on top,

    loss(γ, n) = [V* - V^{π*_γ}]  +  [V^{π*_γ} - V^{π̂_γ}]  =  horizon loss(γ)  +  estimation loss(γ, n).

The horizon loss falls with γ. The estimation loss grows with it, because a longer horizon lets more
policies look optimal: their number is the measure of complexity that γ controls in their analysis, which is
why a shorter horizon acts as a regulariser.

The experiment is theirs on random MDPs: 10 states, 2 actions, 5 successors, and trajectories of length 10 of
a uniformly random policy, which here start in uniformly random states. A model must also believe something
of a pair (s, a) that the data never visits: here it goes to a uniformly random state and pays .5, the mean
of the rewards' distribution. Both are parameters, because with little data they matter.

**The rule, fixed before looking** (``summarise``): "the less accurate the model, the shorter the best
planning horizon" holds when the best γ never falls as n grows, and the 95% interval of best γ(largest n) -
best γ(smallest n), bootstrapped over MDPs, lies above 0.

Three functions to be read (``estimate_model``, ``plan``, ``planning_loss``) do it for one MDP in plain
loops; ``run_study`` does the same for thousands of MDPs and data sets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from one_step_trap.core.stats import (
    Interval,
    first_lowest,
    percentile_interval,
    percentile_intervals,
)
from one_step_trap.core.tabular import MDP, TIE, chain_values, optimal_policies, random_mdp
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_choice,
    check_count,
    check_finite,
    check_flag,
    check_gamma,
    check_kind,
    check_list,
    check_positions,
    check_real,
    check_rng,
)
from one_step_trap.errors import BookError

UnseenNext = Literal["uniform", "stay"]

GAMMAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
MAX_TABLE = 4096  # policies valued in advance; with more, only the policies that planning chose are valued
MODELS_AT_ONCE = 2000  # models planned in together: their arrays stay small enough for the processor's cache

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of equal length: ``states`` (n, length + 1), ``actions`` and ``rewards`` (n, length)."""

    states: IntArray
    actions: IntArray
    rewards: FloatArray

    def __post_init__(self) -> None:
        states = check_positions(self.states, "states", below=np.iinfo(np.intp).max)
        actions = check_positions(self.actions, "actions", below=np.iinfo(np.intp).max)
        rewards = check_finite(self.rewards, "rewards")
        fits = (
            states.ndim == 2 and states.shape[1] > 1 and actions.shape == (len(states), states.shape[1] - 1)
        )
        if not fits or rewards.shape != actions.shape or len(states) == 0:
            raise BookError(
                "trajectories have states of shape (n, length + 1), actions and rewards of shape (n, length), "
                f"got {states.shape}, {actions.shape} and {rewards.shape}"
            )
        for name, value in (("states", states), ("actions", actions), ("rewards", rewards)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Study:
    """The settings of the experiment; the defaults are those of Jiang et al. 2015.

    ``trajectories`` lists the sizes n of the data sets (a larger data set contains the smaller ones).
    ``known_rewards`` gives the planner the true R, as their theorems assume. ``unseen_next`` is "uniform"
    or "stay": where the model sends a pair (s, a) that the data never visits; ``unseen_reward`` is what it
    pays there.
    """

    mdps: int = 1000
    data_sets: int = 20
    n_states: int = 10
    n_actions: int = 2
    n_successors: int = 5
    reward_sd: float = 0.1
    trajectories: tuple[int, ...] = (5, 10, 20, 50)
    length: int = 10
    gammas: tuple[float, ...] = GAMMAS
    gamma_eval: float = 0.99
    unseen_next: UnseenNext = "uniform"
    unseen_reward: float = 0.5
    known_rewards: bool = False

    def __post_init__(self) -> None:
        for name in ("mdps", "data_sets", "n_states", "n_actions", "n_successors", "length"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        object.__setattr__(self, "trajectories", _increasing(self.trajectories, "trajectories"))
        object.__setattr__(self, "gammas", _increasing(self.gammas, "gammas"))
        check_gamma(self.gamma_eval, name="gamma_eval")
        check_real(self.unseen_reward, "unseen_reward")
        _check_sd(self.reward_sd)
        _check_unseen(self.unseen_next)
        check_flag(self.known_rewards, "known_rewards")
        if self.n_successors > self.n_states:
            raise BookError(f"n_successors = {self.n_successors} cannot exceed n_states = {self.n_states}")


@dataclass(frozen=True)
class PlanningResult:
    """What ``run_study`` measured, for each MDP (the independent unit) averaged over its data sets.

    ``loss`` (mdps, n, γ); ``horizon_loss`` (mdps, γ): the part of it that a perfect model would lose too;
    ``distinct`` (mdps, n, γ): how many different policies the data sets of one MDP led to; ``unseen``
    (mdps, n): share of pairs (s, a) without data.
    """

    study: Study
    loss: FloatArray
    horizon_loss: FloatArray
    distinct: FloatArray
    unseen: FloatArray

    def mean_loss(self) -> FloatArray:
        """Return the loss averaged over MDPs, (n, γ)."""
        return np.asarray(self.loss.mean(axis=0))

    def estimation_loss(self) -> FloatArray:
        """Return the part of the loss that the model's errors cause, averaged over MDPs, (n, γ)."""
        return np.asarray(self.mean_loss() - self.horizon_loss.mean(axis=0))

    def best_gamma(self) -> FloatArray:
        """Return, for each n, the γ of the grid with the lowest mean loss (the smaller one where two tie)."""
        return np.asarray(np.array(self.study.gammas)[first_lowest(self.mean_loss(), TIE)])

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table, one row for each n and γ: the losses and ``distinct``, averaged."""
        n, gamma = np.meshgrid(self.study.trajectories, self.study.gammas, indexing="ij")
        columns = {
            "trajectories": n,
            "gamma": gamma,
            "loss": self.mean_loss(),
            "horizon_loss": np.broadcast_to(self.horizon_loss.mean(axis=0), n.shape),
            "estimation_loss": self.estimation_loss(),
            "distinct": self.distinct.mean(axis=0),
        }
        return pd.DataFrame({name: np.ravel(column) for name, column in columns.items()})


@dataclass(frozen=True)
class Summary:
    """Intervals over MDPs, one entry for each n, and the verdict of the rule at the top of this module.

    ``best_gamma``; ``best_loss``: loss at the best γ, chosen anew in each resample; ``long_loss``: loss at
    the largest γ of the grid; ``gain``: long_loss - best_loss. ``shift``: best γ of the largest n minus
    that of the smallest.
    """

    trajectories: tuple[int, ...]
    best_gamma: tuple[Interval, ...]
    best_loss: tuple[Interval, ...]
    long_loss: tuple[Interval, ...]
    gain: tuple[Interval, ...]
    shift: Interval
    verdict: str


def sample_trajectories(
    mdp: MDP, rng: np.random.Generator, n: int, *, length: int = 10, reward_sd: float = 0.1
) -> Trajectories:
    """Follow a uniformly random policy ``n`` times for ``length`` steps, from uniformly random states.

    The reward of a step is drawn from N(R(s, a), reward_sd²).
    """
    check_rng(rng)
    n, length = check_count(n, "trajectories"), check_count(length, "length")
    reward_sd = _check_sd(reward_sd)
    S, A = check_kind(mdp, MDP, "mdp").R.shape
    cumulative = np.cumsum(mdp.P, axis=2)
    cumulative[:, :, -1] = 1  # rounding must not leave a gap at the end
    states = np.empty((length + 1, n), dtype=np.int64)
    states[0] = rng.integers(S, size=n)
    actions = rng.integers(A, size=(length, n))
    u = rng.random((length, n))
    for t in range(length):
        # The next state is the first whose cumulative probability exceeds u.
        states[t + 1] = np.count_nonzero(u[t, :, None] >= cumulative[states[t], actions[t]], axis=1)
    rewards = mdp.R[states[:-1], actions] + reward_sd * rng.standard_normal((length, n))
    return Trajectories(states.T, actions.T, rewards.T)


# --- to be read: one MDP, plain loops ---------------------------------------------------------------------


def estimate_model(
    data: Trajectories,
    n_states: int,
    n_actions: int,
    *,
    unseen_next: UnseenNext = "uniform",
    unseen_reward: float = 0.5,
) -> MDP:
    """Return the maximum-likelihood model: ``P̂(s'|s,a) = N(s,a,s') / N(s,a)``, R̂ = mean seen.

    A pair without data pays ``unseen_reward`` and leads to a uniformly random state, or stays where it is
    ("stay").
    """
    S, A = check_count(n_states, "n_states"), check_count(n_actions, "n_actions")
    _check_unseen(unseen_next)
    _check_data(data, S, A)
    counts, reward_sums = np.zeros((S, A, S)), np.zeros((S, A))
    for states, actions, rewards in zip(data.states, data.actions, data.rewards, strict=True):
        for t in range(len(actions)):
            counts[states[t], actions[t], states[t + 1]] += 1
            reward_sums[states[t], actions[t]] += rewards[t]
    P, R = np.zeros((S, A, S)), np.full((S, A), check_real(unseen_reward, "unseen_reward"))
    for s, a in itertools.product(range(S), range(A)):
        visits = counts[s, a].sum()
        if visits > 0:
            P[s, a] = counts[s, a] / visits
            R[s, a] = reward_sums[s, a] / visits
        elif unseen_next == "uniform":
            P[s, a] = 1 / S
        else:
            P[s, a, s] = 1
    return MDP(P, R)


def policy_value(mdp: MDP, policy: Sequence[int] | IntArray, gamma: float) -> FloatArray:
    """Return V^π, shape (S,), the solution of V = R_π + γ P_π V; state s takes action ``policy[s]``."""
    gamma = check_gamma(gamma)
    S, A = check_kind(mdp, MDP, "mdp").R.shape
    policy = check_positions(policy, "policy", below=A, shape=(S,))
    P_pi = np.array([mdp.P[s, policy[s]] for s in range(S)])
    R_pi = np.array([mdp.R[s, policy[s]] for s in range(S)])
    return np.asarray(np.linalg.solve(np.eye(S) - gamma * P_pi, R_pi))


def plan(mdp: MDP, gamma: float) -> list[int]:
    """Return the optimal policy by policy iteration (Howard 1960); among equally good actions, the first.

    Unseen pairs make exact ties common, and rounding must not break them: see ``TIE``.
    """
    gamma = check_gamma(gamma)
    S, A = check_kind(mdp, MDP, "mdp").R.shape
    policy = [0] * S
    while True:
        V = policy_value(mdp, policy, gamma)
        Q = [[mdp.R[s, a] + gamma * mdp.P[s, a] @ V for a in range(A)] for s in range(S)]
        improved = [
            max(range(A), key=Q[s].__getitem__) if max(Q[s]) > Q[s][policy[s]] + TIE else policy[s]
            for s in range(S)
        ]
        if improved == policy:
            return [next(a for a in range(A) if Q[s][a] >= max(Q[s]) - TIE) for s in range(S)]
        policy = improved


def planning_loss(mdp: MDP, model: MDP, gamma: float, *, gamma_eval: float = 0.99) -> float:
    """Return the mean of V* - V^π in ``mdp`` at ``gamma_eval``; π is optimal in ``model`` at ``gamma``."""
    gamma_eval = check_gamma(gamma_eval, name="gamma_eval")
    _check_alike(mdp, model)
    V_star = policy_value(mdp, plan(mdp, gamma_eval), gamma_eval)
    return float(np.mean(V_star - policy_value(mdp, plan(model, gamma), gamma_eval)))


# --- to be fast: all data sets of all MDPs ----------------------------------------------------------------


def draw_case(study: Study, rng: np.random.Generator) -> tuple[MDP, Trajectories]:
    """Return one MDP of the study and the trajectories of all its data sets, one data set after the other.

    Data set d of size n is the first n of the trajectories d·N ... (d+1)·N - 1, where N is the largest
    size.
    """
    check_kind(study, Study, "study")
    mdp = random_mdp(rng, study.n_states, study.n_actions, n_successors=study.n_successors)
    n = study.data_sets * study.trajectories[-1]
    return mdp, sample_trajectories(mdp, rng, n, length=study.length, reward_sd=study.reward_sd)


def run_study(study: Study, rng: np.random.Generator) -> PlanningResult:
    """Return the losses of every MDP, n and γ: what ``planning_loss`` gives, for all data sets at once.

    Two things make it fast. Models are planned in together, γ after γ, each starting from the policy that
    was optimal at the γ before (often still optimal). And a policy is valued by looking it up: a true MDP
    has only Aˢ of them (1,024), so all are valued once, however many data sets, sizes and discounts then
    ask for one. Every MDP has its own generator, spawned from ``rng``: MDP i is the same in a study of 10
    as in one of 1,000.
    """
    check_rng(rng)
    check_kind(study, Study, "study")
    per_batch = max(1, MODELS_AT_ONCE // (study.data_sets * len(study.trajectories)))
    children = rng.spawn(study.mdps)
    batches = [_run_batch(study, children[i : i + per_batch]) for i in range(0, study.mdps, per_batch)]
    return PlanningResult(study, *(np.concatenate(parts) for parts in zip(*batches, strict=True)))


def summarise(result: PlanningResult, rng: np.random.Generator, *, resamples: int = 4_000) -> Summary:
    """Return intervals bootstrapped over MDPs (each resample chooses its own best γ) and the verdict.

    The rule compares data sets of different sizes, each at its best γ: two sizes and two γ are the least.
    """
    check_rng(rng)
    study = check_kind(result, PlanningResult, "result", made_by="run_study").study
    if len(study.trajectories) < 2 or len(study.gammas) < 2:
        raise BookError(
            "the rule compares sizes of data sets, each at its best discount: a study needs at least 2 trajectories "
            f"and 2 gammas, got {len(study.trajectories)} and {len(study.gammas)}"
        )
    resamples = check_count(resamples, "resamples")
    M, N, G = result.loss.shape
    if M < 2:
        raise BookError(f"an interval needs at least 2 MDPs, got {M}")
    weights = rng.multinomial(M, np.full(M, 1 / M), size=resamples) / M  # (B, M): how often each MDP is drawn
    curves = (weights @ result.loss.reshape(M, N * G)).reshape(resamples, N, G)
    curves = np.concatenate([result.mean_loss()[None], curves])  # the first entry is the estimate itself
    gammas = np.array(result.study.gammas)
    best = first_lowest(curves, TIE)  # (1 + B, N)
    best_loss, long_loss = curves.min(axis=2), curves[:, :, -1]
    best_gamma = gammas[best]
    shift = percentile_interval(best_gamma[:, -1] - best_gamma[:, 0], M)
    grows = bool((np.diff(best_gamma[0]) >= 0).all())
    return Summary(
        result.study.trajectories,
        percentile_intervals(best_gamma, M),
        percentile_intervals(best_loss, M),
        percentile_intervals(long_loss, M),
        percentile_intervals(long_loss - best_loss, M),
        shift,
        HOLDS if grows and shift.low > 0 else DOES_NOT_HOLD,
    )


def _run_batch(study: Study, rngs: Sequence[np.random.Generator]) -> tuple[FloatArray, ...]:
    """Return loss, horizon loss, distinct policies and share of unseen pairs for one batch of MDPs."""
    cases = [draw_case(study, rng) for rng in rngs]
    P = np.stack([mdp.P for mdp, _ in cases])  # (M, S, A, S)
    R = np.stack([mdp.R for mdp, _ in cases])  # (M, S, A)
    models = [_estimate_all(study, mdp, data) for mdp, data in cases]
    unseen = np.stack([share for _, _, share in models])  # (M, n)
    P_hat = np.stack([model for model, _, _ in models])  # (M, D, n, S, A, S)
    R_hat = np.stack([reward for _, reward, _ in models])  # (M, D, n, S, A)
    M, D, N, S, A = R_hat.shape

    policies = _plan_all(P_hat.reshape(-1, S, A, S), R_hat.reshape(-1, S, A), study.gammas)  # (M·D·n, γ, S)
    policies = policies.reshape(M, D, N, -1, S)
    true_policies = _plan_all(P, R, study.gammas)  # (M, γ, S)
    loss, horizon_loss = [], []
    for m in range(M):
        best_value, value = _valuer(P[m], R[m], study.gamma_eval)
        loss.append((best_value - value(policies[m])).mean(axis=0))
        horizon_loss.append(best_value - value(true_policies[m]))
    return np.stack(loss), np.stack(horizon_loss), _count_distinct(policies), unseen


def _estimate_all(study: Study, mdp: MDP, data: Trajectories) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return P̂ (D, n, S, A, S), R̂ (D, n, S, A) and the share of unseen pairs (n,) of one MDP's data sets."""
    D, N, S, A = study.data_sets, len(study.trajectories), study.n_states, study.n_actions
    # Trajectory i of a data set is in all sizes n > i: count what each size adds to the last, then add up.
    group = np.searchsorted(study.trajectories, np.arange(study.trajectories[-1]), side="right")
    block = (np.arange(D)[:, None] * N + group).reshape(-1, 1)  # (D·n_max, 1)
    pair = (block * S + data.states[:, :-1]) * A + data.actions  # (D·n_max, length)
    triple = pair * S + data.states[:, 1:]
    counts = np.bincount(triple.ravel(), minlength=D * N * S * A * S).reshape(D, N, S, A, S).cumsum(axis=1)
    sums = np.bincount(pair.ravel(), data.rewards.ravel(), D * N * S * A).reshape(D, N, S, A).cumsum(axis=1)
    visits = counts.sum(axis=-1)  # (D, n, S, A)
    seen = visits > 0
    safe = np.maximum(visits, 1)
    default = np.full((S, S), 1 / S) if study.unseen_next == "uniform" else np.eye(S)
    P = np.where(seen[..., None], counts / safe[..., None], default[:, None, :])
    R = np.where(seen, sums / safe, study.unseen_reward)
    if study.known_rewards:
        R = np.broadcast_to(mdp.R, R.shape)
    return P, R, 1 - seen.mean(axis=(0, 2, 3))


def _plan_all(P: FloatArray, R: FloatArray, gammas: Iterable[float]) -> IntArray:
    """Return the policies (B, γ, S) that ``plan`` finds in each MDP: ``P`` (B, S, A, S), ``R`` (B, S, A)."""
    policy = np.zeros(R.shape[:2], dtype=np.int64)  # (B, S)
    result = []
    for gamma in gammas:
        policy = optimal_policies(P, R, gamma, policy)
        result.append(policy)
    return np.stack(result, axis=1)


def _valuer(P: FloatArray, R: FloatArray, gamma: float) -> tuple[float, Callable[[IntArray], FloatArray]]:
    """Return mean V* of one MDP, and a function from policies (..., S) to mean V^π (...)."""
    S, A = R.shape
    row = np.arange(S)

    def value(policies: IntArray) -> FloatArray:
        return np.asarray(chain_values(P[row, policies], R[row, policies], gamma).mean(axis=-1))

    if A**S > MAX_TABLE:
        optimal = _plan_all(P[None], R[None], [gamma])[0, 0]
        return float(value(optimal[None])[0]), value
    digits = A ** np.arange(S)  # policy number i takes action (i // Aˢ) mod A in state s
    table = value(np.arange(A**S)[:, None] // digits % A)  # (Aˢ,)
    # The optimal policy is best in every state at once, hence also on average.
    return float(table.max()), lambda policies: table[policies @ digits]


def _count_distinct(policies: IntArray) -> FloatArray:
    """Return how many different policies the data sets led to, (M, n, γ), from policies (M, D, n, γ, S)."""
    M, D, N, G, S = policies.shape
    ordered = policies.astype(np.int16).transpose(0, 2, 3, 1, 4).reshape(-1, D, S)
    return np.array([len({row.tobytes() for row in rows}) for rows in ordered], dtype=float).reshape(M, N, G)


def _check_data(data: Trajectories, n_states: int, n_actions: int) -> None:
    """Raise unless the trajectories visit these states and take these actions only."""
    check_kind(data, Trajectories, "data", made_by="sample_trajectories")
    check_positions(data.states, "states of the data", below=n_states)
    check_positions(data.actions, "actions of the data", below=n_actions)


def _check_alike(mdp: MDP, model: MDP) -> None:
    """Raise unless both have the same states and actions."""
    check_kind(mdp, MDP, "mdp")
    check_kind(model, MDP, "model")
    if mdp.P.shape != model.P.shape:
        raise BookError(f"the model has shape {model.P.shape}, the MDP {mdp.P.shape}: they must be alike")


def _increasing(values: Iterable[Any], name: str) -> tuple[Any, ...]:
    entries = check_list(values, name, empty=True)
    if name == "gammas":
        grid: tuple[Any, ...] = tuple(check_gamma(value) for value in entries)
    else:
        grid = tuple(check_count(value, name) for value in entries)
    if not grid or any(b <= a for a, b in itertools.pairwise(grid)):
        raise BookError(f"{name} must be one or more increasing numbers, got {list(grid)}")
    return grid


def _check_sd(reward_sd: Any) -> float:
    sd = check_real(reward_sd, "reward_sd")
    if sd < 0:
        raise BookError(f"reward_sd must be at least 0, got {sd:g}")
    return sd


def _check_unseen(unseen_next: Any) -> None:
    check_choice(unseen_next, get_args(UnseenNext), "unseen_next")
