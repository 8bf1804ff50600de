"""The Blackwell discount: published and hand-worked cases, every policy enumerated, polynomials, bad
input.
"""

import itertools
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.discounting import blackwell as bw
from one_step_trap.discounting.plots.blackwell import plot_advantages
from one_step_trap.discounting.resolution import make_mdps, optimal_policies
from one_step_trap.errors import BookError


def random_mdp(seed, states=3, actions=2):
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, (states, actions, states))
    weights[..., 0] += weights.sum(-1) == 0
    P = [[[Fraction(int(w), int(row.sum())) for w in row] for row in rows] for rows in weights]
    return bw.as_fractions(P, "P"), bw.as_fractions(rng.integers(-3, 4, (states, actions)).tolist(), "R")


def at(p, x):
    return sum(c * x**k for k, c in enumerate(p))


def corridor(delay):
    """1 now (action 0) or, after ``delay`` more steps, 1.1. States: 0, the corridor, and the end."""
    P, R = np.zeros((delay + 2, 2, delay + 2), dtype=int), np.zeros((delay + 2, 2), dtype=object)
    P[0, 0, -1] = P[-1, :, -1] = P[0, 1, 1] = 1
    P[np.arange(1, delay + 1), :, np.arange(2, delay + 2)] = 1
    R[0, 0], R[delay] = 1, "11/10"
    return P, R


def optimal_set(P, R, gamma):
    """The optimal deterministic policies at a rational gamma, in exact arithmetic, by trying all of them."""
    S, A = R.shape
    values = {}
    for policy in itertools.product(range(A), repeat=S):
        N, D = bw.value_polynomials(P[np.arange(S), list(policy)], R[np.arange(S), list(policy)])
        values[policy] = [at(n, gamma) / at(D, gamma) for n in N]
    best = [max(v[s] for v in values.values()) for s in range(S)]
    return {policy for policy, v in values.items() if v == best}


def test_puterman():
    result = bw.blackwell_discount(*bw.puterman_example())
    assert result.exact == Fraction(10, 11)
    assert result.policy[0] == 0
    assert bw.bisect_switch(*bw.puterman_example()) == pytest.approx(10 / 11, abs=1e-11)
    P, R = bw.puterman_example()
    N, D = bw.value_polynomials(P[[0, 1], [0, 0]], R[[0, 1], [0, 0]])
    beta = Fraction(95, 100)  # the analytic values for beta > 10/11 in Puterman, example 6.2.1
    v = [at(n, beta) / at(D, beta) for n in N]
    assert v == [(5 - Fraction(11, 2) * beta) / ((1 - beta / 2) * (1 - beta)), -1 / (1 - beta)]


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 18, 20, 31, 34, 36, 44])  # all but the first have one above 0
def test_against_every_policy(seed):
    P, R = random_mdp(seed)
    result = bw.blackwell_discount(P, R)
    near_one = optimal_set(P, R, 1 - Fraction(1, 10**12))
    assert result.policy in near_one
    for k in range(1, 6):  # above: the optimal set is the Blackwell one
        assert optimal_set(P, R, result.high + (1 - result.high) * Fraction(k, 6)) == near_one
    if result.exact:  # at the discount itself the optimal set is larger
        assert optimal_set(P, R, result.exact) > near_one


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_interval_is_tight(seed):
    P, R = random_mdp(seed)
    result = bw.blackwell_discount(P, R)
    assert 0 <= result.low <= result.high < 1
    assert result.high - result.low <= bw.WIDTH
    if 0 < result.low < result.high:  # an irrational root: some advantage changes sign, or touches 0, inside
        rows = bw._advantages(P, R, result.policy)
        roots = [bw.largest_root_below_one(p) for row in rows for p in row if p]
        assert (result.low, result.high) in roots


def test_a_float_is_the_decimal_that_it_is_written_as():
    assert bw.as_fraction(0.1, "x") == Fraction(1, 10)
    assert bw.as_fraction(5e-324, "x") == Fraction(5, 10**324)
    assert bw.as_fraction(np.float64(1e22), "x") == 10**22
    assert bw.as_fraction(1 / 3, "x") == Fraction(3333333333333333, 10**16)
    assert bw.as_fraction(Decimal("0.10"), "x") == bw.as_fraction("1/10", "x") == Fraction(1, 10)
    assert bw.blackwell_discount(*bw.waiting_example(0.1, 0.1)).exact == Fraction(100, 101)
    P, R = bw.puterman_example()
    assert bw.blackwell_discount(P.astype(float), R.astype(float)).exact == Fraction(10, 11)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_keeps_its_value(x):
    assert float(bw.as_fraction(x, "x")) == x


