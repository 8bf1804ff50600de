"""Weight left against distance, for several discounts, with the lengths of real tasks marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from one_step_trap.core.validate import check_kinds, check_positive
from one_step_trap.discounting.weights import DiscountReport
from one_step_trap.errors import BookError
from one_step_trap.pages.figures import COLORS, DASHES, GREY, INK, new_figure


def plot_weights(
    reports: Sequence[DiscountReport], *, tasks: Mapping[str, float] | None = None, floor: float = 1e-3
) -> Figure:
    """Return γⁿ against n for each report (at the steps it was asked about), on logarithmic axes.

    ``tasks`` maps a label to a length in steps, drawn as an upright line and named above it; ``floor`` is the
    least weight shown.
    """
    reports = check_kinds(reports, DiscountReport, "reports", most=len(COLORS))
    if check_positive(floor, "floor") >= 1:
        raise BookError(f"floor must be below 1, the weight of a reward at hand, got {floor:g}")
    if tasks is not None and not isinstance(tasks, Mapping):
        raise BookError("tasks must map a label to a length in steps")
    for steps in (tasks or {}).values():
        check_positive(steps, "the length of a task")
    figure, ax = new_figure(height=4.2)
    for i, report in enumerate(reports):
        label = f"γ = {report.gamma:.6g}"
        ax.plot(report.steps, report.weight_left, color=COLORS[i], ls=DASHES[i], label=label)
    ax.set(xscale="log", yscale="log", ylim=(floor, 1.4))
    ax.set(xlabel="distance of the reward (steps)", ylabel="weight left, γⁿ")
    ax.grid(which="minor", visible=False)
    for steps in (tasks or {}).values():
        ax.axvline(steps, color=GREY, lw=1, ls=":")
    if tasks:  # the names stand above the axes, where they cover no curve
        top = ax.secondary_xaxis("top")
        top.set_xticks(
            list(tasks.values()), list(tasks), rotation=-25, ha="right", rotation_mode="anchor", color=INK
        )
        top.minorticks_off()
        top.tick_params(length=0, pad=2)
        top.spines["top"].set_visible(False)
    figure.legend(
        loc="outside lower left", ncols=2, columnspacing=1.2, frameon=False, fontsize=11, labelcolor=INK
    )
    return figure
