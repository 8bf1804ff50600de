"""Stored results: tables in ``data/`` that took long to compute, with their provenance.

``data/datapackage.json`` (a Frictionless Data Package) lists each table with its sha256, the parameters and seeds it was
computed with, package versions, machine, date and wall time. A table whose bytes differ from its entry is refused. New tables
are written by ``make sweep`` (:mod:`one_step_trap.book.sweeps`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from one_step_trap.core.stats import ROUNDING
from one_step_trap.errors import BookError


def root() -> Path:
    """Return the folder of the book: the nearest one above this file or the working folder that holds ``data/``."""
    starts = (Path(__file__).resolve(), Path.cwd() / "x")
    for start in starts:
        for folder in start.parents:
            if (folder / "_toc.yml").exists():
                return folder
    raise BookError(
        "the folder of the book (with _toc.yml and data/) is not above this library: work in a clone of it"
    )


def entry(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the provenance of a table, for example of ``"02-discounting/delayed-reward"``."""
    folder = folder or root() / "data"
    try:
        package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BookError(
            f"{folder / 'datapackage.json'} is missing: restore it with `git checkout data`"
        ) from None
    except json.JSONDecodeError as error:
        raise BookError(
            f"{folder / 'datapackage.json'} is damaged ({error}): restore it with `git checkout data`"
        ) from None
    resources = {resource["path"].removesuffix(".csv"): resource for resource in package["resources"]}
    if name not in resources:
        raise BookError(
            f"there is no stored table {name!r}; there are: {', '.join(sorted(resources)) or 'none'}"
        )
    return dict(resources[name])


def load(name: str, folder: Path | None = None) -> pd.DataFrame:
    """Return a stored table after checking its sha256 against its provenance."""
    folder = folder or root() / "data"
    listed = entry(name, folder)
    path = folder / listed["path"]
    if not path.exists():
        raise BookError(
            f"data file {path} is missing: restore it with `git checkout data` or compute it with `make sweep`"
        )
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != listed["hash"]:
        raise BookError(
            f"data file {path} is not the one that its provenance describes (its sha256 differs): "
            "restore it with `git checkout data`, or compute it anew with `make sweep`"
        )
    return pd.read_csv(path)


def check_slice(
    stored: pd.DataFrame, recomputed: pd.DataFrame, keys: Sequence[str], *, rtol: float = 1e-9
) -> None:
    """Raise a ``BookError`` unless every recomputed row is in the stored table with the same values.

    ``keys`` are the columns that tell rows apart. Numbers may differ by ``rtol`` (relative), which leaves room for another
    processor's or Python's rounding and for nothing else; a number near 0, by the rounding of the column's largest.
    """
    found = recomputed.merge(
        stored, on=list(keys), how="left", suffixes=("", " stored"), indicator=True, validate="1:1"
    )
    absent = found[found["_merge"] != "both"]
    if len(absent):
        raise BookError(
            f"the stored table has no row for {_describe(absent.iloc[0], keys)}: compute it anew (make sweep)"
        )
    for column in recomputed.columns.difference(list(keys)):
        new, old = found[column], found[f"{column} stored"]
        numeric = new.dtype.kind == "f" or old.dtype.kind == "f"
        same = (
            np.isclose(new, old, rtol=rtol, atol=ROUNDING * _size(stored[column]), equal_nan=True)
            if numeric
            else new == old
        )
        if not np.all(same):
            row = found[~np.asarray(same)].iloc[0]
            raise BookError(
                f"the stored table differs from what this machine computes: {column} of {_describe(row, keys)} is "
                f"{row[column]}, stored {row[f'{column} stored']}; compute the table anew with `make sweep`"
            )


def _size(column: pd.Series) -> float:
    """Return the largest finite number of a column in size."""
    numbers = column.to_numpy(float)
    return float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0))


def _describe(row: pd.Series, keys: Sequence[str]) -> str:
    return ", ".join(f"{key} = {row[key]}" for key in keys)
