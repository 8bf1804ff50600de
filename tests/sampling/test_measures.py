"""Measures of texts: by hand and against slow references; bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.sampling import measures as m

texts = st.integers(1, 4).flatmap(
    lambda vocabulary: st.integers(5, 60).flatmap(
        lambda S: st.lists(
            st.lists(st.integers(0, vocabulary), min_size=S, max_size=S), min_size=1, max_size=4
        )
    )
)


# --- n-grams ----------------------------------------------------------------------------------------------


def test_repetition_by_hand():
    x = [[1, 2, 3, 4, 1, 2, 3, 4]]  # five 4-grams; the first and the last are equal
    assert m.seq_rep(x) == pytest.approx([1 / 5])
    assert m.distinct(x, 1) == pytest.approx([4 / 8])
    assert m.distinct(x, 2) == pytest.approx(
        [4 / 8]
    )  # 12 23 34 41, divided by tokens (Li et al.) and not by 7
    assert m.seq_rep([[7] * 10]) == pytest.approx([6 / 7])
    assert m.seq_rep(np.arange(20)[None]) == pytest.approx([0])


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 5))
def test_ngram_counts_against_sets_of_tuples(x, n):
    grams = [[tuple(row[i : i + n]) for i in range(len(row) - n + 1)] for row in x]
    assert m.distinct_count(x, n).tolist() == [len(set(row)) for row in grams]
    ids = m.ngram_ids(x, n).ravel().tolist()
    flat = [gram for row in grams for gram in row]
    assert (
        len(set(zip(ids, flat, strict=True))) == len(set(flat)) == len(set(ids))
    )  # a bijection, across texts


def test_large_token_ids_do_not_collide():
    x = np.array([[49_151, 0, 49_150, 49_151, 0, 49_151]])
    assert m.distinct_count(x, 2).tolist() == [4]
    assert m.distinct_count(x, 3).tolist() == [4]


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 70))
def test_repeated_tokens_against_looking_back(x, window):
    slow = [[row[t] in row[max(0, t - window) : t] for t in range(len(row))] for row in x]
    assert m.repeated(x, window).tolist() == slow


def test_repeated_tokens_by_hand():
    assert m.repeated([[5, 6, 5, 7, 5, 6]], window=2).tolist() == [[False, False, True, False, True, False]]


# --- repetition at the end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "repeats"),
    [
        ([1, 2, 3, 1, 2, 3], True),  # a phrase of 3, twice
        ([1, 2, 1, 2], False),  # of 2: too short unless said more than 50 times
        ([1, 2] * 51, True),
        ([9] * 51, True),
        ([9] * 50, False),  # phrases of 3 also repeat, but "9" is said most often, and it is short
        ([4, 5, 6, 7], False),
    ],
)
def test_texts_that_end_in_a_repeated_phrase(end, repeats):
    assert m.tail_repeats([[100, 101, 102, 103, *end]]).tolist() == [repeats]


def _published_repetition(text, longest=90):
    """Say the definition once more, phrase by phrase."""
    times = []
    for n in range(1, longest + 1):
        count = 1
        while len(text) >= n * (count + 1) and text[-n * (count + 1) : -n * count] == text[-n:]:
            count += 1
        times.append(count)
    n = int(np.argmax(times)) + 1
    return times[n - 1] > 1 and (n >= 3 or times[n - 1] > 50)


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 8), st.integers(0, 60))
def test_repeated_phrases_against_the_definition(x, n, more):
    x = [row + row[-n:] * more for row in x]
    assert m.tail_repeats(x).tolist() == [_published_repetition(row) for row in x]


# --- loops ------------------------------------------------------------------------------------------------


def find_loop_reference(text, *, longest, repeats, shortest):
    """(seen, onset, period) of the first loop of one text, straight from the definition, or (0, 0, 0)."""
    for t in range(1, len(text) + 1):
        for p in range(1, longest + 1):
            L = max(shortest, repeats * p)
            if t >= L and all(text[i] == text[i - p] for i in range(t - L + p, t)):
                return t, t - L, p
    return 0, 0, 0


def _random_text(rng, length, alphabet=50):
    return rng.permutation(length) + alphabet  # no token twice


def test_a_loop_by_hand():
    text = np.concatenate([np.arange(100, 110), np.tile([1, 2, 3], 20)])
    loops = m.find_loops(text)
    assert (loops.onset[0], loops.period[0], loops.seen[0]) == (10, 3, 58)  # 48 tokens of it
    assert loops.looped.tolist() == [True]
    loops = m.find_loops(np.concatenate([np.arange(100, 110), np.tile(np.arange(20), 4)]))
    assert (loops.onset[0], loops.period[0], loops.seen[0]) == (10, 20, 70)  # three rounds of 20


def test_short_chants_and_two_rounds_are_no_loop():
    rng = np.random.default_rng(0)
    text = np.concatenate(
        [[7] * 47, _random_text(rng, 40), np.tile(np.arange(40), 2), _random_text(rng, 9) + 99]
    )
    assert not m.find_loops(text).looped[0]
    assert m.find_loops(text, repeats=2).period[0] == 40


def test_a_loop_may_be_left_again_and_is_seen_all_the_same():
    rng = np.random.default_rng(1)
    loop = np.tile([3, 4], 30)
    text = np.concatenate([_random_text(rng, 30), loop, _random_text(rng, 200) + 300])
    assert m.find_loops(text).seen[0] == 30 + 48
    assert not m.tail_repeats(text)[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(0, 30))
def test_loops_against_the_definition(seed, p, start):
    rng = np.random.default_rng(seed)
    cycle = rng.integers(0, 3, p)
    text = np.concatenate(
        [rng.integers(0, 3, start), np.tile(cycle, 60)[: rng.integers(1, 70)], rng.integers(0, 3, 9)]
    )
    settings_ = {"longest": 10, "repeats": 3, "shortest": 12}
    found = m.find_loops(text, **settings_)
    expected = find_loop_reference(text.tolist(), **settings_)
    assert (found.seen[0], found.onset[0], found.period[0]) == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 150))
def test_whether_a_loop_is_seen_depends_on_the_tokens_before_it_alone(seed, cut):
    rng = np.random.default_rng(seed)
    text = np.concatenate([rng.integers(0, 99, rng.integers(0, 80)), np.tile(rng.integers(0, 99, 4), 40)])[
        :160
    ]
    whole, part = m.find_loops(text).seen[0], m.find_loops(text[:cut]).seen[0]
    assert part == (whole if 0 < whole <= cut else 0)


def test_many_texts_at_once_agree_with_one_at_a_time():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 2, (5, 120))
    together = m.find_loops(x)
    assert [m.find_loops(row).seen[0] for row in x] == together.seen.tolist()


# --- compression, Zipf, self-BLEU -------------------------------------------------------------------------


def test_compression_and_its_length_bias():
    rng = np.random.default_rng(3)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), rng.integers(2, 9))) for _ in range(300)]
    text = " ".join(rng.choice(words, 2_000))
    ratios = [m.compression_ratio(text[:n]) for n in (200, 800, 3_200)]
    assert ratios[0] > ratios[1] > ratios[2]  # one source, three lengths
    assert m.compression_ratio("over and over " * 300) < 0.03
    first, last = m.compression_ends(text + "and again " * 200)
    assert first == pytest.approx(m.compression_ratio(text[: m.PIECE]))
    assert last < 0.1 < first
    assert m.compression_ends("short text") == (m.compression_ratio("short text"),) * 2
    assert m.compression_ratio("é" * 100) == pytest.approx(
        m.compression_ratio("ab" * 100), abs=0.03
    )  # bytes count


@pytest.mark.parametrize("z", [0.5, 1.0, 1.5])
def test_zipf_exponent_of_exact_power_laws(z):
    counts = np.round(1e5 * np.arange(1.0, 101) ** -z).astype(int)
    tokens = np.repeat(np.arange(100), counts)[None]
    assert m.zipf_exponent(tokens) == pytest.approx(z, abs=0.01)
    assert m.zipf_exponent(tokens, ranks=10) == pytest.approx(z, abs=0.01)


def test_self_bleu_by_hand():
    x = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
    none = np.exp(np.mean(np.log([0.1 / 5, 0.1 / 4, 0.1 / 3, 0.1 / 2])))
    assert m.self_bleu(x) == pytest.approx([1, 1, none])
    # "1 1 1 1 2" shares the token 1 once (clipped) and 2 once with the other text; no pair
    assert m.self_bleu([[1, 1, 1, 1, 2], [2, 3, 1, 4, 5]], n=2)[0] == pytest.approx(np.sqrt(2 / 5 * 0.1 / 4))


@settings(max_examples=40, deadline=None)
@given(texts.filter(lambda x: len(x) > 1), st.integers(1, 4))
def test_shared_ngrams_against_counters(x, n):
    from collections import Counter

    counts = [Counter(tuple(row[i : i + n]) for i in range(len(row) - n + 1)) for row in x]
    expected = [
        sum(min(c, max(o[g] for j, o in enumerate(counts) if j != i)) for g, c in own.items())
        for i, own in enumerate(counts)
    ]
    assert m._shared(m.ngram_ids(x, n)).tolist() == expected


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: m.seq_rep([[1.5, 2, 3, 4]]), "whole token ids"),
        (lambda: m.seq_rep([[1, 2], [3]]), "equal length"),
        (lambda: m.seq_rep([[1, 2, 3]]), "at least 4 tokens"),
        (lambda: m.seq_rep([[-1, 2, 3, 4]]), "negative token id"),
        (lambda: m.distinct([]), "whole token ids"),
        (lambda: m.distinct([[True, False]]), "whole token ids"),
        (lambda: m.find_loops([[1, 2]], repeats=1), "at least 2"),
        (lambda: m.repeated([[1, 2]], window=0), "at least 1"),
        (lambda: m.compression_ratio(""), "empty text"),
        (lambda: m.compression_ends(b"bytes"), "must be a string"),
        (lambda: m.zipf_exponent([[3, 3, 3]]), "two different tokens"),
        (lambda: m.self_bleu([[1, 2, 3, 4]]), "at least two texts"),
        (lambda: m.check_trace(None), "lacks rule"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()
