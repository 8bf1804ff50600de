"""What others measured with MuZero, each with its source and with what we could check of it.

``checked`` says how: "second source" (the fact also stands in public code or pages other than our notes) or "notes" (read
off the paper's data or figures for this book's design notes; the paper's text was not at hand again).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pandas as pd

from one_step_trap.core.stats import proportion_interval
from one_step_trap.core.validate import check_finite, check_kind, check_real, short_repr
from one_step_trap.errors import BookError

Checked = Literal["second source", "notes"]


@dataclass(frozen=True)
class Pseudocode:
    """The settings of MuZero's published pseudocode (Schrittwieser et al. 2020, arXiv 1911.08265, ancillary file).

    ``td_steps`` 0 means: to the end of the game. ``unroll_steps`` is K.
    """

    domain: str
    unroll_steps: int
    gamma: float
    td_steps: int
    simulations: int
    batch: int
    dirichlet_alpha: tuple[float, ...]
    dirichlet_fraction: float = 0.25
    c1: float = 1.25
    c2: float = 19652
    training_steps: int = 1_000_000
    window: int = 1_000_000
    weight_decay: float = 1e-4
    checked: Checked = "second source"


ATARI = Pseudocode("Atari", 5, 0.997, 10, 50, 1024, (0.25,))
BOARD = Pseudocode("Go, chess, shogi", 5, 1.0, 0, 800, 2048, (0.03, 0.3, 0.15))
"""Board games: Dirichlet parameters of Go, chess and shogi, in this order; the value target is the game's result."""


@dataclass(frozen=True)
class ReturnByK:
    """Return of MuZero on CartPole-v1 by the K it was trained with (de Vries et al. 2021, arXiv 2102.12924)."""

    unroll_steps: int
    mean_return: float
    solved: float  # share of runs with a return of at least 475
    runs: int = 96
    checked: Checked = "notes"


DE_VRIES_CARTPOLE = (ReturnByK(1, 325, 0.52), ReturnByK(5, 245, 0.53), ReturnByK(10, 137, 0.16))
"""Means over 96 runs a K. The authors' published grid explains the number: {1, 5, 10} for K, times 2 (a decoder or not)
times 2 (4 or 8 latent dimensions) times 3 (weight of a penalty on the dynamics: 1, 0.1, 0.01), 8 repetitions each. So the
96 runs of one K are 12 settings, 8 runs each, and not one setting."""
DE_VRIES_GRID: Mapping[str, tuple[object, ...]] = {
    "K": (1, 5, 10),
    "latent_decoder": (True, False),
    "latent_depth": (4, 8),
    "dynamics_penalty": (1, 0.1, 0.01),
    "repetition": tuple(range(8)),
}
"""Checked against the configuration in the authors' repository (github.com/kaesve/muzero, publish/configs)."""


@dataclass(frozen=True)
class Blindfold:
    """Return on MountainCar-v0 when MuZero sees an observation only every ``refresh`` steps (de Vries et al. 2021)."""

    refresh: int
    mean_return: float
    checked: Checked = "notes"


DE_VRIES_MOUNTAINCAR = (Blindfold(1, -98), Blindfold(10, -103), Blindfold(25, -166), Blindfold(50, -193))
"""4 latent dimensions, K = 3, 11 simulations (the authors' configuration). -200 is the return of never arriving. The
authors also tried refreshing every 5, 100 and 200 steps."""


@dataclass(frozen=True)
class Finding:
    """A finding in words, for the text of the chapter."""

    source: str
    arxiv: str
    finding: str
    checked: Checked


FINDINGS = (
    Finding(
        "Hamrick et al. 2021",
        "2011.04021",
        "in MuZero planning helps learning most; shallow trees do as well as deep ones but for the hardest reasoning tasks, "
        "and two-step planning is surprisingly strong, even in Go",
        "second source",
    ),
    Finding(
        "He et al. 2023",
        "2306.00840",
        "MuZero's model evaluates policies it was not trained on badly; the policy prior in its search keeps it to actions "
        "where the model is more accurate",
        "second source",
    ),
    Finding(
        "Jiang 2024",
        "2404.09946",
        "counter-examples to the MuZero loss: it fails in stochastic environments, and may need exponentially much data in "
        "deterministic ones",
        "second source",
    ),
    Finding(
        "Rezende et al. 2020",
        "2002.02836",
        "models that predict rewards from action sequences alone are confounded by what the acting policy saw, and planning in "
        "them can go wrong",
        "second source",
    ),
    Finding(
        "Antonoglou et al. 2022",
        "",
        "Stochastic MuZero, with chance nodes, exceeds MuZero in 2048 and backgammon and equals it in Go",
        "second source",
    ),
)


