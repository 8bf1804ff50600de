"""Finite worlds as tables: Markov chains, MDPs, distances between distributions, and how fast a chain forgets.

A chain is a matrix P (..., S, S), rows summing to 1. An MDP has P (S, A, S) and R (S, A). Distances are between distributions
along the last axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, special

from one_step_trap.core.environments import make
from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_rng,
    check_transition_matrix,
)
from one_step_trap.errors import BookError

TIE = 1e-9  # two actions whose values differ by less are equally good, and the first one is taken
TINY = 1e-307  # stands for a possible event whose probability was rounded to 0 (1/TINY is still a float)

# --- distances --------------------------------------------------------------------------------------------


def total_variation(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return ``TV(p, q) = ½ Σᵢ |pᵢ - qᵢ|`` of distributions along the last axis: half of L1, in [0, 1]."""
    return np.asarray(np.abs(p - q).sum(axis=-1) / 2)


def kl_divergence(p: FloatArray, q: FloatArray, *, covered: bool = False) -> FloatArray:
    """Return ``KL(p‖q) = Σᵢ pᵢ ln(pᵢ/qᵢ)`` in nats along the last axis; infinite where ``qᵢ = 0 < pᵢ``.

    ``covered`` says that every q is known to be positive wherever p is, so that a 0 in it can only be a
    number that was rounded away. It is then replaced by 1e-307, and a divergence of more than about 700 nats
    becomes a lower bound.
    """
    # kl_div adds q - p to each term: the sum is the same, and no term is negative.
    return np.asarray(special.kl_div(p, np.maximum(q, TINY) if covered else q).sum(axis=-1))


def wasserstein(p: FloatArray, q: FloatArray, positions: FloatArray) -> FloatArray:
    """Return ``W₁(p, q) = Σᵢ |Fₚ(xᵢ) - F_q(xᵢ)| (xᵢ₊₁ - xᵢ)`` along the last axis, in the units of ``positions``.

    ``positions`` x (S,), increasing: where the states lie on a line.
    """
    gap = np.cumsum(p - q, axis=-1)[..., :-1]  # (..., S - 1): difference of the distribution functions
    return np.asarray((np.abs(gap) * np.diff(positions)).sum(axis=-1))


# --- chains -----------------------------------------------------------------------------------------------


