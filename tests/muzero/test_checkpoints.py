"""Checkpoint files: whole or not at all, digest, and one clear error for every kind of damage."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from one_step_trap.errors import BookError
from one_step_trap.muzero import checkpoints
from one_step_trap.muzero.checkpoints import Checkpoint, read_checkpoint, write_checkpoint

SAVED = Checkpoint(
    {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.array([True, False]),
        "c": np.zeros((0, 4), dtype=np.float32),
    },
    {"task": {"id": "X"}, "seed": 3},
    {"rng": {"state": 2**127 + 1}, "curve": [0.1, 1 / 3]},
)


def test_what_is_written_is_read(tmp_path):
    path = write_checkpoint(tmp_path / "new" / "folder", SAVED)
    assert path.name == "checkpoint.safetensors"
    found = read_checkpoint(tmp_path / "new" / "folder")
    assert found[1:] == SAVED[1:]
    for name, array in SAVED.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert read_checkpoint(path)[1:] == SAVED[1:]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, SAVED)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BookError, match="No space left"):
        write_checkpoint(tmp_path, SAVED._replace(state={"curve": []}))
    assert read_checkpoint(tmp_path).state == SAVED.state
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.999])
def test_truncated_files(tmp_path, share):
    path = write_checkpoint(tmp_path, SAVED)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BookError, match="damaged or no checkpoint"):
        read_checkpoint(tmp_path)


def test_every_altered_byte_is_noticed(tmp_path):
    path = write_checkpoint(tmp_path, SAVED)
    content = bytearray(path.read_bytes())
    for place in range(len(content)):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        try:
            found = read_checkpoint(path)
        except BookError:
            continue
        # only the padding of the header may change without changing what is read
        assert found[1:] == SAVED[1:]
        assert all(np.array_equal(found.arrays[n], a) for n, a in SAVED.arrays.items())
        assert content[place : place + 1] == b" "


def test_foreign_files(tmp_path):
    path = checkpoints.checkpoint_path(tmp_path)
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(BookError, match="not a checkpoint of this library"):
        read_checkpoint(tmp_path)
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(BookError, match="damaged or no checkpoint"):
        read_checkpoint(tmp_path)
    with pytest.raises(BookError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "elsewhere")
    with pytest.raises(BookError, match="folder must be a path"):
        read_checkpoint(3)


def test_arrays_exchanged_under_the_old_header_are_noticed(tmp_path):
    path = write_checkpoint(tmp_path, SAVED)
    arrays = load_file(path)
    arrays["a"] = arrays["a"] + 1
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file(arrays, path, metadata=metadata)
    with pytest.raises(BookError, match="altered"):
        read_checkpoint(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BookError, match="cannot write"):
        write_checkpoint(tmp_path / "file" / "folder", SAVED)
