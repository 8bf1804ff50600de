"""Iterated one-step models against direct n-step models, both counted from the same stream of data.

A hidden Markov chain moves from s to s' with probability P[s, s'] and shows o = observe(s). A learner sees
one stream o_0 … o_N of it and must say where the observation will be n steps after o. It can

- **iterate**: count the N transitions (o_t, o_{t+1}) into a matrix M̂_1 and use its power M̂_1ⁿ, or
- **go directly**: count the N-n+1 pairs (o_t, o_{t+n}) into a matrix M̂_n. The pairs overlap: all of them
  are used, as throwing overlapping ones away would only lose data.

The truth is the law of o_{t+n} given o_t, the best answer from one observation,

    M_n[o, o'] = Pr(o_{t+n} = o' | o_t = o),   started from the stationary distribution μ of P.

With endless data the direct model becomes M_n, the iterated one M_1ⁿ. If the observation is itself Markov
(the model is **well specified**) both are equal, and iterating is the better use of the data. If different
states look alike (**aliasing**) they differ, and the distance ``bias`` stays for ever.

**Error**: total variation TV = L1/2 between the rows of model and truth, averaged over o with its stationary
probability. A row without data is taken to be uniform: a model must believe something there.

**The rule, fixed before looking** (``verdict``). Let r be the mean error of the direct model divided by that
of the iterated one, with a 95% interval bootstrapped over seeds, in both settings below. "A direct
long-range prediction beats the iterated one" *holds when the model is misspecified* if the interval lies
below 1 in the aliased walk and above 1 in the well-specified ring; it *holds* if it lies below 1 in both; it
*does not hold* if it lies above 1 in the aliased walk; otherwise the question is *open*. Settings: the ring
of 11 positions with 2,000 transitions and n = 10; the walk on 10 positions with flip probability .05, 20,000
transitions and n = 5; 40 seeds (``headline``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from one_step_trap.core.compiling import njit
from one_step_trap.core.stats import (
    Interval,
    bootstrap_interval,
    percentile_interval,
)
from one_step_trap.core.validate import (
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_probability,
    check_rng,
    check_transition_matrix,
)
from one_step_trap.errors import BookError

Observe = Sequence[Hashable] | Callable[[int], Hashable] | None

SIZES = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
DIAL_SIZES = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
PERSISTENCE = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
MAX_SIZE = 20_000_000  # transitions of one stream: a few hundred MB
MAX_STATES = 5_000  # of a chain with memory: its matrix has the square of them as entries


# --- chains that are only partly seen ---------------------------------------------------------------------


@dataclass(frozen=True)
class HiddenChain:
    """A Markov chain and what is seen of it.

    ``P`` (S, S) transition probabilities; ``observe`` (S,) the number 0 … O-1 of the observation of each
    state. Build it with :func:`hidden_chain`, which checks both.
    """

    P: FloatArray
    observe: IntArray

    @property
    def n_observations(self) -> int:
        """How many different observations there are."""
        return int(self.observe.max()) + 1


def hidden_chain(P: Any, observe: Observe = None) -> HiddenChain:
    """Return the checked chain.

    ``observe``: a label for each state (equal labels look alike), a function from state number to label, or
    nothing, where every state is seen. Labels are numbered in sorted order where they can be sorted, and
    otherwise as they first appear. A chance observation is a state too: let the states be the pairs (s, o).
    ``P`` must have a single recurrent class, as a stream that cannot reach part of the chain says nothing of
    it.
    """
    P = check_transition_matrix(P)
    if P.ndim != 2 or P.shape[0] != P.shape[1]:
        raise BookError(f"P must be one square matrix, got shape {P.shape}")
    if len(_recurrent_classes(P)) > 1:
        raise BookError(
            "P has several recurrent classes: one stream stays in one of them; pass one class at a time"
        )
    return HiddenChain(P, _number_labels(_labels(observe, len(P))))


def _checked(chain: HiddenChain) -> HiddenChain:
    """Return ``chain`` if it is one."""
    if not isinstance(chain, HiddenChain):
        raise BookError(f"pass a HiddenChain (see hidden_chain), got {type(chain).__name__}")
    return chain


def _labels(observe: Observe, states: int) -> list[Hashable]:
    """Return one label a state."""
    if observe is None:
        return list(range(states))
    if callable(observe):
        labels = [observe(s) for s in range(states)]
    else:
        try:
            labels = list(observe)
        except TypeError:
            raise BookError(
                f"observe must be labels (one a state) or a function of the state, got {observe!r}"
            ) from None
    if len(labels) != states:
        raise BookError(f"observe must give a label to each of the {states} states, got {len(labels)}")
    for label in labels:
        try:
            hash(label)
        except TypeError:
            raise BookError(
                f"every label of observe must be hashable (a number, a string, a tuple), got {label!r}"
            ) from None
        if label != label:  # only NaN is unlike itself
            raise BookError("a label of observe is NaN")
    return labels


def _number_labels(labels: list[Hashable]) -> IntArray:
    """Return the labels as numbers 0 … O-1."""
    distinct = list(dict.fromkeys(labels))
    with suppress(TypeError):  # labels of different kinds keep the order in which they appear
        distinct = sorted(distinct)  # type: ignore[type-var]
    number = {label: i for i, label in enumerate(distinct)}
    return np.array([number[label] for label in labels], dtype=np.int64)


def _recurrent_classes(P: FloatArray) -> list[IntArray]:
    """Return the closed communicating classes of P, as arrays of states."""
    count, which = connected_components(P > 0, directed=True, connection="strong")
    members = [np.flatnonzero(which == i) for i in range(count)]
    return [inside for inside in members if not (P[inside][:, np.setdiff1d(range(len(P)), inside)] > 0).any()]


def ring(positions: int = 11, *, forward: float = 0.7, back: float = 0.1) -> HiddenChain:
    """Return a walk on a ring that is fully seen: a step on, a step back, or none. Well specified."""
    positions = check_count(positions, "positions", minimum=3)
    forward, back = check_probability(forward, "forward"), check_probability(back, "back")
    if forward + back > 1:
        raise BookError(f"forward + back must be at most 1, got {forward + back:g}")
    here = np.arange(positions)
    P = np.diag(np.full(positions, 1 - forward - back))
    P[here, (here + 1) % positions] += forward
    P[here, (here - 1) % positions] += back
    return hidden_chain(P)


def persistent_walk(positions: int = 10, *, flip: float = 0.05) -> HiddenChain:
    """Return a walk on a ring that keeps its direction, of which only the position is seen.

    Each step the walker turns round with probability ``flip`` and then moves one position; state 2x + d is
    position x with direction d. Its **persistence** is ρ = 1 - 2 flip, the correlation of successive moves:
    at ρ = 0 every move is a fresh coin and the position is Markov (well specified), and as ρ nears 1 the
    position says less and less of where the walker goes. (On 10 positions the two directions meet again
    after 5 steps, which makes that horizon easy for a direct model; on 12 they do not, and its error doubles.)
    """
    positions, flip = check_count(positions, "positions", minimum=3), check_probability(flip, "flip")
    P = np.zeros((positions, 2, positions, 2))
    here = np.arange(positions)
    for d in (0, 1):
        for d_next in (0, 1):
            P[here, d, (here + 2 * d_next - 1) % positions, d_next] = 1 - flip if d == d_next else flip
    return hidden_chain(P.reshape(2 * positions, 2 * positions), np.repeat(here, 2).tolist())


def with_memory(chain: HiddenChain) -> HiddenChain:
    """Return the same chain seen through its last two observations (o_{t-1}, o_t).

    States are the transitions (s, s') that can happen. Memory removes aliasing where the last observation
    told the hidden part: two positions of a walker give away its direction.
    """
    P = _checked(chain).P
    before, after = np.nonzero(P > 0)  # (E,) each: the states of the new chain
    if len(before) > MAX_STATES:
        raise BookError(
            f"the chain has {len(before):,} possible transitions; at most {MAX_STATES:,} are allowed"
        )
    Q = np.where(after[:, None] == before[None, :], P[before, after][None, :], 0.0)  # (E, E)
    pairs = list(zip(chain.observe[before].tolist(), chain.observe[after].tolist(), strict=True))
    return hidden_chain(Q, pairs)


# --- endless data -----------------------------------------------------------------------------------------


def stationary(P: FloatArray) -> FloatArray:
    """Return the stationary distribution μ = μP, shape (S,), of a chain with one recurrent class."""
    S = len(P)
    A = np.vstack([P.T - np.eye(S), np.ones(S)])  # (S+1, S): μ(P - I) = 0 and Σμ = 1
    mu = np.linalg.lstsq(A, np.eye(S + 1)[S], rcond=None)[0]
    mu = np.where(mu < 1e-12, 0.0, mu)  # states that are left for ever
    return np.asarray(mu / mu.sum())


def occupancy(chain: HiddenChain) -> FloatArray:
    """Return the stationary probability of each observation, shape (O,)."""
    seen = np.eye(_checked(chain).n_observations)[chain.observe]  # (S, O)
    return np.asarray(stationary(chain.P) @ seen)


def n_step_law(chain: HiddenChain, n_step: int) -> FloatArray:
    """Return M_n, shape (O, O): the law of the observation n steps ahead given the one now.

    M_n[o, ·] = Σ_{s: observe(s)=o} μ(s) (Pⁿ C)[s, ·] / Σ_{s: observe(s)=o} μ(s),   C[s, o] = 1{observe(s) = o}.

    An observation that is never seen in the long run has a uniform row (and weight 0 in every error).
    """
    n_step = check_count(n_step, "n_step", minimum=0)
    mu, C = stationary(_checked(chain).P), np.eye(chain.n_observations)[chain.observe]  # (S,), (S, O)
    joint = (C.T * mu) @ np.linalg.matrix_power(chain.P, n_step) @ C  # (O, O)
    return _normalise(joint)


def _normalise(counts: FloatArray) -> FloatArray:
    """Return rows that sum to 1; a row of zeros becomes uniform. Shape (..., O, O)."""
    total = counts.sum(-1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1), 1 / counts.shape[-1])


def total_variation(model: FloatArray, truth: FloatArray, weights: FloatArray) -> FloatArray:
    """Return Σ_o w(o) TV(model[o], truth[o]) with TV = L1/2: shapes (..., O, O), (..., O, O) and (O,)."""
    return np.asarray((np.abs(model - truth).sum(-1) / 2) @ weights)


def bias(chain: HiddenChain, n_step: int) -> float:
    """Return the TV error (L1/2) that the iterated model keeps with endless data: M_1ⁿ against M_n.

    0 where the observation is Markov. In the persistent walk with flip probability q it is close to
    (1-q)^(n-1), the chance that the walker never turns, less the chance 2^(1-n) that coins agree: .75 at
    q = .05 and n = 5.
    """
    M_1, M_n = n_step_law(chain, 1), n_step_law(chain, n_step)
    return float(total_variation(np.linalg.matrix_power(M_1, n_step), M_n, occupancy(chain)))


# --- data and models --------------------------------------------------------------------------------------


def sample_stream(chain: HiddenChain, transitions: int, rng: np.random.Generator) -> IntArray:
    """Return one stream of observations (transitions + 1,), started from the stationary distribution."""
    transitions, rng = check_count(transitions, "transitions"), check_rng(rng)
    if transitions > MAX_SIZE:
        raise BookError(f"a stream has at most {MAX_SIZE:,} transitions, got {transitions:,}")
    start = int(rng.choice(len(_checked(chain).P), p=stationary(chain.P)))
    states = _walk(np.cumsum(chain.P, axis=1), start, rng.random(transitions))
    return np.asarray(chain.observe[states])


@njit()
def _walk(edges, start, uniforms):  # type: ignore[no-untyped-def]
    """Follow the chain: the next state is the first s' with u < edges[s, s']."""
    states = np.empty(len(uniforms) + 1, dtype=np.int64)
    states[0] = start
    last = edges.shape[1] - 1
    for t in range(len(uniforms)):
        low, high = 0, last  # bisection; the last state guards a row that sums to 1 - 1e-16
        while low < high:
            middle = (low + high) // 2
            if uniforms[t] < edges[states[t], middle]:
                high = middle
            else:
                low = middle + 1
        states[t + 1] = low
    return states


def _counts_by_size(stream: IntArray, n_observations: int, n_step: int, sizes: Sequence[int]) -> FloatArray:
    """Return the pair counts (B, O, O) of the first N transitions of a stream, for each N of ``sizes``."""
    O = n_observations  # noqa: E741 - the symbol of the shapes
    pairs = stream[:-n_step] * O + stream[n_step:]  # pair t needs the transitions t … t+n-1
    ends = [size - n_step + 1 for size in sizes]
    blocks = [np.bincount(block, minlength=O * O) for block in np.split(pairs, ends)[:-1]]
    return np.cumsum(blocks, axis=0).reshape(len(sizes), O, O).astype(np.float64)


# --- the comparison ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Errors of the iterated and the direct model, learned from the same streams.

    ``iterated`` and ``direct`` (seeds, sizes, horizons): one learner a seed, and a larger data set contains
    the smaller ones of its seed. ``bias`` (horizons,): the iterated model's error with endless data. From
    :func:`compare` errors are TV = L1/2 averaged over observations; from ``linear.compare_linear`` they are
    excess mean squared errors.
    """

    sizes: tuple[int, ...]
    n_steps: tuple[int, ...]
    iterated: FloatArray
    direct: FloatArray
    bias: FloatArray

    def _cell(self, size: int, n_step: int) -> tuple[FloatArray, FloatArray]:
        if size not in self.sizes or n_step not in self.n_steps:
            raise BookError(f"size must be one of {self.sizes} and n_step one of {self.n_steps}")
        where = (slice(None), self.sizes.index(size), self.n_steps.index(n_step))
        return self.iterated[where], self.direct[where]

    def errors(self, size: int, n_step: int, rng: np.random.Generator) -> tuple[Interval, Interval]:
        """Return the mean error of the iterated and of the direct model, with 95% intervals over seeds."""
        iterated, direct = self._cell(size, n_step)
        return bootstrap_interval(iterated, rng), bootstrap_interval(direct, rng)

    def ratio(self, size: int, n_step: int, rng: np.random.Generator) -> Interval:
        """Return mean direct error / mean iterated error: below 1 the direct model wins."""
        iterated, direct = self._cell(size, n_step)
        return ratio_interval(direct, iterated, rng)

    def table(self, rng: np.random.Generator) -> pd.DataFrame:
        """Return one row a size, horizon and model: ``size``, ``n_step``, ``model``, ``error``, ``low``,
        ``high``, ``bias``, ``seeds``.
        """
        rows = []
        for n_step, limit in zip(self.n_steps, self.bias, strict=True):
            for size in self.sizes:
                for name, values in zip(("iterated", "direct"), self._cell(size, n_step), strict=True):
                    e = bootstrap_interval(values, rng, resamples=2_000)
                    limit_here = float(limit) if name == "iterated" else 0.0
                    rows.append((size, n_step, name, e.value, e.low, e.high, limit_here, e.n))
        columns = ["size", "n_step", "model", "error", "low", "high", "bias", "seeds"]
        return pd.DataFrame(rows, columns=columns)


