"""World models: small neural networks that predict the next observation from this one and the action.

All of them predict the *change* of the observation in units of the data,

    ô_{t+1} = o_t + m + s · f_θ( (o_t - μ)/σ, (a_t - μ_a)/σ_a ),

with m and s the mean and standard deviation of the change, and f a perceptron with tanh units. A trained
`Network` is a function (observations (B, D), actions (B, A)) -> next observations (B, D), in NumPy and
float64. Iterating it is the reader's affair; this module holds what can be done about it in *training*:

- one step (`train`): the least squares fit of o_{t+1}, the model that the chapter is about;
- through k steps (`Training.unroll_steps`): the network is fed its own predictions k times, and the mean
  squared error over the depths 1..k is differentiated through all of them;
- Data as Demonstrator (`train_on_own_rollouts`): the one-step loss again, but on the states that the model
  itself visits, corrected towards the true next observation;
- a probabilistic ensemble (``probabilistic=True, members=5``) that knows what it does not know.

Training takes float64 numbers and one thread, and all randomness comes from one seed: the same call gives the
same network, whatever else the machine does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from one_step_trap.core.threads import one_thread
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_positive,
    check_probability,
    check_rng,
    in_a_line,
)
from one_step_trap.errors import BookError
from one_step_trap.trap.worlds import Trajectories, check_trajectories

Model = Callable[[FloatArray, FloatArray], ArrayLike]
"""A one-step world model, (observation (B, D), action (B, A)) -> next observation (B, D): a network of this module, a formula,
a simulator of your own. Float64 in, anything that NumPy reads as real out. Call it by `predict`."""


def predict(model: Model, observations: FloatArray, actions: FloatArray) -> FloatArray:
    """Return the model's next observations, (B, D) float64; a wrong shape or type is an error, NaN is not.

    The model gets copies, and so do we: it may change what it is given and use its own array again. Warnings of overflow
    inside it are silenced: a model that blows up is a finding, which its error shows.
    """
    if not callable(model):
        raise BookError(
            "the model must be callable: (observation (B, D), action (B, A)) -> next observation (B, D)"
        )
    with np.errstate(all="ignore"):
        answer = model(observations.copy(), actions.copy())
    try:
        result = np.asarray(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BookError(f"the model must return an array of numbers: {in_a_line(error)}") from None
    if result.dtype.kind not in "fiub":
        raise BookError(f"the model must return an array of real numbers, got {result.dtype} values")
    if result.shape != observations.shape:
        raise BookError(
            f"the model must return next observations of shape {observations.shape} for observations of that shape "
            f"and actions of shape {actions.shape}; it returned shape {result.shape}"
        )
    return result.astype(np.float64)


@dataclass(frozen=True)
class Training:
    """How a network is trained; the defaults suit small control problems.

    ``hidden`` units in each of ``layers`` layers; ``updates`` steps of Adam on ``batch`` windows each, with a
    ``learning_rate`` that falls to 0 along a cosine; ``unroll_steps`` k, the depth through which the
    network is trained on its own predictions; ``clip``, the largest norm of a gradient (through many steps
    a gradient can explode). ``warm_up``: the share of the updates, at the beginning, that go through one step
    only; a network that knows nothing yet learns little from fifty steps of its own nonsense.
    """

    hidden: int = 64
    layers: int = 2
    batch: int = 64
    updates: int = 4_000
    learning_rate: float = 3e-3
    unroll_steps: int = 1
    clip: float = 1.0
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        check_probability(self.warm_up, "warm_up")
        for name in ("hidden", "layers", "batch", "updates", "unroll_steps"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        for name in ("learning_rate", "clip"):
            object.__setattr__(self, name, check_positive(getattr(self, name), name))


BETA = 0.5
"""How much of a probabilistic network's likelihood is weighted by its own variance: see `train`."""


# --- the network ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Units:
    """Mean and standard deviation of observations (D,), actions (A,) and changes (D,) in the training data."""

    observation: tuple[FloatArray, FloatArray]
    action: tuple[FloatArray, FloatArray]
    change: tuple[FloatArray, FloatArray]

    @classmethod
    def of(cls, observations: FloatArray, actions: FloatArray, after: FloatArray) -> Units:
        """Return the units of transitions, each (N, ...)."""
        return cls(_moments(observations), _moments(actions), _moments(after - observations))


