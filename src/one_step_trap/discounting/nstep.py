"""How far to look before bootstrapping: n-step TD on a random walk (Sutton & Barto 2018, figure 7.2).

The walk has N states in a row, 1 ... N, and starts in the middle. It steps right with probability p and
left otherwise; leaving on the left pays -1, leaving on the right pays +1, every other reward is 0. n-step
TD waits n steps, then moves the value of the state it left towards the n-step return (their equation 7.1)

    G_{τ:τ+n} = R_{τ+1} + γ R_{τ+2} + ... + γⁿ⁻¹ R_{τ+n} + γⁿ V(S_{τ+n}),
    V(S_τ) ← V(S_τ) + α [G_{τ:τ+n} - V(S_τ)].

n = 1 is TD(0); an n longer than the episode is Monte Carlo. The module runs this twice: ``run_episode`` is
the algorithm box in plain Python, to be read; ``n_step_td`` does the same updates for all n, all α and all
repetitions at once.

**The rule, fixed before looking** (``compare_n``): each n gets its own best α, chosen on one set of walks;
the best n is chosen there too. On a *second*, independent set of walks we look at the paired differences
RMS(n) - RMS(best n), run by run (every n and α sees the same walks). "An intermediate n is best" holds when
the 95% intervals of that difference lie above 0 both for the shortest and for the longest n.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from one_step_trap.core.stats import ROUNDING, Interval, bootstrap_interval
from one_step_trap.core.tabular import chain_values
from one_step_trap.core.validate import (
    IntArray,
    check_at_least_zero,
    check_count,
    check_finite,
    check_gamma,
    check_kind,
    check_list,
    check_positions,
    check_probability,
    check_rng,
    short_repr,
)
from one_step_trap.errors import BookError

FloatArray = NDArray[np.float64]

LEFT_REWARD, RIGHT_REWARD = -1.0, 1.0
N_STEPS = tuple(2**k for k in range(10))  # 1, 2, 4, ..., 512: the curves of figure 7.2
ALPHAS = tuple(k / 10 for k in range(11))  # 0, .1, ..., 1: the α axis of figure 7.2
# Long returns are noisy and want a small α, below .1: a fair comparison of n gives them one.
FINE_ALPHAS = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, *(k / 20 for k in range(2, 21)))

INTERMEDIATE = "an intermediate n is best"
SHORTEST = "the shortest n is best"
LONGEST = "the longest n is best"
SAME = "n makes no difference"
OPEN = "open"


@dataclass(frozen=True)
class Walks:
    """Walks drawn once, so that every n and every α can be judged on the same ones.

    ``episodes[r][k]`` is episode k of repetition r: the states S_0, S_1, ..., S_T, where S_T is 0 (out on
    the left) or ``n_states`` + 1 (out on the right).
    """

    n_states: int
    p_right: float
    episodes: tuple[tuple[IntArray, ...], ...]

    def __post_init__(self) -> None:
        N = _check_odd(self.n_states)
        check_probability(self.p_right, "p_right")
        runs = tuple(
            tuple(check_list(run, "a run of episodes")) for run in check_list(self.episodes, "episodes")
        )
        if len({len(run) for run in runs}) > 1:
            raise BookError("every run must have the same number of episodes")
        if not all(
            isinstance(path, np.ndarray) and path.ndim == 1 and len(path) > 1 for run in runs for path in run
        ):
            raise BookError(
                "an episode must be a NumPy vector of its states: the first one, ..., the last one"
            )
        # All episodes at once, as there are many and each is short.
        states = check_positions(
            np.concatenate([path for run in runs for path in run]), "states", below=N + 2
        )
        last = np.cumsum([len(path) for run in runs for path in run]) - 1
        out = (states == 0) | (states == N + 1)
        if out.sum() != len(last) or not out[last].all():
            raise BookError(f"an episode must stay within 1..{N} and end in 0 or {N + 1}, out of the row")
        if (np.delete(np.abs(np.diff(states)), last[:-1]) != 1).any():
            raise BookError("a walk must step from a state to one beside it")
        object.__setattr__(self, "n_states", N)
        object.__setattr__(self, "episodes", runs)


@dataclass(frozen=True)
class NStepResult:
    """What n-step TD reached for every n and α, on common walks.

    ``errors`` (repetitions, episodes, n, α): √(mean over states of (V - v_γ)²) after each episode.
    ``bias_squared`` and ``variance`` (episodes, n, α): the two parts of the mean squared error across
    repetitions, see ``n_step_td``.
    """

    n_states: int
    p_right: float
    gamma: float
    n_steps: tuple[int, ...]
    alphas: tuple[float, ...]
    errors: FloatArray
    bias_squared: FloatArray
    variance: FloatArray

    def run_rms(self) -> FloatArray:
        """Return the RMS error averaged over the episodes, one number a run: (repetitions, n, α)."""
        return np.asarray(self.errors.mean(axis=1))

    def rms(self) -> FloatArray:
        """Return the curves of figure 7.2: the RMS error averaged over episodes and runs, (n, α)."""
        return np.asarray(self.run_rms().mean(axis=0))

    def best_alpha(self) -> IntArray:
        """Return, for each n, the index of the α with the lowest ``rms`` (the first where several tie)."""
        return np.asarray(np.argmin(self.rms(), axis=1))

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table, one row for each n and α: rms, bias_squared, variance."""
        n_step, alpha = np.meshgrid(self.n_steps, self.alphas, indexing="ij")
        columns = {
            "n_step": n_step,
            "alpha": alpha,
            "rms": self.rms(),
            "bias_squared": self.bias_squared.mean(axis=0),
            "variance": self.variance.mean(axis=0),
        }
        return pd.DataFrame({name: np.ravel(column) for name, column in columns.items()})


