"""What of a run may be broken off at any point."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

Tell = Callable[[int, int], None]
"""Called with how many control periods are done, and of how many."""


def nobody(done: int, of: int) -> None:
    """Who is told where nobody asks."""


class Droppable:
    """True within `with`: the run is not changed there, and who resumes it makes it again."""

    def __init__(self) -> None:
        self._now = False
        self.dropped = False
        """Whether it was broken off, by a KeyboardInterrupt."""
        self.tell: Tell = nobody
        """Called as it goes on: there may be minutes of it."""

    def __bool__(self) -> bool:
        return self._now

    def __enter__(self) -> None:
        self._now = True

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._now = False
        self.dropped = kind is KeyboardInterrupt
