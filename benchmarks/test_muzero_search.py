"""MuZero's search, compiled: against mctx's `muzero_policy` in one run, against the readable reference, and by size.

All search the same network (one hidden layer a function, 21 bins of value) from the same roots, without noise, 50
simulations each. mctx runs on JAX, which only this benchmark needs; give it an environment of its own,

    python -m venv .mctx && .mctx/bin/pip install jax mctx

or name the Python of another one in MCTX_PYTHON. Without it, the comparison is skipped. Measured in turns: both sides take
their best time of many searches, wall-clock, with all cores they can use (two in the book's targets; mctx uses one): measure on
a machine with nothing else to do, or the second core is not there. The ratio of CPU times, ours on one core, is printed as
well. mctx is compiled (`jax.jit`) before it is measured, once for each batch size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from one_step_trap.muzero.networks import Architecture, MuZeroNet, NetworkModel
from one_step_trap.muzero.search import SearchSettings, search

SIMULATIONS = 50
TARGETS = {1: 1, 16: 1, 64: 6, 256: 1}  # batch: how many times as fast as mctx, at least
MOST_FOR_DEPTH = 3  # a simulation of a search with 800 costs at most as many times one of a search with 25
ROUNDS, SEARCHES = 6, 100

# Reads batch sizes, answers with seconds a search; searches the same network as ours, in float32.
MCTX = """
import json, sys, time
import jax, jax.numpy as jnp, mctx, numpy as np
w = {name: jnp.asarray(array) for name, array in np.load(sys.argv[1]).items()}
L, e = len(w["b_next"]), 1e-3

def scaled(x):
    low, high = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    return (x - low) / jnp.maximum(high - low, 1e-5)

def predict(s):
    y = jax.nn.relu(s @ w["W_prediction"] + w["b_prediction"])
    z = jax.nn.softmax(y @ w["W_value"] + w["b_value"]) @ w["places"]
    u = 2 * abs(z) / (jnp.sqrt(1 + 4 * e * (abs(z) + 1 + e)) + 1 + 2 * e)
    return y @ w["W_policy"] + w["b_policy"], jnp.sign(z) * u * (u + 2)

def step(params, key, action, s):
    x = jax.nn.relu(s @ w["W_dynamics"][:L] + w["W_dynamics"][L + action] + w["b_dynamics"])
    following = scaled(x @ w["W_next"] + w["b_next"])
    logits, values = predict(following)
    rewards, discounts = x @ w["w_reward"] + w["b_reward"], jnp.full(values.shape, 0.997)
    return mctx.RecurrentFnOutput(reward=rewards, discount=discounts, prior_logits=logits, value=values), following

@jax.jit
def policy(key, s):
    logits, values = predict(s)
    root = mctx.RootFnOutput(prior_logits=logits, value=values, embedding=s)
    return mctx.muzero_policy(None, key, root, step, SIMULATIONS, dirichlet_fraction=0.0).action_weights

key = jax.random.PRNGKey(0)
for line in sys.stdin:
    s = jnp.asarray(np.load(sys.argv[2])[: int(line)])
    weights, best = jax.block_until_ready(policy(key, s)), np.inf
    least = np.inf
    for _ in range(SEARCHES):
        start, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(policy(key, s))
        best, least = min(best, time.perf_counter() - start), min(least, time.process_time() - cpu)
    print(json.dumps([best, least, np.asarray(weights).tolist()]), flush=True)
