"""Training through k steps: does it only move the wall to about k?

A one-step model is fitted to o_{t+1} and then iterated. The popular remedy feeds it its own predictions for k steps
while it is trained (`Training.unroll_steps`), and the popular objection is that such a model is good to about its own
k and no further: that the wall has moved, and stays. This module measures where the wall is.

The **wall** (horizon) of a model is the first depth at which its median open-loop error reaches a threshold, in
standard deviations of the data (`one_step_trap.trap.rollout`). If the objection is right, ``horizon ≈ k``: on
logarithmic axes a line of slope 1 through (1, 1). Five worlds are tried, two where the network has all that it needs
and three where it has not. The k-step training starts through one step, which helped large k in pilots and not every k.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_positive,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.study import Study
from one_step_trap.trap.networks import Network, Training, train, train_on_own_rollouts
from one_step_trap.trap.rollout import RolloutError, Steps, first_at_least, median_of_steps, rollout_error
from one_step_trap.trap.worlds import Trajectories, collect

UNROLL_STEPS = (1, 2, 5, 10, 20, 50)
DEPTHS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400)
THRESHOLDS = (0.1, 0.3, 1.0)

Regime = Literal["updates", "compute", "demonstrator"]
REGIMES: tuple[Regime, ...] = get_args(Regime)
REGIME_WORDS: dict[Regime, str] = {
    "updates": "equal updates, the first half through one step, the second through k",
    "compute": "equal evaluations of the network, half of them through one step, half through k",
    "demonstrator": "one step, but on the model's own rollouts too; as many updates as 'compute' at k = 1",
}

RULE = (
    "In a world: ln(horizon at 0.3 sd) is regressed on ln k over k in {1, 2, 5, 10, 20, 50}, by least squares for each "
    "seed, at equal updates. 'Only moves the wall to about k' HOLDS there if the 95% bootstrap interval of the mean "
    "slope lies above 1/2 and the median horizon lies within a factor 2 of k for at least four of the six k. It FAILS "
    "if the interval lies below 1/2, or if fewer than three of the six horizons lie within that factor. Otherwise it is "
    "OPEN. Over all worlds the claim holds if it holds in each, and fails if it fails in each; otherwise it depends on "
    "the world, and the worlds are named."
)
"""The rule for the claim trap-kstep, written before the study was run, but not blind.

