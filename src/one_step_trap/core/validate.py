"""Checks of input that every chapter shares: each returns the checked value or raises one clear ``BookError``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from one_step_trap.errors import BookError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
T = TypeVar("T")


def short_repr(value: Any) -> str:
    """Return a value as an error message shows it: on one line, and not long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def in_a_line(error: BaseException) -> str:
    """Return what an error says, on one line and not too long for a terminal."""
    return " ".join(str(error).split())[:200] or "no reason given"


def check_real(value: Any, name: str) -> float:
    """Return ``value`` as a finite float; strings, booleans, NaN and infinities are errors."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise BookError(f"{name} must be a number, got {short_repr(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise BookError(f"{name} is too large a number: floats end at 1.8e308") from None
    if not math.isfinite(number):
        raise BookError(f"{name} must be a finite number, got {number}")
    return number


def check_gamma(gamma: Any, *, episodic: bool = False, name: str = "gamma") -> float:
    """Return the discount as a float in [0, 1), or in [0, 1] where episodes end (``episodic=True``)."""
    number = check_real(gamma, name)
    if not 0 <= number <= 1:
        raise BookError(f"{name} must lie in [0, 1], got {number:g}")
    if number == 1 and not episodic:
        raise BookError(
            f"{name} = 1 is defined only where episodes end: the sum of rewards need not converge; use {name} < 1 "
            "(above 1 - 1.1e-16, floats are 1)"
        )
    return number


def check_probability(value: Any, name: str) -> float:
    """Return ``value`` as a float in [0, 1]."""
    number = check_real(value, name)
    if not 0 <= number <= 1:
        raise BookError(f"{name} must be a probability in [0, 1], got {number:g}")
    return number


def check_positive(value: Any, name: str) -> float:
    """Return ``value`` as a float above 0."""
    number = check_real(value, name)
    if number <= 0:
        raise BookError(f"{name} must be above 0, got {number:g}")
    return number


def check_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """Return a whole number of at least ``minimum`` (a float such as 5.0 counts as whole)."""
    number = check_real(value, name)
    if not isinstance(value, Integral) and not number.is_integer():
        raise BookError(f"{name} must be a whole number, got {number:g}")
    if number < minimum:
        raise BookError(f"{name} must be at least {minimum}, got {int(number)}")
    return int(value)


def check_numbers(array: ArrayLike, name: str) -> FloatArray:
    """Return the array as float64; what holds something other than real numbers is an error."""
    try:
        if np.iscomplexobj(array):  # NumPy would drop the imaginary part with a warning
            raise BookError(f"{name} must be an array of real numbers, got complex ones")
        return np.asarray(array, dtype=np.float64)
    except BookError:
        raise
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # the last: a tensor of torch that needs its gradient
        raise BookError(f"{name} must be an array of numbers: {in_a_line(error)}") from None


def check_finite(array: ArrayLike, name: str) -> FloatArray:
    """Return the array as float64; a NaN or an infinity in it is an error."""
    result = check_numbers(array, name)
    if not np.isfinite(result).all():
        raise BookError(f"{name} holds NaN or infinite values")
    return result


def check_transition_matrix(P: ArrayLike, name: str = "P", *, atol: float = 1e-8) -> FloatArray:
    """Return ``P`` of shape (..., S, S) as float64: entries >= 0 and rows that sum to 1.

    For an MDP pass (A, S, S) or (S, A, S): only the last axis is summed, and its length must be the number of states.
    """
    result = check_finite(P, name)
    if result.ndim < 2:
        raise BookError(f"{name} must be a matrix of shape (states, states), got shape {result.shape}")
    if result.shape[-1] not in result.shape[:-1]:
        raise BookError(f"{name} must map states to the same states, got shape {result.shape}")
    if not result.size:
        raise BookError(f"{name} must have at least one state, got shape {result.shape}")
    if (result < 0).any():
        raise BookError(f"{name} has a negative probability ({result.min():g})")
    sums = result.sum(axis=-1)
    worst = np.unravel_index(np.abs(sums - 1).argmax(), sums.shape)
    if abs(sums[worst] - 1) > atol:
        row = worst[0] if len(worst) == 1 else tuple(int(i) for i in worst)
        raise BookError(f"every row of {name} must sum to 1; row {row} sums to {sums[worst]:g}")
    return result


def check_rng(rng: Any) -> np.random.Generator:
    """Return ``rng`` if it is a Generator: seeds are explicit in this library, never global."""
    if not isinstance(rng, np.random.Generator):
        raise BookError(
            f"rng must be a numpy.random.Generator, for example np.random.default_rng(0), got {short_repr(rng)}"
        )
    return rng


def check_kind(value: Any, kind: type[T], name: str, *, made_by: str = "") -> T:
    """Return ``value`` if it is a ``kind``; ``made_by`` names the function that makes one."""
    if not isinstance(value, kind):
        how = f" (made by {made_by})" if made_by else ""
        raise BookError(f"{name} must be of the kind {kind.__name__}{how}, got {short_repr(value)}")
    return value


def check_flag(value: Any, name: str) -> bool:
    """Return ``value`` as a bool: only True and False count, so that a stray number is not taken for yes."""
    if not isinstance(value, bool | np.bool_):
        raise BookError(f"{name} must be True or False, got {short_repr(value)}")
    return bool(value)


def check_callable(value: Any, name: str) -> None:
    """Raise unless ``value`` can be called."""
    if not callable(value):
        raise BookError(f"{name} must be a function, got {short_repr(value)}")


def check_choice(value: Any, choices: Iterable[str], name: str) -> str:
    """Return ``value`` if it is one of ``choices``."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise BookError(f"{name} must be one of {', '.join(known)}, got {short_repr(value)}")
    return value


def check_list(values: Any, name: str, *, empty: bool = False) -> list[Any]:
    """Return ``values`` as a list of at least one entry, or of none if ``empty`` is allowed.

    One number, a text, a set (which has no order), a mapping or a matrix is no list.
    """
    other = isinstance(values, str | bytes | set | frozenset | Mapping | pd.DataFrame)
    if other or not isinstance(values, Iterable) or (isinstance(values, np.ndarray) and values.ndim != 1):
        raise BookError(f"{name} must be a list, got {short_repr(values)}")
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
        raise BookError(f"{name} must hold integers, got {short_repr(values)}")
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
        raise BookError(f"{name} must be a pandas.DataFrame, got {short_repr(table)}")
    missing = sorted(set(columns) - set(map(str, table.columns)))
    if missing:
        raise BookError(f"{name} lacks the columns {', '.join(missing)}")
    if table.empty:
        raise BookError(f"{name} has no rows")
    return table
