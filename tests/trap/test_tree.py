"""The tree of futures: three ways to the same number, what they cost, the verdict, locks and look-ahead trees."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.trap import tree as t
from one_step_trap.trap.plots import tree as plots

# Two states that pay 0 and 1: from state 0 one moves on with probability 1/4, from state 1 one returns with 1/2.
HAND = t.BranchingModel(
    np.array([[0, 1], [0, 1]]), np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0.0, 1.0])
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# The first two methods as one would write them down: the whole tree by recursion, and a dictionary of states.


def enumerated(model: t.BranchingModel, s: int, horizon: int) -> t.Future:
    if horizon == 0:
        return t.Future(float(model.f[s]), 0)
    total, nodes = 0.0, 0
    for successor, p in zip(model.successors[s], model.probabilities[s], strict=True):
        below = enumerated(model, int(successor), horizon - 1)
        total, nodes = total + p * below.value, nodes + 1 + below.nodes
    return t.Future(total, nodes)


def merged_in_a_dictionary(model: t.BranchingModel, start: int, horizon: int) -> t.Future:
    p, nodes = {start: 1.0}, 0
    for _ in range(horizon):
        following: dict[int, float] = {}
        for s, weight in p.items():
            for successor, chance in zip(model.successors[s], model.probabilities[s], strict=True):
                following[int(successor)] = following.get(int(successor), 0.0) + weight * chance
                nodes += 1
        p = following
    return t.Future(float(sum(weight * model.f[s] for s, weight in p.items())), nodes)


def test_two_steps_by_hand():
    value = 0.75 * 0.25 + 0.25 * 0.5
    for ask in (t.enumerate_futures, enumerated):
        assert ask(HAND, 0, 2) == (pytest.approx(value), 2 + 4)
    for ask in (t.merge_futures, merged_in_a_dictionary):
        assert ask(HAND, 0, 2) == (pytest.approx(value), 2 + 4)
        assert ask(HAND, 0, 3).nodes == 2 + 4 + 4


def test_nodes_of_the_tree():
    assert t.tree_nodes(3, 14) == 7_174_452  # with the root: 7,174,453
    assert t.tree_nodes(1, 9) == 9
    assert t.tree_nodes(2, 200) == 2**201 - 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 6))
def test_all_ways_agree(seed, branches, horizon):
    model = t.random_model(rng(seed), states=6, branches=branches)
    everything = t.enumerate_futures(model, 2, horizon)
    merged = t.merge_futures(model, 2, horizon)
    assert everything.nodes == t.tree_nodes(branches, horizon)
    assert everything.value == pytest.approx(merged.value, abs=1e-13)
    assert enumerated(model, 2, horizon) == (pytest.approx(merged.value), everything.nodes)
    assert merged_in_a_dictionary(model, 2, horizon) == (pytest.approx(merged.value), merged.nodes)
    assert merged.nodes <= min(everything.nodes, horizon * 6 * branches)


def test_blocks_do_not_change_the_sum(monkeypatch):
    model = t.random_model(rng(1))
    whole = t.enumerate_futures(model, 0, 8)
    monkeypatch.setattr(t, "BLOCK", 7)
    assert t.enumerate_futures(model, 0, 8) == (pytest.approx(whole.value, abs=1e-13), whole.nodes)


def test_sampling_is_unbiased_and_repeatable():
    model = t.random_model(rng(2))
    exact = t.merge_futures(model, 0, 12).value
    found = t.sample_futures(model, 0, 12, rng(3), rollouts=40_000)
    tau = math.sqrt(math.log(2 / 1e-6) / (2 * 40_000))  # exceeded with probability 1e-6 at most
    assert abs(found.value - exact) < tau
    assert found.nodes == 12 * 40_000
    assert t.sample_futures(model, 0, 12, rng(3), rollouts=40_000) == found


def test_walks_follow_the_probabilities():
    model = t.BranchingModel(np.array([[0, 1, 2]] * 3), np.array([[0.5, 0, 0.5]] * 3), np.array([0, 1, 0.5]))
    assert t.sample_futures(model, 0, 1, rng(4), rollouts=20_000).value == pytest.approx(0.25, abs=0.01)
    # f = 1 only in state 1, which has probability 0.
    assert t.merge_futures(model, 0, 5).value == pytest.approx(0.25)


def test_sampling_error_falls_with_rollouts_and_not_with_the_horizon():
    model = t.random_model(rng(5))
    errors = t.sampling_error(model, rng(6), horizons=[10, 300], rollouts=[100, 10_000], repeats=40)
    assert (errors["rms"] <= errors["limit"]).all()
    rms = errors.set_index(["rollouts", "horizon"])["rms"]
    for horizon in (10, 300):
        assert rms[100, horizon] / rms[10_000, horizon] == pytest.approx(10, rel=0.4)
    assert rms[100, 300] / rms[100, 10] == pytest.approx(1, rel=0.5)
    assert (errors["low"] < errors["rms"]).all()
    assert (errors["rms"] < errors["high"]).all()


def test_cost_curve_stops_at_its_budget():
    model = t.random_model(rng(8), states=10, branches=3)
    costs = t.cost_curve(model, rng(9), horizons=range(1, 30), rollouts=100, max_nodes=3_000)
    longest = costs.groupby("method")["horizon"].max()
    assert longest["enumeration"] == 6  # 3 + ... + 729 = 1,092 nodes; 3,279 would be too many
    assert longest["merged states"] == longest["Monte Carlo"] == 29
    exact = costs[costs["method"] != "Monte Carlo"]
    assert exact["error"].max() < 1e-12
    assert (costs["nodes"] <= 3_000).all()
    slow = t.cost_curve(model, rng(9), horizons=range(1, 30), rollouts=100, max_seconds=1e-9)
    assert (slow.groupby("method").size() == 1).all()


def costs_of(branches: tuple[int, ...] = (2, 5)) -> pd.DataFrame:
    return pd.concat(
        t.cost_curve(t.random_model(rng(b), branches=b), rng(10), rollouts=100, max_nodes=100_000)
        for b in branches
    )


def test_growth_and_verdict():
    growths = t.cost_growth(costs_of())
    for one in growths:
        if one.method == "enumeration":
            assert one.factor == pytest.approx(one.branches, rel=0.01)
            assert one.law == "exponential"
        else:
            assert one.exponent == pytest.approx(1, abs=0.05)
            assert one.law == "polynomial"
    good = pd.DataFrame({"horizon": [1, 100], "rms": [0.1, 0.1], "limit": [0.2, 0.2]})
    bad = good.assign(rms=0.3)
    assert t.cost_verdict(growths, good) == "enumeration only"
    assert t.cost_verdict(growths, bad) == "enumeration only"  # merged states remain cheap
    steep = [one._replace(law="exponential") for one in growths]
    assert t.cost_verdict(steep, good) == "all"
    flat = [one._replace(law="polynomial") for one in growths]
    assert t.cost_verdict(flat, good) == "not enumeration"
    dear = [one._replace(law="exponential") if one.method != "Monte Carlo" else one for one in growths]
    assert t.cost_verdict(dear, good) == "enumeration only"
    assert t.cost_verdict(dear, bad) == "open"


def test_sampling_a_lock_against_the_closed_form():
    locks = t.lock_by_sampling(rng(11), horizons=[2, 6, 8, 10, 30], rollouts=200, repeats=300)
    inside = (locks["low"] - 0.02 <= locks["theory"]) & (locks["theory"] <= locks["high"] + 0.02)
    assert inside.all()
    assert locks["success"].iloc[0] == 1
    assert locks["success"].iloc[-1] == 0
    assert t.lock_success([1, 3], 2, 1) == pytest.approx([0.5, 0.125])
    assert t.lock_success([10], 2, 1024)[0] == pytest.approx(1 - (1 - 2**-10) ** 1024)
    assert t.lock_success([10**6], 2, 1024)[0] == 0
    assert t.lock_success([10**6], 1, 1)[0] == 1


def test_plans_agree_and_cost_what_they_should():
    model = t.random_decisions(rng(12), states=8, actions=2, branches=3)
    merged, tree = t.plan_merged(model, 3, 4, 0.9), t.plan_enumerated(model, 3, 4, 0.9)
    assert pytest.approx(merged.Q) == tree.Q
    assert merged.nodes == 4 * 8 * 2 * 3
    assert tree.nodes == t.tree_nodes(6, 4)
    assert pytest.approx(model.rewards[3]) == t.plan_merged(model, 3, 1).Q


def test_sparse_sampling_costs_the_same_in_any_number_of_states():
    small, large = (t.random_decisions(rng(13), states=S, actions=2, branches=2) for S in (20, 5_000))
    plans = [t.plan_sparsely(model, 0, 3, rng(14), width=5) for model in (small, large)]
    assert plans[0].nodes == plans[1].nodes == 10 + 100 + 1_000
    exact = t.plan_merged(small, 0, 3).Q
    wide = np.array([t.plan_sparsely(small, 0, 3, rng(s), width=30).Q for s in range(20)])
    narrow = np.array([t.plan_sparsely(small, 0, 3, rng(s), width=2).Q for s in range(20)])
    assert np.abs(wide - exact).mean() < np.abs(narrow - exact).mean() / 2


def test_planning_costs():
    table = t.planning_costs(rng(15), longest=6, max_nodes=50_000)
    last = table.groupby("method")["horizon"].max()
    assert last.to_dict() == {"merged states": 6, "look-ahead tree": 5, "sparse sampling": 5}
    assert table.loc[table["method"] == "look-ahead tree", "error"].max() < 1e-13


ONE = np.array([0.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: t.BranchingModel(np.array([[2]]), np.array([[1.0]]), ONE), "states from 0 to 0"),
        (lambda: t.BranchingModel(np.array([[0]]), np.array([[0.9]]), ONE), "sum to 1"),
        (lambda: t.BranchingModel(np.array([[0]]), np.array([[np.nan]]), ONE), "NaN"),
        (lambda: t.BranchingModel(np.array([[0]]), np.array([[1.0]]), ONE + 1), "f must lie in"),
        (lambda: t.BranchingModel(np.array([[0]]), np.array([[1.0]]), np.ones(2)), "each of 1 states"),
        (lambda: t.BranchingModel(np.array([0]), np.array([1.0]), ONE), "same 2 axes"),
        (lambda: t.random_model(rng(), states=2, branches=3), "must not exceed"),
        (lambda: t.random_model(0), "numpy.random.Generator"),
        (lambda: t.tree_nodes(0, 3), "branches must be at least 1"),
        (lambda: t.merge_futures(HAND, 2, 3), "state below 2"),
        (lambda: t.merge_futures(HAND, 0, 0), "horizon must be at least 1"),
        (lambda: t.merge_futures("model", 0, 1), "must be a BranchingModel"),
        (lambda: t.enumerate_futures(HAND, 0, 60), "about 10\\^18 nodes, over the budget"),
        (lambda: t.enumerate_futures(HAND, 0, 30), "2,147,483,646 nodes"),
        (lambda: t.sample_futures(HAND, 0, 3, None), "numpy.random.Generator"),
        (lambda: t.sample_futures(HAND, 0, 3, rng(), rollouts=0), "rollouts must be at least 1"),
        (lambda: t.sampling_error(HAND, rng(), repeats=1), "repeats must be at least 2"),
        (lambda: t.cost_curve(HAND, rng(), max_seconds=0), "max_seconds must be above 0"),
        (lambda: t.cost_growth(pd.DataFrame({"method": []})), "lacks the columns"),
        (lambda: t.cost_growth(costs_of((2,)).head(2)), "at least 3"),
        (lambda: t.cost_verdict([], pd.DataFrame(columns=["horizon", "rms", "limit"])), "all three methods"),
        (lambda: t.lock_by_sampling(rng(), rollouts=0), "rollouts must be at least 1"),
        (lambda: t.plan_merged(HAND, 0, 1), "must be a DecisionModel"),
        (lambda: t.plan_enumerated(t.random_decisions(rng()), 0, 20), "over the budget"),
        (
            lambda: t.plan_sparsely(t.random_decisions(rng()), 0, 2, rng(), width=0),
            "width must be at least 1",
        ),
        (lambda: t.plan_merged(t.random_decisions(rng()), 0, 2, 1.5), "gamma must be a probability"),
        (lambda: plots.plot_cost(costs_of((2,)).query("method != 'enumeration'")), "hold no enumeration"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_plots():
    figure = plots.plot_cost(costs_of())
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["all paths, b = 2", "all paths, b = 5", "merged states", "Monte Carlo"]
    errors = t.sampling_error(HAND, rng(), horizons=[1, 5], rollouts=[10, 20], repeats=5)
    assert len(plots.plot_sampling_error(errors).axes[0].get_legend().get_texts()) == 2
    locks = t.lock_by_sampling(rng(), horizons=[1, 5], rollouts=20, repeats=10)
    assert "share" in plots.plot_lock(locks).axes[0].get_ylabel()
    assert len(plots.plot_planning(t.planning_costs(rng(), longest=3)).axes[0].get_lines()) == 3
