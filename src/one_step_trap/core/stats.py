"""Intervals: every number of the book comes with one, over independent repetitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from one_step_trap.core.validate import (
    check_count,
    check_finite,
    check_real,
    check_rng,
)
from one_step_trap.errors import BookError

ROUNDING = 1e-12
"""Relative to their size, numbers closer than this are equal: processors round sums of thousands of terms within it."""


def readable(value: float) -> str:
    """Return a number with three significant digits as prose wants it: 1,226 and not 1.23e+03."""
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e6 else f"{value:.3g}"


class Interval(NamedTuple):
    """An estimate, its 95% interval (or the confidence asked for) and the number of independent repetitions."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{readable(self.value)} [{readable(self.low)}, {readable(self.high)}] (n = {self.n:,})"


def exact(value: float, n: int = 1) -> Interval:
    """Return a computed (not estimated) number: its interval has no width."""
    return Interval(float(value), float(value), float(value), n)


def check_confidence(confidence: float) -> float:
    """Return a level of confidence strictly between 0 and 1."""
    level = check_real(confidence, "confidence")
    if not 0 < level < 1:
        raise BookError(f"confidence must lie strictly between 0 and 1, for example 0.95, got {level:g}")
    return level


def percentile_ends(
    values: NDArray[np.float64], method: Any = "linear"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends (...) of 95% percentile intervals from ``values`` (1 + resamples, ...), the estimate first.

    An end that differs from the estimate by rounding alone is the estimate, so that what does not vary has no width on
    any processor.
    """
    estimate, slack = values[0], ROUNDING * np.abs(values).max(axis=0)
    low, high = (
        np.where(np.abs(end - estimate) <= slack, estimate, end)
        for end in np.quantile(values[1:], [0.025, 0.975], axis=0, method=method)
    )
    return low, high


def percentile_interval(values: NDArray[np.float64], n: int, method: Any = "linear") -> Interval:
    """Return the first of ``values`` (1 + resamples,) with the ends of :func:`percentile_ends`."""
    low, high = percentile_ends(values, method)
    return Interval(float(values[0]), float(low), float(high), n)


def percentile_intervals(values: NDArray[np.float64], n: int, method: Any = "linear") -> tuple[Interval, ...]:
    """Return the :func:`percentile_interval` of each column of ``values`` (1 + resamples, columns)."""
    return tuple(percentile_interval(column, n, method) for column in values.T)


def first_lowest(values: ArrayLike, slack: float) -> NDArray[np.intp]:
    """Return the place along the last axis of the lowest value, the first of those that tie within ``slack``."""
    curves = np.asarray(values)
    return np.asarray((curves <= curves.min(axis=-1, keepdims=True) + slack).argmax(axis=-1))


def bootstrap_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    statistic: Callable[..., Any] = np.mean,
    confidence: float = 0.95,
    resamples: int = 4_000,
) -> Interval:
    """Return a percentile bootstrap interval of ``statistic`` over independent ``values``.

    ``values`` has shape (n,): one number a seed (an MDP, an episode), never correlated steps of one run. ``statistic``
    takes an ``axis`` argument, as NumPy's do. The percentile method (Efron & Tibshirani 1993, chapter 13) is used
    because it also works for medians.
    """
    sample = check_finite(values, "values")
    check_rng(rng)
    resamples = check_count(resamples, "resamples")
    confidence = check_confidence(confidence)
    if sample.ndim != 1 or len(sample) < 2:
        raise BookError(
            f"an interval needs a vector of at least 2 independent values, got shape {sample.shape}"
        )
    value = float(statistic(sample, axis=0))
    if np.ptp(sample) <= ROUNDING * np.abs(sample).max():  # nothing varies: SciPy might warn of that
        return Interval(value, value, value, len(sample))
    result = stats.bootstrap(
        (sample,), statistic, n_resamples=resamples, confidence_level=confidence, method="percentile", rng=rng
    )
    return Interval(
        value, float(result.confidence_interval.low), float(result.confidence_interval.high), len(sample)
    )


def proportion_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return an exact (Clopper & Pearson 1934) interval of a proportion of ``successes`` in ``n`` independent trials."""
    n = check_count(n, "n")
    successes = check_count(successes, "successes", minimum=0)
    if successes > n:
        raise BookError(f"successes must not exceed n = {n}, got {successes}")
    ci = stats.binomtest(successes, n).proportion_ci(
        confidence_level=check_confidence(confidence), method="exact"
    )
    return Interval(successes / n, float(ci.low), float(ci.high), n)
