"""What of a run may be broken off at any point."""

from __future__ import annotations


class Droppable:
    """True within `with`: the run is not changed there, and who resumes it makes it again."""

    def __init__(self) -> None:
        self._now = False

    def __bool__(self) -> bool:
        return self._now

    def __enter__(self) -> None:
        self._now = True

    def __exit__(self, *_: object) -> None:
        self._now = False
