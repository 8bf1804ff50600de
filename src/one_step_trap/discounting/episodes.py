"""How long episodes are: the caps that gymnasium's registry states, and the lengths that are really played.

A discount is short or long only against the length of an episode. Two different lengths go by that name:
the **cap**, `max_episode_steps`, at which the wrapper `TimeLimit` cuts an episode off (`truncated`), and
the length that is **played** until the task itself ends (`terminated`). This module reads the first from
the live registry and measures the second.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray
from scipy import sparse

from one_step_trap.core.environments import Environment, entry_module
from one_step_trap.core.stats import bootstrap_interval, proportion_interval
from one_step_trap.core.validate import (
    check_count,
    check_finite,
    check_flag,
    check_gamma,
    check_kind,
    check_kinds,
    check_list,
    check_rng,
    check_table,
    short_repr,
)
from one_step_trap.errors import BookError

NEAR_1000 = (
    999,
    1000,
)  # what "around 1000 steps" is taken to mean for a cap; MountainCarContinuous states 999

MAX_EXACT_CAP = 1_000_000  # steps of an episode that `exact_length` adds up: some ten seconds

# What the chapter plays, and how often: enough episodes for a useful interval, few where one is long.
PLAYED: Mapping[str, int] = {
    "CartPole-v1": 4_000,
    "Acrobot-v1": 20,
    "MountainCar-v0": 20,
    "Pendulum-v1": 20,
    "FrozenLake-v1": 1_000,
    "Taxi-v4": 200,
    "CliffWalking-v1": 20,
    "Blackjack-v1": 1_000,
    "LunarLander-v3": 100,
    "Hopper-v5": 200,
    "HalfCheetah-v5": 5,
}


# --- the caps, from the registry --------------------------------------------------------------------------


def _is_stub(spec: EnvSpec) -> bool:
    """Tell whether the entry point only raises: so gymnasium keeps the ids of removed environments."""
    entry = spec.entry_point
    return entry is None or (callable(entry) and getattr(entry, "__name__", "").startswith("_raise"))


def _check_mapping(values: Any, name: str) -> Mapping[Any, Any]:
    """Return ``values`` if it is a mapping, from ids to something."""
    if not isinstance(values, Mapping):
        raise BookError(f"{name} must be a mapping from ids, got {short_repr(values)}")
    return values


def registry_table(
    registry: Mapping[str, EnvSpec] | None = None, *, package: str | None = "gymnasium"
) -> pd.DataFrame:
    """Return one row for each environment id of the live registry.

    Parameters
    ----------
    registry
        id -> spec; by default ``gymnasium.registry`` as it is now.
    package
        Keep the ids whose entry point is in this package, so that plug-ins installed beside gymnasium do
        not change the census; ``None`` keeps all.

    Returns ------- DataFrame with the columns ``id``, ``namespace`` and ``name`` (str), ``version``
    (Int64), ``family`` (the module below ``gymnasium.envs`` that holds the environment, or the package's
    name), ``is_latest`` (no higher version of the same name), ``duplicate`` (the same task exists without
    the namespace, as ``CartPole`` does for ``phys2d/CartPole``), ``playable`` (False where the id is kept
    but its entry point only raises) and ``cap`` (Int64, missing = none).
    """
    specs = dict(_check_mapping(gymnasium.registry if registry is None else registry, "registry"))
    if package is not None:
        check_kind(package, str, "package")
    rows = []
    for env_id, spec in specs.items():
        module = entry_module(check_kind(spec, EnvSpec, "every entry of the registry")).split(".")
        if package is not None and module[0] != package:
            continue
        inside = module[:2] == ["gymnasium", "envs"] and len(module) > 2
        family = "" if _is_stub(spec) else module[2] if inside else module[0]
        rows.append(
            (
                env_id,
                spec.namespace or "",
                spec.name,
                spec.version,
                family,
                not _is_stub(spec),
                spec.max_episode_steps,
            )
        )
    if not rows:
        raise BookError(f"no environment of the package {package!r} is registered")
    table = pd.DataFrame(rows, columns=["id", "namespace", "name", "version", "family", "playable", "cap"])
    table = table.astype({"version": "Int64", "cap": "Int64"})
    # A stub belongs to the family of the living environment of its name (Hopper-v2 to that of Hopper-v5).
    families = table[table["family"] != ""].groupby(["namespace", "name"])["family"].first().to_dict()
    table["family"] = [
        family or families.get((namespace, name), "removed")
        for namespace, name, family in zip(table["namespace"], table["name"], table["family"], strict=True)
    ]
    newest = table.groupby(["namespace", "name"])["version"].transform("max")
    table["is_latest"] = ((table["version"] == newest) | newest.isna()).fillna(False).astype(bool)
    plain = set(table.loc[table["namespace"] == "", "name"])
    table["duplicate"] = (table["namespace"] != "") & table["name"].isin(plain)
    columns = ["id", "namespace", "name", "version", "family", "is_latest", "duplicate", "playable", "cap"]
    return table[columns].sort_values(["family", "id"], ignore_index=True)


def latest(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are the latest version, no duplicate, and more than a stub."""
    check_table(table, ("is_latest", "duplicate", "playable"), "table (of registry_table)")
    return table[table["is_latest"] & ~table["duplicate"] & table["playable"]].reset_index(drop=True)


