"""Foreign environments: one line for what they do wrong, copies both ways, actions of the type that they declare."""

import math
import re
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from one_step_trap.core.environments import Environment, make
from one_step_trap.discounting.episodes import play_random
from one_step_trap.errors import BookError
from one_step_trap.muzero import control
from one_step_trap.muzero.environments import Task, VectorEnv
from one_step_trap.muzero.evaluation import evaluate
from one_step_trap.muzero.search import SearchSettings
from one_step_trap.muzero.training import TrainingSettings, preset, train
from one_step_trap.trap.simulators import known_world
from one_step_trap.trap.twins import Simulator, twins
from one_step_trap.trap.worlds import check_env, collect, make_policy


class World(gymnasium.Env):
    """A noisy point; ``changes`` replace what one of its functions returns at time ``when`` and after it."""

    def __init__(self, when=3, **changes):
        self.when, self.changes = when, changes
        self.observation_space = changes.get("observes", spaces.Box(-np.inf, np.inf, (2,), np.float32))
        self.action_space = changes.get("acts", spaces.Discrete(2))
        self.taken = []

    def say(self, name, usual):
        answer = self.changes.get(name, usual) if self.t >= self.when else usual
        return answer(self) if callable(answer) else answer

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.normal(size=2).astype(np.float32)
        return self.say("reset", (self.say("seen", self.x), {}))

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.taken.append(action)
        self.t += 1
        self.x = (0.9 * self.x + 0.1 * np.max(action)).astype(np.float32)
        flags = self.say("terminated", False), self.say("truncated", False)
        return self.say(
            "step", (self.say("seen", self.x), self.say("reward", 0.5), *flags, self.say("info", {}))
        )


def fail(error):
    def raised(world):
        raise error

    return raised


def world(**changes):
    """Register a world and return its id."""
    name = "guarded/World-v0"
    gymnasium.registry.pop(name, None)
    gymnasium.register(name, World, kwargs=changes)
    return name


WRONG = {
    "reward of shape (1,)": (
        {"reward": np.array([0.5])},
        r"gave the reward array\(\[0.5\]\) \(step 3 of an epis",
    ),
    "no reward": ({"reward": None}, "gave the reward None"),
    "reward in words": ({"reward": "0.5"}, "gave the reward '0.5'"),
    "reward NaN": ({"reward": math.nan}, "gave the reward nan .* one finite number"),
    "reward infinite": ({"reward": -math.inf}, "gave the reward -inf"),
    "complex reward": ({"reward": 1j}, "gave the reward 1j"),
    "flag of shape (1,)": ({"terminated": np.array([False])}, r"gave terminated = array\(\[False\]\)"),
    "no flag": ({"truncated": None}, "gave truncated = None"),
    "flag that is 2": ({"terminated": 2}, "gave terminated = 2"),
    "no info": ({"info": None}, "the info that step returns must be a dict, got None"),
    "a number more": ({"seen": np.zeros(3)}, r"observation of shape \(3,\), but its space has \(2,\)"),
    "a number": ({"seen": 1.0}, r"observation of shape \(\), but"),
    "a column": ({"seen": np.zeros((2, 1))}, r"observation of shape \(2, 1\), but"),
    "nothing seen": ({"seen": None}, "an observation of numbers, got None"),
    "a dict seen": ({"seen": {"x": 1}}, "an observation of numbers, got"),
    "ragged lists": ({"seen": [[1], [1, 2]]}, "an observation of numbers"),
    "a gradient": ({"seen": torch.nn.Parameter(torch.zeros(2))}, "an observation of numbers, got Parameter"),
    "NaN seen": ({"seen": np.array([0, math.nan])}, r"observation with NaN or infinite values \(step 3"),
    "too large for float32": ({"seen": np.array([1e300, 0])}, "observation with NaN or infinite values"),
    "four values": ({"step": (np.zeros(2), 0.0, False, {})}, "step must return .* got 4 values"),
    "six values": ({"step": (0, 0, 0, 0, 0, 0)}, "step must return .* got 6 values"),
    "no values": ({"step": None}, "step must return .* got None"),
    "an observation alone": ({"when": 0, "reset": np.zeros(2)}, "reset must return .* got array"),
    "three values at reset": (
        {"when": 0, "reset": (np.zeros(2), {}, 1)},
        "reset must return .* got 3 values",
    ),
    "no info at reset": (
        {"when": 0, "reset": (np.zeros(2), None)},
        "the info that reset returns must be a dict",
    ),
    "raises": (
        {"step": fail(RuntimeError("lost\nsecond line"))},
        r"failed in step \(RuntimeError\): lost second line$",
    ),
    "raises in reset": ({"when": 0, "reset": fail(KeyError("map"))}, r"failed in reset \(KeyError\): 'map'$"),
    "raises without a word": (
        {"reward": fail(Exception())},
        r"failed in step \(Exception\): no reason given$",
    ),
    "ends the process": ({"reward": fail(SystemExit(3))}, r"failed in step \(SystemExit\): 3$"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_every_instrument_says_in_one_line_what_is_wrong(changes, message):
    name = world(**changes)
    task = Task(name, max_steps=5)
    for instrument in (
        lambda: collect(name, 40, 0),
        lambda: control.random_returns(task, episodes=2),
        lambda: play_random(name, 1, 0, cap=5),
    ):
        with pytest.raises(BookError, match=f"^{name}.*{message}") as error:
            instrument()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [WRONG["a number more"][0], WRONG["four values"][0], WRONG["raises"][0], WRONG["reward NaN"][0]],
)
def test_training_and_evaluation_meet_the_same_guard(changes):
    class Random:
        def represent(self, observations):
            return observations

        def predict(self, states):
            return np.zeros((len(states), 2)), np.zeros(len(states))

        def dynamics(self, states, actions):
            return np.zeros(len(states)), states

    task = Task(world(**changes), max_steps=5)
    small = TrainingSettings(env_steps=32, lanes=2, simulations=1, warmup=500, latent=4, hidden=4)
    for instrument in (lambda: train(task, small), lambda: evaluate(Random(), task, SearchSettings(1))):
        with pytest.raises(BookError, match=f"^{task.id}"):
            instrument()


DISCRETE = {"observes": spaces.Discrete(3, start=-1)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({**DISCRETE, "when": 0, "seen": 2}, "observation 2, but its space has -1 to 1"),
        ({**DISCRETE, "when": 0, "seen": -2}, "observation -2, but"),
        (
            {**DISCRETE, "when": 0, "seen": 0.5},
            "returned 0.5, which is nothing that its space of int64 can hold",
        ),
        ({**DISCRETE, "when": 0, "seen": np.array([1])}, r"observation of shape \(1,\)"),
        ({"observes": spaces.Box(0, 255, (2,), np.uint8), "when": 0, "seen": [0.5, 1]}, "space of uint8"),
        ({"observes": spaces.Box(0, 255, (2,), np.uint8), "when": 0, "seen": [256, 1]}, "space of uint8"),
    ],
)
def test_observations_that_their_space_cannot_hold(changes, message):
    with pytest.raises(BookError, match=message):
        Environment(world(**changes)).reset(0)


