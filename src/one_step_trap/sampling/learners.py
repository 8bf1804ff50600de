"""Learners of a Markov language: counting with four ideas of what to do where nothing was counted, and a small network.

Each takes counts n (V, V) of pairs and returns its model Q (V, V), rows that sum to 1. They agree where there is data
and differ where there is none, which is what decides how their text ends:

==========  ==============================================  ==============================================
learner     model                                           a context without data
==========  ==============================================  ==============================================
add α       ``(n_ij + α) / (n_i + αV)``                     any token: it returns
backoff     ``(n_ij + τ u_j) / (n_i + τ)``                  a frequent token: it returns at once
copying     ``(n_ij + α + β 1{i=j}) / (n_i + αV + β)``      the same token again: it stays
network     ``softmax(U h(e_i) + b)``                       what training did to unused vectors
==========  ==============================================  ==============================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.validate import (
    FloatArray,
    check_choice,
    check_count,
    check_finite,
    check_flag,
    check_kind,
    check_positive,
    check_probability,
    check_rng,
)
from one_step_trap.errors import BookError

ALPHA = 0.01  # pseudo-counts a token
TAU = 1.0  # weight of the token frequencies in backoff, in counts
COPY = 0.98  # probability that a copying learner repeats a token it knows nothing of: 50 tokens on average


def check_counts(counts: ArrayLike) -> FloatArray:
    """Return counts (V, V) as float64: finite, at least 0, square."""
    n = check_finite(counts, "counts")
    if n.ndim != 2 or n.shape[0] != n.shape[1] or n.shape[0] < 2 or (n < 0).any():
        raise BookError(f"counts must be a square matrix of numbers of at least 0, got shape {n.shape}")
    return n


def add_alpha(counts: ArrayLike, alpha: float = ALPHA) -> FloatArray:
    """Return ``Q_ij = (n_ij + α) / (n_i + αV)``, (V, V): Laplace's rule at α = 1.

    ``counts`` (V, V), ``alpha`` > 0 pseudo-counts for each token. A context seen n_i times keeps αV_0/(n_i + αV) for
    V_0 tokens that never occur: the leak shrinks as 1/n_i. A context without data gives 1/V to every token.
    """
    n, alpha = check_counts(counts), check_positive(alpha, "alpha")
    return np.asarray((n + alpha) / (n.sum(1, keepdims=True) + alpha * len(n)))


def backoff(counts: ArrayLike, tau: float = TAU, alpha: float = ALPHA) -> FloatArray:
    """Return ``Q_ij = (n_ij + τ u_j) / (n_i + τ)`` with the frequencies ``u_j = (n_·j + α) / (N + αV)``, (V, V).

    ``tau`` > 0 in counts (the Dirichlet prior of MacKay & Peto 1995). Unused tokens get τ/(n_i + τ) · αV_0/(N + αV):
    the leak shrinks as 1/N². A context without data gives the frequencies themselves.
    """
    n, tau, alpha = check_counts(counts), check_positive(tau, "tau"), check_positive(alpha, "alpha")
    u = (n.sum(0) + alpha) / (n.sum() + alpha * len(n))
    return np.asarray((n + tau * u) / (n.sum(1, keepdims=True) + tau))


def copying(counts: ArrayLike, copy: float = COPY, alpha: float = ALPHA) -> FloatArray:
    """Return ``Q_ij = (n_ij + α + β 1{i=j}) / (n_i + αV + β)`` with ``β = αV copy/(1 - copy)``, (V, V).

    A learner that takes a context it does not know to repeat itself: with probability ``copy`` in [0, 1), plus a
    little. It stays on such a token for 1/(1 - copy) tokens on average. ``copy`` = 0 is `add_alpha`.
    """
    n, alpha, copy = check_counts(counts), check_positive(alpha, "alpha"), check_probability(copy, "copy")
    if copy == 1:
        raise BookError("copy must be below 1: a token that only repeats itself is never left")
    beta = alpha * len(n) * copy / (1 - copy)
    return np.asarray((n + alpha + beta * np.eye(len(n))) / (n.sum(1, keepdims=True) + alpha * len(n) + beta))


# --- a small trained one ----------------------------------------------------------------------------------

BODIES = ("none", "layer", "residual")


@dataclass(frozen=True)
class Network:
    """How a network ``softmax(U h(e_i) + b)`` is trained: Adam on the mean log-loss of all pairs, full batch.

    ``rank`` numbers a token in its input vector e_i and in its output vector U_j; ``tied``: one vector serves as both, as in
    many language models. ``body``: h(e) = e ("none"), tanh(We) ("layer") or e + tanh(We) ("residual", as in a transformer).
    ``spread`` is the standard deviation of the initial entries.
    """

    rank: int = 16
    tied: bool = False
    body: str = "none"
    spread: float = 1.0
    steps: int = 150
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        for name in ("rank", "steps"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        object.__setattr__(self, "tied", check_flag(self.tied, "tied"))
        check_choice(self.body, BODIES, "body")
        for name in ("spread", "learning_rate"):
            object.__setattr__(self, name, check_positive(getattr(self, name), name))


def softmax(logits: FloatArray) -> FloatArray:
    """Return ``exp(z_j) / Σ_k exp(z_k)`` along the last axis."""
    weights = logits - logits.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights)


@dataclass(frozen=True)
class Weights:
    """The weights of a network with the ``body`` of `Network`.

    Input vectors ``E`` (V, rank), output vectors ``U`` (V, rank; the same array as E if tied), bias ``b`` (V,) and, unless
    the body is "none", ``W`` (rank, rank).
    """

    E: FloatArray
    U: FloatArray
    b: FloatArray
    W: FloatArray
    body: str

    def hidden(self) -> tuple[FloatArray, FloatArray]:
        """Return ``h`` and its nonlinear part ``a = tanh(W e)``, both (V, rank)."""
        if self.body == "none":
            return self.E, np.zeros_like(self.E)
        a = np.tanh(self.E @ self.W)
        return (a if self.body == "layer" else self.E + a), a

    @property
    def model(self) -> FloatArray:
        """The model ``Q_i = softmax(U h(e_i) + b)``, (V, V)."""
        return softmax(self.hidden()[0] @ self.U.T + self.b)


def gradients(weights: Weights, counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the gradients of `Weights.log_loss` in E as input, in U as output, in b and in W.

    With ``G_ij = (n_i q_ij - n_ij)/N`` they are, for the body "none", ``G U``, ``Gᵀ E`` and ``Σ_i G_i``. A context without data
    has G_i = 0: its input vector is never trained. ``counts`` n (V, V).
    """
    h, a = weights.hidden()
    n_i = counts.sum(1, keepdims=True)
    G = softmax(h @ weights.U.T + weights.b)  # (V, V), in place from here on: three quarters of the time
    G *= n_i / n_i.sum()
    G -= counts / n_i.sum()
    dh = G @ weights.U  # (V, rank)
    dz = dh * (1 - a * a)  # before the tanh
    dW = weights.E.T @ dz
    dE = {"none": dh, "layer": dz @ weights.W.T, "residual": dh + dz @ weights.W.T}[weights.body]
    return dE, G.T @ h, G.sum(0), dW


