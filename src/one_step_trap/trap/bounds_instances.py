"""Random and adversarial instances of every bound, with their errors computed exactly, and what attains it.

Every ``draw_...`` returns a :class:`Batch`; every ``attain_...`` the largest relative gap between error and
bound over the examples that attain the bound. The instances are shared out evenly among "random" ones and
"adversarial" ones, built to make the error large, because random worlds alone would not come near most
bounds. For the value bounds a third kind, "dense", is what is often meant by a random world: every state
leads to every other with comparable probability, and the rewards are known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from one_step_trap.core import tabular
from one_step_trap.core.validate import FloatArray
from one_step_trap.trap import mdps
from one_step_trap.trap.bounds import (
    branched_bound,
    gamma_tail,
    imitation_bound,
    interactive_bound,
    lipschitz_bound,
    lobel_parr_bound,
    mbpo_bound,
)

Strings = NDArray[np.str_]

GAMMAS = (0.5, 0.9, 0.99)
SIZES = (2, 5, 10)  # states
KINDS = ("random", "adversarial")
VALUE_KINDS = ("dense", "random", "adversarial")
LIPSCHITZ = (0.5, 0.9, 1.0, 1.1, 1.5)
DEPTH = 8  # steps of the Lipschitz worlds: 2^8 points
HORIZONS = (5, 20, 50)  # steps of the imitation worlds
BRANCHES = (1, 2, 5, 20)
DISCOUNT_PAIRS = ((0.0, 0.9), (0.5, 0.9), (0.5, 0.99), (0.8, 0.99), (0.95, 0.99))  # (γ, γ̃)


class Batch(NamedTuple):
    """Instances of one bound, each (n,): exact error, bound, kind of instance, and its setting (γ, K or T)."""

    error: FloatArray
    bound: FloatArray
    kind: Strings
    setting: FloatArray


def _per_cell(n: int, cells: Sequence[tuple[float, str]], draw: Callable[[int, float, str], Batch]) -> Batch:
    """Return ``n`` instances, shared out among the cells (setting, kind) as evenly as possible."""
    shares = [len(share) for share in np.array_split(np.arange(n), len(cells))]
    batches = [draw(share, *cell) for share, cell in zip(shares, cells, strict=True) if share]
    return Batch(*(np.concatenate(columns) for columns in zip(*batches, strict=True)))


def _batch(error: FloatArray, bound: FloatArray, kind: str, setting: float) -> Batch:
    return Batch(error, bound, np.full(len(error), kind), np.full(len(error), float(setting)))


def _largest_gap(error: FloatArray, bound: FloatArray) -> float:
    return float(np.abs(error / bound - 1).max())


# --- simulation lemma, Lobel & Parr ---------------------------------------------------------------------------------


def value_cells() -> list[tuple[float, int, str]]:
    """Return the cells (γ, states, kind) among which the pairs of a world and a model are shared out."""
    return list(itertools.product(GAMMAS, SIZES, VALUE_KINDS))


def draw_chains(rng: np.random.Generator, n: int, gamma: float, states: int, kind: str) -> mdps.Chain:
    """Return n pairs of a world and a model; an adversary works against the values at ``gamma``."""
    if kind == "dense":
        return mdps.dense_chains(rng, n, states)
    if kind == "random":
        return mdps.random_chains(rng, n, states)
    return mdps.adversarial_chains(rng, n, states, gamma)


def _value_pairs(n: int, rng: np.random.Generator, limit: Callable[..., FloatArray]) -> Batch:
    cells = value_cells()
    batches = []
    for share, (gamma, states, kind) in zip(np.array_split(np.arange(n), len(cells)), cells, strict=True):
        P, P_hat, r, r_hat = draw_chains(rng, len(share), gamma, states, kind)
        gammas = np.full(len(share), gamma)
        error = mdps.value_error(P, P_hat, r, r_hat, gammas)
        eps_l1 = np.abs(P - P_hat).sum(axis=2).max(axis=1)
        eps_r = np.abs(r - r_hat).max(axis=1)
        batches.append(_batch(error, limit(eps_r, eps_l1, gamma), kind, gamma))
    return Batch(*(np.concatenate(columns) for columns in zip(*batches, strict=True)))


def draw_simulation(n: int, rng: np.random.Generator) -> Batch:
    """Return value errors beside the simulation lemma, rewards in [0, 1]."""
    return _value_pairs(n, rng, lambda r, p, gamma: r / (1 - gamma) + gamma * p / (2 * (1 - gamma) ** 2))


def draw_lobel_parr(n: int, rng: np.random.Generator) -> Batch:
    """Return value errors beside the bound of Lobel & Parr, rewards in [0, 1]."""
    return _value_pairs(n, rng, lambda r, p, gamma: 1 / (1 - gamma) - (1 - r) / (1 - gamma * (1 - p / 2)))


def attain_lobel_parr() -> float:
    """Return the gap of the two-state leak on a grid of γ, ε_TV and ε_r."""
    eps = np.array([1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0])
    gammas = np.array([0.0, 0.3, 0.5, 0.9, 0.99, 0.999])
    gamma, eps_tv, eps_r = (axis.ravel() for axis in np.meshgrid(gammas, eps, eps))
    error = mdps.value_error(*mdps.leak(eps_tv, eps_r), gamma)
    bound = [lobel_parr_bound(r, 2 * e, g) for r, e, g in zip(eps_r, eps_tv, gamma, strict=True)]
    return _largest_gap(error, np.array(bound))


# --- Lipschitz models -------------------------------------------------------------------------------------------------


def draw_lipschitz(n: int, rng: np.random.Generator) -> Batch:
    """Return W1 errors, at a random depth, of worlds that toss a coin between two K-Lipschitz maps a step.

    World: x' = f_j(x) with f_j(x) = K (w x + (1-w) sin(ω x + φ)/ω) + c, and j = 0 or 1 by a fair coin. The
    model adds δ_j sin(ν x + ψ), so that its one-step error in W1 is at most Δ = (δ_0 + δ_1)/2. After t
    steps both distributions are 2^t equally likely points, followed exactly. The adversary takes affine maps
    and a constant error.
    """
    return _per_cell(
        n, list(itertools.product(LIPSCHITZ, KINDS)), lambda m, K, kind: _lipschitz(rng, m, K, kind)
    )


def _lipschitz(rng: np.random.Generator, n: int, K: float, kind: str) -> Batch:
    shape = (2, n, 1)  # one row of parameters a map
    w, c, omega = rng.random(shape), rng.normal(size=shape), rng.uniform(0.5, 3, shape)
    phi, psi, nu = rng.uniform(0, 6.3, shape), rng.uniform(0, 6.3, shape), rng.uniform(0, 3, shape)
    delta = rng.uniform(0.01, 1, shape)
    if kind == "adversarial":
        w, nu, psi = np.ones(shape), np.zeros(shape), np.full(shape, np.pi / 2)

    def world(x: FloatArray) -> FloatArray:
        return np.asarray(K * (w * x + (1 - w) * np.sin(omega * x + phi) / omega) + c)  # (n, N) -> (2, n, N)

    def model(x: FloatArray) -> FloatArray:
        return np.asarray(world(x) + delta * np.sin(nu * x + psi))

    x = y = rng.normal(size=(n, 1))
    depth, errors = rng.integers(1, DEPTH + 1, size=n), np.empty((DEPTH, n))
    for t in range(DEPTH):
        x, y = np.concatenate(list(world(x)), axis=1), np.concatenate(list(model(y)), axis=1)  # (n, 2^(t+1))
        errors[t] = mdps.w1(x, y)
    sums = np.array([lipschitz_bound(1.0, K, t) for t in range(1, DEPTH + 1)])
    return _batch(errors[depth - 1, np.arange(n)], delta.mean(axis=0)[:, 0] * sums[depth - 1], kind, K)


def attain_lipschitz() -> float:
    """Return the gap of x' = Kx against x' = Kx + Δ, from x = 1."""
    gaps = []
    for K, delta in itertools.product((0.0, 0.5, 1.0, 1.0001, 1.5, 2.0), (1e-3, 1.0)):
        x = y = 1.0
        for n in range(1, 31):
            x, y = K * x, K * y + delta
            gaps.append(abs(abs(y - x) / lipschitz_bound(delta, K, n) - 1))
    return max(gaps)


# --- imitation ---------------------------------------------------------------------------------------------------------


class Imitation(NamedTuple):
    """Exact accounts of learners beside their experts, each (n,).

    ``excess``: J(π̂) - J(π*); ``eps_expert``, ``eps_learner``: probability of a mistake, averaged over the steps of
    the expert's and of the learner's own distribution; ``u``: the most that one other action costs.
    """

    excess: FloatArray
    eps_expert: FloatArray
    eps_learner: FloatArray
    u: FloatArray


def imitation_accounts(
    P: FloatArray, C: FloatArray, learner: FloatArray, start: FloatArray, horizon: int
) -> Imitation:
    """Return what a stationary ``learner`` costs beyond an expert that always takes action 0.

    ``P`` (n, S, A, S), costs ``C`` (n, S, A) in [0, 1], ``learner`` (n, S, A) probabilities, ``start`` (n, S).
    """
    mistake = learner[:, :, 1:].sum(
        axis=2
    )  # (n, S); 1 - learner[:, :, 0] would lose digits where it is small
    P_learner = np.einsum("nsa,nsax->nsx", learner, P)
    c_learner = (learner * C).sum(axis=2)
    V, gaps = np.zeros(C.shape[:2]), []
    for _ in range(horizon):  # backwards: what the expert will still pay
        Q = C + np.einsum("nsax,nx->nsa", P, V)
        V = Q[:, :, 0]
        gaps.append(np.abs(Q - V[:, :, None]).max(axis=2))
    expert, own = start, start
    cost, eps_expert, eps_learner, u = (np.zeros(len(P)) for _ in range(4))
    for gap in reversed(gaps):
        cost += (own * c_learner).sum(axis=1)
        eps_expert += (expert * mistake).sum(axis=1) / horizon
        eps_learner += (own * mistake).sum(axis=1) / horizon
        u = np.maximum(u, np.where(own > 0, gap, 0).max(axis=1))
        expert = np.einsum("ns,nsx->nx", expert, P[:, :, 0])
        own = np.einsum("ns,nsx->nx", own, P_learner)
    eps_expert, eps_learner = np.minimum(eps_expert, 1), np.minimum(eps_learner, 1)  # sums of T roundings
    return Imitation(cost - (start * V).sum(axis=1), eps_expert, eps_learner, u)


def _imitation_worlds(rng: np.random.Generator, n: int, horizon: int, kind: str) -> Imitation:
    """Return accounts of random worlds, or of a path with a trap: mistakes lead there, and it costs 1 a step."""
    S, A = 5, 3
    rate = 1000 ** -rng.random((n, 1))  # how often this learner errs, log-uniform in [.001, 1]
    mistake = rate * rng.random((n, S))
    other = tabular.random_rows(rng, (n, S, A - 1))
    if kind == "random":
        P, C = mdps.random_transitions(rng, (n, S, A, S)), rng.random((n, S, A))
        start = tabular.random_rows(rng, (n, S))
    else:
        P, C, start = _trap(n, S, A)
        mistake[:, -1] = 0
        mistake[:, 1:] *= rng.choice([0.0, 0.01, 1.0], (n, 1))  # some err at the first step only
    learner = np.concatenate([1 - mistake[..., None], mistake[..., None] * other], axis=2)
    return imitation_accounts(P, C, learner, start, horizon)


def _trap(n: int, S: int, A: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a path 0 -> 1 -> ... -> S-2 (which stays) that costs nothing, with a trap S-1 beside every step."""
    P, C, start = np.zeros((n, S, A, S)), np.ones((n, S, A)), np.zeros((n, S))
    P[:, :, 1:, -1] = 1
    P[:, -1, 0, -1] = 1
    for s in range(S - 1):
        P[:, s, 0, min(s + 1, S - 2)] = 1
    C[:, :-1, 0] = 0
    start[:, 0] = 1
    return P, C, start


