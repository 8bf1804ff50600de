"""Many numbers at once: to the last bit what NumPy gets from one after the other."""

import numpy as np
import pytest
from numba import njit

from one_step_trap.muzero import compiled, lanes
from one_step_trap.muzero.lanes import doubles, eight, sixteen, store


@njit
def copied(x, i, j, out):
    store(sixteen(x, (i, j)), out, (0, 0))
    store(eight(x, (i, j)), out, (1, 8))


@njit
def block(x, b, i, j, out):
    store(eight(x, (b, i, j)), out, (0, 0))


@njit
def combined(x, y, c, out):
    a, b = eight(x, (0, 0)), eight(y, (0, 0))
    store(a + b, out, (0, 0))
    store(a - b, out, (1, 0))
    store(a * b, out, (2, 0))
    store(a / b, out, (3, 0))
    store(lanes.larger(a, b), out, (4, 0))
    store(lanes.smaller(a, b), out, (5, 0))
    store(c - a, out, (6, 0))
    store(1 + a * 2, out, (7, 0))
    store(lanes.chosen(b, a, c), out, (8, 0))


@njit
def reduced(x):
    a = sixteen(x, (0, 0))
    return lanes.summed(a), lanes.largest(a), lanes.smallest(a), lanes.summed(eight(x, (0, 8)))


@njit
def widened(x, out):
    store(doubles(eight(x, (0, 0))) * (1 / 3), out, (0, 0))


@njit
def larger_and_smaller(x, y, out):
    store(lanes.larger(eight(x, (0, 0)), y), out, (0, 0))
    store(lanes.smaller(eight(x, (0, 0)), y), out, (1, 0))


@pytest.fixture(params=[np.float32, np.float64])
def numbers(request):
    return np.random.default_rng(0).normal(size=(3, 40)).astype(request.param)


def test_loads_and_stores_are_where_the_index_says(numbers):
    out = np.zeros((2, 16), dtype=numbers.dtype)
    copied(numbers, 1, 21, out)
    assert out[0].tolist() == numbers[1, 21:37].tolist()
    assert out[1].tolist() == [0.0] * 8 + numbers[1, 21:29].tolist()
    cube = np.arange(2 * 3 * 10, dtype=numbers.dtype).reshape(2, 3, 10)
    block(cube, 1, 2, 1, out)
    assert out[0, :8].tolist() == cube[1, 2, 1:9].tolist()


def test_arithmetic(numbers):
    x, y, c = numbers[:1, :8], numbers[1:2, :8], numbers.dtype.type(0.3)
    out = np.zeros((9, 8), dtype=numbers.dtype)
    combined(x.copy(), y.copy(), c, out)
    a, b = x[0], y[0]
    expected = [a + b, a - b, a * b, a / b, np.maximum(a, b), np.minimum(a, b), c - a, 1 + a * 2]
    assert out.tolist() == np.stack([*expected, np.where(b > 0, a, c)]).tolist()


def test_from_many_to_one(numbers):
    total, largest, smallest, of_eight = reduced(numbers)
    a = numbers[:1, :16]
    halves = compiled.in_eights(a)[0]
    assert total == halves[0] + halves[1]
    assert (largest, smallest) == (a.max(), a.min())
    assert of_eight == compiled.in_eights(numbers[:1, 8:16])[0, 0]


def test_floats_as_doubles():
    x = np.random.default_rng(1).normal(size=(1, 8)).astype(np.float32)
    out = np.zeros((1, 8))
    widened(x, out)
    assert out.tolist() == (x.astype(np.float64) * (1 / 3)).tolist()


def test_what_is_not_a_number_stays_so():
    x = np.array([[np.nan, np.inf, -np.inf, 1, -1, 0, 5, -5]])
    out = np.zeros((2, 8))
    larger_and_smaller(x, 0.5, out)
    np.testing.assert_array_equal(out, [np.maximum(x[0], 0.5), np.minimum(x[0], 0.5)])
    assert np.isnan(out[:, 0]).all()
