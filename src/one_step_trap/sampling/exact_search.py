"""The likeliest text of all, found exactly, and why one does not want it.

A *grammar* here is a machine with S states that writes texts: in state s the next word is w with probability
P[s, w], or the text ends with probability P[s, V]; the word then leads to state moves[s, w]. Markov chains and
n-grams are such machines. On them the mode, the likeliest text of all, can be computed without a search: with costs
-ln P it is a shortest path.

**What a mode looks like.** Let y be a text that passes through a state twice. Without the part in between it is again
a text, and likelier, since only factors below 1 are gone. So:

1. *The mode never enters a state twice.* It has fewer than S words, however long texts are on average. In a Markov
   language it uses no word twice.
2. *Where no state is likelier to end than the first one, the mode is the empty text*, for every mean length:
   p(y) is at most its last factor, P[s, V] <= P[0, V]. Independent words with a constant chance to end are such a case.
3. *In general the empty text is the mode iff P[0, V] >= max_w P[0, w] M(moves[0, w])*, where M(s) is the probability
   of the best completion from s (`mode`). The right-hand side falls exponentially with the length of the
   shortest texts; the left-hand side, where no true text is empty, is what smoothing or a wrong structure puts there.
   With labels smoothed by ε it is ε/(V+1) at *any* amount of data, since (1-ε)p + ε/(V+1) is what minimises the
   smoothed loss.
4. *Where the length n is forced, the mode becomes a loop*: max log p(y_1 … y_n)/n -> λ*, the largest mean of ln P
   over the cycles of the machine (Karp 1978): a text of n words is loops and a path of fewer than S words, so that
   log p <= (n-S+1) λ*, and going round the best loop comes within a constant of n λ*. Typical texts have -h per word,
   the entropy rate, and λ* >= -h: the mode is atypical, by √n standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from one_step_trap.core.stats import proportion_interval
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_kind,
    check_list,
    check_positive,
    check_probability,
)
from one_step_trap.errors import BookError

# --- grammars ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Grammar:
    """A machine that writes texts: ``P`` (S, V+1) and ``moves`` (S, V); it starts in state 0.

    P[s, w]: probability of word w in state s; P[s, V]: that the text ends there. moves[s, w]: the state after w.
    """

    P: FloatArray
    moves: IntArray

    def __post_init__(self) -> None:
        P, moves = check_finite(self.P, "P"), check_finite(self.moves, "moves")
        if P.ndim != 2 or P.shape[0] < 1 or P.shape[1] < 2 or (P < 0).any():
            raise BookError(f"P must be probabilities of shape (states, words + 1), got shape {P.shape}")
        if np.abs(P.sum(1) - 1).max() > 1e-8:
            raise BookError(f"every row of P must sum to 1; row {np.abs(P.sum(1) - 1).argmax()} does not")
        whole = moves.astype(np.int64)
        if moves.shape != (P.shape[0], P.shape[1] - 1) or (whole != moves).any():
            raise BookError(
                f"moves must be states of shape {(P.shape[0], P.shape[1] - 1)}, got {moves.shape}"
            )
        if whole.min() < 0 or whole.max() >= len(P):
            raise BookError(f"moves must lie in 0 … {len(P) - 1}")
        object.__setattr__(self, "P", P)
        object.__setattr__(self, "moves", whole)

    @property
    def states(self) -> int:
        """The number S of states."""
        return len(self.P)

    @property
    def words(self) -> int:
        """The number V of words."""
        return int(self.moves.shape[1])

    @property
    def log_P(self) -> FloatArray:
        """ln P, (S, V+1); -∞ where the probability is 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.P))


