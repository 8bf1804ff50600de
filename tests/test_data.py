import hashlib
import json

import pandas as pd
import pytest

from one_step_trap import data
from one_step_trap.errors import BookError

TABLE = "delay,success\n1,1.0\n30,0.25\n"


@pytest.fixture
def folder(tmp_path):
    """A data folder with one table and its provenance."""
    (tmp_path / "02-discounting").mkdir()
    (tmp_path / "02-discounting/delays.csv").write_text(TABLE)
    resource = {
        "path": "02-discounting/delays.csv",
        "hash": "sha256:" + hashlib.sha256(TABLE.encode()).hexdigest(),
        "provenance": {"settings": {"seed": 0}},
    }
    (tmp_path / "datapackage.json").write_text(json.dumps({"name": "test", "resources": [resource]}))
    return tmp_path


def test_a_table_and_its_provenance(folder):
    frame = data.load("02-discounting/delays", folder)
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"delay": [1, 30], "success": [1.0, 0.25]}))
    assert data.entry("02-discounting/delays", folder)["provenance"]["settings"] == {"seed": 0}


@pytest.mark.parametrize("altered", [TABLE.replace("0.25", "0.26"), TABLE + "\n", TABLE[:-1], ""])
def test_an_altered_file_is_refused_with_its_name(folder, altered):
    path = folder / "02-discounting/delays.csv"
    path.write_text(altered)
    with pytest.raises(BookError) as caught:
        data.load("02-discounting/delays", folder)
    assert str(caught.value).startswith(f"data file {path} is not the one that its provenance describes")
    assert "git checkout data" in str(caught.value)
    assert "make sweep" in str(caught.value)


def test_a_missing_file_is_named(folder):
    path = folder / "02-discounting/delays.csv"
    path.unlink()
    with pytest.raises(BookError, match=f"data file {path} is missing"):
        data.load("02-discounting/delays", folder)


def test_an_unknown_table_names_those_that_exist(folder):
    with pytest.raises(BookError, match=r"no stored table '02/x'; there are: 02-discounting/delays$"):
        data.load("02/x", folder)


def test_a_missing_or_damaged_package_is_named(folder):
    path = folder / "datapackage.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(BookError, match=r"datapackage\.json is damaged"):
        data.load("02-discounting/delays", folder)
    path.unlink()
    with pytest.raises(BookError, match=r"datapackage\.json is missing"):
        data.entry("02-discounting/delays", folder)


def test_the_folder_of_the_book(root):
    assert data.root() == root


def test_outside_a_clone(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "__file__", str(tmp_path / "lib" / "data.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BookError, match="work in a clone"):
        data.root()
    (tmp_path / "_toc.yml").touch()
    assert data.root() == tmp_path
