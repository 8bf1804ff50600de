"""``make setup`` with fakes of Python and of PyTorch's index: which Python it takes, and from where PyTorch."""

import os
import subprocess
import sys

import pytest

ALL = "-m pip install --quiet --no-compile"
REST = [
    f"{ALL} --no-deps --requirement requirements.txt --requirement requirements-nodeps.txt",
    f"{ALL} --no-deps --no-build-isolation --editable .",
]


class Machine:
    """A folder of programs in front of the system's own; what the new environment is asked to do is in its log."""

    def __init__(self, folder, root):
        self.folder, self.root = folder, root
        (folder / "bin").mkdir()
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
        self.environment["PATH"] = f"{folder}/bin:{os.defpath}"
        for name in ("python3.11", "python3.12", "python3.13", "python3"):
            self.program(name, "exit 127")
        self.system("Linux")

    def program(self, name, text):
        path = self.folder / name if "/" in name else self.folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def system(self, name):
        self.program("uname", f"echo {name}")

    def python(self, name, *, but="", index="exit 1", fails="nothing"):
        """Put a Python there that is like ours ``but``; its environments answer from an index, and pip fails at some text."""
        inside = self.program(
            "inside/python",
            f'echo "$*" >> "{self.folder}/log"\ncase "$*" in *urllib*) {index};; *"{fails}"*) exit 1;; esac',
        )
        venv = f'mkdir -p "$4/bin"; cp "{inside}" "$4/bin/python"; echo "{name}" > "{self.folder}/used"'
        code = f'exec "{sys.executable}" -c "import sys; {but or "pass"}; exec(sys.argv[1])" "$2"'
        return self.program(name, f'if [ "$1" = -c ]; then {code}; else {venv}; fi')

    def setup(self, *options):
        command = ["make", "-s", "-C", self.root, "setup", f"VENV={self.folder}/venv", *options]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def asked(self):
        lines = (self.folder / "log").read_text().splitlines()
        return [line for line in lines if line.startswith("-m")]

    def used(self):
        return (self.folder / "used").read_text().strip()


@pytest.fixture
def machine(tmp_path, root):
    return Machine(tmp_path, root)


@pytest.fixture
def torch(root):
    (pin,) = [
        line for line in (root / "requirements.txt").read_text().splitlines() if line.startswith("torch==")
    ]
    return pin


OLD, NEW, DEBIAN = (
    "sys.version_info = (3, 10, 9)",
    "sys.version_info = (3, 14, 0)",
    "sys.modules['ensurepip'] = None",
)


@pytest.mark.parametrize(
    ("here", "taken"),
    [
        ({"python3.11": "", "python3.12": "", "python3": ""}, "python3.11"),
        ({"python3.12": "", "python3.13": ""}, "python3.12"),
        ({"python3.13": "", "python3": NEW}, "python3.13"),
        ({"python3": "sys.version_info = (3, 11, 2)"}, "python3"),
        ({"python3.11": DEBIAN, "python3.13": ""}, "python3.13"),
    ],
)
def test_the_first_python_that_will_do(machine, here, taken):
    for name, but in here.items():
        machine.python(name, but=but)
    assert machine.setup().returncode == 0
    assert machine.used() == taken
    assert (machine.folder / "venv/.ready").exists()


@pytest.mark.parametrize(
    "here", [{}, {"python3": OLD}, {"python3": NEW}, {"python3.11": DEBIAN, "python3": DEBIAN}]
)
def test_without_one_there_is_one_line_and_nothing_else(machine, here):
    for name, but in here.items():
        machine.python(name, but=but)
    run = machine.setup()
    assert run.returncode != 0
    error, make = run.stderr.splitlines()
    assert error.startswith("error: the book needs Python 3.11, 3.12 or 3.13 with its module venv")
    assert "what is here is none; name one: make PYTHON=/path/to/python3" in error
    assert make.startswith("make: *** ")
    assert run.stdout == ""
    assert not (machine.folder / "venv").exists()


def test_the_python_that_is_asked_for(machine):
    machine.python("python3.11")
    mine = machine.python("my pythons/mine")
    assert machine.setup(f"PYTHON={mine}").returncode == 0
    assert machine.used() == "my pythons/mine"


def test_the_python_that_is_asked_for_and_will_not_do(machine):
    machine.python("python3.11")
    machine.python("mine", but=OLD)
    run = machine.setup("PYTHON=mine")
    assert run.returncode != 0
    assert "and mine is none" in run.stderr
    assert not (machine.folder / "venv").exists()


def test_pytorch_without_cuda_where_its_own_index_answers(machine, torch):
    machine.python("python3.11", index="exit 0")
    run = machine.setup()
    assert (run.returncode, run.stderr) == (0, "")
    first, *rest = machine.asked()
    *options, index, package = first.split()
    assert options == [*ALL.split(), "--no-deps", "--index-url"]
    assert (index.rpartition("/")[2], package) == ("cpu", torch)
    assert rest == REST
    assert "PyTorch: without CUDA, from PyTorch's own index" in run.stdout


@pytest.mark.parametrize(
    ("system", "python", "tries"),
    [
        ("Linux", {"index": "exit 1"}, 1),
        (
            "Linux",
            {"index": "exit 0", "fails": "--index-url"},
            2,
        ),  # it answers, and then breaks off or lacks the version
        ("Darwin", {"index": "exit 0"}, 1),  # no build for macOS has CUDA
    ],
)
def test_else_from_the_default_index(machine, torch, system, python, tries):
    machine.system(system)
    machine.python("python3.11", **python)
    run = machine.setup()
    assert (run.returncode, run.stderr) == (0, "")
    assert machine.asked()[tries - 1 :] == [f"{ALL} --constraint requirements.txt {torch}", *REST]
    assert "PyTorch: from the default index" in run.stdout
    assert "without CUDA" not in run.stdout


def test_a_failed_installation_is_taken_up_again(machine):
    machine.python("python3.11", fails="--editable")
    assert machine.setup().returncode != 0
    assert not (machine.folder / "venv/.ready").exists()
    (machine.folder / "used").unlink()
    machine.program("venv/bin/python", f'echo "$*" >> "{machine.folder}/log"')
    assert machine.setup().returncode == 0
    assert not (machine.folder / "used").exists()  # the environment was kept
    assert (machine.folder / "venv/.ready").exists()
