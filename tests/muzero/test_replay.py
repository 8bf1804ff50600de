"""The replay: absorbing rows and masks, truncation, short episodes, the ring, priorities, reanalyse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.muzero.replay import SMALLEST_PRIORITY, Replay, Segment
from one_step_trap.muzero.targets import n_step_targets


def segment(T, terminated=True, goes_on=False, first=0.0, seed=0):
    """T steps whose observation at time t is first + t, with rewards 1 … T and values 10, 20, …"""
    rng = np.random.default_rng(seed)
    return Segment(
        first + np.arange(T + 1.0)[:, None],
        rng.integers(2, size=T),
        np.arange(1.0, T + 1),
        rng.dirichlet([1, 1], size=T + 1),
        10.0 * np.arange(1, T + 2),
        terminated,
        goes_on,
    )


def replay(rows=60, K=4, **kw):
    return Replay(rows, 1, 2, unroll_max=K, gamma=0.5, n_step=2, value_range=(-1e3, 1e3), **kw)


def rng():
    return np.random.default_rng(0)


def test_a_terminated_episode_and_its_absorbing_rows():
    r = replay()
    r.add(segment(2), rng())
    b = r.gather(r.start_rows, 4)
    assert b.observations[:, 0].tolist() == [0, 1, 2]  # the terminal observation is a start, too
    assert b.rewards.tolist() == [[1, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]
    assert b.reward_mask.all()
    assert b.value_mask.all()
    assert b.policy_mask.tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    # γ = .5, n = 2: z_0 = 1 + .5·2, z_1 = 2, then 0 for ever
    assert b.values.tolist() == [[2, 2, 0, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert set(r.actions[2:6]) <= {0, 1}


class OneValue:
    """A model whose value head says 7 of everything."""

    def represent(self, observations):
        return np.asarray(observations)

    def predict(self, states):
        return np.zeros((len(states), 2)), np.full(len(states), 7.0)


def test_renewed_values_are_bootstrapped_from_and_ends_stay_worth_nothing():
    r = replay()
    r.add(segment(3), rng())
    r.add(segment(3, terminated=False), rng())
    r.renew(5, OneValue(), rng())  # more than there are: all
    ended, cut = (r.values[s.first : s.first + 4].tolist() for s in r.segments)
    assert ended == [1 + 1 + 0.25 * 7, 2 + 1.5, 3, 0]
    assert cut == [1 + 1 + 0.25 * 7, 2 + 1.5 + 0.25 * 7, 3 + 3.5, 7]
    assert r.root_values[: 3 + 1].tolist() == [7, 7, 7, 0]


def test_returns_of_old_segments_are_shortened_one_by_one_down_to_one():
    r = Replay(80, 1, 2, unroll_max=2, gamma=0.5, n_step=3, value_range=(-1e3, 1e3), shorten_every=4)
    for _ in range(4):
        r.add(segment(3, terminated=False), rng())  # 9, 6, 3, 0 steps were stored after each
    assert [r.n_step_of(s) for s in r.segments] == [1, 2, 3, 3]
    r.renew(4, OneValue(), rng())
    got = [r.values[s.first : s.first + 4].tolist() for s in r.segments]
    # rewards 1, 2, 3 and then the value 7, γ = .5
    assert got[0] == [1 + 3.5, 2 + 3.5, 3 + 3.5, 7]
    assert got[1] == [1 + 1 + 0.25 * 7, 2 + 1.5 + 0.25 * 7, 3 + 3.5, 7]
    assert got[2] == got[3] == [1 + 1 + 0.75 + 0.125 * 7, 2 + 1.5 + 0.25 * 7, 3 + 3.5, 7]
    for _ in range(4):
        r.add(segment(3, terminated=False), rng())
    assert r.n_step_of(r.segments[0]) == 1
    again = Replay(80, 1, 2, unroll_max=2, gamma=0.5, n_step=3, value_range=(-1e3, 1e3), shorten_every=4)
    again.restore(*r.state())
    assert [again.n_step_of(s) for s in again.segments] == [r.n_step_of(s) for s in r.segments]


def test_renewing_draws_as_many_segments_as_asked_for():
    r = replay(rows=200)
    for _ in range(8):
        r.add(segment(3, terminated=False), rng())
    r.renew(3, OneValue(), rng())
    renewed = [(r.root_values[s.first : s.first + 4] == 7).all() for s in r.segments]
    assert sum(renewed) == 3
    replay().renew(3, OneValue(), rng())  # an empty replay has none to draw


def test_an_episode_that_was_cut_off_says_nothing_about_what_follows():
    r = replay()
    r.add(segment(2, terminated=False), rng())
    b = r.gather(r.start_rows, 4)
    assert b.observations[:, 0].tolist() == [0, 1, 2]
    assert b.reward_mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert (
        b.value_mask.tolist() == b.policy_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    )
    assert b.values[0, :3].tolist() == [1 + 1 + 0.25 * 30, 2 + 0.5 * 30, 30]


def test_the_end_of_a_stretch_that_goes_on_is_no_start():
    r = replay()
    r.add(segment(3, terminated=False, goes_on=True), rng())
    assert r.observations[r.start_rows, 0].tolist() == [0, 1, 2]


def test_short_episodes_are_sampled_as_often_as_others():
    r = replay(rows=200, K=20)
    for i in range(4):
        r.add(segment(1, first=10.0 * i), rng())
    b = r.sample(4000, 20, rng())
    starts, counts = np.unique(b.observations[:, 0], return_counts=True)
    assert starts.tolist() == [0, 1, 10, 11, 20, 21, 30, 31]
    assert counts.min() > 400


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=25), st.integers(0, 5))
def test_the_ring_holds_the_newest_segments_intact(plan, seed):
    r, draw = replay(rows=40, K=3), rng()
    added = []
    for i, (T, terminated) in enumerate(plan):
        s = segment(T, terminated, first=100.0 * i, seed=seed + i)
        r.add(s, draw)
        added.append(s)
    kept = added[len(added) - len(r.segments) :]  # the newest, in order
    assert kept
    assert len(r.start_rows) == sum(len(s.actions) + 1 for s in kept)
    for place, s in zip(r.segments, kept, strict=True):
        T, rows = len(s.actions), place.first + np.arange(len(s.actions) + 1)
        np.testing.assert_array_equal(r.observations[rows], s.observations)
        np.testing.assert_array_equal(r.actions[rows[:-1]], s.actions)
        z = n_step_targets(s.rewards, s.root_values, 0.5, 2, s.terminated)
        np.testing.assert_allclose(r.values[rows], z)
        after = place.first + T + 1 + np.arange(3)
        assert not r.starts[after].any()
        assert not r.rewards[after].any()
        assert (r.reward_mask[after] == s.terminated).all()


def test_priorities_and_importance_weights_by_hand():
    r = replay(priority_exponent=0.5, importance_exponent=1.0)
    r.add(segment(2), rng())
    # |ν - z| = |10 - 2|, |20 - 2|, 0
    p = (np.array([8.0, 18.0, 0.0]) + SMALLEST_PRIORITY) ** 0.5
    np.testing.assert_allclose(r.probabilities, p / p.sum())
    b = r.sample(20_000, 2, rng())
    share = np.bincount(b.rows - r.start_rows[0], minlength=3) / 20_000
    np.testing.assert_allclose(share, p / p.sum(), atol=0.01)
    expected = 1 / p / (1 / p).max()
    np.testing.assert_allclose(b.weights, expected[b.rows - r.start_rows[0]], rtol=1e-5)
    # weights undo the sampling: the weighted mean of any function is proportional to its plain mean over starts
    f = np.array([3.0, -1.0, 0.5])[b.rows - r.start_rows[0]]
    assert (b.weights * f).sum() / b.weights.sum() == pytest.approx(2.5 / 3, abs=0.15)


def test_uniform_sampling_has_equal_weights():
    r = replay()
    r.add(segment(5), rng())
    np.testing.assert_allclose(r.probabilities, 1 / 6)
    assert (r.sample(50, 2, rng()).weights == 1).all()


def test_fresh_search_results_change_policies_values_targets_and_priorities():
    r = replay(priority_exponent=1.0)
    r.add(segment(3), rng())
    before = r.values.copy()
    r.update([2], [[0.25, 0.75]], [100.0])
    assert r.policies[2].tolist() == [0.25, 0.75]
    # z_0 = 1 + .5·2 + .25·ν_2 changes, z_1 and later do not
    assert r.values[0] == 2 + 25
    np.testing.assert_array_equal(r.values[1:], before[1:])
    assert r.priorities[2] == pytest.approx(100 - 3 + SMALLEST_PRIORITY)
    with pytest.raises(BookError, match="have a policy"):
        r.update([3], [[0.5, 0.5]], [0.0])  # the terminal row


def test_targets_beyond_the_reachable_range_are_moved_and_counted():
    r = Replay(30, 1, 2, unroll_max=2, gamma=0.5, n_step=2, value_range=(0, 12))
    r.add(segment(2, terminated=False), rng())  # targets 9.5, 17, 30
    assert r.values[:3].tolist() == [9.5, 12, 12]
    assert (r.projected, r.stored) == (2, 3)


def test_observations_that_follow_for_the_consistency_loss():
    r = replay()
    r.add(segment(2), rng())
    b = r.gather(r.start_rows[:2], 3, following=True)
    assert b.following_mask.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert b.following[0, :2, 0].tolist() == [1, 2]


def test_state_and_restore():
    one, other = replay(priority_exponent=0.6), replay(priority_exponent=0.6)
    for i in range(9):
        one.add(segment(5, first=10.0 * i), rng())
    other.restore(*one.state())
    for a, b in zip(one.sample(30, 4, rng()), other.sample(30, 4, rng()), strict=True):
        np.testing.assert_array_equal(a, b)
    one.add(segment(4), rng())
    other.add(segment(4), rng())
    np.testing.assert_array_equal(one.start_rows, other.start_rows)
    with pytest.raises(BookError, match="no state of this replay"):
        replay(rows=50).restore(*one.state())


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda r: r.sample(3, 2, rng()), "empty"),
        (lambda r: r.add("episode", rng()), "Segment"),
        (lambda r: r.add(segment(57), rng()), "capacity"),
        (lambda r: r.add(segment(2), 0), "Generator"),
        (lambda r: (r.add(segment(2), rng()), r.gather([0], 5)), "unroll_max = 4"),
        (lambda r: (r.add(segment(2), rng()), r.gather([4], 2)), "starts"),
        (lambda r: (r.add(segment(2), rng()), r.sample(0, 2, rng())), "batch"),
        (lambda r: Segment([[0.0]], [], [], [[1, 0]], [0], True), "whole numbers"),
        (lambda r: Segment([[0.0]], [1], [1], [[1, 0]] * 2, [0, 0], True), "2 rows of observations"),
        (lambda r: segment(2, terminated=True, goes_on=True), "cannot go on"),
        (lambda r: r.add(Segment([[0.0]] * 2, [2], [1], [[1, 0]] * 2, [0, 0], True), rng()), "0 .. 1"),
    ],
)
def test_bad_input(do, message):
    with pytest.raises(BookError, match=message):
        do(replay())
