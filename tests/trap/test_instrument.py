"""The instrument: its report, its files, and what it refuses before it trains anything."""

import json
import math
import os
import re
from dataclasses import replace
from xml.etree import ElementTree

import gymnasium
import numpy as np
import pandas as pd
import pytest
from engines import needs_box2d

from one_step_trap.errors import BookError
from one_step_trap.trap import instrument as ins
from one_step_trap.trap.networks import Training


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(ins, "TRAINING", Training(hidden=8))
    monkeypatch.setattr(ins, "HELD_OUT_EPISODES", 6)


@pytest.fixture
def no_training(monkeypatch):
    def train(*args, **options):
        raise AssertionError("it trained")

    monkeypatch.setattr(ins, "train", train)


def small(env="Pendulum-v1", **options):
    return ins.measure_trap(env, **({"transitions": 400, "depth": 12, "updates": 40} | options))


@pytest.fixture(scope="module")
def report():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ins, "TRAINING", Training(hidden=8))
        patch.setattr(ins, "HELD_OUT_EPISODES", 6)
        return small(unroll=(1, 3))


def test_the_report(report):
    assert [m.unroll_steps for m in report.models] == [1, 3]
    assert report.depth == 12
    assert report.episodes >= 5
    assert report.models[0].steps.units == "trajectories"
    assert report.models[0].steps.n == report.episodes
    assert {g.name for g in report.baselines} == {"mean", "no change", "last change"}
    assert {g.name for g in report.twins} == {"once", "at every step"}
    assert report.rate is not None
    # The twins begin where the first model's first step ends: at its own typical error of one step.
    twins = report.twins[0].curve[0]
    assert 0.2 < twins / report.models[0].one_step < 5
    assert len(report.reaching) == 12
    text = str(report)
    assert "Pendulum-v1: 400 transitions of random actions, seed 0" in text
    assert re.search(r"^  1 step +\S+ sd +\S+ sd +", text, re.M)
    assert re.search(r"^  3 steps +\S+ sd", text, re.M)
    assert all(len(line) < 130 for line in text.splitlines())


def test_json_holds_no_number_that_is_none(report):
    far = replace(report.models[0], steps=replace(report.models[0].steps, value=math.inf, high=math.inf))
    stored = json.loads(json.dumps(replace(report, models=(far,)).to_dict(), allow_nan=False))
    model = stored["models"][0]
    assert model["steps_to_one_sd"]["value"] is None
    assert model["steps_to_one_sd"]["censored"] is True
    assert len(model["error_by_depth"]) == 12
    assert stored["env"] == "Pendulum-v1"
    assert stored["twins"]["once"]["steps_to_one_sd"]["limit"] == 12


def test_same_seed_same_numbers(report):
    again = small(unroll=(1, 3))
    assert json.dumps(again.to_dict()) == json.dumps(report.to_dict())
    alone = small(unroll=(3,))  # a model does not depend on which others are trained
    assert alone.models[0].curve == pytest.approx(report.models[1].curve, abs=0)
    other = small(seed=1)
    assert other.models[0].one_step != report.models[0].one_step


def test_seeds(report):
    found = small(repeats=3, unroll=(1,))
    assert found.seeds == (0, 1, 2)
    model = found.models[0]
    assert model.steps.units == "seeds"
    assert model.steps.n == 3
    assert len(model.by_seed) == 3
    assert model.by_seed[0] == small(unroll=(1,)).models[0].by_seed[0]
    assert "seeds 0 to 2" in str(found)
    assert "75%" in str(found)  # what three seeds can say


def test_unroll_is_taken_once_and_in_order():
    assert [m.unroll_steps for m in small(unroll=(2, 1, 2)).models] == [2, 1]


def test_other_actions_to_roll_out_along():
    found = small(unroll=(1,), evaluate="scripted")
    assert (found.policy, found.evaluated) == ("random", "scripted")
    assert "fresh steps of scripted actions" in str(found)


def test_the_default_depth_is_what_episodes_allow():
    found = ins.measure_trap("CartPole-v1", transitions=400, unroll=(1,), updates=40)
    assert 20 < found.depth < 200
    assert found.models[0].steps.limit < found.depth
    assert f"read up to {found.models[0].steps.limit} steps: by then half of the episodes" in str(found)


@needs_box2d
def test_an_environment_without_twins():
    found = small("LunarLander-v3", unroll=(1,))
    assert found.twins == ()
    assert found.rate is None
    assert "no twin simulators: its state cannot be written" in str(found)
    assert found.to_dict()["no_twins"].startswith("its state")


@needs_box2d
def test_an_environment_whose_actions_can_be_nudged_only():
    found = small("BipedalWalker-v3", unroll=(1,), depth=6)
    assert [g.name for g in found.twins] == ["once"]
    assert "at every step: its state cannot be written" in found.no_twins


