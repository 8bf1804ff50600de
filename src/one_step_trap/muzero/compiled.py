"""The search of :mod:`one_step_trap.muzero.search` compiled: networks and trees in one piece of machine code.

A call of PyTorch costs more than such a small network, and a tree of Python objects more than both. Here the
exported weights and the arrays of the tree stay in one loop, and the roots of a batch are shared out over the cores: each
root is searched by one thread, so that the result does not depend on how many there are.

Both backends are meant to visit the same nodes. One rounding can decide between two nearly equal scores, and hence
everything that rounds is done in the same order: sums of float32 products run over the inputs from first to last
(`affine`), softmax, value and scores are float64.
"""

from __future__ import annotations

import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from one_step_trap.core.compiling import njit
from one_step_trap.core.validate import BoolArray, FloatArray
from one_step_trap.errors import BookError
from one_step_trap.muzero.lanes import (
    chosen,
    doubles,
    eight,
    larger,
    largest,
    sixteen,
    smaller,
    smallest,
    store,
    summed,
)
from one_step_trap.muzero.networks import SMALLEST_SPREAD, Float32, Weights, unit_scale_numpy
from one_step_trap.muzero.transforms import EPSILON

SHARE = 1_000
"""Simulations that a core should have to do before another one is asked for help (about a millisecond)."""

# --- the network, for the reference -----------------------------------------------------------------------


def affine(x: Float32, W: Float32, b: Float32) -> Float32:
    """Return ``x W + b`` of rows x (B, inputs) in float32, summed in one fixed order.

    ``x @ W`` sums in an order that depends on the library, the machine and B. Here the bias comes first, and then the
    products `in_eights`, from first to last.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # whoever reads the result asks whether it is finite
        sums = in_eights(x[:, :, None] * W)  # (B, eighths of the inputs, outputs)
        bias = np.broadcast_to(b, (len(x), W.shape[1]))[:, None]
        return np.asarray(np.add.accumulate(np.concatenate([bias, sums], axis=1), axis=1)[:, -1])


def in_eights(terms: NDArray[Any]) -> NDArray[Any]:
    """Return sums of eight terms (B, n, …) each, the last ones filled up with zeros: pairs, pairs of pairs, and these."""
    filling = [(0, 0), (0, -terms.shape[1] % 8), *[(0, 0)] * (terms.ndim - 2)]
    sums = np.pad(terms, filling).reshape(len(terms), -1, 8, *terms.shape[2:])
    for _ in range(3):
        sums = sums[:, :, 0::2] + sums[:, :, 1::2]
    return np.asarray(sums[:, :, 0])


def _power_of_e(x: Any) -> Any:
    """Return ``exp(x)`` for x in [-64, 0] to about 10 digits, as ``(exp(x / 512))^512``, of arrays and compiled.

    The exponentials of NumPy and of the compiler's library differ in the last digit; sums and products do not.
    """
    y = x * (1 / 512)
    e = 1 + y * (1 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y * (1 / 720))))))
    e2 = e * e
    e4 = e2 * e2
    e8 = e4 * e4
    e16 = e8 * e8
    e32 = e16 * e16
    e64 = e32 * e32
    e128 = e64 * e64
    e256 = e128 * e128
    return e256 * e256


class SequentialModel:
    """Exported weights as a `search.Model` whose every rounding the compiled search repeats."""

    def __init__(self, weights: Weights) -> None:
        self.weights = check_weights(weights)

    def represent(self, observations: ArrayLike) -> Float32:
        """Return states (B, L) of observations (B, O)."""
        w = self.weights
        x = np.maximum(affine(np.asarray(observations, np.float32), w.W_observation, w.b_observation), 0)
        return np.asarray(unit_scale_numpy(affine(x, w.W_encoding, w.b_encoding)))

    def predict(self, states: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return policy logits (B, A) and values (B,) of states (B, L)."""
        w = self.weights
        y = np.maximum(affine(self._rows(states), w.W_prediction, w.b_prediction), 0)
        logits = affine(y, w.W_value, w.b_value).astype(np.float64)
        p = _power_of_e(np.maximum(logits - logits.max(axis=1, keepdims=True), -64.0))
        total, z = (np.add.accumulate(in_eights(t), axis=1)[:, -1] for t in (p, p * w.places))
        z = z / total
        size = np.abs(z)
        excess = 2 * size / (np.sqrt(1 + 4 * EPSILON * (size + 1 + EPSILON)) + 1 + 2 * EPSILON)
        return affine(y, w.W_policy, w.b_policy).astype(np.float64), np.sign(z) * excess * (excess + 2)

    def dynamics(self, states: ArrayLike, actions: ArrayLike) -> tuple[FloatArray, Float32]:
        """Return rewards (B,) and next states (B, L) after actions (B,) in states (B, L)."""
        w, L = self.weights, len(self.weights.b_next)
        rows = w.W_dynamics[L + np.asarray(actions)] + w.b_dynamics  # (B, H): what the action adds
        x = np.maximum(affine(self._rows(states), w.W_dynamics[:L], rows), 0)
        rewards = affine(x, w.w_reward[:, None], w.b_reward)[:, 0].astype(np.float64)
        return rewards, np.asarray(unit_scale_numpy(affine(x, w.W_next, w.b_next)))

    def _rows(self, states: ArrayLike) -> Float32:
        rows, L = np.asarray(states, dtype=np.float32), len(self.weights.b_next)
        if rows.ndim != 2 or rows.shape[1] != L:
            raise BookError(f"states of this network have shape (batch, {L}), got {rows.shape}")
        return rows


