"""Baselines: Kneser-Ney by hand, against its written-down recursion, sums to one; compressors; bad input."""

import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.sampling import baselines as bl
from one_step_trap.sampling import bpe
from one_step_trap.sampling.texts import Passage

WORDS = st.lists(st.integers(0, 4), min_size=4, max_size=60)


def distribution(model, history):
    """p(· | history), (vocabulary,), one word at a time; the history is not empty."""
    return np.array([model.probabilities([*history, w])[-1] for w in range(model.vocabulary)])


def probability_reference(text, order, vocabulary, history, word):
    """What `KneserNey` gives, by the recursion as it is written down."""
    counts = Counter(tuple(text[i : i + order]) for i in range(len(text) - order + 1))
    levels = {order: counts}
    for k in range(order - 1, 0, -1):
        counts = Counter(gram[1:] for gram in counts)
        levels[k] = counts

    def p(k, h):
        if k == 0:
            return 1 / vocabulary
        D = bl.discounts(np.array(list(levels[k].values())))
        after = {gram[-1]: c for gram, c in levels[k].items() if gram[:-1] == h}
        if not after:
            return p(k - 1, h[1:])
        kept = {w: c - D[min(c, 3) - 1] for w, c in after.items()}
        total = sum(after.values())
        return kept.get(word, 0.0) / total + (total - sum(kept.values())) / total * p(k - 1, h[1:])

    k = min(order, len(history) + 1)
    return p(k, tuple(history[len(history) - k + 1 :]))


# --- n-grams ----------------------------------------------------------------------------------------------


def test_discounts_by_hand():
    # counts of counts 4, 2, 1, 1: Y = 4/8 = .5; D1 = 1 - 2·.5·2/4 = .5, D2 = 2 - 3·.5·1/2 = 1.25, D3 = 3 - 4·.5·1/1 = 1
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 4])
    assert bl.discounts(counts) == pytest.approx([0.5, 1.25, 1.0])


def test_discounts_of_a_text_too_small_for_an_estimate():
    assert bl.discounts(np.array([1, 1, 1])) == pytest.approx([0.5, 1.0, 1.5])


def test_a_unigram_model_by_hand():
    # 0 three times, 1 once, 2 never, of 3 tokens: n_2 = 0, so D = .5 for count 1 and 1.5 for count 3
    # p(0) = (3 - 1.5)/4 + (2/4)/3, p(1) = (1 - .5)/4 + (2/4)/3, p(2) = (2/4)/3
    model = bl.KneserNey.fit([0, 0, 1, 0], 1, 3)
    assert distribution(model, [2]) == pytest.approx([1.5 / 4 + 1 / 6, 0.5 / 4 + 1 / 6, 1 / 6])


def test_a_bigram_model_by_hand():
    # text 0 1 0 1 2: bigrams 01 (2), 10 (1), 12 (1). Orders have n_1 = 2, n_2 = 1: Y = 1/2, D1 = 1 - 1/2 = .5,
    # D2 = 2 (no trigram-count bigrams: n_3 = 0), clipped to at most 2.
    # Continuation counts: 0 after {1}, 1 after {0}, 2 after {1}: all 1, so D = .5: p_1(w) = .5/3 + (1.5/3)/4 for three words
    model = bl.KneserNey.fit([0, 1, 0, 1, 2], 2, 4)
    p1 = np.array([0.5 / 3 + 0.125] * 3 + [0.125])
    # after 1: 0 and 2 once each, total 2: p = .5/2 + (1/2) p_1
    assert distribution(model, [1]) == pytest.approx(
        [0.25 + p1[0] / 2, p1[1] / 2, 0.25 + p1[2] / 2, p1[3] / 2]
    )
    # after 0: 1 twice, total 2, all of it given away: (2 - 2)/2 + (2/2) p_1
    assert distribution(model, [0]) == pytest.approx(p1)
    # after 2 nothing was ever seen
    assert distribution(model, [2]) == pytest.approx(p1)


def test_san_francisco():
    # token 1 is frequent, but only ever after 0; token 2 is rarer, after many: a new history prefers 2
    text = [0, 1] * 20 + [3, 2, 4, 2, 5, 2, 6, 2]
    model = bl.KneserNey.fit(text, 2, 8)
    assert np.bincount(text)[1] > np.bincount(text)[2]
    p = distribution(model, [7])
    assert p[2] > p[1]


