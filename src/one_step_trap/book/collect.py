"""Collect what the executed chapters recorded into ``claims.json``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from one_step_trap.errors import BookError
from one_step_trap.ledger.claims import ledger, recorded_in


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill at any moment, finds the old text or the new one and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def collect(executed: list[Path]) -> list[dict[str, Any]]:
    """Return the ledger of the executed notebooks (see :func:`one_step_trap.ledger.claims.ledger`)."""
    notebooks = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in executed}
    return ledger({chapter: recorded_in(notebook) for chapter, notebook in notebooks.items()})


def main(output: Annotated[Path, typer.Option()], executed: list[Path]) -> None:
    """Write the ledger of the executed notebooks to OUTPUT (called by the Snakefile)."""
    try:
        rows = collect(executed)
    except BookError as error:
        raise SystemExit(f"error: {error}") from None
    write_atomically(output, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
