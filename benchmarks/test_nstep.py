"""Figure 7.2 (10 n, 11 α, 100 runs of 10 episodes): the fast version against plain loops, in one run.

The reference is the algorithm box as one would write it, n-step sum included. The ratio is of CPU times, so
that other work on the machine matters little, and both sides run the same updates: their errors are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plain_loops import n_step_td

from one_step_trap.discounting import nstep

TARGET_RATIO = 100


def cpu_seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


@pytest.fixture(scope="module")
def walks() -> nstep.Walks:
    return nstep.sample_walks(np.random.default_rng(0))


def test_fast_version_against_the_reference(walks, benchmark):
    nstep.n_step_td(walks, [1], [0.1])  # first call: imports and allocations
    result = benchmark.pedantic(nstep.n_step_td, args=(walks,), rounds=5)
    fast = float(np.median([cpu_seconds(lambda: nstep.n_step_td(walks))[0] for _ in range(5)]))

    slow, by_n = 0.0, []
    for i, n in enumerate(nstep.N_STEPS):
        spent = 0.0
        for j, alpha in enumerate(nstep.ALPHAS):
            seconds, values = cpu_seconds(lambda n=n, alpha=alpha: n_step_td(walks, n, alpha))
            errors = np.sqrt(np.mean((values - nstep.true_values()) ** 2, axis=2))
            np.testing.assert_allclose(result.errors[:, :, i, j], errors, atol=1e-12)
            spent += seconds
        by_n.append(spent)
        slow += spent
    ratio = slow / fast
    benchmark.extra_info |= {"reference_cpu_s": slow, "fast_cpu_s": fast, "ratio": ratio}
    print(f"\nfigure 7.2: reference {slow:.1f} CPU-s, fast {fast:.3f} CPU-s, ratio {ratio:.0f}")
    # Long returns are what makes the reference slow. Without them, were every n as cheap as n = 1:
    print(f"            with the reference's cost of n = 1 for every n: ratio {10 * by_n[0] / fast:.0f}")
    assert ratio >= TARGET_RATIO


def test_walks(benchmark):
    benchmark(lambda: nstep.sample_walks(np.random.default_rng(0)))
