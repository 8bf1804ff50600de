"""Many discounts at once: hyperbolic discounting as a mixture of exponentials, and values learned one time
scale at a time.

A single γ forgets at a single rate. Two uses of several: a mixture Σ_i w_i γ_iⁿ can forget like 1/(1+kn),
quickly at first and slowly later (Fedus et al. 2019, arXiv 1902.06865); and the differences W_z = V_{γ_z} -
V_{γ_{z-1}} split a far-sighted value into parts, each learned with the number of steps and the learning rate
that fit its own scale (TD(Δ), Romoff et al. 2019, arXiv 1902.01883).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.tabular import chain_values
from one_step_trap.core.validate import (
    FloatArray,
    check_at_least_zero,
    check_choice,
    check_count,
    check_finite,
    check_flag,
    check_gamma,
    check_gammas,
    check_kind,
    check_list,
    check_positions,
    check_positive,
    check_probability,
    check_rng,
    check_transition_matrix,
)
from one_step_trap.discounting.resolution import IntArray
from one_step_trap.errors import BookError

# -- Hyperbolic discounting


def _check_steps(steps: ArrayLike, name: str) -> FloatArray:
    """Return numbers of steps of any shape, all at least 0."""
    n = check_finite(steps, name)
    if (n < 0).any():
        raise BookError(f"{name} must be at least 0, got {n.min():g}")
    return n


def hyperbolic_weight(steps: ArrayLike, k: float = 1.0) -> FloatArray:
    """Return 1/(1 + k n), the hyperbolic weight on a reward ``steps`` away, with the shape of ``steps``
    (``k`` above 0, per step).
    """
    n = _check_steps(steps, "steps")
    return np.asarray(1 / (1 + check_positive(k, "k") * n))


@dataclass(frozen=True)
class Mixture:
    """A weighted sum of exponential discounts that stands in for 1/(1 + k n)."""

    name: str
    gammas: FloatArray  # (m,) discounts in [0, 1]
    weights: FloatArray  # (m,)
    k: float

    def __post_init__(self) -> None:
        check_kind(self.name, str, "name")
        gammas, weights = check_finite(self.gammas, "gammas"), check_finite(self.weights, "weights")
        if gammas.ndim != 1 or len(gammas) == 0 or gammas.shape != weights.shape:
            raise BookError(
                f"gammas and weights must be two lists of one length, got shapes {gammas.shape} and {weights.shape}"
            )
        if (gammas < 0).any() or (gammas > 1).any():
            raise BookError(f"gammas must lie in [0, 1], got {gammas.min():g} to {gammas.max():g}")
        for name, value in (("gammas", gammas), ("weights", weights), ("k", check_positive(self.k, "k"))):
            object.__setattr__(self, name, value)

    def weight(self, steps: ArrayLike) -> FloatArray:
        """Return Σ_i w_i γ_iⁿ with the shape of ``steps``."""
        n = _check_steps(steps, "steps")
        return np.asarray((self.weights * np.power(self.gammas, n[..., None])).sum(-1))

    def relative_error(self, steps: ArrayLike) -> FloatArray:
        """Return ``|Σ_i w_i γ_iⁿ (1 + k n) - 1|`` with the shape of ``steps``."""
        return np.asarray(np.abs(self.weight(steps) / hyperbolic_weight(steps, self.k) - 1))


def riemann_mixture(m: int, k: float = 1.0, *, gamma_max: float = 0.99) -> Mixture:
    """Return the mixture of Fedus et al.: the lower Riemann sum of ∫₀¹ g^{kn} dg = 1/(1+kn) on their ``m``
    nodes.

    Nodes g_i = 1 - bⁱ with b = (1 - γ_max^{1/k})^{1/m}, i = 0..m-1, discounts γ_i = g_iᵏ, weights g_{i+1} -
    g_i: dense near 1, up to g_m = γ_max^{1/k}. What lies above γ_max is left out, so the sum is too small
    from n ≈ 1/(1-γ_max) on.
    """
    m, k = check_count(m, "m"), check_positive(k, "k")
    top = check_gamma(gamma_max, name="gamma_max") ** (1 / k)
    g = 1 - (1 - top) ** (np.arange(m + 1) / m)
    return Mixture("Riemann (Fedus et al.)", g[:-1] ** k, np.diff(g), k)


def gauss_mixture(m: int, k: float = 1.0) -> Mixture:
    """Return the Gauss-Legendre rule with ``m`` nodes for the same integral.

    It is exact for polynomials in g of degree 2m - 1, so for k = 1 it is *exact* at n = 0, 1, .., 2m - 1 (up
    to rounding). Its largest node is about 1 - 1.4/m², so it fails for n beyond about m².
    """
    m, k = check_count(m, "m"), check_positive(k, "k")
    x, w = np.polynomial.legendre.leggauss(m)
    return Mixture("Gauss-Legendre", ((x + 1) / 2) ** k, w / 2, k)


def log_mixture(m: int, k: float = 1.0, *, horizon: float = 1_000.0) -> Mixture:
    """Return ``m`` discounts evenly spaced in the *logarithm* of their rate: the trapezoid rule for 1/x =
    ∫ e^{s - x eˢ} ds.

    With x = 1 + k n the node s gives γ = exp(-k eˢ) with weight h e^{s - eˢ}. Both ends of the range are cut
    where they matter less than δ, at s = ln(δ/(1 + k horizon)) and s = ln ln(1/δ), and δ is the one that
    makes the largest relative error on [0, ``horizon``] least. The error falls geometrically in ``m`` /
    ln(``horizon``). After Beylkin & Monzón 2005.
    """
    m, k, T = check_count(m, "m", minimum=2), check_positive(k, "k"), check_positive(horizon, "horizon")
    steps = np.r_[0.0, np.geomspace(min(1.0, T / 2), T, 200)]

    def rule(delta: float) -> Mixture:
        s, h = np.linspace(math.log(delta / (1 + k * T)), math.log(math.log(1 / delta)), m, retstep=True)
        return Mixture("even in log rate", np.exp(-k * np.exp(s)), h * np.exp(s - np.exp(s)), k)

    return min(
        (rule(delta) for delta in np.geomspace(1e-12, 0.3, 120)), key=lambda x: x.relative_error(steps).max()
    )


def reversal_delay(small: float, large: float, gap: float, k: float = 1.0) -> float:
    """Return the delay t from which a hyperbolic agent prefers ``large`` at t + ``gap`` to ``small`` at t.

    small/(1+kt) = large/(1+k(t+gap)) gives t = (small (1 + k gap) - large) / (k (large - small)). Negative:
    the larger reward is preferred at every delay. An exponential agent never changes its mind: γ^{t+gap}
    large / (γᵗ small) does not depend on t. So a plan made at a distance of more than t steps is dropped when
    the small reward comes near.
    """
    a, b = check_positive(small, "small"), check_positive(large, "large")
    d, k = check_positive(gap, "gap"), check_positive(k, "k")
    if b <= a:
        raise BookError(f"large must exceed small, got {b:g} and {a:g}")
    return (a * (1 + k * d) - b) / (k * (b - a))


# -- Values by time scale: W_z = V_{γ_z} - V_{γ_{z-1}}


def _check_scales(gammas: ArrayLike) -> FloatArray:
    grid = check_gammas(gammas)
    if (np.diff(grid) <= 0).any():
        raise BookError("gammas must increase: every scale looks further than the one before")
    return grid


def doubling_gammas(gamma: float) -> FloatArray:
    """Return discounts with effective horizons 1, 2, 4, ... up to that of ``gamma``, which is the last
    one.
    """
    top = 1 / (1 - check_gamma(gamma))
    horizons = 2.0 ** np.arange(math.ceil(math.log2(top) - 1e-9))
    return np.asarray(1 - 1 / np.r_[horizons, top])


def values_by_scale(P: ArrayLike, r: ArrayLike, gammas: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return V (Z, S) and W (Z, S) of a Markov reward process ``P`` (S, S), ``r`` (S,): V_{γ_z} = W_0 + ..
    + W_z.

    W_0 = V_{γ_0}, and each later W_z solves its own Bellman equation (Romoff et al. 2019),

        W_z(s) = E[ (γ_z - γ_{z-1}) V_{γ_{z-1}}(s') + γ_z W_z(s') ],

    with the shorter-sighted value in the place of a reward. Derivation: subtract V_{z-1} = r + γ_{z-1} P
    V_{z-1} from V_z = r + γ_z P V_z and put V_z = V_{z-1} + W_z on the right. V is solved directly and W from
    this equation, so that their agreement is a check.
    """
    transitions, reward, grid = check_transition_matrix(P), check_finite(r, "r"), _check_scales(gammas)
    if transitions.ndim != 2 or reward.shape != transitions.shape[:1]:
        raise BookError(f"r must be a vector of {transitions.shape[-1]} rewards, got shape {reward.shape}")
    V = chain_values(transitions, np.broadcast_to(reward, (len(grid), len(reward))), grid)
    W = [V[0]]
    for z in range(1, len(grid)):
        pseudo_reward = (grid[z] - grid[z - 1]) * transitions @ V[z - 1]
        W.append(chain_values(transitions, pseudo_reward, grid[z]))
    return V, np.stack(W)


