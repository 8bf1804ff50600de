"""MuZero's tree search: which action to take, found by looking ahead with a model and nothing else.

Each simulation walks down the tree, adds one node and tells the nodes above it (Schrittwieser et al. 2020,
arXiv 1911.08265, appendix B):

1. **Select.** From the root, follow the action with the largest score

       score(s, a) = Q̄(s, a) + P(s, a) · √N(s) / (1 + N(s, a)) · (c₁ + ln((N(s) + c₂ + 1) / c₂)),

   until it leads to no node yet. P is the prior of the policy head, N counts visits, c₁ = 1.25, c₂ = 19652.
2. **Expand.** One call of the dynamics gives the reward and the state of the new node, one call of the prediction its
   prior and its value v.
3. **Back up.** Each node on the way takes up the return ``G = r₁ + γ r₂ + … + γˡ v`` from it on. V(s) is the mean of its
   returns, and ``Q(s, a) = r + γ V(s')``.

Decisions that papers and programs make differently, as made here (tests hold them fixed):

- ``Q̄ = (Q - min) / max(max - min, smallest_range)`` with the smallest and the largest Q seen so far *anywhere in the
  tree*, reward included, as in the paper. (mctx normalises among siblings and their parent; some programs normalise V and
  add r.) Q̄ = 0 where an action was never tried, and while all Q are equal.
- N(s) counts the evaluation of s itself, at the root as well, so that the first simulation follows the prior. (The paper's
  pseudocode leaves the root's own evaluation out: its first simulation is a tie.) V of the root averages it in.
- Of equal scores the lowest action wins: without noise a search is a function of its arguments.
- At ``max_depth`` a path ends: a node there is evaluated again instead of growing children.

`search` runs this on any `Model`. The code below is the reference; networks are searched by the same algorithm compiled
(:mod:`one_step_trap.muzero.compiled`), with the same visits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    check_numbers,
    check_positive,
    check_probability,
    check_real,
    check_rng,
    in_a_line,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.muzero import compiled
from one_step_trap.muzero.networks import NetworkModel, Weights

Backend = Literal["auto", "reference", "compiled"]
CLOSEST = 1e-8
"""The default of ``SearchSettings.smallest_range``: only differences in the last digits are not blown up, as in the paper."""


class Model(Protocol):
    """The three functions that a search needs, batched. B states are rows of numbers, actions are 0 … A-1.

    They are given copies, and what they return is copied (`guarded`): a model may work in place and use its arrays again.
    """

    def represent(self, observations: Any, /) -> NDArray[Any]:
        """Return states (B, L) of observations (B, O)."""

    def predict(self, states: Any, /) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return policy logits (B, A) and values (B,) of states (B, L)."""

    def dynamics(self, states: Any, actions: Any, /) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return rewards (B,) and next states (B, L) after actions (B,) in states (B, L)."""


@dataclass(frozen=True)
class SearchSettings:
    """What a search is told: ``simulations`` (≥ 1) a root and the discount ``gamma`` in (0, 1].

    ``c1`` > 0 and ``c2`` > 0 weigh the prior. At the root the prior becomes ``(1 - f) P + f η`` with η drawn from a
    Dirichlet distribution (``dirichlet_alpha`` > 0) and f = ``dirichlet_fraction``, if the search is given an ``rng``.
    No node lies deeper than ``max_depth`` (≥ 1; None: no limit). ``smallest_range`` > 0: values of Q that lie closer together
    than this, in return, are not blown up to the whole of [0, 1]. Defaults: Atari in the paper's pseudocode.
    """

    simulations: int = 50
    gamma: float = 0.997
    c1: float = 1.25
    c2: float = 19652.0
    dirichlet_alpha: float = 0.25
    dirichlet_fraction: float = 0.25
    max_depth: int | None = None
    smallest_range: float = CLOSEST

    def __post_init__(self) -> None:
        depth = None if self.max_depth is None else check_count(self.max_depth, "max_depth")
        checked: dict[str, Any] = {
            "simulations": check_count(self.simulations, "simulations"),
            "max_depth": depth,
        }
        for name in ("c1", "c2", "dirichlet_alpha", "smallest_range"):
            checked[name] = check_positive(getattr(self, name), name)
        checked["dirichlet_fraction"] = check_probability(self.dirichlet_fraction, "dirichlet_fraction")
        checked["gamma"] = check_real(self.gamma, "gamma")
        if not 0 < checked["gamma"] <= 1:
            raise BookError(f"gamma must lie in (0, 1] for a search, got {checked['gamma']:g}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def deepest(self) -> int:
        """The depth that no path exceeds: a simulation adds one node, so that there is always a limit."""
        return min(self.simulations, self.max_depth or self.simulations)

    def exploration(self, visits: int) -> float:
        """Return ``√N (c₁ + ln((N + c₂ + 1) / c₂))``, the part of the score that all actions of a node share."""
        return math.sqrt(visits) * (self.c1 + math.log((visits + self.c2 + 1) / self.c2))


USUAL = SearchSettings()
"""Those of the paper's pseudocode for Atari."""


