"""MuZero from nothing: environments in lock step, a compiled search, and updates in between, on one processor core.

One **vector step**: search from the observations of all lanes; act by the visits at a temperature;
store what ended; make some updates. Everything is synchronous and every random number comes from the seed, so a
training is a function of (task, settings, seed). With a ``folder`` its whole state is written there now and then
(`checkpoints`), and a training that was killed goes on from the last file to the same end, number for number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from one_step_trap.core.threads import one_thread
from one_step_trap.core.validate import (
    IntArray,
    check_count,
    check_probability,
    check_real,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero import checkpoints
from one_step_trap.muzero.checkpoints import Checkpoint
from one_step_trap.muzero.environments import DRY, GRID, Task, VectorEnv, check_task
from one_step_trap.muzero.evaluation import evaluate
from one_step_trap.muzero.learning import Learner, LearningSettings
from one_step_trap.muzero.networks import Architecture, MuZeroNet, NetworkModel
from one_step_trap.muzero.replay import Replay, Segment
from one_step_trap.muzero.search import SearchSettings, choose_actions, search
from one_step_trap.muzero.transforms import Support


@dataclass(frozen=True)
class TrainingSettings:
    """All settings of a training; `PRESETS` has some that work, by environment.

    **Size of the run**: ``env_steps`` steps in ``lanes`` environments at once; ``updates_per_step`` updates of ``batch``
    samples after each step of all lanes, from the moment the replay holds ``warmup`` starts. **Algorithm**:
    ``unroll_steps`` K, ``n_step``, ``gamma``, ``simulations``, Dirichlet noise, ``c1``, ``max_depth`` and ``smallest_range``
    of the search; ``temperatures`` as pairs (share of the run, temperature from then on). **Exploration** where single random
    actions get nowhere: ``holds`` as pairs (share of the run, probability from then on) with which a lane begins to hold an
    action drawn uniformly, for a number of steps drawn from a geometric distribution with mean ``hold_steps`` (the idea of
    Dabney et al. 2021, arXiv 2006.01782, who draw it from a heavier tail). **Network**: ``latent``, ``hidden``,
    ``value_bins``. **Learning**: as in `LearningSettings`.
    **Replay**: ``replay_rows``; long episodes are stored in stretches of ``segment_steps``; ``unroll_max`` ≥ K, the longest
    sample (None: K). ``act_with_average``: self-play searches with the averaged weights (steadier values to bootstrap from),
    not with the newest; ``renew``, stored segments whose values are predicted anew after each step of all lanes, so that no
    target is built on old values; ``shorten_every``, stored steps after which the n of a segment's returns falls by one (None:
    never), so that a long ``n_step`` carries news fast and what an old policy got does not stay. **Options, off by
    default**: ``priority_exponent`` and ``importance_exponent``, ``reanalyse`` (positions searched anew after each step of all
    lanes), ``consistency_weight``.
    **Evaluation**: every ``evaluate_every`` environment steps ``evaluation_episodes`` greedy ones with averaged weights
    and ``evaluation_simulations`` simulations (None: as many as in training). **Checkpoints** every ``checkpoint_every``
    environment steps, if there is a folder.
    """

    env_steps: int = 20_000
    lanes: int = 16
    updates_per_step: int = 4
    batch: int = 128
    warmup: int = 300
    unroll_steps: int = 5
    n_step: int = 20
    gamma: float = 0.997
    simulations: int = 25
    dirichlet_alpha: float = 0.25
    dirichlet_fraction: float = 0.25
    c1: float = 1.25
    max_depth: int | None = None
    smallest_range: float = 1e-8
    temperatures: tuple[tuple[float, float], ...] = ((0.0, 1.0), (0.15, 0.25))
    holds: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    hold_steps: float = 10.0
    latent: int = 32
    hidden: int = 64
    value_bins: int = 21
    learning_rate: float = 1e-3
    final_rate: float = 0.1
    weight_decay: float = 1e-4
    clip: float = 5.0
    ema: float = 0.99
    act_with_average: bool = True
    reward_weight: float = 1.0
    value_weight: float = 1.0
    policy_weight: float = 1.0
    replay_rows: int = 10_000
    segment_steps: int = 100
    unroll_max: int | None = None
    shorten_every: int | None = None
    priority_exponent: float = 0.0
    importance_exponent: float = 1.0
    reanalyse: int = 0
    renew: int = 4
    consistency_weight: float = 0.0
    evaluate_every: int = 500
    evaluation_episodes: int = 20
    evaluation_simulations: int | None = None
    checkpoint_every: int = 2_000

    def __post_init__(self) -> None:
        counts = ("env_steps", "lanes", "batch", "warmup", "unroll_steps", "n_step", "latent", "hidden")
        more = (
            "value_bins",
            "replay_rows",
            "segment_steps",
            "evaluate_every",
            "evaluation_episodes",
            "checkpoint_every",
        )
        for name in (*counts, *more):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        for name in ("shorten_every", "evaluation_simulations"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_count(getattr(self, name), name))
        if not isinstance(self.act_with_average, bool):
            raise BookError(
                f"act_with_average must be True or False, got {short_repr(self.act_with_average)}"
            )
        for name in ("updates_per_step", "reanalyse", "renew"):
            object.__setattr__(self, name, check_count(getattr(self, name), name, minimum=0))
        for name in ("priority_exponent", "importance_exponent"):
            object.__setattr__(self, name, check_probability(getattr(self, name), name))
        object.__setattr__(self, "temperatures", _pairs(self.temperatures, "temperature"))
        object.__setattr__(self, "holds", _pairs(self.holds, "probability"))
        if check_real(self.hold_steps, "hold_steps") < 1:
            raise BookError(f"hold_steps must be at least 1, got {short_repr(self.hold_steps)}")
        if any(probability > 1 for _, probability in self.holds):
            raise BookError(f"the probabilities of holds must be at most 1, got {short_repr(self.holds)}")
        longest = self.unroll_steps if self.unroll_max is None else check_count(self.unroll_max, "unroll_max")
        if longest < self.unroll_steps:
            raise BookError(f"unroll_max must be at least unroll_steps = {self.unroll_steps}, got {longest}")
        object.__setattr__(self, "unroll_max", longest)
        if self.replay_rows < self.segment_steps + 1 + longest:
            raise BookError(
                f"replay_rows must hold a segment, {self.segment_steps + 1 + longest} rows, got {self.replay_rows}"
            )
        self.search(), self.evaluation_search(), self.learning()  # their own checks

    @property
    def vector_steps(self) -> int:
        """Steps of all lanes together, enough for ``env_steps``."""
        return -(-self.env_steps // self.lanes)

    def search(self) -> SearchSettings:
        """Return the settings of the search in self-play."""
        return SearchSettings(
            self.simulations,
            self.gamma,
            c1=self.c1,
            dirichlet_alpha=self.dirichlet_alpha,
            dirichlet_fraction=self.dirichlet_fraction,
            max_depth=self.max_depth,
            smallest_range=self.smallest_range,
        )

    def evaluation_search(self) -> SearchSettings:
        """Return the settings of the search in evaluations."""
        return replace(self.search(), simulations=self.evaluation_simulations or self.simulations)

    def learning(self) -> LearningSettings:
        """Return the settings of the learner; its learning rate falls until the last update of the run."""
        own = {f.name: getattr(self, f.name) for f in fields(LearningSettings) if f.name != "updates"}
        return LearningSettings(updates=max(1, self.vector_steps * self.updates_per_step), **own)

    def temperature(self, share: float) -> float:
        """Return the temperature after a share of the run."""
        return [t for begin, t in self.temperatures if begin <= share][-1]

    def hold_probability(self, share: float) -> float:
        """Return the probability of beginning to hold an action after a share of the run."""
        return [p for begin, p in self.holds if begin <= share][-1]


def _pairs(pairs: Any, what: str) -> tuple[tuple[float, float], ...]:
    """Return checked pairs (share of the run, number ≥ 0), the first at 0."""
    try:
        checked = tuple(
            (check_probability(s, "a share of the run"), check_real(x, f"a {what}")) for s, x in pairs
        )
    except (TypeError, ValueError) as error:
        if isinstance(error, BookError):
            raise
        raise BookError(f"there must be pairs (share of the run, {what}), got {short_repr(pairs)}") from None
    shares = [share for share, _ in checked]
    if not shares or shares[0] != 0 or shares != sorted(shares) or any(x < 0 for _, x in checked):
        raise BookError(
            f"there must be pairs (share, {what} ≥ 0) in order, the first share 0; got {short_repr(pairs)}"
        )
    return checked


_LONGER_AT_RANDOM = ((0.0, 1.0), (0.5, 0.5), (0.75, 0.25))
_RARE_REWARDS = TrainingSettings(
    env_steps=10_000,
    n_step=10,
    smallest_range=0.1,
    temperatures=_LONGER_AT_RANDOM,
    learning_rate=3e-3,
    reward_weight=10.0,  # else a reward head that is off by 0.05 everywhere drowns the one reward that there is
)
PRESETS: dict[str, TrainingSettings] = {
    "CartPole-v1": TrainingSettings(
        env_steps=30_000,
        n_step=200,
        shorten_every=25,
        segment_steps=500,
        renew=32,
        smallest_range=20,
        replay_rows=30_000,
        final_rate=0.02,
    ),
    "Acrobot-v1": TrainingSettings(
        env_steps=60_000,
        n_step=100,
        shorten_every=50,
        gamma=0.99,
        smallest_range=3,
        temperatures=_LONGER_AT_RANDOM,
        holds=((0.0, 1.0), (0.2, 0.2), (0.5, 0.05), (0.75, 0.0)),
        hold_steps=5,
        replay_rows=60_000,
        renew=32,
        final_rate=0.02,
        evaluate_every=2_000,
    ),
    "FrozenLake-v1": replace(_RARE_REWARDS, env_steps=16_000, gamma=0.97),
    "MountainCar-v0": TrainingSettings(
        env_steps=40_000,
        gamma=0.99,
        smallest_range=3,
        temperatures=_LONGER_AT_RANDOM,
        holds=((0.0, 1.0), (0.3, 0.05), (0.6, 0.01), (0.8, 0.0)),
        hold_steps=20,
        evaluate_every=2_000,
    ),
    DRY: replace(_RARE_REWARDS, gamma=0.97),
    GRID: replace(_RARE_REWARDS, env_steps=15_000, n_step=20, shorten_every=100, gamma=0.95, renew=16),
}
"""Settings by id, chosen in pilots of one to ten seeds.

