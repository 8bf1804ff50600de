"""How the book's figures look, and how they get into a page.

A figure is drawn with matplotlib and shown as SVG inside the page. Axes and text take the colour of the page's own text,
so one drawing serves light and dark mode; the data colours below keep a contrast of 3:1 or more on both backgrounds and can
be told apart by colour-blind readers (after Okabe & Ito). Curves differ in dash or marker as well, never in colour alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from one_step_trap.errors import BookError

BLUE, VERMILLION, GREEN, PURPLE, OCHRE, GREY = (
    "#2f7fc1",
    "#d55e00",
    "#009e73",
    "#b05fa0",
    "#a97b00",
    "#808080",
)
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, OCHRE, GREY)
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 3)),
)
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#010203"  # stands for "the text colour of the page"; replaced by currentColor in the SVG
WIDTH = 5.6  # inches: at 390 px of screen the 12-point text of a figure is still about 10 px high

STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.prop_cycle": cycler(color=COLORS),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 12,
    "grid.alpha": 0.25,
    "grid.color": GREY,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def new_figure(nrows: int = 1, ncols: int = 1, *, height: float = 3.4, **subplots: Any) -> tuple[Figure, Any]:
    """Return ``(figure, axes)`` in the book's style; ``height`` in inches for the whole figure.

    Axes come as from ``Figure.subplots`` (one Axes, or an array of them). Panels side by side are at most two: a reader's
    phone is 390 px wide. No pyplot, no global state.
    """
    if ncols > 2:
        raise BookError(f"at most 2 panels fit side by side on a phone, got {ncols}; use rows")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots(nrows, ncols, **subplots)
    return figure, axes


def legend_above(ax: Axes, *, ncols: int = 3, title: str | None = None) -> None:
    """Put the legend above the axes, where it covers no data."""
    with mpl.rc_context(STYLE):
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=ncols,
            title=title,
            borderaxespad=0.2,
            alignment="left",
            columnspacing=1.2,
            handlelength=1.8,
        )


def legend_over(figure: Figure, ax: Axes) -> None:
    """Put one legend above all panels; one that belonged to the left panel would push the right one away."""
    handles, labels = ax.get_legend_handles_labels()
    with mpl.rc_context(STYLE):
        figure.legend(
            handles, labels, loc="outside upper left", ncols=len(labels), columnspacing=1.2, handlelength=1.8
        )


def to_svg(figure: Figure, alt: str) -> str:
    """Return the figure as an SVG element with an accessible name, in the colours of the page it will stand in."""
    if len(alt.split()) < 5:
        raise BookError(f"the alt text must say in words what the figure shows, got {alt!r}")
    for text in figure.findobj(Text):  # text written outside our style is black: it too is ink
        if to_hex(text.get_color()) == "#000000":
            text.set_color(INK)
    buffer = io.StringIO()
    # A fixed hash salt and no date: the same figure is the same bytes on every run.
    with mpl.rc_context(STYLE | {"svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    return svg.replace(
        "<svg ", f'<svg role="img" aria-label="{escape(alt, quote=True)}" class="ost-figure" ', 1
    )


def source_of(function: Callable[..., Any]) -> tuple[str, str]:
    """Return (module, name) of the function that made a figure, for the link under it."""
    return function.__module__, function.__qualname__
