"""Mean and variance of the return: hand-worked processes, Sobel against simulation, episodes,
counter-examples.
"""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core.stats import bootstrap_interval
from one_step_trap.discounting import variance as v
from one_step_trap.discounting.plots.variance import plot_variance
from one_step_trap.errors import BookError


def random_process(seed: int, states: int = 5) -> v.RewardProcess:
    rng = np.random.default_rng(seed)
    return v.reward_process(
        rng.dirichlet(np.ones(states), states),
        rng.normal(size=(states, states)),
        rng.random((states, states)),
    )


def rarely_ends() -> v.RewardProcess:
    """One state that pays 1 and is left, for the end, with a chance of one in a thousand."""
    return v.reward_process([[0.999, 0.001], [0, 1]], [1.0, 0.0])


def enumerated_moments(process: v.RewardProcess, gamma: float, steps: int) -> tuple[float, float]:
    """Mean and variance from state 0 over every path of ``steps`` steps: exponential, and independent of
    Sobel.
    """
    S = len(process.P)
    total = {1: 0.0, 2: 0.0}
    stack = [(0, 0, 1.0, 0.0, 0.0)]  # state, depth, probability, mean of the path, variance of the path
    while stack:
        s, depth, p, mean, var = stack.pop()
        if depth == steps:
            total[1] += p * mean
            total[2] += p * (mean**2 + var)
            continue
        for x in range(S):
            if process.P[s, x] > 0:
                stack.append(
                    (
                        x,
                        depth + 1,
                        p * process.P[s, x],
                        mean + gamma**depth * process.R[s, x],
                        var + gamma ** (2 * depth) * process.noise[s, x],
                    )
                )
    return total[1], total[2] - total[1] ** 2


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5])
def test_sobel_against_every_path(gamma):
    process = random_process(1, states=3)
    mean, variance = enumerated_moments(process, gamma, steps=11)
    moments = v.return_moments(process, gamma)
    tail = gamma**11 / (1 - gamma)
    assert moments.mean[0] == pytest.approx(mean, abs=4 * tail + 1e-12)
    assert moments.variance[0] == pytest.approx(variance, abs=40 * tail + 1e-12)


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.97])
def test_sobel_against_simulation(gamma):
    process = random_process(2)
    moments = v.return_moments(process, gamma)
    rng = np.random.default_rng(3)
    returns = v.sample_returns(process, gamma, rng, n=6_000, start=1)
    # 99.9% intervals: three discounts and two moments are tested.
    mean = bootstrap_interval(returns, rng, confidence=0.999, resamples=1_000)
    variance = bootstrap_interval(returns, rng, statistic=np.var, confidence=0.999, resamples=1_000)
    assert mean.low <= moments.mean[1] <= mean.high
    assert variance.low <= moments.variance[1] <= variance.high


def one_walk_at_a_time(process, gamma, rng, n, start):
    """What `sample_returns` returns for γ < 1, by plain loops."""
    noisy = bool(process.noise.any())
    steps = v.truncation_horizon(gamma, 1e-4)
    draws = [(rng.random(n), rng.standard_normal(n) if noisy else np.zeros(n)) for _ in range(steps)]
    returns = np.zeros(n)
    for walk in range(n):
        s = start
        for k, (uniform, normal) in enumerate(draws):
            after, edge = 0, process.P[s, 0]
            while uniform[walk] >= edge and after < len(process.P) - 1:
                after += 1
                edge += process.P[s, after]
            reward = process.R[s, after] + np.sqrt(process.noise[s, after]) * normal[walk]
            returns[walk] += gamma**k * reward
            s = after
    return returns