def test_what_is_unusual_and_right():
    env = Environment(
        world(when=0, seen=[1, 2], reward=np.float32(0.5), terminated=np.bool_(True), truncated=0)
    )
    assert env.reset(0).dtype == np.float32
    after = env.step(1)
    assert after[1:] == (0.5, True, False)
    assert [type(x) for x in after[1:]] == [float, bool, bool]
    counted = Environment(world(**DISCRETE, when=0, seen=np.int8(-1), reward=True))
    assert (counted.reset(0), type(counted.reset(0))) == (-1, int)
    assert counted.step(0).reward == 1.0
    assert VectorEnv(Task(counted.id), 1, 0).observations.tolist() == [[1, 0, 0]]


def test_infinite_numbers_only_where_they_are_asked_for():
    env = Environment(world(when=0, seen=np.array([math.inf, 0]), reward=math.nan), finite=False)
    assert env.reset(0)[0] == math.inf
    assert math.isnan(env.step(0).reward)


def test_an_array_that_is_used_again_is_copied():
    class Same(World):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.buffer = getattr(self, "buffer", np.zeros(2))
            self.buffer[:] = self.x
            return self.buffer, {}

        def step(self, action):
            seen, *rest = super().step(action)
            self.buffer[:] = seen
            return self.buffer, *rest

    wide = {"observes": spaces.Box(-np.inf, np.inf, (2,), np.float64)}
    gymnasium.register("guarded/Same-v0", Same, kwargs=wide)
    same, fresh = collect("guarded/Same-v0", 40, 0, max_steps=9), collect(world(**wide), 40, 0, max_steps=9)
    np.testing.assert_array_equal(same.observations, fresh.observations)
    one, other = (Simulator(name) for name in ("guarded/Same-v0", fresh.env_id))
    first = [one.reset(1), one.step(1)[0], one.step(1)[0]]
    np.testing.assert_array_equal(first, [other.reset(1), other.step(1)[0], other.step(1)[0]])
    assert not np.array_equal(first[0], first[1])


# --- actions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, 1.0, (1,), np.float32),
        spaces.Box(np.float32(0), np.float32(3), (2,), np.float32),
        spaces.Box(-1.0, 1.0, (2,), np.float16),
        spaces.Box(-1.0, 1.0, (2,), np.float64),
        spaces.Discrete(2, start=1),
        spaces.Discrete(3, start=-4),
    ],
    ids=str,
)
def test_actions_lie_in_their_space_and_the_model_sees_them(space):
    name = world(acts=space)  # it asserts that its action lies in its space
    data = collect(name, 40, 0, max_steps=9)
    _, actions, _ = data.transitions()
    env = Environment(name)
    env.reset(0)
    for action in check_env(name).decode(actions):
        env.step(action)
    given = np.array(env.unwrapped.taken)
    assert given.dtype == space.dtype
    np.testing.assert_array_equal(check_env(name).encode(given), actions)  # nothing was lost on the way
    identical = twins(name, 0.0, depth=5, trajectories=2, starts=1)  # copies of the simulator take the same
    assert not identical.possible or np.nanmax(identical.distance) == 0


