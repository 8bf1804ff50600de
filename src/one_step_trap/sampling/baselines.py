"""What a language model has to beat: an n-gram model on the same tokens, and general compressors.

A probability model is a code: token x costs -log2 p(x | text so far) bits (Shannon 1948), so that language models and
compressors are compared in one unit, bits per byte of text that none of them was given before.

The n-gram model is interpolated Kneser-Ney with three discounts an order (Chen & Goodman 1999, "modified Kneser-Ney"). With
h a history of k-1 tokens, h' the same without its first, and c_k the counts of order k,

    p_k(w | h) = max(c_k(hw) - D_k(c_k(hw)), 0) / c_k(h·) + γ_k(h) p_{k-1}(w | h'),
    γ_k(h) = Σ_w min(D_k(c_k(hw)), c_k(hw)) / c_k(h·),        p_0 = 1 / V.

At the highest order c_k counts occurrences; below it counts the *different* tokens seen before hw, which is Kneser and Ney's
point: "Francisco" is frequent, but only after "San". A history that was never seen gives p_k = p_{k-1}. Each p_k sums to 1.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from one_step_trap.core.validate import FloatArray, check_count, short_repr
from one_step_trap.errors import BookError
from one_step_trap.sampling import bpe, texts
from one_step_trap.sampling.bpe import IntArray

# --- n-grams ----------------------------------------------------------------------------------------------

LARGEST = 2**62  # an n-gram is kept as one whole number below this


def check_tokens(tokens: Any, vocabulary: int, name: str = "tokens", *, at_least: int = 0) -> IntArray:
    """Return token numbers 0 … ``vocabulary`` - 1 as a vector of int64."""
    array = np.asarray(tokens)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise BookError(f"{name} must be a vector of token numbers, got {short_repr(tokens)}")
    if array.size and (array.min() < 0 or array.max() >= vocabulary):
        raise BookError(f"{name} must lie in 0 … {vocabulary - 1}, got {array.min()} … {array.max()}")
    if len(array) < at_least:
        raise BookError(f"{name} must hold at least {at_least} numbers, got {len(array)}")
    return array.astype(np.int64)


def discounts(counts: IntArray) -> FloatArray:
    """Return D(1), D(2), D(3 and more) of an order, from how many of its n-grams have counts 1, 2, 3 and 4.

    With n_i n-grams of count i and Y = n_1/(n_1 + 2 n_2): D(i) = i - (i+1) Y n_{i+1}/n_i (Chen & Goodman 1999, eq. 26).
    Texts so small that an n_i is 0 have no such estimate and get i/2; all are kept within [i/10, i], so that some
    probability is always left for what was not seen.
    """
    n = np.array([np.count_nonzero(counts == i) for i in (1, 2, 3, 4)], dtype=float)
    if not n[0] or not n[1]:
        return np.array([0.5, 1.0, 1.5])
    Y = n[0] / (n[0] + 2 * n[1])
    found = [i - (i + 1) * Y * n[i] / n[i - 1] if n[i - 1] else i / 2 for i in (1, 2, 3)]
    return np.array([min(max(D, i / 10), i) for i, D in enumerate(found, start=1)])


@dataclass(frozen=True)
class _Order:
    """Counts of one order: sorted n-grams with what each keeps, sorted histories with totals and what each gives away."""

    grams: IntArray  # (G,) n-grams as numbers in base V
    kept: FloatArray  # (G,) c - D(c)
    histories: IntArray  # (H,) n-grams without their last token
    totals: FloatArray  # (H,) c(h·)
    given: FloatArray  # (H,) γ(h)

    @classmethod
    def of(cls, grams: IntArray, counts: IntArray, V: int) -> _Order:
        D = discounts(counts)[np.minimum(counts, 3) - 1]  # (G,)
        histories, which = np.unique(grams // V, return_inverse=True)
        totals = np.asarray(np.bincount(which, weights=counts), dtype=np.float64)  # (H,)
        return cls(grams, counts - D, histories, totals, np.bincount(which, weights=D) / totals)

    def apply(self, history: IntArray, gram: IntArray, lower: FloatArray) -> FloatArray:
        """Return p_k of each n-gram (n,), given p_{k-1} (n,)."""
        h, seen = _find(self.histories, history)
        g, met = _find(self.grams, gram)
        return np.where(
            seen, np.where(met, self.kept[g], 0.0) / self.totals[h] + self.given[h] * lower, lower
        )


def _find(sorted_keys: IntArray, keys: IntArray) -> tuple[IntArray, Any]:
    """Return where each key is, and whether it is there at all."""
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return at, sorted_keys[at] == keys


@dataclass(frozen=True)
class KneserNey:
    """An interpolated n-gram model of ``order`` n over ``vocabulary`` tokens; see the top of this module."""

    order: int
    vocabulary: int
    orders: tuple[_Order, ...]

    @classmethod
    def fit(cls, tokens: Any, order: int, vocabulary: int) -> KneserNey:
        """Count the n-grams of a text, a vector of token numbers (at least ``order`` of them)."""
        order = check_count(order, "order")
        V = check_count(vocabulary, "vocabulary", minimum=2)
        if V**order > LARGEST:
            raise BookError(f"order {order} of {V} tokens does not fit into 62 bits: use a lower order")
        text = check_tokens(tokens, V, at_least=order)
        grams, counts = np.unique(_grams(text, order, V), return_counts=True)
        orders = [_Order.of(grams, counts, V)]
        for k in range(order - 1, 0, -1):
            # the different tokens before each k-gram: count the (k+1)-grams that end with it
            grams, counts = np.unique(grams % V**k, return_counts=True)
            orders.append(_Order.of(grams, counts, V))
        return cls(order, V, tuple(reversed(orders)))

    def probabilities(self, tokens: Any) -> FloatArray:
        """Return p(x_t | the ``order`` - 1 tokens before it, fewer at the start) of x_1 … x_n in ``tokens`` (n + 1,)."""
        text = check_tokens(tokens, self.vocabulary, at_least=2)
        n, V = len(text) - 1, self.vocabulary
        p = np.full(n, 1.0 / V)
        for k, counts in enumerate(self.orders, start=1):
            known = max(k - 2, 0)  # predicted tokens that have fewer than k - 1 tokens before them
            if n <= known:
                break
            gram = _grams(text if k > 1 else text[1:], k, V)  # (n - known,)
            p[known:] = counts.apply(gram // V, gram, p[known:])
        return p


def _grams(text: IntArray, k: int, V: int) -> IntArray:
    """Return the k-grams of a text as numbers in base V, (len(text) - k + 1,)."""
    result = np.zeros(len(text) - k + 1, dtype=np.int64)
    for i in range(k):
        result = result * V + text[i : len(text) - k + 1 + i]
    return result


def ngram_code_lengths(model: KneserNey, tokenizer: Any, passages: Sequence[texts.Passage]) -> pd.DataFrame:
    """Return the bits that each passage takes under an n-gram model; columns as `pretraining.code_lengths` has them."""
    rows = []
    for passage in passages:
        tokens = bpe.stream(tokenizer, [passage.text])
        bits = float(-np.log2(model.probabilities(tokens)).sum())
        rows.append((passage.id, passage.collection, len(passage.text.encode()), len(tokens) - 1, bits))
    return pd.DataFrame(rows, columns=["id", "collection", "bytes", "tokens", "bits"])


# --- compressors ------------------------------------------------------------------------------------------

ZLIB_WINDOW = 32_768  # bytes that deflate can look back
LZMA_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]


def _zlib(training: bytes, heldout: bytes) -> int:
    """Return the bytes that zlib needs for ``heldout`` when its window is filled with the end of ``training``."""
    start = training[-ZLIB_WINDOW:]
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, start)
    return len(coder.compress(heldout)) + len(coder.flush())


def _bz2(training: bytes, heldout: bytes) -> int:
    """Return how much longer bz2's output gets; a block holds 900 kB, so that little of the training text helps."""
    return len(bz2.compress(training + heldout, 9)) - len(bz2.compress(training, 9))


