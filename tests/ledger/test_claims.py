import json
import math

import pytest

from one_step_trap.errors import BookError
from one_step_trap.ledger import claims as c
from one_step_trap.ledger.record import HIDDEN

ENTRIES = [
    c.Entry(
        id=id,
        statement=f"Claim {id} is true.",
        source="post",
        chapter=chapter,
        tested="by hand",
        expected="holds",
    )
    for id, chapter in [("one-a", "01-one"), ("one-b", "01-one"), ("two-a", "02-two")]
]


def found(id, **changes):
    row = {"id": id, "value": 1.0, "low": 0.5, "high": 2.0, "unit": "steps", "n": 20, "verdict": "holds"}
    return c.parse({**row, "rule": "holds if above one half", **changes})


def test_rows_come_in_the_order_of_the_catalogue_whatever_the_order_of_recording():
    rows = c.ledger({"02-two": [found("two-a")], "01-one": [found("one-b"), found("one-a")]}, ENTRIES)
    assert [row["id"] for row in rows] == ["one-a", "one-b", "two-a"]
    assert rows[0] == {
        **{"id": "one-a", "statement": "Claim one-a is true.", "source": "post", "chapter": "01-one"},
        **{"tested": "by hand", "expected": "holds", "value": 1.0, "low": 0.5, "high": 2.0, "unit": "steps"},
        **{"n": 20, "verdict": "holds", "condition": "", "rule": "holds if above one half", "figure": ""},
        "ends": "95% interval",
    }
    json.dumps(rows)


def test_only_chapters_in_the_book_owe_claims():
    assert c.ledger({}, ENTRIES) == []
    assert [row["id"] for row in c.ledger({"02-two": [found("two-a")]}, ENTRIES)] == ["two-a"]
    assert c.ledger({"90-alpha": []}, ENTRIES) == []


@pytest.mark.parametrize(
    ("recorded", "problem"),
    [
        ({"01-one": [found("one-a")]}, "one-b was not recorded by 01-one"),
        ({"02-two": [found("two-a"), found("two-a")]}, "two-a was recorded 2 times"),
        ({"02-two": [found("two-a")], "90-alpha": [found("two-a")]}, "two-a was recorded 2 times"),
        ({"02-two": [found("two-a"), found("two-z")]}, "two-z (recorded in 02-two) is not in claims.toml"),
        ({"90-alpha": [found("two-a")]}, "two-a belongs to 02-two but was recorded in 90-alpha"),
    ],
)
def test_a_ledger_that_does_not_add_up(recorded, problem):
    with pytest.raises(BookError) as caught:
        c.ledger(recorded, ENTRIES)
    assert problem in str(caught.value)


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(BookError) as caught:
        c.ledger({"01-one": [found("one-a"), found("one-a"), found("zzz")], "02-two": []}, ENTRIES)
    for part in ("one-a was recorded 2 times", "zzz", "one-b was not recorded", "two-a was not recorded"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "true"}, "claim x-1 is not well formed: verdict: "),
        ({"verdict": "holds when"}, "say when in `condition`"),
        ({"value": float("nan")}, "claim x-1 is not well formed: value: "),
        ({"n": 0}, "claim x-1 is not well formed: n: "),
        ({"extra": 1}, "claim x-1 is not well formed: extra: "),
    ],
)
def test_a_claim_that_is_not_well_formed(changes, message):
    with pytest.raises(BookError, match=message):
        found("x-1", **changes)


def test_a_claim_on_one_line():
    assert found("x-1").summary() == "1 [0.5, 2] steps (n = 20): holds"
    exact = found("x-1", low=1.0, high=1.0, n=1, verdict="holds when", condition="when episodes end")
    assert exact.summary() == "1 steps (n = 1): holds when episodes end"


def test_claims_are_found_in_a_notebook_hidden_or_not():
    rows = [found("x-1"), found("x-2")]
    outputs = [
        {"output_type": "stream", "text": "no data here"},
        {"data": {HIDDEN + c.CLAIM_MIME: rows[0].model_dump(), "text/plain": "x-1"}},
        {"data": {c.CLAIM_MIME: rows[1].model_dump()}},
        {"data": {"text/plain": "application/vnd.one-step-trap.claim+json"}},
    ]
    cells = [{"cell_type": "markdown", "source": "no outputs"}, {"cell_type": "code", "outputs": outputs}]
    assert c.recorded_in({"cells": cells}) == rows


def test_the_catalogue_of_the_book(root):
    entries = c.catalogue()
    assert len({entry.id for entry in entries}) == len(entries)
    assert {entry.chapter[:3] for entry in entries} == {f"0{i}-" for i in range(1, 8)}
    assert {"disc-500", "disc-delayed", "trap-perfect", "horizons"} <= {entry.id for entry in entries}


def test_reading_a_ledger(tmp_path):
    path = tmp_path / "claims.json"
    with pytest.raises(BookError, match=r"there is no ledger at .*claims\.json: run `make book` first"):
        c.read_ledger(path)
    rows = c.ledger({"02-two": [found("two-a")]}, ENTRIES)
    path.write_text(json.dumps(rows))
    assert c.read_ledger(path) == rows


@pytest.mark.parametrize("text", ["", "{", '{"id": "x"}', "3", "[]", "[3]", "[{}]", '[{"id": "x"}]', "[NaN]"])
def test_a_damaged_ledger(tmp_path, text):
    path = tmp_path / "claims.json"
    path.write_text(text)
    with pytest.raises(BookError, match=r"claims\.json .*run `make book` to write it anew$"):
        c.read_ledger(path)


@pytest.mark.parametrize(
    "change",
    [{"value": "many"}, {"verdict": "perhaps"}, {"n": -1}, {"statement": 3}, {"low": math.nan}, {"id": [1]}],
)
def test_a_ledger_with_a_damaged_row(tmp_path, change):
    path = tmp_path / "claims.json"
    rows = c.ledger({"02-two": [found("two-a")]}, ENTRIES)
    path.write_text(json.dumps([rows[0] | change]))
    with pytest.raises(BookError, match=r"claims\.json .*run `make book` to write it anew$"):
        c.read_ledger(path)


def test_a_ledger_that_cannot_be_opened(tmp_path):
    with pytest.raises(BookError, match="cannot be read"):
        c.read_ledger(tmp_path)
    (tmp_path / "claims.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BookError, match="cannot be read"):
        c.read_ledger(tmp_path / "claims.json")
