"""The study of samp-exact: what small runs show, the rule, rates of fading, figures, bad input."""

import numpy as np
import pandas as pd
import pytest

from one_step_trap.errors import BookError
from one_step_trap.sampling import exposure as ex
from one_step_trap.sampling import exposure_study as es
from one_step_trap.sampling.languages import ergodic, sample_pairs
from one_step_trap.sampling.learners import add_alpha
from one_step_trap.sampling.plots import exact as plots


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def runs():
    return es.run(sizes=(1_000, 100_000), seeds=4, seed=5)


@pytest.fixture(scope="module")
def table(runs):
    return es.cells(runs, rng(), resamples=500)


@pytest.fixture(scope="module")
def learners():
    return es.run(es.LEARNERS[:2], sizes=(100_000, 1_000_000), seeds=3, seed=6)


def test_what_each_language_does(table):
    by = table.set_index(["world", "pairs"])
    for world in ("ergodic", "slow topics", "off-support (returns)"):
        assert (by.loc[world, "ratio"] < 2).all()
    for world in ("off-support (sticky)", "two books"):
        assert (by.loc[world, "compounds"] == "yes").all()
    assert by.loc[("two books", 100_000), "ratio"] > 50
    assert (
        by.loc[("off-support (sticky)", 1_000), "entropy_last"]
        < 0.5 * by.loc[("off-support (sticky)", 1_000), "entropy_human"]
    )  # collapses
    assert (
        by.loc[("off-support (returns)", 1_000), "entropy_last"]
        > 1.05 * by.loc[("off-support (returns)", 1_000), "entropy_human"]
    )  # blows up
    assert (table["low"] <= table["ratio"]).all()
    assert (table["ratio"] <= table["high"]).all()
    assert es.verdict(table)[0] == "holds when"


def test_columns_are_what_they_say(runs, table):
    row = table[(table["world"] == "two books") & (table["pairs"] == 100_000)].iloc[0]
    kl = runs.stack("two books", 100_000, "kl")
    assert row["kl_last"] == pytest.approx(kl[:, -1].mean())
    assert row["ratio"] == pytest.approx(kl[:, -1].mean() / kl[:, 0].mean())
    assert row["error"] == pytest.approx(
        runs.stack("two books", 100_000, "sequence_kl")[:, -1].mean() / 1_024
    )
    assert row["excess"] == pytest.approx(runs.stack("two books", 100_000, "excess")[:, -1].mean())


def test_the_number_for_the_ledger(table):
    ratio = es.drift_ratio(table, "two books", 100_000, 4)
    assert ratio.low < ratio.value < ratio.high
    assert ratio.n == 4
    with pytest.raises(BookError, match="no cell"):
        es.drift_ratio(table, "two books", 7)


def test_a_slice_of_the_study_is_the_same(runs):
    again = es.run(es.WORLDS[3:4], sizes=(1_000,), seeds=2, seed=5)
    name = es.WORLDS[3].name
    assert (again.stack(name, 1_000, "kl") == runs.stack(name, 1_000, "kl")[:2]).all()
    other = es.run(es.WORLDS[3:4], sizes=(1_000,), seeds=2, seed=6)
    assert (other.stack(name, 1_000, "kl") != again.stack(name, 1_000, "kl")).any()


def test_curves(runs):
    kl = es.curves(runs, "kl", rng(), resamples=200)
    assert len(kl) == 5 * 2 * len(ex.positions())
    first = kl[(kl["world"] == "ergodic") & (kl["pairs"] == 1_000) & (kl["t"] == 1)].iloc[0]
    assert first["value"] == pytest.approx(runs.stack("ergodic", 1_000, "kl")[:, 0].mean())
    assert (kl["low"] <= kl["value"] + 1e-15).all()
    share = es.curves(runs, "share", rng(), resamples=50)
    last = share[(share["world"] == "two books") & (share["pairs"] == 1_000) & (share["t"] == 1_024)].iloc[0]
    assert last["value"] == pytest.approx(runs.stack("two books", 1_000, "share")[:, -1].mean())
    gap = es.curves(runs, "entropy_gap", rng(), resamples=50)
    assert gap.loc[gap["t"] == 1, "value"].to_numpy() == pytest.approx(0, abs=1e-12)
    excess = es.curves(runs, "excess", rng(), resamples=50)
    assert excess.loc[excess["t"] == 1, "value"].to_numpy() == pytest.approx(0, abs=1e-9)


def test_how_the_leak_fades(learners):
    add, back = (es.fade(learners, name, rng(), resamples=300) for name in ("add α", "backoff"))
    assert add[:3] == pytest.approx((-1, -1, -1), abs=0.02)
    assert back[:3] == pytest.approx((-2, -2, -2), abs=0.02)
    assert add.n == 3
    kl = es.fade(learners, "backoff", rng(), name="kl", resamples=300)
    assert kl.value == pytest.approx(-1, abs=0.1)  # what is left is the noise of the estimate


