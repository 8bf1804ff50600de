"""What is proved about iterating a one-step model: each bound as a function, with its norm and its range.

``V`` and ``V̂`` are the values of one policy in the world and in a model of it. Two norms are in use in the
papers, and they differ by a factor 2: ``TV(p, q) = ½ Σ_x |p(x) - q(x)| = ½ L1(p, q)``. An argument called
``eps_l1`` is the L1 distance (0 to 2), one called ``eps_tv`` or ``eps_m`` or ``eps_pi`` is total variation
(0 to 1). Rewards lie in [0, r_max]. Rewards in [-R, R] have the span 2R: give ``r_max = 2R``, and the bound
doubles. (The bounds of MBPO are written for [-r_max, r_max], as in the paper, and say so.)

Whether the bounds hold, and how tight they are, is measured in :mod:`one_step_trap.trap.bounds_check`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_finite,
    check_gamma,
    check_probability,
    check_real,
    check_transition_matrix,
)
from one_step_trap.errors import BookError
from one_step_trap.trap import mdps

# --- values: the simulation lemma and the tight bound --------------------------------------------------------


def simulation_bound(eps_r: float, eps_l1: float, gamma: float, *, r_max: float = 1.0) -> float:
    """Return the simulation lemma's bound on max_s of the absolute value error.

    ``|V - V̂| <= ε_r/(1-γ) + γ ε_P r_max / (2 (1-γ)²)``,  ε_P = max_s L1(P(s), P̂(s)).

    ``eps_r`` in [0, r_max]: the largest reward error; ``eps_l1`` in [0, 2]: ε_P, an L1 norm (2 TV); ``gamma``
    in [0, 1); rewards in [0, r_max]. Units of reward. Source: Kearns & Singh 2002 (the name and a first
    version); the constants are the folklore form, with the half that rewards of one sign allow.
    """
    eps_r, eps_l1, gamma, r_max = _check_model_error(eps_r, eps_l1, gamma, r_max)
    return eps_r / (1 - gamma) + gamma * eps_l1 * r_max / (2 * (1 - gamma) ** 2)


def lobel_parr_bound(eps_r: float, eps_l1: float, gamma: float, *, r_max: float = 1.0) -> float:
    """Return the tight bound of Lobel & Parr on max_s of the absolute value error.

    ``|V - V̂| <= r_max/(1-γ) - (r_max - ε_r)/(1-γ(1-ε_T/2))``,  ε_T = max_s L1(P(s), P̂(s)).

    Arguments as in :func:`simulation_bound`. With ε = ε_T/2 the TV distance and h = 1/(1-γ) the effective
    horizon it equals the simulation lemma divided by ``1 + ε (h - 1)``: never larger, and never more than
    all there is to lose, r_max h. Source: Lobel & Parr 2024, arXiv 2406.16249 (rewards in [0, 1]).
    """
    eps_r, eps_l1, gamma, r_max = _check_model_error(eps_r, eps_l1, gamma, r_max)
    # The closed form with the subtraction carried out: two nearly equal numbers would lose digits.
    leak = gamma * eps_l1 / 2
    return (eps_r * (1 - gamma) + leak * r_max) / ((1 - gamma) * (1 - gamma + leak))


def value_error(P: ArrayLike, P_hat: ArrayLike, r: ArrayLike, r_hat: ArrayLike, gamma: float) -> float:
    """Return ``max_s |V(s) - V̂(s)|``, the value error of a model under one policy, computed exactly.

    ``P``, ``P_hat`` (S, S) transition matrices of the policy; ``r``, ``r_hat`` (S,) expected rewards;
    ``gamma`` in [0, 1).
    """
    one, other, rewards, model_rewards = (array[None] for array in _check_pair(P, P_hat, r, r_hat))
    gammas = np.array([check_gamma(gamma)])
    return float(mdps.value_error(one, other, rewards, model_rewards, gammas)[0])


class ModelComparison(NamedTuple):
    """A model beside its world: its errors, what they do to the values, and what the bounds allow.

    ``eps_l1`` = 2 ``eps_tv``; ``error`` = max_s of the absolute value error, in units of reward.
    """

    error: float
    eps_r: float
    eps_l1: float
    eps_tv: float
    simulation: float
    lobel_parr: float


def compare_models(
    P: ArrayLike, P_hat: ArrayLike, r: ArrayLike, r_hat: ArrayLike, gamma: float
) -> ModelComparison:
    """Return the value error of a model of your own beside both bounds.

    Shapes as in :func:`value_error`. Any real rewards will do: the same constant added to both reward
    vectors moves no difference of values, so the span of the rewards takes the place of r_max.
    """
    error = value_error(P, P_hat, r, r_hat, gamma)
    P, P_hat, r, r_hat = _check_pair(P, P_hat, r, r_hat)
    eps_l1 = float(min(np.abs(P - P_hat).sum(axis=1).max(), 2.0))
    eps_r = float(np.abs(r - r_hat).max())
    span = float(np.ptp(np.concatenate([r, r_hat])))
    return ModelComparison(
        error,
        eps_r,
        eps_l1,
        eps_l1 / 2,
        simulation_bound(eps_r, eps_l1, gamma, r_max=span),
        lobel_parr_bound(eps_r, eps_l1, gamma, r_max=span),
    )


class LeakCurves(NamedTuple):
    """The two-state leak against the discount, each (G,): exact value error, both bounds, and r_max/(1-γ)."""

    gammas: FloatArray
    error: FloatArray
    simulation: FloatArray
    lobel_parr: FloatArray
    ceiling: FloatArray


def leak_curves(gammas: ArrayLike, eps_tv: float, *, eps_r: float = 0.0) -> LeakCurves:
    """Return error and bounds of the two-state leak at each of ``gammas``, rewards in [0, 1].

    The world stays in a state that pays 1; the model believes that it leaks, with probability ``eps_tv`` a
    step, into a state that pays 0, and that the good state pays 1 - ``eps_r``. V̂ = (1-ε_r)/(1-γ(1-ε)).
    """
    grid = np.array([check_gamma(gamma) for gamma in np.atleast_1d(check_finite(gammas, "gammas")).ravel()])
    eps_tv, eps_r = check_probability(eps_tv, "eps_tv"), check_probability(eps_r, "eps_r")
    if not len(grid):
        raise BookError("gammas must hold at least one discount")
    chain = mdps.leak(np.full(len(grid), eps_tv), np.full(len(grid), eps_r))
    return LeakCurves(
        grid,
        mdps.value_error(*chain, grid),
        np.array([simulation_bound(eps_r, 2 * eps_tv, gamma) for gamma in grid]),
        np.array([lobel_parr_bound(eps_r, 2 * eps_tv, gamma) for gamma in grid]),
        1 / (1 - grid),
    )


# --- Lipschitz models ----------------------------------------------------------------------------------------


def lipschitz_bound(delta: float, K: float, n_step: int) -> float:
    """Return the bound of Asadi et al. on the n-step error of a Lipschitz model, in W1.

    ``W1(T̂ⁿ(μ), Tⁿ(μ)) <= Δ Σ_{i=0}^{n-1} Kⁱ``

    ``delta`` >= 0: the largest one-step error sup_x W1(T̂(x), T(x)), in units of the state; ``K`` >= 0: the
    Lipschitz constant of the world *or* of the model, whichever is smaller; ``n_step`` >= 1. Source: Asadi,
    Misra & Littman 2018, arXiv 1804.07193, theorem 1.
    """
    delta, K = _check_least_zero(delta, "delta"), _check_least_zero(K, "K")
    n = check_count(n_step, "n_step")
    return delta * _geometric_sum(K, n)


def _geometric_sum(K: float, n: int) -> float:
    """Return 1 + K + ... + K^(n-1), or raise where it is too large for a floating-point number."""
    try:
        if abs(K - 1) < 1e-3:  # (K^n - 1)/(K - 1) would lose digits
            return math.expm1(n * math.log1p(K - 1)) / (K - 1) if K != 1 else float(n)
        return (K**n - 1) / (K - 1)
    except OverflowError:
        raise BookError(f"K^n_step = {K:g}^{n} is too large to compute: use fewer steps") from None


# --- imitation -----------------------------------------------------------------------------------------------


def imitation_bound(eps: float, horizon: int) -> float:
    """Return the bound on what cloning costs beyond the expert: ``J(π̂) - J(π*) <= T² ε``.

    ``eps`` in [0, 1]: the probability that the learner's action differs from the (deterministic) expert's,
    averaged over the T steps of the *expert's* own state distribution. Costs in [0, 1] a step, ``horizon`` T
    steps. The difference cannot exceed T either. Source: Ross & Bagnell 2010, theorem 2.1.
    """
    return check_count(horizon, "horizon") ** 2 * check_probability(eps, "eps")


def interactive_bound(u: float, eps: float, horizon: int) -> float:
    """Return the bound on what a learner costs that errs rarely on its *own* path: ``J(π) - J(π*) <= u T ε``.

    ``eps`` in [0, 1]: as in :func:`imitation_bound`, but averaged over the *learner's* state distribution,
    which is what DAgger trains on. ``u`` >= 0: the most that one other action costs before the expert takes
    over, max of Q*_t(s, a) - V*_t(s). Source: Ross, Gordon & Bagnell 2011, arXiv 1011.0686, theorem 2.2.
    """
    u, eps = _check_least_zero(u, "u"), check_probability(eps, "eps")
    return u * check_count(horizon, "horizon") * eps


# --- model-based policy optimisation ---------------------------------------------------------------------------


def mbpo_bound(eps_m: float, eps_pi: float, gamma: float, *, r_max: float = 1.0) -> float:
    """Return the bound on ``|η[π] - η̂[π]|``, the returns of a policy in the world and in a learned model.

    ``2γ r_max (ε_m + 2ε_π)/(1-γ)² + 4 r_max ε_π/(1-γ)``,  rewards in [-r_max, r_max].

    ``eps_m`` in [0, 1]: TV error of the model, the expectation under the policy π_D that collected the data,
    largest over time; ``eps_pi`` in [0, 1]: max_s TV(π(s), π_D(s)). Source: Janner et al. 2019, arXiv
    1906.08253, theorem 4.1 (stated there as a lower bound on η[π]; the proof gives both sides).
    """
    eps_m, eps_pi, gamma, r_max = _check_mbpo(eps_m, eps_pi, gamma, r_max)
    return 2 * gamma * r_max * (eps_m + 2 * eps_pi) / (1 - gamma) ** 2 + 4 * r_max * eps_pi / (1 - gamma)


def branched_bound(
    eps_m: float, eps_pi: float, gamma: float, branch: int, *, r_max: float = 1.0, sharp: bool = False
) -> float:
    """Return the bound on ``|η[π] - η^branch[π]|``: k model steps branched off the states of π_D.

    ``2 r_max [ γ^{k+1} ε_π/(1-γ)² + γ^k ε_π/(1-γ) + k ε_m/(1-γ) ]``,  rewards in [-r_max, r_max].

    ``eps_m``: TV error of the model, the expectation under π itself in the world, largest over time;
    ``branch`` k >= 0. Source: Janner et al. 2019, theorem 4.3.

    ``sharp``: our version, for k >= 1 (k = 0 is the theorem's): at time t only min(t, k) steps were the
    model's, and the last action is π's on both sides: ``2 r_max γ/(1-γ)² [ γ^k ε_π + (1-γ^k) ε_m ]``.
    """
    eps_m, eps_pi, gamma, r_max = _check_mbpo(eps_m, eps_pi, gamma, r_max)
    k = check_count(branch, "branch", minimum=0)
    if sharp and k > 0:
        return 2 * r_max * gamma / (1 - gamma) ** 2 * (gamma**k * eps_pi + (1 - gamma**k) * eps_m)
    policy_part = gamma**k * eps_pi / (1 - gamma) ** 2  # γ^{k+1}/(1-γ)² + γ^k/(1-γ) in one
    return 2 * r_max * (policy_part + k * eps_m / (1 - gamma))


class BestBranch(NamedTuple):
    """The branch length with the smallest :func:`branched_bound`: over the reals, and in whole steps."""

    real: float
    steps: int


def best_branch(eps_m: float, eps_pi: float, gamma: float) -> BestBranch:
    """Return the k that minimises theorem 4.3: ``k* = ln( ε_m (1-γ) / (ε_π ln(1/γ)) ) / ln γ``, not below 0.

    In whole steps: the least k with ``γ^k ε_π <= ε_m`` (one step more helps as long as γ^k ε_π > ε_m). So the
    whole-step optimum is at least 1 exactly when ε_m < ε_π. For the real k* that statement is only nearly
    right: k* > 0 when ε_m < ε_π ln(1/γ)/(1-γ), a little more than ε_π. ``eps_m``, ``eps_pi`` in (0, 1].
    """
    eps_m, eps_pi, gamma, _ = _check_mbpo(eps_m, eps_pi, gamma, 1.0)
    if eps_m == 0 or eps_pi == 0 or gamma == 0:
        raise BookError("a best branch length needs eps_m, eps_pi and gamma above 0")
    real = math.log(eps_m * (1 - gamma) / (eps_pi * math.log(1 / gamma))) / math.log(gamma)
    # The quotient may be off by one rounding: step to the k that the rule asks for.
    steps = max(0, math.ceil(math.log(eps_m / eps_pi) / math.log(gamma)) - 1) if eps_m < eps_pi else 0
    while gamma**steps * eps_pi > eps_m:
        steps += 1
    return BestBranch(max(0.0, real), steps)


class BranchCurves(NamedTuple):
    """Theorem 4.3 against the branch length, each (K,), and the largest difference that returns can have."""

    branches: FloatArray
    published: FloatArray
    sharp: FloatArray
    ceiling: float


def branch_curves(
    eps_m: float, eps_pi: float, gamma: float, longest: int, *, r_max: float = 1.0
) -> BranchCurves:
    """Return both versions of :func:`branched_bound` for k = 0 ... ``longest``, and 2 r_max/(1-γ)."""
    longest = check_count(longest, "longest")
    published, sharp = (
        np.array(
            [branched_bound(eps_m, eps_pi, gamma, k, r_max=r_max, sharp=sharp) for k in range(longest + 1)]
        )
        for sharp in (False, True)
    )
    return BranchCurves(np.arange(longest + 1.0), published, sharp, 2 * r_max / (1 - gamma))


# --- models with an infinite horizon ------------------------------------------------------------------------------


def gamma_tail(gamma: float, gamma_tilde: float, steps: int) -> float:
    """Return the weight beyond the first H steps, ``Σ_{n>H} α_n = ((γ̃-γ)/(1-γ))^H``.

    With rewards in [0, r_max] the value at γ̃ from H steps of the γ-model is short by at most that share of
    r_max/(1-γ̃).
    """
    return _thinning(gamma, gamma_tilde) ** check_count(steps, "steps", minimum=0)


def _thinning(gamma: float, gamma_tilde: float) -> float:
    """Return q = (γ̃-γ)/(1-γ), the chance that a walk to horizon γ̃ needs one more step of the γ-model."""
    gamma, gamma_tilde = check_gamma(gamma), check_gamma(gamma_tilde, name="gamma_tilde")
    if gamma_tilde < gamma:
        raise BookError(f"gamma_tilde must be at least gamma = {gamma:g}, got {gamma_tilde:g}")
    return (gamma_tilde - gamma) / (1 - gamma)


# --- checks of arguments ---------------------------------------------------------------------------------------


def _check_least_zero(value: float, name: str) -> float:
    number = check_real(value, name)
    if number < 0:
        raise BookError(f"{name} must be at least 0, got {number:g}")
    return number


def _check_model_error(
    eps_r: float, eps_l1: float, gamma: float, r_max: float
) -> tuple[float, float, float, float]:
    eps_r, eps_l1 = _check_least_zero(eps_r, "eps_r"), _check_least_zero(eps_l1, "eps_l1")
    gamma, r_max = check_gamma(gamma), _check_least_zero(r_max, "r_max")
    if eps_l1 > 2:
        raise BookError(f"eps_l1 is an L1 distance of distributions and at most 2, got {eps_l1:g}")
    if eps_r > r_max:
        raise BookError(f"eps_r cannot exceed r_max = {r_max:g}, got {eps_r:g}")
    return eps_r, eps_l1, gamma, r_max


def _check_mbpo(eps_m: float, eps_pi: float, gamma: float, r_max: float) -> tuple[float, float, float, float]:
    eps_m, eps_pi = check_probability(eps_m, "eps_m"), check_probability(eps_pi, "eps_pi")
    return eps_m, eps_pi, check_gamma(gamma), _check_least_zero(r_max, "r_max")


def _check_pair(
    P: ArrayLike, P_hat: ArrayLike, r: ArrayLike, r_hat: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return both chains, checked: matrices (S, S) and rewards (S,) of one and the same S."""
    world, model = check_transition_matrix(P), check_transition_matrix(P_hat, "P_hat")
    rewards, model_rewards = check_finite(r, "r"), check_finite(r_hat, "r_hat")
    S = len(world)
    for array, name, shape in (
        (world, "P", (S, S)),
        (model, "P_hat", (S, S)),
        (rewards, "r", (S,)),
        (model_rewards, "r_hat", (S,)),
    ):
        if array.shape != shape:
            raise BookError(f"{name} must have shape {shape} beside P of {S} states, got {array.shape}")
    return world, model, rewards, model_rewards