def check_weights(weights: Weights) -> Weights:
    """Return weights whose shapes fit together, all finite, as float32 arrays in C order; others are an error."""
    w = Weights(*(np.ascontiguousarray(a, dtype=np.float32) for a in weights))
    if any(not array.size for array in w):
        raise BookError("weights hold an empty array")
    H, L, A, bins = len(w.b_observation), len(w.b_next), len(w.b_policy), len(w.places)
    layers = {
        "observation": (len(w.W_observation), H),
        "encoding": (H, L),
        "dynamics": (L + A, H),
        "next": (H, L),
    }
    layers |= {"prediction": (L, H), "policy": (H, A), "value": (H, bins)}
    shapes: dict[str, tuple[int, ...]] = {f"W_{name}": shape for name, shape in layers.items()}
    shapes |= {f"b_{name}": shape[1:] for name, shape in layers.items()} | {
        "w_reward": (H,),
        "b_reward": (1,),
    }
    for name, shape in shapes.items():
        if getattr(w, name).shape != shape:
            raise BookError(
                f"weights do not fit together: {name} must have shape {shape}, got {getattr(w, name).shape}"
            )
    if not np.isfinite(np.concatenate([array.ravel() for array in w])).all():
        names = [name for name, array in w._asdict().items() if not np.isfinite(array).all()]
        raise BookError(f"weights hold NaN or infinite values in {', '.join(names)}")
    return w


# --- compiled ---------------------------------------------------------------------------------------------

# The loops below take whole arrays and row numbers, never a row alone or several arrays in a tuple: these would count their
# references, in one place for all threads, and the threads would wait for each other there. That is also why the search is
# one long function: with its trees in tuples that shorter functions pass on, it takes half as long again.

ROW: Any = np.int64(0)
"""The row of a matrix with one row. (A plain 0 is a type of its own to the compiler: it would compile each function for it.)"""

WIDTH = 16
"""Outputs that a layer computes at once."""

TOGETHER = 4
"""Roots that a thread searches side by side (8 are no faster; one by one takes a tenth longer)."""

_exp = njit(nogil=True, error_model="numpy")(_power_of_e)


