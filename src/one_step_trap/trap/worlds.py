"""Real data: trajectories of Gymnasium environments, under policies of several kinds.

A world model is learned from transitions (o_t, a_t, o_{t+1}) and judged on windows o_t, a_t, ..., o_{t+k}
of one episode. Two things are easily got wrong when such data are collected. A time limit ends an episode
without the world's having ended, so ``terminated`` is kept apart from ``truncated``. And a vector of
environments that resets itself hands back the first observation of the *next* episode: a pair across that
seam is no transition (`collect` drops it; the tests replay every episode in a single environment).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from one_step_trap.core.environments import Environment
from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    IntArray,
    check_count,
    check_probability,
    check_real,
    check_rng,
    in_a_line,
)
from one_step_trap.errors import BookError

MAX_ENVS = 16  # environments stepped side by side: enough to hide the cost of calling a policy
OPEN_END = 1_000  # steps after which an episode is cut where the environment itself has no time limit


# --- what an environment looks like to a model ------------------------------------------------------------


@dataclass(frozen=True)
class Spaces:
    """Sizes of the spaces of an environment, as a model sees them.

    ``name`` is the id under which the environment is registered, however ``env_id`` spells it. ``observation_size`` D,
    ``action_size`` A (a discrete action is one-hot), ``low`` and ``high`` (A,) the bounds of a continuous action (0 and 1
    for one-hot), ``start`` the first number of a discrete action, ``max_steps`` the environment's own time limit in steps
    (0 = it has none), ``dtype`` the type of an action as the environment takes it.
    """

    env_id: str
    name: str
    observation_size: int
    action_size: int
    discrete: bool
    low: FloatArray
    high: FloatArray
    start: int
    max_steps: int
    dtype: np.dtype[Any]

    def encode(self, actions: NDArray[Any]) -> FloatArray:
        """Return native actions, (B,) or (B, A), as a model sees them, (B, A)."""
        if self.discrete:
            return np.eye(self.action_size)[np.asarray(actions, dtype=np.int64) - self.start]
        return np.asarray(actions, dtype=np.float64)

    def decode(self, actions: FloatArray) -> NDArray[Any]:
        """Return native actions, (B,) or (B, A), from those of a model, (B, A): the inverse of `encode`."""
        native = actions.argmax(-1) + self.start if self.discrete else actions
        return np.asarray(native, dtype=self.dtype)


def check_env(env_id: str) -> Spaces:
    """Return the spaces of a Gymnasium environment, or say in one line why a world model cannot be learned.

    Observations must be a Box of one axis (a vector of numbers), actions Discrete or a Box of one axis.
    Raises BookError for an unknown id (with the nearest known ones), an environment whose package is missing,
    image or discrete observations, and other action spaces (MultiDiscrete, Tuple, Dict).
    """
    env = Environment(env_id)
    with contextlib.closing(env):
        return _spaces(env)


def _spaces(env: Environment) -> Spaces:
    env_id, seen, act = env.id, env.observation_space, env.action_space
    if not isinstance(seen, gymnasium.spaces.Box):
        raise BookError(
            f"{env_id} has observations of type {type(seen).__name__}: a world model here needs a vector of "
            "numbers (a Box of one axis, as in CartPole-v1)"
        )
    if len(seen.shape) != 1:
        raise BookError(
            f"{env_id} has observations of shape {seen.shape} (an image or a grid): a world model here needs "
            "a vector of numbers (a Box of one axis, as in CartPole-v1)"
        )
    D, limit = seen.shape[0], env.time_limit or 0
    if isinstance(act, gymnasium.spaces.Discrete):
        n = int(act.n)
        return Spaces(
            env_id, env.name, D, n, True, np.zeros(n), np.ones(n), int(act.start), limit, np.dtype(np.int64)
        )
    if isinstance(act, gymnasium.spaces.Box) and act.dtype.kind != "f":
        raise BookError(
            f"{env_id} has actions of type Box of {act.dtype}: a world model here needs Discrete actions or a Box of "
            "real numbers"
        )
    if isinstance(act, gymnasium.spaces.Box) and len(act.shape) == 1:
        low, high = (np.asarray(x, dtype=np.float64) for x in (act.low, act.high))
        dtype = np.dtype(env.action_dtype or np.float64)
        return Spaces(env_id, env.name, D, act.shape[0], False, low, high, 0, limit, dtype)
    raise BookError(
        f"{env_id} has actions of type {type(act).__name__}{getattr(act, 'shape', None) or ''}: a world model "
        "here needs Discrete actions or a Box of one axis"
    )


# --- policies that make data ------------------------------------------------------------------------------


class Policy(Protocol):
    """Choose actions: observations (B, D) and a generator in, native actions out, (B,) or (B, A).

    Row i always belongs to the same environment. A policy may keep a memory between calls; `collect` makes
    the named ones afresh for every data set.
    """

    def __call__(self, observations: FloatArray, rng: np.random.Generator, /) -> NDArray[Any]:
        """Return one action for each row of ``observations``."""


def uniform_actions(spaces: Spaces, rng: np.random.Generator, n: int) -> NDArray[Any]:
    """Return n actions drawn uniformly, native, (n,) or (n, A)."""
    if spaces.discrete:
        return rng.integers(spaces.action_size, size=n) + spaces.start
    with np.errstate(over="ignore", invalid="ignore"):
        bounded = np.isfinite(spaces.high - spaces.low).all()
    if not bounded:
        raise BookError(
            f"{spaces.env_id} has actions without bounds: a uniform policy needs bounds, give a policy"
        )
    return rng.uniform(spaces.low, spaces.high, size=(n, spaces.action_size))


def _check_spaces(spaces: Spaces) -> None:
    if not isinstance(spaces, Spaces):
        raise BookError(f"spaces must be the Spaces that check_env returns, got a {type(spaces).__name__}")


def random_policy(spaces: Spaces) -> Policy:
    """Return the policy that draws every action uniformly and independently."""
    _check_spaces(spaces)
    return lambda observations, rng: uniform_actions(spaces, rng, len(observations))


def held_random(spaces: Spaces, hold: int = 10) -> Policy:
    """Return the policy that draws an action uniformly and holds it for ``hold`` steps.

    The same actions as `random_policy` at every single step, but far from the same states: a held push is not
    averaged away. Environments change their action at different times (phases are drawn once).
    """
    _check_spaces(spaces)
    hold = check_count(hold, "hold")
    actions, clock = np.zeros(0), np.zeros(0, dtype=np.int64)

    def policy(observations: FloatArray, rng: np.random.Generator) -> NDArray[Any]:
        nonlocal actions, clock
        B = len(observations)
        fresh = uniform_actions(spaces, rng, B)
        if len(clock) != B:
            actions, clock = fresh, rng.integers(hold, size=B)
        change = clock % hold == 0
        actions = np.where(change if spaces.discrete else change[:, None], fresh, actions)
        clock = clock + 1
        return actions

    return policy


def _cartpole(o: FloatArray) -> NDArray[Any]:
    """Push under the falling pole: linear feedback on position, velocity, angle and angular velocity."""
    return np.asarray(o @ np.array([0.1, 0.4, 3.0, 1.0]) > 0, dtype=np.int64)


def _pendulum(o: FloatArray) -> NDArray[Any]:
    """Pump energy towards that of the upright rest, and hold once near the top.

    With m = l = 1 and g = 10 the energy is E = θ'²/6 + 5 cos θ (inertia 1/3, centre of mass at 1/2); the
    torque θ' (5 - E) raises a low energy and lowers a high one (Åström & Furuta 2000).
    """
    cos, sin, speed = o.T
    pump = 2.0 * speed * (5.0 - (speed**2 / 6 + 5 * cos))
    pump = np.where(np.abs(speed) < 0.05, 2.0, pump)  # at rest nothing pumps: give it a push
    hold = -12.0 * np.arctan2(sin, cos) - 3.0 * speed
    return np.clip(np.where(cos > 0.9, hold, pump), -2, 2)[:, None]


def _along_velocity(o: FloatArray) -> NDArray[Any]:
    """Push a mountain car the way it moves: o = (position, velocity)."""
    return np.asarray(np.where(o[:, 1] >= 0, 1.0, -1.0))


def _acrobot(o: FloatArray) -> NDArray[Any]:
    """Torque against the first joint's velocity: the elbow pumps the swing. o[4] is that velocity."""
    return np.where(o[:, 4] > 0, 0, 2)


