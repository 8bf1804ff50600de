"""The unrolled loss: values and gradients by hand, where the half goes, masks, Adam, averages, the consistency loss."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from one_step_trap.errors import BookError
from one_step_trap.muzero.learning import (
    Adam,
    ConsistencyHeads,
    Learner,
    LearningSettings,
    TensorBatch,
    consistency,
    half_gradient,
    to_tensors,
    unroll,
    unrolled_loss,
)
from one_step_trap.muzero.networks import Architecture, MuZeroNet, unit_scale
from one_step_trap.muzero.replay import Replay, Segment

SMALL = Architecture(3, 2, latent=5, hidden=8, value_bins=5, value_low=-10, value_high=10)
WIDER = Architecture(3, 2, latent=16, hidden=32, value_low=-10, value_high=10)


class LinearNet:
    """One number all the way: s⁰ = w o, s' = d s (the action does nothing), r = ρ s, v logits (0, ν s), p logits (0, π s)."""

    def __init__(self):
        values = {"w": 2.0, "d": 3.0, "rho": 5.0, "nu": 0.7, "pi": 0.4}
        self.p = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in values.items()}

    def represent(self, o):
        return self.p["w"] * o

    def action_rows(self, actions):
        return torch.zeros(*actions.shape, 1, dtype=torch.float64)

    def transition(self, states, rows):
        return states, self.p["d"] * states + rows

    def rewards(self, x):
        return self.p["rho"] * x.squeeze(-1)

    def predict(self, states):
        zero = torch.zeros_like(states)
        return torch.cat((zero, self.p["pi"] * states), -1), torch.cat((zero, self.p["nu"] * states), -1)


def linear_batch(K, *, reward=0.0, value=1.0, policy=1.0, weight=1.0):
    """One sample with o = 1, targets of 1 on the second place, and the masks given (reward target 0)."""
    one = torch.ones(1, dtype=torch.float64)
    second = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(K + 1, 1, 2)
    return TensorBatch(
        one[None],
        torch.zeros(K, 1, dtype=torch.int64),
        torch.zeros(K, 1, dtype=torch.float64),
        second,
        second,
        reward * one.expand(K, 1),
        policy * one.expand(K + 1, 1),
        value * one.expand(K + 1, 1),
        weight * one,
        None,
        None,
    )


WEIGHTS = LearningSettings(value_weight=1.0)


def number(tensor):
    return tensor.detach().item()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_half_is_one_half_and_the_value_unchanged():
    x = torch.tensor([1.5, -2.0], requires_grad=True)
    y = half_gradient(x)
    np.testing.assert_array_equal(y.detach(), x.detach())
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad.tolist() == [1.5, 2.5]
    mixed = x.detach().clone().requires_grad_(True)
    ((0.5 * mixed + 0.5 * mixed.detach()) * torch.tensor([3.0, 5.0])).sum().backward()
    assert mixed.grad.tolist() == x.grad.tolist()


@pytest.mark.parametrize("K", [1, 2, 5])
def test_the_loss_by_hand(K):
    # w = 2, d = 3: states 2·3ᵏ; log-sigmoid of .7 s (value) and .4 s (policy), rewards 5 s^{k-1} against 0
    s = 2.0 * 3.0 ** np.arange(K + 1)
    scale = np.array([1.0, *[1 / K] * K])
    losses = unrolled_loss(LinearNet(), linear_batch(K, reward=1.0, weight=0.5), WEIGHTS)
    assert number(losses.value) == pytest.approx(0.5 * (scale * -np.log(sigmoid(0.7 * s))).sum())
    assert number(losses.policy) == pytest.approx(0.5 * (scale * -np.log(sigmoid(0.4 * s))).sum())
    assert number(losses.reward) == pytest.approx(0.5 * ((5 * s[:-1]) ** 2 / 2 / K).sum())
    assert number(losses.total) == pytest.approx(number(losses.value + losses.policy + losses.reward))


@pytest.mark.parametrize("K", [1, 2, 5])
def test_gradients_by_hand_halved_along_the_states_and_nowhere_else(K):
    net = LinearNet()
    unrolled_loss(net, linear_batch(K, value=1.0, policy=0.0), WEIGHTS).total.backward()
    s = 2.0 * 3.0 ** np.arange(K + 1)
    scale = np.array([1.0, *[1 / K] * K])
    to_state = scale * -(1 - sigmoid(0.7 * s)) * 0.7  # ∂L/∂sᵏ by the head at k alone
    k = np.arange(K + 1)
    # the head's own parameter gets everything: ∂L/∂ν = Σ ∂ℓᵏ/∂(ν s) s, no half
    assert float(net.p["nu"].grad) == pytest.approx((scale * -(1 - sigmoid(0.7 * s)) * s).sum())
    # s⁰ hears of the loss at step k through k applications of d, halved each time
    assert float(net.p["w"].grad) == pytest.approx((to_state * (3.0 / 2.0) ** k).sum())
    # d: application j (making sʲ from sʲ⁻¹) hears of step k ≥ j through k - j more, each halved; its own output is not
    by_hand = sum(
        to_state[kk] * (3.0 / 2.0) ** (kk - j) * s[j - 1] for kk in range(1, K + 1) for j in range(1, kk + 1)
    )
    assert float(net.p["d"].grad) == pytest.approx(by_hand)


