"""Run the long studies and store their tables in ``data/`` with provenance (a Frictionless Data Package)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import frictionless
import pandas as pd
import typer

from one_step_trap.book.collect import write_atomically
from one_step_trap.book.machine import in_words
from one_step_trap.book.studies import find
from one_step_trap.errors import BookError
from one_step_trap.study import Study

RECORDED_PACKAGES = ("numpy", "scipy", "numba", "pandas", "gymnasium", "mujoco", "torch", "transformers")
app = typer.Typer(add_completion=False)


def plain(value: Any) -> Any:
    """Return a setting as JSON can hold it: tuples as lists, an infinity as the text "inf"."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def provenance(study: Study, seconds: float, machines: Iterable[str]) -> dict[str, Any]:
    """Return where (on which machines), when and with what a table was computed."""
    return {
        "settings": plain(study.settings),
        "versions": {
            "python": sys.version.split()[0],
            **{name: metadata.version(name) for name in RECORDED_PACKAGES},
        },
        "machine": " and ".join(sorted(set(machines))),
        "date": datetime.now(UTC).date().isoformat(),
        "cpu_seconds": round(seconds, 1),
    }


def describe(
    path: str, table: bytes, study: Study, seconds: float, machines: Iterable[str]
) -> dict[str, Any]:
    """Return the entry of a table in ``datapackage.json``."""
    frame = pd.read_csv(io.BytesIO(table))
    if set(frame.columns) != set(study.columns):
        raise BookError(f"{path}: the data dictionary must name the columns {sorted(frame.columns)}")
    kinds = {"i": "integer", "f": "number", "b": "boolean"}
    fields = [
        {
            "name": str(name),
            "type": kinds.get(frame[name].dtype.kind, "string"),
            "description": study.columns[str(name)],
        }
        for name in frame.columns
    ]
    return {
        "name": path.removesuffix(".csv").replace("/", "-"),
        "path": path,
        "title": study.title,
        "hash": "sha256:" + hashlib.sha256(table).hexdigest(),
        "bytes": len(table),
        "schema": {"fields": fields},
        "provenance": provenance(study, seconds, machines),
    }


def store(
    folder: Path, name: str, frame: pd.DataFrame, study: Study, seconds: float, machines: Iterable[str]
) -> None:
    """Write a table and its entry; the table first, so that a kill in between leaves a mismatch that loading reports."""
    table = frame.to_csv(index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    path = folder / f"{name}.csv"
    package_path = folder / "datapackage.json"
    package: dict[str, Any] = {"profile": "data-package", "name": "one-step-trap", "resources": []}
    if package_path.exists():
        package = json.loads(package_path.read_text(encoding="utf-8"))
    entry = describe(f"{name}.csv", table.encode(), study, seconds, machines)
    others = [resource for resource in package["resources"] if resource["path"] != entry["path"]]
    package["resources"] = sorted([*others, entry], key=lambda resource: str(resource["path"]))
    write_atomically(path, table)
    write_atomically(package_path, json.dumps(package, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def validate(folder: Path) -> list[str]:
    """Return what Frictionless finds wrong with the stored tables (types, hashes, missing files)."""
    report = frictionless.validate(str(folder / "datapackage.json"))
    return [f"{task.name}: {error[0]}" for task in report.tasks for error in task.flatten(["message"])]


@app.command()
def part(name: str, index: int, output: Path, spent: Path) -> None:
    """Compute one part of a study: its rows into ``output``, where and in how long into ``spent``."""
    start = time.process_time()
    frame = find(name).run(index)
    frame.attrs.clear()
    output.parent.mkdir(parents=True, exist_ok=True)
    record = {"cpu_seconds": round(time.process_time() - start, 2), "machine": in_words()}
    write_atomically(spent, json.dumps(record, ensure_ascii=False) + "\n")
    write_atomically(output, frame.to_csv(index=False, lineterminator="\n"))
    print(f"{name}: part {index} done, {len(frame)} rows", file=sys.stderr)


@app.command()
def table(name: str, files: Annotated[list[Path], typer.Argument()]) -> None:
    """Join the parts of a study and store the table with its provenance in data/."""
    study = find(name)
    frame = pd.concat([pd.read_csv(path) for path in files], ignore_index=True)
    spent = [json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for path in files]
    seconds = sum(one["cpu_seconds"] for one in spent)
    store(Path("data"), name, frame, study, seconds, (one["machine"] for one in spent))
    problems = validate(Path("data"))
    if problems:
        raise SystemExit("error: " + "; ".join(problems))


if __name__ == "__main__":
    app()
