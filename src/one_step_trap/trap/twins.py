"""Chaos apart from model error: two copies of the real simulator, started an epsilon apart, given the same actions.

A learned model leaves its real trajectory for three reasons, and the copies separate them.

- **Sensitivity of the world.** The first small error is carried on by the true dynamics. Twins displaced *once*, by the
  error that the model makes in its first step, show how far that alone goes, were the model perfect from then on.
- **Compounding.** Every further step adds a fresh error. Twins displaced after *every step*, by the error that the model
  makes in that step when it starts from the real state, show how far the sum of these goes under the true dynamics.
- **The model.** What is left: it carries errors on in its own way, and it is asked about states that no data hold, where
  it is worse than its one-step error says.

Two identical copies (epsilon = 0) stay identical, bit for bit: the perfect one-step model, in the real environments.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.environments import Environment
from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_finite,
    check_positive,
    check_real,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.trap.networks import Model, predict
from one_step_trap.trap.rollout import (
    MIN_TRAJECTORIES,
    Starts,
    Steps,
    Typical,
    crossing,
    root_mean_square,
    starts_of,
    supported,
    typical_curve,
)
from one_step_trap.trap.worlds import OPEN_END, Policy, Spaces, act, check_env, make_policy

NUDGE = 1e-4
"""Epsilon (sd) for rates of divergence: far above the rounding of float32 observations, far below saturation."""
LINEAR = 0.1
"""Twins closer than this (sd) still separate at the rate of the linearised dynamics, or so we take it."""


# --- a simulator whose state can be written ----------------------------------------------------------------


class Simulator:
    """A Gymnasium environment, without its time limit, whose state can be read, written and observed.

    Classic control keeps its state in ``env.unwrapped.state``; MuJoCo in positions and velocities, written by
    ``set_state``. `writable` says whether that works for this environment.
    """

    def __init__(self, env_id: str) -> None:
        self.spaces: Spaces = check_env(env_id)
        # A displaced world may run away: that is a finding, and no fault of the environment.
        self.world = Environment(env_id, max_steps=math.inf, finite=False)
        self.env: Any = self.world.unwrapped
        self.mujoco = hasattr(self.env, "set_state") and hasattr(self.env, "data")

    def reset(self, seed: int) -> FloatArray:
        """Start an episode and return its first observation, (D,)."""
        return np.asarray(self.world.reset(seed), dtype=np.float64)

    def step(self, action: Any) -> tuple[FloatArray, bool]:
        """Take a native action; return the observation (D,) and whether the world ended (the dynamics go on)."""
        seen, _, terminated, _ = self.world.step(action)
        if getattr(self.env, "steps_beyond_terminated", None) is not None:
            self.env.steps_beyond_terminated = None  # a fallen pole falls on: it must not warn of it
        return np.asarray(seen, dtype=np.float64), terminated

    def read(self) -> FloatArray:
        """Return a copy of the state."""
        with self.world.guarded("its state"):
            if self.mujoco:
                return np.concatenate([self.env.data.qpos, self.env.data.qvel])
            return np.array(self.env.state, dtype=np.float64)

    def write(self, state: FloatArray) -> None:
        """Set the state; what MuJoCo's solver remembers of the step before is forgotten, so that copies agree."""
        with self.world.guarded("its state"):
            if self.mujoco:
                self.env.data.qacc_warmstart[:] = 0
                self.env.set_state(state[: self.env.model.nq], state[self.env.model.nq :])
            else:
                self.env.state = state.copy()

    def observe(self) -> FloatArray:
        """Return the observation of the present state, in float64 (classic control rounds its own to float32)."""
        for name in ("_get_obs", "_get_ob"):
            if hasattr(self.env, name):
                with self.world.guarded(name):
                    return np.array(getattr(self.env, name)(), dtype=np.float64)
        return self.read()

    def writable(self, seed: int = 0) -> bool:
        """Tell whether a state written back leads to the same next observation as the first time."""
        rng = np.random.default_rng(seed)
        try:
            first = self.reset(seed)
            if self.read().size == 0 or not np.allclose(self.observe(), first, rtol=1e-5, atol=1e-6):
                return False
            for _ in range(5):
                self.step(_any_action(self.spaces, rng))
            state, action = self.read(), _any_action(self.spaces, rng)
            once, _ = self.step(action)
            self.write(state)
            again, _ = self.step(action)
        except Exception:  # foreign code: whatever it raises, its state is not ours to write
            return False
        return bool(np.allclose(once, again, rtol=1e-4, atol=1e-5))

    def close(self) -> None:
        """Close the environment."""
        self.world.close()