@dataclass(frozen=True)
class Comparison:
    """Which n wins, each at its own best α, chosen on one set of walks and measured on another.

    ``rms`` and ``alphas`` have one entry for each n. ``advantage[i]`` is the interval, over runs, of
    RMS(n_i) - RMS(best n): above 0 where the best n really is better. ``verdict`` follows from the rule at
    the top of this module.
    """

    n_steps: tuple[int, ...]
    alphas: tuple[float, ...]
    rms: tuple[Interval, ...]
    best_n: int
    advantage: tuple[Interval, ...]
    verdict: str

    def over_shortest(self) -> Interval:
        """Return the interval of RMS(shortest n) - RMS(best n)."""
        return self.advantage[0]

    def over_longest(self) -> Interval:
        """Return the interval of RMS(longest n) - RMS(best n)."""
        return self.advantage[-1]


def sample_walks(
    rng: np.random.Generator,
    n_states: int = 19,
    *,
    episodes: int = 10,
    repetitions: int = 100,
    p_right: float = 0.5,
) -> Walks:
    """Return ``repetitions`` independent runs of ``episodes`` walks each.

    Every repetition has its own generator, spawned from ``rng``: asking for more repetitions, or for longer
    runs, leaves the walks that were there before as they are. ``n_states`` is odd, so that there is a
    middle to start from.
    """
    check_rng(rng)
    n_states = _check_odd(n_states)
    episodes = check_count(episodes, "episodes")
    repetitions = check_count(repetitions, "repetitions")
    p_right = check_probability(p_right, "p_right")
    runs = tuple(
        tuple(_walk(child, n_states, p_right) for _ in range(episodes)) for child in rng.spawn(repetitions)
    )
    return Walks(n_states, p_right, runs)


def true_values(n_states: int = 19, gamma: float = 1.0, *, p_right: float = 0.5) -> FloatArray:
    """Return v_γ, shape (N,), the solution of v(s) = p [r + γ v(s+1)] + (1-p) [r + γ v(s-1)] for s = 1 ... N.

    For p = 1/2 and γ = 1 this is the straight line v(s) = 2s/(N+1) - 1 (Sutton & Barto, example 6.2, moved
    to ±1).
    """
    n_states = _check_odd(n_states)
    gamma = check_gamma(gamma, episodic=True)
    p_right = check_probability(p_right, "p_right")
    # P[s, s'] among the states that are not terminal; what leaves it pays the exit reward instead.
    P = p_right * np.eye(n_states, k=1) + (1 - p_right) * np.eye(n_states, k=-1)
    r = np.zeros(n_states)
    r[0] += (1 - p_right) * LEFT_REWARD
    r[-1] += p_right * RIGHT_REWARD
    return chain_values(P, r, gamma)


# --- to be read: the algorithm box ------------------------------------------------------------------------


