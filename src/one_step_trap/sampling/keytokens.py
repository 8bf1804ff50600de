"""LeCun's (1-e)ⁿ and its critics: exactly, and simulated.

If each token leaves the tree of correct answers with probability e, on its own and for good, an answer of n tokens is
correct with probability (1-e)ⁿ (LeCun 2023, slides of 24 March, New York University). The formula is a theorem. What can
be argued about are its three assumptions, and each critic drops one:

- *for good*: a text may recover (He et al. 2019, arXiv 1905.10617). Then the chance to be right *at* token n tends to
  r/(r+e) and does not vanish (`correct_at`). It is another question: that all n were right still falls as (1-e)ⁿ;
- *each token*: only key tokens matter, 5 to 10% of all (Arbuzov, Shvets & Beir 2025, arXiv 2505.24187). With k of them
  it is (1-e)ᵏ (`key_survival`). At a constant share φ that is still exponential, with φ times the rate; and if the
  *mean* error rate is what was measured, so that key tokens err 1/φ times as often, it is *worse* than LeCun's
  (`concentrated_survival`);
- *on its own*: errors come together. If texts differ in difficulty the fall is a power law (`mixed_survival`); if
  errors come in bursts it is exponential at a slower rate (`bursty_survival`).

A "wrong" token here is one outside the tree, whatever the application takes that to be.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from one_step_trap.core.stats import proportion_interval
from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    check_count,
    check_finite,
    check_positive,
    check_probability,
    check_rng,
)
from one_step_trap.errors import BookError

E, RECOVER, SHARE, SPREAD, BURST = 0.01, 0.1, 0.1, 0.5, 10.0  # the settings of `compare`
MAX_DRAWS = 50_000_000  # tokens simulated at once


def _lengths(n: ArrayLike) -> FloatArray:
    """Return lengths of text as float64: whole numbers of at least 0, any shape."""
    lengths = check_finite(n, "n")
    if (lengths < 0).any() or (lengths != np.round(lengths)).any():
        raise BookError("n must hold whole numbers of at least 0: lengths in tokens")
    return lengths


# --- closed forms -----------------------------------------------------------------------------------------


def survival(e: float, n: ArrayLike) -> FloatArray:
    """Return LeCun's ``(1-e)ⁿ``: the probability that none of n tokens is wrong, errors independent.

    ``e`` in [0, 1] per token, ``n`` lengths, any shape.
    """
    return np.asarray((1 - check_probability(e, "e")) ** _lengths(n))


def correct_at(e: float, recover: float, n: ArrayLike) -> FloatArray:
    """Return the probability to be right *at* token n if a text that is wrong recovers: ``r/(r+e) + e/(r+e) (1-r-e)ⁿ``.

    ``e`` and ``recover`` r in [0, 1] per token; n = 0 is the prompt, which is right. Stationary value r/(r+e); without
    recovery it is (1-e)ⁿ.

    Proof. c_n = (1-e) c_{n-1} + r (1 - c_{n-1}) = r + (1-r-e) c_{n-1}, c_0 = 1; the fixed point is r/(r+e).
    """
    e, r, lengths = check_probability(e, "e"), check_probability(recover, "recover"), _lengths(n)
    if e == 0:
        return np.ones(lengths.shape)
    return np.asarray(r / (r + e) + e / (r + e) * (1.0 - r - e) ** lengths)


def key_survival(e: float, share: float, n: ArrayLike) -> FloatArray:
    """Return ``(1-e)^(φn)``: only a ``share`` φ in [0, 1] of the tokens matters, and these err with probability e.

    φn is rounded to whole tokens. Still exponential in n, with φ times the rate. To escape the exponential the number k of
    key tokens must grow slower than n: with k = c ln n, ``(1-e)ᵏ = n^(c ln(1-e))``, a power law.
    """
    keys = np.round(check_probability(share, "share") * _lengths(n))
    return np.asarray((1 - check_probability(e, "e")) ** keys)


def concentrated_survival(e: float, share: float, n: ArrayLike) -> FloatArray:
    """Return ``(1-e/φ)^(φn)``: the same mean error rate e, all of it on a ``share`` φ of the tokens, e <= φ <= 1.

    Never more than (1-e)ⁿ: to concentrate errors does not help, to have errors that do not matter does. φn is not rounded.

    Proof. ln(1-x) is concave and 0 at x = 0, so that φ ln(1 - e/φ) + (1-φ) ln(1 - 0) <= ln(1 - e).
    """
    e, share = check_probability(e, "e"), check_positive(check_probability(share, "share"), "share")
    if e > share:
        raise BookError(f"share must be at least e = {e:g}: a token errs with probability 1 at most")
    return np.asarray((1 - e / share) ** (share * _lengths(n)))


def mixed_survival(e: float, spread: float, n: ArrayLike) -> FloatArray:
    """Return ``E[(1-ε)ⁿ] = Γ(b+n) Γ(a+b) / (Γ(b) Γ(a+b+n))`` if each text has its own error rate ε ~ Beta(a, b) of mean e.

    ``spread`` a > 0: small where a few texts make most of the errors, large where all texts are alike (then it is (1-e)ⁿ);
    b = a (1-e)/e. ``e`` in (0, 1). For large n it falls as n^(-a), a power law, and it is never less than (1-e)ⁿ.

    Proof. Given ε the errors are independent; the mean of (1-ε)ⁿ under Beta(a, b) is B(a, b+n)/B(a, b). (1-ε)ⁿ is
    convex in ε (Jensen). Γ(b+n)/Γ(a+b+n) ~ n^(-a).
    """
    e, a = check_probability(e, "e"), check_positive(spread, "spread")
    if not 0 < e < 1:
        raise BookError(f"e must lie strictly between 0 and 1, got {e:g}")
    b = a * (1 - e) / e
    return np.asarray(np.exp(special.betaln(a, b + _lengths(n)) - special.betaln(a, b)))


def bursty_survival(e: float, burst: float, n: ArrayLike) -> FloatArray:
    """Return ``(1-e)(1-s)^(n-1)``: wrong tokens come in runs of mean length ``burst`` and make up e of all tokens.

    A run begins after a right token with probability ``s = e / (burst (1-e))``, which must not exceed 1, and goes on with
    probability 1 - 1/burst; burst = 1/(1-e) is independence. ``e`` in [0, 1), ``burst`` >= 1. Exponential, about 1/burst of the
    rate. The first token is wrong with probability e (the stationary law); n = 0 gives 1.

    Proof. In the stationary two-state chain the flows are equal, (1-e) s = e/burst. No error in n tokens: the first is right,
    then n-1 times no run begins.
    """
    e, lengths = check_probability(e, "e"), _lengths(n)
    s = _run_begins(e, burst)
    return np.where(lengths == 0, 1.0, (1 - e) * (1 - s) ** np.maximum(lengths - 1, 0))


def _run_begins(e: float, burst: float) -> float:
    """Return ``s = e / (burst (1-e))``, the probability that a run of errors begins after a right token."""
    if check_positive(burst, "burst") < 1:
        raise BookError(f"burst must be at least 1 token, got {burst:g}")
    if e == 1 or e / (burst * (1 - e)) > 1:
        raise BookError(f"errors at a rate of {e:g} need runs longer than {burst:g} tokens")
    return e / (burst * (1 - e))


# --- simulated --------------------------------------------------------------------------------------------


def _check_draws(texts: int, n: int, rng: np.random.Generator) -> tuple[int, int]:
    texts, n = check_count(texts, "texts"), check_count(n, "n")
    check_rng(rng)
    if texts * n > MAX_DRAWS:
        raise BookError(f"{texts:,} texts of {n:,} tokens do not fit: at most {MAX_DRAWS:,} tokens in all")
    return texts, n


def draw_independent(e: float, texts: int, n: int, rng: np.random.Generator) -> BoolArray:
    """Return which tokens are wrong, (texts, n): each with probability ``e``, on its own."""
    texts, n = _check_draws(texts, n, rng)
    return rng.random((texts, n)) < check_probability(e, "e")


def draw_switching(
    begin: float, end: float, first: float, texts: int, n: int, rng: np.random.Generator
) -> BoolArray:
    """Return which tokens are wrong, (texts, n), of a two-state chain.

    The first token is wrong with probability ``first``, a later one with probability ``begin`` after a right one and 1 -
    ``end`` after a wrong one. Recovery: begin = first = e, end = r. Bursts: begin = s, end = 1/burst, first = e.
    """
    texts, n = _check_draws(texts, n, rng)
    begin, end = check_probability(begin, "begin"), check_probability(end, "end")
    u, wrong = rng.random((texts, n)), np.empty((texts, n), dtype=np.bool_)
    wrong[:, 0] = u[:, 0] < check_probability(first, "first")
    for t in range(1, n):
        wrong[:, t] = u[:, t] < np.where(wrong[:, t - 1], 1 - end, begin)
    return wrong


def draw_keys(e: float, share: float, texts: int, n: int, rng: np.random.Generator) -> BoolArray:
    """Return which *key* tokens are wrong, (texts, n): round(φn) places of each text are key and err with probability ``e``."""
    texts, n = _check_draws(texts, n, rng)
    keys = round(check_probability(share, "share") * n)
    places = rng.random((texts, n)).argsort(axis=1) < keys
    return np.asarray(places & (rng.random((texts, n)) < check_probability(e, "e")))


def draw_mixed(e: float, spread: float, texts: int, n: int, rng: np.random.Generator) -> BoolArray:
    """Return which tokens are wrong, (texts, n): each text has its own error rate, Beta with mean ``e`` (`mixed_survival`)."""
    texts, n = _check_draws(texts, n, rng)
    a = check_positive(spread, "spread")
    e = check_probability(e, "e")
    if not 0 < e < 1:
        raise BookError(f"e must lie strictly between 0 and 1, got {e:g}")
    return rng.random((texts, n)) < rng.beta(a, a * (1 - e) / e, size=(texts, 1))


# --- side by side -----------------------------------------------------------------------------------------


def arguments(e: float = E) -> dict[str, Callable[[FloatArray], FloatArray]]:
    """Return LeCun's curve and its critics' as functions of n, by name, at the same error rate ``e`` per token.

    Recovery at .1 a token; a tenth of the tokens key, with errors elsewhere harmless or none; rates that differ between
    texts (Beta with a = 1/2); errors in runs of ten. All but "right at n" are the probability of no error that counts.
    """
    e = check_probability(e, "e")
    return {
        "LeCun: (1-e)ⁿ": lambda n: survival(e, n),
        "recovers: right at n": lambda n: correct_at(e, RECOVER, n),
        "a tenth is key": lambda n: key_survival(e, SHARE, n),
        "all errors on a tenth": lambda n: concentrated_survival(e, SHARE, n),
        "texts differ": lambda n: mixed_survival(e, SPREAD, n),
        "errors in bursts": lambda n: bursty_survival(e, BURST, n),
    }


def _any(wrong: BoolArray) -> BoolArray:
    """Return which texts hold a wrong token, (texts,)."""
    return np.asarray(wrong.any(axis=1))


def compare(rng: np.random.Generator, *, e: float = E, n: int = 300, texts: int = 10_000) -> pd.DataFrame:
    """Return exact and simulated values at ``n`` tokens, a row an argument of `arguments`.

    Columns: ``argument``, ``exact``, ``simulated`` with its exact 95% interval (``low``, ``high``) over ``texts`` independent
    texts, and ``inside``, whether the exact value lies in it. ``n`` must be a multiple of 10, so that a tenth of it is whole.
    """
    texts, n = _check_draws(texts, n, rng)
    if n % 10:
        raise BookError(
            f"n must be a multiple of 10, so that a tenth of the tokens is a whole number, got {n}"
        )
    s = _run_begins(check_probability(e, "e"), BURST)
    draws: tuple[Callable[[], BoolArray], ...] = (
        lambda: _any(draw_independent(e, texts, n, rng)),
        lambda: draw_switching(e, RECOVER, e, texts, n, rng)[:, -1],
        lambda: _any(draw_keys(e, SHARE, texts, n, rng)),
        lambda: _any(draw_keys(e / SHARE, SHARE, texts, n, rng)),
        lambda: _any(draw_mixed(e, SPREAD, texts, n, rng)),
        lambda: _any(draw_switching(s, 1 / BURST, e, texts, n, rng)),
    )
    rows = []
    for (name, curve), draw in zip(arguments(e).items(), draws, strict=True):
        right = proportion_interval(int((~draw()).sum()), texts)
        value = float(curve(np.array(float(n))))
        rows.append((name, value, right.value, right.low, right.high, right.low <= value <= right.high))
    return pd.DataFrame(rows, columns=["argument", "exact", "simulated", "low", "high", "inside"])
