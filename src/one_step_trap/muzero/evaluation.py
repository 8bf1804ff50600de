"""Playing episodes with a model and a search, without exploration: how good an agent is."""

from __future__ import annotations

import numpy as np

from one_step_trap.core.validate import FloatArray, check_count, short_repr
from one_step_trap.errors import BookError
from one_step_trap.muzero.environments import Task, VectorEnv, check_task
from one_step_trap.muzero.networks import MuZeroNet, NetworkModel
from one_step_trap.muzero.search import Model, SearchSettings, guarded, search


def as_model(model: MuZeroNet | Model, *, finite: bool = True) -> Model:
    """Return a network as a model for the search; any other model guarded (`search.guarded`)."""
    known = NetworkModel(model) if isinstance(model, MuZeroNet) else model
    for name in ("represent", "predict", "dynamics"):
        if not callable(getattr(known, name, None)):
            raise BookError(f"model must be a MuZeroNet or have the function {name}, got {short_repr(model)}")
    return guarded(known, finite=finite)


def evaluate(
    model: MuZeroNet | Model,
    task: Task | str,
    settings: SearchSettings | None = None,
    *,
    episodes: int = 20,
    seed: int = 0,
    stream: int = 1,
    threads: int | None = 1,
) -> FloatArray:
    """Return the undiscounted returns (episodes,) of playing greedily: the most visited action of a search without noise.

    Episodes begin where the environment's reset puts them (at random in CartPole), with seeds from (seed, stream). All are
    played at once, so that each step is one batched search of those that still run. They are cut off after the task's
    ``max_steps``. ``threads``: cores for a compiled search.
    """
    task = check_task(task)
    settings = SearchSettings() if settings is None else settings
    if not isinstance(settings, SearchSettings):
        raise BookError(f"settings must be SearchSettings, got {short_repr(settings)}")
    known = as_model(model)
    lanes = VectorEnv(task, check_count(episodes, "episodes"), seed, stream)
    returns, running = np.zeros(lanes.count), np.arange(lanes.count)
    while len(running):
        roots = known.represent(lanes.observations[running])
        step = lanes.step(search(known, roots, settings, threads=threads).actions, running)
        returns[running] += step.rewards
        running = running[~(step.terminated | step.truncated)]
    lanes.close()
    return returns
