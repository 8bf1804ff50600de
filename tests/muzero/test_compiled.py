"""The compiled search against the readable one: the same visits, and the same numbers to the last bit but one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.muzero import compiled
from one_step_trap.muzero.networks import Architecture, MuZeroNet, NetworkModel
from one_step_trap.muzero.search import SearchSettings, search


def network(seed, *, actions=2, latent=8, hidden=16, bins=21, spread=1.5, observation=4):
    """A network whose heads, which start at 0, say something; ``spread`` is the size of their weights."""
    rng, architecture = np.random.default_rng(seed), Architecture(observation, actions, latent, hidden, bins)
    model = NetworkModel(MuZeroNet(architecture, seed))
    heads = {
        name: (spread * rng.normal(size=getattr(model.weights, name).shape) / hidden**0.5).astype(np.float32)
        for name in ("w_reward", "W_policy", "W_value")
    }
    model.weights = model.weights._replace(**heads)
    return model


def roots_of(model, count, seed=0):
    observations = np.random.default_rng(seed).normal(size=(count, model.architecture.observation_size))
    return model.represent(observations)


def assert_same(one, other):
    assert (one.visits == other.visits).all()
    assert one.plans.tolist() == other.plans.tolist()
    assert (one.max_depth == other.max_depth).all()
    np.testing.assert_allclose(one.mean_depth, other.mean_depth)
    np.testing.assert_allclose(one.root_values, other.root_values, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one.q, other.q, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one.priors, other.priors, rtol=1e-12)


def both(model, roots, chosen, rng=None, **options):
    generators = [rng and np.random.default_rng(rng) for _ in range(2)]
    reference = search(model, roots, chosen, generators[0], backend="reference", **options)
    fast = search(model, roots, chosen, generators[1], backend="compiled", **options)
    assert (reference.backend, fast.backend) == ("reference", "compiled")
    assert_same(reference, fast)
    return fast


# --- the same search --------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.sampled_from([(8, 16), (3, 5), (32, 64), (17, 9), (2, 1)]),
    st.sampled_from([0.1, 1.5, 20.0]),
    st.sampled_from([0.5, 0.997, 1.0]),
    st.one_of(st.none(), st.integers(1, 4)),
    st.booleans(),
    st.sampled_from([1e-8, 0.5, 50.0]),
)
def test_any_network_any_settings(seed, actions, sizes, spread, gamma, depth, noise, smallest):
    model = network(
        seed, actions=actions, latent=sizes[0], hidden=sizes[1], bins=2 + seed % 30, spread=spread
    )
    chosen = SearchSettings(simulations=1 + seed % 40, gamma=gamma, max_depth=depth, smallest_range=smallest)
    legal = np.random.default_rng(seed).random((5, actions)) < 0.7
    legal[:, seed % actions] = True
    both(model, roots_of(model, 5, seed), chosen, 1 if noise else None, legal=legal)


def test_many_roots():
    for seed in range(6):
        model = network(seed, actions=2 + seed % 3, spread=0.3 + seed / 2)
        both(model, roots_of(model, 64, seed), SearchSettings())


def test_an_untrained_network_is_full_of_ties():
    """Its priors are uniform, its values equal: any difference in rounding would decide."""
    model = NetworkModel(MuZeroNet(Architecture(4, 3, 8, 16), seed=0))
    found = both(model, roots_of(model, 16), SearchSettings(simulations=60))
    assert found.visits.tolist() == [[20, 20, 20]] * 16
    lopsided = NetworkModel(MuZeroNet(Architecture(4, 2, 8, 16, value_low=-10, value_high=300), seed=0))
    both(lopsided, roots_of(lopsided, 16), SearchSettings(simulations=60))


def test_many_simulations():
    both(network(3), roots_of(network(3), 2), SearchSettings(simulations=400))


def test_auto_takes_the_compiled_one_and_records_with_the_reference():
    model, chosen = network(0), SearchSettings(simulations=10)
    roots = roots_of(model, 3)
    fast, recorded = search(model, roots, chosen), search(model, roots, chosen, record=True)
    assert (fast.backend, recorded.backend) == ("compiled", "reference")
    assert len(recorded.recordings) == 3
    assert_same(fast, recorded)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr(compiled, "cores", lambda: 3)
    compiled._pool.cache_clear()
    model = network(5)
    roots = roots_of(model, 31)
    results = [search(model, roots, threads=n) for n in (1, 2, 3, 64, None)]
    compiled._pool.cache_clear()
    for other in results[1:]:
        assert_same(results[0], other)
        assert (results[0].root_values == other.root_values).all()


def test_a_batch_is_its_searches_one_by_one():
    model = network(6)
    roots = roots_of(model, 9)
    together = search(model, roots)
    for i in range(9):
        alone = search(model, roots[i : i + 1])
        assert (alone.visits[0] == together.visits[i]).all()
        assert alone.root_values[0] == together.root_values[i]


def test_roots_of_any_kind_of_array():
    model = network(0)
    roots = roots_of(model, 6)
    frozen = roots.copy()
    frozen.flags.writeable = False
    for other in (roots.astype(np.float64), np.asfortranarray(roots), roots.tolist(), frozen):
        assert (search(model, other).visits == search(model, roots).visits).all()


# --- the same network -------------------------------------------------------------------------------------


def test_the_exponential():
    x = -np.geomspace(1e-8, 64, 2000)
    np.testing.assert_allclose(compiled._power_of_e(x), np.exp(x), rtol=1e-6, atol=1e-15)
    near = x[x > -8]
    np.testing.assert_allclose(compiled._power_of_e(near), np.exp(near), rtol=1e-11)
    assert [compiled._exp(v) for v in x[:50]] == compiled._power_of_e(x[:50]).tolist()


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 3), (8, 8), (21, 10), (64, 40)])
def test_affine(inputs, outputs):
    rng = np.random.default_rng(0)
    x, W, b = (rng.normal(size=s).astype(np.float32) for s in ((5, inputs), (inputs, outputs), (outputs,)))
    np.testing.assert_allclose(compiled.affine(x, W, b), x @ W + b, rtol=1e-4, atol=1e-5)
    alone = [compiled.affine(row[None], W, b)[0].tolist() for row in x]
    assert compiled.affine(x, W, b).tolist() == alone  # to the last bit


def test_three_ways_to_compute_one_network():
    model = network(2, actions=3, latent=11, hidden=13)
    steady, fast = compiled.SequentialModel(model.weights), compiled.CompiledNetwork(model.weights)
    observations = np.random.default_rng(1).normal(size=(50, 4))
    states = model.represent(observations)
    np.testing.assert_allclose(steady.represent(observations), states, atol=1e-5)
    logits, values = model.predict(states)
    for other in (steady, fast):
        np.testing.assert_allclose(other.predict(states)[0], logits, atol=1e-5)
        np.testing.assert_allclose(other.predict(states)[1], values, rtol=1e-4, atol=1e-4)
    assert [a.tolist() for a in steady.predict(states)] == [a.tolist() for a in fast.predict(states)]
    actions = np.arange(50) % 3
    for one, other in zip(steady.dynamics(states, actions), model.dynamics(states, actions), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_weights_that_change_are_noticed():
    model, other = network(0), network(1)
    roots = roots_of(model, 4)
    before = search(model, roots)
    for array, new in zip(model.weights, other.weights, strict=True):
        array[...] = new
    assert_same(search(model, roots), search(other, roots))
    assert (search(model, roots).visits != before.visits).any()


# --- bad input --------------------------------------------------------------------------------------------


def test_weights_of_nonsense():
    model = network(0)
    roots, w = roots_of(model, 2), model.weights
    changes = {
        "weights hold NaN or infinite values in W_next": {"W_next": np.full_like(w.W_next, np.nan)},
        "b_value must have shape": {"b_value": w.b_value[:3]},
        "W_prediction must have shape": {"W_prediction": w.W_prediction[:, :3]},
        "empty array": {"b_policy": w.b_policy[:0]},
        "overflow": {"w_reward": np.full_like(w.w_reward, 3e38)},
    }
    for message, change in changes.items():
        broken = network(0)
        broken.weights = w._replace(**change)
        with pytest.raises(BookError, match=message):
            search(broken, roots, backend="compiled")
        with pytest.raises(BookError, match="rewards of the model" if message == "overflow" else message):
            search(broken, roots, backend="reference")


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_roots_of_another_network(backend):
    with pytest.raises(BookError, match=r"states of this network have shape \(batch, 8\)"):
        search(network(0), np.zeros((2, 7)), backend=backend)


def test_only_the_reference_records():
    with pytest.raises(BookError, match="only the reference records"):
        search(network(0), roots_of(network(0), 1), backend="compiled", record=True)


@given(st.integers(1, 300), st.integers(1, 16))
def test_every_root_is_in_one_part_and_parts_get_no_larger(roots, workers):
    ends = compiled.shares(roots, workers)
    sizes = np.diff(ends)
    assert (ends[0], ends[-1]) == (0, roots)
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
    assert workers > 1 or len(sizes) == 1
