"""Planning h steps in wrong tables: the formula against its bound, exact planning against recursion, the verdicts."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core import tabular
from one_step_trap.discounting import planning
from one_step_trap.errors import BookError
from one_step_trap.trap import affordable
from one_step_trap.trap import lookahead as la
from one_step_trap.trap.mpc import LossCurve
from one_step_trap.trap.plots import mpc as plots


@pytest.fixture(scope="module")
def lake():
    return la.toy_text()


# --- the formula ------------------------------------------------------------------------------------------


def horizon_bound(e, gamma):
    """``Σ_{i>=h} γⁱ + 2 Σ_{i<h} γⁱ e_i``, the bound on the loss of an h-step plan, for h = 0 .. n, (n + 1,)."""
    paid = np.concatenate(([0.0], np.cumsum(2 * gamma ** np.arange(len(e)) * e)))
    return gamma ** np.arange(len(e) + 1) / (1 - gamma) + paid


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("eps", [1.0, 0.5, 0.4, 0.25, 0.1, 0.03, 0.011])
def test_formula_by_grid_search(eps, gamma):
    i = np.arange(120)
    for errors, best in (
        (i * eps, la.hard_horizon(eps)),
        (1 - (1 - eps) ** i, la.hard_horizon(eps, mixture=True)),
    ):
        bound = horizon_bound(errors, gamma)
        assert bound[best] == pytest.approx(bound.min(), rel=1e-12)
        if gamma > 0.5:  # else a step so far ahead changes no digit
            assert bound[best - 1] > bound[best]


def test_formula_by_hand():
    # e = (0, .2, .4, .6): three steps have an error below one half.
    assert horizon_bound(np.array([0, 0.2, 0.4, 0.6]), 0.9).argmin() == 3
    assert horizon_bound(np.array([0, 0.2]), 0.5) == pytest.approx([2, 1, 0.5 + 0.2])
    assert [la.hard_horizon(e) for e in (1, 0.5, 0.1, 0.01, 0.001)] == [1, 1, 5, 50, 500]
    assert [la.hard_horizon(e, mixture=True) for e in (1, 0.5, 0.1, 0.01)] == [1, 1, 7, 69]


def test_a_hard_end_affords_twice_the_steps_of_a_discount():
    for eps in (0.1, 0.01, 0.001):
        assert la.hard_horizon(eps) == pytest.approx(2 * affordable.affordable_horizon(eps) - 1, rel=1e-9)


def step_values(P, R, policies, gamma):
    """Value of a plan: policies[i] is the policy with i + 1 steps to go; nothing after the end."""
    V, row = np.zeros(len(R)), np.arange(len(R))
    for policy in policies:
        V = R[row, policy] + gamma * P[row, policy] @ V
    return V


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 1), st.floats(0, 0.98), st.booleans())
def test_the_bound_is_never_violated(seed, eps, gamma, systematic):
    rng = np.random.default_rng(seed)
    mdp = tabular.random_mdp(rng, 6, 3, n_successors=2)
    model = la.misdirected(mdp, eps, rng) if systematic else la.counted(mdp, 3, rng)
    worst = la.tv_errors(mdp.P, model.P).max()
    H = range(1, 13)
    plans = la.lookahead(model.P[None], mdp.R[None], H, gamma)[0]
    best = planning.policy_value(mdp, planning.plan(mdp, gamma), gamma)
    for errors in (np.arange(12) * worst, 1 - (1 - worst) ** np.arange(12)):
        bound = horizon_bound(errors, gamma)
        for h in H:
            loss = best - step_values(mdp.P, mdp.R, plans[:h], gamma)
            assert loss.max() <= bound[h] + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_n_step_error_of_a_plan_mixes(seed, eps):
    rng = np.random.default_rng(seed)
    mdp = tabular.random_mdp(rng, 5, 2, n_successors=3)
    model = la.misdirected(mdp, eps, rng)
    worst, row = la.tv_errors(mdp.P, model.P).max(), np.arange(5)
    true, predicted = np.eye(5), np.eye(5)
    for i in range(1, 9):
        policy = rng.integers(2, size=5)
        true, predicted = true @ mdp.P[row, policy], predicted @ model.P[row, policy]
        assert la.tv_errors(true, predicted).max() <= 1 - (1 - worst) ** i + 1e-12
    assert la.tv_errors(mdp.P, model.P).max() <= eps + 1e-12


# --- tables and models ------------------------------------------------------------------------------------


def test_frozen_lake_is_read_as_it_is(lake):
    assert lake.mdp.P.shape == (16, 4, 16)
    assert np.flatnonzero(~lake.going).tolist() == [5, 7, 11, 12, 15]  # four holes and the goal
    assert lake.mdp.R.sum() == pytest.approx(1)  # three of the four actions of state 14 arrive with 1/3 each
    # The optimal chance to reach the goal from the start is 14/17, whatever the number of steps.
    policy = la.optimal_policy(lake.mdp.P[None], lake.mdp.R[None], 0.999999)
    value = la.policy_values(lake.mdp.P[None], lake.mdp.R[None], policy[:, None], 0.999999)
    assert value[0, 0, 0] == pytest.approx(14 / 17, abs=1e-3)


def test_other_tables():
    cliff = la.toy_text("CliffWalking-v1", is_slippery=True)
    assert (~cliff.going).sum() == 1
    assert cliff.mdp.R.min() == pytest.approx(-100)
    assert la.toy_text("FrozenLake-v1", map_name="8x8").mdp.P.shape == (64, 4, 64)


def test_the_goal_is_seen_from_where_it_is_within_reach():
    # Without slipping the goal is 6 steps from the start: a plan of 5 steps is worth nothing there.
    calm = la.toy_text("FrozenLake-v1", is_slippery=False)
    r = la.plan_in_tables(calm, "counted", levels=[1], horizons=(1, 5, 6), seeds=2)
    start = la.policy_values(
        calm.mdp.P[None],
        calm.mdp.R[None],
        la.lookahead(calm.mdp.P[None], calm.mdp.R[None], (5, 6), 0.99),
        0.99,
    )[0, :, 0]
    assert start == pytest.approx([0, 0.99**5])
    assert r.lost[0, :, -1] == pytest.approx(0)
    assert (r.eps_max == 0).all()  # one sample shows where a deterministic world goes


def test_counted_and_misdirected(lake):
    rng = np.random.default_rng(0)
    errors = [la.tv_errors(lake.mdp.P, la.counted(lake.mdp, m, rng).P).mean() for m in (1, 10, 1_000)]
    assert errors[0] > 2 * errors[1] > 8 * errors[2] > 0
    model = la.misdirected(lake.mdp, 0.2, rng)
    off = la.tv_errors(lake.mdp.P, model.P)
    assert off.max() == pytest.approx(0.2)
    assert model.P.sum(axis=2) == pytest.approx(1)
    assert pytest.approx(lake.mdp.P) == la.misdirected(lake.mdp, 0, rng).P


@pytest.mark.parametrize("eps", [0.1, 0.6])
def test_one_wrong_destination_for_all_is_only_a_discount(eps):
    rng = np.random.default_rng(1)
    mdp = tabular.random_mdp(rng)
    P_hat = (1 - eps) * mdp.P + eps * rng.dirichlet(np.ones(10))
    plans = la.lookahead(P_hat[None], mdp.R[None], (1, 3, 10), 0.95)
    assert (plans == la.lookahead(mdp.P[None], mdp.R[None], (1, 3, 10), 0.95 * (1 - eps))).all()


# --- exact planning ---------------------------------------------------------------------------------------


def first_actions(mdp, horizon, gamma):
    """The first action of the best plan in each state, by plain recursion over the future."""
    S, A = mdp.R.shape

    @functools.cache
    def Q(s, a, h):
        if h == 1:
            return float(mdp.R[s, a])
        later = sum(mdp.P[s, a, x] * max(Q(x, b, h - 1) for b in range(A)) for x in range(S))
        return float(mdp.R[s, a] + gamma * later)

    best = [max(Q(s, a, horizon) for a in range(A)) for s in range(S)]
    return [next(a for a in range(A) if Q(s, a, horizon) >= best[s] - tabular.TIE) for s in range(S)]


@pytest.mark.parametrize("gamma", [0.0, 0.7, 0.99])
def test_lookahead_agrees_with_recursion(lake, gamma):
    mdps = [tabular.random_mdp(np.random.default_rng(i), 5, 3, n_successors=2) for i in range(3)]
    fast = la.lookahead(np.stack([m.P for m in mdps]), np.stack([m.R for m in mdps]), (1, 2, 6), gamma)
    for m, policies in zip(mdps, fast, strict=True):
        assert policies.tolist() == [first_actions(m, h, gamma) for h in (1, 2, 6)]
    assert la.lookahead(lake.mdp.P[None], lake.mdp.R[None], [7], gamma)[0, 0].tolist() == (
        first_actions(lake.mdp, 7, gamma)
    )


def test_values_and_optimum_agree_with_chapter_2():
    mdp = tabular.random_mdp(np.random.default_rng(4))
    policy = la.optimal_policy(mdp.P[None], mdp.R[None], 0.9)
    assert policy[0].tolist() == planning.plan(mdp, 0.9)
    value = la.policy_values(mdp.P[None], mdp.R[None], policy[:, None], 0.9)[0, 0]
    assert value == pytest.approx(planning.policy_value(mdp, policy[0], 0.9))


# --- the experiment ---------------------------------------------------------------------------------------


def test_a_seed_does_not_depend_on_the_others():
    few = la.plan_in_tables(la.random_table, "misdirected", levels=[0.3, 0.1], horizons=(1, 4), seeds=3)
    more = la.plan_in_tables(la.random_table, "misdirected", levels=[0.3], horizons=(1, 4), seeds=5)
    assert few.lost[0] == pytest.approx(more.lost[0, :3])
    other = la.plan_in_tables(la.random_table, "misdirected", levels=[0.3], horizons=(1, 4), seeds=3, seed=1)
    assert not np.allclose(few.lost[0], other.lost[0])
    assert (few.lost >= -1e-9).all()
    # Planning one step asks nothing of the model: rewards are known.
    assert few.lost[0, :, 0] == pytest.approx(few.lost[1, :, 0])


def test_random_mdps_hold_and_the_lake_only_at_its_ends():
    rng = np.random.default_rng(0)
    easy = la.plan_in_tables(la.random_table, "counted", seeds=200)
    summary = la.summarise_tables(easy, rng)
    assert summary.verdict == la.HOLDS
    assert summary.best[0].value == 1  # the worst model: take the reward at hand
    # There the formula is nearly as good as knowing the best h, while planning to the end costs several times as much.
    at_best = -np.array([x.value for x in summary.best_value])
    assert (easy.lost_at(easy.formula())[:5] <= 1.15 * at_best[:5]).all()
    assert -summary.longest_value[0].value > 3 * at_best[0]
    lake = la.plan_in_tables(None, "counted", seeds=60)
    summary = la.summarise_tables(lake, rng)
    assert summary.verdict != la.HOLDS
    assert summary.shift.low > 0
    # There the formula is far too short, and planning to the end costs nothing.
    at_best = -np.array([x.value for x in summary.best_value])
    assert lake.lost_at(lake.formula())[4] > 3 * at_best[4]
    assert -np.array([x.value for x in summary.longest_value]) == pytest.approx(at_best, abs=0.02)


def test_formula_of_a_result():
    r = la.plan_in_tables(None, "misdirected", levels=[0.5, 0.1], horizons=(1, 2, 8), seeds=2)
    assert r.formula(worst=True) == (1, 5)
    assert r.labels() == ("ε = 0.5", "ε = 0.1")
    assert r.lost_at((1, 5)) == pytest.approx([r.lost[0].mean(axis=0)[0], r.lost[1].mean(axis=0)[2]])


# --- the rule ---------------------------------------------------------------------------------------------


def peaked(best, horizons=(1, 2, 4, 8), n=6):
    """Values that are highest at ``best``, the same for all seeds up to noise that moves nothing."""
    rng = np.random.default_rng(0)
    return np.array([-abs(math.log2(h / best)) for h in horizons]) + 0.01 * rng.random((n, 1))


@pytest.mark.parametrize(
    ("bests", "verdict", "shift"),
    [
        ((1, 2, 8), la.HOLDS, 3),
        ((2, 2, 4), la.HOLDS, 1),
        ((1, 8, 4), la.HOLDS_AT_ENDS, 2),
        ((4, 4, 4), la.DOES_NOT_HOLD, 0),
        ((8, 4, 2), la.DOES_NOT_HOLD, -2),
    ],
)
def test_the_rule(bests, verdict, shift):
    s = la.summarise(
        [peaked(b) for b in bests], (1, 2, 4, 8), list("abc"), np.random.default_rng(0), resamples=200
    )
    assert s.verdict == verdict
    assert s.shift == (shift, shift, shift, 6)
    assert [b.value for b in s.best] == list(bests)
    assert s.to_frame().shape == (3, 4)


def test_ties_go_to_the_smaller_horizon_and_noise_widens_the_interval():
    flat = np.zeros((5, 3))
    s = la.summarise([flat, flat], (1, 2, 4), ["a", "b"], np.random.default_rng(0), resamples=100)
    assert [b.value for b in s.best] == [1, 1]
    flat = 1e-14 * np.random.default_rng(2).normal(size=(5, 3))  # nor does rounding break a tie
    s = la.summarise([flat, flat - [1, 0, 0]], (1, 2, 4), ["a", "b"], np.random.default_rng(0), resamples=100)
    assert [b[:3] for b in s.best] == [(1, 1, 1), (2, 2, 2)]
    noisy = np.random.default_rng(1).normal(size=(8, 3))
    s = la.summarise([noisy, noisy], (1, 2, 4), ["a", "b"], np.random.default_rng(0), resamples=500)
    assert s.best[0].low < s.best[0].high
    assert s.shift == (0, 0, 0, 8)  # seeds are drawn together


# --- bad input, figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: la.hard_horizon(0), "followed for ever"),
        (lambda: la.hard_horizon(1.5), "probability"),
        (lambda: la.toy_text("FrozenLake-v9"), "FrozenLake"),
        (lambda: la.toy_text("CartPole-v1"), "no table of transitions"),
        (lambda: la.toy_text("FrozenLake-v1", map_name="5x5"), "cannot be made"),
        (lambda: la.plan_in_tables("lake"), "world must be a Table"),
        (lambda: la.plan_in_tables(lambda rng: 3), "must return Tables"),
        (lambda: la.plan_in_tables(levels=3), "list of numbers"),
        (lambda: la.Table("x", la.toy_text().mdp, np.ones(3, dtype=bool)), "each of its states"),
        (lambda: la.Table("x", la.toy_text().mdp, np.zeros(16, dtype=bool)), "nothing to plan"),
        (lambda: la.plan_in_tables(kind="guessed"), "counted, misdirected"),
        (lambda: la.plan_in_tables(horizons=(0, 1)), "horizon must be at least 1, got 0"),
        (lambda: la.plan_in_tables(horizons=(2, 1)), "increasing"),
        (lambda: la.plan_in_tables(horizons=3), "list of whole numbers"),
        (lambda: la.plan_in_tables(levels=(10, 5)), "worst model to the best"),
        (lambda: la.plan_in_tables(kind="misdirected", levels=(0.1, 0.2)), "worst model to the best"),
        (lambda: la.plan_in_tables(levels=(0.5,)), "whole number"),
        (lambda: la.plan_in_tables(seeds=0), "seeds must be at least 1"),
        (lambda: la.plan_in_tables(gamma=1.0, seeds=2), "gamma = 1"),
        (lambda: la.counted(la.toy_text().mdp, 5, 0), "numpy.random.Generator"),
        (lambda: la.tv_errors([0.5, 0.5], [1.0]), "same shape"),
        (
            lambda: la.summarise([np.ones((3, 2))], (1, 2), ["a"], np.random.default_rng(0)),
            "at least 2 models",
        ),
        (
            lambda: la.summarise([np.ones((3, 2))] * 2, (1, 2, 3), ["a", "b"], np.random.default_rng(0)),
            "shape",
        ),
        (
            lambda: la.summarise([np.ones((1, 2))] * 2, (1, 2), ["a", "b"], np.random.default_rng(0)),
            "2 seeds",
        ),
        (
            lambda: la.plan_in_tables(levels=(1, 5), seeds=2, horizons=(1, 2)).lost_at([1]),
            "each of 2 levels",
        ),
        (lambda: plots.plot_tables([], []), "one or two results"),
        (lambda: plots.plot_parts([LossCurve("a", (1,), (), ())]), "2 to 6 curves"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_figures():
    r = la.plan_in_tables(la.random_table, seeds=4, horizons=(1, 2, 5, 10))
    s = la.summarise_tables(r, np.random.default_rng(0), resamples=100)
    figure = plots.plot_tables([r, r], [s, s])
    assert len(figure.axes) == 2
    assert "random MDPs" in figure.axes[0].get_xlabel()


def test_a_kind_is_a_word():
    with pytest.raises(BookError, match="kind must be one of"):
        la.plan_in_tables(kind=["counted"])
