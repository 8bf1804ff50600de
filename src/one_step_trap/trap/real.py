"""One-step networks learned from real Gymnasium data: how far they can be iterated, and why no further.

The claim under test: *a one-step network learned from real Gymnasium data diverges open-loop.*

**The rule, fixed before the study was run** (after pilots with seeds 1000 to 1002, which are not among its seeds; how far
curves are read where episodes end early, `supported`, was settled on them). A case is
an environment and a policy; the network is trained on data of the policy and rolled out along fresh data of the same
policy. It **diverges** if the upper end of the 95% interval (over seeds) of its steps to one standard deviation lies
within reach: within 200 steps, or before half of the episodes have ended, if that is earlier. The claim holds if
all ten cases diverge, does not hold if none does, and otherwise *holds when* the diverging ones are met. Whether the same
networks diverge on data of the *other* policy is reported beside it and does not enter the rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from one_step_trap.core.validate import FloatArray, check_count
from one_step_trap.errors import BookError
from one_step_trap.study import Study
from one_step_trap.trap.networks import Model, Training, train
from one_step_trap.trap.rollout import (
    BASELINES,
    MIN_TRAJECTORIES,
    RolloutError,
    Steps,
    first_at_least,
    median_of_steps,
    rollout_error,
    typical_curve,
)
from one_step_trap.trap.twins import NUDGE, Twins, twins
from one_step_trap.trap.worlds import Trajectories, collect

POLICIES = {
    "CartPole-v1": ("random", "scripted"),
    "Acrobot-v1": ("random", "scripted"),
    "Pendulum-v1": ("random", "scripted"),
    "MountainCarContinuous-v0": ("random", "scripted"),
    "HalfCheetah-v5": ("random", "held"),
}
"""The two policies of each environment: uniform actions, and one that goes where these do not."""

MODELS = ("network", "ensemble", "linear")
TWINS = ("twins once", "twins every step", "twins tiny")
DEPTHS = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 100, 120, 140, 160, 180, 200)
TRAINING = Training(updates=3_000)


@dataclass(frozen=True)
class LinearModel:
    """A least-squares fit of the change: ``x̂_{t+1} = x_t + W (x_t, a_t, 1)``, W of shape (D + A + 1, D)."""

    W: FloatArray

    def __call__(self, observations: FloatArray, actions: FloatArray) -> FloatArray:
        """Return the predicted next observations, (B, D)."""
        return observations + _with_one(observations, actions) @ self.W


def _with_one(observations: FloatArray, actions: FloatArray) -> FloatArray:
    return np.column_stack([observations, actions, np.ones(len(observations))])


def fit_linear(data: Trajectories) -> LinearModel:
    """Return the linear model of least squared error of the change over all transitions (minimum norm if many fit)."""
    if not isinstance(data, Trajectories):
        raise BookError(f"data must be Trajectories (see collect), got a {type(data).__name__}")
    x, a, after = data.transitions()
    return LinearModel(
        np.asarray(np.linalg.lstsq(_with_one(x, a), after - x, rcond=None)[0], dtype=np.float64)
    )


# --- the study --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the study varies: environments, seeds and models; each seed has its own data and networks.

    ``transitions`` real steps to train on and ``evaluation`` fresh ones of each policy to roll out along, ``starts`` in each
    episode, to ``depth`` steps; ``members`` of the probabilistic ensemble; ``twins`` episodes for the twin simulators,
    with ``twin_starts`` in each.
    """

    envs: tuple[str, ...] = tuple(POLICIES)
    seeds: tuple[int, ...] = tuple(range(10))
    models: tuple[str, ...] = MODELS
    transitions: int = 20_000
    evaluation: int = 8_000
    depth: int = 200
    starts: int = 10
    members: int = 5
    twins: int = 10
    twin_starts: int = 2
    training: Training = field(default_factory=lambda: TRAINING)

    def __post_init__(self) -> None:
        for env in self.envs:
            if env not in POLICIES:
                raise BookError(f"the study has no environment {env!r}; it has {', '.join(POLICIES)}")
        for model in self.models:
            if model not in MODELS:
                raise BookError(f"the study has no model {model!r}; it has {', '.join(MODELS)}")
        if "network" not in self.models:
            raise BookError(
                "the study needs the model 'network': its errors set the size of the twins' nudges"
            )


