import json
import re
import shutil

import pytest
import yaml
from notebooks import code, markdown, notebook

from one_step_trap.book import plan
from one_step_trap.errors import BookError


@pytest.fixture
def book(tmp_path, root):
    """A copy of the library with two small chapters and nothing else of the book."""
    shutil.copytree(
        root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    shutil.copy(root / "requirements.txt", tmp_path)
    toc = {
        **{"format": "jb-book", "root": "chapters/index"},
        "parts": [
            {"caption": "All", "chapters": [{"file": f"chapters/{n}"} for n in ("90-alpha", "91-beta")]}
        ],
    }
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    notebook(
        tmp_path / "chapters/90-alpha.ipynb", markdown("# A"), "from one_step_trap.discounting import nstep"
    )
    notebook(
        tmp_path / "chapters/91-beta.ipynb",
        "import one_step_trap.core.stats as s\n%time\nfor i in []:\n    !ls",
    )
    (tmp_path / "chapters/index.md").write_text("# Title\n")
    return tmp_path


def names(book, chapter):
    return {str(path.relative_to(book)) for path in plan.inputs(book, chapter)}


def edit(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "\n# edited\n")


def test_chapters_are_the_notebooks_of_the_table_of_contents(book):
    assert plan.pages(book) == ["chapters/index", "chapters/90-alpha", "chapters/91-beta"]
    assert plan.chapters(book) == ["90-alpha", "91-beta"]


def test_nested_tables_of_contents(book):
    toc = {
        "root": "index",
        "chapters": [{"file": "a", "sections": [{"file": "b"}]}, {"url": "x"}, {"file": "c"}],
    }
    (book / "_toc.yml").write_text(yaml.safe_dump(toc))
    assert plan.pages(book) == ["index", "a", "b", "c"]


def test_inputs_are_what_the_notebook_imports_and_what_that_imports(book):
    alpha = names(book, "90-alpha")
    assert {
        "chapters/90-alpha.ipynb",
        "requirements.txt",
        "src/one_step_trap/__init__.py",
        "src/one_step_trap/discounting/__init__.py",
        "src/one_step_trap/discounting/nstep.py",
        "src/one_step_trap/core/validate.py",
        "src/one_step_trap/errors.py",
    } <= alpha
    assert "src/one_step_trap/pages/interactive.py" not in alpha
    assert not [name for name in alpha if name.startswith("src/one_step_trap/book/")]
    beta = names(book, "91-beta")
    assert "src/one_step_trap/core/stats.py" in beta
    assert not [name for name in beta if "discounting" in name]


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("src/one_step_trap/discounting/nstep.py", {"90-alpha"}),
        ("src/one_step_trap/core/stats.py", {"90-alpha", "91-beta"}),
        ("src/one_step_trap/core/validate.py", {"90-alpha", "91-beta"}),
        ("src/one_step_trap/__init__.py", {"90-alpha", "91-beta"}),
        ("src/one_step_trap/pages/interactive.py", set()),
        ("src/one_step_trap/book/plan.py", set()),
        ("src/one_step_trap/ledger/claims.toml", set()),
        ("data/90-alpha/table.csv", {"90-alpha"}),
        ("data/91-beta/deep/er.csv", {"91-beta"}),
        ("data/92-gamma/table.csv", set()),
        ("requirements.txt", {"90-alpha", "91-beta"}),
        ("chapters/index.md", set()),
    ],
)
def test_an_edit_changes_the_fingerprints_of_what_depends_on_it_and_no_other(book, file, changed):
    before = {chapter: plan.digest(book, chapter) for chapter in plan.chapters(book)}
    edit(book / file)
    after = {chapter: plan.digest(book, chapter) for chapter in plan.chapters(book)}
    assert {chapter for chapter in before if before[chapter] != after[chapter]} == changed


def test_an_edit_of_one_notebook_leaves_the_other_alone(book):
    before = plan.digest(book, "90-alpha"), plan.digest(book, "91-beta")
    notebook(book / "chapters/91-beta.ipynb", "import one_step_trap.core.stats as s  # more")
    assert plan.digest(book, "90-alpha") == before[0]
    assert plan.digest(book, "91-beta") != before[1]


def test_touching_a_file_changes_nothing(book):
    before = plan.digest(book, "90-alpha")
    path = book / "src/one_step_trap/discounting/nstep.py"
    path.write_bytes(path.read_bytes())
    assert plan.digest(book, "90-alpha") == before


def test_of_the_shared_provenance_only_the_chapters_own_part_counts(book):
    def provenance(**seeds):
        resources = [{"path": f"{chapter}/t.csv", "seed": seed} for chapter, seed in seeds.items()]
        (book / "data").mkdir(exist_ok=True)
        (book / "data/datapackage.json").write_text(json.dumps({"resources": resources}))
        return plan.digest(book, "90-alpha")

    first = provenance(**{"90-alpha": 1, "91-beta": 1})
    assert provenance(**{"90-alpha": 1, "91-beta": 2}) == first
    assert provenance(**{"91-beta": 2, "90-alpha": 1}) == first
    assert provenance(**{"90-alpha": 2, "91-beta": 1}) != first


def test_every_form_of_import_is_seen(tmp_path):
    path = notebook(
        tmp_path / "x.ipynb",
        markdown("import one_step_trap.in_prose"),
        "import one_step_trap.core.stats as st, numpy as np",
        "from one_step_trap.ledger import record\nfrom one_step_trap import data, study as f",
        "def late():\n    from one_step_trap.discounting.nstep import walk\n    return walk",
        "import one_step_trap_of_another_kind\nfrom . import here",
        "%matplotlib inline\nif True:\n    %pip install one-step-trap\nx = 3",
        code("", execution_count=None),
    )
    assert plan.imports_of(path) == {
        "one_step_trap",
        "one_step_trap.core.stats",
        "one_step_trap.ledger",
        "one_step_trap.ledger.record",
        "one_step_trap.data",
        "one_step_trap.study",
        "one_step_trap.discounting.nstep",
        "one_step_trap.discounting.nstep.walk",
    }


def test_a_cell_that_is_not_python_is_named_with_its_notebook(tmp_path):
    path = notebook(tmp_path / "x.ipynb", "def broken(:")
    with pytest.raises(BookError, match=r"x\.ipynb has a cell that is not Python"):
        plan.imports_of(path)


def test_the_pages_depend_on_prose_style_and_library(book, root):
    sources = {str(path.relative_to(root)) for path in plan.page_sources(root)}
    assert {
        "_config.yml",
        "_toc.yml",
        "chapters/index.md",
        "chapters/references.bib",
        "chapters/_static/book.css",
        "chapters/_static/book.js",
        "src/one_step_trap/core/stats.py",
        "src/one_step_trap/book/sphinx_ext.py",
        "src/one_step_trap/ledger/claims.toml",
    } <= sources
    before = plan.digest_of(book, [book / "chapters/index.md"])
    edit(book / "chapters/index.md")
    assert plan.digest_of(book, [book / "chapters/index.md"]) != before


def test_the_chapter_of_the_book_depends_on_its_own_module(root):
    for chapter in plan.chapters(root):
        inputs = {str(path.relative_to(root)) for path in plan.inputs(root, chapter)}
        own = [
            name
            for name in inputs
            if re.fullmatch(r"src/one_step_trap/(?!ledger)[a-z]+/parameters\.py", name)
        ]
        assert len(own) == 1, chapter  # the parameters of its sub-package, and of no other chapter's
        assert {"src/one_step_trap/ledger/record.py", "src/one_step_trap/ledger/parameters.py"} <= inputs
