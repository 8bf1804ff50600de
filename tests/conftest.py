"""Shared by all tests. Tests and benchmarks can import what else is here: pyproject.toml puts this folder on the path."""

from pathlib import Path

import pytest
from groups import InGroups

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the book."""
    return ROOT


def pytest_collection_modifyitems(items):
    """What is quick comes first: the library, then the book: sources, chapters, pages, and the browser last."""
    items.sort(
        key=lambda item: (
            "/book/" in str(item.path),
            *(bool(item.get_closest_marker(m)) for m in ("book", "browser")),
        )
    )


def pytest_xdist_make_scheduler(config, log):
    return InGroups(config, log)
