"""What the tests expect of each page: every ``tests/*/expected*.py``, found by its ``PAGE``.

Such a file says ``PAGE`` (the notebook's name), ``QUICK`` (parameters that make it quick), ``OTHER`` (a reader's settings),
``EXPECTED`` (values of its claims), ``VERDICTS``, ``TEXTS`` (that its prose shows) and ``WRONG`` (parameters that are refused,
with the line that says so).
"""

import importlib.util
from pathlib import Path
from types import ModuleType

NAMES = ("PAGE", "QUICK", "OTHER", "EXPECTED", "VERDICTS", "TEXTS", "WRONG")


def read(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"expected_in_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in NAMES if not hasattr(module, name)]
    assert not missing, f"{path} says nothing of {', '.join(missing)}"
    return module


def found(folder: Path) -> dict[str, ModuleType]:
    """Return what is expected of each page, by the page's name."""
    files = sorted(folder.glob("*/expected*.py"))
    return {module.PAGE: module for module in map(read, files)}


PAGES = found(Path(__file__).parent)
