"""The chapter's figure to play with: what Vega writes beside it, over the whole range of its slider."""

import html
import json
import re

import altair as alt
import pytest
import vl_convert

from one_step_trap.discounting import weights
from one_step_trap.discounting.plots.playable import plot_discount_to_play_with
from one_step_trap.errors import BookError

MARK = 'querySelector(".ost-plot"), '


def readings(gamma=0.99, look=None, steps=(500, 1_000, 1_300)):
    """The texts that the figure shows, with the slider where it begins or at ``look``, as Vega computes them."""
    page = plot_discount_to_play_with(gamma, steps)
    spec, _ = json.JSONDecoder().raw_decode(page[page.rindex(MARK) + len(MARK) :])
    params = spec["params"]
    if look is not None:
        params = [p | {"value": look} if p["name"] == "look" else p for p in params]
    names = [p["name"] for p in params if p["name"].endswith("_text") or p["name"].startswith("left_")]
    layers = [
        {"mark": {"type": "text", "text": {"expr": f"'{name}=' + {name}"}}, "data": {"values": [{}]}}
        for name in names
    ]
    version = ".".join(alt.SCHEMA_VERSION[1:].split(".")[:2])
    svg = vl_convert.vegalite_to_svg({"params": params, "layer": layers}, vl_version=version)
    return dict(text.split("=", 1) for text in map(html.unescape, re.findall(r">(\w+=[^<]*)</text>", svg)))


def slider(gamma):
    (tag,) = re.findall(r"<input[^>]*>", plot_discount_to_play_with(gamma))
    return {name: float(re.search(rf' {name}="([^"]*)"', tag)[1]) for name in ("min", "max", "value")}


def test_where_the_chapter_begins():
    assert readings() == {
        **{"g_text": "0.9900", "horizon_text": "100 steps", "half_text": "69 steps"},
        **{"left_500": "6.57e-3", "left_1000": "4.32e-5", "left_1300": "2.12e-6"},
    }


def test_at_the_slider_s_left_end_nothing_rounds_to_nothing():
    """γ^1300 is below the least float there."""
    shown = readings(look=0.3)
    assert (shown["g_text"], shown["horizon_text"], shown["half_text"]) == ("0.499", "2 steps", "1 step")
    assert (shown["left_500"], shown["left_1300"]) == ("9.31e-152", "2.08e-393")


def test_at_the_slider_s_right_end():
    shown = readings(look=4)
    assert (shown["g_text"], shown["horizon_text"]) == ("0.99990", "10,000 steps")
    assert (shown["half_text"], shown["left_1300"]) == ("6,932 steps", "8.78e-1")


@pytest.mark.parametrize("look", [0.3, 0.655, 1.0, 1.735, 2.98, 3.5])
def test_the_weights_are_those_of_the_library(look):
    shown = readings(look=look, steps=(1, 2, 7, 40, 500, 9_999))
    for n in (1, 2, 7, 40, 500, 9_999):
        mantissa, exponent = shown[f"left_{n}"].split("e")
        expected = weights.scientific(float(weights.log10_weight_left(1 - 10**-look, n)), digits=3)
        assert f"{float(mantissa):.2f}e{int(exponent):+03d}" == expected


def test_a_mantissa_that_rounds_to_ten_is_one_of_the_next_power():
    """γ = .999 is written as 9.99e-1, and γ = .9999 as 1e0, never as 10e-1."""
    assert readings(look=3, steps=(1,))["left_1"] == "9.99e-1"
    assert readings(look=4, steps=(1,))["left_1"] == "1e0"


@pytest.mark.parametrize(
    ("gamma", "end", "shown"), [(0, 0.3, "0.499"), (0.2, 0.3, "0.499"), (0.999999, 4, "0.99990")]
)
def test_a_discount_beyond_the_ends_begins_at_the_nearer_one(gamma, end, shown):
    """The readings and the slider say the same."""
    assert readings(gamma)["g_text"] == shown
    assert slider(gamma) == {"min": 0.3, "max": 4, "value": end}


def test_bad_steps():
    for wrong in (500, [], "500", [0], [2.5]):
        with pytest.raises(BookError, match=r"^steps? must"):
            plot_discount_to_play_with(0.9, wrong)
