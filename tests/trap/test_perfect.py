"""A perfect model in floating-point numbers: distributions stay exact, trajectories of expansive maps do not."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from one_step_trap.core import tabular
from one_step_trap.errors import BookError
from one_step_trap.trap import perfect as p
from one_step_trap.trap.plots import chains as plots


def test_whole_numbers_by_hand():
    # From state 0 of [[2/3, 1/3], [1/3, 2/3]]: 5/9 and 4/9 after two steps.
    assert p.exact_distributions([[2, 1], [1, 2]], 0, [1, 2]).tolist() == [[2 / 3, 1 / 3], [5 / 9, 4 / 9]]


def test_whole_numbers_against_fractions_step_by_step():
    weights = np.array([[3, 4, 0], [1, 1, 5], [0, 7, 0]])
    P = [[Fraction(int(w), 7) for w in row] for row in weights]
    q, rows = [Fraction(0), Fraction(1), Fraction(0)], []
    for _ in range(30):
        q = [sum((q[i] * P[i][j] for i in range(3)), Fraction(0)) for j in range(3)]
        rows.append([float(entry) for entry in q])
    steps = [1, 2, 17, 30]
    assert p.exact_distributions(weights, 1, steps).tolist() == [rows[n - 1] for n in steps]


def test_whole_numbers_far_ahead_do_not_overflow():
    far = p.exact_distributions([[999, 1], [0, 1000]], 0, [10_000, 100_000])
    assert far[0] == pytest.approx([0.999**10_000, 1 - 0.999**10_000], rel=1e-12)
    assert far[1] == pytest.approx([0.999**100_000, 1], rel=1e-11)


def test_distributions_of_a_perfect_model_are_exact():
    errors = p.perfect_errors(np.random.default_rng(0), chains=2, steps=[1, 10, 1_000, 10_000])
    assert len(errors) == 2 + 4 + 2
    assert errors["worst"].max() < 1e-13
    assert set(errors["truth"]) == {"whole numbers", "closed form"}


def test_rational_chains_are_chains():
    named = p.rational_chains(np.random.default_rng(1), chains=3)
    assert len(named) == 7
    for weights in named.values():
        tabular.check_chain(weights / weights.sum(axis=1, keepdims=True))


def test_the_doubling_map_by_hand():
    """The start k/q is rounded to 53 digits; each step drops one, and after all of them x is 0."""
    error = p.trajectory_error("doubling", "float64", [123_456_789], 80)[:, 0]
    exact, x = 123_456_789, 123_456_789 / p.PRIME
    for n in range(81):
        gap = abs(x - exact / p.PRIME)
        assert error[n] == pytest.approx(min(gap, 1 - gap), abs=1e-15)
        x, exact = 2 * x % 1, 2 * exact % p.PRIME
    assert x == 0
    assert error[0] < 1e-16


def test_error_doubles_until_it_is_lost():
    error = p.trajectory_error("doubling", "float64", [987_654_321], 40)[:, 0]
    assert error[20:] / error[19:-1] == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("name", ["doubling", "logistic"])
def test_a_trajectory_lasts_as_many_steps_as_its_numbers_have_digits(name):
    rng = np.random.default_rng(2)
    found = {one.dtype: one for one in p.precision_study(rng, starts=60, longest=200) if one.name == name}
    for one in found.values():
        assert one.lost == 1
        assert one.lost_at.low - 3 < p.precision_bits(one.dtype) < one.lost_at.high + 3
    gained = found["float64"].lost_at.value - found["float32"].lost_at.value
    assert gained == pytest.approx(53 - 24, abs=2)


def test_the_rotation_is_not_lost():
    error = p.trajectory_error("rotation", "float64", [1, 5, 999_999_999], 10_000)
    assert error.max() < 1e-11
    assert error[-1].max() > error[1].max()


def test_the_logistic_truth_obeys_its_map():
    q = p.PRIME
    for k in (1, 12_345, 700_000_000):
        x = np.sin(np.pi * k / q) ** 2
        assert np.sin(np.pi * (2 * k % q) / q) ** 2 == pytest.approx(4 * x * (1 - x), abs=1e-12)


def test_verdict():
    rng = np.random.default_rng(3)
    good = pd.DataFrame({"worst": [1e-15, 1e-13]})
    bad = pd.DataFrame({"worst": [1e-15, 1e-5]})
    trajectories = p.precision_study(rng, starts=10, longest=100)
    assert p.perfect_verdict(good, trajectories) == "distributions only"
    assert p.perfect_verdict(bad, trajectories) == "neither"
    rotation = [one for one in trajectories if one.name == "rotation"]
    assert p.perfect_verdict(good, rotation) == "both"


def test_the_same_twice():
    one, two = (p.precision_study(np.random.default_rng(4), starts=10, longest=50) for _ in range(2))
    assert [a.lost_at for a in one] == [b.lost_at for b in two]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: p.exact_distributions([[1, 2]], 0, [1]), "square"),
        (lambda: p.exact_distributions([[1, 2], [1, 1]], 0, [1]), "same total"),
        (lambda: p.exact_distributions([[0.5, 0.5], [1, 0]], 0, [1]), "whole numbers"),
        (lambda: p.exact_distributions([[0, 0], [0, 0]], 0, [1]), "whole numbers"),
        (lambda: p.exact_distributions([[1, 2], [2, 1]], 2, [1]), "state below 2"),
        (lambda: p.exact_distributions([[1, 2], [2, 1]], 0, [10**6]), "at most 100,000"),
        (lambda: p.trajectory_error("doubling", "float8", [1], 5), "dtype must be one of"),
        (lambda: p.trajectory_error("tent", "float32", [1], 5), "map must be one of"),
        (lambda: p.trajectory_error("doubling", "float32", [0], 5), "starts must be"),
        (lambda: p.trajectory_error("doubling", "float32", [[1]], 5), "starts must be"),
        (lambda: p.trajectory_error("doubling", "float32", [1], 0), "longest must be at least 1"),
        (lambda: p.precision_study(0), "numpy.random.Generator"),
        (lambda: plots.plot_precision([]), "holds no trajectories"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_plots():
    study = p.precision_study(np.random.default_rng(5), starts=5, longest=100)
    assert len(plots.plot_precision(study).axes) == 2


@pytest.mark.parametrize("dtype", ["int8", ["float32"], None])
def test_an_unknown_type_of_number_is_told(dtype):
    with pytest.raises(BookError, match="dtype must be one of"):
        p.precision_bits(dtype)
