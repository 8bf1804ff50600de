"""How many steps ahead to plan in a wrong model: a formula, and tables in which it can be tested exactly.

**Our formula for a hard horizon.** Rewards lie in [0, 1] and are known. e_0 = 0 <= e_1 <= ... bound the total variation
(half the L1 distance) between where i steps lead in the model and in the world, under any fixed plan. Each promised reward
is then wrong by at most γⁱ e_i, so that over h steps the plan that is best in the model loses at most twice their sum
against the plan that is best in the world; and after h steps it loses at most all that is left:

    loss(h)  <=  Σ_{i>=h} γⁱ  +  2 Σ_{i<h} γⁱ e_i .

One step more trades γʰ for 2 γʰ e_h: it is worth it while **e_h < 1/2, whatever the discount**. If errors add up,
e_i = i ε, the best is h* = ⌈1/(2ε)⌉; if they mix, e_i = 1 - (1-ε)ⁱ, it is ⌈ln 2 / -ln(1-ε)⌉. For a *discount* in place of a
hard end the same trade gives 1/(1-γ*) = 1/(4ε) + 1/2. All of them minimise a *bound*, for one plan carried out to its end. An
agent that plans anew at every step (receding horizon) is not covered by it; whether its loss is least near h* is what is
measured.

**The test.** In a table the best plan of h steps in the model is exact, by dynamic programming with nothing after its end,
and so is the value, in the world, of the agent that takes its first action and plans again. Two worlds: FrozenLake-v1,
whose only reward is far away, and random MDPs (Jiang et al. 2015), where rewards are everywhere. Two ways to be wrong:
models counted from samples, and models that misdirect a share ε of every transition.

**The rule, fixed before the study** (`summarise`): "the worse the model, the shorter the horizon worth planning" **holds** in
a set of models, ordered from worst to best, when the 95% interval of log2(best h of the best model / best h of the worst),
bootstrapped over seeds, lies above 0, *and* between no two neighbours the best h falls by more than chance (the interval of
their log2 ratio below 0). If only the first is true it **holds between the extremes only**; otherwise it **does not hold**.
The best h is the one with the highest mean value over seeds, the smaller one where two tie. (A first version, "the best
h never falls", was dropped in trials on tables: where more steps neither help nor harm, the best h is decided by the tenth
digit, and the verdict changed with the seed.)
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import (
    Interval,
    first_lowest,
    percentile_intervals,
)
from one_step_trap.core.tabular import MDP, TIE, Table, chain_values, random_mdp, toy_text
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_gamma,
    check_probability,
    check_rng,
)
from one_step_trap.errors import BookError

HOLDS = "holds"
HOLDS_AT_ENDS = "holds between the extremes only"
DOES_NOT_HOLD = "does not hold"


# --- the formula ------------------------------------------------------------------------------------------


def hard_horizon(eps_tv: float, *, mixture: bool = False) -> int:
    """Return the hard horizon h* that minimises the bound: the number of steps i = 0, 1, ... with e_i < 1/2.

    ``e_i = i ε`` gives h* = ⌈1/(2ε)⌉; with ``mixture``, ``e_i = 1 - (1-ε)ⁱ``, never larger, gives ⌈ln 2 / -ln(1-ε)⌉.
    ``eps_tv`` in (0, 1] is the largest total variation (half the L1 distance) of one step. Whatever it is, h* >= 1: the
    first reward is known. Between two *different* deterministic predictions of a continuous state ε is 1, however close
    they are, and the formula says nothing.
    """
    eps = check_probability(eps_tv, "eps_tv")
    if eps == 0:
        raise BookError("eps_tv must be above 0: a perfect model can be followed for ever")
    if eps == 1:
        return 1
    exact = math.log(2) / -math.log1p(-eps) if mixture else 1 / (2 * eps)
    return max(1, math.ceil(exact - 1e-9))


# --- tables -----------------------------------------------------------------------------------------------


def random_table(rng: np.random.Generator) -> Table:
    """Return a random MDP of Jiang et al. 2015: 10 states, 2 actions, 5 successors each, rewards U[0, 1]."""
    mdp = random_mdp(rng)
    return Table("random MDPs", mdp, np.ones(len(mdp.R), dtype=bool))


# --- wrong models -----------------------------------------------------------------------------------------


def counted(mdp: MDP, samples: float, rng: np.random.Generator) -> MDP:
    """Return the maximum-likelihood model from ``samples`` observed successors of every (s, a); rewards are known."""
    check_rng(rng)
    m = check_count(samples, "samples")
    return MDP(rng.multinomial(m, mdp.P / mdp.P.sum(axis=2, keepdims=True)) / m, mdp.R)


def misdirected(mdp: MDP, eps_tv: float, rng: np.random.Generator) -> MDP:
    """Return a systematically wrong model: ``P̂ = (1-ε) P + ε 1{s' = z(s,a)}``, z uniform; rewards are known.

    Its total variation (half the L1 distance) is ε (1 - P(z|s,a)) at (s, a), and no data would mend it. (Mixing all pairs
    with the *same* distribution would teach nothing: that is a smaller discount, and the plan is that of γ (1-ε).)
    """
    check_rng(rng)
    eps = check_probability(eps_tv, "eps_tv")
    S, A = mdp.R.shape
    return MDP((1 - eps) * mdp.P + eps * np.eye(S)[rng.integers(S, size=(S, A))], mdp.R)


def tv_errors(P: ArrayLike, P_hat: ArrayLike) -> FloatArray:
    """Return the total variation ``½ Σ_s' abs(P̂ - P)`` (half the L1 distance) of every row: (..., S) gives (...)."""
    p, q = check_finite(P, "P"), check_finite(P_hat, "P_hat")
    if p.shape != q.shape or not p.ndim:
        raise BookError(f"P and P_hat must have the same shape, got {p.shape} and {q.shape}")
    return np.asarray(np.abs(p - q).sum(axis=-1) / 2)


# --- planning, exactly ------------------------------------------------------------------------------------


def lookahead(P: FloatArray, R: FloatArray, horizons: Sequence[int], gamma: float) -> IntArray:
    """Return the first actions (B, H, S) of the best h-step plans: ``P`` (B, S, A, S), ``R`` (B, S, A).

    ``V_0 = 0, V_h(s) = max_a R(s,a) + γ Σ_s' P(s'|s,a) V_{h-1}(s')``; among equally good actions, the first.
    """
    B, S, A = R.shape
    flat, V, policies = P.reshape(B, S * A, S), np.zeros((B, S)), {}
    for h in range(1, max(horizons) + 1):
        Q = R + gamma * (flat @ V[:, :, None]).reshape(B, S, A)
        V = Q.max(axis=2)
        if h in horizons:
            policies[h] = _first_best(Q)
    return np.stack([policies[h] for h in horizons], axis=1)


def _first_best(Q: FloatArray) -> IntArray:
    """Return the first of the actions that are as good as the best, up to `TIE`."""
    return np.asarray((Q.max(axis=-1, keepdims=True) - TIE <= Q).argmax(axis=-1))


def policy_values(P: FloatArray, R: FloatArray, policies: IntArray, gamma: float) -> FloatArray:
    """Return V^π (B, H, S) = (I - γ P_π)⁻¹ R_π, exactly: ``P`` (B, S, A, S), ``R`` (B, S, A), π (B, H, S)."""
    B, S = P.shape[:2]
    world, state = np.arange(B)[:, None, None], np.arange(S)
    P_pi, R_pi = P[world, state, policies], R[world, state, policies]  # (B, H, S, S), (B, H, S)
    return chain_values(P_pi, R_pi, gamma)


def optimal_policy(P: FloatArray, R: FloatArray, gamma: float) -> IntArray:
    """Return the optimal policies (B, S) for ``P`` (B, S, A, S) and ``R`` (B, S, A), by policy iteration."""
    policy = np.zeros(R.shape[:2], dtype=np.int64)
    while True:
        V = policy_values(P, R, policy[:, None], gamma)[:, 0]
        Q = R + gamma * np.einsum("bsax,bx->bsa", P, V)
        now = np.take_along_axis(Q, policy[..., None], axis=2)[..., 0]
        better = np.where(Q.max(axis=2) > now + TIE, Q.argmax(axis=2), policy)
        if (better == policy).all():
            return policy
        policy = better


# --- the experiment ---------------------------------------------------------------------------------------

HORIZONS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 30, 40, 50, 70, 100, 150, 200)
Kind = Literal["counted", "misdirected"]
MAKERS: dict[str, Callable[[MDP, float, np.random.Generator], MDP]] = {
    "counted": counted,
    "misdirected": misdirected,
}
LEVELS: dict[str, tuple[float, ...]] = {
    "counted": (1, 2, 5, 10, 30, 100, 1_000),
    "misdirected": (0.8, 0.5, 0.3, 0.1, 0.03, 0.01),
}
"""From the worst models to the best: samples of every (s, a), and ε."""