def cap_summary(table: pd.DataFrame, *, near: tuple[int, int] = NEAR_1000) -> pd.DataFrame:
    """Return the caps of a census in numbers, one row for each group of ids.

    The groups are: every id; the latest versions (`latest`); those outside MuJoCo and Box2D; and each
    family of the latest versions. Columns: ``group``, ``specs``, ``capped``, ``median`` and ``mean`` (of
    the caps that exist, in steps), ``near_1000`` (caps within ``near``, both ends included) and ``share``
    (``near_1000 / capped``). A census has no sampling error, and hence no interval.
    """
    now = latest(check_table(table, ("family", "cap"), "table (of registry_table)"))
    ends = [check_count(steps, "near") for steps in check_list(near, "near")]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise BookError(f"near must be a lower and an upper number of steps, got {short_repr(near)}")
    groups = {
        "every id": table,
        "latest versions": now,
        "latest, outside MuJoCo and Box2D": now[~now["family"].isin(["mujoco", "box2d"])],
    }
    groups |= {f"latest, {family}": rows for family, rows in now.groupby("family")}
    rows = []
    for group, members in groups.items():
        caps = members["cap"].dropna().to_numpy(dtype=np.int64)
        hits = int(((caps >= ends[0]) & (caps <= ends[1])).sum())
        middle, mean = (float(np.median(caps)), float(caps.mean())) if len(caps) else (math.nan, math.nan)
        share = hits / len(caps) if len(caps) else math.nan
        rows.append((group, len(members), len(caps), middle, mean, hits, share))
    return pd.DataFrame(rows, columns=["group", "specs", "capped", "median", "mean", "near_1000", "share"])


# --- lengths that are played ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Episodes:
    """Played episodes of one environment.

    ``lengths`` (episodes,) are steps; ``terminated`` (episodes,) is False where the episode was cut off at
    ``cap`` and the length is therefore **censored**: the task would have gone on for an unknown time.
    ``rewards`` (episodes,) are undiscounted returns. ``cap_is_ours`` says that the spec states no cap and
    the one here is our own choice.
    """

    id: str
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    cap: int
    cap_is_ours: bool
    seed: int

    def __post_init__(self) -> None:
        check_kind(self.id, str, "id")
        shape = check_finite(self.lengths, "lengths").shape
        if len(shape) != 1 or shape[0] == 0:
            raise BookError(f"lengths must be a list of at least one episode, got shape {shape}")
        for name in ("terminated", "rewards"):
            if check_finite(getattr(self, name), name).shape != shape:
                raise BookError(f"{name} must have one entry an episode, {shape[0]} of them")
        check_count(self.cap, "cap")
        check_flag(self.cap_is_ours, "cap_is_ours")
        kinds = {"lengths": np.int64, "terminated": np.bool_, "rewards": np.float64}
        for name, kind in kinds.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))

    @property
    def censored(self) -> NDArray[np.bool_]:
        """Episodes cut off by the cap, shape (episodes,)."""
        return ~self.terminated


def find_spec(env_id: Any) -> EnvSpec:
    """Return the spec of an id; an unknown one is an error that names a close match."""
    if not isinstance(env_id, str) or not env_id.strip():
        raise BookError(
            f"env_id must be the id of a gymnasium environment such as 'CartPole-v1', got {short_repr(env_id)}"
        )
    try:
        return gymnasium.spec(env_id)
    except (gymnasium.error.Error, ImportError, ValueError) as error:
        by_case = {known.lower(): known for known in gymnasium.registry}
        close = difflib.get_close_matches(env_id.lower(), by_case, n=1, cutoff=0.5)
        hint = (
            f"; did you mean {by_case[close[0]]!r}?"
            if close
            else "; see gymnasium.registry for the known ones"
        )
        raise BookError(f"{env_id!r} is not a known gymnasium environment{hint}") from error


