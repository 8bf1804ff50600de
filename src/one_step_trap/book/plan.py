"""What the book consists of and what each chapter depends on."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import yaml

from one_step_trap.errors import BookError

PACKAGE = "one_step_trap"
# The build's own code runs around a chapter and not inside it.
OUTSIDE = f"{PACKAGE}.book"


def pages(root: Path) -> list[str]:
    """Return every page of ``_toc.yml`` in reading order, as paths without ending (``chapters/02-discounting``)."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *_files(toc.get("parts", [])), *_files(toc.get("chapters", []))]


def _files(nodes: list[dict[str, Any]]) -> Iterable[str]:
    for node in nodes:
        if "file" in node:
            yield node["file"]
        for key in ("parts", "chapters", "sections"):
            yield from _files(node.get(key, []))


def chapters(root: Path) -> list[str]:
    """Return the names of the notebooks among the pages (``02-discounting``)."""
    return [Path(page).name for page in pages(root) if (root / f"{page}.ipynb").exists()]


def imports_of(notebook: Path) -> set[str]:
    """Return the modules of this package that a notebook's code cells import."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(_without_magics(source))
        except SyntaxError as error:
            raise BookError(f"{notebook} has a cell that is not Python: {error}") from None
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")}


def _without_magics(source: str) -> str:
    """Return the code with ``pass`` in place of IPython's line magics, which may be all that a block holds."""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", source, flags=re.M)


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, cache_dir=None)


def modules_behind(names: Iterable[str]) -> set[str]:
    """Return the modules among ``names`` and all that they import, with the packages around them."""
    graph = _graph()
    found = {name for name in names if name in graph.modules}
    for name in set(found):
        found |= graph.find_upstream_modules(name)
    parents = {module.rsplit(".", depth)[0] for module in found for depth in range(1, module.count(".") + 1)}
    # A package's __init__ may import further modules: its own imports count, its sub-modules do not.
    for parent in parents - found:
        found |= {parent} | graph.find_upstream_modules(parent)
    return {module for module in found if not module.startswith(OUTSIDE)}


def module_files(root: Path, modules: Iterable[str]) -> list[Path]:
    """Return the files of the modules, packages as their ``__init__.py`` with the style sheets and scripts beside it."""
    files = []
    for module in sorted(modules):
        stem = root / "src" / Path(*module.split("."))
        files.append(stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py"))
        files += sorted(path for kind in ("css", "js") for path in stem.glob(f"*.{kind}"))
    return files


def data_files(root: Path, chapter: str) -> list[Path]:
    """Return a chapter's stored tables: those in ``data/<chapter>/``."""
    return sorted(path for path in (root / "data" / chapter).glob("**/*") if path.is_file())


def inputs(root: Path, chapter: str) -> list[Path]:
    """Return every file that a chapter's outputs depend on: notebook, modules behind it, package data, stored tables."""
    notebook = root / "chapters" / f"{chapter}.ipynb"
    modules = module_files(root, modules_behind(imports_of(notebook)))
    return [notebook, *modules, *data_files(root, chapter), root / "requirements.txt"]


def digest(root: Path, chapter: str) -> str:
    """Return a fingerprint of everything a chapter depends on; equal fingerprints mean that it need not run again.

    Of the shared files (provenance, catalogue of claims) only the part about this chapter counts, so that work on one
    chapter does not re-run the others.
    """
    total = _hash_of(root, inputs(root, chapter))
    package = root / "data" / "datapackage.json"
    if package.exists():
        try:
            resources = json.loads(package.read_text(encoding="utf-8"))["resources"]
        except (ValueError, KeyError, TypeError) as error:
            raise BookError(f"{package} is damaged ({error}): restore it with `git checkout data`") from None
        mine = [resource for resource in resources if resource["path"].startswith(f"{chapter}/")]
        total.update(json.dumps(mine, sort_keys=True).encode())
    return total.hexdigest()[:16]


def page_sources(root: Path) -> list[Path]:
    """Return the files besides the executed notebooks that the HTML is made from."""
    written = [
        path
        for path in (root / "chapters").rglob("*")
        if path.suffix in {".md", ".bib", ".css", ".js", ".svg", ".png"}
    ]
    library = sorted((root / "src" / PACKAGE).rglob("*.py"))  # its source is shown behind each figure
    return [
        root / "_config.yml",
        root / "_toc.yml",
        *sorted(written),
        *library,
        root / "src" / PACKAGE / "ledger/claims.toml",
    ]


def digest_of(root: Path, files: Iterable[Path]) -> str:
    """Return a fingerprint of the files' names and contents."""
    return _hash_of(root, files).hexdigest()[:16]


def _hash_of(root: Path, files: Iterable[Path]) -> hashlib._Hash:
    total = hashlib.sha256()
    for path in files:
        total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return total