def draw_imitation(n: int, rng: np.random.Generator) -> Batch:
    """Return absolute excess costs beside T² ε, mistakes counted under the expert's distribution."""

    def draw(m: int, T: float, kind: str) -> Batch:
        one = _imitation_worlds(rng, m, int(T), kind)
        return _batch(np.abs(one.excess), int(T) ** 2 * one.eps_expert, kind, T)

    return _per_cell(n, list(itertools.product(HORIZONS, KINDS)), draw)


def draw_interactive(n: int, rng: np.random.Generator) -> Batch:
    """Return absolute excess costs beside u T ε, mistakes counted under the learner's own distribution."""

    def draw(m: int, T: float, kind: str) -> Batch:
        one = _imitation_worlds(rng, m, int(T), kind)
        return _batch(np.abs(one.excess), one.u * T * one.eps_learner, kind, T)

    return _per_cell(n, list(itertools.product(HORIZONS, KINDS)), draw)


def attain_imitation() -> float:
    """Return the gap of the trap where mistakes happen at the first step only: J - J* = p T, ε = p/T."""
    gaps = []
    for T, p in itertools.product((1, 5, 20, 100), (1e-3, 0.1, 1.0)):
        P, C, start = _trap(1, 3, 2)
        learner = np.array([[[1 - p, p], [1, 0], [1, 0]]])
        one = imitation_accounts(P, C, learner, start, T)
        gaps.append(abs(one.excess[0] / imitation_bound(one.eps_expert[0], T) - 1))
    return float(max(gaps))


