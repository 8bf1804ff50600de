"""The parameters of the chapter: what each is, its default and its range."""

from __future__ import annotations

from typing import Annotated

from one_step_trap.ledger.parameters import ChapterParameters, count
from pydantic import Field


class Ripples(ChapterParameters):
    """Parameters of ``chapters/07-ripples.ipynb``; the defaults give the book's numbers."""

    keep: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="share of its height that a ripple keeps a step",
    )
    ripples: Annotated[int, count(30, "ripples")] = Field(
        200, description="ripples that are measured"
    )
