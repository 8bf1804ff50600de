"""Exposure bias on languages whose truth is known: what of the drift is compounding of one-step error, exactly.

A learner's model Q of a Markov language P reads a prompt's last token x_0, drawn from the truth's law p_0, and goes on
alone: token t has the law ``q_t = p_0 Qᵗ`` where human text has ``p_t = p_0 Pᵗ``. All laws are propagated, nothing is
sampled. Divergences are in nats, truth first, ``KL(p‖q) = Σ p ln(p/q)``; TV is half of the L1 distance.

**Which divergence compounds?** With ``d(s) = KL(P(s)‖Q(s))``, the error of one step after token s, and
``ε = Σ_s p(s) d(s)``, the excess log-loss that teacher forcing sees:

- the *sequence* of n tokens: ``KL = Σ_{t<n} p_t · d``, which is nε exactly, whatever the model does (`Exposure.sequence_kl`);
- the *token* at position t: anything from 0 to tε, and this is the curve that theories disagree about (`Exposure.kl`);
- a *window* of k tokens from t on: the token's plus (k-1)ε, by the chain rule: no new information;
- the *error on the model's own text*, ``Σ_{t<T} q_t · d``: the regret whose excess Arora et al. 2022 measure
  (`Exposure.excess`).

**What decides** is not the error but the way back: if the model leaves a region at rate λ and returns at rate ρ per
token, the share of its text there is ``λ/(λ+ρ) (1 - (1-λ-ρ)ᵗ)``, and both rates can be read off one step
(`predict`). The study over languages, learners and sizes of data is in :mod:`one_step_trap.sampling.exposure_study`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.tabular import (
    kl_divergence,
    total_variation,
)
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_transition_matrix,
)
from one_step_trap.errors import BookError
from one_step_trap.sampling.languages import Language, check_language, entropy

STEPS = 1_024
BLOCK = 32  # positions propagated by one matrix product

# --- propagation ------------------------------------------------------------------------------------------


def propagate(start: FloatArray, P: FloatArray, steps: int) -> FloatArray:
    """Return the laws ``p_t = p_0 Pᵗ`` of positions t = 0 … ``steps``, (steps + 1, V).

    ``start`` p_0 (V,), ``P`` (V, V). Blocks of 32 rows are multiplied by P³²: a tenth of the time of one row after the other.
    """
    steps = check_count(steps, "steps")
    laws = np.empty((steps + 1, len(P)))
    laws[0], done, power = start, 1, P
    while done <= steps:
        take = min(done, BLOCK, steps + 1 - done)
        laws[done : done + take] = laws[done - min(done, BLOCK) : done - min(done, BLOCK) + take] @ power
        if done < BLOCK:
            power = power @ power
        done += take
    return np.asarray(laws / laws.sum(axis=1, keepdims=True))


def positions(steps: int = STEPS) -> IntArray:
    """Return the positions 1, 2, 3, 4, 6, 8, 12, … up to ``steps`` at which divergences are computed."""
    steps = check_count(steps, "steps")
    grid = {1, steps} | {round(2**k * f) for k in range(int(math.log2(steps)) + 1) for f in (1, 1.5)}
    return np.array(sorted(t for t in grid if 1 <= t <= steps), dtype=np.int64)


# --- measures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exposure:
    """What a model's own text does, position by position, against human text after the same prompt.

    At the positions ``grid`` (K,): ``kl`` = KL(p_t‖q_t) in nats and ``tv``, each (K,). At the steps t = 1 … T, each (T,):
    ``entropy_own`` and ``entropy_human``, the expected entropy in nats of Q's next-token law before token t is drawn, on
    the model's text (q_{t-1}) and on human text (p_{t-1}); ``error_own`` and ``error_human``, the expected one-step error
    d(s) = KL(P(s)‖Q(s)) in nats on both. ``share`` (T + 1,): the model's probability of being in region 1. ``d`` (V,).
    """

    grid: IntArray
    kl: FloatArray
    tv: FloatArray
    entropy_own: FloatArray
    entropy_human: FloatArray
    error_own: FloatArray
    error_human: FloatArray
    share: FloatArray
    d: FloatArray

    @property
    def steps(self) -> int:
        """Number T of tokens written."""
        return len(self.error_own)

    @property
    def drift(self) -> float:
        """KL(p_T‖q_T) / KL(p_1‖q_1): above 1 if the last token is worse than the first."""
        return float(self.kl[-1] / self.kl[0])

    @property
    def sequence_kl(self) -> FloatArray:
        """``KL(P(x_1…x_n) ‖ Q(x_1…x_n)) = Σ_{t<n} Σ_s p_t(s) KL(P(s)‖Q(s))`` for n = 1 … T, (T,), in nats.

        Proof. ln P(x)/Q(x) is a sum over positions (chain rule). Its expectation under P takes each context from P. So
        it is n times the mean one-step error *on human text*: exactly linear if human text is stationary, no matter
        what the model does on its own text.
        """
        return np.cumsum(self.error_human)

    @property
    def regret(self) -> FloatArray:
        """``R(l) = Σ_{t<l} Σ_s q_t(s) KL(P(s)‖Q(s))`` for l = 1 … T, (T,): the one-step errors on the model's own text."""
        return np.cumsum(self.error_own)

    @property
    def accumulated(self) -> FloatArray:
        """``AccErr_{≤l} = R(l)/ε_{≤l}`` with ``ε_{≤l} = (1/l) Σ_{t<l} p_t · d``, (T,), in tokens (Arora et al. 2022).

        l if the model errs on its own text as it does on human text. Not defined (0/0) for a model without error,
        where it is given as l.
        """
        lengths = np.arange(1, self.steps + 1)
        mean = self.sequence_kl / lengths
        return np.where(mean > 0, self.regret / np.where(mean > 0, mean, 1), lengths)

    @property
    def excess(self) -> FloatArray:
        """``%ExAccErr_{≤l} = 100 (AccErr_{≤l} - l)/l``, (T,), in percent: negative where own text is easier."""
        lengths = np.arange(1, self.steps + 1)
        return np.asarray(100 * (self.accumulated / lengths - 1))


