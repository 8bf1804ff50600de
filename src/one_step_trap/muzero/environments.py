"""The tasks MuZero is trained on: Gymnasium environments with discrete actions and vectors to observe, by id.

A `Task` says what the agent must know of an environment: how observations become numbers of size about 1, how many actions
there are, between which bounds rewards lie, and when episodes are cut off. **Termination** (the episode is over, all later
rewards are 0) and **truncation** (a time limit cut it off, its value goes on) are kept apart everywhere.

`VectorEnv` steps several environments in lock step. Each episode has a seed of its own, derived from the seed of the run, the
lane and the number of the episode, so that an interrupted episode can be replayed exactly from its actions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from numpy.typing import ArrayLike, NDArray

from one_step_trap.core.environments import Environment
from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_gamma,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.transforms import check_range, reachable_range

Float32 = NDArray[np.float32]

GRID = "one-step-trap/DeterministicGrid-v0"
DRY = "one-step-trap/FrozenLakeWithoutSlipping-v0"
"""Gymnasium's FrozenLake with ``is_slippery=False``: the same map and rewards, without chance."""
LIMIT = 1_000
"""Steps after which an episode is cut off in environments that have no time limit of their own."""
WIDEST = 1e4
"""Bounds of observations beyond this count as none."""

REWARD_BOUNDS: dict[str, tuple[float, float]] = {
    "Acrobot-v1": (-1.0, 0.0),
    "CartPole-v0": (0.0, 1.0),
    "CartPole-v1": (0.0, 1.0),
    "CliffWalking-v1": (-100.0, -1.0),
    "FrozenLake-v1": (0.0, 1.0),
    "FrozenLake8x8-v1": (0.0, 1.0),
    "MountainCar-v0": (-1.0, 0.0),
    "Taxi-v4": (-10.0, 20.0),
    GRID: (0.0, 1.0),
    DRY: (0.0, 1.0),
}
"""Rewards as the environments document them, by id; Gymnasium itself no longer states them."""
USUAL_BOUNDS = (-1.0, 1.0)
"""Bounds of rewards where neither this table nor the caller gives any."""


class DeterministicGrid(gym.Env[Any, Any]):
    """A square room with a wall across its middle that has one gap; reward 1 at the goal, which ends the episode.

    Cells are numbered row by row; the start is drawn uniformly from the cells above the wall, the goal is the last cell.
    Actions: 0 up, 1 right, 2 down, 3 left; a move into a wall or off the grid leaves the agent where it is. Nothing is random
    but the start. The gap is in the first column: for most starts the way to the goal leads away from it first.
    """

    MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))

    def __init__(self, size: int = 5) -> None:
        self.size = check_count(size, "size", minimum=3)
        self.observation_space = spaces.Discrete(self.size**2)
        self.action_space = spaces.Discrete(4)
        self.wall = self.size // 2
        self.cell = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        """Start anew, in a cell above the wall drawn from the seed."""
        super().reset(seed=seed)
        self.cell = int(self.np_random.integers(self.wall * self.size))
        return self.cell, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move; return cell, reward, terminated, truncated, and nothing else."""
        row, column = divmod(self.cell, self.size)
        down, right = self.MOVES[int(action)]
        row, column = row + down, column + right
        inside = 0 <= row < self.size and 0 <= column < self.size
        if inside and (row != self.wall or column == 0):
            self.cell = row * self.size + column
        done = self.cell == self.size**2 - 1
        return self.cell, float(done), done, False, {}


def dry_lake(**options: Any) -> FrozenLakeEnv:
    """Return Gymnasium's FrozenLake without slipping."""
    return FrozenLakeEnv(is_slippery=False, **options)


def register() -> None:
    """Make the grid and the lake without chance known to Gymnasium (once)."""
    if GRID not in gym.registry:
        gym.register(GRID, entry_point=f"{__name__}:DeterministicGrid", max_episode_steps=60)
    if DRY not in gym.registry:
        gym.register(DRY, entry_point=f"{__name__}:dry_lake", max_episode_steps=100)


register()


