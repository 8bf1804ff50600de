"""Survival of texts until they loop: by hand, against SciPy, coverage of prompts and not of seeds, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from one_step_trap.core.stats import proportion_interval
from one_step_trap.errors import BookError
from one_step_trap.sampling import survival as sv
from one_step_trap.sampling.plots.drift import plot_survival


def test_kaplan_meier_by_hand():
    times, looped = [2, 3, 3, 5, 8], [True, True, False, True, False]
    # 5 at risk at 2; 4 at 3, of whom one loops and one is lost; 2 at 5
    expected = [1, 4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 / 2]
    assert sv.kaplan_meier(times, looped, [1, 2, 3, 5]) == pytest.approx(expected)
    assert sv.kaplan_meier([4, 4], [False, False], [0, 4]).tolist() == [1, 1]


def test_one_censoring_time_gives_the_share_itself():
    rng = np.random.default_rng(0)
    seen = np.where(rng.random((40, 3)) < 0.6, rng.integers(50, 1_000, (40, 3)), 0)
    curve = sv.survival(seen, 1_024, rng, resamples=200)
    assert curve.share[-1] == pytest.approx((seen == 0).mean())
    at = int(np.searchsorted(curve.tokens, 512))
    assert curve.share[at] == pytest.approx(((seen == 0) | (seen > curve.tokens[at])).mean())
    assert (np.diff(curve.share) <= 0).all()
    assert ((curve.low <= curve.share) & (curve.share <= curve.high)).all()
    times = np.where(seen > 0, seen, 1_024)
    assert curve.mean.value == pytest.approx(times.mean())  # the area under the curve


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_resampled_curves_are_those_of_scipy_on_the_resampled_texts(seed):
    rng = np.random.default_rng(seed)
    times = rng.integers(1, 20, (6, 2)).astype(float)
    event = rng.random((6, 2)) < 0.7
    pick = rng.integers(6, size=6)
    at = np.arange(21)
    ours = sv.weighted_survival(times, event, np.bincount(pick, minlength=6)[None], at)[0]
    assert ours == pytest.approx(sv.kaplan_meier(times[pick].ravel(), event[pick].ravel(), at))


def test_the_band_is_over_prompts_and_not_over_texts():
    rng = np.random.default_rng(1)
    prompts = np.where(rng.random(30) < 0.5, 200, 0)
    once = sv.survival(prompts, 400, np.random.default_rng(2), resamples=500)
    thrice = sv.survival(np.repeat(prompts[:, None], 3, axis=1), 400, np.random.default_rng(2), resamples=500)
    assert thrice.n == 30
    assert thrice.low == pytest.approx(once.low)  # three equal seeds add nothing
    data = stats.CensoredData.right_censored(np.where(prompts, 200, 400), prompts == 0)
    greenwood = stats.ecdf(data).sf.confidence_interval()
    assert once.low[-1] == pytest.approx(
        greenwood.low.probabilities[0], abs=0.05
    )  # and for one seed they agree
    assert once.high[-1] == pytest.approx(greenwood.high.probabilities[0], abs=0.05)


def test_no_loop_at_all_is_not_certainty():
    curve = sv.survival(np.zeros((64, 3)), 1_024, np.random.default_rng(3), resamples=100)
    assert (curve.share == 1).all()
    assert curve.low[-1] == pytest.approx(proportion_interval(64, 64).low)
    assert curve.median.value is None
    assert str(curve.median) == "not reached [more than 1,024, more than 1,024] (n = 64)"
    every = sv.survival(np.full((64, 3), 300), 1_024, np.random.default_rng(3), resamples=100)
    assert every.share[-1] == 0 < every.high[-1]
    assert (every.median.value, every.median.low, every.median.high) == (300, 300, 300)
    assert every.mean.value == pytest.approx(300)


def test_median_that_may_or_may_not_be_reached():
    rng = np.random.default_rng(4)
    seen = np.where(np.arange(40) < 21, rng.integers(100, 200, 40), 0)  # 21 of 40 loop: just above half
    curve = sv.survival(seen, 1_024, rng)
    assert 100 <= curve.median.low <= curve.median.value <= 200
    assert curve.median.high is None
    assert "more than 1,024" in str(curve.median)


def test_determinism_and_table():
    seen = np.random.default_rng(5).integers(0, 2, (20, 3)) * 100
    a, b = (sv.survival(seen, 256, np.random.default_rng(6), rule="greedy") for _ in range(2))
    assert (a.low == b.low).all()
    assert a.median == b.median
    table = sv.survival_table({"greedy": a})
    assert list(table.columns) == ["rule", "median", "mean", "looped by 128", "looped by 256"]
    assert table["looped by 256"][0].startswith(f"{(seen > 0).mean():.2f} [")
    assert plot_survival({"greedy": a}).axes[0].get_legend()


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    hits, runs = 0, 150
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        rate = rng.beta(2, 2, (40, 1))  # prompts differ: seeds of one prompt are alike; the mean is 1/2
        seen = np.where(rng.random((40, 3)) < rate, 100, 0)
        curve = sv.survival(seen, 256, rng, resamples=400, points=3)
        hits += curve.low[-1] <= 0.5 <= curve.high[-1]
    assert 0.88 <= hits / runs <= 0.99


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sv.survival([[300]], 256, np.random.default_rng(0)), "at least 2 prompts"),
        (lambda: sv.survival([[300], [1]], 256, np.random.default_rng(0)), "from 0 to 256"),
        (lambda: sv.survival([[3], [1]], 256, 0), "Generator"),
        (lambda: sv.survival([[3], [np.nan]], 256, np.random.default_rng(0)), "NaN"),
        (lambda: sv.kaplan_meier([1, 2], [0, 1], [1]), "True and False"),
        (lambda: sv.kaplan_meier([1, 2], [True], [1]), "same length"),
        (lambda: sv.kaplan_meier([0, 2], [True, True], [1]), "above 0"),
        (lambda: sv.survival_table({"greedy": None}), "Survival"),
        (lambda: sv.survivals(None, np.random.default_rng(0)), "DataFrame"),
        (lambda: plot_survival({}), "between 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_a_median_that_is_not_reached_is_said_once():
    rare = np.zeros((30, 2), dtype=int)
    rare[0, 0] = 100
    curve = sv.survival(rare, 256, np.random.default_rng(0), rule="pure")
    assert sv.survival_table({"pure": curve})["median"][0] == "not reached"
