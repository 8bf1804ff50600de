import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from one_step_trap.errors import BookError
from one_step_trap.pages import figures as f

ALT = "A line that rises from one to four"


def drawing():
    figure, ax = f.new_figure()
    ax.plot([1, 2], [1, 4], label="<squares> & more")
    ax.set_xlabel("steps ahead")
    f.legend_above(ax)
    return figure


def test_no_global_state():
    before = plt.get_fignums(), dict(plt.rcParams)
    f.to_svg(drawing(), ALT)
    assert (plt.get_fignums(), dict(plt.rcParams)) == before


def test_the_shape_asked_for():
    figure, axes = f.new_figure(2, 2, height=5, sharex=True)
    assert axes.shape == (2, 2)
    assert tuple(figure.get_size_inches()) == (f.WIDTH, 5)
    with pytest.raises(BookError, match="at most 2 panels fit side by side on a phone, got 3"):
        f.new_figure(1, 3)


def test_svg_is_well_formed_named_and_takes_the_colour_of_the_page():
    svg = f.to_svg(drawing(), 'A "line" that rises, from < one to four')
    element = ET.fromstring(svg)
    assert element.get("role") == "img"
    assert element.get("aria-label") == 'A "line" that rises, from < one to four'
    assert f.INK not in svg
    assert "currentColor" in svg
    assert f.BLUE in svg
    assert "metadata" not in svg
    texts = "".join(element.itertext())
    assert (
        "steps ahead" in texts
    )  # text stays text: it can be read aloud, searched, and takes the page's font
    assert "<squares> & more" in texts


def test_the_same_figure_is_the_same_bytes():
    assert f.to_svg(drawing(), ALT) == f.to_svg(drawing(), ALT)


@pytest.mark.parametrize("alt", ["", "figure", "a b c d"])
def test_alt_text_says_something(alt):
    with pytest.raises(BookError, match="alt text must say in words"):
        f.to_svg(drawing(), alt)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("abc<>&\"' ", min_size=1), min_size=5, max_size=8))
def test_any_alt_text_survives(words):
    figure, _ = f.new_figure(height=0.5)
    alt = " ".join(words)
    if len(alt.split()) >= 5:
        assert ET.fromstring(f.to_svg(figure, alt)).get("aria-label") == alt


def luminance(colour):
    """Relative luminance by WCAG 2.1."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("page", ["#ffffff", "#14181e"])
@pytest.mark.parametrize("colour", f.COLORS)
def test_data_colours_stand_out_in_light_and_in_dark(colour, page):
    bright, dim = sorted([luminance(colour), luminance(page)], reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 3  # WCAG 1.4.11, graphical objects


def test_there_is_a_dash_and_a_marker_for_every_colour():
    assert len({str(dash) for dash in f.DASHES}) >= len(f.COLORS)
    assert len(set(f.MARKERS)) >= len(f.COLORS)


def test_source_of_a_figure():
    assert f.source_of(f.legend_above) == ("one_step_trap.pages.figures", "legend_above")
