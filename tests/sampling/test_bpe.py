"""Our tokenizer: a merge by hand, every text comes back, bytes counted, the same texts the same tokenizer, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.sampling import bpe

TEXTS = ["the cat and the hat", "the cat sat on the mat", "a thin man — with a “hat”"]


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(TEXTS, 270)


def test_the_first_merge_is_the_most_frequent_pair():
    # "abab abab abab": a-b occurs six times; no other pair does more than three
    tokenizer = bpe.train(["abab abab abab"], 258)
    (tokens,) = bpe.encode(tokenizer, ["ab"])
    assert tokens.tolist() == [257]
    assert bpe.byte_lengths(tokenizer)[257] == 2


def test_the_end_token_is_number_0_and_stands_before_each_text(tokenizer):
    one, two = bpe.encode(tokenizer, TEXTS[:2])
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == 0
    assert bpe.stream(tokenizer, TEXTS[:2]).tolist() == [0, *one, 0, *two]
    assert 0 not in one
    assert len(tokenizer) == 270


def test_the_same_texts_give_the_same_tokenizer(tokenizer):
    again = bpe.train(TEXTS, 270)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@settings(deadline=None, max_examples=60)
@given(text=st.text(min_size=1, max_size=60).filter(lambda text: bpe.END not in text))
def test_every_text_comes_back_and_its_bytes_are_counted(tokenizer, text):
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair is no text
        return
    (tokens,) = bpe.encode(tokenizer, [text])
    assert tokenizer.decode(tokens.tolist()) == text
    assert bpe.byte_lengths(tokenizer)[tokens].sum() == size


def test_it_is_saved_and_read_without_a_network(tokenizer, tmp_path):
    bpe.save(tokenizer, tmp_path)
    again = bpe.load(tmp_path)
    assert [x.tolist() for x in bpe.encode(again, TEXTS)] == [
        x.tolist() for x in bpe.encode(tokenizer, TEXTS)
    ]
    assert again.eos_token == bpe.END
    assert (bpe.byte_lengths(again) == bpe.byte_lengths(tokenizer)).all()


def test_more_merges_make_fewer_tokens():
    few, many = (bpe.encode(bpe.train(TEXTS, size), TEXTS) for size in (260, 280))
    assert sum(map(len, many)) < sum(map(len, few))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: bpe.train("one text", 300), "list of texts"),
        (lambda t: bpe.train([], 300), "at least one text"),
        (lambda t: bpe.train(["a", ""], 300), "none of them empty"),
        (lambda t: bpe.train([1, 2], 300), "list of at least one text"),
        (lambda t: bpe.train(["abc"], 100), "vocabulary must be at least 257"),
        (lambda t: bpe.train(["abc"], 300), "ask for fewer"),
        (lambda t: bpe.train(["abc"], 300.5), "whole number"),
        (lambda t: bpe.encode(t, [f"x {bpe.END} y"]), "stands between texts"),
        (lambda t: bpe.encode(t, "text"), "list of texts"),
    ],
)
def test_bad_input_is_one_clear_error(tokenizer, call, message):
    with pytest.raises(BookError, match=message) as error:
        call(tokenizer)
    assert "\n" not in str(error.value)


def test_a_missing_or_damaged_file_is_one_clear_error(tokenizer, tmp_path):
    with pytest.raises(BookError, match=r"no tokenizer\.json"):
        bpe.load(tmp_path)
    bpe.save(tokenizer, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(BookError, match="cannot be read"):
        bpe.load(tmp_path)


def test_byte_lengths_are_whole_numbers_for_all_tokens(tokenizer):
    lengths = bpe.byte_lengths(tokenizer)
    assert lengths.dtype == np.int64
    assert lengths[0] == 0
    assert (lengths[1:257] == 1).all()
    assert (lengths[257:] >= 2).all()
