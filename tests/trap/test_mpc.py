"""Planning with a wrong model: the written-out worlds against Gymnasium, the search against plain loops, the study."""

import math
from dataclasses import replace

import gymnasium
import numpy as np
import pandas as pd
import pytest

from one_step_trap.errors import BookError
from one_step_trap.trap import mpc
from one_step_trap.trap import simulators as sim
from one_step_trap.trap.networks import Training, predict, train
from one_step_trap.trap.plots import mpc as plots
from one_step_trap.trap.worlds import check_env, collect

PENDULUM, CARTPOLE = sim.Pendulum(), sim.CartPole()


def rng(seed=0):
    return np.random.default_rng(seed)


class InPlace(sim.Pendulum):
    """A pendulum that works in place, and whose answers lie in arrays that are used again."""

    def step(self, state, action):
        state[:] = super().step(state, action)
        action *= 0
        return state

    def observe(self, state):
        return self.again("seen", super().observe(state))

    def reward(self, observation, action, after):
        answer = super().reward(observation, action, after)
        observation += 1
        after += 1
        return self.again("reward", answer)

    def terminated(self, observation):
        observation *= 0
        return self.again("ended", super().terminated(observation))

    def again(self, name, array):
        kept = self.__dict__.setdefault(f"{name} {array.shape}", np.empty_like(array))
        kept[:] = array
        return kept


def decided(model, world, planner, observation, former, generator):
    """What `decide` returns for one observation (D,) and one former plan (h, A), by plain loops."""
    fresh, kept = mpc.draw_sequences(planner, check_env(world.env_id), generator)
    best, best_promise = fresh[0], -math.inf
    for n in range(planner.candidates):
        plan = fresh[n].copy()
        if former is not None and planner.memory:
            for i in range(planner.horizon):
                if kept[n, i]:
                    plan[i] = former[min(i + 1, planner.horizon - 1)]
        x, promise = observation, 0.0
        for i in range(planner.horizon):
            after = predict(model, x[None], plan[i][None])[0]
            promise += (
                planner.gamma**i * world.reward(x[None].copy(), plan[i][None].copy(), after[None].copy())[0]
            )
            x = after
            if world.terminated(x[None].copy())[0]:
                break
        if n == 0 or promise > best_promise:
            best, best_promise = plan, promise
    return best


def test_worlds_and_models_may_work_in_place():
    planner, starts = mpc.Planner(horizon=4, candidates=8), sim.Pendulum().start(rng(), 3)
    before = starts.copy()
    expected = mpc.play(sim.Pendulum(), sim.Pendulum(), planner, starts, 0, max_steps=6)
    found = mpc.play(InPlace(), InPlace(), planner, starts, 0, max_steps=6)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(starts, before)
    seen = sim.Pendulum().observe(starts)
    plans = mpc.decide(InPlace(), InPlace(), planner, seen, None, rng())
    for plan, one in zip(plans, seen, strict=True):
        np.testing.assert_array_equal(plan, decided(InPlace(), InPlace(), planner, one, None, rng()))


# --- the worlds, against Gymnasium ------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", list(sim.WORLDS))
@pytest.mark.parametrize("seed", [0, 1])
def test_worlds_step_as_gymnasium_does(env_id, seed):
    world, env, spaces = sim.WORLDS[env_id], gymnasium.make(env_id), check_env(env_id)
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    steps = ended = 0
    for _ in range(300):
        state = np.array(env.unwrapped.state, dtype=np.float64)[None]
        action = env.action_space.sample()
        if env_id == "MountainCarContinuous-v0":  # or it never sees the top
            action = np.sign(state[0, 1:] + 1e-9).astype(np.float32)
        a = spaces.encode(np.asarray(action)[None])
        assert world.observe(state)[0] == pytest.approx(observation, abs=2e-6)
        after = world.step(state, a)
        observation, reward, terminated, truncated, _ = env.step(action)
        seen, before = world.observe(after), world.observe(state)
        assert seen[0] == pytest.approx(observation, abs=3e-6)
        assert world(before, a)[0] == pytest.approx(observation, abs=3e-6)  # as a model of what is observed
        assert world.reward(before, a, seen)[0] == pytest.approx(reward, abs=1e-5)
        assert world.terminated(seen)[0] == terminated
        steps, ended = steps + 1, ended + terminated
        if terminated or truncated:
            observation, _ = env.reset()
    assert steps == 300
    assert ended > 0 or env_id in ("Pendulum-v1", "Acrobot-v1")


