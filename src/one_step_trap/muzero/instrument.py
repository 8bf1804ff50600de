"""The instrument of the chapter: train MuZero on an environment, say how well it plays and how far its model can be unrolled.

``one-step-trap muzero --env CartPole-v1 --unroll-steps 5`` on the command line, `run` from Python. With a folder the
training writes checkpoints there; ``--resume FOLDER`` takes a killed one up and ends where it would have ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from one_step_trap.core.stats import Interval, bootstrap_interval, readable
from one_step_trap.core.validate import FloatArray, check_count, short_repr
from one_step_trap.errors import BookError
from one_step_trap.muzero import checkpoints, control, divergence
from one_step_trap.muzero.divergence import BEHAVIOURS, DEPTH, STARTS
from one_step_trap.muzero.environments import Task
from one_step_trap.muzero.evaluation import evaluate
from one_step_trap.muzero.training import Evaluation, TrainingResult, preset, resume, train
from one_step_trap.pages.figures import to_svg
from one_step_trap.report import output_folder, standalone

EPISODES = 50
STREAM = 3_000_000
"""The stream of seeds of the last evaluation: no other episodes use it."""
SHOWN = ("reward", "value", "value_return", "policy")

Progress = Callable[[str], None]


# --- the report -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MuZeroReport:
    """What the instrument found, ready to be printed, drawn or stored.

    ``returns`` of the last evaluation, ``mean_return`` with its interval over these episodes, and ``chance``, the mean return
    of uniform actions; ``curve``: columns env_steps, mean_return; ``errors``: columns behaviour, depth, measure, value,
    low, high, n: means over starts with 95% intervals. Intervals are over episodes of one training: another seed of the
    training can lie outside them.
    """

    env_id: str
    unroll_steps: int
    seed: int
    env_steps: int
    updates: int
    simulations: int
    gamma: float
    cpu_seconds: float
    mean_return: Interval
    chance: float
    depth: int
    returns: tuple[float, ...] = field(repr=False)
    curve: pd.DataFrame = field(repr=False)
    errors: pd.DataFrame = field(repr=False)

    def error(self, measure: str, behaviour: str, depth: int) -> Interval | None:
        """Return one mean error with its interval; None where too few starts have one."""
        e = self.errors
        row = e[(e["measure"] == measure) & (e["behaviour"] == behaviour) & (e["depth"] == depth)]
        if row.empty:
            return None
        value, low, high, n = (row.iloc[0][name] for name in ("value", "low", "high", "n"))
        return Interval(float(value), float(low), float(high), int(n))

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        r = self.mean_return
        return {
            "env": self.env_id,
            "unroll_steps": self.unroll_steps,
            "seed": self.seed,
            "env_steps": self.env_steps,
            "updates": self.updates,
            "simulations": self.simulations,
            "gamma": self.gamma,
            "cpu_seconds": round(self.cpu_seconds, 2),
            "mean_return": {"value": r.value, "low": r.low, "high": r.high, "n": r.n, "units": "episodes"},
            "returns": list(self.returns),
            "random_return": self.chance,
            "learning_curve": self.curve.to_dict("list"),
            "prediction_errors": {
                behaviour: {
                    measure: part[["depth", "value", "low", "high", "n"]].to_dict("list")
                    for measure, part in group.groupby("measure", sort=False)
                }
                for behaviour, group in self.errors.groupby("behaviour", sort=False)
            },
        }

    def __str__(self) -> str:
        K = self.unroll_steps
        lines = [
            f"{self.env_id}: MuZero trained through {K} step{'s' if K > 1 else ''}, seed {self.seed}",
            f"{self.env_steps:,} environment steps, {self.updates:,} updates, {self.cpu_seconds:.0f} CPU-seconds",
            "",
            f"return   {self.mean_return} episodes, {self.simulations} simulations a step; random play {readable(self.chance)}",
            "",
            "mean error of predictions, unrolled from a real observation without looking again",
            f"  {'depth':>6}  {'actions':<8}{'reward':>10}{'value':>10}{'policy':>10}",
        ]
        for behaviour in BEHAVIOURS:
            for k in self.rows():
                found = [self.error(measure, behaviour, k) for measure in divergence.QUANTITIES]
                cells = "".join(f"{'-' if x is None else readable(x.value):>10}" for x in found)
                lines.append(
                    f"  {k:>6}  {'own' if behaviour == 'agent' else 'uniform':<8}{cells}{'  <- K' if k == K else ''}"
                )
        lines.append(
            "reward and value: mean abs error, in reward; policy: total variation; - too few episodes still run"
        )
        return "\n".join(lines)

    def rows(self) -> list[int]:
        """Return the depths that a person is shown: 1, K, 2K, 4K and the last."""
        K = self.unroll_steps
        return sorted({k for k in (1, K, 2 * K, 4 * K, self.depth) if k <= self.depth})


# --- measuring ------------------------------------------------------------------------------------------------------


def measure(
    result: TrainingResult, *, episodes: int = EPISODES, depth: int = DEPTH, starts: int = STARTS
) -> MuZeroReport:
    """Return the report on a finished training: fresh episodes, and prediction errors to ``depth`` from ``starts``."""
    if not isinstance(result, TrainingResult):
        raise BookError("result must be what train or resume return")
    episodes, starts = check_count(episodes, "episodes", minimum=2), check_count(starts, "starts", minimum=2)
    settings, model, task, seed = result.settings, result.model, result.task, result.seed
    search = settings.evaluation_search()
    returns = evaluate(model, task, search, episodes=episodes, seed=seed, stream=STREAM)
    rng = np.random.default_rng([seed, STREAM])
    tables = []
    for behaviour in BEHAVIOURS:
        seen = divergence.record(
            model, task, search, behaviour=behaviour, depth=depth, starts=starts, seed=seed
        )
        found = divergence.errors(model, seen)
        tables += [_by_depth(behaviour, name, found[name], rng) for name in _shown(behaviour)]
    last = result.curve[-1]
    return MuZeroReport(
        task.id,
        settings.unroll_steps,
        seed,
        last.env_steps,
        last.updates,
        search.simulations,
        settings.gamma,
        last.cpu_seconds,
        bootstrap_interval(returns, rng),
        float(control.random_returns(task, episodes=100, seed=seed).mean()),
        depth,
        tuple(returns.tolist()),
        pd.DataFrame([(p.env_steps, p.mean) for p in result.curve], columns=["env_steps", "mean_return"]),
        pd.concat(tables, ignore_index=True),
    )


def _shown(behaviour: str) -> tuple[str, ...]:
    """Return the errors that are reported: real returns are known of the agent's own actions only."""
    return SHOWN if behaviour == "agent" else divergence.QUANTITIES


