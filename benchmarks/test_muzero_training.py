"""Training MuZero: updates a CPU-second for K = 1, 5, 20, and CPU-seconds until CartPole is solved, over ten seeds.

The updates are compared in the same run with a plain loop over samples, steps and heads, whose gradients are the same. For
CartPole the seconds count everything in the process: search, environments, updates and evaluations.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from one_step_trap.core.threads import one_thread
from one_step_trap.muzero.learning import Learner, LearningSettings, to_tensors, unrolled_loss
from one_step_trap.muzero.networks import Architecture, MuZeroNet
from one_step_trap.muzero.replay import Replay, Segment
from one_step_trap.muzero.training import train

BATCH = 128
TARGET_RATIO = 10
TARGET_SECONDS, SOLVED = 30, 475
STAYS, SEEDS_THAT_STAY = 450, 9


def filled_replay() -> Replay:
    rng = np.random.default_rng(0)
    replay = Replay(5_000, 4, 2, unroll_max=20, gamma=0.99, n_step=20, value_range=(0, 100))
    for _ in range(40):
        T = int(rng.integers(10, 60))
        replay.add(
            Segment(
                rng.normal(size=(T + 1, 4)),
                rng.integers(2, size=T),
                np.ones(T),
                rng.dirichlet([1, 1], size=T + 1),
                rng.uniform(0, 50, T + 1),
                True,
            ),
            rng,
        )
    return replay


def reference_loss(net: MuZeroNet, batch) -> torch.Tensor:
    """Return the loss as one would write it first: sample by sample, step by step, head by head."""
    total, (B, K) = torch.zeros(()), batch.actions.shape
    for b in range(B):
        s = net.represent(torch.from_numpy(batch.observations[b : b + 1]))
        for k in range(K + 1):
            scale = 1 / B * (1.0 if k == 0 else 1 / K)
            if k:
                half = 0.5 * s + 0.5 * s.detach()
                reward, s = net.dynamics(half, torch.from_numpy(batch.actions[b, k - 1 : k]))
                error = (reward[0] - float(batch.rewards[b, k - 1])) ** 2 / 2
                total = total + scale * float(batch.reward_mask[b, k - 1]) * error
            p, v = net.predict(s)
            value = torch.from_numpy(net.architecture.support.encode(batch.values[b, k])).float()
            total = total + scale * 0.25 * float(batch.value_mask[b, k]) * F.cross_entropy(v[0], value)
            policy = torch.from_numpy(batch.policies[b, k])
            total = total + scale * float(batch.policy_mask[b, k]) * F.cross_entropy(p[0], policy)
    return total


@pytest.mark.parametrize("K", [1, 5, 20])
def test_updates_a_cpu_second(K, benchmark):
    replay, rng = filled_replay(), np.random.default_rng(1)
    net = MuZeroNet(Architecture(4, 2, value_low=0, value_high=100), 0)
    with one_thread():
        batch, other = replay.sample(BATCH, K, rng), copy.deepcopy(net)
        start = time.process_time()
        reference_loss(other, batch).backward()
        slow = time.process_time() - start
        unrolled_loss(net, to_tensors(net, batch), LearningSettings()).total.backward()
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad, rtol=1e-2, atol=1e-5)
        learner = Learner(net, LearningSettings())

        def updates() -> None:
            for _ in range(100):
                learner.update(replay.sample(BATCH, K, rng))

        updates()
        times = []
        for _ in range(3):
            start = time.process_time()
            updates()
            times.append((time.process_time() - start) / 100)
        benchmark.pedantic(updates, rounds=1)
    fast = min(times)
    benchmark.extra_info |= {"updates_per_cpu_s": 1 / fast, "ratio": slow / fast}
    print(f"\nK = {K}: {1 / fast:,.0f} updates a CPU-s, plain loop {1 / slow:.2f}, ratio {slow / fast:.0f}")
    assert slow / fast >= TARGET_RATIO


def test_cartpole_is_solved_and_stays_solved(benchmark):
    """Targets: median of the seconds to a mean of 475 under 30, and last 20 evaluations at 450 or more in 9 of 10 seeds.

    The seeds are others than those of the study, on which the settings were chosen.
    """
    seconds, last = [], []

    def ten_seeds() -> None:
        for seed in range(10, 20):
            result = train("CartPole-v1", seed=seed)
            first = result.first_reached(SOLVED)
            seconds.append(first.cpu_seconds + first.evaluation_seconds if first else np.inf)
            last.append(result.last_mean(20))
            print(f"\nseed {seed}: {seconds[-1]:.1f} CPU-s to {SOLVED}, last 20 evaluations {last[-1]:.0f}")

    benchmark.pedantic(ten_seeds, rounds=1)
    benchmark.extra_info |= {"seconds": seconds, "last": last}
    print(f"\nmedian {np.median(seconds):.1f} CPU-s; {sum(m >= STAYS for m in last)} of 10 stay at {STAYS}")
    assert np.median(seconds) < TARGET_SECONDS
    assert sum(m >= STAYS for m in last) >= SEEDS_THAT_STAY