def expose(language: Language, Q: ArrayLike, steps: int = STEPS) -> Exposure:
    """Return the exact `Exposure` of the model ``Q`` (V, V) of a ``language`` over ``steps`` tokens."""
    check_language(language)
    model = check_model(Q, language)
    human = _human(language, steps)
    own = propagate(language.start, model, steps)  # (T + 1, V)
    grid = positions(steps)
    p, q = human[grid], own[grid]
    d = one_step_error(language, model)
    H = entropy(model)
    region = language.regions == 1
    return Exposure(
        grid=grid,
        kl=kl_divergence(p, q),
        tv=total_variation(p, q),
        entropy_own=own[:-1] @ H,
        entropy_human=human[:-1] @ H,
        error_own=own[:-1] @ d,
        error_human=human[:-1] @ d,
        share=own[:, region].sum(axis=1),
        d=d,
    )


def _human(language: Language, steps: int) -> FloatArray:
    """Return p_0 … p_T (steps + 1, V); a stationary start needs no product."""
    p = language.start
    if np.abs(p @ language.P - p).sum() < 1e-13:
        return np.broadcast_to(p, (check_count(steps, "steps") + 1, len(p)))
    return propagate(p, language.P, steps)


def check_model(Q: ArrayLike, language: Language) -> FloatArray:
    """Return the model ``Q`` (V, V) of a language: stochastic, and positive wherever human text goes."""
    model = check_transition_matrix(Q, "Q")
    if model.shape != language.P.shape:
        raise BookError(f"Q must have shape {language.P.shape}, as the language has, got {model.shape}")
    if (model[language.P > 0] <= 0).any():
        raise BookError("Q must give every step of the language a probability above 0: else KL is infinite")
    return model


def one_step_error(language: Language, Q: ArrayLike) -> FloatArray:
    """Return ``d(s) = KL(P(s)‖Q(s))``, (V,), in nats: the excess log-loss of one step after each token."""
    model = check_model(Q, check_language(language))
    return kl_divergence(language.P, model)


# --- agreement -----------------------------------------------------------------------------------------------


def agreement(language: Language, Q: ArrayLike, steps: int = STEPS) -> FloatArray:
    """Return the probability that model and human, coupled token by token as closely as can be, wrote the same n tokens.

    n = 0 … ``steps``, (steps + 1,). While both agree they stand after the same token i, and write the same next one with
    probability at most ``Σ_j min(P_ij, Q_ij) = 1 - TV(P_i, Q_i)``: LeCun's 1 - e, exactly. It falls exponentially in
    every language, harmless ones too, whether or not the text gets any worse: two human writers do not
    agree on n tokens either (`coincidence`). A lower bound of ``1 - TV`` of the laws of whole sequences.
    """
    model = check_model(Q, check_language(language))
    return _mass(language.start, np.minimum(language.P, model), steps)


def coincidence(language: Language, steps: int = STEPS) -> FloatArray:
    """Return the probability that two human writers, each on their own, write the same n tokens: ``Σ_j P_ij²`` a token.

    n = 0 … ``steps``, (steps + 1,).
    """
    return _mass(check_language(language).start, language.P**2, steps)


def _mass(start: FloatArray, M: FloatArray, steps: int) -> FloatArray:
    """Return what is left of the mass 1 after n = 0 … steps products with a matrix whose rows sum to at most 1."""
    v, left = start, [1.0]
    for _ in range(check_count(steps, "steps")):
        v = v @ M
        left.append(float(v.sum()))
    return np.array(left)


# --- theory: two regions ----------------------------------------------------------------------------------


