"""What others measured with MuZero, each with its source and with what we could check of it.

``checked`` says how: "second source" (the fact also stands in public code or pages other than our notes) or "notes" (read
off the paper's data or figures for this book's design notes; the paper's text was not at hand again).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import pandas as pd

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


@dataclass(frozen=True)
class Blindfold:
    """Return on MountainCar-v0 when MuZero sees an observation only every ``refresh`` steps (de Vries et al. 2021)."""

    refresh: int
    mean_return: float
    checked: Checked = "notes"


DE_VRIES_MOUNTAINCAR = (Blindfold(1, -98), Blindfold(10, -103), Blindfold(25, -166), Blindfold(50, -193))
"""4 latent dimensions, K = 3, 11 simulations (the authors' configuration). -200 is the return of never arriving. The
authors also tried refreshing every 5, 100 and 200 steps."""


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