def _any_action(spaces: Spaces, rng: np.random.Generator) -> Any:
    """Return a native action: uniform within the bounds, or within ±1 where there are none."""
    if spaces.discrete:
        return int(rng.integers(spaces.action_size)) + spaces.start
    low, high = np.maximum(spaces.low, -1), np.minimum(spaces.high, 1)
    return rng.uniform(np.minimum(low, high), np.maximum(low, high))


@contextlib.contextmanager
def _simulators(env_id: str) -> Iterator[tuple[Simulator, Simulator]]:
    """Give two copies of an environment and close them afterwards."""
    pair = (Simulator(env_id), Simulator(env_id))
    try:
        yield pair
    finally:
        for simulator in pair:
            simulator.close()


@dataclass(frozen=True)
class _Record:
    """One real episode: its seed, observations (T+1, D), native actions (T), states (T+1, …) where they can be read, and
    whether the world ended it."""

    seed: int
    observations: FloatArray
    actions: list[Any]
    states: list[FloatArray]
    ended: bool


def _record(
    simulator: Simulator, policy: Policy, seed: int, rng: np.random.Generator, steps: int, *, states: bool
) -> _Record:
    x = simulator.reset(seed)
    seen, acted, kept, ended = [x], [], [simulator.read()] if states else [], False
    for _ in range(steps):
        action = act(policy, simulator.spaces, x[None], rng)[0]
        x, ended = simulator.step(action)
        seen.append(x)
        acted.append(action)
        if states:
            kept.append(simulator.read())
        if ended:
            break
    return _Record(seed, np.array(seen), acted, kept, ended)


# --- twins ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Twins:
    """Distances of twin simulators, S starts by H depths, in standard deviations (root mean square over dimensions).

    ``how``: ``state`` (the copy's state is displaced), ``first action`` (only its first action is, where the state
    cannot be written), or ``none``: this environment cannot be perturbed, and ``reason`` says why. ``start``: where they
    start. ``distance`` (S, H): at depths 1 … H; NaN beyond the end of the real episode. ``every_step``:
    nudged anew after every step, not after the first alone.
    """

    env_id: str
    how: str
    reason: str
    start: Starts
    distance: FloatArray
    every_step: bool = False

    @property
    def possible(self) -> bool:
        """Whether this environment could be perturbed."""
        return self.how != "none"

    @property
    def epsilon(self) -> FloatArray:
        """The distances really set, (S,): those at depth 1."""
        return self.distance[:, 0]

    @property
    def limit(self) -> int:
        """The largest depth that enough independent trajectories reach."""
        return supported(self.distance, self.start)

    def _check(self) -> None:
        if not self.possible:
            raise BookError(f"{self.env_id} has no twins: {self.reason}")

    def curve(self, typical: Typical = "median") -> FloatArray:
        """Return the typical distance at depths 1 … H, (H,); NaN beyond ``limit``."""
        self._check()
        return typical_curve(self.distance, self.limit, typical)

    def steps(
        self, rng: np.random.Generator, *, threshold: float = 1.0, typical: Typical = "median"
    ) -> Steps:
        """Return the depth at which the typical distance reaches ``threshold`` sd, as `steps_to_one_sd` does."""
        self._check()
        return crossing(
            self.distance,
            self.start,
            check_rng(rng),
            threshold=check_positive(threshold, "threshold"),
            typical=typical,
        )

    def rate(self, rng: np.random.Generator, *, window: int = 50) -> Interval:
        """Return the finite-time Lyapunov exponent per step, ``ln(distance_h / epsilon) / (h - 1)``, with its interval.

        h is ``window``, or the depth at which the typical twins leave the linear regime (`LINEAR`) or the data end, if
        that is earlier. The median over trajectories of their median over starts, bootstrapped over trajectories.
        Positive: nearby states separate, by a factor e every 1/rate steps. Negative: they approach. A pair that has
        become equal to 1e-9 sd counts as that far apart.
        """
        self._check()
        moved = self.epsilon > 0  # an action at its bound, say, may leave a copy where it was
        if self.every_step or not moved.any():
            raise BookError("a rate needs twins that were nudged once, by an epsilon above 0")
        h = min(check_count(window, "window", minimum=2), self.limit)
        if h < 2:
            raise BookError(f"a rate needs at least {MIN_TRAJECTORIES} trajectories of 2 steps or more")
        apart = np.flatnonzero(self.curve()[:h] >= LINEAR)
        h = max(2, int(apart[0]) + 1) if len(apart) else h
        reach = ~np.isnan(self.distance[:, h - 1]) & moved
        rates = np.log(np.maximum(self.distance[reach, h - 1], 1e-9) / self.epsilon[reach]) / (h - 1)
        names = self.start.trajectory[reach]
        medians = [float(np.median(rates[names == e])) for e in np.unique(names)]
        if len(medians) < 2:
            raise BookError(f"a rate needs twins in at least 2 trajectories, got {len(medians)}")
        return bootstrap_interval(medians, check_rng(rng), statistic=np.median, resamples=1_000)


