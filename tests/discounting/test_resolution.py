"""The gap against the noise: hand-worked MDPs, simulation, slow references, the families, bad input."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.discounting import resolution as res
from one_step_trap.discounting.plots.resolution import plot_methods, plot_resolution, plot_samples
from one_step_trap.discounting.variance import return_moments, reward_process
from one_step_trap.errors import BookError

GAMMAS = (0.0, 0.9, 0.99, 0.999)


def test_a_bandit_by_hand():
    # One state, rewards 1 and 0 with noise sd ½: the gap is 1 at every discount, the variance ¼ / (1 - γ²).
    mdps = res.make_mdps("bandit", np.ones((1, 1, 2, 1)), [[[1.0, 0.0]]], noise_sd=0.5)
    result = res.resolution(mdps, [0.0, 0.6], methods=("independent", "shared", "bootstrapped"))
    assert result.gap[0] == pytest.approx([1, 1])
    assert result.sd[0] ** 2 == pytest.approx([0.25, 0.25 / 0.64])
    assert result.samples["independent"][0] == pytest.approx([0.5, 2 * 0.25 / 0.64])
    assert result.samples["bootstrapped"][0] == pytest.approx([0.5, 0.5])
    assert result.samples["shared"][0] == pytest.approx([0, 0])
    assert result.relative_sd[0, 0] == pytest.approx(0.5 / 0.5)  # mean |Q| of 1 and 0 is ½


@pytest.mark.parametrize("gamma", [0.3, 0.9, 0.99])
def test_policy_iteration_against_every_policy(gamma):
    mdps = res.mixing_mdps(np.random.default_rng(1), 5, states=4, actions=3, successors=3)
    best = np.full((5, 4), -np.inf)
    for policy in itertools.product(range(3), repeat=4):
        V, _ = res.action_values(mdps, np.tile(policy, (5, 1)), gamma)
        best = np.maximum(best, V)
    V, Q = res.action_values(mdps, res.optimal_policies(mdps, gamma), gamma)
    assert pytest.approx(best) == V
    assert Q.max(-1) == pytest.approx(V)


def pair_process(mdps, policy, m):
    """The pair of chains on all S² ordered pairs, solved as a plain reward process: the slow way."""
    P, r = res.policy_kernel(mdps, policy)
    S = r.shape[1]
    joint = np.array([[res.overlaps(P[m, s], P[m, x]) for x in range(S)] for s in range(S)])
    return reward_process(joint.reshape(S * S, S * S), (r[m][:, None] - r[m][None, :]).ravel())


@pytest.mark.parametrize("gamma", [0.5, 0.95])
def test_shared_numbers_against_all_ordered_pairs(gamma):
    mdps = res.mixing_mdps(np.random.default_rng(2), 3, states=5, successors=3)
    policy = res.optimal_policies(mdps, gamma)
    first, second = np.zeros((3, 5), dtype=int), np.ones((3, 5), dtype=int)
    fast = res.shared_noise_variances(mdps, policy, first, second, gamma)
    for m in range(3):
        moments = return_moments(pair_process(mdps, policy, m), gamma)
        for s in range(5):
            joint = res.overlaps(mdps.P[m, s, 0], mdps.P[m, s, 1]).ravel()
            mean = joint @ moments.mean
            slow = gamma**2 * joint @ ((moments.mean - mean) ** 2 + moments.variance)
            assert fast[m, s] == pytest.approx(slow, rel=1e-8)


def simulate(mdps, policy, action, gamma, uniforms, normals):
    """Returns of ``action`` at state 0 and ``policy`` after, one per column of the given random numbers."""
    P, R = mdps.P[0], mdps.R[0]
    s = np.zeros(uniforms.shape[1], dtype=int)
    a = np.full_like(s, action)
    G = np.zeros(len(s))
    for k, (u, z) in enumerate(zip(uniforms, normals, strict=True)):
        G += gamma**k * (R[s, a] + np.sqrt(mdps.noise) * z)
        s = np.minimum((u[:, None] >= np.cumsum(P[s, a], -1)).sum(1), P.shape[0] - 1)
        a = policy[0][s]
    return G


def test_variances_against_simulation():
    gamma, n, steps = 0.8, 40_000, 60
    mdps = res.mixing_mdps(np.random.default_rng(3), 1, states=4, successors=3)
    policy = res.optimal_policies(mdps, gamma)
    rng = np.random.default_rng(4)
    draws = [(rng.random((steps, n)), rng.standard_normal((steps, n))) for _ in range(2)]
    G = [simulate(mdps, policy, a, gamma, *draws[0]) for a in (0, 1)]
    full, one_step = res.action_variances(mdps, policy, gamma)
    assert np.var(G[0]) == pytest.approx(full[0, 0, 0], rel=0.03)
    assert np.var(G[1]) == pytest.approx(full[0, 0, 1], rel=0.03)
    separate = simulate(mdps, policy, 1, gamma, *draws[1])
    assert np.var(G[0] - separate) == pytest.approx(full[0, 0].sum(), rel=0.03)
    zero, one = np.zeros((1, 4), dtype=int), np.ones((1, 4), dtype=int)
    shared = res.shared_noise_variances(mdps, policy, zero, one, gamma)
    assert np.var(G[0] - G[1]) == pytest.approx(shared[0, 0], rel=0.05)
    V, _ = res.action_values(mdps, policy, gamma)
    after = np.minimum((draws[0][0][0][:, None] >= np.cumsum(mdps.P[0, 0, 0])).sum(1), 3)
    target = gamma * V[0][after] + np.sqrt(mdps.noise) * draws[0][1][0]
    assert np.var(target) == pytest.approx(one_step[0, 0, 0], rel=0.03)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4), st.lists(st.floats(0.01, 1), min_size=4, max_size=4)
)
def test_overlaps_couple_the_two_rows(a, b):
    p, q = np.array(a) / sum(a), np.array(b) / sum(b)
    joint = res.overlaps(p, q)
    assert joint.sum(1) == pytest.approx(p)
    assert joint.sum(0) == pytest.approx(q)
    assert res.overlaps(p, p) == pytest.approx(np.diag(p))  # equal rows never part


def test_samples_needed():
    assert res.samples_to_resolve(0.5, 2.0) == pytest.approx(8)
    assert res.samples_to_resolve(0.5, 2.0, confidence=0.975) == pytest.approx(8 * 1.959964**2)
    assert res.samples_to_resolve([0, 1], [1, 1]).tolist() == [np.inf, 1]
    # The claim of the formula: with n returns each, the better action comes out on top with that probability.
    rng, n = np.random.default_rng(5), 8
    better = rng.normal(0.5, 1, (20_000, n)).mean(1) > rng.normal(0, 1, (20_000, n)).mean(1)
    assert better.mean() == pytest.approx(0.8413, abs=0.01)


def test_the_central_figure_near_the_prototype():
    result = res.resolution(res.mixing_mdps(np.random.default_rng(0)), GAMMAS)
    gap, sd, n = (np.median(x, 0) for x in (result.gap, result.sd, result.samples["independent"]))
    assert gap.min() > 0.32
    assert gap.max() < 0.36
    assert sd == pytest.approx([0.17, 0.6, 1.95, 6.2], rel=0.1)
    assert n == pytest.approx([0.5, 6, 64, 638], rel=0.1)
    growth = result.growth(np.random.default_rng(1))
    assert 0.95 < growth.low <= growth.value <= growth.high < 1.1
    ratio = np.median(result.relative_sd, 0)
    assert (np.diff(ratio) < 0).all()  # against the value itself the noise falls


def test_where_the_claim_fails():
    rng = np.random.default_rng(1)
    forever = res.resolution(res.committing_mdps(np.random.default_rng(0)), GAMMAS)
    assert forever.growth(rng).high < -0.9
    hundred = res.resolution(res.committing_mdps(np.random.default_rng(0), leave=0.01), res.DEFAULT_GAMMAS)
    n = np.median(hundred.samples["independent"], 0)
    assert 0.95 <= hundred.gammas[n[3:].argmin() + 3] <= 0.995  # 100 steps is what the choice lasts
    sparse = res.resolution(res.sparse_mdps(np.random.default_rng(0)), res.DEFAULT_GAMMAS)
    n = np.median(sparse.samples["independent"], 0)
    assert np.isinf(n[0])
    assert 0.5 < sparse.gammas[n.argmin()] < 0.95
    slow = res.resolution(res.mixing_mdps(np.random.default_rng(0), stay=0.99), GAMMAS)
    assert slow.growth(rng).low > 1.5


def test_shared_numbers_and_bootstrapping_level_off():
    mdps = res.mixing_mdps(np.random.default_rng(0), 100)
    result = res.resolution(mdps, GAMMAS, methods=("independent", "shared", "bootstrapped"))
    for method in ("shared", "bootstrapped"):
        assert result.growth(np.random.default_rng(1), method=method, low=0.99).high < 0.1


def test_a_fixed_policy():
    mdps = res.mixing_mdps(np.random.default_rng(0), 50)
    fixed = np.zeros((50, 10), dtype=int)
    result = res.resolution(mdps, GAMMAS, policy=lambda _mdps, _gamma: fixed)
    assert 0.9 < result.growth(np.random.default_rng(1)).value < 1.1


def test_same_seed_same_numbers():
    one, two = (res.resolution(res.sparse_mdps(np.random.default_rng(9), 5), GAMMAS) for _ in range(2))
    assert (one.sd == two.sd).all()
    assert (one.samples["independent"] == two.samples["independent"]).all()


def test_families_are_what_they_say():
    rng = np.random.default_rng(0)
    mixing = res.mixing_mdps(rng, 20, states=8, successors=3, actions=4)
    assert ((mixing.P > 0).sum(-1) == 3).all()
    slow = res.mixing_mdps(rng, 2, stay=0.9)
    assert (np.diagonal(slow.P, axis1=1, axis2=3) >= 0.9).all()
    forever = res.committing_mdps(rng, 3, states=6)
    assert forever.decisions.tolist() == [0]
    assert (forever.P[:, 1:4, :, 4:] == 0).all()
    assert (forever.P[:, 4:, :, 1:4] == 0).all()
    assert (res.committing_mdps(rng, 3, states=6, leave=0.25).P[:, 1:, :, 0] == 0.25).all()
    sparse = res.sparse_mdps(rng, 3, states=6)
    assert sparse.R.sum() == 3 * 2
    assert ((sparse.P[:, 1:] > 0).sum(-1) == 2).all()


def test_frame_is_tidy():
    result = res.resolution(res.sparse_mdps(np.random.default_rng(0), 20), (0.0, 0.9))
    frame = result.frame(np.random.default_rng(1))
    assert len(frame) == 2 * 4
    assert set(frame.quantity) == {"gap", "sd", "relative_sd", "samples_independent"}
    row = frame[(frame.quantity == "samples_independent") & (frame.gamma == 0.9)].iloc[0]
    assert row.low <= row["median"] <= row.high
    assert row["median"] == pytest.approx(result.summary(0.9, np.random.default_rng(2)).value)
    assert np.isinf(frame[(frame.quantity == "samples_independent") & (frame.gamma == 0)]["median"].iloc[0])


MIXING = res.mixing_mdps(np.random.default_rng(0), 4, states=3, successors=2)
POLICY = np.zeros((4, 3), dtype=int)
RESULT = res.resolution(MIXING, (0.5, 0.9), methods=("shared",))


def test_made_directly_they_are_checked_too():
    made = res.make_mdps("x", MIXING.P, MIXING.R, noise_sd=0.5, decisions=[2, 0, 2])
    direct = res.MDPs("x", MIXING.P.tolist(), MIXING.R.tolist(), 0.25, [2, 0])
    assert direct.decisions.tolist() == made.decisions.tolist() == [0, 2]
    assert (direct.P == made.P).all()
    assert direct.noise == made.noise
    assert res.make_mdps("x", MIXING.P, MIXING.R).decisions.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: res.make_mdps("x", np.eye(2), [1, 2]), "shape"),
        (lambda: res.make_mdps(1, MIXING.P, MIXING.R), "name must be of the kind str"),
        (lambda: res.make_mdps("x", MIXING.P, MIXING.R, decisions=[0.5]), "decisions must hold integers"),
        (
            lambda: res.make_mdps("x", MIXING.P, MIXING.R, decisions=[0.0, 1.0]),
            "decisions must hold integers",
        ),
        (lambda: res.make_mdps("x", MIXING.P, MIXING.R, decisions=[True, False, True]), "not True and False"),
        (lambda: res.make_mdps("x", MIXING.P, MIXING.R, decisions="all"), "decisions must hold integers"),
        (lambda: res.make_mdps("x", MIXING.P, MIXING.R, decisions=[[0, 1]]), "decisions must be a list"),
        (lambda: res.MDPs("x", MIXING.P, MIXING.R, -0.1, [0]), "noise must be at least 0"),
        (lambda: res.MDPs("x", MIXING.P * 2, MIXING.R, 0.1, [0]), "must sum to 1"),
        (lambda: res.MDPs("x", MIXING.P, MIXING.R[0], 0.1, [0]), "R must have shape"),
        (lambda: res.MDPs("x", MIXING.P, MIXING.R, 0.1, []), "decisions must be a list of at least one"),
        (
            lambda: res.mixing_mdps(np.random.default_rng(0), 2, stay=np.array([0.5, 0.5])),
            "stay must be a number",
        ),
        (lambda: res.policy_kernel(MIXING.P, POLICY), r"mdps must be of the kind MDPs \(made by make_mdps\)"),
        (lambda: res.policy_kernel(MIXING, POLICY[0]), r"policy must have shape \(4, 3\)"),
        (lambda: res.policy_kernel(MIXING, POLICY + 2), r"policy must lie in 0\.\.1, got 2"),
        (lambda: res.policy_kernel(MIXING, POLICY - 1), r"policy must lie in 0\.\.1, got -1"),
        (lambda: res.action_values(MIXING, POLICY + 0.5, 0.9), "policy must hold integers"),
        (lambda: res.action_values(None, POLICY, 0.9), "mdps must be of the kind MDPs"),
        (lambda: res.action_variances(MIXING, "best", 0.9), "policy must hold integers"),
        (lambda: res.optimal_policies("mdps", 0.9), "mdps must be of the kind MDPs"),
        (lambda: res.optimal_policies(MIXING, 0.9, max_iterations=0), "max_iterations must be at least 1"),
        (
            lambda: res.shared_noise_variances(MIXING, POLICY, POLICY + 3, POLICY, 0.9),
            r"first must lie in 0\.\.1",
        ),
        (
            lambda: res.shared_noise_variances(MIXING, POLICY, POLICY, POLICY[:, :1], 0.9),
            "second must have shape",
        ),
        (lambda: res.overlaps([0.5, 0.5], [1.0]), "of one shape"),
        (lambda: res.overlaps(0.5, 0.5), "rows of probabilities"),
        (lambda: res.overlaps("a", [1.0]), "P1 must be an array of numbers"),
        (lambda: res.samples_to_resolve([1.0, 2.0], [1.0, 2.0, 3.0]), "must have the same shape"),
        (lambda: res.resolution("mdps", [0.5]), "mdps must be of the kind MDPs"),
        (lambda: res.resolution(MIXING, []), "gammas must be a list"),
        (lambda: res.resolution(MIXING, [[0.5]]), "gammas must be a list"),
        (lambda: res.resolution(MIXING, [0.5], policy=POLICY), "policy must be a function"),
        (lambda: res.resolution(MIXING, [0.5], policy=lambda mdps, gamma: None), "policy must hold integers"),
        (lambda: res.resolution(MIXING, [0.5], methods="independent"), "methods must be a list"),
        (
            lambda: RESULT.growth(np.random.default_rng(0), low=0.5, high=0.9),
            r"measured\) must be one of shared",
        ),
        (lambda: RESULT.growth(0, low=0.5, high=0.9), "rng must be"),
        (lambda: RESULT.growth(np.random.default_rng(0), low="0.5", high=0.9), "low must be a number"),
        (
            lambda: RESULT.growth(np.random.default_rng(0), low=0.5, high=0.99),
            "high = 0.99 is not on the grid",
        ),
        (
            lambda: res.resolution(res.sparse_mdps(np.random.default_rng(0), 2), [0.0, 0.9]).growth(
                np.random.default_rng(0), low=0.0, high=0.9
            ),
            "at gamma = 0 some MDPs have no noise or no gap",
        ),
        (lambda: RESULT.summary(0.9, np.random.default_rng(0), ["gap"]), "quantity must be one of"),
        (lambda: RESULT.frame(None), "rng must be"),
        (lambda: plot_resolution(RESULT), "add 'independent' to resolution's methods"),
        (lambda: plot_samples([RESULT]), "add 'independent'"),
        (lambda: plot_samples([]), "results must hold at least one entry"),
        (lambda: plot_samples([RESULT] * 7), "results must hold at most 6 entries"),
        (lambda: plot_methods(MIXING), "result must be of the kind Resolution"),
        (lambda: res.make_mdps("x", np.ones((1, 1, 1, 1)), [[[1.0]]]), "2 actions"),
        (
            lambda: res.make_mdps("x", np.ones((1, 1, 2, 1)), [[[1.0, 0]]], decisions=[4]),
            "decisions must lie in 0..0, got 4",
        ),
        (lambda: res.make_mdps("x", np.ones((1, 1, 2, 1)), [[[1.0, 0]]], noise_sd=-1), "noise_sd"),
        (lambda: res.mixing_mdps(np.random.default_rng(0), 2, successors=11), "successors"),
        (lambda: res.mixing_mdps(np.random.default_rng(0), 2, stay=1), "stay"),
        (lambda: res.resolution(res.sparse_mdps(np.random.default_rng(0), 2), [1.0]), "gamma = 1"),
        (
            lambda: res.resolution(res.sparse_mdps(np.random.default_rng(0), 2), [0.9], methods=("guess",)),
            "methods must be one of",
        ),
        (lambda: res.samples_to_resolve(1, -1), "at least 0"),
        (lambda: res.samples_to_resolve(1, 1, confidence=0.4), "confidence"),
        (
            lambda: res.resolution(res.sparse_mdps(np.random.default_rng(0), 2), [0.9]).growth(
                np.random.default_rng(0)
            ),
            "not on the grid",
        ),
        (
            lambda: res.resolution(res.sparse_mdps(np.random.default_rng(0), 2), [0.9]).summary(
                0.9, np.random.default_rng(0), "pap"
            ),
            "quantity must be one of",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_plots():
    mdps = res.mixing_mdps(np.random.default_rng(0), 10)
    result = res.resolution(mdps, GAMMAS, methods=("independent", "shared"))
    top, bottom = plot_resolution(result).axes
    assert len(top.lines) == 2
    assert "horizon" in bottom.get_xlabel()
    assert "returns per action" in bottom.get_ylabel()
    ax = plot_samples([result, result]).axes[0]
    assert len(ax.get_legend().get_texts()) == 2
    ax = plot_methods(result).axes[0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "separate rollouts",
        "shared random numbers",
    ]
