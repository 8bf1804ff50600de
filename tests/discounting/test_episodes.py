"""Caps from the live registry, and lengths that are played."""

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.discounting import episodes as ep
from one_step_trap.discounting.plots import episodes as plots
from one_step_trap.errors import BookError


@pytest.fixture(scope="module")
def table():
    return ep.registry_table()


def toy(**caps):
    return {
        key: EnvSpec(id=key, entry_point="gymnasium.envs.toy:Toy", max_episode_steps=cap)
        for key, cap in caps.items()
    }


def test_the_registry_of_gymnasium_1_4_is_what_the_design_states(table):
    summary = ep.cap_summary(table).set_index("group")
    every = summary.loc["every id"]
    assert (every["specs"], every["capped"], every["median"]) == (63, 39, 1000)
    assert every["mean"] == pytest.approx(741, abs=0.5)
    now = summary.loc["latest versions"]
    assert (now["capped"], now["near_1000"]) == (24, 13)
    outside = summary.loc["latest, outside MuJoCo and Box2D"]
    assert (outside["capped"], outside["near_1000"]) == (8, 1)


def test_every_cap_is_the_one_of_the_live_spec(table):
    for row in table.itertuples():
        stated = gymnasium.registry[row.id].max_episode_steps
        assert (stated is None) == pd.isna(row.cap)
        assert stated is None or stated == row.cap


def test_families_versions_and_duplicates(table):
    rows = table.set_index("id")
    assert rows.loc["Hopper-v2", "family"] == "mujoco"  # a stub without a module of its own
    assert not rows.loc["Hopper-v2", "playable"]
    assert list(rows.loc[["Hopper-v4", "Hopper-v5"], "is_latest"]) == [False, True]
    assert list(rows.loc[["phys2d/CartPole-v1", "CartPole-v1"], "duplicate"]) == [True, False]
    assert set(rows.loc[rows["duplicate"], "family"]) == {"phys2d", "tabular"}


def test_a_later_registration_is_seen_and_other_packages_are_not_counted():
    specs = toy(**{"A-v0": 10, "A-v1": 1000, "B-v0": None})
    specs["C-v0"] = EnvSpec(id="C-v0", entry_point="elsewhere.envs:C", max_episode_steps=7)
    ours = ep.registry_table(specs)
    assert list(ours["id"]) == ["A-v0", "A-v1", "B-v0"]
    assert list(ep.latest(ours)["id"]) == ["A-v1", "B-v0"]
    assert list(ep.registry_table(specs, package=None)["family"]) == ["elsewhere", "toy", "toy", "toy"]
    first = ep.cap_summary(ours).iloc[0]
    assert (first["capped"], first["median"], first["mean"], first["share"]) == (2, 505, 505, 0.5)
    with pytest.raises(BookError, match="nothing_such"):
        ep.registry_table(specs, package="nothing_such")


def test_a_group_without_caps_has_no_mean():
    first = ep.cap_summary(ep.registry_table(toy(**{"A-v0": None}))).iloc[0]
    assert first["capped"] == 0
    assert np.isnan(first["mean"])
    assert np.isnan(first["share"])


@pytest.mark.parametrize(("env_id", "hint"), [("Cartpole-v1", "'CartPole-v1'"), ("hoper-v5", "'Hopper-v5'")])
def test_an_unknown_id_names_a_close_match(env_id, hint):
    with pytest.raises(BookError, match=f"did you mean {hint}") as error:
        ep.play_random(env_id, 1, 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("env_id", ["", 3, None, "zzzzzzzz", "no_such_module:Env-v0", "bad id!"])
def test_what_is_no_id_is_one_clear_error(env_id):
    with pytest.raises(BookError):
        ep.find_spec(env_id)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_removed_environment_is_an_error_of_one_line():
    with pytest.raises(BookError, match="Hopper-v2 cannot be made") as error:
        ep.play_random("Hopper-v2", 1, 0)
    assert "\n" not in str(error.value)
    assert not ep.can_make("Hopper-v2")


def test_a_missing_engine_is_skipped_and_named(monkeypatch):
    real = gymnasium.make

    def without_mujoco(env_id, **kwargs):
        if env_id.startswith("Hopper"):
            raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed")
        return real(env_id, **kwargs)

    monkeypatch.setattr(ep.gymnasium, "make", without_mujoco)
    played, missing = ep.play_all({"Hopper-v5": 1, "Blackjack-v1": 2})
    assert missing == ["Hopper-v5"]
    assert [run.id for run in played] == ["Blackjack-v1"]
    with pytest.raises(BookError, match=r"pip install 'gymnasium\[mujoco\]'"):
        ep.play_random("Hopper-v5", 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0), "episodes must be at least 1"),
        ((1, -1), "seed must be at least 0"),
        ((1.5, 0), "whole number"),
    ],
)
def test_bad_counts(arguments, message):
    with pytest.raises(BookError, match=message):
        ep.play_random("CartPole-v1", *arguments)
    with pytest.raises(BookError, match="cap must be at least 1"):
        ep.play_random("CartPole-v1", 1, 0, cap=0)


