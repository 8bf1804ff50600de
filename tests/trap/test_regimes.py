"""The four regimes: every closed form against exact propagation, the random chains, the verdict, the figures."""

import math

import numpy as np
import pytest
from scipy import stats

from one_step_trap.core import tabular
from one_step_trap.errors import BookError
from one_step_trap.trap import chains as c
from one_step_trap.trap import regimes as r
from one_step_trap.trap.plots import chains as plots

STEPS = c.log_steps(1_000)


@pytest.mark.parametrize(
    "regime",
    [
        r.wrong_place(0.01, 0.9),
        r.wrong_place(0.3, 0.0, states=5),
        r.wrong_speed(0.02, 0.5),
        r.leak(0.01),
        r.leak(1.0),
        r.drift(0.05, longest=1_000),
        r.drift(0.1, p=0.7, longest=1_000),
        r.expansive(0.01),
        r.expansive(0.001, K=3),
    ],
    ids=lambda regime: regime.name,
)
def test_closed_forms_against_propagation(regime):
    curve = regime.measure(STEPS)
    assert not regime.bound
    for metric, closed in regime.closed.items():
        assert curve.of(metric) == pytest.approx(closed(STEPS), rel=1e-9, abs=1e-13), metric


@pytest.mark.parametrize("eps", [0.01, 0.5])
def test_two_states_against_propagation(eps):
    a, b = r.FLIP + eps, r.FLIP + r.SECOND * eps
    P, P_hat = [[1 - r.FLIP, r.FLIP], [r.FLIP, 1 - r.FLIP]], [[1 - a, a], [b, 1 - b]]
    assert r.two_state_error(eps, STEPS) == pytest.approx(
        c.n_step_error(P, P_hat, STEPS).tv, rel=1e-9, abs=1e-13
    )


@pytest.mark.parametrize("eps", [0.001, 0.01, 0.1])
def test_every_regime_is_off_by_eps_in_one_step(eps):
    rng = np.random.default_rng(0)
    regimes = [
        r.mixing(eps, rng),
        r.wrong_place(eps, 0.5),
        r.wrong_speed(eps, 0.5),
        r.leak(eps),
        r.drift(eps, longest=10),
        r.expansive(eps),
    ]
    for regime in regimes:
        assert regime.measure([1]).of(regime.metric)[0] == pytest.approx(eps), regime.name


def test_hand_worked_numbers():
    assert r.leak_error(0.5, [1, 2, 3]) == pytest.approx([0.5, 0.75, 0.875])
    assert r.leak_error(0.1, [1, 2], leak=0.5) == pytest.approx([0.1, 0.25 - 0.16])
    assert r.clipped_error(0.1, [1, 2, 3, 4]) == pytest.approx([0.1, 0.3, 0.7, 1])
    assert r.binomial_tv(0.5, 0.75, [1, 2]) == pytest.approx([0.25, 9 / 16 - 1 / 4])
    assert r.binomial_tv(0.75, 0.5, [1]) == pytest.approx([0.25])
    assert r.gaussian_drift_error(math.erf(0.1 / math.sqrt(2)), [1, 100]) == pytest.approx(
        [math.erf(0.1 / math.sqrt(2)), math.erf(1 / math.sqrt(2))]
    )
    assert c.geometric_bound(0.5, 2, [1, 2, 3]) == pytest.approx([0.5, 1.5, 3.5])


def test_the_mixing_chain_fades_to_a_sixth():
    assert r.two_state_error(1e-6, [10_000]) / 1e-6 == pytest.approx(0.15625, rel=1e-4)
    n = np.arange(1, 30)
    assert (np.diff(r.two_state_error(0.01, n)) <= 1e-13).all()


def test_a_true_leak_heals_the_error():
    n = np.arange(1, 3_000)
    error = r.leak_error(0.001, n, leak=0.01)
    top = int(n[error.argmax()])
    # d/dn [(1-a)^n - (1-a-ε)^n] = 0 near n = 1/a for small ε.
    assert top == pytest.approx(1 / 0.01, rel=0.1)
    assert error[-1] < 1e-10
    model = c.n_step_error([[0.99, 0.01], [0, 1]], [[0.989, 0.011], [0, 1]], n[:500], start=0)
    assert model.tv == pytest.approx(error[:500], abs=1e-13)


def test_the_gaussian_is_the_limit_of_the_binomial():
    n = np.array([100, 1_000, 10_000])
    # Binomial steps: TV of the limit is 2Φ(ε√n / (2 · ½)) - 1.
    limit = 2 * stats.norm.cdf(0.01 * np.sqrt(n)) - 1
    assert r.binomial_tv(0.5, 0.51, n) == pytest.approx(limit, rel=0.01)
    assert r.gaussian_drift_error(limit[0], [1, 100]) == pytest.approx([limit[0], limit[2]], rel=1e-9)


def test_wrong_place_attains_the_bound_and_wrong_speed_vanishes():
    place, speed = (r.measure(make(0.01, 0.9), STEPS) for make in (r.wrong_place, r.wrong_speed))
    assert tabular.dobrushin(r.wrong_place(0.01, 0.9).P) == pytest.approx(0.9)
    assert place.error[-1] == pytest.approx(0.1)  # ε/(1-κ): ten times the one-step error, and no more
    assert place.growth.law != "fades"
    assert speed.error[-1] < 1e-13
    assert speed.growth.law == "fades"


