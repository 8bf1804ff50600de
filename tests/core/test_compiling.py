"""Compiled functions where nothing can be written, or what was written is broken."""

import os
import re

import numpy as np
import pytest
from numba.core import caching

from one_step_trap.core import compiling
from one_step_trap.discounting import delayed
from one_step_trap.muzero import compiled
from one_step_trap.trap import misspecified


def double(x):
    """Return 2 x."""
    return 2 * x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only place where Numba may keep anything."""
    monkeypatch.setattr(caching.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    return tmp_path


def kept(folder):
    return sorted(path.suffix for path in folder.rglob("*.nb*"))


def test_what_is_compiled_is_kept(folder):
    assert compiling.njit()(double)(3) == 6
    assert kept(folder) == [".nbc", ".nbi"]
    again = compiling.njit()(double)
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1


def test_no_place_to_keep_it(folder, monkeypatch):
    monkeypatch.setattr(caching.config, "CACHE_DIR", os.devnull + "/nowhere")
    fast = compiling.njit(error_model="numpy")(double)
    assert fast(3) == 6
    assert fast.targetoptions["error_model"] == "numpy"


def test_a_disk_that_fills_up(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    assert compiling.njit()(double)(3) == 6


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_file_that_was_cut_short(folder, suffix, content):
    assert compiling.njit()(double)(3) == 6
    for file in folder.rglob(f"*.{suffix}"):
        file.write_bytes(content)
    assert compiling.njit()(double)(3) == 6


def test_everything_that_is_kept_is_compiled_here(root):
    functions = (
        compiled._search_range,
        compiled._predict_all,
        compiled._exp,
        delayed._train,
        misspecified._walk,
    )
    assert all(isinstance(f._cache, compiling._Kept | caching.NullCache) for f in functions)
    for file in (root / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"jit\([^)]*cache=True", text) or file.name == "compiling.py", file
    assert misspecified._walk(np.array([[1.0, 1.0], [0.0, 1.0]]), 1, np.array([0.5])).tolist() == [1, 1]
