"""Stored results: tables in ``data/`` that took long to compute, with their provenance.

``data/datapackage.json`` (a Frictionless Data Package) lists each table with its sha256, the parameters and seeds it was
computed with, package versions, machine, date and wall time. A table whose bytes differ from its entry is refused. New tables
are written by ``make sweep`` (:mod:`one_step_trap.book.sweeps`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

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
