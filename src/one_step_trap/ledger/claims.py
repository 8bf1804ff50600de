"""The ledger: which claims the book must test, and what the chapters found.

The catalogue (``claims.toml`` beside this file) lists every claim with the place where it was made and how it is tested; it
holds no number and no finding. Those come from the chapters, which record them while they run
(:func:`one_step_trap.ledger.record.claim`). :func:`ledger` brings both together and refuses a ledger with a gap in it.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from one_step_trap.core.stats import readable
from one_step_trap.errors import BookError

CLAIM_MIME = "application/vnd.one-step-trap.claim+json"
Verdict = Literal["holds", "holds when", "does not hold", "open"]


class Entry(BaseModel):
    """A row of the catalogue: what is claimed, by whom, which chapter must test it how, and what we expect to find."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z]+(-[a-z0-9]+)*$")
    statement: str = Field(min_length=10)
    source: str
    chapter: str
    tested: str
    expected: Verdict


class Claim(BaseModel):
    """What a chapter found: the number with its interval, the rule that was fixed beforehand, and the verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str
    value: float
    low: float
    high: float
    unit: str = Field(min_length=1)
    n: int = Field(ge=1)
    verdict: Verdict
    condition: str = ""
    rule: str = Field(min_length=10)
    figure: str = ""
    ends: str = "95% interval"
    """What ``low`` and ``high`` are the ends of."""

    @model_validator(mode="after")
    def _condition_is_said(self) -> Claim:
        if self.verdict == "holds when" and not self.condition:
            raise ValueError(f"claim {self.id} holds only when ...: say when in `condition`")
        return self

    def measured(self) -> str:
        """Return the number with its interval, if it has one."""
        interval = "" if self.low == self.high else f" [{readable(self.low)}, {readable(self.high)}]"
        return readable(self.value) + interval

    def finding(self) -> str:
        """Return the verdict as a phrase: "holds where an effect is forgotten"."""
        phrase = "holds" if self.verdict == "holds when" else self.verdict
        return f"{phrase} {self.condition}".strip()

    def summary(self) -> str:
        """Return the claim on one line, as a notebook prints it."""
        return f"{self.measured()} {self.unit} (n = {self.n:,}): {self.finding()}"


@cache
def catalogue() -> tuple[Entry, ...]:
    """Return the rows of the catalogue in the order of the book."""
    text = resources.files("one_step_trap.ledger").joinpath("claims.toml").read_text(encoding="utf-8")
    entries = tuple(Entry(**row) for row in tomllib.loads(text)["claim"])
    twice = [id for id, count in Counter(entry.id for entry in entries).items() if count > 1]
    if twice:
        raise BookError(f"the catalogue lists these claims twice: {', '.join(twice)}")
    return entries


def recorded_in(notebook: Mapping[str, Any]) -> list[Claim]:
    """Return the claims recorded in an executed notebook (the parsed JSON of an .ipynb), in their order."""
    outputs = (out for cell in notebook["cells"] if cell["cell_type"] == "code" for out in cell["outputs"])
    bundles = (out.get("data", {}) for out in outputs)
    found = (data for bundle in bundles for mime, data in bundle.items() if mime.endswith(CLAIM_MIME))
    return [parse(data) for data in found]


def parse(data: Mapping[str, Any]) -> Claim:
    """Return the claim that a recorded JSON object describes."""
    try:
        return Claim(**data)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise BookError(
            f"claim {data.get('id', '?')} is not well formed: {where or 'claim'}: {problem['msg']}"
        ) from None


def ledger(
    recorded: Mapping[str, Iterable[Claim]], entries: Sequence[Entry] | None = None
) -> list[dict[str, Any]]:
    """Join what the chapters recorded with the catalogue.

    ``recorded`` maps each chapter that is in the book (its notebook's name without ending) to the claims found in it. A claim
    that a chapter owes and did not record, one recorded twice, one recorded by another chapter than its own and one that
    the catalogue does not know are errors, all named in one message.
    """
    known = {entry.id: entry for entry in (catalogue() if entries is None else entries)}
    rows = [(chapter, claim) for chapter, claims in recorded.items() for claim in claims]
    counts = Counter(claim.id for _, claim in rows)
    problems = [f"{id} was recorded {count} times" for id, count in counts.items() if count > 1]
    for chapter, claim in rows:
        if claim.id not in known:
            problems.append(f"{claim.id} (recorded in {chapter}) is not in claims.toml")
        elif known[claim.id].chapter != chapter:
            problems.append(f"{claim.id} belongs to {known[claim.id].chapter} but was recorded in {chapter}")
    owed = [entry for entry in known.values() if entry.chapter in recorded]
    problems += [
        f"{entry.id} was not recorded by {entry.chapter}" for entry in owed if entry.id not in counts
    ]
    if problems:
        raise BookError("the ledger of claims does not add up: " + "; ".join(problems))
    found = {claim.id: claim for _, claim in rows}
    return [
        {**entry.model_dump(), **found[entry.id].model_dump()}
        for entry in known.values()
        if entry.chapter in recorded
    ]


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ``claims.json`` written by the build."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise BookError(
            f"there is no ledger at {path}: run `make book` first, in the folder of the book"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: not JSON, not UTF-8, NaN or an infinity
        raise BookError(f"{path} cannot be read ({error}): run `make book` to write it anew") from None
    wanted = Entry.model_fields.keys() | Claim.model_fields.keys()
    whole = isinstance(rows, list) and all(isinstance(row, dict) and row.keys() >= wanted for row in rows)
    if not whole or not rows:
        raise BookError(f"{path} does not hold a list of claims: run `make book` to write it anew")
    for row in rows:
        try:
            Entry(**{name: row[name] for name in Entry.model_fields})
            parse({name: row[name] for name in Claim.model_fields})
        except (ValidationError, BookError) as error:
            problem = str(error).splitlines()[0]
            raise BookError(
                f"{path} holds a damaged row ({problem}): run `make book` to write it anew"
            ) from None
    return list(rows)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
