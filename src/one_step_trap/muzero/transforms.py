"""How MuZero writes down a value: a squashing transform, and a categorical distribution over a fixed range.

A value is predicted as a distribution over ``bins`` places that are equally far apart after the transform

    h(x) = sign(x) (√(abs(x) + 1) - 1) + ε x,      ε = 0.001

(Pohlen et al. 2018, arXiv 1805.11593; Schrittwieser et al. 2020, arXiv 1911.08265, appendix F). A support that is too
small caps what can be learned without a word, so a `Support` is made from the range that returns can reach
(`reachable_range`), and encoding a value outside it is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
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

EPSILON = 1e-3
"""The slope ε that keeps h from becoming flat, so that its inverse stays continuous."""
LARGEST = 1e6
"""Values beyond this are not represented: 21 bins would be worth nothing, and 32-bit floats little."""


def transform(x: ArrayLike) -> FloatArray:
    """Squash values: ``h(x) = sign(x) (√(abs(x) + 1) - 1) + ε x`` with ε = 0.001, any shape."""
    values = check_finite(x, "x")
    return np.asarray(
        values / (np.sqrt(np.abs(values) + 1) + 1) + EPSILON * values
    )  # keeps all digits near 0


def inverse(y: ArrayLike) -> FloatArray:
    """Return the x with ``h(x) = y``: exactly, ``x = sign(y) (u² - 1)`` with ``u = √(abs(x) + 1)`` from a quadratic.

    For x ≥ 0, ``y = u - 1 + ε (u² - 1)``, and so ``u = (√(1 + 4 ε (y + 1 + ε)) - 1) / (2 ε)``. The published form
    subtracts nearly equal numbers; here ``u - 1 = 2 y / (√(1 + 4 ε (y + 1 + ε)) + 1 + 2 ε)`` keeps all digits near 0.
    """
    values = check_finite(y, "y")
    size = np.abs(values)
    excess = 2 * size / (np.sqrt(1 + 4 * EPSILON * (size + 1 + EPSILON)) + 1 + 2 * EPSILON)  # u - 1
    return np.sign(values) * excess * (excess + 2)


def check_range(low: Any, high: Any, names: tuple[str, str]) -> tuple[float, float]:
    """Return two finite numbers in order; equal ones are allowed."""
    first, second = check_real(low, names[0]), check_real(high, names[1])
    if first > second:
        raise BookError(f"{names[0]} must not exceed {names[1]}, got {first:g} and {second:g}")
    return first, second


def _slack(low: float, high: float) -> float:
    """Return by how much values of this range may differ and still be told as one."""
    return 1e-9 * max(1.0, abs(low), abs(high))


def discount_sum(gamma: float, steps: int | None) -> float:
    """Return ``Σ_{t < steps} γᵗ`` (None: of all t ≥ 0, then γ < 1)."""
    if gamma == 1 and steps is not None:
        return float(steps)
    return (1 - (0.0 if steps is None else gamma**steps)) / (1 - gamma)


def reachable_range(
    reward_low: float, reward_high: float, gamma: float, max_steps: int | None = None
) -> tuple[float, float]:
    """Return the smallest and the largest discounted return that rewards in [reward_low, reward_high] can add up to.

    An episode may end after any number of steps t ≤ ``max_steps`` (None: no limit), with value 0 afterwards, so that

        high = max(0, reward_high · Σ_{t < max_steps} γᵗ),      low = min(0, reward_low · Σ_{t < max_steps} γᵗ).

    Without a limit the range is closed under ``r + γ v``: n-step targets from values inside it stay inside, for every
    n. With a limit it is not (``v`` may belong to a state that still has all steps to go), see `targets`. CartPole
    at γ = 0.997: 259.1 for the 500 steps of an episode, 333.3 without limit. An error for γ = 1 without limit.
    """
    low, high = check_range(reward_low, reward_high, ("reward_low", "reward_high"))
    steps = None if max_steps is None else check_count(max_steps, "max_steps")
    gamma = check_gamma(gamma, episodic=steps is not None)
    total = discount_sum(gamma, steps)
    return min(0.0, low * total), max(0.0, high * total)


@dataclass(frozen=True)
class Support:
    """A categorical value: ``bins`` places, equally far apart after the transform, from ``low`` to ``high`` inclusive.

    ``low`` < ``high`` are values (sums of rewards), at most a million in size; ``bins`` ≥ 2.
    """

    low: float
    high: float
    bins: int = 21

    def __post_init__(self) -> None:
        low, high = check_range(self.low, self.high, ("low", "high"))
        if high - low <= _slack(low, high):
            raise BookError(
                f"a support needs low < high, got {low:g} and {high:g}, which are one number but for rounding"
            )
        if max(abs(low), abs(high)) > LARGEST:
            raise BookError(
                f"a support of [{low:g}, {high:g}] is too wide: values up to {LARGEST:g} in size can be told apart; "
                "scale the rewards or take a smaller gamma"
            )
        for name, value in (
            ("low", low),
            ("high", high),
            ("bins", check_count(self.bins, "bins", minimum=2)),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def covering(cls, low: float, high: float, bins: int = 21) -> Support:
        """Return a support for all values in [low, high] and for 0, the value of an ended episode.

        A range of a single value (but for rounding) is widened by 1, since a distribution needs two places.
        """
        low, high = check_range(low, high, ("low", "high"))
        low, high = min(low, 0.0), max(high, 0.0)
        return cls(low, high if high - low > _slack(low, high) else low + 1.0, bins)

    def check_covers(self, low: float, high: float) -> None:
        """Raise an error that names the better support if values in [low, high] do not fit."""
        low, high = check_range(low, high, ("low", "high"))
        slack = _slack(self.low, self.high)
        if low < self.low - slack or high > self.high + slack:
            raise BookError(
                f"the value support [{self.low:g}, {self.high:g}] does not cover the reachable values "
                f"[{low:g}, {high:g}]: use Support.covering({low:g}, {high:g}, bins={self.bins})"
            )

    @property
    def places(self) -> FloatArray:
        """The places in transformed units, ``z_i = h(low) + i (h(high) - h(low)) / (bins - 1)``, shape (bins,)."""
        ends = transform([self.low, self.high])
        return np.linspace(ends[0], ends[1], self.bins)

    def encode(self, values: ArrayLike) -> FloatArray:
        """Return two-hot distributions (..., bins) with ``Σ_i p_i z_i = h(value)``: mass on the two places around it.

        Values outside the support are an error: they would be clipped, and learned wrongly, without a word.
        """
        x = check_finite(values, "values")
        if x.size:
            self.check_covers(float(x.min()), float(x.max()))
        places = self.places
        position = (transform(x) - places[0]) / (places[1] - places[0])
        position = np.clip(position, 0, self.bins - 1)  # what rounding left outside, at most 1e-9
        lower = np.minimum(position.astype(np.int64), self.bins - 2)
        share = position - lower  # of the upper place
        encoded = np.zeros((*x.shape, self.bins))
        np.put_along_axis(encoded, lower[..., None], (1 - share)[..., None], axis=-1)
        np.put_along_axis(encoded, lower[..., None] + 1, share[..., None], axis=-1)
        return encoded

    def decode(self, probabilities: ArrayLike) -> FloatArray:
        """Return values (...) of distributions (..., bins): ``h⁻¹(Σ_i p_i z_i)``; ``decode(encode(v)) = v``."""
        p = check_finite(probabilities, "probabilities")
        if p.ndim < 1 or p.shape[-1] != self.bins:
            raise BookError(f"probabilities must have shape (..., {self.bins}), got {p.shape}")
        if (p < -1e-6).any() or (p.size and np.abs(p.sum(-1) - 1).max() > 1e-4):
            raise BookError("probabilities must be at least 0 and sum to 1 along the last axis")
        return inverse(p @ self.places)
