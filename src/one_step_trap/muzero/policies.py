"""Is the model right only near its own policy? Exactly, on small worlds.

MuZero's model is learned of the data of a behaviour policy b, and its values are those of b. He et al. 2023 (arXiv
2306.00840) measured that such models evaluate other policies worse the further these are from b, and that search needs
the policy prior, which keeps it near b. Three models of a random world, each perfect in its own way:

- **value**: right about V^b, that is ``T̂_b V^b = V^b``, and about nothing else;
- **action values**: right about Q^b, what each single action is worth if b goes on after it;
- **counted**: the frequencies in a finite data set of b, the way a table learns.

The second is enough for a step of policy improvement, and yet the values of other policies are off by

    ``V̂^π - V^π = γ (I - γ P̂_π)⁻¹ (P̂_π - P_π) (V^π - V^b)``,  so ``|V̂^π - V^π| ≤ γ/(1-γ) τ span(V^π - V^b)``

with τ the largest total variation of P̂_π and P_π: nothing at b, and growing with the distance.

**The rules, fixed before measuring**: ``RULE`` (`offpolicy_verdict`) and ``PRIOR_RULE`` (`prior_verdict`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.tabular import MDP, random_mdp, random_rows
from one_step_trap.core.validate import (
    FloatArray,
    check_choice,
    check_count,
    check_finite,
    check_gamma,
    check_kind,
    check_list,
    check_positive,
    check_probability,
    check_rng,
    check_table,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.stochastic import (
    action_values,
    check_policy,
    epsilon_soft,
    greedy,
    optimal,
    uniform_policy,
    value,
)

RULE = (
    "For each seed the error of predicted returns is averaged over starts, once for action sequences of the behaviour "
    "policy (distance 0) and once for those of the furthest policies measured. 'The learned model is right only near its "
    "own policy' HOLDS if the 95% interval of the mean over seeds of ln(error far / error own) lies above ln 1.5, DOES "
    "NOT HOLD if it lies below ln 1.5, and is OPEN otherwise. The same rule for counted tables (a seed is a world) and for "
    "networks (a seed is a training run); the claim holds if it holds for both."
)
"""The rule for mu-offpolicy, written before any of its measurements."""
NEEDED = math.log(1.5)

PRIOR_RULE = (
    "In counted models of 100 random worlds (1,000 transitions of the behaviour policy), search of depth 5 with 50 "
    "simulations: 'a uniform prior hurts' HOLDS if the 95% interval of the mean over worlds of the true value with the "
    "behaviour policy as prior minus that with a uniform prior lies above 0, DOES NOT HOLD if it lies below 0, else OPEN. "
    "The same with a perfect model is printed beside it and is no part of the rule."
)
"""The rule for the uniform prior, written before the first run of `prior_study`."""

Kind = Literal["value", "action values", "counted"]
KINDS: tuple[Kind, ...] = get_args(Kind)


# --- policies and distances -----------------------------------------------------------------------------------------


def towards(behaviour: ArrayLike, target: ArrayLike, share: float) -> FloatArray:
    """Return ``(1-λ) b + λ π``, λ = ``share``: the distance to b grows in proportion to λ. All have shape (S, A)."""
    b, pi, share = (
        check_finite(behaviour, "behaviour"),
        check_finite(target, "target"),
        check_probability(share, "share"),
    )
    if b.shape != pi.shape or b.ndim != 2:
        raise BookError(
            f"behaviour and target must have the same shape (states, actions), got {b.shape} and {pi.shape}"
        )
    return (1 - share) * b + share * pi


def policy_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return the mean over states of the total variation ``½ Σ_a |π(a|s) - π'(a|s)|``, in [0, 1]."""
    x, y = check_finite(a, "the first policy"), check_finite(b, "the second policy")
    if x.shape != y.shape or x.ndim != 2:
        raise BookError(f"policies must have the same shape (states, actions), got {x.shape} and {y.shape}")
    return float(0.5 * np.abs(x - y).sum(1).mean())


def occupancy(mdp: MDP, policy: FloatArray, gamma: float) -> FloatArray:
    """Return ``d = (1-γ) (I - γ P_πᵀ)⁻¹ μ`` (S,), how often b is in each state, from starts μ that are all alike."""
    P_pi = np.einsum("sa,sat->st", policy, mdp.P)
    S = len(P_pi)
    return np.asarray(np.linalg.solve(np.eye(S) - gamma * P_pi.T, np.full(S, (1 - gamma) / S)))


# --- models that b's data pin down ----------------------------------------------------------------------------------------