class Rates(NamedTuple):
    """One-step quantities of a model: ``leave`` λ and ``back`` ρ, probabilities a token to leave region 0 and to return.

    ``entropy_home`` and ``entropy_away``: expected entropy in nats of the next token in region 0 and in region 1.
    """

    leave: float
    back: float
    entropy_home: float
    entropy_away: float


def rates(language: Language, Q: ArrayLike) -> Rates:
    """Return the rates λ and ρ of a model between the regions of a language.

    ``λ = Σ_{i in 0} w(i) Q(i, region 1)`` with human frequencies w inside region 0; ρ likewise inside region 1, with
    the frequencies of the training data, and all tokens alike where there is no data. A language of one region
    has λ = 0 and, by convention, ρ = 1.
    """
    model, away = check_model(Q, check_language(language)), language.regions == 1
    H = entropy(model)
    home_law = np.where(away, 0, language.start)
    if home_law.sum() == 0:
        raise BookError("start must have mass in region 0, which is home for the truth")
    home_law = home_law / home_law.sum()
    if not away.any():
        return Rates(0.0, 1.0, float(home_law @ H), math.nan)
    away_law = np.where(away, language.corpus, 0)
    away_law = away_law / away_law.sum() if away_law.sum() > 0 else away / away.sum()
    leave = float(home_law @ model[:, away].sum(axis=1))
    back = float(away_law @ model[:, ~away].sum(axis=1))
    return Rates(leave, back, float(home_law @ H), float(away_law @ H))


def two_region_share(leave: float, back: float, start: float, t: ArrayLike) -> FloatArray:
    """Return ``m_t = m_∞ + (m_0 - m_∞)(1-λ-ρ)ᵗ`` with ``m_∞ = λ/(λ+ρ)``: the probability to be away after t steps.

    ``leave`` λ, ``back`` ρ and ``start`` m_0 in [0, 1]; ``t`` whole numbers of at least 0, any shape. Without any
    movement (λ = ρ = 0) it stays m_0. Proof: m_{t+1} = λ + (1-λ-ρ) m_t, whose fixed point is m_∞.
    """
    steps = check_finite(t, "t")
    if (steps < 0).any() or (steps != np.round(steps)).any():
        raise BookError("t must hold whole numbers of at least 0")
    if leave + back == 0:
        return np.full(steps.shape, start)
    limit = leave / (leave + back)
    return np.asarray(limit + (start - limit) * (1.0 - leave - back) ** steps)


class Prediction(NamedTuple):
    """What one-step quantities say of position t: ``kl`` and ``entropy`` of token t in nats, ``share`` in region 1."""

    kl: FloatArray
    share: FloatArray
    entropy: FloatArray


def predict(language: Language, Q: ArrayLike, t: ArrayLike) -> Prediction:
    """Return the two-region prediction of KL(p_t‖q_t), share and entropy at the positions ``t`` (K,), each at least 1.

    Exact is the chain rule over regions, ``KL(p_t‖q_t) = kl(w, m_t) + Σ_r w_r KL(p_t(·|r)‖q_t(·|r))``, with w and m_t
    the shares of region 1 in human and in model text and kl the divergence of two coins. The theory's two assumptions:
    m_t follows `two_region_share` with the rates of the first step, and the second term, the error inside
    regions, stays what it is at t = 1. Human text is taken as stationary. With one region the prediction is KL(p_1‖q_1) at
    every t. Where the tokens of region 1 return at unlike rates, text waits longest where the way back is slowest,
    and the mean rate foretells too little drift.
    """
    model, steps = check_model(Q, check_language(language)), check_finite(t, "t")
    if (steps < 1).any():
        raise BookError("t must be at least 1: at t = 0 both texts are the prompt")
    rate, away = rates(language, model), language.regions == 1
    p1, q1 = language.start @ language.P, language.start @ model
    w, first = float(p1[away].sum()), float(q1[away].sum())
    inside = float(kl_divergence(p1, q1) - _coin_kl(w, np.array(first)))
    share = two_region_share(rate.leave, rate.back, float(language.start[away].sum()), steps)
    before = two_region_share(rate.leave, rate.back, float(language.start[away].sum()), steps - 1)
    blend = before * (rate.entropy_away - rate.entropy_home) if away.any() else 0 * before
    return Prediction(inside + _coin_kl(w, share), share, rate.entropy_home + blend)


def _coin_kl(w: float, m: FloatArray) -> FloatArray:
    """Return ``kl(w, m) = w ln(w/m) + (1-w) ln((1-w)/(1-m))`` of coins, w one number, m any shape."""
    m = np.asarray(m, dtype=np.float64)
    w = min(max(w, 0.0), 1.0)
    both = np.stack([np.clip(m, 0, 1), 1 - np.clip(m, 0, 1)], axis=-1)
    return kl_divergence(np.broadcast_to([w, 1 - w], both.shape), both)
