"""Files of arrays and JSON that are written whole or not at all, and of which a damaged one is noticed.

One safetensors file holds the arrays and, in its header, two JSON texts (the ``configuration``, which never changes during a
training, and the ``state``) and a SHA-256 digest over all of it. Nothing is unpickled. A file is written under another
name in the same folder, forced to the disk and renamed: a reader finds the old one or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from one_step_trap.core import folders
from one_step_trap.core.validate import short_repr
from one_step_trap.errors import BookError

FORMAT = "one-step-trap muzero 1"
NAME = "checkpoint.safetensors"

Arrays = dict[str, NDArray[Any]]


class Checkpoint(NamedTuple):
    """What a file held: arrays by name, and two JSON objects."""

    arrays: Arrays
    configuration: dict[str, Any]
    state: dict[str, Any]


def checkpoint_path(folder: str | Path) -> Path:
    """Return the path of the checkpoint in a folder; a path to a file itself is returned as it is."""
    if not isinstance(folder, str | Path):
        raise BookError(f"folder must be a path, got {short_repr(folder)}")
    path = Path(folder)
    return path if path.suffix == ".safetensors" else path / NAME


@contextlib.contextmanager
def held(folder: str | Path | None) -> Iterator[None]:
    """Keep other trainings out of a folder meanwhile: one that writes there already is an error (`folders.held`)."""
    if folder is None:
        yield
        return
    path = checkpoint_path(folder)
    with folders.held(path.parent, path.name):
        yield


def _digest(arrays: Arrays, texts: dict[str, str]) -> str:
    """Return a SHA-256 over names, types, shapes and contents."""
    total = hashlib.sha256()
    for name in sorted(texts):
        total.update(f"{name}\0{texts[name]}\0".encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, whole or not at all, and return its path; the folder is made if there is none."""
    target = checkpoint_path(path)
    texts = {
        "format": FORMAT,
        "configuration": json.dumps(checkpoint.configuration, sort_keys=True, allow_nan=False),
        "state": json.dumps(checkpoint.state, sort_keys=True, allow_nan=False),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    content = save(arrays, metadata=texts | {"digest": _digest(arrays, texts)})
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise BookError(f"cannot write the checkpoint {target}: {error.strerror or error}") from None
    return target


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return what `write_checkpoint` wrote; a missing, truncated, altered or foreign file is one clear error."""
    source = checkpoint_path(path)
    if not source.is_file():
        raise BookError(f"there is no checkpoint at {source}")
    try:
        with safe_open(source, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise BookError(f"{source} is damaged or no checkpoint: {' '.join(str(error).split())}") from None
    if metadata.get("format") != FORMAT:
        raise BookError(
            f"{source} is not a checkpoint of this library (format {short_repr(metadata.get('format'))})"
        )
    digest = metadata.pop("digest", "")
    if digest != _digest(arrays, metadata):
        raise BookError(f"{source} was altered after it was written: its digest does not fit its contents")
    return Checkpoint(arrays, json.loads(metadata["configuration"]), json.loads(metadata["state"]))
