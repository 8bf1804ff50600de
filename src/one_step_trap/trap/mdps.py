"""Batches of small worlds and models of them, drawn at random or by an adversary, and their exact values.

A **chain** is an MDP under one policy: a tuple of arrays P (B, S, S), P_hat (B, S, S), r (B, S), r_hat (B, S),
for B pairs of a world and its model. An MDP has P (B, S, A, S) and R (B, S, A), as in
:mod:`one_step_trap.discounting.planning`. These are kernels: they trust their arguments, and the public functions of
:mod:`one_step_trap.trap.bounds`, ``bounds_check`` and ``affordable`` check what a user gives.
"""

from __future__ import annotations

import numpy as np

from one_step_trap.core.tabular import chain_values, random_rows
from one_step_trap.core.validate import FloatArray

Chain = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
ROUNDS = 3  # how often the adversary looks at the values it has made and moves the probability anew


# --- exact values ------------------------------------------------------------------------------------------------


def value_error(
    P: FloatArray, P_hat: FloatArray, r: FloatArray, r_hat: FloatArray, gamma: FloatArray
) -> FloatArray:
    """Return max_s of the absolute difference of V and V̂, (B,)."""
    return np.asarray(np.abs(chain_values(P, r, gamma) - chain_values(P_hat, r_hat, gamma)).max(axis=1))


def gamma_model(P: FloatArray, gamma: float) -> FloatArray:
    """Return M_γ = (1-γ) P (I - γP)⁻¹, (..., S, S): where a walk is after a Geometric(1-γ) number of steps."""
    return np.asarray(np.linalg.solve(np.eye(P.shape[-1]) - gamma * P, (1 - gamma) * P))


def w1(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the exact W1 distance of empirical distributions on the line: (..., N) and (..., N) give (...).

    Between two sets of N equally likely points the cheapest transport joins them in order of size.
    """
    return np.asarray(np.abs(np.sort(x, axis=-1) - np.sort(y, axis=-1)).mean(axis=-1))


# --- worlds and their models ----------------------------------------------------------------------------------------


def random_transitions(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Return P of shape (B, S, S) or (B, S, A, S): half of the B worlds dense, half sticky.

    A sticky world stays where it is with probability 1 - 1/τ; τ is drawn log-uniformly from [1, 1000].
    """
    P = random_rows(rng, shape)
    tau = 1000 ** (rng.random(shape[0]) * rng.integers(0, 2, shape[0]))  # 1 where dense
    stay = (1 - 1 / tau).reshape((-1,) + (1,) * (len(shape) - 1))
    eye = np.eye(shape[-1]) if len(shape) == 3 else np.eye(shape[-1])[:, None, :]
    return np.asarray(stay * eye + (1 - stay) * P)


def mixed_model(rng: np.random.Generator, P: FloatArray) -> FloatArray:
    """Return P̂ = (1-w) P + w Q with Q drawn anew; w is log-uniform in [.001, 1], one a world."""
    w = (1000 ** -rng.random(len(P))).reshape((-1,) + (1,) * (P.ndim - 1))
    return np.asarray((1 - w) * P + w * random_rows(rng, P.shape))


def random_chains(rng: np.random.Generator, n: int, states: int) -> Chain:
    """Return n worlds with random rewards in [0, 1], and models that are wrong at random."""
    P = random_transitions(rng, (n, states, states))
    r = rng.random((n, states))
    size = rng.random((n, 1))
    r_hat = np.clip(r + size * rng.uniform(-1, 1, (n, states)), 0, 1)
    return P, mixed_model(rng, P), r, r_hat


def dense_chains(rng: np.random.Generator, n: int, states: int) -> Chain:
    """Return n worlds that lead from every state to every other with comparable probability, rewards known."""
    P, Q = (rng.standard_exponential((n, states, states)) for _ in range(2))
    P /= P.sum(axis=-1, keepdims=True)
    Q /= Q.sum(axis=-1, keepdims=True)
    w = 1000 ** -rng.random((n, 1, 1))
    r = rng.random((n, states))
    return P, (1 - w) * P + w * Q, r, r


def adversarial_chains(rng: np.random.Generator, n: int, states: int, gamma: float) -> Chain:
    """Return n worlds that pay in all states but one, and models made to lower their values at ``gamma``.

    Where the world pays, it stays among the paying states (as in the leak); the adversary has a budget of
    TV error, log-uniform in [.001, 1], and a budget of reward error.
    """
    P = random_transitions(rng, (n, states, states))
    P[:, :, -1] *= rng.choice(
        [0.0, 1.0], size=(n, 1), p=[0.75, 0.25]
    )  # three in four never leave by themselves
    P[:, -1] = np.eye(states)[-1]
    P /= P.sum(axis=-1, keepdims=True)
    r = np.where(
        np.arange(states) < states - 1, 1 - rng.choice([0.0, 0.3], (n, 1)) * rng.random((n, states)), 0.0
    )
    eps_r = rng.choice([0.0, 0.2], (n, 1)) * rng.random((n, 1))
    r_hat = np.maximum(r - eps_r, 0.0)
    return P, worst_model(P, r_hat, np.full(n, gamma), 1000 ** -rng.random(n)), r, r_hat


def worst_model(P: FloatArray, r: FloatArray, gamma: FloatArray, eps_tv: FloatArray) -> FloatArray:
    """Return P̂ (B, S, S) within ``eps_tv`` (B,) of P in TV in every row, chosen to make the values low.

    Each round takes the budget of probability from the best successors and gives it to the worst one, where
    best and worst are by the values of the round before (policy iteration of the adversary).
    """
    P_hat = P
    for _ in range(ROUNDS):
        order = np.argsort(-chain_values(P_hat, r, gamma), axis=1, kind="stable")  # (B, S), best state first
        rows = np.take_along_axis(P, order[:, None, :], axis=2)  # (B, S, S), successors from best to worst
        kept = np.maximum(np.cumsum(rows, axis=2) - eps_tv[:, None, None], 0)
        rows = np.diff(kept, axis=2, prepend=0.0)
        rows[:, :, -1] += 1 - rows.sum(axis=2)  # what was taken goes to the worst state
        P_hat = np.empty_like(P)
        np.put_along_axis(P_hat, np.broadcast_to(order[:, None, :], P.shape), rows, axis=2)
    return P_hat


def leak(eps_tv: FloatArray, eps_r: FloatArray) -> Chain:
    """Return the two-state leak, (B, 2, 2) and (B, 2): it attains the bound of Lobel & Parr.

    State 0 pays 1 and state 1 pays 0; the world never moves. The model leaks from 0 to 1 with probability
    ``eps_tv`` (B,) and pays 1 - ``eps_r`` (B,) in state 0.
    """
    B = len(eps_tv)
    P = np.tile(np.eye(2), (B, 1, 1))
    P_hat, r, r_hat = P.copy(), np.tile([1.0, 0.0], (B, 1)), np.zeros((B, 2))
    P_hat[:, 0] = np.stack([1 - eps_tv, eps_tv], axis=1)
    r_hat[:, 0] = 1 - eps_r
    return P, P_hat, r, r_hat
