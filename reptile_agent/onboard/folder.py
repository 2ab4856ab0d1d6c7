"""Reads the files of a bundle's folder: plain ones, inside it, of the size that is allowed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType

from reptile_agent.onboard.checks import BundleError

PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""No link is followed, and a pipe in a file's place cannot make the reader wait."""


class Folder:
    """An open folder, so that all files come from one bundle, also while another replaces it.

    Args:
        path: of the folder.

    Raises:
        BundleError: there is no folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BundleError(
                f"no bundle at {path}: it has no manifest.json ({error.strerror}); name a folder "
                f"that `reptile-agent export` wrote"
            ) from None

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._handle)

    @property
    def replaced(self) -> bool:
        """Whether another folder stands at the path by now."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return not os.path.samestat(there, os.fstat(self._handle))

    def read(self, name: str, at_most: int) -> bytes | None:
        """A file's bytes, one more than `at_most` where there are too many; None: no plain file.

        Raises:
            BundleError: the name leads out of the folder, or the file cannot be read.
        """
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise BundleError(f"{self.path}: {name!r} is no name of a file in it; export again")
        try:
            handle = os.open(name, PLAIN, dir_fd=self._handle)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):  # ELOOP: it is a link
                return None
            raise BundleError(
                f"{self.path / name} cannot be read ({error.strerror}); copy the bundle again"
            ) from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return None
        with open(handle, "rb") as file:
            return file.read(at_most + 1)
