"""A long study: independent parts that run anywhere, one tidy table, and what is needed to compute it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """What ``rule sweep`` needs to know of a study; it finds every ``X = Study(name="chapter/table", ...)`` of the library.

    ``name`` is where the table is kept: data/``name``.csv.
    ``run(part)`` computes part 0 .. ``parts`` - 1 and returns its rows (one row an observation); parts are independent and
    carry their own seeds, so the table does not depend on the order or the number of jobs. ``settings`` is stored with
    the table (parameters and seeds); ``columns`` is its data dictionary (name to meaning, with units).
    """

    name: str
    title: str
    parts: int
    run: Callable[[int], pd.DataFrame]
    settings: Mapping[str, Any]
    columns: Mapping[str, str]
