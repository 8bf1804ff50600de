"""Four regimes of an imperfect model: mixing, leak, drift and expansive dynamics, each with its closed form.

Every constructor takes ``eps``, the error of one step, and returns a true chain with its model (`Regime`). ``eps`` is a TV
distance (half of L1) in the first three, and a W₁ distance in a world of size 1 in the expansive regime.

**The rule for "one-step errors compound", fixed before looking** (`compounding_verdict`): in a regime the error
compounds if at some n ≤ 10⁴ it is at least ``COMPOUNDS`` = 10 times the one-step error. In the mixing regime it fades if the
95% interval of the mean of e(10⁴)/e(1), over at least 100 random chains, lies below 1. The claim holds if the error
compounds in all four regimes, holds conditionally if in some of them, and does not hold if in none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse, special, stats

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.tabular import (
    check_chain,
    dobrushin,
    normalised,
    total_variation,
)
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_positive,
    check_probability,
    check_real,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.trap.chains import (
    LONGEST,
    ErrorCurve,
    Growth,
    Metric,
    check_steps,
    geometric_bound,
    growth,
    log_steps,
    n_step_error,
    steps_until,
)

ClosedForm = Callable[[ArrayLike], FloatArray]

# --- closed forms -----------------------------------------------------------------------------------------

FLIP = 0.4  # the two-state chain of the mixing regime changes its state with this probability
SECOND = 0.75  # its model overstates the way back by this share of eps


def two_state_error(eps: float, steps: ArrayLike) -> FloatArray:
    """Return the TV error (worst start) of a two-state chain whose model flips too often: it fades.

    The truth flips with probability a = b = 0.4; the model believes â = a + ε and b̂ = b + ¾ε. With κ = 1 - a - b and
    π = a/(a + b), the chain is in state 1 after n steps with probability ``π(1 - κⁿ)`` from state 0 and ``π + (1 - π)κⁿ``
    from state 1, and likewise with hats. The TV error is the absolute difference of these numbers: ε at n = 1, and
    about ε (b - ¾a)/(a + b)² = 0.16 ε in the end. ``eps`` in (0, 0.6].
    """
    eps = _check_eps(eps, 1 - FLIP)
    n = check_steps(steps).astype(np.float64)
    a_hat, b_hat = FLIP + eps, FLIP + SECOND * eps
    kappa, kappa_hat = 1 - 2 * FLIP, 1 - a_hat - b_hat
    pi, pi_hat = 0.5, a_hat / (a_hat + b_hat)
    from_0 = pi_hat * (1 - kappa_hat**n) - pi * (1 - kappa**n)
    from_1 = pi_hat + (1 - pi_hat) * kappa_hat**n - pi - (1 - pi) * kappa**n
    return np.maximum(np.abs(from_0), np.abs(from_1))


def leak_error(eps: float, steps: ArrayLike, *, leak: float = 0.0) -> FloatArray:
    """Return ``(1-a)ⁿ - (1-a-ε)ⁿ``, the TV error of a model that lets too much leak: ``1 - (1-ε)ⁿ`` at a = 0.

    The truth stays where it is with probability 1-a each step (``leak`` = a, 0 by default) and is absorbed otherwise;
    the model believes a + ε. With a > 0 the error rises and then fades, because in the end both are absorbed.
    """
    leak = check_probability(leak, "leak")
    eps = _check_eps(eps, 1 - leak)
    n = check_steps(steps).astype(np.float64)
    with np.errstate(divide="ignore"):
        stays, believed = np.log1p(-leak), np.log1p(-min(leak + eps, 1.0))
    return np.asarray(np.exp(n * stays) - np.exp(n * believed))


def binomial_tv(p: float, q: float, steps: ArrayLike) -> FloatArray:
    """Return the exact TV between Binomial(n, p) and Binomial(n, q), hence between walks that step right with p and q.

    The likelihood ratio is monotone in the number k of steps to the right, so that the TV is attained by a half-line:
    ``TV = |F_p(k*) - F_q(k*)|`` with ``k* = ⌊n ln((1-p)/(1-q)) / ln(q(1-p)/(p(1-q)))⌋``. ``p``, ``q`` in (0, 1).
    """
    p, q = sorted(check_probability(value, name) for value, name in ((p, "p"), (q, "q")))
    if p == 0 or q == 1:
        raise BookError("p and q must lie strictly between 0 and 1")
    n = check_steps(steps)
    if p == q:
        return np.zeros(len(n))
    odds = math.log(q / p) + math.log1p(-p) - math.log1p(-q)
    k = np.floor(n * (math.log1p(-p) - math.log1p(-q)) / odds)
    return np.asarray(stats.binom.cdf(k, n, p) - stats.binom.cdf(k, n, q))


def gaussian_drift_error(eps: float, steps: ArrayLike) -> FloatArray:
    """Return ``2Φ(√n Φ⁻¹((1+ε)/2)) - 1``, the exact TV error of a Gaussian walk whose model drifts: about ε√n.

    The truth steps by N(0, σ²), the model by N(δ, σ²), with δ/σ such that the TV of one step is ``eps``. After
    n steps the means are nδ apart and the standard deviation is σ√n, so the TV is ``2Φ(δ√n/(2σ)) - 1``. It is also
    the limit of the binomial walk. ``eps`` in (0, 1).
    """
    eps = _check_eps(eps, 1 - 1e-12)
    n = check_steps(steps).astype(np.float64)
    half = special.ndtri((1 + eps) / 2)  # δ/(2σ)
    return np.asarray(special.erf(np.sqrt(n / 2) * half))


def clipped_error(eps: float, steps: ArrayLike, *, K: float = 2.0) -> FloatArray:
    """Return ``min(1, ε (Kⁿ - 1)/(K - 1))``, the W₁ error of an expansive map in a world of size 1.

    Truth: ``x' = min(1, Kx)``; model: ``x' = min(1, Kx + ε)``, both started at the fixed point 0. The model's state grows
    as that of the unbounded map until it reaches the end of the world. ``eps`` in (0, 1], ``K`` > 1.
    """
    eps, K = _check_eps(eps, 1), _check_expansion(K)
    return np.minimum(1.0, geometric_bound(eps, K, steps))


def _check_eps(eps: Any, most: float) -> float:
    number = check_positive(eps, "eps")
    if number > most:
        raise BookError(f"eps must lie in (0, {most:g}] here, got {number:g}")
    return number


def _check_expansion(K: Any) -> float:
    number = check_real(K, "K")
    if number <= 1:
        raise BookError(f"an expansive map needs K > 1, got {number:g}")
    return number


# --- regimes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Regime:
    """A true chain and its model, where they start, and what theory says of the error.

    ``metric`` is the one in which the regime shows; ``closed`` maps metrics to the function n -> error that theory gives;
    ``bound`` tells that it is an upper bound and not the error itself. ``start`` empty: the worst case.
    """

    name: str
    metric: Metric
    P: Any
    P_hat: Any
    positions: FloatArray
    start: ArrayLike | None
    closed: Mapping[Metric, ClosedForm] = field(repr=False)
    bound: bool = False

    def measure(self, steps: ArrayLike | None = None) -> ErrorCurve:
        """Return the exact error of the iterated model at ``steps`` (default: 1 to 10,000)."""
        return n_step_error(self.P, self.P_hat, steps, start=self.start, positions=self.positions)


def perturb(P: ArrayLike, eps: float, rng: np.random.Generator) -> FloatArray:
    """Return ``P̂ = P + c (Q - P)`` with random rows Q (flat Dirichlet) and c such that the worst row is off by ``eps`` in TV.

    ``P`` (..., S, S) with S >= 2; each chain of a batch has its own Q and c. The errors of the rows are independent, as those
    of a tabular model learned from data are.
    """
    matrix, rng = check_chain(P, "P"), check_rng(rng)
    S = matrix.shape[-1]
    if sparse.issparse(matrix) or S < 2:
        raise BookError("perturb needs a dense matrix of at least 2 states")
    eps = check_positive(eps, "eps")
    Q = rng.dirichlet(np.ones(S), matrix.shape[:-1])  # (..., S, S)
    worst = total_variation(matrix, Q).max(axis=-1)  # (...)
    if (eps > worst).any():
        raise BookError(f"eps must be at most {worst.min():.3g} to move along the random rows, got {eps:g}")
    return np.asarray(matrix + (eps / worst)[..., None, None] * (Q - matrix))


def mixing(eps: float, rng: np.random.Generator, *, states: int = 20, concentration: float = 1.0) -> Regime:
    """Return a dense random chain and a model of it whose worst row is off by ``eps`` (TV): the error fades.

    Rows of P are Dirichlet with the given ``concentration`` (1: uniform over distributions; smaller: few likely
    successors). Theory: the contraction bound ``ε (1 - κⁿ)/(1 - κ)`` with Dobrushin's κ.
    """
    rng = check_rng(rng)
    P = random_chains(rng, 1, states=states, concentration=concentration)[0]
    P_hat = perturb(P, eps, rng)
    kappa = float(min(dobrushin(P), dobrushin(P_hat)))
    bound = partial(geometric_bound, eps, kappa)
    return Regime(
        "mixing", "tv", P, P_hat, np.arange(len(P), dtype=np.float64), None, {"tv": bound}, bound=True
    )


def random_chains(
    rng: np.random.Generator, chains: int, *, states: int = 20, concentration: float = 1.0
) -> FloatArray:
    """Return ``chains`` transition matrices with independent Dirichlet rows, shape (chains, S, S)."""
    chains, states = check_count(chains, "chains"), check_count(states, "states", minimum=2)
    concentration = check_positive(concentration, "concentration")
    weights = check_rng(rng).gamma(concentration, size=(chains, states, states))
    if (weights.sum(axis=-1) == 0).any():
        raise BookError(f"concentration = {concentration:g} is too small: a row of the chain rounds to 0")
    return normalised(weights)


def wrong_place(eps: float, kappa: float, *, states: int = 20) -> Regime:
    """Return a chain whose model forgets at the right pace but settles in a wrong place: the bound is attained.

    Truth: stay with probability κ, else draw anew from the uniform π, so that ``Pⁿ = κⁿ I + (1-κⁿ) 1π``. The model draws
    from π̂ instead, with TV(π, π̂) = ε/(1-κ). From every start the TV error is ``(1-κⁿ) TV(π, π̂) = ε (1-κⁿ)/(1-κ)``: it
    grows for about 1/(1-κ) steps, the mixing time, and then no more. ``eps`` at most (1-κ)(1 - 1/S).
    """
    S, kappa = check_count(states, "states", minimum=2), _check_kappa(kappa)
    eps = _check_eps(eps, (1 - kappa) * (1 - 1 / S))
    move = eps / (1 - kappa)  # mass that moves, spread evenly, from all other states to state 0
    pi = np.full(S, 1 / S)
    pi_hat = pi - move / (S - 1)
    pi_hat[0] = pi[0] + move
    P, P_hat = (kappa * np.eye(S) + (1 - kappa) * np.tile(row, (S, 1)) for row in (pi, pi_hat))
    closed: dict[Metric, ClosedForm] = {"tv": partial(geometric_bound, eps, kappa)}
    return Regime("mixing, wrong place", "tv", P, P_hat, np.arange(S, dtype=np.float64), None, closed)


def wrong_speed(eps: float, kappa: float, *, states: int = 20) -> Regime:
    """Return a chain whose model settles in the right place at a wrong pace: the error fades to 0.

    Truth as in `wrong_place`; the model stays with probability ``κ̂ = κ + ε S/(S-1)``. The TV error from every
    start is ``(κ̂ⁿ - κⁿ)(1 - 1/S)``: ε at n = 1, and in the end nothing.
    """
    S, kappa = check_count(states, "states", minimum=2), _check_kappa(kappa)
    eps = _check_eps(eps, (1 - kappa) * (1 - 1 / S))
    kappa_hat = kappa + eps * S / (S - 1)

    def closed(steps: ArrayLike) -> FloatArray:
        n = check_steps(steps).astype(np.float64)
        return np.asarray((kappa_hat**n - kappa**n) * (1 - 1 / S))

    P, P_hat = (k * np.eye(S) + (1 - k) / S for k in (kappa, kappa_hat))
    return Regime("mixing, wrong speed", "tv", P, P_hat, np.arange(S, dtype=np.float64), None, {"tv": closed})


def _check_kappa(kappa: Any) -> float:
    number = check_probability(kappa, "kappa")
    if number == 1:
        raise BookError("kappa must be below 1: at 1 the chain never moves")
    return number


def leak(eps: float) -> Regime:
    """Return a state that lasts for ever and a model in which it leaks with ``eps`` a step: ``1 - (1-ε)ⁿ``.

    State 0 is alive, state 1 absorbing. TV and W₁ (positions 0 and 1) are equal; KL is ``-n ln(1-ε)``. With the roles exchanged
    KL is infinite from the first step on.
    """
    eps = _check_eps(eps, 1)
    closed: dict[Metric, ClosedForm] = {
        "tv": partial(leak_error, eps),
        "w1": partial(leak_error, eps),
        "kl": lambda n: np.asarray(check_steps(n) * (-math.log1p(-eps) if eps < 1 else math.inf)),
    }
    return Regime("leak", "tv", np.eye(2), np.array([[1 - eps, eps], [0, 1]]), np.arange(2.0), 0, closed)


def drift(eps: float, *, p: float = 0.5, longest: int = LONGEST) -> Regime:
    """Return a walk on a line that steps right with probability ``p`` (left otherwise), and a model with ``p + eps``.

    TV grows as √n: the means part as 2εn while the spread grows as √n (`binomial_tv` is exact, `gaussian_drift_error` its
    limit). W₁ is ``2εn`` exactly and KL is ``n KL(p‖p+ε)``. The line is cut where either walk is later than 9
    standard deviations (by Hoeffding less than 1e-17 of the mass within ``longest`` steps); sparse matrices.
    """
    p = check_probability(p, "p")
    eps = _check_eps(eps, 1)
    if not 0 < p < 1 or p + eps >= 1:
        raise BookError(f"drift needs 0 < p and p + eps < 1, got p = {p:g}, eps = {eps:g}")
    longest = check_count(longest, "longest")
    spread = 9 * math.sqrt(longest) + 1
    low = -min(longest, math.ceil(spread - longest * min(0.0, 2 * p - 1)))
    high = min(longest, math.ceil(spread + longest * max(0.0, 2 * (p + eps) - 1)))
    x = np.arange(low, high + 1)
    q = p + eps
    kl = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    closed: dict[Metric, ClosedForm] = {
        "tv": partial(binomial_tv, p, q),
        "w1": lambda n: np.asarray(2 * eps * check_steps(n)),
        "kl": lambda n: np.asarray(kl * check_steps(n)),
    }
    start = np.zeros(len(x))
    start[-low] = 1
    return Regime(
        "drift", "tv", _line_walk(p, len(x)), _line_walk(q, len(x)), x.astype(np.float64), start, closed
    )


def _line_walk(p: float, S: int) -> Any:
    """Return the walk on S places in a row as a sparse matrix; at the ends the step outwards is not made."""
    diagonals = [
        np.full(S - 1, p),
        np.full(S - 1, 1 - p),
        np.eye(1, S, 0)[0] * (1 - p) + np.eye(1, S, S - 1)[0] * p,
    ]
    return sparse.csr_array(sparse.diags_array(diagonals, offsets=[1, -1, 0]))


def expansive(eps: float, *, K: int = 2) -> Regime:
    """Return the clipped map of `clipped_error` as a chain of M + 1 states, k/M for k = 0 ... M, with ``ε = 1/M``.

    Truth: ``k' = min(M, Kk)``; model: ``k' = min(M, Kk + 1)``; start 0. W₁ grows as Kⁿ until it is the size of the world, 1; TV
    is 1 from the first step on, for two points that differ. ``eps`` must be 1/M for a whole M up to 10⁶, ``K`` whole.
    """
    eps = _check_eps(eps, 1)
    K = check_count(K, "K", minimum=2)
    M = round(1 / min(eps, 1.0))
    if M > 10**6 or abs(M * eps - 1) > 1e-9:
        raise BookError(f"eps must be one part in a whole number of up to 10⁶, such as 0.001, got {eps:g}")
    k = np.arange(M + 1)
    P, P_hat = (
        sparse.csr_array((np.ones(M + 1), (k, np.minimum(M, min(K, M) * k + shift))), shape=(M + 1, M + 1))
        for shift in (0, 1)
    )
    closed: dict[Metric, ClosedForm] = {
        "w1": partial(clipped_error, eps, K=float(K)),
        "tv": lambda n: np.ones(len(check_steps(n))),
    }
    return Regime("expansive", "w1", P, P_hat, k / M, 0, closed)


@dataclass(frozen=True)
class RegimeCurve:
    """The measured error of a regime and the theory beside it, each (N,), in the regime's own ``metric``."""

    name: str
    metric: Metric
    curve: ErrorCurve
    theory: FloatArray
    bound: bool
    growth: Growth

    @property
    def steps(self) -> IntArray:
        """Steps ahead, (N,)."""
        return self.curve.steps

    @property
    def error(self) -> FloatArray:
        """The measured error, (N,)."""
        return self.curve.of(self.metric)


