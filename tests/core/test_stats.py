import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc

from one_step_trap.core.stats import (
    Interval,
    bootstrap_interval,
    exact,
    first_lowest,
    percentile_ends,
    percentile_interval,
    proportion_interval,
    readable,
)
from one_step_trap.errors import BookError


def test_computed_numbers_have_no_width():
    assert exact(0.25) == Interval(0.25, 0.25, 0.25, 1)
    assert exact(2, n=7).n == 7
    assert str(Interval(0.26543, 0.26, 0.27, 100)) == "0.265 [0.26, 0.27] (n = 100)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0.26543, "0.265"), (1226.4, "1,226"), (-1226.4, "-1,226"), (999.4, "999"), (999_999.0, "999,999")],
        *[(1.234e6, "1.23e+06"), (0.0, "0"), (6.57e-3, "0.00657"), (2.0, "2")],
    ],
)
def test_numbers_for_a_reader(value, text):
    assert readable(value) == text


def test_the_bootstrap_is_repeatable_and_only_its_seed_decides():
    values = np.random.default_rng(5).normal(size=40)
    first, again, other = (bootstrap_interval(values, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again
    assert first.value == other.value == values.mean()
    assert first.low != other.low


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    interval = bootstrap_interval(values, np.random.default_rng(1))
    half = 1.96 * values.std(ddof=1) / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.06)
    assert interval.n == 400


def test_more_confidence_is_wider_and_the_median_works():
    values = np.random.default_rng(2).exponential(size=60)
    wide = bootstrap_interval(values, np.random.default_rng(1), confidence=0.99)
    narrow = bootstrap_interval(values, np.random.default_rng(1), confidence=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    median = bootstrap_interval(values, np.random.default_rng(1), statistic=np.median)
    assert median.low <= np.median(values) == median.value <= median.high


def test_coverage_of_the_bootstrap():
    """Of 300 intervals for a known mean, about 95% hold it (with n = 60, a little fewer)."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        interval = bootstrap_interval(rng.normal(size=60), rng, resamples=400)
        hits += interval.low <= 0 <= interval.high
    assert 0.90 <= hits / 300 <= 0.98


@pytest.mark.parametrize("size", [0.5, 1e-9, -1e9])
def test_values_that_do_not_vary_give_a_point(size):
    """Nor do those that a processor rounds now up, now down."""
    rng = np.random.default_rng(0)
    assert bootstrap_interval([size] * 9, rng) == Interval(size, size, size, 9)
    rounded = size * (1 + 1e-15 * rng.integers(-9, 10, 9))
    found = bootstrap_interval(rounded, rng)
    assert found.low == found.value == found.high == pytest.approx(size, rel=1e-12)
    for values in ([size] * 8 + [size * (1 + 1e-9)], size * (1 + 1e-6 * rng.random(9))):
        found = bootstrap_interval(values, rng)
        assert found.low < found.value < found.high


def test_percentiles_of_resamples():
    values = np.r_[49.0, np.arange(101.0)]  # the estimate, then its resamples
    assert percentile_interval(values, 7) == Interval(49, 2.5, 97.5, 7)
    assert percentile_interval(values, 7, "nearest") == Interval(49, 2, 98, 7)
    low, high = percentile_ends(np.stack([values, -values], axis=1))
    assert (low.tolist(), high.tolist()) == ([2.5, -97.5], [97.5, -2.5])


def test_an_end_that_is_the_estimate_but_for_rounding_is_the_estimate():
    values = np.r_[0.3, [0.1 + 0.2] * 100]
    assert values[0] != values[1]
    assert percentile_interval(values, 5) == Interval(0.3, 0.3, 0.3, 5)
    half = np.r_[0.3, [0.1 + 0.2] * 50, [0.4] * 50]  # most resamples agree, the others lie above
    assert percentile_interval(half, 5) == Interval(0.3, 0.3, 0.4, 5)


def test_the_first_of_those_that_tie_for_the_lowest():
    curves = [[0.3, 0.1 + 0.2, 0.3, 1], [0.1 + 0.2, 0.3, 0.3, 0], [2, 0.1 + 0.2, 0.3, 1]]
    assert first_lowest(curves, 1e-9).tolist() == [0, 3, 1]
    assert first_lowest(curves[2], 0) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], r"at least 2 independent values, got shape \(1,\)"),
        ([], r"at least 2 independent values, got shape \(0,\)"),
        ([[1, 2], [3, 4]], r"at least 2 independent values, got shape \(2, 2\)"),
        ([1, math.nan], "values holds NaN"),
    ],
)
def test_what_the_bootstrap_refuses(values, message):
    with pytest.raises(BookError, match=message):
        bootstrap_interval(values, np.random.default_rng(0))


def test_the_bootstrap_wants_a_generator():
    with pytest.raises(BookError, match="Generator"):
        bootstrap_interval([1, 2], 0)


def test_proportions_at_the_ends():
    """With no success the upper end solves (1-p)^n = 2.5%; with all, the lower end solves p^n = 2.5%."""
    none, all_of_them = proportion_interval(0, 10), proportion_interval(10, 10)
    assert none.low == 0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 10), rel=1e-9)
    assert all_of_them.high == 1
    assert all_of_them.low == pytest.approx(0.025 ** (1 / 10), rel=1e-9)


@given(st.data(), st.integers(2, 400))
def test_proportions_solve_the_binomial_equations(data, n):
    """P(X >= k | low) = 2.5% and P(X <= k | high) = 2.5%, as regularised incomplete beta functions."""
    k = data.draw(st.integers(1, n - 1))
    interval = proportion_interval(k, n)
    assert betainc(k, n - k + 1, interval.low) == pytest.approx(0.025, rel=1e-6)
    assert 1 - betainc(k + 1, n - k, interval.high) == pytest.approx(0.025, rel=1e-6)
    assert interval.low < interval.value == k / n < interval.high


@pytest.mark.parametrize(
    ("k", "n", "message"),
    [
        (11, 10, "successes must not exceed n = 10, got 11"),
        (-1, 10, "successes must be at least 0"),
        (0, 0, "n must be at least 1"),
        (0.5, 10, "successes must be a whole number"),
    ],
)
def test_what_is_no_proportion(k, n, message):
    with pytest.raises(BookError, match=message):
        proportion_interval(k, n)


@pytest.mark.parametrize("confidence", [0, 1, 2, -0.5, "0.95", math.nan])
def test_a_level_of_confidence_lies_between_0_and_1(confidence):
    with pytest.raises(BookError, match="confidence must"):
        bootstrap_interval([1.0, 2.0], np.random.default_rng(0), confidence=confidence)
    with pytest.raises(BookError, match="confidence must"):
        proportion_interval(1, 2, confidence=confidence)


def test_a_bootstrap_needs_resamples():
    with pytest.raises(BookError, match="resamples must be at least 1, got 0"):
        bootstrap_interval([1.0, 2.0], np.random.default_rng(0), resamples=0)
