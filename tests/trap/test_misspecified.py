"""Iterated against direct models: chains solved by hand, agreement with plain loops, both regimes, bad input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core.stats import Interval
from one_step_trap.errors import BookError
from one_step_trap.trap import misspecified as m
from one_step_trap.trap.plots.misspecified import (
    plot_dial,
    plot_horizons,
    plot_learning_curves,
)


@pytest.fixture(scope="module")
def headline() -> m.Headline:
    return m.headline(sizes=(100, 500, 2_000, 5_000, 20_000), n_steps=(1, 5, 10), seeds=20, seed=3)


@pytest.fixture(scope="module")
def dial() -> m.Dial:
    return m.dial((0.0, 0.1, 0.3, 0.9), sizes=(30, 100, 300, 1_000, 3_000, 10_000), seeds=20, seed=4)


# --- exact laws -------------------------------------------------------------------------------------------


def test_a_chain_that_alternates_and_looks_alike():
    """Hidden 0 -> 1 -> 2 -> 0, of which 1 and 2 look alike: everything can be written down."""
    P = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    chain = m.hidden_chain(P, ["a", "b", "b"])
    assert m.occupancy(chain) == pytest.approx([1 / 3, 2 / 3])
    assert m.n_step_law(chain, 1) == pytest.approx(np.array([[0, 1], [0.5, 0.5]]))
    assert m.n_step_law(chain, 3) == pytest.approx(np.eye(2))  # after three steps everything is back
    # M_1³ = [[.25, .75], [.375, .625]], so TV is .75 from a (weight 1/3) and .375 from b (weight 2/3).
    assert m.bias(chain, 3) == pytest.approx(0.75 / 3 + 0.375 * 2 / 3)


@pytest.mark.parametrize("n_step", [1, 2, 4, 7])
def test_the_law_against_enumerated_paths(n_step):
    rng = np.random.default_rng(n_step)
    P, observe = rng.dirichlet(np.ones(4), 4), [0, 1, 1, 0]
    chain, mu = m.hidden_chain(P, observe), m.stationary(P)
    joint = np.zeros((2, 2))
    for start in range(4):
        reach = np.eye(4)[start]
        for _ in range(n_step):
            reach = sum(reach[s] * P[s] for s in range(4))
        for end in range(4):
            joint[observe[start], observe[end]] += mu[start] * reach[end]
    assert m.n_step_law(chain, n_step) == pytest.approx(joint / joint.sum(1, keepdims=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_a_seen_chain_has_no_bias_and_a_hidden_one_none_at_one_step(seed, n_step):
    P = np.random.default_rng(seed).dirichlet(np.ones(5), 5)
    assert m.bias(m.hidden_chain(P), n_step) == pytest.approx(0, abs=1e-12)
    hidden = m.hidden_chain(P, [0, 0, 1, 1, 2])
    assert m.bias(hidden, 1) == 0
    assert 0 <= m.bias(hidden, n_step) <= 1


def test_bias_of_the_persistent_walk():
    assert m.bias(m.persistent_walk(10, flip=0.05), 5) == pytest.approx(0.75200625)  # theory.md: .75
    assert m.bias(m.persistent_walk(10, flip=0.05), 5) == pytest.approx(0.95**4 - 2**-4)
    assert m.bias(m.persistent_walk(10, flip=0.5), 7) == pytest.approx(0, abs=1e-12)  # fresh coins: Markov
    biases = [m.bias(m.persistent_walk(10, flip=(1 - rho) / 2), 5) for rho in np.linspace(0, 0.99, 20)]
    assert (np.diff(biases) > 0).all()
    with pytest.raises(BookError, match="several recurrent classes"):
        m.persistent_walk(flip=0.0)  # who never turns never shows the other direction


def test_memory_of_two_positions_removes_the_bias():
    walk = m.with_memory(m.persistent_walk(10, flip=0.05))
    assert walk.n_observations == 20
    assert m.bias(walk, 5) == pytest.approx(0, abs=1e-12)
    c = m.compare(walk, n_step=10, sizes=[2_000], seeds=20)
    assert c.ratio(2_000, 10, np.random.default_rng(0)).low > 1  # iterating wins again


# --- models -----------------------------------------------------------------------------------------------


def walked(chain: m.HiddenChain, transitions: int, rng: np.random.Generator) -> np.ndarray:
    """What `sample_stream` returns, one step at a time."""
    s = int(rng.choice(len(chain.P), p=m.stationary(chain.P)))
    seen = [chain.observe[s]]
    for u in rng.random(transitions):
        s = min(int(np.searchsorted(np.cumsum(chain.P[s]), u, side="right")), len(chain.P) - 1)
        seen.append(chain.observe[s])
    return np.array(seen)


def counted(stream: np.ndarray, O: int, n: int) -> np.ndarray:  # noqa: E741
    """The shares (O, O) of the pairs (o_t, o_{t+n}); rows without data are uniform."""
    counts = np.zeros((O, O))
    for now, later in zip(stream[:-n], stream[n:], strict=True):
        counts[now, later] += 1
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / O)


def test_comparison_agrees_with_plain_loops():
    P = np.random.default_rng(1).dirichlet(np.ones(4), 4)
    sizes, n_steps = (5, 40, 200), (1, 3)
    c = m.compare(P, [0, 1, 1, 2], n_step=n_steps, sizes=sizes, seeds=3, seed=9)
    chain = m.hidden_chain(P, [0, 1, 1, 2])
    w = m.occupancy(chain)
    for i, child in enumerate(np.random.SeedSequence(9).spawn(3)):
        stream = walked(chain, 200, np.random.default_rng(child))
        for b, size in enumerate(sizes):
            one_step = counted(stream[: size + 1], 3, 1)
            for j, n in enumerate(n_steps):
                truth = m.n_step_law(chain, n)
                power = np.eye(3)
                for _ in range(n):
                    power = power @ one_step
                direct = counted(stream[: size + 1], 3, n)
                assert c.iterated[i, b, j] == pytest.approx(0.5 * w @ np.abs(power - truth).sum(1))
                assert c.direct[i, b, j] == pytest.approx(0.5 * w @ np.abs(direct - truth).sum(1))
    assert c.iterated[..., 0] == pytest.approx(c.direct[..., 0])  # at one step the two models are one


def test_streams_are_deterministic_and_nested():
    chain = m.persistent_walk()
    a, b = (m.sample_stream(chain, 500, np.random.default_rng(5)) for _ in range(2))
    assert (a == b).all()
    few, many = (m.compare(chain, sizes=[100, 400], seeds=k, seed=2) for k in (2, 5))
    assert (few.direct == many.direct[:2]).all()  # a seed's numbers do not depend on how many there are
    assert set(np.diff(a).tolist()) <= {1, -1, 9, -9}


def test_ratio_interval():
    top, bottom = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    assert m.ratio_interval(top, bottom, np.random.default_rng(0))[:3] == pytest.approx((0.5, 0.5, 0.5))


# --- what was measured ------------------------------------------------------------------------------------


def test_both_headline_settings(headline):
    rng = np.random.default_rng(0)
    iterated, direct = headline.well_specified.errors(2_000, 10, rng)
    assert iterated.value == pytest.approx(0.035, abs=0.008)  # theory.md
    assert direct.value == pytest.approx(0.087, abs=0.008)
    iterated, direct = headline.aliased.errors(20_000, 5, rng)
    assert iterated.value == pytest.approx(0.75, abs=0.005)
    assert direct.value == pytest.approx(0.011, abs=0.002)
    assert headline.verdict == "holds when"


def test_more_data_does_not_help_the_iterated_model(headline):
    iterated = headline.aliased.iterated[:, :, 1].mean(0)
    assert np.abs(iterated[2:] - headline.aliased.bias[1]).max() < 0.01
    direct = headline.aliased.direct[:, :, 1].mean(0)
    assert (np.diff(direct) < 0).all()
    well = headline.well_specified
    assert (well.iterated[:, :, 1:].mean(0) < well.direct[:, :, 1:].mean(0)).all()


def test_the_sign_flips_earlier_the_stronger_the_aliasing(dial):
    rng = np.random.default_rng(0)
    wins = [[r.value < 1 for r in dial.ratios(size, rng)] for size in (30, 100, 300, 1_000, 3_000, 10_000)]
    first = [column.index(True) if True in column else 6 for column in zip(*wins, strict=True)]
    assert first[0] == 6  # without aliasing the direct model never wins
    assert first[1] > first[2] > first[3]


@pytest.mark.parametrize(
    ("aliased", "well", "expected"),
    [
        ((0.1, 0.2), (1.5, 2), "holds when"),
        ((0.1, 0.2), (0.5, 0.6), "holds"),
        ((1.1, 1.2), (1.5, 2), "does not hold"),
        ((0.9, 1.2), (1.5, 2), "open"),
        ((0.1, 0.2), (0.9, 1.1), "open"),
    ],
)
def test_the_rule(aliased, well, expected):
    a, w = (Interval(sum(x) / 2, *x, 40) for x in (aliased, well))
    assert m.verdict(a, w) == expected


# --- input ------------------------------------------------------------------------------------------------


def test_ways_to_say_what_is_seen():
    P = m.persistent_walk(5).P
    by_list = m.compare(P, [s // 2 for s in range(10)], sizes=[50], seeds=2)
    by_function = m.compare(P, lambda s: ("at", s // 2), sizes=[50], seeds=2)
    assert (by_list.direct == by_function.direct).all()
    mixed = m.hidden_chain(np.full((3, 3), 1 / 3), ["x", 1, "x"])
    assert mixed.observe.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: m.hidden_chain([[0.5, 0.6], [0, 1]]), "row 0 sums to 1.1"),
        (lambda: m.hidden_chain(np.eye(2)), "several recurrent classes"),
        (lambda: m.hidden_chain(np.ones((2, 3, 3)) / 3), "one square matrix"),
        (lambda: m.hidden_chain(np.full((2, 2), 0.5), [1]), "each of the 2 states"),
        (lambda: m.hidden_chain(np.full((2, 2), 0.5), 3), "observe must be labels"),
        (lambda: m.hidden_chain(np.full((2, 2), 0.5), [[1], [2]]), "hashable"),
        (lambda: m.hidden_chain(np.full((2, 2), 0.5), [1.0, math.nan]), "NaN"),
        (lambda: m.ring(2), "at least 3"),
        (lambda: m.ring(5, forward=0.8, back=0.3), "at most 1"),
        (lambda: m.persistent_walk(flip=1.5), "probability"),
        (lambda: m.compare(m.ring(), n_step=0), "at least 1"),
        (lambda: m.compare(m.ring(), n_step=5, sizes=[3]), "at least one pair"),
        (lambda: m.compare(m.ring(), sizes=[200, 100]), "increase"),
        (lambda: m.compare(m.ring(), sizes=[100, math.nan]), "NaN"),
        (lambda: m.compare(m.ring(), [0] * 11), "leave observe out"),
        (lambda: m.compare(m.ring(), seeds=0), "seeds must be at least 1"),
        (lambda: m.sample_stream(m.ring(), 10, 0), "Generator"),
        (lambda: m.sample_stream(m.ring(), 10**9, np.random.default_rng(0)), "at most"),
        (lambda: m.bias(np.eye(2), 3), "HiddenChain"),
        (lambda: m.dial((0.5, 0.2)), "increasing numbers"),
        (lambda: m.dial((0.5, 1.0)), r"\[0, 1\)"),
        (lambda: m.compare(m.ring(), sizes=[50]).ratio(51, 5, np.random.default_rng(0)), "one of"),
        (lambda: m.ratio_interval([1.0], [2.0], np.random.default_rng(0)), "two vectors"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_plots(headline, dial):
    rng = np.random.default_rng(0)
    well, aliased = headline.well_specified.table(rng), headline.aliased.table(rng)
    figure = plot_learning_curves({"ring": (well, 10), "walk": (aliased, 5)})
    assert "n = 10" in figure.axes[0].get_xlabel()
    assert len(figure.legends[0].get_texts()) == 3  # both models and the line of endless data
    assert plot_horizons({"ring": (well, 2_000), "walk": (aliased, 20_000)}).axes[1].get_xlabel()
    ratios = {size: dial.ratios(size, rng) for size in (100, 10_000)}
    assert len(plot_dial(dial, ratios).axes[0].get_lines()) == 3
    with pytest.raises(BookError, match="no rows"):
        plot_learning_curves({"ring": (well, 7)})


@pytest.mark.parametrize(
    "call",
    [
        lambda: m.ratio_interval([1.0, 2], [1.0, 2], np.random.default_rng(0), resamples=0),
        lambda: m.verdict(0.9, 1.1),
    ],
)
def test_small_functions_check_their_input_too(call):
    with pytest.raises(BookError):
        call()