def test_muzero_takes_actions_that_start_elsewhere():
    lanes = VectorEnv(Task(world(acts=spaces.Discrete(3, start=-4)), max_steps=5), 2, 0)
    lanes.step(np.array([0, 2]))
    assert [e.unwrapped.taken for e in lanes.environments] == [[-4], [-2]]


def test_an_action_that_is_changed_in_place_is_still_what_was_taken():
    class InPlace(World):
        def step(self, action):
            answer = super().step(action.copy())
            action *= 0
            return answer

    box = spaces.Box(-1.0, 1.0, (1,), np.float64)
    gymnasium.register("guarded/InPlace-v0", InPlace, kwargs={"acts": box})
    found = collect("guarded/InPlace-v0", 20, 0)
    np.testing.assert_array_equal(found.actions, collect(world(acts=box), 20, 0).actions)


def test_gymnasiums_own_environments_get_actions_as_they_are():
    """The numbers of the book's studies: unrounded torques."""
    data = collect("Pendulum-v1", 5, 0)
    assert not np.array_equal(data.actions, data.actions.astype(np.float32))


# --- names, limits, seeds ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*unversioned environment")
@pytest.mark.parametrize("name", ["CartPole-v1", "CartPole", "gymnasium.envs:CartPole-v1"])
def test_settings_follow_the_environment_and_not_its_spelling(name):
    task = Task(name)
    assert (task.id, task.name) == (name, "CartPole-v1")
    assert task.reward_bounds == (0, 1)
    assert preset(task) == preset("CartPole-v1") != TrainingSettings()
    assert known_world(name).env_id == "CartPole-v1"
    assert make_policy("scripted", check_env(name))(np.ones((1, 4)), np.random.default_rng(3)).shape == (1,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_version_is_another_environment():
    assert preset("CartPole-v0") == TrainingSettings()
    assert Task("CartPole-v0").step_limit == 200


def test_time_limits():
    gymnasium.register("guarded/Limited-v0", World, max_episode_steps=4)
    for limit, steps in ((None, 4), (2, 2), (9, 9)):
        env = Environment("guarded/Limited-v0", max_steps=limit)
        assert env.time_limit == 4
        for _ in range(2):
            env.reset(0)
            assert [env.step(0).truncated for _ in range(steps)] == [False] * (steps - 1) + [True]
    wrapped = Environment(world())
    assert (wrapped.time_limit, wrapped.limit) == (None, math.inf)


def test_seeds_beyond_32_bits_are_derived():
    class Old(World):
        def reset(self, *, seed=None, options=None):
            np.random.RandomState(seed)  # takes 32 bits
            return super().reset(seed=seed)

    gymnasium.register("guarded/Old-v0", Old)
    env = Environment("guarded/Old-v0")
    starts = [env.reset(seed) for seed in (2**32 - 1, 2**64, 2**64 + 1, 10**100)]
    assert len(np.unique(starts, axis=0)) == 4
    np.testing.assert_array_equal(env.reset(2**64), starts[1])
    assert env.reset(7)[0] == np.float32(np.random.Generator(np.random.PCG64(7)).normal(size=2)[0])


def test_a_close_that_fails_costs_nothing(monkeypatch):
    monkeypatch.setattr(World, "close", fail(RuntimeError("cannot close")))
    assert collect(world(), 10, 0).steps == 10


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Pendulm-v1", {}, "^unknown environment 'Pendulm-v1': did you mean Pendulum-v1"),
        ("CartPole-v7", {}, "^unknown environment 'CartPole-v7': did you mean CartPole-v1"),
        ("nowhere:CartPole-v1", {}, "^nowhere:CartPole-v1 cannot be made: No module named 'nowhere'"),
        ("CartPole-v1", {"colour": "red"}, r"^CartPole-v1 cannot be made with {'colour': 'red'}: .*colour"),
        ("CartPole-v1", {"max_episode_steps": 3}, "^CartPole-v1 cannot be made with .*multiple values"),
        (None, {}, "named by its Gymnasium id"),
        ("", {}, "named by its Gymnasium id"),
    ],
)
def test_environments_that_cannot_be_made(name, options, message):
    with pytest.raises(BookError, match=message) as error:
        make(name, options)
    assert "\n" not in str(error.value)


def test_what_gymnasium_lacks_comes_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)  # as if it were not installed
    for module in [m for m in sys.modules if m.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(
        BookError, match=r"^LunarLander-v3 cannot be made: .*pip install 'gymnasium\[box2d\]'$"
    ):
        Environment("LunarLander-v3")


def test_nothing_else_steps_somebodys_environment(root):
    """Foreign code is called in one place; what is called elsewhere is the book's own."""
    for file in (root / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert file.name == "environments.py" or not re.search(r"\bgym(nasium)?\.make\(", text), file
