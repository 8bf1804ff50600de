"""A recorded search as a sequence of pictures: after each simulation's select, expand and back up.

`search` with ``record=True`` keeps what each simulation did. Here it is replayed into frames that a viewer
(:mod:`one_step_trap.muzero.plots.tree`) only has to draw: which nodes exist, their visits, mean returns and Q, and where the
simulation is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from one_step_trap.core.validate import short_repr
from one_step_trap.errors import BookError
from one_step_trap.muzero.search import Recording, Simulation

MOST_SIMULATIONS = 40  # of a recording, so that its tree fits on a page
Phase = Literal["start", "select", "expand", "back up"]


@dataclass(frozen=True)
class Place:
    """Where a node is drawn: ``x`` in widths of a leaf from 0, ``depth`` in rows; its parent (-1: root) and action."""

    parent: int
    action: int
    depth: int
    x: float


@dataclass(frozen=True)
class Frame:
    """One picture: the first ``size`` nodes with their ``visits``, mean returns ``means`` and ``q`` of the step to each.

    ``simulation`` counts from 1 (0: before the first); ``path`` are the nodes of the simulation from the root on, the leaf
    among them once it is in the tree.
    """

    simulation: int
    phase: Phase
    path: tuple[int, ...]
    size: int
    visits: tuple[int, ...]
    means: tuple[float, ...]
    q: tuple[float, ...]


def replay(recording: Recording) -> list[Frame]:
    """Return the frames of a recording: one of the root alone, then three a simulation."""
    _check(recording)
    visits, totals, rewards = [1], [recording.value], [0.0]
    frames = [Frame(0, "start", (0,), 1, (1,), (recording.value,), (0.0,))]

    def add(phase: Phase, path: list[int], k: int) -> None:
        means = [total / max(n, 1) for total, n in zip(totals, visits, strict=True)]
        q = [r + recording.gamma * mean for r, mean in zip(rewards, means, strict=True)]
        frames.append(Frame(k, phase, tuple(path), len(visits), tuple(visits), tuple(means), tuple(q)))

    for k, simulation in enumerate(recording.simulations, start=1):
        above = [step.node for step in simulation.steps]
        path = [*above, simulation.leaf]
        add("select", above if simulation.grown else path, k)
        if simulation.grown:
            visits.append(0)
            totals.append(0.0)
            rewards.append(simulation.reward)
        add("expand", path, k)
        for node, G in zip(reversed(path), simulation.returns, strict=True):
            visits[node] += 1
            totals[node] += G
        add("back up", path, k)
    return frames


def places(recording: Recording) -> list[Place]:
    """Return where the nodes of the whole tree are drawn: leaves side by side, parents above the middle of their children."""
    _check(recording)
    parents: list[tuple[int, int]] = [(-1, -1)]
    children: list[dict[int, int]] = [{}]
    for simulation in recording.simulations:
        if simulation.grown:
            last = simulation.steps[-1]
            children[last.node][last.action] = len(parents)
            parents.append((last.node, last.action))
            children.append({})
    x, free = [0.0] * len(parents), 0
    for node in _children_first(children):
        if children[node]:
            below = [x[child] for child in children[node].values()]
            x[node] = (min(below) + max(below)) / 2
        else:
            x[node], free = float(free), free + 1
    depths = [0] * len(parents)
    for node, (parent, _) in enumerate(parents):
        depths[node] = depths[parent] + 1 if node else 0
    return [Place(*parents[i], depths[i], x[i]) for i in range(len(parents))]


def _children_first(children: list[dict[int, int]]) -> list[int]:
    """Return all nodes, each after its children, these in the order of their actions."""
    order, stack = [], [0]
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(children[node][a] for a in sorted(children[node]))
    return order[::-1]  # the last child was taken from the stack first, hence the first one is first here


def _check(recording: Any) -> None:
    if not isinstance(recording, Recording) or not all(
        isinstance(s, Simulation) for s in recording.simulations
    ):
        raise BookError(
            f"recording must be one of search(..., record=True).recordings, got {short_repr(recording)}"
        )
