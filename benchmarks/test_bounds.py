"""12,000 checks of the simulation lemma (draw, value exactly, bound): batched, against one pair at a time."""

from __future__ import annotations

import time

import numpy as np
from plain_loops import simulation_tightness

from one_step_trap.trap import bounds_check

TARGET_CPU_SECONDS = 1.0
TARGET_RATIO = 5
REFERENCE_PAIRS = 2_400  # a fifth: the reference is slow, and its time is proportional


def test_12000_checks_against_the_reference(benchmark):
    bounds_check.check("simulation", 300, np.random.default_rng(0))  # first call: imports and allocations
    result = benchmark.pedantic(
        lambda: bounds_check.check("simulation", 12_000, np.random.default_rng(0)), rounds=5, iterations=1
    )
    seconds = []
    for _ in range(5):
        start = time.process_time()
        bounds_check.check("simulation", 12_000, np.random.default_rng(0))
        seconds.append(time.process_time() - start)
    fast = float(np.median(seconds))

    start = time.process_time()
    tightness = simulation_tightness(REFERENCE_PAIRS, np.random.default_rng(1))
    slow = (time.process_time() - start) * 12_000 / REFERENCE_PAIRS
    same = bounds_check.check("simulation", REFERENCE_PAIRS, np.random.default_rng(1))
    np.testing.assert_allclose(same.tightness, tightness, rtol=1e-9)
    benchmark.extra_info |= {"reference_cpu_s": slow, "fast_cpu_s": fast, "ratio": slow / fast}
    print(f"\n12,000 checks: reference {slow:.2f} CPU-s, fast {fast:.3f} CPU-s, ratio {slow / fast:.0f}")
    assert result.instances == 12_000
    assert result.violations == 0
    assert fast <= TARGET_CPU_SECONDS
    assert slow / fast >= TARGET_RATIO


def test_every_bound(benchmark):
    checks = benchmark.pedantic(
        lambda: bounds_check.check_all(12_000, np.random.default_rng(0)), rounds=1, iterations=1
    )
    assert bounds_check.verdict(checks) == "holds"
