"""Exact n-step errors of 50 pairs of chains to n = 10,000: powers of the matrices against plain steps, in one run.

The reference makes every step of both chains, from all 20 starts, and measures TV at the same
steps. The ratio is of CPU times, and both sides' numbers are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from one_step_trap.core import tabular
from one_step_trap.trap import chains, regimes

TARGET_RATIO = 20
LINE_TARGET_RATIO = 10
PAIRS = 50


def cpu_seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def every_step(P: np.ndarray, P_hat: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """TV error from the worst start, (N,), by stepping both models one step at a time."""
    p = q = np.eye(len(P))
    wanted, errors = set(steps.tolist()), []
    for n in range(1, int(steps[-1]) + 1):
        p, q = p @ P, q @ P_hat
        if n in wanted:
            errors.append(tabular.total_variation(p, q).max())
    return np.array(errors)


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    P = regimes.random_chains(rng, PAIRS)
    return P, regimes.perturb(P, 0.01, rng)


def test_dense_chains_against_every_step(pairs, benchmark):
    P, P_hat = pairs
    steps = chains.log_steps()
    chains.n_step_error(P[:1], P_hat[:1], [1, 2])  # first call: imports and allocations
    result = benchmark.pedantic(chains.n_step_error, args=(P, P_hat, steps), rounds=3)
    fast = float(np.median([cpu_seconds(lambda: chains.n_step_error(P, P_hat, steps))[0] for _ in range(3)]))
    slow = 0.0
    for i in range(PAIRS):
        seconds, errors = cpu_seconds(lambda i=i: every_step(P[i], P_hat[i], steps))
        np.testing.assert_allclose(result.tv[i], errors, atol=1e-12)
        slow += seconds
    ratio = slow / fast
    benchmark.extra_info |= {"reference_cpu_s": slow, "fast_cpu_s": fast, "ratio": ratio}
    print(
        f"\n{PAIRS} pairs of 20 states, n to 10,000: every step {slow:.2f} CPU-s, fast {fast:.3f} CPU-s "
        f"(with KL and W1), ratio {ratio:.0f}"
    )
    assert ratio >= TARGET_RATIO


def test_a_long_line_against_every_step(benchmark):
    """A walk on over 1,000 places: here powers fill up, and the fast version steps with sparse matrices instead."""
    regime = regimes.drift(0.01, longest=3_000)
    P, P_hat, start = regime.P.toarray(), regime.P_hat.toarray(), regime.start
    steps = chains.log_steps(3_000)
    result = benchmark.pedantic(regime.measure, args=(steps,), rounds=3)
    fast = float(np.median([cpu_seconds(lambda: regime.measure(steps))[0] for _ in range(3)]))

    def reference() -> list[float]:
        p = q = start
        errors = []
        for n in range(1, 3_001):
            p, q = p @ P, q @ P_hat
            if n in steps:
                errors.append(float(tabular.total_variation(p, q)))
        return errors

    slow, errors = cpu_seconds(reference)
    np.testing.assert_allclose(result.tv, errors, atol=1e-12)
    ratio = slow / fast
    benchmark.extra_info |= {"reference_cpu_s": slow, "fast_cpu_s": fast, "ratio": ratio}
    print(
        f"\n{len(start)} places, n to 3,000: dense {slow:.2f} CPU-s, fast {fast:.3f} CPU-s, ratio {ratio:.0f}"
    )
    assert ratio >= LINE_TARGET_RATIO
