"""Imitation: exact costs by hand and by simulation, tables on a road, small networks in CartPole, bad input."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core.stats import Interval
from one_step_trap.core.threads import one_thread
from one_step_trap.errors import BookError
from one_step_trap.trap import imitation as im
from one_step_trap.trap.bounds import imitation_bound, interactive_bound
from one_step_trap.trap.plots.imitation import (
    plot_cartpole,
    plot_cost_curves,
    plot_roads,
)

SMALL_ROAD = im.Road(contexts=30, depth=3)
SMALL = im.CartPole(labels=(25, 50), T=100, episodes=4, horizons=(50, 100), updates=60, learners=3, parts=2)


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return im.imitate_cartpole(SMALL, 0)


@pytest.fixture(scope="module")
def ditch() -> im.RoadStudy:
    return im.imitate_road(im.Road(), learners=100, seed=1)


# --- exactly ----------------------------------------------------------------------------------------------


def test_the_never_recover_chain():
    assert im.recoverable_cost(0.001, 100, recover=0) == pytest.approx(4.887, abs=0.001)  # theory.md: 4.89
    for eps in (1e-12, 1e-6, 0.001, 0.3, 1.0):
        for T in (1, 7, 100, 5_000):
            lost, total = 0.0, 0.0
            for _ in range(T):
                lost += eps * (1 - lost)
                total += lost
            assert im.recoverable_cost(eps, T, recover=0) == pytest.approx(total, rel=1e-6)
            assert im.recoverable_cost(eps, T, recover=1) == pytest.approx(T * eps)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 300))
def test_closed_form_against_the_recursion_and_the_bound(eps, recover, T):
    cost = im.recoverable_cost(eps, T, recover=recover)
    if T:
        assert cost == pytest.approx(im.road_cost(np.full(T, eps), recover=recover)[-1], rel=1e-6, abs=1e-12)
        assert cost <= min(T, imitation_bound(eps, T)) + 1e-9
        assert cost >= T * eps - 1e-9
    else:
        assert cost == 0


def test_the_bound_is_attained_when_all_errors_come_first():
    errors = np.zeros(50)
    errors[0] = 0.2  # mean error .2/50
    assert im.road_cost(errors)[-1] == pytest.approx(imitation_bound(0.2 / 50, 50))


def test_horizon_exponent_of_known_powers():
    T = np.array([10, 20, 50, 100])
    costs = np.random.default_rng(0).uniform(0.5, 1.5, (30, 1)) * T**1.7
    slope = im.horizon_exponent(T, costs, np.random.default_rng(1))
    assert slope[:3] == pytest.approx((1.7, 1.7, 1.7))
    assert slope.n == 30


# --- the road ---------------------------------------------------------------------------------------------


def test_costs_of_one_learner_by_hand():
    road = im.Road(contexts=2, tail=0.0, depth=2)  # two equally likely bends, a ditch of two levels
    right = np.array([[True, False, True, True], [True, False, True, False], [True, True, False, False]])
    curves, own = im.Clones(road, right).follow(3)
    # Learner 0 errs with probability 1/2 on the road, then climbs: bottom (costs 1), level 0, road.
    # P(step ends in the ditch): .5; then .5 (climb to level 0) + .25; then 0 + .25 (climb) + .125 + ...
    on, low, high, costs = 1.0, 0.0, 0.0, []
    for _ in range(3):
        on, low, high = on * 0.5 + high, on * 0.5, low
        costs.append(low + high)
    assert curves[0] == pytest.approx(np.cumsum(costs))
    assert curves[1] == pytest.approx(im.road_cost(np.full(3, 0.5)))  # cannot climb: never recovers
    assert curves[2] == pytest.approx(0)
    assert im.Clones(road, right).expert_error == pytest.approx([0.5, 0.5, 0])
    assert own[2] == 0


@pytest.mark.parametrize("tail", [0.0, 0.3, 1.0, 2.5])
def test_who_errs_nowhere_or_everywhere_has_a_probability(tail):
    """Where the bends' probabilities sum to a little more or less than 1, costs are still at least 0 and errors at most 1."""
    road = im.Road(contexts=200, tail=tail, depth=2)
    tables = im.Clones(road, np.repeat([[True], [False]], road.states, axis=1))
    assert tables.expert_error[0] == 0
    assert 1 - 1e-12 < tables.expert_error[1] <= 1
    curves, own = tables.follow(30)
    assert (curves >= 0).all()
    assert curves[0].max() == own[0] == 0


