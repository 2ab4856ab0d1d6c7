"""Writes a file so that whoever reads it finds the old contents or the new, never a part."""

from __future__ import annotations

import os
from pathlib import Path


def atomic_write(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, also across a kill or a loss of power.

    Written beside it, flushed to the disk, renamed over it; then the folder is flushed, without
    which a rename may be lost. One process writes a given file at a time. A kill can leave
    `.<name>.tmp` behind, which the next write overwrites.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o644), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
