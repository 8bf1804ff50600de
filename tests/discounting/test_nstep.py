"""n-step TD: episodes by hand, the algorithm box word for word, figure 7.2, and where the claim fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_loops import n_step_td

from one_step_trap.discounting import nstep
from one_step_trap.discounting.plots import nstep as plots
from one_step_trap.errors import BookError


def walks_of(n_states: int, *runs: list[list[int]]) -> nstep.Walks:
    return nstep.Walks(n_states, 0.5, tuple(tuple(map(np.array, run)) for run in runs))


def box(V: list[float], S: list[int], R: list[float], n: int, alpha: float, gamma: float) -> None:
    """The box of section 7.1 word for word, with its loop over t where the library loops over τ."""
    T, t = float("inf"), 0
    while True:
        if t < T and t + 1 == len(S) - 1:
            T = t + 1
        tau = t - n + 1
        if tau >= 0:
            G = sum(gamma ** (i - tau - 1) * R[i] for i in range(tau + 1, int(min(tau + n, T)) + 1))
            if tau + n < T:
                G += gamma**n * V[S[tau + n]]
            V[S[tau]] += alpha * (G - V[S[tau]])
        if tau == T - 1:
            return
        t += 1


@pytest.fixture(scope="module")
def many() -> nstep.NStepResult:
    """2,000 runs of three n: enough to compare with a published figure."""
    walks = nstep.sample_walks(np.random.default_rng(72), repetitions=2000)
    return nstep.n_step_td(walks, [1, 4, 16], [0.0, 0.1, 0.4])


def test_true_values_without_discount_are_a_straight_line():
    assert nstep.true_values(19) == pytest.approx(2 * np.arange(1, 20) / 20 - 1, abs=1e-12)


def test_true_values_by_hand():
    # 3 states, γ = .5: v2 = 0 by symmetry, so v3 = .5·1 + .5·γ·0 = .5.
    assert nstep.true_values(3, 0.5) == pytest.approx([-0.5, 0, 0.5])
    # Always right: the exit reward, discounted by the steps before the last.
    assert nstep.true_values(5, 0.9, p_right=1) == pytest.approx(0.9 ** np.array([4.0, 3, 2, 1, 0]))
    # The gambler's ruin: with p = 2/3 and 3 states, P(right exit from 2) = (1 - 1/4) / (1 - 1/16) = .8.
    assert nstep.true_values(3, p_right=2 / 3)[1] == pytest.approx(2 * 0.8 - 1)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        # V2 ← ½(½·.8) = .2; V3 ← .8 + ½(½·.2 - .8); V2 ← .2 + ½(½·.4 - .2); V1 ← .4 + ½(-1 - .4)
        (1, [-0.3, 0.2, 0.45]),
        # Returns ¼ V2, ¼ V1, -½ and -1. V2 ← ½(0); V3 ← .8 + ½(.1 - .8); V2 ← ½(-½); V1 as above
        (2, [-0.3, -0.25, 0.45]),
        # Returns -⅛, -¼, -½, -1. V2 ← ½(-⅛); V3 ← .8 + ½(-¼ - .8); V2 ← V2 + ½(-½ - V2)
        (4, [-0.3, -0.28125, 0.275]),
        (9, [-0.3, -0.28125, 0.275]),
    ],
)
def test_one_episode_by_hand(n, expected):
    # The walk 2, 3, 2, 1 and out on the left, with α = γ = ½, from V = (.4, 0, .8).
    V = [0.0, 0.4, 0.0, 0.8, 0.0]
    nstep.run_episode(V, [2, 3, 2, 1, 0], [0, 0, 0, 0, -1], n, 0.5, 0.5)
    assert V[1:-1] == pytest.approx(expected, abs=1e-15)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_states=st.sampled_from([1, 3, 7, 19]),
    n=st.integers(1, 60),
    alpha=st.floats(0, 1),
    gamma=st.sampled_from([0.0, 0.5, 0.97, 1.0]),
    p_right=st.sampled_from([0.3, 0.5, 1.0]),
)
def test_fast_plain_loops_and_box_agree(seed, n_states, n, alpha, gamma, p_right):
    walks = nstep.sample_walks(
        np.random.default_rng(seed), n_states, episodes=3, repetitions=2, p_right=p_right
    )
    values = n_step_td(walks, n, alpha, gamma)
    v = nstep.true_values(n_states, gamma, p_right=p_right)
    fast = nstep.n_step_td(walks, sorted({1, n}), [0.3, alpha], gamma=gamma)
    assert fast.errors[:, :, -1, 1] == pytest.approx(np.sqrt(((values - v) ** 2).mean(axis=2)), abs=1e-12)
    for run, reached in zip(walks.episodes, values, strict=True):
        V = [0.0] * (n_states + 2)
        for path, after in zip(run, reached, strict=True):
            rewards = [0.0] * (len(path) - 1) + [1.0 if path[-1] else -1.0]
            box(V, path.tolist(), rewards, n, alpha, gamma)
            assert V[1:-1] == pytest.approx(after, abs=1e-12)
    # No update of 0 <= α <= 1 can leave [-1, 1]: nothing diverges.
    assert np.abs(values).max() <= 1 + 1e-12


def test_figure_7_2(many):
    rms = dict(zip([1, 4, 16], many.rms(), strict=True))
    assert rms[4][2] == pytest.approx(0.265, abs=0.005)
    assert rms[4][2] < min(rms[1].min(), rms[16].min())
    assert rms[1][0] == pytest.approx(np.sqrt(np.mean(nstep.true_values() ** 2)))  # α = 0 learns nothing


def test_bias_falls_and_variance_grows_with_n_at_one_alpha(many):
    bias, variance = many.bias_squared.mean(axis=0)[:, 1], many.variance.mean(axis=0)[:, 1]
    assert (np.diff(bias) < 0).all()
    assert (np.diff(variance) > 0).all()


def test_bias_and_variance_by_hand():
    # One state, so v = 0. Two runs of one episode, right and left: V = ±α, mean 0, variance 2α²/(2-1).
    result = nstep.n_step_td(walks_of(1, [[1, 2]], [[1, 0]]), [1], [0.5])
    assert result.variance[0, 0, 0] == pytest.approx(0.5)
    assert result.bias_squared[0, 0, 0] == pytest.approx(-0.25)
    assert result.errors[:, 0, 0, 0] == pytest.approx([0.5, 0.5])


def test_bias_and_variance_from_their_definition():
    walks = nstep.sample_walks(np.random.default_rng(5), 5, episodes=4, repetitions=7)
    result = nstep.n_step_td(walks, [3], [0.4], gamma=0.9)
    values = n_step_td(walks, 3, 0.4, 0.9)
    assert result.variance[:, 0, 0] == pytest.approx(values.var(axis=0, ddof=1).mean(axis=1), abs=1e-12)
    total = result.bias_squared + result.variance
    assert total == pytest.approx(np.mean(result.errors**2, axis=0), abs=1e-12)


def test_a_single_run_has_no_variance_to_speak_of():
    walks = nstep.sample_walks(np.random.default_rng(0), repetitions=1)
    result = nstep.n_step_td(walks, [1], [0.1])
    assert np.isnan(result.variance).all()
    assert np.isfinite(result.errors).all()


def test_divergence_is_reported_and_not_warned_about(recwarn):
    walks = nstep.sample_walks(np.random.default_rng(0), 5, repetitions=3)
    result = nstep.n_step_td(walks, [1, 8], [0.5, 3.0, 1e30])
    assert not recwarn.list
    assert (result.errors[:, :, :, 0] < 1.5).all()
    assert (result.errors[:, -1, :, 1] > 10).all()
    assert np.isinf(result.errors[:, -1, :, 2]).all()
    assert np.isinf(result.variance[-1, :, 2]).all()


def test_same_seed_same_numbers_and_more_runs_keep_the_first():
    few = nstep.sample_walks(np.random.default_rng(3), episodes=4, repetitions=2)
    more = nstep.sample_walks(np.random.default_rng(3), episodes=6, repetitions=5)
    for run, longer in zip(few.episodes, more.episodes, strict=False):
        for path, same in zip(run, longer, strict=False):
            np.testing.assert_array_equal(path, same)
    a, b = (nstep.n_step_td(more, [2], [0.3]).errors for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_walks_step_by_one_from_the_middle_to_an_end():
    walks = nstep.sample_walks(np.random.default_rng(1), 7, repetitions=50)
    paths = [path for run in walks.episodes for path in run]
    assert all(path[0] == 4 and path[-1] in (0, 8) for path in paths)
    assert all(set(path[:-1]) <= set(range(1, 8)) for path in paths)
    assert all((np.abs(np.diff(path)) == 1).all() for path in paths)
    # The mean duration from the middle of N states is ((N+1)/2)² = 16 steps (sd of the mean here: .6).
    assert np.mean([len(path) - 1 for path in paths]) == pytest.approx(16, abs=3)


def test_the_claim_and_where_it_fails():
    table = nstep.sweep(
        [{}, {"n_states": 3}, {"gamma": 0.5}, {"p_right": 1.0}, {"gamma": 0.0}],
        seed=11,
        repetitions=60,
        n_steps=[1, 2, 4, 16, 64],
        alphas=[0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.7, 1.0],
    )
    assert table["verdict"].tolist() == [
        nstep.INTERMEDIATE,
        nstep.SHORTEST,
        nstep.SHORTEST,
        nstep.LONGEST,
        nstep.SAME,
    ]
    assert table["best_n"][0] == 4
    assert table["over_shortest_low"][0] > 0.05
    assert table["over_longest_low"][0] > 0.1
    # Without chance, Monte Carlo with α = 1 knows all it visits after one episode; the other 9 stay at 0.
    assert table["rms"][3] == pytest.approx(np.sqrt(9 / 19))


def test_a_tie_is_left_open():
    # n = 1 was chosen, but on the runs to judge by, each n is better than the other in half of them.
    walks = nstep.sample_walks(np.random.default_rng(0), 5, episodes=1, repetitions=4)
    result = nstep.n_step_td(walks, [1, 3], [0.1])
    errors = {"choose": [[0.2, 0.3]] * 4, "judge": [[0.2, 0.3], [0.3, 0.2]] * 2}
    choose, judge = (replace(result, errors=np.reshape(errors[k], (4, 1, 2, 1))) for k in ("choose", "judge"))
    comparison = nstep.compare_n(choose, judge, np.random.default_rng(0))
    assert comparison.best_n == 1
    assert comparison.over_longest().value == pytest.approx(0)
    assert comparison.over_longest().low < 0 < comparison.over_longest().high
    assert comparison.verdict == nstep.OPEN


def test_choosing_and_judging_on_the_same_runs_is_an_error():
    result = nstep.n_step_td(nstep.sample_walks(np.random.default_rng(0), 5), [1, 2], [0.1])
    with pytest.raises(BookError, match="another seed"):
        nstep.compare_n(result, result, np.random.default_rng(0))


def test_frame_is_tidy():
    result = nstep.n_step_td(nstep.sample_walks(np.random.default_rng(0), 5), [1, 2], [0.1, 0.2, 0.3])
    frame = result.to_frame()
    assert frame.shape == (6, 5)
    row = frame.query("n_step == 2 and alpha == 0.3").iloc[0]
    assert row["rms"] == result.rms()[1, 2]
    assert row["bias_squared"] == pytest.approx(result.bias_squared[:, 1, 2].mean())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: nstep.sample_walks(rng, 4), "n_states must be odd"),
        (lambda rng: nstep.sample_walks(rng, 5, episodes=0), "episodes must be at least 1"),
        (lambda rng: nstep.sample_walks(rng, 5, p_right=1.5), "p_right must be a probability"),
        (lambda rng: nstep.sample_walks(0), "rng must be"),
        (lambda rng: nstep.true_values(5, 1.2), "gamma must lie in"),
        (lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), [0]), "n_step must be at least 1"),
        (lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), [2, 1]), "increasing"),
        (lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), [1], [-0.1]), "alphas must be"),
        (lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), [1], ["x"]), "alphas must be a number"),
        (lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), [1], gamma=-1), "gamma must lie in"),
        (lambda rng: nstep.sweep([{"states": 5}], seed=0), "a setting has"),
        (lambda rng: nstep.sweep({"n_states": 5}, seed=0), "settings must be a list"),
        (lambda rng: nstep.sweep(["n_states"], seed=0), "a setting must be a dict"),
        (lambda rng: nstep.sweep([], seed=0), "settings must hold at least one entry"),
        (lambda rng: nstep.sweep([{}], seed=None), "seed must be a number"),
        (lambda rng: nstep.sweep([{}], seed=0, repetitions=1), "repetitions must be at least 2"),
        (lambda rng: nstep.Walks(3, 0.5, 5), "episodes must be a list"),
        (lambda rng: nstep.Walks(3, 0.5, ()), "episodes must hold at least one entry"),
        (lambda rng: nstep.Walks(3, 0.5, (([2, 3, 4],),)), "an episode must be a NumPy vector"),
        (lambda rng: walks_of(3, [[2, 3, 4]], [[2, 1, 0], [2, 3, 4]]), "the same number of episodes"),
        (lambda rng: walks_of(3, [[2, 3, 5]]), r"states must lie in 0\.\.4, got 5"),
        (lambda rng: walks_of(3, [[2, 3]]), r"must stay within 1\.\.3 and end in 0 or 4"),
        (lambda rng: walks_of(3, [[2, 1, 0, 1, 0]]), r"must stay within 1\.\.3"),
        (lambda rng: walks_of(3, [[1, 3, 4]]), "from a state to one beside it"),
        (lambda rng: walks_of(3, [[2.5, 3.5, 4.5]]), "states must hold integers"),
        (
            lambda rng: nstep.run_episode((0.0, 0.0), [1, 0], [0, 1], 1, 0.1, 1.0),
            "V must be a list of values",
        ),
        (
            lambda rng: nstep.run_episode([0.0, 0.0], [1, 5], [0, 1], 1, 0.1, 1.0),
            r"states must lie in 0\.\.1",
        ),
        (lambda rng: nstep.run_episode([0.0, 0.0], [1, 0], [1], 1, 0.1, 1.0), "2 states, 1 rewards"),
        (
            lambda rng: nstep.run_episode([0.0, 0.0], [1, 0], [0, 1], np.nan, 0.1, 1.0),
            "n_step must be a finite",
        ),
        (lambda rng: nstep.run_episode([0.0, 0.0], [1, 0], [0, 1], 1, -0.1, 1.0), "alpha must be at least 0"),
        (lambda rng: nstep.run_episode([0.0, np.nan], [1, 0], [0, 1], 1, 0.1, 1.0), "V holds NaN"),
        (lambda rng: nstep.n_step_td("walks", [1], [0.1]), r"walks must be .* \(made by sample_walks\)"),
        (lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), 1), "n_steps must be a list"),
        (lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), [np.nan]), "n_step must be a finite number"),
        (lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), [1], 0.1), "alphas must be a list"),
        (
            lambda rng: nstep.n_step_td(nstep.sample_walks(rng, 5), [1], []),
            "alphas must hold at least one entry",
        ),
        (lambda rng: nstep.compare_n(1, 2, rng), "choose must be of the kind NStepResult"),
        (lambda rng: plots.plot_errors("result"), "result must be of the kind NStepResult"),
        (lambda rng: plots.plot_bias_variance(None, alpha=0.1), "result must be of the kind NStepResult"),
        (lambda rng: plots.plot_settings([1], ["a"]), "must be a pandas.DataFrame"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(BookError, match=message) as error:
        call(np.random.default_rng(0))
    assert "\n" not in str(error.value)


def test_figures():
    walks = nstep.sample_walks(np.random.default_rng(0), 5, repetitions=20)
    result = nstep.n_step_td(walks, [1, 2, 4, 8], nstep.ALPHAS)
    (ax,) = plots.plot_errors(result, n_shown=[1, 4]).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["n = 1", "n = 4"]
    assert "α" in ax.get_xlabel()
    assert "first 10 episodes" in ax.get_ylabel()
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), result.rms()[2])
    left, right = plots.plot_bias_variance(result, alpha=0.1).axes
    assert len(left.lines) == len(right.lines) == 3
    np.testing.assert_allclose(left.lines[0].get_ydata(), result.bias_squared.mean(axis=0)[:, 1])
    table = nstep.sweep(
        [{"n_states": 3}, {"n_states": 5}], seed=0, repetitions=5, n_steps=[1, 4], alphas=[0.1, 0.4]
    )
    (ax,) = plots.plot_settings(table, ["three", "five"]).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["three", "five"]
    with pytest.raises(BookError, match="one label a setting"):
        plots.plot_settings(table, ["three"])
    with pytest.raises(BookError, match="n_shown"):
        plots.plot_errors(result, n_shown=[3])
    with pytest.raises(BookError, match="alpha"):
        plots.plot_bias_variance(result, alpha=0.123)
