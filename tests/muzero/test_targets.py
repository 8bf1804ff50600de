"""n-step targets: by hand, against the sum as written, and what truncation changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from one_step_trap.muzero.targets import n_step_targets, project


def n_step_reference(rewards, root_values, gamma, n_step, terminated):
    """The targets one sum at a time, as the equation has it."""
    T = len(rewards)
    z = np.zeros(T + 1)
    for t in range(T + 1):
        m = min(n_step, T - t)
        last = 0.0 if terminated and t + m == T else root_values[t + m]
        z[t] = sum(gamma**i * rewards[t + i] for i in range(m)) + gamma**m * last
    return z


def test_by_hand():
    rewards, values = [1.0, 2.0, 4.0], [10.0, 20.0, 30.0, 40.0]
    # γ = .5, n = 2: z_0 = 1 + 1 + .25·30, z_1 = 2 + 2 + .25·ν_3, z_2 = 4 + .5·ν_3, z_3 = ν_3; ν_3 = 0 if it is over
    np.testing.assert_allclose(n_step_targets(rewards, values, 0.5, 2, True), [9.5, 4, 4, 0])
    np.testing.assert_allclose(n_step_targets(rewards, values, 0.5, 2, False), [9.5, 14, 24, 40])


@given(
    st.integers(0, 30),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.3, 0.99, 1.0]),
    st.booleans(),
    st.integers(0, 9),
)
def test_vectorised_against_the_sum_as_written(T, n, gamma, terminated, seed):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=T), rng.normal(size=T + 1)
    fast, slow = (f(rewards, values, gamma, n, terminated) for f in (n_step_targets, n_step_reference))
    np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)


def test_exact_values_are_a_fixed_point_for_every_n():
    rewards, gamma = np.random.default_rng(0).normal(size=12), 0.9
    true = n_step_reference(rewards, np.zeros(13), gamma, 12, True)
    for n in (1, 3, 12, 50):
        np.testing.assert_allclose(n_step_targets(rewards, true, gamma, n, True), true)


def test_a_cut_off_episode_is_worth_what_the_search_says():
    forever = np.full(11, 1 / (1 - 0.9))
    np.testing.assert_allclose(n_step_targets(np.ones(10), forever, 0.9, 4, False), 10)
    assert n_step_targets(np.ones(10), forever, 0.9, 4, True)[9] == 1


@given(st.floats(-50, 50), st.floats(-5, 5))
def test_projection_never_moves_away_from_a_reachable_value(z, v):
    moved, count = project([z], -5, 5)
    assert abs(moved[0] - v) <= abs(z - v) + 1e-12
    assert count == (abs(moved[0] - z) > 1e-5)