def settings_table() -> pd.DataFrame:
    """Return the pseudocode's settings, a row a setting and a column a domain."""
    both = (ATARI, BOARD)
    names = [f.name for f in fields(Pseudocode) if f.name not in ("domain", "checked")]
    rows = [[name, *(_words(name, getattr(one, name)) for one in both)] for name in names]
    return pd.DataFrame(rows, columns=["setting", *(one.domain for one in both)])


def _words(name: str, value: object) -> str:
    """Return a setting as the table shows it."""
    if name == "td_steps" and value == 0:
        return "to the end"
    if isinstance(value, tuple):
        return ", ".join(f"{x:g}" for x in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def grid_size() -> int:
    """Return how many runs the published grid has: 3 × 2 × 2 × 3 × 8 = 288, 96 for each K."""
    return int(np.prod([len(values) for values in DE_VRIES_GRID.values()]))


def cartpole_table() -> pd.DataFrame:
    """Return the published returns by K; columns unroll_steps, mean_return, solved, low, high, runs.

    ``low`` and ``high``: 95% Clopper-Pearson interval of ``solved`` as if the runs were independent draws of one setting,
    which they are not quite (``DE_VRIES_CARTPOLE``).
    """
    rows = []
    for one in DE_VRIES_CARTPOLE:
        share = proportion_interval(round(one.solved * one.runs), one.runs)
        rows.append((one.unroll_steps, one.mean_return, one.solved, share.low, share.high, one.runs))
    return pd.DataFrame(rows, columns=["unroll_steps", "mean_return", "solved", "low", "high", "runs"])


def compare_orders(ours: Mapping[int, float]) -> tuple[tuple[int, int], ...]:
    """Return the pairs (K, K') that our returns order the other way round than the published ones.

    ``ours``: mean return by K. Only K that both sides have are compared; ties are no disagreement.
    """
    if not isinstance(ours, Mapping) or not ours:
        raise BookError(f"ours must map K to a mean return, got {short_repr(ours)}")
    check_finite(list(ours.values()), "ours")
    theirs = {one.unroll_steps: one.mean_return for one in DE_VRIES_CARTPOLE}
    shared = sorted(K for K in theirs if K in ours)
    if len(shared) < 2:
        raise BookError(
            f"an order needs at least two of the published K, {sorted(theirs)}, got {sorted(ours)}"
        )
    return tuple(
        (a, b)
        for i, a in enumerate(shared)
        for b in shared[i + 1 :]
        if (theirs[a] - theirs[b]) * (ours[a] - ours[b]) < 0
    )


def knee(refresh: object, returns: object, *, share: float = 0.5) -> float:
    """Return the refresh interval at which this share of the return is lost, by linear interpolation.

    Lost: on the way from the return at the shortest interval to the smallest return given. For the published MountainCar
    curve and one half: about 21 steps.
    """
    x, y = check_finite(refresh, "refresh"), check_finite(returns, "returns")  # type: ignore[arg-type]
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or (np.diff(x) <= 0).any():
        raise BookError("refresh must be at least two increasing intervals, with one return each")
    part = check_real(share, "share")
    if not 0 < part < 1:
        raise BookError(f"share must lie strictly between 0 and 1, got {part:g}")
    level = y[0] - part * (y[0] - y.min())
    below = np.flatnonzero(y <= level)
    if y[0] == y.min():
        raise BookError("nothing is lost at longer intervals: there is no knee")
    i = int(below[0])
    return float(x[i - 1] + (y[i - 1] - level) / (y[i - 1] - y[i]) * (x[i] - x[i - 1]))


def published_knee() -> float:
    """Return :func:`knee` of the published MountainCar curve."""
    return knee([b.refresh for b in DE_VRIES_MOUNTAINCAR], [b.mean_return for b in DE_VRIES_MOUNTAINCAR])


def finding(source: str) -> Finding:
    """Return the finding of a source, such as "He et al. 2023"."""
    for one in FINDINGS:
        if one.source == check_kind(source, str, "source"):
            return one
    raise BookError(
        f"source must be one of {', '.join(f.source for f in FINDINGS)}, got {short_repr(source)}"
    )
