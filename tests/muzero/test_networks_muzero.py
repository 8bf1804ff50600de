"""MuZero's networks: three implementations agree, the scaling of states and its gradient, the untrained network."""

import numpy as np
import pytest
import torch

from one_step_trap.errors import BookError
from one_step_trap.muzero.networks import (
    Architecture,
    MuZeroNet,
    NetworkModel,
    unit_scale,
    unit_scale_numpy,
)

SMALL = Architecture(4, 3, latent=6, hidden=10, value_bins=7, value_low=-5, value_high=20, reward_scale=4.0)


def randomised(architecture: Architecture, seed: int = 0) -> MuZeroNet:
    net = MuZeroNet(architecture, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return net


@pytest.fixture(scope="module")
def net() -> MuZeroNet:
    return randomised(SMALL)


def by_hand(net, o, a):
    """The module's equations in double precision, one sample: state, reward, next state, policy logits, value."""
    w = {name: p.detach().double().numpy() for name, p in net.named_parameters()}

    def scaled(x):
        return (x - x.min()) / (x.max() - x.min())

    s = scaled(np.maximum(o @ w["W_observation"] + w["b_observation"], 0) @ w["W_encoding"] + w["b_encoding"])
    x = np.maximum(np.concatenate([s, np.eye(SMALL.actions)[a]]) @ w["W_dynamics"] + w["b_dynamics"], 0)
    y = np.maximum(s @ w["W_prediction"] + w["b_prediction"], 0)
    logits = y @ w["W_value"] + w["b_value"]
    p = np.exp(logits - logits.max())
    reward = (x @ w["W_reward"] + w["b_reward"])[0] * SMALL.reward_scale
    following = scaled(x @ w["W_next"] + w["b_next"])
    return s, reward, following, y @ w["W_policy"] + w["b_policy"], SMALL.support.decode(p / p.sum())


def test_torch_numpy_and_the_equations_agree(net):
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(3, size=9)
    model = NetworkModel(net)
    states = model.represent(observations)
    rewards, following = model.dynamics(states, actions)
    logits, values = model.predict(states)
    with torch.no_grad():
        t = net.represent(torch.from_numpy(observations))
        r, f = net.dynamics(t, torch.from_numpy(actions))
        p, v = net.predict(t)
    for one, other in (
        (states, t), (rewards, r * SMALL.reward_scale), (following, f), (logits, p), (values, net.values(v)),
    ):  # fmt: skip
        np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-4, atol=1e-5)
    for i in range(9):
        for one, other in zip(
            (states[i], rewards[i], following[i], logits[i], values[i]),
            by_hand(net, observations[i].astype(float), actions[i]),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_states_span_zero_to_one_and_equal_numbers_are_guarded():
    x = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]], requires_grad=True)
    s = unit_scale(x)
    np.testing.assert_array_equal(s.detach(), [[0, 1, 0.5], [0, 0, 0]])
    np.testing.assert_array_equal(unit_scale_numpy(x.detach().numpy()), s.detach())
    s.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_the_written_gradient_is_that_of_autograd():
    x = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(unit_scale, x)
    tied = torch.tensor([[2.0, 2.0 + 1e-7, 2.0]], dtype=torch.float64, requires_grad=True)
    g = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    unit_scale(tied).backward(g)  # below the guard: s = (x - x₀) / 1e-5 with x₀ the minimum
    np.testing.assert_allclose(tied.grad, np.array([[1 - 7, 2, 4]]) / 1e-5)


def test_an_untrained_network_prefers_and_promises_nothing():
    for low, high in ((0, 333), (-100, 0), (-50, 50)):
        model = NetworkModel(MuZeroNet(Architecture(4, 2, value_low=low, value_high=high), 3))
        states = model.represent(np.random.default_rng(0).normal(size=(5, 4)))
        logits, values = model.predict(states)
        np.testing.assert_array_equal(logits, 0)
        assert np.abs(values).max() < 0.02 * (high - low)
        rewards, _ = model.dynamics(states, np.zeros(5, dtype=int))
        np.testing.assert_array_equal(rewards, 0)


def test_export_is_a_copy_in_float32_and_c_order(net):
    weights = net.export()
    before = weights.W_policy.copy()
    for array in weights:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
    other = randomised(SMALL)
    kept = other.export()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    np.testing.assert_array_equal(kept.W_policy, before)
    assert weights.W_dynamics.shape == (SMALL.latent + SMALL.actions, SMALL.hidden)


def test_the_seed_fixes_the_weights():
    for one, same, other in zip(*(MuZeroNet(SMALL, seed).export() for seed in (1, 1, 2)), strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.size < 10 or not one.any() or (one != other).any() or one.shape == (SMALL.value_bins,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: Architecture(0, 2), "observation_size"),
        (lambda m: Architecture(4, 2, latent=1), "latent"),
        (lambda m: Architecture(4, 2, value_low=3, value_high=3), "low < high"),
        (lambda m: Architecture(4, 2, reward_scale=0), "reward_scale"),
        (lambda m: MuZeroNet("net"), "Architecture"),
        (lambda m: NetworkModel("net"), "MuZeroNet"),
        (lambda m: m.represent(np.zeros((2, 5))), r"shape \(batch, 4\)"),
        (lambda m: m.represent([[1, 2], [3]]), "array of numbers"),
        (lambda m: m.represent(np.full((1, 4), np.nan)), "NaN"),
        (lambda m: m.dynamics(np.zeros((2, 6)), [0, 3]), "0 .. 2"),
        (lambda m: m.dynamics(np.zeros((2, 6)), [0.5, 1]), "whole numbers"),
        (lambda m: m.dynamics(np.zeros((2, 6)), [0]), "2 whole numbers"),
    ],
)
def test_bad_input(net, make, message):
    with pytest.raises(BookError, match=message):
        make(NetworkModel(net))