def value_model(mdp: MDP, behaviour: FloatArray, gamma: float, rng: np.random.Generator) -> MDP:
    """Return a random model with ``T̂_b V^b = V^b``, so that V̂^b = V^b; nothing else is right about it.

    Transitions are drawn at random. Rewards: the world's, shifted by one number in each state so that the equation holds.
    """
    P, V = random_rows(rng, mdp.P.shape), value(mdp, behaviour, gamma)
    Q = mdp.R + gamma * P @ V
    return MDP(P, mdp.R + (V - (behaviour * Q).sum(1))[:, None])


def action_value_model(mdp: MDP, behaviour: FloatArray, gamma: float, rng: np.random.Generator) -> MDP:
    """Return a random model with Q̂^b = Q^b: ``R̂ = Q^b - γ P̂ V^b``; transitions as in `value_model`."""
    P, V = random_rows(rng, mdp.P.shape), value(mdp, behaviour, gamma)
    return MDP(P, action_values(mdp, V, gamma) - gamma * P @ V)


def counted_model(
    mdp: MDP,
    behaviour: FloatArray,
    gamma: float,
    transitions: int,
    rng: np.random.Generator,
    *,
    reward_sd: float = 0.1,
    unseen_reward: float = 0.5,
) -> MDP:
    """Return the frequencies in ``transitions`` independent draws: s by `occupancy`, a by b, s' and r by the world.

    Rewards have a noise of ``reward_sd``. A pair (s, a) without data is believed to lead anywhere alike and to pay
    ``unseen_reward``.
    """
    S, A = mdp.R.shape
    weights = (occupancy(mdp, behaviour, gamma)[:, None] * behaviour).ravel()
    visits = rng.multinomial(transitions, weights / weights.sum()).reshape(S, A)
    counts = rng.multinomial(visits, mdp.P)  # (S, A, S)
    seen = np.maximum(visits, 1)
    noise = reward_sd * rng.standard_normal((S, A)) / np.sqrt(seen)
    P = np.where(visits[..., None] > 0, counts / seen[..., None], 1 / S)
    return MDP(P, np.where(visits > 0, mdp.R + noise, unseen_reward))


def make_model(
    kind: Kind,
    mdp: MDP,
    behaviour: FloatArray,
    gamma: float,
    rng: np.random.Generator,
    *,
    transitions: int = 1_000,
) -> MDP:
    """Return one of the three models of the module's text; ``transitions`` matters to the counted one."""
    if kind == "counted":
        return counted_model(mdp, behaviour, gamma, transitions, rng)
    return (value_model if kind == "value" else action_value_model)(mdp, behaviour, gamma, rng)


def value_error(world: MDP, model: MDP, policy: ArrayLike, gamma: float) -> float:
    """Return the mean over states of ``|V̂^π - V^π|``."""
    return float(np.abs(value(world, policy, gamma) - value(model, policy, gamma)).mean())


# --- the exact study --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Random worlds (`tabular.random_mdp`) and behaviour policies, both by seed.

    In a state the policy's favourite is the best action with probability ``skill``, else any; it takes its favourite
    or, with probability ``exploration``, any action.
    """

    worlds: int = 100
    states: int = 10
    actions: int = 3
    gamma: float = 0.9
    exploration: float = 0.3
    skill: float = 1.0
    transitions: int = 1_000
    shares: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    targets: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("worlds", "states", "actions", "transitions", "targets"):
            object.__setattr__(
                self, name, check_count(getattr(self, name), name, minimum=1 + (name != "targets"))
            )
        check_gamma(self.gamma)
        check_probability(self.exploration, "exploration")
        check_probability(self.skill, "skill")
        object.__setattr__(self, "seed", check_count(self.seed, "seed", minimum=0))
        shares = tuple(check_probability(x, "every share") for x in check_list(self.shares, "shares"))
        if len(shares) < 2 or any(x >= y for x, y in itertools.pairwise(shares)):
            raise BookError("shares must increase, and there must be at least two")
        object.__setattr__(self, "shares", shares)

    def world(self, index: int) -> tuple[MDP, FloatArray, np.random.Generator]:
        """Return a world, its behaviour policy (S, A) and the random numbers for what follows."""
        rng = np.random.default_rng([self.seed, check_count(index, "index", minimum=0)])
        mdp = random_mdp(rng, self.states, self.actions, n_successors=min(5, self.states))
        favourite = optimal(mdp, self.gamma)[0]
        if self.skill < 1:
            lost = rng.random(self.states) > self.skill
            favourite[lost] = np.eye(self.actions)[rng.integers(self.actions, size=int(lost.sum()))]
        return mdp, epsilon_soft(favourite, mdp, self.exploration), rng


def distance_study(settings: Settings | None = None) -> pd.DataFrame:
    """Return the value errors of the three kinds of models for policies at a growing distance from b.

    Policies: `towards` each of ``targets`` random deterministic policies. Columns: world, kind, share, distance (mean
    total variation), error (mean over states and targets of ``|V̂^π - V^π|``), worth (mean of V^π - V^b), range (of V^*).
    """
    s = check_kind(settings or Settings(), Settings, "settings")
    rows = []
    for index in range(s.worlds):
        mdp, b, rng = s.world(index)
        goals = [np.eye(s.actions)[rng.integers(s.actions, size=s.states)] for _ in range(s.targets)]
        V_b = value(mdp, b, s.gamma)
        for kind in KINDS:
            model = make_model(kind, mdp, b, s.gamma, rng, transitions=s.transitions)
            for share in s.shares:
                pis = [towards(b, goal, share) for goal in goals]
                rows.append(
                    {
                        "world": index,
                        "kind": kind,
                        "share": share,
                        "distance": float(np.mean([policy_distance(b, pi) for pi in pis])),
                        "error": float(np.mean([value_error(mdp, model, pi, s.gamma) for pi in pis])),
                        "worth": float(np.mean([value(mdp, pi, s.gamma) - V_b for pi in pis])),
                    }
                )
    return pd.DataFrame(rows)


def summarise_distance(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return mean and 95% interval over worlds of distance and error; columns kind, share, distance, error, low, high, n."""
    check_table(table, ("world", "kind", "share", "distance", "error"), "table")
    check_rng(rng)
    rows = []
    for (kind, share), part in table.groupby(["kind", "share"], sort=False):
        error = bootstrap_interval(part["error"].to_numpy(), rng)
        rows.append((kind, share, float(part["distance"].mean()), *error))
    return pd.DataFrame(rows, columns=["kind", "share", "distance", "error", "low", "high", "n"])


