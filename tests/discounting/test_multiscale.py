"""Hyperbolic mixtures and TD(Δ): hand-worked cases, exact identities, equality with TD, the study, bad
input.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from one_step_trap.discounting import multiscale as ms
from one_step_trap.discounting.plots.multiscale import plot_mixtures, plot_scales
from one_step_trap.errors import BookError


@pytest.mark.parametrize(("n", "k"), [(0, 1), (3, 1), (7, 0.5), (50, 0.1)])
def test_the_integral(n, k):
    assert ms.hyperbolic_weight(n, k) == pytest.approx(1 / (1 + k * n))
    assert quad(lambda g: g ** (k * n), 0, 1)[0] == pytest.approx(1 / (1 + k * n), rel=1e-7)


@pytest.mark.parametrize("m", [2, 5, 10])
def test_gauss_is_exact_up_to_its_degree(m):
    mixture = ms.gauss_mixture(m)
    assert mixture.relative_error(np.arange(2 * m)).max() < 1e-12
    assert mixture.relative_error(2 * m) > 1e-12  # and not beyond
    assert mixture.relative_error(10 * m * m) > 0.5


def test_riemann_is_a_lower_sum_that_stops_at_gamma_max():
    mixture = ms.riemann_mixture(2, gamma_max=0.75)  # b = ½: nodes 0, ½ with weights ½, ¼
    assert mixture.gammas == pytest.approx([0, 0.5])
    assert mixture.weights == pytest.approx([0.5, 0.25])
    assert mixture.weight([0, 1, 2]) == pytest.approx([0.75, 0.125, 0.0625])
    steps = np.arange(1, 200)
    coarse, fine = (ms.riemann_mixture(m).weight(steps) for m in (10, 1000))
    assert (coarse < fine).all()
    assert (fine < ms.hyperbolic_weight(steps)).all()
    lost = 0.99 ** (steps + 1) / (steps + 1)  # ∫ up to .99 instead of 1
    assert fine == pytest.approx(lost, rel=0.03)


@pytest.mark.parametrize("k", [0.1, 1.0, 5.0])
def test_even_in_log_rate_wins_far_out(k):
    steps = np.r_[0, np.geomspace(1, 1_000, 60)]
    errors = [ms.log_mixture(m, k).relative_error(steps).max() for m in (5, 10, 20)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-3
    assert errors[1] < ms.riemann_mixture(10, k).relative_error(steps).max() / 10


def test_preference_reversal():
    # 10 now or 15 five steps later, k = 1: equal at t = 9 since 10/10 = 15/15.
    assert ms.reversal_delay(10, 15, 5) == pytest.approx(9)
    t = np.arange(20)
    for weight, waits in ((ms.hyperbolic_weight, t > 9), (ms.log_mixture(20).weight, t > 9)):
        clear = t != 9
        assert ((15 * weight(t + 5) > 10 * weight(t)) == waits)[clear].all()
    assert ms.reversal_delay(10, 100, 5) < 0


def random_process(seed, states=6):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(states), states), rng.normal(size=states)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sets(st.floats(0, 0.999), min_size=1, max_size=5))
def test_parts_sum_to_the_value(seed, gammas):
    grid = sorted(gammas)
    if min(np.diff(grid), default=1) <= 0:
        return
    V, W = ms.values_by_scale(*random_process(seed), grid)
    assert W.cumsum(0) == pytest.approx(V, rel=1e-8, abs=1e-8)


def test_parts_by_hand():
    # One state, reward 1: V_γ = 1/(1-γ), so W = 1, 1, 2 at γ = 0, ½, ¾.
    _, W = ms.values_by_scale([[1.0]], [1.0], [0, 0.5, 0.75])
    assert W[:, 0] == pytest.approx([1, 1, 2])
    assert ms.doubling_gammas(0.99)[:3] == pytest.approx([0, 0.5, 0.75])
    assert ms.doubling_gammas(0.99)[-1] == 0.99
    assert ms.doubling_gammas(0.75).tolist() == [0, 0.5, 0.75]
    assert ms.doubling_gammas(0).tolist() == [0]


def learn_reference(gamma, n_step, alpha, states, rewards, n_states, steps):
    """Plain n-step TD, one stream and one step at a time."""
    V = np.zeros(n_states)
    for t in range(steps):
        target = sum(gamma**i * rewards[t + i] for i in range(n_step)) + gamma**n_step * V[states[t + n_step]]
        V[states[t]] += alpha * (target - V[states[t]])
    return V


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_td_delta_equals_td_when_all_scales_are_alike(n_step, gamma):
    P, r = random_process(1)
    states = ms.sample_stream(P, 210, 3, np.random.default_rng(2))
    rewards = r[states]
    plain = ms.learn(ms.td(gamma, n_step, 0.1), states, rewards, 6, 200)
    split = ms.learn(ms.td_delta(gamma, n_step, 0.1, same_steps=True), states, rewards, 6, 200)
    assert split == pytest.approx(plain, abs=1e-12)  # at every step, in every state
    for i in range(3):
        slow = learn_reference(gamma, n_step, 0.1, states[i], rewards[i], 6, 200)
        assert plain[-1, i] == pytest.approx(slow, abs=1e-12)
    other = ms.learn(ms.td_delta(gamma, n_step, 0.1, decay=0.5), states, rewards, 6, 200)
    assert np.abs(other - plain).max() > 1e-3


def test_td_delta_with_its_own_steps_finds_the_value():
    P, r = ms.ring()
    states = ms.sample_stream(P, 6_020, 4, np.random.default_rng(0))
    V, _ = ms.values_by_scale(P, r, [0.9])
    for learner in (ms.td_delta(0.9, 16, 0.02), ms.td_delta(0.9, 16, 0.05, decay=0.8)):
        last = ms.learn(learner, states, r[states], 5, 6_000)[-2_000:].mean((0, 1))
        assert last == pytest.approx(V[0], abs=0.03)


def test_study():
    P, r = ms.ring()
    settings = {"steps": 300, "streams": 12, "n_steps": (1, 32), "alphas": (0.02, 0.05)}
    study = ms.scale_study(P, r, 0.95, np.random.default_rng(3), **settings)
    rng = np.random.default_rng(4)
    assert study.gain("TD(Δ)", rng, n_step=1).value == pytest.approx(0, abs=1e-12)  # the same algorithm
    assert study.gain("TD(Δ)", rng, n_step=32).low > 0  # too many steps hurt it less
    assert study.chosen["TD(Δ)"][1].n_step[0] == 1
    frame = study.frame(rng)
    assert len(frame) == 6
    assert (frame.low <= frame.error).all()
    assert frame.groupby("method").best.sum().eq(1).all()
    again = ms.scale_study(P, r, 0.95, np.random.default_rng(3), **settings)
    assert all((again.error[m] == study.error[m]).all() for m in study.error)
    with pytest.raises(BookError, match="n_step must be among"):
        study.at("TD", 7)
    with pytest.raises(BookError, match="n_step must be a number"):
        study.at("TD", [1])
    with pytest.raises(BookError, match="method must be one of"):
        study.at("Q")
    ax = plot_scales(frame).axes[0]
    assert len(ax.get_legend().get_texts()) == 3
    assert "steps" in ax.get_xlabel()


def study_of(**settings):
    few = {"steps": 5, "streams": 2, "n_steps": (1,), "alphas": (0.1,)}
    return ms.scale_study(*ms.ring(), 0.9, np.random.default_rng(0), **(few | settings))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ms.hyperbolic_weight(-1), "steps must be at least 0"),
        (lambda: ms.hyperbolic_weight(1, 0), "k must be above 0"),
        (lambda: ms.riemann_mixture(0), "m must be at least 1"),
        (lambda: ms.reversal_delay(2, 1, 1), "large must exceed small"),
        (lambda: ms.values_by_scale([[1.0]], [1.0], [0.9, 0.5]), "must increase"),
        (lambda: ms.values_by_scale([[1.0]], [1.0, 2.0], [0.5]), "vector of 1 rewards"),
        (lambda: ms.td(0.9, 0, 0.1), "n_step"),
        (lambda: ms.sample_stream([[1.0]], 5, 2, 0), "Generator"),
        (
            lambda: ms.learn(ms.td(0.9, 4, 0.1), np.zeros((1, 5), int), np.zeros((1, 5)), 1, 3),
            "at least 7 steps",
        ),
        (lambda: ms.ring(2), "states"),
        (lambda: ms.ring(5, advance=1.5), "advance must be a probability"),
        (lambda: ms.Mixture("x", [0.5, 0.9], [1.0], 1.0), "two lists of one length"),
        (lambda: ms.Mixture("x", [1.5], [1.0], 1.0), r"gammas must lie in \[0, 1\]"),
        (lambda: ms.Mixture("x", [0.5], [np.nan], 1.0), "weights holds NaN"),
        (lambda: ms.gauss_mixture(3).weight(-1), "steps must be at least 0"),
        (lambda: ms.values_by_scale([[1.0]], [1.0], []), "gammas must be a list"),
        (
            lambda: ms.Learner("x", (0.5, 0.9), (1,), (0.1, 0.1)),
            "every scale needs a gamma, an n_step and an alpha",
        ),
        (lambda: ms.Learner("x", 0.9, 1, 0.1), "gammas must be a list"),
        (lambda: ms.td(0.9, np.nan, 0.1), "n_step must be a finite number"),
        (lambda: ms.td_delta(0.9, 2, 0.1, same_steps="yes"), "same_steps must be True or False"),
        (
            lambda: ms.sample_stream(np.full((2, 2, 2), 0.5), 5, 2, np.random.default_rng(0)),
            "matrix of one chain",
        ),
        (
            lambda: ms.learn("td", np.zeros((1, 5), int), np.zeros((1, 5)), 1, 3),
            "learner must be of the kind Learner",
        ),
        (lambda: ms.learn(ms.td(0.9, 1, 0.1), [0, 0, 0], [0, 0, 0], 1, 1), "at least 2 steps"),
        (
            lambda: ms.learn(ms.td(0.9, 1, 0.1), [[0, 3]], [[0.0, 0]], 2, 1),
            r"states must lie in 0\.\.1, got 3",
        ),
        (lambda: ms.learn(ms.td(0.9, 1, 0.1), [[0, 1]], [[0.0, np.nan]], 2, 1), "rewards holds NaN"),
        (lambda: ms.learn(ms.td(0.9, 1, 0.1), [[0, 1]], [[0.0, 0]], "2", 1), "n_states must be a number"),
        (lambda: ms.learn(ms.td(0.9, 1, 0.1), [[0, 1]], [[0.0, 0]], 2, 0.5), "steps must be a whole number"),
        (lambda: study_of(noise_sd=-0.1), "noise_sd must be at least 0"),
        (lambda: study_of(noise_sd="loud"), "noise_sd must be a number"),
        (lambda: study_of(n_steps=4), "n_steps must be a list"),
        (lambda: study_of(n_steps=()), "n_steps must hold at least one entry"),
        (lambda: study_of(n_steps=(1.5,)), "n_step must be a whole number"),
        (lambda: study_of(alphas=()), "alphas must hold at least one entry"),
        (lambda: study_of(alphas=(0.0,)), "alpha must be above 0"),
        (lambda: study_of(decay=0), "decay must be above 0"),
        (lambda: plot_mixtures([], [1, 2]), "mixtures must hold at least one entry"),
        (lambda: plot_mixtures(["x"], [1, 2]), "every entry of mixtures must be of the kind Mixture"),
        (lambda: plot_scales([1]), "must be a pandas.DataFrame"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_plot_mixtures():
    figure = plot_mixtures([ms.riemann_mixture(10), ms.log_mixture(10)], np.geomspace(1, 1_000, 20))
    top, bottom = figure.axes
    assert len(top.lines) == 3
    assert len(bottom.lines) == 2
    assert "relative error" in bottom.get_ylabel()
