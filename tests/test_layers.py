"""Who may import whom: ``core`` stands on nothing, chapters on it and on no other chapter, and nothing goes round."""

import graphlib
from pathlib import Path

import grimp
import pytest

import one_step_trap
from one_step_trap.book.plan import PACKAGE

LIBRARY = Path(one_step_trap.__file__).parent
CHAPTERS = sorted({path.parent.name for path in LIBRARY.glob("*/parameters.py")} - {"ledger"})
ALONE = {"errors"}  # what every part may import
# What each part may import beside itself; the programs around the chapters (book, cli) may import everything.
ALLOWED = {
    "core": ALONE,
    "pages": {"core", *ALONE},
    "ledger": {"core", "pages", *ALONE},
    **{chapter: {"core", "ledger", "pages", "data", "study", "report", *ALONE} for chapter in CHAPTERS},
}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(PACKAGE, cache_dir=None, exclude_type_checking_imports=True)


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", ALLOWED)
def test_a_part_imports_what_lies_below_it(graph, name):
    inside = [module for module in graph.modules if part(module) == name]
    assert inside
    beyond = {
        (module, imported)
        for module in inside
        for imported in graph.find_modules_directly_imported_by(module)
        if part(imported) not in {name, *ALLOWED[name]}
    }
    assert sorted(beyond) == []


def test_no_module_imports_itself_through_others(graph):
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    list(graphlib.TopologicalSorter(imports).static_order())  # a circle is an error that names it


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_algorithms_know_no_figures(graph, chapter):
    """Figures are drawn from results; only the command of a chapter draws them, when it is run."""
    drawn = {
        (module, imported)
        for module in graph.modules
        if part(module) == chapter and ".plots" not in module and not module.endswith(".instrument")
        for imported in graph.find_modules_directly_imported_by(module)
        if ".plots" in imported
    }
    assert sorted(drawn) == []