def far_against_own(table: pd.DataFrame, rng: np.random.Generator, *, kind: str = "counted") -> Interval:
    """Return the mean over worlds of ln(error at the largest share / error at share 0), with its interval."""
    check_table(table, ("world", "kind", "share", "error"), "table")
    part = table[table["kind"] == check_choice(kind, KINDS, "kind")]
    wide = part.pivot(index="world", columns="share", values="error")
    return log_ratio(wide[wide.columns.max()].to_numpy(), wide[wide.columns.min()].to_numpy(), rng)


def log_ratio(far: ArrayLike, own: ArrayLike, rng: np.random.Generator) -> Interval:
    """Return the mean over seeds of ``ln(far/own)`` with its 95% interval; both (seeds,), errors above 0."""
    x, y = check_finite(far, "far"), check_finite(own, "own")
    if x.shape != y.shape or x.ndim != 1:
        raise BookError(f"far and own must be vectors of one length, got {x.shape} and {y.shape}")
    if len(x) == 0 or min(x.min(), y.min()) <= 0:
        raise BookError("a ratio needs errors above 0: an exact model has none at its own policy")
    return bootstrap_interval(np.log(x / y), rng)


def offpolicy_verdict(*ratios: Interval) -> str:
    """Apply ``RULE`` to one interval of ln(far/own) or more: "holds", "does not hold" or "open"."""
    if not ratios or not all(isinstance(one, Interval) for one in ratios):
        raise BookError("the rule needs one or more intervals, as log_ratio makes them")
    if all(one.low > NEEDED for one in ratios):
        return "holds"
    return "does not hold" if any(one.high < NEEDED for one in ratios) else "open"


# --- search with and without a prior --------------------------------------------------------------------------------


def searched_policy(q: ArrayLike, prior: ArrayLike, simulations: int, *, c: float = 1.25) -> FloatArray:
    """Return the policy that pUCT's visits approximate (Grill et al. 2020, arXiv 2007.12509), for each state.

    ``π̄(a) = λ prior(a) / (α - q(a))``, ``λ = c √N / (N + A)``, α such that it sums to 1: it maximises
    ``Σ_a y(a) q(a) - λ KL(prior, y)``. q (S, A), min-max normalised to [0, 1]; prior (S, A), above 0; N simulations.
    With many simulations the prior is forgotten.
    """
    q, p = check_finite(q, "q"), check_finite(prior, "prior")
    n, c = check_count(simulations, "simulations"), check_positive(c, "c")
    if q.shape != p.shape or q.ndim != 2 or p.min() <= 0 or np.abs(p.sum(1) - 1).max() > 1e-8:
        raise BookError(
            "q and prior must have the same shape (states, actions); every prior is above 0 and sums to 1"
        )
    lam = c * math.sqrt(n) / (n + q.shape[1])
    low = (q + lam * p).max(1)  # no single action may exceed probability 1
    high = q.max(1) + lam  # if every q were the largest one
    for _ in range(50):  # bisection; the sum falls in α
        alpha = (low + high) / 2
        above = (lam * p / (alpha[:, None] - q)).sum(1) > 1
        low, high = np.where(above, alpha, low), np.where(above, high, alpha)
    y = lam * p / (high[:, None] - q)
    return np.asarray(y / y.sum(1, keepdims=True))