def _cells(compounds, agrees):
    return pd.DataFrame(
        {"world": list("aabb"), "pairs": [1, 2, 1, 2], "compounds": compounds, "agrees": agrees}
    )


@pytest.mark.parametrize(
    ("compounds", "agrees", "expected"),
    [
        (["yes"] * 4, [False] * 4, "holds"),
        (["no"] * 4, [True] * 4, "does not hold"),
        (["no", "no", "no", "undecided"], [True, True, True, False], "open"),
        (["yes", "yes", "no", "no"], [True] * 4, "holds when"),
        (["yes", "yes", "no", "undecided"], [True, True, True, False], "holds when"),
        (["yes", "yes", "no", "no"], [True, True, True, False], "open"),
        (["yes", "yes", "yes", "undecided"], [True, True, True, False], "open"),
    ],
)
def test_the_rule(compounds, agrees, expected):
    verdict, condition = es.verdict(_cells(compounds, agrees))
    assert verdict == expected
    assert bool(condition) == (verdict == "holds when")


def test_condition_names_the_worlds(table):
    condition = es.verdict(table)[1]
    assert "two books" in condition.split(", not where")[0]
    assert "ergodic" in condition.split(", not where")[1]


def test_summary(table):
    summary = es.summary(table).set_index("world")
    assert list(summary.index) == [world.name for world in es.WORLDS]
    assert summary["compounds"].tolist() == [0, 0, 0, 2, 2]
    assert (summary["off_by"] >= 1).all()
    assert summary.loc["off-support (sticky)", "theory"].endswith("loops")
    assert (summary["entropy"] <= summary["moves"]).all()


def test_plots(runs, table):
    kl = es.curves(runs, "kl", rng(), resamples=50)
    figure = plots.plot_marginals(kl, es.curves(runs, "kl_predicted", rng(), resamples=50))
    assert figure.axes[-1].get_legend().get_texts()[-1].get_text() == "prediction"
    four = plots.plot_marginals(kl[kl["world"].isin([w.name for w in es.WORLDS[:4]])])
    assert four.legends[0].get_texts()[0].get_text() == "10³"
    gap = plots.plot_entropy(es.curves(runs, "entropy_gap", rng(), resamples=50), 1_000)
    assert len(gap.axes[0].get_legend().get_texts()) == 5
    acc = plots.plot_accumulated(es.curves(runs, "accumulated", rng(), resamples=50), 1_000)
    assert {t.get_text() for t in acc.axes[0].texts} == {"T", "T²"}
    assert "share" in plots.plot_fade(table).axes[0].get_ylabel()
    assert "KL" in plots.plot_fade(table, "kl_last").axes[0].get_ylabel()
    language = ergodic(rng(1), tokens=20)
    Q = add_alpha(sample_pairs(language, 1_000, rng(2)))
    e = ex.expose(language, Q, 100)
    falls = ex.agreement(language, Q, 100), ex.coincidence(language, 100)
    assert len(plots.plot_agreement(*falls, e.tv, e.grid).axes[0].get_lines()) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: es.run(sizes=(100, 10)), "increase"),
        (lambda: es.run(sizes=100), "list"),
        (lambda: es.run(seeds=1), "at least 2"),
        (lambda: es.run(["ergodic"]), "World"),
        (lambda: es.run(seed=-1), "at least 0"),
        (lambda: es.cells("runs", rng()), "Runs"),
        (lambda: es.curves("runs", "kl", rng()), "Runs"),
        (lambda: es.verdict(pd.DataFrame()), "lacks the columns"),
        (lambda: es.summary(pd.DataFrame({"world": []})), "lacks the columns"),
        (lambda: plots.plot_marginals(pd.DataFrame()), "lacks the columns"),
        (lambda: plots.plot_fade(pd.DataFrame(), "size"), "name must be"),
        (lambda: plots.plot_agreement([1, 1], [1, 1], [0.1], [1, 2]), "one number"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_bad_names(runs):
    with pytest.raises(BookError, match="one of kl"):
        es.curves(runs, "loss", rng())
    with pytest.raises(BookError, match="pairs must be"):
        runs.stack("ergodic", 7, "kl")
    with pytest.raises(BookError, match="world must be"):
        es.fade(runs, "English", rng())
    with pytest.raises(BookError, match="no logarithm"):
        es.fade(runs, "ergodic", rng())
    with pytest.raises(BookError, match="Generator"):
        es.cells(runs, 0)


def test_the_picture_of_two_states_names_both_rates():
    words = " ".join(text.get_text() for text in plots.plot_way_back().axes[0].texts)
    assert "λ" in words
    assert "ρ" in words