def test_the_reward_reaches_the_state_before_it_by_half():
    net = LinearNet()
    unrolled_loss(net, linear_batch(1, reward=1.0, value=0.0, policy=0.0), WEIGHTS).total.backward()
    # L = (ρ s⁰)²/2 with s⁰ = 2: ∂/∂ρ = ρ s² = 20; ∂/∂w = ρ² s · ½ = 25
    assert (float(net.p["rho"].grad), float(net.p["w"].grad)) == (20.0, 25.0)


def test_masks_take_away_their_parts_only():
    net = LinearNet()
    batch = linear_batch(3)
    mask = torch.tensor([[1.0], [0.0], [0.0], [0.0]], dtype=torch.float64)
    only_root = unrolled_loss(net, batch._replace(value_mask=mask, policy_mask=0 * mask), WEIGHTS)
    assert number(only_root.total) == pytest.approx(-np.log(sigmoid(1.4)))


def replay(K=6, seed=0):
    rng = np.random.default_rng(seed)
    r = Replay(400, 3, 2, unroll_max=K, gamma=0.9, n_step=4, value_range=(-10, 10))
    for i in range(12):
        T = int(rng.integers(1, 12))
        r.add(
            Segment(
                rng.normal(size=(T + 1, 3)),
                rng.integers(2, size=T),
                rng.uniform(-1, 1, T),
                rng.dirichlet([1, 1], size=T + 1),
                rng.uniform(-8, 8, T + 1),
                i % 3 != 0,
            ),
            rng,
        )
    return r


def test_the_fused_loss_against_a_plain_loop():
    """Every sample, step and head by itself, with torch's own functions and detach-mix."""
    net = MuZeroNet(SMALL, 1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    other = copy.deepcopy(net)
    batch = (
        replay()
        .sample(7, 4, np.random.default_rng(1))
        ._replace(weights=np.linspace(0.2, 1, 7, dtype=np.float32))
    )
    unrolled_loss(net, to_tensors(net, batch), LearningSettings()).total.backward()
    total = torch.zeros(())
    for b in range(7):
        s = other.represent(torch.from_numpy(batch.observations[b : b + 1]))
        for k in range(5):
            scale = float(batch.weights[b]) / 7 * (1.0 if k == 0 else 1 / 4)
            if k:
                action = torch.from_numpy(batch.actions[b, k - 1 : k])
                reward, s = other.dynamics(0.5 * s + 0.5 * s.detach(), action)
                total = total + scale * float(batch.reward_mask[b, k - 1]) * (
                    (reward[0] - float(batch.rewards[b, k - 1])) ** 2 / 2
                )
            p, v = other.predict(s)
            value = torch.from_numpy(SMALL.support.encode(batch.values[b, k])).float()
            total = total + scale * 0.25 * float(batch.value_mask[b, k]) * F.cross_entropy(v[0], value)
            policy = torch.from_numpy(batch.policies[b, k])
            total = total + scale * float(batch.policy_mask[b, k]) * F.cross_entropy(p[0], policy)
    total.backward()
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=2e-3, atol=2e-6, err_msg=name)


def test_what_is_masked_does_not_matter():
    net, r = MuZeroNet(SMALL, 1), replay()
    batch = r.sample(30, 5, np.random.default_rng(2))
    before = number(unrolled_loss(net, to_tensors(net, batch), WEIGHTS).total)
    rewards = np.where(batch.reward_mask > 0, batch.rewards, 9).astype(np.float32)
    values = np.where(batch.value_mask > 0, batch.values, 9)
    spoilt = batch._replace(rewards=rewards, values=values)
    assert (spoilt.rewards != batch.rewards).any()
    assert number(unrolled_loss(net, to_tensors(net, spoilt), WEIGHTS).total) == before


