"""Parameters of a chapter: documented, typed, checked, and a typo is an error.

A chapter has one cell tagged ``parameters`` (papermill's convention). Papermill itself only logs a warning for a name
that the cell does not have, and goes on with the default. :meth:`ChapterParameters.from_notebook`, called in the cell
after it, refuses such a name, so that ``papermill -p gama 0.95`` fails at once, however the notebook is run.
"""

from __future__ import annotations
import __future__

import difflib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from one_step_trap.core.validate import check_count, check_gamma
from one_step_trap.errors import BookError
from one_step_trap.ledger.record import val

Gamma = Annotated[float, BeforeValidator(check_gamma)]
"""A discount in [0, 1)."""


def count(minimum: int, name: str) -> BeforeValidator:
    """Return a validator for a whole number of at least ``minimum``; ``name`` is used in its message."""
    return BeforeValidator(lambda value: check_count(value, name, minimum=minimum))


def unknown_parameter(name: str, known: Iterable[str]) -> BookError:
    """Return the error for a parameter that a chapter does not have, with the nearest name that it has.

    Upper and lower case count as alike: GAMMA is near gamma.
    """
    names = sorted(known)
    by_case = {known_name.lower(): known_name for known_name in names}
    near = difflib.get_close_matches(name.lower(), by_case, n=1)
    hint = f"; did you mean {by_case[near[0]]!r}?" if near else "."
    return BookError(f"unknown parameter {name!r}{hint} This chapter has: {', '.join(names)}")


class ChapterParameters(BaseModel):
    """Base of a chapter's parameters: a field each, with constraints and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Annotated[int, count(0, "seed")] = Field(
        0, description="seed of every random number in the chapter"
    )

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Return the parameters, or raise one ``BookError`` that names the first that is wrong."""
        for name in values:
            if name not in cls.model_fields:
                raise unknown_parameter(name, cls.model_fields)
        try:
            return cls(**values)
        except ValidationError as error:
            problem = error.errors()[0]
            cause = problem.get("ctx", {}).get("error")
            name = ".".join(str(part) for part in problem["loc"]) or "parameters"
            text = (
                str(cause)
                if isinstance(cause, BookError)
                else f"{name}: {problem['msg']}, got {problem['input']!r}"
            )
            raise BookError(text) from None

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any]) -> Self:
        """Return the parameters found among a notebook's ``globals()``.

        Called right after the parameters cell, when the notebook has defined nothing else yet but imports: any other
        plain value is a parameter somebody passed under a name that does not exist.
        """
        return cls.checked({name: value for name, value in namespace.items() if _is_parameter(name, value)})


def _is_parameter(name: str, value: Any) -> bool:
    if name.startswith("_") or name in {"In", "Out"}:  # IPython's own
        return False
    ours = value is val  # imported beside the functions, before anything is recorded
    return not (ours or isinstance(value, ModuleType | type | __future__._Feature) or callable(value))
