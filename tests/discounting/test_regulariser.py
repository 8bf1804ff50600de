"""A lower discount is a prior: the identity by hand and on random MDPs, where it fails, and the study with
uneven data.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.discounting import regulariser as reg
from one_step_trap.discounting.resolution import make_mdps, mixing_mdps
from one_step_trap.errors import BookError


def test_by_hand():
    # Two states that stay for ever and pay 1 and 0. γ_e = 3/4, ε = 1/3: γ = 1/2, V = (2, 0).
    P = np.zeros((1, 2, 2, 2))
    P[0, 0, :, 0] = P[0, 1, :, 1] = 1
    mdps = make_mdps("stay", P, [[[1.0, 1.0], [0.0, 0.0]]])
    assert reg.mixing_weight(0.5, 0.75) == pytest.approx(1 / 3)
    check = reg.check_identity(mdps, 0.5, 0.75, [0.5, 0.5])
    assert check.predicted == pytest.approx([0.25 / 0.25 * 1.0])
    assert check.error.max() < 1e-12
    # and the mixed values themselves: V_ε = (3, 1), from V₀ = 1 + ¾ (2/3 V₀ + ⅙ (V₀ + V₁)), V₁ likewise
    mixed = make_mdps("mixed", reg.mix(P, [0.5, 0.5], 1 / 3), mdps.R)
    V, _ = reg.action_values(mixed, np.zeros((1, 2), dtype=int), 0.75)
    assert V[0] == pytest.approx([3, 1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.99), st.floats(0, 1))
def test_identity(seed, gamma_eval, share):
    rng = np.random.default_rng(seed)
    mdps, prior = mixing_mdps(rng, 10), rng.dirichlet(np.full(10, 0.3))
    gamma = share * gamma_eval
    assert reg.check_identity(mdps, gamma, gamma_eval, prior).error.max() < 1e-9
    policy = rng.integers(0, 2, (10, 10))
    assert reg.check_identity(mdps, gamma, gamma_eval, prior, policy=policy).error.max() < 1e-9


def test_policies_agree_and_a_prior_that_varies_breaks_it():
    rng = np.random.default_rng(0)
    mdps = mixing_mdps(rng, 100)
    one = reg.check_identity(mdps, 0.6, 0.99, rng.dirichlet(np.ones(10)))
    assert one.same_policy == 1
    varied = reg.check_identity(mdps, 0.6, 0.99, rng.dirichlet(np.ones(10), (100, 10, 2)))
    assert varied.same_policy < 1
    assert np.median(varied.error) > 1e-3
    by_state = reg.check_identity(mdps, 0.6, 0.99, rng.dirichlet(np.ones(10), (100, 10, 1)))
    assert np.median(by_state.error) > 1e-3


def test_with_even_data_the_two_are_one_family():
    alphas, gamma_eval, n = np.array([0.5, 4.0, 32.0]), 0.95, 8
    gammas = gamma_eval * n / (n + alphas)
    study = reg.prior_study(
        np.random.default_rng(1),
        mdps=60,
        rare=n,
        common=n,
        gamma_eval=gamma_eval,
        gammas=gammas,
        strengths=alphas,
    )
    assert study.discount_loss == pytest.approx(study.prior_loss, abs=1e-9)
    assert study.discount_loss.min() >= -1e-9


def test_with_uneven_data_the_equal_prior_is_better():
    study = reg.prior_study(np.random.default_rng(0), mdps=600, rare=1, common=100)
    discount, prior, difference = study.compare(np.random.default_rng(1))
    assert difference.low > 0
    assert prior.value < discount.value
    assert discount.n == 300
    again = reg.prior_study(np.random.default_rng(0), mdps=600, rare=1, common=100)
    assert (again.prior_loss == study.prior_loss).all()


def test_without_rewards_nothing_is_missed():
    silent = make_mdps("silent", MDPS.P, 0 * MDPS.R)
    assert reg.check_identity(silent, 0.5, 0.9, [0.25] * 4).error.tolist() == [0, 0]


MDPS = mixing_mdps(np.random.default_rng(0), 2, states=4, successors=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reg.mixing_weight(0.9, 0.5), "must not exceed"),
        (lambda: reg.mixing_weight(0.5, 1), "gamma_eval = 1"),
        (lambda: reg.mix(np.eye(2), [0.5, 0.6], 0.1), "distribution"),
        (lambda: reg.mix(np.eye(2), [0.5, 0.5], 1.1), "weight"),
        (lambda: reg.prior_study(np.random.default_rng(0), rare=0), "rare"),
        (lambda: reg.mix([1.0, 2.0], [0.5, 0.5], 0.1), "P must be a matrix"),
        (lambda: reg.mix(np.eye(2), [0.5, 0.25, 0.25], 0.1), "a last axis of 2 states"),
        (lambda: reg.mix(np.eye(2), np.full((3, 2), 0.5), 0.1), "does not fit transitions"),
        (lambda: reg.mix(np.eye(2), 1.0, 0.1), "a last axis of 2 states"),
        (
            lambda: reg.mix(np.eye(2), [0.5, 0.5], [0.1, 0.2, 0.3]),
            r"weight must be one number or have shape \(2,\)",
        ),
        (lambda: reg.check_identity(np.eye(2), 0.5, 0.9, [0.5, 0.5]), "mdps must be of the kind MDPs"),
        (lambda: reg.check_identity(MDPS, 0.5, 0.9, np.full((3, 1, 1, 4), 0.25)), "does not fit transitions"),
        (lambda: reg.check_identity(MDPS, 0.5, 0.9, [0.25] * 4, policy=[0, 1]), "policy must have shape"),
        (
            lambda: reg.prior_study(np.random.default_rng(0), mdps=4, share_rare=1.5),
            "share_rare must be a probability",
        ),
        (
            lambda: reg.prior_study(np.random.default_rng(0), mdps=4, share_rare=[0.5]),
            "share_rare must be a number",
        ),
        (lambda: reg.prior_study(np.random.default_rng(0), mdps=4, gammas=[]), "gammas must be a list"),
        (lambda: reg.prior_study(np.random.default_rng(0), mdps=4, strengths=[]), "strengths must be a list"),
        (
            lambda: reg.prior_study(np.random.default_rng(0), mdps=4, strengths=np.eye(2)),
            "strengths must be a list",
        ),
        (lambda: reg.prior_study(np.random.default_rng(0), mdps=4, strengths=[-1]), "strengths must"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