def run_episode(
    V: list[float], states: Sequence[int], rewards: Sequence[float], n_step: int, alpha: float, gamma: float
) -> None:
    """Update ``V`` in place from one episode: n-step TD, the algorithm box of Sutton & Barto section 7.1.

    ``states`` is S_0 ... S_T and ``rewards[i]`` is R_i, paid on arrival in S_i (``rewards[0]`` is not
    used). The box makes the update of time τ as soon as S_{τ+n} is known. The updates therefore come in the
    order τ = 0, 1, ..., T-1, each with the V that the earlier ones left: the loop below.
    """
    n_step = _check_episode(V, states, rewards, n_step, alpha, gamma)
    T = len(states) - 1
    for tau in range(T):
        last = min(tau + n_step, T)
        G = sum(gamma ** (i - tau - 1) * rewards[i] for i in range(tau + 1, last + 1))
        if tau + n_step < T:  # the episode goes on: what follows is worth V
            G += gamma**n_step * V[states[tau + n_step]]
        V[states[tau]] += alpha * (G - V[states[tau]])


# --- to be fast: all n, all α and all repetitions at once -------------------------------------------------


def n_step_td(
    walks: Walks, n_steps: Iterable[int] = N_STEPS, alphas: Iterable[float] = ALPHAS, *, gamma: float = 1.0
) -> NStepResult:
    """Run n-step TD for every n and α on the same walks: the updates of ``run_episode``, vectorised.

    The walk does not depend on V, so all runs can take their u-th update together: one NumPy operation over
    (repetitions, n, α). Giving each end of the row its exit reward as a fixed value removes the two cases
    of the box: γᵏ R at the end of an episode is γᵏ V(end), with one step of discount less.

    With V_r the values of run r after an episode, D_r = V_r - v_γ and means over states, the mean squared
    error splits into

        mean_r D_r² = bias² + variance,   variance = Σ_r (V_r - V̄)² / (R-1),   bias² = mean_r D_r² - variance,

    where R-1 makes both parts unbiased for any number of runs R (bias² may come out a little below 0; with
    R = 1 both are NaN).

    For 0 <= α <= 1 nothing can diverge: each update is a weighted mean of numbers in [-1, 1]. With α > 1
    some (n, α) do, and their errors are then reported as large or infinite.
    """
    check_kind(walks, Walks, "walks", made_by="sample_walks")
    n_grid = _check_n_steps(n_steps)
    alpha_grid = _check_alphas(alphas)
    gamma = check_gamma(gamma, episodic=True)
    v = true_values(walks.n_states, gamma, p_right=walks.p_right)[:, None, None]  # (N, 1, 1)
    state, boot, discount, ends = _updates(walks, np.array(n_grid), gamma)
    R, E = ends.shape
    shape = (len(n_grid), len(alpha_grid))

    V = np.zeros((R, walks.n_states + 2, *shape))
    V[:, 0], V[:, -1] = LEFT_REWARD, RIGHT_REWARD
    errors = np.empty((R, E, *shape))
    D_sum = np.zeros((E, walks.n_states, *shape))
    finished = _by_time(ends)
    run, n_index, alpha = np.arange(R), np.arange(shape[0]), np.array(alpha_grid)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # α > 1 may overflow: reported as infinite, not as a warning
        for u in range(state.shape[1]):
            G = V[
                run[:, None], boot[:, u], n_index
            ]  # (R, n, α): what stands at the end of each n-step return
            G *= discount[:, u, :, None]
            old = V[run, state[:, u]]  # (R, n, α)
            V[run, state[:, u]] = old + alpha * (G - old)
            for r, k in finished.get(u, ()):
                D = V[r, 1:-1] - v  # (N, n, α)
                errors[r, k] = np.sqrt(np.mean(D * D, axis=0))
                D_sum[k] += D
        errors[np.isnan(errors)] = np.inf  # inf - inf on the way: diverged
        bias_squared, variance = _split_error(errors, D_sum)
    return NStepResult(
        walks.n_states, walks.p_right, gamma, n_grid, alpha_grid, errors, bias_squared, variance
    )


def compare_n(choose: NStepResult, judge: NStepResult, rng: np.random.Generator) -> Comparison:
    """Say which n is best, by this module's rule: α and n chosen on ``choose``, measured on ``judge``.

    The two results must have the same n and α, and independent walks. Intervals are bootstrapped over the
    runs of ``judge``.
    """
    for result, name in ((choose, "choose"), (judge, "judge")):
        check_kind(result, NStepResult, name, made_by="n_step_td")
    check_rng(rng)
    if (choose.n_steps, choose.alphas) != (judge.n_steps, judge.alphas):
        raise BookError(
            "the runs to choose on and the runs to judge on must have the same n_steps and alphas"
        )
    chance = np.any(
        judge.errors != judge.errors[0]
    )  # a walk that always goes right is the same under every seed
    if chance and np.array_equal(choose.errors, judge.errors):
        raise BookError("choose and judge hold the same runs: sample the walks to judge on with another seed")
    if len(judge.errors) < 2:
        raise BookError(f"an interval needs at least 2 repetitions to judge on, got {len(judge.errors)}")
    alpha_index = choose.best_alpha()
    each_n = np.arange(len(choose.n_steps))
    best = int(np.argmin(choose.rms()[each_n, alpha_index]))
    rms = judge.run_rms()[:, each_n, alpha_index]  # (R, n)
    gaps = rms - rms[:, [best]]  # (R, n), paired: the same walks for every n
    advantage = tuple(bootstrap_interval(gap, rng) for gap in gaps.T)
    return Comparison(
        choose.n_steps,
        tuple(choose.alphas[i] for i in alpha_index),
        tuple(bootstrap_interval(column, rng) for column in rms.T),
        choose.n_steps[best],
        advantage,
        _verdict(best, gaps, advantage, float(np.abs(rms).max())),
    )


