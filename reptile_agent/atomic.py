"""Writes that a crash cannot cut in half: a reader finds the old file or folder, or the new one.

A file is replaced by `rename`. A folder cannot be: rename refuses a folder that has files in it,
and two renames leave a moment with nothing there. So the new folder *changes places* with the old
one, by Linux' `renameat2(RENAME_EXCHANGE)`, which is one step for every reader and for a crash.

Both are synced, and so is the folder that they stand in, before the call returns: after a power cut
the same holds. Writers of one place wait for each other. What a killed writer leaves beside
(`.NAME.partial`) is never read, and removed by the next one.

A reader of several files of a folder should open the folder once and the files relative to that:
otherwise it may take one file from the old and another from the new.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

RENAME_EXCHANGE = 2
"""Flag of renameat2(2)."""
AT_FDCWD = -100
"""For renameat2(2): paths are relative to the working directory."""


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file; its folder is made where it is missing.

    Args:
        path: of the file; replaced whole.
        data: what it is to hold.

    Raises:
        OSError: it could not be written; an older file stays as it was.
    """
    with _alone(path.parent) as parent:
        partial = _partial(path)
        _write(partial, data)
        os.replace(partial, path)
        os.fsync(parent)


def atomic_write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files; an older folder is replaced whole.

    Args:
        path: of the folder, or a link to it.
        files: plain names -> contents.

    Raises:
        OSError: it could not be written, or the file system cannot exchange two folders; an
            older folder stays as it was.
    """
    path = path.resolve()
    with _alone(path.parent) as parent:
        partial = _partial(path)
        partial.mkdir()
        for name, data in files.items():
            _write(partial / name, data)
        _fsync_folder(partial)
        if path.exists():
            _exchange(partial, path)
            os.fsync(parent)
            shutil.rmtree(partial)
        else:
            os.rename(partial, path)
            os.fsync(parent)


def _partial(path: Path) -> Path:
    """Where the new one is written; what a killed writer left there is removed."""
    partial = path.with_name(f".{path.name}.partial")
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)
    return partial


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """The open folder, locked against other writers; a killed process holds no lock."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    # Whoever may plant a link here may not choose what is overwritten through it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o644), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fsync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> None:
    """Let two paths change places in one step."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = errno.ENOSYS
    if hasattr(libc, "renameat2"):
        names = os.fsencode(one), os.fsencode(other)
        if libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
    mend = ""
    if code in (errno.ENOSYS, errno.EINVAL):
        mend = "; this file system cannot exchange folders: remove the old one first"
    raise OSError(code, os.strerror(code) + mend, os.fspath(other))
