"""How MuZero learns: the K-step unrolled loss, and the optimiser around it.

From an observation o_t the model is unrolled along the K actions that were really taken, s⁰ = h(o_t),
(rᵏ, sᵏ) = g(sᵏ⁻¹, a_{t+k-1}), and what it predicts on the way is compared with what the search and the environment said:

    L = ℓ⁰ + (1/K) Σ_{k=1}^{K} ℓᵏ,      ℓᵏ = w_r (rᵏ - u_{t+k})² / 2 + w_v CE(z_{t+k}, vᵏ) + w_p CE(π_{t+k}, pᵏ),

with n-step targets z as two-hot distributions, visit shares π, and no reward in ℓ⁰ (Schrittwieser et al. 2020,
arXiv 1911.08265, equation 1 and appendix G). The state is handed on with **half its gradient**, ``s → s/2 + stop(s)/2``, at
the start of each application of g, after the heads of that state have been attached: the loss at step k reaches s⁰ through
the states with the factor ``(1/2)ᵏ``, and no head loses anything. (The published pseudocode halves after each application
instead, so that s⁰ gets ``(1/2)ᵏ⁻¹``; we follow the text of the paper.)

`consistency` is EfficientZero's loss (Ye et al. 2021, arXiv 2111.00210), off by default: it ties the unrolled state to the
state encoded from the observation that really came.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from one_step_trap.core.seeds import at_most
from one_step_trap.core.validate import (
    check_count,
    check_positive,
    check_probability,
    check_real,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.networks import MuZeroNet, _layer
from one_step_trap.muzero.replay import Batch


@dataclass(frozen=True)
class LearningSettings:
    """How to learn.

    ``learning_rate`` of AdamW falls along a cosine to ``final_rate`` times itself over ``updates`` updates; ``weight_decay``;
    gradients are shortened to the norm ``clip``. The weights for evaluation are exponential moving averages that keep ``ema``
    of themselves at each update (fewer at the start: ``min(ema, n / (n + 9))`` at update n). ``reward_weight``,
    ``value_weight``, ``policy_weight`` and ``consistency_weight`` (0: off) weigh the losses.
    """

    updates: int = 5_000
    learning_rate: float = 1e-3
    final_rate: float = 0.1
    weight_decay: float = 1e-4
    clip: float = 5.0
    ema: float = 0.99
    reward_weight: float = 1.0
    value_weight: float = 0.25
    policy_weight: float = 1.0
    consistency_weight: float = 0.0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {"updates": check_count(self.updates, "updates")}
        for name in ("learning_rate", "clip"):
            checked[name] = check_positive(getattr(self, name), name)
        for name in ("final_rate", "ema"):
            checked[name] = check_probability(getattr(self, name), name)
        for name in ("weight_decay", "reward_weight", "value_weight", "policy_weight", "consistency_weight"):
            checked[name] = check_real(getattr(self, name), name)
            if checked[name] < 0:
                raise BookError(f"{name} must be at least 0, got {checked[name]:g}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)


class Losses(NamedTuple):
    """The parts of a loss: means over the batch, unweighted, ``1/K`` on unrolled steps included; and their weighted sum."""

    total: Tensor
    reward: Tensor
    value: Tensor
    policy: Tensor
    consistency: Tensor


class TensorBatch(NamedTuple):
    """A `replay.Batch` as tensors, steps first: (K, B, …) or (K + 1, B, …), values as two-hot distributions."""

    observations: Tensor
    """(B, O)"""
    actions: Tensor
    """(K, B)"""
    rewards: Tensor
    """(K, B) in units of the network's ``reward_scale``."""
    policies: Tensor
    """(K + 1, B, A)"""
    values: Tensor
    """(K + 1, B, bins)"""
    reward_mask: Tensor
    """(K, B)"""
    policy_mask: Tensor
    """(K + 1, B)"""
    value_mask: Tensor
    """(K + 1, B)"""
    weights: Tensor
    """(B,)"""
    following: Tensor | None
    """(K, B, O)"""
    following_mask: Tensor | None
    """(K, B)"""


def to_tensors(net: MuZeroNet, batch: Batch) -> TensorBatch:
    """Return a batch as tensors for ``net``; a value outside the network's support is an error."""
    a = net.architecture
    values = a.support.encode(batch.values).astype(np.float32)

    def turned(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.swapaxes(array, 0, 1)))

    return TensorBatch(
        torch.from_numpy(batch.observations),
        turned(batch.actions),
        turned(batch.rewards / np.float32(a.reward_scale)),
        turned(batch.policies),
        turned(values),
        turned(batch.reward_mask),
        turned(batch.policy_mask),
        turned(batch.value_mask),
        torch.from_numpy(batch.weights),
        None if batch.following is None else turned(batch.following),
        None if batch.following_mask is None else turned(batch.following_mask),
    )