CartPole keeps all that it has seen: with a replay that forgets failures a good agent unlearns what it avoids. Its values must
travel far (1 / (1 - γ) = 333 steps): with 20-step returns, and values that are seldom renewed, they stay at a third of what the
agent really gets after 20,000 steps, and many agents forget how to keep the cart on the track. Acrobot and the grid, where
nothing is known before the first success, need the same: else one agent in ten never gets there. Where a success is rare,
``smallest_range`` is small; without it small differences of wrong values decide what the policy learns.
"""


def preset(task: Task | str) -> TrainingSettings:
    """Return the settings for a task: those of `PRESETS`, or the defaults for any other environment."""
    return PRESETS.get(check_task(task).name, TrainingSettings())


@dataclass(frozen=True)
class Evaluation:
    """One point of a learning curve.

    ``env_steps`` and ``updates`` so far; ``cpu_seconds`` of this process spent on training and, apart,
    ``evaluation_seconds`` on all evaluations so far; the ``returns`` of the evaluation episodes; mean ``losses`` (reward,
    value, policy, consistency) of the updates since the last point; ``projected``, the share of value targets so far that
    left the reachable range and were moved back (see `targets.project`).
    """

    env_steps: int
    updates: int
    cpu_seconds: float
    evaluation_seconds: float
    returns: tuple[float, ...]
    losses: tuple[float, ...]
    projected: float

    @property
    def mean(self) -> float:
        """The mean return."""
        return float(np.mean(self.returns))


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: its curve, the network with averaged weights, the replay, and what it was."""

    task: Task
    settings: TrainingSettings
    seed: int
    curve: tuple[Evaluation, ...]
    net: MuZeroNet = field(repr=False)
    """With the averaged weights, which evaluations use."""
    replay: Replay = field(repr=False)

    @property
    def model(self) -> NetworkModel:
        """The network as a model for the search."""
        return NetworkModel(self.net)

    def first_reached(self, mean: float) -> Evaluation | None:
        """Return the first evaluation with at least this mean return, if there is one."""
        return next((point for point in self.curve if point.mean >= mean), None)

    def last_mean(self, evaluations: int = 20) -> float:
        """Return the mean over the last evaluations."""
        return float(np.mean([point.mean for point in self.curve[-evaluations:]]))