def sweep(
    settings: Iterable[dict[str, Any]],
    *,
    seed: int,
    repetitions: int = 100,
    n_steps: Iterable[int] = N_STEPS,
    alphas: Iterable[float] = FINE_ALPHAS,
) -> pd.DataFrame:
    """Ask in which worlds an intermediate n is best: one row a setting, judged by ``compare_n``.

    A setting is a dict with any of ``n_states``, ``gamma``, ``p_right``, ``episodes`` (left out: 19, 1, .5,
    10). Columns: the setting, ``best_n``, ``best_alpha``, ``rms``, then ``over_shortest`` and
    ``over_longest`` with their ``_low`` and ``_high``, and ``verdict``.
    """
    n_grid, alpha_grid = _check_n_steps(n_steps), _check_alphas(alphas)
    seed, repetitions = (
        check_count(seed, "seed", minimum=0),
        check_count(repetitions, "repetitions", minimum=2),
    )
    rows = []
    for setting in check_list(settings, "settings"):
        if not isinstance(setting, dict):
            raise BookError(f'a setting must be a dict such as {{"gamma": 0.9}}, got {short_repr(setting)}')
        unknown = set(setting) - {"n_states", "gamma", "p_right", "episodes"}
        if unknown:
            raise BookError(
                f"a setting has n_states, gamma, p_right and episodes; got {', '.join(sorted(map(str, unknown)))}"
            )
        row: dict[str, Any] = {"n_states": 19, "gamma": 1.0, "p_right": 0.5, "episodes": 10, **setting}
        choose_rng, judge_rng, bootstrap_rng = np.random.default_rng(seed).spawn(3)
        choose, judge = (
            n_step_td(
                sample_walks(
                    rng,
                    row["n_states"],
                    episodes=row["episodes"],
                    repetitions=repetitions,
                    p_right=row["p_right"],
                ),
                n_grid,
                alpha_grid,
                gamma=row["gamma"],
            )
            for rng in (choose_rng, judge_rng)
        )
        rows.append(row | _row(compare_n(choose, judge, bootstrap_rng)))
    return pd.DataFrame(rows)


# --- helpers ----------------------------------------------------------------------------------------------


def _check_odd(n_states: Any) -> int:
    number = check_count(n_states, "n_states")
    if number % 2 == 0:
        raise BookError(f"n_states must be odd, so that the walk can start in the middle, got {number}")
    return number


def _check_episode(V: Any, states: Any, rewards: Any, n_step: Any, alpha: Any, gamma: Any) -> int:
    """Return ``n_step``, checked with the other arguments of ``run_episode``."""
    if not isinstance(V, list | np.ndarray):
        raise BookError(f"V must be a list of values, which the episode changes, got {short_repr(V)}")
    check_finite(check_list(V, "V"), "V")
    check_positions(check_list(states, "states"), "states", below=len(V))
    check_finite(check_list(rewards, "rewards"), "rewards")
    if len(rewards) != len(states):
        raise BookError(
            f"every state needs the reward paid on arrival: {len(states)} states, {len(rewards)} rewards"
        )
    check_at_least_zero(alpha, "alpha")
    check_gamma(gamma, episodic=True)
    return check_count(n_step, "n_step")


def _check_n_steps(n_steps: Iterable[int]) -> tuple[int, ...]:
    grid = tuple(check_count(n, "n_step") for n in check_list(n_steps, "n_steps"))
    if any(b <= a for a, b in itertools.pairwise(grid)):
        raise BookError(f"n_steps must be one or more increasing whole numbers, got {list(grid)}")
    return grid


