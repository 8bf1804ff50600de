"""The instrument of the chapter: train a world model on an environment, roll it out, say where it leaves the world.

``one-step-trap trap --env Pendulum-v1 --unroll 1 --unroll 5`` on the command line, `measure_trap` from Python. A model of
your own goes through the same measure by `one_step_trap.trap.rollout.rollout_error`.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import Interval, readable
from one_step_trap.core.validate import FloatArray, check_count
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import to_svg
from one_step_trap.report import output_folder, standalone
from one_step_trap.trap.networks import Network, train
from one_step_trap.trap.real import TRAINING
from one_step_trap.trap.rollout import (
    BASELINES,
    MIN_TRAJECTORIES,
    RolloutError,
    Starts,
    Steps,
    crossing,
    data_scale,
    first_at_least,
    median_of_steps,
    rollout_error,
    steps_to_one_sd,
    supported,
    typical_curve,
)
from one_step_trap.trap.twins import NUDGE, Twins, twins
from one_step_trap.trap.worlds import OPEN_END, Spaces, Trajectories, check_env, collect, make_policy

MIN_TRANSITIONS = 100
DEFAULT_DEPTH = 200
HELD_OUT_EPISODES = 20
STARTS = 10

Progress = Callable[[str], None]


# --- the report -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelReport:
    """What was found of the models that were trained through ``unroll_steps`` steps, one a seed.

    ``one_step``: median error of one step from real observations (sd). ``steps``: steps to one standard deviation.
    ``curve`` (H,): typical error at depths 1 … H; NaN beyond ``steps.limit``. ``diverged``: share of starts from which a
    prediction was no finite number. With several seeds, medians over them; ``by_seed`` has the steps of each (infinite:
    beyond the limit).
    """

    unroll_steps: int
    one_step: float
    steps: Steps
    curve: FloatArray
    diverged: float
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class GuessReport:
    """The same of a guess without a model, or of twin simulators: its steps and its curve (H,)."""

    name: str
    steps: Steps
    curve: FloatArray


@dataclass(frozen=True)
class TrapReport:
    """What the instrument found, ready to be printed, drawn (`plot_run`) or stored.

    ``twins`` is empty where the environment cannot be perturbed, and ``no_twins`` says why; ``rate`` is the twins'
    finite-time Lyapunov exponent per step, if there is one.
    """

    env_id: str
    policy: str
    evaluated: str
    transitions: int
    held_out: int
    episodes: int
    seeds: tuple[int, ...]
    depth: int
    ignored: tuple[int, ...]
    reaching: tuple[int, ...]
    models: tuple[ModelReport, ...]
    baselines: tuple[GuessReport, ...]
    twins: tuple[GuessReport, ...]
    rate: Interval | None
    no_twins: str

    def curves(self) -> pd.DataFrame:
        """Return every curve as a tidy table: ``curve``, ``depth``, ``error`` (sd), only where there is one."""
        named = [(f"trained through {m.unroll_steps}", m.curve) for m in self.models]
        named += [(g.name, g.curve) for g in (*self.baselines, *self.twins)]
        rows = [(name, h + 1, e) for name, curve in named for h, e in enumerate(curve) if not math.isnan(e)]
        return pd.DataFrame(rows, columns=["curve", "depth", "error"])

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON: no number in it is infinite or NaN (such a one is null)."""
        return {
            "env": self.env_id,
            "policy": self.policy,
            "evaluated": self.evaluated,
            "transitions": self.transitions,
            "held_out_transitions": self.held_out,
            "held_out_episodes": self.episodes,
            "seeds": list(self.seeds),
            "depth": self.depth,
            "constant_dimensions": list(self.ignored),
            "starts_reaching_depth": list(self.reaching),
            "models": [
                {
                    "unroll": m.unroll_steps,
                    "one_step_error": _finite(m.one_step),
                    "steps_to_one_sd": m.steps.to_dict(),
                    "steps_by_seed": [_finite(x) for x in m.by_seed],
                    "diverged": m.diverged,
                    "error_by_depth": [_finite(x) for x in m.curve],
                }
                for m in self.models
            ],
            "baselines": {g.name: _guess(g) for g in self.baselines},
            "twins": {g.name: _guess(g) for g in self.twins},
            "rate_of_divergence": None
            if self.rate is None
            else {name: getattr(self.rate, name) for name in ("value", "low", "high", "n")},
            "no_twins": self.no_twins or None,
        }

    def __str__(self) -> str:
        seeds = (
            f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        )
        fresh = f"{self.held_out:,} fresh steps of {self.evaluated} actions ({self.episodes} episodes)"
        lines = [
            f"{self.env_id}: {self.transitions:,} transitions of {self.policy} actions, {seeds}",
            f"rolled out open-loop for up to {self.depth} steps along {fresh}",
            "",
            f"trained through  one-step error  {_last_head(self)}  steps to one standard deviation",
        ]
        for m in self.models:
            name = f"{m.unroll_steps} step{'s' if m.unroll_steps > 1 else ''}"
            last = f"{readable(float(m.curve[m.steps.limit - 1]))} sd"
            lines.append(
                f"  {name:<15}{readable(m.one_step) + ' sd':<16}{last:<{len(_last_head(self)) + 2}}{m.steps}{_blown(m)}"
            )
        lines += ["without a model"]
        lines += [f"  {g.name:<31}{g.steps}" for g in self.baselines if g.name != "mean"]  # 1 sd throughout
        lines += (
            ["two real simulators, displaced by the errors of the first model above"] if self.twins else []
        )
        lines += [f"  {g.name:<31}{g.steps}" for g in self.twins]
        if self.rate is not None:
            lines.append(f"  {'rate of divergence':<31}{self.rate} per step")
        limit = self.models[0].steps.limit
        if limit < self.depth:
            lines.append(
                f"read up to {limit} steps: by then half of the episodes have ended, or too few are left"
            )
        if self.no_twins:
            lines.append(f"no twin simulators: {self.no_twins}")
        if self.ignored:
            lines.append(f"dimensions that never vary, left out: {', '.join(map(str, self.ignored))}")
        return "\n".join(lines)