def twins(
    env_id: str,
    epsilon: ArrayLike | Model = NUDGE,
    *,
    depth: int = 200,
    trajectories: int = 20,
    starts: int = 2,
    seed: int = 0,
    policy: str | Policy = "random",
    sd: ArrayLike | None = None,
    every_step: bool = False,
) -> Twins:
    """Return how far two perfectly known simulators drift apart that start ``epsilon`` standard deviations apart.

    Both get the same actions. ``distance_h = sqrt(mean_d ((x'_h[d] - x_h[d]) / sd[d])²)`` over the dimensions that vary:
    the measure of `rollout_error`, with the second simulator in the place of the model.

    ``epsilon``: a number of at least 0 (sd); or a world model, whose own error in that very step displaces the copy. The
    displacement comes after the first step, as the error of a first prediction does, so that the distance at depth 1 is
    epsilon. A number has a random direction in the state, each state variable in units of its own sd, scaled until the
    *observations* are epsilon apart. The error of a model has its own direction: the copy is moved to the state whose
    observation, to first order, is displaced by that error (as nearly as any is: sine and cosine of an angle, say, stay
    on their circle). ``every_step`` displaces the copy after every further step as well.

    ``trajectories`` real episodes (of at most 2 ``depth`` steps) under ``policy``, up to ``starts`` starts in each.
    ``sd`` (D,): by default that of these episodes.

    Where the state cannot be written (Box2D), a continuous first action is nudged instead, after a replay of the episode
    from its seed, as nearly by the size of epsilon as its bounds allow. With discrete actions such an environment has no
    twins: the result says so in ``how`` and ``reason``.
    """
    size = None if callable(epsilon) else check_real(epsilon, "epsilon")
    if size is not None and size < 0:
        raise BookError(f"epsilon must be at least 0, got {size:g}")
    depth, starts = check_count(depth, "depth"), check_count(starts, "starts")
    trajectories = check_count(trajectories, "trajectories")
    seeds, drawn = np.random.SeedSequence(check_count(seed, "seed", minimum=0)).spawn(2)
    rng = np.random.default_rng(drawn)
    with _simulators(env_id) as (first, second):
        spaces, choose = first.spaces, make_policy(policy, first.spaces)
        writable = first.writable()
        if not writable and (spaces.discrete or every_step):
            return _none(env_id, depth, every_step, _reason(spaces))
        steps = min(2 * depth, spaces.max_steps or OPEN_END)
        records = [
            _record(first, choose, int(s), rng, steps, states=writable)
            for s in seeds.generate_state(trajectories)
        ]
        scale = _scale(records) if sd is None else _given_scale(sd, spaces.observation_size)
        lengths = np.array([len(r.actions) for r in records])
        start = starts_of(lengths, np.array([r.ended for r in records]), depth, starts)
        nudges = [_nudges(r, size if size is not None else epsilon, spaces, scale, rng) for r in records]
        distances = [
            _pair(first, second, records[e], t, depth, scale, nudges[e], every_step)
            if writable
            else _nudged_action(first, second, records[e], t, depth, scale, nudges[e], rng)
            for e, t in zip(start.trajectory, start.time, strict=True)
        ]
    how = "state" if writable else "first action"
    return Twins(env_id, how, "", start, np.array(distances), every_step)


