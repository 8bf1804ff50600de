"""Tasks: what is known of an environment, clear errors for those that do not fit, lanes that repeat themselves."""

import gymnasium as gym
import numpy as np
import pytest
from engines import needs_box2d

from one_step_trap.errors import BookError
from one_step_trap.muzero.environments import GRID, DeterministicGrid, Task, VectorEnv


class _Odd(gym.Env):
    """Rewards of 7, actions that begin at 1, a matrix to look at with one bounded and one unbounded column."""

    def __init__(self, spoil=False):
        low, high = np.array([[-2.0, -np.inf]]), np.array([[6.0, np.inf]])
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float64)
        self.action_space = gym.spaces.Discrete(2, start=1)
        self.spoil, self.total = spoil, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([[2.0, 0.0]]), {}

    def step(self, action):
        assert action in (1, 2)
        self.total += 1  # survives resets if spoil
        return np.array([[6.0, np.e - 1 + self.spoil * self.total]]), 7.0, False, False, {}


gym.register("one-step-trap-test/Odd-v0", entry_point=_Odd)


@pytest.mark.parametrize(
    ("id", "observations", "actions", "limit", "rewards"),
    [
        ("CartPole-v1", 4, 2, 500, (0, 1)),
        ("Acrobot-v1", 6, 3, 500, (-1, 0)),
        ("MountainCar-v0", 2, 3, 200, (-1, 0)),
        ("FrozenLake-v1", 16, 4, 100, (0, 1)),
        (GRID, 25, 4, 60, (0, 1)),
    ],
)
def test_known_environments(id, observations, actions, limit, rewards):
    task = Task(id)
    assert (task.observation_size, task.actions, task.step_limit) == (observations, actions, limit)
    assert task.reward_bounds == rewards


def test_value_ranges():
    assert Task("CartPole-v1").value_range(0.997) == pytest.approx(
        (0, 1 / 0.003)
    )  # bootstrapped past its limit
    assert Task("CartPole-v1").value_range(1.0) == (0, 500)
    assert Task("Acrobot-v1").value_range(0.99) == pytest.approx((-100, 0))


def test_observations_become_numbers_of_size_one():
    lanes = VectorEnv(Task("one-step-trap-test/Odd-v0", 0, 7, max_steps=3), 1, 0)
    np.testing.assert_allclose(lanes.observations, [[0, 0]])
    step = lanes.step(np.array([1]))
    np.testing.assert_allclose(step.observations, [[1, 1]])  # 6 is the upper bound; ln(1 + (e - 1)) = 1
    assert step.rewards.tolist() == [7]
    lake = VectorEnv(Task("FrozenLake-v1", options={"is_slippery": False}), 1, 0)
    assert lake.observations[0].tolist() == [1, *[0] * 15]
    assert lake.step(np.array([2])).observations[0].argmax() == 1


def test_truncation_is_not_termination():
    lanes = VectorEnv(Task("CartPole-v1", max_steps=4), 2, 0)
    steps = [lanes.step(np.array([t % 2, t % 2])) for t in range(4)]
    assert [s.truncated.tolist() for s in steps] == [[False] * 2] * 3 + [[True] * 2]
    assert not any(s.terminated.any() for s in steps)
    lanes = VectorEnv(Task("CartPole-v1"), 1, 0)
    while not (step := lanes.step(np.array([0]))).terminated[0]:
        assert not step.truncated[0]
    assert step.rewards[0] == 1


def test_a_step_that_ends_and_is_cut_off_at_once_terminates():
    steps = 0
    lanes = VectorEnv(Task("CartPole-v1"), 1, 0)
    while not lanes.step(np.array([0])).terminated[0]:
        steps += 1
    lanes = VectorEnv(Task("CartPole-v1", max_steps=steps + 1), 1, 0)
    for _ in range(steps):
        lanes.step(np.array([0]))
    last = lanes.step(np.array([0]))
    assert last.terminated[0]
    assert not last.truncated[0]


