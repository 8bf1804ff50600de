"""Measures of a text that a model has drawn: repetition, loops, diversity, compression, and what a rule forbids.

Every measure works on token ids, so that none depends on how a text is split into words. "Repetition" is a
different thing in every paper; these are kept apart here:

- ``seq_rep``: share of n-grams that occurred before *anywhere* in the text (Welleck et al. 2020, seq-rep-n);
- ``repeated``: whether a token occurred among the last ``window`` tokens (their rep/l counts the *model's
  most likely* tokens instead, and wrep those of them that are wrong: both need the model's choices, which a
  drawn text does not hold);
- ``tail_repeats``: whether the text *ends* in a phrase said at least twice (Holtzman et al. 2020, "repetition");
- ``find_loops``: the token at which the text has gone round a cycle for ``repeats`` times without a change.

Sources: Welleck et al. 2020 (arXiv 1908.04319), Holtzman et al. 2020 (arXiv 1904.09751, and the authors' own
code for repetition, the Zipf exponent and self-BLEU), Li et al. 2016 (arXiv 1510.03055).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    short_repr,
)
from one_step_trap.errors import BookError

HUMAN = "human"
"""Name of the control among the rules: the model reads what a person wrote."""

LONGEST_CYCLE = 128  # tokens: P, the longest cycle that counts as one
REPEATS = 3  # m: how often a cycle must have been said
SHORTEST_LOOP = 48  # tokens: w, the shortest stretch that counts, so that "ha ha ha" is no loop
WINDOW = 128  # tokens that a repeated token is looked for in
RANKS = 5_000  # ranks that a Zipf exponent is fitted to
PIECE = 512  # bytes: about 128 tokens of English, the length at which ends of a text are compressed


class TraceLike(Protocol):
    """What is needed of ``generate.Traces``: the tokens (N, S) of one rule and seed, and two numbers for each."""

    @property
    def rule(self) -> str:
        """Name of the rule, or "human"."""

    @property
    def seed(self) -> int:
        """Seed that the tokens were drawn with."""

    @property
    def tokens(self) -> IntArray:
        """Token ids after the prompt, (N, S)."""

    @property
    def entropy(self) -> FloatArray:
        """Entropy of the model's own next-token distribution before each token, nats, (N, S)."""

    @property
    def log_loss(self) -> FloatArray:
        """Minus the logarithm of the model's own probability of each token, nats, (N, S)."""


def check_tokens(tokens: ArrayLike, name: str = "tokens", *, shortest: int = 1) -> IntArray:
    """Return token ids of shape (N, S) as integers; one text (S,) becomes (1, S)."""
    try:
        array = np.asarray(tokens)
    except ValueError:
        raise BookError(f"{name} must be texts of equal length, shape (texts, tokens)") from None
    if array.dtype == bool or not np.issubdtype(array.dtype, np.integer):
        raise BookError(
            f"{name} must be whole token ids, shape (texts, tokens), got numbers of kind {array.dtype}"
        )
    array = np.atleast_2d(array)
    if array.ndim != 2 or not len(array) or array.shape[1] < shortest:
        raise BookError(
            f"{name} must have shape (texts, tokens) with at least {shortest} tokens, got {array.shape}"
        )
    if array.min() < 0:
        raise BookError(f"{name} holds a negative token id ({array.min()})")
    return array.astype(np.int64)


def check_trace(trace: Any, name: str = "trace") -> tuple[IntArray, FloatArray, FloatArray]:
    """Return tokens, entropy and log-loss of a trace, each (N, S), after checking that they fit together."""
    missing = [
        field for field in ("rule", "seed", "tokens", "entropy", "log_loss") if not hasattr(trace, field)
    ]
    if missing:
        raise BookError(f"{name} lacks {', '.join(missing)}: pass Traces as generate() returns them")
    tokens = check_tokens(trace.tokens, f"tokens of {name}")
    entropy, loss = (check_finite(getattr(trace, f), f"{f} of {name}") for f in ("entropy", "log_loss"))
    if entropy.shape != tokens.shape or loss.shape != tokens.shape:
        raise BookError(
            f"tokens, entropy and log_loss of {name} must have one shape, got {tokens.shape}, {entropy.shape} "
            f"and {loss.shape}"
        )
    return tokens, entropy, loss