def search_in_model(
    model: MDP,
    prior: ArrayLike,
    leaf_values: ArrayLike,
    gamma: float,
    *,
    depth: int = 5,
    simulations: int = 50,
) -> FloatArray:
    """Return the policy (S, A) at the root of a search of this depth in a tabular model.

    ``Q_d = R̂ + γ P̂ V_{d-1}``, ``π_d = searched_policy(Q_d)``, ``V_d = Σ π_d Q_d``, V_0 the leaf values. A simplification:
    every node has as many simulations as the root, and chance is averaged.
    """
    V = check_finite(leaf_values, "leaf_values")
    p = check_policy(prior, model, "prior")
    for _ in range(check_count(depth, "depth")):
        Q = action_values(model, V, gamma)
        q = (Q - Q.min()) / max(float(np.ptp(Q)), 1e-12)
        pi = searched_policy(q, p, simulations)
        V = (pi * Q).sum(1)
    return pi


def prior_study(
    settings: Settings | None = None,
    *,
    depth: int = 5,
    simulations: Sequence[int] = (5, 20, 50, 200, 1_000),
    floor: float = 0.01,
) -> pd.DataFrame:
    """Return the true value of acting by search, for both priors, in counted and in perfect models.

    The agent takes the most visited action; leaves hold the exact V^b, so that only model and prior differ. Columns:
    world, model ("counted", "perfect"), prior ("policy", "uniform"), simulations, gain (mean over states of the true
    value minus V^b), regret (minus V^*). ``floor``: uniform share in the policy prior.
    """
    s = check_kind(settings or Settings(), Settings, "settings")
    numbers = [check_count(n, "every number of simulations") for n in check_list(simulations, "simulations")]
    rows = []
    for index in range(s.worlds):
        mdp, b, rng = s.world(index)
        V_b, V_star = value(mdp, b, s.gamma), optimal(mdp, s.gamma)[1]
        counted = counted_model(mdp, b, s.gamma, s.transitions, rng)
        priors = {"policy": epsilon_soft(b, mdp, floor), "uniform": uniform_policy(mdp)}
        for model_name, model in (("counted", counted), ("perfect", mdp)):
            for prior_name, prior in priors.items():
                for n in numbers:
                    pi = greedy(search_in_model(model, prior, V_b, s.gamma, depth=depth, simulations=n))
                    V = value(mdp, pi, s.gamma)
                    rows.append(
                        (
                            index,
                            model_name,
                            prior_name,
                            n,
                            float((V - V_b).mean()),
                            float((V_star - V).mean()),
                        )
                    )
    return pd.DataFrame(rows, columns=["world", "model", "prior", "simulations", "gain", "regret"])


def skill_study(
    settings: Settings | None = None,
    rng: np.random.Generator | None = None,
    *,
    skills: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    depth: int = 5,
    simulations: int = 50,
) -> pd.DataFrame:
    """Return `prior_advantage` against the skill of the behaviour policy; columns skill, model, advantage, low, high, n.

    Not part of the rule: it shows when a prior that follows the behaviour policy helps, and when it holds search back.
    """
    s = check_kind(settings or Settings(), Settings, "settings")
    rng = check_rng(rng or np.random.default_rng(s.seed))
    rows = []
    for skill in check_list(skills, "skills"):
        table = prior_study(replace(s, skill=skill), depth=depth, simulations=(simulations,))
        for model in ("counted", "perfect"):
            rows.append((skill, model, *prior_advantage(table, rng, model=model, simulations=simulations)))
    return pd.DataFrame(rows, columns=["skill", "model", "advantage", "low", "high", "n"])


def prior_advantage(
    table: pd.DataFrame, rng: np.random.Generator, *, model: str = "counted", simulations: int = 50
) -> Interval:
    """Return the mean over worlds of the gain with the policy as prior minus that with a uniform one, with its interval."""
    check_table(table, ("world", "model", "prior", "simulations", "gain"), "table")
    check_choice(model, ("counted", "perfect"), "model")
    part = table[(table["model"] == model) & (table["simulations"] == simulations)]
    if part.empty:
        raise BookError(f"the table has no rows with {simulations} simulations")
    wide = part.pivot(index="world", columns="prior", values="gain")
    return bootstrap_interval((wide["policy"] - wide["uniform"]).to_numpy(), check_rng(rng))


def prior_verdict(advantage: Interval) -> str:
    """Apply ``PRIOR_RULE``: "holds", "does not hold" or "open"."""
    if not isinstance(advantage, Interval):
        raise BookError("the rule needs an interval, as prior_advantage makes it")
    return "holds" if advantage.low > 0 else "does not hold" if advantage.high < 0 else "open"