@dataclass(frozen=True)
class LookaheadResult:
    """Planning in wrong models of a table: L levels of model quality, from worst to best, n seeds, H horizons.

    ``lost`` (L, n, H): value lost against the optimum (discounted by ``gamma``, mean over the states that go on) by acting
    on h-step plans in the model. ``eps_mean``, ``eps_max`` (L, n): total variation (half the L1 distance) of the model, mean
    and largest over (s, a) of the states that go on.
    """

    name: str
    kind: str
    levels: tuple[float, ...]
    horizons: tuple[int, ...]
    gamma: float
    lost: FloatArray
    eps_mean: FloatArray
    eps_max: FloatArray

    def labels(self) -> tuple[str, ...]:
        """Return what each level is called."""
        return tuple(f"m = {x:,g}" if self.kind == "counted" else f"ε = {x:g}" for x in self.levels)

    def lost_at(self, horizons: Sequence[int]) -> FloatArray:
        """Return the mean value lost (L,) at one horizon a level: on the grid, or the next one of the grid."""
        chosen = [check_count(h, "horizon") for h in horizons]
        if len(chosen) != len(self.levels):
            raise BookError(f"give one horizon for each of {len(self.levels)} levels, got {len(chosen)}")
        at = np.minimum(np.searchsorted(self.horizons, chosen), len(self.horizons) - 1)
        return np.asarray(self.lost.mean(axis=1)[np.arange(len(at)), at])

    def formula(self, *, mixture: bool = False, worst: bool = False) -> tuple[int, ...]:
        """Return the `hard_horizon` of each level, from the mean ε_TV, or from the largest (``worst``)."""
        eps = (self.eps_max if worst else self.eps_mean).mean(axis=1)
        return tuple(hard_horizon(min(float(e), 1.0), mixture=mixture) for e in eps)