def _check_alphas(alphas: Iterable[float]) -> tuple[float, ...]:
    return tuple(check_at_least_zero(alpha, "alphas") for alpha in check_list(alphas, "alphas"))


def _walk(rng: np.random.Generator, n_states: int, p_right: float) -> IntArray:
    """Draw one walk from the middle: its states up to and including the terminal one."""
    position = (n_states + 1) // 2
    pieces = [np.array([position])]
    while True:
        steps = np.where(rng.random(n_states * n_states + 1) < p_right, 1, -1)
        path = position + np.cumsum(steps)
        out = (path <= 0) | (path >= n_states + 1)
        if out.any():
            pieces.append(path[: out.argmax() + 1])
            return np.concatenate(pieces)
        pieces.append(path)
        position = int(path[-1])


def _updates(walks: Walks, n: IntArray, gamma: float) -> tuple[IntArray, IntArray, FloatArray, IntArray]:
    """Lay the episodes of every run end to end: the u-th update of run r, with U updates in the longest run.

    Returns the state to update (R, U), the state at the end of its n-step return (R, U, n), the discount of
    that state's value (R, U, n), and the last update of each episode (R, E). Shorter runs are padded with
    updates that change nothing: the left end is moved towards itself.
    """
    runs = walks.episodes
    U = max(sum(len(path) - 1 for path in run) for run in runs)
    state = np.zeros((len(runs), U), dtype=np.int64)
    boot = np.zeros((len(runs), U, len(n)), dtype=np.int64)
    discount = np.ones((len(runs), U, len(n)))
    ends = np.zeros((len(runs), len(runs[0])), dtype=np.int64)
    for r, run in enumerate(runs):
        start = 0
        for k, path in enumerate(run):
            T = len(path) - 1
            tau = np.arange(T)[:, None]
            last = np.minimum(tau + n, T)  # (T, n): where the n-step return stops
            window = slice(start, start + T)
            state[r, window] = path[:-1]
            boot[r, window] = path[last]
            discount[r, window] = gamma ** (
                last - tau - (last == T)
            )  # the exit reward is paid one step before the end
            start += T
            ends[r, k] = start - 1
    return state, boot, discount, ends


def _by_time(ends: IntArray) -> dict[int, list[tuple[int, int]]]:
    """Return, for each update that ends an episode, the (run, episode) pairs that end there."""
    finished: dict[int, list[tuple[int, int]]] = {}
    for (r, k), u in np.ndenumerate(ends):
        finished.setdefault(int(u), []).append((r, k))
    return finished


def _split_error(errors: FloatArray, D_sum: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return bias² and variance, (E, n, α) each, from all runs' errors and the sum over runs of V - v."""
    R = len(errors)
    mse = np.mean(errors**2, axis=0)
    if R == 1:  # one run says nothing of how runs differ
        return np.full_like(mse, np.nan), np.full_like(mse, np.nan)
    plug_in = np.mean((D_sum / R) ** 2, axis=1)  # (E, n, α): counts variance/R as bias
    variance = np.maximum(mse - plug_in, 0) * R / (R - 1)
    diverged = np.isinf(mse)
    return np.where(diverged, np.inf, mse - variance), np.where(diverged, np.inf, variance)


def _verdict(best: int, gaps: FloatArray, advantage: Sequence[Interval], scale: float) -> str:
    """Apply the rule; an end of the range wins only when it beats every n that acts differently from it.

    ``scale``: the largest of the errors that ``gaps`` are differences of.
    """
    # n's that act alike, as all do that are longer than the episodes
    same = [np.abs(gap).max() <= ROUNDING * scale for gap in gaps.T]
    loses = [interval.low > 0 for interval in advantage]
    if all(same):
        return SAME
    if loses[0] and loses[-1]:
        return INTERMEDIATE
    beats_all_others = all(s or lost for s, lost in zip(same, loses, strict=True))
    if beats_all_others and best == 0 and not same[-1]:
        return SHORTEST
    if beats_all_others and same[-1] and not same[0]:
        return LONGEST
    return OPEN


def _row(comparison: Comparison) -> dict[str, Any]:
    best = comparison.n_steps.index(comparison.best_n)
    row: dict[str, Any] = {
        "best_n": comparison.best_n,
        "best_alpha": comparison.alphas[best],
        "rms": comparison.rms[best].value,
    }
    for name, gap in (
        ("over_shortest", comparison.over_shortest()),
        ("over_longest", comparison.over_longest()),
    ):
        row |= {name: gap.value, f"{name}_low": gap.low, f"{name}_high": gap.high}
    return row | {"verdict": comparison.verdict}
