"""Value equivalence: models that are wrong about states and right about values, counted exactly.

A model is **value equivalent** for policies Π and functions 𝒱 if its Bellman updates of these functions are the
world's (Grimm et al. 2020, arXiv 2011.03506). The more policies and functions, the fewer such models: here their
dimension is counted (`bellman_rank`).

MuZero asks for something else: that predictions made by *unrolling* be right, after every sequence of up to K actions
and for one function, the value. Two questions follow, and linear algebra answers both.

1. **The latents are states of the world.** Then K-step equivalence means ``P̂_a u = P_a u`` for every u in
   ``U_{K-1} = span{1, P_w v : |w| < K}`` (`unrolled_dimension`). It implies all orders as soon as U stops growing
   (`closure`), and not one step earlier.
2. **The latents are what they like.** Then the unrolled z_k need not be an encoding of anything, and a model may keep
   a *clock* (`clock_model`): right at depths 1 … K, as wrong as you please at K + 1. Still, n states and m latents
   cannot disagree without disagreeing within ``n + m - 2`` steps (Moore 1956, Schützenberger 1961).

An MDP here is `one_step_trap.core.tabular.MDP`: P (S, A, S), R (S, A).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.tabular import MDP
from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_finite,
    check_kind,
    check_list,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.stochastic import check_policy

RANK_TOLERANCE = 1e-9  # a direction shorter than this, relative to the longest, counts as none
MAX_SEQUENCES = 1 << 18


# --- Bellman updates (Grimm et al. 2020) ----------------------------------------------------------------------------


def bellman_rank(mdp: MDP, policies: Sequence[ArrayLike], functions: ArrayLike) -> int:
    """Return the dimension of the transition models that are value equivalent, by rank; rewards are known.

    In state s the unknown block is X (A, S), the change of ``P(·|s, ·)``, with ``X 1 = 0`` and ``π(·|s) X v = 0`` for all π
    and v.
    """
    pis = [check_policy(pi, mdp) for pi in check_list(policies, "policies")]
    F = _check_functions(functions, mdp)
    S, A = mdp.R.shape
    total = 0
    for s in range(S):
        rows = [np.kron(np.eye(A)[a], np.ones(S)) for a in range(A)]
        rows += [np.kron(pi[s], v) for pi in pis for v in F.T]
        total += A * S - _rank(np.array(rows))
    return total


# --- unrolled equivalence: the latents are states -----------------------------------------------------------------------


def unrolled_span(P: ArrayLike, functions: ArrayLike, length: int) -> FloatArray:
    """Return an orthonormal basis (S, d) of ``U_L = span{1, P_w f : |w| ≤ L}``, over all sequences w of ≤ L actions.

    ``P`` (S, A, S); ``functions`` (S, F). ``P_w = P_{a_1} … P_{a_k}``.
    """
    P, F = _check_transitions(P), np.atleast_2d(check_finite(functions, "functions").T).T
    if F.ndim != 2 or len(F) != len(P):
        raise BookError(f"functions must have shape ({len(P)}, F), got {F.shape}")
    basis = _basis(np.column_stack([np.ones(len(P)), F]))
    for _ in range(check_count(length, "length", minimum=0)):
        grown = _basis(np.column_stack([basis, *(P[:, a] @ basis for a in range(P.shape[1]))]))
        if grown.shape[1] == basis.shape[1]:
            break  # U has stopped growing, and never starts again
        basis = grown
    return basis


class Closure(NamedTuple):
    """``steps``: the first K from which K-step equivalence implies every order. ``dimensions``: of U_0 … U_{steps-1}."""

    steps: int
    dimensions: tuple[int, ...]


def closure(P: ArrayLike, functions: ArrayLike) -> Closure:
    """Return how many steps a model on the world's own states must be trained through to be right at every depth.

    A K-step equivalent model has ``P̂_a u = P_a u`` on U_{K-1}. If ``U_K = U_{K-1}``, then U_{K-1} is closed under
    every P_a, so that ``P̂_w f = P_w f`` for all sequences. If not, some P_a u with u in U_{K-1} is a new direction;
    P̂ is free on it, and errs at K + 1. So the number of steps is ``min{K : U_K = U_{K-1}}``, at most S.
    """
    dims = [unrolled_span(P, functions, 0).shape[1]]
    while True:
        d = unrolled_span(P, functions, len(dims)).shape[1]
        if d == dims[-1]:
            return Closure(len(dims), tuple(dims))
        dims.append(d)


def unrolled_dimension(P: FloatArray, functions: ArrayLike, unroll_steps: int) -> int:
    """Return the dimension of the models P̂ (S, A, S) on the same states that are right to depth K.

    ``dim = A S (S - dim U_{K-1})``: linear equations, although the predictions are products of K matrices.
    """
    d = unrolled_span(P, functions, unroll_steps - 1).shape[1]
    return int(P.shape[1] * len(P) * (len(P) - d))


def dimension_curve(P: ArrayLike, functions: ArrayLike, longest: int, *, name: str = "") -> pd.DataFrame:
    """Return `unrolled_dimension` for K = 1 … ``longest``; columns name, unroll_steps, dimension, share (of K = 0)."""
    P = _check_transitions(P)
    S, A = P.shape[:2]
    rows = [
        (name, K, d := unrolled_dimension(P, functions, K), d / (A * S * (S - 1)))
        for K in range(1, check_count(longest, "longest") + 1)
    ]
    return pd.DataFrame(rows, columns=["name", "unroll_steps", "dimension", "share"])


# --- unrolled equivalence: any latents -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latent:
    """A latent model with linear parts, deterministic or not: m latents, A actions, n observations.

    ``encoder`` (n, m): z_0 = encoder[s]. ``dynamics`` (A, m, m): z_k = z_{k-1} dynamics[a_k]. ``outputs`` (m, F): what
    is read off at every depth, z_k @ outputs (a value, the rewards of each action, logits). One-hot rows make a
    deterministic automaton; rows of probabilities a model that carries a belief. A world is the case m = n, encoder I
    (`latent_world`).
    """

    encoder: FloatArray
    dynamics: FloatArray
    outputs: FloatArray

    def __post_init__(self) -> None:
        E, D, O = (check_finite(getattr(self, n), n) for n in ("encoder", "dynamics", "outputs"))  # noqa: E741
        if E.ndim != 2 or D.ndim != 3 or O.ndim != 2:
            raise BookError("a Latent has encoder (n, m), dynamics (A, m, m) and outputs (m, F)")
        m = E.shape[1]
        if D.shape[1:] != (m, m) or O.shape[0] != m or not (E.size and D.size and O.size):
            raise BookError(
                f"encoder (n, m), dynamics (A, m, m), outputs (m, F) got {E.shape}, {D.shape} and {O.shape}"
            )
        for name, array in (("encoder", E), ("dynamics", D), ("outputs", O)):
            object.__setattr__(self, name, array)


def latent_world(mdp: MDP, v: ArrayLike, *, rewards: bool = True) -> Latent:
    """Return the world as a `Latent`: its outputs are v(s) and, with ``rewards``, R(s, ·), as open-loop expectations."""
    F = _check_functions(v, mdp)
    P = mdp.P.transpose(1, 0, 2)
    return Latent(np.eye(len(F)), P, np.column_stack([F, mdp.R]) if rewards else F)


def clock_model(world: Latent, unroll_steps: int, *, error: float = 1.0) -> Latent:
    """Return a latent model that is exact at depths 0 … K, and off by ``error`` in every output from K + 1 on.

    Its latents are pairs (how many steps since the encoder, state of the world), K + 2 copies of the world; the last
    copy reads its outputs wrongly. K-step training never visits it.
    """
    K = check_count(unroll_steps, "unroll_steps")
    n, (A, m), F = (
        len(world.encoder),
        world.dynamics.shape[:2],
        world.outputs.shape[1],
    )
    ticks = np.eye(K + 2, k=1)
    ticks[-1, -1] = 1.0  # the last copy is never left
    dynamics = np.array([np.kron(ticks, world.dynamics[a]) for a in range(A)])
    encoder = np.zeros((n, (K + 2) * m))
    encoder[:, :m] = world.encoder
    outputs = np.tile(world.outputs, (K + 2, 1))
    # A latent's entries sum to 1 where the world's do, so that a constant added to outputs is a constant error.
    outputs[-m:] += error * np.ones((m, F))
    return Latent(encoder, dynamics, outputs)


def depth_errors(world: Latent, model: Latent, longest: int) -> FloatArray:
    """Return the largest error of any output after any sequence, at depths 0 … ``longest``: shape (longest + 1,).

    Enumerates Aᵈ sequences of each depth d.
    """
    longest, A = check_count(longest, "longest", minimum=0), len(world.dynamics)
    if A**longest > MAX_SEQUENCES:
        raise BookError(f"{A} actions make {A}^{longest} sequences: use a smaller depth")
    z, y = world.encoder[None], model.encoder[None]  # (sequences, n, latents)
    errors = [np.abs(z @ world.outputs - y @ model.outputs).max()]
    for _ in range(longest):
        z = np.concatenate([z @ world.dynamics[a] for a in range(A)])
        y = np.concatenate([y @ model.dynamics[a] for a in range(A)])
        errors.append(np.abs(z @ world.outputs - y @ model.outputs).max())
    return np.array(errors)


def clock_curves(
    mdp: MDP, v: ArrayLike, unroll_steps: Sequence[int] = (1, 2, 5), *, longest: int = 12, error: float = 1.0
) -> pd.DataFrame:
    """Return the largest value error against depth of `clock_model` for each K; columns unroll_steps, depth, error."""
    world = latent_world(mdp, v, rewards=False)
    rows = []
    for K in check_list(unroll_steps, "unroll_steps"):
        for depth, e in enumerate(depth_errors(world, clock_model(world, K, error=error), longest)):
            rows.append((K, depth, float(e)))
    return pd.DataFrame(rows, columns=["unroll_steps", "depth", "error"])


def dimension_table(
    mdp: MDP, policies: Sequence[ArrayLike], functions: ArrayLike, count: Callable[..., int] = bellman_rank
) -> pd.DataFrame:
    """Return the dimension of the value-equivalent class for the first m policies and the first k functions.

    Columns policies, functions, dimension, share (of the A S (S-1) dimensions of all models).
    """
    pis, F = check_list(policies, "policies"), _check_functions(functions, mdp)
    S, A = mdp.R.shape
    rows = []
    for m in range(1, len(pis) + 1):
        for k in range(1, F.shape[1] + 1):
            d = count(mdp, pis[:m], F[:, :k])
            rows.append((m, k, d, d / (A * S * (S - 1))))
    return pd.DataFrame(rows, columns=["policies", "functions", "dimension", "share"])


# --- linear algebra and checks -----------------------------------------------------------------------------------------------


def _rank(M: FloatArray) -> int:
    """Return the rank, relative to the largest singular value."""
    s = np.linalg.svd(M, compute_uv=False)
    return int((s > RANK_TOLERANCE * max(1.0, s[0])).sum()) if len(s) else 0


def _basis(M: FloatArray) -> FloatArray:
    """Return an orthonormal basis of the columns; each is first made of length 1, so that small ones count too."""
    length = np.linalg.norm(M, axis=0)
    M = M[:, length > RANK_TOLERANCE] / length[length > RANK_TOLERANCE]
    if not M.size:
        return np.zeros((len(M), 0))
    u, s, _ = np.linalg.svd(M, full_matrices=False)
    return np.asarray(u[:, s > RANK_TOLERANCE * s[0]])


def _check_transitions(P: ArrayLike) -> FloatArray:
    P = check_finite(P, "P")
    if P.ndim != 3 or P.shape[0] != P.shape[2] or not P.size:
        raise BookError(f"P must have shape (states, actions, states), got {P.shape}")
    if P.min() < 0 or np.abs(P.sum(2) - 1).max() > 1e-8:
        raise BookError("P must hold probabilities; every P[s, a] sums to 1")
    return P


def _check_functions(functions: ArrayLike, mdp: MDP) -> FloatArray:
    """Return functions as (S, F); a vector counts as one function."""
    F = check_finite(functions, "functions")
    F = F[:, None] if F.ndim == 1 else F
    S = len(check_kind(mdp, MDP, "mdp").R)
    if F.ndim != 2 or len(F) != S or not F.size:
        raise BookError(f"functions must have shape ({S}, F), one value for each state, got {F.shape}")
    return F