def ratio_interval(
    top: FloatArray, bottom: FloatArray, rng: np.random.Generator, *, resamples: int = 4_000
) -> Interval:
    """Return mean(top)/mean(bottom) with a 95% percentile interval, resampling seeds (pairs) together."""
    top, bottom = check_finite(top, "top"), check_finite(bottom, "bottom")
    if top.shape != bottom.shape or top.ndim != 1 or len(top) < 2:
        raise BookError("a ratio needs two vectors of the same length, at least 2")
    if (bottom <= 0).any():
        raise BookError("the errors below the line must be above 0")
    resamples = check_count(resamples, "resamples")
    pick = check_rng(rng).integers(len(top), size=(resamples, len(top)))
    ratios = np.r_[top.mean() / bottom.mean(), top[pick].mean(1) / bottom[pick].mean(1)]
    return percentile_interval(ratios, len(top))


def compare(
    P: Any,
    observe: Observe = None,
    *,
    n_step: int | Sequence[int] = 5,
    sizes: Sequence[int] = SIZES,
    seeds: int = 20,
    seed: int = 0,
) -> Comparison:
    """Return the errors of both models, learned from the same streams of any hidden chain.

    ``P`` (S, S) with ``observe`` as in :func:`hidden_chain`, or a :class:`HiddenChain`; ``n_step`` one or
    several horizons; ``sizes`` increasing numbers of transitions, at least the largest horizon; ``seeds``
    independent streams, the i-th from the i-th child of ``seed``.
    """
    chain = P if isinstance(P, HiddenChain) else hidden_chain(P, observe)
    if isinstance(P, HiddenChain) and observe is not None:
        raise BookError("a HiddenChain already has its observation: leave observe out")
    horizons = whole_numbers(n_step, "n_step")
    amounts = whole_numbers(sizes, "sizes")
    if list(amounts) != sorted(set(amounts)) or amounts[0] < max(horizons):
        raise BookError(
            f"sizes must increase and hold at least one pair {max(horizons)} steps apart, got {amounts}"
        )
    seeds, seed = check_count(seeds, "seeds"), check_count(seed, "seed", minimum=0)
    truth = [n_step_law(chain, n) for n in horizons]
    weights = occupancy(chain)
    iterated, direct = np.empty((2, seeds, len(amounts), len(horizons)))
    for i, child in enumerate(np.random.SeedSequence(seed).spawn(seeds)):
        stream = sample_stream(chain, amounts[-1], np.random.default_rng(child))
        M_1 = _normalise(_counts_by_size(stream, len(weights), 1, amounts))  # (B, O, O)
        for j, n in enumerate(horizons):
            M_n = _normalise(_counts_by_size(stream, len(weights), n, amounts))  # (B, O, O)
            iterated[i, :, j] = total_variation(np.linalg.matrix_power(M_1, n), truth[j], weights)
            direct[i, :, j] = total_variation(M_n, truth[j], weights)
    limits = np.array([bias(chain, n) for n in horizons])
    return Comparison(amounts, horizons, iterated, direct, limits)


