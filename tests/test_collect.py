import json
import subprocess
import sys

import pytest
from notebooks import code, notebook

from one_step_trap.book import collect as col
from one_step_trap.errors import BookError
from one_step_trap.ledger.claims import CLAIM_MIME, catalogue


def executed(folder, chapter, *ids):
    """An executed chapter that recorded these claims."""
    cells = []
    for id in ids:
        row = {"id": id, "value": 0.5, "low": 0.25, "high": 1.0, "unit": "share", "n": 10, "verdict": "holds"}
        data = {CLAIM_MIME: {**row, "rule": "holds if above a quarter"}}
        output = {"output_type": "display_data", "metadata": {}, "data": data}
        cells.append(code("record.claim(...)", outputs=[output]))
    return notebook(folder / f"{chapter}.ipynb", *cells)


def of(chapter):
    return [entry.id for entry in catalogue() if entry.chapter == chapter]


def test_chapters_add_up_to_a_ledger(tmp_path):
    five, four = "05-temporal-abstraction", "04-muzero-unrolling"
    files = [executed(tmp_path, five, *of(five)), executed(tmp_path, four, *reversed(of(four)))]
    rows = col.collect(files)
    assert [row["id"] for row in rows] == of(four) + of(five)
    assert {row["chapter"] for row in rows} == {four, five}


def test_a_chapter_outside_the_catalogue_owes_nothing(tmp_path):
    assert col.collect([executed(tmp_path, "90-alpha")]) == []


def test_a_claim_recorded_twice_in_one_chapter(tmp_path):
    five = "05-temporal-abstraction"
    with pytest.raises(BookError, match="out-gvf was recorded 2 times"):
        col.collect([executed(tmp_path, five, *of(five), "out-gvf")])


def command(tmp_path, *files):
    arguments = ["--output", "claims.json", *map(str, files)]
    return subprocess.run(
        [sys.executable, "-m", "one_step_trap.book.collect", *arguments],
        **{"cwd": tmp_path, "capture_output": True, "text": True, "check": False},
    )


def test_a_ledger_with_a_gap_fails_the_build_and_leaves_the_last_one(tmp_path):
    (tmp_path / "claims.json").write_text("[]")
    run = command(tmp_path, executed(tmp_path, "05-temporal-abstraction", "out-gvf"))
    assert run.returncode == 1
    assert run.stderr.startswith(
        "error: the ledger of claims does not add up: out-options was not recorded by 05-"
    )
    assert run.stderr.count("\n") == 1
    assert (tmp_path / "claims.json").read_text() == "[]"


def test_a_good_ledger_is_written(tmp_path):
    five = "05-temporal-abstraction"
    run = command(tmp_path, executed(tmp_path, five, *of(five)))
    assert (run.returncode, run.stderr) == (0, "")
    assert [row["id"] for row in json.loads((tmp_path / "claims.json").read_text())] == of(five)


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "deep/er/x.json"
    col.write_atomically(path, "old")
    assert path.read_text() == "old"

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(col.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        col.write_atomically(path, "new")
    assert path.read_text() == "old"
