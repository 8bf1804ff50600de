import json
import re

import altair as alt
import pytest
import vl_convert
from html_parts import Parts

from one_step_trap.discounting.plots.playable import plot_discount_to_play_with
from one_step_trap.errors import BookError
from one_step_trap.pages import interactive


class Page(Parts):
    """A figure to play with, taken apart."""

    def spec(self):
        """The chart that the script draws."""
        start = self.script.rindex('querySelector(".ost-plot"), ') + len('querySelector(".ost-plot"), ')
        return json.JSONDecoder().raw_decode(self.script[start:])[0]

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def page():
    chart = alt.Chart(alt.InlineData([{"x": 1, "why": "</script> & <b>"}])).mark_point().encode(x="x:Q")
    chart = chart.add_params(alt.param(name="look", value=1), alt.param(name="double", expr="2 * look"))
    slider = interactive.Slider("look", 0, 4, 0.5, 1, "How far <", says="double")
    html = interactive.playable(
        "play-x", chart, [slider], {"twice as far": "double"}, alt_text='A "point" on a line'
    )
    return Page(html)


def test_the_elements_are_closed_and_the_scripts_text_ends_no_element(page):
    assert page.open == []
    assert len(page.all("script")) == 1


def test_the_control_has_a_label_and_its_range(page):
    (control,) = page.all("input")
    assert {k: control[k] for k in ("type", "min", "max", "step", "value", "data-signal", "data-says")} == {
        **{"type": "range", "min": "0", "max": "4", "step": "0.5", "value": "1"},
        **{"data-signal": "look", "data-says": "double"},
    }
    assert page.all("label")[0]["for"] == control["id"]


def test_the_readings_and_the_plot_have_names(page):
    assert [out["data-signal"] for out in page.all("output")] == ["double", "double"]
    (plot,) = [e for e in page.all("div") if e.get("role") == "img"]
    assert plot["aria-label"] == 'A "point" on a line'
    assert page.all("div")[0] == {"class": "ost-play", "id": "play-x", "data-ready": "false"}


def test_the_page_carries_all_that_it_runs(page):
    """No element loads anything, and the script that draws is written into the page."""
    for _, attributes in page.elements:
        assert not {"src", "href"} & attributes.keys()
    script = page.script
    assert "vegaEmbed" in script
    assert len(script) > 100_000
    assert not re.search(r"""\bimport\s*\(?\s*["']https?:""", script)


def test_the_chart_in_the_page_is_the_chart(page):
    spec = page.spec()
    assert {"x": 1, "why": "</script> & <b>"} in next(iter(spec["datasets"].values()))
    assert {p["name"] for p in spec["params"]} == {"look", "double"}
    assert spec["config"]["axis"]["labelColor"] == "currentColor"


@pytest.mark.parametrize(("value", "low", "high"), [(5, 0, 4), (-1, 0, 4), (0, 4, 0)])
def test_a_slider_that_starts_outside_its_range(value, low, high):
    with pytest.raises(BookError, match="slider look starts at"):
        interactive.Slider("look", low, high, 1, value, "x").html("f")


def test_a_slider_of_nonsense():
    with pytest.raises(BookError, match="high of slider look must be a finite number"):
        interactive.Slider("look", 0, float("inf"), 1, 0, "x").html("f")


# --- choices ----------------------------------------------------------------------------------------------


def chart_with(**signals):
    chart = alt.Chart(alt.InlineData([{"x": 1}])).mark_point().encode(x="x:Q")
    return chart.add_params(*(alt.param(name=name, value=value) for name, value in signals.items()))


def choice(value="b", **options):
    return interactive.Choice("way", options or {"a": "one <way>", "b": "another"}, value, "Which & why")


def test_a_choice_is_a_named_group_of_labelled_buttons():
    page = Page(choice().html("play-x"))
    assert page.open == []
    assert [tag for tag, _ in page.elements] == ["fieldset", "legend", "label", "input", "label", "input"]
    one, other = page.all("input")
    assert one["type"] == other["type"] == "radio"
    assert one["name"] == other["name"] == "play-x-way"  # one group: the arrow keys move within it
    assert (one["value"], other["value"]) == ("a", "b")
    assert "checked" not in one
    assert "checked" in other
    assert "one &lt;way&gt;" in choice().html("play-x")


def test_the_buttons_of_two_figures_are_two_groups():
    names = {Page(choice().html(figure)).all("input")[0]["name"] for figure in ("play-x", "play-y")}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (choice("c"), "choice way starts at 'c'; it must be one of a, b"),
        (choice("a", a="only"), "at least 2 options"),
    ],
)
def test_a_choice_of_nonsense(bad, message):
    with pytest.raises(BookError, match=message):
        bad.html("f")


def test_the_picture_begins_with_the_values_of_the_controls():
    """The chart says one thing, the controls another: what the reader sees must be one of them, and the same twice."""
    controls = [interactive.Slider("look", 0, 4, 0.5, 2.5, "x"), choice()]
    html = interactive.playable("f", chart_with(look=9, way="a"), controls, {}, alt_text="x")
    params = {param["name"]: param["value"] for param in Page(html).spec()["params"]}
    assert params == {"look": 2.5, "way": "b"}


def test_a_control_of_no_signal():
    with pytest.raises(BookError, match="no signal way"):
        interactive.playable("f", chart_with(look=1), [choice()], {}, alt_text="x")


def test_a_slider_outside_the_books_range_and_the_picture_agree():
    page = Page(plot_discount_to_play_with(0.999999))
    (look,) = [param for param in page.spec()["params"] if param["name"] == "look"]
    assert look["value"] == float(page.all("input")[0]["value"]) == 4


@pytest.mark.parametrize(
    ("log10", "text"),
    [
        ("-2.1825", "6.57e-3"),
        ("-391.5", "3.16e-392"),
        ("0", "1e0"),
        ("4", "1e4"),
        ("log(9.996) / LN10", "1e1"),
        ("log(9.994) / LN10", "9.99e0"),
        ("500.301", "2e500"),
    ],
)
def test_numbers_that_no_float_can_hold(log10, text):
    chart = alt.Chart(alt.InlineData([{"x": 1}])).transform_calculate(t=interactive.scientific(log10))
    spec = chart.mark_text().encode(text="t:N").to_dict()
    svg = vl_convert.vegalite_to_svg(spec, vl_version=interactive.VEGA_LITE)
    assert f">{text}</text>" in svg


@pytest.mark.parametrize("gamma", [0, 0.5, 0.99, 0.999999])
def test_the_books_figure_takes_any_discount(gamma):
    page = Page(plot_discount_to_play_with(gamma, steps=(10, 2_000)))
    signals = {out["data-signal"] for out in page.all("output")}
    assert {"g_text", "horizon_text", "half_text", "left_10", "left_2000"} <= signals


@pytest.mark.parametrize(("gamma", "steps"), [(1, (500,)), (1.2, (500,)), (0.9, (0,)), (0.9, (2.5,))])
def test_the_books_figure_refuses_nonsense(gamma, steps):
    with pytest.raises(BookError):
        plot_discount_to_play_with(gamma, steps)