class _Half(torch.autograd.Function):
    """`half_gradient` in one operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 0.5


def half_gradient(x: Tensor) -> Tensor:
    """Return x itself, whose gradient counts half: ``x/2 + stop(x)/2``."""
    result = _Half.apply(x)  # type: ignore[no-untyped-call]
    assert isinstance(result, Tensor)
    return result


def unroll(net: MuZeroNet, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states s⁰ … sᴷ (K + 1, B, L) and the rewards r¹ … rᴷ (K, B) along actions (K, B)."""
    states, hidden = [net.represent(observations)], []
    for rows in net.action_rows(actions).unbind():  # (B, H) of each step
        x, following = net.transition(half_gradient(states[-1]), rows)
        states.append(following)
        hidden.append(x)
    return torch.stack(states), net.rewards(torch.stack(hidden))


class ConsistencyHeads(nn.Module):
    """EfficientZero's projection P and predictor Q: two small networks that only learning uses."""

    def __init__(self, latent: int, hidden: int, seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(at_most(64, check_count(seed, "seed", minimum=0)))
        self.V_project, self.b_project = _layer(latent, hidden, rng)
        self.W_project, self.c_project = _layer(hidden, hidden, rng)
        self.V_predict, self.b_predict = _layer(hidden, hidden, rng)
        self.W_predict, self.c_predict = _layer(hidden, hidden, rng)

    def project(self, states: Tensor) -> Tensor:
        """Return P(s) (..., hidden) of states (..., L)."""
        x = F.linear(states, self.V_project.T, self.b_project).relu()
        return F.linear(x, self.W_project.T, self.c_project)

    def forward(self, states: Tensor) -> Tensor:
        """Return Q(P(s)) (..., hidden) of states (..., L)."""
        x = F.linear(self.project(states), self.V_predict.T, self.b_predict).relu()
        return F.linear(x, self.W_predict.T, self.c_predict)


def consistency(net: MuZeroNet, heads: ConsistencyHeads, states: Tensor, following: Tensor) -> Tensor:
    """Return ``-cos(Q(P(sᵏ)), stop(P(h(o_{t+k}))))`` (K, B) for unrolled states s¹ … sᴷ and what really came.

    ``states`` (K, B, L), ``following`` (K, B, O). No gradient goes into the encoding of the later observation.
    """
    with torch.no_grad():
        target = heads.project(net.represent(following))
    return -F.cosine_similarity(heads(states), target, dim=-1)


def unrolled_loss(
    net: MuZeroNet, batch: TensorBatch, settings: LearningSettings, heads: ConsistencyHeads | None = None
) -> Losses:
    """Return the losses of a batch as tensors with gradients (see the top of this module)."""
    states, rewards = unroll(net, batch.observations, batch.actions)
    policy_logits, value_logits = net.predict(states)
    K, B = batch.actions.shape
    per_step = batch.weights.expand(K, B) / (K * B)  # unrolled steps count 1/K, samples 1/B
    all_steps = torch.cat((batch.weights[None] / B, per_step))  # (K + 1, B)

    def cross_entropy(targets: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        return -((targets * logits.log_softmax(-1)).sum(-1) * (mask * all_steps)).sum()

    reward = ((rewards - batch.rewards).square() * (batch.reward_mask * per_step)).sum() / 2
    value = cross_entropy(batch.values, value_logits, batch.value_mask)
    policy = cross_entropy(batch.policies, policy_logits, batch.policy_mask)
    total = settings.reward_weight * reward + settings.value_weight * value + settings.policy_weight * policy
    similarity = torch.zeros(())
    if settings.consistency_weight:
        if heads is None or batch.following is None or batch.following_mask is None:
            raise BookError("the consistency loss needs its heads and a batch sampled with following=True")
        terms = consistency(net, heads, states[1:], batch.following)
        similarity = (terms * (batch.following_mask * per_step)).sum()
        total = total + settings.consistency_weight * similarity
    return Losses(total, reward, value, policy, similarity)


class Adam:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on one vector that holds all parameters, in a few operations.

    At step n, with gradient g shortened to the norm ``clip``: ``m = .9 m + .1 g``, ``v = .999 v + .001 g²`` and
    ``θ ← (1 - η λ) θ - η m̂ / (√v̂ + 1e-8)``, m̂ and v̂ divided by ``1 - .9ⁿ`` and ``1 - .999ⁿ``. The parameters become views
    of the vector ``flat``, and so do their gradients: PyTorch's own AdamW costs as much as a backward pass for small networks.
    """

    def __init__(self, parameters: list[nn.Parameter], weight_decay: float, clip: float) -> None:
        self.weight_decay, self.clip, self.steps = weight_decay, clip, 0
        self.flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient, self.first, self.second = (torch.zeros_like(self.flat) for _ in range(3))
        start = 0
        for p in parameters:
            own = slice(start, start + p.numel())
            p.data, p.grad = self.flat[own].view_as(p), self.gradient[own].view_as(p)
            start = own.stop

    def step(self, learning_rate: float) -> None:
        """Move the parameters, then forget the gradient."""
        self.steps += 1
        n, g, m, v = self.steps, self.gradient, self.first, self.second
        g.mul_((self.clip / (g.norm() + 1e-6)).clamp_max(1.0))
        m.lerp_(g, 0.1)
        v.mul_(0.999).addcmul_(g, g, value=0.001)
        self.flat.mul_(1 - learning_rate * self.weight_decay)
        root = v.sqrt().div_(math.sqrt(1 - 0.999**n)).add_(1e-8)
        self.flat.addcdiv_(m, root, value=-learning_rate / (1 - 0.9**n))
        g.zero_()


class Learner:
    """A network in training: AdamW, falling learning rate, clipped gradients, and averaged weights for evaluation.

    ``net`` is trained in place; ``average`` is its moving average. ``seed`` draws the heads of the consistency loss.
    """

    def __init__(self, net: MuZeroNet, settings: LearningSettings, seed: int = 0) -> None:
        if not isinstance(net, MuZeroNet):
            raise BookError(f"net must be a MuZeroNet, got {short_repr(net)}")
        if not isinstance(settings, LearningSettings):
            raise BookError(f"settings must be LearningSettings, got {short_repr(settings)}")
        self.net, self.settings, self.updates = net, settings, 0
        a = net.architecture
        self.heads = ConsistencyHeads(a.latent, a.hidden, seed) if settings.consistency_weight else None
        self.average = copy.deepcopy(net).requires_grad_(False)
        own = list(net.parameters())
        self._size = sum(p.numel() for p in own)
        self.optimiser = Adam(
            [*own, *(self.heads.parameters() if self.heads else ())], settings.weight_decay, settings.clip
        )
        self._averages = torch.cat([p.reshape(-1) for p in self.average.parameters()])
        start = 0
        for p in self.average.parameters():
            p.data = self._averages[start : start + p.numel()].view_as(p)
            start += p.numel()

    @property
    def learning_rate(self) -> float:
        """Return ``η (f + (1 - f) (1 + cos(π n / N)) / 2)`` at update n of N."""
        s = self.settings
        done = min(self.updates / s.updates, 1.0)
        return s.learning_rate * (s.final_rate + (1 - s.final_rate) * (1 + math.cos(math.pi * done)) / 2)

    def update(self, batch: Batch) -> Losses:
        """Make one update and return its losses (before the update, without gradients)."""
        losses = unrolled_loss(self.net, to_tensors(self.net, batch), self.settings, self.heads)
        losses.total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step(self.learning_rate)
        self.updates += 1
        keep = min(self.settings.ema, self.updates / (self.updates + 9))
        self._averages.lerp_(self.optimiser.flat[: self._size], 1 - keep)
        return Losses(*(part.detach() for part in losses))

    # --- checkpoints ---

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that changes during learning: vectors of weights, averages and both moments."""
        o = self.optimiser
        vectors = {"weights": o.flat, "average": self._averages, "first": o.first, "second": o.second}
        return {name: vector.clone() for name, vector in vectors.items()}

    def restore(self, vectors: dict[str, Tensor], updates: int) -> None:
        """Take over what `state` returned, after so many updates."""
        o = self.optimiser
        own = {"weights": o.flat, "average": self._averages, "first": o.first, "second": o.second}
        for name, vector in own.items():
            if (
                name not in vectors
                or vectors[name].shape != vector.shape
                or vectors[name].dtype != vector.dtype
            ):
                raise BookError(f"this is no state of this network: its vector {name} does not fit")
            vector.copy_(vectors[name])
        self.updates = o.steps = check_count(updates, "updates", minimum=0)
