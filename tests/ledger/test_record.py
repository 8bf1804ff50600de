import ast
import math

import numpy as np
import pytest

from one_step_trap.core.stats import Interval, exact
from one_step_trap.errors import BookError
from one_step_trap.ledger import record
from one_step_trap.ledger.claims import CLAIM_MIME, recorded_in
from one_step_trap.pages import figures

RULE = "holds if the weight rounds to 6e-3 or 7e-3"


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would store: name -> (mime bundle, whether it is hidden)."""
    outputs = {}

    def display(bundle, *, raw, metadata):
        assert raw
        scrap = metadata["scrapbook"]
        outputs[scrap["name"]] = (bundle, scrap["mime_prefix"] == record.HIDDEN)

    monkeypatch.setattr(record, "display", display)
    return outputs


def text(shown, name):
    """What the prose will show: a text is stored as Python writes it, in quotes."""
    bundle, hidden = shown[name]
    assert hidden
    value = ast.literal_eval(bundle[record.HIDDEN + "text/plain"])
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize(
    ("value", "spec", "expected"),
    [
        (0.99**500, ".3g", "0.00657"),
        (np.float32(0.5), ".2f", "0.50"),
        (np.int64(1300), ",d", "1,300"),
        (1234567.0, ",.0f", "1,234,567"),
        ("holds", ".3g", "holds"),
        (0.256, ".0%", "26%"),
        (0.99**500, ".2e", "6.57e-3"),
        (6.57e10, ".2e", "6.57e10"),
        (1e-100, ".0e", "1e-100"),
        (1226.4, "", "1,226"),
        (0.26543, "", "0.265"),
        (1.5e7, "", "1.5e7"),
        (-1e-17, ".2f", "0.00"),
        (-0.0, "", "0"),
        (-0.004, ".0%", "0%"),
        (-0.005001, ".2f", "-0.01"),
    ],
)
def test_numbers_for_the_prose(shown, value, spec, expected):
    assert record.number("x", value, spec) == expected
    assert text(shown, "x") == expected


def test_an_interval_is_recorded_in_parts(shown):
    record.number("err", Interval(0.26543, 0.26, 0.2701, 100))
    assert {name: text(shown, name) for name in shown} == {
        "err": "0.265",
        "err-low": "0.26",
        "err-high": "0.27",
        "err-ci": "0.265 [0.26, 0.27]",
    }


def test_a_drawn_figure(shown):
    figure, ax = figures.new_figure()
    ax.plot([1, 2])
    record.figure("line", figure, alt="A line that rises from one to two", made_by=figures.new_figure)
    bundle, hidden = shown["line"]
    assert not hidden
    assert 'aria-label="A line that rises from one to two"' in bundle["text/html"]
    assert 'href="../_modules/one_step_trap/pages/figures.html#new_figure"' in bundle["text/html"]
    assert bundle["text/plain"] == "A line that rises from one to two"


def test_a_figure_to_play_with_is_taken_as_it_is(shown):
    record.figure("play", "<div>drag me</div>", made_by=figures.new_figure)
    assert "<div>drag me</div>" in shown["play"][0]["text/html"]


def test_a_drawn_figure_without_alt_text_is_refused(shown):
    with pytest.raises(BookError, match="alt text"):
        record.figure("line", figures.new_figure()[0], made_by=figures.new_figure)
    assert not shown


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        ({"holds": True}, "holds"),
        ({"holds": True, "when": "episodes end"}, "holds when"),
        ({"holds": False}, "does not hold"),
        ({"holds": False, "fails": False}, "open"),
        ({"holds": False, "fails": True, "when": "episodes end"}, "does not hold"),
        ({"holds": np.True_}, "holds"),
    ],
)
def test_verdicts(outcome, verdict):
    assert record.judge(**outcome) == verdict


def test_nothing_both_holds_and_fails():
    with pytest.raises(BookError, match="both hold and fail"):
        record.judge(True, fails=True)


def test_a_claim_can_be_read_back_and_quoted(shown):
    row = record.claim(
        "disc-500", exact(0.99**500), unit="weight left", verdict="holds", rule=RULE, figure="fig-weights"
    )
    bundle, hidden = shown["claim:disc-500"]
    assert not hidden
    notebook = {"cells": [{"cell_type": "code", "outputs": [{"data": bundle}]}, {"cell_type": "markdown"}]}
    assert recorded_in(notebook) == [row]
    assert bundle[CLAIM_MIME]["value"] == 0.99**500  # all digits, not those of the prose
    assert text(shown, "disc-500.value") == "0.00657"
    assert text(shown, "disc-500.interval") == "[0.00657, 0.00657]"
    assert text(shown, "disc-500.verdict") == "holds"
    assert bundle["text/plain"] == "0.00657 weight left (n = 1): holds"


def test_the_card_of_a_claim(shown):
    measured = (1226.0, 1100.0, 1350.0, 20)
    record.claim(
        "disc-gym", measured, unit="a < b", verdict="holds when", condition="where it ends", rule=RULE
    )
    card = shown["claim:disc-gym"][0]["text/html"]
    assert card.startswith('<div class="ost-claim ost-holds-when">')
    for part in ("holds where it ends", "1,226 [1,100, 1,350]", "a &lt; b", "(n = 20)"):
        assert part in card


def test_a_range_is_not_called_an_interval(shown):
    measured = (0.04, -0.01, 0.09, 9)
    for ends in ({}, {"ends": "range over cells"}):
        record.claim("scale-search", measured, unit="slope", verdict="open", rule=RULE, **ends)
        recorded = shown["claim:scale-search"][0][CLAIM_MIME]
        assert recorded["ends"] == ends.get("ends", "95% interval")


def documented(x):
    """Return twice x."""
    # a comment stays
    return 2 * x


def test_the_code_of_a_function_without_its_docstring(monkeypatch):
    shown = []
    monkeypatch.setattr(record, "display", shown.append)
    record.source(documented)
    assert shown[0].data == "```python\ndef documented(x):\n    # a comment stays\n    return 2 * x\n```"


def test_numbers_of_numpy_are_plain_numbers_in_the_record(shown):
    measured = (np.float32(0.5), np.float64(0.25), np.float64(0.75), np.int64(20))
    row = record.claim("disc-gym", measured, unit="share", verdict="open", rule=RULE)
    assert [type(x) for x in (row.value, row.low, row.high, row.n)] == [float, float, float, int]


@pytest.mark.parametrize("size", [0.0, 1.0, -1e6])
def test_last_bits_do_not_put_a_value_outside_its_interval(shown, size):
    off = 1e-15 * max(1, abs(size))
    for low, high in ((size + off, size + 2 * off), (size - 2 * off, size - off)):
        row = record.claim("disc-500", (size, low, high, 5), unit="weight", verdict="open", rule=RULE)
        assert row.low <= row.value <= row.high
        assert (row.low, row.value, row.high) == pytest.approx((low, size, high), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measured": (2.0, 0.0, 1.0, 5)}, r"claim disc-500: the value 2 lies outside its interval \[0, 1\]"),
        ({"measured": (1e-9, 0.0, 0.0, 5)}, r"claim disc-500: the value 1e-09 lies outside its interval"),
        ({"measured": (3.0, 3.0, 1.0, 5)}, r"claim disc-500: the value 3 lies outside its interval \[3, 1\]"),
        ({"measured": (math.nan, 0.0, 1.0, 5)}, "value of claim disc-500 must be a finite number, got nan"),
        ({"measured": (0.5, -math.inf, 1.0, 5)}, "low of claim disc-500 must be a finite number"),
        (
            {"measured": (0.5, 0.0, 1.0, 0)},
            "claim disc-500 is not well formed: n: .*greater than or equal to 1",
        ),
        ({"verdict": "holds when"}, "claim disc-500 .*say when in `condition`"),
        ({"verdict": "true"}, "claim disc-500 is not well formed: verdict: "),
        ({"unit": ""}, "claim disc-500 is not well formed: unit: "),
        ({"rule": "big"}, "claim disc-500 is not well formed: rule: "),
    ],
)
def test_claims_that_are_refused(shown, change, message):
    arguments = {"measured": exact(0.5), "unit": "weight", "verdict": "holds", "rule": RULE, **change}
    with pytest.raises(BookError, match=f"^{message}") as caught:
        record.claim("disc-500", **arguments)
    assert "\n" not in str(caught.value)
    assert not shown
