"""Shared by all tests. Because this file is here, tests can import ``needs`` (this folder is on the path)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # ``needs``, also when only a part of the tests is run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the book."""
    return ROOT


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """What is quick comes first: the library, then the book: sources, chapters, pages, and the browser last.

    A process takes whole groups (``--dist loadgroup``): a file, or what a file asks of one chapter, since its tests share
    what the chapter recorded.
    """
    items.sort(
        key=lambda item: (
            "/book/" in str(item.path),
            *(bool(item.get_closest_marker(m)) for m in ("book", "browser")),
        )
    )
    for item in items:
        chapter = item.callspec.params.get("chapter") if hasattr(item, "callspec") else None
        shared = chapter if item.path.name == "test_notebooks.py" else None
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name}-{shared}" if shared else item.path.name))
