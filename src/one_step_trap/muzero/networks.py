"""MuZero's three functions as small multilayer perceptrons, for PyTorch (training) and for NumPy (search).

With one hidden layer each, ReLU, and ``[·]`` for the scaling of a latent state to [0, 1] by its own minimum and maximum:

    representation   s⁰ = [W ReLU(V o + b) + c]                        from an observation o,
    dynamics         x = ReLU(V (s, onehot(a)) + b),   s' = [W x + c],   r = w·x + d,
    prediction       y = ReLU(V s + b),   policy logits W_p y + c_p,   value logits W_v y + c_v

(Schrittwieser et al. 2020, arXiv 1911.08265; the scaling is in its appendix G). The reward is one number, the value a
categorical distribution over the places of a `transforms.Support`. No part sees an observation after the first: what the
model knows of step k went through k applications of the dynamics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from one_step_trap.core.seeds import at_most
from one_step_trap.core.validate import (
    IntArray,
    check_count,
    check_positive,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.transforms import EPSILON, Support

Float32 = NDArray[np.float32]

SMALLEST_SPREAD = 1e-5
"""A latent state whose numbers lie closer together than this is divided by this instead of by their spread."""
TILT = 2.0
"""How fast the untrained value distribution falls, in logits a place, on both sides of the value 0."""


@dataclass(frozen=True)
class Architecture:
    """The sizes of a MuZero network.

    ``observation_size`` O numbers come in and ``actions`` A are to choose from; ``latent`` L is the size of a state,
    ``hidden`` H of all hidden layers. Values lie in [value_low, value_high] on ``value_bins`` places; rewards are
    learned in units of ``reward_scale``.
    """

    observation_size: int
    actions: int
    latent: int = 32
    hidden: int = 64
    value_bins: int = 21
    value_low: float = -100.0
    value_high: float = 100.0
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("observation_size", "actions", "hidden"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        object.__setattr__(self, "latent", check_count(self.latent, "latent", minimum=2))
        object.__setattr__(self, "reward_scale", check_positive(self.reward_scale, "reward_scale"))
        support = Support(self.value_low, self.value_high, check_count(self.value_bins, "value_bins"))
        for name in ("low", "high", "bins"):
            object.__setattr__(self, f"value_{name}", getattr(support, name))

    @property
    def support(self) -> Support:
        """The places of the categorical value."""
        return Support(self.value_low, self.value_high, self.value_bins)


class Weights(NamedTuple):
    """All weights as float32 arrays in C order; layers compute ``x @ W + b``, so that matrices are (inputs, outputs).

    O observation_size, H hidden, L latent, A actions, B value_bins. ``W_dynamics`` holds L rows for the state and then A
    rows for the actions, so that an action adds one row. The reward is in units of the environment (its scale is multiplied
    in). A value is ``inverse(softmax(logits) · places)`` with `transforms.inverse`.
    """

    W_observation: Float32
    """(O, H) first layer of the representation."""
    b_observation: Float32
    """(H,)"""
    W_encoding: Float32
    """(H, L) second layer of the representation; its output is scaled to [0, 1]."""
    b_encoding: Float32
    """(L,)"""
    W_dynamics: Float32
    """(L + A, H) first layer of the dynamics."""
    b_dynamics: Float32
    """(H,)"""
    W_next: Float32
    """(H, L) next state; its output is scaled to [0, 1]."""
    b_next: Float32
    """(L,)"""
    w_reward: Float32
    """(H,) reward of the step."""
    b_reward: Float32
    """(1,)"""
    W_prediction: Float32
    """(L, H) trunk of the prediction."""
    b_prediction: Float32
    """(H,)"""
    W_policy: Float32
    """(H, A) policy logits."""
    b_policy: Float32
    """(A,)"""
    W_value: Float32
    """(H, B) value logits."""
    b_value: Float32
    """(B,)"""
    places: Float32
    """(B,) places of the value's support in transformed units."""


class _UnitScale(torch.autograd.Function):
    """`unit_scale` with its gradient written out: a handful of operations instead of autograd's dozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        low, lowest = x.min(dim=-1, keepdim=True)
        high, highest = x.max(dim=-1, keepdim=True)
        spread = high - low
        divisor = spread.clamp_min(SMALLEST_SPREAD)
        scaled = (x - low) / divisor
        ctx.save_for_backward(scaled, lowest, highest, spread, divisor)
        return scaled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Return ``(g - [i = min] Σ g (1 - s) - [i = max] Σ g s) / spread`` (without the last term if the guard is on)."""
        scaled, lowest, highest, spread, divisor = ctx.saved_tensors
        g = grad / divisor
        upper = (g * scaled).sum(-1, keepdim=True) * (spread > SMALLEST_SPREAD)
        result: Tensor = g.scatter_add(-1, lowest, upper - g.sum(-1, keepdim=True))
        result.scatter_add_(-1, highest, -upper)
        return result


