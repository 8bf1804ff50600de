"""Every chapter executed by papermill, with parameters that make it quick, and what it recorded.

A chapter is run three times (``RUNS``), as other processors would, each once in a test run; all tests read the same outputs.
What this processor makes of it is built by ``make book``, and its verdicts are compared in test_built_pages.py.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import papermill
import pytest
from expectations import PAGES
from instruction_sets import INSTRUCTION_SETS
from papermill.exceptions import PapermillExecutionError

from one_step_trap.book import plan
from one_step_trap.book.execute import ENVIRONMENT, execute
from one_step_trap.errors import BookError
from one_step_trap.ledger.claims import catalogue, recorded_in

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.book


class Executed:
    """An executed chapter: its claims and everything it recorded by name."""

    def __init__(self, path: Path) -> None:
        self.content = json.loads(path.read_text(encoding="utf-8"))
        self.claims = {claim.id: claim for claim in recorded_in(self.content)}
        self.names = [out["metadata"]["scrapbook"]["name"] for out in self.glued()]
        self.recorded = {out["metadata"]["scrapbook"]["name"]: out["data"] for out in self.glued()}

    def glued(self) -> list[dict]:
        code = [cell for cell in self.content["cells"] if cell["cell_type"] == "code"]
        return [out for cell in code for out in cell["outputs"] if "scrapbook" in out.get("metadata", {})]

    def text(self, name: str) -> str:
        (found,) = [data for mime, data in self.recorded[name].items() if mime.endswith("text/plain")]
        return "".join(found).strip("'")  # a text is stored as Python writes it, in quotes


def by_the_pipeline(chapter: str, output: Path, parameters: dict, environment: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:  # the kernel has the environment of its parent
        for name, value in environment.items():
            patch.setenv(name, value)
        execute(ROOT / "chapters" / f"{chapter}.ipynb", output, parameters=parameters, progress=False)


def by_hand(chapter: str, output: Path, parameters: dict, environment: dict[str, str]) -> None:
    """Run the README's command in the folder of the book, another working folder than the pipeline's."""
    command = [
        sys.executable,
        "-m",
        "papermill",
        f"chapters/{chapter}.ipynb",
        str(output),
        "--no-progress-bar",
    ]
    run = subprocess.run(
        [*command, "-y", json.dumps(parameters)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


# The runs of a chapter: how, and as on which processor (where none can be asked for, this one).
RUNS: dict[str, tuple[Callable[..., None], str]] = {
    "quick": (by_the_pipeline, "haswell"),
    "again": (by_hand, "haswell"),
    "other settings": (by_hand, "nehalem"),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """``ran(chapter, name)``: the executed chapter; each is run once."""
    done = {}

    def get(chapter: str, name: str = "quick") -> Executed:
        if (chapter, name) not in done:
            how, processor = RUNS[name]
            expected = PAGES[chapter]
            output = tmp_path_factory.mktemp(chapter) / f"{chapter}.ipynb"
            parameters = expected.QUICK | (expected.OTHER if name == "other settings" else {})
            how(chapter, output, parameters, INSTRUCTION_SETS.get(processor, {}))
            done[chapter, name] = Executed(output)
        return done[chapter, name]

    return get


def test_every_chapter_has_its_expectations():
    assert sorted(PAGES) == sorted(plan.chapters(ROOT))


def test_recorded_values(chapter, ran):
    claims, expected = ran(chapter).claims, PAGES[chapter].EXPECTED
    assert expected, "say which values this chapter must record"
    assert {id: claims[id].value for id in expected} == expected


def test_verdicts(chapter, ran):
    assert {id: claim.verdict for id, claim in ran(chapter).claims.items()} == PAGES[chapter].VERDICTS


def test_texts_for_the_prose(chapter, ran):
    executed, expected = ran(chapter), PAGES[chapter].TEXTS
    assert {name: executed.text(name) for name in expected} == expected


def test_every_claim_of_the_chapter_is_recorded_once(chapter, ran):
    executed = ran(chapter)
    owed = sorted(entry.id for entry in catalogue() if entry.chapter == chapter)
    assert sorted(claim.id for claim in recorded_in(executed.content)) == owed


def test_no_name_is_recorded_twice(chapter, ran):
    names = ran(chapter).names
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_everything_that_the_prose_shows_is_recorded(chapter, ran):
    executed = ran(chapter)
    prose = "\n".join("".join(c["source"]) for c in executed.content["cells"] if c["cell_type"] == "markdown")
    shown = set(re.findall(r"\{eval\}`val\[\"([^`]+)\"\]`", prose))
    shown |= set(re.findall(r"\{figure\}\s*\n:name: fig-(\S+)$", prose, flags=re.M))
    for page in (ROOT / "chapters").glob("*.md"):
        shown |= set(re.findall(rf"\{{glue:\w*\}}`{chapter}\.ipynb::([^`:]+)", page.read_text()))
    assert shown
    assert sorted(shown - set(executed.recorded)) == []


def test_figures_that_claims_point_to_exist(chapter, ran):
    executed = ran(chapter)
    prose = "\n".join("".join(c["source"]) for c in executed.content["cells"] if c["cell_type"] == "markdown")
    labels = set(re.findall(r"^:name:\s*(\S+)$", prose, flags=re.M))
    for claim in executed.claims.values():
        assert not claim.figure or claim.figure in labels, f"{claim.id} points to {claim.figure}"


def test_no_warning_and_no_stray_output_reaches_the_reader(chapter, ran):
    code = [cell for cell in ran(chapter).content["cells"] if cell["cell_type"] == "code"]
    for out in (out for cell in code for out in cell["outputs"] if out["output_type"] == "stream"):
        assert out["name"] != "stderr", "".join(out["text"])[:500]


def test_the_same_seed_gives_the_same_numbers_bit_for_bit(chapter, ran):
    """On one machine, however the chapter is run."""
    first, again = ran(chapter), ran(chapter, "again")
    assert again.names == first.names
    differing = [name for name in first.recorded if again.recorded[name] != first.recorded[name]]
    assert differing == []


def test_a_reader_may_choose_other_settings(chapter, ran):
    other = ran(chapter, "other settings")
    assert other.names == ran(chapter).names
    assert {id: claim.verdict for id, claim in other.claims.items()} == PAGES[chapter].VERDICTS


def code_up_to_the_check(notebook: str) -> tuple[list[str], list[str]]:
    """The code cells before the parameters with them, and those from there to the cell that checks them."""
    cells = json.loads((ROOT / "chapters" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in code]
    (given,) = [i for i, c in enumerate(code) if "parameters" in c["metadata"].get("tags", [])]
    checked = next(i for i, source in enumerate(sources) if ".from_notebook(globals())" in source)
    return sources[: given + 1], sources[given + 1 : checked + 1]


WRONG = [(page, *wrong) for page, expected in PAGES.items() for wrong in expected.WRONG]


@pytest.mark.parametrize(("notebook", "parameters", "message"), WRONG, ids=lambda value: str(value)[:24])
def test_parameters_that_cannot_be_right_are_refused(notebook, parameters, message):
    """The cells run here as a kernel would run them, with the parameters where papermill puts them."""
    before, after = code_up_to_the_check(notebook)
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec("\n".join(before), namespace)
    namespace |= parameters
    with pytest.raises(BookError) as caught:
        exec("\n".join(after), namespace)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


ONE_EACH = {wrong[0]: wrong for wrong in reversed(WRONG)}.values()


@pytest.mark.parametrize(("notebook", "parameters", "message"), ONE_EACH, ids=str)
def test_a_wrong_parameter_stops_the_chapter_with_one_clear_error(notebook, parameters, message, tmp_path):
    """However the notebook is run; here by papermill itself, which would go on with an unknown name."""
    with pytest.raises(PapermillExecutionError) as caught:
        papermill.execute_notebook(
            str(ROOT / "chapters" / f"{notebook}.ipynb"),
            str(tmp_path / "out.ipynb"),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(ROOT / "chapters"),
            progress_bar=False,
        )
    error = caught.value
    assert error.ename == "BookError"
    assert error.evalue.startswith(message)
    assert error.traceback == [f"BookError: {error.evalue}"]  # no stack
    assert Executed(tmp_path / "out.ipynb").names == []