def test_adam_by_its_equations():
    start, rate, decay, clip = np.array([1.0, -2.0, 0.5, 3.0]), 0.1, 0.1, 30.0
    parameters = [
        torch.nn.Parameter(torch.tensor(x)) for x in (start[:3].reshape(3, 1).copy(), start[3:].copy())
    ]
    mine = Adam(parameters, weight_decay=decay, clip=clip)
    theta, m, v = start.copy(), np.zeros(4), np.zeros(4)
    clipped = 0
    for n in range(1, 21):
        g = 3 * (theta - n / 10) ** 2
        sum(((p - n / 10) ** 3).sum() for p in parameters).backward()
        clipped += np.linalg.norm(g) > clip
        g = g * min(1.0, clip / np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta * (1 - rate * decay)
        theta = theta - rate * (m / (1 - 0.9**n)) / (np.sqrt(v / (1 - 0.999**n)) + 1e-8)
        mine.step(rate)
        np.testing.assert_allclose(np.concatenate([p.detach().ravel() for p in parameters]), theta, rtol=1e-6)
    assert 0 < clipped < 20


def test_it_learns_a_batch_by_heart_and_averages_its_weights():
    settings = LearningSettings(updates=150, learning_rate=1e-2, ema=0.9)
    learner = Learner(MuZeroNet(WIDER, 0), settings)
    batch = replay().sample(16, 3, np.random.default_rng(0))
    rate = learner.learning_rate
    first = learner.update(batch)
    np.testing.assert_allclose(  # after the first update 1/10 of the weights before and 9/10 of those after
        learner.average.W_policy.numpy(), 0.9 * learner.net.W_policy.detach().numpy(), rtol=1e-5
    )
    for _ in range(149):
        last = learner.update(batch)
    assert float(last.reward) < 0.5 * float(first.reward)
    assert float(last.total) < 0.8 * float(first.total)
    assert (rate, learner.learning_rate) == (1e-2, pytest.approx(1e-3))


def test_an_interrupted_learner_goes_on_exactly():
    r, settings = replay(), LearningSettings(updates=20, consistency_weight=1.0)
    whole, first, second = (Learner(MuZeroNet(SMALL, s), settings, 0) for s in (0, 0, 1))
    draws = [r.sample(8, 2, np.random.default_rng(i), following=True) for i in range(10)]
    for batch in draws:
        whole.update(batch)
    for batch in draws[:4]:
        first.update(batch)
    second.restore(first.state(), 4)
    for batch in draws[4:]:
        second.update(batch)
    for name, vector in whole.state().items():
        assert torch.equal(vector, second.state()[name]), name
    for p, q in zip(whole.net.export(), second.net.export(), strict=True):
        np.testing.assert_array_equal(p, q)
    with pytest.raises(BookError, match="no state of this network"):
        Learner(MuZeroNet(Architecture(3, 3), 0), settings).restore(first.state(), 4)


def test_consistency_by_hand_and_its_stopped_gradient():
    net, heads = MuZeroNet(SMALL, 0), ConsistencyHeads(5, 8, 0)
    o = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    states = unit_scale(torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))).requires_grad_(True)
    terms = consistency(net, heads, states, o)
    x, y = heads(states[1, 2]), heads.project(net.represent(o[1, 2]))
    assert number(terms[1, 2]) == pytest.approx(-number(x @ y / x.norm() / y.norm()), rel=1e-5)
    terms.sum().backward()
    assert states.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())  # nothing flows into the encoding of what came


def test_the_consistency_loss_brings_unrolled_and_encoded_states_together():
    rng = np.random.default_rng(
        0
    )  # a point on a circle, turned by ±.5 a step; nothing to predict but the place
    r = Replay(600, 3, 2, unroll_max=3, gamma=0.9, n_step=4, value_range=(-10, 10))
    for _ in range(20):
        actions = rng.integers(2, size=20)
        angle = rng.uniform(0, 7) + 0.5 * np.cumsum(np.append(0, 2 * actions - 1))
        seen = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
        r.add(Segment(seen, actions, np.zeros(20), np.full((21, 2), 0.5), 3 * seen[:, 0], False), rng)

    def distance(weight):
        settings = LearningSettings(updates=120, learning_rate=5e-3, consistency_weight=weight)
        learner, draw = Learner(MuZeroNet(WIDER, 0), settings), np.random.default_rng(1)
        for _ in range(120):
            learner.update(r.sample(32, 3, draw, following=True))
        t = to_tensors(learner.net, r.sample(200, 3, draw, following=True))
        with torch.no_grad():
            states, _ = unroll(learner.net, t.observations, t.actions)
            gap = (states[1:] - learner.net.represent(t.following)).norm(dim=-1)
        return float((gap * t.following_mask).sum() / t.following_mask.sum())

    with_it, without = distance(2.0), distance(0.0)
    assert with_it < 0.9 * without


def test_values_beyond_the_support_are_errors():
    batch = replay().sample(3, 1, np.random.default_rng(0))
    net = MuZeroNet(SMALL, 0)
    with pytest.raises(BookError, match="does not cover"):
        to_tensors(net, batch._replace(values=batch.values + 100))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearningSettings(updates=0), "updates"),
        (lambda: LearningSettings(learning_rate=0), "learning_rate"),
        (lambda: LearningSettings(ema=1.5), "ema"),
        (lambda: LearningSettings(value_weight=-1), "value_weight"),
        (lambda: Learner("net", LearningSettings()), "MuZeroNet"),
        (lambda: Learner(MuZeroNet(SMALL), 3), "LearningSettings"),
        (
            lambda: Learner(MuZeroNet(SMALL), LearningSettings(consistency_weight=1.0)).update(
                replay().sample(3, 1, np.random.default_rng(0))
            ),
            "following=True",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(BookError, match=message):
        make()
