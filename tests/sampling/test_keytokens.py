"""(1-e)ⁿ and its critics: closed forms against enumeration and simulation, the inequalities between them, bad input."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.sampling import keytokens as kt
from one_step_trap.sampling.exposure import two_region_share
from one_step_trap.sampling.plots.exact import plot_survival

RATES = st.floats(1e-4, 0.3)
LENGTHS = st.integers(0, 400)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_lecun_by_hand():
    assert kt.survival(0.01, [0, 1, 70]) == pytest.approx([1, 0.99, 0.99**70])
    assert kt.survival(0.01, 69) == pytest.approx(0.5, abs=0.001)


def _enumerated(first, begin, end, n):
    """Probabilities that no token is wrong, and that the last is right, by going through all 2ⁿ texts."""
    none = last = 0.0
    for text in itertools.product([False, True], repeat=n):
        p = first if text[0] else 1 - first
        for before, now in itertools.pairwise(text):
            wrong = 1 - end if before else begin
            p *= wrong if now else 1 - wrong
        none += p * (not any(text))
        last += p * (not text[-1])
    return none, last


def test_recovery_and_bursts_against_all_texts():
    e, r, burst = 0.1, 0.3, 4.0
    assert kt.correct_at(e, r, 7) == pytest.approx(_enumerated(e, e, r, 7)[1])
    s = e / (burst * (1 - e))
    none, last = _enumerated(e, s, 1 / burst, 7)
    assert kt.bursty_survival(e, burst, 7) == pytest.approx(none)
    assert last == pytest.approx(1 - e)  # the law of bursts is stationary: e of all tokens are wrong
    assert kt.bursty_survival(e, 1 / (1 - e), 7) == pytest.approx(kt.survival(e, 7))  # independence
    assert kt.bursty_survival(e, burst, 0) == 1


def test_recovery_is_the_share_of_a_region():
    n = np.arange(50)
    assert kt.correct_at(0.02, 0.3, n) == pytest.approx(1 - two_region_share(0.02, 0.3, 0, n))
    assert kt.correct_at(0.02, 0.3, 10_000) == pytest.approx(0.3 / 0.32)


def test_mixed_by_integration():
    e, a = 0.1, 0.7
    b = a * (1 - e) / e
    x = rng(1).beta(a, b, 400_000)
    assert kt.mixed_survival(e, a, 20) == pytest.approx(((1 - x) ** 20).mean(), rel=0.01)
    assert kt.mixed_survival(e, a, 1) == pytest.approx(1 - e)
    assert kt.mixed_survival(e, 1e7, 50) == pytest.approx(kt.survival(e, 50), rel=1e-4)


def test_mixed_falls_as_a_power():
    far = kt.mixed_survival(0.01, 0.5, np.array([1e6, 4e6]))
    assert np.log(far[1] / far[0]) / np.log(4) == pytest.approx(-0.5, abs=1e-3)


@settings(max_examples=150, deadline=None)
@given(RATES, LENGTHS, st.floats(0.3, 1), st.floats(0.05, 20), st.floats(0, 1), st.floats(2, 50))
def test_who_is_above_whom(e, n, share, spread, recover, burst):
    lecun = kt.survival(e, n)
    slack = 1e-9
    assert kt.concentrated_survival(e, share, n) <= lecun + slack  # concentration alone makes it worse
    assert kt.key_survival(e, share, n) >= lecun - slack
    assert kt.mixed_survival(e, spread, n) >= lecun - slack
    assert kt.correct_at(e, recover, n) >= lecun - slack
    assert kt.bursty_survival(e, burst, n) >= lecun - slack
    if n:
        assert kt.correct_at(e, 1, n) == pytest.approx(1 / (1 + e) + e / (1 + e) * (-e) ** n)


def test_key_tokens_only_change_the_rate():
    assert kt.key_survival(0.01, 0.1, 1_000) == pytest.approx(kt.survival(0.01, 100))
    assert kt.key_survival(0.01, 0, 1_000) == 1
    n = np.array([1_000.0, 2_000.0, 3_000.0])
    assert np.diff(np.log(kt.key_survival(0.01, 0.1, n))) == pytest.approx(np.full(2, 100 * np.log(0.99)))


def test_simulations_agree_with_the_closed_forms():
    table = kt.compare(rng(2), texts=10_000)
    assert len(table) == 6
    deviation = (table["simulated"] - table["exact"]).abs() / np.sqrt(
        table["exact"] * (1 - table["exact"]) / 10_000
    )
    assert deviation.max() < 4
    assert table["inside"].sum() >= 5
    assert table.equals(kt.compare(rng(2), texts=10_000))


def test_simulated_texts_err_as_often_as_they_should():
    assert kt.draw_independent(0.05, 2_000, 100, rng(3)).mean() == pytest.approx(0.05, abs=0.003)
    assert kt.draw_keys(0.5, 0.1, 2_000, 100, rng(3)).mean() == pytest.approx(0.05, abs=0.003)
    assert kt.draw_mixed(0.05, 5, 2_000, 100, rng(3)).mean() == pytest.approx(0.05, abs=0.004)
    runs = kt.draw_switching(0.05 / (10 * 0.95), 0.1, 0.05, 4_000, 300, rng(3))
    assert runs.mean() == pytest.approx(0.05, abs=0.004)
    ends = (runs[:, :-1] & ~runs[:, 1:]).sum() / runs[:, :-1].sum()
    assert 1 / ends == pytest.approx(10, rel=0.05)  # mean length of a run


def test_plot():
    figure = plot_survival(kt.arguments())
    assert len(figure.axes[0].get_lines()) == 6
    with pytest.raises(BookError, match="1 to 6"):
        plot_survival({})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kt.survival(1.2, 5), "probability"),
        (lambda: kt.survival(0.1, -1), "whole numbers"),
        (lambda: kt.survival(0.1, 2.5), "whole numbers"),
        (lambda: kt.survival(0.1, "ten"), "array of numbers"),
        (lambda: kt.correct_at(0.1, 2, 5), "recover"),
        (lambda: kt.key_survival(0.1, -0.1, 5), "share"),
        (lambda: kt.concentrated_survival(0.5, 0.1, 5), "at least e"),
        (lambda: kt.concentrated_survival(0.1, 0, 5), "above 0"),
        (lambda: kt.mixed_survival(0.1, 0, 5), "spread"),
        (lambda: kt.mixed_survival(0, 1, 5), "strictly"),
        (lambda: kt.bursty_survival(0.1, 0.5, 5), "at least 1"),
        (lambda: kt.bursty_survival(0.9, 1, 5), "longer"),
        (lambda: kt.bursty_survival(1, 5, 5), "longer"),
        (lambda: kt.draw_independent(0.1, 10**6, 10**4, rng()), "do not fit"),
        (lambda: kt.draw_mixed(0, 1, 5, 5, rng()), "strictly"),
        (lambda: kt.draw_switching(0.1, 0.1, 2, 5, 5, rng()), "first"),
        (lambda: kt.compare(rng(), n=55), "multiple of 10"),
        (lambda: kt.compare(0), "Generator"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()
