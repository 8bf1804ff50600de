"""Planning in a learned model: by hand, against every policy there is, plain loops and Jiang et al."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core import tabular
from one_step_trap.discounting import planning
from one_step_trap.discounting.plots import planning as plots
from one_step_trap.errors import BookError

SMALL = planning.Study(
    mdps=6, data_sets=3, n_states=5, n_actions=3, n_successors=2, trajectories=(1, 3, 7), length=4,
    gammas=(0.0, 0.4, 0.9),
)  # fmt: skip


@pytest.fixture(scope="module")
def published() -> planning.PlanningResult:
    """The published setting with 300 of its MDPs."""
    return planning.run_study(planning.Study(mdps=300), np.random.default_rng(0))


def delayed_gratification() -> tabular.MDP:
    """State 0: stay for 1 a step, or leave (for 0) to state 1, where every step pays 3."""
    P = np.zeros((2, 2, 2))
    P[0, 0, 0] = P[0, 1, 1] = P[1, :, 1] = 1
    return tabular.MDP(P, [[1, 0], [3, 3]])


def test_two_states_by_hand():
    mdp = delayed_gratification()
    # Leaving is worth 3γ/(1-γ), staying 1/(1-γ): leave when γ > 1/3.
    assert planning.plan(mdp, 0.33) == [0, 0]
    assert planning.plan(mdp, 0.34) == [1, 0]
    assert planning.policy_value(mdp, [1, 0], 0.5) == pytest.approx([3, 6])
    # The myopic planner loses 3γ/(1-γ) - 1/(1-γ) in state 0 and nothing in state 1: (27 - 10) / 2 at γ = .9.
    assert planning.planning_loss(mdp, mdp, 0.1, gamma_eval=0.9) == pytest.approx(8.5)
    assert planning.planning_loss(mdp, mdp, 0.5, gamma_eval=0.9) == 0


def test_equally_good_actions_give_the_first():
    P = np.full((3, 4, 3), 1 / 3)
    assert planning.plan(tabular.MDP(P, np.full((3, 4), 0.7)), 0.9) == [0, 0, 0]
    nearly = np.full((3, 4), 0.7)
    nearly[1, 2] += 1e-12  # rounding, not a reason
    nearly[2, 3] += 1e-3
    assert planning.plan(tabular.MDP(P, nearly), 0.9) == [0, 0, 3]


def test_model_by_hand():
    data = planning.Trajectories(
        states=np.array([[0, 1, 1], [0, 0, 1]]),
        actions=np.array([[0, 1], [0, 0]]),
        rewards=np.array([[1.0, 2], [4, 4]]),
    )
    model = planning.estimate_model(data, 2, 2, unseen_reward=0.25)
    # (0, 0) is seen 3 times: to 1, to 0, to 1, with rewards 1, 4, 4. (1, 1) once. The others never.
    assert model.P[0, 0] == pytest.approx([1 / 3, 2 / 3])
    assert model.P[1, 1] == pytest.approx([0, 1])
    assert pytest.approx(np.array([[3, 0.25], [0.25, 2]])) == model.R
    assert model.P[0, 1] == pytest.approx([0.5, 0.5])
    stays = planning.estimate_model(data, 2, 2, unseen_next="stay")
    assert stays.P[0, 1] == pytest.approx([1, 0])
    assert stays.P[1, 0] == pytest.approx([0, 1])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), S=st.integers(1, 4), A=st.integers(1, 3), gamma=st.floats(0, 0.99))
def test_plan_beats_every_policy_in_every_state(seed, S, A, gamma):
    mdp = tabular.random_mdp(np.random.default_rng(seed), S, A, n_successors=min(2, S))
    V = planning.policy_value(mdp, planning.plan(mdp, gamma), gamma)
    for policy in itertools.product(range(A), repeat=S):
        assert (planning.policy_value(mdp, policy, gamma) - 1e-7 <= V).all()


def reference_study(
    study: planning.Study, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``run_study`` by the three functions that are there to be read."""
    M, D, N, G = study.mdps, study.data_sets, len(study.trajectories), len(study.gammas)
    loss, horizon = np.zeros((M, N, G)), np.zeros((M, G))
    distinct, unseen = np.zeros((M, N, G)), np.zeros((M, N))
    for m, rng in enumerate(np.random.default_rng(seed).spawn(M)):
        mdp, data = planning.draw_case(study, rng)
        for g, gamma in enumerate(study.gammas):
            horizon[m, g] = planning.planning_loss(mdp, mdp, gamma, gamma_eval=study.gamma_eval)
        for i, n in enumerate(study.trajectories):
            models = []
            for d in range(D):
                start = d * study.trajectories[-1]
                part = planning.Trajectories(
                    *(x[start : start + n] for x in (data.states, data.actions, data.rewards))
                )
                model = planning.estimate_model(
                    part, study.n_states, study.n_actions,
                    unseen_next=study.unseen_next, unseen_reward=study.unseen_reward,
                )  # fmt: skip
                seen = set(
                    zip(part.states[:, :-1].ravel().tolist(), part.actions.ravel().tolist(), strict=True)
                )
                unseen[m, i] += (1 - len(seen) / mdp.R.size) / D
                models.append(replace(model, R=mdp.R) if study.known_rewards else model)
            for g, gamma in enumerate(study.gammas):
                losses = [planning.planning_loss(mdp, x, gamma, gamma_eval=study.gamma_eval) for x in models]
                loss[m, i, g] = np.mean(losses)
                distinct[m, i, g] = len({tuple(planning.plan(x, gamma)) for x in models})
    return loss, horizon, distinct, unseen


