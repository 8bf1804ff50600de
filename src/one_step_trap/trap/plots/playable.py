"""The figure of chapter 1 that can be played with: choose how the world moves and how wrong one step is.

The errors are the closed forms of :mod:`one_step_trap.trap.regimes`, written a second time as Vega expressions of ``n`` and
``eps``; a test compares the two.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import altair as alt

from one_step_trap.core.validate import check_positive
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import BLUE, GREY, VERMILLION
from one_step_trap.pages.interactive import Choice, Slider, playable
from one_step_trap.trap.chains import log_steps
from one_step_trap.trap.regimes import FLIP, SECOND

SMALLEST, LARGEST = 1e-4, 0.1
MARKED = (1, 10, 100, 1_000, 10_000)


@dataclass(frozen=True)
class Form:
    """A regime as Vega expressions: its ``error`` after n steps, and the steps ``until`` that reaches 0.5 (0: never)."""

    label: str
    words: str
    error: str
    until: str


A, B, K = f"({FLIP} + eps)", f"({FLIP} + {SECOND} * eps)", f"{1 - 2 * FLIP:.12g}"
PI, KAPPA = f"({A} / ({A} + {B}))", f"(1 - {A} - {B})"
HALF_STEP = "quantileNormal((1 + eps) / 2)"
THREE_QUARTERS = "quantileNormal(0.75)"

FORMS = {
    "mixing": Form(
        "mixing: the start is forgotten",
        f"fades to about {(FLIP * (1 - SECOND)) / (2 * FLIP) ** 2:.2g} ε (TV)",
        f"max(abs({PI} * (1 - pow({KAPPA}, n)) - 0.5 * (1 - pow({K}, n))), "
        f"abs({PI} + (1 - {PI}) * pow({KAPPA}, n) - 0.5 - 0.5 * pow({K}, n)))",
        "0",
    ),
    "leak": Form(
        "leak: what is lost stays lost",
        "1 - (1 - ε)ⁿ (TV)",
        "1 - pow(1 - eps, n)",
        "ceil(log(0.5) / log(1 - eps) - 1e-9)",
    ),
    "drift": Form(
        "drift: every step is off to one side",
        "about ε√n (TV)",
        f"2 * cumulativeNormal(sqrt(n) * {HALF_STEP}) - 1",
        f"ceil(pow({THREE_QUARTERS} / {HALF_STEP}, 2) - 1e-9)",
    ),
    "expansive": Form(
        "expansive: distances double",
        "ε (2ⁿ - 1), at most 1 (W₁)",
        "min(1, eps * (pow(2, n) - 1))",
        "ceil(log(0.5 / eps + 1) / log(2) - 1e-9)",
    ),
}
ERROR = "".join(f"regime == '{name}' ? {form.error} : " for name, form in FORMS.items()) + "0"
UNTIL = "".join(f"regime == '{name}' ? {form.until} : " for name, form in FORMS.items()) + "0"
WORDS = "".join(f"regime == '{name}' ? '{form.words}' : " for name, form in FORMS.items()) + "''"


def at(steps: str, expression: str = ERROR) -> str:
    """Return the expression with ``steps`` (a number or another expression) in the place of ``n``."""
    return re.sub(r"\bn\b", steps, expression)


def plot_regimes_to_play_with(eps: float = 0.001, regime: str = "mixing") -> str:
    """Return the n-step error against n with a choice of the regime and a slider for ε, as HTML without a kernel.

    ``eps``: error of one step at first, moved into [0.0001, 0.1] where it lies outside (TV, half of L1; W₁ in a world of size 1
    for the expansive regime). ``regime``: the one shown at first, a key of ``FORMS``. The dashed line is ε n, what errors
    that simply add up would come to.
    """
    if regime not in FORMS:
        raise BookError(f"regime must be one of {', '.join(FORMS)}, got {regime!r}")
    start = math.log10(min(max(check_positive(eps, "eps"), SMALLEST), LARGEST))
    texts = {
        "eps_text": "format(eps, '.2~r')",
        "words": WORDS,
        **{f"error_{n}": f"format({at(str(n))}, '.3~r')" for n in MARKED},
        "growth": f"format(({at('10000')}) / eps, ',.3~r') + ' times'",
        "until": UNTIL,
        "until_text": "until > 0 ? format(until, ',.0f') + (until == 1 ? ' step' : ' steps') : 'never'",
    }
    signals = [
        alt.param(name="regime", value=regime),
        alt.param(name="look", value=start),
        alt.param(name="eps", expr="pow(10, look)"),
        *(alt.param(name=name, expr=expression) for name, expression in texts.items()),
    ]
    lines = ["error of the model", "errors added up: ε n"]
    x = alt.X(
        "n:Q",
        title="steps ahead n",
        scale=alt.Scale(type="log", domain=[1, MARKED[-1]]),
        axis=alt.Axis(values=list(MARKED), format=",d"),
    )
    y_axis = alt.Axis(
        values=[1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1],
        labelExpr="datum.value < 0.01 ? format(datum.value, '.0e') : format(datum.value, '~g')",
    )
    y = alt.Y(
        "e:Q",
        title="error (TV; expansive: W₁)",
        scale=alt.Scale(type="log", domain=[1e-5, 1], clamp=True),
        axis=y_axis,
    )
    # Whole steps where the curve is steep, then evenly spaced ones.
    steps = sorted({*range(1, 41), *log_steps(MARKED[-1], per_decade=30).tolist()})
    key = alt.Legend(
        title=None,
        orient="top",
        columns=1,
        symbolType="stroke",
        symbolSize=500,
        labelFontSize=13,
        labelLimit=400,
    )
    curves = (
        alt.Chart(alt.InlineData([{"n": n} for n in steps]))
        .transform_calculate(**{lines[0]: at("datum.n"), lines[1]: "min(1, datum.n * eps)"})
        .transform_fold([*lines], as_=["line", "e"])
        .mark_line(clip=True, strokeWidth=2.5)
        .encode(
            x=x,
            y=y,
            color=alt.Color("line:N", scale=alt.Scale(domain=lines, range=[BLUE, GREY]), legend=key),
            strokeDash=alt.StrokeDash(
                "line:N", scale=alt.Scale(domain=lines, range=[[1, 0], [6, 4]]), legend=key
            ),
        )
    )
    dots = (
        alt.Chart(alt.InlineData([{"n": n} for n in MARKED]))
        .transform_calculate(e=at("datum.n"))
        .mark_point(color=VERMILLION, filled=True, size=70, opacity=1)
        .encode(x=x, y=y)
    )
    chart = (curves + dots).add_params(*signals).properties(width="container", height=250)
    controls: list[Slider | Choice] = [
        Choice("regime", {name: form.label for name, form in FORMS.items()}, regime, "How the world moves"),
        Slider(
            "look",
            math.log10(SMALLEST),
            math.log10(LARGEST),
            0.01,
            start,
            "Error of one step ε =",
            says="eps_text",
        ),
    ]
    readings = {
        "error after n steps": "words",
        **{f"error at {n:,} step{'s' if n > 1 else ''}": f"error_{n}" for n in MARKED},
        "growth from 1 to 10,000 steps": "growth",
        "error of 0.5 after": "until_text",
    }
    description = (
        "The error of an iterated model against the steps ahead, both on logarithmic axes, with a dashed line for errors that "
        "simply add up. In the mixing regime the error falls and stays small; leaking it follows the dashed line "
        "up to 1; drifting it rises with half the slope; expanding it reaches 1 within about ten steps. The buttons above "
        "choose the regime, the slider sets the error of one step."
    )
    return playable("play-regimes", chart, controls, readings, alt_text=description)
