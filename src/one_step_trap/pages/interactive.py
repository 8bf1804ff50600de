"""Figures that can be played with in a built page: no kernel, no network.

A figure is an Altair chart whose parameters (Vega signals) depend on the position of sliders. Everything a reader can change or
read is a signal of the chart: an ``<input data-signal="...">`` sets one, an ``<output data-signal="...">`` shows one. The
drawing library (Vega, from the package vl-convert-python) is written into the page with the figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

import altair as alt
import vl_convert

from one_step_trap.core.validate import check_real
from one_step_trap.errors import BookError
from one_step_trap.pages import static

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])

# Everything that is ink takes the colour of the page's text, as in the drawn figures.
THEME = {
    "background": None,
    "view": {"stroke": None},
    "axis": {
        **dict.fromkeys(
            ("labelColor", "titleColor", "domainColor", "tickColor", "gridColor"), "currentColor"
        ),
        "gridOpacity": 0.15,
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
    },
    "text": {"color": "currentColor", "fontSize": 13},
}

# Sets signals from the controls and shows signals in the outputs. The script that holds them is a module, so
# that its names stay its own. One control may change what another one reads aloud: all are told after every change.


@dataclass(frozen=True)
class Slider:
    """A slider that sets a signal: its range, first value and what it is called; ``says`` names the signal read aloud."""

    signal: str
    low: float
    high: float
    step: float
    value: float
    label: str
    says: str = ""

    def html(self, figure: str) -> str:
        """Return the labelled control."""
        for name in ("low", "high", "step", "value"):
            check_real(getattr(self, name), f"{name} of slider {self.signal}")
        if not self.low <= self.value <= self.high:
            raise BookError(
                f"slider {self.signal} starts at {self.value:g}, outside [{self.low:g}, {self.high:g}]"
            )
        says = f' data-says="{escape(self.says)}"' if self.says else ""
        shown = (
            f' <output data-signal="{escape(self.says)}" for="{figure}-{self.signal}"></output>'
            if self.says
            else ""
        )
        return (
            f'<label for="{figure}-{self.signal}">{escape(self.label)}{shown}</label>'
            f'<input type="range" id="{figure}-{self.signal}" data-signal="{escape(self.signal)}"{says} '
            f'min="{self.low:g}" max="{self.high:g}" step="{self.step:g}" value="{self.value:g}" autocomplete="off">'
        )


@dataclass(frozen=True)
class Choice:
    """Radio buttons that set a signal to one of several texts: ``options`` maps each text to what its button is called.

    ``value`` is the text chosen at first, ``label`` the question. The arrow keys move between the buttons.
    """

    signal: str
    options: Mapping[str, str]
    value: str
    label: str

    def html(self, figure: str) -> str:
        """Return the group of buttons with its name."""
        if len(self.options) < 2:
            raise BookError(f"choice {self.signal} needs at least 2 options, got {len(self.options)}")
        if self.value not in self.options:
            raise BookError(
                f"choice {self.signal} starts at {self.value!r}; it must be one of {', '.join(self.options)}"
            )
        # No restoring of the last visit's choice by the browser (autocomplete): the picture starts at ``value``.
        buttons = "".join(
            f'<label><input type="radio" name="{figure}-{escape(self.signal)}" data-signal="{escape(self.signal)}" '
            f'value="{escape(option)}"{" checked" if option == self.value else ""} autocomplete="off"> '
            f"{escape(name)}</label>"
            for option, name in self.options.items()
        )
        return f'<fieldset class="ost-choice"><legend>{escape(self.label)}</legend>{buttons}</fieldset>'


@cache
def _library() -> str:
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE))


def playable(
    name: str,
    chart: alt.TopLevelMixin,
    controls: Sequence[Slider | Choice],
    readings: Mapping[str, str],
    *,
    alt_text: str,
) -> str:
    """Return a figure as a piece of HTML that works by itself.

    ``name`` becomes the element's id; ``controls`` set signals of ``chart``, and the picture begins with *their* values,
    so that the two never differ; ``readings`` maps a row's label to the signal shown in it (a signal may be a formatted
    string). ``alt_text`` describes the plot to who cannot see it.
    """
    spec: dict[str, Any] = {**chart.to_dict(), "config": THEME}
    parts = "".join(control.html(name) for control in controls)
    _start_at(spec, controls)
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td><output data-signal="{escape(signal)}"></output></td></tr>'
        for label, signal in readings.items()
    )
    library = _library().replace("</script", "<\\/script")
    return (
        f'<div class="ost-play" id="{escape(name)}" data-ready="false">'
        f'<div class="ost-controls">{parts}</div>'
        f'<div class="ost-plot" role="img" aria-label="{escape(alt_text, quote=True)}"></div>'
        f"<table><tbody>{rows}</tbody></table></div>"
        f'<script type="module">{library}\n{static.script("chart", name, spec)}</script>'
    )


def _start_at(spec: dict[str, Any], controls: Sequence[Slider | Choice]) -> None:
    """Give the signals of a chart the first values of the controls that set them."""
    signals = {param["name"]: param for param in spec.get("params", [])}
    for control in controls:
        if "value" not in signals.get(control.signal, {}):
            raise BookError(f"the chart has no signal {control.signal} with a value for its control to set")
        signals[control.signal]["value"] = control.value


def scientific(log10: str) -> str:
    """Return a Vega expression that writes the number with decimal logarithm ``log10`` (an expression) as 6.57e-3.

    Unlike ``format(x, '.2~e')`` it also writes numbers that are too small for the browser's floats, such as 1e-391.
    """
    # .00022 is a little more than log₁₀(10/9.995), so that 9.996 is written as 1 and not as 10.
    power = f"floor({log10} + 0.00022)"
    return f"format(pow(10, ({log10}) - {power}), '.2~f') + 'e' + {power}"