def attain_interactive() -> float:
    """Return the gap of one state where a mistake costs 1 and is forgotten: J - J* = p T, u = 1."""
    gaps = []
    for T, p in itertools.product((1, 5, 20, 100), (1e-3, 0.1, 1.0)):
        P, C, learner = np.ones((1, 1, 2, 1)), np.array([[[0.0, 1.0]]]), np.array([[[1 - p, p]]])
        one = imitation_accounts(P, C, learner, np.ones((1, 1)), T)
        gaps.append(abs(one.excess[0] / interactive_bound(one.u[0], one.eps_learner[0], T) - 1))
    return float(max(gaps))


# --- model-based policy optimisation ------------------------------------------------------------------------------------


class Shifted(NamedTuple):
    """Worlds (n,) with a model, the policy of the data π_D and the policy π, all as Markov chains of their own.

    ``P_D``, ``P_pi``, ``P_model`` (n, S, S): π_D and π in the world, π in the model; ``r`` (n, S): reward of π, in
    [-1, 1]; ``start`` (n, S); ``eps_D``, ``eps_own`` (n,): TV error of the model, expected under π_D and under π,
    largest over time; ``eps_pi`` (n,).
    """

    P_D: FloatArray
    P_pi: FloatArray
    P_model: FloatArray
    r: FloatArray
    start: FloatArray
    eps_D: FloatArray
    eps_own: FloatArray
    eps_pi: FloatArray