FULL = Settings()
# Small enough to be computed again whenever the chapter runs: its rows are those of the full study.
SLICE = replace(FULL, envs=("CartPole-v1",), seeds=(0,), models=("network", "linear"))

KEYS = ("env", "seed", "trained", "evaluated", "subject")
"""The columns that tell the rows of the study apart."""

COLUMNS = {
    "env": "id of the Gymnasium environment",
    "seed": "seed of data, network and twins",
    "trained": "policy of the training data; for twins: of the network whose errors they are nudged by; blank if neither",
    "evaluated": "policy of the real trajectories that the rollouts follow",
    "subject": "network, ensemble, linear; twins once, every step (displaced by the network's error in the first step, in "
    "every step), tiny (by 1e-4 sd, once); "
    "or a guess without a model: mean, no change, last change",
    "one_step": "median error of one step from real observations, in sd of the real data (models only)",
    "steps": "first depth at which the median error over starts reaches 1 sd; inf if it does not by the limit",
    "steps_rms": "the same for the root mean square over starts",
    "limit": f"depth by which half of the episodes have ended, or which fewer than {MIN_TRAJECTORIES} reach; at most 200 steps",
    "diverged": "share of starts from which the prediction was no finite number at some depth (models only)",
    "rate": "finite-time Lyapunov exponent per step (twins tiny only)",
    **{f"error_{h}": f"median error over starts at depth {h}, in sd of the real data" for h in DEPTHS},
}


def run_case(env: str, seed: int, settings: Settings = FULL) -> pd.DataFrame:
    """Return the rows of one environment and seed, `COLUMNS` wide; they depend on nothing else.

    Trains each model on data of both policies and rolls it out on fresh data of both; then the twins.
    """
    seed = check_count(seed, "seed", minimum=0)
    policies = POLICIES[env]
    made = [int(s) for s in np.random.SeedSequence([seed, list(POLICIES).index(env)]).generate_state(8)]
    fresh = {p: collect(env, settings.evaluation, made[i], policy=p) for i, p in enumerate(policies)}
    rows = []
    for i, trained in enumerate(policies):
        data = collect(env, settings.transitions, made[2 + i], policy=trained)
        for name in settings.models:
            model = _fit(name, data, made[4 + i], settings)
            for j, (evaluated, real) in enumerate(fresh.items()):
                error = rollout_error(model, real, depth=settings.depth, starts=settings.starts)
                rows.append(_model_row(name, error) | {"trained": trained, "evaluated": evaluated})
                if name == "network":
                    for every_step in (False, True):
                        pair = _twins(
                            env, evaluated, made[6 + j], error.sd, settings, model, every_step=every_step
                        )
                        rows.append(_twins_row(pair) | {"trained": trained, "evaluated": evaluated})
    for j, (evaluated, real) in enumerate(fresh.items()):
        error = rollout_error(_stay, real, depth=settings.depth, starts=settings.starts)
        tiny = _twins(env, evaluated, made[6 + j], error.sd, settings, NUDGE)
        rows.append(_twins_row(tiny, seed=made[6 + j]) | {"evaluated": evaluated})
        for name in BASELINES:
            rows.append(_row(name, error.baselines[name], error.limit) | {"evaluated": evaluated})
    return pd.DataFrame([{"env": env, "seed": seed, "trained": ""} | row for row in rows])[list(COLUMNS)]


def _stay(observations: FloatArray, actions: FloatArray) -> FloatArray:
    return observations


def _fit(name: str, data: Trajectories, seed: int, settings: Settings) -> Model:
    if name == "linear":
        return fit_linear(data)
    if name == "ensemble":
        return train(data, settings.training, seed=seed, probabilistic=True, members=settings.members)
    return train(data, settings.training, seed=seed)


def _twins(
    env: str,
    policy: str,
    seed: int,
    sd: FloatArray,
    settings: Settings,
    epsilon: float | Model,
    *,
    every_step: bool = False,
) -> Twins:
    return twins(
        env,
        epsilon,
        depth=settings.depth,
        trajectories=settings.twins,
        starts=settings.twin_starts,
        seed=seed,
        policy=policy,
        sd=sd,
        every_step=every_step,
    )