def test_acrobot_ends_where_gymnasium_says():
    env = gymnasium.make("Acrobot-v1").unwrapped
    env.reset(seed=0)
    angles = rng().uniform(-np.pi, np.pi, size=(200, 4))
    told = []
    for state in angles:
        env.state = state
        told.append(env._terminal())
    assert 20 < sum(told) < 180
    world = sim.Acrobot()
    assert world.terminated(world.observe(angles)).tolist() == told


@pytest.mark.parametrize("env_id", list(sim.WORLDS))
def test_starts_are_those_of_reset(env_id):
    env, world = gymnasium.make(env_id), sim.WORLDS[env_id]
    real = np.array([env.reset(seed=s)[0] for s in range(300)])
    ours = world.observe(world.start(rng(), 3_000))
    assert ours.mean(axis=0) == pytest.approx(real.mean(axis=0), abs=0.15)
    assert (ours.min(axis=0) <= real.min(axis=0) + 0.01).all()
    assert (ours.max(axis=0) >= real.max(axis=0) - 0.01).all()


def test_rewards_by_hand():
    level = np.array([[0.0, 1.0, 0.0]])  # the pendulum horizontal, at rest: θ = π/2
    rest = np.zeros((1, 1))
    assert PENDULUM.reward(level, rest, level)[0] == pytest.approx(-((np.pi / 2) ** 2))
    after = PENDULUM.step(PENDULUM.state_of(level), rest)[0]
    assert after == pytest.approx([np.pi / 2 + 0.05 * 0.75, 0.75])
    heavy = sim.perturbed(PENDULUM, g=2.0)
    assert heavy.step(heavy.state_of(level), rest)[0, 1] == pytest.approx(1.5)


# --- the planner ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_sequences_of_a_longer_horizon_begin_alike(env_id):
    spaces = check_env(env_id)
    short, kept = mpc.draw_sequences(mpc.Planner(5, candidates=20), spaces, rng(3))
    long, kept_long = mpc.draw_sequences(mpc.Planner(40, candidates=20), spaces, rng(3))
    assert (short == long[:, :5]).all()
    assert (kept == kept_long[:, :5]).all()
    assert kept[0].all()
    assert not kept[10:].any()
    assert 0.2 < kept_long[1:10].mean() < 0.8
    if spaces.discrete:
        assert (long.sum(axis=2) == 1).all()
    else:
        assert np.abs(long).max() <= 2


def test_actions_are_held_as_long_as_asked():
    many, _ = mpc.draw_sequences(mpc.Planner(400, candidates=200, hold=5), check_env("Pendulum-v1"), rng())
    changes = (np.diff(many[..., 0], axis=1) != 0).mean()
    assert changes == pytest.approx(1 / 5, abs=0.01)
    free, _ = mpc.draw_sequences(mpc.Planner(50, candidates=50, hold=1), check_env("Pendulum-v1"), rng())
    assert (np.diff(free[..., 0], axis=1) != 0).all()


@pytest.mark.parametrize(
    "world", [PENDULUM, CARTPOLE, sim.MountainCar(), sim.Acrobot()], ids=lambda w: w.env_id
)
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_search_agrees_with_plain_loops(world, gamma):
    planner = mpc.Planner(12, candidates=10, gamma=gamma)
    state = world.start(rng(1), 3)
    for _ in range(8):  # away from the start
        state = world.step(state, np.eye(len(check_env(world.env_id).low))[[0, 0, -1]])
    seen, plans = world.observe(state), None
    for t in range(3):
        next_plans = mpc.decide(world, world, planner, seen, plans, rng(t))
        for e in range(3):
            former = None if plans is None else plans[e]
            slow = decided(world, world, planner, seen[e], former, rng(t))
            assert slow == pytest.approx(next_plans[e])
        plans = next_plans