class Packed(NamedTuple):
    """Weights as the compiled loops read them: filled up with zeros, inputs to eights and outputs to `WIDTH`.

    Matrices are in blocks of `WIDTH` outputs (blocks, inputs, `WIDTH`), each of which is read from first to last.
    """

    W_dynamics: Float32  # L inputs, H outputs, of the state alone
    rows: Float32  # (A, H), what each action adds, bias included
    W_next: Float32  # H inputs, L + 1 outputs: the next state, then the reward
    b_next: Float32  # (1, L + 1)
    W_prediction: Float32  # L inputs, H outputs
    b_prediction: Float32  # (1, H)
    W_heads: Float32  # H inputs, bins + A outputs: the value's logits, then those of the policy
    b_heads: Float32  # (1, bins + A)
    places: FloatArray  # (2, bins): ones, and the places of the value
    state: Float32  # (1, L): ones


def pack(w: Weights) -> Packed:
    """Return checked weights for the compiled loops."""
    L = len(w.b_next)
    return Packed(
        *(_blocks(w.W_dynamics[:L]), _filled(w.W_dynamics[L:] + w.b_dynamics)),
        _blocks(np.concatenate([w.W_next, w.w_reward[:, None]], axis=1)),
        _filled(np.concatenate([w.b_next, w.b_reward])[None]),
        *(_blocks(w.W_prediction), _filled(w.b_prediction[None])),
        _blocks(np.concatenate([w.W_value, w.W_policy], axis=1)),
        _filled(np.concatenate([w.b_value, w.b_policy])[None]),
        _filled(np.stack([np.ones(len(w.places)), w.places])),
        _filled(np.ones((1, L), np.float32)),
    )


def _filled(W: NDArray[Any], *, inputs: int = 1) -> NDArray[Any]:
    """Return W with zeros after it, so that its sizes are multiples of ``inputs`` and `WIDTH`."""
    n, m = W.shape
    out = np.zeros((n + -n % inputs, m + -m % WIDTH), dtype=W.dtype)
    out[:n, :m] = W
    return out


def _blocks(W: NDArray[Any]) -> NDArray[Any]:
    """Return W (inputs, outputs), filled up, in blocks (blocks, inputs, `WIDTH`)."""
    full = _filled(W, inputs=8)
    return np.ascontiguousarray(full.reshape(len(full), -1, WIDTH).transpose(1, 0, 2))


@njit(nogil=True, error_model="numpy")
def _pair(x: Any, row: int, W: Any, c: int, k: int) -> Any:
    """Return what the inputs k and k + 1 add to block c of the outputs."""
    return x[row, k] * sixteen(W, (c, k, 0)) + x[row, k + 1] * sixteen(W, (c, k + 1, 0))


@njit(nogil=True, error_model="numpy")
def _layer(x: Any, row: int, W: Any, b: Any, bias: int, out: Any, to: int, rectified: bool) -> None:
    """Write ``x[row] W + b[bias]``, or the larger of this and 0, to ``out[to]``: the sums of `affine`."""
    for c in range(W.shape[0]):
        sums = sixteen(b, (bias, c * WIDTH))
        for k in range(0, W.shape[1], 8):
            first = _pair(x, row, W, c, k) + _pair(x, row, W, c, k + 2)
            second = _pair(x, row, W, c, k + 4) + _pair(x, row, W, c, k + 6)
            sums = sums + (first + second)
        store(larger(sums, 0) if rectified else sums, out, (to, c * WIDTH))


@njit(nogil=True, error_model="numpy")
def _unit_scale(s: Any, row: int, state: Any, states: Any, to: int) -> None:
    """Write what is state in ``s[row]``, scaled to [0, 1] by its minimum and maximum, to ``states[to]``."""
    low, high = s[row, 0], s[row, 0]
    for k in range(0, states.shape[1], 8):
        part, inside = eight(s, (row, k)), eight(state, (0, k))
        low = min(low, smallest(chosen(inside, part, np.inf)))
        high = max(high, largest(chosen(inside, part, -np.inf)))
    spread = max(high - low, np.float32(SMALLEST_SPREAD))
    for k in range(0, states.shape[1], 8):
        scaled = (eight(s, (row, k)) - low) / spread
        store(chosen(eight(state, (0, k)), scaled, 0), states, (to, k))


