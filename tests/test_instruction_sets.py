"""The unit tests and what the build says of itself, as another processor has them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from instruction_sets import INSTRUCTION_SETS

from one_step_trap.book.execute import ENVIRONMENT

FOLDERS = sorted(path.parent.name for path in Path(__file__).parent.glob("*/expected*.py"))
# Not in the quick round: pages, texts and files, where nothing is rounded, and what trains for long or loads large models.
LEFT_OUT = {
    "discounting": ("essays", "playable"),
    "muzero": ("checkpoints", "muzero_instrument", "muzero_studies", "muzero_training", "tree_viewer"),
    "sampling": ("attention", "book_model", "bpe", "kept", "models", "protocol", "sample", "texts", "viewer"),
    "trap": ("instrument", "networks", "trap_playable"),
}
BRIEFLY = "not bad_input and not plots and not figure and not 10000_instances and not full_study"
EXPECTED = {
    "haswell": {"BLAS": "OpenBLAS Haswell", "PyTorch": "AVX2", "Numba": "haswell"},
    "nehalem": {"BLAS": "OpenBLAS Nehalem", "PyTorch": "AVX2", "Numba": "nehalem"},
}


def python(root, name, *arguments):
    """Run Python as on a processor of this name; return what it said."""
    environment = {**os.environ, **ENVIRONMENT, **INSTRUCTION_SETS[name]}
    environment["PYTEST_ADDOPTS"] = ""
    run = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-4_000:]
    return run.stdout


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_the_libraries_leave_out_what_such_a_processor_lacks(root, name):
    code = (
        "import json; from one_step_trap.book import machine; print(json.dumps(machine.instruction_sets()))"
    )
    found = json.loads(python(root, name, "-c", code))
    assert found.pop("NumPy") in {"haswell": ("X86_V3", "AVX2"), "nehalem": ("X86_V2", "SSE3")}[name]
    assert found == EXPECTED[name]


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_the_unit_tests_pass(root, name):
    files = [
        str(path)
        for folder in FOLDERS
        for path in sorted((root / "tests" / folder).glob("test_*.py"))
        if path.stem.removeprefix("test_") not in LEFT_OUT.get(folder, ())
    ]
    said = python(root, name, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", BRIEFLY, *files)
    assert " passed" in said.splitlines()[-1]