def test_promises_stop_where_the_episode_ends():
    falling = np.array([[0.0, 0.0, 0.2, 1.0]])  # beyond 12 degrees after one step
    push = np.tile([[1.0, 0.0]], (1, 5, 1))
    assert mpc.score(CARTPOLE, CARTPOLE, falling, push)[0] == 1
    upright = np.zeros((1, 4))
    assert mpc.score(CARTPOLE, CARTPOLE, upright, push)[0] == 5
    assert mpc.score(CARTPOLE, CARTPOLE, upright, push, gamma=0.5)[0] == pytest.approx(2 * (1 - 0.5**5))


def test_a_model_that_blows_up_is_never_believed():
    def explodes(x, a):
        return np.where(a > 0, np.nan, x)

    sequences = np.array([[[1.0]], [[-1.0]]])
    promised = mpc.score(explodes, PENDULUM, np.tile([[1.0, 0.0, 0.0]], (2, 1)), sequences)
    assert promised[0] == -np.inf
    assert promised[1] == pytest.approx(-0.001)


def test_looking_ahead_balances_the_pole_and_looking_one_step_does_not():
    starts = CARTPOLE.start(rng(), 6)
    returns = {
        h: mpc.play(CARTPOLE, CARTPOLE, mpc.Planner(h, candidates=24), starts, 0, max_steps=120)
        for h in (1, 15)
    }
    assert returns[15].min() > 100
    assert returns[1].max() < 60  # every action promises the same: 1


def test_memory_helps_the_long_search_most():
    starts = PENDULUM.start(rng(2), 8)
    returns = {
        memory: mpc.value_by_horizon(
            PENDULUM,
            PENDULUM,
            starts,
            0,
            horizons=(20, 50),
            planner=mpc.Planner(1, candidates=32, memory=memory),
            max_steps=150,
        )
        for memory in (True, False)
    }
    assert returns[True][1] > returns[False][1] + 150
    assert returns[True][0] - returns[False][0] < returns[True][1] - returns[False][1]


def test_heavier_gravity_spoils_long_plans():
    starts = PENDULUM.start(rng(0), 8)
    base = mpc.Planner(1, candidates=32)
    heavy = sim.perturbed(PENDULUM, g=2.0)
    wrong, right = (
        mpc.value_by_horizon(model, PENDULUM, starts, 0, horizons=(1, 50), planner=base, max_steps=100)
        for model in (heavy, PENDULUM)
    )
    assert wrong[0] == right[0]  # one step ahead, only the reward at hand counts: the model is not asked
    assert right[1] - wrong[1] > 100


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_play_is_what_happens_in_gymnasium(env_id):
    world, planner = sim.WORLDS[env_id], mpc.Planner(8, candidates=12)
    spaces, env = check_env(env_id), gymnasium.make(env_id, max_episode_steps=60)
    observation, _ = env.reset(seed=5)
    start = np.array(env.unwrapped.state, dtype=np.float64)[None]
    live, t, over, plan = 0.0, 0, False, None
    while not over:  # the agent sees what the real environment returns, and nothing else
        seen = np.asarray(observation, dtype=np.float64)[None]
        plan = mpc.decide(world, world, planner, seen, plan, np.random.default_rng([5, t]))
        action = spaces.decode(plan[0, 0])
        native = int(action) if spaces.discrete else action.astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(native)
        live, t, over = live + reward, t + 1, terminated or truncated
    assert mpc.play(world, world, planner, start, 5, max_steps=60)[0] == pytest.approx(live, abs=0.02)


def test_play_does_not_depend_on_company():
    starts = CARTPOLE.start(rng(3), 5)
    together = mpc.play(CARTPOLE, CARTPOLE, mpc.Planner(3, candidates=8), starts, 1, max_steps=80)
    alone = [
        mpc.play(CARTPOLE, CARTPOLE, mpc.Planner(3, candidates=8), s[None], 1, max_steps=80)[0]
        for s in starts
    ]
    assert together.tolist() == alone
    other = mpc.play(CARTPOLE, CARTPOLE, mpc.Planner(3, candidates=8), starts, 2, max_steps=80)
    assert together.tolist() != other.tolist()


# --- the model's error ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return collect("Pendulum-v1", 1_500, 3, policy="held")


@pytest.fixture(scope="module")
def network(data):
    return train(data, Training(updates=150), seed=0)


