"""A lower discount is a prior: planning at γ < γ_e is planning at γ_e with every transition mixed with one
and the same guess.

**Proposition.** Let ρ be a distribution over states, ε in [0, 1), γ_e in [0, 1), and γ = γ_e (1-ε). Mix every
transition of an MDP with ρ: ``P_ε(·|s,a) = (1-ε) P(·|s,a) + ε ρ``. Then, for the optimal values and also for
those of any fixed policy,

    Q_{P_ε, γ_e}(s, a) = Q_{P, γ}(s, a) + b,    b = (γ_e - γ)/(1 - γ_e) · ρᵀ V_{P, γ},

the same b for every (s, a). So the two problems have the same optimal policies, whatever ρ is.

Proof. Write c = γ_e ε ρᵀV_ε, with V_ε the values of the mixed MDP at γ_e. Its Bellman equation is Q_ε(s,a) =
r(s,a) + γ_e Σ P_ε V_ε = ``(r(s,a) + c) + γ Σ_{s'} P(s'|s,a) V_ε(s')``: that of the *unmixed* MDP at discount γ
with c added to every reward. A constant reward c is worth c/(1-γ) everywhere, so Q_ε = Q_{P,γ} + c/(1-γ), as
Bellman equations have one solution. It remains to find c: c = γ_e ε (ρᵀV_{P,γ} + c/(1-γ)), and since 1 - γ -
γ_e ε = 1 - γ_e, c/(1-γ) = γ_e ε ρᵀV_{P,γ} / (1-γ_e), where γ_e ε = γ_e - γ. ∎

Only a prior that is the same for every (s, a) does this: with ρ depending on s or a the added reward is no
constant.

**What that says about data.** The mean of a Dirichlet posterior with prior weight α ρ after n visits is (n P̂
+ α ρ)/(n + α): a mixture with ε = α/(n+α). A lower discount fixes ε for all pairs, so it is a prior of weight
α = n ε/(1-ε), which *grows with the data*: it distrusts most the pairs seen most (Rathnam et al. 2023, arXiv
2306.11208). Sources: Jiang et al. 2015; Amit, Meir & Ciosek 2020, arXiv 2007.02040.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_finite,
    check_gamma,
    check_gammas,
    check_kind,
    check_probability,
    check_rng,
    check_transition_matrix,
)
from one_step_trap.discounting.resolution import (
    IntArray,
    MDPs,
    action_values,
    make_mdps,
    mixing_mdps,
    optimal_policies,
)
from one_step_trap.errors import BookError


def mixing_weight(gamma: float, gamma_eval: float) -> float:
    """Return ε = 1 - γ/γ_e, the share of the prior that planning at ``gamma`` <= ``gamma_eval`` amounts
    to.
    """
    low, high = check_gamma(gamma), check_gamma(gamma_eval, name="gamma_eval")
    if not low <= high or high == 0:
        raise BookError(
            f"gamma must not exceed gamma_eval, and gamma_eval be above 0, got {low:g} and {high:g}"
        )
    return 1 - low / high


def mix(P: ArrayLike, prior: ArrayLike, weight: ArrayLike) -> FloatArray:
    """Return (1-ε) P + ε ρ for ``P`` (..., S, A, S), ``prior`` ρ that broadcasts to it, and ``weight`` ε
    per pair or one for all.
    """
    transitions, epsilon = check_transition_matrix(P), check_finite(weight, "weight")
    rho = _check_prior(prior, transitions.shape)
    if (epsilon < 0).any() or (epsilon > 1).any():
        raise BookError("weight must lie in [0, 1]")
    if epsilon.ndim and epsilon.shape != transitions.shape[:-1]:
        raise BookError(
            f"weight must be one number or have shape {transitions.shape[:-1]}, got {epsilon.shape}"
        )
    epsilon = epsilon[..., None] if epsilon.ndim else epsilon
    return np.asarray((1 - epsilon) * transitions + epsilon * rho)


def _check_prior(prior: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Return the prior if it is made of distributions and broadcasts to the transitions' ``shape``."""
    rho = check_finite(prior, "prior")
    if rho.ndim == 0 or rho.shape[-1] != shape[-1] or len(rho.shape) > len(shape):
        raise BookError(f"prior must have a last axis of {shape[-1]} states, got shape {rho.shape}")
    if any(have not in (1, want) for have, want in zip(rho.shape[::-1], shape[::-1], strict=False)):
        raise BookError(f"prior of shape {rho.shape} does not fit transitions of shape {shape}")
    if (rho < 0).any() or not np.allclose(rho.sum(-1), 1):
        raise BookError("prior must be a distribution over states: entries at least 0 that sum to 1")
    return rho


@dataclass(frozen=True)
class IdentityCheck:
    """The proposition on a batch of MDPs: the shift it predicts (M,) and by how much it is missed
    anywhere.
    """

    predicted: FloatArray  # b of every MDP
    error: FloatArray  # (M,) largest |Q_ε - Q_γ - b|, relative to the largest |Q_ε|
    same_policy: float  # share of states where the greedy actions agree


