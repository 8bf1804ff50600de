"""Files that installed packages carry: where they lie, and whether they are those the book was written with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from one_step_trap.errors import BookError


def remedy(package: str, version: str) -> str:
    """Return the command that installs a package without its dependencies."""
    return f"pip install --no-deps --force-reinstall {package}=={version}"


def package_folder(module: str, package: str, version: str) -> Path:
    """Return the folder of an installed package without importing it; a missing one is an error."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BookError(f"the package {package} is missing; run: {remedy(package, version)}")
    return Path(spec.origin).parent


def check_digest(found: str, wanted: str, what: str, package: str, version: str) -> None:
    """Raise unless the SHA-256 is the one this book was written with."""
    if found != wanted:
        raise BookError(
            f"{what} is not that of {package} {version} (SHA-256 {found[:12]}…, wanted {wanted[:12]}…); "
            f"run: {remedy(package, version)}"
        )
