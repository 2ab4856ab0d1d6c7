"""What was looked at while a bundle was loaded, in order, and what refused it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class BundleError(ValueError):
    """A bundle was refused; the message names the file, what is wrong, and the mend."""


class Checks:
    """The names of checks, for those who want to see them all; loading itself only raises."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        """Those that hold."""
        self.failed = ""
        """The one that does not; empty: none. Those after it were not made."""

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Make one check in the body; it fails by raising.

        Raises:
            BundleError: as the body does.
        """
        try:
            yield
        except BundleError:
            self.failed = name
            raise
        self.passed.append(name)
