"""Run one chapter with papermill; say clearly what failed; never leave half a notebook where a whole one is expected."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TextIO

import papermill
import typer
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from one_step_trap.book.build import ENVIRONMENT
from one_step_trap.errors import BookError
from one_step_trap.ledger.parameters import unknown_parameter


class ChapterError(BookError):
    """A chapter stopped: says in which cell, with which error, and where to look."""


class Kernel(AsyncKernelManager):
    """A kernel that is asked to end, and not interrupted first.

    Jupyter interrupts every kernel that it shuts down. By then all cells have run, and there is nothing to interrupt but
    the end of the last answer: where the signal comes that early, the kernel complains on the terminal.
    """

    async def _async_interrupt_kernel(self) -> None:
        if not self.shutting_down:
            await super()._async_interrupt_kernel()


class ProgressLines:
    """A file for tqdm that starts a new line for each report, so that parallel chapters do not overwrite each other."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write a report without the carriage return that would overwrite the last one."""
        text = text.strip("\r\n")
        if text:
            self.stream.write(text + "\n")

    def flush(self) -> None:
        """Flush the stream behind."""
        self.stream.flush()


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse a parameter that the notebook does not declare (papermill would only warn)."""
    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise unknown_parameter(name, known)


def execute(
    notebook: Path,
    output: Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    log: Path | None = None,
    progress: bool = True,
) -> None:
    """Execute ``notebook`` into ``output`` with the kernel python3, in the notebook's own folder.

    The output appears only when every cell has run. If one fails, the notebook as far as it got is kept beside the log as
    ``<chapter>.failed.ipynb`` and a :class:`ChapterError` names the cell. A kernel that dies is named as such: the system
    ends it without a word where memory runs out.
    """
    parameters = dict(parameters or {})
    check_parameters(notebook, parameters)
    chapter = notebook.stem
    log = log or output.with_suffix(".log")
    for folder in (output.parent, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    unfinished = log.with_name(f"{chapter}.failed.ipynb")
    os.environ.update(ENVIRONMENT)  # inherited by the kernel
    handler = logging.FileHandler(log, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("papermill")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    bar = {"desc": chapter, "file": ProgressLines(sys.stderr), "mininterval": 5.0, "ncols": 80, "ascii": True}
    start = time.perf_counter()
    try:
        papermill.execute_notebook(
            str(notebook),
            str(unfinished),
            parameters=parameters,
            kernel_name="python3",
            kernel_manager_class=Kernel,
            cwd=str(notebook.parent),
            progress_bar=bar if progress else False,
            log_output=True,
            start_timeout=300,
            # The kernel would warn of its unencrypted local port in every run.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
    except PapermillExecutionError as error:
        logger.error("%s", error)
        raise ChapterError(describe(chapter, error, log, unfinished, injected=bool(parameters))) from None
    except DeadKernelError as error:
        logger.error("%s", error)
        raise ChapterError(
            f"chapter {chapter} stopped because its kernel died, perhaps for want of memory; log: {log}"
        ) from None
    finally:
        logger.removeHandler(handler)
        handler.close()
    os.replace(unfinished, output)
    print(f"{chapter}: ran in {time.perf_counter() - start:.0f} s", file=sys.stderr)


def describe(
    chapter: str, error: PapermillExecutionError, log: Path, unfinished: Path, *, injected: bool = False
) -> str:
    """Return what a reader needs to know about a failed cell, in four lines.

    ``injected``: papermill put a cell with the given parameters in front of it, which the chapter does not have.
    """
    number = error.cell_index + 1 - injected
    first = next((line for line in error.source.splitlines() if line.strip()), "")
    return (
        f"chapter {chapter} failed in cell {number} (In [{error.exec_count}]), which begins: {first.strip()}\n"
        f"  {error.ename}: {error.evalue}\n"
        f"  log: {log}\n"
        f"  the notebook up to there: {unfinished}"
    )


def main(
    notebook: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    output: Path,
    log: Annotated[Path | None, typer.Option(help="where papermill's log goes")] = None,
) -> None:
    """Run one chapter (called by the Snakefile)."""
    try:
        execute(notebook, output, log=log)
    except BookError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    typer.run(main)