SCRIPTS: dict[str, Callable[[FloatArray], NDArray[Any]]] = {
    "CartPole-v1": _cartpole,
    "Pendulum-v1": _pendulum,
    "MountainCarContinuous-v0": lambda o: _along_velocity(o)[:, None],
    "MountainCar-v0": lambda o: _along_velocity(o).astype(np.int64) + 1,
    "Acrobot-v1": _acrobot,
}


def scripted(spaces: Spaces, epsilon: float = 0.3) -> Policy:
    """Return the controller written for this environment, with a uniform action in a share ε of the steps.

    The noise is what lets a model learn what actions do. Environments with a script: see ``SCRIPTS``.
    """
    _check_spaces(spaces)
    epsilon = check_probability(epsilon, "epsilon")
    if spaces.name not in SCRIPTS:
        raise BookError(f"no scripted policy for {spaces.env_id}: there is one for {', '.join(SCRIPTS)}")
    control = SCRIPTS[spaces.name]

    def policy(observations: FloatArray, rng: np.random.Generator) -> NDArray[Any]:
        chosen, noise = control(observations), uniform_actions(spaces, rng, len(observations))
        explore = rng.random(len(observations)) < epsilon
        return np.where(explore if spaces.discrete else explore[:, None], noise, chosen)

    return policy