def test_small_rewards_count():
    """The best action depends on the sign of a reward only, however small."""
    for tiny in (1e-7, 1e-300):
        assert bw.blackwell_discount([[[1], [1]]], [[0, tiny]]).policy == (1,)
        assert bw.blackwell_discount([[[1], [1]]], [[0, -tiny]]).policy == (0,)
    P, R = bw.waiting_example("1/10", "1/10")
    assert bw.blackwell_discount(P, R * Fraction(1, 10**9)).exact == Fraction(100, 101)
    assert bw.blackwell_discount(P, R.astype(float) * 1e-9).value == pytest.approx(100 / 101, abs=1e-15)


@pytest.mark.parametrize("seed", range(6))
def test_random_floats_agree_with_bisection(seed):
    """Rows of a random matrix sum to 1 up to rounding: they are divided by their sum, exactly."""
    rng = np.random.default_rng(seed)
    P, R = rng.dirichlet(np.ones(4), (4, 2)), rng.normal(size=(4, 2))
    result = bw.blackwell_discount(P, R)
    policy = np.array([result.policy])
    mdps = make_mdps("x", P[None], R[None])
    assert (optimal_policies(mdps, 1 - 1e-7) == policy).all()
    if result.high > 0:  # just below it, another policy is optimal
        assert (optimal_policies(mdps, result.value - 1e-7) != policy).any()
        assert (optimal_policies(mdps, result.value + 1e-7) == policy).all()


def test_rows_that_miss_one_by_rounding_are_divided_by_their_sum():
    thirds = [[[1 / 3, 1 / 3, 1 / 3]] * 2] * 3
    exact = [[["1/3", "1/3", "1/3"]] * 2] * 3
    R = [[0, 1], [2, 0], [0, 3]]
    assert bw.blackwell_discount(thirds, R) == bw.blackwell_discount(exact, R)


def test_ten_states_of_random_floats_take_no_time():
    rng = np.random.default_rng(10)
    start = time.perf_counter()
    result = bw.blackwell_discount(rng.dirichlet(np.ones(10), (10, 2)), rng.normal(size=(10, 2)))
    assert 0 <= result.low <= result.high < 1
    assert (
        time.perf_counter() - start < 20
    )  # 10 s before the signs were found with whole numbers; now about 0.5 s


def test_whole_numbers_do_not_turn_into_floats():
    assert bw.largest_root_below_one((-1, 3)) == (Fraction(1, 3), Fraction(1, 3))
    assert bw.sign_near_one([-1, 1]) == -1
    with pytest.raises(BookError, match="zero polynomial"):
        bw.largest_root_below_one(())


def test_there_and_back_fools_bisection():
    P, R = bw.there_and_back()
    assert bw.blackwell_discount(P, R).exact == Fraction(4, 5)
    with pytest.raises(BookError, match="nothing to bisect"):
        bw.bisect_switch(P, R, low=0.4)
    assert bw.bisect_switch(P, R, low=0.6) == pytest.approx(0.8, abs=1e-9)
    curve = bw.advantage_curve(P, R, [0.4, 0.5, 0.65, 0.8, 0.9])
    assert np.sign(np.round(curve, 12)).tolist() == [-1, 0, 1, 0, -1]


@pytest.mark.parametrize(("chance", "bonus"), [("1/2", 1), ("1/10", "1/10"), ("1/1000", "1/10")])
def test_waiting_gets_arbitrarily_near_one(chance, bonus):
    result = bw.blackwell_discount(*bw.waiting_example(chance, bonus))
    assert result.exact == 1 / (1 + Fraction(chance) * Fraction(bonus))
    assert result.policy[0] == 1


@pytest.mark.parametrize("delay", [1, 2, 5])
def test_delay(delay):
    result = bw.blackwell_discount(*corridor(delay))
    assert result.value == pytest.approx(1.1 ** (-1 / delay), abs=1e-12)
    assert (result.exact is not None) == (delay == 1)


def test_ties_for_ever_do_not_count():
    P = [[[1], [1]]]
    result = bw.blackwell_discount(P, [[1, 1]])
    assert (result.low, result.high) == (0, 0)
    assert bw.blackwell_discount(P, [[0, 1]]).policy == (1,)