def train_weights(counts: ArrayLike, rng: np.random.Generator, settings: Network | None = None) -> Weights:
    """Return the weights of a network trained on ``counts`` (V, V); ``rng`` draws the initial ones.

    What happens to a token that never occurs: as an input it is never trained; as an output it is pushed away from
    every context (``dU_j = Σ_i n_i q_ij h_i / N``), and all such tokens are pushed the same way, into a narrow cone (Gao et al.
    2019, arXiv 1907.12009). With tied weights the inputs lie in that cone too. Where the input reaches the output directly
    (bodies "none" and "residual") unused tokens then predict each other: a region without a way out that no
    data ever showed. With a layer and no path around it this depends on the initial weights.
    """
    n, settings = check_counts(counts), check_kind(settings or Network(), Network, "settings")
    if n.sum() == 0:
        raise BookError("counts are all 0: there is nothing to train on")
    shape, check = (len(n), settings.rank), check_rng(rng)
    vectors = [check.normal(0, settings.spread, shape) for _ in range(1 if settings.tied else 2)]
    b, W = np.zeros(len(n)), np.zeros((settings.rank, settings.rank))
    if settings.body != "none":
        W = rng.normal(0, 1 / np.sqrt(settings.rank), W.shape)
    weights = Weights(vectors[0], vectors[-1], b, W, settings.body)  # arrays updated in place
    parameters = [*vectors, b, *([W] if settings.body != "none" else [])]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
    for step in range(1, settings.steps + 1):
        dE, dU, db, dW = gradients(weights, n)
        slopes = [dE + dU, db, dW] if settings.tied else [dE, dU, db, dW]
        for p, g, (m, v) in zip(parameters, slopes, moments, strict=False):  # without a body, W has no place
            m += 0.1 * (g - m)  # Adam (Kingma & Ba 2015) with β₁ = .9, β₂ = .999
            v += 0.001 * (g * g - v)
            p -= settings.learning_rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return weights


def train_network(counts: ArrayLike, rng: np.random.Generator, settings: Network | None = None) -> FloatArray:
    """Return the model Q (V, V) of a network trained on ``counts`` (V, V); ``rng`` draws the initial weights."""
    return train_weights(counts, rng, settings).model