def whole_numbers(values: Any, name: str) -> tuple[int, ...]:
    """Return one or several whole numbers of at least 1 as a tuple."""
    array = np.atleast_1d(check_finite(values, name))
    if array.ndim != 1 or not len(array):
        raise BookError(f"{name} must be a whole number or a list of them, got {values!r}")
    return tuple(check_count(float(value), name) for value in array)


# --- from well specified to aliased -----------------------------------------------------------------------


@dataclass(frozen=True)
class Dial:
    """Comparisons of the persistent walk, from well specified to aliased.

    ``persistence`` (D,) increasing, ρ = 1 - 2 flip in [0, 1); ``comparisons`` one for each.
    """

    n_step: int
    persistence: FloatArray
    comparisons: tuple[Comparison, ...]

    def ratios(self, size: int, rng: np.random.Generator) -> list[Interval]:
        """Return direct / iterated error at one data size, for every persistence."""
        return [comparison.ratio(size, self.n_step, rng) for comparison in self.comparisons]


def dial(
    persistence: Sequence[float] = PERSISTENCE,
    *,
    positions: int = 10,
    n_step: int = 5,
    sizes: Sequence[int] = DIAL_SIZES,
    seeds: int = 20,
    seed: int = 0,
) -> Dial:
    """Return both models' errors as the persistent walk goes from well specified (ρ = 0) to aliased.

    Each persistence has its own streams. Ranges: ρ in [0, 1), increasing.
    """
    grid = np.atleast_1d(check_finite(persistence, "persistence"))
    if grid.ndim != 1 or not len(grid) or (np.diff(grid) <= 0).any() or grid[0] < 0 or grid[-1] >= 1:
        raise BookError("persistence must be increasing numbers in [0, 1)")
    n_step = check_count(n_step, "n_step")
    children = np.random.SeedSequence(check_count(seed, "seed", minimum=0)).generate_state(len(grid))
    comparisons = [
        compare(
            persistent_walk(positions, flip=(1 - rho) / 2),
            n_step=n_step,
            sizes=sizes,
            seeds=seeds,
            seed=int(child),
        )
        for rho, child in zip(grid, children, strict=True)
    ]
    return Dial(n_step, grid, tuple(comparisons))


