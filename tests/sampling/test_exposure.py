"""Exposure bias, exactly: by hand, by going through all texts, counter-examples, two regions."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.core.tabular import stationary
from one_step_trap.errors import BookError
from one_step_trap.sampling import exposure as ex
from one_step_trap.sampling.languages import Language, ergodic, off_support, sample_pairs, topics, two_books
from one_step_trap.sampling.learners import add_alpha, copying


def rng(seed=0):
    return np.random.default_rng(seed)


def language_of(P, start=None, regions=None):
    P = np.array(P, dtype=float)
    start = stationary(P) if start is None else np.array(start, dtype=float)
    regions = np.zeros(len(P), dtype=int) if regions is None else np.array(regions)
    return Language("test", P, start, start, regions)


def random_pair(seed, V=4, *, stationary_start=True, mix=0.1):
    """A random language and a model with full support."""
    generator = rng(seed)
    P = generator.dirichlet(np.full(V, 0.5), V) * (1 - mix) + mix / V
    Q = generator.dirichlet(np.full(V, 0.5), V) * (1 - mix) + mix / V
    start = None if stationary_start else generator.dirichlet(np.ones(V))
    return language_of(P, start), Q


@pytest.fixture(scope="module")
def sticky():
    language = off_support(rng(1))
    return language, copying(sample_pairs(language, 1_000_000, rng(2)))


@pytest.fixture(scope="module")
def harmless():
    language = ergodic(rng(3))
    return language, add_alpha(sample_pairs(language, 100_000, rng(4)))


# --- propagation ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 300))
def test_propagation_agrees_with_its_reference(seed, steps):
    language, Q = random_pair(seed, stationary_start=False)
    fast = ex.propagate(language.start, Q, steps)
    assert fast.shape == (steps + 1, 4)
    slow = [language.start]
    for _ in range(steps):
        slow.append(slow[-1] @ Q)
    assert fast == pytest.approx(np.array(slow), abs=1e-12)


def test_positions():
    assert ex.positions(10).tolist() == [1, 2, 3, 4, 6, 8, 10]
    assert ex.positions(1).tolist() == [1]
    assert ex.positions()[-1] == 1_024


# --- measures, by hand and by going through all texts -----------------------------------------------------


def test_a_leak_without_return_by_hand():
    # Text stays at token 0. The model leaves with probability 1/10 and never comes back.
    language = language_of([[1, 0], [1, 0]], start=[1, 0], regions=[0, 1])
    Q = np.array([[0.9, 0.1], [1e-300, 1]])
    e = ex.expose(language, Q, 4)
    stay = 0.9**e.grid
    assert e.grid.tolist() == [1, 2, 3, 4]
    assert e.kl == pytest.approx(-np.log(stay))  # nats: compounds, linearly
    assert e.tv == pytest.approx(1 - stay)
    assert e.sequence_kl == pytest.approx(-np.log(0.9) * np.arange(1, 5))
    assert e.share == pytest.approx(1 - 0.9 ** np.arange(5))
    assert e.drift == pytest.approx(4)
    assert e.steps == 4


def _text_law(start, P, n):
    """Law of (x_1 … x_n) by going through all texts: dict text -> probability."""
    law = {}
    for text in itertools.product(range(len(P)), repeat=n):
        p = start @ P[:, text[0]]
        for a, b in itertools.pairwise(text):
            p *= P[a, b]
        law[text] = p
    return law


@pytest.mark.parametrize("stationary_start", [True, False])
def test_sequences_against_all_texts(stationary_start):
    language, Q = random_pair(7, V=3, stationary_start=stationary_start)
    # A prompt's last token is context of x_1; its law is the same for both, so that it may be summed over in P
    # and Q alike only after conditioning on it: go through it too.
    n, e = 5, ex.expose(language, Q, 6)
    kl = 0.0
    for x0, weight in enumerate(language.start):
        p, q = (_text_law(np.eye(3)[x0], M, n) for M in (language.P, Q))
        kl += weight * sum(p[x] * np.log(p[x] / q[x]) for x in p)
    assert e.sequence_kl[n - 1] == pytest.approx(kl)


def test_sequence_kl_is_linear_whatever_the_model_does(sticky, harmless):
    for language, Q in (sticky, harmless):
        e = ex.expose(language, Q)
        assert np.diff(e.sequence_kl) == pytest.approx(np.full(1_023, e.sequence_kl[0]), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_a_token_never_knows_more_than_its_text(seed, stationary_start):
    language, Q = random_pair(seed, stationary_start=stationary_start)
    e = ex.expose(language, Q, 40)
    assert (e.kl <= e.sequence_kl[e.grid - 1] + 1e-12).all()  # data processing
    assert (e.tv <= np.sqrt(e.kl / 2) + 1e-12).all()  # Pinsker
    assert e.entropy_own[0] == pytest.approx(e.entropy_human[0])  # the prompt is human
    assert e.error_own[0] == pytest.approx(e.error_human[0])


def test_a_perfect_model_does_not_drift():
    language = topics(rng(1), tokens=20)
    e = ex.expose(language, language.P, 50)
    assert e.kl == pytest.approx(0, abs=1e-12)
    assert e.accumulated == pytest.approx(np.arange(1, 51))
    assert e.excess == pytest.approx(0)
    assert ex.agreement(language, language.P, 50) == pytest.approx(1)


# --- accumulated error ------------------------------------------------------------------------------------


def test_accumulated_error_by_hand():
    # One step on human text errs by d0 = ln(1/.9); once away (probability .1, .19) by d1 = ln 2.
    language = language_of([[1, 0], [1, 0]], start=[1, 0], regions=[0, 1])
    Q = np.array([[0.9, 0.1], [0.5, 0.5]])
    e = ex.expose(language, Q, 3)
    d0, d1 = -np.log(0.9), np.log(2)
    away = [0, 0.1, 0.1 * 0.5 + 0.9 * 0.1]
    own = [(1 - m) * d0 + m * d1 for m in away]
    assert e.d == pytest.approx([d0, d1])
    assert e.accumulated == pytest.approx(np.cumsum(own) / d0)
    assert e.excess[-1] == pytest.approx(100 * (sum(own) / d0 / 3 - 1))


def test_the_quadratic_line_is_no_bound_on_log_loss():
    # A leak of 1% to a token after which the model is sure of the wrong thing: after 2 tokens beyond 2² = 4 errors.
    language = language_of([[1, 0], [1, 0]], start=[1, 0], regions=[0, 1])
    e = ex.expose(language, np.array([[0.99, 0.01], [1e-8, 1 - 1e-8]]), 10)
    assert e.accumulated[1] > 4
    assert (e.accumulated[1:] > np.arange(2, 11) ** 2).all()


def test_the_linear_line_is_no_bound_either():
    # Human text is hard to predict (token 0), and the model drifts to where it knows everything (token 1).
    language = language_of([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]], start=[0.5, 0.5, 0], regions=[0, 0, 1])
    Q = np.array([[0.7, 0.1, 0.2], [0.1, 0.7, 0.2], [1e-9, 1e-9, 1 - 2e-9]])
    e = ex.expose(language, Q, 50)
    assert e.excess[-1] < -50


# --- two regions ------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 60))
def test_share_of_a_region_against_its_recursion(leave, back, start, t):
    m = start
    for _ in range(t):
        m = m * (1 - back) + (1 - m) * leave
    assert ex.two_region_share(leave, back, start, t) == pytest.approx(m, abs=1e-9)


def test_the_prediction_is_exact_where_regions_are_all_there_is():
    language = language_of([[1, 0], [1, 0]], start=[1, 0], regions=[0, 1])
    Q = np.array([[0.97, 0.03], [0.2, 0.8]])
    e = ex.expose(language, Q, 200)
    theory = ex.predict(language, Q, e.grid)
    assert theory.kl == pytest.approx(e.kl)
    assert theory.share == pytest.approx(e.share[e.grid])
    assert theory.entropy == pytest.approx(e.entropy_own[e.grid - 1])
    assert ex.rates(language, Q)[:2] == pytest.approx((0.03, 0.2))


def test_the_prediction_on_a_learned_language(sticky):
    language, Q = sticky
    e = ex.expose(language, Q)
    theory = ex.predict(language, Q, e.grid)
    assert theory.kl[0] == pytest.approx(e.kl[0])
    assert theory.share[-1] == pytest.approx(e.share[-1], rel=0.06)
    assert theory.kl[-1] == pytest.approx(e.kl[-1], rel=0.06)
    rate = ex.rates(language, Q)
    assert 1 / rate.back == pytest.approx(
        50 / 0.75, rel=0.02
    )  # copies for 50 tokens, and 3 of 4 new ones are in use
    assert rate.entropy_away < 0.3 < rate.entropy_home


def test_one_region_means_no_drift(harmless):
    language, Q = harmless
    e = ex.expose(language, Q)
    assert ex.predict(language, Q, [1, 1_024]).kl == pytest.approx(np.full(2, e.kl[0]))
    assert e.drift < 1.2
    assert e.tv.max() < 0.3


# --- what a hostile reader asks ---------------------------------------------------------------------------


def test_agreement_is_lecuns_formula():
    # Independent tokens: e = TV of the two laws, and (1-e)ⁿ is exact.
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.2, 0.3])
    language = language_of(np.tile(p, (3, 1)))
    same = ex.agreement(language, np.tile(q, (3, 1)), 20)
    assert same == pytest.approx(0.8 ** np.arange(21))
    assert ex.coincidence(language, 20) == pytest.approx((p @ p) ** np.arange(21))


def test_agreement_by_going_through_all_texts():
    language, Q = random_pair(11, V=3)
    S = ex.agreement(language, Q, 4)
    for n in (1, 4):
        total = sequence_tv = 0.0
        for x0, weight in enumerate(language.start):
            p, q = (_text_law(np.eye(3)[x0], M, n) for M in (language.P, Q))
            sequence_tv += weight * sum(abs(p[x] - q[x]) for x in p) / 2
            total += weight * sum(
                np.prod([min(language.P[a, b], Q[a, b]) for a, b in itertools.pairwise((x0, *x))]) for x in p
            )
        assert S[n] == pytest.approx(total)
        assert S[n] <= 1 - sequence_tv + 1e-12


def test_agreement_falls_though_the_text_does_not_get_worse(harmless):
    language, Q = harmless
    e = ex.expose(language, Q)
    assert ex.agreement(language, Q)[300] < 1e-9
    assert e.kl[-1] < 1.2 * e.kl[0]
    assert ex.coincidence(language)[10] < ex.agreement(language, Q)[10]


def test_two_books_drift_without_error():
    language = two_books(rng(5))
    Q = add_alpha(sample_pairs(language, 100_000, rng(6)))
    e = ex.expose(language, Q)
    assert e.drift > 50
    assert abs(e.excess[-1]) < 5  # each step is as right as on human text: AccErr sees nothing


BAD = language_of([[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ex.expose("text", np.eye(2)), "Language"),
        (lambda: ex.expose(BAD, np.eye(2)), "above 0"),
        (lambda: ex.expose(BAD, np.eye(3)), "shape"),
        (lambda: ex.expose(BAD, [[0.5, 0.6], [0.5, 0.5]]), "sum to 1"),
        (lambda: ex.expose(BAD, BAD.P, 0), "at least 1"),
        (lambda: ex.expose(BAD, BAD.P, 2.5), "whole number"),
        (lambda: ex.predict(BAD, BAD.P, [0]), "at least 1"),
        (lambda: ex.predict(BAD, BAD.P, ["last"]), "array of numbers"),
        (lambda: ex.two_region_share(0.5, 0, 0, -1), "whole numbers"),
        (lambda: ex.rates(replace(BAD, regions=np.array([1, 1])), BAD.P), "region 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()
