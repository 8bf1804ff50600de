"""How far a world model can be iterated: its open-loop error against depth, along real trajectories.

A **world model** is any callable ``model(observation (B, D), action (B, A)) -> next observation (B, D)``. It is
started at a real observation x_t, given the real actions, and fed its own predictions::

    x̂_0 = x_t        x̂_h = model(x̂_{h-1}, a_{t+h-1})        h = 1 … depth

Its error in dimension d at depth h is ``|x̂_h[d] - x_{t+h}[d]| / sd[d]``, in standard deviations of the real data, and its
total error is the root mean square over dimensions. Every quantity is kept per start. A start says nothing beyond the
end of its real trajectory: there it has no error, which is left out and never zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from one_step_trap.core.stats import ROUNDING
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_positive,
    check_probability,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.trap.networks import Model, predict
from one_step_trap.trap.worlds import Trajectories, collect

"""A world model that draws its next observation: (observation, action, rng) -> next observation (B, D)."""
Typical = Literal["median", "rms"]

MIN_TRAJECTORIES = 5
"""Depths that fewer independent trajectories reach are not read: see `supported`."""
BASELINES = ("mean", "no change", "last change")


# --- starts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Starts:
    """Where rollouts start: ``trajectory`` and ``time`` of each, and whether the world ``ended`` the trajectory; all (S,)."""

    trajectory: IntArray
    time: IntArray
    ended: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time)


def starts_of(lengths: IntArray, ended: NDArray[np.bool_], depth: int, starts: int) -> Starts:
    """Return up to ``starts`` starts, evenly spaced, in each trajectory.

    The latest start of a trajectory of T steps is max(T - depth, ⌊T/2⌋): a start has ``depth`` real steps left, or at
    least half of its trajectory. ``ended`` (E,): whether the world itself ended it.
    """
    times = [
        np.unique(np.linspace(0, max(int(T) - depth, int(T) // 2), starts).round().astype(np.int64))
        for T in lengths
    ]
    trajectory = np.repeat(np.arange(len(times)), [len(t) for t in times])
    return Starts(trajectory, np.concatenate(times), np.asarray(ended, dtype=bool)[trajectory])


def _real(trajectories: Trajectories, start: Starts, depth: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the real observations (S, H+1, D), actions (S, H, A) and the observation before each start (S, D).

    NaN beyond the end of a trajectory. At its first step the observation before the start is the start itself.
    """
    e, t = start.trajectory, start.time
    steps = t[:, None] + np.arange(depth + 1)  # (S, H+1)
    inside = steps <= trajectories.lengths[e][:, None]
    last = trajectories.observations.shape[1] - 1
    x = np.where(inside[..., None], trajectories.observations[e[:, None], np.minimum(steps, last)], np.nan)
    a = trajectories.actions[e[:, None], np.minimum(steps[:, :-1], last - 1)]
    a = np.where(inside[:, 1:, None], a, np.nan)
    return x, a, trajectories.observations[e, np.maximum(t - 1, 0)]


# --- open loop --------------------------------------------------------------------------------------------