@pytest.mark.parametrize(
    "study",
    [
        SMALL,
        replace(SMALL, unseen_next="stay", unseen_reward=1.0, gamma_eval=0.8),
        replace(SMALL, known_rewards=True, reward_sd=0.0),
        planning.Study(mdps=3, data_sets=4),  # the published setting: 2^10 policies, a lookup
        planning.Study(
            mdps=2, data_sets=2, n_states=13, trajectories=(2, 20), gammas=(0.3, 0.9)
        ),  # 2^13: none
    ],
    ids=["three actions", "stay", "known rewards", "published", "too many policies for a table"],
)
def test_fast_study_equals_plain_loops(study):
    result = planning.run_study(study, np.random.default_rng(9))
    loss, horizon, distinct, unseen = reference_study(study, 9)
    np.testing.assert_allclose(result.loss, loss, atol=1e-9)
    np.testing.assert_allclose(result.horizon_loss, horizon, atol=1e-9)
    np.testing.assert_array_equal(result.distinct, distinct)
    np.testing.assert_allclose(result.unseen, unseen, atol=1e-12)
    assert loss.max() > 0.01


def test_an_mdp_does_not_depend_on_how_many_there_are(monkeypatch):
    few = planning.run_study(replace(SMALL, mdps=2), np.random.default_rng(4))
    many = planning.run_study(SMALL, np.random.default_rng(4))
    np.testing.assert_array_equal(few.loss, many.loss[:2])
    monkeypatch.setattr(planning, "MODELS_AT_ONCE", 1)
    np.testing.assert_allclose(
        planning.run_study(SMALL, np.random.default_rng(4)).loss, many.loss, atol=1e-12
    )


def test_random_mdp_is_as_described():
    mdps = [tabular.random_mdp(np.random.default_rng(seed)) for seed in range(200)]
    P, R = np.stack([mdp.P for mdp in mdps]), np.stack([mdp.R for mdp in mdps])
    assert ((P > 0).sum(axis=-1) == 5).all()
    assert P.sum(axis=-1) == pytest.approx(1)
    assert P.mean(axis=(0, 1, 2)) == pytest.approx(np.full(10, 0.1), abs=0.012)  # sd of each mean: .0024
    assert R.mean() == pytest.approx(0.5, abs=0.02)
    assert 0 <= R.min() < 0.01 < 0.99 < R.max() <= 1


