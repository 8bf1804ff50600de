"""The exact n-step error of an iterated model: distributions propagated through a chain and through its model.

A chain moves with the transition matrix P, a model believes P̂, and both are iterated from the same start μ. The
n-step error compares μPⁿ with μP̂ⁿ, exactly, by propagating distributions. Nothing is sampled.

- Total variation ``TV(p, q) = ½ Σᵢ |pᵢ - qᵢ|``, **half** of the L1 distance, in [0, 1].
- Kullback-Leibler divergence ``KL(p‖q) = Σᵢ pᵢ ln(pᵢ/qᵢ)``, truth first, in nats; infinite where the model gives
  probability 0 to what does happen.
- Wasserstein distance ``W₁(p, q) = Σᵢ |Fₚ(xᵢ) - F_q(xᵢ)| (xᵢ₊₁ - xᵢ)`` for states at x₁ < x₂ < ... on a line,
  in the units of x.

Whether the error grows is a property of the dynamics, not of the model. One inequality covers all regimes: if one step of
the *true* dynamics stretches the distance between two distributions by at most K, and the model adds at most ε a step, then
``eₙ ≤ ε (1 + K + ... + Kⁿ⁻¹)`` (`geometric_bound`). In TV, K is Dobrushin's coefficient and never exceeds 1, so that an error
grows at most linearly. Exponential growth needs a metric that knows distances, such as W₁. The regimes
are built in :mod:`one_step_trap.trap.regimes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from one_step_trap.core.stats import ROUNDING
from one_step_trap.core.tabular import check_chain, kl_divergence, normalised, total_variation, wasserstein
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_real,
)
from one_step_trap.errors import BookError

Metric = Literal["tv", "kl", "w1"]
Method = Literal["auto", "squaring", "loop"]

LONGEST = 10_000
COMPOUNDS = 10.0  # times the one-step error: from here on an error counts as compounded
MAX_ENTRIES = 25_000_000  # of one set of distributions (starts x states): 200 MB


def log_steps(longest: int = LONGEST, per_decade: int = 12) -> IntArray:
    """Return whole numbers from 1 to ``longest``, spaced evenly on a logarithmic axis, with all powers of ten.

    ``per_decade`` points to each factor of ten, fewer at the small end where whole numbers lie further apart.
    """
    longest = check_count(longest, "longest")
    per_decade = check_count(per_decade, "per_decade")
    powers = np.arange(0, per_decade * math.log10(longest) + 1e-9)
    steps = {round(10 ** (k / per_decade)) for k in powers}
    return np.array(sorted(steps | {longest}), dtype=np.int64)


# --- distances --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ErrorCurve:
    """Errors of an iterated model at ``steps`` (N,): ``tv``, ``kl`` and ``w1``, each (..., N).

    Leading axes are those of a batch of chains. Where several starts were asked for, each number is the largest
    over them, taken for each metric and each n anew.
    """

    steps: IntArray
    tv: FloatArray
    kl: FloatArray
    w1: FloatArray

    def of(self, metric: Metric) -> FloatArray:
        """Return the error in the metric of that name."""
        if metric not in get_args(Metric):
            raise BookError(f"metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
        return np.asarray(getattr(self, metric))

    def at(self, n: int, metric: Metric = "tv") -> FloatArray:
        """Return the error at exactly ``n`` steps, which must be on the grid; shape (...)."""
        where = np.flatnonzero(self.steps == check_count(n, "n"))
        if not len(where):
            raise BookError(f"n = {n} is not among the steps of this curve")
        return np.asarray(self.of(metric)[..., where[0]])

    def ratio(self, metric: Metric = "tv") -> FloatArray:
        """Return e(n)/e(first n of the grid), shape (..., N): above 1 where the error has grown."""
        error = self.of(metric)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(error / error[..., :1])


# --- propagation ------------------------------------------------------------------------------------------


def n_step_error(
    P: Any,
    P_hat: Any,
    steps: ArrayLike | None = None,
    *,
    start: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    method: Method = "auto",
) -> ErrorCurve:
    """Return the exact error of the iterated model, ``d(μPⁿ, μP̂ⁿ)``, in TV, KL and W₁ at every n of ``steps``.

    ``P``, ``P_hat`` (..., S, S) transition matrices, with the same leading batch axes, or two (S, S) matrices of
    ``scipy.sparse``. ``start``: a state, a distribution (S,) or several (M, S); by default every state, which is the
    worst case over *all* starting distributions, because each of the three distances is convex in μ. ``positions``
    (S,), increasing, for W₁; by default state i lies at i. ``steps``: increasing whole numbers, by default
    ``log_steps()``, 1 to 10,000.

    ``method``: "squaring" multiplies by powers P, P², P⁴, ... that are computed once, and costs O(S³ log n); "loop"
    makes n sparse products, and is cheaper for long lines; "auto" takes the cheaper one. Both divide by the sum
    whenever they return a distribution, and squaring at each product, so that rows sum to 1 within 1e-15 at any n. (Without
    that the mass drifts by about n 2⁻⁵³.)
    """
    true, model = _pair(P, P_hat)
    grid = log_steps() if steps is None else check_steps(steps)
    S = true.shape[-1]
    mu = _check_start(start, S)
    x = _check_positions(positions, S)
    covered = _covered(true, model)
    runs = (_propagate(matrix, mu, grid, method) for matrix in (true, model))
    rows = []
    for p, q in zip(*runs, strict=True):  # each (..., M, S)
        rows.append([total_variation(p, q), kl_divergence(p, q, covered=covered), wasserstein(p, q, x)])
    worst = np.array([[distance.max(axis=-1) for distance in row] for row in rows])  # (N, 3, ...)
    tv, kl, w1 = np.moveaxis(worst, 0, -1)
    return ErrorCurve(grid, tv, kl, w1)


def distributions(P: Any, start: ArrayLike, steps: ArrayLike, *, method: Method = "auto") -> FloatArray:
    """Return μPⁿ at every n of ``steps``, shape (N, M, S), for one chain and M starts (see `n_step_error`)."""
    matrix, _ = _pair(P, P)
    if matrix.ndim != 2:
        raise BookError(f"give one chain at a time: P has shape {matrix.shape}")
    mu, grid = _check_start(start, matrix.shape[-1]), check_steps(steps)
    return np.stack(list(_propagate(matrix, mu, grid, method)))


def _propagate(P: Any, mu: FloatArray, steps: IntArray, method: Method) -> Iterator[FloatArray]:
    """Yield μPⁿ, (..., M, S), at each of ``steps``."""
    if method not in get_args(Method):
        raise BookError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if method == "auto":
        method = "loop" if _loop_is_cheaper(P, len(mu), steps) else "squaring"
    if method == "squaring":
        return _by_squaring(P.toarray() if sparse.issparse(P) else P, mu, steps)
    if P.ndim != 2:
        raise BookError('method "loop" takes one chain at a time; a batch goes by "squaring"')
    return _by_loop(sparse.csr_array(P), mu, steps)


def _by_squaring(P: FloatArray, mu: FloatArray, steps: IntArray) -> Iterator[FloatArray]:
    """Cross each gap of the grid with the powers P^(2^k) that its binary digits name."""
    gaps = np.diff(steps, prepend=0)
    powers = [P]
    for _ in range(int(gaps.max()).bit_length() - 1):
        powers.append(normalised(powers[-1] @ powers[-1]))
    p = mu  # (M, S), then (..., M, S)
    for gap in gaps:
        for k, power in enumerate(powers):
            if gap >> k & 1:
                p = normalised(p @ power)
        yield np.broadcast_to(p, (*P.shape[:-2], *p.shape[-2:]))


def _by_loop(P: Any, mu: FloatArray, steps: IntArray) -> Iterator[FloatArray]:
    """Make every step, with a sparse matrix: (Pᵀ pᵀ)ᵀ, because sparse products are fast from that side."""
    columns = sparse.csr_array(P.T)
    p = np.ascontiguousarray(mu.T)  # (S, M)
    for gap in np.diff(steps, prepend=0):
        for _ in range(gap):
            p = columns @ p
        yield normalised(p.T)


def _loop_is_cheaper(P: Any, starts: int, steps: IntArray) -> bool:
    """Compare estimates in nanoseconds: about 1 ns a multiplication, 2 µs a dense and 8 µs a sparse product."""
    if sparse.issparse(P):
        return True
    if P.ndim != 2:
        return False
    S, gaps = len(P), np.diff(steps, prepend=0)
    products = sum(int(gap).bit_count() for gap in gaps)
    squaring = int(gaps.max()).bit_length() * S**3 / 10 + products * (2_000 + starts * S**2 / 4)
    return bool(steps[-1] * (8_000 + starts * np.count_nonzero(P)) < squaring)


# --- checks -----------------------------------------------------------------------------------------------


def check_steps(steps: ArrayLike) -> IntArray:
    """Return ``steps`` as an increasing vector of whole numbers of at least 1."""
    values = np.atleast_1d(check_finite(steps, "steps"))
    if values.ndim != 1 or not len(values):
        raise BookError(f"steps must be a list of whole numbers, got shape {values.shape}")
    if (values != np.floor(values)).any() or values[0] < 1 or (np.diff(values) <= 0).any():
        raise BookError("steps must be increasing whole numbers of at least 1")
    if values[-1] > 10**9:
        raise BookError(f"steps must not exceed 10⁹, got {values[-1]:g}")
    return values.astype(np.int64)


def _pair(P: Any, P_hat: Any) -> tuple[Any, Any]:
    """Return both matrices checked, of the same kind and shape, with rows that sum to 1 as closely as floats can."""
    true, model = check_chain(P, "P"), check_chain(P_hat, "P_hat")
    if true.shape != model.shape:
        raise BookError(f"P and P_hat must have the same shape, got {true.shape} and {model.shape}")
    if sparse.issparse(true) != sparse.issparse(model):
        true, model = sparse.csr_array(true), sparse.csr_array(model)
    return true, model


def _check_start(start: ArrayLike | None, S: int) -> FloatArray:
    """Return the starts as distributions (M, S)."""
    if start is None:
        if S * S > MAX_ENTRIES:
            raise BookError(
                f"the worst case over {S:,} starts does not fit in memory; name one or more starts"
            )
        return np.eye(S)
    if isinstance(start, str) or np.ndim(check_finite(start, "start")) == 0:
        state = check_count(start, "start", minimum=0)
        if state >= S:
            raise BookError(f"start must be a state below {S}, got {state}")
        return np.eye(1, S, state)
    mu = np.atleast_2d(check_finite(start, "start"))
    if mu.ndim != 2 or mu.shape[1] != S:
        raise BookError(
            f"start must be a state or distributions over {S} states, got shape {np.shape(start)}"
        )
    if (mu < 0).any() or not len(mu) or np.abs(mu.sum(axis=1) - 1).max() > 1e-8:
        raise BookError("every start must be a distribution: entries of at least 0 that sum to 1")
    if mu.size > MAX_ENTRIES:
        raise BookError(f"{len(mu):,} starts of {S:,} states do not fit in memory; give fewer")
    return normalised(mu)


def _check_positions(positions: ArrayLike | None, S: int) -> FloatArray:
    if positions is None:
        return np.arange(S, dtype=np.float64)
    x = check_finite(positions, "positions")
    if x.shape != (S,) or (np.diff(x) <= 0).any():
        raise BookError(f"positions must be {S} increasing numbers, one a state")
    return x


def _covered(P: Any, P_hat: Any) -> bool:
    """Tell whether the model allows every step that happens. Then it also allows every path, and KL is finite."""
    if sparse.issparse(P):
        return bool(((P > 0) > (P_hat > 0)).nnz == 0)
    return bool((P_hat[P > 0] > 0).all())


# --- how fast an error can grow ---------------------------------------------------------------------------


def geometric_bound(eps: float, K: float, steps: ArrayLike) -> FloatArray:
    """Return ``ε (1 + K + ... + Kⁿ⁻¹) = ε (Kⁿ - 1)/(K - 1)``, which is ``ε n`` at K = 1, at every n of ``steps``.

    An upper bound of the n-step error of any model that errs by at most ``eps`` >= 0 in one step, from every state, where one
    step of the true dynamics (or of the model) stretches distances by at most ``K`` >= 0. In TV: K is
    Dobrushin's coefficient, and `regimes.wrong_place` attains it. In W₁: K is the Lipschitz constant of the dynamics (Asadi
    et al. 2018, arXiv 1804.07193), and x' = Kx beside x' = Kx + ε attains it. Above 1.8e308 the number is infinite.

    Proof. μP̂ⁿ - μPⁿ = Σ_{k<n} μP̂ᵏ (P̂ - P) Pⁿ⁻¹⁻ᵏ, a telescoping sum. Term k is an error of size at most ε, carried
    through n-1-k true steps.
    """
    eps, K = check_real(eps, "eps"), check_real(K, "K")
    if eps < 0 or K < 0:
        raise BookError(f"eps and K must be at least 0, got {eps:g} and {K:g}")
    n = check_steps(steps).astype(np.float64)
    if K == 1 or eps == 0:
        return eps * n
    if K == 0:
        return np.full(len(n), eps)
    with np.errstate(over="ignore"):
        return np.asarray(eps * np.expm1(n * math.log(K)) / (K - 1))


class Growth(NamedTuple):
    """How an error curve grows: ``law`` in words, ``peak`` = largest e(n)/e(1), ``final`` = e(last n)/e(1).

    ``exponent`` is the slope of ln e against ln n, and ``factor`` that of ln e against n, taken to the exponential; both
    over the part that rises (until a quarter of the largest error), 0 and 1 where nothing rises.
    """

    law: str
    peak: float
    final: float
    exponent: float
    factor: float

    @property
    def compounds(self) -> bool:
        """Whether the error reaches ``COMPOUNDS`` times the error of one step."""
        return self.peak >= COMPOUNDS * (1 - ROUNDING)


def growth(steps: ArrayLike, error: ArrayLike) -> Growth:
    """Return the growth law that fits an error curve best: fades, bounded, n^a or c^n.

    ``steps`` (N,) begins with 1, ``error`` (N,) finite and above 0 at n = 1. Where the error never reaches
    ``COMPOUNDS`` times e(1) it "fades" if it ends below e(1)/2 and is "bounded" otherwise. Where it does, a power
    and an exponential are fitted to its rising part by least squares in ln e, and the one with the smaller
    residual is named.
    """
    n, e = check_steps(steps), check_finite(error, "error")
    if e.shape != n.shape or n[0] != 1 or len(n) < 2:
        raise BookError("growth needs one error for each step, from n = 1 on")
    if (e < 0).any() or e[0] == 0:
        raise BookError("growth needs errors of at least 0, and above 0 at n = 1")
    ratio = e / e[0]
    peak, final = float(ratio.max()), float(ratio[-1])
    if peak < COMPOUNDS * (1 - ROUNDING):
        return Growth("fades" if final < 0.5 else "bounded", peak, final, 0.0, 1.0)
    top = int(np.argmax(ratio >= peak / 4))  # first point above a quarter: the fit ends just before it
    rising = np.flatnonzero(ratio > 0)[: max(top, 3)]
    x, y = n[rising].astype(np.float64), np.log(ratio[rising])
    power, power_rest = _slope(np.log(x), y)
    rate, rate_rest = _slope(x, y)
    law = f"n^{power:.2f}" if power_rest <= rate_rest + ROUNDING else f"{math.exp(rate):.2f}^n"
    return Growth(law, peak, final, power, math.exp(rate))


def _slope(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return the least-squares slope of y on x, and the sum of squared residuals."""
    slope, level = np.polyfit(x, y, 1)
    return float(slope), float(((y - slope * x - level) ** 2).sum())


def steps_until(steps: ArrayLike, error: ArrayLike, level: float) -> float:
    """Return the first n of ``steps`` at which the error is at least ``level``; infinite if it never is."""
    n, e = check_steps(steps), check_finite(error, "error")
    if e.shape != n.shape:
        raise BookError("steps_until needs one error for each step")
    level = check_real(level, "level")
    reached = np.flatnonzero(e >= level - ROUNDING * abs(level))
    return float(n[reached[0]]) if len(reached) else math.inf
