"""What rules buy at the same price."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_table
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    GREY,
    MARKERS,
    legend_above,
    new_figure,
)

SHOWN = {
    "change": ("change of entropy\nagainst human text (nats)", 0.0),
    "looped": ("share of texts\nwith a loop", 0.0),
    "diversity": ("different tokens\nat the end (human = 1)", 1.0),
}


def plot_matched(table: pd.DataFrame) -> Figure:
    """Return change of the entropy, loops and diversity against the price, a curve a family of rules, with 95% intervals.

    ``table`` of `heuristics.matched`: plain sampling (price 0) and at most four families of rules.
    """
    names = ["rule", "kind", "extra", *(f"{what}{end}" for what in SHOWN for end in ("", "_low", "_high"))]
    check_table(table, names, "table (of matched)")
    kinds = [kind for kind in dict.fromkeys(table["kind"]) if kind != "pure"]
    if not 1 <= len(kinds) <= 4:
        raise BookError(f"one to four families of rules fit into the figure, got {len(kinds)}")
    figure, axes = new_figure(len(SHOWN), 1, height=2.3 * len(SHOWN) + 0.4, sharex=True)
    for ax, (what, (label, human)) in zip(axes, SHOWN.items(), strict=True):
        ax.axhline(human, color=GREY, lw=1)
        for i, kind in enumerate(kinds):
            _family(ax, table[table["kind"].isin([kind, "pure"])].sort_values("extra"), what, kind, i)
        ax.set_ylabel(label)
    axes[-1].set_xlabel("price: extra log-loss of human text (nats per token)")
    legend_above(axes[0], ncols=2)
    return figure


def _family(ax: Axes, rows: pd.DataFrame, what: str, kind: str, i: int) -> None:
    spread = [rows[what] - rows[f"{what}_low"], rows[f"{what}_high"] - rows[what]]
    ax.errorbar(
        rows["extra"],
        rows[what],
        yerr=spread,
        color=COLORS[i],
        ls=DASHES[i],
        marker=MARKERS[i],
        ms=5,
        capsize=2,
        elinewidth=1,
        label=kind,
    )
