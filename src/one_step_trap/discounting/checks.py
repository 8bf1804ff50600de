"""Checks of input that only this chapter needs: of kinds, lists, grids of discounts, positions and tables.

Those that every chapter shares are in :mod:`one_step_trap.validate`. Each returns the checked value, or raises a
``BookError`` of one line that says what is wrong and what would be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from one_step_trap.errors import BookError
from one_step_trap.validate import FloatArray, check_finite, check_gamma, check_real, shown

T = TypeVar("T")


def check_kind(value: Any, kind: type[T], name: str, *, made_by: str = "") -> T:
    """Return ``value`` if it is a ``kind``; ``made_by`` names the function that makes one."""
    if not isinstance(value, kind):
        how = f" (made by {made_by})" if made_by else ""
        raise BookError(f"{name} must be of the kind {kind.__name__}{how}, got {shown(value)}")
    return value


def check_flag(value: Any, name: str) -> bool:
    """Return ``value`` as a bool: only True and False count, so that a stray number is not taken for yes."""
    if not isinstance(value, bool | np.bool_):
        raise BookError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_callable(value: Any, name: str) -> None:
    """Raise unless ``value`` can be called."""
    if not callable(value):
        raise BookError(f"{name} must be a function, got {shown(value)}")


def check_choice(value: Any, choices: Iterable[str], name: str) -> str:
    """Return ``value`` if it is one of ``choices``."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise BookError(f"{name} must be one of {', '.join(known)}, got {shown(value)}")
    return value


def check_list(values: Any, name: str, *, empty: bool = False) -> list[Any]:
    """Return ``values`` as a list of at least one entry, or of none if ``empty`` is allowed.

    One number, a text, a set (which has no order), a mapping or a matrix is no list.
    """
    other = isinstance(values, str | bytes | set | frozenset | Mapping | pd.DataFrame)
    if other or not isinstance(values, Iterable) or (isinstance(values, np.ndarray) and values.ndim != 1):
        raise BookError(f"{name} must be a list, got {shown(values)}")
    result = list(values)
    if not result and not empty:
        raise BookError(f"{name} must hold at least one entry, got none")
    return result


def check_kinds(values: Any, kind: type[T], name: str, *, most: int | None = None) -> list[T]:
    """Return a list of at least one ``kind``, and at most ``most`` of them (the curves that fit into a figure)."""
    result = [check_kind(value, kind, f"every entry of {name}") for value in check_list(values, name)]
    if most is not None and len(result) > most:
        raise BookError(
            f"{name} must hold at most {most} entries, as many as a figure can tell apart, got {len(result)}"
        )
    return result


def check_at_least_zero(value: Any, name: str) -> float:
    """Return a finite number of at least 0, such as a standard deviation."""
    number = check_real(value, name)
    if number < 0:
        raise BookError(f"{name} must be at least 0, got {number:g}")
    return number


def check_gammas(gammas: Any, name: str = "gammas") -> FloatArray:
    """Return one or more discounts in [0, 1) as a vector; a single number counts as one."""
    grid = np.atleast_1d(check_finite(gammas, name))
    if grid.ndim != 1 or len(grid) == 0:
        raise BookError(f"{name} must be a list of one or more discounts, got shape {np.shape(gammas)}")
    return np.array([check_gamma(gamma) for gamma in grid])


def check_positions(
    values: Any, name: str, *, below: int, shape: tuple[int, ...] | None = None
) -> NDArray[np.intp]:
    """Return whole numbers in 0 .. ``below`` - 1, of ``shape`` if given: states, actions, and the like.

    Floats are refused and not cut; so is a mask of True and False, which NumPy would read as ones and zeros.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise BookError(f"{name} must be an array of whole numbers, got lists of unlike length") from None
    if array.dtype == np.bool_:
        raise BookError(
            f"{name} must hold positions, not True and False: numpy.flatnonzero turns a mask into them"
        )
    if array.dtype.kind not in "iu" and array.shape != (0,):
        raise BookError(f"{name} must hold integers, got {shown(values)}")
    if shape is not None and array.shape != shape:
        raise BookError(f"{name} must have shape {shape}, got {array.shape}")
    if array.size and not (array.min() >= 0 and array.max() < below):
        raise BookError(
            f"{name} must lie in 0..{below - 1}, got {array.min() if array.min() < 0 else array.max()}"
        )
    return array.astype(np.intp)


def check_table(table: Any, columns: Iterable[str], name: str) -> pd.DataFrame:
    """Return ``table`` if it is a DataFrame with at least one row and the ``columns``."""
    if not isinstance(table, pd.DataFrame):
        raise BookError(f"{name} must be a pandas.DataFrame, got {shown(table)}")
    missing = sorted(set(columns) - set(map(str, table.columns)))
    if missing:
        raise BookError(f"{name} lacks the columns {', '.join(missing)}")
    if table.empty:
        raise BookError(f"{name} has no rows")
    return table
