"""Training of world models: updates a second against a plain loop over samples, in one run.

The reference is the training step as one would write it first: for each sample of the batch, for each member,
for each depth, one pass through the layers; then the gradient, and a plain Adam step. Both sides make the same
updates from the same weights, and the weights that come out are compared.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from one_step_trap.core.threads import one_thread
from one_step_trap.trap import networks
from one_step_trap.trap.worlds import collect

TARGET_RATIO = 10


def reference_loss(trainer: networks._Trainer, z: Tensor, u: Tensor) -> Tensor:
    """Return the loss of a batch z (k+1, M, B, D), u (k, M, B, A), one sample at a time."""
    core, (k, M, B, D) = trainer.core, (len(u), *z.shape[1:])
    total = torch.zeros((), dtype=torch.float64)
    for m in range(M):
        for i in range(B):
            state = z[0, m, i]
            for j in range(k):
                h = torch.cat((state, u[j, m, i]))
                for layer, (W, b) in enumerate(zip(core.weights, core.biases, strict=True)):
                    h = h @ W[m] + b[m, 0]
                    if layer < len(core.weights) - 1:
                        h = torch.tanh(h)
                state = state + core.shift + core.gain * h
                total = total + (((state - z[j + 1, m, i]) / core.gain) ** 2).sum() / (k * B * D)
    return total


def reference_updates(trainer: networks._Trainer, updates: int) -> None:
    """Make some updates with the plain loop and with Adam written out (Kingma & Ba 2015, algorithm 1)."""
    first = [torch.zeros_like(p) for p in trainer.parameters]
    second = [torch.zeros_like(p) for p in trainer.parameters]
    for step in range(updates):
        rate = (
            trainer.training.learning_rate * 0.5 * (1 + math.cos(math.pi * step / trainer.training.updates))
        )
        z, u = trainer._batch(trainer.training.unroll_steps)
        gradients = torch.autograd.grad(reference_loss(trainer, z, u), trainer.parameters)
        norm = torch.stack([(g**2).sum((1, 2)) for g in gradients]).sum(0).sqrt()
        factor = torch.clamp(trainer.training.clip / (norm + 1e-12), max=1.0)[:, None, None]
        with torch.no_grad():
            for p, g, a, b in zip(trainer.parameters, gradients, first, second, strict=True):
                a.mul_(0.9).add_(0.1 * g * factor)
                b.mul_(0.999).add_(0.001 * (g * factor) ** 2)
                p -= rate * (a / (1 - 0.9 ** (step + 1))) / ((b / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)


def cpu_seconds_each(function, updates: int) -> float:
    start = time.process_time()
    function(updates)
    return (time.process_time() - start) / updates


@pytest.mark.parametrize(("k", "members"), [(1, 1), (5, 1), (1, 5)])
def test_updates_against_a_loop_over_samples(k, members, benchmark):
    data = collect("Pendulum-v1", 5_000, 0)
    training = networks.Training(updates=4_000, unroll_steps=k)
    fast, slow = (networks._Trainer(data, training, 0, members, False) for _ in range(2))
    with one_thread():
        reference = cpu_seconds_each(lambda updates: reference_updates(slow, updates), 5)
        fast.run(5)
        for p, q in zip(fast.parameters, slow.parameters, strict=True):
            np.testing.assert_allclose(p.detach(), q.detach(), rtol=1e-7, atol=1e-9)
        quick = min(cpu_seconds_each(fast.run, 200) for _ in range(3))
    benchmark.pedantic(fast.run, args=(50,), rounds=3)
    ratio = reference / quick
    benchmark.extra_info |= {"updates_per_cpu_s": 1 / quick, "ratio": ratio}
    print(
        f"\nk = {k}, {members} member(s): {1 / quick:,.0f} updates a CPU-s ({64 * members * k / quick:,.0f} predictions), "
        f"plain loop {1 / reference:.1f}, ratio {ratio:.0f}"
    )
    assert ratio >= TARGET_RATIO