@settings(deadline=None, max_examples=40)
@given(text=WORDS, order=st.integers(1, 4), history=st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_it_sums_to_one_and_equals_the_recursion(text, order, history):
    model = bl.KneserNey.fit(text, order, 6)
    p = distribution(model, history)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert (p > 0).all()
    slow = [probability_reference(text, order, 6, history, word) for word in range(6)]
    assert p == pytest.approx(slow)


@settings(deadline=None, max_examples=25)
@given(text=WORDS, order=st.integers(1, 4), new=st.lists(st.integers(0, 5), min_size=2, max_size=12))
def test_probabilities_of_a_text_are_those_of_its_histories(text, order, new):
    model = bl.KneserNey.fit(text, order, 6)
    one_by_one = [distribution(model, new[:i])[new[i]] for i in range(1, len(new))]
    assert model.probabilities(new) == pytest.approx(one_by_one)


def test_a_longer_memory_codes_a_repeating_text_better():
    text = np.tile([0, 1, 2, 0, 2, 1], 50)
    bits = [-np.log2(bl.KneserNey.fit(text, order, 3).probabilities(text)).mean() for order in (1, 2, 3, 4)]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] > 1.5
    assert bits[3] < 0.1


def test_code_lengths_pay_for_every_byte():
    tokenizer = bpe.train(["the cat sat on the mat", "the hat"], 265)
    passages = [Passage("a", "first", "the cat"), Passage("b", "second", "ümlaut")]
    model = bl.KneserNey.fit(bpe.stream(tokenizer, ["the cat sat on the mat"]), 3, 265)
    table = bl.ngram_code_lengths(model, tokenizer, passages)
    assert table["bytes"].tolist() == [7, 7]  # ü has two bytes
    tokens = [0, *bpe.encode(tokenizer, ["the cat"])[0]]
    by_hand = -sum(np.log2(distribution(model, tokens[:i])[tokens[i]]) for i in range(1, len(tokens)))
    assert table["bits"][0] == pytest.approx(by_hand)
    assert table["bits"][0] / 7 < table["bits"][1] / 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bl.KneserNey.fit([0, 1], 0, 3), "order must be at least 1"),
        (lambda: bl.KneserNey.fit([0, 1], 3, 3), "at least 3 numbers"),
        (lambda: bl.KneserNey.fit([0, 5], 1, 3), "must lie in 0 … 2"),
        (lambda: bl.KneserNey.fit([0.5, 1.0], 1, 3), "vector of token numbers"),
        (lambda: bl.KneserNey.fit([[0], [1]], 1, 3), "vector of token numbers"),
        (lambda: bl.KneserNey.fit([0, 1], 9, 4096), "use a lower order"),
        (lambda: bl.KneserNey.fit([0, 1], 1, 1), "vocabulary must be at least 2"),
        (lambda: bl.KneserNey.fit([0, 1, 1], 2, 3).probabilities([7, 0]), "must lie in"),
        (lambda: bl.KneserNey.fit([0, 1, 1], 2, 3).probabilities([1]), "at least 2 numbers"),
        (lambda: bl.compressed("abc", ""), "heldout not an empty one"),
        (lambda: bl.compressed(b"abc", "x"), "must be texts"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


# --- compressors ------------------------------------------------------------------------------------------


def test_what_was_seen_before_costs_next_to_nothing_where_the_compressor_can_look_back():
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdefgh"), 20_000))
    table = bl.compressed(text, text).set_index("compressor")["bits_per_byte"]
    assert table["zlib"] < 0.1
    assert table["lzma"] < 0.1
    assert (
        bl.compressed("", text).set_index("compressor")["bits_per_byte"].min() >= 3
    )  # eight letters: 3 bits


def test_zlib_sees_no_further_back_than_its_window():
    rng = np.random.default_rng(1)
    text, between = ("".join(rng.choice(list("abcdefgh"), size)) for size in (5_000, 40_000))
    table = bl.compressed(text + between, text).set_index("compressor")["bits_per_byte"]
    assert table["zlib"] > 3
    assert table["lzma"] < 0.2


def test_without_training_text_zlib_is_plain_deflate():
    text = "the cat sat on the mat and the hat sat on the cat " * 20
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    size = len(coder.compress(text.encode()) + coder.flush())
    assert bl.compressed("", text)["bits"][0] == 8 * size
