"""Texts to look at: a few continuations of one prompt, token by token, small enough to be kept in a file.

A viewer (:mod:`one_step_trap.sampling.plots.viewer`) shows a text in pieces, one a token. Tokens of the models used here are
strings of *bytes*: a character such as é or 🙂 may be spread over several of them, and none of those is text alone. `pieces`
gives such a character to the token that completes it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from one_step_trap.core.validate import (
    BoolArray,
    FloatArray,
    IntArray,
    check_count,
    check_finite,
    short_repr,
)
from one_step_trap.errors import BookError
from one_step_trap.sampling.measures import TraceLike, check_tokens, find_loops, ngram_ids

GRAM = 4  # tokens: repetition is counted in 4-grams, as in ``measures.seq_rep``
MISSING = "\N{REPLACEMENT CHARACTER}"  # what decoders write for bytes that are no character (yet)
FORMAT = "one-step-trap texts, version 1"

Decode = Callable[[list[int]], str]


# --- from tokens to pieces of text ------------------------------------------------------------------------


def pieces(decode: Decode, tokens: ArrayLike) -> list[str]:
    """Return the text of each of ``tokens`` (S,), such that ``"".join(pieces(decode, x)) == decode(x)``.

    ``decode`` turns token ids into text. A character whose bytes are spread over several tokens belongs to the
    one that completes it; those before it are empty, and so are tokens that ``decode`` skips. Bytes that never
    become a character are shown (as U+FFFD) with the next complete one. A ``decode`` whose text of a beginning is not the
    beginning of its text (one that tidies up spaces) is an error.
    """
    ids = _ids(tokens)
    found: list[str] = []
    # Decoded anew for each token: those from ``start`` on, of which ``given`` characters were given out. Up to
    # ``whole`` all characters are complete. ``start`` stays one group behind, because some decoders drop a leading space.
    start, whole, given = 0, 0, 0
    for i in range(len(ids)):
        text = _decoded(decode, ids[start : i + 1])
        sure = text.rstrip(MISSING)  # what ends in U+FFFD may be waiting for more bytes
        found.append(sure[given:])
        if sure == text and len(text) > given:
            start, whole = whole, i + 1
            given = len(_decoded(decode, ids[start:whole]))
        else:
            given = max(given, len(sure))
    found[-1] += _decoded(decode, ids[start:])[given:]
    if "".join(found) != _decoded(decode, ids):
        raise BookError(
            "decode changes earlier text when tokens are added: let it tidy up nothing (spaces, say)"
        )
    return found


def _ids(tokens: ArrayLike) -> list[int]:
    ids = check_tokens(tokens)
    if np.ndim(tokens) != 1:
        raise BookError(f"tokens must be those of one text, shape (tokens,), got shape {ids.shape}")
    return [int(token) for token in ids[0]]


def _decoded(decode: Decode, ids: list[int]) -> str:
    text = decode(ids)
    if not isinstance(text, str):
        raise BookError(f"decode must return a text, got {short_repr(text)}")
    return text


# --- one text, and several of one prompt ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ShownText:
    """One continuation as it is shown, S tokens of it.

    ``rule``: what chose the tokens ("human": a person wrote them). ``pieces``: the text of each token. ``entropy`` (S,):
    that of the model's next-token distribution before each token, nats. ``repeats`` (S,): whether the 4-gram that *ends*
    with a token was said before in this text. ``loops``: stretches from a token up to, not including, another, in order.
    """

    rule: str
    pieces: tuple[str, ...]
    entropy: FloatArray
    repeats: BoolArray
    loops: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        if not isinstance(self.rule, str) or not self.rule.strip():
            raise BookError(f"the rule of a text must be its name, got {short_repr(self.rule)}")
        given: Any = self.pieces
        words = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
        if not words or not all(isinstance(word, str) for word in words):
            raise BookError(
                f"pieces of {self.rule!r} must be texts, one a token, got {short_repr(self.pieces)}"
            )
        entropy, repeats = check_finite(self.entropy, f"entropy of {self.rule!r}"), np.asarray(self.repeats)
        if entropy.shape != (len(words),) or repeats.shape != (len(words),) or repeats.dtype != bool:
            raise BookError(
                f"{self.rule!r} has {len(words)} pieces: entropy must be as many numbers and repeats as many True or False, "
                f"got shapes {entropy.shape} and {repeats.shape}"
            )
        if entropy.min() < -1e-6:
            raise BookError(f"entropy of {self.rule!r} must not be below 0 nats, got {entropy.min():g}")
        object.__setattr__(self, "pieces", words)
        object.__setattr__(self, "entropy", np.maximum(entropy, 0))
        object.__setattr__(self, "repeats", repeats)
        object.__setattr__(self, "loops", _stretches(self.loops, len(words), self.rule))

    def said_before(self, count: int) -> float:
        """Return the share of the 4-grams among the first ``count`` tokens that were said before: their seq-rep-4."""
        count = check_count(count, "count", minimum=GRAM)
        if count > len(self.pieces):
            raise BookError(f"count must be at most the {len(self.pieces)} tokens of the text, got {count}")
        return float(self.repeats[:count].sum() / (count - GRAM + 1))


def _stretches(loops: Any, length: int, rule: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = tuple((check_count(a, "start", minimum=0), check_count(b, "end")) for a, b in loops)
    except (BookError, TypeError, ValueError):
        raise BookError(
            f"loops of {rule!r} must be pairs (start, end) of tokens, got {short_repr(loops)}"
        ) from None
    ends = [end for pair in pairs for end in pair]
    if ends != sorted(ends) or (ends and ends[-1] > length) or any(a == b for a, b in pairs):
        raise BookError(
            f"loops of {rule!r} must lie within its {length} tokens, one after the other, got {pairs}"
        )
    return pairs


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A prompt and several continuations of it, equally long, each by another rule; ``about`` says where they come from."""

    about: str
    prompt: str
    texts: tuple[ShownText, ...]

    def __post_init__(self) -> None:
        """Check that the texts belong together."""
        object.__setattr__(self, "texts", check_texts(self.texts))
        for name in ("about", "prompt"):
            if not isinstance(getattr(self, name), str):
                raise BookError(f"{name} must be a text, got {short_repr(getattr(self, name))}")


