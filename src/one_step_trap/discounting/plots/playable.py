"""The figure of chapter 2 that can be played with: drag the discount, see what is left far ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt

from one_step_trap.core.validate import check_count, check_gamma, check_list
from one_step_trap.pages.figures import BLUE, GREY, VERMILLION
from one_step_trap.pages.interactive import Slider, playable, scientific

LOW, HIGH = 0.3, 4.0  # the slider's ends, log₁₀ of the effective horizon: about 2 and 10,000 steps


def _in_steps(number: str) -> str:
    """Return the Vega expression of a whole number of steps, with the singular where it is 1."""
    return f"format({number}, ',.0f') + (round({number}) == 1 ? ' step' : ' steps')"


def plot_discount_to_play_with(gamma: float, steps: Sequence[int] = (500, 1_000, 1_300)) -> str:
    """Return the weight γᵗ against t with a slider for γ, as HTML that needs no kernel and no network.

    The slider moves log₁₀ of the effective horizon 1/(1-γ), from about 2 to 10,000 steps, because equal steps of γ
    are very unequal steps of how far a value looks. It begins at ``gamma``, or at the nearer end where ``gamma``
    lies beyond. ``steps`` are the distances whose remaining weight is shown.
    """
    start = min(max(math.log10(1 / (1 - check_gamma(gamma))), LOW), HIGH)
    steps = [check_count(step, "step") for step in check_list(steps, "steps")]
    last = int(1.15 * max(steps))
    look = alt.param(name="look", value=start)
    g = alt.param(name="g", expr="1 - pow(10, -look)")
    texts = {
        "g_text": "format(g, look < 1.5 ? '.3f' : look < 2.5 ? '.4f' : '.5f')",
        "horizon_text": _in_steps("pow(10, look)"),
        "half_text": _in_steps("ceil(log(0.5) / log(g) - 1e-9)"),
        **{f"left_{step}": scientific(f"({step} * log(g) / LN10)") for step in steps},
    }
    signals = [look, g, *(alt.param(name=name, expr=expr) for name, expr in texts.items())]
    x = alt.X("t:Q", title="steps ahead t", scale=alt.Scale(domain=[0, last], nice=False),
              axis=alt.Axis(tickCount=6, labelOverlap="greedy"))  # fmt: skip
    y = alt.Y("w:Q", title="weight γᵗ", scale=alt.Scale(domain=[0, 1]))
    curve = (
        alt.Chart(alt.sequence(0, last + 1, max(1, last // 500), as_="t"))
        .transform_calculate(w="pow(g, datum.t)")
        .mark_area(line={"color": BLUE, "strokeWidth": 2.5}, color=BLUE, opacity=0.35)
        .encode(x=x, y=y)
    )
    far = alt.Chart(alt.InlineData([{"t": step, "w": 1} for step in steps]))
    lines = far.mark_rule(color=GREY, strokeDash=[4, 3]).encode(x="t:Q")
    dots = (
        far.transform_calculate(left="pow(g, datum.t)")
        .mark_point(color=VERMILLION, filled=True, size=70)
        .encode(x="t:Q", y="left:Q")
    )
    labels = far.mark_text(dy=-6, align="right", dx=-4, baseline="top", y=8).encode(
        x="t:Q", text=alt.Text("t:Q", format=",d")
    )
    chart = (curve + lines + dots + labels).add_params(*signals).properties(width="container", height=230)
    slider = Slider("look", LOW, HIGH, 0.005, start, "Discount γ =", says="g_text")
    readings = {
        "effective horizon 1/(1-γ)": "horizon_text",
        "weight below one half after": "half_text",
        **{f"weight left at {step:,} steps": f"left_{step}" for step in steps},
    }
    description = (
        "The weight of a reward against how many steps ahead it lies, an exponential that falls from 1; the weights at "
        f"{', '.join(f'{step:,}' for step in steps)} steps are marked. The slider above it sets the discount."
    )
    return playable("play-discount", chart, [slider], readings, alt_text=description)