def unit_scale(x: Tensor) -> Tensor:
    """Return states (..., L) scaled to [0, 1] each: ``(x - min x) / max(max x - min x, 1e-5)``.

    A state whose numbers are all equal becomes 0, with gradients of finite size. Where several numbers share the minimum
    or the maximum, the gradient of it goes to the first one.
    """
    result = _UnitScale.apply(x)  # type: ignore[no-untyped-call]
    assert isinstance(result, Tensor)
    return result


def unit_scale_numpy(x: NDArray[Any]) -> NDArray[Any]:
    """Return the same as `unit_scale` in NumPy, in the precision of x."""
    low, high = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    return np.asarray((x - low) / np.maximum(high - low, x.dtype.type(SMALLEST_SPREAD)))


class MuZeroNet(nn.Module):
    """Representation, dynamics and prediction; weights are drawn from the ``seed``.

    Hidden weights are uniform in ±1/√inputs. The heads of policy and reward start at 0, and that of the value at a
    distribution concentrated at the value 0: an untrained network neither prefers an action nor promises anything.
    """

    def __init__(self, architecture: Architecture, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(architecture, Architecture):
            raise BookError(f"architecture must be an Architecture, got {short_repr(architecture)}")
        rng = torch.Generator().manual_seed(at_most(64, check_count(seed, "seed", minimum=0)))
        self.architecture = a = architecture
        self.W_observation, self.b_observation = _layer(a.observation_size, a.hidden, rng)
        self.W_encoding, self.b_encoding = _layer(a.hidden, a.latent, rng)
        self.W_dynamics, self.b_dynamics = _layer(a.latent + a.actions, a.hidden, rng)
        self.W_next, self.b_next = _layer(a.hidden, a.latent, rng)
        self.W_reward, self.b_reward = _layer(a.hidden, 1, None)
        self.W_prediction, self.b_prediction = _layer(a.latent, a.hidden, rng)
        self.W_policy, self.b_policy = _layer(a.hidden, a.actions, None)
        self.W_value, self.b_value = _layer(a.hidden, a.value_bins, None)
        places = torch.from_numpy(a.support.places)
        self.places = nn.Buffer(places.float(), persistent=False)
        with torch.no_grad():
            self.b_value.sub_(TILT * places.abs().float() / (places[1] - places[0]).float())

    def represent(self, observations: Tensor) -> Tensor:
        """Return states (..., L) of observations (..., O)."""
        return unit_scale(
            _two(observations, self.W_observation, self.b_observation, self.W_encoding, self.b_encoding)
        )

    def dynamics(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return rewards (B,) in units of ``reward_scale``, and next states (B, L), after actions (B,) in states (B, L)."""
        x, following = self.transition(states, self.action_rows(actions))
        return self.rewards(x), following

    def action_rows(self, actions: Tensor) -> Tensor:
        """Return what actions (...) add to the hidden layer of the dynamics (..., H): ``onehot(a) W``, and the bias."""
        return F.embedding(actions, self.W_dynamics[self.architecture.latent :]) + self.b_dynamics

    def transition(self, states: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden layer x (B, H) and the next states (B, L), given `action_rows` of the actions."""
        x = torch.addmm(rows, states, self.W_dynamics[: self.architecture.latent]).relu_()
        return x, unit_scale(torch.addmm(self.b_next, x, self.W_next))

    def rewards(self, x: Tensor) -> Tensor:
        """Return rewards (...) in units of ``reward_scale`` from the dynamics' hidden layer (..., H)."""
        return F.linear(x, self.W_reward.T, self.b_reward).squeeze(-1)

    def predict(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return policy logits (..., A) and value logits (..., bins) of states (..., L)."""
        y = F.linear(states, self.W_prediction.T, self.b_prediction).relu()
        return (
            F.linear(y, self.W_policy.T, self.b_policy),
            F.linear(y, self.W_value.T, self.b_value),
        )

    def values(self, value_logits: Tensor) -> Tensor:
        """Return values (...) of value logits (..., bins): ``h⁻¹(softmax(logits) · places)``."""
        y = value_logits.softmax(-1) @ self.places
        size = y.abs()
        excess = 2 * size / ((1 + 4 * EPSILON * (size + 1 + EPSILON)).sqrt() + 1 + 2 * EPSILON)
        return y.sign() * excess * (excess + 2)

    def export(self) -> Weights:
        """Return copies of all weights for the search; training on does not change them."""
        arrays = {name: p.detach().numpy().copy(order="C") for name, p in self.named_parameters()}
        scale = np.float32(self.architecture.reward_scale)
        arrays["w_reward"] = arrays.pop("W_reward")[:, 0] * scale
        arrays["b_reward"] = arrays["b_reward"] * scale
        return Weights(places=self.places.numpy().copy(), **arrays)


def _layer(inputs: int, outputs: int, rng: torch.Generator | None) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weights (inputs, outputs) and biases, uniform in ±1/√inputs (without rng: zeros)."""
    W, b = torch.zeros(inputs, outputs), torch.zeros(outputs)
    if rng is not None:
        W.uniform_(-(inputs**-0.5), inputs**-0.5, generator=rng)
        b.uniform_(-(inputs**-0.5), inputs**-0.5, generator=rng)
    return nn.Parameter(W), nn.Parameter(b)


def _two(x: Tensor, V: Tensor, b: Tensor, W: Tensor, c: Tensor) -> Tensor:
    """Return ``ReLU(x V + b) W + c``."""
    return F.linear(F.linear(x, V.T, b).relu_(), W.T, c)


def _rows(array: ArrayLike, width: int, name: str) -> Float32:
    """Return float32 rows (B, width), or an error."""
    try:
        rows = np.asarray(array, dtype=np.float32)
    except (TypeError, ValueError):
        raise BookError(f"{name} must be an array of numbers of shape (batch, {width})") from None
    if rows.ndim != 2 or rows.shape[1] != width:
        raise BookError(f"{name} must have shape (batch, {width}), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise BookError(f"{name} holds NaN or infinite values")
    return rows


def check_actions(actions: ArrayLike, batch: int, count: int) -> IntArray:
    """Return actions (batch,) in 0 .. count - 1 as int64, or an error."""
    array = np.asarray(actions)
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise BookError(f"actions must be {batch} whole numbers, got {array.dtype} of shape {array.shape}")
    if batch and (array.min() < 0 or array.max() >= count):
        raise BookError(f"actions must lie in 0 .. {count - 1}, got {array.min()} .. {array.max()}")
    return array.astype(np.int64)


class NetworkModel:
    """A network as the three functions that the search takes: NumPy in, NumPy out, batched.

    ``weights`` are a copy made when the model was made: search and model stay as they are when the network trains on.
    """

    def __init__(self, net: MuZeroNet) -> None:
        if not isinstance(net, MuZeroNet):
            raise BookError(f"net must be a MuZeroNet, got {short_repr(net)}")
        self.architecture = net.architecture
        self.weights = net.export()

    @property
    def actions(self) -> int:
        """The number of actions."""
        return self.architecture.actions

    def represent(self, observations: ArrayLike) -> Float32:
        """Return states (B, L) of observations (B, O)."""
        w, o = self.weights, _rows(observations, self.architecture.observation_size, "observations")
        x = np.maximum(o @ w.W_observation + w.b_observation, 0)
        return unit_scale_numpy(x @ w.W_encoding + w.b_encoding)

    def predict(self, states: ArrayLike) -> tuple[Float32, Float32]:
        """Return policy logits (B, A) and values (B,) of states (B, L)."""
        w, s = self.weights, _rows(states, self.architecture.latent, "states")
        y = np.maximum(s @ w.W_prediction + w.b_prediction, 0)
        logits = y @ w.W_value + w.b_value
        p = np.exp(logits - logits.max(-1, keepdims=True))
        z = (p @ w.places) / p.sum(-1)
        size = np.abs(z)
        excess = 2 * size / (np.sqrt(1 + 4 * EPSILON * (size + 1 + EPSILON)) + 1 + 2 * EPSILON)
        return y @ w.W_policy + w.b_policy, np.sign(z) * excess * (excess + 2)

    def dynamics(self, states: ArrayLike, actions: ArrayLike) -> tuple[Float32, Float32]:
        """Return rewards (B,) in units of the environment, and next states (B, L), after actions (B,) in states (B, L)."""
        w, L = self.weights, self.architecture.latent
        s = _rows(states, L, "states")
        a = check_actions(actions, len(s), self.architecture.actions)
        x = np.maximum(s @ w.W_dynamics[:L] + w.W_dynamics[L + a] + w.b_dynamics, 0)
        return x @ w.w_reward + w.b_reward[0], unit_scale_numpy(x @ w.W_next + w.b_next)
