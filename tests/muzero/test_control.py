"""Rare looking, search depth and simulations: worlds where the answer is known, and the four rules."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from one_step_trap.core.stats import Interval
from one_step_trap.errors import BookError
from one_step_trap.muzero import control, published
from one_step_trap.muzero.environments import GRID, Task, VectorEnv
from one_step_trap.muzero.evaluation import evaluate
from one_step_trap.muzero.networks import MuZeroNet
from one_step_trap.muzero.plots import control as plots
from one_step_trap.muzero.search import SearchSettings, TabularModel
from one_step_trap.muzero.training import TrainingSettings, architecture

SETTINGS = SearchSettings(simulations=6, gamma=0.9)
SIZE, CELLS = 5, 25


class Walker(TabularModel):
    """The grid's truth, with a policy head that knows the way: down the first column, then along the last row.

    ``frozen``: its dynamics think that nothing ever moves.
    """

    def __init__(self, frozen=False):
        following, priors = np.tile(np.arange(CELLS)[:, None], (1, 4)), np.full((CELLS, 4), 0.02)
        for cell in range(CELLS - 1):
            row, column = divmod(cell, SIZE)
            best = 3 if row < 2 and column else 2 if row < 4 else 1
            priors[cell, best] = 0.94
            for a, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
                r, c = row + down, column + right
                if 0 <= r < SIZE and 0 <= c < SIZE and (r != 2 or c == 0) and not frozen:
                    following[cell, a] = r * SIZE + c
        super().__init__(
            np.zeros((CELLS, 4)), following, priors / priors.sum(axis=1, keepdims=True), np.zeros(CELLS)
        )
        self.looks = 0

    def represent(self, observations):
        self.looks += 1
        return np.asarray(observations).argmax(axis=1)[:, None].astype(float)


def test_the_right_model_need_not_look():
    for m in (1, 3, 60):
        model = Walker()
        assert control.play(model, GRID, SETTINGS, refresh=m, simulations=0, episodes=4).tolist() == [1.0] * 4
        assert model.looks == math.ceil(12 / m) or m < 60  # 60: once, and never again
    assert model.looks == 1


def test_a_model_in_which_nothing_moves_must_look():
    task = Task(GRID, max_steps=20)
    frozen = {
        m: control.play(Walker(frozen=True), task, SETTINGS, refresh=m, simulations=0, episodes=6).mean()
        for m in (1, 20)
    }
    assert frozen[1] == 1.0
    assert frozen[20] == 0.0  # it goes on in its first direction, into a wall


def test_refresh_by_hand():
    """Frozen for m steps, the walker repeats each of its choices m times: the way is followed in strides of m."""
    task, m = Task(GRID, max_steps=30), 2
    lanes = VectorEnv(task, 1, 0, control.STREAM)
    model, cells, t, total = Walker(frozen=True), [], 0, 0.0
    while True:
        if t % m == 0:
            action = model.predict(model.represent(lanes.observations))[0].argmax(axis=1)
        step = lanes.step(action)
        total += float(step.rewards[0])
        cells.append(int(lanes.observations[0].argmax()))
        t += 1
        if step.terminated[0] or step.truncated[0]:
            break
    found = control.play(Walker(frozen=True), task, SETTINGS, refresh=m, simulations=0, episodes=1)
    assert found[0] == total


@pytest.fixture(scope="module")
def net():
    return MuZeroNet(architecture(Task("CartPole-v1"), TrainingSettings(latent=6, hidden=8)), seed=1)


def test_looking_at_every_step_is_evaluation(net, monkeypatch):
    monkeypatch.setattr(control, "STREAM", 7)
    task = Task("CartPole-v1", max_steps=12)
    settings = SearchSettings(simulations=6, gamma=0.99)
    assert (
        control.play(net, task, settings, episodes=3).tolist()
        == evaluate(net, task, settings, episodes=3, stream=7).tolist()
    )


def test_sweep(net):
    task = Task("CartPole-v1", max_steps=15)
    table = control.sweep(
        net, task, SETTINGS, refresh=(1, 4), simulations=(0, 3), caps=(1,), episodes=3, seed=2
    )
    assert list(zip(table["kind"], table["x"], strict=True)) == [
        ("refresh", 1), ("refresh", 4), ("simulations", 0), ("simulations", 3), ("cap", 1)
    ]  # fmt: skip
    again = control.sweep(net, task, SETTINGS, refresh=(4,), episodes=3, seed=2)
    assert again["value"][0] == table["value"][1]
    assert control.sweep(net, task, SETTINGS).empty
    chance = control.random_returns(task, episodes=5)
    assert chance.tolist() == control.random_returns(task, episodes=5).tolist()
    assert ((chance >= 8) & (chance <= 15)).all()


# --- tables and rules -----------------------------------------------------------------------------------------------


def rng():
    return np.random.default_rng(0)


def made(value, seeds=6, unrolls=(1, 2, 5, 10, 20), xs=(1, 2, 5, 10, 20, 50)):
    rows = [(K, s, x, value(K, s, x)) for K in unrolls for s in range(seeds) for x in xs]
    return pd.DataFrame(rows, columns=["unroll_steps", "seed", "x", "value"])


def test_table():
    found = control.table(made(lambda K, s, x: 10 * s + x, seeds=4), rng())
    row = found[(found["unroll_steps"] == 5) & (found["x"] == 10)].iloc[0]
    assert row["value"] == pytest.approx(25)
    assert 10 <= row["low"] < 25 < row["high"] <= 40
    assert row["n"] == 4
    with pytest.raises(BookError, match="twice"):
        control.table(pd.concat([made(lambda *a: 1.0)] * 2), rng())


@pytest.mark.parametrize("level", [0.1, 500, -123.4])
def test_what_does_not_change_has_no_trend(level):
    """Whatever the last bits of the mean: neither "better" nor "worse" may follow from them."""
    returns = made(lambda K, s, x: level, xs=(1,)).drop(columns="x")
    assert control.trend(returns, rng())[:3] == (0, 0, 0)


def test_trend_by_hand():
    returns = made(lambda K, s, x: 100 + 7 * math.log2(K) + 50 * s, xs=(1,)).drop(columns="x")
    found = control.trend(returns, rng())
    assert found.value == pytest.approx(7)
    assert found.high - found.low == pytest.approx(0, abs=1e-9)  # seeds differ in level, not in slope
    assert found.n == 6
    incomplete = returns[~((returns["seed"] == 0) & (returns["unroll_steps"] == 5))]
    assert control.trend(incomplete, rng()).n == 5


def band(low, high):
    return Interval((low + high) / 2, low, high, 10)


@pytest.mark.parametrize(
    ("updates", "compute", "verdict"),
    [
        (band(1, 9), band(12, 20), ("holds", "")),
        (band(-30, -5), band(-20, 8), ("does not hold", "")),
        (band(5, 20), band(-20, -5), ("holds when", "at equal updates, not at equal compute")),
        (band(-20, 9), band(1, 20), ("holds when", "at equal compute, not at equal updates")),
        (band(-20, 30), band(-20, 5), ("open", "")),
        (band(-20, 30), band(2, 5), ("open", "")),
    ],
)
def test_control_rule(updates, compute, verdict):
    assert control.control_verdict(updates, compute) == verdict


def test_knee_by_hand():
    # Half of 100 - 20 is lost at 60, half way (in logarithms) from 4 to 16.
    assert control.knee([1, 4, 16, 64], [100, 80, 40, 20], 20) == pytest.approx(8)
    assert control.knee([1, 4], [100, 60], 20) == pytest.approx(4)
    assert control.knee([1, 4], [100, 90], 20) == math.inf
    theirs = [(b.refresh, b.mean_return) for b in published.DE_VRIES_MOUNTAINCAR]
    found = control.knee(*zip(*theirs, strict=True), -200)
    assert (
        10 < found < 20.3
    )  # below their linear interpolation: logarithmic, and the floor is their lowest possible
    with pytest.raises(BookError, match="nothing to lose"):
        control.knee([1, 2], [20, 10], 20)


def refresh_rows(knee_of):
    """Returns that fall from 400 to 20 at the interval ``knee_of(K, seed)``."""
    return made(lambda K, s, x: 400.0 if x < knee_of(K, s) else 20.0)


def test_knees_and_the_rule():
    found = control.knees(refresh_rows(lambda K, s: K + 0.5), 20.0)
    by_k = control.knee_table(found, rng())
    assert by_k["about_k"].tolist() == ["yes"] * 5
    assert control.openloop_verdict(by_k) == ("holds", "")
    assert control.median_knee(by_k, 5).low <= 10
    same = control.knee_table(control.knees(refresh_rows(lambda K, s: 1000), 20.0), rng())
    assert same["never"].tolist() == [6] * 5
    assert same["knee"].to_numpy() == pytest.approx(100)  # twice the longest interval
    assert control.openloop_verdict(same) == ("does not hold", "")
    mixed = control.knee_table(control.knees(refresh_rows(lambda K, s: 9), 20.0), rng())
    verdict, condition = control.openloop_verdict(mixed)
    assert verdict == "holds when"
    assert condition.startswith("for K = 5, 10; otherwise half is lost at an interval of")


def test_agents_that_cannot_play_have_no_knee():
    rows = made(lambda K, s, x: 60.0 if K == 20 or s < 2 else 300.0 / x)
    found = control.knees(rows, 20.0)
    assert found["able"].sum() == 16
    by_k = control.knee_table(found, rng())
    assert set(by_k["about_k"]) == {"too few"}  # 4 able agents, or none
    assert by_k["left_out"].tolist() == [2, 2, 2, 2, 6]
    assert control.openloop_verdict(by_k) == ("open", "")


def search_rows(score, tasks=("CartPole-v1", "Acrobot-v1")):
    rows = []
    for task in tasks:
        for stage in ("early", "final"):
            for seed in range(5):
                for x in (0, 1, 10, 100):
                    low, best = (20.0, 500.0) if task == "CartPole-v1" else (-500.0, -80.0)
                    rows.append((task, stage, seed, x, low + (best - low) * score(task, stage, seed, x)))
    return pd.DataFrame(rows, columns=["task", "stage", "seed", "x", "value"])


CHANCE = {"CartPole-v1": 20.0, "Acrobot-v1": -500.0}


def test_search_rule():
    def steep(task, stage, seed, x):
        return 0.1 + 0.02 * seed + (0.05 * math.log2(x) if x else 0.0)

    cells = control.search_cells(search_rows(steep), CHANCE, rng())
    assert cells["slope"].to_numpy() == pytest.approx(0.05)
    assert control.search_verdict(cells) == ("holds", "")
    assert control.search_number(cells).n == 4

    flat = control.search_cells(search_rows(lambda *a: 0.5), CHANCE, rng())
    assert control.search_verdict(flat) == ("does not hold", "")
    full = control.search_cells(search_rows(lambda *a: 0.97), CHANCE, rng())
    assert set(full["scales"]) == {"full"}
    assert control.search_verdict(full) == ("open", "")
    with pytest.raises(BookError, match="no cell has room"):
        control.search_number(full)

    def early(task, stage, seed, x):
        return steep(task, stage, seed, x) if stage == "early" else 0.5

    verdict, condition = control.search_verdict(control.search_cells(search_rows(early), CHANCE, rng()))
    assert verdict == "holds when"
    assert condition.startswith("in CartPole-v1 (early), Acrobot-v1 (early); not in")


def test_scores():
    assert control.scores([-200, -110, -155], -200, -110) == pytest.approx([0, 1, 0.5])
    with pytest.raises(BookError, match="best must lie above random"):
        control.scores([1], 2, 2)


def test_figures():
    table = control.table(made(lambda K, s, x: 400.0 / x + s), rng())
    by_k = table[table["x"] == 1]
    assert isinstance(plots.plot_return_by_k(by_k, by_k), Figure)
    assert isinstance(plots.plot_refresh(table, 22.0), Figure)
    one = table[table["unroll_steps"] == 5]
    assert isinstance(plots.plot_blindfold(one), Figure)
    cells = {"CartPole-v1": one, "head": pd.concat([one, one.iloc[:1].assign(x=0)])}
    assert isinstance(plots.plot_scaling(cells), Figure)
    with pytest.raises(BookError, match="lacks the columns"):
        plots.plot_refresh(table.drop(columns="low"), 22.0)
    with pytest.raises(BookError, match="tables must map"):
        plots.plot_scaling({})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refresh": 0}, "refresh must be at least 1"),
        ({"simulations": -1}, "simulations must be at least 0"),
        ({"simulations": 2.5}, "simulations must be a whole number"),
        ({"max_depth": 0}, "max_depth must be at least 1"),
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"settings": "deep"}, "settings must be of the kind SearchSettings"),
    ],
)
def test_bad_input(net, options, message):
    with pytest.raises(BookError, match=message):
        control.play(net, "CartPole-v1", **options)
