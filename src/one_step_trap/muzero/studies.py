"""The two long studies of chapter 4: one training each part, measured at once and stored in a few hundred numbers.

- `UNROLLS`: CartPole-v1 with K = 1, 2, 5, 10, 20. At **equal updates** every training makes 4 updates a step of all lanes. At
  **equal compute** it makes as many as take the time of 3 updates with K = 20 (`COMPUTE`, from measured speeds). For K = 1 and
  5 also with EfficientZero's consistency loss. Everything else, the data's seeds included, is the same.
- `TASKS`: learning curves of six environments with their presets, and what search and rare looking do to these agents.

Rows of a training: points of its learning curve, its prediction errors by depth (`divergence`), and its returns when it looks
rarely, searches more, or searches deeper (`control`). The rules for the verdicts stand in those two modules.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from scipy import stats

from one_step_trap.core.stats import ROUNDING
from one_step_trap.core.validate import (
    check_choice,
    check_count,
    check_flag,
    check_kind,
    check_table,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero import control, divergence
from one_step_trap.muzero.control import CAPS, INTERVALS, SIMULATIONS
from one_step_trap.muzero.divergence import BEHAVIOURS, MEASURES
from one_step_trap.muzero.environments import DRY, GRID
from one_step_trap.muzero.training import PRESETS, Trainer, TrainingResult, TrainingSettings
from one_step_trap.study import Study

UNROLL_STEPS = (1, 2, 5, 10, 20)
SEEDS = 10
ENV_STEPS = 12_000
UPDATES = 4
COMPUTE = {1: 13, 2: 12, 5: 8, 10: 5, 20: 3}
"""Updates a step at equal compute. Measured on one core, batch 128: 392, 342, 240, 153 and 88 updates a second for K = 1, 2,
5, 10, 20, so that these take 33, 35, 33, 33 and 34 ms."""
CONSISTENT = (1, 5)
CONSISTENCY_WEIGHT = 2.0
DEPTHS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)
BLINDFOLD = (1, 5, 10, 25, 50, 100, 200)
"""Refresh intervals of de Vries et al. 2021 on MountainCar."""
EARLY = 0.25

Budget = Literal["updates", "compute"]


@dataclass(frozen=True)
class Run:
    """One training of a study and what is measured of it: ``study`` unrolls or tasks."""

    study: Literal["unrolls", "tasks"]
    task: str
    seed: int
    settings: TrainingSettings = field(repr=False)
    budget: Budget = "updates"
    refresh: tuple[int, ...] = ()
    simulations: tuple[int, ...] = ()
    caps: tuple[int, ...] = ()
    episodes: int = 20
    starts: int = 64
    depths: tuple[int, ...] = ()
    """Depths of the prediction errors; none: they are not measured."""


def unroll_run(
    K: int, seed: int, budget: Budget = "updates", consistency: bool = False, **changes: Any
) -> Run:
    """Return a training of `UNROLLS`; ``changes`` replace settings of the training (the book's study has none)."""
    K = check_count(K, "K")
    check_choice(budget, get_args(Budget), "budget")
    if budget == "compute" and K not in COMPUTE:
        raise BookError(f"equal compute is known for K of {', '.join(map(str, COMPUTE))}, got {K}")
    settings = TrainingSettings(
        env_steps=ENV_STEPS,
        smallest_range=50,
        unroll_steps=K,
        unroll_max=max(K, *UNROLL_STEPS),  # the replay, and so all random numbers, are the same for every K
        updates_per_step=COMPUTE[K] if budget == "compute" else UPDATES,
        consistency_weight=CONSISTENCY_WEIGHT if check_flag(consistency, "consistency") else 0.0,
        evaluate_every=500,
        evaluation_episodes=10,
    )
    return Run(
        "unrolls",
        "CartPole-v1",
        check_count(seed, "seed", minimum=0),
        replace(settings, **changes),
        budget,
        refresh=INTERVALS,
        simulations=(0,),
        depths=DEPTHS,
    )


def cut_short(run: Run, share: float) -> Run:
    """Return a run through a share of its environment steps only, a whole number of evaluations."""
    s = run.settings
    steps = max(1, round(share * s.env_steps / s.evaluate_every)) * s.evaluate_every
    return replace(run, settings=replace(s, env_steps=steps))


def task_run(task: str, seed: int, **changes: Any) -> Run:
    """Return a training of `TASKS`, with the preset of its environment."""
    task, seed = check_choice(task, PRESETS, "task"), check_count(seed, "seed", minimum=0)
    refresh = BLINDFOLD if task == "MountainCar-v0" else INTERVALS
    return Run(
        "tasks",
        task,
        seed,
        replace(PRESETS[task], **changes),
        refresh=refresh,
        simulations=SIMULATIONS,
        caps=CAPS,
    )


def unroll_runs() -> tuple[Run, ...]:
    """Return all trainings of `UNROLLS`, seeds outermost, so that the first parts are a whole small study."""
    kinds: tuple[tuple[Budget, bool, tuple[int, ...]], ...] = (
        ("updates", False, UNROLL_STEPS),
        ("compute", False, UNROLL_STEPS),
        ("updates", True, CONSISTENT),
    )
    return tuple(
        unroll_run(K, seed, budget, consistency)
        for seed in range(SEEDS)
        for budget, consistency, unrolls in kinds
        for K in unrolls
    )


TASK_IDS = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", GRID, DRY, "FrozenLake-v1")


def task_runs() -> tuple[Run, ...]:
    """Return all trainings of `TASKS`, seeds outermost."""
    return tuple(task_run(task, seed) for seed in range(SEEDS) for task in TASK_IDS)


# --- one training ---------------------------------------------------------------------------------------------------

COLUMNS = {
    "task": "id of the Gymnasium environment",
    "budget": "updates: 4 updates a step whatever K; compute: as many as take the same time",
    "consistency": "weight of the consistency loss",
    "unroll_steps": "steps K unrolled in training",
    "seed": "seed of the training",
    "stage": "early: after a quarter of the training; final: at its end",
    "kind": "curve, divergence, refresh, simulations, cap",
    "behaviour": "whose actions: agent (greedy) or random (uniform)",
    "x": "curve: environment steps; divergence: depth; refresh: interval in steps; simulations; cap: depth",
    "mean_return": "mean undiscounted return of the episodes",
    "cpu_seconds": "curve: processor time of the training so far, without evaluations, in seconds",
    "updates": "curve: updates so far",
    "reward": "divergence: mean abs error of the predicted reward",
    "value": "divergence: mean abs difference of the unrolled value to that of the observation that came, in return",
    "policy": "divergence: total variation of the unrolled policy to that of the observation that came",
    "value_return": "divergence: mean abs error of the unrolled value against the agent's real discounted return",
    "return_sum": "divergence: mean abs error of the predicted sum of discounted rewards up to this depth",
    "guess": "divergence: mean abs error of the best constant reward at this depth",
    "latent": "divergence: mean Euclidean distance of the unrolled to the encoded state",
    "alive": "divergence: share of episodes that still run at this depth",
}
"""The data dictionary of both tables; a column that a kind of row has no use for is empty there."""


def run_one(run: Run) -> pd.DataFrame:
    """Return the rows of one training (see ``COLUMNS``)."""
    return trained(run)[0]


def trained(run: Run) -> tuple[pd.DataFrame, TrainingResult]:
    """Return the rows of one training, and the trained agent itself."""
    check_kind(run, Run, "run", made_by="unroll_run or task_run")
    trainer = Trainer(run.task, run.settings, run.seed)
    tables: list[pd.DataFrame] = []
    quarter = math.ceil(EARLY * run.settings.vector_steps)
    while not trainer.finished:
        trainer.step()
        if run.study == "tasks" and trainer.steps_done == quarter and not trainer.finished:
            found = control.sweep(trainer.result().model, trainer.task, **_sweep(run, "early"))
            tables.append(found.assign(stage="early"))
    trainer.lanes.close()
    result = trainer.result()
    tables.append(control.sweep(result.model, result.task, **_sweep(run, "final")))
    chance = control.random_returns(result.task, episodes=100, seed=run.seed)
    tables.append(
        pd.DataFrame({"kind": ["refresh"], "x": [1], "value": [chance.mean()], "behaviour": ["random"]})
    )
    rows = [_curve(result), pd.concat(tables).rename(columns={"value": "mean_return"})]
    if run.depths:
        rows.append(_divergence(result, run))
    table = pd.concat(rows, ignore_index=True)
    table["behaviour"] = table["behaviour"].fillna("agent")
    table["stage"] = table["stage"].fillna("final")
    return _as_stored(table, result, run.budget), result


def curve_rows(result: TrainingResult, budget: Budget = "updates") -> pd.DataFrame:
    """Return the learning curve of a training as the studies store it (``COLUMNS``)."""
    check_kind(result, TrainingResult, "result", made_by="train")
    return _as_stored(_curve(result), result, check_choice(budget, get_args(Budget), "budget"))


def _as_stored(table: pd.DataFrame, result: TrainingResult, budget: str) -> pd.DataFrame:
    """Return rows with the columns that say which training they are of, in the order and with the digits of the tables."""
    own = {
        "task": result.task.id,
        "budget": budget,
        "consistency": result.settings.consistency_weight,
        "unroll_steps": result.settings.unroll_steps,
        "seed": result.seed,
    }
    table = table.assign(**own).reindex(columns=list(COLUMNS))
    numbers = list(COLUMNS)[list(COLUMNS).index("mean_return") :]
    table[numbers] = table[numbers].astype(float).map(_rounded)
    return table


def _rounded(x: float) -> float:
    """Return six significant digits: more would only make the stored table longer."""
    return float(f"{x:.6g}")


def _sweep(run: Run, stage: str) -> dict[str, Any]:
    """Return the arguments of `control.sweep` for a stage; early on only the simulations are varied."""
    late = stage == "final"
    return {
        "settings": run.settings.evaluation_search(),
        "refresh": run.refresh if late else (),
        "simulations": run.simulations,
        "caps": run.caps if late else (),
        "episodes": run.episodes,
        "seed": run.seed,
    }


def _curve(result: TrainingResult) -> pd.DataFrame:
    points = [(p.env_steps, p.mean, p.cpu_seconds, p.updates) for p in result.curve]
    return pd.DataFrame(points, columns=["x", "mean_return", "cpu_seconds", "updates"]).assign(
        kind="curve", stage="final", behaviour="agent"
    )


def _divergence(result: TrainingResult, run: Run) -> pd.DataFrame:
    found = divergence.divergence(
        result.model,
        result.task,
        run.settings.evaluation_search(),
        depths=run.depths,
        depth=max(run.depths),
        starts=run.starts,
        seed=run.seed,
    )
    wide = found.pivot(index=["behaviour", "depth"], columns="measure", values="value").reset_index()
    return wide.rename(columns={"depth": "x"}).assign(kind="divergence", stage="final")


# --- the studies ----------------------------------------------------------------------------------------------------


def _part(runs: tuple[Run, ...], part: int) -> pd.DataFrame:
    part = check_count(part, "part", minimum=0)
    if part >= len(runs):
        raise BookError(f"part must be below {len(runs)}, got {part}")
    return run_one(runs[part])


def run_unrolls(part: int) -> pd.DataFrame:
    """Return one part, that is one training, of `UNROLLS`."""
    return _part(unroll_runs(), part)


def run_tasks(part: int) -> pd.DataFrame:
    """Return one part, that is one training, of `TASKS`."""
    return _part(task_runs(), part)


KEYS = ("task", "budget", "consistency", "unroll_steps", "seed", "stage", "kind", "behaviour", "x")
"""The columns that tell rows apart."""

UNROLLS = Study(
    name="04-muzero-unrolling/unrolls",
    keys=KEYS,
    title="MuZero on CartPole-v1 by the steps K unrolled in training: learning, prediction errors by depth, rare looking",
    parts=len(unroll_runs()),
    run=run_unrolls,
    settings={
        "unroll_steps": list(UNROLL_STEPS),
        "seeds": list(range(SEEDS)),
        "updates_per_step": {"updates": UPDATES, "compute": {str(K): n for K, n in COMPUTE.items()}},
        "consistency": {"unroll_steps": list(CONSISTENT), "weight": CONSISTENCY_WEIGHT},
        "depths": list(DEPTHS),
        "starts": 64,
        "episodes": 20,
        "training": asdict(unroll_run(5, 0).settings),
    },
    columns=COLUMNS,
)
TASKS = Study(
    name="04-muzero-unrolling/tasks",
    keys=KEYS,
    title="MuZero on six environments: learning curves, return by simulations, depth cap and refresh interval",
    parts=len(task_runs()),
    run=run_tasks,
    settings={
        "seeds": list(range(SEEDS)),
        "episodes": 20,
        "training": {task: asdict(PRESETS[task]) for task in TASK_IDS},
    },
    columns=COLUMNS,
)


# --- reading the tables ---------------------------------------------------------------------------------------------


def select(
    table: pd.DataFrame,
    kind: str,
    *,
    budget: str = "updates",
    consistency: bool = False,
    task: str = "CartPole-v1",
) -> pd.DataFrame:
    """Return the rows of a study's table of one kind of row and one kind of training."""
    check_table(table, COLUMNS, "table (of a study)")
    check_choice(kind, ("curve", "divergence", "refresh", "simulations", "cap"), "kind")
    check_choice(budget, get_args(Budget), "budget")
    picked = table[
        (table["task"] == task)
        & (table["kind"] == kind)
        & (table["budget"] == budget)
        & ((table["consistency"] > 0) == check_flag(consistency, "consistency"))
    ]
    if picked.empty:
        raise BookError(f"the table has no rows of the kind {kind} for {task} at equal {budget}")
    return picked


def prediction_errors(
    table: pd.DataFrame, *, budget: str = "updates", consistency: bool = False
) -> pd.DataFrame:
    """Return prediction errors as `divergence.curves` and its rule take them, one row a number."""
    picked = select(table, "divergence", budget=budget, consistency=consistency)
    keys = ["unroll_steps", "seed", "behaviour", "x"]
    long = picked.melt(id_vars=keys, value_vars=list(MEASURES), var_name="measure", value_name="error")
    return long.dropna().rename(columns={"x": "depth", "error": "value"}).reset_index(drop=True)


def by_x(table: pd.DataFrame, kind: str, *, stage: str = "final", **which: Any) -> pd.DataFrame:
    """Return the agents' returns against refresh interval, simulations, cap or environment steps (kind curve).

    Columns task, unroll_steps, stage, seed, x, value, as `control.table` and the rules take them; ``which`` as in `select`.
    """
    picked = select(table, kind, **which)
    picked = picked[
        (picked["behaviour"] == "agent")
        & (picked["stage"] == check_choice(stage, ("early", "final"), "stage"))
    ]
    columns = ["task", "unroll_steps", "stage", "seed", "x", "mean_return"]
    return picked[columns].rename(columns={"mean_return": "value"}).reset_index(drop=True)


def random_return(table: pd.DataFrame, task: str = "CartPole-v1") -> float:
    """Return the mean return of uniform random actions in a task, over all trainings' episodes."""
    check_table(table, COLUMNS, "table (of a study)")
    rows = table[(table["task"] == task) & (table["behaviour"] == "random") & (table["kind"] == "refresh")]
    if rows.empty:
        raise BookError(f"the table has no rows of random actions in {task}")
    return float(rows["mean_return"].mean())


SHORT = {task: task.partition("-")[0] for task in TASK_IDS} | {GRID: "grid", DRY: "dry FrozenLake"}
"""What a task is called in figures."""


def short(task: str) -> str:
    """Return the short name of one of the studied tasks."""
    return SHORT[check_choice(task, SHORT, "task")]


def ends(tasks: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return how the trainings of `TASKS` ended: task, random, end, low, high, lowest, steps, cpu_seconds, n.

    ``random``: return of uniform actions; ``end``: mean over seeds, with 95% interval, of the mean return in the last quarter
    of the evaluations; ``lowest``: the worst seed's; ``steps`` of the environment, and median ``cpu_seconds`` without
    evaluations.
    """
    rows = []
    for task in TASK_IDS:
        last = last_quarter(tasks, task=task)["value"].to_numpy()
        found = control.mean_interval(last, rng)
        points = select(tasks, "curve", task=task)
        whole = points[points["x"] == points["x"].max()]
        chance, seconds = random_return(tasks, task), float(whole["cpu_seconds"].median())
        rows.append((short(task), chance, *found[:3], last.min(), int(whole["x"].max()), seconds, found.n))
    names = ["task", "random", "end", "low", "high", "lowest", "steps", "cpu_seconds", "n"]
    return pd.DataFrame(rows, columns=names)


def first_reached(tasks: pd.DataFrame, level: float, *, task: str = "CartPole-v1") -> pd.DataFrame:
    """Return when each training's evaluations first had a mean of ``level``: seed, x (environment steps), cpu_seconds.

    Infinite where that never happened.
    """
    points = select(tasks, "curve", task=task).sort_values("x")
    rows = []
    for seed, one in points.groupby("seed"):
        there = one[one["mean_return"] >= level]
        rows.append((seed, *(there.iloc[0][["x", "cpu_seconds"]] if len(there) else (math.inf, math.inf))))
    return pd.DataFrame(rows, columns=["seed", "x", "cpu_seconds"]).astype({"x": float, "cpu_seconds": float})


def tied_ratios(
    plain: pd.DataFrame, tied: pd.DataFrame, rng: np.random.Generator, *, depth: int = 20
) -> pd.DataFrame:
    """Return error with the consistency loss over error without, own actions: measure, unroll_steps, ratio, low, high, n.

    Geometric means over seeds at one ``depth``, with 95% bootstrap intervals. Both tables as from `prediction_errors`.
    """
    rows = []
    for measure in ("latent", *divergence.QUANTITIES):
        for K in sorted(tied["unroll_steps"].unique()):
            both = [divergence.at_depth(t, int(K), BEHAVIOURS[0], measure, depth) for t in (tied, plain)]
            pair = pd.concat(both, axis=1, join="inner").to_numpy()
            found = control.mean_interval(np.log(pair[:, 0] / pair[:, 1]), rng)
            rows.append((measure, int(K), *np.exp(found[:3]), found.n))
    return pd.DataFrame(rows, columns=["measure", "unroll_steps", "ratio", "low", "high", "n"])


def last_quarter(table: pd.DataFrame, **which: Any) -> pd.DataFrame:
    """Return the return of each training, unroll_steps, seed, value: the mean of the last quarter of its evaluations."""
    points = by_x(table, "curve", **which)
    late = points[points["x"] > 0.75 * points["x"].max()]
    return late.groupby(["unroll_steps", "seed"], as_index=False)["value"].mean()


class Verdicts(NamedTuple):
    """What the rules say of the stored studies: for each claim the interval of the ledger, the verdict, its condition."""

    diverge: tuple[Any, str, str]
    control: tuple[Any, str, str]
    openloop: tuple[Any, str, str]
    search: tuple[Any, str, str]


def verdicts(unrolls: pd.DataFrame, tasks: pd.DataFrame, rng: np.random.Generator) -> Verdicts:
    """Apply the rules of `divergence` and `control` to both stored tables.

    Numbers of the ledger: growth of the error of the value for K = 5 and own actions; slope at equal updates; median knee
    for K = 5; and `control.search_number`.
    """
    errors = prediction_errors(unrolls)
    grown = divergence.growth(errors, rng, unroll_steps=5, behaviour=BEHAVIOURS[0], measure="value")
    slopes = [control.trend(last_quarter(unrolls, budget=budget), rng) for budget in ("updates", "compute")]
    found = control.knees(by_x(unrolls, "refresh"), random_return(unrolls))
    by_k = control.knee_table(found, rng)
    cells = search_table(tasks, rng)
    return Verdicts(
        (grown, *divergence.verdict(divergence.growths(errors, rng))),
        (slopes[0], *control.control_verdict(*slopes)),
        (control.median_knee(by_k, 5), *control.openloop_verdict(by_k)),
        (control.search_number(cells), *control.search_verdict(cells)),
    )


def search_table(tasks: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return `control.search_cells` of the stored study, both stages of each task, with `short` names of the tasks."""
    ids = [task for task in TASK_IDS if task in set(tasks["task"])]
    rows = pd.concat(
        [by_x(tasks, "simulations", stage=stage, task=task) for task in ids for stage in ("early", "final")]
    )
    cells = control.search_cells(rows, {task: random_return(tasks, task) for task in ids}, rng)
    return cells.assign(task=cells["task"].map(short))


ODD = 0.001  # a training is not the study's if it is odder than that


class Agreement(NamedTuple):
    """How a training that was run again compares with its stored rows."""

    same: bool
    """Whether all numbers but seconds are the stored ones, to a part in 100,000."""
    chance: float
    """How often a further seed would learn, on average over its curve, as much less or more than the stored ones (t test)."""

    def words(self) -> str:
        """Return what a reader should know: the stored numbers, or how near to them and why."""
        if self.same:
            return "the stored numbers"
        return (
            "not the stored numbers (another machine may round otherwise and train elsewhere); a further seed learns as "
            f"much less or more than the stored ones in {self.chance:.2g} of cases"
        )


def compare(live: pd.DataFrame, stored: pd.DataFrame) -> Agreement:
    """Return how one training's rows compare with a study's table.

    On the machine that stored them they are the same. On another, rounding leads a training elsewhere: on three other sets of
    instructions the first two evaluations were the stored ones to the last digit, and single points then moved by as much
    as those of different seeds. What can be asked is that it behaves like a further seed (``ODD`` says how like). Of the
    180 stored trainings one would be refused if held against its nine kin.
    """
    check_table(live, COLUMNS, "live"), check_table(stored, COLUMNS, "stored")
    keys = list(KEYS)
    numbers = [name for name in COLUMNS if name not in (*keys, "cpu_seconds")]
    both = UNROLLS.beside(live, stored)
    a, b = both[numbers].to_numpy(float), both[[f"{name} stored" for name in numbers]].to_numpy(float)
    points = both[both["kind"] == "curve"]
    kin = stored[(stored["kind"] == "curve") & stored["task"].isin(live["task"])]
    kin = kin[kin["x"].isin(points["x"])].merge(live[keys[:4]].drop_duplicates(), on=keys[:4])
    means = kin.groupby("seed")["mean_return"].mean().to_numpy()
    n, off = len(means), abs(points["mean_return"].mean() - means.mean())
    spread = max(float(means.std(ddof=1)), ROUNDING * np.abs(means).max()) * math.sqrt(1 + 1 / n)
    return Agreement(
        bool(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)),
        float(2 * stats.t.sf(off / spread, n - 1)) if spread else float(off == 0),
    )