def test_quick_network_agrees_with_torch(data, network):
    x, a, _ = data.transitions()
    quick = mpc.Quick(network)
    assert quick(x, a) == pytest.approx(network(x, a), abs=2e-5)
    for B in (1, 31, 32, 33):  # it works in blocks of 32 rows
        assert (quick(x[:B], a[:B]) == quick(x, a)[:B]).all()


def test_lipschitz_depth_by_hand():
    assert mpc.lipschitz_depth(0.1, 2) == pytest.approx(math.log2(11))
    assert mpc.lipschitz_depth(0.1, 1) == pytest.approx(10)
    assert mpc.lipschitz_depth(0.1, 1 + 1e-7) == pytest.approx(10, rel=1e-4)
    assert mpc.lipschitz_depth(0.1, 0.5) == math.inf  # the error settles at .2
    assert mpc.lipschitz_depth(0.6, 0.5) == pytest.approx(math.log2(6))  # .6 (1 - 2⁻ⁿ)/(1/2) = 1
    assert mpc.lipschitz_depth(0, 2) == math.inf
    assert mpc.lipschitz_depth(2, 0) == 1
    for K in (0.95, 1.3):
        n = mpc.lipschitz_depth(0.02, K, threshold=0.3)
        assert 0.02 * (K**n - 1) / (K - 1) == pytest.approx(0.3)


def test_constants_of_a_linear_model():
    A = np.array([[0.5, 0.0], [0.0, 1.5]])
    x, a = rng().normal(size=(4, 2)), np.zeros((4, 7, 1))
    assert mpc.local_lipschitz(lambda o, u: o @ A.T, x, a[:, 0], np.array([2.0, 3.0])) == pytest.approx(
        [1.5] * 4
    )
    # In units of sd a coupling of dimensions is scaled by the ratio of the units.
    shear = np.array([[0.0, 1.0], [0.0, 0.0]])
    assert mpc.local_lipschitz(lambda o, u: o @ shear.T, x, a[:, 0], np.array([2.0, 3.0])) == pytest.approx(
        [1.5] * 4
    )
    assert mpc.growth_per_step(lambda o, u: 1.2 * o, x, a, np.ones(2), rng()) == pytest.approx(1.2)


def test_error_of_known_models(data):
    perfect = mpc.measure_error(PENDULUM, data)
    assert perfect.delta < 1e-6
    assert perfect.depth_measured == math.inf
    # Gravity half as strong again: the speed is off by .05 · 7.5 sin θ, and the angle by .05 times as much.
    heavy = mpc.measure_error(sim.perturbed(PENDULUM, g=1.5), data)
    x, _, after = data.transitions()
    off = np.clip(after[:, 2] + 0.375 * x[:, 1], -8, 8) - after[:, 2]
    th = np.arctan2(after[:, 1], after[:, 0])
    wrong = np.stack((np.cos(th + 0.05 * off), np.sin(th + 0.05 * off), after[:, 2] + off), axis=1)
    sd = np.nanstd(data.observations, axis=(0, 1))
    assert heavy.delta == pytest.approx(
        np.sqrt(np.mean(((wrong - after) / sd) ** 2, axis=1)).mean(), rel=1e-3
    )
    assert heavy.depth_bound < heavy.depth_estimate < math.inf
    assert heavy.depth_bound <= heavy.depth_measured < 200
    heavier = mpc.measure_error(sim.perturbed(PENDULUM, g=2.0), data)
    assert heavier.delta == pytest.approx(2 * heavy.delta, rel=0.05)
    assert heavier.depth_measured < heavy.depth_measured


def test_a_model_that_blows_up_has_no_depth(data):
    error = mpc.measure_error(lambda x, a: np.where(x > 0.5, np.nan, 1e200 * x), data)
    assert error.delta == error.lipschitz == math.inf
    assert error.depth_bound == error.depth_estimate == 0
    assert error.depth_measured == 1


# --- the study --------------------------------------------------------------------------------------------

TINY = mpc.Settings(
    horizons=(1, 3),
    transitions=(200, 400),
    unroll_steps=(1,),
    factors=(2.0, 1.5),
    seeds=(0, 1, 2),
    episodes=2,
    candidates=6,
    updates=20,
    test_transitions=1_000,
    max_steps=15,
)


