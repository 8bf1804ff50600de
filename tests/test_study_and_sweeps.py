import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from one_step_trap import data
from one_step_trap.book import studies, sweeps
from one_step_trap.book.machine import in_words
from one_step_trap.errors import BookError
from one_step_trap.study import Study

NAME = "90-alpha/squares"


def rows_of(part):
    """Two rows a part, from the part's own seed."""
    rng = np.random.default_rng(part)
    return pd.DataFrame({"part": part, "x": rng.normal(size=2), "kind": "a, b", "odd": [True, False]})


COLUMNS = {"part": "part of the study", "x": "a number (steps)", "kind": "a name", "odd": "whether it is odd"}
STUDY = Study(NAME, ["part", "x"], "Squares", 3, rows_of, {"seed": 0, "gammas": [0.9, 0.99]}, COLUMNS)


@pytest.fixture
def catalogue(monkeypatch, tmp_path):
    """A catalogue of studies with one in it, and an empty working folder."""
    monkeypatch.setattr(studies, "STUDIES", {NAME: f"{__name__}:STUDY"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_all(order=(0, 1, 2)):
    files = [f"_build/sweeps/{NAME}/{part}.csv" for part in range(3)]
    for part in order:
        spent = files[part].replace(".csv", ".json")
        result = CliRunner().invoke(sweeps.app, ["part", NAME, str(part), files[part], spent])
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(sweeps.app, ["table", NAME, *files])
    assert result.exit_code == 0, result.output


def test_a_study_becomes_a_table_with_provenance(catalogue):
    run_all()
    frame = data.load(NAME, catalogue / "data")
    expected = pd.concat([rows_of(part) for part in range(3)], ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected, check_exact=True)  # not one bit is lost on the way
    entry = data.entry(NAME, catalogue / "data")
    assert entry["title"] == "Squares"
    assert entry["bytes"] == (catalogue / "data" / f"{NAME}.csv").stat().st_size
    provenance = entry["provenance"]
    assert provenance["settings"] == {"seed": 0, "gammas": [0.9, 0.99]}
    assert provenance["versions"]["numpy"] == np.__version__
    assert {"date", "cpu_seconds"} <= provenance.keys()
    assert provenance["machine"] == in_words()
    types = {field["name"]: (field["type"], field["description"]) for field in entry["schema"]["fields"]}
    assert types["part"] == ("integer", "part of the study")
    assert types["x"][0] == "number"
    assert types["kind"][0] == "string"
    assert types["odd"][0] == "boolean"


def test_the_table_does_not_depend_on_the_order_of_the_jobs(catalogue):
    run_all()
    first = (catalogue / "data" / f"{NAME}.csv").read_bytes()
    run_all(order=(2, 0, 1))
    assert (catalogue / "data" / f"{NAME}.csv").read_bytes() == first


def test_frictionless_agrees_and_notices_an_altered_file(catalogue):
    run_all()
    assert sweeps.validate(catalogue / "data") == []
    path = catalogue / "data" / f"{NAME}.csv"
    path.write_text(path.read_text().replace("True", "False"))
    (problem,) = [text for text in sweeps.validate(catalogue / "data") if "hash" in text]
    assert problem.startswith("90-alpha-squares: ")


def test_a_new_table_leaves_the_others_alone(catalogue):
    run_all()
    other = dataclasses.replace(STUDY, title="Other")
    sweeps.store(catalogue / "data", "02-discounting/other", rows_of(9), other, 1.0, ["here"])
    package = json.loads((catalogue / "data/datapackage.json").read_text())
    assert [r["path"] for r in package["resources"]] == ["02-discounting/other.csv", f"{NAME}.csv"]
    assert len(data.load(NAME, catalogue / "data")) == 6
    places = ["there", "here", "there"]
    sweeps.store(catalogue / "data", "02-discounting/other", rows_of(8), other, 1.0, places)
    package = json.loads((catalogue / "data/datapackage.json").read_text())
    assert len(package["resources"]) == 2  # replaced, not listed twice
    assert package["resources"][0]["provenance"]["machine"] == "here and there"
    assert data.load("02-discounting/other", catalogue / "data")["part"].tolist() == [8, 8]


def test_a_table_and_its_entry_cannot_disagree_silently(catalogue, monkeypatch):
    """A kill between the two writes: loading says so."""
    run_all()

    def killed_before_the_package(path, text):
        if path.name == "datapackage.json":
            raise KeyboardInterrupt
        path.write_text(text)

    monkeypatch.setattr(sweeps, "write_atomically", killed_before_the_package)
    with pytest.raises(KeyboardInterrupt):
        sweeps.store(catalogue / "data", NAME, rows_of(7), STUDY, 1.0, ["here"])
    with pytest.raises(BookError, match="not the one that its provenance describes"):
        data.load(NAME, catalogue / "data")


@pytest.mark.parametrize("columns", [{"part": "x"}, {**COLUMNS, "more": "not in the table"}])
def test_the_data_dictionary_is_complete(catalogue, columns):
    study = dataclasses.replace(STUDY, columns=columns)
    with pytest.raises(BookError, match=rf"{NAME}\.csv: the data dictionary must name the columns"):
        sweeps.store(catalogue / "data", NAME, rows_of(0), study, 1.0, ["here"])
    assert not (catalogue / "data").exists()


def test_two_studies_of_one_name(tmp_path):
    for module in ("a", "b"):
        (tmp_path / f"{module}.py").write_text('ONE = Study(name="90-alpha/x", title="X")\n')
    with pytest.raises(BookError, match=r"two studies are called '90-alpha/x': .*\.a:ONE and .*\.b:ONE"):
        studies.listed(tmp_path)


def test_an_unknown_study():
    with pytest.raises(BookError, match=r"there is no study 'x'; there are: "):
        studies.find("x")


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_the_studies_of_the_book(root, name):
    study = studies.find(name)
    assert study.name == name
    assert studies.parts(name) == study.parts >= 1
    assert json.loads(json.dumps(sweeps.plain(study.settings), allow_nan=False)) == sweeps.plain(
        study.settings
    )
    assert root / "requirements.txt" in studies.sources(root, name)
    module = studies.STUDIES[name].split(":")[0].replace(".", "/")
    assert root / "src" / f"{module}.py" in studies.sources(root, name)
    chapter = name.split("/")[0]
    assert (root / "chapters" / f"{chapter}.ipynb").exists()


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_the_stored_tables_of_the_book(root, name):
    """Whole, unaltered, and with the settings and columns that the study has today."""
    study, entry = studies.find(name), data.entry(name)
    table = (root / "data" / entry["path"]).read_bytes()
    assert entry["hash"] == "sha256:" + hashlib.sha256(table).hexdigest()
    assert entry["provenance"]["settings"] == sweeps.plain(study.settings), (
        "run `make sweep`: the settings have changed"
    )
    stored = data.load(name)
    assert set(stored.columns) == set(study.columns)
    assert not stored.duplicated(list(study.keys)).any()


def test_the_provenance_is_json_that_any_program_reads(root):
    """Python would write and read NaN and Infinity, which are no JSON."""

    def refuse(constant):
        raise AssertionError(f"datapackage.json holds {constant}, which is no JSON")

    json.loads((root / "data/datapackage.json").read_text(encoding="utf-8"), parse_constant=refuse)


def test_settings_as_json_holds_them():
    settings = {"n": (1, float("inf")), "deep": {"x": [float("-inf"), 2.5]}, "name": "a"}
    assert sweeps.plain(settings) == {"n": [1, "inf"], "deep": {"x": ["-inf", 2.5]}, "name": "a"}


def test_every_stored_table_belongs_to_a_study_and_is_valid(root):
    folder = root / "data"
    listed = [r["path"] for r in json.loads((folder / "datapackage.json").read_text())["resources"]]
    assert sorted(listed) == sorted(f"{name}.csv" for name in studies.STUDIES)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.csv")) == sorted(listed)
    assert sweeps.validate(folder) == []


STORED = pd.DataFrame(
    {"delay": [1, 1, 30], "gamma": [0.9, 0.99, 0.9], "success": [1.0, 0.5, float("nan")], "n": [5, 5, 4]}
)


SLICED = dataclasses.replace(STUDY, keys=("delay", "gamma"))


def test_a_slice_computed_again_that_agrees():
    SLICED.compare(STORED.iloc[[2, 0]], STORED)
    close = STORED.assign(success=STORED["success"] * (1 + 1e-12))
    SLICED.compare(close, STORED)
    gaps = STORED.assign(success=[0.0, 1e4, -1e4])  # a 0 that is a difference of numbers of this size
    SLICED.compare(gaps.assign(success=[-2e-12, 1e4, -1e4]), gaps)
    with pytest.raises(BookError, match=r"success of delay = 1, gamma = 0\.9 is 1e-07, stored 0\.0"):
        SLICED.compare(gaps.assign(success=[1e-7, 1e4, -1e4]), gaps)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("success", 0.6, "success of delay = 1, gamma = 0.99 is 0.6, stored 0.5"),
        ("success", float("nan"), "success of delay = 1, gamma = 0.99 is nan, stored 0.5"),
        ("n", 6, "n of delay = 1, gamma = 0.99 is 6, stored 5"),
    ],
)
def test_a_slice_that_differs_is_named(column, value, message):
    other = STORED.iloc[[1]].assign(**{column: value})
    with pytest.raises(BookError) as caught:
        SLICED.compare(other, STORED)
    assert message in str(caught.value)
    assert "make sweep" in str(caught.value)


def test_a_slice_with_a_row_that_is_not_stored():
    other = STORED.iloc[[0]].assign(delay=2)
    with pytest.raises(
        BookError, match=r"lacks 1 of 1 rows, the first delay = 2, gamma = 0\.9: compute it anew"
    ):
        SLICED.compare(other, STORED)


def test_a_table_of_something_else():
    with pytest.raises(BookError, match="a table of 90-alpha/squares lacks the columns delay"):
        SLICED.compare(STORED.drop(columns="delay"), STORED)
    with pytest.raises(BookError, match="lacks the columns more"):
        SLICED.compare(STORED.assign(more=1), STORED)
