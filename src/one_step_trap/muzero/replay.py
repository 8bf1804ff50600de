"""Experience in flat arrays, from which a sample of K steps is an index plus ``arange(K + 1)``.

Episodes are stored in **segments**: whole episodes, or stretches of at most some steps of a long one, so that learning need
not wait for its end. A segment of T steps takes T + 1 + K_max rows:

- rows 0 … T-1: an observation, the action taken, its reward; a policy, a value and a reward to learn from;
- row T of an episode that **terminated**: the last observation, a random action, reward 0; no policy, value 0, the reward;
- row T of one that was **cut off**: the last observation; a policy and the search's value, no reward;
- rows T+1 … after a terminated one, the **absorbing rows**: a random action, reward 0; no policy, value 0, the reward;
- rows T+1 … after one that was cut off: nothing to learn from.

Three masks say what there is to learn from. So a segment shorter than K is sampled like any other, the model is told
what follows the end of an episode, and is told nothing about what a time limit hid. The terminal observation is a start of
samples, too: otherwise a model that is unrolled for one step would never hear of reward 0 after the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_gamma,
    check_probability,
    check_rng,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.search import Model
from one_step_trap.muzero.targets import n_step_targets, project

Float32 = NDArray[np.float32]
SMALLEST_PRIORITY = 1e-3
"""Added to each priority, so that nothing is never sampled."""


@dataclass(frozen=True)
class Segment:
    """T steps of one episode, in time order.

    ``observations`` (T + 1, O); ``actions`` (T,); ``rewards`` (T,); ``policies`` (T + 1, A), visit shares of the search;
    ``root_values`` (T + 1,) of the search; the last policy and value are ignored if ``terminated``. ``goes_on``: the
    next segment begins with this one's last observation (only possible without ``terminated``).
    """

    observations: Float32
    actions: IntArray
    rewards: Float32
    policies: Float32
    root_values: FloatArray
    terminated: bool
    goes_on: bool = False

    def __post_init__(self) -> None:
        arrays = {
            name: check_finite(getattr(self, name), name)
            for name in ("observations", "actions", "rewards", "policies", "root_values")
        }
        T = arrays["actions"].size
        if not T or arrays["actions"].ndim != 1 or (arrays["actions"] != arrays["actions"].round()).any():
            raise BookError("actions of a segment must be whole numbers of shape (T,), T ≥ 1")
        for name, rows, ndim in (
            ("observations", T + 1, 2),
            ("rewards", T, 1),
            ("policies", T + 1, 2),
            ("root_values", T + 1, 1),
        ):
            if arrays[name].ndim != ndim or len(arrays[name]) != rows:
                raise BookError(
                    f"a segment of {T} actions needs {rows} rows of {name}, got shape {arrays[name].shape}"
                )
        if self.terminated and self.goes_on:
            raise BookError("a segment that terminated cannot go on")
        kinds = {
            "observations": np.float32,
            "rewards": np.float32,
            "policies": np.float32,
            "actions": np.int64,
        }
        for name, array in arrays.items():
            object.__setattr__(self, name, np.ascontiguousarray(array, dtype=kinds.get(name, np.float64)))


class Batch(NamedTuple):
    """B samples of K steps from the replay; masks are 1 where there is something to learn from, else 0."""

    observations: Float32
    """(B, O) observations at the start."""
    actions: IntArray
    """(B, K)"""
    rewards: Float32
    """(B, K)"""
    policies: Float32
    """(B, K + 1, A)"""
    values: FloatArray
    """(B, K + 1) n-step targets."""
    reward_mask: Float32
    """(B, K)"""
    policy_mask: Float32
    """(B, K + 1)"""
    value_mask: Float32
    """(B, K + 1)"""
    weights: Float32
    """(B,) importance weights, at most 1."""
    rows: IntArray
    """(B,) rows of the replay where the samples start."""
    following: Float32 | None
    """(B, K, O) observations after the start, for the consistency loss (only if asked for)."""
    following_mask: Float32 | None
    """(B, K) 1 where there is such an observation."""


class _Kept(NamedTuple):
    """Where a segment lies: rows ``first`` to ``first + steps``, then K_max more."""

    first: int
    steps: int
    terminated: bool
    goes_on: bool
    born: int
    """How many steps had been stored when this segment was."""


class Replay:
    """A ring of ``capacity`` rows (the oldest segments make room for new ones) for samples of up to ``unroll_max`` steps.

    Value targets are ``n_step`` returns at discount ``gamma``, moved into ``value_range`` where wrong rewards of the model
    drove them out (`targets.project`; ``projected`` counts how many of the ``stored`` ones). Samples are uniform over all
    starts for ``priority_exponent`` α = 0; otherwise start i has probability ``p_iᵅ / Σ p_jᵅ`` with
    ``p_i = abs(ν_i - z_i)``, search value against target, and weight ``(N P(i))^-β / max``, β = ``importance_exponent``.

    What an old policy got over n steps says little about the policy of today. With ``shorten_every`` a segment's n falls by
    one for every so many steps that were stored after it, down to 1, whenever its targets are computed anew (`renew`,
    `update`): the correction of EfficientZero (Ye et al. 2021, arXiv 2111.00210).
    """

    ARRAYS = (
        "observations",
        "actions",
        "rewards",
        "policies",
        "root_values",
        "values",
        "reward_mask",
        "policy_mask",
        "value_mask",
        "observed",
        "starts",
        "priorities",
    )

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        actions: int,
        *,
        unroll_max: int,
        gamma: float,
        n_step: int,
        value_range: tuple[float, float],
        priority_exponent: float = 0.0,
        importance_exponent: float = 1.0,
        shorten_every: int | None = None,
    ) -> None:
        self.capacity = check_count(capacity, "capacity", minimum=2)
        self.action_count = check_count(actions, "actions")
        O = check_count(observation_size, "observation_size")  # noqa: E741
        self.unroll_max = check_count(unroll_max, "unroll_max")
        self.gamma, self.n_step = check_gamma(gamma, episodic=True), check_count(n_step, "n_step")
        self.shorten_every = None if shorten_every is None else check_count(shorten_every, "shorten_every")
        self.value_range = value_range
        self.alpha = check_probability(priority_exponent, "priority_exponent")
        self.beta = check_probability(importance_exponent, "importance_exponent")
        rows = self.capacity
        self.observations: Float32 = np.zeros((rows, O), dtype=np.float32)
        self.actions: IntArray = np.zeros(rows, dtype=np.int64)
        self.rewards: Float32 = np.zeros(rows, dtype=np.float32)
        self.policies: Float32 = np.zeros((rows, self.action_count), dtype=np.float32)
        self.root_values, self.values, self.priorities = np.zeros(rows), np.zeros(rows), np.zeros(rows)
        self.reward_mask, self.policy_mask, self.value_mask, self.observed, self.starts = (
            np.zeros(rows, dtype=bool) for _ in range(5)
        )
        self.segments: list[_Kept] = []  # the oldest first
        self.end = 0  # the row after the newest segment
        self.steps = 0  # stored so far, those forgotten since included
        self.stored = self.projected = 0
        self._table: tuple[IntArray, FloatArray | None] | None = None

    # --- storing ---

    def add(self, segment: Segment, rng: np.random.Generator) -> None:
        """Store a segment; ``rng`` draws the actions of its absorbing rows."""
        if not isinstance(segment, Segment):
            raise BookError(f"segment must be a Segment, got {short_repr(segment)}")
        self._check(segment)
        T, K = len(segment.actions), self.unroll_max
        first = self._make_room(T + 1 + K)
        self.steps += T
        kept = _Kept(first, T, segment.terminated, segment.goes_on, self.steps)
        rows = slice(first, first + T + 1 + K)
        for name in self.ARRAYS:
            getattr(self, name)[rows] = 0
        live, seen = slice(first, first + T), slice(first, first + T + 1)
        self.observations[seen], self.rewards[live] = segment.observations, segment.rewards
        self.actions[rows] = check_rng(rng).integers(self.action_count, size=T + 1 + K)
        self.actions[live] = segment.actions
        self.policies[seen], self.root_values[seen] = segment.policies, segment.root_values
        self.observed[seen] = self.policy_mask[seen] = True
        self.reward_mask[rows if segment.terminated else live] = True
        self.value_mask[rows if segment.terminated else seen] = True
        if segment.terminated:
            end = first + T
            self.policies[end], self.root_values[end], self.policy_mask[end] = 0, 0, False
        self.starts[live if segment.goes_on else seen] = True
        self.segments.append(kept)
        self._refresh(kept)

    def _check(self, segment: Segment) -> None:
        O, A = self.observations.shape[1], self.action_count  # noqa: E741
        if segment.observations.shape[1] != O or segment.policies.shape[1] != A:
            raise BookError(
                f"the replay holds observations of {O} numbers and {A} actions, the segment has "
                f"{segment.observations.shape[1]} and {segment.policies.shape[1]}"
            )
        if segment.actions.min() < 0 or segment.actions.max() >= A:
            raise BookError(f"actions must lie in 0 .. {A - 1}")
        need = len(segment.actions) + 1 + self.unroll_max
        if need > self.capacity:
            raise BookError(
                f"a segment of {len(segment.actions)} steps takes {need} rows, more than the capacity {self.capacity}"
            )

    def _make_room(self, rows: int) -> int:
        """Return the first of ``rows`` free rows, after forgetting the segments that lie there."""
        first = self.end if self.end + rows <= self.capacity else 0
        if first < self.end:  # wrapped around: nothing newer than these lies behind
            behind = [s for s in self.segments if s.first >= self.end]
            for old in behind:
                self._forget(old)
        self.end = first + rows
        while self.segments and self._overlaps(self.segments[0], first):
            self._forget(self.segments[0])
        return first

    def _overlaps(self, old: _Kept, first: int) -> bool:
        return old.first < self.end and first < old.first + old.steps + 1 + self.unroll_max

    def _forget(self, old: _Kept) -> None:
        self.starts[old.first : old.first + old.steps + 1] = False
        self.segments.remove(old)

    def n_step_of(self, kept: _Kept) -> int:
        """Return over how many steps the returns of a segment of ``segments`` go now."""
        shorter = 0 if self.shorten_every is None else (self.steps - kept.born) // self.shorten_every
        return max(1, self.n_step - shorter)

    def _refresh(self, kept: _Kept) -> None:
        """Compute targets and priorities of a segment from its rewards and root values."""
        live, seen = (
            slice(kept.first, kept.first + kept.steps),
            slice(kept.first, kept.first + kept.steps + 1),
        )
        n = self.n_step_of(kept)
        z = n_step_targets(self.rewards[live], self.root_values[seen], self.gamma, n, kept.terminated)
        self.values[seen], moved = project(z, *self.value_range)
        self.priorities[seen] = np.abs(self.root_values[seen] - self.values[seen]) + SMALLEST_PRIORITY
        self.stored, self.projected = self.stored + len(z), self.projected + moved
        self._table = None

    # --- sampling ---

    @property
    def start_rows(self) -> IntArray:
        """Rows where samples may start, (N,)."""
        return self._lookup()[0]

    @property
    def probabilities(self) -> FloatArray:
        """Probabilities with which the starts are sampled, (N,)."""
        rows, edges = self._lookup()
        return np.full(len(rows), 1 / len(rows)) if edges is None else np.diff(edges, prepend=0.0)

    def _lookup(self) -> tuple[IntArray, FloatArray | None]:
        if self._table is None:
            rows = np.flatnonzero(self.starts)
            if not len(rows):
                raise BookError("the replay is empty: add a segment first")
            edges = None
            if self.alpha:
                edges = np.cumsum(self.priorities[rows] ** self.alpha)
                edges /= edges[-1]
            self._table = rows, edges
        return self._table

    def sample(
        self, batch: int, unroll_steps: int, rng: np.random.Generator, *, following: bool = False
    ) -> Batch:
        """Return ``batch`` samples of ``unroll_steps`` steps (at most ``unroll_max``)."""
        batch = check_count(batch, "batch")
        rows, edges = self._lookup()
        if edges is None:
            index = check_rng(rng).integers(len(rows), size=batch)
            weights = np.ones(batch)
        else:
            index = np.minimum(np.searchsorted(edges, check_rng(rng).random(batch), "right"), len(rows) - 1)
            chances = np.diff(edges, prepend=0.0)
            weights = (len(rows) * chances[index]) ** -self.beta
            weights /= (len(rows) * chances.min()) ** -self.beta
        return self.gather(rows[index], unroll_steps, weights, following=following)

    def gather(
        self, rows: ArrayLike, unroll_steps: int, weights: ArrayLike | None = None, *, following: bool = False
    ) -> Batch:
        """Return the samples that start in ``rows`` (B,), see `start_rows`."""
        start = np.asarray(rows)
        K = check_count(unroll_steps, "unroll_steps")
        if self.unroll_max < K:
            raise BookError(
                f"unroll_steps must be at most unroll_max = {self.unroll_max} of this replay, got {K}"
            )
        if start.ndim != 1 or start.dtype.kind not in "iu" or not self.starts[start].all():
            raise BookError("rows must be starts of this replay, see start_rows")
        w = np.ones(len(start)) if weights is None else np.asarray(weights)
        block = start[:, None] + np.arange(K + 1)  # (B, K + 1)
        steps, after = block[:, :-1], block[:, 1:]
        return Batch(
            self.observations[start],
            self.actions[steps],
            self.rewards[steps],
            self.policies[block],
            self.values[block],
            self.reward_mask[steps].astype(np.float32),
            self.policy_mask[block].astype(np.float32),
            self.value_mask[block].astype(np.float32),
            w.astype(np.float32),
            start,
            self.observations[after] if following else None,
            self.observed[after].astype(np.float32) if following else None,
        )

    # --- reanalyse ---

    def update(self, rows: ArrayLike, policies: ArrayLike, root_values: ArrayLike) -> None:
        """Replace policies (n, A) and root values (n,) of stored rows by those of a fresh search (reanalyse).

        Targets and priorities of their segments are computed anew. Rows without a policy (ended episodes) are errors.
        """
        index = np.asarray(rows)
        p, v = check_finite(policies, "policies"), check_finite(root_values, "root_values")
        if (
            index.ndim != 1
            or index.dtype.kind not in "iu"
            or not (self.starts & self.policy_mask)[index].all()
        ):
            raise BookError("rows must be starts of this replay that have a policy")
        if p.shape != (len(index), self.action_count) or v.shape != (len(index),):
            raise BookError(
                f"{len(index)} rows need policies and root values of as many, got {p.shape} and {v.shape}"
            )
        self.policies[index], self.root_values[index] = p, v
        for kept in self.segments:
            if ((index >= kept.first) & (index <= kept.first + kept.steps)).any():
                self._refresh(kept)

    def renew(self, count: int, model: Model, rng: np.random.Generator) -> None:
        """Replace the root values of ``count`` segments, drawn at random, by what the value head of ``model`` says now.

        Bootstrapped targets are then as good as the newest values. The value of an ended episode stays 0.
        """
        count = min(check_count(count, "count"), len(self.segments))
        if not count:
            return
        drawn = [
            self.segments[i] for i in check_rng(rng).choice(len(self.segments), size=count, replace=False)
        ]
        rows = [np.arange(kept.first, kept.first + kept.steps + 1) for kept in drawn]
        index = np.concatenate(rows)
        self.root_values[index] = model.predict(model.represent(self.observations[index]))[1]
        for kept in drawn:
            if kept.terminated:
                self.root_values[kept.first + kept.steps] = 0
            self._refresh(kept)

    # --- checkpoints ---

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return all arrays (copies) and all other numbers, for a checkpoint."""
        numbers = {
            "segments": [list(map(int, s)) for s in self.segments],
            "end": self.end,
            "steps": self.steps,
            "stored": self.stored,
            "projected": self.projected,
        }
        return {name: getattr(self, name).copy() for name in self.ARRAYS}, numbers

    def restore(self, arrays: dict[str, NDArray[Any]], numbers: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name in self.ARRAYS:
            own = getattr(self, name)
            if name not in arrays or arrays[name].shape != own.shape or arrays[name].dtype != own.dtype:
                raise BookError(f"this is no state of this replay: {name} does not fit")
            own[...] = arrays[name]
        self.segments = [_Kept(f, s, bool(t), bool(g), b) for f, s, t, g, b in numbers["segments"]]
        self.end, self.steps = numbers["end"], numbers["steps"]
        self.stored, self.projected = numbers["stored"], numbers["projected"]
        self._table = None