# -- Learning them


@dataclass(frozen=True)
class Learner:
    """One way to learn V_γ from a stream: TD with ``n_step`` steps (one scale) or TD(Δ) (several scales).

    ``gammas`` (Z,), the last one is γ; ``n_step`` (Z,) steps of each scale; ``alpha`` (Z,) learning rate of
    each scale.
    """

    name: str
    gammas: tuple[float, ...]
    n_step: tuple[int, ...]
    alpha: tuple[float, ...]

    def __post_init__(self) -> None:
        check_kind(self.name, str, "name")
        gammas = tuple(_check_scales(check_list(self.gammas, "gammas")).tolist())
        n_step = tuple(check_count(n, "n_step") for n in check_list(self.n_step, "n_step"))
        alpha = tuple(check_positive(a, "alpha") for a in check_list(self.alpha, "alpha"))
        if not len(gammas) == len(n_step) == len(alpha):
            raise BookError(
                f"every scale needs a gamma, an n_step and an alpha, got {len(gammas)}, {len(n_step)} and {len(alpha)}"
            )
        for name, value in (("gammas", gammas), ("n_step", n_step), ("alpha", alpha)):
            object.__setattr__(self, name, value)


def td(gamma: float, n_step: int, alpha: float) -> Learner:
    """Return plain n-step TD at one discount."""
    return Learner(
        "TD", (check_gamma(gamma),), (check_count(n_step, "n_step"),), (check_positive(alpha, "alpha"),)
    )


