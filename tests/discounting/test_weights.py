"""What a discount keeps: hand-worked numbers, the published ones, inverses of each other, edges, bad
input.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from one_step_trap.discounting import weights as w
from one_step_trap.discounting.plots.weights import plot_weights
from one_step_trap.errors import BookError

gammas = st.floats(0.01, 0.99999)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(0, 1.0), (1, 0.99), (2, 0.9801), (500, 6.57e-3), (1000, 4.32e-5), (1300, 2.12e-6)],
)
def test_weight_left_at_99(steps, expected):
    assert w.weight_left(0.99, steps) == pytest.approx(expected, rel=2e-3)


def test_hand_worked_readings():
    assert w.effective_horizon(0.75) == 4
    assert w.half_life(0.5) == pytest.approx(1)
    assert w.mass_within(0.5, [0, 1, 2, 3]) == pytest.approx([0, 0.5, 0.75, 0.875])
    assert w.steps_to_weight(0.1, 1e-3) == pytest.approx(3)
    assert w.gamma_to_reach(2, 0.25) == pytest.approx(0.5)


def test_readings_of_99():
    report = w.describe(0.99, [100, 500])
    assert report.effective_horizon == pytest.approx(100)
    assert report.half_life == pytest.approx(68.97, abs=0.01)
    assert report.one_percent == pytest.approx(458.2, abs=0.1)
    assert report.mass_within[0] == pytest.approx(0.634, abs=5e-4)
    assert w.gamma_to_reach(1000, 0.5) == pytest.approx(0.99931, abs=5e-6)


@given(gammas, st.floats(1e-9, 1))
def test_steps_and_gamma_invert_each_other(gamma, weight):
    n = w.steps_to_weight(gamma, weight)
    assert w.weight_left(gamma, n) == pytest.approx(weight, rel=1e-6)
    if n > 0:
        assert w.gamma_to_reach(n, weight) == pytest.approx(gamma, rel=1e-9)


@given(gammas, st.integers(0, 200))
def test_mass_is_the_sum_of_weights(gamma, n):
    mass = (1 - gamma) * sum(gamma**k for k in range(n))
    assert w.mass_within(gamma, n) == pytest.approx(mass, rel=1e-9, abs=1e-12)


def test_mass_does_not_cancel_near_one():
    gamma = 1 - 2.0**-50  # 1 - gamma**1 loses nothing here, but 1 - gamma**3 rounds
    assert w.mass_within(gamma, 3) == pytest.approx(3 * 2.0**-50, rel=1e-12)


def test_the_horizon_holds_nearly_the_same_share_for_all_long_discounts():
    for gamma in (0.99, 0.999, 0.9999):
        share = w.mass_within(gamma, w.effective_horizon(gamma))
        assert 1 - 1 / math.e < share < 1 - 1 / math.e + 1 / w.effective_horizon(gamma)


def test_underflow_keeps_the_exponent():
    assert w.weight_left(0.99, 100_000) == 0
    assert w.log10_weight_left(0.99, 100_000) == pytest.approx(100_000 * math.log10(0.99))
    assert w.scientific(-436.48) == "3.3e-437"
    assert w.scientific(math.log10(9.99)) == "1.0e+01"
    assert "3.31e-437" in str(w.describe(0.99, [100_000]))


def test_edges():
    assert w.weight_left(0, [0, 1]).tolist() == [1, 0]
    assert w.log10_weight_left(0, [0, 1]).tolist() == [0, -math.inf]
    assert w.weight_left(1, 10) == 1
    assert (w.effective_horizon(0), w.half_life(0)) == (1, 0)
    assert (w.effective_horizon(1), w.half_life(1)) == (math.inf, math.inf)
    assert w.steps_to_weight(1, 1) == 0
    assert w.mass_within(0, [0, 1]).tolist() == [0, 1]
    assert "0" in str(w.describe(0, [5]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: w.weight_left(1.5, 1), r"gamma must lie in \[0, 1\]"),
        (lambda: w.weight_left(0.9, -1), "steps must be at least 0"),
        (lambda: w.mass_within(1, 3), "gamma = 1"),
        (lambda: w.describe(1), "gamma = 1"),
        (lambda: w.describe(0.9, ["a"]), "array of numbers"),
        (lambda: w.steps_to_weight(0.9, 0), "weight must lie in"),
        (lambda: w.gamma_to_reach(0, 0.5), "steps must be above 0"),
        (lambda: w.reach(10, math.nan), "finite"),
        (lambda: w.describe(0.9, [[1, 2]]), "steps must be a list of numbers"),
        (lambda: w.scientific(math.nan), "log10_value must be a finite number"),
        (lambda: w.scientific(math.inf), "log10_value must be a finite number"),
        (lambda: w.scientific("x"), "log10_value must be a number"),
        (lambda: w.scientific(-3.0, digits=0), "digits must be at least 1"),
        (lambda: w.scientific(-3.0, digits=10**9), "digits must be at most 17"),
        (lambda: plot_weights([]), "reports must hold at least one entry"),
        (lambda: plot_weights([0.9]), "every entry of reports must be of the kind DiscountReport"),
        (lambda: plot_weights([w.describe(0.9, [1])], tasks=[500]), "tasks must map a label"),
        (lambda: plot_weights([w.describe(0.9, [1])], floor=2), "floor must be below 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_reports_are_json_and_readable():
    report = w.describe(0.99, [100, 500])
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["weight_left"] == pytest.approx([0.366, 0.00657], rel=1e-3)
    assert "effective horizon     100.0 steps" in str(report)
    there = w.reach(1000)
    assert w.weight_left(there.gamma, 1000) == pytest.approx(0.5)
    assert there.horizon_factor == pytest.approx(14.43, abs=0.01)
    assert "0.9993071" in str(there)
    assert json.loads(json.dumps(w.reach(10, 1).to_dict(), allow_nan=False))["effective_horizon"] is None


def test_plot():
    figure = plot_weights(
        [w.describe(g, np.geomspace(1, 3000, 50)) for g in (0.9, 0.99, 0.999)], tasks={"essay": 1300}
    )
    ax = figure.axes[0]
    assert len(figure.legends[0].get_texts()) == 3
    assert [t.get_text() for t in ax.child_axes[0].get_xticklabels()] == ["essay"]
    assert "steps" in ax.get_xlabel()
    assert "weight" in ax.get_ylabel()


def test_a_discount_that_is_no_float_below_one():
    limit = w.steps_to_weight(math.nextafter(1, 0), 0.5)
    assert w.gamma_to_reach(limit, 0.5) < 1
    for n in (1e17, 1e300):
        with pytest.raises(BookError, match=r"^steps = .* is too far: .* leaves it at 6.2e\+15 steps$"):
            w.reach(n)
    with pytest.raises(BookError, match=r"^--reach = 1e\+20 is too far: .* leaves 0.1 there"):
        w.reach(1e20, 0.1, names=("--reach", "--weight"))
    assert w.reach(1e17, 1e-300).gamma < 1  # as far, but with less to be left
    assert w.reach(1e300, 1).gamma == 1  # all of the weight, at any distance


def test_no_printed_discount_is_rounded_to_another():
    for gamma in (1 - 2.0**-53, 1 - 1e-12, 0.9999999):
        assert float(str(w.describe(gamma)).split()[1]) == gamma
    there = w.reach(1e15)
    assert float(str(there).partition("gamma = ")[2].split()[0]) == there.gamma


@pytest.mark.filterwarnings("error")
def test_distances_and_weights_beyond_all_floats():
    assert str(w.describe(0.5, [1e300])).splitlines()[-1].split() == ["1e+300", "10^-3.01e+299", "100.0%"]
    assert str(w.describe(5e-324, [1.7e308])).splitlines()[-1].split() == ["1.7e+308", "0", "100.0%"]
    assert w.scientific(-(10.0**12)) == "1.0e-1000000000000"


def test_discounts_at_the_edge_of_floats():
    assert w.mass_within(1e-300, 2) == 1
    assert w.mass_within(1 - 1e-12, 10) == pytest.approx(1e-11, rel=1e-3)
    assert "gamma = 0.999999999999" in str(w.reach(1e12, 0.5))
    assert "1,000,000" in str(w.describe(0.9999999, [1e6]))