def markov_grammar(start: ArrayLike, P: ArrayLike) -> Grammar:
    """Return the Markov language with first-word probabilities ``start`` (V+1,) and rows ``P`` (V, V+1).

    The last column is the end of the text. State 0 is the start, state w+1 the one after word w.
    """
    first, rows = check_finite(start, "start"), check_finite(P, "P")
    if first.ndim != 1 or rows.shape != (len(first) - 1, len(first)):
        raise BookError(
            f"start must have V+1 entries and P the shape (V, V+1), got {first.shape} and {rows.shape}"
        )
    V = len(first) - 1
    return Grammar(np.vstack([first, rows]), np.tile(np.arange(V) + 1, (V + 1, 1)))


def endless_grammar(start: ArrayLike, P: ArrayLike) -> Grammar:
    """Return the Markov language with first-word probabilities ``start`` (V,) and rows ``P`` (V, V) that never ends."""
    first, rows = check_finite(start, "start"), check_finite(P, "P")
    if first.ndim != 1 or rows.shape != (len(first), len(first)):
        raise BookError(
            f"start must have V entries and P the shape (V, V), got {first.shape} and {rows.shape}"
        )
    return markov_grammar(np.append(first, 0.0), np.column_stack([rows, np.zeros(len(rows))]))


def random_grammar(
    words: int, shortest: int, end: float, rng: np.random.Generator, *, concentration: float = 0.3
) -> Grammar:
    """Return a random language whose texts have at least ``shortest`` words.

    A Markov chain over ``words`` words with rows from Dirichlet(``concentration``, …); after ``shortest`` words the
    text ends with chance ``end`` before each further word. Its states are (words so far, at most ``shortest``; last
    word): state 0 is the start, state 1 + (t-1)V + w comes after word w at position t. The mean length is
    ``shortest`` + 1/``end`` - 1.
    """
    V, m, e = words, shortest, end
    alpha = np.full(V, concentration)
    start, chain = rng.dirichlet(alpha), rng.dirichlet(alpha, size=V)  # (V,), (V, V)
    P = np.zeros((1 + m * V, V + 1))
    P[0, :-1] = start
    P[1:, :-1] = np.tile(chain, (m, 1))
    P[1 + (m - 1) * V :] *= 1 - e
    P[1 + (m - 1) * V :, -1] = e
    level = np.minimum(np.arange(m) + 1, m - 1).repeat(V)  # the position of the next word, less 1
    moves = 1 + np.concatenate([[0], level])[:, None] * V + np.arange(V)
    return Grammar(P / P.sum(1, keepdims=True), moves)


def label_smoothed(grammar: Grammar, eps: float) -> Grammar:
    """Return the language learned from endless data with labels smoothed by ``eps``: Q = (1-ε)P + ε/(V+1).

    It minimises E[-Σ_w ((1-ε) 1{w = y} + ε/(V+1)) ln q(w)], whose minimum over q is the mean of the smoothed labels.
    The default of the Transformer of Vaswani et al. 2017 is ε = .1.
    """
    P = grammar.P
    return Grammar((1 - eps) * P + eps / P.shape[1], grammar.moves)


# --- learning ---------------------------------------------------------------------------------------------


def draw_counts(grammar: Grammar, texts: int, rng: np.random.Generator) -> IntArray:
    """Return how often each word (or the end) followed each state in ``texts`` independent texts, (S, V+1).

    Texts in the same state at the same position are alike, so that their next words are one multinomial draw: the
    work does not grow with the number of texts.
    """
    counts = np.zeros(grammar.P.shape, dtype=np.int64)
    here = np.zeros(grammar.states, dtype=np.int64)
    here[0] = texts
    P = grammar.P / grammar.P.sum(1, keepdims=True)
    while here.any():
        busy = np.flatnonzero(here)
        drawn = rng.multinomial(here[busy], P[busy])  # (busy, V+1)
        counts[busy] += drawn
        here = np.bincount(
            grammar.moves[busy].ravel(), weights=drawn[:, :-1].ravel(), minlength=grammar.states
        ).astype(np.int64)
    return counts


