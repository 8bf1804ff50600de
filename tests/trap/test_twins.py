"""Twin simulators: identical ones stay so, nudged ones part at known rates, and what cannot be nudged says so."""

import gymnasium
import numpy as np
import pytest
from engines import needs_box2d

from one_step_trap.errors import BookError
from one_step_trap.trap import rollout as r
from one_step_trap.trap import twins as tw
from one_step_trap.trap.worlds import check_env

ENVS = [
    "CartPole-v1",
    "Acrobot-v1",
    "Pendulum-v1",
    "MountainCarContinuous-v0",
    "MountainCar-v0",
    "HalfCheetah-v5",
    "Hopper-v5",
]


class Line(gymnasium.Env):
    """x' = K x + a, observed as it is: twins ε apart are K^(h-1) ε apart at depth h, exactly. Ends beyond ``end``."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float64)
    growth, end = np.array([1.1, 1.1]), np.inf

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2)
        return self.state.copy(), {}

    def step(self, action):
        self.state = self.growth * self.state + 0.1 * action
        return self.state.copy(), 0.0, bool(np.abs(self.state).max() > self.end), False, {}


class Shrinking(Line):
    growth = np.array([0.9, 0.9])


class Hidden(Line):
    """The same, but its state is kept where nobody finds it."""

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        self._x = self.np_random.normal(size=2)
        return self._x.copy(), {}

    def step(self, action):
        self._x = self.growth * self._x + 0.1 * action
        return self._x.copy(), 0.0, False, False, {}


class HiddenDiscrete(Hidden):
    action_space = gymnasium.spaces.Discrete(2)

    def step(self, action):
        return super().step(np.full(2, 2.0 * action - 1))


class Restless(Line):
    """A simulator that depends on more than its seed."""

    def step(self, action):
        seen, *rest = super().step(action)
        return seen + np.random.default_rng().normal(), *rest


@pytest.fixture(autouse=True, scope="module")
def registered():
    for world in (Line, Shrinking, Hidden, HiddenDiscrete, Restless):
        gymnasium.register(f"test/{world.__name__}-v0", entry_point=world, max_episode_steps=60)
    yield
    for world in (Line, Shrinking, Hidden, HiddenDiscrete, Restless):
        del gymnasium.registry[f"test/{world.__name__}-v0"]


BOX2D = [pytest.param(env, marks=needs_box2d) for env in ("LunarLander-v3", "BipedalWalker-v3")]


@pytest.mark.parametrize("env", [*ENVS, *BOX2D])
def test_identical_copies_stay_identical_for_a_thousand_steps(env):
    assert tw.identical_steps(env, 1_000, seed=3) == 1_000


def test_copies_that_are_not_identical():
    assert tw.identical_steps("test/Restless-v0", 100) == 1


@pytest.mark.parametrize("env", ENVS)
def test_copies_set_to_one_state_stay_identical(env):
    found = tw.twins(env, 0.0, depth=40, trajectories=3, starts=3, seed=1)
    assert found.how == "state"
    assert np.nanmax(found.distance) == 0  # no error at all, at any depth: bit for bit


@pytest.mark.parametrize("env", ENVS)
def test_the_state_can_be_read_and_written(env):
    simulator = tw.Simulator(env)
    assert simulator.writable()
    first = simulator.reset(4)
    assert simulator.observe() == pytest.approx(first, abs=1e-6)
    state = simulator.read()
    action = np.zeros(simulator.spaces.action_size) if not simulator.spaces.discrete else 0
    once, _ = simulator.step(action)
    for _ in range(5):
        simulator.step(action)
    simulator.write(state)
    assert simulator.observe() == pytest.approx(first, abs=1e-6)
    assert simulator.step(action)[0] == pytest.approx(once, abs=1e-5)
    simulator.close()


@pytest.mark.parametrize(("env", "growth"), [("test/Line-v0", 1.1), ("test/Shrinking-v0", 0.9)])
def test_linear_twins_part_at_the_rate_of_the_world(env, growth):
    found = tw.twins(env, 1e-3, depth=30, trajectories=6, seed=2)
    h = np.arange(30)
    reach = ~np.isnan(found.distance)
    expected = np.tile(1e-3 * growth**h, (len(found.start), 1))
    assert found.distance[reach] == pytest.approx(expected[reach], rel=1e-6)
    assert found.epsilon == pytest.approx(1e-3)
    rate = found.rate(np.random.default_rng(0))
    assert rate.value == pytest.approx(np.log(growth), rel=1e-6)
    assert rate.low == pytest.approx(rate.high)
    steps = found.steps(np.random.default_rng(0), threshold=0.005)
    assert steps.value == (18 if growth > 1 else np.inf)  # 1.1^17 = 5.05


def test_a_model_displaces_by_its_own_error():
    bias = np.array([0.03, -0.01])
    model = lambda x, a: 1.1 * x + 0.1 * a + bias  # noqa: E731
    sd = np.array([1.0, 2.0])
    once = tw.twins("test/Line-v0", model, depth=20, trajectories=6, sd=sd, seed=5)
    size = np.sqrt(((bias / sd) ** 2).mean())
    expected = np.tile(size * 1.1 ** np.arange(20), (len(once.start), 1))
    assert once.distance == pytest.approx(expected, rel=1e-6)
    # Every step: the errors sum to bias (K^h - 1)/(K - 1), which is what this model's own rollout does.
    always = tw.twins("test/Line-v0", model, depth=20, trajectories=6, sd=sd, seed=5, every_step=True)
    h = np.arange(1, 21)
    assert always.distance == pytest.approx(
        np.tile(size * (1.1**h - 1) / 0.1, (len(always.start), 1)), rel=1e-6
    )
    own = r.rollout_error(model, "test/Line-v0", transitions=400, depth=20, sd=sd)
    assert own.curve() == pytest.approx(always.curve(), rel=1e-6)


def test_errors_on_a_circle_stay_on_it():
    # A model that stretches (cos θ, sin θ) errs where no pendulum can be: its twin is moved only in speed.
    def model(x, a):
        simulator.write(np.array([np.arctan2(x[0, 1], x[0, 0]), x[0, 2]]))
        return np.array([simulator.step(a[0])[0] * [1.3, 1.3, 1] + [0, 0, 0.2]])

    simulator = tw.Simulator("Pendulum-v1")
    simulator.reset(0)
    batched = lambda x, a: np.concatenate([model(o[None], u[None]) for o, u in zip(x, a, strict=True)])  # noqa: E731
    sd = np.ones(3)
    found = tw.twins("Pendulum-v1", batched, depth=1, trajectories=6, starts=1, sd=sd)
    assert found.epsilon == pytest.approx(0.2 / np.sqrt(3), rel=1e-3)


def test_a_model_that_predicts_no_number():
    found = tw.twins("test/Line-v0", lambda x, a: x * np.nan, depth=3, trajectories=6, sd=[1, 1])
    assert found.epsilon == pytest.approx(1)


def test_nudged_at_every_step_goes_further():
    once = tw.twins("Pendulum-v1", 0.01, depth=60, trajectories=6, seed=0)
    always = tw.twins("Pendulum-v1", 0.01, depth=60, trajectories=6, seed=0, every_step=True)
    assert always.curve()[-1] > 2 * once.curve()[-1]
    assert once.epsilon == pytest.approx(0.01, rel=0.01)
    with pytest.raises(BookError, match="nudged once"):
        always.rate(np.random.default_rng(0))


def test_a_standing_pole_is_unstable_and_a_car_in_a_valley_is_not():
    rng = np.random.default_rng(0)
    pole = tw.twins("CartPole-v1", policy="scripted", trajectories=8, depth=60).rate(rng)
    car = tw.twins("MountainCarContinuous-v0", trajectories=8, depth=60).rate(rng)
    assert pole.low > 0.03
    assert abs(car.value) < 0.005


def test_an_action_is_nudged_where_the_state_is_hidden():
    found = tw.twins("test/Hidden-v0", 1e-3, depth=20, trajectories=6, seed=2)
    assert found.how == "first action"
    ratio = found.distance / found.epsilon[:, None]
    assert ratio == pytest.approx(np.tile(1.1 ** np.arange(20), (len(found.start), 1)), rel=1e-6)
    assert found.epsilon == pytest.approx(1e-3, rel=0.1)
    assert np.nanmax(tw.twins("test/Hidden-v0", 0.0, depth=5, trajectories=5).distance) == 0
    model = lambda x, a: 1.1 * x + 0.1 * a + 0.01  # noqa: E731
    sized = tw.twins("test/Hidden-v0", model, depth=5, trajectories=5, sd=[1, 1])
    assert sized.epsilon == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("env", ["test/HiddenDiscrete-v0", BOX2D[0]])
def test_what_cannot_be_nudged_says_so(env):
    found = tw.twins(env, 0.1, depth=7)
    assert not found.possible
    assert found.how == "none"
    assert "discrete action cannot be nudged" in found.reason
    assert found.distance.shape == (0, 7)
    for ask in (found.curve, lambda: found.steps(np.random.default_rng(0))):
        with pytest.raises(BookError, match="has no twins: its state cannot be written"):
            ask()
    every = tw.twins("test/Hidden-v0", 0.1, depth=7, every_step=True)
    assert "every step" in every.reason


def test_the_dynamics_go_on_after_the_copy_has_ended():
    # A pole that has fallen in the copy but not in the original falls on, without a warning.
    found = tw.twins("CartPole-v1", 0.5, depth=80, trajectories=6, policy="scripted", seed=1)
    assert found.curve()[-1] > 5


def test_same_seed_same_twins():
    one, two, other = (tw.twins("Pendulum-v1", depth=10, trajectories=5, seed=s).distance for s in (1, 1, 2))
    assert np.array_equal(one, two, equal_nan=True)
    assert not np.array_equal(one, other, equal_nan=True)


def test_sd_and_units():
    one = tw.twins("test/Line-v0", 0.1, depth=3, trajectories=5, sd=[1, 0])
    assert one.epsilon == pytest.approx(0.1)  # a dimension without sd does not count
    assert check_env("test/Line-v0").observation_size == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -1}, "epsilon must be at least 0, got -1"),
        ({"epsilon": np.nan}, "epsilon must be a finite number"),
        ({"epsilon": "small"}, "epsilon must be a number"),
        ({"epsilon": lambda x, a: x[0]}, "it returned shape"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"starts": 0}, "starts must be at least 1"),
        ({"trajectories": 0}, "trajectories must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"policy": "clever"}, "policy must be one of"),
        ({"sd": [1, 2]}, "sd must hold 3 numbers"),
        ({"sd": [0, 0, 0]}, "sd must hold 3 numbers"),
        ({"env_id": "Pendulum-v9"}, "unknown environment"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(BookError, match=message) as caught:
        tw.twins(**({"env_id": "Pendulum-v1", "depth": 5, "trajectories": 2} | options))
    assert "\n" not in str(caught.value)


def test_rates_need_trajectories():
    few = tw.twins("Pendulum-v1", trajectories=2, depth=5)
    with pytest.raises(BookError, match="at least 5 trajectories"):
        few.rate(np.random.default_rng(0))
    zero = tw.twins("Pendulum-v1", 0.0, trajectories=6, depth=5)
    with pytest.raises(BookError, match="epsilon above 0"):
        zero.rate(np.random.default_rng(0))