def td_delta(
    gamma: float, n_step: int, alpha: float, *, decay: float = 1.0, same_steps: bool = False
) -> Learner:
    """Return TD(Δ) on :func:`doubling_gammas`.

    Scale z uses min(⌈1/(1-γ_z)⌉, n_step) steps (or ``n_step`` at every scale, with ``same_steps``) and
    learning rate α decayᶻ: ``decay`` below 1 makes the far scales learn more slowly.
    """
    grid, n = doubling_gammas(gamma), check_count(n_step, "n_step")
    same_steps = check_flag(same_steps, "same_steps")
    steps = [n if same_steps else min(math.ceil(1 / (1 - g) - 1e-9), n) for g in grid]
    rates = check_positive(alpha, "alpha") * check_positive(decay, "decay") ** np.arange(len(grid))
    name = "TD(Δ)" if decay == 1 else "TD(Δ), slower far scales"
    return Learner(name, tuple(grid.tolist()), tuple(steps), tuple(rates.tolist()))


def sample_stream(P: ArrayLike, length: int, n: int, rng: np.random.Generator) -> IntArray:
    """Return ``n`` independent state sequences (n, length) of a chain ``P`` (S, S), started uniformly."""
    edges = np.cumsum(check_transition_matrix(P), -1)
    if edges.ndim != 2:
        raise BookError(f"P must be the matrix of one chain, (states, states), got shape {edges.shape}")
    check_rng(rng)
    n, length = check_count(n, "n"), check_count(length, "length")
    states = np.empty((n, length), dtype=np.intp)
    states[:, 0] = rng.integers(len(edges), size=n)
    for t in range(1, length):
        u = rng.random(n)
        states[:, t] = np.minimum((u[:, None] >= edges[states[:, t - 1]]).sum(1), len(edges) - 1)
    return states