def measure(regime: Regime, steps: ArrayLike | None = None) -> RegimeCurve:
    """Return the error curve of a regime with its theory and its growth law."""
    if not isinstance(regime, Regime):
        raise BookError(f"regime must be a Regime, such as leak(0.01), got a {type(regime).__name__}")
    curve = regime.measure(steps)
    error = curve.of(regime.metric)
    theory = regime.closed[regime.metric](curve.steps)
    return RegimeCurve(regime.name, regime.metric, curve, theory, regime.bound, growth(curve.steps, error))


def four_regimes(
    eps: float, rng: np.random.Generator, *, steps: ArrayLike | None = None, states: int = 20
) -> tuple[RegimeCurve, ...]:
    """Return the curves of mixing, leak, drift and expansive models that are all off by ``eps`` in one step.

    ``eps`` is one part in a whole number (see `expansive`), below 0.5. TV for the first three, W₁ in a world of size 1
    for the last.
    """
    grid = log_steps() if steps is None else check_steps(steps)
    regimes = (
        mixing(eps, rng, states=states),
        leak(eps),
        drift(eps, longest=int(grid[-1])),
        expansive(eps),
    )
    return tuple(measure(regime, grid) for regime in regimes)


def regime_table(
    curves: Sequence[RegimeCurve], *, at: ArrayLike = (1, 10, 100, 1_000, 10_000)
) -> pd.DataFrame:
    """Return one row a regime: its error at the steps ``at``, largest growth e(n)/e(1), growth law, steps to 0.5."""
    rows = []
    for one in _check_curves(curves):
        errors = {f"n = {n:,}": float(one.curve.at(n, one.metric)) for n in check_steps(at)}
        rows.append(
            {
                "regime": one.name,
                "metric": one.metric,
                **errors,
                "largest growth": one.growth.peak,
                "law": one.growth.law,
                "steps to 0.5": steps_until(one.steps, one.error, 0.5),
                "compounds": one.growth.compounds,
            }
        )
    return pd.DataFrame(rows)