def poly(*roots):
    p = (Fraction(1),)
    for root in roots:
        p = tuple((p[i - 1] if i else 0) - root * (p[i] if i < len(p) else 0) for i in range(len(p) + 1))
    return p


fractions = st.fractions(-2, 2, max_denominator=50)


@settings(max_examples=60, deadline=None)
@given(st.lists(fractions, min_size=1, max_size=5), st.booleans())
def test_largest_root(roots, flip):
    p = tuple(-c for c in poly(*roots)) if flip else poly(*roots)
    inside = [root for root in roots if 0 <= root < 1]
    assert bw.largest_root_below_one(p) == ((max(inside),) * 2 if inside else None)
    just_below = at(p, 1 - Fraction(1, 10**9))
    assert bw.sign_near_one(p) == (just_below > 0) - (just_below < 0)


def test_an_irrational_root_is_enclosed():
    low, high = bw.largest_root_below_one((Fraction(-1), Fraction(0), Fraction(2)))  # 2x² - 1
    assert low**2 < Fraction(1, 2) < high**2
    assert high - low <= bw.WIDTH
    assert bw.largest_root_below_one((Fraction(1), Fraction(0), Fraction(1))) is None  # x² + 1
    assert bw.sign_near_one(()) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bw.blackwell_discount([[["1/3", "1/3"], [0, 1]], [[0, 1]] * 2], [[0, 0]] * 2),
            "sums to 2/3",
        ),
        (lambda: bw.blackwell_discount([[[2, -1], [0, 1]], [[0, 1]] * 2], [[0, 0]] * 2), "negative"),
        (lambda: bw.blackwell_discount([[1]], [[0]]), "shape"),
        (lambda: bw.blackwell_discount([[[1]]], [[0, 1]]), "fit P"),
        (lambda: bw.blackwell_discount([[[1]]], [[float("nan")]]), "finite numbers"),
        (lambda: bw.blackwell_discount([[[1]]], [["x"]]), "finite numbers"),
        (lambda: bw.waiting_example(0, 1), "never comes"),
        (
            lambda: bw.blackwell_discount([[[0.5, 0.4], [0, 1]], [[0, 1]] * 2], [[0, 0]] * 2),
            "up to rounding; row",
        ),
        (lambda: bw.blackwell_discount([[[1]]], [["1/0"]]), "finite numbers or fractions, got '1/0'"),
        (lambda: bw.blackwell_discount([[[1]]], [["1e-999999999"]]), "more than 9,999 digits"),
        (lambda: bw.blackwell_discount([np.zeros((2, 2)), np.zeros((2, 3))], [[0]]), "unlike length"),
        (
            lambda: bw.blackwell_discount(0.5, [[0]]),
            r"P must have shape \(states, actions, states\), got \(\)",
        ),
        (lambda: bw.blackwell_discount(np.zeros((0, 2, 0)), np.zeros((0, 2))), "P must have shape"),
        (lambda: bw.blackwell_discount(*corridor(100)), "102 states"),
        (lambda: bw.waiting_example(2, 1), r"chance must lie in \(0, 1\]"),
        (lambda: bw.waiting_example([0.5], 1), "chance must hold finite numbers"),
        (lambda: bw.advantage_curve(*bw.puterman_example(), [0.5], state=2), "state must be below 2"),
        (lambda: bw.advantage_curve(*bw.puterman_example(), []), "gammas must be a list"),
        (lambda: bw.bisect_switch([[[1], [1]]], [[0, 10**400]]), "a float can hold"),
        (lambda: bw.bisect_switch([["a"]], [[0]]), "P must hold finite numbers"),
        (lambda: bw.value_polynomials([[1, 0]], [1]), r"P must have shape \(states, states\)"),
        (lambda: bw.sign_near_one("12"), "the polynomial must be a list"),
        (lambda: plot_advantages([0, 1], {}), "curves must map"),
        (lambda: plot_advantages([0, 1], {"a": ([1], 0.5)}), "with a value at each of the 2 gammas"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_plot():
    figure = plot_advantages([0, 0.5, 1], {"a": ([1, 0, -1], 0.5), "b": ([1, 2, 3], 0.1)})
    ax = figure.axes[0]
    assert len(ax.get_legend().get_texts()) == 2
    assert "discount" in ax.get_xlabel()


def test_bisection_ends_where_floats_do():
    P, R = bw.puterman_example()
    assert bw.bisect_switch(P.astype(float), R.astype(float), width=1e-30) == pytest.approx(10 / 11)
