"""The files of a run: written together into a folder, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from one_step_trap.core import folders
from one_step_trap.errors import BookError


def standalone(svg: str) -> str:
    """Return an SVG that stands alone: dark on white, as there is no page whose colours it could take."""
    return svg.replace("<svg ", '<svg style="background:#fff;color:#000" ', 1) + "\n"


@contextlib.contextmanager
def output_folder(folder: Path, names: Sequence[str]) -> Iterator[Callable[[Mapping[str, str]], list[Path]]]:
    """Make sure that files of these names can be written into ``folder``, then give the function that writes them.

    A folder that cannot be written, another run that is about to write the first of the files, or a file that is there
    already, is an error at once. The files appear together, or none does; a folder that was made for them goes again if they
    were not written.
    """
    folder = Path(folder)
    with folders.held(folder, names[0]):
        for name in names:
            if (folder / name).exists():
                raise BookError(f"{folder / name} is there already: name another folder, or remove it")
        yield lambda texts: _write_together(folder, texts)


def _write_together(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write all files, or leave none: first under other names, then renamed."""
    new = {folder / name: folder / f".{name}.new" for name in texts}
    placed: list[Path] = []
    try:
        for (_, hidden), text in zip(new.items(), texts.values(), strict=True):
            hidden.write_text(text, encoding="utf-8")
        for path, hidden in new.items():
            try:
                path.touch(exist_ok=False)  # takes the name, or finds it taken, in one
            except FileExistsError:
                raise BookError(
                    f"{path} has appeared meanwhile: the files of this run were not written"
                ) from None
            placed.append(path)
            os.replace(hidden, path)
    except BaseException as error:
        for path in (*new.values(), *placed):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BookError(f"cannot write into {folder}: {error.strerror or error}") from None
        raise
    return placed