# --- the tree ---------------------------------------------------------------------------------------------


@dataclass
class Node:
    """A state in the tree: what the model says about it, and the returns that were backed up through it."""

    index: int  # in order of creation, the root is 0
    state: NDArray[Any]  # (L,)
    reward: float  # of the step that leads here
    value: float  # v of the prediction
    prior: FloatArray  # (A,)
    visits: int = 0
    total: float = 0.0  # sum of returns
    children: dict[int, Node] = field(default_factory=dict)

    def q(self, gamma: float) -> float:
        """Return ``Q = r + γ V`` of the step that leads here."""
        return self.reward + gamma * (self.total / self.visits)


@dataclass
class Tree:
    """A root, its legal actions (A,), and the smallest and largest Q seen anywhere below it."""

    root: Node
    legal: BoolArray
    size: int = 1
    depths: list[int] = field(default_factory=list)  # of the simulations' leaves
    low: float = math.inf
    high: float = -math.inf
    smallest_range: float = CLOSEST

    def normalise(self, q: float) -> float:
        """Return Q̄ in [0, 1]."""
        return (q - self.low) / max(self.high - self.low, self.smallest_range)


def scores(tree: Tree, node: Node, settings: SearchSettings) -> tuple[FloatArray, FloatArray]:
    """Return both parts of the score of every action (A,): the normalised values Q̄, and what the prior adds.

    An illegal action has minus infinity in the second part.
    """
    values, bonuses = np.zeros(len(node.prior)), np.empty(len(node.prior))
    exploration = settings.exploration(node.visits)
    for a, prior in enumerate(node.prior):
        child = node.children.get(a)
        if child:
            values[a] = tree.normalise(child.q(settings.gamma))
        bonuses[a] = prior * exploration / (1 + (child.visits if child else 0))
    if node is tree.root:
        bonuses[~tree.legal] = -np.inf
    return values, bonuses


def select(tree: Tree, settings: SearchSettings) -> list[tuple[Node, int]]:
    """Return the path of a simulation: nodes and the actions taken there; the last action leads to its leaf."""
    path: list[tuple[Node, int]] = []
    node: Node | None = tree.root
    while node and len(path) < settings.deepest:
        values, bonuses = scores(tree, node, settings)
        action = int(np.argmax(values + bonuses))  # the first of equals
        path.append((node, action))
        node = node.children.get(action)
    return path


def back_up(tree: Tree, path: list[tuple[Node, int]], gamma: float) -> list[float]:
    """Add the leaf's value to all nodes of the path; return the returns G from the leaf up to the root."""
    parent, action = path[-1]
    leaf = parent.children[action]
    G = leaf.value
    leaf.visits, leaf.total = leaf.visits + 1, leaf.total + G
    tree.depths.append(len(path))
    returns = [G]
    for node, action in reversed(path):
        child = node.children[action]
        q = child.q(gamma)
        tree.low, tree.high = min(tree.low, q), max(tree.high, q)
        G = child.reward + gamma * G
        node.visits, node.total = node.visits + 1, node.total + G
        returns.append(G)
    return returns


# --- the search -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One choice of a recorded simulation: at ``node``, by ``values`` + ``bonuses`` (A,), the ``action``."""

    node: int
    action: int
    values: FloatArray
    bonuses: FloatArray


