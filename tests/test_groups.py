"""The groups of tests."""

import pytest
from groups import InGroups

RUNS, BROWSER = "tests/book/test_notebooks.py", "tests/book/test_browser.py"


@pytest.fixture
def group():
    scheduler = InGroups.__new__(InGroups)
    return scheduler._split_scope


def test_a_file_stays_together(group):
    file = "tests/test_stats.py"
    assert group(f"{file}::test_one") == group(f"{file}::test_two[a::b]") == file
    assert group(f"{file}::test_three[02-discounting]") == file


def test_what_is_asked_of_a_chapter_stays_together(group):
    one, other = "02-discounting", "04-muzero-unrolling"
    assert group(f"{RUNS}::test_a[{one}]") == group(f"{RUNS}::test_b[{one}-{{'gamma': 1.2}}-x]")
    assert group(f"{RUNS}::test_a[{one}]") != group(f"{RUNS}::test_a[{other}]")
    assert group(f"{RUNS}::test_of_all") == RUNS


def test_what_is_asked_of_a_page_stays_together(group):
    one, longer = "chapters/library", "chapters/library-muzero"
    assert group(f"{BROWSER}::test_a[{longer}-dark]") == group(f"{BROWSER}::test_b[{longer}]")
    assert group(f"{BROWSER}::test_a[{longer}-dark]") != group(f"{BROWSER}::test_a[{one}-dark]")
    assert group(f"{BROWSER}::test_a[chapters/02-discounting-dark]") == group(
        f"{BROWSER}::test_b[02-discounting]"
    )


def test_the_round_of_each_instruction_set_is_a_group(group):
    file = "tests/test_instruction_sets.py"
    assert group(f"{file}::test_a[haswell]") == group(f"{file}::test_b[haswell]")
    assert group(f"{file}::test_a[haswell]") != group(f"{file}::test_a[nehalem]")