def check_texts(texts: Any) -> tuple[ShownText, ...]:
    """Return texts as a tuple after checking that there are some, of one length, and no rule twice."""
    found = tuple(texts) if isinstance(texts, Sequence) and not isinstance(texts, str) else ()
    if not found or not all(isinstance(text, ShownText) for text in found):
        raise BookError(f"texts must be a list of ShownText, got {short_repr(texts)}")
    if len({text.rule for text in found}) < len(found):
        raise BookError(f"each rule has one text, got {', '.join(text.rule for text in found)}")
    lengths = {len(text.pieces) for text in found}
    if len(lengths) > 1:
        raise BookError(f"texts must be equally long, got {', '.join(map(str, sorted(lengths)))} tokens")
    return found


def shown_text(rule: str, tokens: ArrayLike, entropy: ArrayLike, decode: Decode) -> ShownText:
    """Return one text as it is shown: its pieces, its repeated 4-grams and its loops (``measures.find_loops``)."""
    words = pieces(decode, tokens)
    x = check_tokens(tokens, shortest=GRAM)
    return ShownText(rule, tuple(words), check_finite(entropy, "entropy"), repeats(x[0]), all_loops(x[0]))


def exhibit(
    traces: Sequence[TraceLike], text: int, prompt: str, decode: Decode, *, about: str = ""
) -> Exhibit:
    """Return the texts of prompt number ``text`` (from 0) out of ``traces``, one trace a rule and one the "human"."""
    row = check_count(text, "text", minimum=0)
    if not isinstance(traces, Sequence) or not all(hasattr(trace, "tokens") for trace in traces):
        raise BookError(
            f"traces must be a list of Traces as generate() returns them, got {short_repr(traces)}"
        )
    if any(row >= len(trace.tokens) for trace in traces):
        raise BookError(f"there is no text {row}: the traces hold {min(len(t.tokens) for t in traces)} each")
    texts = [shown_text(t.rule, t.tokens[row], t.entropy[row], decode) for t in traces]
    return Exhibit(about, prompt, tuple(texts))