def _reason(spaces: Spaces) -> str:
    if spaces.discrete:
        return "its state cannot be written from outside, and a discrete action cannot be nudged"
    return "its state cannot be written from outside, so that it cannot be nudged at every step"


def _none(env_id: str, depth: int, every_step: bool, reason: str) -> Twins:
    none = np.zeros(0, dtype=np.int64)
    return Twins(
        env_id, "none", reason, Starts(none, none, none.astype(bool)), np.zeros((0, depth)), every_step
    )


def _scale(records: list[_Record]) -> FloatArray:
    x = np.concatenate([r.observations for r in records])
    return np.where(np.ptp(x, axis=0) == 0, 0.0, x.std(axis=0))


def _given_scale(sd: ArrayLike, size: int) -> FloatArray:
    scale = check_finite(sd, "sd")
    if scale.shape != (size,) or (scale < 0).any() or not (scale > 0).any():
        raise BookError(
            f"sd must hold {size} numbers of at least 0, some above, one a dimension, got {scale!r}"
        )
    return scale


def _distance(x: FloatArray, y: FloatArray, sd: FloatArray) -> FloatArray:
    """Return the root mean square of (x - y)/sd over the dimensions that vary; infinite where one is not finite."""
    vary = sd > 0
    with np.errstate(invalid="ignore"):
        result = root_mean_square((x[..., vary] - y[..., vary]) / sd[vary])
    return np.where(np.isnan(result), np.inf, result)


@dataclass(frozen=True)
class _Nudges:
    """How to displace a copy after each step of an episode, T steps: all by one ``epsilon`` in a direction drawn by
    ``rng``, or by the ``error`` (T, D) of a model, in units of the observation."""

    rng: np.random.Generator
    epsilon: float
    error: FloatArray | None

    def size(self, t: int, sd: FloatArray) -> float:
        """Return the distance of the displacement after step t, in sd."""
        return self.epsilon if self.error is None else float(_distance(self.error[t], 0 * sd, sd))


def _nudges(
    record: _Record, epsilon: Any, spaces: Spaces, sd: FloatArray, rng: np.random.Generator
) -> _Nudges:
    """Return the displacements along an episode; a model's error that is not finite counts as one sd everywhere."""
    if not callable(epsilon):
        return _Nudges(rng, float(epsilon), None)
    x = record.observations
    error = predict(epsilon, x[:-1], spaces.encode(np.array(record.actions))) - x[1:]
    return _Nudges(rng, 0.0, np.where(np.isfinite(error), error, sd))


def _pair(
    first: Simulator,
    second: Simulator,
    record: _Record,
    t: int,
    depth: int,
    sd: FloatArray,
    nudges: _Nudges,
    every_step: bool,
) -> FloatArray:
    """Return the distances at depths 1 … H, (H,), of two copies set to the state at time t."""
    spread = np.std(record.states, axis=0)
    distance = np.full(depth, np.nan)
    for simulator in (first, second):
        simulator.reset(record.seed)
        simulator.write(record.states[t])
    for h, action in enumerate(record.actions[t : t + depth]):
        x, _ = first.step(action)
        y, _ = second.step(action)
        if every_step or h == 0:
            if nudges.error is None:
                _nudge(second, spread, sd, nudges.epsilon, nudges.rng)
            else:
                _displace(second, spread, sd, nudges.error[t + h])
            x, y = first.observe(), second.observe()
        distance[h] = _distance(x, y, sd)
    return distance


