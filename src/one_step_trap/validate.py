"""Checks of input that every chapter shares: each returns the checked value or raises one clear ``BookError``."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from one_step_trap.errors import BookError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def shown(value: Any) -> str:
    """Return a value as an error message shows it: on one line, and not long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, not too long for a terminal."""
    text = (str(error).strip() or "no reason given").splitlines()[0]
    return text if len(text) <= 200 else text[:197] + "..."


def check_real(value: Any, name: str) -> float:
    """Return ``value`` as a finite float; strings, booleans, NaN and infinities are errors."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise BookError(f"{name} must be a number, got {shown(value)}")
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
        raise BookError(f"{name} must be an array of numbers: {first_line(error)}") from None


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
            f"rng must be a numpy.random.Generator, for example np.random.default_rng(0), got {shown(rng)}"
        )
    return rng