def _last_head(report: TrapReport) -> str:
    return f"error at {report.models[0].steps.limit} steps"


def _blown(model: ModelReport) -> str:
    return f"; {100 * model.diverged:.3g}% of starts ran to infinity" if model.diverged else ""


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _guess(guess: GuessReport) -> dict[str, Any]:
    return {
        "steps_to_one_sd": guess.steps.to_dict(),
        "error_by_depth": [_finite(x) for x in guess.curve],
    }


# --- measuring --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    """The data of one seed, and the seeds of what is made from them."""

    train: Trajectories
    held_out: Trajectories
    network: int
    twins: int


def measure_trap(
    env_id: str,
    *,
    unroll: Sequence[int] = (1, 5),
    seed: int = 0,
    transitions: int = 20_000,
    repeats: int = 1,
    depth: int | None = None,
    policy: str = "random",
    evaluate: str | None = None,
    updates: int = TRAINING.updates,
    progress: Progress | None = None,
) -> TrapReport:
    """Train one network for each of ``unroll``, roll it out on fresh data, and report where it leaves the world.

    ``env_id``: a Gymnasium environment with vector observations (a Box of one axis) and Discrete or Box actions.
    ``unroll``: the numbers of steps k to train through (1: the one-step model). ``transitions`` real steps of ``policy``
    (random, held or scripted) to learn from; the rollouts follow fresh episodes of ``evaluate``, by default the same policy.
    ``depth`` of the rollouts, by default 200 or the longest episode. ``repeats`` seeds from ``seed`` on, each with its own
    data and network: with one, intervals are over held-out episodes, with more over seeds. The networks and their training
    are those of the chapter's study (`one_step_trap.trap.real`), with ``updates`` steps of Adam. ``progress`` is called with
    a line now and then.

    Errors: `BookError`, before anything is trained, for an environment or settings that cannot work.
    """
    if not isinstance(unroll, Iterable):
        raise BookError(f"unroll must be a list of numbers of steps, such as (1, 5), got {unroll!r}")
    unroll = list(dict.fromkeys(check_count(k, "unroll") for k in unroll))
    if not unroll:
        raise BookError("unroll needs at least one number of steps to train through")
    transitions = check_count(transitions, "transitions")
    if transitions < MIN_TRANSITIONS:
        raise BookError(
            f"transitions must be at least {MIN_TRANSITIONS}: a network learns nothing from {transitions}"
        )
    seed, repeats = check_count(seed, "seed", minimum=0), check_count(repeats, "repeats")
    training = replace(TRAINING, updates=check_count(updates, "updates"))
    wanted = None if depth is None else check_count(depth, "depth")
    spaces, evaluate, say = check_env(env_id), policy if evaluate is None else evaluate, progress or _silent
    for name in (policy, evaluate):
        make_policy(name, spaces)  # an error if there is none of that name
    seeds = tuple(range(seed, seed + repeats))
    say(f"collecting {transitions:,} transitions of {env_id}")
    data = [_collect(spaces, s, transitions, wanted, policy, evaluate) for s in seeds]
    depth = _check_data(env_id, data, unroll, wanted)

    errors: dict[int, list[RolloutError]] = {k: [] for k in unroll}
    first: list[Network] = []  # of each seed, the network trained through unroll[0] steps
    for s, each in zip(seeds, data, strict=True):
        for k in unroll:
            say(f"training through {k} step{'s' if k > 1 else ''}, seed {s}")
            network = train(each.train, replace(training, unroll_steps=k), seed=each.network)
            errors[k].append(rollout_error(network, each.held_out, depth=depth, starts=STARTS))
            first += [network] if k == unroll[0] else []
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    one = errors[unroll[0]]
    say("running twin simulators")
    pairs, rate, no_twins = _twins(env_id, data, first, one, depth, evaluate, rng)
    return TrapReport(
        env_id,
        policy,
        evaluate,
        transitions,
        data[0].held_out.steps,
        len(data[0].held_out),
        seeds,
        depth,
        one[0].ignored,
        tuple(int(n) for n in one[0].reaching),
        tuple(_model_report(k, errors[k], rng) for k in unroll),
        tuple(
            _guess_report(name, [e.baselines[name] for e in one], [e.start for e in one], rng)
            for name in BASELINES
        ),
        pairs,
        rate,
        no_twins,
    )