@njit(nogil=True, error_model="numpy")
def _softmax(heads: Any, row: int, bins: int, P: Any, to: int) -> float:
    """Write the softmax of a row's policy logits to ``P[to]`` in float64; return the sum before it was divided by."""
    A, mass = P.shape[1], 0.0
    top = heads[row, bins]
    for a in range(1, A):
        top = heads[row, bins + a] if heads[row, bins + a] > top else top
    for a in range(A):
        P[to, a] = math.exp(np.float64(heads[row, bins + a]) - np.float64(top))
        mass += P[to, a]
    for a in range(A):
        P[to, a] /= mass
    return mass


@njit(nogil=True, error_model="numpy")
def _decode(heads: Any, row: int, bins: int, places: Any) -> Any:
    """Return the value ``h⁻¹(softmax(logits) · places)`` of a row's first ``bins`` logits."""
    top, mass, z = np.float32(-np.inf), 0.0, 0.0
    for k in range(0, bins, 8):
        top = max(top, largest(chosen(eight(places, (0, k)), eight(heads, (row, k)), -np.inf)))
    for k in range(0, bins, 8):  # what comes after the bins counts 0 times
        below = smaller(doubles(eight(heads, (row, k))) - np.float64(top), 0)
        e = _exp(larger(below, -64))
        mass += summed(e * eight(places, (0, k)))
        z += summed(e * eight(places, (1, k)))
    z /= mass
    size = abs(z)
    excess = 2 * size / (math.sqrt(1 + 4 * EPSILON * (size + 1 + EPSILON)) + 1 + 2 * EPSILON)
    return math.copysign(excess * (excess + 2), z)


@njit(nogil=True, error_model="numpy")
def _predict_all(w: Any, bins: int, states: Any, logits: Any, values: Any) -> None:
    """Write policy logits (B, A) and values (B,) of states (B, L)."""
    W_prediction, b_prediction, W_heads, b_heads, places = w[4:9]
    y, heads = np.empty(b_prediction.shape, np.float32), np.empty(b_heads.shape, np.float32)
    for i in range(len(states)):
        _layer(states, i, W_prediction, b_prediction, ROW, y, ROW, True)
        _layer(y, ROW, W_heads, b_heads, ROW, heads, ROW, False)
        values[i] = _decode(heads, ROW, bins, places)
        for a in range(logits.shape[1]):
            logits[i, a] = heads[0, bins + a]


