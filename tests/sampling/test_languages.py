"""Markov languages: by hand, where text can go, and the data that a learner gets."""

import math

import numpy as np
import pytest

from one_step_trap.core.tabular import dobrushin
from one_step_trap.errors import BookError
from one_step_trap.sampling import languages as la
from one_step_trap.sampling.exposure import one_step_error
from one_step_trap.sampling.learners import add_alpha


def rng(seed=0):
    return np.random.default_rng(seed)


def second(language):
    """λ₂, the second largest modulus of an eigenvalue of P: a language remembers for 1/(1 - λ₂) tokens."""
    return np.sort(np.abs(np.linalg.eigvals(language.P)))[-2]


def used(language):
    """Which tokens a text can ever hold."""
    reached = language.start > 0
    for _ in range(language.tokens):
        reached = reached | (language.P[reached] > 0).any(axis=0)
    return reached


def long_text_pairs(language, length, generator):
    """How often each token follows each in one text, drawn token by token."""
    counts = np.zeros(language.P.shape)
    here = generator.choice(language.tokens, p=language.start)
    for _ in range(length):
        before, here = here, generator.choice(language.tokens, p=language.P[here])
        counts[before, here] += 1
    return counts


MAKERS = (la.ergodic, la.topics, la.off_support, la.two_books)


def test_zipf_by_hand():
    assert la.zipf(3) == pytest.approx(np.array([6, 3, 2]) / 11)
    assert la.zipf(4, 0) == pytest.approx(np.full(4, 0.25))


def test_entropy_by_hand():
    assert la.entropy([[0.5, 0.5, 0], [1, 0, 0]]) == pytest.approx([math.log(2), 0])
    assert la.entropy(np.full(8, 1 / 8)) == pytest.approx(math.log(8))


@pytest.mark.parametrize("make", MAKERS)
def test_every_language_starts_in_its_stationary_law_at_home(make):
    language = make(rng(1))
    assert language.start @ language.P == pytest.approx(language.start, abs=1e-12)
    assert language.tokens == 200
    assert language.corpus.sum() == pytest.approx(1)
    assert language.start[language.regions == 0].sum() > 0.45


def test_ergodic_forgets_within_a_few_tokens_and_topics_do_not():
    quick, slow = la.ergodic(rng(2)), la.topics(rng(2))
    assert (quick.P > 0).all()
    assert dobrushin(quick.P) < 0.95
    assert second(quick) < 0.5
    assert second(slow) == pytest.approx(1 - 0.02)  # 1 - λ₂ = 2 · change, the topic being a chain of its own
    assert second(la.topics(rng(2), change=0.25)) == pytest.approx(0.5)
    assert second(la.two_books(rng(2))) == pytest.approx(1)


def test_topics_change_as_they_should():
    language = la.topics(rng(3), tokens=20, change=0.1)
    stays = language.P[:10, :10].sum(axis=1)
    assert stays == pytest.approx(0.9)
    assert language.start[:10].sum() == pytest.approx(0.5)


def test_where_text_never_goes():
    off = la.off_support(rng(4))
    assert used(off).sum() == 150
    assert (used(off) == (off.regions == 0)).all()
    assert off.P[used(off)][:, ~used(off)].max() == 0
    assert off.P[~used(off)] == pytest.approx(np.tile(off.start, (50, 1)))  # begins anew
    books = la.two_books(rng(4), share=0.3)
    assert (used(books) == (books.regions == 0)).all()
    assert books.corpus[50 + 100 :].sum() == pytest.approx(0.3)
    assert books.corpus @ books.P == pytest.approx(books.corpus)


def test_rows_have_the_frequencies_as_their_mean():
    rows = np.mean([la.ergodic(rng(k), tokens=20, peaked=5).P for k in range(300)], axis=(0, 1))
    assert rows == pytest.approx(la.zipf(20), abs=0.005)
    flat, sharp = (la.ergodic(rng(5), peaked=c) for c in (1_000, 5))
    assert flat.start @ la.entropy(flat.P) > sharp.start @ la.entropy(sharp.P) + 1


def test_pairs_have_the_law_of_the_corpus():
    language = la.two_books(rng(6), tokens=12, other=4)
    counts = la.sample_pairs(language, 1_000_000, rng(7))
    assert counts.sum() == 1_000_000
    law = language.corpus[:, None] * language.P
    assert np.abs(counts / 1e6 - law).max() < 5 * np.sqrt(law.max() / 1e6)
    assert (counts[law == 0] == 0).all()
    assert la.sample_pairs(language, 0, rng(7)).sum() == 0


def test_independent_pairs_teach_as_much_as_one_long_text():
    language = la.ergodic(rng(10), tokens=30)
    errors = {"pairs": [], "text": []}
    for k in range(12):
        data = {
            "pairs": la.sample_pairs(language, 3_000, rng(k)),
            "text": long_text_pairs(language, 3_000, rng(k)),
        }
        for name, counts in data.items():
            errors[name].append(language.start @ one_step_error(language, add_alpha(counts, 0.1)))
    pairs, text = (np.array(errors[name]) for name in ("pairs", "text"))
    spread = np.sqrt(pairs.var(ddof=1) / 12 + text.var(ddof=1) / 12)
    assert abs(pairs.mean() - text.mean()) < 4 * spread
    assert pairs.mean() == pytest.approx(text.mean(), rel=0.1)


@pytest.mark.parametrize("make", MAKERS)
def test_same_seed_same_language(make):
    assert (make(rng(11)).P == make(rng(11)).P).all()
    assert (make(rng(11)).P != make(rng(12)).P).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: la.zipf(0), "at least 1"),
        (lambda: la.zipf(5, -1), "at least 0"),
        (lambda: la.zipf(5, "one"), "number"),
        (lambda: la.ergodic(0), "Generator"),
        (lambda: la.ergodic(rng(), tokens=1), "at least 2"),
        (lambda: la.ergodic(rng(), peaked=0), "above 0"),
        (lambda: la.topics(rng(), change=0), "1/2"),
        (lambda: la.topics(rng(), change=0.7), "1/2"),
        (lambda: la.off_support(rng(), unused=199), "at least 2 of the 200"),
        (lambda: la.off_support(rng(), unused=0), "at least 1"),
        (lambda: la.two_books(rng(), share=1), "strictly"),
        (lambda: la.two_books(rng(), other=199), "first book"),
        (lambda: la.sample_pairs("text", 5, rng()), "Language"),
        (lambda: la.sample_pairs(la.ergodic(rng()), -1, rng()), "at least 0"),
        (lambda: la.entropy([-0.1, 1.1]), "probabilities"),
        (lambda: la.entropy([np.nan]), "NaN"),
        (lambda: la.Language("x", np.eye(2), [0.5, 0.6], [1, 0], np.array([0, 1])), "sum to 1"),
        (lambda: la.Language("x", np.eye(2), [1, 0], [1, 0], np.array([0, 2])), "regions"),
        (lambda: la.Language("x", np.ones((2, 2)), [1, 0], [1, 0], np.array([0, 1])), "sum to 1"),
        (lambda: la.Language("x", np.ones((2, 2, 2)) / 2, [1, 0], [1, 0], np.array([0, 1])), "one matrix"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()