def played(**changes):
    run = {
        "lengths": [1, 2],
        "terminated": [True, False],
        "rewards": [1.0, 2.0],
        "cap": 2,
        "cap_is_ours": False,
    }
    return ep.Episodes("X", **(run | {"seed": 0} | changes))


def test_lists_become_arrays_of_the_right_kind():
    run = played()
    assert (run.lengths.dtype, run.terminated.dtype, run.rewards.dtype) == (np.int64, np.bool_, np.float64)
    assert run.censored.tolist() == [False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ep.registry_table([1, 2]), "registry must be a mapping from ids"),
        (
            lambda: ep.registry_table({"X-v0": "spec"}),
            "every entry of the registry must be of the kind EnvSpec",
        ),
        (lambda: ep.registry_table(package=3), "package must be of the kind str"),
        (lambda: ep.latest("table"), "must be a pandas.DataFrame"),
        (lambda: ep.cap_summary(pd.DataFrame({"cap": [1]})), "lacks the columns family"),
        (lambda: ep.cap_summary(ep.registry_table(), near=1000), "near must be a list"),
        (lambda: ep.cap_summary(ep.registry_table(), near=(1000, 999)), "near must be a lower and an upper"),
        (lambda: ep.find_spec(np.eye(9)), "env_id must be the id of a gymnasium environment"),
        (lambda: ep.make("CartPole-v1", colour="red"), "CartPole-v1 cannot be made with {'colour': 'red'}"),
        (lambda: ep.play_all(["CartPole-v1"]), "wanted must be a mapping from ids"),
        (lambda: ep.play_all({"CartPole-v1": 0}), "episodes must be at least 1"),
        (lambda: ep.length_table(3, np.random.default_rng(0)), "played must be a list"),
        (lambda: ep.length_table([], np.random.default_rng(0)), "played must hold at least one entry"),
        (
            lambda: ep.length_table([3], np.random.default_rng(0)),
            "every entry of played must be of the kind Episodes",
        ),
        (lambda: ep.exact_length("FrozenLake-v1", cap=10**9), "cap must be at most 1,000,000"),
        (lambda: played(lengths=[]), "at least one episode"),
        (lambda: played(lengths=3), "at least one episode"),
        (lambda: played(rewards=[1.0]), "rewards must have one entry an episode, 2 of them"),
        (lambda: played(terminated="no"), "terminated must be an array of numbers"),
        (lambda: played(cap=0), "cap must be at least 1"),
        (lambda: plots.caps([]), "must be a pandas.DataFrame"),
        (lambda: plots.lengths([]), "played must hold at least one entry"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**40), n=st.integers(1, 6))
def test_the_first_episodes_do_not_depend_on_how_many_follow(seed, n):
    few, many = ep.play_random("CartPole-v1", n, seed), ep.play_random("CartPole-v1", n + 3, seed)
    assert (few.lengths == many.lengths[:n]).all()
    assert (few.rewards == few.lengths).all()  # CartPole pays 1 a step
    assert len(set(many.lengths)) > 1  # and the episodes differ


def test_mujoco_leaves_no_log_and_prints_nothing(tmp_path, monkeypatch, capfd):
    pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    run = ep.play_random("Hopper-v5", 2, 0)
    assert run.terminated.all()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_terminated_and_truncated_are_told_apart():
    pendulum = ep.play_random("Pendulum-v1", 2, 0)  # has no terminal state: only the cap ends it
    assert (pendulum.lengths == 200).all()
    assert pendulum.censored.all()
    cartpole = ep.play_random("CartPole-v1", 200, 0)
    assert cartpole.terminated.all()
    cut = ep.play_random("CartPole-v1", 200, 0, cap=15)
    assert cut.cap_is_ours
    assert (cut.lengths == np.minimum(cartpole.lengths, 15)).all()
    assert (cut.censored == (cartpole.lengths > 15)).all()


def test_an_uncapped_environment_gets_our_cap_and_says_so():
    run = ep.play_random("CliffWalking-v1", 3, 0, uncapped=50)
    assert run.cap_is_ours
    assert run.cap == 50
    assert not ep.play_random("FrozenLake-v1", 1, 0).cap_is_ours


