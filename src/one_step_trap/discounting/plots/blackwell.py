"""Where the best action changes with the discount, and where it changes for the last time."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from one_step_trap.core.validate import check_finite, check_list, check_real
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import (
    COLORS,
    DASHES,
    INK,
    MARKERS,
    legend_above,
    new_figure,
)


def plot_advantages(gammas: ArrayLike, curves: Mapping[str, tuple[ArrayLike, float]]) -> Figure:
    """Return the advantage of the Blackwell-optimal action over the other one against the discount.

    ``curves`` maps a name to (values at ``gammas``, Blackwell discount); the discount is marked on the line
    of 0.
    """
    x = check_finite(gammas, "gammas")
    if not isinstance(curves, Mapping) or not 1 <= len(curves) <= len(COLORS):
        raise BookError(f"curves must map 1 to {len(COLORS)} names to (values, discount)")
    for name, curve in curves.items():
        if (
            len(pair := check_list(curve, f"curve {name!r}")) != 2
            or check_finite(pair[0], "values").shape != x.shape
        ):
            raise BookError(
                f"curve {name!r} must be (values, discount), with a value at each of the {x.size} gammas"
            )
        check_real(pair[1], "the discount of a curve")
    figure, ax = new_figure(height=3.8)
    ax.axhline(0, color=INK, lw=0.8)
    for i, (name, (values, gamma)) in enumerate(curves.items()):
        ax.plot(gammas, values, color=COLORS[i], ls=DASHES[i], label=name)
        ax.plot([gamma], [0], MARKERS[i], color=COLORS[i], ms=8)
    ax.set_yscale("symlog", linthresh=0.01, linscale=0.6)
    ax.set(xlabel="discount γ", ylabel="advantage of the action that\nis best near γ = 1 (rewards)")
    legend_above(ax, ncols=1)
    return figure