""".replace("SIMULATIONS", str(SIMULATIONS)).replace("SEARCHES", str(SEARCHES))


def mctx_python() -> str | None:
    """Return the Python that has mctx."""
    own = Path(__file__).parents[1] / ".mctx/bin/python"
    for program in (os.environ.get("MCTX_PYTHON"), str(own)):
        if (
            program
            and not subprocess.run(
                [program, "-c", "import mctx"], capture_output=True, check=False
            ).returncode
        ):
            return program
    return None


def network(latent: int, hidden: int) -> NetworkModel:
    """Return a network with 2 actions whose heads say something."""
    rng, architecture = np.random.default_rng(0), Architecture(4, 2, latent, hidden)
    model = NetworkModel(MuZeroNet(architecture, seed=0))
    heads = {
        name: (rng.normal(size=getattr(model.weights, name).shape) / hidden**0.5).astype(np.float32)
        for name in ("w_reward", "W_policy", "W_value")
    }
    model.weights = model.weights._replace(**heads)
    return model


def roots_of(model: NetworkModel, batch: int) -> np.ndarray:
    return model.represent(np.random.default_rng(1).normal(size=(batch, 4)))


def best_seconds(
    function: Callable[[], object], repeats: int = SEARCHES, clock: Callable[[], float] = time.perf_counter
) -> float:
    best = np.inf
    for _ in range(repeats):
        start = clock()
        function()
        best = min(best, clock() - start)
    return best


@pytest.fixture(scope="module")
def mctx(tmp_path_factory) -> Iterator[Callable[[int], tuple[float, float, list]]]:
    program = mctx_python()
    if program is None:
        pytest.skip("no mctx: python -m venv .mctx && .mctx/bin/pip install jax mctx (or set MCTX_PYTHON)")
    folder, model = tmp_path_factory.mktemp("mctx"), network(8, 16)
    np.savez(folder / "weights.npz", **model.weights._asdict())
    np.save(folder / "roots.npy", roots_of(model, max(TARGETS)))
    arguments = [program, "-c", MCTX, str(folder / "weights.npz"), str(folder / "roots.npy")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(batch: int) -> tuple[float, float, list]:
            process.stdin.write(f"{batch}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


def test_against_mctx(mctx, benchmark):
    model = network(8, 16)
    roots = {batch: roots_of(model, max(TARGETS))[:batch] for batch in TARGETS}
    ours, theirs = dict.fromkeys(TARGETS, np.inf), dict.fromkeys(TARGETS, np.inf)
    cpu = {batch: [np.inf, np.inf] for batch in TARGETS}
    print()
    for batch in TARGETS:
        result = search(model, roots[batch])
        for _ in range(ROUNDS):  # in turns, so that other work on the machine disturbs both
            ours[batch] = min(ours[batch], best_seconds(lambda: search(model, roots[batch])))  # noqa: B023
            seconds, core, weights = mctx(batch)
            theirs[batch] = min(theirs[batch], seconds)
            one = best_seconds(lambda: search(model, roots[batch], threads=1), clock=time.process_time)  # noqa: B023
            cpu[batch] = [min(cpu[batch][0], one), min(cpu[batch][1], core)]
        apart = np.abs(result.policy - weights).max()  # they normalise Q otherwise: alike, not equal
        rates = [batch * SIMULATIONS / s for s in (ours[batch], theirs[batch])]
        print(
            f"batch {batch:3}: {rates[0] / 1e3:5.0f}k simulations/s, mctx {rates[1] / 1e3:4.0f}k, "
            f"ratio {rates[0] / rates[1]:4.1f}; by CPU time, ours on one core: {cpu[batch][1] / cpu[batch][0]:.1f}; "
            f"policies at most {apart:.2f} apart"
        )
        benchmark.extra_info |= {f"ours_{batch}": rates[0], f"mctx_{batch}": rates[1]}
        assert apart < 0.25
    benchmark.pedantic(search, args=(model, roots[64]), rounds=5)
    for batch, least in TARGETS.items():
        assert theirs[batch] / ours[batch] >= least


def test_against_the_reference(benchmark):
    print()
    for latent, hidden in ((8, 16), (32, 64)):
        model = network(latent, hidden)
        for batch in (1, 64):
            roots = roots_of(model, batch)
            fast = search(model, roots)
            slow_s = best_seconds(lambda: search(model, roots, backend="reference"), 3, time.process_time)  # noqa: B023
            fast_s = best_seconds(lambda: search(model, roots, threads=1), 20, time.process_time)  # noqa: B023
            slow = search(model, roots, backend="reference")
            assert (fast.visits == slow.visits).all()
            np.testing.assert_allclose(fast.root_values, slow.root_values, atol=1e-4)
            print(
                f"latent {latent:2}, batch {batch:2}: reference {batch * SIMULATIONS / slow_s / 1e3:5.1f}k simulations/CPU-s, "
                f"compiled on one core {batch * SIMULATIONS / fast_s / 1e3:5.0f}k, ratio {slow_s / fast_s:.0f}"
            )
            benchmark.extra_info[f"ratio_{latent}_{batch}"] = slow_s / fast_s
            assert slow_s / fast_s >= (10 if batch == 1 else 20)
    benchmark.pedantic(search, args=(model, roots), rounds=3)


def test_cost_of_a_simulation(benchmark):
    """By number of simulations (the tree gets deeper) and by size of the network, on one core, batch 16."""
    model = network(8, 16)
    roots, costs = roots_of(model, 16), {}
    print("\nlatent 8, hidden 16, batch 16, one core:")
    for simulations in (25, 50, 100, 200, 400, 800):
        chosen = SearchSettings(simulations=simulations)
        depth = search(model, roots, chosen).mean_depth.mean()
        seconds = best_seconds(lambda: search(model, roots, chosen, threads=1), 8, time.process_time)  # noqa: B023
        costs[simulations] = seconds / (16 * simulations)
        print(
            f"  {simulations:3} simulations: {1e9 * costs[simulations]:5.0f} ns each, mean depth {depth:.1f}"
        )
        benchmark.extra_info[f"ns_{simulations}_simulations"] = 1e9 * costs[simulations]
    print("50 simulations, hidden = 2 latent, batch 16, one core:")
    for latent in (8, 16, 32, 64, 128, 256):
        wide = network(latent, 2 * latent)
        starts = roots_of(wide, 16)
        search(wide, starts)
        seconds = best_seconds(lambda: search(wide, starts, threads=1), 5, time.process_time)  # noqa: B023
        each = seconds / (16 * SIMULATIONS)
        products = 2 * latent * (3 * latent + 1 + 2 + 21)
        print(
            f"  latent {latent:3}: {1e9 * each:6.0f} ns each, {products / each / 1e9:4.1f} billion products/s"
        )
        benchmark.extra_info[f"ns_latent_{latent}"] = 1e9 * each
    benchmark.pedantic(search, args=(model, roots), rounds=3)
    assert costs[800] <= MOST_FOR_DEPTH * costs[25]


def test_starting_costs_no_more_than_a_few_seconds():
    """A new process that has the compiled loops in its cache, as from the second run of a notebook on."""
    code = (
        "import time, numpy as np; from one_step_trap.muzero.networks import *; "
        "from one_step_trap.muzero.search import search; m = NetworkModel(MuZeroNet(Architecture(4, 2, 8, 16))); "
        "s = m.represent(np.zeros((1, 4))); t = time.process_time(); search(m, s); print(time.process_time() - t)"
    )
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(2)
    ]
    print(f"\nthe first search of a process: {runs[0]:.1f} CPU-s, with a warm cache {runs[1]:.1f} CPU-s")
    assert runs[1] < 3