def plan_in_tables(
    world: Table | Callable[[np.random.Generator], Table] | None = None,
    kind: Kind = "counted",
    *,
    levels: Sequence[float] | None = None,
    horizons: Sequence[int] = HORIZONS,
    seeds: int = 200,
    gamma: float = 0.99,
    seed: int = 0,
) -> LookaheadResult:
    """Return the value lost by planning h steps in wrong models of a table, exactly, over independent seeds.

    ``world``: a `Table` (FrozenLake-v1 by default), or a function that draws one for each seed (`random_table`). ``kind``:
    `counted` models (``levels``: samples of each (s, a)) or `misdirected` ones (``levels``: ε); levels go from worst to
    best. Seed i draws its world, and its models of all levels, from generators of its own: the same in a study of 10
    seeds as in one of 1,000.
    """
    draw = _drawer(toy_text() if world is None else world)
    if not isinstance(kind, str) or kind not in MAKERS:
        raise BookError(f"kind must be one of {', '.join(MAKERS)}, got {kind!r}")
    make, levels = MAKERS[kind], check_levels(kind, LEVELS[kind] if levels is None else levels)
    H, gamma = check_horizons(horizons), check_gamma(gamma)
    seed, n = check_count(seed, "seed", minimum=0), check_count(seeds, "seeds")
    tables = [draw(np.random.default_rng([seed, i, 0])) for i in range(n)]
    if not all(isinstance(t, Table) and t.mdp.P.shape == tables[0].mdp.P.shape for t in tables):
        raise BookError("the function world(rng) must return Tables, all with the same states and actions")
    P, R = np.stack([t.mdp.P for t in tables]), np.stack([t.mdp.R for t in tables])  # (n, S, A, S), (n, S, A)
    going = np.stack([t.going for t in tables])  # (n, S)

    def mean(values: FloatArray) -> FloatArray:
        """Return the mean (n, ...) over the states that go on of values (n, ..., S)."""
        weight = (going / going.sum(axis=1, keepdims=True)).reshape(n, *[1] * (values.ndim - 2), -1)
        return np.asarray((values * weight).sum(axis=-1))

    def value(policies: IntArray) -> FloatArray:
        return mean(policy_values(P, R, policies, gamma))

    optimum = value(optimal_policy(P, R, gamma)[:, None])  # (n, 1)
    lost, eps_mean, eps_max = [], [], []
    for level in levels:
        models = [make(t.mdp, level, np.random.default_rng([seed, i, 1])) for i, t in enumerate(tables)]
        P_hat = np.stack([model.P for model in models])
        lost.append(optimum - value(lookahead(P_hat, R, H, gamma)))
        eps = tv_errors(P, P_hat)  # (n, S, A)
        eps_mean.append(mean(eps.mean(axis=2)))
        eps_max.append(np.where(going[..., None], eps, 0).max(axis=(1, 2)))
    return LookaheadResult(tables[0].name, kind, levels, H, gamma, *map(np.stack, (lost, eps_mean, eps_max)))


def _drawer(world: Table | Callable[[np.random.Generator], Table]) -> Callable[[np.random.Generator], Table]:
    if isinstance(world, Table):
        return lambda rng: world
    if not callable(world):
        raise BookError(
            f"world must be a Table, such as toy_text('FrozenLake-v1'), or a function, got {world!r}"
        )
    return world