@dataclass(frozen=True)
class Simulation:
    """One recorded simulation: its steps, its leaf (``grown``: a new node), the returns G from the leaf to the root.

    ``low`` and ``high``: the smallest and largest Q afterwards.
    """

    steps: tuple[Step, ...]
    leaf: int
    grown: bool
    reward: float
    value: float
    prior: FloatArray
    returns: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Recording:
    """A search to be replayed: the root's value, prior (with noise) and legal actions, and its simulations."""

    value: float
    prior: FloatArray
    legal: BoolArray
    gamma: float
    simulations: tuple[Simulation, ...]


@dataclass(frozen=True)
class SearchResult:
    """What searches from B roots with A actions found.

    ``visits`` (B, A) of the root's actions; ``q`` (B, A), their Q, not a number where an action was never tried;
    ``root_values`` (B,), the mean return; ``priors`` (B, A) that the search used at the root, noise included;
    ``mean_depth`` and ``max_depth`` (B,) of the leaves, the root having depth 0; ``plans`` (B, longest), the most
    visited action from node to node, -1 after its end; ``recordings`` (B), if asked for; the ``backend`` used.
    """

    visits: IntArray
    q: FloatArray
    root_values: FloatArray
    priors: FloatArray
    mean_depth: FloatArray
    max_depth: IntArray
    plans: IntArray
    backend: Backend
    recordings: tuple[Recording, ...] = ()

    @property
    def policy(self) -> FloatArray:
        """Shares of the visits, (B, A): the target of the policy head."""
        return np.asarray(self.visits / self.visits.sum(axis=1, keepdims=True))

    @property
    def actions(self) -> IntArray:
        """The most visited action of each root (B,), the lowest of equals."""
        return np.asarray(self.visits.argmax(axis=1))


def search(
    model: Model,
    roots: ArrayLike,
    settings: SearchSettings | None = None,
    rng: np.random.Generator | None = None,
    *,
    backend: Backend = "auto",
    legal: ArrayLike | None = None,
    record: bool = False,
    threads: int | None = None,
) -> SearchResult:
    """Search from each of the states ``roots`` (B, L), which ``model.represent`` makes of observations.

    With an ``rng`` the root's prior gets Dirichlet noise (self-play), without one nothing is random. ``legal`` (B, A),
    or (A,) for all roots: which actions may be taken at the root, at least one each. ``backend``: "compiled" needs a
    model with ``weights`` (a `networks.NetworkModel`) and runs on ``threads`` cores, by default on all; "auto" takes it
    where it can, otherwise the "reference", which alone can ``record`` its simulations.
    """
    settings = USUAL if settings is None else settings
    if not isinstance(settings, SearchSettings):
        raise BookError(f"settings must be SearchSettings, got {short_repr(settings)}")
    use, weights = _backend(backend, model, record)
    if threads is not None:
        check_count(threads, "threads")
    states = check_finite(roots, "roots")
    if states.ndim != 2 or not states.size:
        raise BookError(
            f"roots must be states of shape (batch, latent), at least one, got shape {states.shape}"
        )
    network = None
    if weights is not None and use == "compiled":
        network = compiled.network_of(weights)
    else:  # of weights: sums of float32 numbers in the same order as there
        model = Guarded(model if weights is None else compiled.SequentialModel(weights))
    logits, values = (network or model).predict(states)
    allowed = _legal(legal, logits.shape)
    priors = _softmax(logits, allowed)
    if rng is not None:
        check_rng(rng)
        eta, f = dirichlet_noise(allowed, settings.dirichlet_alpha, rng), settings.dirichlet_fraction
        priors = (1 - f) * priors + f * eta
    if network:
        found = network.search(
            *(states, values, priors, allowed),
            table=_explorations(settings),
            sizes=(settings.gamma, settings.simulations, settings.deepest, settings.smallest_range),
            threads=threads,
        )
        return SearchResult(**found, priors=priors, backend="compiled")
    trees = [
        Tree(Node(0, state, 0.0, float(v), prior, 1, float(v)), mask, smallest_range=settings.smallest_range)
        for state, v, prior, mask in zip(states, values, priors, allowed, strict=True)
    ]
    recordings = _simulate(model, trees, settings, record)
    return SearchResult(**_found(trees, settings), priors=priors, recordings=recordings, backend="reference")