# --- what the agent must know -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """An environment by id, with what MuZero must know of it.

    ``id``: a Gymnasium id. ``options``: keyword arguments of the environment, e.g. ``{"is_slippery": False}``.
    ``reward_low`` ≤ ``reward_high``: bounds of a step's reward; without them those of a table for known ids, otherwise
    -1 and 1 (a reward beyond them is an error when it occurs, never clipped). ``max_steps``: steps after which an episode
    is cut off; without it the environment's own limit, or 1,000 where it has none.

    Observations: a Box is flattened; a component between finite bounds is mapped to [-1, 1], any other to
    ``sign(x) ln(1 + abs(x))``. A Discrete observation becomes one-hot.
    """

    id: str
    reward_low: float | None = None
    reward_high: float | None = None
    max_steps: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = field(init=False)
    """The id under which the environment is registered, however ``id`` spells it."""
    observation_size: int = field(init=False)
    actions: int = field(init=False)
    time_limit: int | None = field(init=False)
    """The environment's own time limit; None if it has none."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "options", _check_options(self.options))
        env = Environment(self.id, options=self.options)
        put(self, "name", env.name)
        put(self, "actions", _check_actions(env.action_space, self.id))
        put(self, "observation_size", _check_observations(env.observation_space, self.id))
        put(self, "time_limit", env.time_limit)
        env.close()
        known = REWARD_BOUNDS.get(self.name, USUAL_BOUNDS)
        low = known[0] if self.reward_low is None else self.reward_low
        high = known[1] if self.reward_high is None else self.reward_high
        low, high = check_range(low, high, ("reward_low", "reward_high"))
        put(self, "reward_low", low)
        put(self, "reward_high", high)
        limit = self.max_steps if self.max_steps is not None else self.time_limit or LIMIT
        put(self, "max_steps", check_count(limit, "max_steps"))

    @property
    def reward_bounds(self) -> tuple[float, float]:
        """Lowest and highest reward of a step."""
        assert self.reward_low is not None
        assert self.reward_high is not None
        return self.reward_low, self.reward_high

    @property
    def step_limit(self) -> int:
        """Steps after which an episode is cut off."""
        assert self.max_steps is not None
        return self.max_steps

    def check_gamma(self, gamma: Any) -> float:
        """Return the discount; 1 is an error in a task that has no time limit of its own."""
        number = check_gamma(gamma, episodic=True)
        if number == 1 and self.time_limit is None:
            raise BookError(
                f"gamma = 1 is not defined in {self.id}: it has no time limit, so the sum of rewards need not converge; "
                "use gamma < 1"
            )
        return number

    def value_range(self, gamma: float) -> tuple[float, float]:
        """Return the lowest and the highest value a state can have; 0 is always inside.

        An episode that was cut off counts on (its last value is bootstrapped), so below γ = 1 the time limit is no bound:
        ``reward / (1 - γ)``. At γ = 1 values are those of the task with its limit: ``reward · max_steps``.
        """
        gamma = self.check_gamma(gamma)
        return reachable_range(*self.reward_bounds, gamma, self.step_limit if gamma == 1 else None)

    def check_rewards(self, rewards: ArrayLike) -> Float32:
        """Return rewards as float32; one beyond the bounds is an error."""
        array = check_finite(rewards, f"the rewards of {self.id}")
        low, high = self.reward_bounds
        outside = (array < low - 1e-9) | (array > high + 1e-9)
        if outside.any():
            raise BookError(
                f"{self.id} gave a reward of {array[outside][0]:g}, outside the bounds [{low:g}, {high:g}]: name the right "
                "ones, reward_low and reward_high, so that no value is clipped"
            )
        return array.astype(np.float32)

    def environment(self) -> Environment:
        """Return a new environment of this task."""
        return Environment(self.id, max_steps=self.step_limit, options=self.options)

    def encoder(self) -> Encoder:
        """Return the map from observations to rows of numbers."""
        env = self.environment()
        env.close()
        return Encoder(env.observation_space)

    def as_json(self) -> dict[str, Any]:
        """Return what names this task, for a checkpoint."""
        return {
            "id": self.id,
            "reward_low": self.reward_low,
            "reward_high": self.reward_high,
            "max_steps": self.max_steps,
            "options": dict(self.options),
        }


def check_task(task: Any) -> Task:
    """Return a task; a string counts as the id of one."""
    if isinstance(task, str):
        return Task(task)
    if not isinstance(task, Task):
        raise BookError(f"task must be a Task or the id of a Gymnasium environment, got {short_repr(task)}")
    return task


def _check_options(options: Any) -> dict[str, Any]:
    """Return keyword arguments that a checkpoint can hold."""
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise BookError(f"options must map names to values, got {short_repr(options)}")
    try:
        json.dumps(dict(options))
    except (TypeError, ValueError):
        raise BookError(
            f"options must be plain values that JSON can hold, got {short_repr(options)}"
        ) from None
    return dict(options)


def _check_actions(space: spaces.Space[Any], id: str) -> int:
    if isinstance(space, spaces.Discrete):
        if space.n >= 2:
            return int(space.n)
        raise BookError(f"{id} has a single action: there is nothing to choose")
    kind = "continuous" if isinstance(space, spaces.Box) else f"of the kind {type(space).__name__}"
    raise BookError(f"{id} has actions that are {kind}: this MuZero needs discrete ones, as in CartPole-v1")


def _check_observations(space: spaces.Space[Any], id: str) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if not isinstance(space, spaces.Box):
        raise BookError(
            f"{id} has observations of the kind {type(space).__name__}: this MuZero needs a vector or a Discrete one"
        )
    if len(space.shape) > 2 or (len(space.shape) == 2 and space.dtype == np.uint8):
        raise BookError(
            f"{id} has images of shape {space.shape} as observations: this MuZero has no convolutions; use a vector"
        )
    if not math.prod(space.shape):
        raise BookError(f"{id} has empty observations")
    return math.prod(space.shape)


