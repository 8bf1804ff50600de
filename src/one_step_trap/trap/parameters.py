"""The parameters of chapter 1: what each is, its default and its range."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from one_step_trap.core.validate import check_positive
from one_step_trap.errors import BookError
from one_step_trap.ledger.parameters import ChapterParameters, count
from one_step_trap.trap.worlds import check_env

LARGEST_EPS = 0.1


def one_part_in_a_whole(value: Any) -> float:
    """Return an error of one step that all four regimes can be built with: 1/M for a whole M, at most 0.1."""
    eps = check_positive(value, "eps")
    if eps > LARGEST_EPS or eps < 1e-6 or abs(round(1 / eps) * eps - 1) > 1e-9:
        raise BookError(f"eps must be one part in a whole number from 10 to 10⁶, such as 0.001, got {eps:g}")
    return eps


def environment(value: Any) -> str:
    """Return the id of an environment that a world model can be learned of."""
    return check_env(value).env_id


class OneStepTrap(ChapterParameters):
    """Parameters of ``chapters/01-one-step-trap.ipynb``; the defaults give the book's numbers."""

    eps: Annotated[float, BeforeValidator(one_part_in_a_whole)] = Field(
        0.001, description="one-step error of the models of the first section"
    )
    random_chains: Annotated[int, count(100, "random_chains")] = Field(
        200, description="random chains and models that mix"
    )
    instances: Annotated[int, count(1_000, "instances")] = Field(
        12_000, description="random instances for each bound"
    )
    mdps: Annotated[int, count(20, "mdps")] = Field(200, description="random MDPs for the horizon to plan")
    env: Annotated[str, BeforeValidator(environment)] = Field(
        "Pendulum-v1", description="Gymnasium environment of the section to try it on your own"
    )
    unroll_steps: Annotated[int, count(1, "unroll_steps")] = Field(
        5, description="steps through which a second model is trained there"
    )
    transitions: Annotated[int, count(500, "transitions")] = Field(
        5_000, description="real transitions that both learn from there"
    )
