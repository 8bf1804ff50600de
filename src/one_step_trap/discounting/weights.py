"""How much of the future a discount keeps: gammaⁿ, in every form in which people quote it.

The discounted return is G = Σ_{k≥0} γᵏ R_{k+1} (Sutton & Barto 2018, equation 3.8). The weight on a reward
that is ``n`` steps further away is γⁿ, whatever the task: so a discount *is* a statement about time, and each
function here reads that statement in another unit (steps, share of the total weight, the γ that a task length
asks for).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.validate import (
    FloatArray,
    check_count,
    check_finite,
    check_gamma,
    check_real,
)
from one_step_trap.errors import BookError

LAST_BELOW_ONE = math.nextafter(1, 0)
"""The largest float below 1."""


def _check_steps(steps: ArrayLike, name: str = "steps") -> FloatArray:
    """Return the numbers of steps (any shape) as float64, all at least 0."""
    result = check_finite(steps, name)
    if (result < 0).any():
        raise BookError(f"{name} must be at least 0, got {result.min():g}")
    return result


def _check_weight(weight: Any, name: str = "weight") -> float:
    """Return a weight in (0, 1]: no finite number of steps brings γⁿ to 0."""
    number = check_real(weight, name)
    if not 0 < number <= 1:
        raise BookError(f"{name} must lie in (0, 1], got {number:g}")
    return number


def log10_weight_left(gamma: float, steps: ArrayLike) -> FloatArray:
    """Return log₁₀ γⁿ = n ln γ / ln 10: the weight's order of magnitude, also where γⁿ is too small for a
    float.

    ``gamma`` in [0, 1] (1 is meaningful: weights never fall), ``steps`` of any shape, in steps, at least 0.
    With ``gamma`` = 0 it is 0 at ``steps`` = 0 (0⁰ = 1: the reward at hand is kept) and -inf after.
    """
    gamma = check_gamma(gamma, episodic=True)
    n = _check_steps(steps)
    if gamma == 0:
        return np.where(n == 0, 0.0, -np.inf)
    with np.errstate(over="ignore"):  # minus infinity is then what is left
        return np.asarray(n * math.log10(gamma))


def weight_left(gamma: float, steps: ArrayLike) -> FloatArray:
    """Return γⁿ, the weight on a reward ``steps`` further away, with the shape of ``steps`` (values in [0,
    1]).

    Below about 10⁻³⁰⁸ a float holds 0 and :func:`log10_weight_left` still holds the exponent. Source: Sutton
    & Barto 2018, section 3.3.
    """
    return np.asarray(np.power(check_gamma(gamma, episodic=True), _check_steps(steps)))


def effective_horizon(gamma: float) -> float:
    """Return 1 / (1 - γ) = Σ_{k≥0} γᵏ, in steps: the total weight, and the mean lifetime if γ is a survival
    probability.

    ``gamma`` in [0, 1]; infinite at 1. It is *not* a number of steps after which nothing counts: see
    :func:`mass_within`.
    """
    gamma = check_gamma(gamma, episodic=True)
    return math.inf if gamma == 1 else 1 / (1 - gamma)


def steps_to_weight(gamma: float, weight: float) -> float:
    """Return the n, in steps and not rounded, at which γⁿ = w: n = ln w / ln γ.

    ``gamma`` in [0, 1], ``weight`` in (0, 1]. With ``gamma`` = 0 it is 0 (the limit); with ``gamma`` = 1 it
    is infinite unless ``weight`` = 1.
    """
    gamma, w = check_gamma(gamma, episodic=True), _check_weight(weight)
    if w == 1 or gamma == 0:
        return 0.0
    return math.inf if gamma == 1 else math.log(w) / math.log(gamma)


def half_life(gamma: float) -> float:
    """Return ln ½ / ln γ, the steps after which half of the weight is left (0 at γ = 0, infinite at γ =
    1).
    """
    return steps_to_weight(gamma, 0.5)


def gamma_to_reach(
    steps: float, weight: float = 0.5, *, names: tuple[str, str] = ("steps", "weight")
) -> float:
    """Return the γ = w^{1/n} that leaves ``weight`` on a reward ``steps`` away: the discount that a task
    length asks for.

    ``steps`` above 0, ``weight`` in (0, 1]. It nears 1 as 1 - γ ≈ ln(1/w) / n, so ten times the length costs
    one more nine, and a float has room for 15. ``names``: what errors call the two.
    """
    n, w = check_real(steps, names[0]), _check_weight(weight, names[1])
    if n <= 0:
        raise BookError(f"{names[0]} must be above 0, got {n:g}")
    gamma = math.exp(math.log(w) / n)
    if gamma == 1 and w < 1:
        raise BookError(
            f"{names[0]} = {n:g} is too far: the discount that leaves {w:g} there is nearer to 1 than any float below 1, "
            f"and the last of these leaves it at {steps_to_weight(LAST_BELOW_ONE, w):.2g} steps"
        )
    return gamma


def mass_within(gamma: float, steps: ArrayLike) -> FloatArray:
    """Return (1-γ) Σ_{k<n} γᵏ = 1 - γⁿ, the share of all weight that falls on the first ``steps`` rewards.

    ``gamma`` in [0, 1); the shape is that of ``steps``. Computed as -expm1(n log1p(γ-1)): when γⁿ is near 1
    the plain difference would cancel. γ = 1 is an error, since there the total is infinite and shares have no
    meaning.
    """
    gamma = check_gamma(gamma)
    n = _check_steps(steps)
    if gamma == 0:
        return np.where(n == 0, 0.0, 1.0)
    # log1p keeps digits near 1, where plain logs lose them; near 0 it is the other way round.
    log_gamma = math.log1p(gamma - 1) if gamma > 0.5 else math.log(gamma)
    with np.errstate(over="ignore"):
        return np.asarray(-np.expm1(n * log_gamma))


def scientific(log10_value: float, digits: int = 2) -> str:
    """Return the number with this decimal logarithm in scientific notation, also beyond the range of a float.

    ``scientific(-436.48)`` is "3.3e-437". Minus infinity gives "0". ``digits`` from 1 to 17, all that a float has. A
    logarithm beyond 10¹², which leaves no digit of the number certain, is shown itself: "10^-3.01e+299".
    """
    if isinstance(log10_value, float) and log10_value == -math.inf:
        return "0"
    log10_value, digits = check_real(log10_value, "log10_value"), check_count(digits, "digits")
    if digits > 17:
        raise BookError(f"digits must be at most 17, all that a float has, got {digits}")
    if abs(log10_value) > 1e12:
        return f"10^{log10_value:.3g}"
    exponent = math.floor(log10_value)
    mantissa = f"{10 ** (log10_value - exponent):.{digits - 1}f}"
    if mantissa.startswith("10"):  # 9.99 rounds up into the next power
        mantissa, exponent = f"{1:.{digits - 1}f}", exponent + 1
    return f"{mantissa}e{exponent:+03d}"


def _discount(gamma: float, digits: int) -> str:
    """Return a discount with ``digits``, or with all that it has where rounding would blur its distance from 1."""
    return f"{gamma:.{digits}g}" if gamma == 1 or 1 - gamma > 1e-5 else repr(gamma)


@dataclass(frozen=True)
class DiscountReport:
    """What one discount keeps of the future (:func:`describe`). Steps are in steps, weights and shares in [0,
    1].
    """

    gamma: float
    effective_horizon: float  # 1 / (1 - gamma)
    half_life: float  # steps until half the weight is left
    one_percent: float  # steps until 1% of the weight is left
    steps: tuple[float, ...]  # the distances asked about
    weight_left: tuple[float, ...]  # gamma^n for each of them
    mass_within: tuple[float, ...]  # 1 - gamma^n for each of them

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain numbers and lists, ready for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    def __str__(self) -> str:
        lines = [
            f"gamma                 {_discount(self.gamma, 6)}",
            f"effective horizon     {self.effective_horizon:,.1f} steps",
            f"half-life             {self.half_life:,.1f} steps",
            f"1% of weight left at  {self.one_percent:,.1f} steps",
        ]
        if self.steps:
            lines.append(f"{'steps':>12} {'weight left':>14} {'mass within':>12}")
        for n, share in zip(self.steps, self.mass_within, strict=True):
            weight = scientific(float(log10_weight_left(self.gamma, n)), digits=3)
            lines.append(f"{f'{n:,.0f}' if n < 1e15 else f'{n:g}':>12} {weight:>14} {share:>12.1%}")
        return "\n".join(lines)


def describe(gamma: float, steps: Sequence[float] = ()) -> DiscountReport:
    """Return every reading of ``gamma`` in [0, 1): horizon, half-life, and weight and mass at each of
    ``steps``.
    """
    gamma = check_gamma(gamma)
    n = np.atleast_1d(_check_steps(steps))
    if n.ndim != 1:
        raise BookError(f"steps must be a list of numbers, got shape {n.shape}")
    return DiscountReport(
        gamma=gamma,
        effective_horizon=effective_horizon(gamma),
        half_life=half_life(gamma),
        one_percent=steps_to_weight(gamma, 0.01),
        steps=tuple(n.tolist()),
        weight_left=tuple(weight_left(gamma, n).tolist()),
        mass_within=tuple(mass_within(gamma, n).tolist()),
    )


@dataclass(frozen=True)
class ReachReport:
    """The discount that a distance asks for (:func:`reach`): the other direction of
    :class:`DiscountReport`.
    """

    steps: float
    weight: float  # what should be left there
    gamma: float  # weight^(1/steps)
    effective_horizon: float  # 1 / (1 - gamma)
    half_life: float
    horizon_factor: float  # effective horizon against that of gamma = .99

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain numbers, ready for JSON; what is infinite (``weight`` = 1) becomes
        None.
        """
        return {key: value if math.isfinite(value) else None for key, value in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"to leave {self.weight:g} of the weight at {self.steps:,.10g} steps: gamma = {_discount(self.gamma, 7)}\n"
            f"effective horizon     {self.effective_horizon:,.1f} steps "
            f"({self.horizon_factor:.3g} times that of .99)\n"
            f"half-life             {self.half_life:,.1f} steps"
        )


def reach(steps: float, weight: float = 0.5, *, names: tuple[str, str] = ("steps", "weight")) -> ReachReport:
    """Return the γ that leaves ``weight`` (in (0, 1]) at ``steps`` (above 0), and the horizon that comes with
    it. ``names``: what errors call the two.
    """
    gamma = gamma_to_reach(steps, weight, names=names)
    horizon = effective_horizon(gamma)
    return ReachReport(
        steps=float(steps),
        weight=float(weight),
        gamma=gamma,
        effective_horizon=horizon,
        half_life=half_life(gamma),
        horizon_factor=horizon / effective_horizon(0.99),
    )