# --- n-grams ----------------------------------------------------------------------------------------------


def ngram_ids(tokens: ArrayLike, n: int) -> IntArray:
    """Return one number for each n-gram, (N, S-n+1): equal numbers mean equal n-grams, in all of the texts."""
    n = check_count(n, "n")
    x = check_tokens(tokens, shortest=n)
    ids = x
    for i in range(1, n):  # extend every (i)-gram by its next token and number the pairs anew
        pairs = ids[:, :-1] * (x.max() + 1) + x[:, i:]
        ids = np.unique(pairs, return_inverse=True)[1].reshape(pairs.shape)
    return ids


def distinct_count(tokens: ArrayLike, n: int = 1) -> IntArray:
    """Return the number of different n-grams of each text, (N,)."""
    ids = np.sort(ngram_ids(tokens, n), axis=1)
    return np.asarray(1 + (np.diff(ids, axis=1) != 0).sum(1))


def seq_rep(tokens: ArrayLike, n: int = 4) -> FloatArray:
    """Return ``1 - (different n-grams)/(n-grams)`` of each text, (N,) in [0, 1): seq-rep-n of Welleck et al. 2020.

    0: no n-gram is said twice. The longer a text the higher it is, loops or not: compare equal lengths only.
    """
    counts = distinct_count(tokens, n)
    return np.asarray(1 - counts / (check_tokens(tokens).shape[1] - n + 1))


def distinct(tokens: ArrayLike, n: int = 1) -> FloatArray:
    """Return ``(different n-grams)/(tokens)`` of each text, (N,): distinct-n of Li et al. 2016.

    Their divisor is the number of tokens and not that of n-grams, so that the highest value is (S-n+1)/S.
    n = 1 is the share of unique tokens. Falls with length: compare equal lengths only.
    """
    return np.asarray(distinct_count(tokens, n) / check_tokens(tokens).shape[1])


def repeated(tokens: ArrayLike, window: int = WINDOW) -> BoolArray:
    """Return whether each token occurs among the ``window`` tokens before it, (N, S).

    The mean over positions is the share of repeated tokens. Near the start a text has less behind it than
    ``window`` tokens; compare positions beyond the first ``window`` only.
    """
    x, window = check_tokens(tokens), check_count(window, "window")
    order = np.argsort(x, axis=1, kind="stable")  # equal tokens side by side, in the order of their positions
    ids = np.take_along_axis(x, order, axis=1)
    near = np.zeros(x.shape, dtype=bool)
    near[:, 1:] = (np.diff(ids, axis=1) == 0) & (np.diff(order, axis=1) <= window)
    found = np.empty_like(near)
    np.put_along_axis(found, order, near, axis=1)
    return found


def tail_repeats(tokens: ArrayLike, longest: int = 90) -> BoolArray:
    """Return whether each text ends in a repeated phrase, (N,): the "repetition" of Holtzman et al. 2020.

    Of all phrase lengths n = 1 … ``longest`` take the one whose last phrase is said most often in a row at the
    end (ties: the shortest). The text counts if that phrase is said at least twice and has at least 3
    tokens, or is said more than 50 times. So their own code has it; the paper's words leave the limits open.
    """
    x, longest = check_tokens(tokens), check_count(longest, "longest")
    N, S = x.shape
    said = np.ones((min(longest, S), N), dtype=np.int64)
    for n in range(1, min(longest, S) + 1):
        run = _last_run(x[:, n:] == x[:, :-n])  # tokens at the end that equal the one n before
        said[n - 1] += run // n
    best = said.argmax(0)  # index of the phrase length, the shortest among equals
    times = said.max(0)
    return np.asarray((times > 1) & ((best + 1 >= 3) | (times > 50)))