POLICIES: dict[str, Callable[[Spaces], Policy]] = {
    "random": random_policy,
    "held": held_random,
    "scripted": scripted,
}


def make_policy(policy: str | Policy, spaces: Spaces) -> Policy:
    """Return a policy by its name (``random``, ``held``, ``scripted``), or the callable given, unchanged."""
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise BookError(f"policy must be one of {', '.join(POLICIES)} or a callable, got {policy!r}")
        return POLICIES[policy](spaces)
    if not callable(policy):
        raise BookError(f"policy must be one of {', '.join(POLICIES)} or a callable, got {policy!r}")
    return policy


def act(policy: Policy, spaces: Spaces, observations: FloatArray, rng: np.random.Generator) -> NDArray[Any]:
    """Return the native actions of a policy, in the shape and type that the environment takes, or raise.

    The policy gets a copy of the observations, and what it returns is copied: it may change and use again what it likes.
    """
    answer = policy(observations.copy(), rng)
    n = len(observations)
    shape = (n,) if spaces.discrete else (n, spaces.action_size)
    try:
        result = np.asarray(answer)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors that need gradients
        raise BookError(f"the policy must return numbers of shape {shape}: {in_a_line(error)}") from None
    if result.shape != shape or not np.issubdtype(result.dtype, np.number):
        raise BookError(
            f"the policy must return numbers of shape {shape}, got shape {result.shape} of {result.dtype}"
        )
    if not np.isfinite(result).all():
        raise BookError("the policy returned an action that is NaN or infinite")
    if not spaces.discrete:
        # The model sees what the world sees: an action beyond the bounds is clipped, and rounded, before both.
        return np.asarray(np.clip(result.astype(np.float64), spaces.low, spaces.high).astype(spaces.dtype))
    whole = result.astype(np.int64)
    if (whole != result).any() or not (
        (whole >= spaces.start) & (whole < spaces.start + spaces.action_size)
    ).all():
        last = spaces.start + spaces.action_size - 1
        raise BookError(f"the policy must return whole actions from {spaces.start} to {last}")
    return whole


