"""The pipeline on a small book: what runs again after which edit, and what a failure or a kill leaves behind.

Its third chapter is ``chapters/_template``, added by the steps of CONTRIBUTING.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from functools import partial
from pathlib import Path

import expectations
import pytest
import yaml
from notebooks import code, markdown, notebook

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.book

ALPHA = "from one_step_trap.core import stats\nprint(stats.exact(0.5))"
BETA = "from one_step_trap.core import validate\nprint(validate.check_gamma(0.5))"
# The commands that CONTRIBUTING gives for a new chapter; they are run in the folder of the small book.
STEPS = re.search(r"```bash\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.S)[1]
SLOW = "import time\nopen('started', 'w').close()\ntime.sleep(300)"


class Book:
    """A small book in a folder of its own, with a copy of the library and an environment that shows the packages here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / ".venv", symlinks=True)
        self.python = folder / ".venv/bin/python"
        (packages,) = (folder / ".venv/lib").glob("python3*/site-packages")
        (packages / "here.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
        hidden = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / "src", folder / "src", ignore=hidden)
        for name in ("_static", "_template"):
            shutil.copytree(ROOT / "chapters" / name, folder / "chapters" / name)
        (folder / "tests").mkdir()
        for name in ("Snakefile", "_config.yml", "requirements.txt", "chapters/references.bib"):
            shutil.copy(ROOT / name, folder / name)
        chapters = [
            {"file": f"chapters/{name}"} for name in ("90-alpha", "91-beta", "07-ripples", "library-ripples")
        ]
        toc = {
            "format": "jb-book",
            "root": "chapters/index",
            "parts": [{"caption": "All", "chapters": chapters}],
        }
        (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
        self.write_index("The first text.")
        self.chapter("90-alpha", ALPHA)
        self.chapter("91-beta", BETA)
        subprocess.run(["bash", "-euc", STEPS], cwd=folder, check=True)

    def write_index(self, text: str) -> None:
        (self.folder / "chapters/index.md").write_text(f"# A small book\n\n{text}\n")

    def chapter(self, name: str, *cells: str) -> None:
        parameters = code("seed: int = 0  # seed", tags=["parameters"])
        notebook(self.folder / f"chapters/{name}.ipynb", markdown(f"# {name}"), parameters, *cells)

    def start(self, *target: str, **options) -> subprocess.Popen:
        """Start ``make book``, or another target (make itself would only set up an environment first)."""
        command = [self.python, "-m", "one_step_trap.book.build", *(target or ["book"])]
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src")}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def build(self, *target: str) -> tuple[int, str]:
        process = self.start(*target)
        out, err = process.communicate(timeout=300)
        return process.returncode, out + err

    def must_build(self) -> str:
        status, output = self.build()
        assert status == 0, output
        return output

    def run_chapters(self) -> None:
        """Run the pipeline up to the ledger, which is all but the site."""
        target = "import sys; from one_step_trap.book.build import snakemake; sys.exit(snakemake(['_build/claims.json']))"
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src")}
        subprocess.run([self.python, "-c", target], cwd=self.folder, env=environment, check=True)

    def made(self) -> dict[str, int]:
        """When each chapter was executed and the site was made."""
        files = {name: f"_build/executed/{name}.ipynb" for name in ("90-alpha", "91-beta")}
        files["site"] = "_build/site.json"
        return {name: (self.folder / file).stat().st_mtime_ns for name, file in files.items()}

    def redone_by(self, edit, run=None) -> set[str]:
        """What a build makes anew after an edit."""
        before = self.made()
        edit()
        (run or self.must_build)()
        after = self.made()
        return {name for name in before if before[name] != after[name]}

    def page(self, name: str) -> str:
        return (self.folder / f"_build/html/chapters/{name}.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Book:
    small = Book(tmp_path_factory.mktemp("it's a $mall book & more"))
    output = small.must_build()
    assert f"Start page: {small.folder}/_build/html/index.html" in output
    return small


TINY = """
import pandas as pd
from one_step_trap.study import Study

STUDY = Study(
    name="90-alpha/tiny",
    keys=["part"],
    title="Tiny",
    parts=2,
    run=lambda part: pd.DataFrame({"part": [part]}),
    settings={},
    columns={"part": "part of the study"},
)
"""


def test_a_study_is_run_in_parts_and_stored(book):
    """It is found where it is defined."""
    module = book.folder / "src/one_step_trap/tiny.py"
    module.write_text(TINY)
    status, output = book.build("sweep", "90-alpha/tiny")
    assert status == 0, output
    assert (book.folder / "data/90-alpha/tiny.csv").read_text() == "part\n0\n1\n"
    shutil.rmtree(book.folder / "data")
    module.unlink()


def append(path: Path, text: str):
    return lambda: path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_small_book_has_its_pages_and_records(book):
    assert "0.5 [0.5, 0.5] (n = 1)" in book.page("90-alpha")
    for name in ("90-alpha", "91-beta"):
        assert (book.folder / f"_build/logs/{name}.log").stat().st_size > 0
        header = (book.folder / f"_build/benchmarks/{name}.tsv").read_text().split("\t")
        assert {"s", "max_rss"} <= set(header)


def test_the_template_is_a_page_with_a_verdict(book):
    expected = expectations.read(book.folder / "tests/ripples/expected.py")
    (claim,) = json.loads((book.folder / "_build/claims.json").read_text())
    assert {claim["id"]: claim["value"]} == expected.EXPECTED
    assert {claim["id"]: claim["verdict"]} == expected.VERDICTS
    assert f"halves in {expected.TEXTS['formula']} steps" in re.sub(r"<[^>]+>", "", book.page(expected.PAGE))
    assert "one_step_trap.ripples.decay.half_life" in book.page("library-ripples")


def test_the_tests_of_the_template_pass(book):
    run = subprocess.run(
        [book.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ripples"],
        cwd=book.folder,
        env={**os.environ, "PYTHONPATH": str(book.folder / "src"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "4 passed" in run.stdout


def test_without_a_change_nothing_is_made_anew(book):
    """A new date on a file is no change."""
    assert book.redone_by(lambda: os.utime(book.folder / "chapters/90-alpha.ipynb")) == set()


def test_a_module_runs_the_chapters_that_import_it(book):
    edit = append(book.folder / "src/one_step_trap/core/stats.py", "\nMORE = 1\n")
    assert book.redone_by(edit, book.run_chapters) == {"90-alpha"}


def test_a_notebook_runs_itself(book):
    edit = partial(book.chapter, "91-beta", BETA, "print('a new cell')")
    assert book.redone_by(edit, book.run_chapters) == {"91-beta"}


def test_a_failing_cell_stops_the_build_and_the_last_good_site_stays(book):
    site = (book.folder / "_build/html").resolve()
    book.chapter("90-alpha", "print('fine')", "\nvalue = 1 / 0")
    status, output = book.build()
    assert status != 0
    assert "error: chapter 90-alpha failed in cell 4 (In [3]), which begins: value = 1 / 0" in output
    assert "ZeroDivisionError: division by zero" in output
    assert "log: _build/logs/90-alpha.log" in output
    assert "ZeroDivisionError" in (book.folder / "_build/logs/90-alpha.log").read_text()
    assert "The last good build is still at _build/html/index.html" in output
    assert "Traceback" not in output
    assert (book.folder / "_build/html").resolve() == site
    assert "0.5 [0.5, 0.5] (n = 1)" in book.page("90-alpha")


def test_mended_it_builds_and_runs_only_what_was_broken(book):
    """A page of prose that was edited meanwhile makes the site anew, and runs no chapter."""
    book.chapter("90-alpha", ALPHA, "print('mended')")
    book.write_index("Another text.")
    before = (book.folder / "_build/executed/91-beta.ipynb").stat().st_mtime_ns
    book.must_build()
    assert (book.folder / "_build/executed/91-beta.ipynb").stat().st_mtime_ns == before
    assert "mended" in book.page("90-alpha")
    assert "a new cell" in book.page("91-beta")
    assert "Another text." in book.page("index")


def test_a_page_with_a_fault_stops_the_build_too(book):
    site = (book.folder / "_build/html").resolve()
    book.write_index("See [nowhere](nowhere.md) and {cite:p}`nobody1900`.")
    status, output = book.build()
    assert status != 0
    assert "jupyter-book found fault with the pages" in output
    assert "nobody1900" in output
    assert "log: _build/logs/site.log" in output
    assert (book.folder / "_build/html").resolve() == site
    assert "Another text." in book.page("index")
    book.write_index("Another text.")


def test_a_claim_that_nobody_knows_stops_the_build(book):
    book.chapter(
        "91-beta",
        "from one_step_trap.core import stats\nfrom one_step_trap.ledger import record",
        "record.claim('disc-500', stats.exact(0.5), unit='share', verdict='holds', rule='holds if above a quarter')",
    )
    status, output = book.build()
    assert status != 0
    assert (
        "error: the ledger of claims does not add up: disc-500 belongs to 02-discounting but was recorded in 91-beta"
        in output
    )
    assert "a new cell" in book.page("91-beta")
    book.chapter("91-beta", BETA, "print('a new cell')")


def processes_in(folder: Path) -> list[int]:
    """Processes that work in a folder or below it (Linux), so that a test leaves none behind."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_been(book):
    """kill -9 of everything in the middle of a chapter; the site stays; the next build is a normal one."""
    site, text = (book.folder / "_build/html").resolve(), book.page("90-alpha")
    started = book.folder / "chapters/started"
    book.chapter("90-alpha", SLOW)
    process = book.start(start_new_session=True)
    deadline = time.monotonic() + 120
    while not started.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    for pid in processes_in(book.folder):  # kernels are leaders of their own groups
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert (book.folder / "_build/html").resolve() == site
    assert book.page("90-alpha") == text
    started.unlink()
    book.chapter("90-alpha", ALPHA, "print('after the kill')")
    book.run_chapters()
    assert "after the kill" in (book.folder / "_build/executed/90-alpha.ipynb").read_text()
