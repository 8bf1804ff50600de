"""What a chapter records while it runs: numbers for its prose, figures, and verdicts on claims.

MyST-NB's ``glue`` stores a value in a notebook by an output with a ``scrapbook`` entry in its metadata. The functions here
emit the same outputs without importing myst_nb, so that a chapter also runs where only this library is installed (Colab, plain
Jupyter). The build reads them back from the executed notebook (:mod:`one_step_trap.ledger.claims`).
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Callable
from html import escape
from typing import Any

from IPython.display import Markdown, display
from matplotlib.figure import Figure

from one_step_trap.core.stats import ROUNDING, Interval, readable
from one_step_trap.core.validate import check_real
from one_step_trap.errors import BookError
from one_step_trap.ledger.claims import CLAIM_MIME, Claim, Verdict, parse
from one_step_trap.pages.figures import source_of, to_svg

HIDDEN = "application/papermill.record/"
"""Prefix that tells MyST-NB (and every front end) to store an output without showing it."""


class Words(str):
    """A recorded number as it stands in prose: JupyterLab shows its ``repr``, which therefore has no quotes."""

    def __repr__(self) -> str:
        return str(self)


val: dict[str, Words] = {}
"""What the chapter has recorded so far: ``{eval}`` in its prose shows ``val["name"]``."""


def emit(name: str, bundle: dict[str, Any], *, hidden: bool) -> None:
    """Store a mime bundle under ``name`` in the notebook, shown in place or hidden."""
    prefix = HIDDEN if hidden else ""
    display(
        {prefix + mime: data for mime, data in bundle.items()},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
    )


def number(name: str, value: Any, spec: str = "") -> str:
    """Record a number for the prose under ``name``, where ``{eval}`` shows ``val["name"]``; return its text.

    ``spec`` is a format specification; without one, three significant digits (1,226 and not 1.23e+03). An
    :class:`~one_step_trap.core.stats.Interval` is recorded four times: ``name`` (the value), ``name-low``, ``name-high`` and,
    ready for prose, ``name-ci`` ("0.265 [0.260, 0.270]"). A string is recorded as it is.
    """
    if isinstance(value, Interval):
        low, high, middle = (formatted(end, spec) for end in (value.low, value.high, value.value))
        for part, text in (("-low", low), ("-high", high), ("-ci", f"{middle} [{low}, {high}]")):
            _quote(name + part, text)
        value = value.value
    text = value if isinstance(value, str) else formatted(value, spec)
    _quote(name, text)
    return text


def formatted(value: Any, spec: str) -> str:
    """Return a number as prose wants it: 6.57e-3 and not 6.57e-03, and 0.00 without a sign that a last bit may decide."""
    if math.isnan(value):
        raise BookError("NaN is no number for the prose: something went wrong before it was recorded")
    whole = spec.endswith("d")
    text = format(int(value) if whole else float(value), spec) if spec else readable(float(value))
    text = text if re.search("[1-9]", text) else text.replace("-", "")
    return re.sub(r"e([+-])0*(\d)", lambda m: f"e{m[1].replace('+', '')}{m[2]}", text)


def _quote(name: str, text: str) -> None:
    val[name] = Words(text)
    # MyST-NB evaluates the text as Python; in quotes, "1,226" stays what it is and does not become a pair.
    emit(name, {"text/plain": repr(text)}, hidden=True)


def source(function: Callable[..., Any]) -> None:
    """Show the code of a function without its docstring: the equation before it says what it does."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    if isinstance(tree, ast.FunctionDef) and ast.get_docstring(tree) is not None:
        text = tree.body[0]
        del lines[text.lineno - 1 : text.end_lineno]
    display(Markdown("```python\n" + "\n".join(lines) + "\n```"))


def figure(name: str, drawing: Figure | str, *, alt: str = "", made_by: Callable[..., Any]) -> None:
    """Show a figure and record it under ``name``, with a link to the function that made it.

    ``drawing`` is a matplotlib figure (``alt`` is then required: one or two sentences with the finding) or, for a figure that
    can be played with, a piece of HTML.
    """
    body = drawing if isinstance(drawing, str) else to_svg(drawing, alt)
    module, function = source_of(made_by)
    page = f"../_modules/{module.replace('.', '/')}.html#{function}"
    link = f'<p class="ost-source">Drawn by <a href="{page}" title="{module}.{function}"><code>{function}</code></a></p>'
    emit(
        name,
        {"text/html": f'<div class="ost-figure-box">{body}{link}</div>', "text/plain": alt},
        hidden=False,
    )


def judge(holds: bool, *, fails: bool | None = None, when: str = "") -> Verdict:
    """Turn the outcome of a rule into a verdict.

    ``holds``: the measurement meets the rule written down beforehand. ``fails``: it meets the opposite (default: ``not
    holds``). Neither: the verdict is "open". ``when``: the condition under which it holds, if it does not hold everywhere.
    """
    fails = (not holds) if fails is None else fails
    if holds and fails:
        raise BookError("a claim cannot both hold and fail: check the rule")
    if holds:
        return "holds when" if when else "holds"
    return "does not hold" if fails else "open"


def claim(
    id: str,
    measured: Interval | tuple[float, float, float, int],
    *,
    unit: str,
    verdict: Verdict,
    rule: str,
    condition: str = "",
    figure: str = "",
    ends: str = "95% interval",
) -> Claim:
    """Record the verdict on one row of the ledger.

    ``measured`` is the number with its interval and n; ``unit`` says what the number is; ``rule`` is the sentence that was
    fixed before looking; ``condition`` is required for "holds when" (dropped with any other verdict) and reads on after
    "holds": "where ...", "for ...", "when ...". ``figure`` is the label of the figure. ``ends``: what low and high are, where
    they are no 95% interval.
    Its value and verdict can be quoted in prose by the names ``<id>.value``, ``<id>.interval`` and ``<id>.verdict``.
    """
    value, low, high, n = Interval(*measured)
    for label, end in (("value", value), ("low", low), ("high", high)):
        check_real(end, f"{label} of claim {id}")
    slack = ROUNDING * max(1.0, abs(low), abs(value), abs(high))
    if not low - slack <= value <= high + slack:
        raise BookError(f"claim {id}: the value {value:g} lies outside its interval [{low:g}, {high:g}]")
    row = parse(
        {
            "id": id,
            "value": float(value),
            "low": min(float(low), float(value)),  # rounding may put the value outside by its last bits
            "high": max(float(high), float(value)),
            "unit": unit,
            "n": int(n),
            "verdict": verdict,
            "condition": condition if verdict == "holds when" else "",
            "rule": rule,
            "figure": figure,
            "ends": ends,
        }
    )
    emit(
        f"claim:{id}",
        {CLAIM_MIME: row.model_dump(), "text/html": card(row), "text/plain": row.summary()},
        hidden=False,
    )
    number(f"{id}.value", readable(row.value))
    number(f"{id}.interval", f"[{readable(row.low)}, {readable(row.high)}]")
    number(f"{id}.verdict", row.verdict)
    return row


def card(row: Claim) -> str:
    """Return a claim as the piece of HTML that stands where it was recorded."""
    return (
        f'<div class="ost-claim ost-{row.verdict.replace(" ", "-")}"><p><span class="ost-verdict">{row.verdict}</span> '
        f"<code>{row.id}</code> {escape(row.finding()) if row.condition else ''}</p>"
        f"<p><strong>{escape(row.measured())}</strong> {escape(row.unit)} (n = {row.n:,})</p></div>"
    )