def test_exact_costs_against_driving():
    rng = np.random.default_rng(2)
    right = rng.random((1, SMALL_ROAD.states)) < 0.6
    learners, T = 20_000, 12
    edges = np.cumsum(SMALL_ROAD.bends)
    bends = np.minimum(np.searchsorted(edges, rng.random((T + 1, learners))), SMALL_ROAD.contexts - 1)
    states = im.drive(SMALL_ROAD, np.repeat(right, learners, axis=0), bends)
    simulated = (states[1:] >= SMALL_ROAD.contexts).mean(1)  # a step costs 1 if it ends in the ditch
    exact, own = im.Clones(SMALL_ROAD, right).follow(T)
    assert np.cumsum(simulated) == pytest.approx(exact[0], rel=0.03)
    assert (~right[0])[states[:T]].mean() == pytest.approx(own[0], abs=0.01)


def driven(road: im.Road, right: np.ndarray, bends: np.ndarray) -> np.ndarray:
    """What `drive` returns, one learner and one step at a time."""
    states = np.empty_like(bends)
    for learner in range(right.shape[0]):
        place: int | None = None  # level of the ditch, if in it
        for t in range(len(bends)):
            s = int(bends[t, learner]) if place is None else road.contexts + place
            states[t, learner] = s
            in_ditch = place is not None
            if right[learner, s] and (road.exits or not in_ditch):
                place = None if not place else place - 1
            else:
                place = road.depth - 1 if road.depth else None
    return states


@pytest.mark.parametrize("road", [SMALL_ROAD, im.Road(contexts=8, depth=0), im.Road(contexts=8, exits=False)])
def test_driving_agrees_with_its_reference(road):
    rng = np.random.default_rng(3)
    right = rng.random((6, road.states)) < 0.7
    bends = rng.integers(road.contexts, size=(40, 6))
    assert (im.drive(road, right, bends) == driven(road, right, bends)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(1, 60))
def test_published_bounds_hold_for_every_table(seed, depth, T):
    road = im.Road(contexts=10, depth=depth)
    right = np.random.default_rng(seed).random((4, road.states)) < 0.9
    tables = im.Clones(road, right)
    curves, own = tables.follow(T)
    for cost, expert_error, own_error in zip(curves[:, -1], tables.expert_error, own, strict=True):
        assert cost <= imitation_bound(expert_error, T) + 1e-9
        assert cost <= interactive_bound(road.u, own_error, T) + 1e-9


def test_dagger_learns_the_way_back_and_cloning_does_not(ditch):
    cloning, dagger = ditch.cost[:, 3].mean(1)  # 1,000 labels
    assert dagger < cloning / 3
    assert ditch.expert_error[0, 3].mean() < ditch.expert_error[1, 3].mean()  # though cloning imitates better
    shift = ditch.own_error / np.maximum(ditch.expert_error, 1e-12)
    assert shift[0, 3].mean() > 5
    assert shift[1, -2].mean() < 1.5


def test_without_a_way_out_dagger_wastes_its_labels():
    result = im.imitate_road(im.Road(exits=False), learners=50, labels=(100, 3_000), seed=2)
    cloning, dagger = result.cost[:, 1].mean(1)
    assert dagger > 3 * cloning


def test_exponents_and_verdict(ditch):
    rng = np.random.default_rng(0)
    free = im.imitate_road(im.Road(depth=0), labels=(3_000,), learners=50, seed=3)
    steep = ditch.exponent("cloning", 3_000, rng)
    flat = free.exponent("cloning", 3_000, rng)
    assert 1.8 < steep.low <= steep.high < 2
    assert flat[:3] == pytest.approx((1, 1, 1))
    assert im.verdict(steep, flat) == "holds when"
    assert ditch.exponent("DAgger", 3_000, rng).high < 1.2