def _moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean and standard deviation of each column; 1 for a column that does not vary."""
    sd = x.std(0)
    return x.mean(0), np.where(sd > 1e-9 * np.abs(x).max(0), sd, 1.0)  # below that it is rounding


@dataclass(frozen=True)
class Network:
    """A trained world model: M members that share units; M = 1 is a plain network.

    ``weights`` (M, inputs, outputs) and ``biases`` (M, 1, outputs), one of each a layer. A probabilistic
    network has 2D outputs, means and log variances, and ``log_bounds`` (2, M, 1, D), the least and largest
    log variance. ``losses`` (updates,) is the training loss, mean over the members.
    """

    units: Units
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    log_bounds: FloatArray | None
    losses: FloatArray

    @property
    def members(self) -> int:
        """Networks in the ensemble, M."""
        return len(self.weights[0])

    @property
    def probabilistic(self) -> bool:
        """Whether the members predict a variance as well."""
        return self.log_bounds is not None

    def __call__(self, observations: ArrayLike, actions: ArrayLike) -> FloatArray:
        """Return the predicted next observations (B, D): the mean over the members' means."""
        return np.asarray(self.predict(observations, actions)[0].mean(0))

    def predict(self, observations: ArrayLike, actions: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return each member's mean and standard deviation of the next observation, two arrays (M, B, D).

        The standard deviation of a network that is not probabilistic is 0.
        """
        o, a = self._checked(observations, actions)
        core = _Core(self.units, *(list(map(torch.from_numpy, x)) for x in (self.weights, self.biases)))
        with one_thread(), torch.no_grad():
            z, u = core.scaled(o, a)
            M = self.members
            mean, log_var = core.path(z.expand(M, -1, -1), u.expand(1, M, -1, -1))
            after = mean[0].numpy() * self.units.observation[1] + self.units.observation[0]  # (M, B, D)
            if self.log_bounds is None:
                return after, np.zeros_like(after)
            spread = torch.exp(bounded(log_var[0], *torch.from_numpy(self.log_bounds)) / 2)
            return after, spread.numpy() * self.units.change[1]

    def sample(
        self,
        observations: ArrayLike,
        actions: ArrayLike,
        rng: np.random.Generator,
        *,
        member: ArrayLike | None = None,
    ) -> FloatArray:
        """Return next observations (B, D) drawn from the members' predictions.

        ``member`` (B,) says which member each row listens to: keep it through a rollout, and a trajectory
        believes one network (TS∞ of Chua et al. 2018); leave it out, and every call draws anew (TS1).
        """
        check_rng(rng)
        mean, sd = self.predict(observations, actions)
        B = mean.shape[1]
        chosen = rng.integers(self.members, size=B) if member is None else np.asarray(member)
        if chosen.shape != (B,) or not np.isin(chosen, np.arange(self.members)).all():
            raise BookError(f"member must hold {B} whole numbers from 0 to {self.members - 1}")
        rows = chosen.astype(np.int64), np.arange(B)
        return np.asarray(mean[rows] + sd[rows] * rng.standard_normal((B, mean.shape[2])))

    def _checked(self, observations: ArrayLike, actions: ArrayLike) -> tuple[FloatArray, FloatArray]:
        # NaN is let through (and comes out again): a rollout that has run away must not stop the others.
        try:
            o, a = np.asarray(observations, dtype=np.float64), np.asarray(actions, dtype=np.float64)
        except (TypeError, ValueError):
            raise BookError("observations and actions must be arrays of numbers") from None
        D, A = len(self.units.observation[0]), len(self.units.action[0])
        if o.ndim != 2 or a.ndim != 2 or o.shape[1] != D or a.shape[1] != A or len(o) != len(a):
            raise BookError(
                f"this model takes observations (B, {D}) and actions (B, {A}), got {o.shape} and {a.shape}"
            )
        return o, a


class _Core:
    """The arithmetic of a network in torch, in scaled units: z = (o - μ)/σ and u = (a - μ_a)/σ_a."""

    def __init__(self, units: Units, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        self.units, self.weights, self.biases = units, weights, biases
        (_, sd), (shift, gain) = units.observation, units.change
        self.shift, self.gain = torch.from_numpy(shift / sd), torch.from_numpy(gain / sd)  # (D,)

    def scaled(self, observations: FloatArray, actions: FloatArray) -> tuple[Tensor, Tensor]:
        """Return observations and actions in units of the data."""
        (mean, sd), (a_mean, a_sd) = self.units.observation, self.units.action
        return torch.from_numpy((observations - mean) / sd), torch.from_numpy((actions - a_mean) / a_sd)

    def path(self, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the open-loop predictions from z (M, B, D) under u (k, M, B, A), and raw log variances.

        Both (k, M, B, D); without a variance the second has no last axis. The share of the actions in the
        first layer does not depend on the predictions: it is computed for all depths at once.
        """
        D = z.shape[-1]
        first, *inner, last = self.weights
        first_b, *inner_b, last_b = self.biases
        drive = u @ first[:, D:] + first_b  # (k, M, B, hidden)
        first = first[:, :D]
        means, raws = [], []
        for pushed in drive.unbind(0):
            h = torch.tanh(torch.baddbmm(pushed, z, first))  # (M, B, hidden)
            for W, b in zip(inner, inner_b, strict=True):
                h = torch.tanh(torch.baddbmm(b, h, W))
            out = torch.baddbmm(last_b, h, last)  # (M, B, D or 2D)
            z = torch.addcmul(z + self.shift, out[..., :D], self.gain)
            means.append(z)
            raws.append(out[..., D:])
        return torch.stack(means), torch.stack(raws)


def bounded(log_var: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return log variances kept softly between two bounds (Chua et al. 2018, appendix A.1).

    ``high - softplus(high - x)``, then ``low + softplus(x - low)``: away from the data a free variance would
    run to 0 or to infinity.
    """
    log_var = high - torch.nn.functional.softplus(high - log_var)
    return low + torch.nn.functional.softplus(log_var - low)


# --- training ---------------------------------------------------------------------------------------------


def train(
    data: Trajectories,
    training: Training | None = None,
    *,
    seed: int,
    probabilistic: bool = False,
    members: int = 1,
) -> Network:
    """Return a network trained on real transitions.

    The loss of a window that starts at o_t is ``(1/k) Σ_{j=1..k} ‖(ô_{t+j} - o_{t+j}) / s‖² / D`` with ô_t =
    o_t, k = ``training.unroll_steps`` and s the standard deviation of a one-step change: for k = 1 ordinary
    least squares, for k > 1 the gradient runs back through the model's own predictions.

    ``probabilistic``: each member predicts a Gaussian (one step only), and the loss is its negative
    log-likelihood weighted by ``σ^(2β)``, β = 1/2, with no gradient through the weight (Seitzer et al. 2022,
    arXiv 2203.09168). Plain likelihood, β = 0, divides every error by the variance, so that a network need not
    learn what it has once called noise: in a pilot (Pendulum-v1, one seed, 2,000 updates) the error of its means
    was four to eight times that of least squares, and with β = 1/2 it was below.

    ``members`` > 1: every member has its own initial weights and its own bootstrap sample of the windows, and all
    are trained at once, by batched matrix products (as in PETS, Chua et al. 2018).

    Raises BookError if no episode has k steps or the data hold NaN inside an episode.
    """
    training, seed = _check_training(data, training, seed)
    members = check_count(members, "members")
    if not isinstance(probabilistic, bool):
        raise BookError(f"probabilistic must be True or False, got {probabilistic!r}")
    if probabilistic and training.unroll_steps > 1:
        raise BookError("a probabilistic network is trained through one step: use unroll_steps = 1")
    trainer = _Trainer(data, training, seed, members, probabilistic)
    trainer.run(training.updates)
    return trainer.network()


def train_on_own_rollouts(
    data: Trajectories, training: Training | None = None, *, seed: int, rounds: int = 4, depth: int = 5
) -> Network:
    """Return a one-step network that was also trained on the states it visits itself (Data as Demonstrator).

    Half of the training is that of `train` with one step. Then the data grow ``rounds`` times: the network is
    rolled out along the training episodes with the actions that were taken, ``depth`` steps from every
    ``depth``-th true state, and each predicted state becomes an input, (ô_t, a_t), whose target is the *true*
    o_{t+1}. So the network learns to come back to the trajectory from where its errors lead it. The number of
    updates is that of `train`: equal compute, apart from the rollouts.

    Far from its start a rollout is no small error but another trajectory, which the world would continue, and
    to call it back is to teach what is false. A ``depth`` beyond the reach of the one-step network spoils it
    (20 steps did on Pendulum-v1), and then the loss shows it.

    Source: Venkatraman, Hebert & Bagnell 2015, Improving multi-step prediction of learned time series
    models, algorithm 1 (there the model is fitted anew in each round, and the best one is chosen on held-out
    data; here one training goes on, and its end is taken).
    """
    training, seed = _check_training(data, training, seed)
    rounds, depth = check_count(rounds, "rounds"), check_count(depth, "depth", minimum=2)
    if training.unroll_steps != 1:
        raise BookError("data as demonstrator is the remedy with a one-step loss: use unroll_steps = 1")
    trainer = _Trainer(data, training, seed, 1, False)
    ends = np.linspace(training.updates / 2, training.updates, rounds + 1).round().astype(int)
    trainer.run(int(ends[0]))
    for updates in np.diff(ends):
        trainer.add_corrections(data, depth)
        trainer.run(int(updates))
    return trainer.network()


def _check_training(data: Trajectories, training: Training | None, seed: int) -> tuple[Training, int]:
    if not isinstance(data, Trajectories):
        raise BookError(
            f"data must be Trajectories (see collect and trajectories), got {type(data).__name__}"
        )
    if training is not None and not isinstance(training, Training):
        raise BookError(f"training must be a Training, got {training!r}")
    check_trajectories(data)
    return training or Training(), check_count(seed, "seed", minimum=0)


class _Trainer:
    """A training under way: the data in scaled units, the parameters, and Adam."""

    def __init__(
        self, data: Trajectories, training: Training, seed: int, members: int, probabilistic: bool
    ) -> None:
        self.training, self.members = training, members
        self.rng = np.random.default_rng(np.random.SeedSequence(seed))
        self.units = Units.of(*data.transitions())
        D, A = data.observation_size, data.action_size
        self.parameters = self._initial(
            (D + A, *[training.hidden] * training.layers, D * (1 + probabilistic))
        )
        half = len(self.parameters) // 2
        self.core = _Core(self.units, self.parameters[:half], self.parameters[half:])
        self.log_bounds: Tensor | None = None
        if probabilistic:  # learned, from these values: log variances in units of a one-step change
            start = torch.tensor([-10.0, 0.5], dtype=torch.float64)
            self.log_bounds = start[:, None, None, None].repeat(1, members, 1, D).requires_grad_()
        learned = self.parameters + ([] if self.log_bounds is None else [self.log_bounds])
        self.adam = torch.optim.Adam(learned, lr=training.learning_rate, fused=True)
        self.losses: list[float] = []
        self._load(data)

    def _initial(self, sizes: tuple[int, ...]) -> list[Tensor]:
        """Return weights with variance 1/inputs and biases of 0; members differ."""
        shapes = list(itertools.pairwise(sizes))
        weights = [self.rng.standard_normal((self.members, i, o)) / math.sqrt(i) for i, o in shapes]
        biases = [np.zeros((self.members, 1, o)) for _, o in shapes]
        return [torch.from_numpy(x).requires_grad_() for x in weights + biases]

    def _load(self, data: Trajectories) -> None:
        """Lay all episodes end to end, (N, D) and (N, A), and note where windows start."""
        k, (E, T) = self.training.unroll_steps, data.actions.shape[:2]
        padded = np.concatenate((data.actions, np.full((E, 1, data.action_size), np.nan)), axis=1)
        z, u = self.core.scaled(data.observations.reshape(E * (T + 1), -1), padded.reshape(E * (T + 1), -1))
        self.z, self.u = z, u
        episode, step = data.starts(k)
        starts = episode * (T + 1) + step  # (W,)
        self.starts: IntArray = np.tile(starts, (self.members, 1))  # (M, W)
        if self.members > 1:  # a bootstrap sample of the windows for each
            self.starts = starts[self.rng.integers(len(starts), size=self.starts.shape)]

    def add_corrections(self, data: Trajectories, depth: int) -> None:
        """Roll the network out along the data and add (own prediction, action) -> true next observation."""
        obs, act = corrections(self.network(), data, depth)
        z, u = self.core.scaled(obs.reshape(-1, obs.shape[2]), act.reshape(-1, act.shape[2]))
        first = len(self.z) + np.arange(0, len(z), 2)  # each correction is a window of one step: two rows
        self.z, self.u = torch.cat((self.z, z)), torch.cat((self.u, u))
        self.starts = np.concatenate((self.starts, first[None]), axis=1)

    def run(self, updates: int) -> None:
        """Make some updates; the learning rate goes on along its cosine over all updates of the training."""
        with one_thread():
            for _ in range(updates):
                done = len(self.losses) / self.training.updates
                for group in self.adam.param_groups:
                    group["lr"] = self.training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
                self.adam.zero_grad(set_to_none=True)
                k = 1 if done < self.training.warm_up else self.training.unroll_steps
                loss = self._loss(*self._batch(k))
                loss.backward()  # type: ignore[no-untyped-call]
                self._clip()
                self.adam.step()
                self.losses.append(float(loss.detach()) / self.members)

    def _batch(self, k: int) -> tuple[Tensor, Tensor]:
        """Return random windows of k steps for each member, time first: (k+1, M, B, D) and (k, M, B, A)."""
        drawn = self.rng.integers(self.starts.shape[1], size=(self.members, self.training.batch))
        first = torch.from_numpy(np.take_along_axis(self.starts, drawn, axis=1))  # (M, B)
        rows = first + torch.arange(k + 1)[:, None, None]  # (k+1, M, B)
        return self.z[rows], self.u[rows[:-1]]

    def _loss(self, z: Tensor, u: Tensor) -> Tensor:
        """Return the sum over the members of the mean loss over windows, depths and dimensions."""
        mean, raw = self.core.path(z[0], u)  # (k, M, B, D)
        error = ((mean - z[1:]) / self.core.gain) ** 2  # in units of a one-step change
        if self.log_bounds is None:
            return error.mean((0, 2, 3)).sum()
        log_var = bounded(raw, self.log_bounds[0], self.log_bounds[1])
        surprise = (error * torch.exp(-log_var) + log_var) * torch.exp(BETA * log_var.detach())
        loss = surprise.mean((0, 2, 3)).sum()
        # The last term keeps the bounds close to what the data need.
        return loss + 0.01 * (self.log_bounds[1] - self.log_bounds[0]).sum()

    def _clip(self) -> None:
        """Shorten each member's gradient to the largest norm allowed, so that members stay independent."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.stack([(g**2).sum((1, 2)) for g in gradients]).sum(0).sqrt()  # (M,)
        factor = torch.clamp(self.training.clip / (norm + 1e-12), max=1.0)[:, None, None]
        for g in gradients:
            g.mul_(factor)

    def network(self) -> Network:
        """Return the network as it is now."""
        arrays = [p.detach().numpy().copy() for p in self.parameters]
        half = len(arrays) // 2
        bounds = None if self.log_bounds is None else self.log_bounds.detach().numpy().copy()
        return Network(self.units, tuple(arrays[:half]), tuple(arrays[half:]), bounds, np.array(self.losses))


def corrections(model: Model, data: Trajectories, depth: int) -> tuple[FloatArray, FloatArray]:
    """Return (own prediction, true next observation), (C, 2, D), and the actions, (C, 2, A), second unused.

    The model is rolled out for ``depth`` steps from the true states 0, depth, 2 depth, ... of every episode;
    the first step of a rollout starts from the truth and corrects nothing.
    """
    episode, step = np.nonzero(
        (np.arange(data.actions.shape[1]) % depth == 0)
        & (np.arange(data.actions.shape[1]) < data.lengths[:, None])
    )
    if data.lengths.max() < 2:
        raise BookError("no episode has 2 steps: there is nothing to correct")
    state = data.observations[episode, step]
    found_obs, found_act = [], []
    for _ in range(depth - 1):
        state = predict(model, state, data.actions[episode, step])
        step = step + 1
        goes_on = step < data.lengths[episode]
        episode, step, state = episode[goes_on], step[goes_on], state[goes_on]
        found_obs.append(np.stack((state, data.observations[episode, step + 1]), axis=1))
        found_act.append(np.repeat(data.actions[episode, step][:, None], 2, axis=1))
    return np.concatenate(found_obs), np.concatenate(found_act)
