"""The parameters of chapter 4: what each is, its default and its range."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from one_step_trap.core.validate import check_count, check_real
from one_step_trap.errors import BookError
from one_step_trap.ledger.parameters import ChapterParameters, count
from one_step_trap.muzero.environments import Task
from one_step_trap.muzero.studies import SEEDS, UNROLL_STEPS
from one_step_trap.muzero.viewer_data import MOST_SIMULATIONS


def environment(value: Any) -> str:
    """Return the id of an environment that MuZero can be trained on."""
    return Task(value).id


def studied(value: Any) -> int:
    """Return a K that the stored study has."""
    K = check_count(value, "unroll_steps")
    if K not in UNROLL_STEPS:
        raise BookError(
            f"unroll_steps must be one of {', '.join(map(str, UNROLL_STEPS))}, those of the study, got {K}"
        )
    return K


def stored(value: Any) -> int:
    """Return a seed that the stored study has."""
    seed = check_count(value, "training_seed", minimum=0)
    if seed >= SEEDS:
        raise BookError(f"training_seed must be below {SEEDS}, the seeds of the study, got {seed}")
    return seed


def shown_simulations(value: Any) -> int:
    """Return a number of simulations that the page can show and that its text makes sense for."""
    number = check_count(value, "simulations")
    if not 8 <= number <= MOST_SIMULATIONS:
        raise BookError(
            f"simulations must lie in 8 to {MOST_SIMULATIONS}, what the page can show, got {number}"
        )
    return number


def share_of_a_training(value: Any) -> float:
    """Return a share of a training in which something can be learned."""
    share = check_real(value, "live")
    if not 0.05 <= share <= 1:
        raise BookError(f"live must lie in 0.05 to 1, a share of a training, got {share:g}")
    return share


class MuZeroUnrolling(ChapterParameters):
    """Parameters of ``chapters/04-muzero-unrolling.ipynb``; the defaults give the book's numbers."""

    training_seed: Annotated[int, BeforeValidator(stored)] = Field(
        0, description="seed of the trainings that run live, one of the studies' ten"
    )
    unroll_steps: Annotated[int, BeforeValidator(studied)] = Field(
        5, description="steps K of the part of the study that runs live"
    )
    live: Annotated[float, BeforeValidator(share_of_a_training)] = Field(
        1.0, description="share of those trainings that runs; at 1 they are compared with the studies"
    )
    worlds: Annotated[int, count(20, "worlds")] = Field(
        100, description="random worlds for policies far from the data's"
    )
    simulations: Annotated[int, BeforeValidator(shown_simulations)] = Field(
        24, description="simulations of the search that is worked by hand"
    )
    env: Annotated[str, BeforeValidator(environment)] = Field(
        "one-step-trap/FrozenLakeWithoutSlipping-v0",
        description="environment of the section to try it on your own",
    )
    env_steps: Annotated[int, count(500, "env_steps")] = Field(
        6_000, description="environment steps of the training there"
    )
