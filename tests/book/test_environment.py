"""Binder: what repo2docker chooses, and that its environment is the one the book was proven with."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {
    "pytorch-cpu": "torch",
    "matplotlib-base": "matplotlib",
}  # conda-forge: PyPI
UNPINNED = {"pip", "git"}


def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def listed() -> dict[str, str]:
    """Name on PyPI -> version, of everything that environment.yml installs."""
    *conda, pip = environment()["dependencies"]
    pins = dict(line.split("=") for line in conda if line not in UNPINNED)
    found = {canonicalize_name(CONDA_NAMES.get(name, name)): version for name, version in pins.items()}
    for requirement in map(Requirement, pip["pip"]):
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        assert canonicalize_name(requirement.name) not in found, f"{requirement.name} is listed twice"
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def test_python_is_311_and_torch_is_conda_forges_without_cuda():
    content = environment()
    assert content["name"] == "one-step-trap"
    assert content["channels"] == ["conda-forge", "nodefaults"]
    assert "python=3.11" in content["dependencies"]
    torch = [line for line in content["dependencies"] if isinstance(line, str) and "torch" in line]
    assert torch == [f"pytorch-cpu={pinned()['torch']}"]


def test_the_pins_are_those_of_requirements():
    versions = {name: version for name, version in listed().items() if name != "python"}
    assert versions == {name: pinned()[name] for name in versions}


def test_all_that_the_library_needs_is_listed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    assert needed <= set(listed())
    assert {"jupyterlab", "jupyterlab-myst", "papermill", "jupyter-book"} <= set(listed())


def test_nothing_hides_the_environment_from_binder():
    for folder in ("binder", ".binder"):
        assert not (ROOT / folder).exists()


def test_repo2docker_chooses_environment_and_postbuild_with_python_311(tmp_path):
    """On the files that Binder's choice depends on, without Docker: only the Dockerfile is made."""
    for name in (
        "environment.yml",
        "postBuild",
        "requirements.txt",
        "pyproject.toml",
        "Makefile",
        "_config.yml",
    ):
        shutil.copy(ROOT / name, tmp_path)
    program = Path(sys.executable).with_name("jupyter-repo2docker")
    command = [program, "--no-build", "--debug", "--user-id", "1000", "--user-name", "reader", str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    assert run.returncode == 0, output[-2000:]
    assert "Building conda environment for python=3.11" in output
    assert "version unspecified" not in output
    assert 'env update -p ${NB_PYTHON_PREFIX} --file "environment.yml"' in output
    assert "RUN chmod +x postBuild\nRUN ./postBuild" in output.replace("\r", "")
    assert "requirements.txt" not in output  # environment.yml decides; CUDA's gigabytes stay away


def test_postbuild_installs_the_book_itself():
    script = (ROOT / "postBuild").read_text()
    assert "pip install --no-deps --editable ." in script
    assert "--no-deps --requirement requirements-nodeps.txt" in script
    assert script.startswith("#!/usr/bin/env bash\n")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-nodeps.txt"])
def test_make_installs_the_same_lists(name):
    assert f"--requirement {name}" in (ROOT / "Makefile").read_text()
