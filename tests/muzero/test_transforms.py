"""The value transform and its inverse, two-hot supports, and the range that returns can reach."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.muzero.transforms import Support, inverse, reachable_range, transform


def test_transform_by_hand():
    # h(3) = √4 - 1 + .003; h(-8) = -(√9 - 1) - .008; h(99) = 9 + .099
    np.testing.assert_allclose(transform([0, 3, -8, 99]), [0, 1.003, -2.008, 9.099], rtol=1e-14)
    np.testing.assert_allclose(inverse([0, 1.003, -2.008, 9.099]), [0, 3, -8, 99], rtol=1e-12)


@given(st.floats(-1e6, 1e6))
def test_the_inverse_is_exact_and_both_are_odd(x):
    y = float(transform(x))
    assert float(inverse(y)) == pytest.approx(x, rel=1e-12, abs=1e-15)
    assert float(transform(-x)) == -y
    assert abs(y) <= abs(x)


def test_the_inverse_keeps_its_digits_near_zero():
    # the published form (((√(1 + 4ε(|x| + 1 + ε)) - 1) / 2ε)² - 1) loses 10 of them here
    x = np.array([1e-9, 1e-12])
    np.testing.assert_allclose(inverse(transform(x)), x, rtol=1e-6)


@given(
    st.floats(-50, 0),
    st.floats(0.1, 300),
    st.integers(2, 41),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_two_hot_is_a_distribution_on_two_neighbours_with_the_right_mean(low, high, bins, shares):
    support = Support(low, high, bins)
    values = low + np.array(shares) * (high - low)
    p = support.encode(values)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-12)
    assert ((p > 0).sum(-1) <= 2).all()
    for row in p:
        assert np.ptp(np.flatnonzero(row)) <= 1
    np.testing.assert_allclose(support.decode(p), values, rtol=1e-9, atol=1e-9)


def test_two_hot_by_hand():
    support = Support(0, 3, 3)  # places 0, .5015, 1.003
    np.testing.assert_allclose(support.places, [0, 0.5015, 1.003])
    p = support.encode([0.0, 3.0, float(inverse(0.5015 * 1.25))])
    np.testing.assert_allclose(p, [[1, 0, 0], [0, 0, 1], [0, 0.75, 0.25]], atol=1e-12)


def test_cartpole_reaches_259_and_the_peers_support_of_ten_does_not_cover_it():
    low, high = reachable_range(1, 1, 0.997, 500)
    assert (low, round(high, 1)) == (0.0, 259.1)
    saturates = float(inverse(10))
    assert saturates == pytest.approx(
        117, abs=1
    )  # design notes: a support of 10 after the transform ends there
    with pytest.raises(BookError, match=r"does not cover .*Support\.covering"):
        Support(0, saturates).check_covers(low, high)
    Support.covering(low, high).check_covers(low, high)


def brute_force(rewards, gamma, steps):
    return sum(gamma**t * rewards for t in range(steps))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 0), (-1, -1), (-2, 3), (1, 1), (0, 0)])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99, 1.0])
def test_reachable_range_against_all_episode_lengths(low, high, gamma):
    lengths = range(41)  # 0: the value of an ended episode
    lowest = min(brute_force(low, gamma, t) for t in lengths)
    highest = max(brute_force(high, gamma, t) for t in lengths)
    assert reachable_range(low, high, gamma, 40) == pytest.approx((lowest, highest))


@given(st.floats(-3, 3), st.floats(0, 3), st.floats(0, 0.999), st.integers(1, 60), st.data())
def test_the_range_without_limit_is_closed_under_n_step_targets(low, width, gamma, n, data):
    bounds = (low, low + width)
    v_low, v_high = reachable_range(*bounds, gamma)
    rewards = data.draw(st.lists(st.floats(*bounds), min_size=n, max_size=n))
    value = data.draw(st.floats(v_low, v_high))
    z = sum(gamma**i * r for i, r in enumerate(rewards)) + gamma**n * value
    slack = 1e-9 * max(1, abs(v_low), abs(v_high))
    assert v_low - slack <= z <= v_high + slack
    Support.covering(v_low, v_high).encode(np.clip(z, v_low, v_high))


@pytest.mark.parametrize("width", [0.0, 5e-324, 1e-12])
def test_a_range_without_width_is_widened(width):
    support = Support.covering(0, width)
    assert (support.low, support.high) == (0, 1)
    assert support.decode(support.encode([0.0, width])) == pytest.approx(0, abs=1e-9)
    with pytest.raises(BookError, match=r"needs low < high, got 0 and .*, which are one number"):
        Support(0, width)


def test_the_range_with_limit_is_not_closed():
    _, high = reachable_range(1, 1, 0.9, 10)
    assert sum(0.9**i for i in range(5)) + 0.9**5 * high > high


def test_values_outside_are_errors_and_never_clipped():
    support = Support(0, 10)
    for value in (-0.1, 10.1, np.nan):
        with pytest.raises(BookError):
            support.encode([value])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Support(1, 1), "low < high"),
        (lambda: Support(2, 1), "must not exceed"),
        (lambda: Support(0, 1, 1), "at least 2"),
        (lambda: Support(0, 1e7), "too wide"),
        (lambda: Support(0, float("inf")), "finite"),
        (lambda: Support(0, 1, 2.5), "whole"),
        (lambda: Support(0, 1).decode([0.5, 0.5]), "shape"),
        (lambda: Support(0, 1, 2).decode([0.9, 0.9]), "sum to 1"),
        (lambda: reachable_range(0, 1, 1.0), "gamma = 1"),
        (lambda: reachable_range(1, 0, 0.5), "must not exceed"),
        (lambda: reachable_range(0, 1, 0.5, 0), "at least 1"),
        (lambda: transform("x"), "numbers"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(BookError, match=message):
        make()