def test_trajectories_follow_the_mdp():
    mdp = tabular.random_mdp(np.random.default_rng(1), 3, 2, n_successors=2)
    data = planning.sample_trajectories(mdp, np.random.default_rng(2), 20_000, length=5)
    assert data.states.shape == (20_000, 6)
    assert data.actions.shape == data.rewards.shape == (20_000, 5)
    model = planning.estimate_model(
        planning.Trajectories(data.states[:4000], data.actions[:4000], data.rewards[:4000]), 3, 2
    )
    assert pytest.approx(mdp.P, abs=0.04) == model.P
    assert pytest.approx(mdp.R, abs=0.01) == model.R
    assert np.bincount(data.states[:, 0]) / 20_000 == pytest.approx([1 / 3] * 3, abs=0.015)
    noise = data.rewards - mdp.R[data.states[:, :-1], data.actions]
    assert noise.std() == pytest.approx(0.1, abs=0.002)


def test_published_figures(published):
    grid = np.array(planning.GAMMAS)
    best = published.mean_loss().argmin(axis=1)
    for i, gamma in enumerate([0.3, 0.5, 0.7, 0.8]):
        assert abs(best[i] - int(np.flatnonzero(grid == gamma)[0])) <= 1
    # 300 MDPs: the standard error of the first loss is about .06, of the last .01.
    assert published.mean_loss().min(axis=1) == pytest.approx([1.87, 0.85, 0.46, 0.20], rel=0.15)
    assert published.mean_loss()[:, -1] == pytest.approx([3.50, 1.56, 0.65, 0.23], rel=0.15)


def test_loss_is_horizon_loss_and_estimation_loss(published):
    horizon = published.horizon_loss.mean(axis=0)
    assert horizon[-1] == pytest.approx(0, abs=1e-9)  # planning at γ_eval with the true model loses nothing
    assert (np.diff(horizon) < 0).all()
    estimation = published.estimation_loss()
    assert (np.diff(estimation, axis=0) < 0).all()  # more data, less of it, at every γ
    assert (np.corrcoef(planning.GAMMAS, estimation)[0, 1:] > 0.9).all()  # and it grows with γ
    np.testing.assert_allclose(horizon + estimation, published.mean_loss())


def test_more_policies_come_into_play_as_gamma_grows(published):
    distinct = published.distinct.mean(axis=0)
    assert (distinct[:, -1] > 1.4 * distinct[:, 0]).all()
    assert (np.diff(distinct, axis=0) < 0).all()
    # With known rewards and γ = 0 the data do not matter, and there is one policy.
    known = planning.run_study(planning.Study(mdps=10, known_rewards=True), np.random.default_rng(0))
    assert (known.distinct[:, :, 0] == 1).all()
    assert (known.distinct[:, 0, -1] > 3).all()


def test_summary(published):
    summary = planning.summarise(published, np.random.default_rng(1))
    assert [x.value for x in summary.best_gamma] == published.best_gamma().tolist()
    assert summary.verdict == planning.HOLDS
    assert summary.shift.low >= 0.3
    for i, gain in enumerate(summary.gain):
        assert 0 < gain.low < gain.value < gain.high
        difference = published.loss[:, i, -1] - published.loss[:, i, published.mean_loss()[i].argmin()]
        assert gain.value == pytest.approx(difference.mean())
        # The bootstrap agrees with the normal approximation to within a third of its width.
        half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
        assert (gain.high - gain.low) / 2 == pytest.approx(half, rel=0.33)
        assert summary.long_loss[i].value == pytest.approx(summary.best_loss[i].value + gain.value)


def test_verdict_can_be_no():
    result = planning.run_study(SMALL, np.random.default_rng(0))
    turned = replace(
        result, loss=result.loss * 0 + np.array([[3.0, 2, 1], [2, 1, 2], [1, 2, 3]])
    )  # best γ falls
    summary = planning.summarise(turned, np.random.default_rng(0))
    assert summary.shift.value == pytest.approx(-0.9)
    assert summary.verdict == planning.DOES_NOT_HOLD
    with pytest.raises(BookError, match="at least 2 MDPs"):
        planning.summarise(replace(result, loss=result.loss[:1]), np.random.default_rng(0))