def make(env_id: str, *, cap: int | None = None, **options: Any) -> Environment:
    """Return the environment, cut off at ``cap`` steps where given; one clear error if it cannot run."""
    find_spec(env_id)
    return Environment(env_id, max_steps=None if cap is None else check_count(cap, "cap"), options=options)


def can_make(env_id: str) -> bool:
    """Tell whether the environment can be made here (MuJoCo and Box2D are optional)."""
    find_spec(env_id)
    try:
        make(env_id).close()
    except BookError:
        return False
    return True


def _episode_seeds(seed: int, episodes: int) -> list[tuple[int, int]]:
    """Return (environment, actions) seeds of each episode, the same however many follow."""
    words = np.random.SeedSequence(seed).generate_state(2 * episodes, dtype=np.uint32)
    return [(int(a), int(b)) for a, b in words.reshape(episodes, 2)]


def play_random(
    env_id: str, episodes: int, seed: int, *, cap: int | None = None, uncapped: int = 20_000
) -> Episodes:
    """Play whole episodes with uniformly random actions, and count their steps.

    Every episode seeds the environment **and** its action space anew, both from ``seed``: the episodes are
    independent, and episode i is the same whether 10 or 1,000 are played.

    Parameters
    ----------
    env_id
        Any id that gymnasium knows.
    episodes
        How many whole episodes to play, at least 1.
    cap
        Cut episodes off here instead of at the spec's own cap, in steps.
    uncapped
        The cap to use, and to flag, where the spec states none.

    Raises
    ------
    BookError
        An unknown id (a close match is named), an environment whose engine is not installed, or counts out
        of range.
    """
    episodes, seed = check_count(episodes, "episodes"), check_count(seed, "seed", minimum=0)
    stated = find_spec(env_id).max_episode_steps
    ours = cap is not None or stated is None
    limit = check_count(cap if cap is not None else stated if stated is not None else uncapped, "cap")
    env = make(env_id, cap=limit)
    lengths, rewards = np.zeros(episodes, dtype=np.int64), np.zeros(episodes)  # (episodes,)
    ended = np.zeros(episodes, dtype=np.bool_)  # (episodes,)
    with contextlib.closing(env), env.guarded("its action space"):
        for i, (env_seed, action_seed) in enumerate(_episode_seeds(seed, episodes)):
            env.reset(env_seed)
            env.action_space.seed(action_seed)
            terminated = truncated = False
            while not (terminated or truncated):
                _, reward, terminated, truncated = env.step(env.action_space.sample())
                lengths[i] += 1
                rewards[i] += reward
            ended[i] = terminated
    return Episodes(env_id, lengths, ended, rewards, limit, ours, seed)


def play_all(wanted: Mapping[str, int] = PLAYED, *, seed: int = 0) -> tuple[list[Episodes], list[str]]:
    """Play each environment of ``wanted`` (id -> episodes); return the plays and the ids left out.

    An environment whose engine (MuJoCo, Box2D) is not installed is left out and named; an unknown id is an
    error.
    """
    counts = {env_id: check_count(n, "episodes") for env_id, n in _check_mapping(wanted, "wanted").items()}
    missing = [env_id for env_id in counts if not can_make(env_id)]
    return [play_random(i, n, seed) for i, n in counts.items() if i not in missing], missing


def length_table(played: Iterable[Episodes], rng: np.random.Generator) -> pd.DataFrame:
    """Return the played lengths in numbers, one row for each environment.

    ``mean`` is E[min(T, cap)], the mean up to the cap, with a 95% bootstrap interval over episodes
    (``low``, ``high``): where episodes are censored it bounds the mean of T from below. ``censored`` is the
    share cut off at the cap, with an exact interval (``censored_low``, ``censored_high``). ``median`` is
    the length by which half of the episodes have ended, missing where fewer than half did.
    """
    check_rng(rng)
    rows = []
    for run in check_kinds(played, Episodes, "played"):
        n, cut = len(run.lengths), int(run.censored.sum())
        mean = bootstrap_interval(run.lengths, rng)
        share = proportion_interval(cut, n)
        median = float(np.median(run.lengths)) if 2 * cut < n else math.nan
        rows.append(
            (
                run.id,
                n,
                mean.value,
                mean.low,
                mean.high,
                median,
                int(run.lengths.max()),
                run.cap,
                run.cap_is_ours,
                share.value,
                share.low,
                share.high,
                run.seed,
            )
        )
    columns = [
        "id",
        "episodes",
        "mean",
        "low",
        "high",
        "median",
        "longest",
        "cap",
        "cap_is_ours",
        "censored",
        "censored_low",
        "censored_high",
        "seed",
    ]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class ExactLength:
    """The length T of an episode under random actions, computed: E[T], E[min(T, cap)] and P(T > cap)."""

    id: str
    mean: float
    mean_to_cap: float
    censored: float
    cap: int


