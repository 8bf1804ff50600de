"""Figure of essay lengths: every essay a dot on an axis of tokens, with the post's number on it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from one_step_trap.core.validate import check_positive, check_table
from one_step_trap.pages.figures import (
    BLUE,
    GREY,
    INK,
    MARKERS,
    VERMILLION,
    new_figure,
)


def lengths(counts: pd.DataFrame, published: pd.DataFrame, *, target: int) -> Figure:
    """Draw the tokens of each essay by collection, and published ranges of school essays below.

    ``counts`` from `count_tokens`, ``published`` from `published_tokens`; ``target`` tokens is drawn as a
    line. The cross-stroke of a collection is its mean. The order of the rows is that of ``counts``, then of
    ``published``.
    """
    check_table(counts, ("collection", "tokens"), "counts (of count_tokens)")
    check_table(published, ("what", "tokens_low", "tokens_high"), "published (of published_tokens)")
    check_positive(target, "target")
    names = list(dict.fromkeys(counts["collection"]))
    ranges = [str(what).split(":")[0] for what in published["what"]]
    figure, ax = new_figure(height=1.0 + 0.55 * (len(names) + len(ranges)))
    rng = np.random.default_rng(0)  # scatters the dots across their row; moves nothing along the axis
    for y, name in enumerate(names):
        tokens = counts.loc[counts["collection"] == name, "tokens"]
        jitter = y + rng.uniform(-0.22, 0.22, len(tokens))
        sns.scatterplot(
            x=tokens,
            y=jitter,
            ax=ax,
            color=BLUE,
            marker=MARKERS[y % len(MARKERS)],
            s=22,
            alpha=0.75,
            linewidth=0,
        )
        ax.plot(tokens.mean(), y, "|", color=VERMILLION, markersize=26, markeredgewidth=3)
    for i, row in enumerate(published.itertuples(), start=len(names)):
        ax.plot([row.tokens_low, row.tokens_high], [i, i], color=GREY, linewidth=7, solid_capstyle="butt")
    ax.axvline(target, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate(f"{target:,}", (target, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", ha="center")  # fmt: skip
    ax.set_yticks(range(len(names) + len(ranges)), [name.replace(", ", ",\n") for name in names] + [
        name.replace(", ", ",\n").replace("college ", "college\n") for name in ranges])  # fmt: skip
    ax.set_ylim(len(names) + len(ranges) - 0.5, -0.5)
    ax.set_xlim(0, 500 * math.ceil(counts["tokens"].max() / 500))
    ax.set_xlabel("length (tokens)")
    ax.set_ylabel("")
    return figure
