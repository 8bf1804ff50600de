"""The book's base model as it is stored: whole, small, what its provenance says, and better than the baselines."""

import json

import pytest

from one_step_trap.errors import BookError
from one_step_trap.sampling import models, pretraining
from one_step_trap.sampling.texts import split


@pytest.fixture(scope="module")
def folder(root):
    return root / models.BOOK_MODEL


@pytest.fixture(scope="module")
def record(folder):
    return json.loads((folder / pretraining.PROVENANCE).read_text(encoding="utf-8"))


def test_it_is_found_by_its_name(record, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # from anywhere
    lm = models.load("book")
    assert lm.context == pretraining.BOOK.context == 1_280
    assert sum(weight.numel() for weight in lm.model.parameters()) == record["parameters"]
    assert lm.decode(lm.encode("It was a truth, “universally”…")) == "It was a truth, “universally”…"
    assert len(lm.end_tokens) == 1


def test_it_is_small_and_holds_nothing_but_weights_tokenizer_and_provenance(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "provenance.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6


def test_it_needs_the_bits_that_its_provenance_says(folder):
    """The first and the last passage, 64 are held out."""
    passages = split()[1]
    rows = pretraining.check_book_model(folder, [passages[0], passages[-1]])
    assert len(rows) == 2
    assert rows["bits_per_byte"].between(1, 2.2).all()


def test_it_is_a_fair_base_model(record):
    """It beats n-gram models and compressors by a clear margin, and it uses its context."""
    table = {row["name"]: row for row in record["held_out"]}
    ours = table.pop("our base model")
    table.pop("our base model, context 128")
    assert {"5-gram (Kneser-Ney)", "lzma", "bz2", "zlib"} <= set(table)
    best = min(row["bits_per_byte"] for row in table.values())
    lead, low, high = record["lead_over_best_baseline"][:3]
    assert lead == pytest.approx(best - ours["bits_per_byte"], abs=2e-3)
    assert pretraining.FAIR_MARGIN < low < lead < high
    assert record["gain_from_full_context"][1] > 0
    assert record["fair"]


def test_another_model_in_its_place_is_seen(folder, record, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    changed = json.loads(json.dumps(record))
    for row in changed["passages"]:
        row["bits"] *= 1.02
    (tmp_path / pretraining.PROVENANCE).write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(BookError, match=r"restore data/ with `git checkout data`"):
        pretraining.check_book_model(tmp_path, split()[1][:1])


def test_a_provenance_that_lacks_something_is_an_error(folder, record, tmp_path):
    assert pretraining.read_provenance(folder) == record
    with pytest.raises(BookError, match="cannot be read"):
        pretraining.read_provenance(tmp_path)
    for text, message in (
        ("{", "cannot be read"),
        ("[]", "no entry"),
        ('{"parameters": 1}', "no entry architecture"),
    ):
        (tmp_path / pretraining.PROVENANCE).write_text(text, encoding="utf-8")
        with pytest.raises(BookError, match=message):
            pretraining.read_provenance(tmp_path)
