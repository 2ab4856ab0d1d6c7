"""reptile_agent.meta.checkpoint: whole or not at all, and a clear word where it is not."""

from __future__ import annotations

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from reptile_agent.meta import checkpoint
from reptile_agent.meta.checkpoint import CheckpointError

ARRAYS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "first": np.array([1, 0, 1], np.uint8),
    "count": np.array(5.0, np.float32),
    "nothing": np.zeros((3, 0, 2), np.float32),
}
STATE = {"round": 2, "config": {"lr": 0.1, "names": ["ä", None]}}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.write(file, ARRAYS, STATE)
    return file


def test_what_was_written_is_read(path):
    arrays, state = checkpoint.read(path)
    assert state == STATE
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_off_is_named_with_the_mend(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(path)
    assert str(path) in str(error.value)
    assert "damaged" in str(error.value)
    assert "restore the file from a copy" in str(error.value)


@pytest.mark.parametrize(
    "data", [b"not a checkpoint at all, but longer than a header", b"\x00" * 64]
)
def test_a_file_of_another_kind_is_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
        checkpoint.read(path)


@pytest.mark.parametrize("metadata", [None, {"format": "someone-elses-2"}])
def test_another_safetensors_file_is_refused_with_what_it_says_it_is(path, metadata):
    save_file({"w": np.zeros(2, np.float32)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"is no reptile-agent-checkpoint-1 .*name the check"):
        checkpoint.read(path)


def test_a_missing_file_is_answered_by_the_command_that_makes_one(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*gone.* `reptile-agent train"):
        checkpoint.read(tmp_path / "gone" / "checkpoint.safetensors")


@pytest.mark.parametrize("dies", ["fsync", "replace"])
def test_a_write_that_dies_leaves_the_old_file(path, monkeypatch, dies):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, dies, full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.write(path, {"w": np.zeros(1000, np.float32)}, {"round": 3})
    monkeypatch.undo()
    assert checkpoint.read(path)[1] == STATE
    checkpoint.write(path, {}, {"round": 4})  # and the next one works
    assert checkpoint.read(path)[1] == {"round": 4}
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.safetensors"]


def test_an_older_checkpoint_is_replaced_whole(path):
    checkpoint.write(path, {"other": np.ones(1, np.float32)}, {})
    assert list(checkpoint.read(path)[0]) == ["other"]