class Still(gymnasium.Env):
    """A world in which nothing happens."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        return np.zeros(2, dtype=np.float32), 0.0, False, False, {}


class Half(Still):
    """One number moves, the other never does; episodes have one step."""

    def step(self, action):
        return np.array([action, 0], dtype=np.float32), 0.0, True, False, {}


@pytest.fixture(autouse=True, scope="module")
def registered():
    for world in (Still, Half):
        gymnasium.register(f"test/{world.__name__}-v0", entry_point=world)
    yield
    for world in (Still, Half):
        del gymnasium.registry[f"test/{world.__name__}-v0"]


def test_one_step_is_enough():
    found = ins.measure_trap("test/Half-v0", transitions=200, unroll=(1,), updates=40)
    assert found.depth == 1
    assert found.ignored == (1,)
    assert "dimensions that never vary, left out: 1" in str(found)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "Pendulm-v1"}, "unknown environment 'Pendulm-v1': did you mean"),
        ({"env": "FrozenLake-v1"}, "observations of type Discrete"),
        pytest.param({"env": "CarRacing-v3"}, "an image or a grid", marks=needs_box2d),
        ({"env": "test/Still-v0"}, "nothing in the observations of test/Still-v0 varies"),
        ({"unroll": (0,)}, "unroll must be at least 1, got 0"),
        ({"unroll": (1, -3)}, "unroll must be at least 1, got -3"),
        ({"unroll": (1.5,)}, "unroll must be a whole number"),
        ({"unroll": ()}, "unroll needs at least one number"),
        ({"unroll": (1, 201)}, "no episode of Pendulum-v1 has 201 steps"),
        ({"transitions": 99}, "transitions must be at least 100"),
        ({"transitions": "many"}, "transitions must be a number"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"updates": 0}, "updates must be at least 1"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"depth": 201}, "depth 201 is longer than any episode of Pendulum-v1 .* the longest has 200"),
        ({"policy": "clever"}, "policy must be one of"),
        ({"evaluate": "clever"}, "policy must be one of"),
        ({"env": "HalfCheetah-v5", "policy": "scripted"}, "no scripted policy for HalfCheetah-v5"),
    ],
)
def test_refused_before_anything_is_trained(options, message):
    with pytest.raises(BookError, match=message) as caught:
        small(**options)
    assert "\n" not in str(caught.value)


# --- files ------------------------------------------------------------------------------------------------


def test_the_files(tmp_path, report, monkeypatch):
    monkeypatch.setattr(ins, "measure_trap", lambda env, **options: report)
    lines = []
    _, written = ins.run("Pendulum-v1", out=tmp_path / "a" / "b", progress=lines.append)
    names = [
        "trap-Pendulum-v1.json",
        "trap-Pendulum-v1.csv",
        "trap-Pendulum-v1-error.svg",
        "trap-Pendulum-v1-steps.svg",
    ]
    assert [path.name for path in written] == names
    assert sorted(os.listdir(tmp_path / "a" / "b")) == sorted(names)  # and nothing half-written beside them
    assert json.loads(written[0].read_text())["depth"] == 12
    curves = pd.read_csv(written[1])
    assert list(curves.columns) == ["curve", "depth", "error"]
    through = curves[curves["curve"] == "trained through 3"]
    assert through["error"].to_numpy() == pytest.approx(report.models[1].curve)
    for path in written[2:]:
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg")
        assert root.attrib["aria-label"]


def test_names_of_files_are_safe():
    assert ins.file_names("test/Half-v0")["report"] == "trap-test-Half-v0.json"
    assert ins.file_names("my.module:World-v1")["error"] == "trap-my.module-World-v1-error.svg"


@pytest.mark.usefixtures("no_training")
def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BookError, match="file is a file: name a folder"):
        ins.run("Pendulum-v1", out=tmp_path / "file")
    with pytest.raises(BookError, match="cannot write into"):
        ins.run("Pendulum-v1", out=tmp_path / "file" / "below")
    with pytest.raises(BookError, match="cannot write into"):
        ins.run("Pendulum-v1", out="/proc/nothing")
    (tmp_path / "trap-Pendulum-v1.csv").write_text("mine")
    with pytest.raises(BookError, match="is there already"):
        ins.run("Pendulum-v1", out=tmp_path)
    assert (tmp_path / "trap-Pendulum-v1.csv").read_text() == "mine"
    with pytest.raises(BookError, match="unknown environment"):
        ins.run("Pendulm-v1", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("failure", [BookError("no"), KeyboardInterrupt(), RuntimeError("bug")])
def test_a_run_that_fails_leaves_nothing(tmp_path, monkeypatch, failure):
    def fail(*args, **options):
        raise failure

    monkeypatch.setattr(ins, "measure_trap", fail)
    with pytest.raises(type(failure)):
        ins.run("Pendulum-v1", out=tmp_path / "a" / "b")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unroll": 5}, "unroll must be a list"),
        ({"evaluate": "nope"}, "policy must be"),
        ({"policy": "no"}, "policy must"),
    ],
)
def test_wrong_settings_are_told_before_any_data_are_collected(options, message):
    said = []
    with pytest.raises(BookError, match=message):
        ins.measure_trap("CartPole-v1", progress=said.append, **options)
    assert not said