def test_rounding_breaks_no_tie_between_discounts():
    """Two discounts whose plans are as good, but for the last bits of their values: the smaller one is the best."""
    result = planning.run_study(SMALL, np.random.default_rng(0))
    noise = 1e-14 * np.random.default_rng(1).random(result.loss.shape)
    tied = replace(result, loss=np.array([3.0, 1.0, 1.0]) + noise)
    assert tied.best_gamma().tolist() == [SMALL.gammas[1]] * 3
    summary = planning.summarise(tied, np.random.default_rng(0))
    assert all((x.low, x.high) == (x.value, x.value) for x in (*summary.best_gamma, *summary.best_loss))


def test_frame_is_tidy(published):
    frame = published.to_frame()
    assert len(frame) == 4 * 12
    row = frame.query("trajectories == 20 and gamma == 0.5").iloc[0]
    assert row["loss"] == pytest.approx(published.loss[:, 2, 5].mean())
    assert row["loss"] == pytest.approx(row["horizon_loss"] + row["estimation_loss"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gammas": (0.5, 1.0)}, "gamma = 1 is defined only"),
        ({"gammas": (0.5, 0.2)}, "gammas must be one or more increasing"),
        ({"gammas": ()}, "gammas must be one or more increasing"),
        ({"gamma_eval": 1.5}, "gamma_eval must lie in"),
        ({"trajectories": (0, 5)}, "trajectories must be at least 1"),
        ({"trajectories": (5, 5)}, "trajectories must be one or more increasing"),
        ({"mdps": 0}, "mdps must be at least 1"),
        ({"length": 2.5}, "length must be a whole number"),
        ({"n_successors": 11}, "n_successors = 11 cannot exceed n_states = 10"),
        ({"reward_sd": -0.1}, "reward_sd must be at least 0"),
        ({"unseen_next": "away"}, "unseen_next must be one of uniform, stay"),
        ({"unseen_reward": float("nan")}, "unseen_reward must be a finite number"),
        ({"unseen_next": ["stay"]}, "unseen_next must be one of"),
        ({"known_rewards": "yes"}, "known_rewards must be True or False"),
        ({"gammas": 0.9}, "gammas must be a list"),
        ({"trajectories": 5}, "trajectories must be a list"),
    ],
)
def test_bad_settings_are_one_clear_error(settings, message):
    with pytest.raises(BookError, match=message) as error:
        planning.Study(**settings)
    assert "\n" not in str(error.value)


def test_other_bad_input():
    mdp = delayed_gratification()
    with pytest.raises(BookError, match="gamma = 1"):
        planning.plan(mdp, 1)
    with pytest.raises(BookError, match="shape"):
        tabular.MDP(mdp.P, mdp.R[0])
    with pytest.raises(BookError, match="sum to 1"):
        tabular.MDP(mdp.P * 0.9, mdp.R)
    with pytest.raises(BookError, match="rng must be"):
        planning.run_study(SMALL, 0)  # type: ignore[arg-type]
    with pytest.raises(BookError, match="trajectories must be at least 1"):
        planning.sample_trajectories(mdp, np.random.default_rng(0), 0)


