"""Values of other policies: exact identities, the bound, counted models, priors in search."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core.stats import Interval
from one_step_trap.core.tabular import MDP, random_mdp
from one_step_trap.errors import BookError
from one_step_trap.muzero import policies as po
from one_step_trap.muzero.plots.theory import plot_distance, plot_priors
from one_step_trap.muzero.stochastic import action_values, greedy, uniform_policy, value

SMALL = po.Settings(worlds=12, targets=3)


def case(seed: int) -> tuple[MDP, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, 5, 3, n_successors=4)
    return mdp, rng.dirichlet(np.ones(3), 5), rng


@pytest.fixture(scope="module")
def distances() -> pd.DataFrame:
    return po.distance_study(SMALL)


@pytest.fixture(scope="module")
def priors() -> pd.DataFrame:
    return po.prior_study(replace(SMALL, worlds=25), simulations=(50,))


# --- exact --------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_what_each_model_is_right_about(seed):
    mdp, b, rng = case(seed)
    V = value(mdp, b, 0.9)
    by_value, by_action = (make(mdp, b, 0.9, rng) for make in (po.value_model, po.action_value_model))
    assert value(by_value, b, 0.9) == pytest.approx(V)
    assert value(by_action, b, 0.9) == pytest.approx(V)
    assert action_values(by_action, V, 0.9) == pytest.approx(action_values(mdp, V, 0.9))
    # One step of improvement is safe in the second; the value of the improved policy is not.
    assert (greedy(action_values(by_action, V, 0.9)) == greedy(action_values(mdp, V, 0.9))).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_bound_and_the_identity(seed, share):
    mdp, b, rng = case(seed)
    model = po.action_value_model(mdp, b, 0.9, rng)
    pi = po.towards(b, np.eye(3)[rng.integers(3, size=5)], share)
    error = value(model, pi, 0.9) - value(mdp, pi, 0.9)
    P, Q = (np.einsum("sa,sat->st", pi, one.P) for one in (mdp, model))
    gain = value(mdp, pi, 0.9) - value(mdp, b, 0.9)
    assert error == pytest.approx(0.9 * np.linalg.solve(np.eye(5) - 0.9 * Q, (Q - P) @ gain), abs=1e-9)
    tau = 0.5 * np.abs(P - Q).sum(1).max()
    assert np.abs(error).max() <= 0.9 / (1 - 0.9) * tau * np.ptp(gain) + 1e-9
    if share == 0:
        assert np.abs(error).max() < 1e-9


def test_distances_by_hand():
    b = np.array([[0.5, 0.5], [1.0, 0.0]])
    pi = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert po.policy_distance(b, pi) == pytest.approx((0.5 + 1) / 2)
    assert po.policy_distance(b, po.towards(b, pi, 0.3)) == pytest.approx(0.3 * 0.75)
    mdp = case(0)[0]
    d = po.occupancy(mdp, uniform_policy(mdp), 0.9)
    assert d.sum() == pytest.approx(1)
    P = mdp.P.mean(1)
    assert d == pytest.approx(0.1 / 5 + 0.9 * d @ P)


def test_counted_models_converge_to_the_world_and_stay_ignorant_of_what_b_avoids():
    mdp, _, rng = case(1)
    b = np.tile([0.5, 0.5, 0.0], (5, 1))
    model = po.counted_model(mdp, b, 0.9, 2_000_000, rng)
    assert model.P[:, :2] == pytest.approx(mdp.P[:, :2], abs=0.01)
    assert model.R[:, :2] == pytest.approx(mdp.R[:, :2], abs=0.01)
    assert (model.P[:, 2] == 0.2).all()
    assert (model.R[:, 2] == 0.5).all()


def test_distance_study_and_its_rule(distances):
    summary = po.summarise_distance(distances, np.random.default_rng(0))
    for kind, rows in summary.groupby("kind"):
        assert (np.diff(rows["error"])[1:] > 0).all()
        assert (rows["error"].iloc[0] < 1e-9) == (kind != "counted")
    ratio = po.far_against_own(distances, np.random.default_rng(0))
    assert ratio.low > po.NEEDED
    assert po.offpolicy_verdict(ratio) == "holds"
    again = po.distance_study(SMALL)
    assert again.equals(distances)
    assert len(plot_distance(summary).axes[0].lines) == 3


def test_offpolicy_rule_by_hand():
    above, below, across = Interval(1, 0.6, 2, 5), Interval(0, -1, 0.3, 5), Interval(0.4, 0.2, 0.6, 5)
    assert po.offpolicy_verdict(above, above) == "holds"
    assert po.offpolicy_verdict(above, across) == "open"
    assert po.offpolicy_verdict(above, below) == "does not hold"
    assert po.log_ratio([2.0, 2, 2], [1.0, 1, 1], np.random.default_rng(0)).value == pytest.approx(np.log(2))


# --- search ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10**5))
def test_the_searched_policy_is_the_best_of_its_objective(seed, simulations):
    rng = np.random.default_rng(seed)
    q, prior = rng.random((1, 4)), rng.dirichlet(np.ones(4), 1) * 0.96 + 0.01
    y = po.searched_policy(q, prior, simulations)
    lam = 1.25 * np.sqrt(simulations) / (simulations + 4)

    def objective(x):
        return (x * q).sum() - lam * (prior * np.log(prior / x)).sum()

    assert y.sum() == pytest.approx(1)
    for other in rng.dirichlet(np.ones(4), 30):
        assert objective(np.maximum(other, 1e-12)[None]) <= objective(y) + 1e-7


def test_many_simulations_forget_the_prior_and_equal_values_keep_it():
    prior = np.array([[0.7, 0.2, 0.1]])
    assert po.searched_policy(np.zeros((1, 3)), prior, 50) == pytest.approx(prior)
    assert po.searched_policy(np.array([[0.0, 0.0, 1.0]]), prior, 10**8)[0, 2] > 0.999


def test_the_prior_protects_a_good_policy_from_a_counted_model(priors):
    rng = np.random.default_rng(0)
    counted, perfect = (po.prior_advantage(priors, rng, model=m) for m in ("counted", "perfect"))
    assert po.prior_verdict(counted) == "holds"
    assert counted.value > 10 * perfect.value  # it is the model's errors that it protects from
    assert (priors["regret"] > -1e-9).all()


def test_the_prior_holds_back_the_search_of_a_bad_policy(priors):
    skills = po.skill_study(replace(SMALL, worlds=10), skills=(0.0, 1.0))
    low = skills[skills["skill"] == 0]
    assert (low["high"] < 0).all()  # the uniform prior is better, with either model
    assert len(plot_priors(priors, skills).axes) == 2
    assert po.prior_verdict(Interval(-1, -2, -0.5, 3)) == "does not hold"
    assert po.prior_verdict(Interval(0, -1, 1, 3)) == "open"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: po.towards(np.ones((2, 2)) / 2, np.ones((3, 2)) / 2, 0.5), "same shape"),
        (lambda: po.towards(np.ones((2, 2)) / 2, np.ones((2, 2)) / 2, 1.5), "share"),
        (lambda: po.policy_distance(np.ones(2), np.ones(2)), "shape"),
        (lambda: po.Settings(shares=(0.5, 0.1)), "increase"),
        (lambda: po.Settings(worlds=1), "worlds"),
        (lambda: po.Settings(skill=2.0), "skill"),
        (lambda: po.log_ratio([1.0, 0.0], [1.0, 1.0], np.random.default_rng(0)), "above 0"),
        (lambda: po.log_ratio([1.0], [1.0, 1.0], np.random.default_rng(0)), "one length"),
        (lambda: po.offpolicy_verdict(), "intervals"),
        (lambda: po.searched_policy(np.zeros((1, 2)), np.array([[1.0, 0.0]]), 50), "above 0"),
        (lambda: po.searched_policy(np.zeros((1, 2)), np.ones((1, 2)) / 2, 0), "simulations"),
        (lambda: po.prior_verdict(0.3), "interval"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(BookError, match=words):
        call()
