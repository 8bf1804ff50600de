"""Tests of the book as it stands: sources, executed chapters, built pages, a real browser, the pipeline."""

import subprocess
import sys
from pathlib import Path

import chromium
import pytest

from one_step_trap.book import plan

ROOT = Path(__file__).resolve().parents[2]
PAGES = plan.pages(ROOT)
CHAPTERS = plan.chapters(ROOT)


def pytest_generate_tests(metafunc):
    """``page``: every page of _toc.yml; ``chapter``: every notebook among them."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES)
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", CHAPTERS)


@pytest.fixture(scope="session")
def built_book() -> Path:
    """The folder of the HTML, after running the pipeline as ``make book`` does."""
    command = [sys.executable, "-m", "one_step_trap.book.build", "book"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        told = run.stderr[max(0, run.stderr.find("error:")) :]
        pytest.exit(
            f"the book does not build; no test of its pages can say anything:\n{told[-3000:]}", returncode=1
        )
    return (ROOT / "_build" / "html").resolve()


@pytest.fixture(scope="session")
def browser():
    with chromium.opened() as opened:
        yield opened
