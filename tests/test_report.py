"""The files of a run appear together, or not at all."""

import os

import pytest

from one_step_trap import report
from one_step_trap.errors import BookError


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    replaced = []

    def full(source, target):
        replaced.append(target)
        if len(replaced) == 2:
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr(report.os, "replace", full)
    with (
        pytest.raises(BookError, match="No space left on device"),
        report.output_folder(tmp_path / "new", ["a", "b", "c"]) as write,
    ):
        write({"a": "1", "b": "2", "c": "3"})
    assert not (tmp_path / "new").exists()


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    with report.output_folder(tmp_path, ["a", "b"]) as write:
        (tmp_path / "b").write_text("theirs")
        with pytest.raises(BookError, match="has appeared meanwhile"):
            write({"a": "1", "b": "2"})
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "theirs"
