"""What MuZero's value head is trained towards: n-step returns with the values of the search at their end.

For an episode of T rewards r_0 … r_{T-1}, with the search's value ν_t of the state at time t,

    z_t = Σ_{i < m} γⁱ r_{t+i} + γᵐ ν_{t+m},      m = min(n, T - t),

(Schrittwieser et al. 2020, arXiv 1911.08265, section 3, with n = 10 for Atari and n = T for board games). If the episode
**terminated**, its last state is worth 0: ν_T = 0. If it was **cut off**, ν_T is the search's value of the last
observation: the episode would have gone on, and value 0 there would teach that time limits are deadly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.validate import (
    FloatArray,
)


def n_step_targets(
    rewards: ArrayLike, root_values: ArrayLike, gamma: float, n_step: int, terminated: bool
) -> FloatArray:
    """Return targets z_0 … z_T (T + 1,) of one episode; z_T is 0 or the bootstrap value itself.

    ``rewards`` (T,), ``root_values`` (T + 1,) of the search, the last one ignored if the episode ``terminated``.
    """
    r, v = np.asarray(rewards, dtype=np.float64), np.array(root_values, dtype=np.float64)
    T = len(r)
    v[T] = 0.0 if terminated else v[T]
    end = np.minimum(np.arange(T + 1) + n_step, T)  # t + m
    z = np.zeros(T + 1)
    for i in range(min(n_step, T)):  # all t at once: term i of each sum that is longer than i
        z[: T - i] += gamma**i * r[i:]
    return np.asarray(z + gamma ** (end - np.arange(T + 1)) * v[end])


def project(targets: ArrayLike, low: float, high: float) -> tuple[FloatArray, int]:
    """Return targets moved into the reachable range [low, high], and how many had to be moved.

    Values of the search contain predicted rewards, and these can be wrong, so a target can leave the range that
    true returns have. Projection onto an interval that contains the true value v never moves away from it:
    ``abs(P z - v) ≤ abs(z - v)``. The number is reported in the learning curve.
    """
    z = np.asarray(targets, dtype=np.float64)
    moved = np.clip(z, low, high)
    return moved, int((np.abs(moved - z) > 1e-6 * max(1.0, high - low)).sum())
