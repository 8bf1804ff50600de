"""Linear systems: iterated one-step regression against direct n-step regression.

The state moves as x_{t+1} = A x_t + w_t with w_t ~ N(0, Σ); y_t = C x_t is seen. From one stream y_0 … y_N
(stationary, overlapping pairs) a learner fits by least squares either the one-step map, and uses its power,
or the n-step map directly:

    iterated:  Â = argmin Σ_t ‖y_{t+1} - A y_t‖²,  forecast Âⁿ y         direct:  B̂ = argmin Σ_t ‖y_{t+n} - B y_t‖².

The best linear forecast is M_n y with M_n = Γ_n Γ_0⁻¹, Γ_k = E[y_{t+k} y_tᵀ]. **Error** of a forecast M y is
what it loses to that one, the excess mean squared error

    E‖(M - M_n) y‖² = tr( (M - M_n) Γ_0 (M - M_n)ᵀ ),   in squared units of y.

Fully seen (C = I) both are unbiased, the error is V/N for large N, and both V have closed forms
(:func:`scalar_ratio`, in one dimension). The iterated one is never larger: with Gaussian noise Â is the maximum
likelihood estimate, hence Âⁿ is that of Aⁿ, and no regular estimator has a smaller asymptotic variance. Partly
seen, y is no longer Markov, M_1ⁿ ≠ M_n, and the iterated error stays at ``bias``.

Both halves are the findings of Somalwar, Lee, Pappas & Matni (2025, arXiv 2504.01766), who prove them for
controlled linear systems. The closed forms below, for the system without inputs, are derived here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import solve_discrete_lyapunov

from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_finite,
    check_real,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.trap.misspecified import Comparison, whole_numbers

SIZES = (100, 300, 1_000, 3_000, 10_000, 30_000)
MAX_NUMBERS = 50_000_000  # states drawn at once: 400 MB


@dataclass(frozen=True)
class LinearSystem:
    """A stable linear system: ``A`` (D, D), ``C`` (P, D) and ``noise`` (D, D), the covariance of w.

    Build it with :func:`linear_system`, which checks them.
    """

    A: FloatArray
    C: FloatArray
    noise: FloatArray


def linear_system(A: Any, C: Any = None, noise: Any = None) -> LinearSystem:
    """Return the checked system; without ``C`` everything is seen, without ``noise`` Σ is the identity.

    ``A`` (D, D) or a number, with spectral radius below 1; ``C`` (P, D) of full row rank; ``noise`` (D, D)
    symmetric and positive definite, or a number times the identity.
    """
    A = np.atleast_2d(check_finite(A, "A"))
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.size:
        raise BookError(f"A must be a square matrix, got shape {A.shape}")
    radius = np.abs(np.linalg.eigvals(A)).max()
    if radius >= 1 - 1e-9:
        raise BookError(
            f"A must be stable (spectral radius below 1, so that a stationary law exists), got {radius:g}"
        )
    D = len(A)
    C = np.eye(D) if C is None else np.atleast_2d(check_finite(C, "C"))
    if C.ndim != 2 or C.shape[1] != D or np.linalg.matrix_rank(C) < len(C):
        raise BookError(f"C must have shape (outputs, {D}) and independent rows, got shape {C.shape}")
    return LinearSystem(A, C, _covariance(noise, D))


def _covariance(noise: Any, D: int) -> FloatArray:
    """Return the covariance matrix of the noise."""
    sigma = np.eye(D) if noise is None else check_finite(noise, "noise")
    sigma = sigma * np.eye(D) if sigma.ndim == 0 else sigma
    if sigma.shape != (D, D) or not np.allclose(sigma, sigma.T) or np.linalg.eigvalsh(sigma).min() <= 0:
        raise BookError(f"noise must be a symmetric positive definite matrix of shape ({D}, {D})")
    return np.asarray(sigma)


def oscillator(turn: float, *, damping: float = 0.95, seen: bool = False) -> LinearSystem:
    """Return a damped rotation by ``turn`` radians a step, of which one coordinate is seen (both if ``seen``).

    A = damping × rotation, Σ = I. The autocorrelation of the coordinate is dampingⁿ cos(n turn), while the
    iterated forecast is (damping cos turn)ⁿ: it never swings back. At ``turn`` = 0 the coordinate is an
    autoregression of its own, well specified; ``turn`` is the dial. 0 <= damping < 1.
    """
    turn, damping = check_real(turn, "turn"), check_real(damping, "damping")
    if not 0 <= damping < 1:
        raise BookError(f"damping must lie in [0, 1), got {damping:g}")
    A = damping * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return linear_system(A, None if seen else [[1.0, 0.0]])


# --- endless data -----------------------------------------------------------------------------------------


def state_covariance(system: LinearSystem) -> FloatArray:
    """Return the stationary covariance of x, the solution of Γ = A Γ Aᵀ + Σ, shape (D, D)."""
    gamma = np.asarray(solve_discrete_lyapunov(_checked(system).A, system.noise))
    return np.asarray((gamma + gamma.T) / 2)


def _checked(system: LinearSystem) -> LinearSystem:
    if not isinstance(system, LinearSystem):
        raise BookError(f"pass a LinearSystem (see linear_system), got {type(system).__name__}")
    return system


def autocovariance(system: LinearSystem, n_step: int) -> FloatArray:
    """Return Γ_n = E[y_{t+n} y_tᵀ] = C Aⁿ Γ Cᵀ, shape (P, P)."""
    power = np.linalg.matrix_power(_checked(system).A, check_count(n_step, "n_step", minimum=0))
    return np.asarray(system.C @ power @ state_covariance(system) @ system.C.T)


def best_forecast(system: LinearSystem, n_step: int) -> FloatArray:
    """Return M_n = Γ_n Γ_0⁻¹, shape (P, P): the best linear forecast n steps ahead from one y. Aⁿ if C = I."""
    return np.asarray(np.linalg.solve(autocovariance(system, 0).T, autocovariance(system, n_step).T).T)


def excess(M: FloatArray, best: FloatArray, gamma_0: FloatArray) -> FloatArray:
    """Return tr((M - M_n) Γ_0 (M - M_n)ᵀ) for forecasts M (..., P, P): squared units of y, at least 0."""
    delta = M - best
    return np.asarray(np.einsum("...ij,jk,...ik->...", delta, gamma_0, delta))


def bias(system: LinearSystem, n_step: int) -> float:
    """Return the excess error that the iterated forecast keeps with endless data: M_1ⁿ against M_n."""
    M_1, n_step = best_forecast(system, 1), check_count(n_step, "n_step")
    iterated = np.linalg.matrix_power(M_1, n_step)
    return float(excess(iterated, best_forecast(system, n_step), autocovariance(system, 0)))


def scalar_ratio(a: float, n_step: int) -> float:
    """Return V_direct/V_iterated of x_{t+1} = a x_t + w_t, the limits of N E[excess error]/Γ; ``0 < |a| < 1``.

    Iterated: â - a has variance (1-a²)/N, and âⁿ - aⁿ ≈ n a^(n-1) (â - a), so that V = n² a^(2n-2) (1-a²). Direct:
    the n-step noise e_t = Σ_{j<n} aʲ w_{t+n-1-j} of overlapping pairs is correlated up to lag n-1; the product moments
    of Gaussian variables leave V = Σ_k a^abs(k) E[e_{t+k} e_t]/Γ over abs(k) < n, which is
    (1+a²-2a^(2n))/(1-a²) - (2n-1) a^(2n). The ratio goes to 1 as a nears 1, and without limit as a nears 0: what is soon
    forgotten costs the direct estimate most.
    """
    a, n = check_real(a, "a"), check_count(n_step, "n_step")
    if not 0 < abs(a) < 1:
        raise BookError(f"a must lie between 0 and 1 in size, got {a:g}")
    direct = (1 + a**2 - 2 * a ** (2 * n)) / (1 - a**2) - (2 * n - 1) * a ** (2 * n)
    return direct / (n**2 * a ** (2 * n - 2) * (1 - a**2))


# --- data and models --------------------------------------------------------------------------------------


def simulate(system: LinearSystem, transitions: int, rngs: Sequence[np.random.Generator]) -> FloatArray:
    """Return one stationary stream y_0 … y_N for each generator, shape (seeds, transitions + 1, P).

    All streams move together; the i-th depends on the i-th generator only.
    """
    transitions, D = check_count(transitions, "transitions"), len(_checked(system).A)
    rngs = [check_rng(rng) for rng in rngs] if isinstance(rngs, Sequence) else []
    if not rngs:
        raise BookError("rngs must be a list of one or more numpy.random.Generators, one a stream")
    if len(rngs) * (transitions + 1) * D > MAX_NUMBERS:
        raise BookError(f"seeds × transitions × dimensions must be at most {MAX_NUMBERS:,}: use fewer")
    x = np.stack([rng.standard_normal((transitions + 1, D)) for rng in rngs], axis=1)  # (N+1, seeds, D)
    root = np.linalg.cholesky(system.noise)
    x[0] = x[0] @ np.linalg.cholesky(state_covariance(system)).T
    x[1:] = x[1:] @ root.T
    step = system.A.T
    for t in range(1, len(x)):
        x[t] += x[t - 1] @ step
    return np.asarray(np.swapaxes(x @ system.C.T, 0, 1))


def _fit_sizes(streams: FloatArray, n_step: int, sizes: Sequence[int]) -> FloatArray:
    """Return :func:`fit` of the first N transitions of every stream, for each N: (seeds, B, P, P)."""
    maps = []
    for size in sizes:
        now, later = streams[:, : size - n_step + 1], streams[:, n_step : size + 1]  # (seeds, N-n+1, P)
        gram, cross = np.swapaxes(now, 1, 2) @ now, np.swapaxes(now, 1, 2) @ later
        maps.append(np.swapaxes(np.linalg.solve(gram, cross), 1, 2))
    return np.stack(maps, axis=1)


def compare_linear(
    system: LinearSystem,
    *,
    n_step: int | Sequence[int] = 5,
    sizes: Sequence[int] = SIZES,
    seeds: int = 40,
    seed: int = 0,
) -> Comparison:
    """Return the excess squared errors of both forecasts, learned from the same streams of a linear system.

    ``n_step`` one or several horizons; ``sizes`` increasing numbers of transitions, more than the largest
    horizon plus the number of outputs; ``seeds`` independent streams, the i-th from the i-th child of
    ``seed``.
    """
    horizons, amounts = whole_numbers(n_step, "n_step"), whole_numbers(sizes, "sizes")
    least = max(horizons) + len(_checked(system).C)
    if list(amounts) != sorted(set(amounts)) or amounts[0] < least:
        raise BookError(f"sizes must increase from at least {least} (for a unique fit), got {amounts}")
    children = np.random.SeedSequence(check_count(seed, "seed", minimum=0)).spawn(check_count(seeds, "seeds"))
    streams = simulate(system, amounts[-1], [np.random.default_rng(child) for child in children])
    gamma_0, M_1 = autocovariance(system, 0), _fit_sizes(streams, 1, amounts)
    iterated, direct = [], []
    for n in horizons:
        best = best_forecast(system, n)
        iterated.append(excess(np.linalg.matrix_power(M_1, n), best, gamma_0))  # (seeds, B)
        direct.append(excess(_fit_sizes(streams, n, amounts), best, gamma_0))
    limits = np.array([bias(system, n) for n in horizons])
    return Comparison(amounts, horizons, np.stack(iterated, -1), np.stack(direct, -1), limits)


def scalar_check(
    *,
    a: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    n_steps: Sequence[int] = (2, 5),
    size: int = 10_000,
    seeds: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Return measured against predicted direct/iterated error of x_{t+1} = a x_t + w_t.

    One row an ``a`` and ``n_step``: ``theory`` (:func:`scalar_ratio`), ``ratio`` of the mean excess errors with
    ``size`` transitions, ``low`` and ``high`` (95% interval over ``seeds`` streams), ``seeds``.
    """
    values = np.atleast_1d(check_finite(a, "a"))
    children = np.random.SeedSequence(check_count(seed, "seed", minimum=0)).generate_state(len(values) + 1)
    rng, rows = np.random.default_rng(int(children[-1])), []
    for value, child in zip(values.tolist(), children, strict=False):
        system = linear_system(value)
        comparison = compare_linear(system, n_step=n_steps, sizes=[size], seeds=seeds, seed=int(child))
        for n in comparison.n_steps:
            r = comparison.ratio(comparison.sizes[0], n, rng)
            rows.append((value, n, scalar_ratio(value, n), r.value, r.low, r.high, r.n))
    return pd.DataFrame(rows, columns=["a", "n_step", "theory", "ratio", "low", "high", "seeds"])