def _nudge(
    simulator: Simulator, spread: FloatArray, sd: FloatArray, epsilon: float, rng: np.random.Generator
) -> None:
    """Displace a simulator's state by ``epsilon`` as observed, in a random direction."""
    state = simulator.read()
    direction = rng.standard_normal(state.shape) * spread
    if epsilon == 0:
        return
    here, size = simulator.observe(), epsilon
    for _ in range(4):  # observations are smooth in the state: a few rescalings suffice
        simulator.write(state + size * direction)
        reached = float(_distance(simulator.observe(), here, sd))
        if reached == 0 or not math.isfinite(reached) or abs(reached / epsilon - 1) < 1e-3:
            break
        size *= epsilon / reached


def _displace(simulator: Simulator, spread: FloatArray, sd: FloatArray, error: FloatArray) -> None:
    """Move a simulator to the state whose observation is displaced by ``error`` (D,), to first order.

    Least squares in units of the data, with the Jacobian by differences: J[d, i] = ∂(x[d]/sd[d]) / ∂(s[i]/spread[i]).
    """
    state, here, vary = simulator.read(), simulator.observe(), sd > 0
    J = np.zeros((int(vary.sum()), len(state)))
    for i in np.flatnonzero(spread):
        beside = state.copy()
        beside[i] += 1e-3 * spread[i]
        simulator.write(beside)
        J[:, i] = (simulator.observe() - here)[vary] / sd[vary] / 1e-3
    simulator.write(state + spread * np.linalg.lstsq(J, error[vary] / sd[vary], rcond=1e-3)[0])


def _nudged_action(
    first: Simulator,
    second: Simulator,
    record: _Record,
    t: int,
    depth: int,
    sd: FloatArray,
    nudges: _Nudges,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the same for copies that differ in the action at time t only, after a replay from the episode's seed."""
    spaces, wanted = first.spaces, nudges.size(t, sd)
    action = np.asarray(record.actions[t], dtype=np.float64)
    direction = rng.choice([-1.0, 1.0], size=action.shape)
    outside = (action + direction > spaces.high) | (action + direction < spaces.low)
    direction = np.where(outside, -direction, direction)  # where there is room for it
    x = _replay(first, record, t, depth, record.actions[t])
    nudged, width = record.actions[t], wanted
    for _ in range(5 if wanted > 0 else 0):
        nudged = np.clip(action + width * direction, spaces.low, spaces.high).astype(record.actions[t].dtype)
        reached = float(_distance(_replay(second, record, t, 1, nudged)[0], x[0], sd))
        if not math.isfinite(reached) or (reached > 0 and abs(reached / wanted - 1) < 0.1):
            break
        width = min(width * (wanted / reached if reached > 0 else 10.0), 2.0)
    distance = np.full(depth, np.nan)
    distance[: len(x)] = _distance(_replay(second, record, t, depth, nudged), x, sd)
    return distance


def _replay(simulator: Simulator, record: _Record, t: int, depth: int, action: Any) -> FloatArray:
    """Return the observations of up to ``depth`` steps from time t, (H, D), when the action at time t is ``action``."""
    simulator.reset(record.seed)
    for earlier in record.actions[:t]:
        simulator.step(earlier)
    seen = [simulator.step(action)[0]]
    seen += [simulator.step(later)[0] for later in record.actions[t + 1 : t + depth]]
    return np.array(seen)


def identical_steps(
    env_id: str, steps: int = 1_000, *, seed: int = 0, policy: str | Policy = "random"
) -> int:
    """Return for how many of ``steps`` steps two identical copies stay identical, bit for bit.

    Both are reset with the same seeds (also when an episode ends) and given the same actions. The answer is ``steps``
    unless something in the environment depends on more than its seed: this is the perfect one-step model.
    """
    steps = check_count(steps, "steps")
    rng = np.random.default_rng(check_count(seed, "seed", minimum=0))
    with _simulators(env_id) as (first, second):
        choose = make_policy(policy, first.spaces)
        x, y = first.reset(seed), second.reset(seed)
        for n in range(steps):
            if x.tobytes() != y.tobytes():
                return n
            action = act(choose, first.spaces, x[None], rng)[0]
            x, ended = first.step(action)
            y, ended_too = second.step(action)
            if ended != ended_too:
                return n
            if ended:
                again = int(rng.integers(2**31))
                x, y = first.reset(again), second.reset(again)
    return steps if x.tobytes() == y.tobytes() else steps - 1
