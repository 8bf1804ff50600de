"""Make the HTML from the executed chapters, check it, and only then put it in place of the last good build."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from one_step_trap.book import plan
from one_step_trap.book.collect import write_atomically
from one_step_trap.book.machine import machine
from one_step_trap.errors import BookError

SHOWN_PACKAGES = (
    *("jupyter-book", "papermill", "snakemake", "sphinx", "myst-nb", "numpy", "scipy", "numba", "pandas"),
    *("matplotlib", "seaborn", "gymnasium", "torch", "transformers"),
)


def stage(root: Path, executed: Path, folder: Path) -> None:
    """Lay out the sources of the HTML in ``folder``: written pages as they are, chapters as executed, execution off."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        root / "chapters", folder / "chapters", ignore=shutil.ignore_patterns("*.ipynb", ".ipynb_checkpoints")
    )
    for chapter in plan.chapters(root):
        shutil.copy(executed / f"{chapter}.ipynb", folder / "chapters")
    shutil.copy(root / "_toc.yml", folder)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    (folder / "_config.yml").write_text(
        yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def commit(root: Path) -> str:
    """Return the commit that the book is built from, marked when files differ from it, or why there is none to name."""
    if not shutil.which("git"):
        return "unknown, as git is not installed"
    if _git(
        root, "rev-parse", "--show-cdup"
    ):  # not the top of a repository: one around a copy of the book is not ours
        return "not in a git repository"
    described = _git(root, "describe", "--always", "--dirty= with changes", "--abbrev=10", "--exclude=*")
    return described or "not in a git repository"


def _git(root: Path, *arguments: str) -> str:
    """Return what git says of the repository in a folder: ours, whoever owns it, whatever the environment names."""
    command = ["git", "-c", f"safe.directory={root.resolve()}", "-C", str(root), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    ).stdout.strip()


def status(root: Path, benchmarks: Path) -> dict[str, Any]:
    """Return what the status page shows: run time and memory of each chapter, versions, commit, and the machine.

    The chapters ran on it, too, and in the same environment: the same pipeline starts them and this.
    """
    rows = []
    for chapter in plan.chapters(root):
        header, values, *_ = (benchmarks / f"{chapter}.tsv").read_text(encoding="utf-8").splitlines()
        record = dict(zip(header.split("\t"), values.split("\t"), strict=False))
        rows.append(
            {"chapter": chapter, "seconds": _number(record["s"]), "memory_mb": _number(record["max_rss"])}
        )
    versions = {name: metadata.version(name) for name in SHOWN_PACKAGES}
    return {
        "commit": commit(root),
        "python": sys.version.split()[0],
        "chapters": rows,
        "versions": versions,
        "machine": machine(),
    }


def _number(text: str) -> float | None:
    try:
        return round(float(text), 1)
    except ValueError:  # Snakemake writes NA for a job too short to sample
        return None


def build_html(folder: Path, log: Path) -> Path:
    """Run Jupyter Book over a staged folder, warnings as errors, from a fresh doctree; return the folder of the HTML."""
    # Not the program of that name: its first line cannot name a Python in a folder of any name.
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*program, "build", str(folder), "-W", "-n", "--keep-going", "--all"]
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        code = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
    text = log.read_text(encoding="utf-8")
    complaints = [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]
    if code or complaints:
        # When Jupyter Book dies itself, its log ends in a box that says nothing: the exceptions say it.
        raised = [line for line in text.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
        shown = "\n  ".join(complaints[:12] or raised[:3] or text.splitlines()[-12:])
        raise BookError(f"jupyter-book found fault with the pages:\n  {shown}\n  log: {log}")
    return folder / "_build" / "html"


def check_pages(root: Path, html: Path) -> None:
    """Every page of the table of contents must exist."""
    missing = [page for page in plan.pages(root) if not (html / f"{page}.html").exists()]
    if missing or not (html / "index.html").exists():
        raise BookError(f"the build lacks pages: {', '.join(missing) or 'index.html'}")


def publish(html: Path, target: Path) -> None:
    """Make ``target`` show the new pages, in one step.

    ``target`` is a link to a folder beside it; replacing a link is atomic, so a kill at any moment leaves either the old
    site or the new one.
    """
    sites = target.parent / "sites"
    sites.mkdir(parents=True, exist_ok=True)
    taken = {int(path.name) for path in sites.iterdir() if path.name.isdigit()}
    site = sites / str(max(taken, default=0) + 1)
    shutil.rmtree(sites / "new", ignore_errors=True)
    shutil.copytree(html, sites / "new")
    os.replace(sites / "new", site)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)  # a build by hand (`jupyter-book build .`) stands there
    link = target.with_name(target.name + ".link")
    link.unlink(missing_ok=True)
    link.symlink_to(Path("sites") / site.name)
    os.replace(link, target)
    for old in sites.iterdir():
        if old != site:
            shutil.rmtree(old, ignore_errors=True)


def main(
    executed: Annotated[Path, typer.Option(help="folder of the executed chapters")],
    benchmarks: Annotated[Path, typer.Option(help="folder of Snakemake's benchmark files")],
    target: Annotated[Path, typer.Option(help="where the site is to appear")],
    stamp: Annotated[Path, typer.Option(help="file written last, when all went well")],
    log: Annotated[Path, typer.Option()],
) -> None:
    """Build, check and publish the HTML (called by the Snakefile)."""
    root = Path.cwd()
    folder = root / "_build" / "book"
    try:
        stage(root, executed, folder)
        record = status(root, benchmarks)
        (folder / "status.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        html = build_html(folder, log)
        check_pages(root, html)
    except BookError as error:
        raise SystemExit(f"error: {error}") from None
    publish(html, target)
    write_atomically(
        stamp,
        json.dumps({"start": str(target / "index.html"), "pages": plan.pages(root), **record}, indent=1)
        + "\n",
    )


if __name__ == "__main__":
    typer.run(main)