def _simulate(
    model: Model, trees: list[Tree], settings: SearchSettings, record: bool
) -> tuple[Recording, ...]:
    """Grow all trees in lock-step, so that the model is called once a simulation for the whole batch."""
    recorded: list[list[Simulation]] = [[] for _ in trees]
    for _ in range(settings.simulations):
        paths = [select(tree, settings) for tree in trees]
        parents, actions = zip(*(path[-1] for path in paths), strict=True)
        rewards, states = model.dynamics(np.stack([parent.state for parent in parents]), np.array(actions))
        logits, values = model.predict(states)
        priors = _softmax(logits, np.ones(logits.shape, dtype=bool))
        for i, (tree, path) in enumerate(zip(trees, paths, strict=True)):
            steps = [Step(node.index, a, *scores(tree, node, settings)) for node, a in path] if record else []
            grown = actions[i] not in parents[i].children  # else a node at the largest depth, evaluated again
            if grown:
                leaf = Node(tree.size, states[i], float(rewards[i]), float(values[i]), priors[i])
                parents[i].children[actions[i]] = leaf
                tree.size += 1
            returns = back_up(tree, path, settings.gamma)
            if record:
                leaf = parents[i].children[actions[i]]
                said = (leaf.index, grown, leaf.reward, leaf.value, leaf.prior)
                recorded[i].append(Simulation(tuple(steps), *said, tuple(returns), tree.low, tree.high))
    if not record:
        return ()
    return tuple(
        Recording(tree.root.value, tree.root.prior, tree.legal, settings.gamma, tuple(simulations))
        for tree, simulations in zip(trees, recorded, strict=True)
    )


def _found(trees: list[Tree], settings: SearchSettings) -> dict[str, Any]:
    """Return fields of a `SearchResult`."""
    B, A = len(trees), len(trees[0].root.prior)
    visits, q = np.zeros((B, A), dtype=np.int64), np.full((B, A), np.nan)
    for i, tree in enumerate(trees):
        for a, child in tree.root.children.items():
            visits[i, a], q[i, a] = child.visits, child.q(settings.gamma)
    values = np.array([tree.root.total / tree.root.visits for tree in trees])
    depths = np.array([tree.depths for tree in trees])  # (B, simulations)
    plans = [most_visited(tree.root) for tree in trees]
    padded = np.full((B, max(map(len, plans))), -1, dtype=np.int64)
    for row, plan in zip(padded, plans, strict=True):
        row[: len(plan)] = plan
    return {
        **{"visits": visits, "q": q, "root_values": values, "plans": padded},
        **{"mean_depth": depths.mean(axis=1), "max_depth": depths.max(axis=1)},
    }


def most_visited(node: Node) -> list[int]:
    """Return the actions that lead from ``node`` by the most visited child each time, the lowest action of equals."""
    plan: list[int] = []
    while node.children:
        action = min(node.children, key=lambda a: (-node.children[a].visits, a))
        plan.append(action)
        node = node.children[action]
    return plan


# --- around the search ------------------------------------------------------------------------------------


def dirichlet_noise(legal: BoolArray, alpha: float, rng: np.random.Generator) -> FloatArray:
    """Return Dirichlet(alpha, …, alpha) noise (B, A) over the legal actions of each root, 0 for the others."""
    if legal.all():
        return rng.dirichlet(np.full(legal.shape[1], alpha), size=len(legal))
    noise = np.zeros(legal.shape)
    for row, allowed in zip(noise, legal, strict=True):
        row[allowed] = rng.dirichlet(np.full(allowed.sum(), alpha))
    return noise


