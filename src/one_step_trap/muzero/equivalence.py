"""Value equivalence: models that are wrong about states and right about values, counted exactly.

A model is **value equivalent** for policies Π and functions 𝒱 if its Bellman updates of these functions are the
world's (Grimm et al. 2020, arXiv 2011.03506). The more policies and functions, the fewer such models: here their
dimension is counted, by formula (`bellman_dimension`) and by rank (`bellman_rank`).

MuZero asks for something else: that predictions made by *unrolling* be right, after every sequence of up to K actions
and for one function, the value. Two questions follow, and linear algebra answers both.

1. **The latents are states of the world.** Then K-step equivalence means ``P̂_a u = P_a u`` for every u in
   ``U_{K-1} = span{1, P_w v : |w| < K}`` (`unrolled_dimension`). It implies all orders as soon as U stops growing
   (`closure`), and not one step earlier.
2. **The latents are what they like.** Then the unrolled z_k need not be an encoding of anything, and a model may keep
   a *clock* (`clock_model`): right at depths 1 … K, as wrong as you please at K + 1. Still, n states and m latents
   cannot disagree without disagreeing within ``n + m - 2`` steps (`steps_needed`; Moore 1956, Schützenberger 1961).

A model may also be equivalent after exactly k Bellman steps (order k, Grimm et al. 2021, arXiv 2106.10316) and wrong
after one (`swap_worlds`).

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
    check_gamma,
    check_kind,
    check_list,
    check_positive,
    check_rng,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero.stochastic import check_policy, value

RANK_TOLERANCE = 1e-9  # a direction shorter than this, relative to the longest, counts as none
MAX_SEQUENCES = 1 << 18


# --- Bellman updates (Grimm et al. 2020, 2021) --------------------------------------------------------------------


def bellman(mdp: MDP, policy: ArrayLike, v: ArrayLike, gamma: float, order: int = 1) -> FloatArray:
    """Return ``T_π^k v`` (S,), ``T_π v = Σ_a π(a|s) [R(s, a) + γ Σ_s' P(s'|s, a) v(s')]``, k = ``order``."""
    pi, out = check_policy(policy, mdp), _check_functions(v, mdp)[:, 0]
    gamma = check_gamma(gamma)
    for _ in range(check_count(order, "order")):
        out = (pi * (mdp.R + gamma * mdp.P @ out)).sum(1)
    return out


def order_gap(
    world: MDP, model: MDP, policies: Sequence[ArrayLike], functions: ArrayLike, gamma: float, order: int = 1
) -> float:
    """Return the largest difference of ``T_π^k v`` between world and model: 0 if they are order-k value equivalent.

    ``functions`` (S, F), one a column.
    """
    _check_alike(world, model)
    F = _check_functions(functions, world)
    return max(
        float(np.abs(bellman(world, pi, v, gamma, order) - bellman(model, pi, v, gamma, order)).max())
        for pi in check_list(policies, "policies")
        for v in F.T
    )


def bellman_dimension(
    states: int, actions: int, policies: int, functions: int, *, constant: bool = False
) -> int:
    """Return the dimension of the transition models that are value equivalent, by formula.

    For m policies and k functions in general position (m ≤ A in every state, k ≤ S; rewards known) the rows ``P̂(·|s, a)``
    must satisfy m k equations in each state, and A more to sum to 1. ``constant``: the constant function is in the
    span of the k, which makes m of them superfluous:

        ``dim = S · (A S - A - m k)``,  or  ``S · (A S - A - m (k - 1))`` if constant.

    This is the dimension of the stochastic models as well, where the world's probabilities are above 0: small changes
    then stay stochastic. Without the A equations it is ``S (A S - m k)``.
    """
    S, A = check_count(states, "states"), check_count(actions, "actions")
    m, k = check_count(policies, "policies"), check_count(functions, "functions")
    if m > A or k > S - (not constant):
        raise BookError(
            f"in general position there are at most {A} policies and {S - (not constant)} functions, got {m} and {k}"
        )
    return S * (A * S - A - m * (k - bool(constant)))


def bellman_rank(mdp: MDP, policies: Sequence[ArrayLike], functions: ArrayLike) -> int:
    """Return the same dimension by rank, for any policies and functions, in general position or not.

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


def unrolled_dimension(P: ArrayLike, functions: ArrayLike, unroll_steps: int) -> int:
    """Return the dimension of the models P̂ (S, A, S) on the same states that are right to depth K.

    ``dim = A S (S - dim U_{K-1})``: linear equations, although the predictions are products of K matrices.
    """
    P = _check_transitions(P)
    d = unrolled_span(P, functions, check_count(unroll_steps, "unroll_steps") - 1).shape[1]
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


def equivalent_model(
    mdp: MDP,
    functions: ArrayLike,
    rng: np.random.Generator,
    *,
    unroll_steps: int = 1,
    boldness: float = 0.999,
) -> MDP:
    """Return a random model far from the world that is right to depth K for these functions; rewards are the world's.

    A random direction X is drawn with ``X_a u = 0`` on U_{K-1} and followed until a probability reaches 0, or the share
    ``boldness`` of that way, for each state and action apart. A world with zeros leaves only the directions
    that its zeros allow, which may be none.
    """
    P = check_kind(mdp, MDP, "mdp").P
    check_rng(rng)
    boldness = check_positive(boldness, "boldness")
    if boldness > 1:
        raise BookError(f"boldness is a share of the way, at most 1, got {boldness:g}")
    U = unrolled_span(P, functions, check_count(unroll_steps, "unroll_steps") - 1)  # (S, d)
    model = P.copy()
    for s, a in np.ndindex(*mdp.R.shape):
        live = np.flatnonzero(P[s, a] > 0)
        left = _null(U[live].T)  # directions on the live successors that no function of U notices
        if left.shape[1]:
            x = left @ rng.standard_normal(left.shape[1])
            falling = x < -1e-15
            step = (P[s, a, live][falling] / -x[falling]).min() if falling.any() else 0.0
            model[s, a, live] = np.maximum(P[s, a, live] + boldness * step * x, 0)
    return MDP(np.asarray(model / model.sum(2, keepdims=True), dtype=np.float64), mdp.R)


def wrong_beyond(mdp: MDP, v: ArrayLike, unroll_steps: int, *, size: float = 0.9) -> MDP:
    """Return a model on the same states that is right to depth K and wrong at depth K + 1; rewards are the world's.

    It exists exactly if K is less than the steps of `closure`, and the world's probabilities leave room for it.
    """
    P, K = check_kind(mdp, MDP, "mdp").P, check_count(unroll_steps, "unroll_steps")
    U, bigger = unrolled_span(P, v, K - 1), unrolled_span(P, v, K)
    fresh = bigger - U @ (U.T @ bigger)  # what depth K + 1 asks for and depth K does not
    if fresh.size == 0 or np.abs(fresh).max() < RANK_TOLERANCE:
        raise BookError(
            f"a model right to depth {K} is right at every depth here: closure needs {closure(P, v).steps} steps"
        )
    x = fresh[:, np.abs(fresh).max(0).argmax()]  # orthogonal to U, so that no u of U notices it
    room = np.array([[_room(row, x) for row in rows] for rows in P])  # (S, A)
    if room.max() <= 0:
        raise BookError("the world's zeros leave no room to change a probability: try a world without them")
    changed = P + check_positive(size, "size") * room[:, :, None] * x
    return MDP(np.asarray(changed, dtype=np.float64), mdp.R)


def _room(row: FloatArray, x: FloatArray) -> float:
    """Return how far a row of probabilities can go along x before one of them reaches 0."""
    falling = x < -1e-15
    return float((row[falling] / -x[falling]).min()) if falling.any() else 0.0


def swap_worlds(gamma: float = 0.9) -> tuple[MDP, MDP]:
    """Return a world and a model that are order-2 value equivalent for every function, and wrong after one step.

    World: two states that never change, rewards 1 and 0. Model: they swap at every step. ``P² = P̂² = I``, and with
    ``r̂ = (I + γ P̂)⁻¹ (I + γ P) r`` two Bellman steps are the same whatever they are applied to; one, or three, are not.
    """
    gamma = check_gamma(gamma)
    eye, swap, r = np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 0.0])
    r_hat = np.asarray(np.linalg.solve(eye + gamma * swap, (1 + gamma) * r), dtype=np.float64)
    return MDP(eye[:, None, :], r[:, None]), MDP(swap[:, None, :], r_hat[:, None])


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

    def predict(self, root: int, actions: Sequence[int]) -> FloatArray:
        """Return the outputs (F,) after ``actions`` from observation ``root``."""
        z = self.encoder[root]
        for a in actions:
            z = z @ self.dynamics[a]
        return np.asarray(z @ self.outputs)


def latent_world(mdp: MDP, v: ArrayLike, *, rewards: bool = True) -> Latent:
    """Return the world as a `Latent`: its outputs are v(s) and, with ``rewards``, R(s, ·), as open-loop expectations."""
    F = _check_functions(v, mdp)
    P = mdp.P.transpose(1, 0, 2)
    return Latent(np.eye(len(F)), P, np.column_stack([F, mdp.R]) if rewards else F)


def steps_needed(states: int, latents: int, *, rewards: bool = False) -> int:
    """Return ``n + m - 2``: a model of m latents that is right about n states to this depth is right at every depth.

    With ``rewards`` among the outputs it is n + m - 1, since the reward after the K-th action is read off latent K - 1.

    Stack world and model: a prediction error is ``x · [P_w o ; Q_w ô]`` with ``x = [e_s ; -z_0] ≠ 0``, in n + m dimensions.
    The span of these vectors over all sequences of length ≤ k grows with k by at least one dimension until it stops
    for good, and starts with at least one. While all errors are 0 it lies in the n + m - 1 dimensions orthogonal to x; so
    it stops after at most n + m - 2 lengths, and then all errors are 0 for ever. One state, and m latents in a row
    of which the last one errs, need all of these steps.
    """
    n, m = check_count(states, "states"), check_count(latents, "latents")
    return n + m - 2 + bool(rewards)


def clock_model(world: Latent, unroll_steps: int, *, error: float = 1.0) -> Latent:
    """Return a latent model that is exact at depths 0 … K, and off by ``error`` in every output from K + 1 on.

    Its latents are pairs (how many steps since the encoder, state of the world), K + 2 copies of the world; the last
    copy reads its outputs wrongly. K-step training never visits it.
    """
    K = check_count(unroll_steps, "unroll_steps")
    n, (A, m), F = (
        len(check_kind(world, Latent, "world").encoder),
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
    _check_comparable(world, model)
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


def first_disagreement(world: Latent, model: Latent, *, tolerance: float = 1e-9) -> int | None:
    """Return the smallest depth at which some prediction differs, or nothing if they agree at every depth.

    Exact and fast: the differences of roots are tested against the span of ``[P_w o ; Q_w ô]``, length by length, until
    it stops growing, which takes at most `steps_needed` lengths and not Aᵏ sequences.
    """
    _check_comparable(world, model)
    tolerance = check_positive(tolerance, "tolerance")
    roots = np.column_stack([world.encoder, -model.encoder])
    new = np.vstack([world.outputs, model.outputs])
    n = len(world.outputs)
    basis: FloatArray = np.zeros((len(new), 0))
    for depth in range(n + len(model.outputs)):
        if np.abs(roots @ new).max() > tolerance:
            return depth
        grown = _basis(np.column_stack([basis, new]))
        if grown.shape[1] == basis.shape[1]:
            return None
        fresh = _basis(grown - basis @ (basis.T @ grown))
        basis = grown
        new = np.column_stack(
            [
                np.vstack([world.dynamics[a] @ fresh[:n], model.dynamics[a] @ fresh[n:]])
                for a in range(len(world.dynamics))
            ]
        )
    return None


def consistency_gap(mdp: MDP, model: Latent) -> float:
    """Return ``max |z(s) Q_a - Σ_s' P(s'|s, a) z(s')|``, what a consistency loss drives to 0 (z(s): the encoding of s).

    If it is 0 and the outputs are right at depth 0, they are right at every depth: by induction
    ``z(s) Q_w = Σ P_w(s, s') z(s')``. In a world without chance this is g(h(s), a) = h(s'), the aim of EfficientZero's loss.
    """
    E = check_kind(model, Latent, "model").encoder
    P = check_kind(mdp, MDP, "mdp").P
    if len(E) != len(P) or len(model.dynamics) != P.shape[1]:
        raise BookError("model and world must have the same states and actions")
    return max(float(np.abs(E @ model.dynamics[a] - P[:, a] @ E).max()) for a in range(P.shape[1]))


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


# --- a picture of "wrong about states, right about values" -------------------------------------------------------------------


class Wrongness(NamedTuple):
    """Of a model: largest TV error of a transition; errors of V^b and of the worst of some other policies' values."""

    tv: float
    own_value: float
    other_value: float


def wrongness(
    world: MDP, model: MDP, policy: ArrayLike, others: Sequence[ArrayLike], gamma: float
) -> Wrongness:
    """Return how wrong a model is about states, about the value of ``policy``, and about those of ``others``."""
    _check_alike(world, model)
    tv = 0.5 * np.abs(world.P - model.P).sum(2).max()

    def off(pi: ArrayLike) -> float:
        return float(np.abs(value(world, pi, gamma) - value(model, pi, gamma)).max())

    return Wrongness(float(tv), off(policy), max(off(pi) for pi in check_list(others, "others")))


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


def _null(M: FloatArray) -> FloatArray:
    """Return an orthonormal basis of the x with M x = 0, (columns of M, d)."""
    _, s, vt = np.linalg.svd(M)
    rank = int((s > RANK_TOLERANCE).sum())
    return np.asarray(vt[rank:].T)


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


def _check_alike(world: MDP, model: MDP) -> None:
    if check_kind(world, MDP, "world").R.shape != check_kind(model, MDP, "model").R.shape:
        raise BookError(f"world and model must have the same shape, got {world.R.shape} and {model.R.shape}")


def _check_comparable(world: Latent, model: Latent) -> None:
    check_kind(world, Latent, "world"), check_kind(model, Latent, "model")
    mine, other = ((len(x.encoder), len(x.dynamics), x.outputs.shape[1]) for x in (world, model))
    if mine != other:
        raise BookError(f"observations, actions and outputs must agree, got {mine} and {other}")
