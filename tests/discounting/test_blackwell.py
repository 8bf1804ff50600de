"""The Blackwell discount: published and hand-worked cases, every policy enumerated, polynomials, bad
input.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.discounting import blackwell as bw
from one_step_trap.discounting.plots.blackwell import plot_advantages
from one_step_trap.errors import BookError


def random_mdp(seed, states=3, actions=2):
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, (states, actions, states))
    weights[..., 0] += weights.sum(-1) == 0
    P = [[[Fraction(int(w), int(row.sum())) for w in row] for row in rows] for rows in weights]
    return bw.as_fractions(P, "P"), bw.as_fractions(rng.integers(-3, 4, (states, actions)).tolist(), "R")


def optimal_set(P, R, gamma):
    """The optimal deterministic policies at a rational gamma, in exact arithmetic, by trying all of them."""
    S, A = R.shape
    values = {}
    for policy in itertools.product(range(A), repeat=S):
        N, D = bw.value_polynomials(P[np.arange(S), list(policy)], R[np.arange(S), list(policy)])
        values[policy] = [bw.evaluate(n, gamma) / bw.evaluate(D, gamma) for n in N]
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
    v = [bw.evaluate(n, beta) / bw.evaluate(D, beta) for n in N]
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
        rows = bw.advantage_polynomials(P, R, result.policy)
        roots = [bw.largest_root_below_one(p) for row in rows for p in row if p]
        assert (result.low, result.high) in roots


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
    result = bw.blackwell_discount(*bw.delay_chain(delay, "1/10"))
    assert result.value == pytest.approx(bw.delay_discount(delay, 0.1), abs=1e-12)
    assert (result.exact is not None) == (delay == 1)


def test_the_chain_of_bsuite():
    assert bw.delay_discount(99, 0.1) == pytest.approx(0.99904, abs=5e-6)


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
    just_below = bw.evaluate(p, 1 - Fraction(1, 10**9))
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
        (lambda: bw.delay_discount(0, 0.1), "delay"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_plot():
    figure = plot_advantages([0, 0.5, 1], {"a": ([1, 0, -1], 0.5), "b": ([1, 2, 3], 0.1)})
    ax = figure.axes[0]
    assert len(ax.get_legend().get_texts()) == 2
    assert "discount" in ax.get_xlabel()


def test_bisection_ends_where_floats_do():
    P, R = bw.puterman_example()
    assert bw.bisect_switch(P.astype(float), R.astype(float), width=1e-30) == pytest.approx(10 / 11)