def visit_policy(visits: ArrayLike, temperature: float = 1.0) -> FloatArray:
    """Return ``π(a) = N(a)^(1/T) / Σ_b N(b)^(1/T)`` of visits (B, A), counts with at least one above 0 a row.

    T = ``temperature`` ≥ 0; at 0 all mass is on the most visited action, the lowest of equals.
    """
    N, T = check_finite(visits, "visits"), check_real(temperature, "temperature")
    if N.ndim != 2 or not N.size or (N < 0).any() or not N.any(axis=1).all():
        raise BookError(
            "visits must be counts of shape (batch, actions), none below 0 and one above 0 in each row"
        )
    if T < 0:
        raise BookError(f"temperature must be at least 0, got {T:g}")
    if T == 0:
        return np.asarray(np.eye(N.shape[1])[N.argmax(axis=1)])
    shares = N / N.max(axis=1, keepdims=True)  # so that no power overflows
    weights = np.where(shares > 0, np.exp(np.log(np.maximum(shares, 1e-300)) / T), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def choose_actions(visits: ArrayLike, temperature: float, rng: np.random.Generator) -> IntArray:
    """Return one action (B,) per root, drawn from `visit_policy`."""
    edges = np.cumsum(visit_policy(visits, temperature), axis=1)
    draws = check_rng(rng).random(len(edges))[:, None] * edges[:, -1:]
    return np.asarray((edges <= draws).sum(axis=1))


def _backend(backend: Any, model: Any, record: bool) -> tuple[Backend, Weights | None]:
    """Return the backend to use and the model's weights, if it has any."""
    if backend not in get_args(Backend):
        raise BookError(f"backend must be one of {', '.join(get_args(Backend))}, got {short_repr(backend)}")
    weights = _weights(model)
    if backend == "compiled" and weights is None:
        raise BookError(
            "backend compiled needs a model with weights, such as networks.NetworkModel; use reference"
        )
    if backend == "compiled" and record:
        raise BookError("only the reference records its simulations: use backend reference, or auto")
    use: Backend = (
        "compiled" if weights is not None and backend != "reference" and not record else "reference"
    )
    return use, weights


class Guarded:
    """Somebody's model as this library calls it: what goes in and what comes out is copied, and what comes out checked.

    ``finite=False`` lets numbers through that are NaN or infinite.
    """

    def __init__(self, model: Any, *, finite: bool = True) -> None:
        for name in ("predict", "dynamics"):
            if not callable(getattr(model, name, None)):
                raise BookError(
                    f"model must have the functions predict and dynamics; {short_repr(model)} has no {name}"
                )
        self.model, self.check = model, check_finite if finite else check_numbers

    def represent(self, observations: Any) -> FloatArray:
        """Return states (B, L)."""
        states = self._read(self._call("represent", observations), "states")
        if states.ndim != 2 or len(states) != len(observations) or not states.size:
            raise BookError(
                f"model.represent must return states ({len(observations)}, numbers), got shape {states.shape}"
            )
        return states

    def predict(self, states: Any) -> tuple[FloatArray, FloatArray]:
        """Return policy logits (B, A) and values (B,)."""
        logits, values = self._pair("predict", "policy_logits, values", states)
        logits, values = self._read(logits, "policy logits"), self._read(values, "values")
        if (
            logits.ndim != 2
            or len(logits) != len(states)
            or not logits.shape[1]
            or values.shape != (len(states),)
        ):
            raise BookError(
                f"model.predict must return policy logits ({len(states)}, actions) and values ({len(states)},) "
                f"for {len(states)} states, got shapes {logits.shape} and {values.shape}"
            )
        return logits, values

    def dynamics(self, states: Any, actions: Any) -> tuple[FloatArray, FloatArray]:
        """Return rewards (B,) and next states (B, L)."""
        rewards, following = self._pair("dynamics", "rewards, states", states, actions)
        rewards, following = self._read(rewards, "rewards"), self._read(following, "states")
        if rewards.shape != (len(states),) or following.shape != states.shape:
            raise BookError(
                f"model.dynamics must return rewards ({len(states)},) and states {states.shape}, "
                f"got shapes {rewards.shape} and {following.shape}"
            )
        return rewards, following

    def _call(self, name: str, *arrays: Any) -> Any:
        copies = [np.array(array) for array in arrays]
        try:
            return getattr(self.model, name)(*copies)
        except BookError:
            raise
        except Exception as error:
            raise BookError(f"model.{name} failed ({type(error).__name__}): {in_a_line(error)}") from error

    def _pair(self, name: str, what: str, *arrays: Any) -> tuple[Any, Any]:
        answer = self._call(name, *arrays)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise BookError(f"model.{name} must return ({what}), got {short_repr(answer)}")
        return answer[0], answer[1]

    def _read(self, array: Any, what: str) -> FloatArray:
        return self.check(array, f"{what} of the model").copy()


def guarded(model: Any, *, finite: bool = True) -> Model:
    """Return a model whose arrays and ours stay apart: a `NetworkModel` as it is, any other `Guarded`."""
    known = isinstance(model, Guarded) or _weights(model) is not None
    return model if known else Guarded(model, finite=finite)


def _weights(model: Any) -> Weights | None:
    """Return the weights that stand for a model; None if its functions may be others (of a class of one's own, say)."""
    known = type(model) in (NetworkModel, compiled.SequentialModel)
    if not known or not vars(model).keys().isdisjoint(("predict", "dynamics")):
        return None
    weights = model.weights
    return weights if isinstance(weights, Weights) else None


@lru_cache(maxsize=64)
def _explorations(settings: SearchSettings) -> FloatArray:
    """Return the factor of exploration for 0, 1, … visits, as far as a search needs it."""
    return np.array([settings.exploration(n) for n in range(settings.simulations + 2)])


def _legal(legal: ArrayLike | None, shape: tuple[int, int]) -> BoolArray:
    """Return which actions are legal, (B, A)."""
    if legal is None:
        return np.ones(shape, dtype=bool)
    mask = np.asarray(legal)
    if mask.dtype != bool or mask.shape not in (shape, shape[1:]):
        raise BookError(
            f"legal must be booleans of shape {shape} or {shape[1:]}, got {mask.dtype} of shape {mask.shape}"
        )
    mask = np.broadcast_to(mask, shape).copy()
    if not mask.any(axis=1).all():
        raise BookError(f"each root needs a legal action; root {int(mask.any(axis=1).argmin())} has none")
    return mask


def _softmax(logits: FloatArray, legal: BoolArray) -> FloatArray:
    """Return probabilities (B, A) of the legal actions, 0 for the others."""
    known = logits if legal.all() else np.where(legal, logits, -np.inf)
    weights = np.exp(known - known.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


# --- a model by hand --------------------------------------------------------------------------------------


class TabularModel:
    """A model in tables, to be searched by hand and by tests: S states and A actions, all deterministic.

    ``rewards`` (S, A), ``next_states`` (S, A) numbers in 0 … S-1, ``priors`` (S, A) distributions, ``values`` (S,). An
    observation is the number of a state, and so is a state: rows of one number.
    """

    def __init__(
        self, rewards: ArrayLike, next_states: ArrayLike, priors: ArrayLike, values: ArrayLike
    ) -> None:
        self.rewards, self.priors = check_finite(rewards, "rewards"), check_finite(priors, "priors")
        self.values, following = check_finite(values, "values"), check_finite(next_states, "next_states")
        shape = self.rewards.shape
        if len(shape) != 2 or not self.rewards.size:
            raise BookError(f"rewards must have shape (states, actions), got {shape}")
        if following.shape != shape or self.priors.shape != shape or self.values.shape != shape[:1]:
            raise BookError(
                f"next_states and priors must have shape {shape} as the rewards, and values {shape[:1]}; got "
                f"{following.shape}, {self.priors.shape} and {self.values.shape}"
            )
        if (following != following.round()).any() or following.min() < 0 or following.max() >= shape[0]:
            raise BookError(f"next_states must be numbers of states, 0 to {shape[0] - 1}")
        if (self.priors < 0).any() or np.abs(self.priors.sum(axis=1) - 1).max() > 1e-8:
            raise BookError("priors must be at least 0 and sum to 1 for each state")
        self.next_states = following.astype(np.int64)

    def represent(self, observations: ArrayLike) -> FloatArray:
        """Return states (B, 1) of the numbers of states (B,)."""
        numbers = check_finite(observations, "observations").reshape(-1, 1)
        self._index(numbers)
        return numbers

    def predict(self, states: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return log priors (B, A) and values (B,)."""
        s = self._index(states)
        return np.log(np.maximum(self.priors[s], 1e-300)), self.values[s]

    def dynamics(self, states: ArrayLike, actions: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return rewards (B,) and next states (B, 1)."""
        s, a = self._index(states), np.asarray(actions)
        return self.rewards[s, a], self.next_states[s, a][:, None].astype(np.float64)

    def _index(self, states: ArrayLike) -> IntArray:
        numbers = check_finite(states, "states")
        if numbers.ndim != 2 or numbers.shape[1] != 1:
            raise BookError(f"states of a table are numbers of shape (batch, 1), got shape {numbers.shape}")
        if (numbers != numbers.round()).any() or numbers.min() < 0 or numbers.max() >= len(self.values):
            raise BookError(f"states must be numbers of states, 0 to {len(self.values) - 1}")
        return numbers[:, 0].astype(np.int64)
