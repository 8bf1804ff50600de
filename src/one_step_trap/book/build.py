"""``make book`` and ``make sweep``: run the pipeline, one at a time, and say where the result is."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from one_step_trap.book import plan
from one_step_trap.errors import BookError

# One thread in each kernel: sums in another order would change last digits with the number of jobs.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "JUPYTER_PREFER_ENV_PATH": "1",  # a kernel named python3 in the user's home must not replace ours
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "HF_HUB_OFFLINE": "1",
}

app = typer.Typer(add_completion=False, help="Build the book.")


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the build folder; a second build waits. The kernel frees the lock when its holder dies, even by kill -9."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as stream:
        # Snakemake holds it too: if only its parent is killed, the next build waits until it has ended.
        os.set_inheritable(stream.fileno(), True)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another build is running in this folder; waiting for it", file=sys.stderr)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def snakemake(targets: Sequence[str], options: Sequence[str] = ()) -> int:
    """Run Snakemake on the Snakefile here; our own lock replaces its lock files, which a killed build would leave behind."""
    command = [
        sys.executable, "-m", "snakemake", "--cores", "all", "--nolock", "--rerun-incomplete", "--keep-going",
        "--quiet", "all", *options, "--", *targets,
    ]  # fmt: skip
    return subprocess.run(command, env={**os.environ, **ENVIRONMENT}, close_fds=False, check=False).returncode


def complete(stamp: Path, html: Path) -> bool:
    """Tell whether every page that the last build listed in its stamp is still there."""
    if not stamp.exists() or not html.exists():
        return False
    pages = json.loads(stamp.read_text(encoding="utf-8")).get("pages", [])
    return all((html.parent / f"{page}.html").exists() for page in pages)


def explain(root: Path) -> None:
    """Print what is wrong with the sources, if it is that: Snakemake says nothing when it cannot even plan."""
    # Here, not above: SciPy comes with it, which a build without a change does not need.
    from one_step_trap.ledger.claims import catalogue

    try:
        for chapter in plan.chapters(root):
            plan.digest(root, chapter)
        catalogue()
    except Exception as error:  # whatever it is, the reader must hear of it
        what = str(error) if isinstance(error, BookError) else f"{type(error).__name__}: {error}"
        print(f"error: the sources of the book cannot be read: {what}", file=sys.stderr)


@app.command()
def book() -> None:
    """Execute every chapter whose inputs changed, build the HTML, print the path of its start page."""
    stamp, html = Path("_build/site.json"), Path("_build/html/index.html")
    with only_one(Path("_build")):
        if not complete(stamp, html):
            stamp.unlink(missing_ok=True)  # somebody removed pages: build them again
        if snakemake(["book"]) != 0:
            explain(Path.cwd())
            kept = f" The last good build is still at {html}." if html.exists() else ""
            raise SystemExit(f"make book: stopped, see the error above.{kept}")
        start = json.loads(stamp.read_text(encoding="utf-8"))["start"]
    print(f"The book is built. Start page: {Path(start).absolute()}")


@app.command()
def sweep(
    study: Annotated[list[str] | None, typer.Argument(help="studies to run (default: all)")] = None,
) -> None:
    """Run the long studies whose tables are kept in data/."""
    options = ["--config", f"study={','.join(study)}"] if study else []
    with only_one(Path("_build")):
        raise SystemExit(snakemake(["sweep"], options))


if __name__ == "__main__":
    app()
