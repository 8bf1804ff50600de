"""The parameters of chapter 3: what each is, its default and its range."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from one_step_trap.core.validate import check_count
from one_step_trap.errors import BookError
from one_step_trap.ledger.parameters import ChapterParameters, count
from one_step_trap.sampling.models import kind_of
from one_step_trap.sampling.protocol import PROMPTS, STEPS
from one_step_trap.sampling.rules import parse

WINDOW = 64


def windows(value: Any) -> int:
    """Return a number of tokens that is a whole number of windows, at least four."""
    steps = check_count(value, "steps")
    if steps % WINDOW or not 4 * WINDOW <= steps <= STEPS:
        raise BookError(f"steps must be a multiple of {WINDOW} from {4 * WINDOW} to {STEPS:,}, got {steps:,}")
    return steps


def texts(value: Any) -> int:
    """Return a number of texts that the study holds, at least 2: the intervals go over them."""
    sequences = check_count(value, "sequences", minimum=2)
    if sequences > PROMPTS:
        raise BookError(f"sequences must be at most {PROMPTS}, the prompts of the study, got {sequences}")
    return sequences


def rule_name(value: Any) -> str:
    """Return the name of a decoding rule, as the rule itself writes it."""
    return parse(value).name


def model_name(value: Any) -> str:
    """Return the name of a model that may exist (whether it can be read is seen when it is)."""
    kind_of(value)
    return str(value)


class SamplingDivergence(ChapterParameters):
    """Parameters of ``chapters/03-sampling-divergence.ipynb``; the defaults give the book's numbers."""

    languages: Annotated[int, count(5, "languages")] = Field(
        20, description="languages and learners drawn in each cell of the exact study"
    )
    sequences: Annotated[int, BeforeValidator(texts)] = Field(
        8,
        description="texts and passages that are read again, of those kept, and texts that your model writes",
    )
    steps: Annotated[int, BeforeValidator(windows)] = Field(
        256, description="tokens that your model writes in each text, a multiple of 64"
    )
    model: Annotated[str, BeforeValidator(model_name)] = Field(
        "book", description="model of the section to try it on your own"
    )
    rule: Annotated[str, BeforeValidator(rule_name)] = Field(
        "top-p 0.9", description="decoding rule there, beside plain sampling"
    )