@pytest.mark.parametrize("noisy", [True, False])
def test_simulation_agrees_with_plain_loops(noisy):
    process = random_process(4)
    if not noisy:  # then neither draws normals
        process = v.reward_process(process.P, process.R)
    fast = v.sample_returns(process, 0.8, np.random.default_rng(5), n=40, start=2)
    slow = one_walk_at_a_time(process, 0.8, np.random.default_rng(5), 40, 2)
    assert fast == pytest.approx(slow, rel=1e-12)
    again = v.sample_returns(process, 0.8, np.random.default_rng(5), n=40, start=2)
    assert (fast == again).all()


def test_a_variance_is_never_below_0():
    """Where some states leave nothing to chance, rounding would put theirs below 0, and their sd would be NaN."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        P = np.where(
            rng.random((4, 1)) < 0.7, np.eye(4)[rng.integers(4, size=4)], rng.dirichlet(np.ones(4), 4)
        )
        moments = v.return_moments(v.reward_process(P, rng.normal(size=(4, 4)).round(1)), 0.9)
        assert (moments.sd >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.999))
def test_variance_is_the_discounted_sum_of_td_error_variances(seed, gamma):
    process = random_process(seed % 1000, states=4)
    moments = v.return_moments(process, gamma)
    assert (moments.variance >= moments.u - 1e-12).all()
    expected = moments.u + gamma**2 * process.P @ moments.variance
    assert moments.variance == pytest.approx(expected, rel=1e-9)
    shifted = v.return_moments(v.reward_process(process.P, process.R + 7, process.noise), gamma)
    assert shifted.variance == pytest.approx(moments.variance, rel=1e-6)  # a constant reward adds no variance


def test_batches_agree_with_single_processes():
    singles = [random_process(seed) for seed in range(4)]
    batch = v.reward_process(*(np.stack([getattr(p, f) for p in singles]) for f in ("P", "R", "noise")))
    moments = v.return_moments(batch, 0.9)
    for i, process in enumerate(singles):
        alone = v.return_moments(process, 0.9)
        assert moments.mean[i] == pytest.approx(alone.mean)
        assert moments.variance[i] == pytest.approx(alone.variance)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.999])
def test_closed_forms(gamma):
    mu, sd = 2.0, 3.0
    iid = v.return_moments(v.iid_rewards(mu, sd), gamma)
    assert iid.mean[0] == pytest.approx(mu / (1 - gamma))
    assert iid.variance[0] == pytest.approx(sd**2 / (1 - gamma**2))
    assert iid.sd[0] / iid.mean[0] == pytest.approx(sd / mu * np.sqrt((1 - gamma) / (1 + gamma)))
    frozen = v.return_moments(v.frozen_rewards(mu, sd), gamma)
    assert frozen.sd[0] == pytest.approx(sd / (1 - gamma))
    cancelling = v.return_moments(v.cancelling_rewards(mu, sd), gamma)
    assert cancelling.mean[0] == pytest.approx(mu / (1 - gamma))
    assert cancelling.variance[0] == pytest.approx(sd**2 * (1 - gamma) / ((1 + gamma) * (1 + gamma**2)))
    pair = v.return_moments(v.cancelling_rewards(sd=sd, once=True), gamma)
    assert pair.variance[0] == pytest.approx((1 - gamma) ** 2 * sd**2)


def test_counterexamples_grow_and_fall():
    frozen, independent, cancelling = v.counterexamples([0, 0.9, 0.999, 0.9999])
    assert frozen.exponent() == pytest.approx(1)
    assert independent.exponent() == pytest.approx(0.5, abs=0.01)
    assert cancelling.exponent() == pytest.approx(-0.5, abs=0.01)
    assert (np.diff(cancelling.sd) < 0).all()
    assert (np.diff(independent.sd / independent.mean) < 0).all()
    assert independent.sd[0] == cancelling.sd[0] == frozen.sd[0] == 1
    assert cancelling.mean == pytest.approx(independent.mean)


def test_the_cancelling_pair_by_simulation():
    process = v.cancelling_rewards(once=True)
    for gamma in (0.5, 1.0):
        returns = v.sample_returns(process, gamma, np.random.default_rng(0), n=200)
        assert np.abs(returns) == pytest.approx(1 - gamma)


def test_episodes_with_gamma_one():
    # A reward of 1 a step, the episode goes on with probability 3/4: geometric length, mean 4, variance 12.
    process = v.reward_process([[0.75, 0.25], [0, 1]], [1.0, 0.0])
    moments = v.return_moments(process, 1)
    assert moments.mean == pytest.approx([4, 0])
    assert moments.variance == pytest.approx([12, 0])
    returns = v.sample_returns(process, 1, np.random.default_rng(1), n=4_000)
    low, high = bootstrap_interval(returns, np.random.default_rng(2), confidence=0.999, resamples=1_000)[1:3]
    assert low <= 4 <= high
    assert v.absorbing_states(process).tolist() == [False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: v.return_moments(v.iid_rewards(), 1), "never reaches an absorbing state"),
        (lambda: v.return_moments(v.iid_rewards(), 1.2), "gamma must lie"),
        (lambda: v.reward_process([[0.5, 0.6], [0, 1]], 0), "row 0 sums to 1.1"),
        (lambda: v.reward_process([[1.0]], 0, -1), "variance and must be at least 0"),
        (lambda: v.reward_process(np.eye(2), [1, 2, 3]), "does not fit P"),
        (lambda: v.sample_returns(v.iid_rewards(), 0.9, 0), "numpy.random.Generator"),
        (lambda: v.sample_returns(v.iid_rewards(), 0.9, np.random.default_rng(0), start=3), "state below 1"),
        (lambda: v.sample_returns(rarely_ends(), 1, np.random.default_rng(0), max_steps=5), "did not end"),
        (lambda: v.sample_returns(rarely_ends(), 0.99, np.random.default_rng(0), max_steps=5), "did not end"),
        (
            lambda: v.sample_returns(v.iid_rewards(), 0.9, np.random.default_rng(0), max_steps=0),
            "max_steps must be",
        ),
        (lambda: v.RewardProcess(1.0, 0.0, 0.0), "P must be a matrix"),
        (
            lambda: v.RewardProcess(np.full((3, 2, 3), 1 / 3), 0.0, 0.0),
            r"P must be \(\.\.\., states, states\)",
        ),
        (lambda: v.RewardProcess(np.eye(2), np.zeros(2), np.zeros((2, 2))), "R must have the shape of P"),
        (lambda: v.RewardProcess(np.eye(2), np.zeros((2, 2)), "none"), "noise must be an array of numbers"),
        (lambda: v.RewardProcess(np.eye(2), np.zeros((2, 2)), -np.eye(2)), "variance and must be at least 0"),
        (lambda: v.RewardProcess(np.eye(2) * 0.9, np.zeros((2, 2)), np.eye(2)), "must sum to 1"),
        (lambda: v.return_moments(np.eye(2), 0.9), "process must be of the kind RewardProcess"),
        (lambda: v.absorbing_states(None), r"process must be .* \(made by reward_process\)"),
        (lambda: v.sample_returns("iid", 0.9, np.random.default_rng(0)), "process must be of the kind"),
        (lambda: v.iid_rewards(sd=-1), "sd must be at least 0"),
        (lambda: v.frozen_rewards(sd="x"), "sd must be a number"),
        (lambda: v.cancelling_rewards(once=1), "once must be True or False"),
        (lambda: v.variance_curve(3, v.iid_rewards(), [0.5, 0.9]), "name must be of the kind str"),
        (lambda: v.variance_curve("x", None, [0.5, 0.9]), "process must be of the kind"),
        (
            lambda: v.variance_curve("x", v.reward_process([np.eye(2)], 0), [0.5, 0.9]),
            "one process at a time",
        ),
        (lambda: v.variance_curve("x", v.iid_rewards(), [[0.5, 0.9]]), "gammas must be a list"),
        (lambda: v.counterexamples([0.5, 0.9], sd=0)[0].exponent(), "does not vary"),
        (lambda: plot_variance([]), "curves must hold at least one entry"),
        (lambda: plot_variance(v.counterexamples([0.5, 0.9]) * 3), "at most 6 entries"),
        (lambda: plot_variance(v.counterexamples([0.5, 0.9]), simulated=[1]), "simulated must map"),
        (
            lambda: plot_variance(v.counterexamples([0.5, 0.9]), simulated={"frozen": [1, 2]}),
            "must be a list of",
        ),
        (lambda: v.truncation_horizon(0.9, 2), "tolerance"),
        (lambda: v.counterexamples([0.9, 0.5]), "increasing"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("process", "gamma", "message"),
    [
        (v.iid_rewards(), 1, "^gamma = 1 needs episodes that end: from state 0, one may never reach"),
        (
            v.frozen_rewards(),
            1 - 1e-12,
            "takes 9,210,.* steps .* more than max_steps = 100,000; use a smaller gamma",
        ),
        (v.iid_rewards(), 0.99999, "takes 921,030 steps until its weight falls to tolerance = 0.0001"),
        (  # state 0 ends with a chance of one half, or is caught in state 2 for ever
            v.reward_process([[0, 0.5, 0.5], [0, 1, 0], [0, 0, 1]], [1.0, 0, 1]),
            1,
            "from state 0, one may never reach an absorbing state",
        ),
    ],
)
def test_what_would_not_end_is_an_error_at_once(process, gamma, message):
    start = time.perf_counter()
    with pytest.raises(BookError, match=message):
        v.sample_returns(process, gamma, np.random.default_rng(0))
    assert time.perf_counter() - start < 1


def test_the_limit_can_be_raised_and_what_ends_needs_none():
    rng = np.random.default_rng(0)
    assert v.sample_returns(v.iid_rewards(sd=0), 0.9, rng, n=2, tolerance=0.5, max_steps=7) == pytest.approx(
        (1 - 0.9**7) / 0.1
    )
    with pytest.raises(BookError, match=r"takes 7 steps .* more than max_steps = 6"):
        v.sample_returns(v.iid_rewards(sd=0), 0.9, rng, n=2, tolerance=0.5, max_steps=6)
    # An episode of two steps is short at every discount, also from states other than the one that has no end.
    pair = v.cancelling_rewards(once=True)
    assert np.abs(v.sample_returns(pair, 1 - 1e-12, rng, n=5)) == pytest.approx(0, abs=1e-11)
    apart = v.reward_process([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]], [1.0, 0, 1])
    assert v.sample_returns(apart, 1, rng, n=3).tolist() == [1, 1, 1]


def test_a_process_made_directly_is_the_checked_one():
    made, direct = (
        v.reward_process(np.eye(2), [1, 2], 3),
        v.RewardProcess([[1, 0], [0, 1]], [[1, 1], [2, 2]], [[3, 3]] * 2),
    )
    for name in ("P", "R", "noise"):
        assert (getattr(made, name) == getattr(direct, name)).all()
        assert getattr(direct, name).dtype == np.float64


def test_truncation_horizon():
    assert v.truncation_horizon(0.99, 0.01) == 459
    assert v.truncation_horizon(0.5, 0.25) == 2
    assert [v.truncation_horizon(0.9, 0.9**n) for n in range(1, 40)] == list(range(1, 40))
    assert v.truncation_horizon(0, 0.1) == 1


def test_plot():
    curves = v.counterexamples([0, 0.5, 0.9, 0.99])
    simulated = {"independent": [(0.9, 2.3, 2.2, 2.4)]}
    figure = plot_variance(curves, simulated=simulated)
    ax = figure.axes[0]
    assert len(ax.get_legend().get_texts()) == 3
    assert "horizon" in ax.get_xlabel()
    assert "standard deviation" in ax.get_ylabel()