def _lzma(training: bytes, heldout: bytes) -> int:
    """Return how much longer LZMA's output gets with a dictionary that holds all of the training text."""
    sizes = [
        len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=LZMA_FILTERS))
        for data in (training + heldout, training)
    ]
    return sizes[0] - sizes[1]


COMPRESSORS = {"zlib": _zlib, "bz2": _bz2, "lzma": _lzma}


def compressed(training: str, heldout: str) -> pd.DataFrame:
    """Return how many bits general compressors need for ``heldout`` after ``training``, as far as each can use it.

    Columns: ``compressor``, ``bytes`` (of ``heldout`` in UTF-8), ``bits``, ``bits_per_byte``. The bits are those of
    compress(training + heldout) less those of compress(training); zlib, whose window is 32 kB, starts with the last 32 kB of
    the training text as its dictionary, which is the same.
    """
    if not (isinstance(training, str) and isinstance(heldout, str) and heldout):
        raise BookError("training and heldout must be texts, heldout not an empty one")
    old, new = training.encode(), heldout.encode()
    bits = [8 * coder(old, new) for coder in COMPRESSORS.values()]
    return pd.DataFrame(
        {
            "compressor": list(COMPRESSORS),
            "bytes": len(new),
            "bits": bits,
            "bits_per_byte": np.array(bits) / len(new),
        }
    )
