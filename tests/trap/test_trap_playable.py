"""The figure of chapter 1 that can be played with: what Vega computes in the page, against the Python functions."""

import json
import math
import re

import altair as alt
import numpy as np
import pytest
import vl_convert

from one_step_trap.errors import BookError
from one_step_trap.trap import regimes
from one_step_trap.trap.chains import steps_until
from one_step_trap.trap.plots import playable

STEPS = np.array([1, 2, 3, 7, 10, 50, 100, 1_000, 10_000])
FUNCTIONS = {
    "mixing": regimes.two_state_error,
    "leak": regimes.leak_error,
    "drift": regimes.gaussian_drift_error,
    "expansive": regimes.clipped_error,
}


def vega(expressions: list[str], **signals: float | str) -> list[float]:
    """Let Vega evaluate expressions, without a browser: as the texts of a picture."""
    rows = alt.Chart(alt.InlineData([{"y": 0}]))
    layers = [
        rows.transform_calculate(t=f"format({expression}, '.14e')")
        .mark_text()
        .encode(text="t:N", x=alt.value(i))
        for i, expression in enumerate(expressions)
    ]
    params = [alt.param(name=name, value=value) for name, value in signals.items()]
    chart = alt.layer(*layers).add_params(*params)
    svg = vl_convert.vegalite_to_svg(
        chart.to_dict(), vl_version=".".join(alt.SCHEMA_VERSION[1:].split(".")[:2])
    )
    found = re.findall(r">(-?[\d.]+e[+-]\d+)</text>", svg.replace("\u2212", "-"))
    assert len(found) == len(expressions)
    return [float(text) for text in found]


@pytest.mark.parametrize("eps", [0.0001, 0.01, 0.1])
def test_the_page_computes_the_closed_forms(eps):
    for regime, function in FUNCTIONS.items():
        shown = vega([playable.at(str(n)) for n in STEPS], eps=eps, regime=regime)
        # Vega's normal distribution is good to about 1e-8 of the error.
        assert shown == pytest.approx(function(eps, STEPS), rel=1e-6, abs=1e-13), regime


@pytest.mark.parametrize("eps", [0.001, 0.1])
def test_the_page_computes_the_steps_to_one_half(eps):
    n = np.arange(1, 400_000)
    for regime, function in FUNCTIONS.items():
        (shown,) = vega([playable.UNTIL], eps=eps, regime=regime)
        expected = steps_until(n, function(eps, n), 0.5)
        assert shown == (0 if math.isinf(expected) else expected), regime


def spec_of(html: str) -> dict:
    start = html.rindex('querySelector(".ost-plot"), ') + len('querySelector(".ost-plot"), ')
    return json.JSONDecoder().raw_decode(html[start:])[0]


@pytest.mark.parametrize(
    ("eps", "look"), [(0.001, -3), (0.05, math.log10(0.05)), (1e-9, -4), (0.1, -1), (5, -1)]
)
def test_an_error_outside_the_slider_is_moved_to_its_end_in_the_picture_too(eps, look):
    html = playable.plot_regimes_to_play_with(eps, "leak")
    params = {param["name"]: param for param in spec_of(html)["params"]}
    assert params["look"]["value"] == pytest.approx(look)
    assert f'value="{look:g}"' in html
    assert params["regime"]["value"] == "leak"
    assert re.search(r'value="leak" checked', html)


def test_readings_and_controls():
    html = playable.plot_regimes_to_play_with()
    outputs = set(re.findall(r'output data-signal="(\w+)"', html))
    assert {"eps_text", "words", "error_1", "error_10000", "until_text"} <= outputs
    assert len(re.findall(r'type="radio"', html)) == 4
    signals = {param["name"] for param in spec_of(html)["params"]}
    assert outputs <= signals


@pytest.mark.parametrize(
    ("eps", "regime"), [(0, "leak"), (-1, "leak"), (float("nan"), "leak"), ("x", "leak"), (0.1, "other")]
)
def test_bad_input(eps, regime):
    with pytest.raises(BookError):
        playable.plot_regimes_to_play_with(eps, regime)
