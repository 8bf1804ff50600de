"""A tokenizer of our own: byte-level byte-pair encoding, trained on the chapter's training documents only.

Byte-pair encoding (Sennrich, Haddow & Birch 2016, arXiv 1508.07909) starts from single symbols and merges, again and again,
the pair of neighbours that is most frequent in the training text. Here the symbols are the 256 bytes, so that every text
has an encoding and every encoding its text: there is no unknown token. Merges do not cross words. Training and encoding are
those of the package `tokenizers`; this module fixes the settings, checks the input and counts bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from one_step_trap.core.validate import check_count, short_repr
from one_step_trap.errors import BookError

IntArray = NDArray[np.int64]

END = "<|endoftext|>"
"""The token between two documents, number 0: a text is predicted from it on."""

VOCABULARY = 4_096
SMALLEST = 257  # the bytes and the end of a text


def check_texts(texts: Any, name: str = "texts") -> list[str]:
    """Return a list of texts, each of at least one character."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise BookError(f"{name} must be a list of texts, got {short_repr(texts)}")
    result = list(texts)
    if not result or not all(isinstance(text, str) and text for text in result):
        raise BookError(f"{name} must be a list of at least one text, none of them empty")
    return result


def train(texts: Sequence[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Return a tokenizer of ``vocabulary`` tokens learned from ``texts``: the same texts, the same tokenizer.

    Token 0 is `END`, 1 to 256 are the bytes, the others are merges in the order in which they were learned. Too little text for
    so many merges is an error.
    """
    corpus = check_texts(texts)
    vocabulary = check_count(vocabulary, "vocabulary", minimum=SMALLEST)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    found = tokenizer.get_vocab_size()
    if found != vocabulary:
        raise BookError(
            f"the texts give only {found} of {vocabulary} tokens: ask for fewer, or give more text"
        )
    make: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = make(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END
    )
    return made


def save(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, as transformers reads them."""
    tokenizer.save_pretrained(str(folder))


def load(folder: str | Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a folder, from its files alone."""
    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file():
        raise BookError(f"there is no tokenizer.json in {folder}")
    try:
        found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain exceptions for a damaged file
        raise BookError(f"the tokenizer in {folder} cannot be read: {short_repr(str(error))}") from error
    if not isinstance(found, PreTrainedTokenizerFast):
        raise BookError(f"the tokenizer in {folder} is not one of the package tokenizers")
    return found


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[IntArray]:
    """Return the tokens of each text, without `END`; a text that holds the end token's own name is refused."""
    corpus = check_texts(texts)
    if any(END in text for text in corpus):
        raise BookError(f"a text must not hold {END!r}: it stands between texts")
    # One text at a time and without places: an encoding takes many times the memory of its ids.
    encode_batch = tokenizer.backend_tokenizer.encode_batch_fast
    encoded = (encode_batch([text], add_special_tokens=False)[0] for text in corpus)
    return [np.array(encoding.ids, dtype=np.int64) for encoding in encoded]


def stream(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> IntArray:
    """Return all texts as one sequence of tokens, `END` before each."""
    end = np.array([tokenizer.eos_token_id], dtype=np.int64)
    return np.concatenate([part for tokens in encode(tokenizer, texts) for part in (end, tokens)])


def byte_lengths(tokenizer: PreTrainedTokenizerFast) -> IntArray:
    """Return the number of bytes of text behind each token, (vocabulary,); 0 for `END`.

    The byte-level alphabet writes each byte as one character, so that the length of a token is its number of bytes.
    """
    lengths = np.zeros(len(tokenizer), dtype=np.int64)
    for token, number in tokenizer.get_vocab().items():
        lengths[number] = 0 if token == END else len(token)
    return lengths