Progress = Callable[[Evaluation, int], None]
"""Called after each evaluation with it and with the environment steps of the whole run."""


def architecture(task: Task, settings: TrainingSettings) -> Architecture:
    """Return the network's sizes for a task; the value support covers the whole reachable range."""
    low, high = task.value_range(settings.gamma)
    support = Support.covering(low, high, settings.value_bins)
    support.check_covers(low, high)
    return Architecture(
        task.observation_size,
        task.actions,
        latent=settings.latent,
        hidden=settings.hidden,
        value_bins=support.bins,
        value_low=support.low,
        value_high=support.high,
        reward_scale=max(map(abs, task.reward_bounds)) or 1.0,
    )


class _Lane:
    """What one lane has seen since its last stored segment."""

    NAMES = ("observations", "actions", "rewards", "policies", "root_values")

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {name: [] for name in self.NAMES}

    def __len__(self) -> int:
        return len(self.rows["actions"])

    def append(self, **row: Any) -> None:
        for name in self.NAMES:
            self.rows[name].append(row[name])

    def close(
        self,
        observation: NDArray[Any],
        policy: Any,
        value: float,
        *,
        terminated: bool = False,
        goes_on: bool = False,
    ) -> Segment:
        """Return the segment that ends with this observation, and begin the next one."""
        rows = {name: np.array(values) for name, values in self.rows.items()}
        segment = Segment(
            np.vstack([rows["observations"], observation]),
            rows["actions"],
            rows["rewards"],
            np.vstack([rows["policies"], policy]),
            np.append(rows["root_values"], value),
            terminated,
            goes_on,
        )
        self.rows = {name: [] for name in self.NAMES}
        return segment


