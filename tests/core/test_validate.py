import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from one_step_trap.core import validate as v
from one_step_trap.errors import BookError


@given(st.floats(0, 1, exclude_max=True))
def test_a_discount_below_one_passes_unchanged(gamma):
    assert v.check_gamma(gamma) == gamma


@pytest.mark.parametrize("gamma", [0, 0.5, np.float32(0.25), np.int64(0)])
def test_numbers_of_any_kind_become_floats(gamma):
    assert type(v.check_gamma(gamma)) is float


def test_gamma_of_one_only_where_episodes_end():
    assert v.check_gamma(1, episodic=True) == 1
    with pytest.raises(BookError, match=r"^gamma = 1 is defined only where episodes end"):
        v.check_gamma(1.0)


@pytest.mark.parametrize(
    ("gamma", "message"),
    [
        (1.2, r"gamma must lie in \[0, 1\], got 1.2"),
        (-0.1, r"gamma must lie in \[0, 1\], got -0.1"),
        (1 + 1e-9, r"gamma must lie in \[0, 1\], got 1"),
        (math.nan, "gamma must be a finite number, got nan"),
        (math.inf, "gamma must be a finite number, got inf"),
        ("0.9", "gamma must be a number, got '0.9'"),
        (True, "gamma must be a number, got True"),
        (None, "gamma must be a number, got None"),
        (0.5 + 0j, "gamma must be a number"),
        ([0.9], "gamma must be a number"),
    ],
)
def test_what_is_no_discount(gamma, message):
    with pytest.raises(BookError, match=f"^{message}"):
        v.check_gamma(gamma, episodic=True)


def test_the_name_of_the_argument_is_in_the_message():
    with pytest.raises(BookError, match=r"^far must lie in"):
        v.check_gamma(2, name="far")


@given(st.integers(1, 10**12))
def test_counts_pass_as_integers(n):
    assert v.check_count(n, "n") == n
    assert type(v.check_count(np.int64(n), "n")) is int


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "horizon must be at least 1, got 0"),
        (-3, "horizon must be at least 1, got -3"),
        (2.5, "horizon must be a whole number, got 2.5"),
        (math.nan, "horizon must be a finite number"),
        (math.inf, "horizon must be a finite number"),
        (True, "horizon must be a number"),
        ("7", "horizon must be a number"),
    ],
)
def test_what_is_no_count(value, message):
    with pytest.raises(BookError, match=f"^{message}"):
        v.check_count(value, "horizon")


def test_count_edges():
    assert v.check_count(5.0, "n") == 5
    assert v.check_count(0, "n", minimum=0) == 0
    big = 2**53 + 1  # the first whole number that a float cannot hold
    assert v.check_count(big, "n") == big


@pytest.mark.parametrize("p", [0, 0.3, 1])
def test_probabilities(p):
    assert v.check_probability(p, "epsilon") == p


@pytest.mark.parametrize("p", [-1e-12, 1.0000001, math.nan, "half"])
def test_what_is_no_probability(p):
    with pytest.raises(BookError, match=r"^epsilon must be"):
        v.check_probability(p, "epsilon")


def test_positive():
    assert v.check_positive(1e-300, "alpha") == 1e-300
    for bad in (0, -1):
        with pytest.raises(BookError, match=f"^alpha must be above 0, got {bad}"):
            v.check_positive(bad, "alpha")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([1, math.nan], "V holds NaN or infinite values"),
        ([-math.inf], "V holds NaN or infinite values"),
        (["a"], "V must be an array of numbers"),
        ([[1, 2], [3]], "V must be an array of numbers"),
        (None, "V holds NaN"),
    ],
)
def test_what_is_no_finite_array(array, message):
    with pytest.raises(BookError, match=f"^{message}"):
        v.check_finite(array, "V")


def test_a_finite_array_becomes_float64():
    assert v.check_finite([[1, 2]], "V").dtype == np.float64


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_random_transition_matrices_pass(S, A, seed):
    P = np.random.default_rng(seed).dirichlet(np.ones(S), size=(A, S))
    assert np.array_equal(v.check_transition_matrix(P), P)
    assert np.array_equal(v.check_transition_matrix(P[0]), P[0])
    assert v.check_transition_matrix(P.transpose(1, 0, 2)).shape == (S, A, S)


@pytest.mark.parametrize(
    ("P", "message"),
    [
        ([[0.5, 0.4], [0, 1]], "every row of P must sum to 1; row 0 sums to 0.9"),
        ([[1, 0], [0.5, 0.6]], "every row of P must sum to 1; row 1 sums to 1.1"),
        ([[1.5, -0.5], [0, 1]], "P has a negative probability (-0.5)"),
        ([1.0], "P must be a matrix of shape (states, states), got shape (1,)"),
        ([[0.5, 0.5]], "P must map states to the same states, got shape (1, 2)"),
        ([[math.nan, 1], [0, 1]], "P holds NaN or infinite values"),
        ([[[1, 0], [0, 1]], [[1, 0], [0, 2]]], "every row of P must sum to 1; row (1, 1) sums to 2"),
    ],
)
def test_what_is_no_transition_matrix(P, message):
    with pytest.raises(BookError) as caught:
        v.check_transition_matrix(P)
    assert str(caught.value) == message


@pytest.mark.parametrize("rng", [0, None, np.random, np.random.RandomState(0)])
def test_seeds_are_generators(rng):
    with pytest.raises(BookError, match=r"must be a numpy\.random\.Generator"):
        v.check_rng(rng)
    generator = np.random.default_rng(0)
    assert v.check_rng(generator) is generator


def test_an_error_shows_one_line_in_a_notebook():
    error = BookError("gamma must lie in [0, 1], got 1.2")
    assert error._render_traceback_() == ["BookError: gamma must lie in [0, 1], got 1.2"]
    assert isinstance(error, ValueError)
