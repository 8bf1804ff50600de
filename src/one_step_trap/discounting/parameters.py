"""The parameters of chapter 2: what each is, its default and its range."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from one_step_trap.ledger.parameters import ChapterParameters, Gamma, count


class Discounting(ChapterParameters):
    """Parameters of ``chapters/02-discounting.ipynb``; the defaults give the book's numbers."""

    gamma: Gamma = Field(0.99, description="discount of the examples, in [0, 1)")
    horizon: Annotated[int, count(1, "horizon")] = Field(
        1_000, description="length of the task of the examples, in steps"
    )
    episodes: Annotated[int, count(10, "episodes")] = Field(
        1_000, description="random-policy episodes per environment, at most"
    )
    returns: Annotated[int, count(100, "returns")] = Field(
        20_000, description="returns simulated to check each variance"
    )
    mdps: Annotated[int, count(20, "mdps")] = Field(300, description="random MDPs for the cost of a decision")
    walk_runs: Annotated[int, count(10, "walk_runs")] = Field(
        100, description="repetitions of the 19-state walk"
    )
    planning_mdps: Annotated[int, count(20, "planning_mdps")] = Field(
        1_000, description="random MDPs for the planning horizon"
    )
    data_sets: Annotated[int, count(1, "data_sets")] = Field(
        20, description="data sets for each of those MDPs"
    )
    delayed_seeds: Annotated[int, count(1, "delayed_seeds")] = Field(
        5, description="seeds of the stored study of delayed rewards that are computed again"
    )
