"""Value equivalence: dimensions by formula and by rank, closure, clocks, automata."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core.tabular import MDP, random_mdp
from one_step_trap.errors import BookError
from one_step_trap.muzero import equivalence as eq
from one_step_trap.muzero.plots.theory import plot_clock, plot_dimensions
from one_step_trap.muzero.stochastic import uniform_policy, value

GAMMA = 0.9


def dense(seed: int, states: int = 6, actions: int = 2) -> MDP:
    return random_mdp(np.random.default_rng(seed), states, actions, n_successors=states)


def own_value(mdp: MDP) -> np.ndarray:
    return value(mdp, uniform_policy(mdp), GAMMA)


def automaton(seed: int, states: int, actions: int, latents: int) -> tuple[eq.Latent, eq.Latent]:
    """Return a deterministic world and a deterministic latent model of it, outputs 0 or 1, at random."""
    rng = np.random.default_rng(seed)
    make = lambda n, m, F: eq.Latent(  # noqa: E731
        np.eye(m)[rng.integers(m, size=n)] if m != n else np.eye(n),
        np.eye(m)[rng.integers(m, size=(actions, m))],
        rng.integers(2, size=(m, F)).astype(float),
    )
    world = make(states, states, 1)
    model = make(states, latents + (latents == states), 1)
    return world, model


# --- Bellman updates -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_dimension_by_rank_and_by_formula(seed, m, k, constant):
    mdp, rng = dense(seed, 5, 3), np.random.default_rng(seed)
    policies = [rng.dirichlet(np.ones(3), 5) for _ in range(m)]
    F = rng.random((5, k))
    F[:, 0] = 1 if constant else F[:, 0]
    expected = 5 * (3 * 5 - 3 - m * (k - constant))  # in general position; the constant is known already
    assert eq.bellman_rank(mdp, policies, F) == expected
    # A function in the span of the others, or a policy in the span of the others, asks for nothing new.
    assert eq.bellman_rank(mdp, [*policies, policies[0]], np.column_stack([F, F @ np.ones(k)])) == expected


def test_the_class_collapses_to_a_point():
    mdp, rng = dense(0, 5, 3), np.random.default_rng(0)
    policies = [np.eye(3)[np.full(5, a)] for a in range(3)]
    table = eq.dimension_table(mdp, policies, rng.random((5, 4)))
    assert table["dimension"].iloc[-1] == 0
    assert table[table["policies"] == 1]["dimension"].tolist() == [55, 50, 45, 40]
    assert (table.groupby("policies")["dimension"].diff().dropna() < 0).all()


# --- unrolled: the latents are states ----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(1, 3))
def test_closure_decides_when_all_orders_follow(seed, states, actions):
    mdp = dense(seed, states, actions)
    V = own_value(mdp)
    steps, dims = eq.closure(mdp.P, V)
    assert steps == len(dims) <= states
    assert (
        dims[-1] == states == eq.unrolled_span(mdp.P, V, 9).shape[1]
    )  # a random world notices every direction


def test_a_lumpable_world_closes_early_and_leaves_freedom_for_ever():
    # Two pairs of twins: values see two classes only, whatever happens inside a pair.
    P = np.array([[0.3, 0.3, 0.2, 0.2], [0.1, 0.5, 0.4, 0.0], [0.25, 0.25, 0.5, 0.0], [0.5, 0.0, 0.1, 0.4]])
    V = np.array([1.0, 1.0, 0.0, 0.0])
    assert eq.closure(P[:, None], V) == (1, (2,))
    assert [eq.unrolled_dimension(P[:, None], V, K) for K in (1, 2, 9)] == [8, 8, 8]
    mdp = MDP(P[:, None], np.zeros((4, 1)))
    model = MDP(mdp.P[..., [1, 0, 3, 2]], mdp.R)  # twins take each other's place
    errors = eq.depth_errors(
        eq.latent_world(mdp, V, rewards=False), eq.latent_world(model, V, rewards=False), 40
    )
    assert 0.5 * np.abs(P[:, None] - model.P).sum(2).max() > 0.1
    assert errors.max() < 1e-12  # wrong about states, right at every depth


def test_dimensions_by_hand_and_the_law_of_actions():
    one, two = dense(0, 10, 1), dense(0, 10, 2)
    assert eq.closure(one.P, own_value(one)) == (9, tuple(range(2, 11)))  # one new direction a step
    assert eq.closure(two.P, own_value(two)) == (4, (2, 4, 8, 10))  # as many as there are sequences
    assert eq.dimension_curve(two.P, own_value(two), 5)["dimension"].tolist() == [160, 120, 40, 0, 0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_the_dimension_is_that_of_the_equations(seed, K):
    mdp = dense(seed, 5, 2)
    V = own_value(mdp)
    columns = [np.ones(5)]
    for k in range(K):
        for word in itertools.product(range(2), repeat=k):
            u = V
            for a in reversed(word):
                u = mdp.P[:, a] @ u
            columns.append(u)
    rank = np.linalg.matrix_rank(np.array(columns), tol=1e-10)
    assert (
        abs(eq.unrolled_span(mdp.P, V, K - 1).shape[1] - rank) <= 1
    )  # near-dependence is a matter of tolerance
    assert eq.unrolled_dimension(mdp.P, V, K) == 10 * (5 - eq.unrolled_span(mdp.P, V, K - 1).shape[1])


# --- unrolled: any latents ----------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_a_clock_is_right_to_K_and_wrong_beyond(seed, K):
    mdp = dense(seed, 4, 2)
    world = eq.latent_world(mdp, own_value(mdp))
    model = eq.clock_model(world, K, error=3.0)
    errors = eq.depth_errors(world, model, K + 2)
    assert errors[: K + 1].max() < 1e-10
    assert errors[K + 1 :] == pytest.approx(3)


def test_another_basis_of_the_latents_is_right_at_every_depth():
    mdp = dense(1)
    V = own_value(mdp)
    mixing = np.random.default_rng(0).standard_normal((6, 6))  # another basis of the latent space
    inverse = np.linalg.inv(mixing)
    world = eq.latent_world(mdp, V)
    model = eq.Latent(mixing, inverse @ world.dynamics @ mixing, inverse @ world.outputs)
    assert eq.depth_errors(world, model, 6).max() < 1e-8


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 2), st.integers(1, 4))
def test_automata_that_disagree_do_so_within_n_plus_m_minus_two(seed, states, actions, latents):
    world, model = automaton(seed, states, actions, latents)
    n, m = len(world.outputs), len(model.outputs)
    errors = eq.depth_errors(world, model, 9)
    assert errors[: n + m - 1].max() > 0 or errors.max() == 0


def test_the_number_of_steps_is_attained():
    # One state, and m latents in a row of which the last one errs.
    for m in (2, 3, 6):
        chain = np.eye(m, k=1)
        chain[-1, -1] = 1
        world = eq.Latent(np.ones((1, 1)), np.ones((1, 1, 1)), np.zeros((1, 1)))
        model = eq.Latent(np.eye(m)[:1], chain[None], np.eye(m)[:, -1:])
        errors = eq.depth_errors(world, model, m)
        assert errors[: m - 1].max() == 0 < errors[m - 1]


def test_figures():
    mdp = dense(0, 5, 2)
    rng = np.random.default_rng(0)
    table = eq.dimension_table(mdp, [uniform_policy(mdp), rng.dirichlet(np.ones(2), 5)], rng.random((5, 4)))
    figure = plot_dimensions(table, eq.dimension_curve(mdp.P, own_value(mdp), 5, name="2 actions"))
    assert [len(ax.lines) for ax in figure.axes] == [2, 1]
    curves = eq.clock_curves(mdp, own_value(mdp), (1, 3), longest=5)
    assert curves[curves["depth"] <= 1]["error"].max() < 1e-10
    assert len(plot_clock(curves).axes[0].get_legend().get_texts()) == 2
    with pytest.raises(BookError, match="lacks the columns"):
        plot_clock(table)


# --- bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: eq.closure(np.ones((2, 2)), np.ones(2)), "shape"),
        (lambda: eq.closure(np.ones((2, 1, 2)), np.ones(2)), "sums to 1"),
        (lambda: eq.unrolled_dimension(dense(0).P, np.ones(5), 2), "shape"),
        (lambda: eq.Latent(np.eye(2), np.ones((1, 3, 3)), np.ones((2, 1))), "encoder"),
        (lambda: eq.Latent(np.eye(2), np.full((1, 2, 2), np.inf), np.ones((2, 1))), "infinite"),
        (lambda: eq.clock_model(eq.latent_world(dense(0), np.ones(6)), 0), "unroll_steps"),
        (lambda: eq.depth_errors(*(eq.latent_world(dense(0), np.ones(6)),) * 2, 60), "smaller depth"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(BookError, match=words):
        call()
