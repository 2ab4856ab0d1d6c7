"""Ctrl-C that waits for a good moment."""

from __future__ import annotations

import signal
from collections.abc import Callable


class Interrupt:
    """Ctrl-C sets `asked` and waits to be asked about; a second one does not wait.

    Args:
        droppable: whether what is done now may be broken off at any point; then the first does not
            wait either.
    """

    asked = False

    def __init__(self, droppable: Callable[[], bool] = lambda: False) -> None:
        self._droppable = droppable

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)
        if self._droppable():
            raise KeyboardInterrupt