def _row(subject: str, total: FloatArray, limit: int) -> dict[str, Any]:
    median = typical_curve(total, limit)
    errors = {f"error_{h}": _rounded(median[h - 1]) if h <= len(median) else math.nan for h in DEPTHS}
    return {
        "subject": subject,
        "one_step": math.nan,
        "steps": first_at_least(median),
        "steps_rms": first_at_least(typical_curve(total, limit, "rms")),
        "limit": limit,
        "diverged": math.nan,
        "rate": math.nan,
        **errors,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _model_row(name: str, error: RolloutError) -> dict[str, Any]:
    return _row(name, error.total, error.limit) | {
        "one_step": _rounded(error.one_step_error),
        "diverged": _rounded(error.diverged),
    }


def _twins_row(pair: Twins, *, seed: int | None = None) -> dict[str, Any]:
    """Return the row of twins; with a ``seed`` those of the tiny nudge, whose rate of divergence counts."""
    if seed is None:
        name = "twins every step" if pair.every_step else "twins once"
        return _row(name, pair.distance, pair.limit)
    rate = pair.rate(np.random.default_rng(seed)).value
    return _row("twins tiny", pair.distance, pair.limit) | {"rate": _rounded(rate)}


def study(settings: Settings = FULL) -> pd.DataFrame:
    """Return the tidy table of the study: one row for each of `KEYS`, columns `COLUMNS`."""
    return pd.concat(
        [run_case(env, seed, settings) for seed in settings.seeds for env in settings.envs], ignore_index=True
    )


STUDY_PARTS = len(FULL.envs) * len(FULL.seeds)


def run_part(part: int) -> pd.DataFrame:
    """Return one part of the full study: one environment and one seed."""
    part = check_count(part, "part", minimum=0)
    if part >= STUDY_PARTS:
        raise BookError(f"the study has the parts 0 to {STUDY_PARTS - 1}, got {part}")
    return run_case(FULL.envs[part % len(FULL.envs)], FULL.seeds[part // len(FULL.envs)])


STUDY = Study(
    name="01-one-step-trap/real",
    keys=KEYS,
    title="Open-loop error of world models learned from real Gymnasium data, by environment, policy, model and seed",
    parts=STUDY_PARTS,
    run=run_part,
    settings=asdict(FULL) | {"policies": POLICIES, "depths": DEPTHS},
    columns=COLUMNS,
)


# --- what it says -----------------------------------------------------------------------------------------


def _checked_runs(runs: pd.DataFrame) -> pd.DataFrame:
    missing = set(COLUMNS) - set(runs.columns)
    if missing:
        raise BookError(f"the table of runs lacks the columns {', '.join(sorted(missing))}")
    return runs.assign(
        trained=runs["trained"].fillna("")
    )  # a blank comes back from a file as a missing value


def select(runs: pd.DataFrame, env: str, subject: str, evaluated: str, trained: str = "") -> pd.DataFrame:
    """Return the rows of one subject, one row a seed; an error if there are none."""
    runs = _checked_runs(runs)
    chosen = runs[
        (runs["env"] == env)
        & (runs["subject"] == subject)
        & (runs["evaluated"] == evaluated)
        & (runs["trained"] == trained)
    ]
    if not len(chosen):
        raise BookError(
            f"the table has no rows for {env}, {subject}, trained {trained or '-'}, on {evaluated}"
        )
    return chosen


def steps(
    runs: pd.DataFrame,
    env: str,
    subject: str,
    evaluated: str,
    trained: str = "",
    *,
    column: str = "steps",
) -> Steps:
    """Return the median over seeds of the steps to one sd of a subject, with its exact interval."""
    rows = select(runs, env, subject, evaluated, trained)
    return median_of_steps(rows[column], int(rows["limit"].min()))


def curve(runs: pd.DataFrame, env: str, subject: str, evaluated: str, trained: str = "") -> pd.DataFrame:
    """Return the error of a subject against depth: median over seeds and its exact 95% interval.

    Columns: ``depth``, ``error``, ``low``, ``high``, ``n``. Depths that fewer than half of the seeds reach are left out.
    """
    rows = select(runs, env, subject, evaluated, trained)
    result = []
    for h in DEPTHS:
        values = rows[f"error_{h}"].dropna()
        if len(values) >= max(1, len(rows) / 2):
            found = median_of_steps(values, h)
            result.append((h, found.value, found.low, found.high, found.n))
    return pd.DataFrame(result, columns=["depth", "error", "low", "high", "n"])


def steps_table(runs: pd.DataFrame, *, subjects: Iterable[str] = (*MODELS, *TWINS[:2])) -> pd.DataFrame:
    """Return the steps to one sd of every case, ``env``, ``trained``, ``evaluated``, ``subject``, as numbers and in words.

    Further columns: ``on_policy``, ``steps``, ``low``, ``high`` (infinite: more than ``limit``), ``limit``, ``n``, ``words``.
    """
    runs = _checked_runs(runs)
    rows = []
    for (env, trained, evaluated, subject), _ in runs.groupby(
        ["env", "trained", "evaluated", "subject"], sort=False
    ):
        if subject in tuple(subjects):
            found = steps(runs, env, subject, evaluated, trained)
            rows.append(
                (
                    env,
                    trained,
                    evaluated,
                    subject,
                    trained == evaluated,
                    found.value,
                    found.low,
                    found.high,
                    found.limit,
                    found.n,
                    str(found),
                )
            )
    names = [
        "env",
        "trained",
        "evaluated",
        "subject",
        "on_policy",
        "steps",
        "low",
        "high",
        "limit",
        "n",
        "words",
    ]
    return pd.DataFrame(rows, columns=names)


@dataclass(frozen=True)
class RealVerdict:
    """What the rule at the head of this module says.

    ``verdict``: holds, holds when, or does not hold. ``diverging`` and ``staying``: the on-policy cases (environment, policy)
    that do and do not diverge, with their `Steps`.
    """

    verdict: str
    diverging: dict[tuple[str, str], Steps]
    staying: dict[tuple[str, str], Steps]

    def condition(self) -> str:
        """Return the cases in words, for the ledger."""
        if not self.diverging:
            return ""
        return "; ".join(
            f"{env}, {policy} actions: {found.words(found.value)} steps"
            for (env, policy), found in self.diverging.items()
        )


def verdict(runs: pd.DataFrame) -> RealVerdict:
    """Apply the rule at the head of this module to the table of the study."""
    runs = _checked_runs(runs)
    diverging: dict[tuple[str, str], Steps] = {}
    staying: dict[tuple[str, str], Steps] = {}
    for env in dict.fromkeys(runs["env"]):
        for policy in POLICIES[env]:
            found = steps(runs, env, "network", policy, policy)
            (diverging if math.isfinite(found.high) else staying)[env, policy] = found
    name = "does not hold" if not diverging else "holds when" if staying else "holds"
    return RealVerdict(name, diverging, staying)


def check_slice(
    stored: pd.DataFrame, recomputed: pd.DataFrame, *, factor: float = 1.25, share: float = 0.15
) -> int:
    """Raise unless the recomputed rows are those stored, up to another processor's rounding; return their number.

    On one machine they are equal bit for bit, and noise of 1e-14 in the data moves no printed digit. Another
    processor's rounding may be less even, so networks, and the twins displaced by their errors, may differ by ``factor``
    in their one-step error and by ``share`` of their steps (one may then be just beyond the limit). What involves no
    training must agree to 1e-3 in every number.
    """
    left, right = (_checked_runs(t).set_index(list(KEYS)).sort_index() for t in (stored, recomputed))
    missing = right.index.difference(left.index)
    if len(missing):
        raise BookError(f"the stored table lacks {len(missing)} recomputed rows, the first {missing[0]}")
    for key, row in right[left.columns].iterrows():
        before = left.loc[key]
        trained = key[-1] in ("network", "ensemble", "twins once", "twins every step")
        wrong = _differs_loosely(before, row, factor, share) if trained else _differs(before, row)
        if wrong:
            raise BookError(
                f"recomputed {key}: {wrong} is {row[wrong]:g}, stored is {before[wrong]:g}; compute the table anew "
                "with `make sweep`"
            )
    return len(right)


def _differs(a: pd.Series, b: pd.Series) -> str:
    """Return the first column in which two rows that need no training differ, or an empty text."""
    for name in a.index:
        if not np.isclose(a[name], b[name], rtol=1e-3, atol=1e-6, equal_nan=True):
            return str(name)
    return ""


def _differs_loosely(a: pd.Series, b: pd.Series, factor: float, share: float) -> str:
    """Return the column in which two networks of the same kind differ by more than rounding explains."""
    if a["limit"] != b["limit"]:
        return "limit"
    if not math.isnan(a["one_step"]) and not 1 / factor <= a["one_step"] / b["one_step"] <= factor:
        return "one_step"
    near, far = sorted((a["steps"], b["steps"]))
    if math.isinf(far):
        far = float(a["limit"]) if math.isfinite(near) else near
    return "" if near == far or near >= (1 - share) * far else "steps"