def learn(learner: Learner, states: IntArray, rewards: FloatArray, n_states: int, steps: int) -> FloatArray:
    """Return V_γ (steps + 1, n, S) as it is learned from streams ``states``, ``rewards`` (n, T), one
    update a step.

    ``rewards[:, t]`` comes with the step from ``states[:, t]``. The update of scale z at s = states[:, t],
    with k = n_step[z] and x = states[:, t + k], moves W_z(s) by α_z times (Romoff et al. 2019)

        Σ_{i<k} (γ_zⁱ - γ_{z-1}ⁱ) R_{t+i} + (γ_zᵏ - γ_{z-1}ᵏ) V_{z-1}(x) + γ_zᵏ W_z(x) - W_z(s),

    where γ_{-1} and V_{-1} stand for "nothing": at z = 0 this is plain k-step TD. Both read R_{t..t+k-1}, so
    a stream must be at least ``steps`` + max(n_step) long. All streams move together.
    """
    grid = np.array(check_kind(learner, Learner, "learner", made_by="td or td_delta").gammas)
    k_max, steps = max(learner.n_step), check_count(steps, "steps")
    n_states = check_count(n_states, "n_states")
    states, rewards = check_positions(states, "states", below=n_states), check_finite(rewards, "rewards")
    if states.ndim != 2 or states.shape != rewards.shape or states.shape[1] < steps + k_max:
        raise BookError(
            f"states and rewards must be alike and at least {steps + k_max} steps long, got {states.shape}"
        )
    n, Z = len(states), len(grid)
    sums, carry, own = _scale_terms(learner, rewards, steps)
    W = np.zeros((n, Z, n_states))
    history = np.zeros((steps + 1, n, n_states))
    rows, scales = np.arange(n)[:, None], np.arange(Z)
    ahead, alpha = np.array(learner.n_step), np.array(learner.alpha)
    for t in range(steps):
        x = states[:, t + ahead]  # (n, Z): where each scale looks
        s = states[:, t]
        V = W.cumsum(1)  # (n, Z, S)
        shorter = V[rows, np.maximum(scales - 1, 0), x]  # V_{z-1}(x); its factor is 0 at z = 0
        target = sums[:, t] + carry * shorter + own * W[rows, scales, x]  # (n, Z)
        W[rows, scales, s[:, None]] += alpha * (target - W[rows, scales, s[:, None]])
        history[t + 1] = W.sum(1)
    return history