@pytest.mark.parametrize(
    ("env_id", "n", "kwargs"),
    [("FrozenLake-v1", 1500, {}), ("Taxi-v4", 60, {}), ("CliffWalking-v1", 40, {"uncapped": 1500})],
)
def test_played_lengths_agree_with_the_transition_table(env_id, n, kwargs):
    run, exact = ep.play_random(env_id, n, 3, **kwargs), ep.exact_length(env_id, **kwargs)
    row = ep.length_table([run], np.random.default_rng(0)).iloc[0]
    spread = run.lengths.std() / np.sqrt(n)
    assert abs(row["mean"] - exact.mean_to_cap) < 4 * spread
    assert row["censored_low"] - 0.03 <= exact.censored <= row["censored_high"] + 0.03


def test_exact_lengths_against_hand_work(monkeypatch):
    # One state that is left with 1/4: T is geometric, E[T] = 4, E[min(T, 2)] = 1 + 3/4, P(T > 2) = 9/16.
    class One:
        P = {0: {0: [(0.5, 0, 0.0, False), (0.5, 0, 0.0, True)], 1: [(1.0, 0, 0.0, False)]}}  # noqa: RUF012
        initial_state_distrib = np.array([1.0])
        unwrapped = property(lambda self: self)

        def close(self):
            pass

    monkeypatch.setattr(ep, "make", lambda env_id, **_: One())
    exact = ep.exact_length("FrozenLake-v1", cap=2)
    assert exact.mean == pytest.approx(4)
    assert exact.mean_to_cap == pytest.approx(1.75)
    assert exact.censored == pytest.approx(9 / 16)


def test_exact_lengths_need_a_transition_table():
    with pytest.raises(BookError, match="no transition table"):
        ep.exact_length("CartPole-v1")
    frozen = ep.exact_length("FrozenLake-v1")
    assert frozen.mean == pytest.approx(7.67, abs=0.01)


def test_the_median_is_missing_where_most_episodes_are_cut_off():
    def run(lengths, terminated):
        return ep.Episodes(
            "X", np.array(lengths), np.array(terminated, dtype=bool), np.zeros(4), 10, False, 0
        )

    rng = np.random.default_rng(0)
    rows = ep.length_table([run([1, 2, 3, 10], [1, 1, 1, 0]), run([1, 10, 10, 10], [1, 0, 0, 0])], rng)
    assert rows["median"].iloc[0] == 2.5
    assert np.isnan(rows["median"].iloc[1])
    assert list(rows["censored"]) == [0.25, 0.75]
    with pytest.raises(BookError, match="rng"):
        ep.length_table([], 0)


class Treadmill(gymnasium.Env):
    """One state, a reward of 1 a step, no end: worth 1/(1-γ), whatever the time limit."""

    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, 1.0, False, False, {}


@pytest.mark.parametrize(("gamma", "cap"), [(0.99, 200), (0.9, 7), (0.0, 3)])
def test_time_limits_are_not_deaths(gamma, cap):
    gymnasium.register("TreadmillForTests-v0", entry_point=Treadmill, max_episode_steps=cap)
    try:
        value = ep.value_under_time_limit("TreadmillForTests-v0", gamma, 3, 0)
    finally:
        del gymnasium.registry["TreadmillForTests-v0"]
    assert value.bootstrapped == pytest.approx(1 / (1 - gamma))
    assert value.as_death == pytest.approx(1 / (1 - gamma * (1 - 1 / cap)))


def test_where_episodes_really_end_the_two_readings_agree():
    value = ep.value_under_time_limit("FrozenLake-v1", 0.99, 50, 0)
    assert value.bootstrapped == value.as_death
    pendulum = ep.value_under_time_limit("Pendulum-v1", 0.99, 3, 0)
    assert pendulum.as_death / pendulum.bootstrapped == pytest.approx(0.01 / (1 - 0.99 * 0.995))
    with pytest.raises(BookError, match="gamma = 1"):
        ep.value_under_time_limit("Pendulum-v1", 1.0, 1, 0)


def test_figures(table):
    caps = plots.caps(table, horizon=100)
    assert "steps" in caps.axes[0].get_xlabel()
    assert len(caps.axes[0].get_yticklabels()) == table["family"].nunique()
    played = [ep.play_random("FrozenLake-v1", 20, 0), ep.play_random("Blackjack-v1", 20, 0)]
    lengths = plots.lengths(played, horizon=100)
    assert [label.get_text() for label in lengths.axes[0].get_yticklabels()] == [
        "Blackjack-v1",
        "FrozenLake-v1",
    ]
    assert len(lengths.axes[0].lines) == 3 * len(played) + 1
