"""Rewards that come late: what a discount lets an agent prefer, learn and see.

"An agent at γ = .99 cannot see a reward 500 steps away" mixes three limits, and this module keeps them apart.

- **Preference.** With a competing reward, the discounted optimum itself takes the wrong one. No learning
  rule repairs it.
- **Propagation.** With an adequate discount, one-step TD moves news of a far reward one step for each
  visit. Longer returns repair it.
- **Noise.** With nothing to compete, the far reward is preferred at any γ > 0, but its weight γ^(D-1)
  drowns in the noise of the near rewards (or, without noise, in the rounding of floating-point numbers).

The task is the discounting chain of bsuite (Osband et al. 2020, arXiv 1908.03568, appendix), written anew
with all its numbers as parameters.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from one_step_trap.core.compiling import njit
from one_step_trap.core.stats import proportion_interval
from one_step_trap.core.validate import (
    check_at_least_zero,
    check_choice,
    check_count,
    check_finite,
    check_gamma,
    check_kind,
    check_list,
    check_positive,
    check_probability,
    check_real,
    check_table,
)
from one_step_trap.errors import BookError
from one_step_trap.study import Study

BONUS = 0.1  # by which the far reward of bsuite exceeds the near one
MONTE_CARLO = math.inf  # the n of an n-step return that runs to the end of every episode


# --- the task ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chains:
    """A choice between chains: chain i pays ``rewards[i]`` at step ``delays[i]``, and every step adds noise.

    The reward at step t (counted from 1) is R_t = rewards[i] 1{t = delays[i]} + noise ξ_t with ξ_t ~ N(0,
    1). The episode has ``length`` steps on every chain, so that no chain is shorter. The return is G = Σ_t
    γ^(t-1) R_t.
    """

    delays: tuple[int, ...]
    rewards: tuple[float, ...]
    length: int
    noise: float = 0.0

    def __post_init__(self) -> None:
        delays = tuple(check_count(delay, "delay") for delay in check_list(self.delays, "delays", empty=True))
        if len(delays) < 2:
            raise BookError(f"a choice needs at least 2 chains, got {len(delays)}")
        given = check_list(self.rewards, "rewards", empty=True)
        if len(given) != len(delays):
            raise BookError(f"every chain needs a reward: {len(delays)} delays, {len(given)} rewards")
        check_finite(given, "rewards")
        rewards = tuple(check_real(x, "a reward") for x in given)
        length = check_count(self.length, "length")
        if length < max(delays):
            raise BookError(f"length must reach the longest delay, {max(delays)}, got {length}")
        noise = check_real(self.noise, "noise")
        if noise < 0:
            raise BookError(f"noise is a standard deviation and must not be negative, got {noise:g}")
        for name, value in (("delays", delays), ("rewards", rewards), ("length", length), ("noise", noise)):
            object.__setattr__(self, name, value)

    @property
    def best(self) -> int:
        """The chain with the largest reward: what an undiscounted chooser takes."""
        return int(np.argmax(self.rewards))

    def values(self, gamma: float) -> NDArray[np.float64]:
        """Return the exact discounted value of each chain, γ^(delay-1) reward, shape (chains,)."""
        gamma = check_gamma(gamma, episodic=True)
        return np.asarray(self.rewards) * gamma ** (np.asarray(self.delays) - 1.0)

    def optimal_is_best(self, gamma: float) -> bool:
        """Tell whether the optimum at ``gamma`` takes the chain with the largest reward, and strictly so."""
        values = self.values(gamma)
        return bool(values[self.best] > np.delete(values, self.best).max())


# --- exact limits -----------------------------------------------------------------------------------------


def longest_preferred_delay(gamma: float, ratio: float) -> float:
    """Return the delay D up to which a reward ``ratio`` times as large is preferred over one at step 1.

    ratio γ^(D-1) > 1  ⇔  D < 1 + ln(ratio)/ln(1/γ). At γ = .99 a 10% larger reward is preferred for D ≤ 10
    only. ``gamma`` in (0, 1], ``ratio`` > 1; infinite at γ = 1.
    """
    gamma, ratio = check_gamma(gamma, episodic=True), check_positive(ratio, "ratio")
    if ratio <= 1:
        raise BookError(f"ratio must be above 1: only a larger reward is worth waiting for, got {ratio:g}")
    if gamma == 0:
        return 1.0
    return math.inf if gamma == 1 else 1 + math.log(ratio) / -math.log(gamma)


def ratio_to_wait(gamma: float, delay: float) -> float:
    """Return how many times larger a reward at step ``delay`` must be to equal one at step 1: γ^-(D-1).

    Infinite where that is beyond a float (about 10³⁰⁸).
    """
    gamma, delay = check_gamma(gamma, episodic=True), check_positive(delay, "delay")
    if gamma == 0:
        raise BookError("at gamma = 0 no later reward, however large, is worth waiting for")
    exponent = -(delay - 1) * math.log(gamma)
    return math.exp(exponent) if exponent < math.log(sys.float_info.max) else math.inf


def float_sight(gamma: float, *, bits: int = 53, beside: float = 1.0) -> float:
    """Return the delay beyond which a reward of 1 is lost to rounding, without any noise.

    A term γ^(D-1) added to a value of size ``beside`` is lost when it is below half a unit in the last
    place, beside 2^-bits (taking ``beside`` as the bottom of its binade). ``bits`` is the precision of the
    format: 53 for float64, 24 for float32, 11 for float16, 8 for bfloat16. Returns D = 1 + ln(beside
    2^-bits)/ln γ; ``gamma`` in (0, 1).
    """
    gamma, beside = check_gamma(gamma), check_positive(beside, "beside")
    if gamma == 0:
        return 1.0
    return 1 + (math.log(beside) - check_count(bits, "bits") * math.log(2)) / math.log(gamma)


def return_sd(gamma: float, length: int, noise: float) -> float:
    """Return the sd of G = Σ_{t≤T} γ^(t-1) ξ_t, T = length, ξ_t ~ N(0, noise²): noise √((1-γ^2T)/(1-γ²))."""
    gamma, length = check_gamma(gamma, episodic=True), check_count(length, "length")
    noise = check_at_least_zero(noise, "noise")
    weight = (
        length if gamma == 1 else -math.expm1(2 * length * math.log(gamma)) / (1 - gamma**2) if gamma else 1.0
    )
    return noise * math.sqrt(weight)


def seen_probability(
    gamma: float, delay: int, episodes: float, noise: float, *, length: int | None = None
) -> float:
    """Return the chance that sample means tell a chain with reward 1 at ``delay`` from an empty one.

    With ``episodes``/2 episodes of each, the difference of the two mean returns is normal with mean γ^(D-1)
    and variance 4 sd(G)²/episodes (`return_sd`), so the chance is Φ(γ^(D-1) √episodes / (2 sd(G))): one
    half where nothing is seen. ``length`` of the episode, by default ``delay``. Source: elementary; the
    book's own statement of what "see" means.
    """
    delay = check_count(delay, "delay")
    episodes = check_positive(episodes, "episodes")
    sd = return_sd(gamma, delay if length is None else length, check_positive(noise, "noise"))
    return float(stats.norm.cdf(gamma ** (delay - 1) * math.sqrt(episodes) / (2 * sd)))


def seen_delay(gamma: float, episodes: float, noise: float, *, probability: float = 0.95) -> float:
    """Return the delay at which `seen_probability` falls to ``probability`` (episodes of infinite length).

    γ^(D-1) √episodes/(2 sd) = z  ⇔  D = 1 + ln(√episodes/(2 z sd))/ln(1/γ): sight grows with the
    *logarithm* of the data, by ln(10)/ln(1/γ) = 229 steps at γ = .99 for each hundredfold. At least 1.
    ``gamma`` in (0, 1), ``probability`` in (.5, 1).
    """
    gamma = check_gamma(gamma)
    episodes, noise = check_positive(episodes, "episodes"), check_positive(noise, "noise")
    if gamma == 0:
        return 1.0
    probability = check_probability(probability, "probability")
    if not 0.5 < probability < 1:
        raise BookError(f"probability must lie between .5 (blind) and 1, got {probability:g}")
    sd = noise / math.sqrt(1 - gamma**2)
    return max(
        1.0, 1 + math.log(math.sqrt(episodes) / (2 * stats.norm.ppf(probability) * sd)) / -math.log(gamma)
    )


def propagated(delay: int, visits: int, alpha: float, n_step: float = 1) -> float:
    """Return the share of a far reward that n-step TD has brought to the choice after ``visits``.

    A value k blocks of n steps before the reward moves, at each visit, the fraction α towards what the next
    block held at the visit before. So after m visits it holds the probability that m coin flips of bias α
    give at least k heads::

        V_m(start) = γ^(D-1) r P(Bin(m, α) ≥ ⌈D/n⌉)        half of it near m ≈ ⌈D/n⌉/α

    One-step TD needs D/α visits, Monte Carlo (n ≥ D) 1 - (1-α)^m. Exact for values that start at 0; tested
    against the agent.
    """
    delay, visits = check_count(delay, "delay"), check_count(visits, "visits", minimum=0)
    n_step = _check_n_step(n_step)
    blocks = math.ceil(delay / n_step) if math.isfinite(n_step) else 1
    return float(stats.binom.sf(blocks - 1, visits, check_probability(alpha, "alpha")))


def visits_to_prefer(chains: Chains, gamma: float, alpha: float, n_step: float = 1) -> float:
    """Return the visits after which n-step TD prefers the best chain; infinite where γ forbids it.

    The other chains count at their full values, as they are learned long before. Two-chain tasks with one
    near and one far reward. 0 where the others are worth less than nothing, which is what the best chain is
    taken to be worth at first.
    """
    values = check_kind(chains, Chains, "chains", made_by="Chains(...)").values(gamma)
    alpha = _check_alpha(alpha)
    if not chains.optimal_is_best(gamma):
        return math.inf
    others = float(np.delete(values, chains.best).max())
    if others < 0:
        return 0
    needed = others / float(values[chains.best])
    delay, low, high = chains.delays[chains.best], 0, 1
    while propagated(delay, high, alpha, n_step) <= needed:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if propagated(delay, middle, alpha, n_step) > needed else (middle, high)
    return high


# --- the agent --------------------------------------------------------------------------------------------


def _check_n_step(n_step: float) -> float:
    """Return n as a whole number of at least 1, or infinity for Monte Carlo."""
    if isinstance(n_step, float) and n_step == math.inf:
        return math.inf
    return check_count(n_step, "n_step")


def _check_alpha(alpha: float) -> float:
    """Return a step size in (0, 1]."""
    if check_probability(alpha, "alpha") == 0:
        raise BookError("alpha must be above 0: nothing is learned at 0")
    return float(alpha)


@dataclass(frozen=True)
class Agent:
    """ε-greedy n-step TD on a table V[chain, time].

    ``gamma`` in [0, 1]; ``n_step`` >= 1 or infinity (Monte Carlo); ``alpha`` a constant step size in (0,
    1], or None for 1/visits (sample means); ``epsilon`` the share of random first actions, the only ones
    that matter.
    """

    gamma: float
    n_step: float = 1
    alpha: float | None = 0.5
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", check_gamma(self.gamma, episodic=True))
        object.__setattr__(self, "n_step", _check_n_step(self.n_step))
        if self.alpha is not None:
            object.__setattr__(self, "alpha", _check_alpha(self.alpha))
        object.__setattr__(self, "epsilon", check_probability(self.epsilon, "epsilon"))


@dataclass(frozen=True)
class Trained:
    """What an agent learned: values ``V`` (chains, length + 1) and ``visits`` of each chain.

    ``success``: the greedy choice is the best chain at the end, and strictly so (a tie is no success).
    ``learned_at``: the number of episodes after which the greedy choice was right to the end; infinite
    without success.
    """

    V: NDArray[np.float64]
    visits: NDArray[np.int64]
    learned_at: float
    success: bool


def _two_seeds(seed: int) -> tuple[int, int]:
    """Return independent seeds for the environment and for the agent."""
    env, agent = np.random.SeedSequence(check_count(seed, "seed", minimum=0)).generate_state(2)
    return int(env), int(agent)


def _check_training(chains: Chains, agent: Agent, episodes: int) -> int:
    """Return the number of episodes, checked with the task and the agent."""
    check_kind(chains, Chains, "chains", made_by="Chains(...)")
    check_kind(agent, Agent, "agent", made_by="Agent(...)")
    return check_count(episodes, "episodes")


def _prefers(V: NDArray[np.float64], best: int) -> bool:
    """Tell whether the best chain has the strictly largest value."""
    return all(V[best, 0] > V[c, 0] for c in range(len(V)) if c != best)


def _trained(V: NDArray[np.float64], visits: NDArray[np.int64], last_wrong: int, best: int) -> Trained:
    success = _prefers(V, best)
    return Trained(V, visits, float(last_wrong) if success else math.inf, success)


@njit()
def _train(  # type: ignore[no-untyped-def]
    delays, rewards, L, noise, gamma, n, alpha, epsilon, episodes, best, env_rng, rng
):
    """Run the episodes, compiled; ``alpha`` 0 stands for 1/visits. See `train`."""
    C = len(delays)
    V = np.zeros((C, L + 1))
    visits = np.zeros(C, dtype=np.int64)
    R = np.zeros(L)  # rewards of the episode
    tail = np.zeros(L + 1)  # tail[t] = R_{t+1} + γ R_{t+2} + … to the end
    gamma_n = gamma**n
    last_wrong = 0
    for episode in range(episodes):
        if rng.random() < epsilon:
            c = int(rng.random() * C)
        else:
            u = rng.random()
            ties = 0
            for i in range(C):
                if V[i, 0] == V[:, 0].max():
                    ties += 1
            skip = int(u * ties)
            c = -1
            for i in range(C):
                if V[i, 0] == V[:, 0].max():
                    if skip == 0:
                        c = i
                        break
                    skip -= 1
        visits[c] += 1
        a = alpha if alpha > 0 else 1.0 / visits[c]
        # Without noise all rewards after the delay are 0 and their values stay 0: nothing to update there.
        end = L if noise > 0 else delays[c]
        for t in range(end):
            R[t] = noise * env_rng.standard_normal() if noise > 0 else 0.0
        R[delays[c] - 1] += rewards[c]
        tail[end] = 0.0
        for t in range(end - 1, -1, -1):
            tail[t] = R[t] + gamma * tail[t + 1]
        for t in range(end):  # ascending: V[c, t + n] is still the old value, as it is online
            G = tail[t]
            if (
                t + n < end
            ):  # without noise the rewards before the delay are 0: rounding must not pass as news
                G = gamma_n * V[c, t + n] + (tail[t] - gamma_n * tail[t + n] if noise > 0 else 0.0)
            V[c, t] += a * (G - V[c, t])
        for i in range(C):
            if i != best and V[best, 0] <= V[i, 0]:
                last_wrong = episode + 1
                break
    return V, visits, last_wrong


def train(chains: Chains, agent: Agent, episodes: int, seed: int) -> Trained:
    """Train with n-step TD as in Sutton & Barto (2018, section 7.1). At time t + n the value of the state at t is updated::

        G = R_{t+1} + γ R_{t+2} + … + γ^(n-1) R_{t+n} + γ^n V(S_{t+n})        V(S_t) ← V(S_t) + α (G - V(S_t))

    A state is visited once in an episode and n-step TD looks forward only, so that updating after the
    episode equals updating online. The n-step return is then a difference of two suffix sums, G = tail_t +
    γ^n (V_{t+n} - tail_{t+n}), and an episode costs O(length) at any n.
    """
    episodes = _check_training(chains, agent, episodes)
    env_seed, agent_seed = _two_seeds(seed)
    n = int(min(agent.n_step, chains.length))
    V, visits, last_wrong = _train(
        np.array(chains.delays),
        np.array(chains.rewards),
        chains.length,
        chains.noise,
        agent.gamma,
        n,
        0.0 if agent.alpha is None else agent.alpha,
        agent.epsilon,
        episodes,
        chains.best,
        np.random.default_rng(env_seed),
        np.random.default_rng(agent_seed),
    )
    return _trained(V, visits, int(last_wrong), chains.best)


# --- the study --------------------------------------------------------------------------------------------

Task = Literal["competing", "alone", "noisy"]
TASKS: tuple[Task, ...] = ("competing", "alone", "noisy")


@dataclass(frozen=True)
class Settings:
    """What the study of delayed rewards varies; one run for each combination.

    ``competing``: 1 at step 1 against 1 + ``bonus`` at the delay. ``alone``: nothing against 1 at the
    delay. ``noisy``: the same with ``noise`` at every step, where the agent compares the sample means of
    ``noisy_episodes`` returns (step size 1/visits, ε = 1: about half of the episodes for each chain).
    """

    delays: tuple[int, ...] = (3, 10, 30, 100, 200, 300, 500, 1_000)
    gammas: tuple[float, ...] = (0.9, 0.99, 0.999, 0.9999, 1.0)
    n_steps: tuple[float, ...] = (1, 10, MONTE_CARLO)
    tasks: tuple[Task, ...] = TASKS
    seeds: tuple[int, ...] = tuple(range(50))
    episodes: int = 20_000
    noisy_episodes: int = 2_000
    bonus: float = BONUS
    noise: float = 0.1
    alpha: float = 0.5
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        checks: dict[str, Callable[[Any], Any]] = {
            "delays": lambda delay: check_count(delay, "delay", minimum=2),
            "gammas": lambda gamma: check_gamma(gamma, episodic=True),
            "n_steps": _check_n_step,
            "tasks": lambda task: check_choice(task, TASKS, "task"),
            "seeds": lambda seed: check_count(seed, "seed", minimum=0),
        }
        for name, check in checks.items():
            object.__setattr__(self, name, tuple(check(x) for x in check_list(getattr(self, name), name)))
        for name in ("episodes", "noisy_episodes"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        check_real(self.bonus, "bonus")
        check_at_least_zero(self.noise, "noise")
        _check_alpha(self.alpha)
        check_probability(self.epsilon, "epsilon")


FULL = Settings()
# Small enough to be played again whenever the chapter runs: its rows must equal those of the full study.
SLICE = replace(FULL, delays=(30, 500), gammas=(0.99, 0.999), seeds=tuple(range(8)))


def task_chains(task: Task, delay: int, settings: Settings = FULL) -> Chains:
    """Return the two chains of a task of the study: the near (or empty) one first, the far one second."""
    delay = check_count(delay, "delay", minimum=2)
    check_choice(task, TASKS, "task")
    check_kind(settings, Settings, "settings")
    if task == "competing":
        return Chains((1, delay), (1.0, 1.0 + settings.bonus), delay)
    if task == "alone":
        return Chains((1, delay), (0.0, 1.0), delay)
    return Chains((1, delay), (0.0, 1.0), delay, settings.noise)


def study(settings: Settings = FULL) -> pd.DataFrame:
    """Return the tidy table of the study, one row a run; a row depends on its own settings and seed only.

    Columns: ``task``, ``delay`` (steps), ``gamma``, ``n_step`` (inf = Monte Carlo), ``seed``, ``episodes``,
    ``success`` (the greedy choice after training is the far chain), ``learned_at`` (episodes, inf = never),
    ``far_visits``, ``optimal`` (whether the discounted optimum itself takes the far chain) and ``value``
    (learned value of the far chain). The noisy task is run with Monte Carlo returns only, since with sample
    means the step size shrinks too fast for one-step TD to carry anything far.
    """
    check_kind(settings, Settings, "settings")
    rows = []
    for task in settings.tasks:
        noisy = task == "noisy"
        episodes = settings.noisy_episodes if noisy else settings.episodes
        for delay in settings.delays:
            chains = task_chains(task, delay, settings)
            for gamma in settings.gammas:
                optimal = chains.optimal_is_best(gamma)
                for n_step in (MONTE_CARLO,) if noisy else settings.n_steps:
                    agent = Agent(
                        gamma, n_step, None if noisy else settings.alpha, 1.0 if noisy else settings.epsilon
                    )
                    for seed in settings.seeds:
                        run = train(chains, agent, episodes, seed)
                        rows.append(
                            (
                                task,
                                delay,
                                gamma,
                                float(n_step),
                                seed,
                                episodes,
                                run.success,
                                run.learned_at,
                                int(run.visits[1]),
                                optimal,
                                float(run.V[1, 0]),
                            )
                        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


KEYS = ("task", "delay", "gamma", "n_step", "seed")
"""The columns that tell the runs of the study apart."""

COLUMNS = {
    "task": "competing (1 at step 1 against 1 + bonus at the delay), alone (nothing against 1), noisy (the same with noise)",
    "delay": "step at which the far chain pays",
    "gamma": "discount per step",
    "n_step": "rewards in a target before it bootstraps; inf is Monte Carlo",
    "seed": "seed of the run",
    "episodes": "episodes of training",
    "success": "whether the greedy choice after training is the far chain",
    "learned_at": "episodes after which the greedy choice was the far chain to the end; inf if never",
    "far_visits": "episodes in which the far chain was chosen",
    "optimal": "whether the discounted optimum itself takes the far chain",
    "value": "learned value of the far chain, in reward",
}

STUDY_PARTS = 10


def run_part(part: int) -> pd.DataFrame:
    """Return one of the ``STUDY_PARTS`` parts of the full study: every tenth seed."""
    part = check_count(part, "part", minimum=0)
    if part >= STUDY_PARTS:
        raise BookError(f"part must be below {STUDY_PARTS}, got {part}")
    return study(replace(FULL, seeds=FULL.seeds[part::STUDY_PARTS]))


STUDY = Study(
    name="02-discounting/delayed-reward",
    keys=KEYS,
    title="Delayed rewards: which chain agents choose, by task, delay, discount, length of return and seed",
    parts=STUDY_PARTS,
    run=run_part,
    settings=asdict(FULL),
    columns=COLUMNS,
)


def success_table(
    runs: pd.DataFrame, *, by: Iterable[str] = ("task", "n_step", "gamma", "delay")
) -> pd.DataFrame:
    """Return the share of runs that succeed in each setting, with an exact 95% interval over seeds.

    Columns: those of ``by``, then ``n`` (runs), ``success``, ``low``, ``high``, ``optimal``.
    """
    keys = [str(key) for key in check_list(by, "by")]
    check_table(runs, {"success", "optimal", *keys}, "the table of runs")
    rows = []
    for key, group in runs.groupby(keys, sort=True):
        share = proportion_interval(int(group["success"].sum()), len(group))
        rows.append((*key, share.n, share.value, share.low, share.high, bool(group["optimal"].all())))
    return pd.DataFrame(rows, columns=[*keys, "n", "success", "low", "high", "optimal"])


def seen_curve(settings: Settings = FULL, *, points: int = 60) -> pd.DataFrame:
    """Return the exact chance of success in the noisy task, `seen_probability` on a grid of delays.

    Columns: ``gamma``, ``delay``, ``probability``. The number of episodes of each chain is taken as
    exactly half, as `seen_probability` does.
    """
    check_kind(settings, Settings, "settings")
    points = check_count(points, "points")
    grid = np.unique(np.geomspace(min(settings.delays), max(settings.delays), points).round().astype(int))
    rows = [
        (gamma, int(delay), seen_probability(gamma, int(delay), settings.noisy_episodes, settings.noise))
        for gamma in settings.gammas
        for delay in grid
    ]
    return pd.DataFrame(rows, columns=["gamma", "delay", "probability"])


def expected_learning(gamma: float, settings: Settings = FULL) -> pd.DataFrame:
    """Return the episodes expected until the competing task is learned, for each n and delay.

    Columns: ``n_step``, ``delay``, ``episodes``. The near chain counts as fully learned, which flatters it
    where both are learned in a few visits (Monte Carlo, or 10 steps at n = 10). The far chain is explored
    in a share ε/2 of the episodes, so that its `visits_to_prefer` take 2/ε times as many episodes. Infinite
    where the optimum at ``gamma`` takes the near reward.
    """
    check_kind(settings, Settings, "settings")
    rows = []
    for n_step in settings.n_steps:
        for delay in settings.delays:
            visits = visits_to_prefer(
                task_chains("competing", delay, settings), gamma, settings.alpha, n_step
            )
            rows.append(
                (float(n_step), delay, visits * 2 / settings.epsilon if settings.epsilon else math.inf)
            )
    return pd.DataFrame(rows, columns=["n_step", "delay", "episodes"])
