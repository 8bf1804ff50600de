"""Languages whose truth is known: Markov chains over tokens, with and without places where text never goes.

The next token depends on the last one alone, ``Pr(x_t = j | x_{t-1} = i) = P[i, j]``, so that everything this chapter
wants to know of a language model (how far is its text from human text, at which position, why) is a sum of finitely
many terms. Four languages, from harmless to treacherous:

- `ergodic`: every token may follow every other, and the start is forgotten within a few tokens;
- `topics`: the same with two topics and a rare change between them, forgotten within about a hundred tokens;
- `off_support`: a fifth of the vocabulary is never used. What a learner does there, no data decides;
- `two_books`: a corpus of two books. A text never changes from one to the other, but a learner might.

Tokens have Zipf frequencies. Each language is drawn at random, rows and all, from a generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.tabular import stationary
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_at_least_zero,
    check_count,
    check_finite,
    check_kind,
    check_positions,
    check_positive,
    check_probability,
    check_rng,
    check_transition_matrix,
)
from one_step_trap.errors import BookError

TOKENS, UNUSED = 200, 50  # the vocabulary, and how much of it `off_support` never uses
ZIPF = 1.0  # exponent of the token frequencies
PEAKED = 50.0  # concentration of a row about the frequencies: smaller is more predictable
FLOOR = 0.05  # share of each row that is the frequencies themselves, so that no entry is 0


@dataclass(frozen=True)
class Language:
    """A Markov language: transition matrix ``P`` (V, V), law ``start`` (V,) of the last token of a prompt.

    ``corpus`` (V,): how often a token is the context of a training pair (the same as ``start`` unless the training
    text has more in it than this kind of prompt). ``regions`` (V,): 0 for the part of the vocabulary that is home
    for the truth, 1 for the other part (another topic, tokens never used, the other book); all 0 if there is none.
    """

    name: str
    P: FloatArray
    start: FloatArray
    corpus: FloatArray
    regions: IntArray

    def __post_init__(self) -> None:
        P = check_transition_matrix(self.P, "P")
        if P.ndim != 2:
            raise BookError(f"P must be one matrix of shape (tokens, tokens), got shape {P.shape}")
        object.__setattr__(self, "P", P)
        for name in ("start", "corpus"):
            object.__setattr__(self, name, check_distribution(getattr(self, name), len(P), name))
        regions = check_positions(self.regions, "regions", below=2, shape=(len(P),))
        object.__setattr__(self, "regions", regions.astype(np.int64))

    @property
    def tokens(self) -> int:
        """Size V of the vocabulary."""
        return len(self.P)


def check_distribution(p: ArrayLike, tokens: int, name: str) -> FloatArray:
    """Return ``p`` (tokens,) as float64: entries of at least 0 that sum to 1."""
    result = check_finite(p, name)
    if result.shape != (tokens,) or (result < 0).any() or abs(result.sum() - 1) > 1e-8:
        raise BookError(f"{name} must be a distribution over {tokens} tokens: entries >= 0 that sum to 1")
    return result


def check_language(language: object) -> Language:
    """Return ``language`` if it is one."""
    return check_kind(language, Language, "language", made_by="ergodic, topics, off_support or two_books")


def zipf(tokens: int, exponent: float = ZIPF) -> FloatArray:
    """Return Zipf's frequencies ``z_k ∝ 1/k^s`` of ranks k = 1 … ``tokens``, (tokens,); s = 0 is uniform."""
    ranks = np.arange(1, check_count(tokens, "tokens") + 1, dtype=np.float64)
    weights = ranks ** -check_at_least_zero(exponent, "exponent")
    return np.asarray(weights / weights.sum())


def _rows(frequencies: FloatArray, rows: int, peaked: float, rng: np.random.Generator) -> FloatArray:
    """Return rows (rows, V) ``(1-m) Dirichlet(c z) + m z`` about the frequencies z: each mean is z."""
    draws = rng.dirichlet(check_positive(peaked, "peaked") * frequencies, size=rows)
    return np.asarray((1 - FLOOR) * draws + FLOOR * frequencies)


def ergodic(rng: np.random.Generator, *, tokens: int = TOKENS, peaked: float = PEAKED) -> Language:
    """Return a language in which every token may follow every other: ``P[i] = .95 Dirichlet(c z) + .05 z``.

    ``tokens`` V >= 2; ``peaked`` c > 0, the smaller the more predictable a row. Any two rows share at least 5%, so
    that Dobrushin's coefficient is at most .95, and in truth much less. Prompts end in a token of the stationary law.
    """
    tokens = check_count(tokens, "tokens", minimum=2)
    P = _rows(zipf(tokens), tokens, peaked, check_rng(rng))
    pi = stationary(P)
    return Language("ergodic", P, pi, pi, np.zeros(tokens, np.int64))


