import os
import subprocess
import sys

import needs
import pytest


@pytest.fixture
def empty_path(monkeypatch, tmp_path):
    """A machine on which no program is to be found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(needs, "CHROMIUM_ON_MACOS", ())
    return tmp_path


def program(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_each_missing_thing_is_one_line_with_its_command(empty_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "linux")
    assert needs.main() == 1
    git, chromium = capsys.readouterr().err.splitlines()
    assert git.endswith("git is missing; install it: sudo apt-get install git")
    assert "Chromium is missing; install it: sudo apt-get install chromium" in chromium


def test_the_command_is_that_of_the_machine(empty_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "brew install git" in needs.missing()[0]
    assert "brew install --cask chromium" in needs.missing()[1]


@pytest.mark.parametrize("name", needs.CHROMIUM_NAMES)
def test_chromium_under_any_of_its_names(empty_path, name):
    assert needs.find_chromium() is None
    path = program(empty_path / name)
    assert needs.find_chromium() == path


def test_the_variable_decides(empty_path, monkeypatch):
    program(empty_path / "chromium")
    mine = program(empty_path / "mine")
    monkeypatch.setenv("CHROMIUM", mine)
    assert needs.find_chromium() == mine
    monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    assert needs.find_chromium() is None
    assert "CHROMIUM=/nowhere/chrome is not a program" in needs.missing()[1]


def test_it_runs_with_nothing_installed(root):
    """-S -E: no site-packages, so an import of anything of ours would fail."""
    run = subprocess.run(
        [sys.executable, "-S", "-E", str(root / "tests/needs.py")],
        env={"PATH": os.environ["PATH"], "CHROMIUM": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
