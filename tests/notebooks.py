"""Small notebooks for the tests."""

import json
from pathlib import Path


def markdown(text: str, **more) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": text, **more}


def code(text: str, tags=(), **more) -> dict:
    metadata = {"tags": list(tags)} if tags else {}
    return {
        **{"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": text},
        **more,
    }


def notebook(path: Path, *cells: dict) -> Path:
    """Write a notebook with these cells (text is a code cell) and return its path."""
    full = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    content = {
        "cells": [{"id": f"cell-{i}", **cell} for i, cell in enumerate(full)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