def open_loop(model: Model, observations: ArrayLike, actions: ArrayLike) -> FloatArray:
    """Return the model's own trajectories, (B, H+1, D), from ``observations`` (B, D) under ``actions`` (B, H, A).

    The first entry is the real observation. All B run together, one call of the model a step. Steps whose action is
    NaN (beyond the end of the real trajectory) are NaN. Once a prediction is not finite, it is infinite from there on and
    the model is not asked again.
    """
    try:
        x0, a = np.asarray(observations, dtype=np.float64), np.asarray(actions, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BookError(f"observations and actions must be arrays of numbers: {error}") from None
    if x0.ndim != 2 or a.ndim != 3 or len(x0) != len(a):
        raise BookError(f"observations must be (B, D) and actions (B, H, A), got {x0.shape} and {a.shape}")
    B, H, _ = a.shape
    prediction = np.full((B, H + 1, x0.shape[1]), np.nan)
    prediction[:, 0] = x0
    known: NDArray[np.bool_] = np.asarray(~np.isnan(a).any(axis=2))  # (B, H)
    finite = np.ones(B, dtype=bool)
    for h in range(H):
        run = np.flatnonzero(known[:, h] & finite)
        if len(run):
            prediction[run, h + 1] = predict(model, prediction[run, h], a[run, h])
            finite[run] = np.isfinite(prediction[run, h + 1]).all(axis=1)
        prediction[known[:, h] & ~finite, h + 1] = np.inf
    return prediction


# --- the measure ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RolloutError:
    """The open-loop error of a model: S starts, depths 1 … H, D dimensions, in standard deviations of the real data.

    ``start``: where the S rollouts start. ``error`` (S, H, D): by dimension; NaN beyond the end of the real
    trajectory, infinite once the model's prediction was not finite. ``sd`` (D,): what one standard deviation is, in
    units of the observation; a dimension that never varies (sd 0, listed in ``ignored``) has no scale and is left out
    of every total. ``one_step`` (E, T): total error of a single step from every real observation. ``baselines`` maps
    each of `BASELINES` to its total error (S, H).
    """

    env_id: str
    start: Starts
    error: FloatArray
    sd: FloatArray
    one_step: FloatArray
    baselines: dict[str, FloatArray]

    @property
    def depth(self) -> int:
        """The largest depth, H."""
        return int(self.error.shape[1])

    @property
    def ignored(self) -> tuple[int, ...]:
        """The dimensions that never vary in the real data."""
        return tuple(int(d) for d in np.flatnonzero(self.sd == 0))

    @property
    def total(self) -> FloatArray:
        """Root mean square over the dimensions that vary, (S, H)."""
        return root_mean_square(self.error[..., self.sd > 0])

    @property
    def reaching(self) -> IntArray:
        """How many starts have h real steps left, for h = 1 … H, shape (H,)."""
        return np.asarray((~np.isnan(self.total)).sum(axis=0))

    @property
    def limit(self) -> int:
        """The largest depth that enough trajectories reach (`supported`): curves are read up to there."""
        return supported(self.total, self.start)

    @property
    def diverged(self) -> float:
        """The share of starts whose prediction was, at some depth, not finite."""
        return float(np.isinf(self.total).any(axis=1).mean())

    @property
    def one_step_error(self) -> float:
        """The typical (median) error of a single step from real observations."""
        return float(np.median(self.one_step[~np.isnan(self.one_step)]))

    def curve(self, typical: Typical = "median") -> FloatArray:
        """Return the typical total error at depths 1 … H, (H,); NaN beyond ``limit``."""
        return typical_curve(self.total, self.limit, typical)


def root_mean_square(error: FloatArray) -> FloatArray:
    """Return the root mean square over the last axis; an infinity stays one, and so does what overflows."""
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(np.mean(error**2, axis=-1)))


def supported(total: FloatArray, start: Starts) -> int:
    """Return the largest depth to which curves are read.

    At least `MIN_TRAJECTORIES` trajectories reach it, and no more have been ended by the world before it than reach it:
    beyond the typical length of an episode only unusual ones are left. Those that were cut (by a time limit, or because
    enough data were there) are no longer counted where they stop.
    """
    for h, column in enumerate(total.T):
        known = ~np.isnan(column)
        reach = np.unique(start.trajectory[known])
        over = np.setdiff1d(start.trajectory[start.ended], reach)
        if len(reach) < max(MIN_TRAJECTORIES, len(over)):
            return h
    return int(total.shape[1])