@pytest.fixture(scope="module")
def table():
    return mpc.study(TINY)


def test_the_table(table):
    assert list(table.columns) == list(mpc.COLUMNS)
    assert len(table) == 3 * 6 * 2
    assert not table.duplicated(list(mpc.KEYS)).any()
    assert not table.isna().any(axis=None)
    assert set(table["model"]) == {"true", "forgetful", "network", "constant"}
    one_step = table[table["horizon"] == 1].groupby("seed")["value"]
    assert (one_step.max() - one_step.min()).max() < 15  # no model is asked, only the search may differ
    assert mpc.STUDY.parts == len(mpc.FULL.seeds) >= 10
    assert set(mpc.STUDY.columns) == set(table.columns)


def test_rows_depend_on_their_own_settings_only(table):
    again = mpc.study(replace(TINY, seeds=(1,), horizons=(3,), transitions=(400,), factors=(1.5,)))
    assert len(again) == 4
    assert mpc.largest_difference(again, table) == 0
    with pytest.raises(BookError, match="lacks"):
        mpc.largest_difference(again.assign(seed=9), table)


def synthetic(best, seeds=4):
    """A table whose curves peak where they are told: {(model, transitions, unroll_steps, factor): best h}."""
    rows = []
    for (model, n, k, f), top in best.items():
        for h in (1, 2, 4, 8):
            for seed in range(seeds):
                value = -100 * abs(math.log2(h / top)) + seed
                rows.append((model, n, k, f, h, seed, value, 0.1 * f, 1.0, 1.1, 1.2, 3.0, 6.0, 9.0))
    return pd.DataFrame(rows, columns=list(mpc.COLUMNS))


SYNTHETIC = synthetic(
    {
        ("true", 0, 0, 1.0): 8,
        ("forgetful", 0, 0, 1.0): 4,
        ("constant", 0, 0, 2.0): 2,
        ("constant", 0, 0, 0.8): 4,
        ("network", 200, 1, 1.0): 2,
        ("network", 500, 1, 1.0): 4,
        ("network", 200, 5, 1.0): 4,
        ("network", 500, 5, 1.0): 4,
    }
)


def test_summaries_by_hand():
    one = mpc.summarise_networks(SYNTHETIC, rng())
    assert one.labels == ("200", "500")
    assert [b.value for b in one.best] == [2, 4]
    assert one.verdict == "holds"
    assert mpc.summarise_networks(SYNTHETIC, rng(), unroll_steps=5).verdict == "does not hold"
    constants = mpc.summarise_constants(SYNTHETIC, rng())
    assert constants.labels == ("x 2", "x 0.8", "true")
    assert constants.shift.value == 2


def test_losses_by_hand():
    curves = mpc.network_curves(SYNTHETIC, rng())
    assert [c.label for c in curves] == ["200", "500", "true model"]
    assert [x.value for x in curves[-1].lost] == pytest.approx([300, 200, 100, 0])
    assert [x.value for x in curves[0].lost] == pytest.approx([100, 0, 100, 200])
    assert [x.value for x in curves[0].by_model] == pytest.approx([-200, -200, 0, 200])
    assert [x.low for x in curves[0].lost] == pytest.approx([100, 0, 100, 200])  # compared seed by seed


def test_quality_and_figures():
    q = mpc.quality(SYNTHETIC, rng())
    assert list(q["group"]) == ["network, k = 1"] * 2 + ["network, k = 5"] * 2 + ["wrong constant"] * 2
    assert list(q["best"]) == [2, 4, 4, 4, 2, 4]
    assert list(q["depth_measured"]) == [9] * 6
    assert len(plots.plot_best(q).axes) == 2
    curves = mpc.network_curves(SYNTHETIC, rng())
    assert [one.label for one in curves] == ["200", "500", "true model"]
    forgetful = mpc.loss_curve(SYNTHETIC, rng(), "forgetful", "forgetful")
    left, right = plots.plot_parts(curves, forgetful).axes
    assert len(left.lines) == 2
    assert "error of the model" in right.get_xlabel()


# --- bad input --------------------------------------------------------------------------------------------