Pilots on other seeds were known: three designs of the regimes were tried on seed 0, and the last on seeds 0 to 2. Its
numbers (1/2, 2, four, three) stayed as first written. The slope depends on the threshold: see `THRESHOLDS`.
"""
MAIN: Regime = "updates"
MAIN_THRESHOLD = 0.3
SLOPE_NEEDED, FACTOR, ENOUGH, TOO_FEW = 0.5, 2.0, 4, 3


# --- the worlds -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """What a network gets to see of an environment.

    ``policy`` makes the data (see `collect`). ``observed``: the dimensions that are seen (empty: all). ``frames``:
    how many of the last observations make one observation of the model. ``noise``: standard deviation of a sensor's
    noise in the *training* data, in sd of the data; the test is always against clean data, from clean starts.
    """

    env_id: str
    policy: str = "random"
    observed: tuple[int, ...] = ()
    frames: int = 1
    noise: float = 0.0

    def see(self, data: Trajectories) -> Trajectories:
        """Return the data as this world shows them, without noise."""
        return (data.observe(self.observed) if self.observed else data).stack(self.frames)


WORLDS = {
    "pendulum": World("Pendulum-v1"),
    "cartpole": World("CartPole-v1", "scripted"),
    "noisy": World("Pendulum-v1", noise=0.1),
    "frames": World("Pendulum-v1", observed=(0, 1), frames=2),
    "half": World("Pendulum-v1", observed=(0, 1)),
}
WORLD_WORDS = {
    "pendulum": "pendulum, all seen",
    "cartpole": "cart-pole, all seen",
    "noisy": "pendulum, noisy sensor",
    "frames": "pendulum, two angles",
    "half": "pendulum, angle only",
}


@dataclass(frozen=True)
class Settings:
    """One run of the study: every world and seed, every k in every regime, and the other remedy.

    ``updates`` of each training with equal updates; ``evaluations`` (updates times k) of each with equal compute;
    ``transitions`` of real data for training and ``tests`` for measuring, the latter in episodes of ``test_steps``.
    """

    worlds: tuple[str, ...] = tuple(WORLDS)
    seeds: tuple[int, ...] = tuple(range(100, 110))
    regimes: tuple[Regime, ...] = REGIMES
    unroll_steps: tuple[int, ...] = UNROLL_STEPS
    hidden: int = 32
    batch: int = 64
    updates: int = 1_500
    evaluations: int = 4_000
    transitions: int = 20_000
    tests: int = 9_000
    test_steps: int = 600
    depth: int = 400

    def __post_init__(self) -> None:
        for name in self.worlds:
            if name not in WORLDS:
                raise BookError(f"world must be one of {', '.join(WORLDS)}, got {name!r}")
        for regime in self.regimes:
            if regime not in REGIMES:
                raise BookError(f"regime must be one of {', '.join(REGIMES)}, got {regime!r}")
        for k in self.unroll_steps:
            check_count(k, "unroll_steps")
        for seed in self.seeds:
            check_count(seed, "seed", minimum=0)
        for name in (
            "hidden",
            "batch",
            "updates",
            "evaluations",
            "transitions",
            "tests",
            "test_steps",
            "depth",
        ):
            check_count(getattr(self, name), name)

    def training(self, regime: Regime, k: int) -> Training:
        """Return how a network is trained through k steps in a regime."""
        one = self.updates // 2 if regime == "updates" else self.evaluations // 2  # updates through one step
        more = self.updates - one if regime == "updates" else round((self.evaluations - one) / k)
        total = one + max(1, more)
        return Training(
            hidden=self.hidden,
            batch=self.batch,
            updates=total,
            unroll_steps=k,
            warm_up=one / total if k > 1 else 0.0,
        )


FULL = Settings()
# Small enough to be computed again whenever the chapter runs: its rows must agree with those of the full study.
SLICE = replace(FULL, worlds=("pendulum",), seeds=(100,), regimes=("updates",), unroll_steps=(1, 5))


class Data(NamedTuple):
    """Real trajectories to train on and to test on, and the unit of error in each dimension, (D,)."""

    train: Trajectories
    test: Trajectories
    sd: FloatArray


def world_data(name: str, seed: int, settings: Settings = FULL) -> Data:
    """Return the data of a world: training and test come from different seeds of the environment."""
    if name not in WORLDS:
        raise BookError(f"world must be one of {', '.join(WORLDS)}, got {name!r}")
    seed = check_count(seed, "seed", minimum=0)
    world = WORLDS[name]
    known = collect(world.env_id, settings.transitions, 2 * seed, policy=world.policy)
    fresh = collect(
        world.env_id, settings.tests, 2 * seed + 1, policy=world.policy, max_steps=settings.test_steps
    )
    clean = world.see(known)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    noisy = world.see(known.with_noise(world.noise, rng)) if world.noise else clean
    return Data(noisy, world.see(fresh), clean.scale())


# --- one run ----------------------------------------------------------------------------------------------


def fit(
    data: Trajectories, regime: Regime, k: int, seed: int, settings: Settings = FULL
) -> tuple[Network, float]:
    """Return a network trained through k steps in a regime, and the CPU seconds that it took."""
    training = settings.training(regime, k)
    learn: Callable[..., Network] = train_on_own_rollouts if regime == "demonstrator" else train
    start = time.process_time()
    network = learn(data, training, seed=seed)
    return network, time.process_time() - start


def measure(network: Network, data: Data, depth: int) -> RolloutError:
    """Return the open-loop error of a network on the test episodes, in standard deviations of clean data."""
    return rollout_error(network, data.test, depth=depth, starts=10, sd=data.sd)


COLUMNS = {
    "world": "what the network sees: "
    + "; ".join(f"{name} = {words}" for name, words in WORLD_WORDS.items()),
    "regime": "how it was trained: " + "; ".join(f"{name} = {words}" for name, words in REGIME_WORDS.items()),
    "k": "steps that the training unrolls; 1 is the one-step model",
    "seed": "seed of data and network",
    "measure": "what was measured: error, horizon, or seconds",
    "at": "depth of the error (steps); threshold of the horizon (sd of the data); updates made in those seconds",
    "value": "median error over starts (sd of the data); first depth with such an error (steps, inf: none up to 400); "
    "CPU seconds of training (not reproducible)",
}
KEYS = ("world", "regime", "k", "seed", "measure", "at")
"""The columns that tell the rows apart."""


def study(settings: Settings = FULL) -> pd.DataFrame:
    """Return the tidy table of the study, columns as in ``COLUMNS``; a row depends on its own settings and seed only."""
    rows: list[tuple[Any, ...]] = []
    _wake()
    for world in settings.worlds:
        for seed in settings.seeds:
            data = world_data(world, seed, settings)
            for regime in settings.regimes:
                for k in (1,) if regime == "demonstrator" else settings.unroll_steps:
                    rows += [
                        (world, regime, k, seed, *found)
                        for found in _measurements(data, regime, k, seed, settings)
                    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _wake() -> None:
    """Train for a moment: the first training of a process loads libraries, which is no part of its cost."""
    data = collect("CartPole-v1", 200, 0, policy="scripted")
    train(data, Training(updates=5, unroll_steps=2), seed=0)


def _measurements(
    data: Data, regime: Regime, k: int, seed: int, settings: Settings
) -> list[tuple[str, float, float]]:
    """Train one network and return its rows: (measure, at, value)."""
    network, seconds = fit(data.train, regime, k, seed, settings)
    curve = measure(network, data, settings.depth).curve()  # (H,), depth 1 first
    errors = [("error", float(h), rounded(curve[h - 1])) for h in DEPTHS if h <= len(curve)]
    errors = [row for row in errors if not math.isnan(row[2])]  # too few episodes are that long
    walls = [("horizon", threshold, first_at_least(curve, threshold)) for threshold in THRESHOLDS]
    return [*errors, *walls, ("seconds", float(settings.training(regime, k).updates), round(seconds, 3))]


def rounded(value: float) -> float:
    """Return a number with six significant digits, so that the table stays small."""
    return float(f"{value:.6g}")


STUDY_PARTS = [(world, seed) for world in FULL.worlds for seed in FULL.seeds]


def run_part(part: int) -> pd.DataFrame:
    """Return one part of the full study: one world and one seed."""
    world, seed = STUDY_PARTS[part]
    return study(replace(FULL, worlds=(world,), seeds=(seed,)))


STUDY = Study(
    name="01-one-step-trap/kstep",
    keys=KEYS,
    title="Training through k steps: open-loop error and horizon by world, regime, k and seed",
    parts=len(STUDY_PARTS),
    run=run_part,
    settings=asdict(FULL) | {"world": {name: asdict(world) for name, world in WORLDS.items()}},
    columns=COLUMNS,
)


# --- what the table says ----------------------------------------------------------------------------------


def _select(table: pd.DataFrame, measure: str, world: str, regime: str) -> pd.DataFrame:
    """Return the rows of one measure, world and regime, or raise where there are none."""
    _check_table(table)
    rows = table[(table["measure"] == measure) & (table["world"] == world) & (table["regime"] == regime)]
    if not len(rows):
        raise BookError(f"the table has no {measure} of world {world!r} in regime {regime!r}")
    return rows


def horizons(
    table: pd.DataFrame, world: str, regime: str = MAIN, threshold: float = MAIN_THRESHOLD
) -> pd.DataFrame:
    """Return the horizons (steps; inf beyond the last depth), one row a seed and one column a k."""
    rows = _select(table, "horizon", world, regime)
    rows = rows[rows["at"] == check_positive(threshold, "threshold")]
    if not len(rows):
        raise BookError(
            f"the table has no horizon at {threshold:g} sd: it has {', '.join(map(str, THRESHOLDS))}"
        )
    return rows.pivot(index="seed", columns="k", values="value")


def walls(
    table: pd.DataFrame,
    world: str,
    regime: str = MAIN,
    threshold: float = MAIN_THRESHOLD,
    *,
    limit: int = FULL.depth,
) -> dict[int, Steps]:
    """Return for each k the median horizon over seeds with its exact interval; "more than ``limit``" if need be."""
    found = horizons(table, world, regime, threshold)
    return {int(k): median_of_steps(found[k].to_numpy(), limit) for k in found.columns}


def slope(
    table: pd.DataFrame,
    world: str,
    rng: np.random.Generator,
    *,
    regime: str = MAIN,
    threshold: float = MAIN_THRESHOLD,
    limit: int = FULL.depth,
) -> Interval:
    """Return the slope of ln horizon on ln k: 1 if the wall moves with k, 0 if it stays where it was.

    Least squares for each seed, ``b = Σ (x - x̄) y / Σ (x - x̄)²`` with x = ln k and y = ln horizon, then the mean
    over seeds with a bootstrap interval. A horizon beyond the last depth counts as ``limit``.
    """
    found = horizons(table, world, regime, threshold)
    if found.shape[1] < 2:
        raise BookError("a slope needs at least two k")
    x = np.log(found.columns.to_numpy(dtype=np.float64))
    y = np.log(np.minimum(found.to_numpy(), limit))  # (seeds, k)
    each = (y @ (x - x.mean())) / ((x - x.mean()) ** 2).sum()
    return bootstrap_interval(each, check_rng(rng))


def gain(
    table: pd.DataFrame,
    world: str,
    k: int,
    rng: np.random.Generator,
    *,
    regime: str = MAIN,
    threshold: float = MAIN_THRESHOLD,
    limit: int = FULL.depth,
) -> Interval:
    """Return how many times further the wall is at k than at 1: the geometric mean over seeds of their ratio."""
    found = horizons(table, world, regime, threshold)
    return _ratio(found, found, world, k, rng, limit)


def demonstrator_gain(
    table: pd.DataFrame,
    world: str,
    rng: np.random.Generator,
    *,
    threshold: float = MAIN_THRESHOLD,
    limit: int = FULL.depth,
) -> Interval:
    """Return how many times further the wall is with data as demonstrator than with one step, at equal compute."""
    remedy = horizons(table, world, "demonstrator", threshold)
    return _ratio(remedy, horizons(table, world, "compute", threshold), world, 1, rng, limit)


def _ratio(
    top: pd.DataFrame, bottom: pd.DataFrame, world: str, k: int, rng: np.random.Generator, limit: int
) -> Interval:
    if k not in top.columns or 1 not in bottom.columns:
        raise BookError(f"the table has no k = {k} beside k = 1 for world {world!r}")
    logs = np.log(np.minimum(top[k], limit)) - np.log(np.minimum(bottom[1], limit))
    found = bootstrap_interval(logs.to_numpy(), check_rng(rng))
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.n)


@dataclass(frozen=True)
class Verdict:
    """What ``RULE`` says of one world: the slope, how many walls lie within a factor of 2 of k, and the word."""

    world: str
    slope: Interval
    near: int
    of: int
    word: Literal["holds", "fails", "open"]


def verdict(
    table: pd.DataFrame,
    world: str,
    rng: np.random.Generator,
    *,
    regime: str = MAIN,
    threshold: float = MAIN_THRESHOLD,
) -> Verdict:
    """Return the verdict of ``RULE`` for one world."""
    b = slope(table, world, rng, regime=regime, threshold=threshold)
    found = walls(table, world, regime, threshold)
    near = sum(1 / FACTOR <= wall.value / k <= FACTOR for k, wall in found.items())
    if b.low > SLOPE_NEEDED and near >= ENOUGH:
        return Verdict(world, b, near, len(found), "holds")
    if b.high < SLOPE_NEEDED or near < TOO_FEW:
        return Verdict(world, b, near, len(found), "fails")
    return Verdict(world, b, near, len(found), "open")


def verdicts(table: pd.DataFrame, rng: np.random.Generator, **options: Any) -> dict[str, Verdict]:
    """Return the verdict of each world of the table, in their order in ``WORLDS``."""
    _check_table(table)
    there = set(table["world"])
    return {world: verdict(table, world, rng, **options) for world in WORLDS if world in there}


def summary_word(found: dict[str, Verdict]) -> str:
    """Return the verdict over all worlds: ``holds``, ``fails`` or ``depends``."""
    words = {each.word for each in found.values()}
    return words.pop() if len(words) == 1 and words <= {"holds", "fails"} else "depends"


def error_curves(table: pd.DataFrame, world: str, regime: str = MAIN) -> pd.DataFrame:
    """Return the error by k and depth: columns ``k``, ``depth``, ``error`` (geometric mean over seeds, sd), ``n``."""
    rows = _select(table, "error", world, regime)
    rows = rows.assign(log=np.log(rows["value"]))
    grouped = rows.groupby(["k", "at"])["log"].agg(["mean", "size"]).reset_index()
    return pd.DataFrame(
        {"k": grouped["k"], "depth": grouped["at"], "error": np.exp(grouped["mean"]), "n": grouped["size"]}
    )


def best_k_slope(
    table: pd.DataFrame, world: str, rng: np.random.Generator, *, regime: str = MAIN
) -> Interval:
    """Return the slope of ln(the k with the least error at a depth) on ln depth, over the depths up to the largest k.

    What the claim may well mean: not that a network trained through k steps ends at k, but that it is the best of
    all at k. Slope 1 says so; slope 0 says that one k serves every depth. A slope for each seed, then their mean with
    a bootstrap interval.
    """
    rows = _select(table, "error", world, regime)
    rows = rows[rows["at"] <= rows["k"].max()]
    if rows["at"].nunique() < 2:
        raise BookError("a slope needs at least two depths up to the largest k")
    slopes = []
    for _, one in rows.groupby("seed"):
        curves = one.pivot(index="at", columns="k", values="value")
        x, y = np.log(curves.index.to_numpy()), np.log(curves.idxmin(axis=1).to_numpy(dtype=np.float64))
        slopes.append(float((x - x.mean()) @ y / ((x - x.mean()) ** 2).sum()))
    return bootstrap_interval(slopes, check_rng(rng))


def costs(table: pd.DataFrame, regime: str = MAIN) -> pd.DataFrame:
    """Return the CPU seconds of a training by k: columns ``k``, ``seconds``, ``low``, ``high``, ``n``.

    ``seconds`` is the median over worlds and seeds, ``low`` and ``high`` are the quartiles: times vary with what
    else the machine does, and are no random sample.
    """
    _check_table(table)
    rows = table[(table["measure"] == "seconds") & (table["regime"] == regime)]
    if not len(rows):
        raise BookError(f"the table has no seconds in regime {regime!r}")
    grouped = rows.groupby("k")["value"]
    quartiles = [grouped.quantile(q).to_numpy() for q in (0.5, 0.25, 0.75)]
    columns = ("seconds", "low", "high")
    return pd.DataFrame(
        {
            "k": list(grouped.groups),
            **dict(zip(columns, quartiles, strict=True)),
            "n": grouped.size().to_numpy(),
        }
    )


def disagreement(live: pd.DataFrame, stored: pd.DataFrame) -> float:
    """Return the largest relative difference between a table computed now and the rows of the stored one.

    Seconds are left out. Every row of ``live`` must be in ``stored``. Trainings repeat to twelve digits on one
    kind of processor; on another the environments themselves may round otherwise, and 1e-3 is close.
    """
    for table in (live, stored):
        _check_table(table)
    both = STUDY.beside(live[live["measure"] != "seconds"], stored)
    now, then = both["value"].to_numpy(), both["value stored"].to_numpy()
    ratios = [
        abs(x - y) / abs(y) if math.isfinite(x) and math.isfinite(y) else math.inf
        for x, y in zip(now, then, strict=True)
        if x != y  # horizons that are infinite in both tables agree
    ]
    return max(ratios, default=0.0)


def _check_table(table: pd.DataFrame) -> None:
    if not isinstance(table, pd.DataFrame) or set(COLUMNS) - set(table.columns):
        raise BookError(f"the table needs the columns {', '.join(COLUMNS)}: see kstep.study")