def typical_curve(total: FloatArray, limit: int, typical: Typical = "median") -> FloatArray:
    """Return the typical value of each column of ``total`` (S, H) over the starts that reach it; NaN beyond ``limit``.

    ``median``: the upper median, so that it reaches 1 exactly where half of the starts do. ``rms``: the root mean
    square, under which the baseline ``mean`` is 1; a few starts that blow up carry it.
    """
    _check_typical(typical)
    curve = np.full(total.shape[1], np.nan)
    for h in range(limit):
        values = total[~np.isnan(total[:, h]), h]
        if typical == "median":
            curve[h] = np.partition(values, len(values) // 2)[len(values) // 2]
        else:
            curve[h] = root_mean_square(values)
    return curve


def _check_typical(typical: str) -> None:
    if typical not in ("median", "rms"):
        raise BookError(f"typical must be 'median' or 'rms', got {typical!r}")


def real_trajectories(
    env: str | Trajectories, *, transitions: int, seed: int, policy: Any = "random"
) -> Trajectories:
    """Return the trajectories given, checked, or collect them from an environment's id."""
    if isinstance(env, str):
        return collect(env, transitions, seed, policy=policy)
    if not isinstance(env, Trajectories):
        raise BookError(
            f"env must be the id of a Gymnasium environment, or Trajectories, got a {type(env).__name__}"
        )
    _check_trajectories(env)
    return env


def _check_trajectories(data: Trajectories) -> None:
    """Raise unless the arrays of ``data`` fit together and are finite inside the episodes."""
    try:
        x, a = np.asarray(data.observations, dtype=np.float64), np.asarray(data.actions, dtype=np.float64)
        lengths, ended = np.asarray(data.lengths), np.asarray(data.terminated)
    except (TypeError, ValueError) as error:
        raise BookError(f"trajectories must hold arrays of numbers: {error}") from None
    if (
        x.ndim != 3
        or a.ndim != 3
        or lengths.shape != x.shape[:1]
        or not len(x)
        or ended.shape != lengths.shape
    ):
        raise BookError(
            "trajectories need observations (E, T+1, D), actions (E, T, A), lengths (E,) and terminated (E,), got shapes "
            f"{x.shape}, {a.shape}, {lengths.shape} and {ended.shape}"
        )
    if a.shape[:2] != (x.shape[0], x.shape[1] - 1):
        raise BookError(
            f"actions of shape {a.shape} do not fit observations of shape {x.shape}: one step less"
        )
    if lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > a.shape[1]:
        raise BookError(
            f"lengths must be whole numbers from 1 to {a.shape[1]}, got {lengths.min()} to {lengths.max()}"
        )
    step = np.arange(x.shape[1])
    inside = step <= lengths[:, None]
    if not (np.isfinite(x[inside]).all() and np.isfinite(a[inside[:, 1:]]).all()):
        raise BookError("the trajectories hold NaN or infinite values inside an episode")


def data_scale(data: Trajectories) -> FloatArray:
    """Return the standard deviation of each dimension over all observations of ``data``, (D,), exactly 0 if constant."""
    inside = np.arange(data.observations.shape[1]) <= data.lengths[:, None]
    x = data.observations[inside]  # (N, D)
    return np.where(np.ptp(x, axis=0) == 0, 0.0, x.std(axis=0))


def rollout_error(
    model: Model,
    env: str | Trajectories,
    *,
    depth: int = 200,
    starts: int = 10,
    sd: ArrayLike | None = None,
    transitions: int = 5_000,
    seed: int = 0,
    policy: Any = "random",
) -> RolloutError:
    """Return the open-loop error of any world model along real trajectories, in standard deviations of the real data.

    The error of dimension d at depth h, for a start at x_t, is ``|x̂_h[d] - x_{t+h}[d]| / sd[d]`` (see the module).

    ``model``: a callable (observation (B, D), action (B, A)) -> next observation (B, D). It sees actions as
    `Trajectories` hold them: one-hot if they are discrete. ``env``: the id of a Gymnasium environment, from which
    ``transitions`` steps are collected with ``seed`` and ``policy``, or `Trajectories`. Up to ``starts`` starts per
    trajectory (`starts_of`). ``sd`` (D,), at least 0: by default that of all observations of the trajectories.

    Errors: `BookError` for input that cannot be right, for a model that returns another shape, and for data in which
    nothing varies. A model whose prediction is not finite is no error: its own error is infinite from there on, and
    ``diverged`` tells for how many starts.
    """
    if not callable(model):
        raise BookError(
            "the model must be callable: (observation (B, D), action (B, A)) -> next observation (B, D)"
        )
    depth, starts = check_count(depth, "depth"), check_count(starts, "starts")
    data = real_trajectories(env, transitions=transitions, seed=seed, policy=policy)
    scale = data_scale(data) if sd is None else _check_scale(sd, data.observations.shape[2])
    if not (scale > 0).any():
        raise BookError(
            "no dimension of the observations varies: there is no standard deviation to measure by"
        )
    start = starts_of(data.lengths, data.terminated, depth, starts)
    x, a, before = _real(data, start, depth)
    error = np.abs(open_loop(model, x[:, 0], a)[:, 1:] - x[:, 1:])  # (S, H, D)
    return RolloutError(
        data.env_id,
        start,
        _scaled(error, scale),
        scale,
        _one_step(model, data, scale),
        _baselines(data, x, before, scale),
    )


def _check_scale(sd: ArrayLike, size: int) -> FloatArray:
    scale = check_finite(sd, "sd")
    if scale.shape != (size,) or (scale < 0).any():
        raise BookError(f"sd must hold {size} numbers of at least 0, one a dimension, got {np.asarray(sd)!r}")
    return scale


def _scaled(error: FloatArray, sd: FloatArray) -> FloatArray:
    """Return errors in standard deviations; NaN in dimensions that have none."""
    with np.errstate(over="ignore"):
        return np.asarray(error / np.where(sd > 0, sd, np.nan))


def _one_step(model: Model, data: Trajectories, sd: FloatArray) -> FloatArray:
    """Return the total error of one step from every real observation, (E, T); NaN beyond the ends."""
    E, T, A = data.actions.shape
    inside = (np.arange(T) < data.lengths[:, None]).ravel()
    x = data.observations[:, :-1].reshape(E * T, -1)[inside]  # (N, D)
    after = predict(model, x, data.actions.reshape(E * T, A)[inside])
    after[~np.isfinite(after).all(axis=1)] = np.inf
    error = np.abs(after - data.observations[:, 1:].reshape(E * T, -1)[inside])
    result = np.full(E * T, np.nan)
    result[inside] = root_mean_square(_scaled(error, sd)[:, sd > 0])
    return result.reshape(E, T)


def _baselines(
    data: Trajectories, x: FloatArray, before: FloatArray, sd: FloatArray
) -> dict[str, FloatArray]:
    """Return the total errors (S, H) of guesses that need no model: the mean, no change, the last change repeated."""
    inside = np.arange(data.observations.shape[1]) <= data.lengths[:, None]
    mean = data.observations[inside].mean(axis=0)
    h = np.arange(1, x.shape[1])[None, :, None]
    now = x[:, :1]
    guesses = {"mean": mean, "no change": now, "last change": now + h * (now - before[:, None])}
    return {
        name: root_mean_square(_scaled(np.abs(guess - x[:, 1:]), sd)[..., sd > 0])
        for name, guess in guesses.items()
    }


# --- steps to one standard deviation ----------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """A number of steps with its interval; infinite values stand for "more than ``limit``".

    ``n`` independent ``units`` (trajectories of one model, or seeds); ``confidence`` is the coverage of the interval.
    """

    value: float
    low: float
    high: float
    n: int
    limit: int
    confidence: float = 0.95
    units: str = "trajectories"

    @property
    def censored(self) -> bool:
        """Whether the error stayed below the threshold as far as there was data."""
        return math.isinf(self.value)

    def words(self, value: float) -> str:
        """Return a number of steps as prose wants it, "more than 200" if it is beyond the limit."""
        return f"more than {self.limit:,}" if math.isinf(value) else f"{value:,.4g}"

    def __str__(self) -> str:
        percent = f"{100 * self.confidence:.3g}%"
        return (
            f"{self.words(self.value)} [{self.words(self.low)}, {self.words(self.high)}] "
            f"({percent}, n = {self.n:,} {self.units})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the same for JSON: a number beyond the limit is null, and ``censored`` tells."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {
            **{name: None if math.isinf(x) else x for name, x in ends.items()},
            "censored": self.censored,
            "limit": self.limit,
            "n": self.n,
            "units": self.units,
            "confidence": self.confidence,
        }


def first_at_least(curve: ArrayLike, threshold: float = 1.0) -> float:
    """Return the first depth (counted from 1) at which ``curve`` reaches ``threshold``; infinite if it never does."""
    try:
        error = np.asarray(curve, dtype=np.float64)
    except (TypeError, ValueError):
        raise BookError("curve must be a vector of numbers, one a depth") from None
    reached = np.flatnonzero(error >= check_positive(threshold, "threshold") * (1 - ROUNDING))
    return float(reached[0] + 1) if len(reached) else math.inf


def steps_to_one_sd(
    errors: RolloutError | Sequence[RolloutError],
    rng: np.random.Generator | None = None,
    *,
    threshold: float = 1.0,
    typical: Typical = "median",
    confidence: float = 0.95,
    resamples: int = 1_000,
) -> Steps:
    """Return the first depth at which the typical error reaches ``threshold`` standard deviations, with its interval.

    The typical error is the **median over starts**: at the depth returned, half of the starts or more are one
    standard deviation off. A median is not carried by the few starts from which a network blows up, and it exists when
    they have become infinite. ``typical="rms"`` takes the root mean square instead, where 1 is by definition the error of
    always predicting the mean.

    For one model the interval is a percentile bootstrap over independent trajectories (all starts of a trajectory stay
    together; ``rng`` is needed). For a sequence of `RolloutError`, one an independently trained model on its own data,
    the answer is the median over models with the exact interval of order statistics (`median_of_steps`). An error that
    stays below the threshold as far as enough trajectories reach (`supported`) is "more than" that depth.
    """
    threshold, confidence = (
        check_positive(threshold, "threshold"),
        check_probability(confidence, "confidence"),
    )
    _check_typical(typical)
    if not isinstance(errors, RolloutError):
        if (
            not isinstance(errors, Sequence)
            or not len(errors)
            or not all(isinstance(error, RolloutError) for error in errors)
        ):
            raise BookError("errors must be a RolloutError, or a sequence of them, one for each model")
        values = [first_at_least(e.curve(typical), threshold) for e in errors]
        return median_of_steps(values, min(e.limit for e in errors), confidence=confidence)
    if rng is None:
        raise BookError("the interval of one model is a bootstrap over trajectories: give rng, a Generator")
    return crossing(
        errors.total,
        errors.start,
        check_rng(rng),
        threshold=threshold,
        typical=typical,
        confidence=confidence,
        resamples=check_count(resamples, "resamples"),
    )


def crossing(
    total: FloatArray,
    start: Starts,
    rng: np.random.Generator,
    *,
    threshold: float = 1.0,
    typical: Typical = "median",
    confidence: float = 0.95,
    resamples: int = 1_000,
) -> Steps:
    """Return where the typical value of ``total`` (S, H) reaches ``threshold``, with a bootstrap over trajectories.

    The median reaches the threshold where the share of starts at or above it reaches one half, and the mean square
    where the mean of the squares reaches its square. Both are ratios of sums over trajectories, so that a thousand
    resamples are one product of matrices.
    """
    limit = supported(total, start)
    if limit == 0:
        raise BookError(
            f"an interval needs at least {MIN_TRAJECTORIES} independent trajectories, "
            f"got {len(np.unique(start.trajectory))}: collect more transitions"
        )
    known = ~np.isnan(total[:, :limit])
    if typical == "median":
        beyond = total[:, :limit] >= threshold * (1 - ROUNDING)
        score, needed = (known & beyond).astype(np.float64), 0.5
    else:  # a start that has diverged counts as a million standard deviations
        score, needed = np.where(known, np.minimum(total[:, :limit], 1e6), 0.0) ** 2, threshold**2
    names, index = np.unique(start.trajectory, return_inverse=True)
    E = len(names)
    sums, counts = np.zeros((E, limit)), np.zeros((E, limit))
    np.add.at(sums, index, score)
    np.add.at(counts, index, known)
    weights = np.vstack([np.ones(E), rng.multinomial(E, np.full(E, 1 / E), size=resamples)])  # (1 + R, E)
    reached = (weights @ sums >= needed * (weights @ counts) - 1e-12) & (weights @ counts > 0)
    steps = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, math.inf)  # (1 + R,)
    tail = (1 - confidence) / 2
    low, high = (float(np.quantile(steps[1:], q, method="nearest")) for q in (tail, 1 - tail))
    return Steps(float(steps[0]), low, high, E, limit, confidence)


def median_of_steps(
    values: ArrayLike, limit: int, *, confidence: float = 0.95, units: str = "seeds"
) -> Steps:
    """Return the median of independent numbers of steps, infinite ones included, with its exact interval.

    The k-th smallest and k-th largest of n values enclose the median with probability 1 - 2 P(Bin(n, ½) < k),
    whatever the distribution (Conover 1999), and whatever lies beyond the limit. k is the largest
    for which that is at least ``confidence``; under 6 values no k does at 95%, and the interval is the range, with its
    coverage told.
    """
    try:
        x = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        x = np.zeros(0)  # no numbers
    if x.ndim != 1 or not len(x) or np.isnan(x).any():
        raise BookError("values must be a vector of at least one number of steps, without NaN")
    if not 0 < check_probability(confidence, "confidence") < 1:
        raise BookError(f"confidence must lie between 0 and 1, got {confidence:g}")
    x, n = np.sort(x), len(x)
    k = max(1, int(stats.binom.ppf((1 - confidence) / 2, n, 0.5)))
    coverage = float(1 - 2 * stats.binom.cdf(k - 1, n, 0.5))
    # Of two middle values of which one is infinite, the mean is infinite too: half of the values are beyond the limit.
    return Steps(
        float((x[(n - 1) // 2] + x[n // 2]) / 2),
        float(x[k - 1]),
        float(x[n - k]),
        n,
        limit,
        max(coverage, 0.0),
        units,
    )
