"""Planning with a wrong model: how many steps ahead is it worth looking?

An agent plans h steps ahead in its model, takes the first action, sees where the world has really gone, and
plans again (receding-horizon control). A short horizon is blind to what comes later; a long one asks the
model about steps at which it is wrong. This module measures both sides.

The world is Pendulum-v1 unless another is asked for. The search is the same for all models: a fixed number of
candidate sequences whatever the horizon, drawn from the same random numbers (`Planner`). The value lost by
planning h steps in a model m then has two parts,

    V_best - V_m(h)  =  [V_best - V_true(h)]  +  [V_true(h) - V_m(h)],

what the same search loses with the *true* dynamics, which is the horizon's fault and the search's own, and
what the model's error costs on top. Models: the true dynamics; networks learned from real transitions; and
the true dynamics with a wrong constant of nature, a dial for the model's error.

The best h is compared with what the bounds make of the model's error: a bound in total variation says nothing here (between
two different deterministic predictions it is 1, however close they are), so distances have to do: the Lipschitz bound on
the error after h steps, and the depth at which it is really one standard deviation. `lookahead` has the worlds in which
total variation means something, and the rule for the verdict, fixed before measuring.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    check_count,
    check_finite,
    check_gamma,
    check_positive,
    check_real,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.study import Study
from one_step_trap.trap.lookahead import Summary, check_horizons, summarise
from one_step_trap.trap.networks import Model, Network, Training, predict, train
from one_step_trap.trap.rollout import first_at_least, open_loop, rollout_error
from one_step_trap.trap.simulators import World, known_world, perturbed
from one_step_trap.trap.worlds import Spaces, Trajectories, check_env, collect

HORIZONS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
BLOCK = 32


@functools.lru_cache(maxsize=16)
def _spaces(env_id: str) -> Spaces:
    return check_env(env_id)


# --- the planner ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planner:
    """Receding-horizon search: the best of ``candidates`` action sequences of ``horizon`` steps, at every step.

    A candidate holds an action drawn uniformly for ``hold`` steps on average, then draws another. The first half of the
    candidates are not new: they are the plan of the step before, shifted by one step, in which random pieces are
    replaced (and the very first is that plan itself), so that a good plan is kept and mended. ``memory=False`` draws all
    candidates anew (plain random shooting): a worse search, the more so the longer the sequences are.

    The number of candidates does **not** grow with the horizon; the work of a decision does, candidates x horizon calls
    of the model. ``gamma`` discounts the predicted rewards.
    """

    horizon: int
    candidates: int = 64
    hold: float = 6.0
    memory: bool = True
    gamma: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizon", check_count(self.horizon, "horizon"))
        object.__setattr__(self, "candidates", check_count(self.candidates, "candidates"))
        if check_real(self.hold, "hold") < 1:
            raise BookError(f"hold is a number of steps and must be at least 1, got {self.hold:g}")
        check_gamma(self.gamma, episodic=True)
        if not isinstance(self.memory, bool):
            raise BookError(f"memory must be True or False, got {self.memory!r}")


def draw_sequences(
    planner: Planner, spaces: Spaces, rng: np.random.Generator
) -> tuple[FloatArray, BoolArray]:
    """Return fresh action sequences (N, h, A), and where (N, h) a former plan, if there is one, is kept instead.

    Numbers are drawn step by step: with the same generator, the sequences of a longer horizon begin as those of a
    shorter one (common random numbers for all horizons and all models).
    """
    N, h = planner.candidates, planner.horizon
    columns = 1 if spaces.discrete else spaces.action_size
    u = rng.random((h, N, columns + 2)).swapaxes(0, 1)  # (N, h, columns + 2)
    new_piece = u[..., 0] < 1 / planner.hold
    new_piece[:, 0] = True
    piece = np.maximum.accumulate(
        np.where(new_piece, np.arange(h), 0), axis=1
    )  # (N, h): where its piece began
    held = np.take_along_axis(u[..., 1:], piece[..., None], axis=1)
    kept = held[..., 0] < 0.5
    kept[0] = True
    kept[max(1, N // 2) :] = False
    if spaces.discrete:
        return np.eye(spaces.action_size)[(held[..., 1] * spaces.action_size).astype(np.int64)], kept
    return spaces.low + held[..., 1:] * (spaces.high - spaces.low), kept


def _ask(function: Callable[..., Any], *arrays: FloatArray) -> Any:
    """Return what a function of a `World` says of copies, as a copy: worlds of one's own may work in place."""
    return np.array(function(*(array.copy() for array in arrays)))