@njit(nogil=True, error_model="numpy")
def _search_range(
    w: Any,
    L: int,
    bins: int,
    first: int,
    last: int,
    roots: Any,
    values: Any,
    priors: Any,
    legal: Any,
    table: Any,
    sizes: Any,
    out: Any,
) -> None:
    """Search from the roots first … last - 1, and write what was found to ``out``.

    In one search each number waits for the one before it, and the processor has little else to do. So `TOGETHER` roots take
    every step of a simulation side by side: all select, then all apply a function of the network, …; no root's numbers depend
    on another's.

    A tree is in arrays: one row a node, one column an action. An edge (s, a) has Q, its child (-1: none yet), and
    1 + N(s, a). The trees of a group lie in the same arrays, root g in row g · nodes.
    """
    gamma, simulations, deepest, closest = sizes
    visits, q, root_values, mean_depth, max_depth, plans = out
    W_dynamics, rows, W_next, b_next, W_prediction, b_prediction, W_heads, b_heads, places, state = w
    nodes, A, group = simulations + 1, len(rows), min(TOGETHER, last - first)
    n = group * nodes
    states, x = np.zeros((n, roots.shape[1]), np.float32), np.empty((group, rows.shape[1]), np.float32)
    s, heads = (
        np.empty((group, b_next.shape[1]), np.float32),
        np.empty((group, b_heads.shape[1]), np.float32),
    )
    P, Q, tried, child = np.empty((n, A)), np.empty((n, A)), np.empty((n, A)), np.empty((n, A), np.int64)
    N, total, reward, value = np.empty(n, np.int64), np.empty(n), np.empty(n), np.empty(n)
    path, actions = np.empty((group, deepest), np.int64), np.empty((group, deepest), np.int64)
    depth, leaf, grown = np.empty(group, np.int64), np.empty(group, np.int64), np.empty(group, np.bool_)
    size, low, high = np.empty(group, np.int64), np.empty(group), np.empty(group)
    depths, longest = np.empty(group, np.int64), np.empty(group, np.int64)
    for begin in range(first, last, group):
        together = min(group, last - begin)
        for g in range(together):
            b, root = begin + g, g * nodes
            for j in range(L):
                states[root, j] = roots[b, j]
            for a in range(A):
                P[root, a], tried[root, a], child[root, a] = priors[b, a] if legal[b, a] else -np.inf, 1.0, -1
            N[root], total[root] = 1, values[b]
            size[g], low[g], high[g], depths[g], longest[g] = root + 1, np.inf, -np.inf, 0, 0
        for _ in range(simulations):
            # Select.
            for g in range(together):
                node, k, lowest, spread = g * nodes, 0, low[g], max(high[g] - low[g], closest)
                while node >= 0 and k < deepest:
                    explore, best, action = table[N[node]], -np.inf, 0
                    for a in range(A):
                        normalised = (Q[node, a] - lowest) / spread if child[node, a] >= 0 else 0.0
                        score = normalised + P[node, a] * explore / tried[node, a]
                        action = a if score > best else action
                        best = score if score > best else best
                    path[g, k], actions[g, k] = node, action
                    k += 1
                    node = child[node, action]
                grown[g] = node < 0
                if node < 0:
                    node = size[g]
                    size[g] += 1
                    child[path[g, k - 1], actions[g, k - 1]] = node
                depth[g], leaf[g] = k, node
            # Expand.
            for g in range(together):
                if grown[g]:
                    _layer(
                        states, path[g, depth[g] - 1], W_dynamics, rows, actions[g, depth[g] - 1], x, g, True
                    )
            for g in range(together):
                if grown[g]:
                    _layer(x, g, W_next, b_next, ROW, s, g, False)
            for g in range(together):
                if grown[g]:
                    reward[leaf[g]] = np.float64(s[g, L])
                    _unit_scale(s, g, state, states, leaf[g])
            for g in range(together):
                if grown[g]:
                    _layer(states, leaf[g], W_prediction, b_prediction, ROW, x, g, True)
            for g in range(together):
                if grown[g]:
                    _layer(x, g, W_heads, b_heads, ROW, heads, g, False)
            for g in range(together):
                if grown[g]:
                    node = leaf[g]
                    value[node] = _decode(heads, g, bins, places)
                    if not _softmax(heads, g, bins, P, node) >= 1:  # some logit was not finite
                        value[node] = np.nan
                    for a in range(A):
                        tried[node, a], child[node, a] = 1.0, -1
                    N[node], total[node] = 0, 0.0
            # Back up.
            for g in range(together):
                node, G, lowest, highest = leaf[g], value[leaf[g]], low[g], high[g]
                N[node] += 1
                total[node] += G
                for k in range(depth[g] - 1, -1, -1):
                    parent, action = path[g, k], actions[g, k]
                    edge = reward[node] + gamma * (total[node] / N[node])
                    Q[parent, action] = edge
                    tried[parent, action] += 1.0
                    lowest, highest = min(lowest, edge), max(highest, edge)
                    G = reward[node] + gamma * G
                    N[parent] += 1
                    total[parent] += G
                    node = parent
                low[g], high[g] = lowest, highest
                depths[g] += depth[g]
                longest[g] = max(longest[g], depth[g])
        for g in range(together):
            b, root = begin + g, g * nodes
            for a in range(A):
                visits[b, a] = np.int64(tried[root, a]) - 1
                q[b, a] = Q[root, a] if child[root, a] >= 0 else np.nan
            root_values[b], mean_depth[b] = total[root] / N[root], depths[g] / simulations
            max_depth[b] = longest[g]
            node, k = root, 0
            while node >= 0:  # the plan: the most visited child each time
                action = 0
                for a in range(1, A):
                    action = a if tried[node, a] > tried[node, action] else action
                node = child[node, action]
                if node >= 0:
                    plans[b, k] = action
                    k += 1


