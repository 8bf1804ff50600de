"""What lies in the repository: notebooks without outputs, references that exist, versions that are pinned."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pybtex.database import parse_file

from one_step_trap.book import plan

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
NOTEBOOKS = [*CHAPTERS, *sorted((ROOT / "chapters/_template").glob("*.ipynb"))]
WRITTEN = sorted((ROOT / "chapters").glob("*.md"))


def files_in_git() -> list[Path]:
    """Every file that is or would be in the repository; without git (an archive), all but what is built."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return [ROOT / name for name in run.stdout.split("\0") if name and (ROOT / name).is_file()]
    skipped = {".venv", "_build", ".snakemake", "shared", "__pycache__"}
    return [
        path for path in ROOT.rglob("*") if path.is_file() and not skipped & set(path.relative_to(ROOT).parts)
    ]


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def prose(path: Path) -> str:
    """The text of a page: of a notebook, its markdown cells."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(map(source, cells(path, "markdown")))


notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
pages = pytest.mark.parametrize("path", [*NOTEBOOKS, *WRITTEN], ids=lambda path: path.stem)


# --- notebooks --------------------------------------------------------------------------------------------


@notebooks
def test_no_output_is_in_git(path):
    for cell in cells(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    program = Path(sys.executable).with_name("nbstripout")
    run = subprocess.run(
        [program, "--keep-id", "--verify", path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, "`.venv/bin/nbstripout --keep-id` would change this notebook"


@notebooks
def test_the_kernel_is_one_that_everybody_has(path):
    assert json.loads(path.read_text())["metadata"]["kernelspec"]["name"] == "python3"


@notebooks
def test_cells_have_ids_of_their_own(path):
    ids = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", id) for id in ids)


@notebooks
def test_every_parameter_has_a_type_and_says_what_it_is(path):
    tagged = [cell for cell in cells(path, "code") if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    parameters = papermill.inspect_notebook(str(path))
    names = {
        node.target.id for node in ast.parse(source(tagged[0])).body
    }  # plain assignments with a type, no more
    assert names == set(parameters)
    for name, parameter in parameters.items():
        assert parameter["inferred_type_name"] not in {None, "None"}, f"{name} has no type"
        assert len(parameter["help"]) > 3, f"{name} has no comment"


@notebooks
def test_the_chapter_checks_its_parameters(path):
    code = "\n".join(map(source, cells(path, "code")))
    assert ".from_notebook(globals())" in code.replace(" ", ""), (
        "call from_notebook(globals()) after the parameters"
    )


@notebooks
def test_assertions_for_us_are_hidden_from_readers(path):
    for cell in cells(path, "code"):
        tree = ast.parse(plan._without_magics(source(cell)))
        if any(isinstance(node, ast.Assert) for node in tree.body):
            assert "remove-cell" in cell["metadata"].get("tags", []), source(cell)


@notebooks
def test_a_chapter_runs_where_only_the_library_is_installed(path):
    first, *_ = cells(path, "code")
    assert "google.colab" in source(first), "the first code cell installs the library on Colab"
    for cell in cells(path, "code"):
        assert "myst_nb" not in source(cell)
        assert "one_step_trap.book" not in source(cell)
        assert "sys.path" not in source(cell)


def test_the_library_runs_without_the_programs_that_build_the_book():
    """Only ``one_step_trap.book`` may import them; the rest is all that Colab has."""
    script = """