def check_identity(
    mdps: MDPs, gamma: float, gamma_eval: float, prior: ArrayLike, *, policy: IntArray | None = None
) -> IdentityCheck:
    """Return how exactly the proposition holds: for optimal values, or for those of ``policy`` (M, S).

    ``prior`` ρ of shape (S,) or one an MDP (M, 1, 1, S). Pass one that depends on state and action, (M, S, A,
    S), to see the identity fail; the prediction then uses its mean over pairs.
    """
    check_kind(mdps, MDPs, "mdps", made_by="make_mdps")
    epsilon = mixing_weight(gamma, gamma_eval)
    mixed = make_mdps("mixed", mix(mdps.P, prior, epsilon), mdps.R)
    plain_policy = optimal_policies(mdps, gamma) if policy is None else policy
    mixed_policy = optimal_policies(mixed, gamma_eval) if policy is None else policy
    V, Q = action_values(mdps, plain_policy, gamma)
    _, Q_mixed = action_values(mixed, mixed_policy, gamma_eval)
    rho = np.broadcast_to(check_finite(prior, "prior"), mdps.P.shape).mean((1, 2))  # (M, S)
    b = (gamma_eval - gamma) / (1 - gamma_eval) * (rho * V).sum(-1)  # (M,)
    miss, size = np.abs(Q_mixed - Q - b[:, None, None]).max((1, 2)), np.abs(Q_mixed).max((1, 2))
    miss = np.divide(
        miss, size, out=miss, where=size > 0
    )  # without rewards there is nothing to be relative to
    agree = float((Q.argmax(-1) == Q_mixed.argmax(-1)).mean())
    return IdentityCheck(b, miss, agree)


# -- Does it matter that the prior grows with the data?

DEFAULT_GAMMAS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
DEFAULT_STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass(frozen=True)
class PriorStudy:
    """Loss of plans made from data, V*(s) - V^π(s) averaged over states at γ_e, each (M, settings)."""

    gammas: FloatArray
    strengths: FloatArray
    discount_loss: FloatArray  # the maximum-likelihood model, planned at each gamma
    prior_loss: FloatArray  # the same Dirichlet prior for every pair, planned at gamma_eval

    def compare(self, rng: np.random.Generator) -> tuple[Interval, Interval, Interval]:
        """Return the loss of the best discount, of the best prior, and their difference (discount minus
        prior).

        Each setting is chosen on the even-numbered MDPs and judged on the odd-numbered ones, pairwise.
        """
        chosen = [loss[1::2, loss[::2].mean(0).argmin()] for loss in (self.discount_loss, self.prior_loss)]
        first, second = (bootstrap_interval(values, rng) for values in chosen)
        return first, second, bootstrap_interval(chosen[0] - chosen[1], rng)


def prior_study(
    rng: np.random.Generator,
    *,
    mdps: int = 300,
    rare: int = 2,
    common: int = 50,
    share_rare: float = 0.5,
    gamma_eval: float = 0.99,
    gammas: ArrayLike = DEFAULT_GAMMAS,
    strengths: ArrayLike = DEFAULT_STRENGTHS,
) -> PriorStudy:
    """Return the loss of planning from uneven data, by discount and by Dirichlet prior (towards uniform).

    MDPs of :func:`one_step_trap.discounting.resolution.mixing_mdps`, rewards known. A pair (s, a) is seen
    ``rare`` times with probability ``share_rare``, else ``common`` times. With ``rare`` = ``common`` the two
    methods are the same family, by the proposition.
    """
    check_rng(rng)
    gamma_eval = check_gamma(gamma_eval, name="gamma_eval")
    low, high = check_count(rare, "rare"), check_count(common, "common")
    share_rare = check_probability(share_rare, "share_rare")
    grid = check_gammas(gammas)
    alphas = np.atleast_1d(check_finite(strengths, "strengths"))
    if alphas.ndim != 1 or len(alphas) == 0 or (alphas < 0).any():
        raise BookError("strengths must be a list of one or more numbers of at least 0")
    truth = mixing_mdps(rng, check_count(mdps, "mdps", minimum=4))
    counts = np.where(rng.random(truth.R.shape) < share_rare, low, high)  # (M, S, A)
    seen = rng.multinomial(counts, truth.P)  # (M, S, A, S)
    P_hat = seen / counts[..., None]
    uniform = np.full(truth.P.shape[-1], 1 / truth.P.shape[-1])
    best, _ = action_values(truth, optimal_policies(truth, gamma_eval), gamma_eval)

    def loss(P: FloatArray, gamma: float) -> FloatArray:
        policy = optimal_policies(make_mdps("model", P, truth.R), gamma)
        return np.asarray((best - action_values(truth, policy, gamma_eval)[0]).mean(-1))

    by_discount = [loss(P_hat, gamma) for gamma in grid]
    by_prior = [loss(mix(P_hat, uniform, alpha / (counts + alpha)), gamma_eval) for alpha in alphas]
    return PriorStudy(grid, alphas, np.stack(by_discount, 1), np.stack(by_prior, 1))