def learn(counts: IntArray, moves: IntArray, *, alpha: float) -> Grammar:
    """Return the counted language with ``alpha`` added to every count: Q = (n + α)/(Σ n + α(V+1)).

    ``counts`` (S, V+1), ``moves`` (S, V). States that were never seen get uniform rows. ``alpha`` > 0.
    """
    Q = (counts + alpha) / (counts + alpha).sum(1, keepdims=True)
    return Grammar(Q, moves)


def forget_position(counts: IntArray, words: int) -> tuple[IntArray, IntArray]:
    """Return the bigram counts (V+1, V+1) behind counts of a :func:`random_grammar`, and the bigram's moves (V+1, V).

    A bigram knows the last word but not how many there were: it pools the ends of long texts with the words in the
    middle of them.
    """
    V = words
    pooled = np.vstack([counts[:1], counts[1:].reshape(-1, V, V + 1).sum(0)])
    return pooled, np.tile(np.arange(V) + 1, (V + 1, 1))


# --- the mode ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A text with its log-probability in nats."""

    words: tuple[int, ...]
    log_prob: float


def _completions(grammar: Grammar) -> tuple[FloatArray, IntArray]:
    """Return ln M (S,) and the first step of the best completion (S,): a word, or V for the end.

    M(s) = max( P[s, V], max_w P[s, w] M(moves[s, w]) ), by at most S sweeps: the best way enters no state twice.
    """
    log_P = grammar.log_P
    M, choice = log_P[:, -1].copy(), np.full(grammar.states, grammar.words)
    for _ in range(grammar.states):
        through = log_P[:, :-1] + M[grammar.moves]  # (S, V)
        word = through.argmax(1)
        value = through[np.arange(grammar.states), word]
        better = value > M
        if not better.any():
            break
        M, choice = np.where(better, value, M), np.where(better, word, choice)
    return M, choice


def mode(grammar: Grammar) -> Text:
    """Return the likeliest complete text, exactly; of equally likely ones one of the shortest."""
    M, choice = _completions(grammar)
    if not np.isfinite(M[0]):
        raise BookError("no text of this language ever ends, so that there is no likeliest one")
    state, words = 0, list[int]()
    while choice[state] < grammar.words:
        words.append(int(choice[state]))
        state = int(grammar.moves[state, words[-1]])
    return Text(tuple(words), float(M[0]))


# --- texts of a given length ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cycle:
    """A loop of words, and ``rate``: its mean ln P per word."""

    words: tuple[int, ...]
    rate: float


def best_of_length(grammar: Grammar, n: int) -> Text:
    """Return the likeliest first ``n`` words (the text need not end there), by the recursion of Viterbi."""
    F, back = _forward(grammar, n)
    state = int(F[n].argmax())
    if not np.isfinite(F[n, state]):
        raise BookError(f"the language has no text of {n} words")
    words = _walk_back(back, state, n)[0]
    return Text(words, float(F[n].max()))


def _forward(grammar: Grammar, n: int) -> tuple[FloatArray, IntArray]:
    """Return F (n+1, S), the best log-probability of t words that lead to s, and where they come from (n+1, S, 2)."""
    S, V = grammar.moves.shape
    log_P, target = grammar.log_P[:, :-1].ravel(), grammar.moves.ravel()  # (S·V,)
    F, back = np.full((n + 1, S), -np.inf), np.zeros((n + 1, S, 2), dtype=np.int64)
    F[0, 0] = 0.0
    order = np.argsort(target, kind="stable")
    groups, first = np.unique(target[order], return_index=True)
    for t in range(1, n + 1):
        value = (F[t - 1].repeat(V) + log_P)[order]
        F[t, groups] = np.maximum.reduceat(value, first)
        hit = np.flatnonzero(value == F[t][target[order]])[
            ::-1
        ]  # reversed: the first of equals is written last
        back[t, target[order][hit], 0], back[t, target[order][hit], 1] = order[hit] // V, order[hit] % V
    return F, back


def _walk_back(back: IntArray, state: int, n: int) -> tuple[tuple[int, ...], list[int]]:
    """Return the words and the n+1 states of the best way that ends in ``state`` after n words."""
    words, states = list[int](), [state]
    for t in range(n, 0, -1):
        state, word = (int(x) for x in back[t, state])
        words.append(word)
        states.append(state)
    return tuple(words[::-1]), states[::-1]