def repeats(tokens: ArrayLike) -> BoolArray:
    """Return whether the 4-gram that ends with each of ``tokens`` (S,) was said before; False for the first three."""
    ids = ngram_ids(tokens, GRAM)[0]
    said = np.ones(len(ids), dtype=bool)
    said[np.unique(ids, return_index=True)[1]] = False
    return np.concatenate([np.zeros(GRAM - 1, dtype=bool), said])


def all_loops(tokens: ArrayLike) -> tuple[tuple[int, int], ...]:
    """Return the loops of one text (S,) as pairs (start, end): the first one until it breaks off, then those after it.

    The start is the onset of ``measures.find_loops``, the end the first later token that differs from the one a period before.
    """
    x = check_tokens(tokens)[0]
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(x):
        first: IntArray = x[start:]
        loop = find_loops(first)
        if not loop.looped[0]:
            break
        onset, seen, period = int(loop.onset[0]), int(loop.seen[0]), int(loop.period[0])
        breaks = np.flatnonzero(first[seen:] != first[seen - period : len(first) - period])
        end = start + (seen + int(breaks[0]) if len(breaks) else len(first))
        found.append((start + onset, end))
        start = end
    return tuple(found)


# --- in a file --------------------------------------------------------------------------------------------


def numbered(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[int]]]:
    """Return the different pieces of all ``rows``, the most frequent first, and each row as their numbers."""
    words = [word for word, _ in Counter(itertools.chain(*rows)).most_common()]
    number = {word: i for i, word in enumerate(words)}
    return words, [[number[piece] for piece in row] for row in rows]


def save_texts(path: str | Path, texts: Exhibit) -> None:
    """Write texts to a JSON file: each different piece once, entropy in hundredths of a nat, and the SHA-256 of it all."""
    if not isinstance(texts, Exhibit):
        raise BookError(f"texts must be an Exhibit, got {short_repr(texts)}")
    words, rows = numbered([text.pieces for text in texts.texts])
    content = {
        "about": texts.about,
        "prompt": texts.prompt,
        "pieces": words,
        "texts": [
            {
                "rule": text.rule,
                "pieces": row,
                "entropy": [round(100 * float(h)) for h in text.entropy],
                "repeats": np.flatnonzero(text.repeats).tolist(),
                "loops": text.loops,
            }
            for text, row in zip(texts.texts, rows, strict=True)
        ],
    }
    whole = {"format": FORMAT, "sha256": _sha256(content), "content": content}
    # One line for each text, so that a difference between two versions can be found. A lone surrogate is escaped.
    lines = json.dumps(whole, separators=(",", ":")).replace('{"rule"', '\n{"rule"') + "\n"
    try:
        Path(path).write_text(lines, encoding="ascii")
    except OSError as error:
        raise BookError(f"the texts could not be written to {path}: {error.strerror}") from None


def load_texts(path: str | Path) -> Exhibit:
    """Return the texts that `save_texts` wrote; a file that is missing or damaged is one clear error."""
    try:
        whole = json.loads(Path(path).read_text(encoding="ascii"))
    except FileNotFoundError:
        raise BookError(f"{path} is missing: restore it with `git checkout data`") from None
    except (OSError, ValueError):
        raise BookError(_damaged(path, "it is no JSON")) from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise BookError(_damaged(path, f"its format is not {FORMAT!r}"))
    if whole.get("sha256") != _sha256(whole.get("content")):
        raise BookError(_damaged(path, "its content is not the one that was written (the SHA-256 differs)"))
    try:
        return _exhibit_of(whole["content"])
    except (BookError, KeyError, IndexError, TypeError, ValueError) as error:
        raise BookError(_damaged(path, f"its parts do not fit together ({error})")) from None


def _exhibit_of(content: dict[str, Any]) -> Exhibit:
    words = content["pieces"]
    texts = []
    for text in content["texts"]:
        said = np.zeros(len(text["pieces"]), dtype=bool)
        said[text["repeats"]] = True
        row = check_tokens(text["pieces"])[0]  # not negative: Python would count from the end
        entropy = check_finite(text["entropy"], "entropy") / 100
        texts.append(ShownText(text["rule"], tuple(words[i] for i in row), entropy, said, text["loops"]))
    return Exhibit(content["about"], content["prompt"], tuple(texts))


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def _damaged(path: str | Path, why: str) -> str:
    return f"{path} is damaged: {why}; restore it with `git checkout data`"
