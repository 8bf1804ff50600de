"""Style sheets and scripts of the figures to play with, which each figure carries within itself."""

from __future__ import annotations

import json
from importlib import resources
from string import Template
from typing import Any


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def style(name: str, **values: object) -> str:
    """Return the style sheet ``name``.css, with ``values`` in the places of $NAME."""
    return Template(_read(f"{name}.css")).substitute(values)


def script(name: str, figure: str, data: Any) -> str:
    """Return the script ``name``.js for the element ``figure``; ``data`` is what the script calls DATA.

    No tag begins or ends inside it, whatever the data hold: "<" is written as an escape.
    """
    code = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return _read(f"{name}.js").replace("ID", json.dumps(figure), 1).replace("DATA", code, 1)
