"""Looks at the validation split in the course of a run, and keeps the best start."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

BEST = "best.safetensors"
FIGURE = "best.json"
"""Iteration and cost of the best start, for --resume and the report."""
SHARE = 0.1
"""Of the time, that looks may take where no number of iterations is given."""


class Validated(Protocol):
    """A trainer that can judge itself."""

    @property
    def total_iterations(self) -> int:
        """Outer steps of a whole run."""
        ...

    @property
    def done_iterations(self) -> int:
        """Outer steps taken so far."""
        ...

    def validate(self) -> float:
        """Cost on tasks of the validation split, lower is better; changes nothing of the run."""
        ...

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        ...


class Validation:
    """Asks a trainer for its cost now and then, and saves the best start.

    Args:
        trainer: is saved in `folder` at every look, as `last`, and as BEST where it improved.
        folder: of the run.
        last: name of the last checkpoint.
        every: iterations between two looks; 0: never; None: as often as takes a tenth of the
            time, and at the end.
        log: called with (metric name, value, step).
        clock: seconds.
    """

    def __init__(
        self,
        trainer: Validated,
        folder: Path,
        last: str,
        every: int | None,
        log: Callable[[str, float, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trainer, self._folder, self._last, self._every = trainer, folder, last, every
        self._log, self._clock = log, clock
        self.best: tuple[float, int] | None = None
        """Lowest cost so far, and its iteration."""
        figure = folder / FIGURE
        if trainer.done_iterations and figure.is_file():
            found = json.loads(figure.read_text())
            self.best = (found["cost"], found["iteration"])
        self._looked_at = 0
        self._next_s = clock()

    def look(self) -> float | None:
        """Call after every iteration; the cost, if this was the time for a look."""
        trainer = self._trainer
        done = trainer.done_iterations
        if not self._due(done, trainer.total_iterations):
            return None
        self._looked_at, began_s = done, self._clock()
        cost = float(trainer.validate())
        ended_s = self._clock()
        self._next_s = ended_s + (ended_s - began_s) * (1 - SHARE) / SHARE
        self._log("validate/cost", cost, done)
        # The last one too: a best start without a checkpoint beside it could not be resumed.
        trainer.save(self._folder / self._last)
        if cost < (self.best[0] if self.best else math.inf):
            self.best = (cost, done)
            trainer.save(self._folder / BEST)
            figure = {"iteration": done, "cost": cost}
            (self._folder / FIGURE).write_text(json.dumps(figure) + "\n")
        return cost

    def _due(self, done: int, total: int) -> bool:
        if self._every == 0 or done in (0, self._looked_at):
            return False
        if done == total:
            return True
        return self._clock() >= self._next_s if self._every is None else done % self._every == 0
