"""Ctrl-C that waits for a good moment."""

from __future__ import annotations

import signal


class Interrupt:
    """Ctrl-C sets `asked` and waits to be asked about; a second one does not wait."""

    asked = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)