class CompiledNetwork:
    """A network whose predictions and searches are compiled."""

    def __init__(self, weights: Weights) -> None:
        w = check_weights(weights)
        self.packed, self.latent, self.actions, self.bins = (
            pack(w),
            len(w.b_next),
            len(w.b_policy),
            len(w.places),
        )

    def predict(self, states: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return policy logits (B, A) and values (B,) of states (B, L), as `SequentialModel` does."""
        rows = self._rows(states)
        logits, values = np.empty((len(rows), self.actions), np.float32), np.empty(len(rows))
        _predict_all(self.packed, self.bins, rows, logits, values)
        self._check_finite(logits, values)
        return logits.astype(np.float64), values

    def search(
        self,
        roots: ArrayLike,
        values: FloatArray,
        priors: FloatArray,
        legal: BoolArray,
        *,
        table: FloatArray,
        sizes: tuple[float, int, int, float],
        threads: int | None,
    ) -> dict[str, Any]:
        """Return fields of a `search.SearchResult`.

        ``roots`` (B, L), their ``values`` (B,), ``priors`` (B, A) with noise and ``legal`` actions (B, A); ``table`` holds
        the factor of exploration for 0, 1, … visits; ``sizes``: γ, simulations, largest depth, smallest spread of Q.
        """
        (B, A), states = priors.shape, self._rows(roots)
        out = {
            **{"visits": np.empty((B, A), dtype=np.int64), "q": np.empty((B, A)), "root_values": np.empty(B)},
            **{"mean_depth": np.empty(B), "max_depth": np.empty(B, dtype=np.int64)},
            "plans": np.full((B, sizes[2]), -1, dtype=np.int64),
        }

        workers = min(B, cores(), max(1, B * sizes[1] // SHARE) if threads is None else threads)
        arrays, ends = tuple(out.values()), shares(B, workers)
        parts = iter(list(itertools.pairwise(ends)))  # threads take one after the other, whoever comes first

        def work() -> None:
            for first, last in parts:
                _search_range(
                    *(self.packed, self.latent, self.bins, first, last),
                    *(states, values, priors, legal, table, sizes, arrays),
                )

        others = [_pool().submit(work) for _ in range(1, workers)]
        work()
        for other in others:
            if not other.cancel():  # one that found no free core in time is not waited for
                other.result()
        self._check_finite(out["root_values"])
        out["plans"] = out["plans"][:, : int((out["plans"] >= 0).sum(axis=1).max())]
        return out

    @staticmethod
    def _check_finite(*arrays: NDArray[Any]) -> None:
        if not all(np.isfinite(array).all() for array in arrays):
            raise BookError("the model's rewards, values or policy logits overflow 32-bit floats")

    def _rows(self, states: ArrayLike) -> Float32:
        """Return states (B, L) in float32 with zeros after them."""
        rows = np.asarray(states, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.latent:
            raise BookError(f"states of this network have shape (batch, {self.latent}), got {rows.shape}")
        filled = np.zeros((len(rows), self.packed.W_dynamics.shape[1]), dtype=np.float32)
        filled[:, : self.latent] = rows
        return filled


_last: list[tuple[Weights, NDArray[Any], CompiledNetwork]] = []


def network_of(weights: Weights) -> CompiledNetwork:
    """Return the `CompiledNetwork` of weights, the one of the last call if it was for these and no number has changed."""
    try:
        numbers = np.concatenate([array.ravel() for array in weights])
    except (AttributeError, ValueError):
        raise BookError("weights must be arrays of numbers") from None
    if _last and _last[0][0] is weights and np.array_equal(_last[0][1], numbers):
        return _last[0][2]
    network = CompiledNetwork(weights)
    _last[:] = [(weights, numbers, network)]
    return network


@cache
def shares(roots: int, workers: int) -> list[int]:
    """Return where parts of a batch begin and end: large ones first, so that no thread waits long for the last one."""
    ends = [0]
    while ends[-1] < roots:
        left = roots - ends[-1]
        ends.append(ends[-1] + (left if workers == 1 else -(-left // (2 * workers))))
    return ends


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads that share out a batch; they wait without using the processor."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="search")
