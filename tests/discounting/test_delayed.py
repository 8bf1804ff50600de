"""Delayed rewards: the task, its exact limits, and agents that learn it or cannot."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.discounting import delayed as d
from one_step_trap.discounting.plots import delayed as plots
from one_step_trap.errors import BookError

BSUITE = d.Chains((1, 3, 10, 30, 100), (1.0, 1.0, 1.0, 1.0, 1.1), 100)
SMALL = d.Settings(delays=(3, 30), gammas=(0.99, 1.0), seeds=(0, 1, 2), episodes=2_000, noisy_episodes=200)


def test_the_published_numbers_of_the_100_step_bonus():
    chains = BSUITE
    assert chains.values(0.99)[4] == pytest.approx(0.41, abs=0.005)
    assert not chains.optimal_is_best(0.99903)
    assert chains.optimal_is_best(0.99904)


@given(
    delays=st.lists(st.integers(1, 200), min_size=2, max_size=5, unique=True),
    lucky=st.integers(0, 4),
    bonus=st.floats(0.01, 3),
    gamma=st.floats(0.0, 1.0),
)
def test_a_later_bonus_is_preferred_above_its_discount(delays, lucky, bonus, gamma):
    rewards = 1.0 + bonus * (np.arange(len(delays)) == lucky % len(delays))
    chains = d.Chains(tuple(delays), tuple(rewards), max(delays))
    later = chains.delays[chains.best] - np.array(delays)
    critical = max([(1 + bonus) ** (-1 / steps) for steps in later.tolist() if steps > 0], default=0.0)
    if abs(gamma - critical) > 1e-9 and gamma > 0.05:  # below, γ^199 underflows
        assert chains.optimal_is_best(gamma) == (gamma > critical)


@pytest.mark.parametrize(
    ("chains", "critical"),
    [
        (d.Chains((1, 3), (1.0, 4.0), 3), 0.5),  # more but later: γ² > 1/4
        (d.Chains((3, 1), (1.0, 4.0), 3), 0.0),  # more and sooner
        (d.Chains((1, 3), (-1.0, -4.0), 3), 0.5),  # a larger cost tempts while it is far: 4 γ² > 1
        (d.Chains((1, 9), (-1.0, 2.0), 9), 0.0),  # a gain against a cost
        (d.Chains((1, 3, 2), (1.0, 4.0, 3.0), 3), 0.75),  # the largest threshold of 1/2 and 3/4
    ],
)
def test_the_discount_from_which_the_best_is_chosen_by_hand(chains, critical):
    for gamma in (critical + 1e-6, 0.5 + critical / 2, 1.0):
        assert chains.optimal_is_best(gamma)
    if critical:
        assert not chains.optimal_is_best(critical - 1e-6)


def test_limits_by_hand():
    assert d.longest_preferred_delay(0.99, 1.1) == pytest.approx(10.48, abs=0.01)
    assert d.longest_preferred_delay(1.0, 1.1) == math.inf
    assert d.longest_preferred_delay(0.0, 1.1) == 1.0
    assert d.ratio_to_wait(0.99, 500) == pytest.approx(0.99**-499)
    assert d.ratio_to_wait(0.5, 3) == pytest.approx(4)
    assert d.return_sd(0.0, 9, 2.0) == 2.0
    assert d.return_sd(1.0, 9, 2.0) == 6.0
    assert d.return_sd(0.5, 2, 1.0) == pytest.approx(math.sqrt(1.25))


@given(gamma=st.floats(0.01, 0.9999), ratio=st.floats(1.01, 1e6))
def test_the_two_ways_to_state_the_preference_agree(gamma, ratio):
    assert d.ratio_to_wait(gamma, d.longest_preferred_delay(gamma, ratio)) == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize(("bits", "dtype"), [(53, np.float64), (24, np.float32), (11, np.float16)])
def test_rounding_hides_a_far_reward(bits, dtype):
    edge = d.float_sight(0.99, bits=bits)
    assert dtype(1) + dtype(0.99 ** (edge + 1 - 1)) == dtype(1)
    assert dtype(1) + dtype(0.99 ** (edge - 2)) > dtype(1)


def test_seen_probability_and_seen_delay_are_inverse_and_right():
    D = d.seen_delay(0.99, 2_000, 0.1, probability=0.9)
    assert d.seen_probability(0.99, round(D), 2_000, 0.1, length=10**6) == pytest.approx(0.9, abs=0.005)
    more = d.seen_delay(0.99, 200_000, 0.1, probability=0.9)
    assert more - D == pytest.approx(math.log(10) / -math.log(0.99))  # a hundredfold of data: 229 steps
    assert d.seen_probability(0.99, 2_000, 2_000, 0.1) == pytest.approx(0.5, abs=1e-4)


def test_seen_probability_against_simulation():
    chains, episodes = d.Chains((1, 40), (0.0, 1.0), 40, 0.2), 40
    agent = d.Agent(0.95, d.MONTE_CARLO, None, 1.0)
    share = np.mean([d.train(chains, agent, episodes, seed).success for seed in range(600)])
    exact = d.seen_probability(0.95, 40, episodes, 0.2)
    assert abs(share - exact) < 4 * math.sqrt(exact * (1 - exact) / 600)


def trained_online(chains, agent, episodes, seed):
    """What `train` returns, one episode and one step at a time, updating as soon as an n-step return is complete."""
    env_seed, agent_seed = d._two_seeds(seed)
    world, rng = np.random.default_rng(env_seed), np.random.default_rng(agent_seed)
    L, n = chains.length, int(min(agent.n_step, chains.length))
    V = np.zeros((len(chains.delays), L + 1))  # V[:, L] = 0 is the end
    visits, last_wrong = np.zeros(len(V), dtype=np.int64), 0
    for episode in range(episodes):
        explore, u = rng.random() < agent.epsilon, rng.random()
        top = np.arange(len(V)) if explore else np.flatnonzero(V[:, 0] == V[:, 0].max())
        c = top[int(u * len(top))]
        visits[c] += 1
        alpha = 1 / visits[c] if agent.alpha is None else agent.alpha
        rewards = []  # R_1 … R_L of this episode
        for now in range(1, L + n):
            if now <= L:
                noise = chains.noise * world.standard_normal() if chains.noise else 0.0
                rewards.append(chains.rewards[c] * (now == chains.delays[c]) + noise)
            t = now - n  # the time whose n-step return is complete now
            if t >= 0:
                G = sum(agent.gamma**k * R for k, R in enumerate(rewards[t : t + n]))
                G += agent.gamma**n * V[c, t + n] if t + n < L else 0.0
                V[c, t] += alpha * (G - V[c, t])
        if not d._prefers(V, chains.best):
            last_wrong = episode + 1
    return d._trained(V, visits, last_wrong, chains.best)


@pytest.mark.parametrize("n_step", [1, 3, 4, d.MONTE_CARLO])
@pytest.mark.parametrize("alpha", [0.5, None])
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_the_compiled_agent_agrees_with_plain_loops(n_step, alpha, noise):
    chains = d.Chains((1, 6, 4), (1.0, 1.5, 0.2), 9, noise)
    agent = d.Agent(0.95, n_step, alpha, 0.3)
    for seed in (0, 5):
        slow, fast = trained_online(chains, agent, 120, seed), d.train(chains, agent, 120, seed)
        np.testing.assert_allclose(fast.V, slow.V, atol=1e-12)
        assert (fast.visits == slow.visits).all()
        assert (fast.success, fast.learned_at) == (slow.success, slow.learned_at)


def test_ties_are_broken_by_the_generator_as_in_plain_loops():
    chains = d.Chains((3, 3, 3), (0.0, 0.0, 0.0), 3)
    agent = d.Agent(0.9, epsilon=0.0)
    slow, fast = trained_online(chains, agent, 60, 1), d.train(chains, agent, 60, 1)
    assert (slow.visits == fast.visits).all()
    assert fast.visits.min() > 5
    assert not fast.success  # a tie is no success


@settings(max_examples=30, deadline=None)
@given(
    delay=st.integers(2, 30), n_step=st.integers(1, 35), alpha=st.floats(0.05, 1.0), gamma=st.floats(0.5, 1.0)
)
def test_news_travels_as_the_binomial_says(delay, n_step, alpha, gamma):
    chains, visits = d.Chains((1, delay), (0.0, 2.0), delay), 25
    V = d.train(chains, d.Agent(gamma, n_step, alpha, 1.0), 2 * visits, 0)
    expected = 2.0 * gamma ** (delay - 1) * d.propagated(delay, int(V.visits[1]), alpha, n_step)
    assert V.V[1, 0] == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_monte_carlo_propagates_at_once_and_td_step_by_step():
    assert d.propagated(100, 3, 0.5, d.MONTE_CARLO) == pytest.approx(1 - 0.5**3)
    assert d.propagated(100, 99, 0.5) == 0.0
    assert d.propagated(100, 200, 0.5) == pytest.approx(0.5, abs=0.03)
    assert d.propagated(100, 10, 1.0, 10) == 1.0
    assert d.propagated(100, 9, 1.0, 10) == 0.0


def test_visits_to_prefer_is_the_first_visit_that_suffices():
    chains = d.Chains((1, 50), (1.0, 1.1), 50)
    visits = d.visits_to_prefer(chains, 1.0, 0.5)
    value = [1.1 * d.propagated(50, int(m), 0.5) for m in (visits - 1, visits)]
    assert value[0] <= 1 < value[1]
    assert d.visits_to_prefer(chains, 0.99, 0.5) == math.inf


def test_visits_to_prefer_where_there_is_nothing_to_learn():
    """All others cost something: the best chain is preferred before it was ever visited."""
    assert d.visits_to_prefer(d.Chains((1, 3), (-2.0, -1.0), 3), 1.0, 0.5) == 0
    assert d.visits_to_prefer(d.Chains((1, 3), (-2.0, 5.0), 3), 1.0, 0.5) == 0
    assert d.visits_to_prefer(d.Chains((1, 3), (-2.0, 0.0), 3), 1.0, 0.5) == 0


def test_beyond_the_floats():
    assert d.ratio_to_wait(0.5, 10**9) == math.inf
    assert d.expected_learning(1.0, replace(SMALL, epsilon=0.0))["episodes"].eq(math.inf).all()


def test_one_agent_learns_bsuite_s_chain_and_one_cannot():
    chains = BSUITE
    for seed in range(5):
        assert d.train(chains, d.Agent(0.9995, d.MONTE_CARLO), 3_000, seed).success
        assert not d.train(chains, d.Agent(0.99, d.MONTE_CARLO), 3_000, seed).success
        assert not d.train(
            chains, d.Agent(0.9995, 1), 3_000, seed
        ).success  # the discount suffices, the news is late
    assert d.train(chains, d.Agent(0.9995, 1), 40_000, 0).success


def test_preference_does_not_depend_on_n_once_learned():
    for n_step in (1, 5, d.MONTE_CARLO):
        assert not d.train(d.Chains((1, 12), (1.0, 1.1), 12), d.Agent(0.99, n_step), 20_000, 0).success
        assert d.train(d.Chains((1, 10), (1.0, 1.1), 10), d.Agent(0.99, n_step), 20_000, 0).success


def test_without_competitor_and_noise_every_discount_sees_the_reward():
    run = d.train(d.Chains((1, 1_000), (0.0, 1.0), 1_000), d.Agent(0.99, d.MONTE_CARLO), 200, 0)
    assert run.success
    assert 0 < run.V[1, 0] < 1e-4


def test_rows_of_a_slice_equal_those_of_the_full_study():
    full = d.study(SMALL)
    part = d.study(replace(SMALL, delays=(30,), gammas=(0.99,), seeds=(1, 2)))
    chosen = full[(full["delay"] == 30) & (full["gamma"] == 0.99) & (full["seed"] > 0)].reset_index(drop=True)
    assert part.equals(chosen)
    assert full.equals(d.study(SMALL))
    assert len(full) == 2 * 2 * 3 * (3 + 3 + 1)
    assert set(d.SLICE.delays) <= set(d.FULL.delays)
    assert len(d.FULL.seeds) >= 20


def test_success_table_counts_and_bounds():
    table = d.success_table(d.study(SMALL))
    row = table[
        (table["task"] == "competing") & np.isinf(table["n_step"]) & (table["delay"] == 30)
    ].set_index("gamma")
    assert (row.loc[0.99, "success"], row.loc[1.0, "success"]) == (0.0, 1.0)
    assert (row.loc[0.99, "optimal"], row.loc[1.0, "optimal"]) == (False, True)
    assert row.loc[1.0, "low"] == pytest.approx(0.025 ** (1 / 3))  # Clopper-Pearson at 3 of 3
    with pytest.raises(BookError, match="lacks the columns success"):
        d.success_table(table.drop(columns="success"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: d.Chains((1,), (1.0,), 3), "at least 2 chains"),
        (lambda: d.Chains((1, 2), (1.0,), 3), "every chain needs a reward"),
        (lambda: d.Chains((1, 9), (1.0, 1.0), 3), "longest delay"),
        (lambda: d.Chains((0, 2), (1.0, 1.0), 3), "delay must be at least 1"),
        (lambda: d.Chains((1, 2), (1.0, math.nan), 3), "NaN"),
        (lambda: d.Chains((1, 2), (1.0, 1.0), 3, -1.0), "standard deviation"),
        (lambda: d.Agent(1.5), "gamma must lie"),
        (lambda: d.Agent(0.9, 0), "n_step"),
        (lambda: d.Agent(0.9, 1.5), "n_step"),
        (lambda: d.Agent(0.9, alpha=0.0), "alpha must be above 0"),
        (lambda: d.Agent(0.9, alpha=1.2), "alpha must be a probability"),
        (lambda: d.Agent(0.9, epsilon=-0.1), "epsilon"),
        (lambda: d.train(BSUITE, d.Agent(0.9), 0, 0), "episodes"),
        (lambda: d.train(BSUITE, d.Agent(0.9), 1, -1), "seed"),
        (lambda: d.longest_preferred_delay(0.9, 1.0), "ratio must be above 1"),
        (lambda: d.ratio_to_wait(0.0, 3), "no later reward"),
        (lambda: d.seen_delay(0.9, 10, 0.1, probability=0.5), "between"),
        (lambda: d.seen_probability(0.9, 10, 10, 0.0), "noise must be above 0"),
        (lambda: d.task_chains("nothing", 3), "task must be one of"),
        (lambda: d.task_chains("alone", 1), "delay must be at least 2"),
        (lambda: d.task_chains("alone", 3, {}), "settings must be of the kind Settings"),
        (lambda: d.Chains(3, (1.0, 1.0), 3), "delays must be a list, got 3"),
        (lambda: d.Chains((1, 2), 1.0, 3), "rewards must be a list"),
        (lambda: d.Chains((1, 2), ("a", 1.0), 3), "rewards must be an array of numbers"),
        (lambda: d.Chains((1, 2), ([1.0, 2.0], [1.0, 2.0]), 3), "a reward must be a number"),
        (lambda: d.return_sd(0.9, 5, -0.1), "noise must be at least 0, got -0.1"),
        (lambda: d.return_sd(0.9, 5, [0.1]), "noise must be a number"),
        (lambda: d.propagated(5, 7, 0.5, math.nan), "n_step must be a finite number, got nan"),
        (lambda: d.propagated(5, 7, 0.5, -math.inf), "n_step must be a finite number"),
        (lambda: d.propagated(5, 7, 0.5, "1"), "n_step must be a number"),
        (lambda: d.visits_to_prefer(None, 0.9, 0.5), "chains must be of the kind Chains"),
        (lambda: d.visits_to_prefer(BSUITE, 0.9995, 0), "alpha must be above 0"),
        (lambda: d.Agent(0.9, math.nan), "n_step must be a finite number"),
        (lambda: d.train(BSUITE, 0.9, 1, 0), "agent must be of the kind Agent"),
        (lambda: d.Settings(delays=30), "delays must be a list"),
        (lambda: d.Settings(delays=()), "delays must hold at least one entry"),
        (lambda: d.Settings(gammas=(0.9, 1.1)), r"gamma must lie in \[0, 1\]"),
        (lambda: d.Settings(n_steps=(math.nan,)), "n_step must be a finite number"),
        (lambda: d.Settings(tasks="alone"), "tasks must be a list"),
        (lambda: d.Settings(tasks=("all",)), "task must be one of competing, alone, noisy"),
        (lambda: d.Settings(seeds=(-1,)), "seed must be at least 0"),
        (lambda: d.Settings(noise=-1), "noise must be at least 0"),
        (lambda: d.Settings(episodes=0), "episodes must be at least 1"),
        (lambda: d.study({"delays": (3,)}), "settings must be of the kind Settings"),
        (lambda: d.run_part(10), "part must be below 10"),
        (lambda: d.run_part("0"), "part must be a number"),
        (lambda: d.success_table([1, 2]), "the table of runs must be a pandas.DataFrame"),
        (lambda: d.success_table(d.study(SMALL), by="task"), "by must be a list"),
        (lambda: d.success_table(d.study(SMALL), by=("task", "colour")), "lacks the columns colour"),
        (lambda: d.seen_curve(SMALL, points=0), "points must be at least 1"),
        (lambda: d.expected_learning(0.9, "full"), "settings must be of the kind Settings"),
        (lambda: plots.success(d.study(SMALL)), "lacks the columns high, low"),
        (
            lambda: plots.propagation([], d.expected_learning(1.0, SMALL)),
            "runs .* must be a pandas.DataFrame",
        ),
    ],
)
def test_bad_input_is_one_clear_error(build, message):
    with pytest.raises(BookError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


def test_figures():
    runs = d.study(SMALL)
    table = d.success_table(runs)
    chosen = table[(table["task"] == "competing") & np.isinf(table["n_step"])]
    figure = plots.success(chosen, boundaries={0.99: d.longest_preferred_delay(0.99, 1.1)})
    assert "steps" in figure.axes[0].get_xlabel()
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["γ = .99", "γ = 1"]
    assert len(figure.axes[0].containers) == 2
    noisy = plots.success(table[table["task"] == "noisy"], exact=d.seen_curve(SMALL))
    assert len(noisy.axes[0].containers) == 2
    competing = runs[(runs["task"] == "competing") & (runs["gamma"] == 1.0)]
    travel = plots.propagation(competing, d.expected_learning(1.0, SMALL))
    assert len(travel.axes[0].get_legend().get_texts()) == 3
    with pytest.raises(BookError, match="one task"):
        plots.success(table)
    with pytest.raises(BookError, match="one task"):
        plots.propagation(runs, d.expected_learning(1.0, SMALL))