class Trainer:
    """A training that can be stepped, written down and taken up again; `train` is the usual way in."""

    def __init__(self, task: Task | str, settings: TrainingSettings | None = None, seed: int = 0) -> None:
        self.task = check_task(task)
        self.settings = s = preset(self.task) if settings is None else settings
        if not isinstance(s, TrainingSettings):
            raise BookError(f"settings must be TrainingSettings, got {short_repr(s)}")
        self.seed = check_count(seed, "seed", minimum=0)
        self.task.check_gamma(s.gamma)
        self.learner = Learner(MuZeroNet(architecture(self.task, s), self.seed), s.learning(), self.seed)
        assert s.unroll_max is not None
        self.replay = Replay(
            s.replay_rows,
            self.task.observation_size,
            self.task.actions,
            unroll_max=s.unroll_max,
            gamma=s.gamma,
            n_step=s.n_step,
            value_range=self.task.value_range(s.gamma),
            priority_exponent=s.priority_exponent,
            importance_exponent=s.importance_exponent,
            shorten_every=s.shorten_every,
        )
        self.lanes = VectorEnv(self.task, s.lanes, self.seed)
        self.open = [_Lane() for _ in range(s.lanes)]
        acting, sampling = np.random.SeedSequence([self.seed, 1]).spawn(2)
        self.acting, self.sampling = np.random.default_rng(acting), np.random.default_rng(sampling)
        self.held = np.zeros((s.lanes, 2), dtype=np.int64)  # the action that a lane holds, and for how long
        self.steps_done = 0
        self.curve: list[Evaluation] = []
        self._losses: list[list[float]] = []
        self._cpu = self._cpu_evaluation = 0.0

    @property
    def env_steps(self) -> int:
        """Environment steps so far, all lanes together."""
        return self.steps_done * self.settings.lanes

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.steps_done >= self.settings.vector_steps

    def step(self) -> None:
        """Make one vector step: search, act, store, learn, and evaluate if it is time."""
        with one_thread(), torch.enable_grad():
            began = time.process_time()
            self._act()
            self.steps_done += 1
            self._learn()
            self._cpu += time.process_time() - began
            every = self.settings.evaluate_every
            if self.env_steps // every > (self.env_steps - self.settings.lanes) // every or self.finished:
                self._evaluate()

    def _act(self) -> None:
        """Search from all lanes, take a step in each, and store the segments that end."""
        model = self._acting_model()
        before = self.lanes.observations.copy()
        found = search(model, model.represent(before), self.settings.search(), self.acting, threads=1)
        share = self.steps_done / self.settings.vector_steps
        actions = choose_actions(found.visits, self.settings.temperature(share), self.acting)
        actions = self._hold(actions, self.settings.hold_probability(share))
        for i, lane in enumerate(
            self.open
        ):  # a full stretch ends at this observation, which has just been searched
            if len(lane) == self.settings.segment_steps:
                self._store(lane.close(before[i], found.policy[i], found.root_values[i], goes_on=True))
        step = self.lanes.step(actions)
        for i, lane in enumerate(self.open):
            lane.append(
                observations=before[i],
                actions=actions[i],
                rewards=step.rewards[i],
                policies=found.policy[i],
                root_values=found.root_values[i],
            )
        self._end(model, step.observations, step.terminated, step.truncated)

    def _hold(self, actions: IntArray, probability: float) -> IntArray:
        """Return the actions (lanes,), replaced where a lane holds one or begins to."""
        action, left = self.held.T
        if probability > 0:
            begins = (left == 0) & (self.acting.random(len(actions)) < probability)
            action[begins] = self.acting.integers(self.task.actions, size=int(begins.sum()))
            left[begins] = self.acting.geometric(1 / self.settings.hold_steps, size=int(begins.sum()))
        holding = left > 0
        left[holding] -= 1
        return np.asarray(np.where(holding, action, actions))

    def _acting_model(self) -> NetworkModel:
        return NetworkModel(self.learner.average if self.settings.act_with_average else self.learner.net)

    def _end(
        self, model: NetworkModel, last: NDArray[Any], terminated: NDArray[Any], truncated: NDArray[Any]
    ) -> None:
        """Store episodes that ended and begin new ones; where the time limit cut in, the last value is searched for."""
        cut = np.flatnonzero(truncated)
        if len(cut):
            found = search(model, model.represent(last[cut]), self.settings.search(), threads=1)
            for row, i in enumerate(cut):
                self._store(self.open[i].close(last[i], found.policy[row], found.root_values[row]))
        for i in np.flatnonzero(terminated):
            self._store(self.open[i].close(last[i], np.zeros(self.task.actions), 0.0, terminated=True))
        for i in np.flatnonzero(terminated | truncated):
            self.lanes.reset(int(i))
            self.held[i] = 0

    def _store(self, segment: Segment) -> None:
        self.replay.add(segment, self.sampling)

    def _learn(self) -> None:
        """Make this step's updates, and search some stored positions anew if asked to."""
        s = self.settings
        if not self.replay.segments or len(self.replay.start_rows) < s.warmup:
            return
        model = self._acting_model()
        if s.renew:
            self.replay.renew(s.renew, model, self.sampling)
        for _ in range(s.updates_per_step):
            batch = self.replay.sample(
                s.batch, s.unroll_steps, self.sampling, following=s.consistency_weight > 0
            )
            losses = self.learner.update(batch)
            self._losses.append([float(part) for part in losses[1:]])
        if s.reanalyse:
            rows = self.replay.start_rows
            rows = rows[self.replay.policy_mask[rows]]
            rows = np.unique(self.sampling.choice(rows, size=min(s.reanalyse, len(rows)), replace=False))
            model = self._acting_model()
            roots = model.represent(self.replay.observations[rows])
            found = search(model, roots, s.search(), threads=1)
            self.replay.update(rows, found.policy, found.root_values)

    def _evaluate(self) -> None:
        """Add a point to the curve."""
        s, began = self.settings, time.process_time()
        returns = evaluate(
            self.learner.average,
            self.task,
            s.evaluation_search(),
            episodes=s.evaluation_episodes,
            seed=self.seed,
            stream=1 + len(self.curve),
        )
        self._cpu_evaluation += time.process_time() - began
        losses = np.mean(self._losses, axis=0).tolist() if self._losses else [0.0] * 4
        self._losses = []
        self.curve.append(
            Evaluation(
                self.env_steps,
                self.learner.updates,
                self._cpu,
                self._cpu_evaluation,
                tuple(returns.tolist()),
                tuple(losses),
                self.replay.projected / max(1, self.replay.stored),
            )
        )

    def result(self) -> TrainingResult:
        """Return what there is so far."""
        return TrainingResult(
            self.task, self.settings, self.seed, tuple(self.curve), self.learner.average, self.replay
        )

    # --- checkpoints ---

    def configuration(self) -> dict[str, Any]:
        """Return what determines the training, as JSON."""
        return {
            "task": self.task.as_json(),
            "settings": asdict(self.settings),
            "seed": self.seed,
            "torch": torch.__version__,
        }

    def checkpoint(self) -> Checkpoint:
        """Return the whole state of the training."""
        arrays, numbers = self.replay.state()
        used = max((s.first + s.steps + 1 + self.replay.unroll_max for s in self.replay.segments), default=1)
        everything = {f"replay.{name}": array[:used] for name, array in arrays.items()}
        everything |= {f"learner.{name}": vector.numpy() for name, vector in self.learner.state().items()}
        everything["lanes.observations"] = self.lanes.observations.copy()
        for name in _Lane.NAMES:
            rows = [np.asarray(lane.rows[name]) for lane in self.open if len(lane)]
            everything[f"open.{name}"] = np.concatenate(rows) if rows else np.zeros(0)
        state = {
            "replay": numbers,
            "episodes": self.lanes.episodes.tolist(),
            "actions_taken": self.lanes.actions_taken,
            "open": [len(lane) for lane in self.open],
            "held": self.held.tolist(),
            "acting": self.acting.bit_generator.state,
            "sampling": self.sampling.bit_generator.state,
            "steps_done": self.steps_done,
            "updates": self.learner.updates,
            "curve": [asdict(point) for point in self.curve],
            "losses": self._losses,
            "cpu": [self._cpu, self._cpu_evaluation],
        }
        return Checkpoint(everything, self.configuration(), state)

    def restore(self, saved: Checkpoint) -> None:
        """Take up the training where a checkpoint left it; one of another task, settings or seed is an error."""
        _check_same(saved.configuration, self.configuration())
        arrays, state = saved.arrays, saved.state
        full, _ = self.replay.state()
        for name, array in full.items():
            part = arrays[f"replay.{name}"]
            array[: len(part)] = part
        self.replay.restore(full, state["replay"])
        vectors = {n[8:]: torch.from_numpy(a) for n, a in arrays.items() if n.startswith("learner.")}
        self.learner.restore(vectors, state["updates"])
        self.lanes.restore(state["episodes"], state["actions_taken"], arrays["lanes.observations"])
        start = 0
        for lane, length in zip(self.open, state["open"], strict=True):
            lane.rows = {n: list(arrays[f"open.{n}"][start : start + length]) for n in _Lane.NAMES}
            start += length
        self.held[:] = state["held"]
        self.acting.bit_generator.state = state["acting"]
        self.sampling.bit_generator.state = state["sampling"]
        self.steps_done, self._losses = state["steps_done"], state["losses"]
        self._cpu, self._cpu_evaluation = state["cpu"]
        self.curve = [
            Evaluation(**p | {"returns": tuple(p["returns"]), "losses": tuple(p["losses"])})
            for p in state["curve"]
        ]