def best_cycle(grammar: Grammar) -> Cycle:
    """Return the loop with the largest mean log-probability λ* that a text can get into (Karp 1978).

    λ* = max_s min_{0 <= t < S} ( F_S(s) - F_t(s) ) / (S - t), with F_t(s) the best log-probability of t words that
    lead from the start to s.
    """
    S = grammar.states
    F, back = _forward(grammar, S)
    ends = np.flatnonzero(np.isfinite(F[S]))
    if not len(ends):
        raise BookError("the language has no loop: all of its texts are short")
    with np.errstate(invalid="ignore"):
        means = (F[S, ends] - F[:S, ends]) / (S - np.arange(S))[:, None]  # +∞ where F_t(s) is -∞
    at = int(means.min(0).argmax())
    words, states = _walk_back(back, int(ends[at]), S)
    rate = float(means.min(0)[at])
    loops = [
        (i, j) for i in range(S) for j in range(i + 1, S + 1) if states[i] == states[j]
    ]  # the best of them has mean λ*
    total = np.concatenate(
        [[0], np.cumsum([grammar.log_P[s, w] for s, w in zip(states, words, strict=False)])]
    )
    i, j = max(
        loops, key=lambda loop: ((total[loop[1]] - total[loop[0]]) / (loop[1] - loop[0]), loop[0] - loop[1])
    )
    return Cycle(words[i:j], rate)


def surprise(grammar: Grammar, n: int) -> tuple[float, float]:
    """Return mean and standard deviation of -ln p(first n words), in nats, for texts drawn from the language; exact.

    By the recursions of E[X_t 1{s}] and E[X_t² 1{s}]. The language must not end before n words.
    """
    P, log_P = grammar.P, grammar.log_P
    with np.errstate(invalid="ignore"):
        c = np.where(P > 0, -log_P, 0.0)[:, :-1]  # (S, V) cost of each word
    p, target = P[:, :-1], grammar.moves.ravel()
    m = np.zeros((3, grammar.states))  # moments 0, 1, 2 of the surprise, by state
    m[0, 0] = 1.0
    for _ in range(n):
        m0, m1, m2 = (x[:, None] for x in m)
        flows = (p * m0, p * (m1 + c * m0), p * (m2 + 2 * c * m1 + c**2 * m0))
        m = np.array([np.bincount(target, weights=f.ravel(), minlength=grammar.states) for f in flows])
    if abs(m[0].sum() - 1) > 1e-9:
        raise BookError(f"some texts of the language end before {n} words")
    mean, second = float(m[1].sum()), float(m[2].sum())
    return mean, math.sqrt(max(second - mean**2, 0.0))


@dataclass(frozen=True)
class Typical:
    """Surprise per word of typical texts and of the likeliest one, by length.

    ``lengths`` (n,) in words; ``mean`` and ``sd`` (n,) of -ln p/length over texts drawn from the language, ``mode``
    (n,) of the likeliest text, in nats a word; ``floor`` = -λ*, where the mode's goes; ``loop``: the words it repeats.
    """

    lengths: IntArray
    mean: FloatArray
    sd: FloatArray
    mode: FloatArray
    floor: float
    loop: tuple[int, ...]


def typical_and_mode(
    grammar: Grammar, lengths: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
) -> Typical:
    """Return exactly how surprising typical texts and the likeliest text of each length are; without ends."""
    check_kind(grammar, Grammar, "grammar", made_by="endless_grammar")
    grid = np.array([check_count(n, "a length") for n in check_list(lengths, "lengths")], dtype=np.int64)
    moments = np.array([surprise(grammar, int(n)) for n in grid])
    likeliest = np.array([best_of_length(grammar, int(n)).log_prob for n in grid])
    cycle = best_cycle(grammar)
    return Typical(
        grid, moments[:, 0] / grid, moments[:, 1] / grid, -likeliest / grid, -cycle.rate, cycle.words
    )


