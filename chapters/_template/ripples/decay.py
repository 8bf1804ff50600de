"""Ripples that shrink by a constant factor a step, and how long they take to halve."""

from __future__ import annotations

import math

import numpy as np
from one_step_trap.core.stats import Interval, bootstrap_interval
from one_step_trap.core.validate import FloatArray, check_count, check_rng


def heights(
    keep: float, steps: int, noise: float, rng: np.random.Generator
) -> FloatArray:
    """Return the measured heights ``hₜ = keepᵗ exp(noise zₜ)``, z standard normal, t = 0 .. steps - 1.

    Args:
      keep: share of its height that a ripple keeps a step, in (0, 1).
      noise: standard deviation of the logarithm of one measurement.

    Returns: heights, shape (steps,), in units of the first.
    """
    t = np.arange(steps)
    return np.asarray(keep**t * np.exp(noise * rng.standard_normal(steps)))


def half_life(measured: FloatArray) -> float:
    """Return ``ln 2 / -slope`` (steps), the slope of a straight line through the logarithms of the heights."""
    slope = np.polyfit(np.arange(len(measured)), np.log(measured), 1)[0]
    return math.log(2) / -float(slope)


def half_lives(
    keep: float, ripples: int, rng: np.random.Generator, *, steps: int = 30
) -> FloatArray:
    """Return the half-life of each of many ripples, shape (ripples,), from ``steps`` measurements with noise 0.1."""
    check_rng(rng)
    return np.array(
        [
            half_life(heights(keep, steps, 0.1, rng))
            for _ in range(check_count(ripples, "ripples"))
        ]
    )


def mean_half_life(lives: FloatArray, rng: np.random.Generator) -> Interval:
    """Return the mean half-life with its 95% interval over ripples."""
    return bootstrap_interval(lives, rng)
