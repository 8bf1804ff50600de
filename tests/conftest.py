"""Shared by all tests. Because this file is here, tests can import what else is here (this folder is on the path)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the modules here, also when only a part of the tests is run

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