def _by_depth(behaviour: str, name: str, found: FloatArray, rng: np.random.Generator) -> pd.DataFrame:
    """Return means over starts of errors (B, H + 1) with intervals; depths with fewer than 5 starts are left out."""
    rows = []
    for k in range(found.shape[1]):
        column = found[:, k][~np.isnan(found[:, k])]
        if len(column) >= divergence.FEWEST_STARTS:
            rows.append((behaviour, k, name, *control.mean_interval(column, rng, 1_000)))
    return pd.DataFrame(rows, columns=["behaviour", "depth", "measure", "value", "low", "high", "n"])


def run(
    env: str | None = None,
    *,
    unroll_steps: int | None = None,
    seed: int | None = None,
    env_steps: int | None = None,
    simulations: int | None = None,
    gamma: float | None = None,
    reward_low: float | None = None,
    reward_high: float | None = None,
    episodes: int = EPISODES,
    depth: int = DEPTH,
    out: str | Path | None = None,
    resume_from: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[MuZeroReport, list[Path]]:
    """Train on ``env``, or go on with the training in the folder ``resume_from``; return the report and written files.

    What is not given is taken from the environment's preset (``unroll_steps`` 5, ``seed`` 0). ``reward_low`` and
    ``reward_high``: bounds of a step's reward, for environments whose bounds are not known. With ``out`` the training keeps a
    checkpoint in that folder, and the files of `render` are written there in the end, all or none. A run that is resumed
    writes into its own folder; of a finished one the report is made again, and files that are missing. ``progress`` is called
    with a line now and then.

    Errors: `BookError`, before anything is trained or written, for an environment, settings or a folder that cannot work.
    """
    episodes, depth = check_count(episodes, "episodes", minimum=2), check_count(depth, "depth")
    given: dict[str, Any] = {"env": env, "unroll_steps": unroll_steps, "seed": seed, "env_steps": env_steps}
    given.update(
        simulations=simulations, gamma=gamma, reward_low=reward_low, reward_high=reward_high, out=out
    )
    say = _Line(progress)
    if resume_from is not None:
        named = [name for name, value in given.items() if value is not None]
        if named:
            raise BookError(
                f"a resumed training has its own settings and folder: leave out {', '.join(named)}"
            )
        return _resumed(Path(resume_from), episodes, depth, say)
    if env is None:
        raise BookError("name an environment, such as CartPole-v1, or the folder of a training to resume")
    task = Task(env, reward_low, reward_high)
    changes = {
        "unroll_steps": unroll_steps,
        "env_steps": env_steps,
        "simulations": simulations,
        "gamma": gamma,
    }
    settings = _settings(task, {name: value for name, value in changes.items() if value is not None})
    seed = check_count(0 if seed is None else seed, "seed", minimum=0)
    if out is None:
        return measure(train(task, settings, seed, progress=say.point), episodes=episodes, depth=depth), []
    folder = Path(out)
    with checkpoints.held(folder):
        if checkpoints.checkpoint_path(folder).exists():
            raise BookError(
                f"{folder} holds a training already: go on with it (resume), or name another folder"
            )
        with output_folder(folder, tuple(file_names(task.id).values())) as write:
            result = train(task, settings, seed, progress=say.point, folder=folder)
            report = measure(result, episodes=episodes, depth=depth)
            return report, write(render(report))


def _settings(task: Task, changes: dict[str, Any]) -> Any:
    """Return the preset of a task with changes; ``unroll_max`` follows ``unroll_steps``."""
    base = preset(task)
    if "unroll_steps" in changes:
        changes = changes | {"unroll_max": check_count(changes["unroll_steps"], "unroll_steps")}
    settings = replace(base, **changes)
    task.check_gamma(settings.gamma)
    return settings


def _resumed(folder: Path, episodes: int, depth: int, say: _Line) -> tuple[MuZeroReport, list[Path]]:
    """Go on with the training in a folder, report on it, and write the files that are not there."""
    saved = checkpoints.read_checkpoint(folder)
    place = checkpoints.checkpoint_path(folder).parent
    names = file_names(str(saved.configuration["task"]["id"]))
    if (place / names["report"]).exists():
        _check_report(place / names["report"], saved.configuration)

    def work() -> MuZeroReport:
        return measure(resume(folder, progress=say.point), episodes=episodes, depth=depth)

    missing = [name for name in names.values() if not (place / name).exists()]
    if not missing:
        return work(), []
    with checkpoints.held(folder), output_folder(place, missing) as write:
        report = work()
        texts = render(report)
        return report, write({name: texts[name] for name in missing})


def _check_report(path: Path, configuration: dict[str, Any]) -> None:
    """Raise unless the report in a file is of the training with this configuration."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        settings = configuration["settings"]
        trained = {"env": configuration["task"]["id"], "seed": configuration["seed"]}
        trained |= {name: settings[name] for name in ("unroll_steps", "gamma")}
        wrong = [name for name, value in trained.items() if report[name] != value]
    except (OSError, ValueError, KeyError, TypeError):
        raise BookError(f"{path} is no report of a training: move it away") from None
    if wrong:
        name = wrong[0]
        raise BookError(
            f"{path} is the report of another training than the checkpoint beside it (its {name} is "
            f"{short_repr(report[name])}, not {short_repr(trained[name])}): move it away"
        )


class _Line:
    """Turns points of a learning curve into lines of text."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def point(self, point: Evaluation, env_steps: int) -> None:
        """Say how far the training has come."""
        if self.progress is not None:
            share = min(1.0, point.env_steps / env_steps)
            self.progress(
                f"{share:4.0%}  {point.env_steps:,} steps, {point.updates:,} updates, mean return {readable(point.mean)}, "
                f"{point.cpu_seconds + point.evaluation_seconds:.0f} CPU-seconds"
            )


# --- files ----------------------------------------------------------------------------------------------------------


def file_names(env_id: str) -> dict[str, str]:
    """Return the names of the files of a run by what they hold: report, errors (table), learning, divergence (figures)."""
    stem = "muzero-" + re.sub(r"[^A-Za-z0-9._-]+", "-", env_id)
    return {
        "report": f"{stem}.json",
        "errors": f"{stem}-errors.csv",
        "learning": f"{stem}-learning.svg",
        "divergence": f"{stem}-divergence.svg",
    }


def render(report: MuZeroReport) -> dict[str, str]:
    """Return the files of a run, name to text: the report (JSON), errors by depth (CSV) and two figures (SVG)."""
    from one_step_trap.muzero.plots.divergence import plot_run
    from one_step_trap.muzero.plots.learning import plot_run_learning

    names = file_names(report.env_id)
    alt = f"Error of a MuZero model's predictions on {report.env_id} against the depth of the unrolling."
    alt_learning = f"Mean return of MuZero on {report.env_id} against environment steps of training."
    return {
        names["report"]: json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n",
        names["errors"]: report.errors.to_csv(index=False, lineterminator="\n"),
        names["learning"]: standalone(to_svg(plot_run_learning(report), alt_learning)),
        names["divergence"]: standalone(to_svg(plot_run(report), alt)),
    }
