"""The study of real environments at a small size: linear fits, the rows, what is read from them, the rule."""

import io
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from one_step_trap.book import sweeps
from one_step_trap.errors import BookError
from one_step_trap.trap import real
from one_step_trap.trap.networks import Training
from one_step_trap.trap.plots import rollout as plots
from one_step_trap.trap.rollout import rollout_error
from one_step_trap.trap.worlds import trajectories

TINY = real.Settings(
    envs=("Pendulum-v1",),
    seeds=(100,),
    transitions=600,
    evaluation=1_600,
    depth=30,
    starts=2,
    members=2,
    twins=5,
    twin_starts=1,
    training=Training(hidden=8, updates=60),
)


@pytest.fixture(scope="module")
def tiny():
    return real.study(TINY)


def test_the_linear_fit_finds_a_linear_world():
    rng = np.random.default_rng(0)
    A, B, c = rng.normal(size=(3, 3)) * 0.3, rng.normal(size=(2, 3)), rng.normal(size=3)
    obs, act = [], []
    for _ in range(6):
        a, x = rng.normal(size=(20, 2)), [rng.normal(size=3)]
        for t in range(20):
            x.append(x[-1] @ A + a[t] @ B + c)
        obs.append(np.array(x))
        act.append(a)
    data = trajectories("linear", obs, act)
    model = real.fit_linear(data)
    assert pytest.approx(np.vstack([A - np.eye(3), B, c]), abs=1e-9) == model.W
    assert np.nanmax(rollout_error(model, data, depth=10).total) < 1e-9


def test_the_rows_of_a_case(tiny):
    assert list(tiny.columns) == list(real.COLUMNS)
    assert not tiny.duplicated(list(real.KEYS)).any()
    counts = tiny["subject"].value_counts()
    assert all(counts[name] == 4 for name in (*real.MODELS, "twins once", "twins every step"))
    assert all(counts[name] == 2 for name in ("twins tiny", "mean", "no change", "last change"))
    assert len(tiny) == 28
    models = tiny["subject"].isin(real.MODELS)
    assert (tiny["one_step"].notna() == models).all()
    assert (tiny["rate"].notna() == (tiny["subject"] == "twins tiny")).all()
    assert (tiny["limit"] == 30).all()
    assert tiny["error_40"].isna().all()  # beyond the depth
    assert tiny["error_30"].notna().all()


def test_rows_do_not_depend_on_what_else_is_computed(tiny):
    alone = real.study(replace(TINY, models=("network", "linear")))
    assert real.check_slice(tiny, alone) == 24
    merged = tiny.merge(alone, how="right", on=list(real.KEYS), suffixes=("", "_alone"))
    assert (merged["error_20"] == merged["error_20_alone"]).all()  # bit for bit
    assert (merged["steps"] == merged["steps_alone"]).all()


def test_the_table_survives_a_file(tiny):
    back = pd.read_csv(io.StringIO(tiny.to_csv(index=False)))
    assert real.check_slice(back, tiny) == len(tiny)
    before = real.steps_table(tiny)
    pd.testing.assert_frame_equal(before, real.steps_table(back))
    entry = sweeps.describe("x.csv", tiny.to_csv(index=False).encode(), replace_study(), 1.0, ["here"])
    assert len(entry["schema"]["fields"]) == len(real.COLUMNS)


def replace_study():
    return replace(real.STUDY, parts=1)


def test_a_slice_that_differs_is_refused(tiny):
    stored = tiny.copy()
    row = stored.index[stored["subject"] == "no change"][0]
    stored.loc[row, "error_10"] *= 1.01
    with pytest.raises(BookError, match="error_10"):
        real.check_slice(stored, tiny)
    stored = tiny.copy()
    network = stored.index[stored["subject"] == "network"][0]
    stored.loc[network, "one_step"] *= 1.1
    assert real.check_slice(stored, tiny) == len(tiny)  # another processor's network
    stored.loc[network, "one_step"] *= 1.3
    with pytest.raises(BookError, match="one_step"):
        real.check_slice(stored, tiny)
    stored = tiny.copy()
    stored.loc[network, "steps"] = 5.0
    with pytest.raises(BookError, match="steps"):
        real.check_slice(stored, tiny)
    with pytest.raises(BookError, match="lacks 28 recomputed rows"):
        real.check_slice(tiny.assign(seed=7), tiny)


@pytest.mark.parametrize(
    ("stored", "found", "fine"),
    [(100, 100, True), (100, 90, True), (100, 80, False), (math.inf, 180, True), (math.inf, 100, False)],
)
def test_steps_that_agree(stored, found, fine):
    rows = [pd.Series({"limit": 200, "one_step": 0.1, "steps": float(s)}) for s in (stored, found)]
    for a, b in (rows, rows[::-1]):
        assert (real._differs_loosely(a, b, 1.25, 0.15) == "") == fine


