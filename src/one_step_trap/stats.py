"""Intervals: every number of the book comes with one, over independent repetitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from one_step_trap.errors import BookError
from one_step_trap.validate import check_count, check_finite, check_real, check_rng


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
    if np.ptp(sample) == 0:  # nothing varies: SciPy would warn of a degenerate distribution
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
