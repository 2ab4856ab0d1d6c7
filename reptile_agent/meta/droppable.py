"""What of a run may be broken off at any point."""

from __future__ import annotations

from types import TracebackType


class Droppable:
    """True within `with`: the run is not changed there, and who resumes it makes it again."""

    def __init__(self) -> None:
        self._now = False
        self.dropped = False
        """Whether it was broken off, by a KeyboardInterrupt."""

    def __bool__(self) -> bool:
        return self._now

    def __enter__(self) -> None:
        self._now = True

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._now = False
        self.dropped = kind is KeyboardInterrupt
