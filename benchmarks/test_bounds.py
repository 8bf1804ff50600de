"""12,000 checks of the simulation lemma (draw, value exactly, bound): batched, against one pair at a time."""

from __future__ import annotations

import time

import numpy as np

from one_step_trap.trap import bounds_check
from one_step_trap.trap.bounds import simulation_bound
from one_step_trap.trap.bounds_instances import draw_chains, value_cells

TARGET_CPU_SECONDS = 1.0
TARGET_RATIO = 5
REFERENCE_PAIRS = 2_400  # a fifth: the reference is slow, and its time is proportional


def one_pair_at_a_time(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the tightness (n,) of the pairs of `bounds_instances.draw_simulation` by plain loops."""
    tightness = []
    cells = value_cells()
    for share, (gamma, states, kind) in zip(np.array_split(np.arange(n), len(cells)), cells, strict=True):
        for P, P_hat, r, r_hat in zip(*draw_chains(rng, len(share), gamma, states, kind), strict=True):
            V = np.linalg.solve(np.eye(states) - gamma * P, r)
            V_hat = np.linalg.solve(np.eye(states) - gamma * P_hat, r_hat)
            eps_l1 = max(float(np.abs(P[s] - P_hat[s]).sum()) for s in range(states))
            eps_r = max(abs(float(r[s] - r_hat[s])) for s in range(states))
            error = max(abs(float(V[s] - V_hat[s])) for s in range(states))
            tightness.append(error / simulation_bound(eps_r, min(eps_l1, 2.0), gamma))
    return np.array(tightness)


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
    tightness = one_pair_at_a_time(REFERENCE_PAIRS, np.random.default_rng(1))
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
