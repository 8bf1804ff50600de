"""How far to plan with a wrong model: the horizon that a bound affords, and the one that worlds do.

An agent is judged by the discounted return at γ_eval, but plans in a model P̂ whose rows are off by at most ε
in TV; the rewards, in [0, 1], are known. It may plan at a smaller γ. With h = 1/(1-γ) and H = 1/(1-γ_eval)
the two effective horizons, π̂ optimal in the model at γ, and 1 <= h <= H:

    ``V* - V^π̂  <=  (H - h)  +  2 ε h (h - 1)``          discount bias + 2 x simulation lemma
    ``V* - V^π̂  <=  (H - h)  +  2 ε h (h - 1)/(1 + ε (h - 1))``    with the tight bound of Lobel & Parr.

Proof. V*_H - V^π̂_H = (V*_H - V*_h) + (V*_h - V^π̂_h) + (V^π̂_h - V^π̂_H). A reward t steps away, at most 1,
gains γ_eval^t - γ^t when the discount is raised, and these sum to H - h: that bounds the first bracket. The
third is at most 0, because rewards are not negative. The second is at most twice the value error of the
model, once for the optimal policy and once for π̂, since π̂ looks best in the model. In h the simulation lemma
reads γ ε/(1-γ)² = ε h (h - 1).

The first bound is a parabola in h with its minimum at ``h* = 1/(4ε) + 1/2``; the second has its minimum at
``h* = (√(2(1-ε)) - (1-ε))/ε``, about .414/ε. Neither depends on H. Both reach 1 (γ = 0: look one step ahead) at ε
= 1/2 and would fall below it for larger ε; where h* > H, plan at γ_eval itself.

**What is the formula a fact about?** Of its bound, first of all: :func:`verify` finds the same minimum by
search. Of the worst world: :func:`two_roads` builds worlds where the loss nearly reaches the bound, and
where nothing is guaranteed beyond h = 1 + 1/ε. Of random worlds it need not be: :func:`run_study` measures.

**The rule** (:func:`summarise`), written down after a pilot of 60 MDPs and before the study: the claim "the
horizon worth planning is 1/(4ε) + 1/2" does not hold if search and formula differ by more than 0.2% for one
of 61 values of ε in [1e-4, 1/2]; it holds if in all the random worlds, too, the 95% interval of the best
horizon (over MDPs, widened by one step of the grid) contains it; and otherwise it holds when the bound is
what is minimised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from one_step_trap.core.stats import (
    Interval,
    first_lowest,
    percentile_interval,
)
from one_step_trap.core.tabular import MDP, TIE, optimal_policies, policy_values, random_mdp
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_gamma,
    check_probability,
    check_real,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.trap.bounds import lobel_parr_bound, simulation_bound

Limit = Literal["simulation", "lobel-parr"]
LIMITS: tuple[Limit, ...] = get_args(Limit)
SEARCH_RATIO = 1.001  # of neighbouring horizons in the search
AGREE = 0.002  # relative: two steps of the search
EPSILONS = tuple(float(eps) for eps in np.geomspace(1e-4, 0.5, 61))

HOLDS = "holds"
HOLDS_WHEN = "holds when"
DOES_NOT_HOLD = "does not hold"


# --- the bound and its minimum --------------------------------------------------------------------------------------


def loss_bound(horizon: float, eps_tv: float, *, gamma_eval: float, limit: Limit = "simulation") -> float:
    """Return the bound on V* - V^π̂ at ``gamma_eval`` for an agent that plans at the effective ``horizon``.

    ``(H - h) + 2 B(γ)`` with B the simulation lemma or the bound of Lobel & Parr at γ = 1 - 1/h, rewards in
    [0, 1] and known. ``horizon`` h in [1, H]; ``eps_tv`` in [0, 1]: max over (s, a) of TV(P, P̂). Units of reward.
    """
    H = 1 / (1 - check_gamma(gamma_eval, name="gamma_eval"))
    h, eps_tv, limit = (
        check_real(horizon, "horizon"),
        check_probability(eps_tv, "eps_tv"),
        _check_limit(limit),
    )
    if not 1 <= h <= H * (1 + 1e-12):
        raise BookError(f"horizon must lie between 1 and 1/(1-gamma_eval) = {H:g}, got {h:g}")
    bound = simulation_bound if limit == "simulation" else lobel_parr_bound
    return H - h + 2 * bound(0.0, 2 * eps_tv, 1 - 1 / h)


def affordable_horizon(
    eps_tv: float, *, limit: Limit = "simulation", gamma_eval: float | None = None
) -> float:
    """Return the effective horizon h* that minimises :func:`loss_bound`, in steps.

    ``1/(4ε) + 1/2`` with the simulation lemma, ``(√(2(1-ε)) - (1-ε))/ε`` with Lobel & Parr; not below 1, and not
    above 1/(1-γ_eval) if ``gamma_eval`` is given. ``eps_tv`` in (0, 1]: a TV distance (half of L1).
    """
    eps = check_probability(eps_tv, "eps_tv")
    if eps == 0:
        raise BookError("eps_tv must be above 0: a perfect model affords any horizon")
    tight = (math.sqrt(2 * (1 - eps)) - (1 - eps)) / eps
    h = 1 / (4 * eps) + 1 / 2 if _check_limit(limit) == "simulation" else tight
    H = math.inf if gamma_eval is None else 1 / (1 - check_gamma(gamma_eval, name="gamma_eval"))
    return min(max(h, 1.0), H)


def search_horizon(eps_tv: float, *, limit: Limit = "simulation", longest: float = 1e5) -> float:
    """Return the minimiser of the bound by search over a grid of discounts: nothing of the derivation is used.

    Horizons 1 ... ``longest``, each .1% above the one before; the bound is written in γ, as the papers have it.
    """
    eps, longest = check_probability(eps_tv, "eps_tv"), check_real(longest, "longest")
    if not 1 < longest <= 1e9:
        raise BookError(f"longest must lie above 1 and not above 1e9, got {longest:g}")
    gamma = 1 - 1 / np.geomspace(1, longest, math.ceil(math.log(longest) / math.log(SEARCH_RATIO)) + 1)
    if _check_limit(limit) == "simulation":
        bound = gamma * (2 * eps) / (2 * (1 - gamma) ** 2)
    else:
        bound = 1 / (1 - gamma) - 1 / (1 - gamma * (1 - eps))
    best = int(np.argmin(2 * bound - 1 / (1 - gamma)))
    if best == len(gamma) - 1:
        raise BookError(f"the minimum lies beyond longest = {longest:g} steps: search further")
    return float(1 / (1 - gamma[best]))


def verify(epsilons: Iterable[float] = EPSILONS) -> pd.DataFrame:
    """Return formula and search side by side: ``eps_tv``, ``limit``, ``formula``, ``search``, relative ``gap``."""
    rows = []
    for eps in _sequence(epsilons, "epsilons"):
        for limit in LIMITS:
            formula, found = affordable_horizon(eps, limit=limit), search_horizon(eps, limit=limit)
            rows.append((float(eps), limit, formula, found, abs(found / formula - 1)))
    if not rows:
        raise BookError("epsilons must hold at least one number")
    return pd.DataFrame(rows, columns=["eps_tv", "limit", "formula", "search", "gap"])


# --- the worst world ---------------------------------------------------------------------------------------------------


def two_roads_delay(horizon: float, eps_tv: float) -> float:
    """Return n, how many steps of pay each of the two roads must give up to fool a planner at ``horizon``.

    With γ' = γ(1-ε) and ``X(n) = γ'^k (1 - f (1-γ'))``, n = k + f (k whole, 0 <= f < 1), the model makes both roads
    look alike when ``X(n) = (1 + ε (h-1))/2``. 0 for h >= 1 + 1/ε: there the planner can lose everything.
    """
    h, eps = check_real(horizon, "horizon"), check_probability(eps_tv, "eps_tv")
    if not 1 <= h <= 1e9:
        raise BookError(f"horizon must lie between 1 and 1e9 steps, got {h:g}")
    shorter, level = (1 - 1 / h) * (1 - eps), (1 + eps * (h - 1)) / 2
    if level >= 1:
        return 0.0
    k = math.floor(math.log(level) / math.log(shorter)) if shorter > 0 else 0
    return k + (1 - level / shorter**k) / (1 - shorter)


def two_roads_horizon(eps_tv: float) -> float:
    """Return the horizon that loses least in its worst world of two roads, by search: about .37/ε for small ε."""
    eps = check_probability(eps_tv, "eps_tv")
    if eps == 0:
        raise BookError("eps_tv must be above 0: a perfect model affords any horizon")
    horizons = np.geomspace(1, 1 + 1 / eps, 2001)
    return float(horizons[np.argmax([two_roads_delay(h, eps) for h in horizons])])


def two_roads(delay: float, eps_tv: float) -> tuple[MDP, MDP]:
    """Return a world with two roads and a model of it, ε apart in TV; state 0 is the start, with two actions.

    Action 0 takes the long road: k steps without pay, a step that pays 1 - f, then 1 a step for ever (``delay`` = k +
    f). Action 1 takes the short road: k steps that pay 1, a step that pays f, then nothing for ever. The
    model believes that the long road breaks off, and that the short one meets a jackpot (1 a step for ever),
    each with probability ``eps_tv`` a step.
    """
    delay, eps = check_real(delay, "delay"), check_probability(eps_tv, "eps_tv")
    if not 0 <= delay <= 200:
        raise BookError(f"delay must lie between 0 and 200 steps, got {delay:g}")
    k, f = math.floor(delay), delay - math.floor(delay)
    long_road, short_road = [0.0] * k + [1 - f, 1.0], [1.0] * k + [f, 0.0]  # the last state of a road holds
    first, second = 1, 1 + len(long_road)
    jackpot, dead = second + len(short_road), second + len(short_road) + 1
    S = dead + 1
    P, model, R = np.zeros((S, 2, S)), np.zeros((S, 2, S)), np.zeros((S, 2))

    def step(state: int, action: int | slice, pay: float, after: int, wrong: int) -> None:
        R[state, action], P[state, action, after] = pay, 1
        model[state, action, after] = 1 - eps
        model[state, action, wrong] += eps

    for begin, road, wrong in ((first, long_road, dead), (second, short_road, jackpot)):
        for i, pay in enumerate(road):
            step(begin + i, slice(None), pay, begin + min(i + 1, len(road) - 1), wrong)
    step(0, 0, long_road[0], first + 1, dead)
    step(0, 1, short_road[0], second + 1, jackpot)
    for state, pay in ((jackpot, 1.0), (dead, 0.0)):
        step(state, slice(None), pay, state, state)
    return MDP(P, R), MDP(model, R)


# --- random worlds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlanningStudy:
    """Random worlds and wrong models of them; planning horizons from 1 to 1/(1-``gamma_eval``).

    Worlds as in chapter 2 (Jiang et al. 2015): 10 states, 2 actions, 5 successors, rewards U[0, 1], known to the
    planner. ``dwell`` slows them down: a state is left with probability 1/dwell a step. ``eps_tv``: in the model every
    (s, a) goes with that probability to one wrong state, so that its TV error is exactly that. ``samples``: models
    learned from so many draws of every (s, a), whose largest TV error is measured.
    """

    mdps: int = 200
    models: int = 3
    dwell: tuple[float, ...] = (1, 10, 100)
    eps_tv: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01, 0.003)
    samples: tuple[int, ...] = (10, 100, 1000)
    grid: int = 22
    gamma_eval: float = 0.999

    def __post_init__(self) -> None:
        for name, minimum in (("mdps", 2), ("models", 1), ("grid", 3)):
            object.__setattr__(self, name, check_count(getattr(self, name), name, minimum=minimum))
        dwell = tuple(check_real(value, "dwell") for value in _sequence(self.dwell, "dwell"))
        eps = tuple(check_probability(value, "eps_tv") for value in _sequence(self.eps_tv, "eps_tv"))
        samples = tuple(check_count(value, "samples") for value in _sequence(self.samples, "samples"))
        if not dwell or min(dwell) < 1:
            raise BookError(f"dwell must be one or more numbers of at least 1, got {list(dwell)}")
        if not eps or min(eps) == 0:
            raise BookError(f"eps_tv must be one or more numbers above 0, got {list(eps)}")
        if not 0.5 <= check_real(self.gamma_eval, "gamma_eval") <= 0.99999:
            raise BookError(f"gamma_eval must lie in [0.5, 0.99999], got {self.gamma_eval:g}")
        for name, value in (("dwell", dwell), ("eps_tv", eps), ("samples", samples)):
            object.__setattr__(self, name, value)

    @property
    def horizons(self) -> FloatArray:
        """Planning horizons 1/(1-γ), in steps, (h,)."""
        return np.geomspace(1, 1 / (1 - self.gamma_eval), self.grid)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the kinds of model: by the error put in, or by the number of samples."""
        return tuple([f"ε = {eps:g}" for eps in self.eps_tv] + [f"{n} samples" for n in self.samples])


@dataclass(frozen=True)
class PlanningLosses:
    """What :func:`run_study` measured.

    ``loss`` (dwell, level, mdps, h): V* - V^π̂ at γ_eval, mean over states and models. ``worst`` (dwell,
    level, h): the largest over states, models and MDPs. ``tv`` (dwell, level): the TV error max over (s, a), mean over
    models; ``tv_worst``: of the worst model.
    """

    study: PlanningStudy
    loss: FloatArray
    worst: FloatArray
    tv: FloatArray
    tv_worst: FloatArray

    def violations(self) -> int:
        """Return how many entries of ``worst`` exceed their :func:`loss_bound` (of Lobel & Parr, the smaller one)."""
        gamma_eval, count = self.study.gamma_eval, 0
        for worst, tv in zip(
            self.worst.reshape(-1, self.study.grid), np.minimum(self.tv_worst, 1).ravel(), strict=True
        ):
            for h, loss in zip(self.study.horizons, worst, strict=True):
                count += loss > loss_bound(h, tv, gamma_eval=gamma_eval, limit="lobel-parr") * (1 + 1e-9)
        return int(count)


def run_study(study: PlanningStudy, rng: np.random.Generator) -> PlanningLosses:
    """Plan in every model at every horizon and value the plans in the world, exactly.

    MDP i has a generator of its own and is the same for every ``dwell``, but for its pace.
    """
    if not isinstance(study, PlanningStudy):
        raise BookError(f"study must be a PlanningStudy, got {study!r}")
    worlds = [_draw(study, child) for child in check_rng(rng).spawn(study.mdps)]
    P, R = (
        np.stack([getattr(mdp, name) for mdp, _ in worlds]) for name in ("P", "R")
    )  # (M, S, A, S), (M, S, A)
    parts = []
    for i in range(len(study.dwell)):
        paced = _slow(P, study.dwell[i])
        models = np.stack([drawn[i] for _, drawn in worlds])  # (M, L, D, S, A, S)
        tv = np.abs(models - paced[:, None, None]).sum(axis=-1) / 2  # (M, L, D, S, A)
        largest = tv.max(axis=(3, 4))  # (M, L, D)
        loss, worst = _losses(study, paced, R, models)
        parts.append((loss, worst, largest.mean(axis=(0, 2)), largest.max(axis=(0, 2))))
    return PlanningLosses(study, *(np.stack(column) for column in zip(*parts, strict=True)))


def _slow(P: FloatArray, dwell: float) -> FloatArray:
    """Return P (..., S, A, S) at another pace: every state is left with probability 1/dwell a step."""
    return np.asarray((1 - 1 / dwell) * np.eye(P.shape[-1])[:, None, :] + P / dwell)


def _draw(study: PlanningStudy, rng: np.random.Generator) -> tuple[MDP, list[FloatArray]]:
    """Return an MDP and its models (L, D, S, A, S), an array for each pace."""
    mdp = random_mdp(rng)
    models = []
    for dwell in study.dwell:
        P = _slow(mdp.P, dwell)
        wrong = [wrong_models(P, eps, study.models, rng) for eps in study.eps_tv]
        learned = [rng.multinomial(n, P, size=(study.models, *P.shape[:2])) / n for n in study.samples]
        models.append(np.stack(wrong + learned))
    return mdp, models


def wrong_models(P: FloatArray, eps_tv: float, models: int, rng: np.random.Generator) -> FloatArray:
    """Return ``models`` models (D, S, A, S) of ``P`` (S, A, S) that go to one wrong state with probability ε.

    A wrong state is one that (s, a) never leads to, so every row is off by exactly ``eps_tv`` in TV.
    """
    eps, D = check_probability(eps_tv, "eps_tv"), check_count(models, "models")
    free = np.broadcast_to(P == 0, (D, *P.shape))
    if not free.any(axis=-1).all():
        raise BookError("some (s, a) leads to every state: no state is wrong for it")
    wrong = np.where(free, check_rng(rng).random(free.shape), -1.0).argmax(axis=-1)  # (D, S, A)
    return np.asarray((1 - eps) * P + eps * np.eye(P.shape[-1])[wrong])


def _plans(P: FloatArray, R: FloatArray, gamma: FloatArray, start: IntArray) -> IntArray:
    """Return an optimal policy of each MDP, (B, S).

    Beyond a horizon of 1,000 steps "equally good" is wider, as the rounding of the values grows with the square of it.
    """
    return optimal_policies(P, R, gamma, start, TIE * np.maximum(1, 1e-3 / (1 - gamma)) ** 2)


def _losses(
    study: PlanningStudy, P: FloatArray, R: FloatArray, models: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the mean loss (L, M, h) and the largest (L, h) of plans made in ``models`` (M, L, D, S, A, S)."""
    M, L, D, S, A, _ = models.shape
    every = np.repeat(np.arange(M), L * D)  # the world of each model
    flat, gamma_eval = models.reshape(-1, S, A, S), np.full(M, study.gamma_eval)
    start = np.zeros((M, S), dtype=np.int64)
    V_star = policy_values(P, R, gamma_eval, _plans(P, R, gamma_eval, start))  # (M, S)
    policy, P_true, R_true = start[every], P[every], R[every]
    mean, worst = [], []
    for h in study.horizons:
        policy = _plans(flat, R_true, np.full(len(flat), 1 - 1 / h), policy)
        V = policy_values(P_true, R_true, gamma_eval[every], policy)
        loss = (V_star[every] - V).reshape(M, L, D, S)
        mean.append(loss.mean(axis=(2, 3)).T)
        worst.append(loss.max(axis=(0, 2, 3)))
    return np.stack(mean, axis=-1), np.stack(worst, axis=-1)


# --- what came out ---------------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """One pace and one kind of model: the best horizon beside the formula's, and what each loses.

    ``eps_tv``: TV error, max over (s, a); ``best``: horizon with the lowest mean loss, interval over MDPs;
    ``formula``: 1/(4ε) + 1/2, between 1 and H; ``contains``: the interval, widened by one step of the grid,
    contains it. Losses are in units of reward, at the horizon of the grid nearest to the formula's
    (``loss_formula``), at the best (``loss_best``), at 1 and at H.
    """

    dwell: float
    level: str
    eps_tv: float
    formula: float
    best: Interval
    contains: bool
    loss_formula: Interval
    loss_best: Interval
    loss_short: Interval
    loss_long: Interval


@dataclass(frozen=True)
class Affordable:
    """The cells of a study, the largest relative ``gap`` of formula and search, and the verdict of the rule."""

    cells: tuple[Cell, ...]
    gap: float
    verdict: str

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row a cell: the estimates, and the interval of the best horizon."""
        return pd.DataFrame(
            {
                "dwell": cell.dwell,
                "model": cell.level,
                "eps_tv": cell.eps_tv,
                "formula": cell.formula,
                "best": cell.best.value,
                "low": cell.best.low,
                "high": cell.best.high,
                "contains": cell.contains,
                "best/formula": cell.best.value / cell.formula,
                "loss at 1": cell.loss_short.value,
                "at the formula": cell.loss_formula.value,
                "at the best": cell.loss_best.value,
                "at the longest": cell.loss_long.value,
            }
            for cell in self.cells
        )


def summarise(losses: PlanningLosses, rng: np.random.Generator, *, resamples: int = 2_000) -> Affordable:
    """Return intervals bootstrapped over MDPs (each resample chooses its own best horizon) and the verdict."""
    if not isinstance(losses, PlanningLosses):
        raise BookError(f"losses must be what run_study returned, got {losses!r}")
    M, resamples = losses.study.mdps, check_count(resamples, "resamples", minimum=100)
    weights = check_rng(rng).multinomial(M, np.full(M, 1 / M), size=resamples) / M  # (B, M)
    weights = np.concatenate([np.full((1, M), 1 / M), weights])  # entry 0 is the estimate itself
    cells = tuple(
        _cell(losses, weights, i, j)
        for i in range(len(losses.study.dwell))
        for j in range(len(losses.study.levels))
    )
    gap = float(verify()["gap"].max())
    if gap > AGREE:
        return Affordable(cells, gap, DOES_NOT_HOLD)
    return Affordable(cells, gap, HOLDS if all(cell.contains for cell in cells) else HOLDS_WHEN)


def _cell(losses: PlanningLosses, weights: FloatArray, i: int, j: int) -> Cell:
    study, M = losses.study, losses.study.mdps
    horizons, step = study.horizons, study.horizons[1] / study.horizons[0]
    curves = weights @ losses.loss[i, j]  # (1 + B, h)
    best = percentile_interval(horizons[first_lowest(curves, TIE)], M)
    eps = min(float(losses.tv[i, j]), 1.0)
    formula = affordable_horizon(eps, gamma_eval=study.gamma_eval)
    nearest = int(np.abs(np.log(horizons / formula)).argmin())
    return Cell(
        study.dwell[i],
        study.levels[j],
        eps,
        formula,
        best,
        bool(best.low / step <= formula <= best.high * step),
        percentile_interval(curves[:, nearest], M),
        percentile_interval(curves.min(axis=1), M),
        percentile_interval(curves[:, 0], M),
        percentile_interval(curves[:, -1], M),
    )


def _check_limit(limit: Any) -> Limit:
    if limit not in LIMITS:
        raise BookError(f"limit must be one of {', '.join(LIMITS)}, got {limit!r}")
    known: Limit = limit
    return known


def _sequence(values: Any, name: str) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise BookError(f"{name} must be a sequence of numbers, got {values!r}")
    return tuple(values)