def exact_length(env_id: str, *, cap: int | None = None, uncapped: int = 20_000) -> ExactLength:
    """Return the exact length of random episodes where the environment publishes its transition table.

    With Q the transition matrix among the states that are not terminal, under uniformly random actions, and
    mu the distribution of the first state, P(T > t) = sum(mu Q^t). Hence::

        E[T] = mu (I - Q)⁻¹ 1        E[min(T, cap)] = Σ_{t < cap} sum(mu Q^t)

    (Kemeny & Snell 1960, chapter 3). It needs ``env.unwrapped.P`` and ``initial_state_distrib``, which
    gymnasium's FrozenLake, CliffWalking and Taxi have; any other environment is an error. An independent
    check of `play_random`.
    """
    stated = find_spec(env_id).max_episode_steps
    limit = check_count(cap if cap is not None else stated if stated is not None else uncapped, "cap")
    if limit > MAX_EXACT_CAP:
        raise BookError(f"cap must be at most {MAX_EXACT_CAP:,} to be summed step by step, got {limit:,}")
    env = make(env_id)
    table, mu = (getattr(env.unwrapped, name, None) for name in ("P", "initial_state_distrib"))
    env.close()
    if not isinstance(table, Mapping) or mu is None:
        raise BookError(
            f"{env_id} publishes no transition table (env.unwrapped.P): play it with play_random instead"
        )
    triples = [
        (state, after, p / len(actions))
        for state, actions in table.items()
        for outcomes in actions.values()
        for p, after, _, terminal in outcomes
        if not terminal
    ]
    rows, columns, weights = (np.array(part) for part in zip(*triples, strict=True))
    start = np.asarray(mu, dtype=np.float64)  # (S,)
    Q = sparse.csr_array(
        (weights, (rows.astype(int), columns.astype(int))), shape=(len(start), len(start))
    )  # (S, S)
    alive, to_cap = start, 0.0  # alive (S,): P(T > t and state)
    for _ in range(limit):
        to_cap += float(alive.sum())
        alive = alive @ Q
    # I - Q can be singular on states that are never reached: solve on the others.
    reached = np.flatnonzero(_reachable(Q, start))
    inner = np.eye(len(reached)) - Q.toarray()[np.ix_(reached, reached)]
    mean = float(start[reached] @ np.linalg.solve(inner, np.ones(len(reached))))
    return ExactLength(env_id, mean, to_cap, float(alive.sum()), limit)


def _reachable(Q: sparse.csr_array, start: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the states that can be visited before the end, shape (S,)."""
    seen = start > 0
    while True:
        more = seen | (np.asarray(seen.astype(np.float64) @ Q) > 0)
        if (more == seen).all():
            return seen
        seen = more


# --- time limits are not deaths ---------------------------------------------------------------------------


@dataclass(frozen=True)
class TimeLimitValue:
    """The one value that constant-feature LSTD gives, with the time limit read in two ways."""

    id: str
    gamma: float
    bootstrapped: float
    as_death: float


def value_under_time_limit(env_id: str, gamma: float, episodes: int, seed: int) -> TimeLimitValue:
    """Estimate one value for all states, once with the time limit as an interruption and once as a death.

    Least-squares TD with the constant feature 1 (Bradtke & Barto 1996) is V = Σ r / Σ (1 - γ c), summed
    over every step played, with c = 1 where the value of the next state counts and 0 where the episode is
    over. Reading ``truncated`` as an end sets c = 0 at the cap, and with a reward of 1 a step and episodes
    that only the cap ends, V = 1/(1 - γ(1 - 1/cap)) instead of 1/(1-γ): at γ = .99 and a cap of 200, 67
    instead of 100. Pardo et al. 2018 (arXiv 1712.00378) show what it costs.

    ``gamma`` in [0, 1); any gymnasium id; random actions as in `play_random`.
    """
    gamma = check_gamma(gamma)
    run = play_random(env_id, episodes, seed)
    steps, total = int(run.lengths.sum()), float(run.rewards.sum())
    deaths, ends = int(run.terminated.sum()), len(run.lengths)
    return TimeLimitValue(
        env_id,
        gamma,
        bootstrapped=total / (steps - gamma * (steps - deaths)),
        as_death=total / (steps - gamma * (steps - ends)),
    )