def _last_run(match: BoolArray) -> IntArray:
    """Return how many True values stand at the end of each row, (N,)."""
    return np.asarray(np.cumprod(match[:, ::-1], axis=1, dtype=np.int64).sum(1))


# --- loops ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loops:
    """The first loop of each text: arrays (N,), 0 where there is none.

    ``seen`` is the number of tokens after which the loop is established, ``onset`` the position (from 0) of its
    first token, ``period`` the length of its cycle; ``looped`` says whether there is one.
    """

    seen: IntArray
    onset: IntArray
    period: IntArray

    @property
    def looped(self) -> BoolArray:
        """Whether each text has a loop, (N,)."""
        return np.asarray(self.seen > 0)


def find_loops(
    tokens: ArrayLike, *, longest: int = LONGEST_CYCLE, repeats: int = REPEATS, shortest: int = SHORTEST_LOOP
) -> Loops:
    """Return the first loop of each text.

    After t tokens a text is *in a loop of period p* if its last ``L(p) = max(shortest, repeats·p)`` tokens
    satisfy ``x_i = x_{i-p}`` wherever both lie in that stretch. The loop is *seen* at the smallest such t over
    all p ≤ ``longest`` (ties: the smallest p), and its onset is the position t - L(p).

    Whether a loop is seen by t depends on the first t tokens alone. A survival curve of ``seen`` is
    therefore the same from a short run as from a long one, which one of ``onset`` is not: an onset needs L(p)
    further tokens to be told. A text may leave a loop again, and a loop with a change in each round (a counter,
    another name) is none here; ``seq_rep`` sees it.

    One pass of length S for each period: O(N S P).
    """
    x = check_tokens(tokens)
    longest, repeats = check_count(longest, "longest"), check_count(repeats, "repeats", minimum=2)
    shortest = check_count(shortest, "shortest", minimum=2)
    N, S = x.shape
    seen, period = np.full(N, S + 1), np.zeros(N, dtype=np.int64)
    for p in range(1, min(longest, S // repeats) + 1):
        first = _first_run(x[:, p:] == x[:, :-p], max(shortest, repeats * p) - p)  # index of its last match
        t = np.where(first >= 0, first + p + 1, S + 1)
        earlier = t < seen
        seen[earlier], period[earlier] = t[earlier], p
    looped = seen <= S
    onset = np.where(looped, seen - np.maximum(shortest, repeats * period), 0)
    return Loops(np.where(looped, seen, 0), onset, np.where(looped, period, 0))


def _first_run(match: BoolArray, length: int) -> IntArray:
    """Return where the first run of ``length`` True values of each row is complete, (N,), or -1."""
    if match.shape[1] < length:
        return np.full(len(match), -1)
    total = np.cumsum(match, axis=1, dtype=np.int32)
    total = np.concatenate([np.zeros((len(match), 1), np.int32), total], axis=1)
    full = total[:, length:] - total[:, :-length] == length
    return np.where(full.any(1), full.argmax(1) + length - 1, -1)


# --- compression, Zipf, self-BLEU -------------------------------------------------------------------------


def compression_ratio(text: str) -> float:
    """Return ``(bytes of the compressed text)/(bytes of the text)``, in UTF-8, by zlib at level 9.

    Small: the text repeats itself. The ratio falls with length whatever the text (a header of 8 bytes, and
    more to refer back to), and tokens differ in bytes: compare texts of the same number of bytes, as
    ``compression_ends`` does. zlib refers back by at most 32 KiB.
    """
    raw = _utf8(text)
    if not raw:
        raise BookError("an empty text has no compression ratio")
    return len(zlib.compress(raw, 9)) / len(raw)


def compression_ends(text: str, piece: int = PIECE) -> tuple[float, float]:
    """Return the compression ratios of the first and of the last ``piece`` bytes of a text.

    Equal lengths in bytes control the length bias. A shorter text is compressed whole, twice.
    """
    raw, piece = _utf8(text), check_count(piece, "piece", minimum=16)
    if not raw:
        raise BookError("an empty text has no compression ratio")
    first, last = (len(zlib.compress(part, 9)) / len(part) for part in (raw[:piece], raw[-piece:]))
    return first, last


def _utf8(text: str) -> bytes:
    if not isinstance(text, str):
        raise BookError(f"text must be a string, got {short_repr(text)}")
    return text.encode("utf-8", errors="replace")


def zipf_exponent(tokens: ArrayLike, ranks: int = RANKS) -> float:
    """Return the exponent z of ``frequency ∝ rank^-z``, over the tokens of all texts together.

    Least squares of ln(count) on ln(rank) over ranks 1 … min(``ranks``, different tokens), each rank with the
    same weight: the fit of Holtzman et al. 2020 (their code). It is a descriptive number: the many tokens said
    once pull it down, and it depends on how many tokens there are. Compare equal amounts of text only.
    """
    x, ranks = check_tokens(tokens), check_count(ranks, "ranks", minimum=2)
    counts = np.sort(np.unique(x, return_counts=True)[1])[::-1][:ranks]
    if len(counts) < 2:
        raise BookError("a Zipf exponent needs at least two different tokens")
    rank, count = np.log(1.0 + np.arange(len(counts))), np.log(counts)
    centred = rank - rank.mean()
    return float(-(centred @ count) / (centred @ centred))


def self_bleu(tokens: ArrayLike, n: int = 4) -> FloatArray:
    """Return the BLEU-n of each text against all others of the array, (N,) in [0, 1]: high means alike.

    ``exp(mean over k = 1 … n of ln(c_k / (S-k+1)))``, where c_k counts the k-grams of a text that others share,
    each at most as often as in the one other text that has it most often (Papineni et al. 2002; as a
    measure of diversity Zhu et al. 2018). All texts have S tokens, so there is no penalty for brevity. An order
    without a match counts .1 (method 1 of Chen & Cherry 2014, as in the code of Holtzman et al.). More texts
    make it higher: compare equal numbers of texts.
    """
    n = check_count(n, "n")
    x = check_tokens(tokens, shortest=n)
    if len(x) < 2:
        raise BookError("self-BLEU needs at least two texts")
    logs = [np.log(np.maximum(_shared(ngram_ids(x, k)), 0.1) / (x.shape[1] - k + 1)) for k in range(1, n + 1)]
    return np.asarray(np.exp(np.mean(logs, axis=0)))


def _shared(ids: IntArray) -> FloatArray:
    """Return how many k-grams of each text also stand in another one, clipped as BLEU clips them, (N,)."""
    N = len(ids)
    text = np.repeat(np.arange(N), ids.shape[1])
    pairs, count = np.unique(ids.ravel() * N + text, return_counts=True)  # sorted by k-gram, then text
    gram, owner = pairs // N, pairs % N
    order = np.lexsort((-count, gram))  # the text that has a k-gram most often comes first
    gram, owner, count = gram[order], owner[order], count[order]
    first = np.r_[True, np.diff(gram) != 0]
    start = np.flatnonzero(first)[np.cumsum(first) - 1]  # row of the most frequent user of this k-gram
    second = np.minimum(start + 1, len(gram) - 1)
    runner_up = np.where(gram[second] == gram, count[second], 0)
    runner_up = np.where(second == start, 0, runner_up)
    most_of_others = np.where(np.arange(len(gram)) == start, runner_up, count[start])
    return np.bincount(owner, weights=np.minimum(count, most_of_others), minlength=N).astype(np.float64)