class Encoder:
    """The map from an environment's observation to numbers of size about 1, shape (O,), float32 (see `Task`)."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.first: int | None = None
        if isinstance(space, spaces.Discrete):
            self.first, self.size = int(space.start), int(space.n)
            return
        assert isinstance(space, spaces.Box)
        low, high = (np.asarray(bound, dtype=np.float64).ravel() for bound in (space.low, space.high))
        self.size = len(low)
        self.bounded = (np.abs(low) <= WIDEST) & (np.abs(high) <= WIDEST) & (high > low)
        with np.errstate(invalid="ignore"):  # infinite bounds, not used
            self.centre: FloatArray = np.where(self.bounded, (low + high) / 2, 0.0)
            self.reach: FloatArray = np.where(self.bounded, (high - low) / 2, 1.0)

    def __call__(self, observation: Any) -> Float32:
        """Return the numbers of one observation, as an `Environment` gives it."""
        if self.first is not None:
            row = np.zeros(self.size, dtype=np.float32)
            row[observation - self.first] = 1
            return row
        x = (np.asarray(observation, dtype=np.float64).ravel() - self.centre) / self.reach
        return np.where(self.bounded, x, np.sign(x) * np.log1p(np.abs(x))).astype(np.float32)


# --- environments in lock step ----------------------------------------------------------------------------


class Step(NamedTuple):
    """What one step gave, one row a lane (N, or as many as took it)."""

    observations: Float32
    """(N, O) observations after the step: of an ended episode its last one."""
    rewards: Float32
    """(N,)"""
    terminated: BoolArray
    """(N,) the episode is over, and its value afterwards 0."""
    truncated: BoolArray
    """(N,) the time limit cut the episode off; never True where it terminated."""


class VectorEnv:
    """``count`` environments of a task that take their steps together; their episodes end when they end.

    ``seed`` and ``stream`` (whole numbers, e.g. 0 for training and 1 + i for evaluation i) fix all seeds: episode e of lane
    i is reset with a seed drawn from (seed, stream, i, e).
    """

    def __init__(self, task: Task, count: int, seed: int, stream: int = 0) -> None:
        self.task = check_task(task)
        self.count = check_count(count, "count")
        self.seed = check_count(seed, "seed", minimum=0)
        self.stream = check_count(stream, "stream", minimum=0)
        self.environments = [self.task.environment() for _ in range(self.count)]
        self.encode = Encoder(self.environments[0].observation_space)
        self.first_action = int(getattr(self.environments[0].action_space, "start", 0))
        self.episodes = np.full(self.count, -1, dtype=np.int64)
        self.actions_taken: list[list[int]] = [[] for _ in range(self.count)]
        self.observations: Float32 = np.zeros((self.count, self.task.observation_size), dtype=np.float32)
        for lane in range(self.count):
            self.reset(lane)

    def reset(self, lane: int) -> None:
        """Start the next episode of a lane."""
        self.episodes[lane] += 1
        self.actions_taken[lane] = []
        self.observations[lane] = self._begin(lane)

    def _begin(self, lane: int) -> Float32:
        key = (self.seed, self.stream, lane, int(self.episodes[lane]))
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        return self.encode(self.environments[lane].reset(seed))

    def step(self, actions: IntArray, lanes: IntArray | None = None) -> Step:
        """Take one action in every lane, or only in ``lanes`` (n,); ended episodes stay ended until `reset`."""
        chosen = np.arange(self.count) if lanes is None else lanes
        rewards = np.zeros(len(chosen))
        terminated, truncated = np.zeros(len(chosen), dtype=bool), np.zeros(len(chosen), dtype=bool)
        for i, (lane, action) in enumerate(zip(chosen.tolist(), actions.tolist(), strict=True)):
            after = self.environments[lane].step(action + self.first_action)
            rewards[i], terminated[i] = after.reward, after.terminated
            truncated[i] = after.truncated and not after.terminated
            self.observations[lane] = self.encode(after.observation)
            self.actions_taken[lane].append(action)
        return Step(self.observations[chosen], self.task.check_rewards(rewards), terminated, truncated)

    def restore(self, episodes: list[int], actions: list[list[int]], observations: Float32) -> None:
        """Bring every lane to where it was, by replaying its episode; an error if it does not come out there."""
        self.episodes[:] = episodes
        for lane, environment in enumerate(self.environments):
            row = self._begin(lane)
            for action in actions[lane]:
                row = self.encode(environment.step(action + self.first_action).observation)
            self.observations[lane], self.actions_taken[lane] = row, list(actions[lane])
        if not np.array_equal(self.observations, observations):
            raise BookError(
                f"{self.task.id} does not repeat itself: replaying an interrupted episode from its seed gave other "
                "observations, so this training cannot be resumed exactly"
            )

    def close(self) -> None:
        """Close all environments."""
        for environment in self.environments:
            environment.close()
