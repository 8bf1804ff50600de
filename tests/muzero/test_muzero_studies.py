"""The two studies: what is held equal, one tiny part of each, and how the stored tables are read."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from one_step_trap.errors import BookError
from one_step_trap.muzero import control, divergence, studies
from one_step_trap.muzero.environments import GRID
from one_step_trap.muzero.parameters import MuZeroUnrolling
from one_step_trap.muzero.plots import learning as plots
from one_step_trap.muzero.training import train

TINY = {
    "env_steps": 160,
    "lanes": 4,
    "batch": 8,
    "warmup": 20,
    "simulations": 3,
    "latent": 6,
    "hidden": 8,
    "evaluate_every": 40,
    "evaluation_episodes": 2,
    "n_step": 5,
}


def tiny(run):
    return replace(run, refresh=(1, 5), simulations=(0, 2), caps=(1,) * bool(run.caps), episodes=2, starts=6)


@pytest.fixture(scope="module")
def unrolls():
    runs = [studies.unroll_run(K, seed, **TINY) for K in (1, 5) for seed in (0, 1)]
    return pd.concat([studies.run_one(replace(tiny(r), depths=(1, 2, 5))) for r in runs], ignore_index=True)


@pytest.fixture(scope="module")
def tasks():
    runs = [studies.task_run(GRID, seed, **(TINY | {"gamma": 0.9})) for seed in (0, 1)]
    return pd.concat([studies.run_one(tiny(r)) for r in runs], ignore_index=True)


def test_what_is_equal():
    runs = studies.unroll_runs()
    assert studies.UNROLLS.parts == len(runs) == 10 * (5 + 5 + 2)
    assert len(
        {(r.settings.unroll_steps, r.seed, r.budget, r.settings.consistency_weight) for r in runs}
    ) == len(runs)
    same = [r.settings for r in runs if r.budget == "updates" and not r.settings.consistency_weight]
    assert len({replace(s, unroll_steps=1) for s in same}) == 1  # K alone differs
    assert {s.unroll_max for s in same} == {20}
    speeds = {1: 392.0, 2: 342.0, 5: 240.0, 10: 153.0, 20: 88.0}
    cost = [n / speeds[K] for K, n in studies.COMPUTE.items()]
    assert max(cost) / min(cost) < 1.08
    assert studies.TASKS.parts == len(studies.task_runs()) == 60
    assert {r.seed for r in runs} == set(range(10))


def test_a_part(unrolls):
    assert list(unrolls.columns) == list(studies.UNROLLS.columns)
    assert not unrolls.duplicated(["unroll_steps", "seed", "kind", "behaviour", "x"]).any()
    one = unrolls[(unrolls["unroll_steps"] == 5) & (unrolls["seed"] == 1)]
    assert one["kind"].value_counts().to_dict() == {
        "divergence": 6,
        "curve": 4,
        "refresh": 3,
        "simulations": 2,
    }
    again = studies.run_one(replace(tiny(studies.unroll_run(5, 1, **TINY)), depths=(1, 2, 5)))
    same = [c for c in unrolls.columns if c != "cpu_seconds"]
    pd.testing.assert_frame_equal(again[same], one[same].reset_index(drop=True))
    found = studies.compare(again, unrolls)
    assert found.same
    assert found.words() == "the stored numbers"
    assert found.chance > 0.3
    changed = again.assign(mean_return=again["mean_return"] + 1000)
    found = studies.compare(changed, unrolls)
    assert not found.same
    assert "another machine may round otherwise" in found.words()
    assert found.chance < 0.1  # of two seeds, whose spread is hardly known
    assert found.words().endswith(f"in {found.chance:.2g} of cases")
    with pytest.raises(BookError, match="lacks"):
        studies.compare(again.assign(seed=7), unrolls)


def test_a_training_that_rounding_led_elsewhere_is_held_against_its_kin(unrolls):
    """Against ten seeds: one more of the same kind passes nearly always, one that learns otherwise does not."""
    curve = unrolls[(unrolls["kind"] == "curve") & (unrolls["unroll_steps"] == 5) & (unrolls["seed"] == 0)]
    levels = np.random.default_rng(0).normal(300, 40, 10)
    stored = pd.concat([curve.assign(seed=s, mean_return=level) for s, level in enumerate(levels)])
    mean, sd = levels.mean(), levels.std(ddof=1)
    t = np.array([0, 2.262, 4.781, 8])  # quantiles of t with 9 degrees of freedom: 95% and 99.9%
    found = [studies.compare(curve.assign(mean_return=mean + z * sd * 1.1**0.5), stored) for z in t]
    assert [one.chance for one in found[:3]] == pytest.approx([1, 0.05, studies.ODD], rel=1e-3)
    assert found[3].chance < studies.ODD / 10
    late = stored.assign(mean_return=stored["mean_return"].where(stored["x"] < curve["x"].max(), 0))
    begun = curve[curve["x"] < curve["x"].max()].assign(mean_return=mean)  # a training cut short
    assert studies.compare(begun, late).chance == pytest.approx(1)
    alike = stored.assign(
        mean_return=9.3
    )  # all seeds learn nothing, and the live one neither, to the last bit
    assert studies.compare(curve.assign(mean_return=9.3 * (1 + 1e-15)), alike).chance > 0.5
    assert studies.compare(curve.assign(mean_return=9.4), alike).chance < studies.ODD


def test_a_training_by_itself_is_the_studys(unrolls):
    run = tiny(studies.unroll_run(5, 1, **TINY))
    alone = studies.curve_rows(train(run.task, run.settings, run.seed))
    assert list(alone.columns) == list(studies.COLUMNS)
    assert studies.compare(alone, unrolls).same
    with pytest.raises(BookError, match="result must be"):
        studies.curve_rows(alone)


def test_reading_the_unrolls(unrolls):
    errors = studies.prediction_errors(unrolls)
    table = divergence.curves(errors, "reward", np.random.default_rng(0))
    assert set(table["unroll_steps"]) == {1, 5}
    assert set(table["depth"]) == {1, 2, 5}
    assert (table["n"] == 2).all()
    late = studies.last_quarter(unrolls)
    one = unrolls[(unrolls["kind"] == "curve") & (unrolls["unroll_steps"] == 1) & (unrolls["seed"] == 0)]
    assert late["value"][0] == one["mean_return"].iloc[-1]  # the last of four points
    assert control.trend(late, np.random.default_rng(0)).n == 2
    assert 15 < studies.random_return(unrolls) < 30
    looks = studies.by_x(unrolls, "refresh")
    assert set(looks["x"]) == {1, 5}
    assert len(looks) == 8


def test_reading_the_tasks(tasks):
    assert set(tasks["stage"]) == {"early", "final"}
    rows = studies.by_x(tasks, "simulations", stage="early", task=GRID)
    assert rows.groupby("x")["seed"].count().to_dict() == {0: 2, 2: 2}
    assert set(studies.by_x(tasks, "cap", task=GRID)["x"]) == {1}
    assert 0 <= studies.random_return(tasks, GRID) <= 1
    curves = {GRID: studies.by_x(tasks, "curve", task=GRID)}
    assert isinstance(plots.plot_learning(curves, {GRID: 1.0}), Figure)


def test_how_trainings_ended(tasks, monkeypatch):
    monkeypatch.setattr(studies, "TASK_IDS", (GRID,))
    row = studies.ends(tasks, np.random.default_rng(0)).iloc[0]
    late = studies.last_quarter(tasks, task=GRID)["value"]
    assert (row["task"], row["steps"], row["n"]) == ("grid", 160, 2)
    assert (row["end"], row["lowest"]) == (pytest.approx(late.mean()), late.min())
    assert row["low"] <= row["end"] <= row["high"]
    assert row["cpu_seconds"] > 0
    curve = tasks[tasks["kind"] == "curve"].copy()
    curve["mean_return"] = curve["x"] + 40 * curve["seed"]  # 40, 80, … and 80, 120, …
    found = studies.first_reached(curve, 80, task=GRID)
    assert found["x"].tolist() == [80, 40]
    assert np.isfinite(found["cpu_seconds"]).all()
    assert studies.first_reached(curve, 1e9, task=GRID)["x"].tolist() == [np.inf, np.inf]
    with pytest.raises(BookError, match="task must be one of"):
        studies.short("Taxi-v4")


def test_what_the_consistency_loss_changes():
    depths = [{"depth": 20, "unroll_steps": 5, "behaviour": "agent", "seed": seed} for seed in range(6)]
    measures = ("latent", "reward", "value", "policy")
    plain = pd.DataFrame([d | {"measure": m, "value": 4.0 + d["seed"]} for d in depths for m in measures])
    tied = plain.assign(value=plain["value"] / 2)
    found = studies.tied_ratios(plain, tied, np.random.default_rng(0))
    assert found["measure"].tolist() == list(measures)
    assert found[["ratio", "low", "high"]].to_numpy() == pytest.approx(0.5)
    assert (found["n"] == 6).all()


def stored(value):
    """Tables of both studies in which everything is as ``value(kind, K, x, seed)`` says."""
    rows = []
    for K in studies.UNROLL_STEPS:
        for seed in range(6):
            for budget in ("updates", "compute"):
                for kind, xs in (
                    ("curve", (100, 200)),
                    ("refresh", control.INTERVALS),
                    ("divergence", studies.DEPTHS),
                ):
                    rows += [("CartPole-v1", budget, 0.0, K, seed, "final", kind, "agent", x) for x in xs]
                rows.append(("CartPole-v1", budget, 0.0, K, seed, "final", "refresh", "random", 1))
                rows += [
                    ("CartPole-v1", budget, 0.0, K, seed, "final", "divergence", "random", x)
                    for x in studies.DEPTHS
                ]
    table = pd.DataFrame(rows, columns=list(studies.COLUMNS)[:9]).reindex(columns=list(studies.COLUMNS))
    for i, r in enumerate(table.itertuples()):
        name = ["reward", "value", "policy"] if r.kind == "divergence" else ["mean_return"]
        table.loc[i, name] = (
            20.0 if r.behaviour == "random" and r.kind == "refresh" else value(r.kind, r.unroll_steps, r.x)
        )
    search = pd.DataFrame(
        [
            ("CartPole-v1", "updates", 0.0, 5, seed, stage, "simulations", "agent", x)
            for seed in range(3)
            for stage in ("early", "final")
            for x in (0, 1, 100)
        ]
        + [("CartPole-v1", "updates", 0.0, 5, 0, "final", "refresh", "random", 1)],
        columns=list(studies.COLUMNS)[:9],
    ).reindex(columns=list(studies.COLUMNS))
    search["mean_return"] = [
        20.0 if b == "random" else 100.0 + x for b, x in zip(search["behaviour"], search["x"], strict=True)
    ]
    return table, search


def test_verdicts_of_a_made_up_study():
    # Errors grow with depth, every K plays alike, and all lose control at an interval of 10.
    def value(kind, K, x):
        return 10.0 * (1 + x) if kind == "divergence" else 400.0 if kind == "curve" or x < 10 else 20.0

    found = studies.verdicts(*stored(value), np.random.default_rng(0))
    assert found.diverge[1] == "holds"  # (1 + 4K) / (1 + K) is 2.5 or more
    assert found.diverge[0].value == pytest.approx(21 / 6)
    assert found.control[1:] == ("does not hold", "")
    assert found.control[0].value == pytest.approx(0, abs=1e-9)
    assert found.openloop[1] == "holds when"
    assert 8 < found.openloop[0].value < 12
    assert found.search[1:] == ("holds", "")


def test_parameters():
    assert MuZeroUnrolling().unroll_steps == 5
    assert MuZeroUnrolling.checked({"env": "CartPole-v1"}).env == "CartPole-v1"
    for given, message in (
        ({"unroll_steps": 3}, "one of 1, 2, 5, 10, 20"),
        ({"training_seed": 10}, "below 10"),
        ({"env": "Pendulum-v1"}, "continuous"),
        ({"env": "NoSuch-v0"}, "unknown environment"),
        ({"simulations": 0}, "simulations must be at least 1"),
        ({"simulations": 41}, "simulations must lie in 8 to 40"),
        ({"unrol_steps": 5}, "did you mean 'unroll_steps'"),
    ):
        with pytest.raises(BookError, match=message):
            MuZeroUnrolling.checked(given)


def test_bad_input(unrolls):
    with pytest.raises(BookError, match="part must be below 120"):
        studies.run_unrolls(120)
    with pytest.raises(BookError, match="part must be at least 0"):
        studies.run_tasks(-1)
    with pytest.raises(BookError, match="budget must be one of"):
        studies.unroll_run(5, 0, "money")
    with pytest.raises(BookError, match="equal compute is known for"):
        studies.unroll_run(3, 0, "compute")
    with pytest.raises(BookError, match="consistency must be True or False"):
        studies.unroll_run(5, 0, consistency=2)
    with pytest.raises(BookError, match="task must be one of"):
        studies.task_run("Pendulum-v1", 0)
    with pytest.raises(BookError, match="no rows of the kind curve"):
        studies.by_x(unrolls, "curve", budget="compute")
    with pytest.raises(BookError, match="lacks the columns"):
        studies.select(unrolls.drop(columns="kind"), "curve")
