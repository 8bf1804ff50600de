"""Prediction errors by depth: a model that is right, one that forgets, real returns, masks, and the rule."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from one_step_trap.core.stats import Interval
from one_step_trap.errors import BookError
from one_step_trap.muzero import divergence as dv
from one_step_trap.muzero.environments import GRID, Task
from one_step_trap.muzero.networks import MuZeroNet, NetworkModel
from one_step_trap.muzero.plots import divergence as plots
from one_step_trap.muzero.search import SearchSettings, TabularModel
from one_step_trap.muzero.training import TrainingSettings, architecture

GAMMA = 0.9
SETTINGS = SearchSettings(simulations=8, gamma=GAMMA)
SIZE, CELLS = 5, 25
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


def grid_tables():
    """Rewards, next cells and optimal values of the 5 by 5 grid, and an absorbing 26th state behind the goal."""
    rewards, following = np.zeros((CELLS + 1, 4)), np.full((CELLS + 1, 4), CELLS)
    for cell in range(CELLS - 1):  # from the goal everything leads to the absorbing state
        for a, (down, right) in enumerate(MOVES):
            row, column = cell // SIZE + down, cell % SIZE + right
            free = 0 <= row < SIZE and 0 <= column < SIZE and (row != 2 or column == 0)
            following[cell, a] = row * SIZE + column if free else cell
            rewards[cell, a] = float(following[cell, a] == CELLS - 1)
    values = np.zeros(CELLS + 1)
    for _ in range(100):
        q = rewards + GAMMA * values[following]
        q[CELLS - 1 :] = 0
        values = q.max(axis=1)
    best = q == q.max(axis=1, keepdims=True)
    priors = 0.9 * best / best.sum(axis=1, keepdims=True) + 0.1 / 4
    return rewards, following, priors / priors.sum(axis=1, keepdims=True), values


class GridModel(TabularModel):
    """The true grid as a model that takes one-hot observations."""

    def represent(self, observations):
        return np.asarray(observations).argmax(axis=1)[:, None].astype(float)


@pytest.fixture(scope="module")
def right():
    return GridModel(*grid_tables())


@pytest.fixture(scope="module")
def own(right):
    return dv.record(right, GRID, SETTINGS, depth=12, starts=8, warm_up=6, seed=1)


def test_the_right_model_has_no_errors_but_knows_no_future_actions(right, own):
    found = dv.errors(right, own)
    assert np.nanmax(found["reward"]) == 0
    assert np.nanmax(found["value"]) == 0
    assert np.nanmax(found["policy"]) == 0
    assert np.nanmax(found["latent"]) == 0
    uniform = dv.record(right, GRID, SETTINGS, behaviour="random", depth=12, starts=8, warm_up=6, seed=1)
    off = dv.errors(right, uniform)
    assert np.nanmax(off["reward"]) == np.nanmax(off["return_sum"]) == np.nanmax(off["value"]) == 0
    assert np.isnan(off["value_return"]).all()
    assert np.array_equal(uniform.observations[:, 0], own.observations[:, 0])  # the same starts


def test_real_returns_are_the_optimal_values(right, own):
    # The agent searches with the right model and the right values: it takes the shortest way, and the return is V.
    values = np.append(grid_tables()[3], 0.0)
    cells = own.observations.argmax(axis=2)
    truth = np.where(own.alive, values[cells], 0.0)
    assert own.returns == pytest.approx(truth, abs=1e-12)
    assert np.nanmax(dv.errors(right, own)["value_return"]) == pytest.approx(0, abs=1e-12)


def test_after_the_end(own):
    for b in range(own.starts):
        end = int(own.alive[b].sum())  # observations of the running episode
        assert not own.alive[b, end:].any()
        assert (own.rewards[b, end:] == 0).all()
        assert own.rewards[b, end - 1] == 1 or end == own.depth + 1
        assert (own.observations[b, end:] == 0).all()
    assert own.known.all()


def test_a_model_that_is_wrong_by_known_amounts(right, own):
    rewards, following, priors, values = grid_tables()
    wrong = GridModel(rewards + 0.25, following, np.full_like(priors, 0.25), values + 3)
    found = dv.errors(wrong, own)
    assert found["reward"][:, 1:] == pytest.approx(0.25)
    assert np.isnan(found["reward"][:, 0]).all()
    sums = 0.25 * np.cumsum(GAMMA ** np.arange(12))
    assert found["return_sum"][:, 1:] == pytest.approx(np.broadcast_to(sums, (8, 12)))
    # Alive: both looks are wrong by 3 alike. Dead: the model that unrolls says 3, the truth is 0.
    assert found["value"] == pytest.approx(np.where(own.alive, 0.0, 3.0))
    assert found["value_return"] == pytest.approx(np.full((8, 13), 3.0))
    assert np.nanmax(found["policy"]) == 0
    first, rest = own.rewards[:, :1], np.median(own.rewards, axis=0)
    assert found["guess"][:, 1:] == pytest.approx(np.abs(own.rewards - rest))
    assert first.shape == (8, 1)


def test_total_variation_and_latent_distance_by_hand(right):
    """Two states that swap, a model that thinks that nothing moves."""
    still = TabularModel([[0.0, 0.0]] * 2, [[0, 0], [1, 1]], [[0.9, 0.1], [0.2, 0.8]], [1.0, 5.0])
    episodes = dv.Episodes(
        "random",
        1.0,
        np.array([[0.0, 1.0, 0.0]], dtype=np.float32)[..., None],
        np.array([[0, 1]]),
        np.array([[2.0, -1.0]]),
        np.array([[True, True, False]]),
        np.array([[True, True, True]]),
    )
    found = dv.errors(still, episodes)
    assert found["policy"][0, :2] == pytest.approx([0, 0.7])
    assert math.isnan(found["policy"][0, 2])
    assert found["latent"][0, :2] == pytest.approx([0, 1])
    assert found["value"][0] == pytest.approx([0, 4, 1])  # after the end the truth is 0
    assert found["reward"][0, 1:] == pytest.approx([2, 1])
    assert found["return_sum"][0, 1:] == pytest.approx([2, 1])


def test_time_limits_hide_what_follows(right):
    short = replace(Task(GRID), max_steps=4)
    episodes = dv.record(right, short, SETTINGS, behaviour="random", depth=10, starts=6, warm_up=1, seed=0)
    assert not episodes.known.all()
    cut = ~episodes.known.all(axis=1)
    assert (episodes.alive[cut].sum(axis=1) == 5).all()  # the last observation is one of a running episode
    assert (episodes.known[cut].sum(axis=1) == 5).all()
    found = dv.errors(right, episodes)
    assert np.isnan(found["reward"][cut, 5:]).all()
    assert np.isnan(found["value"][cut, 5:]).all()
    own = dv.record(right, short, SETTINGS, depth=10, starts=6, warm_up=1, seed=0)
    cut = ~own.known.all(axis=1)
    assert cut.any()
    # Cut off on the right way: the search's value at the limit is that of the state, so that returns are still V.
    values = np.append(grid_tables()[3], 0.0)
    rows = own.observations[cut].argmax(axis=2)[:, :5]
    assert own.returns[cut, :5] == pytest.approx(values[rows], rel=0.1)
    assert (own.returns[cut, :5] > 0).all()


def test_returns_by_hand():
    r = np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
    returns = dv._returns(r, np.array([0.0, 10.0]), np.array([2, 3]), 0.5)
    assert returns == pytest.approx(
        np.array([[2, 2, 0, 0], [1 + 0.5 + 0.25 + 1.25, 1 + 0.5 + 2.5, 1 + 5, 10]])
    )


@pytest.fixture(scope="module")
def net():
    return MuZeroNet(architecture(Task("CartPole-v1"), TrainingSettings(latent=6, hidden=8)), seed=3)


def test_a_network(net):
    table = dv.divergence(net, "CartPole-v1", SETTINGS, depth=6, starts=6, warm_up=3, depths=(0, 1, 6))
    again = dv.divergence(
        NetworkModel(net), "CartPole-v1", SETTINGS, depth=6, starts=6, warm_up=3, depths=(0, 1, 6)
    )
    pd.testing.assert_frame_equal(table, again)
    assert set(table["depth"]) == {0, 1, 6}
    assert set(table[table["behaviour"] == "agent"]["measure"]) == set(dv.MEASURES)
    first = table[(table["measure"] == "reward") & (table["depth"] == 1)]
    assert first["value"].to_numpy() == pytest.approx(1.0)  # an untrained network promises no reward
    nothing = table[(table["depth"] == 0) & table["measure"].isin(("value", "policy", "latent"))]
    assert nothing["value"].to_numpy() == pytest.approx(0, abs=1e-5)
    other = dv.divergence(
        net, "CartPole-v1", SETTINGS, depth=6, starts=6, warm_up=3, depths=(0, 1, 6), seed=5
    )
    assert not other["value"].equals(table["value"])


def test_unrolled_by_hand(net):
    model = NetworkModel(net)
    o = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    found = dv.unroll(net, o, np.array([[0, 1], [1, 1]]))
    r1, s1 = model.dynamics(model.represent(o), np.array([0, 1]))
    r2, s2 = model.dynamics(s1, np.array([1, 1]))
    assert found.rewards == pytest.approx(np.stack([r1, r2], axis=1))
    assert found.states[:, 2] == pytest.approx(s2)
    assert found.values[:, 2] == pytest.approx(model.predict(s2)[1])
    assert found.policies.sum(axis=2) == pytest.approx(np.ones((2, 3)))


# --- over seeds ---------------------------------------------------------------------------------------------------


def made(value, seeds=6, unrolls=dv.RULE_UNROLLS, depths=(1, 2, 4, 5, 8, 10, 20, 40)):
    """Rows of a study in which ``value(K, behaviour, measure, depth, seed)`` was measured."""
    rows = [
        (K, seed, behaviour, depth, measure, value(K, behaviour, measure, depth, seed))
        for K in unrolls
        for seed in range(seeds)
        for behaviour in dv.BEHAVIOURS
        for measure in (*dv.QUANTITIES, "return_sum")
        for depth in depths
    ]
    return pd.DataFrame(rows, columns=["unroll_steps", "seed", "behaviour", "depth", "measure", "value"])


def rng():
    return np.random.default_rng(0)


def test_growth_is_a_geometric_mean():
    # Errors 10·depth: four times as far, four times as wrong; seeds differ by a factor that cancels.
    rows = made(lambda K, b, m, d, s: 10 * d * (1 + s))
    found = dv.growth(rows, rng(), unroll_steps=5, behaviour="agent", measure="value")
    assert found.value == pytest.approx(4)
    assert found.low == pytest.approx(4)
    assert found.n == 6
    noisy = made(lambda K, b, m, d, s: 100.0 * (2.0 ** (s % 2) if d == 20 else 1.0))
    found = dv.growth(noisy, rng(), unroll_steps=5, behaviour="agent", measure="value")
    assert found.value == pytest.approx(math.sqrt(2))
    assert 1 <= found.low < found.value < found.high <= 2


def test_negligible_errors_do_not_drift():
    rows = made(lambda K, b, m, d, s: 1e-6 * d)
    cells = dv.growths(rows, rng())
    assert len(cells) == 24
    assert (cells["ratio"] == 1).all()
    assert dv.verdict(cells) == ("does not hold", "")


def test_verdicts_on_drift():
    assert dv.verdict(dv.growths(made(lambda K, b, m, d, s: 10.0 * d), rng())) == ("holds", "")
    mixed = made(lambda K, b, m, d, s: 10.0 * d if (m == "value" and b == "agent") else 10.0)
    verdict, condition = dv.verdict(dv.growths(mixed, rng()))
    assert verdict == "holds when"
    assert condition == "for value under its own actions (K = 1, 2, 5, 10): 4 of 24 cells drift, 20 do not"
    few = dv.growths(made(lambda K, b, m, d, s: 10.0 * d, seeds=3), rng())
    assert set(few["drifts"]) == {"undecided"}
    assert dv.verdict(few) == ("open", "")


def test_curves():
    rows = made(lambda K, b, m, d, s: d / K + s, unrolls=(1, 5))
    table = dv.curves(rows, "value", rng())
    row = table[(table["unroll_steps"] == 5) & (table["behaviour"] == "agent") & (table["depth"] == 10)].iloc[
        0
    ]
    assert row["value"] == pytest.approx(2 + 2.5)
    assert row["low"] < row["value"] < row["high"]
    assert row["n"] == 6
    with pytest.raises(BookError, match="twice"):
        dv.at_depth(pd.concat([rows, rows]), 1, "agent", "value", 1)


def test_offpolicy():
    rows = made(lambda K, b, m, d, s: 0.1 * (3.0 if b == "random" else 1.0) * (1 + s))
    found = dv.learned_offpolicy(rows, rng())
    assert found.value == pytest.approx(math.log(3))
    assert dv.offpolicy(Interval(1, 0.5, 2, 9), found) == "holds"
    assert dv.offpolicy(Interval(1, 0.5, 2, 9), Interval(0, -1, 0.2, 9)) == "does not hold"


def test_figures():
    rows = made(lambda K, b, m, d, s: d / K + s, unrolls=(1, 5))
    curves = {name: dv.curves(rows, name, rng()) for name in dv.QUANTITIES}
    assert isinstance(plots.plot_divergence(curves, curves["reward"]), Figure)
    assert isinstance(plots.plot_consistency(curves, curves), Figure)
    assert isinstance(plots.plot_growths(dv.growths(made(lambda K, b, m, d, s: 10.0 * d), rng())), Figure)
    marked = plots.plot_divergence({"value": curves["value"]}).axes[0].lines[1]
    assert marked.get_xdata()[marked.get_markevery()[0]] == 5  # K is marked at depth K
    with pytest.raises(BookError, match="one to four"):
        plots.plot_divergence({})
    with pytest.raises(BookError, match="lacks the columns"):
        plots.plot_divergence({"value": rows.drop(columns="depth")})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"behaviour": "expert"}, "behaviour must be one of agent, random"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"starts": 2.5}, "starts must be a whole number"),
        ({"warm_up": 0}, "warm_up must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"settings": 3}, "settings must be of the kind SearchSettings"),
    ],
)
def test_bad_input(right, options, message):
    with pytest.raises(BookError, match=message):
        dv.record(right, GRID, **options)


def test_more_bad_input(right, own, net):
    with pytest.raises(BookError, match="whole numbers of shape"):
        dv.unroll(right, np.eye(3), np.zeros(3))
    with pytest.raises(BookError, match="one observation for each"):
        dv.unroll(net, np.zeros((3, 4)), np.zeros((2, 2), dtype=int))
    with pytest.raises(BookError, match="at most 12"):
        dv.error_table(right, own, (1, 13))
    with pytest.raises(BookError, match="made by record"):
        dv.errors(right, "episodes")
    with pytest.raises(BookError, match="measure must be one of"):
        dv.curves(made(lambda *a: 1.0), "colour", rng())
    with pytest.raises(BookError, match="needs 5 seeds"):
        dv.growth(made(lambda *a: 1.0, seeds=4), rng(), unroll_steps=5, behaviour="agent", measure="value")