def topics(
    rng: np.random.Generator, *, tokens: int = TOKENS, change: float = 0.01, peaked: float = PEAKED
) -> Language:
    """Return a language of two topics of ``tokens``/2 tokens each that change with probability ``change`` a token.

    ``change`` in (0, 1/2]. Still ergodic; but the topic is remembered for about 1/(2 ``change``) tokens, which is
    as long as an error in it can grow. Prompts end in a token of the stationary law.
    """
    half = check_count(tokens, "tokens", minimum=4) // 2
    change = check_probability(change, "change")
    if not 0 < change <= 0.5:
        raise BookError(f"change must lie in (0, 1/2], got {change:g}")
    check_rng(rng)
    z = zipf(half)
    blocks = [[_rows(z, half, peaked, rng) for _ in range(2)] for _ in range(2)]
    stay = [[1 - change, change], [change, 1 - change]]
    P = np.block([[stay[i][j] * blocks[i][j] for j in range(2)] for i in range(2)])
    pi = stationary(P)
    return Language("topics", P, pi, pi, np.repeat([0, 1], half))


def off_support(
    rng: np.random.Generator, *, tokens: int = TOKENS, unused: int = UNUSED, peaked: float = PEAKED
) -> Language:
    """Return an ergodic language that never uses the last ``unused`` of its ``tokens`` tokens.

    After an unused token a human would begin anew: its row is the stationary law π. Nothing but the error
    that is counted there depends on this row, because neither text nor data ever gets there.
    """
    tokens = check_count(tokens, "tokens", minimum=3)
    unused = check_count(unused, "unused")
    if unused > tokens - 2:
        raise BookError(f"unused must leave at least 2 of the {tokens} tokens in use, got {unused}")
    used = tokens - unused
    home = ergodic(rng, tokens=used, peaked=peaked)
    pi = np.pad(home.start, (0, unused))
    P = np.tile(pi, (tokens, 1))
    P[:used, :used] = home.P
    return Language("off-support", P, pi, pi, np.repeat([0, 1], [used, unused]))


def two_books(
    rng: np.random.Generator,
    *,
    tokens: int = TOKENS,
    other: int = UNUSED,
    share: float = 0.2,
    peaked: float = PEAKED,
) -> Language:
    """Return a corpus of two books with no word in common; a text stays in its book for good.

    The second book has ``other`` tokens, equally frequent, and ``share`` in (0, 1) of the training pairs. Prompts come from
    the first book, whose readers never meet the second.
    """
    tokens = check_count(tokens, "tokens", minimum=4)
    other = check_count(other, "other", minimum=2)
    if other > tokens - 2:
        raise BookError(f"other must leave at least 2 of the {tokens} tokens to the first book, got {other}")
    share = check_probability(share, "share")
    if not 0 < share < 1:
        raise BookError(f"share must lie strictly between 0 and 1, got {share:g}")
    first = ergodic(rng, tokens=tokens - other, peaked=peaked)
    Q = _rows(zipf(other, 0), other, peaked, rng)
    P = np.zeros((tokens, tokens))
    P[:-other, :-other], P[-other:, -other:] = first.P, Q
    start = np.pad(first.start, (0, other))
    corpus = (1 - share) * start + share * np.pad(stationary(Q), (tokens - other, 0))
    return Language("two books", P, start, corpus, np.repeat([0, 1], [tokens - other, other]))


# --- data -------------------------------------------------------------------------------------------------


def sample_pairs(language: Language, pairs: int, rng: np.random.Generator) -> IntArray:
    """Return counts (V, V) of ``pairs`` independent pairs (context, next token): contexts from ``corpus``, next from P.

    What a Markov learner needs of a text is how often j follows i. In one long text these counts have the same
    mean, and a variance that differs by what the chain remembers.
    """
    check_language(language)
    pairs = check_count(pairs, "pairs", minimum=0)
    contexts = check_rng(rng).multinomial(pairs, language.corpus / language.corpus.sum())  # (V,)
    rows = language.P / language.P.sum(axis=1, keepdims=True)
    return np.asarray(rng.multinomial(contexts, rows), dtype=np.int64)


def entropy(p: ArrayLike) -> FloatArray:
    """Return ``H(p) = -Σ p ln p`` in nats along the last axis, with 0 ln 0 = 0."""
    law = check_finite(p, "p")
    if law.ndim == 0 or (law < 0).any():
        raise BookError("p must hold probabilities along its last axis")
    return np.asarray(-np.where(law > 0, law * np.log(np.where(law > 0, law, 1)), 0).sum(axis=-1))