def check_levels(kind: str, levels: Sequence[float]) -> tuple[float, ...]:
    """Return the levels of model quality, or raise unless they go from the worst model to the best."""
    check = functools.partial(check_count, name="samples") if kind == "counted" else _check_eps
    try:
        result = tuple(check(x) for x in levels)
    except TypeError:
        raise BookError(f"levels must be a list of numbers, got {levels!r}") from None
    sign = 1 if kind == "counted" else -1
    if not result or any(sign * (b - a) <= 0 for a, b in itertools.pairwise(result)):
        raise BookError(f"levels must go from the worst model to the best, got {list(levels)}")
    return result


def _check_eps(value: float) -> float:
    return check_probability(value, "eps_tv")


def check_horizons(horizons: Sequence[int]) -> tuple[int, ...]:
    """Return the horizons as increasing whole numbers of at least 1, or raise."""
    try:
        result = tuple(check_count(h, "horizon") for h in horizons)
    except TypeError:
        raise BookError(f"horizons must be a list of whole numbers, got {horizons!r}") from None
    if not result or any(b <= a for a, b in itertools.pairwise(result)):
        raise BookError(f"horizons must be increasing whole numbers, got {list(horizons)}")
    return result


# --- the best horizon, and the verdict --------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Intervals over seeds, one entry for each model (from worst to best), and the verdict of the rule above.

    ``best``: best h; ``best_value``: its value, the best h chosen anew in each resample; ``longest_value``: the value of
    the longest horizon; ``shift``: log2 of the best h of the last model over that of the first.
    """

    labels: tuple[str, ...]
    best: tuple[Interval, ...]
    best_value: tuple[Interval, ...]
    longest_value: tuple[Interval, ...]
    shift: Interval
    verdict: str

    def to_frame(self) -> pd.DataFrame:
        """Return a table to be shown: one row a model."""
        rows = zip(self.labels, self.best, self.best_value, self.longest_value, strict=True)
        return pd.DataFrame(
            [(label, *map(str, cells)) for label, *cells in rows],
            columns=["model", "best h (steps)", "value at best h", "value at longest h"],
        )


def summarise(
    values: Sequence[ArrayLike],
    horizons: Sequence[int],
    labels: Sequence[str],
    rng: np.random.Generator,
    *,
    resamples: int = 4_000,
) -> Summary:
    """Return the best horizon of each model, with intervals bootstrapped over seeds, and the verdict of the rule.

    ``values`` holds one array (seeds, H) a model, from the worst model to the best; the seeds are the same for all (they
    are drawn together).
    """
    check_rng(rng)
    H = np.array(check_horizons(horizons))
    resamples = check_count(resamples, "resamples")
    stacked = [check_finite(v, "values") for v in values]
    if len(stacked) < 2 or len(labels) != len(stacked):
        raise BookError(
            f"a trend needs at least 2 models, each with a label, got {len(stacked)} and {len(labels)}"
        )
    if len({v.shape for v in stacked}) != 1 or stacked[0].ndim != 2 or stacked[0].shape[1] != len(H):
        raise BookError(f"values must have shape (seeds, {len(H)}) for every model")
    V = np.stack(stacked)  # (L, n, H)
    n = V.shape[1]
    if n < 2:
        raise BookError(f"an interval needs at least 2 seeds, got {n}")
    weights = (
        rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n
    )  # (B, n): how often each seed is drawn
    means = np.einsum("bn,lnh->blh", weights, V, optimize=True)
    means = np.concatenate([V.mean(axis=1)[None], means])  # (1 + B, L, H): the first is the estimate itself
    best = H[first_lowest(-means, TIE)].astype(np.float64)  # (1 + B, L)
    intervals = functools.partial(percentile_intervals, n=n, method="nearest")
    (shift,) = intervals(np.log2(best[:, [-1]] / best[:, [0]]))
    steps = intervals(np.diff(np.log2(best), axis=1))  # between neighbours
    verdict = DOES_NOT_HOLD
    if shift.low > 0:
        verdict = HOLDS_AT_ENDS if any(step.high < 0 for step in steps) else HOLDS
    return Summary(
        tuple(labels),
        intervals(best),
        intervals(means.max(axis=2)),
        intervals(means[:, :, -1]),
        shift,
        verdict,
    )


def summarise_tables(result: LookaheadResult, rng: np.random.Generator, *, resamples: int = 4_000) -> Summary:
    """Return the best horizon of each level with intervals over seeds, and the verdict; values are minus what is lost."""
    return summarise(list(-result.lost), result.horizons, result.labels(), rng, resamples=resamples)
