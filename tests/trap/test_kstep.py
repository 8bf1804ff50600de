"""The k-step study: slopes and verdicts of made-up tables, a small run twice, worlds, plots, bad input."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.trap import kstep as ks
from one_step_trap.trap.plots import kstep as plots

TINY = ks.Settings(
    worlds=("pendulum",),
    seeds=(3,),
    unroll_steps=(1, 2),
    hidden=8,
    batch=16,
    updates=40,
    evaluations=60,
    transitions=800,
    tests=700,
    test_steps=100,
    depth=60,
)


def rng():
    return np.random.default_rng(0)


def made_up(wall, *, world="pendulum", regime="updates", seeds=10, spread=0.0, error=None):
    """Return a table in which the wall at k is ``wall(k)``, give or take."""
    draw, rows = rng(), []
    for seed in range(seeds):
        for k in ks.UNROLL_STEPS:
            factor = np.exp(spread * draw.standard_normal())
            for threshold in ks.THRESHOLDS:
                rows.append((world, regime, k, seed, "horizon", threshold, wall(k) * factor))
            for depth in ks.DEPTHS:
                value = 0.01 * depth if error is None else error(k, depth)
                rows.append((world, regime, k, seed, "error", float(depth), value))
            rows.append((world, regime, k, seed, "seconds", 100.0, 2.0 * k + seed))
    return pd.DataFrame(rows, columns=list(ks.COLUMNS))


# --- what tables say --------------------------------------------------------------------------------------


@given(st.floats(-1.5, 1.5), st.floats(1, 5))
@settings(max_examples=25, deadline=None)
def test_slope_of_a_power_law(exponent, start):
    table = made_up(lambda k: start * k**exponent)
    found = ks.slope(table, "pendulum", rng(), limit=10**9)
    assert found.value == pytest.approx(exponent, abs=1e-9)
    assert found.n == 10


def test_slope_by_hand():
    # Two k, 1 and 2: the slope is the ratio of logarithms. Walls 10 and 40: ln 4 / ln 2 = 2.
    table = made_up(lambda k: {1: 10.0, 2: 40.0}.get(k, 1.0))
    table = table[table["k"] <= 2]
    assert ks.slope(table, "pendulum", rng()).value == pytest.approx(2)
    assert ks.gain(table, "pendulum", 2, rng()).value == pytest.approx(4)


def test_horizons_beyond_the_last_depth_count_as_the_limit():
    table = made_up(lambda k: np.inf if k == 2 else 100.0)
    table = table[table["k"] <= 2]
    assert ks.slope(table, "pendulum", rng()).value == pytest.approx(np.log(4) / np.log(2))
    wall = ks.walls(table, "pendulum")[2]
    assert wall.censored
    assert "more than 400" in str(wall)


@pytest.mark.parametrize(
    ("wall", "spread", "word", "near"),
    [
        (lambda k: k, 0.0, "holds", 6),
        (lambda k: 1.9 * k, 0.1, "holds", None),
        (lambda k: 60, 0.1, "fails", 1),  # a wall that stays: near k = 50 only
        (lambda k: 3, 0.0, "fails", 2),  # near k = 2 and 5
        (lambda k: 10 * k, 0.0, "fails", 0),  # it moves with k, but is not at k
        (lambda k: 2.2 * k**0.5, 0.4, "open", None),  # half as fast as claimed
    ],
)
def test_the_rule(wall, spread, word, near):
    found = ks.verdict(made_up(wall, spread=spread), "pendulum", rng())
    assert found.word == word
    assert found.of == 6
    if near is not None:
        assert found.near == near


def test_verdict_over_all_worlds():
    holds, fails = made_up(lambda k: k), made_up(lambda k: 60, world="cartpole")
    both = ks.verdicts(pd.concat((fails, holds)), rng())
    assert {name: each.word for name, each in both.items()} == {"pendulum": "holds", "cartpole": "fails"}
    assert ks.summary_word(both) == "depends"
    assert ks.summary_word(ks.verdicts(holds, rng())) == "holds"
    assert ks.summary_word(ks.verdicts(fails, rng())) == "fails"
    middle = ks.verdicts(made_up(lambda k: 2.2 * k**0.5, spread=0.4), rng())
    assert ks.summary_word(middle) == "depends"


def test_best_k():
    # The error is least where k is the depth: slope 1. Where one k is best at all depths: slope 0.
    matched = made_up(lambda k: k, error=lambda k, depth: 0.1 + abs(np.log(depth / k)))
    assert ks.best_k_slope(matched, "pendulum", rng()).value == pytest.approx(1)
    always = made_up(lambda k: k, error=lambda k, depth: depth * (1 + abs(k - 5)))
    assert ks.best_k_slope(always, "pendulum", rng()).value == pytest.approx(0, abs=1e-12)


def test_error_curves_are_geometric_means():
    table = made_up(lambda k: k, seeds=2)
    rows = (table["measure"] == "error") & (table["seed"] == 1)
    table.loc[rows, "value"] *= 4
    curves = ks.error_curves(table, "pendulum")
    one = curves[(curves["k"] == 1) & (curves["depth"] == 10)].iloc[0]
    assert one["error"] == pytest.approx(0.1 * 2)  # of .1 and .4
    assert one["n"] == 2


def test_costs_and_the_other_remedy():
    table = made_up(lambda k: 10.0, regime="compute")
    seconds = ks.costs(table, "compute")
    assert seconds["seconds"].tolist() == [2.0 * k + 4.5 for k in ks.UNROLL_STEPS]
    remedy = made_up(lambda k: 30.0, regime="demonstrator")
    both = pd.concat((table, remedy[remedy["k"] == 1]))
    found = ks.demonstrator_gain(both, "pendulum", rng())
    assert found.value == pytest.approx(3)
    assert found.n == 10


# --- the study --------------------------------------------------------------------------------------------


def test_settings_of_the_regimes():
    full = ks.FULL
    for k in ks.UNROLL_STEPS:
        equal = full.training("updates", k)
        assert equal.updates == 1_500
        assert equal.warm_up == (0.5 if k > 1 else 0)
        fair = full.training("compute", k)
        through_one = round(fair.warm_up * fair.updates)
        spent = fair.updates if k == 1 else through_one + k * (fair.updates - through_one)
        assert spent == pytest.approx(4_000, rel=0.01)
    assert len(ks.STUDY_PARTS) == ks.STUDY.parts == 50
    assert set(ks.SLICE.seeds) <= set(full.seeds)
    assert set(ks.SLICE.unroll_steps) <= set(full.unroll_steps)
    assert (
        replace(
            ks.SLICE, worlds=full.worlds, seeds=full.seeds, regimes=full.regimes, unroll_steps=ks.UNROLL_STEPS
        )
        == full
    )


def test_a_small_study_repeats_itself():
    first, second = ks.study(TINY), ks.study(TINY)
    assert list(first.columns) == list(ks.COLUMNS)
    assert not first.duplicated(list(ks.KEYS)).any()
    timeless = first["measure"] != "seconds"
    pd.testing.assert_frame_equal(first[timeless], second[timeless])
    assert set(first["regime"]) == set(ks.REGIMES)
    assert ks.disagreement(second, first) == 0
    # A part of the settings gives the same rows, whatever else is computed.
    part = ks.study(replace(TINY, regimes=("compute",), unroll_steps=(2,)))
    assert ks.disagreement(part, first) == 0
    errors = first[first["measure"] == "error"]
    assert set(errors["at"]) == {1, 2, 5, 10, 20, 50}
    assert (errors["value"] > 0).all()


def test_horizons_of_the_study_are_those_of_its_curves():
    data = ks.world_data("pendulum", 3, TINY)
    network, _ = ks.fit(data.train, "updates", 2, 3, TINY)
    curve = ks.measure(network, data, TINY.depth).curve()
    table = ks.study(replace(TINY, regimes=("updates",), unroll_steps=(2,)))
    for threshold in ks.THRESHOLDS:
        reached = np.flatnonzero(curve >= threshold)
        expected = reached[0] + 1 if len(reached) else np.inf
        assert ks.horizons(table, "pendulum", "updates", threshold).loc[3, 2] == expected
    errors = table[table["measure"] == "error"].set_index("at")["value"]
    assert errors[10] == pytest.approx(curve[9], rel=1e-5)


def test_worlds():
    sizes = {name: ks.world_data(name, 3, replace(TINY, test_steps=50)).sd.shape for name in ks.WORLDS}
    assert sizes == {"pendulum": (3,), "cartpole": (4,), "noisy": (3,), "frames": (4,), "half": (2,)}
    noisy, clean = (ks.world_data(name, 3, TINY) for name in ("noisy", "pendulum"))
    np.testing.assert_array_equal(noisy.test.observations, clean.test.observations)  # the test is never noisy
    np.testing.assert_array_equal(noisy.sd, clean.sd)
    blur = noisy.train.observations - clean.train.observations
    np.testing.assert_allclose(np.nanstd(blur, axis=(0, 1)) / clean.sd, 0.1, rtol=0.1)
    frames = ks.world_data("frames", 3, TINY).train.observations
    np.testing.assert_array_equal(frames[:, 1:, 2:], frames[:, :-1, :2])  # the older frame was the newer one
    assert not np.array_equal(clean.train.observations[0, :50], clean.test.observations[0, :50])


def test_disagreement():
    table = made_up(lambda k: np.inf if k == 50 else 10.0)
    other = table.copy()
    seconds = other["measure"] == "seconds"
    other.loc[seconds, "value"] *= 5
    assert ks.disagreement(table, other) == 0  # times may differ, and infinite walls agree
    other.loc[3, "value"] *= 1.5
    assert ks.disagreement(other, table) == pytest.approx(0.5)
    table.loc[3, "value"] = np.inf
    assert ks.disagreement(table, other) == np.inf
    with pytest.raises(BookError, match="lacks 5 of 840 rows"):
        ks.disagreement(table, table.iloc[5:])


# --- plots and bad input ----------------------------------------------------------------------------------


def test_plots():
    table = pd.concat(
        [
            made_up(lambda k: 20.0 + k, world=world, regime=regime, seeds=4, spread=0.1)
            for world in ("pendulum", "frames")
            for regime in ks.REGIMES
        ]
    )
    errors = plots.plot_errors(table)
    assert len(errors.axes) == 2
    assert len(errors.axes[0].get_legend().get_texts()) == 4
    assert "depth" in errors.axes[1].get_xlabel()
    horizons = plots.plot_horizons(table).axes[0]
    assert horizons.get_xscale() == horizons.get_yscale() == "log"
    assert "steps" in horizons.get_ylabel()
    assert len(horizons.get_legend().get_texts()) == 2
    costs = plots.plot_costs(table, rng())
    assert "CPU" in costs.axes[0].get_ylabel()
    assert costs.axes[1].get_xticklabels()[-1].get_text() == "demon-\nstrator"


TABLE = made_up(lambda k: k)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ks.Settings(worlds=("moon",)), "world must be one of pendulum"),
        (lambda: ks.Settings(regimes=("easy",)), "regime must be one of"),
        (lambda: ks.Settings(unroll_steps=(0,)), "unroll_steps must be at least 1"),
        (lambda: ks.Settings(seeds=(-1,)), "seed must be at least 0"),
        (lambda: ks.Settings(updates=0), "updates must be at least 1"),
        (lambda: ks.world_data("moon", 0), "world must be one of"),
        (lambda: ks.world_data("half", 0.5), "seed must be a whole number"),
        (lambda: ks.slope(TABLE, "moon", rng()), "no horizon of world 'moon'"),
        (lambda: ks.slope(TABLE, "pendulum", 0), "numpy.random.Generator"),
        (lambda: ks.slope(TABLE[TABLE["k"] == 1], "pendulum", rng()), "at least two k"),
        (lambda: ks.slope(TABLE, "pendulum", rng(), threshold=0.2), "no horizon at 0.2 sd"),
        (lambda: ks.horizons(TABLE, "pendulum", "compute"), "in regime 'compute'"),
        (lambda: ks.horizons([1, 2], "pendulum"), "the table needs the columns"),
        (lambda: ks.horizons(TABLE.drop(columns="at"), "pendulum"), "the table needs the columns"),
        (lambda: ks.gain(TABLE, "pendulum", 3, rng()), "no k = 3"),
        (lambda: ks.best_k_slope(TABLE[TABLE["k"] == 1], "pendulum", rng()), "at least two depths"),
        (lambda: ks.costs(TABLE, "compute"), "no seconds"),
        (lambda: ks.disagreement(TABLE, None), "the table needs the columns"),
        (lambda: ks.verdicts(pd.DataFrame(), rng()), "the table needs the columns"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()