def score(
    model: Model, world: World, observations: FloatArray, sequences: FloatArray, gamma: float = 1.0
) -> FloatArray:
    """Return what the model promises, Σ_{i<h} γⁱ r(x̂_i, a_i, x̂_{i+1}), for ``sequences`` (B, h, A) from (B, D).

    Rewards stop where the predicted episode ends. A prediction that is not finite promises minus infinity.
    """
    x, total = observations, np.zeros(len(observations))
    alive = np.ones(len(observations), dtype=bool)
    with np.errstate(all="ignore"):  # a model that blows up is a finding
        for i in range(sequences.shape[1]):
            after = predict(model, x, sequences[:, i])
            total += np.where(alive, gamma**i * _ask(world.reward, x, sequences[:, i], after), 0.0)
            alive &= ~_ask(world.terminated, after)
            x = after
    return np.asarray(np.where(np.isfinite(total) & np.isfinite(x).all(axis=1), total, -np.inf))


def decide(
    model: Model,
    world: World,
    planner: Planner,
    observations: FloatArray,
    former: FloatArray | None,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the best candidate plans, (E, h, A), for ``observations`` (E, D): their first actions are to be taken.

    ``former`` (E, h, A) are the plans of the step before, not yet shifted. All episodes meet the same fresh sequences.
    """
    fresh, kept = draw_sequences(planner, _spaces(world.env_id), rng)  # (N, h, A), (N, h)
    E, (N, h, A) = len(observations), fresh.shape
    plans = np.broadcast_to(fresh, (E, N, h, A))
    if former is not None and planner.memory:
        shifted = np.concatenate((former[:, 1:], former[:, -1:]), axis=1)  # its last action is repeated
        plans = np.where(kept[..., None], shifted[:, None], plans)
    start = np.repeat(observations, N, axis=0)  # (E·N, D)
    promised = score(model, world, start, plans.reshape(E * N, h, A), planner.gamma).reshape(E, N)
    return np.asarray(plans[np.arange(E), promised.argmax(axis=1)])


def play(
    world: World,
    model: Model,
    planner: Planner,
    starts: ArrayLike,
    seed: int,
    *,
    max_steps: int | None = None,
) -> FloatArray:
    """Return the undiscounted return (E,) of an agent that plans in ``model`` and acts in ``world``, from each start.

    ``starts`` (E, S) are states of the world. Observations and actions pass through float32, as in
    Gymnasium.
    Episodes end where the world ends them or after ``max_steps`` (by default the environment's own time limit).
    Decision t of all agents with the same ``seed`` draws from the same generator, whatever the model and the horizon.
    """
    _check_agent(world, model, planner)
    seed = check_count(seed, "seed", minimum=0)
    state = check_finite(starts, "starts")
    if (
        state.ndim != 2
        or not len(state)
        or state.shape[1] != world.start(np.random.default_rng(0), 1).shape[1]
    ):
        raise BookError(f"starts must be states of {world.env_id}, one a row, got shape {state.shape}")
    spaces = _spaces(world.env_id)
    limit = spaces.max_steps if max_steps is None else check_count(max_steps, "max_steps")
    x = _ask(world.observe, state)
    predict(model, x, np.tile(spaces.low, (len(x), 1)))  # a model of the wrong shape is told so here
    returns, live = np.zeros(len(state)), np.arange(len(state))
    plans: FloatArray | None = None
    for t in range(limit):
        seen = x.astype(np.float32).astype(np.float64)
        plans = decide(model, world, planner, seen, plans, np.random.default_rng([seed, t]))
        action = plans[:, 0].astype(np.float32).astype(np.float64)
        state = _ask(world.step, state, action)
        after = _ask(world.observe, state)
        returns[live] += _ask(world.reward, x, action, after)
        going = ~_ask(world.terminated, after)
        live, state, x, plans = live[going], state[going], after[going], plans[going]
        if not len(live):
            break
    return returns


def _check_agent(world: World, model: Model, planner: Planner) -> None:
    if not isinstance(world, World):
        raise BookError(f"world must be a World (known_world('Pendulum-v1') is one), got {world!r}")
    if not callable(model):
        raise BookError(
            "the model must be callable: (observation (B, D), action (B, A)) -> next observation (B, D)"
        )
    if not isinstance(planner, Planner):
        raise BookError(f"planner must be a Planner, such as Planner(horizon=20), got {planner!r}")


def value_by_horizon(
    model: Model,
    world: World,
    starts: ArrayLike,
    seed: int,
    *,
    horizons: Sequence[int] = HORIZONS,
    planner: Planner | None = None,
    max_steps: int | None = None,
) -> FloatArray:
    """Return the mean return over the starts for each horizon, (H,): the curve whose top is the best horizon.

    ``planner`` gives everything but the horizon (by default that of `Planner`).
    """
    base = Planner(horizon=1) if planner is None else planner
    _check_agent(world, model, base)
    planners = [replace(base, horizon=h) for h in check_horizons(horizons)]
    return np.array([play(world, model, p, starts, seed, max_steps=max_steps).mean() for p in planners])


class Quick:
    """A trained network evaluated in float32 by NumPy, some times faster than in torch: planning asks it millions of times.

    Agrees with the network to about 1e-6 of a standard deviation. Plain networks only (one member, no variance).
    """

    def __init__(self, network: Network) -> None:
        if not isinstance(network, Network) or network.members != 1 or network.probabilistic:
            raise BookError("Quick takes a plain Network: one member, not probabilistic")
        units = network.units
        (mean, sd), (a_mean, a_sd) = units.observation, units.action
        weights, biases = [W[0].copy() for W in network.weights], [b[0, 0].copy() for b in network.biases]
        # The units go into the first layer and the last: (x - μ)/σ W = x (W/σ) - μ/σ W.
        scale, shift = np.concatenate((sd, a_sd)), np.concatenate((mean, a_mean))
        biases[0] = biases[0] - (shift / scale) @ weights[0]
        weights[0] = weights[0] / scale[:, None]
        biases[-1] = biases[-1] * units.change[1] + units.change[0]
        weights[-1] = weights[-1] * units.change[1]
        self.weights = [W.astype(np.float32) for W in weights]
        self.biases = [b.astype(np.float32) for b in biases]

    def __call__(self, observations: FloatArray, actions: FloatArray) -> FloatArray:
        """Return the next observations (B, D)."""
        B = len(observations)
        h = np.concatenate((observations, actions), axis=1, dtype=np.float32, casting="unsafe")
        # In blocks of 32 rows: for one large product BLAS would wake its threads, which costs more than the product.
        h = np.concatenate((h, np.zeros((-B % BLOCK, h.shape[1]), dtype=np.float32))).reshape(
            -1, BLOCK, h.shape[1]
        )
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = np.tanh(h @ W + b)
        change = h @ self.weights[-1] + self.biases[-1]
        return np.asarray(observations + change.reshape(-1, observations.shape[1])[:B])


# --- how wrong is the model, and what the bounds make of it -----------------------------------------------


@dataclass(frozen=True)
class ModelError:
    """One model's errors on real test data, in standard deviations of the observations (RMS over dimensions).

    ``delta``, ``delta_max``: mean and largest error of one step. ``growth``: by what factor a small difference between
    two of the model's own rollouts grows a step, typically (geometric mean over starts and 20 steps). ``lipschitz``: the
    largest local Lipschitz constant of a step on the test data. ``depth_measured``: the depth at which the median rollout
    error reaches one standard deviation (infinite if beyond the test's depth); ``depth_bound`` and ``depth_estimate``: the
    same by `lipschitz_depth`, from the worst numbers (delta_max, lipschitz) and from the typical ones (delta, growth).
    """

    delta: float
    delta_max: float
    growth: float
    lipschitz: float
    depth_bound: float
    depth_estimate: float
    depth_measured: float


def lipschitz_depth(delta: float, K: float, threshold: float = 1.0) -> float:
    """Return the depth n at which the Lipschitz bound Δ (Kⁿ - 1)/(K - 1) reaches ``threshold`` (n >= 0, not rounded).

    Asadi, Misra & Littman 2018 bound the n-step error in W1 of a model with Lipschitz constant K by Δ Σ_{i<n} Kⁱ. Infinite
    where it never gets there (K < 1 and Δ/(1-K) below the threshold, or Δ = 0).
    """
    delta, K, threshold = (
        check_real(delta, "delta"),
        check_real(K, "K"),
        check_positive(threshold, "threshold"),
    )
    if delta < 0 or K < 0:
        raise BookError(f"delta and K must not be negative, got {delta:g} and {K:g}")
    if delta == 0:
        return math.inf
    if K == 0:
        return 1.0 if delta >= threshold else math.inf
    if abs(K - 1) < 1e-9:
        return threshold / delta
    inside = 1 + (K - 1) * threshold / delta
    return math.inf if inside <= 0 else math.log(inside) / math.log(K)


def _depth(delta: float, K: float) -> float:
    """Return `lipschitz_depth`, and 0 for a model that is wrong without limit."""
    return lipschitz_depth(delta, K) if math.isfinite(delta) and math.isfinite(K) else 0.0


def local_lipschitz(model: Model, observations: ArrayLike, actions: ArrayLike, sd: ArrayLike) -> FloatArray:
    """Return the local Lipschitz constant (B,) of a step at each observation, in units of ``sd`` (D,).

    The largest singular value of ``J_ij = ∂x̂'_i/∂x_j · sd_j/sd_i``, by central differences of 1e-4 sd; infinite where the
    model's prediction is not finite.
    """
    x, a, s = (
        check_finite(observations, "observations"),
        check_finite(actions, "actions"),
        check_finite(sd, "sd"),
    )
    if x.ndim != 2 or a.ndim != 2 or len(x) != len(a) or s.shape != (x.shape[1],) or (s <= 0).any():
        raise BookError(
            f"observations (B, D), actions (B, A) and sd (D,), above 0, do not fit: {x.shape}, {a.shape}, {s.shape}"
        )
    J = np.empty((len(x), len(s), len(s)))
    for j in range(len(s)):
        nudge = np.zeros(len(s))
        nudge[j] = 1e-4 * s[j]
        with np.errstate(all="ignore"):
            J[:, :, j] = (predict(model, x + nudge, a) - predict(model, x - nudge, a)) / (2e-4 * s)
    constants, known = np.full(len(x), math.inf), np.isfinite(J).all(axis=(1, 2))
    constants[known] = np.linalg.svd(J[known], compute_uv=False)[:, 0]
    return constants


def growth_per_step(
    model: Model,
    observations: FloatArray,
    actions: FloatArray,
    sd: FloatArray,
    rng: np.random.Generator,
    *,
    size: float = 1e-3,
) -> float:
    """Return (geometric mean of the final over the initial distance)^(1/depth) of rollouts started ``size`` sd apart.

    ``observations`` (B, D), ``actions`` (B, depth, A). The direction of the first difference is random.
    """
    check_rng(rng)
    nudge = rng.standard_normal(observations.shape)
    nudge *= check_positive(size, "size") / np.sqrt(np.mean(nudge**2, axis=1, keepdims=True))
    twins = [open_loop(model, x, actions)[:, -1] for x in (observations, observations + nudge * sd)]
    with np.errstate(all="ignore"):  # rollouts that have run away are left out, unless all have
        apart = np.sqrt(np.mean(((twins[0] - twins[1]) / sd) ** 2, axis=1))
    ratio = np.clip(apart[np.isfinite(apart)] / size, 1e-12, None)
    return float(np.exp(np.log(ratio).mean() / actions.shape[1])) if len(ratio) else math.inf


def measure_error(model: Model, test: Trajectories, *, depth: int = 200) -> ModelError:
    """Return how wrong a model is on real test trajectories, and how deep the bounds say it can be followed."""
    if not isinstance(test, Trajectories):
        raise BookError(f"test must be Trajectories (see collect), got {type(test).__name__}")
    errors = rollout_error(model, test, depth=depth, starts=5)
    one_step = errors.one_step[np.isfinite(errors.one_step)]
    x, a, _ = test.transitions()
    some = slice(None, None, max(1, len(x) // 1000))
    sd = np.where(errors.sd > 0, errors.sd, 1.0)
    steps = min(20, int(test.lengths.max()))
    obs, act = test.windows(steps)
    few = slice(None, None, max(1, len(obs) // 200))
    finite = len(one_step) == np.count_nonzero(~np.isnan(errors.one_step))  # else it is wrong without limit
    delta, delta_max = (float(one_step.mean()), float(one_step.max())) if finite else (math.inf, math.inf)
    growth = growth_per_step(model, obs[few, 0], act[few], sd, np.random.default_rng(0))
    K = float(local_lipschitz(model, x[some], a[some], sd).max())
    return ModelError(
        delta,
        delta_max,
        growth,
        K,
        _depth(delta_max, K),
        _depth(delta, growth),
        first_at_least(errors.curve()),
    )


# --- the study --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The settings of the study; ``LIVE`` is the slice that the chapter computes again.

    ``episodes`` start states a seed, the same for all models and horizons of that seed; ``transitions`` and
    ``unroll_steps`` of the networks; ``factors`` by which the world's first constant (gravity) is multiplied in a
    wrong model; ``policy`` that collects the data; ``test_transitions`` on which all models' errors are measured.
    """

    env_id: str = "Pendulum-v1"
    horizons: tuple[int, ...] = HORIZONS
    transitions: tuple[int, ...] = (200, 500, 2_000, 20_000)
    unroll_steps: tuple[int, ...] = (1, 5)
    factors: tuple[float, ...] = (2.0, 1.5, 1.25, 1.1)
    seeds: tuple[int, ...] = tuple(range(16))
    episodes: int = 8
    candidates: int = 64
    updates: int = 2_000
    policy: str = "held"
    test_transitions: int = 4_000
    max_steps: int | None = None

    def __post_init__(self) -> None:
        known_world(self.env_id)
        object.__setattr__(self, "horizons", check_horizons(self.horizons))
        for name in ("transitions", "unroll_steps", "seeds"):
            least = 0 if name == "seeds" else 1
            values = tuple(check_count(x, name, minimum=least) for x in getattr(self, name))
            object.__setattr__(self, name, values)
        object.__setattr__(self, "factors", tuple(check_positive(x, "factors") for x in self.factors))
        for name in ("episodes", "candidates", "updates", "test_transitions"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        if not self.seeds:
            raise BookError("seeds must name at least one seed")


FULL = Settings()
LIVE = replace(FULL, seeds=(0,), unroll_steps=(1,), transitions=(2_000,), factors=(2.0,), horizons=(3, 20))
TEST_SEED = 1_000_000  # of the test data, apart from the seeds of all training data

COLUMNS = {
    "model": "true; forgetful (true, but the search forgets its plan); network; constant (true but one constant)",
    "transitions": "real transitions that the network was trained on; 0 for the others",
    "unroll_steps": "steps through which the network was trained; 0 for the others",
    "factor": "factor on the constant (gravity) in the model; 1 is right",
    "horizon": "steps planned ahead",
    "seed": "seed of the start states, data, training and planner",
    "value": "mean undiscounted return over the start states of the seed, in reward",
    "delta": "mean one-step error on test data, in standard deviations (RMS over dimensions)",
    "delta_max": "largest one-step error on test data, in standard deviations",
    "growth": "typical growth of a small difference between rollouts of the model, a factor per step",
    "lipschitz": "largest local Lipschitz constant of the model on test data, a factor per step",
    "depth_bound": "depth at which the Lipschitz bound from delta_max and lipschitz reaches one standard deviation, steps",
    "depth_estimate": "the same from delta and growth, steps",
    "depth_measured": "depth at which the median rollout error reaches one standard deviation, steps; inf if beyond 200",
}
KEYS = ("model", "transitions", "unroll_steps", "factor", "horizon", "seed")
"""The columns that tell the rows of the study apart."""


def study(settings: Settings = FULL) -> pd.DataFrame:
    """Return the tidy table of the study (`COLUMNS`); a row depends on its own settings and its seed only."""
    if not isinstance(settings, Settings):
        raise BookError(f"settings must be Settings, got {settings!r}")
    world = known_world(settings.env_id)
    test = collect(settings.env_id, settings.test_transitions, TEST_SEED, policy=settings.policy)
    base = Planner(horizon=1, candidates=settings.candidates)
    rows = []
    for seed in settings.seeds:
        starts = world.start(np.random.default_rng([seed, 1]), settings.episodes)
        for kind, n, k, factor, model in models(settings, seed):
            error = measure_error(model, test)
            values = value_by_horizon(
                Quick(model) if isinstance(model, Network) else model,
                world,
                starts,
                seed,
                horizons=settings.horizons,
                planner=replace(base, memory=kind != "forgetful"),
                max_steps=settings.max_steps,
            )
            for h, value in zip(settings.horizons, values, strict=True):
                rows.append((kind, n, k, factor, h, seed, float(value), *asdict(error).values()))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def models(settings: Settings, seed: int) -> list[tuple[str, int, int, float, Model]]:
    """Return the models of one seed: (kind, transitions, unroll_steps, factor, model)."""
    world = known_world(settings.env_id)
    constant = fields(world)[0].name
    result: list[tuple[str, int, int, float, Model]] = [
        ("true", 0, 0, 1.0, world),
        ("forgetful", 0, 0, 1.0, world),
    ]
    result += [("constant", 0, 0, f, perturbed(world, **{constant: f})) for f in settings.factors]
    for n in settings.transitions:
        data = collect(settings.env_id, n, seed, policy=settings.policy)
        for k in settings.unroll_steps:
            training = Training(updates=settings.updates, unroll_steps=k)
            result.append(("network", n, k, 1.0, train(data, training, seed=seed)))
    return result


def run_part(part: int) -> pd.DataFrame:
    """Return one of the parts of the full study: one seed."""
    return study(replace(FULL, seeds=(FULL.seeds[part],)))


STUDY = Study(
    name="01-one-step-trap/planning",
    keys=KEYS,
    title="Planning in a wrong model: return by model, horizon and seed (Pendulum-v1)",
    parts=len(FULL.seeds),
    run=run_part,
    settings=asdict(FULL),
    columns=COLUMNS,
)


def curves(table: pd.DataFrame, model: str, **where: float) -> tuple[tuple[int, ...], FloatArray]:
    """Return the horizons and the values (seeds, H) of one model in the table: ``curves(t, "network", transitions=200)``.

    Raises BookError if nothing matches, or if a seed lacks a horizon or has it twice.
    """
    if not isinstance(table, pd.DataFrame):
        raise BookError(f"table must be the study's table, a DataFrame, got a {type(table).__name__}")
    missing = {"model", "horizon", "seed", "value", *where} - set(table.columns)
    if missing:
        raise BookError(f"the table lacks the columns {', '.join(sorted(missing))}")
    rows = table[table["model"] == model]
    for name, wanted in where.items():
        rows = rows[rows[name] == wanted]
    if rows.empty:
        raise BookError(f"the table has no model {model!r} with {where}")
    if rows.duplicated(["seed", "horizon"]).any():
        raise BookError(f"{where} leaves several models {model!r} in the table: say which")
    wide = rows.pivot(index="seed", columns="horizon", values="value").sort_index()
    if wide.isna().any(axis=None):
        raise BookError("every seed must have every horizon")
    return tuple(int(h) for h in wide.columns), wide.to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class LossCurve:
    """What one model loses by planning h steps, for each of ``horizons``, in reward an episode, means over seeds.

    ``lost``: against the best horizon of the true dynamics; ``by_model``: against the true dynamics at the *same* horizon,
    under the same search and the same random numbers: the part that the model's error costs (negative where the wrong
    model does better). The seeds are compared pairwise.
    """

    label: str
    horizons: tuple[int, ...]
    lost: tuple[Interval, ...]
    by_model: tuple[Interval, ...]


def loss_curve(
    table: pd.DataFrame, rng: np.random.Generator, label: str, model: str, **where: float
) -> LossCurve:
    """Return the losses of one model of the study's table: ``loss_curve(t, rng, "200", "network", transitions=200, ...)``."""
    check_rng(rng)
    horizons, true = curves(table, "true")
    found, values = curves(table, model, **where)
    if found != horizons or values.shape != true.shape:
        raise BookError(f"{label} must have the horizons and seeds of the true dynamics")
    best = true[:, [true.mean(axis=0).argmax()]]  # (n, 1)

    def intervals(differences: FloatArray) -> tuple[Interval, ...]:
        return tuple(bootstrap_interval(column, rng, resamples=2_000) for column in differences.T)

    return LossCurve(label, horizons, intervals(best - values), intervals(true - values))


def sizes_of(table: pd.DataFrame, unroll_steps: int = 1) -> list[int]:
    """Return the sizes of data, increasing, of the networks in the table that were trained through ``unroll_steps``."""
    k = check_count(unroll_steps, "unroll_steps")
    rows = table[(table["model"] == "network") & (table["unroll_steps"] == k)]
    if rows.empty:
        raise BookError(f"the table has no networks trained through {k} steps")
    return sorted(int(n) for n in rows["transitions"].unique())


def factors_of(table: pd.DataFrame) -> list[float]:
    """Return the factors on the constant in the table's wrong models, from the most wrong on."""
    wrong = table[table["model"] == "constant"]["factor"].unique()
    return sorted((float(f) for f in wrong), key=lambda f: -abs(math.log(f)))


def network_curves(
    table: pd.DataFrame, rng: np.random.Generator, *, unroll_steps: int = 1
) -> list[LossCurve]:
    """Return the losses of the networks, from least data to most, and last those of the true dynamics."""
    result = [
        loss_curve(table, rng, f"{n:,}", "network", transitions=n, unroll_steps=unroll_steps)
        for n in sizes_of(table, unroll_steps)
    ]
    return [*result, loss_curve(table, rng, "true model", "true")]


def summarise_networks(table: pd.DataFrame, rng: np.random.Generator, *, unroll_steps: int = 1) -> Summary:
    """Return the best horizons of the networks, from least data to most, and the verdict of the rule."""
    sizes = sizes_of(table, unroll_steps)
    found = [curves(table, "network", transitions=n, unroll_steps=unroll_steps) for n in sizes]
    return summarise([v for _, v in found], found[0][0], [f"{n:,}" for n in sizes], rng)


def summarise_constants(table: pd.DataFrame, rng: np.random.Generator) -> Summary:
    """Return the best horizons of the models with a wrong constant, from the most wrong to the true one."""
    factors = factors_of(table)
    found = [*(curves(table, "constant", factor=f) for f in factors), curves(table, "true")]
    return summarise([v for _, v in found], found[0][0], [*(f"x {f:g}" for f in factors), "true"], rng)


def quality(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return one row a wrong model: its best h with interval, beside how wrong it is and what the bounds make of that.

    Columns: ``group`` ("network, k = 1", "wrong constant", ...), ``label``, ``best``, ``low``, ``high`` (steps), and
    the medians over seeds of ``delta`` and of the three depths at which the error reaches one standard deviation.
    """
    groups: list[tuple[str, str, list[dict[str, float]], Summary]] = []
    for k in sorted(int(k) for k in table[table["model"] == "network"]["unroll_steps"].unique()):
        sizes: list[dict[str, float]] = [{"transitions": n, "unroll_steps": k} for n in sizes_of(table, k)]
        groups.append((f"network, k = {k}", "network", sizes, summarise_networks(table, rng, unroll_steps=k)))
    factors: list[dict[str, float]] = [{"factor": f} for f in factors_of(table)]
    if factors:
        groups.append(("wrong constant", "constant", factors, summarise_constants(table, rng)))
    measured = ["delta", "depth_bound", "depth_estimate", "depth_measured"]
    rows = []
    for group, model, wheres, summary in groups:
        for i, where in enumerate(wheres):
            chosen = table[(table["model"] == model) & (table[list(where)] == pd.Series(where)).all(axis=1)]
            medians = chosen.groupby("seed")[measured].first().median()
            best = summary.best[i]
            numbers = (best.value, best.low, best.high, *(float(medians[name]) for name in measured))
            rows.append((group, summary.labels[i], *numbers))
    return pd.DataFrame(rows, columns=["group", "label", "best", "low", "high", *measured])


def largest_difference(live: pd.DataFrame, stored: pd.DataFrame) -> float:
    """Return the largest difference of ``value`` between rows computed again and the same rows of the stored table.

    The same machine gives the same numbers. Another processor may round otherwise, a search may then choose another plan,
    and the two episodes part: compare with the spread over seeds, not with 0.
    """
    both = STUDY.beside(live, stored)
    return float((both["value"] - both["value stored"]).abs().max())