def _shifted(rng: np.random.Generator, n: int, gamma: float, kind: str) -> Shifted:
    S, A = 5, 3
    P, R = mdps.random_transitions(rng, (n, S, A, S)), rng.uniform(-1, 1, (n, S, A))
    policy_D, start = tabular.random_rows(rng, (n, S, A)), tabular.random_rows(rng, (n, S))
    other = tabular.random_rows(rng, (n, S, A))
    w, v = (1000 ** -rng.random((n, 1, 1)) for _ in range(2))
    model = mdps.mixed_model(rng, P)
    if kind == "adversarial":  # all states pay 1 but the last, which holds and pays -1
        P[..., -1], P[:, -1] = 0, np.eye(S)[-1]
        P /= P.sum(axis=3, keepdims=True)
        P[:, :-1, 1:] = np.eye(S)[-1]  # all actions but the first fall
        R = np.where(np.arange(S) < S - 1, 1.0, -1.0)[:, None] * np.ones((n, S, A))
        policy_D, other = np.eye(A)[np.zeros((n, S), dtype=int)], np.eye(A)[np.ones((n, S), dtype=int)]
        v = v * rng.integers(0, 2, (n, 1, 1))
        model = (1 - w[..., None]) * P + w[..., None] * np.eye(S)[-1]
        start = np.tile(np.eye(S)[0], (n, 1))
    policy = (1 - v) * policy_D + v * other
    tv = np.abs(P - model).sum(axis=3) / 2  # (n, S, A)
    P_D, P_pi = np.einsum("nsa,nsax->nsx", policy_D, P), np.einsum("nsa,nsax->nsx", policy, P)
    return Shifted(
        P_D,
        P_pi,
        np.einsum("nsa,nsax->nsx", policy, model),
        (policy * R).sum(axis=2),
        start,
        _largest_over_time(start, P_D, (policy_D * tv).sum(axis=2), gamma),
        _largest_over_time(start, P_pi, (policy * tv).sum(axis=2), gamma),
        np.abs(policy - policy_D).sum(axis=2).max(axis=1) / 2,
    )


