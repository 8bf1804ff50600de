"""Exact search: modes by hand and by enumeration; loops and typical texts; bad input."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.sampling import exact_search as ex


def small(seed: int, V: int = 3, states: int = 4) -> ex.Grammar:
    """Return a random grammar whose every state may end."""
    rng = np.random.default_rng(seed)
    return ex.Grammar(rng.dirichlet(np.full(V + 1, 0.7), size=states), rng.integers(states, size=(states, V)))


def brute_force(grammar: ex.Grammar, n: int) -> list[tuple[float, tuple[int, ...]]]:
    """Return (log p, words) of all first n words."""
    ways = [(0.0, (), 0)]
    for _ in range(n):
        ways = [
            (lp + grammar.log_P[s, w], (*words, w), grammar.moves[s, w])
            for lp, words, s in ways
            for w in range(grammar.words)
        ]
    return sorted(((lp, words) for lp, words, _ in ways), reverse=True)


def log_prob(grammar: ex.Grammar, text: tuple[int, ...]) -> float:
    """ln p(text) of a complete text, the end included."""
    state, total = 0, 0.0
    for word in text:
        total, state = total + grammar.log_P[state, word], grammar.moves[state, word]
    return total + grammar.log_P[state, -1]


def visits(grammar: ex.Grammar) -> np.ndarray:
    """How often each state is expected to be entered in a text: (I - Tᵀ)⁻¹ e_0."""
    T = np.zeros((grammar.states, grammar.states))
    np.add.at(T, (np.arange(grammar.states)[:, None], grammar.moves), grammar.P[:, :-1])
    return np.linalg.solve(np.eye(grammar.states) - T.T, np.eye(grammar.states)[0])


def mean_length(grammar: ex.Grammar) -> float:
    """Mean words of a text: as many as states entered, less the first one."""
    return float(visits(grammar).sum() - 1)


@pytest.fixture(scope="module")
def long_texts() -> list[ex.Grammar]:
    rng = np.random.default_rng(5)
    return [ex.random_grammar(20, 8, 0.25, rng) for _ in range(30)]


# --- the mode ---------------------------------------------------------------------------------------------


def test_the_mode_by_hand():
    # "a" then "b" twice as likely as the end: p() = .2, p(a) = .6 · .3, p(ab) = .6 · .7 · .9
    grammar = ex.markov_grammar([0.6, 0.2, 0.2], [[0.0, 0.7, 0.3], [0.1, 0.0, 0.9]])
    best = ex.mode(grammar)
    assert best.words == (0, 1)
    assert math.exp(best.log_prob) == pytest.approx(0.378)
    assert log_prob(grammar, (0, 1)) == pytest.approx(best.log_prob)
    assert math.exp(log_prob(grammar, ())) == pytest.approx(0.2)
    assert log_prob(grammar, (0, 0)) == -math.inf
    assert np.exp(ex._completions(grammar)[0]) == pytest.approx([0.378, 0.63, 0.9])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_the_mode_is_empty_where_no_state_is_likelier_to_end_than_the_first(seed):
    grammar = small(seed)
    P = grammar.P[np.argsort(-grammar.P[:, -1])]
    assert ex.mode(ex.Grammar(P, grammar.moves)).words == ()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_mode_by_enumeration(seed):
    grammar = small(seed)
    best = ex.mode(grammar)
    assert log_prob(grammar, best.words) == pytest.approx(best.log_prob, abs=1e-12)
    assert len(best.words) < grammar.states  # no state twice
    every = (w for n in range(grammar.states) for w in itertools.product(range(grammar.words), repeat=n))
    assert max(log_prob(grammar, words) for words in every) == pytest.approx(best.log_prob, abs=1e-12)


def test_the_mode_of_a_markov_language_uses_no_word_twice():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        P = rng.dirichlet(np.full(9, 0.3), size=9)
        P[:, -1] *= 0.01  # long texts
        P /= P.sum(1, keepdims=True)
        grammar = ex.markov_grammar(P[0], P[1:])
        words = ex.mode(grammar).words
        assert len(set(words)) == len(words) <= 8
        assert mean_length(grammar) > 20


# --- means, entropies, lengths ----------------------------------------------------------------------------


def test_random_grammars_have_the_length_that_they_promise(long_texts):
    for truth in long_texts[:5]:
        assert mean_length(truth) == pytest.approx(8 + 1 / 0.25 - 1)
        assert (truth.P[: 1 + 7 * 20, -1] == 0).all()  # none ends before its eighth word


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_texts_of_a_given_length(seed, n):
    rng = np.random.default_rng(seed)
    grammar = ex.endless_grammar(rng.dirichlet(np.ones(3)), rng.dirichlet(np.full(3, 0.5), size=3))
    ways = brute_force(grammar, n)
    best = ex.best_of_length(grammar, n)
    assert best.log_prob == pytest.approx(ways[0][0])
    lp = np.array([w[0] for w in ways])
    p = np.exp(lp)
    lp = np.where(p > 0, lp, 0)
    mean, sd = ex.surprise(grammar, n)
    assert mean == pytest.approx(-(p * lp).sum())
    assert sd**2 == pytest.approx((p * lp**2).sum() - mean**2, abs=1e-9)


def test_the_best_loop_by_hand_and_by_enumeration():
    P = np.array([[0.1, 0.9, 0.0], [0.5, 0.0, 0.5], [0.0, 0.2, 0.8]])
    loop = ex.best_cycle(ex.endless_grammar([1, 0, 0], P))
    assert loop.words == (2,)  # ln .8 beats (ln .9 + ln .5)/2
    assert loop.rate == pytest.approx(math.log(0.8))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        grammar = ex.endless_grammar(rng.dirichlet(np.ones(4)), rng.dirichlet(np.full(4, 0.5), size=4))
        loop = ex.best_cycle(grammar)
        rows = np.array(loop.words)
        assert grammar.log_P[rows + 1, np.roll(rows, -1)].mean() == pytest.approx(loop.rate)
        cycles = [
            np.mean([grammar.log_P[i + 1, j] for i, j in zip(c, (*c[1:], c[0]), strict=True)])
            for n in range(1, 5)
            for c in np.ndindex(*[4] * n)
        ]
        assert loop.rate == pytest.approx(max(cycles))


def test_the_likeliest_long_text_is_a_loop_and_not_typical():
    rng = np.random.default_rng(1)
    P = rng.dirichlet(np.full(20, 0.3), size=20)
    result = ex.typical_and_mode(ex.endless_grammar(rng.dirichlet(np.ones(20)), P), (4, 16, 64, 256))
    assert (result.mode < result.mean).all()
    assert abs(result.mode[-1] - result.floor) < 0.02
    text = ex.best_of_length(ex.endless_grammar(np.full(20, 0.05), P), 200).words
    k = len(result.loop)
    assert text[50:150] == text[50 + k : 150 + k]
    values, vectors = np.linalg.eig(P.T)
    mu = np.real(vectors[:, np.argmax(np.real(values))])
    mu /= mu.sum()
    rate = -(mu[:, None] * P * np.log(np.maximum(P, 1e-300))).sum()
    assert result.mean[-1] == pytest.approx(rate, abs=0.01)
    # √n: four times the length, twice the standard deviations
    deviations = (result.mean - result.mode) / result.sd
    assert deviations[-1] / deviations[-2] == pytest.approx(2, abs=0.15)


# --- learning ---------------------------------------------------------------------------------------------


def test_smoothed_labels_are_learned_exactly():
    grammar, eps = small(1), 0.1
    Q = ex.label_smoothed(grammar, eps).P[0]
    target = (1 - eps) * grammar.P[0] + eps / 4

    def loss(q):
        return -(target * np.log(q)).sum()

    rng = np.random.default_rng(0)
    assert all(loss(Q) < loss(rng.dirichlet(100 * Q)) for _ in range(100))
    assert Q.sum() == pytest.approx(1)


def test_counts_follow_the_grammar(long_texts):
    truth = long_texts[0]
    counts = ex.draw_counts(truth, 50_000, np.random.default_rng(0))
    assert counts[0].sum() == 50_000  # every text starts once
    assert counts[:, -1].sum() == 50_000  # and ends once
    entered = visits(truth)
    assert counts.sum(1) / 50_000 == pytest.approx(entered, abs=0.02)
    assert not (counts[truth.P == 0] > 0).any()
    learned = ex.learn(counts, truth.moves, alpha=0.1)
    busy = counts.sum(1) > 5_000
    assert np.abs(learned.P - truth.P)[busy].max() < 0.03
    again = ex.draw_counts(truth, 50_000, np.random.default_rng(0))
    assert (again == counts).all()


def test_a_bigram_forgets_how_long_the_text_is(long_texts):
    truth = long_texts[0]
    counts = ex.draw_counts(truth, 1_000, np.random.default_rng(0))
    pooled, moves = ex.forget_position(counts, 20)
    assert pooled.sum() == counts.sum()
    assert (pooled[0] == counts[0]).all()
    bigram = ex.learn(pooled, moves, alpha=0.1)
    assert bigram.states == 21
    assert len(ex.mode(bigram).words) < 8  # likelier than any true text, and none itself


def test_the_empty_mode_appears_with_length_and_goes_with_data():
    table = ex.empty_modes(ex.EmptyModes(languages=10, shortest=(1, 8), texts=(100, 100_000)))
    share = table.set_index(["learner", "shortest", "texts"])["share"]
    assert share["counts", 8, 100] == 1
    assert share["counts", 8, 100_000] == 0
    assert share["counts", 1, 100] == 0
    assert share["labels smoothed by 0.1", 8, math.inf] == 1
    bigrams = table[(table["learner"] == "bigram") & (table["shortest"] == 8)]
    assert (bigrams["too_short"] == 1).all()  # the wrong structure is not cured by data
    assert list(table.columns) == list(ex.EMPTY_COLUMNS)
    again = ex.empty_modes(ex.EmptyModes(languages=10, shortest=(1, 8), texts=(100, 100_000)))
    assert again.equals(table)


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ex.Grammar([[0.5, 0.4]], [[0]]), "sum to 1"),
        (lambda: ex.Grammar([[0.5, 0.5]], [[1]]), "0 … 0"),
        (lambda: ex.Grammar([[0.5, 0.5]], [0]), "shape"),
        (lambda: ex.Grammar([0.5, 0.5], [[0]]), "shape"),
        (lambda: ex.Grammar([[math.nan, 0.5]], [[0]]), "NaN"),
        (lambda: ex.markov_grammar([1.0, 0.0], [[1.0]]), "V\\+1"),
        (lambda: ex.endless_grammar([1.0, 0.0], [[1.0]]), "V entries"),
        (lambda: ex.mode(ex.endless_grammar([1.0], [[1.0]])), "ever ends"),
        (lambda: ex.surprise(small(0), 3), "end before"),
        (lambda: ex.best_cycle(ex.Grammar([[0.0, 1.0]], [[0]])), "no loop"),
        (lambda: ex.best_of_length(ex.Grammar([[0.0, 1.0]], [[0]]), 2), "no text"),
        (lambda: ex.EmptyModes(languages=0), "languages"),
        (lambda: ex.EmptyModes(shortest=3), "list"),
        (lambda: ex.EmptyModes(eps=(2,)), "probability"),
        (lambda: ex.empty_modes("all"), "EmptyModes"),
        (lambda: ex.typical_and_mode(small(0), []), "at least one"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()