def test_the_study_is_as_it_says():
    assert real.STUDY.parts == real.STUDY_PARTS == 50
    assert set(real.STUDY.columns) == set(real.COLUMNS)
    assert set(real.FULL.envs) == set(real.POLICIES)
    assert max(real.DEPTHS) == real.FULL.depth
    for seed in real.SLICE.seeds:
        assert seed in real.FULL.seeds
    assert (
        replace(real.FULL, envs=real.SLICE.envs, seeds=real.SLICE.seeds, models=real.SLICE.models)
        == real.SLICE
    )
    sweeps.plain(real.STUDY.settings)


def runs_of(steps, limit=200):
    """A table with given steps to one sd, {(env, trained, evaluated): one number a seed}."""
    rows = []
    for (env, trained, evaluated), values in steps.items():
        for seed, value in enumerate(values):
            row = dict.fromkeys(real.COLUMNS, math.nan) | {"env": env, "seed": seed, "limit": limit}
            row |= {"trained": trained, "evaluated": evaluated, "subject": "network", "steps": value}
            rows.append(row | {f"error_{h}": h / value for h in real.DEPTHS} | {"one_step": 1 / value})
    return pd.DataFrame(rows)


def all_pairs(env, values):
    return {(env, a, b): values for a in real.POLICIES[env] for b in real.POLICIES[env]}


def test_the_rule():
    near, mixed, far = [50.0] * 10, [50.0] * 7 + [math.inf] * 3, [math.inf] * 10
    holds = real.verdict(runs_of(all_pairs("Pendulum-v1", near)))
    assert holds.verdict == "holds"
    assert set(holds.diverging) == {("Pendulum-v1", "random"), ("Pendulum-v1", "scripted")}
    assert (
        holds.condition() == "Pendulum-v1, random actions: 50 steps; Pendulum-v1, scripted actions: 50 steps"
    )
    nowhere = real.verdict(runs_of(all_pairs("Pendulum-v1", far)))
    assert (nowhere.verdict, nowhere.condition()) == ("does not hold", "")
    # The interval must be within reach, and not the median alone.
    doubtful = real.verdict(runs_of(all_pairs("Pendulum-v1", mixed)))
    assert doubtful.verdict == "does not hold"
    assert doubtful.staying["Pendulum-v1", "random"].value == 50
    some = real.verdict(runs_of(all_pairs("Pendulum-v1", near) | all_pairs("CartPole-v1", far)))
    assert some.verdict == "holds when"
    # The other policy's data do not enter.
    cross = all_pairs("Pendulum-v1", far) | {("Pendulum-v1", "random", "scripted"): near}
    assert real.verdict(runs_of(cross)).verdict == "does not hold"


def test_steps_and_curves_over_seeds():
    runs = runs_of({("Pendulum-v1", "random", "random"): [10.0 * (s + 1) for s in range(10)]})
    found = real.steps(runs, "Pendulum-v1", "network", "random", "random")
    assert (found.value, found.low, found.high, found.n, found.limit) == (55, 20, 90, 10, 200)
    curve = real.curve(runs, "Pendulum-v1", "network", "random", "random")
    assert curve["depth"].tolist() == list(real.DEPTHS)
    expected = np.median([100 / (10 * (s + 1)) for s in range(10)])
    assert curve.loc[curve["depth"] == 100, "error"].item() == pytest.approx(expected)
    assert (curve["low"] <= curve["error"]).all()
    runs.loc[:5, "error_200"] = math.nan  # six of ten seeds do not reach it
    assert real.curve(runs, "Pendulum-v1", "network", "random", "random")["depth"].max() == 180


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: real.Settings(envs=("Pendulum-v0",)), "no environment 'Pendulum-v0'"),
        (lambda: real.Settings(models=("forest",)), "no model 'forest'"),
        (lambda: real.Settings(models=("linear",)), "needs the model 'network'"),
        (lambda: real.run_part(50), "parts 0 to 49, got 50"),
        (lambda: real.run_part(-1), "part must be at least 0"),
        (lambda: real.run_case("Pendulum-v1", -1, TINY), "seed must be at least 0"),
        (lambda: real.verdict(pd.DataFrame({"env": []})), "lacks the columns"),
        (lambda: real.steps(runs_of({}).reindex(columns=real.COLUMNS), "x", "y", "z"), "no rows for x, y"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_plots(tiny):
    figure = plots.plot_real(tiny)
    assert len([ax for ax in figure.axes if ax.get_visible()]) == 2
    drawn = figure.axes[0].lines[0].get_ydata()
    assert drawn == pytest.approx(real.curve(tiny, "Pendulum-v1", "network", "random", "random")["error"])
    assert len(plots.plot_real(tiny, cases=[("Pendulum-v1", "random", "scripted")]).axes) == 2
    steps = plots.plot_steps(tiny).axes[0]
    assert [t.get_text() for t in steps.get_yticklabels()] == [
        f"Pendulum  {a} → {b}" for a in ("random", "scripted") for b in ("random", "scripted")
    ]
    assert plots.plot_one_step(tiny).axes[0].get_xlabel() == "error of one step (sd)"
    with pytest.raises(BookError, match="subjects must be some of"):
        plots.plot_steps(tiny, subjects=["magic"])


def test_a_linear_model_wants_trajectories():
    with pytest.raises(BookError, match="data must be Trajectories"):
        real.fit_linear(np.zeros((3, 2)))
