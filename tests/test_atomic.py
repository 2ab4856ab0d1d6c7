"""reptile_agent.atomic: whatever kills a writer, a reader finds the old or the new, whole.

`REPTILE_AGENT_KILLS=1000` kills at a thousand random moments instead of some.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reptile_agent import atomic
from reptile_agent.atomic import atomic_write, atomic_write_folder

KILLS = int(os.environ.get("REPTILE_AGENT_KILLS", "40"))
OLD = {name: b"old" * 40_000 for name in ("a", "b", "c")}
NEW = {name: b"new" * 50_000 for name in ("a", "b", "d")}

WRITER = """
import os, signal, sys
from pathlib import Path
from reptile_agent import atomic

names, data = sys.argv[3].split(), sys.argv[4].encode() * int(sys.argv[5])
at = int(sys.argv[2])
if at:  # die at the n-th of these calls, before it or after it
    left = [at]
    def deadly(call):
        def wrapped(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), 9)
            found = call(*arguments, **options)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), 9)
            return found
        return wrapped
    for name in ("fsync", "replace", "rename", "rmdir", "unlink", "mkdir"):
        setattr(os, name, deadly(getattr(os, name)))
    atomic._exchange = deadly(atomic._exchange)
path = Path(sys.argv[1])
print("go", flush=True)
while True:
    if path.suffix:
        atomic.atomic_write(path, data)
    else:
        atomic.atomic_write_folder(path, dict.fromkeys(names, data))
    if at:
        break
    names, data = (["a", "b", "c"], b"old" * 40000) if data[:1] == b"n" else (
        ["a", "b", "d"], b"new" * 50000)
"""


def writer(path: Path, at: int = 0) -> subprocess.Popen[str]:
    """A process that writes NEW: once, dying at its `at`-th call; or, at=0, in turn with OLD."""
    command = [sys.executable, "-c", WRITER, str(path), str(at), "a b d", "new", "50000"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def contents(path: Path) -> dict[str, bytes] | bytes:
    if path.is_file():
        return path.read_bytes()
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("name", ["folder", "file.bin"])
def test_killed_at_every_call_of_a_save_the_old_or_the_new_is_there(tmp_path, name):
    path, seen = tmp_path / name, set()
    old, new = (OLD["a"], NEW["a"]) if path.suffix else (OLD, NEW)
    for at in range(1, 60):
        (atomic_write if path.suffix else atomic_write_folder)(path, old)  # type: ignore[operator]
        with writer(path, at) as process:
            process.communicate()
        found = contents(path)
        assert found in (old, new), at
        seen.add(found == new)
        if process.returncode == 0:
            break
    assert process.returncode == 0, "it never got to the end"
    assert at > 4
    assert seen == {False, True}
    assert [file.name for file in tmp_path.iterdir()] == [name], "nothing is left beside"


def test_killed_at_random_moments_the_old_or_the_new_is_there(tmp_path):
    path, rng = tmp_path / "folder", random.Random(0)
    atomic_write_folder(path, OLD)
    for _ in range(KILLS):
        with writer(path) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
        # Which of the two depends on how busy the machine is; the test above meets both.
        assert contents(path) in (OLD, NEW)


def test_a_reader_never_finds_nothing_while_folders_are_exchanged(tmp_path):
    path = tmp_path / "folder"
    atomic_write_folder(path, OLD)
    with writer(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert path.is_dir()
        process.send_signal(signal.SIGKILL)


def test_an_error_leaves_the_old_one_and_the_next_write_clears_up(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    atomic_write_folder(path, OLD)

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            atomic_write_folder(path, NEW)
    assert contents(path) == OLD
    atomic_write_folder(path, NEW)
    assert contents(path) == NEW
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_link_to_a_folder_stays_and_leads_to_the_new_one(tmp_path):
    atomic_write_folder(tmp_path / "folder", OLD)
    (tmp_path / "link").symlink_to("folder")
    atomic_write_folder(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "folder") == NEW


def test_a_file_system_that_cannot_exchange_is_told_with_the_mend(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    atomic_write_folder(path, OLD)
    monkeypatch.setattr(atomic, "RENAME_EXCHANGE", 1 << 20)  # a flag that no kernel knows
    with pytest.raises(OSError, match=r"cannot exchange folders: remove the old one first"):
        atomic_write_folder(path, NEW)
    assert contents(path) == OLD