def _check_curves(curves: Sequence[RegimeCurve]) -> tuple[RegimeCurve, ...]:
    known = tuple(curves) if isinstance(curves, Iterable) else ()
    if not known or not all(isinstance(one, RegimeCurve) for one in known):
        raise BookError("curves must be one or more results of measure, one a regime")
    return known


# --- many random chains -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MixingStudy:
    """Errors of C random dense chains and their models: ``ratio`` (C, N) = e(n)/e(1) in TV, from the worst start.

    ``kappa`` (C,) is Dobrushin's coefficient, the smaller one of chain and model.
    """

    steps: IntArray
    eps: float
    states: int
    ratio: FloatArray
    kappa: FloatArray

    def at(self, n: int, rng: np.random.Generator) -> Interval:
        """Return the mean of e(n)/e(1) with its bootstrap interval over chains; ``n`` must be on the grid."""
        where = np.flatnonzero(self.steps == check_count(n, "n"))
        if not len(where):
            raise BookError(f"n = {n} is not among the steps of this study")
        return bootstrap_interval(self.ratio[:, where[0]], rng)


def mixing_study(
    rng: np.random.Generator,
    *,
    chains: int = 200,
    eps: float = 0.01,
    states: int = 20,
    concentration: float = 1.0,
    steps: ArrayLike | None = None,
) -> MixingStudy:
    """Return the growth of the error in ``chains`` independent random chains and models (see `mixing`)."""
    grid = log_steps() if steps is None else check_steps(steps)
    if grid[0] != 1:
        raise BookError("steps must begin with 1, the error that the others are compared with")
    P = random_chains(rng, chains, states=states, concentration=concentration)
    P_hat = perturb(P, eps, rng)
    tv = n_step_error(P, P_hat, grid).tv  # (C, N)
    kappa = np.minimum(dobrushin(P), dobrushin(P_hat))
    return MixingStudy(grid, eps, states, tv / tv[:, :1], kappa)


