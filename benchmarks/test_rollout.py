"""Open-loop rollouts: 1,000 trajectories of 200 steps at once, against one start and one step at a time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from plain_loops import open_loop

from one_step_trap.trap import rollout
from one_step_trap.trap.networks import Network, Training, train
from one_step_trap.trap.worlds import Trajectories, collect

TARGET_RATIO = 30
STARTS, DEPTH, SLOW = (
    1_000,
    200,
    20,
)  # the loop is timed on SLOW of the starts and scaled up: its cost is per start


@pytest.fixture(scope="module")
def data() -> Trajectories:
    whole = collect("Pendulum-v1", (STARTS + 20) * DEPTH, 0)
    return whole.episodes(np.flatnonzero(whole.lengths == DEPTH)[:STARTS])


@pytest.fixture(scope="module")
def network(data: Trajectories) -> Network:
    return train(data, Training(updates=200), seed=0)


def test_a_thousand_trajectories(data, network, benchmark):
    x, a = data.observations[:, 0], data.actions[:, :DEPTH]
    assert a.shape[:2] == (STARTS, DEPTH)
    rollout.open_loop(network, x[:5], a[:5])
    fast_result = benchmark.pedantic(rollout.open_loop, args=(network, x, a), rounds=3)
    start = time.process_time()
    rollout.open_loop(network, x, a)
    fast = time.process_time() - start

    start = time.process_time()
    slow_result = open_loop(network, x[:SLOW], a[:SLOW])
    slow = (time.process_time() - start) * STARTS / SLOW
    # The same numbers, as far as rounding carries: a batch sums in another order than a single row does.
    np.testing.assert_allclose(fast_result[:SLOW, :20], slow_result[:, :20], atol=1e-8)
    ratio = slow / fast
    benchmark.extra_info |= {"reference_cpu_s": slow, "fast_cpu_s": fast, "ratio": ratio}
    print(
        f"\n1,000 rollouts of 200 steps: loop {slow:.1f} CPU-s, together {fast:.2f} CPU-s, ratio {ratio:.0f}"
    )
    assert ratio >= TARGET_RATIO


def test_the_whole_measure(data, network, benchmark):
    error = benchmark.pedantic(
        rollout.rollout_error, args=(network, data), kwargs={"depth": DEPTH, "starts": 1}, rounds=3
    )
    assert error.error.shape == (STARTS, DEPTH, 3)
    rng = np.random.default_rng(0)
    steps = benchmark.extra_info["steps"] = str(rollout.steps_to_one_sd(error, rng))
    print(f"\nsteps to one sd over 1,000 trajectories: {steps}")