@pytest.mark.parametrize(
    ("steep", "flat", "expected"),
    [((1.8, 2), (1.7, 2), "holds"), ((1, 1.4), (1, 1.1), "does not hold"), ((1.4, 1.6), (1, 1.1), "open")],
)
def test_the_rule(steep, flat, expected):
    a, b = (Interval(sum(x) / 2, *x, 9) for x in (steep, flat))
    assert im.verdict(a, b) == expected


def test_road_study_is_deterministic(ditch):
    again = im.imitate_road(im.Road(), learners=100, seed=1)
    assert (again.curves == ditch.curves).all()
    assert set(ditch.table(np.random.default_rng(0))["algorithm"]) == set(im.ALGORITHMS)


# --- CartPole ---------------------------------------------------------------------------------------------


def test_the_expert_never_falls():
    seen = im.play_cartpole(im.cartpole_expert, 1, 50, 500, 0)
    assert not np.isnan(seen).any()
    assert im.cartpole_expert(np.array([0.0, 0.0, 0.1, 0.0])).tolist() == 1  # leans right: push right


def test_an_episode_ends_for_good_with_the_fall():
    seen = im.play_cartpole(lambda o: np.ones(o.shape[:2], dtype=np.int64), 2, 3, 60, 0)
    gone = np.isnan(seen[..., 0])  # (T, learners, episodes)
    assert gone[-1].all()
    assert (np.diff(gone.astype(int), axis=0) >= 0).all()
    assert 7 <= (~gone).sum(0).min() <= (~gone).sum(0).max() <= 12  # pushing one way: about ten steps


@one_thread()
def trained_alone(states: np.ndarray, actions: np.ndarray, rng: np.random.Generator):
    """The log odds that one learner of `train_clones` learns from ``states`` (n, 4), on its own."""
    mean, sd = states.mean(0), states.std(0) + 1e-8
    W_1 = torch.from_numpy(rng.standard_normal((4, SMALL.hidden)) / 2).requires_grad_()
    W_2 = torch.from_numpy(rng.standard_normal((SMALL.hidden, 1)) / np.sqrt(SMALL.hidden))
    b_1 = torch.zeros(SMALL.hidden, dtype=torch.float64, requires_grad=True)
    b_2 = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    weights = [W_1, b_1, W_2.requires_grad_(), b_2]

    def logits(x):
        hidden = torch.tanh(torch.from_numpy((x - mean) / sd) @ W_1 + b_1)
        return (hidden @ W_2 + b_2)[:, 0]

    optimiser = torch.optim.Adam(weights)
    for update, batch in enumerate(rng.integers(len(states), size=(SMALL.updates, SMALL.batch))):
        optimiser.param_groups[0]["lr"] = SMALL.learning_rate * (1 - update / SMALL.updates)
        optimiser.zero_grad()
        y = torch.from_numpy(actions[batch].astype(np.float64))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits(states[batch]), y)
        torch.autograd.backward(loss)
        optimiser.step()
    return lambda x: np.asarray(logits(x).detach().numpy())


def test_batched_training_agrees_with_one_learner_alone():
    rng = np.random.default_rng(4)
    states = rng.normal(size=(3, 40, 4))
    actions = im.cartpole_expert(states)
    seeds = np.random.SeedSequence(5).spawn(3)
    batched = im.train_clones(states, actions, SMALL, [np.random.default_rng(s) for s in seeds])
    together = batched.logits(torch.from_numpy(states)).detach().numpy()
    for i, seed in enumerate(np.random.SeedSequence(5).spawn(3)):
        alone = trained_alone(states[i], actions[i], np.random.default_rng(seed))
        assert alone(states[i]) == pytest.approx(together[i], rel=1e-6, abs=1e-8)
    assert (batched(states) == actions).mean() > 0.85


