"""The search: a tree worked by hand, identities of the tree, and what it is asked for."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.muzero.divergence import unroll
from one_step_trap.muzero.networks import Architecture, MuZeroNet, NetworkModel
from one_step_trap.muzero.search import (
    CLOSEST,
    Node,
    SearchSettings,
    TabularModel,
    Tree,
    choose_actions,
    dirichlet_noise,
    most_visited,
    scores,
    search,
    visit_policy,
)

QUIET = SearchSettings(simulations=25, gamma=0.5)


def hand_tree():
    """State 0 leads to 1 (action 0, reward 1, value 2) or 2 (action 1, reward 0, value 6); 2 leads to 3, a loss of 2."""
    return TabularModel(
        rewards=[[1, 0], [0, 0], [-2, 0], [0, 0]],
        next_states=[[1, 2], [3, 3], [3, 3], [3, 3]],
        priors=[[0.6, 0.4], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]],
        values=[4, 2, 6, 0],
    )


def random_model(rng, states=30, actions=3):
    priors = rng.dirichlet(np.ones(actions), size=states)
    following = rng.integers(states, size=(states, actions))
    return TabularModel(rng.normal(size=(states, actions)), following, priors, rng.normal(size=states))


# --- by hand ----------------------------------------------------------------------------------------------


def exploration(n):
    return math.sqrt(n) * (1.25 + math.log((n + 19653) / 19652))


def test_four_simulations_worked_by_hand():
    found = search(hand_tree(), [[0]], SearchSettings(simulations=4, gamma=0.5), record=True)
    one, two, three, four = found.recordings[0].simulations

    # 1. Nothing was tried: the prior decides, at N(root) = 1. Q = 1 + .5 * 2 is the only one, so Q̄ = 0 afterwards.
    assert [(s.node, s.action) for s in one.steps] == [(0, 0)]
    np.testing.assert_allclose(one.steps[0].bonuses, [0.6 * exploration(1), 0.4 * exploration(1)])
    assert (one.reward, one.value, one.returns) == (1, 2, (2, 2))
    assert one.low == one.high == 2

    # 2. .6 * 1.768 / 2 = .530 against .4 * 1.768 = .707: the other action. Q = 0 + .5 * 6.
    np.testing.assert_allclose(two.steps[0].values, [0, 0])
    np.testing.assert_allclose(two.steps[0].bonuses, [0.5303, 0.7072], atol=1e-4)
    assert (two.steps[0].action, two.returns, two.low, two.high) == (1, (6, 3), 2, 3)

    # 3. Q = 2 and 3 become 0 and 1: action 1 again, and at its state a tie that the lower action wins. There Q = -2.
    np.testing.assert_allclose(three.steps[0].values, [0, 1])
    assert [(s.node, s.action) for s in three.steps] == [(0, 1), (2, 0)]
    np.testing.assert_allclose(three.steps[1].bonuses, [0.5 * exploration(1)] * 2)
    assert (three.returns, three.low, three.high) == ((0, -2, -1), -2, 3)

    # 4. V of state 2 is (6 - 2) / 2, its Q at the root 1: Q̄ = .8 and .6.
    np.testing.assert_allclose(four.steps[0].values, [0.8, 0.6])
    np.testing.assert_allclose(four.steps[0].bonuses, [0.7502, 0.3334], atol=1e-4)
    assert [(s.node, s.action) for s in four.steps] == [(0, 0), (1, 0)]
    assert four.returns == (0, 0, 1)

    assert found.visits.tolist() == [[2, 2]]
    np.testing.assert_allclose(found.q, [[1 + 0.5 * (2 + 0) / 2, 0.5 * (6 - 2) / 2]])
    np.testing.assert_allclose(found.root_values, [(4 + 2 + 3 - 1 + 1) / 5])
    assert found.plans.tolist() == [[0, 0]]
    assert (found.mean_depth[0], found.max_depth[0]) == (1.5, 2)
    assert found.actions.tolist() == [0]  # of equals the lowest


def test_normalisation_is_over_the_whole_tree_and_counts_the_reward():
    """normalize(r + γ V), as the paper; r + γ normalize(V), or siblings alone, would give other numbers."""
    root = Node(0, np.zeros(1), 0.0, 0.0, np.array([0.5, 0.5]), visits=4)
    for a, (reward, mean) in enumerate([(1.0, 2.0), (0.0, 5.0)]):
        root.children[a] = Node(a + 1, np.zeros(1), reward, mean, np.ones(2) / 2, visits=2, total=2 * mean)
    tree = Tree(root, np.ones(2, dtype=bool), low=-10.0, high=10.0)  # seen elsewhere in the tree
    values, bonuses = scores(tree, root, SearchSettings(gamma=0.8))
    np.testing.assert_allclose(values, [(1 + 0.8 * 2 + 10) / 20, (0.8 * 5 + 10) / 20])
    np.testing.assert_allclose(bonuses, 0.5 * exploration(4) / 3)


def test_equal_values_stay_equal():
    tree = Tree(
        Node(0, np.zeros(1), 0.0, 0.0, np.ones(2) / 2), np.ones(2, dtype=bool), low=3.0, high=3.0 + 1e-14
    )
    assert tree.normalise(3.0 + 1e-14) == pytest.approx(1e-14 / CLOSEST, abs=1e-6)


def test_a_smallest_range_keeps_small_differences_small():
    node = Node(0, np.zeros(1), 0.0, 0.0, np.ones(2) / 2)
    tree = Tree(node, np.ones(2, dtype=bool), low=3.0, high=3.5, smallest_range=10.0)
    assert [tree.normalise(q) for q in (3.0, 3.5)] == pytest.approx([0, 0.05])
    wide = Tree(node, np.ones(2, dtype=bool), low=0.0, high=40.0, smallest_range=10.0)
    assert wide.normalise(20.0) == pytest.approx(0.5)  # no more than the smallest range


def test_the_formula_of_the_papers_appendix():
    c1, c2, n = 2.0, 50.0, 17
    assert SearchSettings(c1=c1, c2=c2).exploration(n) == math.sqrt(n) * (c1 + math.log((n + c2 + 1) / c2))


def test_ties_go_to_the_lowest_action():
    model = TabularModel(np.zeros((1, 3)), np.zeros((1, 3)), np.full((1, 3), 1 / 3), [0.0])
    steps = search(model, [[0]], SearchSettings(simulations=4), record=True).recordings[0].simulations
    assert [s.steps[0].action for s in steps] == [0, 1, 2, 0]


# --- identities -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 40), st.sampled_from([0.3, 0.9, 1.0]))
def test_the_root_adds_up(seed, actions, simulations, gamma):
    model = random_model(np.random.default_rng(seed), actions=actions)
    found = search(model, [[0], [1]], SearchSettings(simulations=simulations, gamma=gamma))
    assert (found.visits.sum(axis=1) == simulations).all()
    np.testing.assert_allclose(found.policy.sum(axis=1), 1)
    returns = np.where(found.visits > 0, found.visits * found.q, 0).sum(axis=1)
    np.testing.assert_allclose(found.root_values, (model.values[:2] + returns) / (simulations + 1))
    assert np.isnan(found.q[found.visits == 0]).all()
    assert (found.max_depth <= simulations).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(-3, 6))
def test_the_scale_of_rewards_does_not_matter(seed, power):
    """Powers of 2, so that nothing is rounded differently."""
    model = random_model(np.random.default_rng(seed))
    k = 2.0**power
    scaled = TabularModel(k * model.rewards, model.next_states, model.priors, k * model.values)
    one, other = search(model, [[0]], QUIET), search(scaled, [[0]], QUIET)
    assert (one.visits == other.visits).all()
    np.testing.assert_allclose(other.root_values, k * one.root_values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_a_recording_replays_the_tree(seed, depth):
    model = random_model(np.random.default_rng(seed))
    chosen = SearchSettings(simulations=30, gamma=0.9, max_depth=depth)
    found = search(model, [[0]], chosen, record=True)
    (recording,) = found.recordings
    assert (search(model, [[0]], chosen).visits == found.visits).all()
    rewards, values, state = {0: 0.0}, {0: model.values[0]}, {0: 0}
    for simulation in recording.simulations:
        path = [step.node for step in simulation.steps] + [simulation.leaf]
        assert len(simulation.steps) <= depth
        parent, action = simulation.steps[-1].node, simulation.steps[-1].action
        state[simulation.leaf] = model.next_states[state[parent], action]
        rewards[simulation.leaf] = model.rewards[state[parent], action]
        values[simulation.leaf] = model.values[state[simulation.leaf]]
        assert (simulation.reward, simulation.value) == (rewards[simulation.leaf], values[simulation.leaf])
        for k, G in enumerate(simulation.returns):  # from the leaf up: Σ γᵗ r + γᵏ v, from the definition
            below = path[len(path) - k :]
            expected = sum(0.9**t * rewards[node] for t, node in enumerate(below)) + 0.9**k * values[path[-1]]
            assert pytest.approx(expected) == G
    assert len(rewards) == 1 + sum(simulation.grown for simulation in recording.simulations)


def test_a_search_with_the_true_values_finds_the_best_action():
    """Values are V*: no Q of the root exceeds Q*, and the best action gets most visits and nearly its Q*."""
    rng = np.random.default_rng(3)
    model, gamma = random_model(rng, states=12), 0.8
    for _ in range(500):
        best = model.rewards + gamma * model.values[model.next_states]  # (S, A)
        model.values = best.max(axis=1)
    model.priors = np.full_like(model.priors, 1 / 3)
    roots = np.arange(12)[:, None]
    found = search(model, roots, SearchSettings(simulations=400, gamma=gamma))
    assert (found.q <= best + 1e-9).all()
    assert (
        found.actions == best.argmax(axis=1)
    ).mean() > 0.9  # where two actions are worth almost the same, either
    reached = np.take_along_axis(best, found.actions[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(reached, model.values, atol=0.05)


def test_a_batch_is_its_searches_one_by_one():
    model = random_model(np.random.default_rng(0))
    together = search(model, [[0], [5], [7]], QUIET)
    for i, root in enumerate([0, 5, 7]):
        alone = search(model, [[root]], QUIET)
        assert (alone.visits[0] == together.visits[i]).all()
        assert alone.root_values[0] == together.root_values[i]
        assert alone.plans[0].tolist() == [a for a in together.plans[i] if a >= 0]


# --- depth, legal actions, noise --------------------------------------------------------------------------


def test_depth_one_is_a_bandit():
    found = search(random_model(np.random.default_rng(1)), [[2]], SearchSettings(simulations=30, max_depth=1))
    assert (found.max_depth[0], found.mean_depth[0], found.plans.shape) == (1, 1.0, (1, 1))
    model = random_model(np.random.default_rng(1))
    tried = found.visits[0] > 0
    np.testing.assert_allclose(
        found.q[0, tried], (model.rewards + 0.997 * model.values[model.next_states])[2, tried]
    )


def test_a_depth_that_no_path_reaches_changes_nothing():
    model = random_model(np.random.default_rng(1))
    free, capped = (search(model, [[0]], SearchSettings(simulations=20, max_depth=d)) for d in (None, 20))
    assert (free.visits == capped.visits).all()


def test_illegal_actions_are_not_tried_at_the_root_but_below():
    model = random_model(np.random.default_rng(2))
    legal = np.array([[True, False, True], [False, True, False]])
    found = search(model, [[0], [1]], QUIET, np.random.default_rng(0), legal=legal, record=True)
    assert (found.visits[~legal] == 0).all()
    assert (found.priors[~legal] == 0).all()
    np.testing.assert_allclose(found.priors.sum(axis=1), 1)
    below = [step.action for s in found.recordings[1].simulations for step in s.steps[1:]]
    assert set(below) == {0, 1, 2}
    same = search(model, [[0], [1]], QUIET, legal=[True, False, True])
    assert (same.visits[:, 1] == 0).all()


def test_noise_needs_a_generator_and_follows_it():
    model = random_model(np.random.default_rng(4))
    quiet = search(model, [[0]], QUIET)
    np.testing.assert_allclose(quiet.priors, model.priors[:1])
    noisy = [search(model, [[0]], QUIET, np.random.default_rng(7)) for _ in range(2)]
    assert (noisy[0].visits == noisy[1].visits).all()
    eta = np.random.default_rng(7).dirichlet([0.25] * 3)
    np.testing.assert_allclose(noisy[0].priors[0], 0.75 * model.priors[0] + 0.25 * eta)


def test_the_moments_of_the_noise():
    legal = np.tile([True, True, False, True], (4000, 1))
    noise = dirichlet_noise(legal, 0.3, np.random.default_rng(0))
    assert (noise[:, 2] == 0).all()
    np.testing.assert_allclose(noise.sum(axis=1), 1)
    np.testing.assert_allclose(noise[:, [0, 1, 3]].mean(axis=0), 1 / 3, atol=0.03)
    np.testing.assert_allclose(noise[:, 0].var(), (1 / 3) * (2 / 3) / (1 + 0.9), atol=0.01)
    assert np.isfinite(dirichlet_noise(legal[:50], 1e-4, np.random.default_rng(0))).all()


# --- choosing an action -----------------------------------------------------------------------------------


def test_temperature():
    np.testing.assert_allclose(visit_policy([[1, 3]]), [[0.25, 0.75]])
    np.testing.assert_allclose(visit_policy([[1, 3, 0]], 0.5), [[0.1, 0.9, 0]])
    assert visit_policy([[2, 3, 3]], 0).tolist() == [[0, 1, 0]]
    np.testing.assert_allclose(visit_policy([[10, 90]], 1e-6), [[0, 1]])
    np.testing.assert_allclose(visit_policy([[10, 90, 0]], 1e9), [[0.5, 0.5, 0]], atol=1e-6)


def test_actions_are_drawn_from_the_visits():
    drawn = choose_actions(np.tile([0, 1, 3], (4000, 1)), 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, [0, 0.25, 0.75], atol=0.03)
    assert (choose_actions([[5, 9, 1]] * 20, 0, np.random.default_rng(0)) == 1).all()


def test_most_visited():
    leaf = lambda n: Node(0, np.zeros(1), 0.0, 0.0, np.ones(2), visits=n)  # noqa: E731
    root = leaf(9)
    root.children = {1: leaf(4), 0: leaf(4)}
    root.children[0].children = {1: leaf(3)}
    assert most_visited(root) == [0, 1]


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"simulations": 0}, "simulations"),
        ({"simulations": 2.5}, "simulations"),
        ({"gamma": 0}, r"gamma must lie in \(0, 1\]"),
        ({"gamma": 1.01}, r"gamma must lie in \(0, 1\]"),
        ({"gamma": float("nan")}, "gamma"),
        ({"c1": 0}, "c1"),
        ({"c2": -1}, "c2"),
        ({"dirichlet_alpha": 0}, "dirichlet_alpha"),
        ({"dirichlet_fraction": 1.2}, "dirichlet_fraction"),
        ({"max_depth": 0}, "max_depth"),
    ],
)
def test_settings_of_nonsense(bad, message):
    with pytest.raises(BookError, match=message):
        SearchSettings(**bad)


class Broken:
    """A model of two states whose functions return what they are told."""

    def __init__(self, predict=None, dynamics=None):
        self.said, self.done = predict or ([[0.0, 0.0]], [0.0]), dynamics or ([0.0], [[0.0]])

    def represent(self, observations):
        return observations

    def predict(self, states):
        return self.said

    def dynamics(self, states, actions):
        return self.done


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Broken(predict=([[0.0, math.nan]], [0.0])), "policy logits of the model holds NaN"),
        (Broken(predict=([[0.0, 0.0]], [math.inf])), "values of the model"),
        (Broken(predict=([0.0, 0.0], [0.0])), "model.predict must return policy logits"),
        (Broken(predict=([[0.0, 0.0]], [[0.0]])), "model.predict must return policy logits"),
        (Broken(predict=3), "model.predict must return"),
        (Broken(dynamics=([math.inf], [[0.0]])), "rewards of the model"),
        (Broken(dynamics=([0.0], [[math.nan]])), "states of the model"),
        (Broken(dynamics=([0.0], [[0.0, 1.0]])), "model.dynamics must return rewards"),
        (Broken(dynamics=7), "model.dynamics must return"),
        (None, "has no predict"),
    ],
)
def test_a_model_of_nonsense(model, message):
    with pytest.raises(BookError, match=message):
        search(model, [[0.0]], QUIET)


# --- models of one's own -----------------------------------------------------------------------------------


W, U, ROOTS = (
    np.random.default_rng(i).normal(size=size) for i, size in enumerate([(4, 3), (3, 4, 4), (2, 4)])
)


class Fresh:
    """A model that makes every array anew."""

    def represent(self, observations):
        return np.array(observations)

    def predict(self, states):
        return states @ W, 0.1 * states.sum(1)

    def dynamics(self, states, actions):
        after = np.tanh(np.stack([U[a] @ s for a, s in zip(actions, states, strict=True)]))
        return 0.1 * after[:, 0], after


class Reused(Fresh):
    """The same, in arrays that are used again."""

    def __init__(self):
        self.kept = {}

    def again(self, name, array):
        kept = self.kept.setdefault((name, array.shape), np.empty(array.shape))
        kept[:] = array
        return kept

    def represent(self, observations):
        return self.again("states", observations)

    def predict(self, states):
        logits, values = super().predict(states)
        return self.again("logits", logits), self.again("values", values)

    def dynamics(self, states, actions):
        rewards, after = super().dynamics(states, actions)
        return self.again("rewards", rewards), self.again("states", after)


class InPlace(Fresh):
    """The same, changing what it is given."""

    def predict(self, states):
        answer = super().predict(states)
        states *= 0
        return answer

    def dynamics(self, states, actions):
        answer = super().dynamics(states, actions)
        states += 1
        actions[:] = 0
        return answer


@pytest.mark.parametrize("model", [Reused(), InPlace()], ids=["used again", "in place"])
def test_a_model_may_do_with_its_arrays_what_it_likes(model):
    roots, expected = ROOTS.copy(), search(Fresh(), ROOTS, SearchSettings(40), record=True)
    found = search(model, roots, SearchSettings(40), record=True)
    np.testing.assert_array_equal(roots, ROOTS)
    np.testing.assert_array_equal(found.visits, expected.visits)
    np.testing.assert_array_equal(found.q, expected.q)
    last = [[s.returns for s in r.simulations] for r in found.recordings]
    assert last == [[s.returns for s in r.simulations] for r in expected.recordings]


def test_unrolling_and_playing_keep_arrays_apart():
    observations, actions = ROOTS.copy(), np.array([[0, 1, 2], [2, 1, 0]])
    expected = unroll(Fresh(), ROOTS, actions)
    for model in (Reused(), InPlace()):
        found = unroll(model, observations, actions.copy())
        for name in expected._fields:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(observations, ROOTS)


def test_a_network_of_ones_own_class_is_asked_and_not_its_weights():
    class Turned(NetworkModel):
        def predict(self, states):
            logits, values = super().predict(states)
            return logits + np.array([0, 0, 9]), values

    net = MuZeroNet(Architecture(4, 3))
    roots = NetworkModel(net).represent(ROOTS)
    assert search(NetworkModel(net), roots, QUIET).backend == "compiled"
    patched = NetworkModel(net)
    patched.predict = Turned(net).predict
    for model in (Turned(net), patched):
        found = search(model, roots, QUIET)
        assert found.backend == "reference"
        assert (found.actions == 2).all()
        with pytest.raises(BookError, match="needs a model with weights"):
            search(model, roots, QUIET, backend="compiled")


def test_tensors_are_read_and_those_that_need_gradients_refused_in_one_line():
    class Torch(Fresh):
        needs = False

        def predict(self, states):
            weights = torch.nn.Parameter(torch.as_tensor(W), requires_grad=self.needs)
            return torch.as_tensor(states) @ weights, 0.1 * torch.as_tensor(states).sum(1)

    model = Torch()
    np.testing.assert_array_equal(search(model, ROOTS, QUIET).visits, search(Fresh(), ROOTS, QUIET).visits)
    model.needs = True
    with pytest.raises(BookError, match=r"^policy logits of the model must be an array of numbers: .*detach"):
        search(model, ROOTS, QUIET)


def test_what_a_model_raises_is_its_own_error():
    model = Fresh()
    model.dynamics = lambda states, actions: torch.nn.Linear(4, 4)(states)
    with pytest.raises(BookError, match=r"^model.dynamics failed \(TypeError\): linear") as error:
        search(model, ROOTS, QUIET)
    assert isinstance(error.value.__cause__, TypeError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roots": [0]}, "roots must be states of shape"),
        ({"roots": np.zeros((0, 1))}, "at least one"),
        ({"roots": [[math.nan]]}, "roots"),
        ({"roots": "x"}, "roots"),
        ({"roots": [[99]]}, "states must be numbers of states"),
        ({"settings": 50}, "settings must be SearchSettings"),
        ({"rng": 0}, "rng must be a numpy.random.Generator"),
        ({"backend": "fast"}, "backend must be one of auto, reference, compiled"),
        ({"backend": ["auto"]}, "backend must be one of"),
        ({"backend": "compiled"}, "needs a model with weights"),
        ({"threads": 0}, "threads"),
        ({"legal": [[False, False]]}, "root 0 has none"),
        ({"legal": [True]}, "legal must be booleans of shape"),
        ({"legal": [[1, 0]]}, "legal must be booleans"),
    ],
)
def test_a_search_of_nonsense(options, message):
    with pytest.raises(BookError, match=message):
        search(**({"model": hand_tree(), "roots": [[0]], "settings": QUIET} | options))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rewards": [1, 2]}, "rewards must have shape"),
        ({"next_states": [[0, 1]]}, "must have shape"),
        ({"next_states": [[0, 2], [0, 0]]}, "0 to 1"),
        ({"next_states": [[0, 0.5], [0, 0]]}, "numbers of states"),
        ({"priors": [[0.5, 0.6], [1, 0]]}, "sum to 1"),
        ({"values": [math.inf, 0]}, "values"),
    ],
)
def test_tables_of_nonsense(changed, message):
    tables = {"rewards": [[0, 0]] * 2, "next_states": [[0, 1]] * 2, "priors": [[1, 0]] * 2, "values": [0, 0]}
    TabularModel(**tables)
    with pytest.raises(BookError, match=message):
        TabularModel(**(tables | changed))


@pytest.mark.parametrize(
    ("visits", "temperature"),
    [([1, 2], 1), ([[0, 0]], 1), ([[1, -1]], 1), ([[1, 2]], -1), ([[1, 2]], "hot"), ([[]], 1)],
)
def test_no_policy_of_nonsense(visits, temperature):
    with pytest.raises(BookError):
        visit_policy(visits, temperature)
