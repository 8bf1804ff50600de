"""Mean and variance of the return, exactly (Sobel 1982) and by simulation, and processes where a longer look
varies less.

A finite Markov reward process moves from s to s' with probability P[s, s'] and pays R[s, s'] plus independent
noise of mean 0 and variance N[s, s']. Its return from s is G(s) = R + noise + γ G(s'), with the two terms
independent given s'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.stats import ROUNDING
from one_step_trap.core.validate import (
    FloatArray,
    check_at_least_zero,
    check_count,
    check_finite,
    check_flag,
    check_gamma,
    check_gammas,
    check_kind,
    check_real,
    check_rng,
    check_transition_matrix,
)
from one_step_trap.errors import BookError

MAX_STEPS = 100_000  # a return of more steps is not simulated unless asked for: it would take minutes


@dataclass(frozen=True)
class RewardProcess:
    """A finite Markov reward process; the arrays may have leading batch axes (one process each).

    ``P`` (..., S, S) transition probabilities, ``R`` (..., S, S) mean reward of a transition, ``noise`` (...,
    S, S) variance of the reward around that mean. Build it with :func:`reward_process`, which also takes
    rewards by state; all is checked in either way.
    """

    P: FloatArray
    R: FloatArray
    noise: FloatArray

    def __post_init__(self) -> None:
        P = check_transition_matrix(self.P)
        if P.shape[-1] != P.shape[-2]:
            raise BookError(f"P must be (..., states, states), got shape {P.shape}")
        object.__setattr__(self, "P", P)
        for name in ("R", "noise"):
            array = check_finite(getattr(self, name), name)
            if array.shape != P.shape:
                raise BookError(
                    f"{name} must have the shape of P, {P.shape}, got {array.shape}: use reward_process"
                )
            object.__setattr__(self, name, array)
        if (self.noise < 0).any():
            raise BookError(f"noise is a variance and must be at least 0, got {self.noise.min():g}")


def reward_process(P: ArrayLike, R: ArrayLike, noise: ArrayLike = 0.0) -> RewardProcess:
    """Return the checked process. ``R`` and ``noise`` (a variance, at least 0): a number, (..., S) by the
    state left, or (..., S, S).

    For a single process (``P`` of two axes) a vector is read as one entry a state; in a batch give ``R`` all
    axes of ``P`` or one less.
    """
    transitions = check_transition_matrix(P)
    rewards = _per_transition(R, "R", transitions)
    variances = _per_transition(noise, "noise", transitions)
    return RewardProcess(transitions, rewards, variances)


def _per_transition(values: ArrayLike, name: str, P: FloatArray) -> FloatArray:
    """Return ``values`` with the shape of ``P``."""
    array = check_finite(values, name)
    if array.ndim == P.ndim - 1:
        array = array[..., None]  # (..., S) -> (..., S, 1): the same for every successor
    try:
        return np.broadcast_to(array, P.shape)
    except ValueError:
        raise BookError(
            f"{name} has shape {np.shape(values)}, which does not fit P of shape {P.shape}"
        ) from None


@dataclass(frozen=True)
class ReturnMoments:
    """Mean and variance of the return from every state, each (..., S), and the variance ``u`` of one TD
    error.
    """

    mean: FloatArray
    variance: FloatArray
    u: FloatArray

    @property
    def sd(self) -> FloatArray:
        """Standard deviation of the return, (..., S), in units of reward."""
        return np.sqrt(self.variance)


def return_moments(process: RewardProcess, gamma: float) -> ReturnMoments:
    """Return mean and variance of G(s) for every state.

    Mean:      m = (I - γP)⁻¹ r,  with  r(s) = Σ_{s'} P[s,s'] R[s,s'].
    Variance:  σ² = (I - γ²P)⁻¹ u,  with  u(s) = Σ_{s'} P[s,s'] ( (R[s,s'] + γ m(s') - m(s))² + N[s,s'] ).

    Derivation. Write δ = R + noise + γ m(S') - m(s), the TD error of the exact values: its mean is 0 and its
    variance is u(s). Then G(s) - m(s) = δ + γ (G(S') - m(S')). Given S' the second term has mean 0 and is
    independent of δ, so the cross term vanishes, and squaring gives σ²(s) = u(s) + γ² Σ_{s'} P[s,s'] σ²(s').
    So the variance of a return is the sum of the variances of its TD errors, the k-th with weight γ^{2k}.

    ``gamma`` in [0, 1); 1 is allowed where every state reaches an absorbing state that pays nothing (episodes
    end). Source: Sobel 1982, Journal of Applied Probability 19(4).
    The derivation here is ours.
    """
    gamma = _check_process(process, gamma)
    P = _transient(process) if gamma == 1 else process.P
    eye = np.eye(P.shape[-1])
    r = (P * process.R).sum(-1)  # (..., S)
    m = _solve(eye - gamma * P, r)
    delta = process.R + gamma * m[..., None, :] - m[..., :, None]  # (..., S, S)
    u = (P * (delta**2 + process.noise)).sum(-1)  # (..., S)
    # Where nothing is left to chance, rounding may put the variance below the 0 that it cannot pass.
    return ReturnMoments(m, np.maximum(_solve(eye - gamma**2 * P, u), 0), u)


def _check_process(process: RewardProcess, gamma: float) -> float:
    """Return the checked discount of a checked process."""
    check_kind(process, RewardProcess, "process", made_by="reward_process")
    return check_gamma(gamma, episodic=True)


def _solve(A: FloatArray, b: FloatArray) -> FloatArray:
    """Solve A x = b for a batch of vectors b (..., S)."""
    return np.asarray(np.linalg.solve(A, b[..., None])[..., 0])


def absorbing_states(process: RewardProcess) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which states, (..., S), hold for ever and pay exactly nothing: where an episode has ended."""
    check_kind(process, RewardProcess, "process", made_by="reward_process")
    stays = np.diagonal(process.P, axis1=-2, axis2=-1) == 1
    pays = (process.P > 0) & ((process.R != 0) | (process.noise > 0))
    return np.asarray(stays & ~pays.any(-1))


def _transient(process: RewardProcess) -> FloatArray:
    """Return P with the rows of absorbing states set to 0, or raise where an episode may never end."""
    end = absorbing_states(process)
    if not (_reachable(process.P) & end[..., None, :]).any(-1).all():
        raise BookError(
            "gamma = 1 needs episodes that end: some state never reaches an absorbing state that pays 0"
        )
    return np.where(end[..., None], 0.0, process.P)


def _reachable(P: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return (..., S, S): whether the second state can be reached from the first, in no step or more."""
    # Squaring the "one step or none" relation ⌈log₂ S⌉ times covers all paths.
    reaches = (P > 0) | np.eye(P.shape[-1], dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(P.shape[-1])))):
        reaches = (reaches.astype(np.float64) @ reaches) > 0
    return np.asarray(reaches)


def truncation_horizon(gamma: float, tolerance: float) -> int:
    """Return the least n with γⁿ <= ``tolerance``: rewards from there on carry that share of the total
    weight.

    A return cut after n steps misses at most γⁿ max|R| / (1-γ).
    """
    gamma, tolerance = check_gamma(gamma), check_real(tolerance, "tolerance")
    if not 0 < tolerance < 1:
        raise BookError(f"tolerance must lie in (0, 1), got {tolerance:g}")
    if gamma == 0:
        return 1
    exact = math.log(tolerance) / math.log(gamma)
    return max(1, math.ceil(exact - ROUNDING * exact))  # where it is whole, rounding adds no step


def sample_returns(
    process: RewardProcess,
    gamma: float,
    rng: np.random.Generator,
    *,
    n: int = 10_000,
    start: int = 0,
    tolerance: float = 1e-4,
    max_steps: int = MAX_STEPS,
) -> FloatArray:
    """Return ``n`` independent returns (n,) from state ``start``, with Gaussian reward noise.

    With γ < 1 each is cut after :func:`truncation_horizon` steps; with γ = 1 it runs until the episode ends.
    Either takes at most ``max_steps`` steps: more is an error, at once where it is plain that episodes do not
    end before. All walks move together: per step one uniform and, if the process has noise, one normal a walk.
    """
    gamma, n, start = _check_simulation(process, gamma, rng, n, start)
    limit = _check_length(process, gamma, start, tolerance, check_count(max_steps, "max_steps"))
    edges = np.cumsum(process.P, axis=1)  # (S, S): the walk moves to the first s' with u < edges[s, s']
    sd, end = np.sqrt(process.noise), absorbing_states(process)
    S = len(edges)
    s = np.full(n, start)  # (n,)
    G, weight = np.zeros(n), 1.0
    for _ in range(int(min(limit, max_steps))):
        if end[s].all():
            return G
        u = rng.random(n)
        after = np.minimum(
            (u[:, None] >= edges[s]).sum(1), S - 1
        )  # (n,); the minimum guards a row that sums to 1 - 1e-16
        reward = process.R[s, after]
        if sd.any():
            reward = reward + sd[s, after] * rng.standard_normal(n)
        G += weight * reward
        weight *= gamma
        s = after
    if limit > max_steps and not end[s].all():
        raise BookError(
            f"episodes did not end within max_steps = {max_steps:,}; use a smaller gamma, or more max_steps"
        )
    return G


def _check_length(
    process: RewardProcess, gamma: float, start: int, tolerance: float, max_steps: int
) -> float:
    """Return after how many steps a return is cut (at γ = 1 never), or raise where that cannot be waited for."""
    limit = math.inf if gamma == 1 else truncation_horizon(gamma, tolerance)
    met = _reachable(process.P)
    may_end = np.asarray((met & absorbing_states(process)).any(-1))  # (S,): an end is within reach
    if limit <= max_steps or may_end[met[start]].all():
        return limit
    if gamma == 1:
        raise BookError(
            f"gamma = 1 needs episodes that end: from state {start}, one may never reach an absorbing state that pays 0"
        )
    raise BookError(
        f"gamma = {gamma:.12g} takes {limit:,} steps until its weight falls to tolerance = {tolerance:g}, more than "
        f"max_steps = {max_steps:,}; use a smaller gamma, a larger tolerance, or more max_steps"
    )


def _check_simulation(
    process: RewardProcess, gamma: float, rng: np.random.Generator, n: int, start: int
) -> tuple[float, int, int]:
    """Return the checked discount, number of walks and start state."""
    check_rng(rng)
    gamma = _check_process(process, gamma)
    if process.P.ndim != 2:
        raise BookError(f"simulate one process at a time: P has shape {process.P.shape}")
    start = check_count(start, "start", minimum=0)
    if start >= len(process.P):
        raise BookError(f"start must be a state below {len(process.P)}, got {start}")
    return gamma, check_count(n, "n"), start


# -- Processes that show what "further means more variance" leaves out -----------------------------


def iid_rewards(mean: float = 1.0, sd: float = 1.0) -> RewardProcess:
    """Return one state that pays independent rewards for ever.

    Mean μ/(1-γ) and variance σ²/(1-γ²): the sd grows as the *root* of the horizon, and against the mean it
    falls as (σ/μ) √((1-γ)/(1+γ)).
    """
    return reward_process([[1.0]], check_real(mean, "mean"), check_at_least_zero(sd, "sd") ** 2)


def frozen_rewards(mean: float = 1.0, sd: float = 1.0) -> RewardProcess:
    """Return a process that draws μ+σ or μ-σ once and pays it for ever: start is state 0.

    Mean μ/(1-γ) and variance σ²/(1-γ)²: the sd grows as the horizon itself, the fastest that is possible.
    """
    mean, sd = check_real(mean, "mean"), check_at_least_zero(sd, "sd")
    high, low = mean + sd, mean - sd
    P = [[0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    return reward_process(P, [[0.0, high, low], [0.0, high, 0.0], [0.0, 0.0, low]])


def cancelling_rewards(mean: float = 1.0, sd: float = 1.0, *, once: bool = False) -> RewardProcess:
    """Return a process that pays μ+X, then μ-X, with X = ±σ drawn afresh each time (state 0 draws it).

    ``once``: a single pair with mean 0, then the episode ends: G = (1-γ) X, variance (1-γ)² σ². Otherwise
    pairs follow each other for ever: variance σ² (1-γ)²/(1-γ⁴) = σ² (1-γ) / ((1+γ)(1+γ²)). Both *fall* to 0
    as γ nears 1.
    """
    mean, sd = check_real(mean, "mean"), check_at_least_zero(sd, "sd")
    if check_flag(once, "once"):
        P = [[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
        R = [[0.0, sd, -sd, 0.0], [0.0, 0.0, 0.0, -sd], [0.0, 0.0, 0.0, sd], [0.0] * 4]
        return reward_process(P, R)
    P = [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    R = [[0.0, mean + sd, mean - sd], [mean - sd, 0.0, 0.0], [mean + sd, 0.0, 0.0]]
    return reward_process(P, R)


@dataclass(frozen=True)
class VarianceCurve:
    """Exact mean and sd of the return of one process from its state 0, against the discount: each (G,)."""

    name: str
    gammas: FloatArray
    mean: FloatArray
    sd: FloatArray

    @property
    def horizon(self) -> FloatArray:
        """Effective horizons 1/(1-γ), in steps."""
        return np.asarray(1 / (1 - self.gammas))

    def exponent(self) -> float:
        """Return the slope of ln sd against ln 1/(1-γ) between the two largest discounts: ½ for independent
        rewards.
        """
        if not self.sd[-2:].all():
            raise BookError(f"the return of {self.name} does not vary: an sd of 0 has no exponent")
        x, y = np.log(self.horizon), np.log(self.sd)
        return float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def variance_curve(name: str, process: RewardProcess, gammas: ArrayLike) -> VarianceCurve:
    """Return mean and sd of the return from state 0 at each of ``gammas`` (increasing, in [0, 1), at least
    two).
    """
    check_kind(name, str, "name")
    grid = check_gammas(gammas)
    if len(grid) < 2 or (np.diff(grid) <= 0).any():
        raise BookError("gammas must be at least two increasing discounts")
    if check_kind(process, RewardProcess, "process", made_by="reward_process").P.ndim != 2:
        raise BookError(f"a curve is of one process at a time: P has shape {process.P.shape}")
    moments = [return_moments(process, gamma) for gamma in grid]
    return VarianceCurve(
        name, grid, np.array([m.mean[0] for m in moments]), np.array([m.sd[0] for m in moments])
    )


def counterexamples(gammas: ArrayLike, *, mean: float = 1.0, sd: float = 1.0) -> tuple[VarianceCurve, ...]:
    """Return the curves of frozen, independent and cancelling rewards: sd growing as h, as √h, and falling as
    1/√h.

    All three pay ``mean`` a step on average, and every single reward has standard deviation ``sd``.
    """
    processes = {
        "frozen": frozen_rewards(mean, sd),
        "independent": iid_rewards(mean, sd),
        "cancelling": cancelling_rewards(mean, sd),
    }
    return tuple(variance_curve(name, process, gammas) for name, process in processes.items())