def _scale_terms(
    learner: Learner, rewards: FloatArray, steps: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the reward sums (n, steps, Z) and the factors (Z,) of V_{z-1}(x) and of W_z(x)."""
    sums, carry, own = [], [], []
    for z, (gamma, k) in enumerate(zip(learner.gammas, learner.n_step, strict=True)):
        shorter = learner.gammas[z - 1] if z else None
        powers = gamma ** np.arange(k + 1)
        minus = np.zeros(k + 1) if shorter is None else shorter ** np.arange(k + 1)
        windows = np.lib.stride_tricks.sliding_window_view(rewards, k, axis=1)[:, :steps]  # (n, steps, k)
        sums.append(windows @ (powers - minus)[:k])
        carry.append(0.0 if shorter is None else powers[k] - minus[k])
        own.append(powers[k])
    return np.stack(sums, -1), np.array(carry), np.array(own)


def ring(states: int = 5, *, advance: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return a ring after Kearns & Singh 2000: step on with probability ``advance``, else stay; +1 at
    state 0, -1 halfway round.
    """
    S, advance = check_count(states, "states", minimum=3), check_probability(advance, "advance")
    P = (1 - advance) * np.eye(S) + advance * np.roll(np.eye(S), 1, axis=1)
    r = np.zeros(S)
    r[0], r[S // 2] = 1.0, -1.0
    return check_transition_matrix(P), r


@dataclass(frozen=True)
class ScaleStudy:
    """How well V_γ is learned by each method, at every number of steps and with the learning rate that
    suits it.

    Errors are root mean squares over the states, averaged over all steps of a stream. Learning rates, and the
    number of steps called best, were chosen on other streams than the ones judged here.
    """

    gamma: float
    n_steps: tuple[int, ...]
    error: dict[str, FloatArray]  # method -> (len(n_steps), streams)
    best: dict[str, int]  # method -> position of the number of steps that was best on the tuning streams
    chosen: dict[str, tuple[Learner, ...]]  # method -> the learner used at every number of steps

    def at(self, method: str, n_step: int | None = None) -> FloatArray:
        """Return the errors (streams,) of a method at ``n_step``, or at the number of steps that suits it
        best.
        """
        check_choice(method, self.error, "method")
        if n_step is None:
            return np.asarray(self.error[method][self.best[method]])
        if check_count(n_step, "n_step") not in self.n_steps:
            raise BookError(f"n_step must be among {', '.join(map(str, self.n_steps))}, got {n_step}")
        return np.asarray(self.error[method][self.n_steps.index(n_step)])

    def gain(self, method: str, rng: np.random.Generator, *, n_step: int | None = None) -> Interval:
        """Return the mean of error(TD) - error(method), stream by stream: above 0, the method is better
        than TD.
        """
        return bootstrap_interval(self.at("TD", n_step) - self.at(method, n_step), rng)

    def frame(self, rng: np.random.Generator) -> pd.DataFrame:
        """Return a tidy table, one row a method and number of steps: mean error with its interval over
        streams.
        """
        check_rng(rng)
        rows = []
        for method, errors in self.error.items():
            for i, (n_step, values) in enumerate(zip(self.n_steps, errors, strict=True)):
                mean, low, high, n = bootstrap_interval(values, rng)
                row = {"gamma": self.gamma, "method": method, "n_step": n_step, "error": mean, "low": low}
                rows.append(row | {"high": high, "n": n, "best": i == self.best[method]})
        return pd.DataFrame(rows)


def scale_study(
    P: ArrayLike,
    r: ArrayLike,
    gamma: float,
    rng: np.random.Generator,
    *,
    steps: int = 1_000,
    streams: int = 30,
    noise_sd: float = 0.5,
    n_steps: Sequence[int] = (1, 4, 16, 64),
    alphas: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4),
    decay: float = 0.7,
) -> ScaleStudy:
    """Return TD and TD(Δ) on the same streams of one Markov reward process, starting from values of 0.

    All methods have the same settings to choose from (``n_steps`` x ``alphas``): TD with n steps; TD(Δ) with
    at most n steps a scale; and TD(Δ) whose far scales learn more slowly by the factor ``decay`` a scale.
    Settings are chosen on ``streams`` tuning streams and judged on as many new ones. Rewards carry Gaussian
    noise of ``noise_sd``.
    """
    transitions, reward = check_transition_matrix(P), check_finite(r, "r")
    check_rng(rng)
    V, _ = values_by_scale(transitions, reward, [check_gamma(gamma)])
    n_steps = [check_count(n, "n_step") for n in check_list(n_steps, "n_steps")]
    alphas = [check_positive(alpha, "alpha") for alpha in check_list(alphas, "alphas")]
    noise_sd, steps = check_at_least_zero(noise_sd, "noise_sd"), check_count(steps, "steps")
    length = steps + max(n_steps)
    data = []
    for _ in range(2):  # tuning, then test
        states = sample_stream(transitions, length, check_count(streams, "streams", minimum=2), rng)
        data.append((states, reward[states] + noise_sd * rng.standard_normal(states.shape)))

    def score(learner: Learner, part: int) -> FloatArray:
        with np.errstate(over="ignore", invalid="ignore"):  # a setting that diverges is a result: it loses
            miss = learn(learner, *data[part], len(reward), steps) - V[0]
            error = np.sqrt((miss**2).mean(-1)).mean(0)  # (streams,)
        return np.asarray(np.nan_to_num(error, nan=np.inf))

    makers: dict[str, Callable[[int, float], Learner]] = {
        "TD": lambda n, a: td(gamma, n, a),
        "TD(Δ)": lambda n, a: td_delta(gamma, n, a),
        "TD(Δ), slower far scales": lambda n, a: td_delta(gamma, n, a, decay=decay),
    }
    errors, best, chosen = {}, {}, {}
    for method, make in makers.items():
        tuning = np.array([[score(make(n, a), 0).mean() for a in alphas] for n in n_steps])
        best[method] = int(tuning.min(1).argmin())
        rates = [alphas[i] for i in tuning.argmin(1)]
        chosen[method] = tuple(make(n, a) for n, a in zip(n_steps, rates, strict=True))
        errors[method] = np.stack([score(learner, 1) for learner in chosen[method]])
    return ScaleStudy(gamma, tuple(n_steps), errors, best, chosen)
