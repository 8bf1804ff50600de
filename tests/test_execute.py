import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from notebooks import code, markdown, notebook

from one_step_trap.book import execute as ex
from one_step_trap.errors import BookError


@pytest.fixture(autouse=True)
def same_environment(monkeypatch):
    """Executing sets thread counts and the like for kernels; the other tests go on without."""
    for name in ex.ENVIRONMENT:
        monkeypatch.setenv(name, os.environ.get(name, ""))


def chapter(tmp_path, *cells):
    parameters = code("gamma: float = 0.5  # discount", tags=["parameters"])
    return notebook(tmp_path / "chapters/90-alpha.ipynb", markdown("# Alpha"), parameters, *cells)


def test_a_chapter_runs_in_its_own_folder_with_its_parameters(tmp_path, capsys):
    source = chapter(tmp_path, "import os\nprint(gamma, os.getcwd(), os.environ['OMP_NUM_THREADS'])")
    output = tmp_path / "out/90-alpha.ipynb"
    ex.execute(source, output, parameters={"gamma": 0.25}, log=tmp_path / "logs/90-alpha.log", progress=False)
    executed = nbformat.read(output, as_version=4)
    texts = [out.text for cell in executed.cells for out in cell.get("outputs", [])]
    assert texts == [f"0.25 {tmp_path / 'chapters'} 1\n"]
    assert "Executing notebook with kernel: python3" in (tmp_path / "logs/90-alpha.log").read_text()
    assert "90-alpha: ran in" in capsys.readouterr().err
    assert not list((tmp_path / "logs").glob("*.failed.ipynb"))


def test_a_failing_cell(tmp_path):
    """The message names chapter, cell, error and log; the last good output stays as it was."""
    source = chapter(tmp_path, "x = 1", "\n# a comment\nprint('so far')\n1 / 0", "print('never')")
    output, log = tmp_path / "out/90-alpha.ipynb", tmp_path / "logs/90-alpha.log"
    output.parent.mkdir()
    output.write_text("the last good one")
    with pytest.raises(ex.ChapterError) as caught:
        ex.execute(source, output, log=log, progress=False)
    unfinished = tmp_path / "logs/90-alpha.failed.ipynb"
    assert str(caught.value).splitlines() == [
        "chapter 90-alpha failed in cell 4 (In [3]), which begins: # a comment",
        "  ZeroDivisionError: division by zero",
        f"  log: {log}",
        f"  the notebook up to there: {unfinished}",
    ]
    assert output.read_text() == "the last good one"
    assert "ZeroDivisionError" in log.read_text()
    assert "so far" in json.dumps(json.loads(unfinished.read_text()))
    assert "never" not in [
        o.get("text") for c in nbformat.read(unfinished, 4).cells for o in c.get("outputs", [])
    ]


def test_our_own_errors_show_no_stack(tmp_path):
    source = chapter(tmp_path, "from one_step_trap.core.validate import check_gamma\ncheck_gamma(1.2)")
    with pytest.raises(ex.ChapterError, match=r"BookError: gamma must lie in \[0, 1\], got 1\.2"):
        ex.execute(source, tmp_path / "out.ipynb", log=tmp_path / "x.log", progress=False)
    unfinished = nbformat.read(tmp_path / "90-alpha.failed.ipynb", as_version=4)
    (error,) = [
        out for cell in unfinished.cells for out in cell.get("outputs", []) if out.output_type == "error"
    ]
    assert error.traceback == ["BookError: gamma must lie in [0, 1], got 1.2"]


def test_a_kernel_that_dies_is_named_in_one_line(tmp_path, capfd):
    """Killed, as the system does where memory runs out: the kernel has no time to say anything."""
    source = chapter(tmp_path, "print('so far')", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    output, log = tmp_path / "out/90-alpha.ipynb", tmp_path / "logs/90-alpha.log"
    with pytest.raises(ex.ChapterError) as caught:
        ex.execute(source, output, log=log, progress=False)
    assert str(caught.value) == (
        f"chapter 90-alpha stopped because its kernel died, perhaps for want of memory; log: {log}"
    )
    assert caught.value.__suppress_context__  # no stack of papermill's behind it
    assert not output.exists()
    assert "Kernel died" in log.read_text()
    assert "so far" in (tmp_path / "logs/90-alpha.failed.ipynb").read_text()


def test_an_unknown_parameter_fails_before_anything_runs(tmp_path):
    source = chapter(tmp_path)
    with pytest.raises(
        BookError, match=r"^unknown parameter 'gama'; did you mean 'gamma'\? This chapter has: gamma$"
    ):
        ex.execute(source, tmp_path / "out/x.ipynb", parameters={"gama": 0.9})
    assert not (tmp_path / "out").exists()


def test_a_notebook_saved_with_another_kernel_runs_with_ours(tmp_path):
    source = chapter(tmp_path, "print('ran')")
    source.write_text(source.read_text().replace('"python3"', '"conda-env-mine-py"'))
    ex.execute(source, tmp_path / "out.ipynb", progress=False)
    assert "ran" in (tmp_path / "out.ipynb").read_text()


def test_as_a_command_the_message_is_all_there_is(tmp_path):
    source = chapter(tmp_path, "raise RuntimeError('no such walk')")
    command = [sys.executable, "-m", "one_step_trap.book.execute", str(source), "out.ipynb", "--log", "x.log"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "error: chapter 90-alpha failed in cell 3 (In [2]), which begins: raise RuntimeError" in run.stderr
    assert "\n  RuntimeError: no such walk\n" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out.ipynb").exists()


SLOW_TO_END = """
import time
session, send = get_ipython().kernel.session, get_ipython().kernel.session.send

def slow(stream, message, *more, **options):
    sent = send(stream, message, *more, **options)
    if message == "kernel_info_reply":
        time.sleep(0.5)
    return sent

session.send = slow
"""


def test_a_good_run_prints_its_own_lines_and_nothing_else(tmp_path, capfd):
    """Nor does a kernel that is slow after its last answer, as on a busy machine: Jupyter would interrupt it there."""
    ex.execute(chapter(tmp_path, SLOW_TO_END, "print('fine')"), tmp_path / "out.ipynb")
    out, err = capfd.readouterr()
    assert out == ""
    *reports, last = err.splitlines()
    assert re.fullmatch(r"90-alpha: ran in \d+ s", last)
    assert [line for line in reports if not re.match(r"90-alpha: +\d+%\|", line)] == []


def test_progress_is_whole_lines(capsys):
    lines = ex.ProgressLines(sys.stderr)
    for text in ("\r50%|##", "", "\r", "\r100%|####\n"):
        lines.write(text)
    lines.flush()
    assert capsys.readouterr().err == "50%|##\n100%|####\n"
