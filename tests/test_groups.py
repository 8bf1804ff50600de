"""The groups of tests."""

import pytest
from groups import CHAPTERS, InGroups

FILE, SHARED = "tests/test_stats.py", "tests/book/test_notebooks.py"


@pytest.fixture
def group():
    scheduler = InGroups.__new__(InGroups)
    return scheduler._split_scope


def test_a_file_stays_together(group):
    assert group(f"{FILE}::test_one") == group(f"{FILE}::test_two[a::b]") == FILE


def test_what_is_asked_of_a_chapter_stays_together(group):
    one, other = CHAPTERS[:2]
    assert group(f"{SHARED}::test_a[{one}]") == group(f"{SHARED}::test_b[{one}-x]")
    assert group(f"{SHARED}::test_a[{one}]") != group(f"{SHARED}::test_a[{other}]")
    assert group(f"{SHARED}::test_of_all") == SHARED
