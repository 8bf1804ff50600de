"""Trajectories: every episode replayed in a single environment, windows by hand, policies, and bad input."""

import gymnasium
import numpy as np
import pytest
import torch
from engines import needs_box2d
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.trap import worlds as w
from one_step_trap.trap.twins import twins


class Toy(gymnasium.Env):
    """Counts steps in its observation; what is odd about it is chosen by name."""

    def __init__(self, kind: str = "plain") -> None:
        self.kind = kind
        box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.observation_space = {
            "dict": gymnasium.spaces.Dict({"a": box}),
            "tuple": gymnasium.spaces.Tuple((box, box)),
            "image": gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8),
        }.get(kind, box)
        self.action_space = {
            "multi": gymnasium.spaces.MultiDiscrete([2, 2]),
            "whole": gymnasium.spaces.Box(-3, 3, (1,), np.int64),
            "late": gymnasium.spaces.Discrete(3, start=5),
            "free": gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64),
        }.get(kind, gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([0.0, 0.0]), {}

    def step(self, action):
        self.t += 1
        if self.kind == "crash" and self.t == 3:
            raise RuntimeError("the simulator gave up\nand says more")
        seen = np.array([float(self.t), np.sum(action, dtype=float)])
        if self.kind == "broken" and self.t == 3:
            seen[0] = np.nan
        return seen, 0.0, self.kind == "short" and self.t == 2, False, {}


for name in ("plain", "dict", "tuple", "image", "multi", "late", "free", "broken", "short", "crash", "whole"):
    gymnasium.register(f"Toy-{name}-v0", Toy, kwargs={"kind": name})


# --- collecting -------------------------------------------------------------------------------------------


def replayed(env_id, data, seed, n, limit):
    """Step every episode again in a plain environment with the same seeds and actions."""
    spaces = w.check_env(env_id)
    seeds = np.random.SeedSequence(seed).spawn(2)[0].generate_state(n)
    episode = 0
    for i in range(n):
        env = gymnasium.make(env_id, max_episode_steps=limit)
        obs, _ = env.reset(seed=int(seeds[i]))
        while True:
            T = data.lengths[episode]
            np.testing.assert_array_equal(data.observations[episode, 0], obs)
            for t in range(T):
                action = spaces.decode(data.actions[episode, t])
                obs, _, terminated, truncated, _ = env.step(action)
                np.testing.assert_array_equal(data.observations[episode, t + 1], obs)
                assert t == T - 1 or not (terminated or truncated)
            assert terminated == data.terminated[episode]
            assert np.isnan(data.observations[episode, T + 1 :]).all()
            assert np.isnan(data.actions[episode, T:]).all()
            episode += 1
            if not (terminated or truncated):
                break  # cut because enough data were there: the last one of this environment
            obs, _ = env.reset()
            if episode == len(data) or not np.array_equal(data.observations[episode, 0], obs):
                break  # this environment had just ended when enough data were there
    assert episode == len(data)


@pytest.mark.parametrize(
    ("env_id", "transitions", "n", "limit", "policy"),
    [
        ("CartPole-v1", 700, 1, 500, "random"),
        ("CartPole-v1", 203, 16, 7, "random"),  # ends by falling and by the time limit
        ("Pendulum-v1", 650, 3, 200, "held"),
        ("Acrobot-v1", 600, 4, 150, "scripted"),
        ("MountainCarContinuous-v0", 300, 1, 200, "scripted"),
        ("HalfCheetah-v5", 120, 2, 50, "random"),
    ],
)
def test_every_episode_replays_in_a_single_environment(env_id, transitions, n, limit, policy):
    data = w.collect(env_id, transitions, 3, policy=policy, max_steps=limit)
    assert data.steps == transitions == data.lengths.sum()
    replayed(env_id, data, 3, n, limit)


@given(st.integers(1, 400), st.integers(0, 2**31), st.integers(1, 30))
@settings(max_examples=15, deadline=None)
def test_exactly_as_many_transitions_as_asked(transitions, seed, limit):
    data = w.collect("CartPole-v1", transitions, seed, max_steps=limit)
    obs, act, after = data.transitions()
    assert len(obs) == len(act) == len(after) == data.steps == transitions
    assert data.lengths.max() <= limit
    assert (act.sum(1) == 1).all()  # one-hot
    # CartPole moves its position by .02 s times its velocity: no pair spans the end of an episode.
    np.testing.assert_allclose(after[:, 0], obs[:, 0] + 0.02 * obs[:, 1], atol=1e-6)


def test_a_time_limit_is_no_death():
    limited = w.collect("CartPole-v1", 200, 0, max_steps=5)
    assert limited.lengths.max() == 5
    assert not limited.terminated.any()
    played = w.collect("CartPole-v1", 400, 0)
    assert played.terminated[:-1].all()  # all but the one that was cut
    assert not w.collect("Pendulum-v1", 400, 0).terminated.any()


def test_same_seed_same_data_and_neighbours_share_nothing():
    a, b, c = (w.collect("Pendulum-v1", 3_200, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.observations, b.observations)
    np.testing.assert_array_equal(a.actions, b.actions)
    assert len(a) == len(c) == 16
    starts = {tuple(x) for x in a.observations[:, 0]}
    assert not starts & {tuple(x) for x in c.observations[:, 0]}


def test_an_environment_without_a_limit_is_cut():
    data = w.collect("Toy-plain-v0", w.OPEN_END + 10, 0)
    assert data.lengths.tolist() == [w.OPEN_END, 10]
    short = w.collect("Toy-short-v0", 5, 0)
    assert short.lengths.tolist() == [2, 2, 1]
    assert short.terminated.tolist() == [True, True, False]


def test_discrete_actions_that_start_elsewhere():
    spaces = w.check_env("Toy-late-v0")
    assert (spaces.start, spaces.action_size, spaces.discrete) == (5, 3, True)
    np.testing.assert_array_equal(spaces.encode(np.array([5, 7])), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(spaces.decode(np.array([[0.0, 1, 0]])), [6])
    data = w.collect("Toy-late-v0", 30, 0)
    _, act, after = data.transitions()
    np.testing.assert_array_equal(after[:, 1], act @ [5, 6, 7])  # the toy shows the action it was given


def test_spaces():
    spaces = w.check_env("Pendulum-v1")
    assert (spaces.observation_size, spaces.action_size, spaces.discrete, spaces.max_steps) == (
        3,
        1,
        False,
        200,
    )
    assert (spaces.low, spaces.high) == (-2, 2)
    assert w.check_env("HalfCheetah-v5").max_steps == 1_000


# --- policies ---------------------------------------------------------------------------------------------


def test_held_actions_are_held():
    data = w.collect("Pendulum-v1", 400, 0, policy="held")
    for actions in data.actions[:, :, 0]:
        changes = np.flatnonzero(np.diff(actions[~np.isnan(actions)])) + 1
        assert (np.diff(changes) == 10).all()
        assert len(changes) >= 10
    # The same actions step by step, but not the same states: a held torque reaches further.
    assert data.scale()[2] > w.collect("Pendulum-v1", 400, 0).scale()[2]


def test_scripts_do_their_job():
    pole = w.collect("CartPole-v1", 5_000, 0, policy="scripted")
    assert np.median(pole.lengths) == 500
    # Upright at the end of an episode: the energy swing-up and the hold at the top.
    pendulum = w.collect("Pendulum-v1", 3_200, 0, policy=w.scripted(w.check_env("Pendulum-v1"), 0.0))
    assert (pendulum.observations[:, 200, 0] > 0.95).mean() > 0.8
    car = w.collect("MountainCarContinuous-v0", 3_000, 0, policy="scripted")
    assert car.terminated.sum() > 20  # it gets out of the valley in about 110 steps
    acrobot = w.collect("Acrobot-v1", 3_000, 0, policy="scripted")
    assert acrobot.terminated.mean() > 0.5
    assert w.collect("MountainCar-v0", 2_000, 0, policy="scripted").terminated.any()


def test_a_policy_of_your_own_and_actions_beyond_the_bounds():
    data = w.collect("Pendulum-v1", 50, 0, policy=lambda o, rng: 100 * np.ones((len(o), 1)))
    assert (data.actions[:, :50] == 2).all()  # the model sees what the world sees
    replayed("Pendulum-v1", data, 0, 1, 200)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "CartPole-v1"])
def test_a_policy_may_work_in_place_and_use_its_array_again(env_id):
    spaces, kept = w.check_env(env_id), np.zeros(0)

    def fresh(observations, rng):
        return w.uniform_actions(spaces, rng, len(observations))

    def rude(observations, rng):
        nonlocal kept
        actions = fresh(observations, rng)
        kept = np.empty_like(actions) if kept.shape != actions.shape else kept
        kept[:] = actions
        observations *= 0
        return kept

    expected, found = (w.collect(env_id, 60, 0, policy=p, max_steps=20) for p in (fresh, rude))
    np.testing.assert_array_equal(found.observations, expected.observations)
    np.testing.assert_array_equal(found.actions, expected.actions)
    steps = {"depth": 5, "trajectories": 2, "starts": 2}
    one, other = (twins(env_id, 1e-3, policy=p, **steps) for p in (fresh, rude))
    np.testing.assert_array_equal(one.distance, other.distance)


# --- trajectories by hand ---------------------------------------------------------------------------------


def by_hand():
    return w.trajectories("mine", [[[0.0], [1], [2], [3]], [[10], [11]]], [[[0.5], [0.6], [0.7]], [[0.8]]])


def test_windows_stay_inside_episodes():
    data = by_hand()
    assert data.lengths.tolist() == [3, 1]
    obs, act, after = data.transitions()
    np.testing.assert_array_equal(obs, [[0], [1], [2], [10]])
    np.testing.assert_array_equal(act, [[0.5], [0.6], [0.7], [0.8]])
    np.testing.assert_array_equal(after, [[1], [2], [3], [11]])
    obs, act = data.windows(2)
    np.testing.assert_array_equal(obs[..., 0], [[0, 1, 2], [1, 2, 3]])
    np.testing.assert_array_equal(act[..., 0], [[0.5, 0.6], [0.6, 0.7]])
    obs, _ = data.windows(2, starts=(np.array([0]), np.array([1])))
    np.testing.assert_array_equal(obs[..., 0], [[1, 2, 3]])
    assert len(data.windows(3)[0]) == 1
    with pytest.raises(BookError, match="no episode of mine has 4 steps"):
        data.windows(4)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_number_of_windows(lengths, k):
    data = w.trajectories(
        "mine", [np.zeros((T + 1, 2)) for T in lengths], [np.zeros((T, 1)) for T in lengths]
    )
    expected = sum(max(0, T - k + 1) for T in lengths)
    if expected:
        assert len(data.windows(k)[0]) == expected
        assert not np.isnan(data.windows(k)[0]).any()
    else:
        with pytest.raises(BookError, match="no episode"):
            data.windows(k)


def test_observe_stack_and_noise():
    data = w.trajectories(
        "mine", [[[0.0, 5], [1, 6], [2, 7], [3, 8]], [[9, 9], [9, 9]]], [np.zeros((3, 1)), [[1.0]]]
    )
    np.testing.assert_array_equal(data.observe([1]).observations[0, :, 0], [5, 6, 7, 8])
    stacked = data.observe([0]).stack(2)
    np.testing.assert_array_equal(stacked.observations, [[[1, 0], [2, 1], [3, 2]]])  # newest first
    assert stacked.lengths.tolist() == [2]  # the episode of one step is too short to start
    np.testing.assert_array_equal(data.stack(1).observations, data.observations)
    noisy = data.with_noise(0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(np.isnan(noisy.observations), np.isnan(data.observations))
    big = w.trajectories(
        "mine", [np.random.default_rng(1).normal(0, [1, 10], (20_001, 2))], [np.zeros((20_000, 1))]
    )
    blur = big.with_noise(0.5, np.random.default_rng(0)).observations - big.observations
    np.testing.assert_allclose(blur.std((0, 1)), [0.5, 5], rtol=0.03)
    np.testing.assert_array_equal(
        data.with_noise(0, np.random.default_rng(0)).observations, data.observations
    )


def test_scale_ignores_the_padding():
    data = w.trajectories("mine", [[[0.0, 4], [2, 4], [4, 4]], [[0, 4], [4, 4]]], [np.zeros((2, 1)), [[0]]])
    np.testing.assert_allclose(data.scale(), [np.std([0, 2, 4, 0, 4]), 1])  # a constant gets 1


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: w.check_env("CartPol-v1"), "did you mean CartPole-v1"),
        (lambda: w.check_env("pendulum"), "did you mean Pendulum-v1"),
        (lambda: w.check_env("Zzzzqqqq-v9"), "gymnasium.registry lists"),
        (lambda: w.check_env("ALE/Pong-v5"), "needs the package ale_py"),
        (lambda: w.check_env("nowhere:Thing-v0"), "cannot be made: No module named 'nowhere'"),
        pytest.param(lambda: w.check_env("CarRacing-v3"), "image", marks=needs_box2d),
        (lambda: w.check_env("Toy-image-v0"), "image"),
        (lambda: w.check_env("FrozenLake-v1"), "observations of type Discrete"),
        (lambda: w.check_env("Toy-dict-v0"), "observations of type Dict"),
        (lambda: w.check_env("Toy-tuple-v0"), "observations of type Tuple"),
        (lambda: w.check_env("Toy-multi-v0"), "actions of type MultiDiscrete"),
        (lambda: w.check_env(3), "named by its Gymnasium id"),
        (lambda: w.collect("Toy-broken-v0", 10, 0), "NaN"),
        (lambda: w.collect("Toy-free-v0", 10, 0), "without bounds"),
        (lambda: w.collect("CartPole-v1", 0, 0), "transitions must be at least 1"),
        (lambda: w.collect("CartPole-v1", 10, -1), "seed must be at least 0"),
        (lambda: w.collect("CartPole-v1", 10, 0, max_steps=0), "max_steps must be at least 1"),
        (lambda: w.collect("CartPole-v1", 10, 0, policy="clever"), "policy must be one of"),
        (lambda: w.collect("CartPole-v1", 10, 0, policy=7), "policy must be one of"),
        (lambda: w.collect("HalfCheetah-v5", 10, 0, policy="scripted"), "no scripted policy"),
        (
            lambda: w.collect("CartPole-v1", 10, 0, policy=lambda o, rng: [2] * len(o)),
            "whole actions from 0 to 1",
        ),
        (lambda: w.collect("CartPole-v1", 10, 0, policy=lambda o, rng: [0.5] * len(o)), "whole actions"),
        (lambda: w.collect("CartPole-v1", 10, 0, policy=lambda o, rng: 0), "numbers of shape"),
        (lambda: w.collect("Pendulum-v1", 10, 0, policy=lambda o, rng: ["a"] * len(o)), "numbers of shape"),
        (lambda: w.collect("Pendulum-v1", 10, 0, policy=lambda o, rng: o[:, :1] * np.nan), "NaN"),
        (lambda: w.collect("Pendulum-v1", 10, 0, policy=lambda o, rng: [[1], [1, 2]]), "numbers of shape"),
        (
            lambda: w.collect(
                "Pendulum-v1", 10, 0, policy=lambda o, rng: torch.zeros(1, 1, requires_grad=True)
            ),
            "numbers of shape .*detach",
        ),
        (lambda: w.held_random(w.check_env("CartPole-v1"), 0), "hold must be at least 1"),
        (lambda: w.scripted(w.check_env("CartPole-v1"), 2), "epsilon must be a probability"),
        (lambda: by_hand().windows(0), "unroll_steps must be at least 1"),
        (lambda: by_hand().observe([1]), "different numbers from 0 to 0"),
        (lambda: by_hand().observe([]), "different numbers"),
        (lambda: by_hand().stack(5), "no episode has the 5 steps"),
        (lambda: by_hand().with_noise(-1, np.random.default_rng(0)), "must not be negative"),
        (lambda: by_hand().with_noise(1, 0), "numpy.random.Generator"),
        (lambda: w.trajectories("x", [], []), "every episode needs"),
        (lambda: w.trajectories("x", [[[0.0]]], [[[0.0]]]), "one observation more than actions"),
        (lambda: w.trajectories("x", [[[0.0], [np.nan]]], [[[0.0]]]), "hold NaN"),
        (lambda: w.trajectories("x", [[0.0, 1.0]], [[[0.0]]]), "must have shape"),
        (lambda: w.trajectories("x", [[["a"], ["b"]]], [[[0.0]]]), "array of numbers"),
        (lambda: w.trajectories("x", [[[0.0], [1]]], [[[0.0]]], [True, False]), "one thing for each of 1"),
        (
            lambda: w.trajectories("x", [[[0.0], [1]], [[0.0, 1], [1, 1]]], [[[0.0]], [[0.0]]]),
            "other sizes of observation",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


class Bare(gymnasium.Env):
    """Has no spaces."""


gymnasium.register("Toy-bare-v0", Bare)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: w.collect("Toy-crash-v0", 50, 0),
            r"Toy-crash-v0 failed in step \(RuntimeError\): the simulator gave up and says more$",
        ),
        (lambda: w.check_env("Toy-bare-v0"), r"Toy-bare-v0 failed in its spaces \(AttributeError\)"),
        (lambda: w.check_env("Toy-whole-v0"), "Box of int64"),
        (lambda: w.random_policy("CartPole-v1"), "spaces must be the Spaces that check_env returns"),
        (lambda: w.held_random(None), "spaces must be"),
        (lambda: w.scripted("CartPole-v1"), "spaces must be"),
        (lambda: w.trajectories("mine", 3, [np.zeros((1, 1))]), "observations must be a list"),
        (
            lambda: w.trajectories("mine", [np.zeros((2, 1))], [np.zeros((1, 1))], True),
            "terminated must be a list",
        ),
        (lambda: w.collect("CartPole-v1", 20, 0).observe(1), "dimensions must be a list"),
    ],
)
def test_foreign_code_and_wrong_types_are_one_line(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_cause_of_a_crash_is_kept():
    with pytest.raises(BookError) as error:
        w.collect("Toy-crash-v0", 50, 0)
    assert isinstance(error.value.__cause__, RuntimeError)