@dataclass(frozen=True)
class Headline:
    """Both stated settings: the comparisons, direct / iterated error with intervals, and the verdict."""

    well_specified: Comparison
    aliased: Comparison
    ratio_well_specified: Interval
    ratio_aliased: Interval
    verdict: str


def headline(
    *,
    sizes: Sequence[int] = SIZES,
    n_steps: Sequence[int] = (1, 2, 5, 10, 20),
    seeds: int = 40,
    seed: int = 0,
) -> Headline:
    """Return the two comparisons that the rule of this module judges, with learning curves around them.

    ``sizes`` must hold 2,000 and 20,000, ``n_steps`` 5 and 10: the settings of the rule.
    """
    streams = np.random.SeedSequence(check_count(seed, "seed", minimum=0)).generate_state(3).tolist()
    well = compare(ring(), n_step=n_steps, sizes=sizes, seeds=seeds, seed=streams[0])
    aliased = compare(persistent_walk(), n_step=n_steps, sizes=sizes, seeds=seeds, seed=streams[1])
    rng = np.random.default_rng(streams[2])
    ratios = well.ratio(2_000, 10, rng), aliased.ratio(20_000, 5, rng)
    return Headline(well, aliased, *ratios, verdict(ratios[1], ratios[0]))


def verdict(aliased: Interval, well_specified: Interval) -> str:
    """Return the verdict on "a direct prediction beats the iterated one" by the rule of this module."""
    if not (isinstance(aliased, Interval) and isinstance(well_specified, Interval)):
        raise BookError(
            "a verdict needs two intervals: of the ratio in the aliased and in the well-specified case"
        )
    if aliased.high < 1 < well_specified.low:
        return "holds when"
    if aliased.high < 1 and well_specified.high < 1:
        return "holds"
    return "does not hold" if aliased.low > 1 else "open"