def test_four_regimes_have_the_growth_of_the_theory():
    curves = r.four_regimes(0.001, np.random.default_rng(1), steps=STEPS)
    mixing, leak, drift, expansive = curves
    assert mixing.growth.law == "fades"
    assert (mixing.error <= mixing.theory * (1 + 1e-12)).all()
    assert leak.growth.exponent == pytest.approx(1, abs=0.05)
    assert drift.growth.exponent == pytest.approx(0.5, abs=0.05)
    assert drift.curve.w1 == pytest.approx(2 * 0.001 * STEPS)
    assert expansive.growth.law.endswith("^n")
    table = r.regime_table(curves, at=(1, 10, 1_000)).set_index("regime")
    assert table["n = 1"].tolist() == pytest.approx([0.001] * 4)
    assert table.loc["leak", "n = 1,000"] == pytest.approx(1 - 0.999**1_000)
    assert table.loc["leak", "steps to 0.5"] == STEPS[STEPS >= 693][0]
    assert table["compounds"].tolist() == [False, True, True, True]


def test_random_chains_fade():
    rng = np.random.default_rng(2)
    study = r.mixing_study(rng, chains=100, steps=[1, 20, 10_000])
    bound = np.stack([c.geometric_bound(0.01, float(k), study.steps) for k in study.kappa])
    assert (0.01 * study.ratio <= bound * (1 + 1e-9)).all()
    # A prototype, with perturbations of its own, saw .0018/.0087 = .21 at n = 20.
    at_20 = study.at(20, rng)
    assert at_20.low < 0.21 + 0.02
    assert at_20.high > 0.21 - 0.02
    assert at_20.high < 0.3
    assert at_20.n == 100
    again = r.mixing_study(np.random.default_rng(2), chains=100, steps=[1, 20, 10_000])
    assert (again.ratio == study.ratio).all()


def test_larger_chains_fade_more():
    table = r.fading_by_size(np.random.default_rng(3), states=(5, 20, 80), chains=20)
    slope = np.polyfit(np.log(table["states"]), np.log(table["ratio"]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.1)


def test_verdict():
    rng = np.random.default_rng(4)
    study = r.mixing_study(rng, chains=100, steps=[1, 10_000])
    curves = r.four_regimes(0.01, rng, steps=c.log_steps(10_000, per_decade=4))
    outcome, faded = r.compounding_verdict(curves, study, rng)
    assert outcome == "somewhere"
    assert faded.high < 1
    assert r.compounding_verdict(curves[1:], study, rng)[0] == "everywhere"
    assert r.compounding_verdict(curves[:1], study, rng)[0] == "nowhere"
    with pytest.raises(BookError, match="at least 100"):
        r.compounding_verdict(curves, r.mixing_study(rng, chains=5, steps=[1, 2]), rng)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: r.leak(0), "eps must be above 0"),
        (lambda: r.leak(1.5), "eps must lie"),
        (lambda: r.leak(float("nan")), "finite"),
        (lambda: r.drift(0.6), "p \\+ eps < 1"),
        (lambda: r.drift(0.1, p=1), "0 < p"),
        (lambda: r.expansive(0.3), "one part in a whole number"),
        (lambda: r.expansive(1e-9), "one part in a whole number"),
        (lambda: r.expansive(0.1, K=1), "K must be at least 2"),
        (lambda: r.wrong_place(0.6, 0.5), "eps must lie"),
        (lambda: r.wrong_speed(0.1, 1), "kappa must be below 1"),
        (lambda: r.clipped_error(0.1, [1], K=1), "K > 1"),
        (lambda: r.binomial_tv(0, 0.5, [1]), "strictly between"),
        (lambda: r.leak_error(0.6, [1], leak=0.5), "eps must lie"),
        (lambda: r.mixing(0.01, 3), "numpy.random.Generator"),
        (lambda: r.mixing(0.99, np.random.default_rng(0)), "eps must be at most"),
        (lambda: r.mixing(0.1, np.random.default_rng(0), states=1), "states must be at least 2"),
        (lambda: r.mixing_study(np.random.default_rng(0), steps=[2, 3]), "begin with 1"),
        (lambda: r.mixing_study(np.random.default_rng(0), chains=3, steps=[1]).at(5, None), "not among"),
        (lambda: r.random_chains(np.random.default_rng(0), 2, concentration=1e-9), "too small"),
        (lambda: plots.plot_regimes([]), "1 to 6 regimes"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()


def test_plots():
    rng = np.random.default_rng(5)
    curves = r.four_regimes(0.01, rng, steps=STEPS)
    figure = plots.plot_regimes(curves)
    assert len(figure.axes[0].get_legend().get_texts()) == 4
    assert len(figure.axes[0].get_lines()) == 8
    study = r.mixing_study(rng, chains=5, steps=STEPS)
    kappa = float(np.median(study.kappa))
    place, speed = (r.measure(make(0.01, kappa), STEPS) for make in (r.wrong_place, r.wrong_speed))
    figure = plots.plot_mixing(study, place=place, speed=speed)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["random errors", "bound", "wrong place", "wrong speed"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: r.measure("leak"),
        lambda: r.regime_table([]),
        lambda: r.regime_table("leak"),
        lambda: r.regime_table(3),
        lambda: r.compounding_verdict([r.measure(r.leak(0.1))], None, np.random.default_rng(0)),
    ],
)
def test_what_is_no_regime_is_told(call):
    with pytest.raises(BookError, match="must be"):
        call()