def _check_same(saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise an error that names the first difference between two configurations."""
    own = json.loads(json.dumps(own))
    for part in ("task", "settings"):
        for name, value in own[part].items():
            if saved.get(part, {}).get(name) != value:
                raise BookError(
                    f"this checkpoint is of another training: its {part} has {name} = "
                    f"{short_repr(saved.get(part, {}).get(name))}, not {short_repr(value)}; use another folder"
                )
    for name in ("seed", "torch"):
        if saved.get(name) != own[name]:
            raise BookError(
                f"this checkpoint is of another training: its {name} is {short_repr(saved.get(name))}, "
                f"not {short_repr(own[name])}; use another folder"
            )


def train(
    task: Task | str,
    settings: TrainingSettings | None = None,
    seed: int = 0,
    *,
    progress: Progress | None = None,
    folder: str | Path | None = None,
) -> TrainingResult:
    """Train MuZero on a task (a `Task`, or an id) and return its learning curve, network and replay.

    Without ``settings`` the preset of the environment, or the defaults. With a ``folder``, checkpoints are written there, and a
    checkpoint of the same training that lies there is gone on from (of another one: an error, as is a training that is
    under way there). Torch and the search use one
    thread; the same arguments give the same numbers, apart from the seconds. (NumPy's BLAS may split products over threads,
    which changes last digits and, after thousands of steps, a training: the book's pipeline sets ``OPENBLAS_NUM_THREADS=1``.)
    """
    with checkpoints.held(folder):
        trainer = Trainer(task, settings, seed)
        if folder is not None and checkpoints.checkpoint_path(folder).is_file():
            trainer.restore(checkpoints.read_checkpoint(folder))
        return _run(trainer, progress, folder)


def resume(folder: str | Path, *, progress: Progress | None = None) -> TrainingResult:
    """Go on with the training whose checkpoint lies in ``folder``, to its end; a finished one is just returned."""
    trainer = _restored(folder)
    with checkpoints.held(None if trainer.finished else folder):
        return _run(trainer, progress, folder)


def _restored(folder: str | Path) -> Trainer:
    """Return the trainer whose checkpoint lies in a folder."""
    saved = checkpoints.read_checkpoint(folder)
    trainer = _of_configuration(saved.configuration)
    trainer.restore(saved)
    return trainer


def _of_configuration(configuration: dict[str, Any]) -> Trainer:
    """Return a new trainer of a stored configuration."""
    settings = dict(configuration["settings"])
    for name in ("temperatures", "holds"):
        settings[name] = tuple(map(tuple, settings.get(name, ())))
    try:
        return Trainer(Task(**configuration["task"]), TrainingSettings(**settings), configuration["seed"])
    except TypeError:
        raise BookError("this checkpoint was written by another version of the library: train anew") from None


def _run(trainer: Trainer, progress: Progress | None, folder: str | Path | None) -> TrainingResult:
    every = trainer.settings.checkpoint_every
    while not trainer.finished:
        points, before = len(trainer.curve), trainer.env_steps
        trainer.step()
        if folder is not None and (trainer.env_steps // every > before // every or trainer.finished):
            checkpoints.write_checkpoint(folder, trainer.checkpoint())
        if progress is not None and len(trainer.curve) > points:
            progress(trainer.curve[-1], trainer.settings.env_steps)
    trainer.lanes.close()
    return trainer.result()