def test_rows_of_the_study(runs):
    assert list(runs.columns[:3]) == ["algorithm", "learner", "labels"]
    assert set(runs["labels"]) == {25, 50}
    assert len(runs) == 2 * 2 * 3
    assert runs["return"].between(1, 100).all()
    assert runs["cost_100"].to_numpy() == pytest.approx(100 - runs["return"].to_numpy())
    assert runs[["expert_error", "own_error"]].stack().between(0, 1).all()
    both = runs[runs["labels"] == 25].groupby("algorithm")["expert_error"].apply(list)
    assert both["cloning"] == both["DAgger"]  # the first round is the same for both


def test_the_study_is_deterministic_and_a_slice_of_it_is_the_same(runs):
    part = im.imitate_cartpole(replace(SMALL, labels=(25,)), 0)
    merged = part.merge(runs, on=["algorithm", "learner", "labels"], suffixes=("", "_before"))
    assert (merged["return"] == merged["return_before"]).all()
    assert im.disagreement(part, runs) == 0
    other = im.imitate_cartpole(SMALL, 1)
    assert set(other["learner"]) == {3, 4, 5}
    worse = runs.assign(**{"return": runs["return"] - 90})
    assert im.disagreement(runs, worse) > 4


def test_columns_of_the_full_study_are_described():
    assert im.STUDY.parts == im.FULL.parts
    assert {f"cost_{T}" for T in im.FULL.horizons} < set(im.COLUMNS)
    assert im.FULL.learners * im.FULL.parts >= 10


def test_summaries(runs):
    rng = np.random.default_rng(0)
    summary = im.summarise_cartpole(runs, rng)
    assert (summary["learners"] == 3).all()
    horizons, costs = im.cartpole_costs(runs, "cloning", 25)
    assert horizons.tolist() == [50, 100]
    assert costs.shape == (3, 2)
    assert plot_cartpole(summary, T=100).axes


def test_plots(ditch):
    rng = np.random.default_rng(0)
    figure = plot_cost_curves(im.cost_curves(0.001, longest=1_000))
    assert len(figure.axes[0].get_legend().get_texts()) == 4
    assert "100 steps" in plot_roads({"ditch": ditch.table(rng)}, 100).axes[0].get_ylabel()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: im.recoverable_cost(1.1, 5), "probability"),
        (lambda: im.recoverable_cost(0.1, 5.5), "whole number"),
        (lambda: im.road_cost([0.1, 2.0]), "probabilities"),
        (lambda: im.road_cost([]), "vector"),
        (lambda: im.Road(actions=1), "at least 2"),
        (lambda: im.Road(depth=0, exits=False), "needs a ditch"),
        (lambda: im.Road(tail=-1), "tail"),
        (lambda: im.imitate_road("road"), "pass a Road"),
        (lambda: im.imitate_road(im.Road(), labels=(150,)), "multiples"),
        (lambda: im.imitate_road(im.Road(), labels=(200, 100)), "increasing"),
        (lambda: im.clone_road(im.Road(), 10, 5, 0), "Generator"),
        (lambda: im.horizon_exponent([1, 2], [[0, 0], [0, 0]], np.random.default_rng(0)), "mean cost is 0"),
        (lambda: im.horizon_exponent([2, 1], [[1, 1], [1, 1]], np.random.default_rng(0)), "increasing"),
        (lambda: im.horizon_exponent([1, 2], [1, 1], np.random.default_rng(0)), "learners"),
        (lambda: im.CartPole(gain=(1, 2)), "4 numbers"),
        (lambda: im.CartPole(labels=(50, 25)), "increasing"),
        (lambda: im.CartPole(horizons=(600,)), "exceed"),
        (lambda: im.CartPole(learning_rate=0), "above 0"),
        (lambda: im.imitate_cartpole(SMALL, 2), "below 2"),
        (lambda: im.summarise_cartpole(pd.DataFrame(), np.random.default_rng(0)), "lacks the columns"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: im.horizon_exponent([1, 2], np.ones((3, 2)), np.random.default_rng(0), resamples=0),
        lambda: im.verdict(2.0, 1.0),
        lambda: im.play_cartpole(None, 1, 1, 5, 0),
    ],
)
def test_small_functions_check_their_input_too(call):
    with pytest.raises(BookError):
        call()