# --- how often the mode is empty --------------------------------------------------------------------------


@dataclass(frozen=True)
class EmptyModes:
    """Settings of the experiment: random languages without empty texts, and models learned from their texts.

    ``languages`` random languages (:func:`random_grammar`) for each of the ``shortest`` lengths; each is learned from
    ``texts`` texts (counts plus ``alpha``), by a machine of the right structure ("counts") and by a bigram, and from
    endless data with labels smoothed by ``eps``.
    """

    languages: int = 100
    words: int = 20
    shortest: tuple[int, ...] = (4, 8, 12)
    end: float = 0.25
    texts: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
    alpha: float = 0.1
    eps: tuple[float, ...] = (0.01, 0.1)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("languages", 1), ("words", 2), ("seed", 0)):
            object.__setattr__(self, name, check_count(getattr(self, name), name, minimum=least))
        for name in ("shortest", "texts"):
            given = check_list(getattr(self, name), name, empty=name == "texts")
            object.__setattr__(self, name, tuple(check_count(x, name) for x in given))
        eps = tuple(check_probability(x, "eps") for x in check_list(self.eps, "eps", empty=True))
        object.__setattr__(self, "eps", eps)
        check_positive(self.end, "end")
        check_probability(self.end, "end")
        check_positive(self.alpha, "alpha")


def empty_modes(settings: EmptyModes | None = None) -> pd.DataFrame:
    """Return how often the learned language's mode is the empty text, though no true text is empty.

    One row a learner, shortest length and number of texts; ``EMPTY_COLUMNS`` says what the columns mean.
    """
    s = check_kind(EmptyModes() if settings is None else settings, EmptyModes, "settings")
    rows = []
    for m in s.shortest:
        lengths: dict[tuple[str, float], list[int]] = {}  # words of the learned mode, one entry a language
        for stream in np.random.SeedSequence([s.seed, m]).spawn(s.languages):
            rng = np.random.default_rng(stream)
            truth = random_grammar(s.words, m, s.end, rng)
            for key, learned in _learners(truth, s, rng):
                lengths.setdefault(key, []).append(len(mode(learned).words))
        for (learner, texts), found in lengths.items():
            share = proportion_interval(found.count(0), len(found))
            short, mean, true = float(np.less(found, m).mean()), float(np.mean(found)), m + 1 / s.end - 1
            rows.append((learner, m, texts, share.n, share.value, share.low, share.high, short, mean, true))
    table = pd.DataFrame(rows, columns=list(EMPTY_COLUMNS))
    return table.sort_values(["learner", "shortest", "texts"], ignore_index=True)


EMPTY_COLUMNS = {
    "learner": "counts (the right structure), bigram (knows the last word only), or labels smoothed by ε",
    "shortest": "words of the shortest texts of the true language",
    "texts": "texts learned from; infinite for the exact minimiser of the smoothed loss",
    "languages": "random languages, one learned model each",
    "share": "share of languages whose learned mode is the empty text",
    "low": "lower end of its exact 95% interval over languages",
    "high": "upper end",
    "too_short": "share of languages whose learned mode is shorter than every true text, empty or not",
    "mode_length": "mean words of the learned mode",
    "true_length": "mean words of a true text",
}


def _learners(
    truth: Grammar, s: EmptyModes, rng: np.random.Generator
) -> Iterator[tuple[tuple[str, float], Grammar]]:
    """Yield every learned language with its name and number of texts."""
    for eps in s.eps:
        yield (f"labels smoothed by {eps:g}", math.inf), label_smoothed(truth, eps)
    for texts in s.texts:
        counts = draw_counts(truth, texts, rng)
        yield ("counts", float(texts)), learn(counts, truth.moves, alpha=s.alpha)
        yield ("bigram", float(texts)), learn(*forget_position(counts, s.words), alpha=s.alpha)
