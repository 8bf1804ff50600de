"""Folders that a run writes into, while no other does."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from one_step_trap.errors import BookError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_mine: set[tuple[Path, int]] = set()
"""What is held by which thread of this process: who holds something may hold it again."""


@contextlib.contextmanager
def held(folder: str | Path, name: str) -> Iterator[None]:
    """Keep ``name`` in a folder for this run alone: another run that wants it meanwhile gets an error at once.

    The folder is made if there is none (and goes again after an error, if nothing was written). The lock is the operating
    system's, on a hidden file beside ``name``: it ends with the process, however that ends, so that a killed run
    keeps nobody out.
    """
    folder = Path(folder)
    made = _make_folder(folder)
    path = folder.resolve() / f".{name}.lock"
    key = (path, threading.get_ident())
    if key in _mine:
        yield
        return
    try:
        lock = _lock(path, f"another run is writing {name} into {folder}: let it end, or name another folder")
        _mine.add(key)
        try:
            yield
        finally:
            _mine.discard(key)
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(lock)
    except BaseException:
        for each in made:  # the innermost first; one that something else has filled meanwhile stays
            with contextlib.suppress(OSError):
                each.rmdir()
        raise


def _lock(path: Path, taken: str) -> int:
    """Return a locked file; whoever had it before may have removed it in between, and then it is made anew."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise BookError(f"cannot write into {path.parent}: {error.strerror or error}") from None
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise BookError(taken) from None
        except OSError:  # a file system without locks
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder, check that a file can be written there, and return the folders that had to be made."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        if folder.exists() and not folder.is_dir():
            raise BookError(f"{folder} is a file: name a folder to write into")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BookError(f"cannot write into {folder}: {error.strerror or error}") from None
    return missing
