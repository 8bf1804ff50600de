"""One run a folder: refused at once while another is there, never after it has ended, however it ended."""

import os
import subprocess
import sys
import threading

import pytest

from one_step_trap.core.folders import held
from one_step_trap.errors import BookError
from one_step_trap.report import output_folder

HOLD = """
import os, sys, time
from one_step_trap.core.folders import held
with held(sys.argv[1], "report"):
    print("held", flush=True)
    sys.stdin.read()
    os._exit(9)  # as if killed: nothing is tidied up
"""


@pytest.fixture
def other(tmp_path):
    """Another process that writes a report into the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_run_is_refused_until_the_first_has_died(tmp_path, other):
    for _ in range(2):
        for way in (held(tmp_path, "report"), output_folder(tmp_path, ["report", "table"])):
            with pytest.raises(BookError, match=r"another run is writing report into .*name another folder"):
                way.__enter__()
    with output_folder(tmp_path, ["other", "files"]) as write:  # what does not meet may run side by side
        write({"other": "1", "files": "2"})
    other.communicate()  # it dies, and its lock file stays
    assert other.returncode == 9
    assert ".report.lock" in os.listdir(tmp_path)
    with output_folder(tmp_path, ["report"]) as write:
        write({"report": "mine"})
    assert sorted(os.listdir(tmp_path)) == ["files", "other", "report"]


def test_another_thread_is_another_run(tmp_path):
    said = []

    def run():
        try:
            with held(tmp_path, "report"):
                said.append("ran")
        except BookError as error:
            said.append(str(error))

    with held(tmp_path, "report"), held(tmp_path / ".", "report"):  # whoever holds it may hold it again
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert "another run is writing" in said[0]
    run()
    assert said[1] == "ran"
    assert os.listdir(tmp_path) == []


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), held(tmp_path / "a" / "b", "report"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError), held(tmp_path / "a" / "b", "report"):
        os.link(tmp_path / "a" / "b" / ".report.lock", tmp_path / "a" / "c") or os.stat(tmp_path / "nowhere")
    assert os.listdir(tmp_path / "a") == ["c"]  # something else is there meanwhile


def test_a_file_system_without_locks_is_taken_as_it_is(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("one_step_trap.core.folders.fcntl.flock", flock)
    with held(tmp_path, "report"), output_folder(tmp_path, ["other"]) as write:
        write({"other": ""})
    assert os.listdir(tmp_path) == ["other"]


def test_a_name_is_taken_once_even_if_nobody_looked(tmp_path, monkeypatch):
    """A file that appears at the last moment is neither written over nor removed."""
    with output_folder(tmp_path, ["a", "b"]) as write:
        real = os.replace

        def late(source, target):
            (tmp_path / "b").write_text("theirs")
            real(source, target)

        monkeypatch.setattr(os, "replace", late)
        with pytest.raises(BookError, match="b has appeared meanwhile"):
            write({"a": "1", "b": "2"})
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "theirs"