TWO = np.array([[0, 1, 1], [0, 0, 1]])  # two trajectories of two steps


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mdp: planning.policy_value(mdp, [0], 0.5), r"policy must have shape \(2,\), got \(1,\)"),
        (lambda mdp: planning.policy_value(mdp, [0, 2], 0.5), r"policy must lie in 0\.\.1, got 2"),
        (lambda mdp: planning.policy_value(mdp, [0, -1], 0.5), r"policy must lie in 0\.\.1, got -1"),
        (lambda mdp: planning.policy_value(mdp, [0.0, 1.0], 0.5), "policy must hold integers"),
        (lambda mdp: planning.policy_value(mdp, 0, 0.5), "policy must have shape"),
        (lambda mdp: planning.policy_value(mdp, "ab", 0.5), "policy must hold integers"),
        (lambda mdp: planning.policy_value(mdp.P, [0, 0], 0.5), "mdp must be of the kind MDP"),
        (lambda mdp: planning.plan(None, 0.5), "mdp must be of the kind MDP"),
        (lambda mdp: planning.planning_loss(mdp, mdp.P, 0.5), "model must be of the kind MDP"),
        (
            lambda mdp: planning.planning_loss(mdp, tabular.MDP(np.ones((1, 2, 1)), [[0, 1]]), 0.5),
            "they must be alike",
        ),
        (
            lambda mdp: planning.sample_trajectories("mdp", np.random.default_rng(0), 1),
            "mdp must be of the kind MDP",
        ),
        (lambda mdp: planning.Trajectories(TWO, TWO, TWO), r"got \(2, 3\), \(2, 3\) and \(2, 3\)"),
        (
            lambda mdp: planning.Trajectories(TWO[0], TWO[0, 1:], TWO[0, 1:]),
            "trajectories have states of shape",
        ),
        (lambda mdp: planning.Trajectories(TWO - 1, TWO[:, 1:], TWO[:, 1:]), "states must lie in"),
        (lambda mdp: planning.Trajectories(TWO, TWO[:, 1:], TWO[:, 1:] * np.nan), "rewards holds NaN"),
        (lambda mdp: planning.estimate_model(TWO, 2, 2), r"data must be .* \(made by sample_trajectories\)"),
        (
            lambda mdp: planning.estimate_model(planning.Trajectories(TWO, TWO[:, 1:], TWO[:, 1:]), 1, 2),
            r"states of the data must lie in 0\.\.0, got 1",
        ),
        (
            lambda mdp: planning.estimate_model(planning.Trajectories(TWO, TWO[:, 1:] + 4, TWO[:, 1:]), 2, 2),
            r"actions of the data must lie in 0\.\.1, got 5",
        ),
        (lambda mdp: planning.draw_case({}, np.random.default_rng(0)), "study must be of the kind Study"),
        (
            lambda mdp: planning.run_study("jiang", np.random.default_rng(0)),
            "study must be of the kind Study",
        ),
        (
            lambda mdp: planning.summarise(SMALL, np.random.default_rng(0)),
            r"result must be .* \(made by run_study\)",
        ),
        (lambda mdp: plots.plot_loss(SMALL, None), "result must be of the kind PlanningResult"),
    ],
)
def test_bad_arguments_are_one_clear_error(call, message):
    with pytest.raises(BookError, match=message) as error:
        call(delayed_gratification())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{"trajectories": (3,)}, {"gammas": (0.9,)}])
def test_one_size_or_one_discount_can_be_run_but_not_judged(settings):
    """With one of either nothing can shift: "does not hold" would be no finding."""
    result = planning.run_study(replace(SMALL, **settings), np.random.default_rng(0))
    with pytest.raises(BookError, match="at least 2 trajectories and 2 gammas, got"):
        planning.summarise(result, np.random.default_rng(0))


def test_figures(published):
    (ax,) = plots.plot_loss(published, planning.summarise(published, np.random.default_rng(0))).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "n = 5",
        "n = 10",
        "n = 20",
        "n = 50",
    ]
    assert "γ = 0.99" in ax.get_ylabel()
    assert "γ" in ax.get_xlabel()
    left, right = plots.plot_parts(published).axes
    assert left.get_xlabel() == "γ (n = 5)"
    np.testing.assert_allclose(right.lines[0].get_ydata(), published.mean_loss()[3])
    with pytest.raises(BookError, match="sizes must be among"):
        plots.plot_parts(published, sizes=(5, 7))
    with pytest.raises(BookError, match="sizes must be a pair"):
        plots.plot_parts(published, sizes=5)
    other = planning.summarise(planning.run_study(SMALL, np.random.default_rng(0)), np.random.default_rng(0))
    with pytest.raises(BookError, match="the summary is of data sets of"):
        plots.plot_loss(published, other)