def _largest_over_time(start: FloatArray, P: FloatArray, f: FloatArray, gamma: float) -> FloatArray:
    """Return max_t E[f(s_t)], (n,), over the steps that carry all but 1e-9 of the weight γ^t."""
    d, largest = start, (start * f).sum(axis=1)
    for _ in range(math.ceil(math.log(1e-9) / math.log(gamma))):
        d = (d[:, None, :] @ P)[:, 0]
        largest = np.maximum(largest, (d * f).sum(axis=1))
    return np.asarray(largest)


def _returns(d: FloatArray, P: FloatArray, r: FloatArray, gamma: float) -> FloatArray:
    return np.asarray((d * tabular.chain_values(P, r, np.full(len(d), gamma))).sum(axis=1))


def branched_return(one: Shifted, branch: NDArray[np.int64], gamma: float) -> FloatArray:
    """Return Σ_t γ^t E[r(s_t)], (n,): s_t is min(t, k) model steps of π past a state of π_D, for k >= 1.

    From t = k on, that is γ^k times the discounted states of π_D, moved on by k model steps.
    """
    d, after, total = one.start, one.r, np.zeros(len(branch))
    for t in range(int(branch.max())):
        total += np.where(t < branch, gamma**t * (d * one.r).sum(axis=1), 0)
        d = (d[:, None, :] @ one.P_model)[:, 0]
        moved = (one.P_model @ after[..., None])[..., 0]
        after = np.where((t < branch)[:, None], moved, after)  # P_modelᵏ r
    return np.asarray(total + gamma**branch * _returns(one.start, one.P_D, after, gamma))


def draw_mbpo(n: int, rng: np.random.Generator) -> Batch:
    """Return absolute differences of returns in world and model beside theorem 4.1."""

    def draw(m: int, gamma: float, kind: str) -> Batch:
        one = _shifted(rng, m, gamma, kind)
        error = _returns(one.start, one.P_pi, one.r, gamma) - _returns(one.start, one.P_model, one.r, gamma)
        pairs = zip(np.minimum(one.eps_D, 1), np.minimum(one.eps_pi, 1), strict=True)
        return _batch(np.abs(error), np.array([mbpo_bound(e, pi, gamma) for e, pi in pairs]), kind, gamma)

    return _per_cell(n, list(itertools.product(GAMMAS, KINDS)), draw)


