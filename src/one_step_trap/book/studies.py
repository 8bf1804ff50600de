"""The long studies of the book. Snakemake reads this before every build, so nothing that takes long is imported here."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

from one_step_trap.book import plan
from one_step_trap.errors import BookError
from one_step_trap.study import Study

LIBRARY = Path(__file__).resolve().parents[1]


def listed(library: Path = LIBRARY) -> dict[str, str]:
    """Return where each study is (module:object) by its name: every ``X = Study(name="...", ...)`` of the library.

    The files are read and not imported; a name that two studies have is an error.
    """
    found: dict[str, str] = {}
    for path in sorted(library.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if " = Study(" not in text:
            continue
        module = ".".join((library.name, *path.relative_to(library).with_suffix("").parts))
        for node in ast.parse(text).body:
            match node:
                case ast.Assign(
                    targets=[ast.Name(attribute)], value=ast.Call(func=ast.Name("Study"), keywords=given)
                ):
                    (name,) = (word.value.value for word in given if word.arg == "name")  # type: ignore[attr-defined]
                    if name in found:
                        raise BookError(
                            f"two studies are called {name!r}: {found[name]} and {module}:{attribute}"
                        )
                    found[name] = f"{module}:{attribute}"
    return dict(sorted(found.items()))


STUDIES = listed()
"""Where each study is (module:object), by its name (chapter/table)."""


def find(name: str) -> Study:
    """Return a study by its name."""
    if name not in STUDIES:
        raise BookError(f"there is no study {name!r}; there are: {', '.join(sorted(STUDIES))}")
    module, attribute = STUDIES[name].split(":")
    study = getattr(importlib.import_module(module), attribute)
    assert isinstance(study, Study)
    return study


def parts(name: str) -> int:
    """Return the number of independent parts of a study."""
    return find(name).parts


def sources(root: Path, name: str) -> list[Path]:
    """Return the files that a study's numbers depend on."""
    find(name)
    module = STUDIES[name].split(":")[0]
    return [*plan.module_files(root, plan.modules_behind([module])), root / "requirements.txt"]
