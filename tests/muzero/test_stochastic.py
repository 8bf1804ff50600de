"""What a deterministic latent model learns of chance: by hand, by enumeration, by simulation, bad input."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core.tabular import MDP, random_mdp
from one_step_trap.discounting.planning import policy_value
from one_step_trap.errors import BookError
from one_step_trap.muzero import stochastic as sto
from one_step_trap.muzero.plots.theory import plot_evidence, plot_failures, plot_search

GAMMA = 0.99


def looking(mdp: MDP, share: float) -> np.ndarray:
    return sto.epsilon_soft(sto.optimal(mdp, GAMMA)[0], mdp, 1 - share)


@pytest.fixture(scope="module")
def table():
    return sto.failures()


def small(seed: int) -> tuple[MDP, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, 4, 2, n_successors=3)
    return mdp, rng.dirichlet(np.ones(2), 4), rng


def digits(number: int, length: int) -> list[int]:
    """The actions of the sequence with this number: its binary digits, the first action first."""
    return [number >> (length - 1 - i) & 1 for i in range(length)]


def unroll_reference(mdp, b, gamma, root, actions):
    """(r_k, v_k) after one sequence by enumerating every path of states: what `unroll` does for all of them."""
    V = sto.value(mdp, b, gamma)
    paths = [((root,), 1.0)]
    for k, a in enumerate(actions):
        paths = [
            ((*path, after), weight * (b[path[-1], a] if k else 1.0) * mdp.P[path[-1], a, after])
            for path, weight in paths
            for after in range(len(V))
        ]
    total = sum(weight for _, weight in paths)
    r = sum(weight * mdp.R[path[-2], actions[-1]] for path, weight in paths) / total
    return r, sum(weight * V[path[-1]] for path, weight in paths) / total


# --- by hand ----------------------------------------------------------------------------------------------


def test_the_coin_by_hand():
    blind = sto.unroll(sto.coin(q=0.3), sto.uniform_policy(sto.coin()), GAMMA, 2)
    # After "flip" nothing is paid; after "flip, call heads" 1 with probability .3.
    assert blind.rewards[0][0] == pytest.approx([0.6, 0])
    assert blind.rewards[1][0] == pytest.approx([0, 0, 0.3, 0.7])
    assert blind.plan()[0] == pytest.approx([0.6, GAMMA * 0.7])


def test_the_lottery_by_hand():
    mdp, b = sto.lottery(q=0.5, fine=1.0), looking(sto.lottery(), 0.9)
    # b collects after a win with probability .95, after a loss with .05: collecting is evidence of having won.
    tree = sto.unroll(mdp, b, GAMMA, 2)
    assert tree.rewards[1][0][2] == pytest.approx((0.5 * 0.95 - 0.5 * 0.05) / 0.5)
    assert tree.probability[1][0, 2:] == pytest.approx([0.5, 0.5])
    assert sto.greedy(tree.plan())[0].argmax() == 1  # gambles, at .9 γ against .7
    assert sto.greedy(sto.action_values(mdp, sto.value(mdp, b, GAMMA), GAMMA))[0].argmax() == 0


def test_data_that_always_look_make_the_coin_right_and_the_lottery_wrong():
    coin, lottery = (sto.evidence_curve(mdp, points=3) for mdp in (sto.coin(), sto.lottery()))
    assert coin["believed"].to_numpy() == pytest.approx(GAMMA * np.array([0.5, 0.75, 1]))
    assert coin["closed_loop"].to_numpy() == pytest.approx(GAMMA)
    assert lottery["believed"].to_numpy() == pytest.approx(GAMMA * np.array([0, 0.5, 1]))
    assert lottery["closed_loop"].to_numpy() == pytest.approx(GAMMA / 2)


# --- the minimiser ----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_unrolling_agrees_with_its_reference(seed, depth):
    mdp, b, rng = small(seed)
    tree = sto.unroll(mdp, b, 0.9, depth)
    number, root = int(rng.integers(2**depth)), int(rng.integers(4))
    exact = unroll_reference(mdp, b, 0.9, root, digits(number, depth))
    assert (tree.rewards[-1][root, number], tree.values[-1][root, number]) == pytest.approx(exact)


def test_conditional_means_by_simulation():
    mdp, b, rng = small(5)
    n, s0, a1 = 200_000, 2, 1
    edges = mdp.P.cumsum(2)
    step = lambda s, a: (rng.random(n)[:, None] >= edges[s, a]).sum(1).clip(max=3)  # noqa: E731
    s1 = step(np.full(n, s0), np.full(n, a1))
    a2 = (rng.random(n) >= b[s1, 0]).astype(int)
    tree = sto.unroll(mdp, b, 0.9, 2)
    for a in (0, 1):
        assert mdp.R[s1, a2][a2 == a].mean() == pytest.approx(tree.rewards[1][s0, 2 * a1 + a], abs=0.01)
    assert (a2 == 0).mean() == pytest.approx(tree.probability[1][s0, 2 * a1], abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_the_sandwich(seed, depth):
    mdp, b, _ = small(seed)
    V = sto.value(mdp, b, 0.9)
    tree = sto.unroll(mdp, b, 0.9, depth)
    mean = (tree.returns() * tree.probability[-1]).reshape(4, 2, -1).sum(2)
    assert mean == pytest.approx(sto.action_values(mdp, V, 0.9))  # averaged over b's actions: Q^b
    assert (tree.plan() >= mean - 1e-12).all()
    blind = sto.unroll(mdp, sto.uniform_policy(mdp), 0.9, depth, value_policy=b).plan()
    assert (blind <= sto.look_ahead(mdp, V, 0.9, depth) + 1e-12).all()
    # Data of random actions are no evidence: then the model's best plan lies between Q^b and the best with open eyes.
    uniform = sto.uniform_policy(mdp)
    plan = sto.unroll(mdp, uniform, 0.9, depth).plan()
    U = sto.value(mdp, uniform, 0.9)
    assert (plan >= sto.action_values(mdp, U, 0.9) - 1e-12).all()
    assert (plan <= sto.look_ahead(mdp, U, 0.9, depth) + 1e-12).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_without_chance_nothing_is_lost_at_any_depth(seed, depth):
    rng = np.random.default_rng(seed)
    mdp = MDP(np.eye(5)[rng.integers(5, size=(5, 2))], rng.random((5, 2)))
    b = rng.dirichlet(np.ones(2), 5)
    plan = sto.unroll(mdp, b, 0.9, depth).plan()
    assert plan == pytest.approx(sto.look_ahead(mdp, sto.value(mdp, b, 0.9), 0.9, depth))


def test_values_agree_with_the_library():
    mdp, _, rng = small(1)
    actions = rng.integers(2, size=4)
    assert sto.value(mdp, np.eye(2)[actions], 0.9) == pytest.approx(policy_value(mdp, actions, 0.9))
    best, V = sto.optimal(mdp, 0.9)
    assert pytest.approx(sto.look_ahead(mdp, np.zeros(4), 0.9, 400).max(1)) == V
    assert pytest.approx(sto.value(mdp, best, 0.9)) == V


# --- the agent ----------------------------------------------------------------------------------------------------


def test_the_three_worlds_and_the_verdict(table):
    def lost(world, data, depth):
        rows = table[(table["world"] == world) & (table["data"] == data) & (table["depth"] == depth)]
        return float(rows["lost"].iloc[0])

    assert lost("coin", "random", 2) == pytest.approx(1 - 0.6 / GAMMA)
    assert lost("coin", "own", 2) == pytest.approx(0, abs=1e-9)
    assert lost("lottery", "own", 2) == pytest.approx(1 - GAMMA / 2 / 0.7)
    assert lost("lottery", "random", 2) == pytest.approx(0, abs=1e-9)
    assert lost("FrozenLake", "own", 2) > 0.3
    assert table[table["depth"] == 1]["lost"].max() < 0.02  # one step is safe everywhere
    assert table[table["data"] == "looks"]["lost"].max() < 0.02
    assert sto.verdict(table) == (
        "holds",
        ("coin", "lottery", "FrozenLake"),
    )
    only = table[table["world"] != "FrozenLake"]
    assert sto.verdict(only.assign(lost=only["lost"] * (only["world"] == "coin"))).kind == "holds when"
    assert sto.verdict(only.assign(lost=0.0)).kind == "does not hold"


def test_frozen_lake_never_settles_and_more_so_than_by_a_tie():
    lake = sto.worlds()["FrozenLake"]
    run = sto.improve(lake, GAMMA, 2)
    settled = lambda run: (run.policies[-1] == run.policies[-2]).all()  # noqa: E731
    assert not settled(run)
    assert np.ptp(run.settling_true) > 0.3  # a cycle of good and bad policies
    assert settled(sto.improve(lake, GAMMA, 1))
    best = sto.optimal(lake, GAMMA)[0]
    assert sto.value(lake, best, GAMMA)[0] == pytest.approx(0.542, abs=5e-4)
    # Even data of nearly optimal play lead a two-step plan astray.
    plan = sto.unroll(lake, sto.epsilon_soft(best, lake, 0.05), GAMMA, 2).plan()
    assert sto.value(lake, sto.greedy(plan), GAMMA)[0] < 0.25


def test_the_searchable_minimiser_is_the_unrolled_one():
    mdp, b, rng = small(3)
    tree, model = sto.unroll(mdp, b, 0.9, 3), sto.searchable(mdp, b, 0.9, 3, root=1)
    state = model.represent(np.zeros(1))
    assert model.predict(state)[1] == pytest.approx(sto.value(mdp, b, 0.9)[1])
    number = int(rng.integers(8))
    for k, a in enumerate(digits(number, 3)):
        if k:  # the policy head: how likely b goes on with each action
            p = tree.probability[k][1].reshape(-1, 2)[number >> (3 - k)]
            assert np.exp(model.predict(state)[0][0]) == pytest.approx(p / p.sum())
        reward, state = model.dynamics(state, np.array([a]))
        assert reward[0] == pytest.approx(tree.rewards[k][1, number >> (2 - k)])
        assert model.predict(state)[1] == pytest.approx(tree.values[k][1, number >> (2 - k)])


def test_a_prior_resists_the_false_plan_until_search_is_long_enough():
    mdp = sto.lottery()
    beliefs = sto.search_beliefs(mdp, looking(mdp, 0.9), GAMMA, 2, (5, 50, 1_000))
    actions = {prior: rows["action"].tolist() for prior, rows in beliefs.groupby("prior")}
    assert actions == {"policy": [0, 0, 1], "uniform": [0, 1, 1]}  # 1 gambles
    assert beliefs["plan"].to_numpy() == pytest.approx(0.9 * GAMMA)
    # Left to itself, MuZero with 25 simulations stays safe, and calls the coin with open eyes.
    safe = sto.improve_by_search(mdp, GAMMA, 2, simulations=25, rounds=4)
    assert safe.true == pytest.approx(0.7)
    assert sto.improve_by_search(sto.coin(), GAMMA, 2, simulations=25, rounds=4).true[-1] == pytest.approx(
        GAMMA
    )
    with pytest.raises(BookError, match="above 0"):
        sto.improve_by_search(mdp, GAMMA, 2, exploration=0)
    table = pd.DataFrame({"world": ["lottery"], "depth": [2], "lost": [0.0]})
    assert len(plot_search(beliefs, table, 0.7).axes) == 2


def test_figures(table):
    curves = {
        "coin": sto.evidence_curve(sto.coin(), points=5),
        "lottery": sto.evidence_curve(sto.lottery(), points=5),
    }
    assert len(plot_evidence(curves, {"coin": 0.6, "lottery": 0.7}).axes) == 2
    assert len(plot_failures(table).axes[0].get_legend().get_texts()) == 5
    with pytest.raises(BookError, match="safe action"):
        plot_evidence(curves, {"coin": 0.6})


# --- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sto.coin(q=1.5), "probability"),
        (lambda: sto.lottery(fine=-1), "at least 0"),
        (lambda: sto.unroll("world", np.ones((4, 2)) / 2, 0.9, 2), "MDP"),
        (lambda: sto.unroll(sto.coin(), np.ones((4, 2)), 0.9, 2), "sum to 1"),
        (lambda: sto.unroll(sto.coin(), np.ones((3, 2)) / 2, 0.9, 2), "shape"),
        (lambda: sto.unroll(sto.coin(), np.full((4, 2), np.nan), 0.9, 2), "NaN"),
        (lambda: sto.unroll(sto.coin(), np.ones((4, 2)) / 2, 1.0, 2), "gamma"),
        (lambda: sto.unroll(sto.coin(), np.ones((4, 2)) / 2, 0.9, 0), "depth"),
        (lambda: sto.unroll(sto.coin(), np.ones((4, 2)) / 2, 0.9, 30), "smaller depth"),
        (lambda: sto.unroll(sto.coin(), np.ones((4, 2)) / 2, 0.9, 2).plan(3), "beyond"),
        (lambda: sto.improve(sto.coin(), 0.9, 2, exploration=0), "above 0"),
        (lambda: sto.improve(sto.coin(), 0.9, 2, start=4), "state"),
        (lambda: sto.greedy([1.0, 2.0]), "shape"),
        (lambda: sto.action_values(sto.coin(), [1.0], 0.9), "4 states"),
        (lambda: sto.verdict("table"), "DataFrame"),
        (lambda: sto.failures(depths=[0]), "depth"),
        (lambda: sto.evidence_curve(sto.coin(), first=2), "action"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(BookError, match=words):
        call()