def _draw_branched(n: int, rng: np.random.Generator, *, sharp: bool) -> Batch:
    def draw(m: int, gamma: float, kind: str) -> Batch:
        one, k = _shifted(rng, m, gamma, kind), rng.choice(BRANCHES, size=m)
        error = _returns(one.start, one.P_pi, one.r, gamma) - branched_return(one, k, gamma)
        cases = zip(np.minimum(one.eps_own, 1), np.minimum(one.eps_pi, 1), k, strict=True)
        bound = [branched_bound(e, pi, gamma, int(steps), sharp=sharp) for e, pi, steps in cases]
        return _batch(np.abs(error), np.array(bound), kind, gamma)

    return _per_cell(n, list(itertools.product(GAMMAS, KINDS)), draw)


def draw_branched(n: int, rng: np.random.Generator) -> Batch:
    """Return absolute differences of the true and the branched return beside theorem 4.3."""
    return _draw_branched(n, rng, sharp=False)


def draw_branched_sharp(n: int, rng: np.random.Generator) -> Batch:
    """Return the same differences beside our sharper version."""
    return _draw_branched(n, rng, sharp=True)


def attain_branched_sharp() -> float:
    """Return the gap of the leak at k = 1 with π = π_D: one wrong step, at every time t >= 1."""
    gaps = []
    for gamma, eps in itertools.product((*GAMMAS, 0.999), (1e-3, 0.1, 1.0)):
        P, P_model, _, _ = mdps.leak(np.array([eps]), np.zeros(1))
        r, start, zero = np.array([[1.0, -1.0]]), np.array([[1.0, 0.0]]), np.zeros(1)
        one = Shifted(P, P, P_model, r, start, zero + eps, zero + eps, zero)
        error = _returns(start, P, r, gamma) - branched_return(one, np.array([1]), gamma)
        gaps.append(abs(error[0] / branched_bound(eps, 0.0, gamma, 1, sharp=True) - 1))
    return float(max(gaps))


# --- models with an infinite horizon ---------------------------------------------------------------------------------------


def draw_gamma_models(n: int, rng: np.random.Generator) -> Batch:
    """Return how far H steps of a γ-model leave the value at γ̃, beside the tail q^H/(1-γ̃), rewards in [0, 1]."""
    cells = [(float(i), kind) for i in range(len(DISCOUNT_PAIRS)) for kind in KINDS]

    def draw(m: int, index: float, kind: str) -> Batch:
        gamma, gamma_tilde = DISCOUNT_PAIRS[int(index)]
        P, r = mdps.random_transitions(rng, (m, 5, 5)), rng.random((m, 5))
        if kind == "adversarial":
            r = 1 - r * rng.choice([0.0, 0.1], (m, 1))
        H = int(rng.integers(1, 21))
        error, bound = _truncated(P, r, gamma, gamma_tilde, H)
        return _batch(error, np.full(m, bound), kind, gamma)

    return _per_cell(n, cells, draw)


def _truncated(
    P: FloatArray, r: FloatArray, gamma: float, gamma_tilde: float, H: int
) -> tuple[FloatArray, float]:
    """Return max_s of the value at γ̃ minus its first H terms, (B,), and the bound."""
    M, q = mdps.gamma_model(P, gamma), (gamma_tilde - gamma) / (1 - gamma)
    full = (mdps.gamma_model(P, gamma_tilde) @ r[..., None])[..., 0]
    x, weight = r[..., None], 1 - q
    for _ in range(H):
        x = M @ x
        full = full - weight * x[..., 0]
        weight *= q
    horizon = 1 / (1 - gamma_tilde)
    error: FloatArray = np.abs(full).max(axis=1) * horizon
    return error, gamma_tail(gamma, gamma_tilde, H) * horizon


def attain_gamma_models() -> float:
    """Return the gap where every state pays 1: the whole tail is missing."""
    gaps = []
    for (gamma, gamma_tilde), H in itertools.product(DISCOUNT_PAIRS, (1, 5, 20)):
        error, bound = _truncated(np.full((1, 3, 3), 1 / 3), np.ones((1, 3)), gamma, gamma_tilde, H)
        gaps.append(abs(error[0] / bound - 1))
    return float(max(gaps))