STARTS = PENDULUM.start(rng(), 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mpc.Planner(0), "horizon must be at least 1, got 0"),
        (lambda: mpc.Planner(2.5), "whole number"),
        (lambda: mpc.Planner(3, candidates=0), "candidates must be at least 1, got 0"),
        (lambda: mpc.Planner(3, hold=0.5), "at least 1"),
        (lambda: mpc.Planner(3, gamma=2), "gamma must lie"),
        (lambda: mpc.Planner(3, memory="yes"), "True or False"),
        (lambda: sim.known_world("Pendulum-v9"), "unknown environment"),
        (lambda: sim.known_world("MountainCar-v0"), "no reward formula here.*Pendulum-v1, CartPole-v1"),
        (lambda: sim.known_world(7), "Gymnasium id"),
        (lambda: sim.perturbed(PENDULUM, mass=2), "has no constant 'mass'; it has g, m, l"),
        (lambda: sim.perturbed(PENDULUM, g=0), "above 0"),
        (lambda: sim.perturbed("Pendulum-v1", g=2), "must be a World"),
        (lambda: mpc.play("Pendulum-v1", PENDULUM, mpc.Planner(2), STARTS, 0), "must be a World"),
        (lambda: mpc.play(PENDULUM, 3, mpc.Planner(2), STARTS, 0), "must be callable"),
        (lambda: mpc.play(PENDULUM, PENDULUM, 5, STARTS, 0), "must be a Planner"),
        (lambda: mpc.play(PENDULUM, PENDULUM, mpc.Planner(2), STARTS[0], 0), "starts must be states"),
        (lambda: mpc.play(PENDULUM, PENDULUM, mpc.Planner(2), np.ones((2, 3)), 0), "starts must be states"),
        (lambda: mpc.play(PENDULUM, PENDULUM, mpc.Planner(2), STARTS * np.nan, 0), "NaN"),
        (lambda: mpc.play(PENDULUM, PENDULUM, mpc.Planner(2), STARTS, -1), "seed"),
        (lambda: mpc.play(PENDULUM, lambda x, a: x[:, :2], mpc.Planner(2), STARTS, 0), "shape"),
        (lambda: mpc.value_by_horizon(PENDULUM, PENDULUM, STARTS, 0, horizons=(0, 3)), "at least 1, got 0"),
        (lambda: mpc.Quick(PENDULUM), "plain Network"),
        (lambda: mpc.lipschitz_depth(-1, 2), "must not be negative"),
        (lambda: mpc.lipschitz_depth(0.1, math.nan), "finite"),
        (lambda: mpc.local_lipschitz(PENDULUM, np.ones((2, 3)), np.ones((3, 1)), np.ones(3)), "do not fit"),
        (lambda: mpc.measure_error(PENDULUM, "Pendulum-v1"), "Trajectories"),
        (lambda: mpc.Settings(env_id="MountainCar-v0"), "no reward formula"),
        (lambda: mpc.Settings(episodes=0), "episodes"),
        (lambda: mpc.study("Pendulum-v1"), "must be Settings"),
        (lambda: mpc.curves([1], "true"), "DataFrame"),
        (lambda: mpc.Settings(seeds=()), "at least one seed"),
        (lambda: mpc.Settings(transitions=(0,)), "transitions"),
        (lambda: mpc.curves(SYNTHETIC, "guess"), "no model 'guess'"),
        (lambda: mpc.curves(SYNTHETIC, "network", transitions=200), "several models"),
        (lambda: mpc.curves(SYNTHETIC.drop(columns="value"), "true"), "lacks the columns value"),
        (lambda: mpc.curves(SYNTHETIC[1:], "true"), "every seed must have every horizon"),
        (lambda: mpc.sizes_of(SYNTHETIC, 3), "trained through 3 steps"),
        (lambda: plots.plot_best(SYNTHETIC), "columns"),
        (lambda: plots.plot_best(mpc.quality(SYNTHETIC, rng()), groups=("x",)), "one or two of"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_a_curve_wants_a_planner():
    with pytest.raises(BookError, match="planner must be a Planner"):
        mpc.value_by_horizon(sim.Pendulum(), sim.Pendulum(), np.zeros((1, 2)), 0, horizons=(1,), planner="x")