# --- trajectories -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trajectories:
    """Episodes of one environment, padded with NaN to the longest: E episodes of at most T steps.

    ``observations`` (E, T+1, D), ``actions`` (E, T, A) as a model sees them (one-hot for Discrete),
    ``lengths`` (E,) steps of each episode, ``terminated`` (E,) whether the world itself ended (an episode
    that is not terminated was cut: by a time limit, or because enough data were there).
    """

    env_id: str
    observations: FloatArray
    actions: FloatArray
    lengths: IntArray
    terminated: BoolArray

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Number of transitions."""
        return int(self.lengths.sum())

    @property
    def observation_size(self) -> int:
        """Numbers in an observation, D."""
        return int(self.observations.shape[2])

    @property
    def action_size(self) -> int:
        """Numbers in an action as a model sees it, A."""
        return int(self.actions.shape[2])

    def scale(self) -> FloatArray:
        """Return the standard deviation of each dimension of the observations, (D,).

        A dimension that never changes gets 1, so that an error can be divided by it.
        """
        x = self.observations[np.arange(self.observations.shape[1]) <= self.lengths[:, None]]  # (N + E, D)
        return np.where(np.ptp(x, axis=0) > 0, x.std(axis=0), 1.0)

    def transitions(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return (observations (N, D), actions (N, A), next observations (N, D)) of all episodes in order."""
        obs, act = self.windows(1)
        return obs[:, 0], act[:, 0], obs[:, 1]

    def starts(self, unroll_steps: int) -> tuple[IntArray, IntArray]:
        """Return (episode, step) of every window of ``unroll_steps`` steps inside one episode, each (W,)."""
        k = check_count(unroll_steps, "unroll_steps")
        fits = np.arange(self.actions.shape[1]) + k <= self.lengths[:, None]  # (E, T)
        if not fits.any():
            raise BookError(
                f"no episode of {self.env_id} has {k} steps (the longest has {self.lengths.max(initial=0)}): "
                "use a smaller unroll_steps, or data whose episodes last longer"
            )
        episode, step = np.nonzero(fits)
        return episode.astype(np.int64), step.astype(np.int64)

    def windows(
        self, unroll_steps: int, *, starts: tuple[IntArray, IntArray] | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return (observations (W, k+1, D), actions (W, k, A)) of windows inside one episode, k = ``unroll_steps``.

        All windows, overlapping, in the order of `starts`; or those at the given ``starts`` only (which
        saves memory: all windows of 50 steps hold the data fifty times).
        """
        k = check_count(unroll_steps, "unroll_steps")
        episode, step = self.starts(k) if starts is None else starts
        steps = step[:, None] + np.arange(k + 1)  # (W, k+1)
        return self.observations[episode[:, None], steps], self.actions[episode[:, None], steps[:, :-1]]

    def observe(self, dimensions: Sequence[int]) -> Trajectories:
        """Return the same episodes with only some ``dimensions`` of the observation: a world half seen.

        Hiding the velocity of a pendulum, say, makes any model of the remaining observation misspecified:
        what is seen no longer determines what comes next.
        """
        if not isinstance(dimensions, Iterable):
            raise BookError(f"dimensions must be a list of whole numbers, got {dimensions!r}")
        kept = [check_count(d, "dimension", minimum=0) for d in dimensions]
        if not kept or len(set(kept)) != len(kept) or max(kept) >= self.observation_size:
            raise BookError(
                f"dimensions must be different numbers from 0 to {self.observation_size - 1}, got {list(dimensions)}"
            )
        return replace(self, observations=self.observations[:, :, kept])

    def with_noise(self, sd: float, rng: np.random.Generator) -> Trajectories:
        """Return the same episodes as a noisy sensor sees them.

        Every number of an observation gets independent Gaussian noise of ``sd`` standard deviations of its
        dimension (see `scale`). The world does not feel the noise; the next observation is noisy anew.
        """
        sd, rng = check_real(sd, "sd"), check_rng(rng)
        if sd < 0:
            raise BookError(f"sd must not be negative, got {sd:g}")
        noise = sd * self.scale() * rng.standard_normal(self.observations.shape)
        return replace(self, observations=self.observations + noise)

    def stack(self, frames: int) -> Trajectories:
        """Return the same episodes with the last ``frames`` observations, newest first, as one observation.

        The usual way to give a one-step model a memory. Episodes start ``frames`` - 1 steps later, and those
        with fewer steps are left out.
        """
        frames = check_count(frames, "frames")
        chosen = np.flatnonzero(self.lengths >= frames)
        if not len(chosen):
            raise BookError(f"no episode has the {frames} steps that {frames} frames need")
        kept, T = self.episodes(chosen), self.observations.shape[1]
        seen = [
            kept.observations[:, frames - 1 - i : T - i] for i in range(frames)
        ]  # each (E, T+2-frames, D)
        stacked = np.concatenate(seen, axis=2)
        lengths = kept.lengths - (frames - 1)
        stacked[np.arange(stacked.shape[1]) > lengths[:, None]] = np.nan
        return replace(kept, observations=stacked, actions=kept.actions[:, frames - 1 :], lengths=lengths)

    def episodes(self, chosen: Sequence[int] | IntArray | slice) -> Trajectories:
        """Return only the episodes with these numbers."""
        return replace(
            self,
            observations=self.observations[chosen],
            actions=self.actions[chosen],
            lengths=self.lengths[chosen],
            terminated=self.terminated[chosen],
        )


def trajectories(
    env_id: str,
    observations: Sequence[ArrayLike],
    actions: Sequence[ArrayLike],
    terminated: Iterable[bool] | None = None,
) -> Trajectories:
    """Return checked episodes from lists of your own, one array an episode.

    ``observations[e]`` (T_e + 1, D) and ``actions[e]`` (T_e, A), finite numbers; episodes may differ in
    length. ``terminated`` says which episodes the world ended (none, if not given).
    """
    for name, values in (("observations", observations), ("actions", actions)):
        if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
            raise BookError(f"{name} must be a list of arrays, one an episode, got a {type(values).__name__}")
    if terminated is not None and not isinstance(terminated, Iterable):
        raise BookError(f"terminated must be a list of True and False, one an episode, got {terminated!r}")
    if len(observations) != len(actions) or not len(actions):
        raise BookError(
            f"every episode needs observations and actions: got {len(observations)} and {len(actions)} of them"
        )
    obs = [_matrix(x, f"the observations of episode {e}") for e, x in enumerate(observations)]
    act = [_matrix(x, f"the actions of episode {e}") for e, x in enumerate(actions)]
    for e, (o, a) in enumerate(zip(obs, act, strict=True)):
        if len(o) != len(a) + 1 or not len(a):
            raise BookError(
                f"episode {e} needs one observation more than actions, and an action: got {len(o)} and {len(a)}"
            )
        if o.shape[1] != obs[0].shape[1] or a.shape[1] != act[0].shape[1]:
            raise BookError(f"episode {e} has other sizes of observation or action than episode 0")
    ended = np.zeros(len(act), dtype=bool) if terminated is None else np.array(list(terminated), dtype=bool)
    if len(ended) != len(act):
        raise BookError(f"terminated must say one thing for each of {len(act)} episodes, got {len(ended)}")
    lengths = np.array([len(a) for a in act], dtype=np.int64)
    return Trajectories(env_id, _padded(obs, lengths.max() + 1), _padded(act, lengths.max()), lengths, ended)


def _matrix(values: ArrayLike, name: str) -> FloatArray:
    try:
        result = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise BookError(f"{name} must be an array of numbers") from None
    if result.ndim != 2:
        raise BookError(f"{name} must have shape (steps, size), got {result.shape}")
    if not np.isfinite(result).all():
        raise BookError(f"{name} hold NaN or infinite values")
    return result


def _padded(episodes: Sequence[FloatArray], length: int) -> FloatArray:
    result = np.full((len(episodes), length, episodes[0].shape[1]), np.nan)
    for row, values in zip(result, episodes, strict=True):
        row[: len(values)] = values
    return result


def check_trajectories(data: Trajectories) -> Trajectories:
    """Return the trajectories if their arrays fit together and are finite inside the episodes, or raise."""
    x, a, lengths = data.observations, data.actions, data.lengths
    if (
        x.ndim != 3
        or a.ndim != 3
        or a.shape[:2] != (x.shape[0], x.shape[1] - 1)
        or lengths.shape != (len(x),)
    ):
        raise BookError(
            "trajectories need observations (E, T+1, D), actions (E, T, A) and lengths (E,), got shapes "
            f"{x.shape}, {a.shape} and {lengths.shape}"
        )
    if not len(x) or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > a.shape[1]:
        raise BookError(f"lengths must be whole numbers from 1 to {a.shape[1]}, one for each episode")
    inside = np.arange(x.shape[1]) <= lengths[:, None]  # (E, T+1)
    if not (np.isfinite(x[inside]).all() and np.isfinite(a[inside[:, 1:]]).all()):
        raise BookError("the data hold NaN or infinite values inside an episode")
    return data


# --- collecting -------------------------------------------------------------------------------------------


def collect(
    env_id: str,
    transitions: int,
    seed: int,
    *,
    policy: str | Policy = "random",
    max_steps: int | None = None,
) -> Trajectories:
    """Return exactly ``transitions`` real transitions of a Gymnasium environment, as whole episodes in order.

    ``policy`` is ``random`` (uniform actions), ``held`` (uniform actions held for 10 steps), ``scripted`` (a
    controller with noise, where there is one) or a callable (`Policy`). ``max_steps`` replaces the time limit
    of the environment, for longer or shorter episodes. The last episode of each of the environments that run
    side by side is cut when enough data are there; its ``terminated`` is False, as for a time limit.

    The same seed gives the same data. The seeds of the environments and of the policy are derived from
    ``seed`` by NumPy's SeedSequence, so that neighbouring seeds share nothing (Gymnasium's own seeding of a
    vector counts up from one seed, so that 0 and 1 would share all environments but one).
    """
    transitions = check_count(transitions, "transitions")
    seed = check_count(seed, "seed", minimum=0)
    limit = None if max_steps is None else check_count(max_steps, "max_steps")
    spaces = check_env(env_id)
    choose = make_policy(policy, spaces)
    limit = limit or spaces.max_steps or OPEN_END
    n = max(1, min(MAX_ENVS, transitions // limit))  # so that at least one episode of each can run its course
    env_seeds, policy_seed = np.random.SeedSequence(seed).spawn(2)
    rng = np.random.default_rng(policy_seed)
    with contextlib.ExitStack() as stack:
        envs = [
            stack.enter_context(contextlib.closing(Environment(env_id, max_steps=limit))) for _ in range(n)
        ]
        record = _Record(n, spaces)
        seeds = env_seeds.generate_state(n)
        seen = np.array([env.reset(int(s)) for env, s in zip(envs, seeds, strict=True)], dtype=np.float64)
        record.begin(seen, np.ones(n, dtype=bool))
        over = np.zeros(n, dtype=bool)  # which environments use the next step to reset
        while record.steps < transitions:
            actions = act(choose, spaces, seen, rng)
            seen, terminated, cut = np.empty_like(seen), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
            for i, env in enumerate(envs):
                if over[i]:
                    seen[i] = env.reset()
                else:
                    seen[i], _, terminated[i], cut[i] = env.step(actions[i])
            record.begin(seen, over)
            # The last round may bring more than is wanted: the first few environments fill the data set.
            live = ~over & (np.cumsum(~over) <= transitions - record.steps)
            record.step(spaces.encode(actions), seen, live, terminated)
            over = terminated | cut
    return record.finish(env_id)


class _Record:
    """The episodes of n environments while they run."""

    def __init__(self, n: int, spaces: Spaces) -> None:
        self.steps = 0
        self.spaces = spaces
        self.done: list[list[tuple[list[FloatArray], list[FloatArray], bool]]] = [[] for _ in range(n)]

    def begin(self, observations: FloatArray, which: BoolArray) -> None:
        for i in np.flatnonzero(which):
            self.done[i].append(([observations[i]], [], False))

    def step(self, actions: FloatArray, after: FloatArray, which: BoolArray, terminated: BoolArray) -> None:
        for i in np.flatnonzero(which):
            seen, acted, _ = self.done[i][-1]
            seen.append(after[i])
            acted.append(actions[i])
            self.done[i][-1] = (seen, acted, bool(terminated[i]))
        self.steps += int(which.sum())

    def finish(self, env_id: str) -> Trajectories:
        episodes = [episode for runs in self.done for episode in runs if episode[1]]
        obs, act, ended = zip(*episodes, strict=True)
        return trajectories(env_id, obs, act, ended)