def normalised(p: FloatArray) -> FloatArray:
    """Return distributions along the last axis divided by their sum, which rounding has moved away from 1."""
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def check_chain(P: Any, name: str = "P") -> Any:
    """Return transition matrices (..., S, S), or one of ``scipy.sparse``, with rows that sum to 1 as floats can."""
    if not sparse.issparse(P):
        dense = check_transition_matrix(P, name)
        if dense.shape[-2] != dense.shape[-1]:
            raise BookError(f"{name} must be a matrix of shape (states, states), got shape {dense.shape}")
        if dense.shape[-1] == 0:
            raise BookError(f"{name} must have at least one state")
        return normalised(dense)
    matrix = sparse.csr_array(P, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise BookError(f"{name} must be a matrix of shape (states, states), got shape {matrix.shape}")
    check_finite(matrix.data, name)
    sums = matrix.sum(axis=1)
    worst = int(np.abs(sums - 1).argmax())
    if (matrix.data < 0).any():
        raise BookError(f"{name} has a negative probability ({matrix.data.min():g})")
    if abs(sums[worst] - 1) > 1e-8:
        raise BookError(f"every row of {name} must sum to 1; row {worst} sums to {sums[worst]:g}")
    return sparse.csr_array(sparse.diags_array(1 / sums) @ matrix)


def stationary(P: ArrayLike) -> FloatArray:
    """Return the stationary distribution π = πP, (..., S), of chains that have exactly one."""
    matrix = check_chain(P, "P")
    dense = matrix.toarray() if sparse.issparse(matrix) else matrix
    S = dense.shape[-1]
    # One equation of π (P - I) = 0 follows from the others; Σ π = 1 takes its place.
    A = np.swapaxes(dense, -1, -2) - np.eye(S)
    A[..., -1, :] = 1
    if (np.linalg.matrix_rank(A) < S).any():
        raise BookError("the chain has more than one stationary distribution: some states never meet")
    pi = np.linalg.solve(A, np.eye(S)[-1][:, None])[..., 0]
    return normalised(np.maximum(pi, 0))


def dobrushin(P: ArrayLike) -> FloatArray:
    """Return Dobrushin's coefficient ``κ(P) = ½ max_{i,j} Σₖ |P[i,k] - P[j,k]|``, in [0, 1], shape (...).

    It is the most that one step keeps of a difference: ``TV(pP, qP) ≤ κ TV(p, q)``, and some p, q attain it. A chain
    with κ < 1 forgets its start within about 1/(1-κ) steps. ``P`` (..., S, S), dense.
    """
    matrix = check_chain(P, "P")
    if sparse.issparse(matrix):
        raise BookError("Dobrushin's coefficient compares all pairs of rows: give a dense matrix")
    rows = np.moveaxis(matrix, -2, 0)  # (S, ..., S)
    worst = np.zeros(matrix.shape[:-2])
    for row in rows:
        worst = np.maximum(worst, np.abs(rows - row).sum(axis=-1).max(axis=0) / 2)
    return worst


def random_rows(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Return distributions over the last axis: powers of exponentials, normalised, from even to nearly pure."""
    power = rng.choice([1.0, 4.0], size=(shape[0],) + (1,) * (len(shape) - 1))
    weights = rng.standard_exponential(shape) ** power + 1e-300  # the sum of a row is never 0
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


# --- MDPs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MDP:
    """A finite MDP, true or estimated: ``P`` (S, A, S), probabilities, and ``R`` (S, A), mean rewards."""

    P: FloatArray
    R: FloatArray

    def __post_init__(self) -> None:
        P, R = check_transition_matrix(self.P), check_finite(self.R, "R")
        if P.ndim != 3 or P.shape[0] != P.shape[2] or R.shape != P.shape[:2]:
            raise BookError(
                f"an MDP has P of shape (S, A, S) and R of shape (S, A), got {P.shape} and {R.shape}"
            )
        object.__setattr__(self, "P", P)
        object.__setattr__(self, "R", R)


def random_mdp(
    rng: np.random.Generator, n_states: int = 10, n_actions: int = 2, *, n_successors: int = 5
) -> MDP:
    """Draw an MDP: each (s, a) has ``n_successors`` with normalised U[0,1] weights; R(s, a) ~ U[0,1]."""
    check_rng(rng)
    S, A, K = check_count(n_states, "n_states"), check_count(n_actions, "n_actions"), n_successors
    K = check_count(K, "n_successors")
    if K > S:
        raise BookError(f"n_successors = {K} cannot exceed n_states = {S}")
    successors = rng.permuted(np.tile(np.arange(S), (S, A, 1)), axis=2)[:, :, :K]  # (S, A, K)
    weights = 1 - rng.random((S, A, K))  # in (0, 1]: their sum is never 0
    P = np.zeros((S, A, S))
    np.put_along_axis(P, successors, weights / weights.sum(axis=2, keepdims=True), axis=2)
    return MDP(P, rng.random((S, A)))


# These are kernels: they trust their arguments. A batch of B chains has P (B, S, S) and r (B, S), a batch of MDPs has
# P (B, S, A, S), R (B, S, A) and policies (B, S); ``gamma`` is one number or one for each of them, (B,).


def chain_values(P: FloatArray, r: FloatArray, gamma: float | FloatArray) -> FloatArray:
    """Return V = (I - γP)⁻¹ r of chains: ``P`` (..., S, S), ``r`` (..., S), ``gamma`` one number or (...), give (..., S)."""
    A = np.eye(P.shape[-1]) - np.asarray(gamma)[..., None, None] * P
    return np.asarray(np.linalg.solve(A, r[..., None])[..., 0])


def policy_values(P: FloatArray, R: FloatArray, gamma: float | FloatArray, policy: IntArray) -> FloatArray:
    """Return V^π (B, S) of deterministic policies (B, S)."""
    P_pi = np.take_along_axis(P, policy[:, :, None, None], axis=2)[:, :, 0]  # (B, S, S)
    R_pi = np.take_along_axis(R, policy[:, :, None], axis=2)[:, :, 0]  # (B, S)
    return chain_values(P_pi, R_pi, gamma)


def action_values(P: FloatArray, R: FloatArray, gamma: float | FloatArray, policy: IntArray) -> FloatArray:
    """Return ``Q^π(s, a) = R(s, a) + γ Σ_s' P(s'|s, a) V^π(s')``, (B, S, A)."""
    V = policy_values(P, R, gamma, policy)
    B, S, A = R.shape
    after = (P.reshape(B, S * A, S) @ V[:, :, None]).reshape(B, S, A)
    return np.asarray(R + np.asarray(gamma)[..., None, None] * after)


def optimal_policies(
    P: FloatArray,
    R: FloatArray,
    gamma: float | FloatArray,
    start: IntArray,
    tie: float | FloatArray = TIE,
) -> IntArray:
    """Return an optimal policy of each MDP, (B, S), by policy iteration from ``start`` (B, S).

    Actions whose values differ by at most ``tie``, one number or (B,), are equally good, and the first of them is
    taken. MDPs that are done leave the batch.
    """
    gammas, ties = (np.broadcast_to(x, len(R)) for x in (gamma, tie))
    policy, final = start.copy(), np.empty_like(start)
    todo = np.arange(len(R))
    while len(todo):
        Q = action_values(P[todo], R[todo], gammas[todo], policy[todo])  # (b, S, A)
        current = np.take_along_axis(Q, policy[todo][:, :, None], axis=2)[:, :, 0]
        best, slack = Q.max(axis=2), ties[todo][:, None]
        improved = np.where(best > current + slack, Q.argmax(axis=2), policy[todo])
        done = (improved == policy[todo]).all(axis=1)
        final[todo[done]] = (Q[done] >= (best - slack)[done][:, :, None]).argmax(axis=2)
        policy[todo] = improved
        todo = todo[~done]
    return final


@dataclass(frozen=True)
class Table:
    """A finite world: ``mdp`` (P (S, A, S), R (S, A)) and ``going`` (S,), the states from which episodes go on."""

    name: str
    mdp: MDP
    going: BoolArray

    def __post_init__(self) -> None:
        going = np.asarray(self.going)
        if not isinstance(self.mdp, MDP) or going.shape != self.mdp.R.shape[:1] or going.dtype != bool:
            raise BookError("a Table has an MDP, and going: True or False for each of its states")
        if not going.any():
            raise BookError("every state of the table ends the episode: there is nothing to plan")


def toy_text(env_id: str = "FrozenLake-v1", **options: Any) -> Table:
    """Return a Gymnasium environment with a table of transitions (``env.unwrapped.P``) as an MDP.

    P[s][a] lists (probability, next state, reward, whether the episode ends). A state that ends episodes absorbs, and
    pays nothing from there on. ``options`` go to gymnasium.make (``is_slippery=False``, ``map_name="8x8"``).
    """
    env = make(env_id, options)
    table = getattr(env.unwrapped, "P", None)
    env.close()
    if not isinstance(table, dict):
        raise BookError(
            f"{env_id} has no table of transitions; FrozenLake-v1, CliffWalking-v1 and Taxi-v4 have one"
        )
    S, A = len(table), len(table[0])
    P, R, going = np.zeros((S, A, S)), np.zeros((S, A)), np.ones(S, dtype=bool)
    for s, actions in table.items():
        for a, outcomes in actions.items():
            for probability, after, reward, ends in outcomes:
                P[s, a, after] += probability
                R[s, a] += probability * reward
                going[after] &= not ends
    P[~going], R[~going] = 0.0, 0.0
    ended = np.flatnonzero(~going)
    P[ended, :, ended] = 1.0
    return Table(env_id, MDP(P, R), going)
