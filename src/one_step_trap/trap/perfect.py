"""How perfectly a perfect one-step model predicts: distributions and trajectories against independent truths.

**The rule for "a perfect model predicts every horizon perfectly", fixed before looking** (`perfect_verdict`):
distributions are perfect if they stay within ``FLOAT_PRECISION`` = 1e-11 (TV, half of L1) of an independent truth at every
n up to 10⁴: what the rounding of 10⁴ steps can add up to in 10 states is n S 2⁻⁵³ = 1.1e-11. Trajectories are perfect if
computing them in floating-point numbers stays within ``LOST`` = 0.1 of the exact trajectory. The claim holds if both
are so, conditionally if only the first is, and does not hold otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.tabular import total_variation
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.trap.chains import LONGEST, check_steps, distributions
from one_step_trap.trap.regimes import Regime, drift, leak

FLOAT_PRECISION = 1e-11
LOST = 0.1

# --- a perfect model --------------------------------------------------------------------------------------


def exact_distributions(weights: ArrayLike, start: int, steps: ArrayLike) -> FloatArray:
    """Return μPⁿ at ``steps``, (N, S), for the rational chain ``P = weights / total``, rounded once at the end.

    ``weights`` (S, S): whole numbers of at least 0 with the same total D in every row. With A the matrix of weights,
    ``μPⁿ = μAⁿ / Dⁿ``, where Aⁿ has entries of n log₂ D bits. They are whole numbers of Python, and nothing is shared with
    the floating-point path.
    """
    A = check_finite(weights, "weights")
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.size:
        raise BookError(f"weights must be a square matrix, got shape {A.shape}")
    if (np.floor(A) != A).any() or (A < 0).any() or np.ptp(A.sum(axis=1)) > 0 or A.sum() == 0:
        raise BookError("weights must be whole numbers of at least 0 with the same total in every row")
    state = check_count(start, "start", minimum=0)
    if state >= len(A):
        raise BookError(f"start must be a state below {len(A)}, got {state}")
    matrix = A.astype(np.int64).astype(object)  # Python's whole numbers: they have no largest
    total = int(A[0].sum())
    grid = check_steps(steps)
    if grid[-1] > 100_000:
        raise BookError(f"whole numbers of {grid[-1]:,} steps take too long: at most 100,000")
    powers = [matrix]
    gaps = np.diff(grid, prepend=0)
    while len(powers) < int(gaps.max()).bit_length():
        powers.append(powers[-1] @ powers[-1])
    row, rows = np.eye(1, len(A), state).astype(np.int64).astype(object), []
    for n, gap in zip(grid, gaps, strict=True):
        for k, power in enumerate(powers):
            if gap >> k & 1:
                row = row @ power
        rows.append([entry / total ** int(n) for entry in row[0]])
    return np.array(rows)


def rational_chains(rng: np.random.Generator, *, chains: int = 10, states: int = 5) -> dict[str, IntArray]:
    """Return named chains with whole-number weights for `exact_distributions`: random ones, and one of each regime.

    "random i": rows that total 997. "leak": 999 to 1. "walk": ten places, 3 to 7. "digits": the doubling map
    with 3 digits. "cycle": 7 states in turn, which never mixes.
    """
    chains = check_count(chains, "chains", minimum=0)
    states = check_count(states, "states", minimum=2)
    result: dict[str, IntArray] = {}
    for i in range(chains):
        cuts = np.sort(check_rng(rng).integers(0, 998, size=(states, states - 1)), axis=1)
        result[f"random {i + 1}"] = np.diff(cuts, axis=1, prepend=0, append=997)
    result["leak"] = np.array([[999, 1], [0, 1000]])
    walk = np.diag(np.full(9, 7), 1) + np.diag(np.full(9, 3), -1)
    walk[0, 0], walk[9, 9] = 3, 7
    result["walk"] = walk
    eight = np.zeros((8, 8), dtype=np.int64)
    for k in range(8):
        eight[k, 2 * k % 8] += 2
        eight[k, (2 * k + 1) % 8] += 3
    result["digits"] = eight
    result["cycle"] = np.roll(np.eye(7, dtype=np.int64), 1, axis=1)
    return result


def perfect_errors(
    rng: np.random.Generator, *, chains: int = 10, steps: ArrayLike = (1, 10, 100, 1_000, 10_000)
) -> pd.DataFrame:
    """Return how far a perfect model, iterated in floating-point numbers, is from an independent truth.

    One row a chain: ``chain``, ``states``, ``truth`` ("whole numbers" or "closed form"), ``worst`` (largest TV over ``steps``)
    and ``last`` (TV at the last). The closed forms are those of the leak, and of the walk on the line, whose
    place is binomial.
    """
    grid = check_steps(steps)
    rows = []
    for name, weights in rational_chains(rng, chains=chains).items():
        P = weights / weights.sum(axis=1, keepdims=True)
        error = total_variation(distributions(P, 0, grid)[:, 0], exact_distributions(weights, 0, grid))
        rows.append((name, len(P), "whole numbers", error.max(), error[-1]))
    for name, regime, truth in (
        ("leak", leak(0.001), _leak_truth),
        ("line", drift(0.01, longest=int(grid[-1])), _walk_truth),
    ):
        got = distributions(regime.P_hat, 0 if regime.start is None else regime.start, grid)[:, 0]
        error = total_variation(got, truth(regime, grid))
        rows.append((name, got.shape[-1], "closed form", error.max(), error[-1]))
    return pd.DataFrame(rows, columns=["chain", "states", "truth", "worst", "last"])


def _leak_truth(regime: Regime, steps: IntArray) -> FloatArray:
    gone = -np.expm1(steps * math.log1p(-regime.P_hat[0, 1]))
    return np.stack([1 - gone, gone], axis=1)


def _walk_truth(regime: Regime, steps: IntArray) -> FloatArray:
    """Place x after n steps means (n + x)/2 steps to the right."""
    n, x = steps[:, None], regime.positions
    p = regime.P_hat[[1], [2]]
    return np.asarray(np.where((n + x) % 2 == 0, stats.binom.pmf((n + x) // 2, n, p), 0.0))


# --- trajectories ------------------------------------------------------------------------------------------

Map = Literal["doubling", "logistic", "rotation"]
DTYPES: dict[str, type[np.floating[Any]]] = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
}
PRIME = 1_000_000_007  # exact starts are fractions with this denominator


def precision_bits(dtype: str) -> int:
    """Return the binary digits that numbers of a type keep: 11, 24 and 53 for float16, float32 and float64."""
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BookError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return int(np.finfo(DTYPES[dtype]).nmant) + 1


def trajectory_error(name: Map, dtype: str, starts: ArrayLike, longest: int) -> FloatArray:
    """Return the distance between computed and exact trajectories, shape (longest + 1, starts), in a world of size 1.

    The model is perfect; only the arithmetic is not. Start i is exactly x₀ = ``starts[i]`` / 1,000,000,007.

    - "doubling": ``x' = 2x mod 1``; exactly ``xₙ = (2ⁿ k mod q)/q`` in whole numbers.
    - "logistic": ``x' = 4x(1-x)`` from ``sin²(πk/q)``; exactly ``xₙ = sin²(π (2ⁿ k mod q)/q)``.
    - "rotation": ``x' = x + α mod 1`` with α = 618,033,989/q; exactly ``xₙ = (k + 618033989 n mod q)/q``. It does
      not expand.

    Distances of the first and third are around the circle (at most ½). The doubling map makes no rounding error at all: what is
    lost is the digits that the start did not have.
    """
    precision_bits(dtype)  # refuses other types
    if name not in get_args(Map):
        raise BookError(f"map must be one of {', '.join(get_args(Map))}, got {name!r}")
    k = check_finite(starts, "starts")
    if k.ndim != 1 or (k != np.floor(k)).any() or (k < 1).any() or (k >= PRIME).any():
        raise BookError(f"starts must be a list of whole numbers from 1 to {PRIME - 1:,}")
    kind = DTYPES[dtype]
    exact = k.astype(np.int64)
    alpha = 618_033_989
    step = kind(alpha / PRIME)
    x = _place(name, exact).astype(kind)
    errors = []
    for _ in range(check_count(longest, "longest") + 1):
        gap = np.abs(x.astype(np.float64) - _place(name, exact))
        errors.append(gap if name == "logistic" else np.minimum(gap, 1 - gap))
        if name == "logistic":
            x = kind(4) * x * (kind(1) - x)
        else:
            x = np.asarray(x + (x if name == "doubling" else step), dtype=kind) % kind(1)
        exact = (exact + alpha if name == "rotation" else 2 * exact) % PRIME
    return np.array(errors)


def _place(name: Map, k: IntArray) -> FloatArray:
    return np.asarray(np.sin(np.pi * (k / PRIME)) ** 2 if name == "logistic" else k / PRIME)


@dataclass(frozen=True)
class Precision:
    """How long computed trajectories of one map last: ``error`` (T+1,) is the median over starts at each step.

    ``lost_at``: steps until the error exceeds ``LOST``, mean over starts with interval; where fewer than all starts are
    lost within ``longest`` steps the others count as ``longest``. ``lost``: share of the starts that are.
    """

    name: Map
    dtype: str
    error: FloatArray
    lost_at: Interval
    lost: float


def precision_study(
    rng: np.random.Generator, *, starts: int = 200, longest: int = LONGEST, expansive_steps: int = 100
) -> tuple[Precision, ...]:
    """Return, for each map and each type of number, how many steps a perfect model's trajectory lasts.

    ``starts`` random starts, the same for all. The doubling and the logistic map are followed for ``expansive_steps``, the
    rotation for ``longest`` steps.
    """
    k = check_rng(rng).integers(1, PRIME, size=check_count(starts, "starts", minimum=2))
    result = []
    for name, dtype in itertools.product(get_args(Map), DTYPES):
        steps = longest if name == "rotation" else expansive_steps
        error = trajectory_error(name, dtype, k, steps)
        over = error > LOST
        lost = over.any(axis=0)
        when = np.where(lost, over.argmax(axis=0), steps).astype(np.float64)
        interval = bootstrap_interval(when, rng)
        result.append(Precision(name, dtype, np.median(error, axis=1), interval, float(lost.mean())))
    return tuple(result)


def perfect_verdict(
    errors: pd.DataFrame, precision: Sequence[Precision]
) -> Literal["both", "distributions only", "neither"]:
    """Apply the rule of this module to the tables of `perfect_errors` and `precision_study` (float64 trajectories)."""
    distributions_hold = bool(errors["worst"].max() <= FLOAT_PRECISION)
    trajectories_hold = all(one.lost == 0 for one in precision if one.dtype == "float64")
    if distributions_hold and trajectories_hold:
        return "both"
    return "distributions only" if distributions_hold else "neither"
