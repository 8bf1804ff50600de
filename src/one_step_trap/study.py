"""A long study: independent parts that run anywhere, one tidy table, and what is needed to compute it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from one_step_trap.errors import BookError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """What ``rule sweep`` needs to know of a study; it finds every ``X = Study(name="chapter/table", ...)`` of the library.

    ``name`` is where the table is kept: data/``name``.csv; ``keys`` are the columns that tell its rows apart.
    ``run(part)`` computes part 0 .. ``parts`` - 1 and returns its rows (one row an observation); parts are independent and
    carry their own seeds, so the table does not depend on the order or the number of jobs. ``settings`` is stored with
    the table (parameters and seeds); ``columns`` is its data dictionary (name to meaning, with units).
    """

    name: str
    keys: Sequence[str]
    title: str
    parts: int
    run: Callable[[int], pd.DataFrame]
    settings: Mapping[str, Any]
    columns: Mapping[str, str]

    def beside(self, live: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a part that was computed again, each with its stored values (columns ending in " stored").

        A row that the stored table lacks, or has twice, is an error.
        """
        keys = list(self.keys)
        missing = sorted({*keys, *live.columns} - set(stored.columns)) or sorted(
            set(keys) - set(live.columns)
        )
        if missing:
            raise BookError(f"a table of {self.name} lacks the columns {', '.join(missing)}")
        both = live.merge(
            stored, on=keys, how="left", suffixes=("", " stored"), indicator=True, validate="1:1"
        )
        absent = both[both["_merge"] != "both"]
        if len(absent):
            row = ", ".join(f"{key} = {absent[key].iloc[0]}" for key in keys)
            raise BookError(
                f"the stored table of {self.name} lacks {len(absent)} of {len(both)} rows, the first {row}: compute it anew "
                f"with `make sweep STUDY={self.name}`"
            )
        return both.drop(columns="_merge")

    def compare(self, live: pd.DataFrame, stored: pd.DataFrame, *, rtol: float = 1e-9) -> None:
        """Raise a ``BookError`` unless every row of ``live`` is in the stored table with the same values.

        Numbers may differ by ``rtol`` (relative), which leaves room for another processor's or Python's rounding and for
        nothing else; a number near 0, by the rounding of the column's largest.
        """
        # Not above: the build lists studies before it loads SciPy.
        from one_step_trap.core.stats import ROUNDING

        both = self.beside(live, stored)
        for column in live.columns.difference(list(self.keys)):
            new, old = both[column], both[f"{column} stored"]
            if new.dtype.kind == "f" or old.dtype.kind == "f":
                largest = np.abs(stored[column][np.isfinite(stored[column])]).max()
                same = np.isclose(new, old, rtol=rtol, atol=ROUNDING * np.nan_to_num(largest), equal_nan=True)
            else:
                same = np.asarray(new == old)
            if not same.all():
                odd = both[~same]
                where = ", ".join(f"{key} = {odd[key].iloc[0]}" for key in self.keys)
                raise BookError(
                    f"the stored table differs from what this machine computes: {column} of {where} is "
                    f"{odd[column].iloc[0]}, stored {odd[f'{column} stored'].iloc[0]}; compute it anew "
                    f"with `make sweep STUDY={self.name}`"
                )