def fading_by_size(
    rng: np.random.Generator,
    *,
    states: ArrayLike = (5, 10, 20, 40, 80),
    chains: int = 100,
    eps: float = 0.01,
) -> pd.DataFrame:
    """Return the mean of e(far)/e(1) against the number of states: it falls about as 1/√S.

    Columns: ``states``, ``ratio``, ``low``, ``high``, ``chains``. Far is n = 1,000, where dense random chains have long
    forgotten their start. The independent errors of S rows are then averaged with weights of about 1/S each.
    """
    rows = []
    for S in check_steps(states):
        study = mixing_study(rng, chains=chains, eps=eps, states=int(S), steps=(1, 1_000))
        mean = study.at(1_000, rng)
        rows.append((int(S), mean.value, mean.low, mean.high, mean.n))
    return pd.DataFrame(rows, columns=["states", "ratio", "low", "high", "chains"])


def compounding_verdict(
    curves: Sequence[RegimeCurve], study: MixingStudy, rng: np.random.Generator
) -> tuple[Literal["everywhere", "somewhere", "nowhere", "open"], Interval]:
    """Apply the rule of this module to the four regimes; also return e(last n)/e(1) of the random chains.

    "open" if no regime's error compounds but the random chains do not clearly fade either.
    """
    if not isinstance(study, MixingStudy):
        raise BookError(f"study must be a result of mixing_study, got a {type(study).__name__}")
    curves = _check_curves(curves)
    if len(study.ratio) < 100:
        raise BookError(f"the rule asks for at least 100 random chains, got {len(study.ratio)}")
    faded = study.at(int(study.steps[-1]), rng)
    count = sum(one.growth.compounds for one in curves)
    if count == len(curves):
        return "everywhere", faded
    if count:
        return "somewhere", faded
    return ("nowhere" if faded.high < 1 else "open"), faded