def _silent(line: str) -> None:
    pass


def _collect(
    spaces: Spaces, seed: int, transitions: int, depth: int | None, policy: str, evaluate: str
) -> _Data:
    """Return the data of one seed; held out is a quarter as much again, or `HELD_OUT_EPISODES` episodes if that is more."""
    made = [int(s) for s in np.random.SeedSequence(seed).generate_state(4)]
    limit = spaces.max_steps or OPEN_END
    cut = min(
        limit, 2 * (depth or DEFAULT_DEPTH)
    )  # starts need no more of an episode: better have more episodes
    held_out = max(transitions // 4, HELD_OUT_EPISODES * cut)
    return _Data(
        collect(spaces.env_id, transitions, made[0], policy=policy),
        collect(spaces.env_id, held_out, made[1], policy=evaluate, max_steps=cut),
        made[2],
        made[3],
    )


def _check_data(env_id: str, data: list[_Data], unroll: Sequence[int], depth: int | None) -> int:
    """Return the depth of the rollouts, or raise where the data cannot carry what is asked of them."""
    for each in data:
        for k in unroll:
            each.train.starts(k)  # an error if no episode has k steps
        if not (data_scale(each.held_out) > 0).any():
            raise BookError(f"nothing in the observations of {env_id} varies: there is nothing to predict")
        if len(each.held_out) < MIN_TRAJECTORIES:
            raise BookError(
                f"only {len(each.held_out)} episodes of {env_id} are held out, and an interval needs {MIN_TRAJECTORIES}: "
                "use more transitions"
            )
    longest = min(int(each.held_out.lengths.max()) for each in data)
    if depth is not None and depth > longest:
        raise BookError(
            f"depth {depth} is longer than any episode of {env_id} that was held out: the longest has {longest} steps"
        )
    return min(DEFAULT_DEPTH, longest) if depth is None else depth


def _median_curve(curves: Sequence[FloatArray]) -> FloatArray:
    """Return the (upper) median over seeds at each depth; NaN where one of the seeds has none."""
    stacked = np.sort(np.stack(curves), axis=0)
    return np.where(np.isnan(stacked).any(axis=0), np.nan, stacked[len(stacked) // 2])


def _model_report(unroll_steps: int, errors: list[RolloutError], rng: np.random.Generator) -> ModelReport:
    return ModelReport(
        unroll_steps,
        float(np.median([e.one_step_error for e in errors])),
        steps_to_one_sd(errors[0], rng) if len(errors) == 1 else steps_to_one_sd(errors),
        _median_curve([e.curve() for e in errors]),
        float(np.mean([e.diverged for e in errors])),
        tuple(first_at_least(e.curve()) for e in errors),
    )


def _guess_report(
    name: str, totals: list[FloatArray], starts: list[Starts], rng: np.random.Generator
) -> GuessReport:
    """Return steps and curve of total errors (S, H), one array a seed."""
    limits = [supported(total, e) for total, e in zip(totals, starts, strict=True)]
    curves = [typical_curve(total, limit) for total, limit in zip(totals, limits, strict=True)]
    if len(totals) == 1:
        steps = crossing(totals[0], starts[0], rng)
    else:
        steps = median_of_steps([first_at_least(c) for c in curves], min(limits))
    return GuessReport(name, steps, _median_curve(curves))


def _twins(
    env_id: str,
    data: list[_Data],
    networks: list[Network],
    errors: list[RolloutError],
    depth: int,
    policy: str,
    rng: np.random.Generator,
) -> tuple[tuple[GuessReport, ...], Interval | None, str]:
    """Return the twins nudged by each seed's own network, their rate of divergence, and why there are none, if so."""

    def pair(i: int, epsilon: ArrayLike | Network, every_step: bool = False) -> Twins:
        return twins(
            env_id,
            epsilon,
            depth=depth,
            starts=1,
            seed=data[i].twins,
            policy=policy,
            sd=errors[i].sd,
            every_step=every_step,
        )

    # An environment that fails when it is displaced, or is asked for its state, must not cost the trained models.
    try:
        tiny = pair(0, NUDGE)
    except BookError as error:
        return (), None, str(error)
    if not tiny.possible:
        return (), None, tiny.reason
    reports, why = [], ""
    for name, every_step in (("once", False), ("at every step", True)):
        try:
            pairs = [pair(i, networks[i], every_step) for i in range(len(data))]
        except BookError as error:
            why = f"{name}: {error}"
            continue
        if not pairs[0].possible:
            why = f"{name}: {pairs[0].reason}"
        elif min(p.limit for p in pairs) > 0:
            reports.append(_guess_report(name, [p.distance for p in pairs], [p.start for p in pairs], rng))
    rate = None
    with contextlib.suppress(BookError):  # episodes of one step, say, have no rate
        rate = tiny.rate(rng)
    return tuple(reports), rate, why


def run(env_id: str, *, out: Path | None = None, **options: Any) -> tuple[TrapReport, list[Path]]:
    """Return `measure_trap`'s report and the files that were written into the folder ``out``, if one is given.

    The files are those of `render`. A folder that cannot be written is an error before anything is trained, and a run that
    fails leaves none of them.
    """
    check_env(env_id)
    if out is None:
        return measure_trap(env_id, **options), []
    with output_folder(Path(out), tuple(file_names(env_id).values())) as write:
        report = measure_trap(env_id, **options)
        return report, write(render(report))


# --- files ------------------------------------------------------------------------------------------------


def file_names(env_id: str) -> dict[str, str]:
    """Return the names of the files of a run by what they hold: report, curves, error, steps."""
    stem = "trap-" + re.sub(r"[^A-Za-z0-9._-]+", "-", env_id)
    return {
        "report": f"{stem}.json",
        "curves": f"{stem}.csv",
        "error": f"{stem}-error.svg",
        "steps": f"{stem}-steps.svg",
    }


def render(report: TrapReport) -> dict[str, str]:
    """Return the files of a run, name to text: the report (JSON), its curves (CSV) and two figures (SVG)."""
    from one_step_trap.trap.plots.rollout import plot_run, plot_run_steps

    names = file_names(report.env_id)
    alt = f"Open-loop error of world models of {report.env_id} against depth, beside twin simulators."
    alt_steps = (
        f"Steps to one standard deviation of world models of {report.env_id}, twins and simple guesses."
    )
    return {
        names["report"]: json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n",
        names["curves"]: report.curves().to_csv(index=False, lineterminator="\n"),
        names["error"]: standalone(to_svg(plot_run(report), alt)),
        names["steps"]: standalone(to_svg(plot_run_steps(report), alt_steps)),
    }