import importlib.abc, sys
class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {"myst_nb", "sphinx", "papermill", "snakemake", "grimp", "frictionless"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
import one_step_trap.cli, one_step_trap.data, one_step_trap.pages.interactive, one_step_trap.ledger.parameters
import one_step_trap.ledger.record, one_step_trap.study
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


# --- pages ------------------------------------------------------------------------------------------------


def test_every_page_of_the_contents_exists():
    for page in plan.pages(ROOT):
        found = [path for suffix in (".md", ".ipynb") if (path := ROOT / f"{page}{suffix}").exists()]
        assert len(found) == 1, page


def test_every_chapter_is_in_the_contents():
    assert {path.stem for path in CHAPTERS} == set(plan.chapters(ROOT))


@pages
def test_every_figure_has_a_label_and_a_caption(path):
    figures = re.findall(
        r"^(`{3,}|:{3,})\{figure\}[ ]*\n:name: fig-(\S+)\n(.*?)^\1", prose(path), flags=re.M | re.S
    )
    code = "\n".join(map(source, cells(path, "code"))) if path.suffix == ".ipynb" else ""
    drawn = re.findall(r"record\.figure\(\s*[\"']([^\"']+)", code)
    assert sorted(name for _, name, _ in figures) == sorted(drawn), (
        "each figure is recorded once and shown once"
    )
    for _, name, body in figures:
        caption = re.sub(r"^:\w+:.*$", "", body, flags=re.M).strip()
        assert len(caption.split()) >= 5, f"the caption of {name} does not state a finding"


def entries():
    return parse_file(ROOT / "chapters/references.bib").entries


def test_references_are_complete():
    assert entries()
    for key, entry in entries().items():
        assert entry.persons.get("author") or entry.persons.get("editor"), f"{key} has no author"
        for field in ("title", "year"):
            assert entry.fields.get(field, "").strip(), f"{key} has no {field}"
        assert re.fullmatch(r"\d{4}", entry.fields["year"]), f"{key}: year {entry.fields['year']}"


@pages
def test_every_cited_work_is_in_the_references(path):
    cited = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", prose(path))
    keys = {key.strip() for group in cited for key in group.split(",")}
    assert keys <= set(entries()), f"not in references.bib: {sorted(keys - set(entries()))}"


# --- versions ---------------------------------------------------------------------------------------------


def pins() -> dict[str, Requirement]:
    found = {}
    for name in ("requirements.txt", "requirements-nodeps.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                assert re.fullmatch(r"[\w.-]+==\d[\w.]*( ; .+)?", line), f"{name}: {line!r} is no exact pin"
                pin = Requirement(line)
                key = canonicalize_name(pin.name)
                assert key not in found, f"{pin.name} is pinned twice"
                found[key] = pin
    return found


def version(pin: Requirement) -> Version:
    return Version(str(pin.specifier).removeprefix("=="))


def ranges() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def test_every_range_has_a_pin_inside_it():
    for requirement in ranges():
        pin = pins().get(canonicalize_name(requirement.name))
        assert pin, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(version(pin)), f"{requirement} does not allow {pin}"


def test_what_is_installed_here_is_what_is_pinned():
    for name, pin in pins().items():
        if pin.marker is None or pin.marker.evaluate():
            installed = Version(metadata.version(name))
            assert installed.public == version(pin).public, (
                f"{name}: {installed} is installed, {pin} is pinned"
            )


def test_the_promised_packages_are_there():
    names = {canonicalize_name(r.name): r for r in ranges()}
    promised = {
        "jupyter-book",
        "jupyterlab",
        "numpy",
        "torch",
        "transformers",
        "gymnasium",
        "seaborn",
        "papermill",
    }
    assert promised <= set(names)
    assert not names["jupyter-book"].specifier.contains("2.0")


# --- the repository ---------------------------------------------------------------------------------------


def test_no_file_names_a_folder_of_somebodys_machine():
    folders = [f"/{name}/" for name in ("work", "opt", "root", "Users", "home")]
    pattern = re.compile(r"(?<![\w.~/-])(" + "|".join(folders) + r")\w")
    for path in files_in_git():
        if path.suffix not in {".png", ".safetensors"} and path != Path(__file__).resolve():
            for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not pattern.search(line), f"{path.relative_to(ROOT)}:{i}: {line.strip()[:100]}"


def test_packages_come_from_wherever_the_reader_gets_packages():
    """No index, mirror or proxy is written down: pip's and conda's own settings decide. (The Makefile looks for PyTorch
    without CUDA in PyTorch's own index before it asks the reader's.)"""
    pattern = re.compile(
        r"(index[-_]url|find[-_]links|trusted[-_]host|registry|proxy)\S*[\s=:]+\S*://", re.IGNORECASE
    )
    for path in files_in_git():
        if path.suffix not in {".png", ".safetensors"} and path != Path(__file__).resolve():
            found = pattern.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


def test_nothing_that_was_built_is_in_git():
    run = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    built = re.compile(
        r"(^|/)(_build|\.venv|\.snakemake|__pycache__|\.ipynb_checkpoints)/|\.pyc$|(?i:log\.txt$)"
    )
    assert [name for name in run.stdout.splitlines() if built.search(name)] == []


def test_files_are_small():
    """Weights of a model may have 20 MB."""
    for path in files_in_git():
        most = 20e6 if path.suffix == ".safetensors" else 5 * 2**20
        assert path.stat().st_size < most, path


def test_programs_can_be_run():
    for name in (".ci/run", "postBuild"):
        assert (ROOT / name).stat().st_mode & 0o111, f"chmod +x {name}"
        assert subprocess.run(["bash", "-n", ROOT / name], check=False).returncode == 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.stem
)
def test_workflows_run_the_readmes_commands(path):
    steps = [s for job in yaml.safe_load(path.read_text())["jobs"].values() for s in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert {"test": ".ci/run", "publish": "make book"}[path.stem] in commands
    versions = [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")]
    assert versions == ["3.11"]


def test_the_readme_begins_with_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    first = re.search(r"```\w*\n(.*?)```", readme, flags=re.S)
    assert [line.split("#")[0].strip() for line in first[1].strip().splitlines()] == [
        "make book",
        "make test",
    ]
    assert len(readme[: first.start()].split()) < 60


def test_make_help_lists_every_command():
    makefile = (ROOT / "Makefile").read_text()
    run = subprocess.run(["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True)
    listed = {line.split()[1] for line in run.stdout.splitlines() if line.startswith("  make ")}
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M)[1].split())
    assert listed == phony
    assert {"book", "test", "lab", "serve", "bench", "clean", "help"} <= listed


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == citation["version"] == metadata.version("one-step-trap")
    assert (
        citation["repository-code"] == yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    )