def test_the_grid_and_its_wall():
    grid = DeterministicGrid(5)
    assert {grid.reset(seed=s)[0] for s in range(60)} == set(range(10))  # every cell above the wall
    grid.reset(seed=0)
    grid.cell = 7
    assert grid.step(2)[0] == 7  # the wall
    grid.cell = 5
    path = [grid.step(2) for _ in range(3)] + [grid.step(1) for _ in range(4)]
    assert [p[0] for p in path] == [10, 15, 20, 21, 22, 23, 24]
    assert [p[1] for p in path] == [0] * 6 + [1]
    assert path[-1][2]
    assert grid.reset(seed=3)[0] == grid.reset(seed=3)[0]
    assert grid.step(0)[0] >= 0


def test_lanes_are_seeded_and_restored_in_mid_episode():
    def play(lanes, steps, rng):
        rows = []
        for _ in range(steps):
            s = lanes.step(rng.integers(2, size=3))
            for i in np.flatnonzero(s.terminated | s.truncated):
                lanes.reset(int(i))
            rows.append(lanes.observations.copy())
        return np.array(rows)

    task = Task("CartPole-v1")
    one, same, other = (VectorEnv(task, 3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.observations, same.observations)
    assert not np.array_equal(one.observations, other.observations)
    assert len(np.unique(one.observations[:, 0])) == 3
    play(one, 40, np.random.default_rng(0))
    copy = VectorEnv(task, 3, 0)
    copy.restore(one.episodes.tolist(), one.actions_taken, one.observations.copy())
    np.testing.assert_array_equal(
        play(one, 60, np.random.default_rng(1)), play(copy, 60, np.random.default_rng(1))
    )


def test_an_environment_that_does_not_repeat_itself_is_noticed():
    task = Task("one-step-trap-test/Odd-v0", 0, 7, options={"spoil": True})
    lanes = VectorEnv(task, 1, 0)
    lanes.step(np.array([0]))
    lanes.reset(0)
    lanes.step(np.array([0]))
    with pytest.raises(BookError, match="does not repeat itself"):
        VectorEnv(task, 1, 0).restore(lanes.episodes.tolist(), lanes.actions_taken, lanes.observations)


def test_rewards_beyond_the_bounds_are_errors():
    lanes = VectorEnv(Task("one-step-trap-test/Odd-v0"), 1, 0)
    with pytest.raises(
        BookError, match=r"a reward of 7, outside the bounds \[-1, 1\].*reward_low and reward_high"
    ):
        lanes.step(np.array([0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task("Pendulum-v1"), "actions that are continuous"),
        pytest.param(
            lambda: Task("CarRacing-v3", options={"continuous": False}), "images of shape", marks=needs_box2d
        ),
        (lambda: Task("Blackjack-v1"), "Tuple"),
        (lambda: Task("NoSuch-v0"), "unknown environment 'NoSuch-v0'"),
        (lambda: Task("CartPole-v1", options={"no_such_option": 1}), "CartPole-v1 cannot be made with"),
        (lambda: Task("CartPole-v1", options={"x": np.zeros(2)}), "JSON"),
        (lambda: Task("CartPole-v1", options=[1]), "map names"),
        (lambda: Task(7), "named by its Gymnasium id"),
        (lambda: Task("CartPole-v1", 1, 0), "must not exceed"),
        (lambda: Task("CartPole-v1", max_steps=0), "max_steps"),
        (
            lambda: Task("one-step-trap-test/Odd-v0").check_gamma(1),
            "gamma = 1 is not defined .* no time limit",
        ),
        (lambda: Task("CartPole-v1").check_gamma(1.5), "gamma"),
        (lambda: DeterministicGrid(2), "size"),
        (lambda: VectorEnv(Task("CartPole-v1"), 0, 0), "count"),
        (lambda: VectorEnv(Task("CartPole-v1"), 1, -1), "seed"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(BookError, match=message):
        make()
