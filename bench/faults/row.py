"""A row of the bench: a fault, how often it was tried, how often the right thing happened."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.envelope import EnvelopeConfig


@dataclass(frozen=True)
class Row:
    """One line of the result."""

    fault: str
    trials: int
    """0: it was not tried; the note says why."""
    survived: int
    """Trials in which what must happen did."""
    worst_ms: float | None
    """Longest time from the fault to the fallback, refusal or roll-back; None: none was measured.
    """
    note: str


@dataclass(frozen=True)
class Setup:
    """What every row is run with."""

    bundle: Bundle
    path: Path
    """Of the bundle."""
    folder: Path
    """Empty, for a row's files."""
    trials: int = 1000
    """Of the largest rows; others take a share."""
    seed: int = 0
    envelope: EnvelopeConfig | None = None
    """What guards the robot; what is expected is always what the defaults promise."""
    advance: Callable[[int, int], None] = lambda *_: None
    """Told how many of a row's trials are done."""

    def count(self, share: float) -> int:
        """Trials of a row that takes a share of them; at least two."""
        return max(2, round(self.trials * share))

    def rng(self) -> np.random.Generator:
        """A row's own random numbers."""
        return np.random.default_rng(self.seed)


@dataclass
class Tally:
    """Counts trials.

    Args:
        setup: is told of each.
        total: trials to come.
    """

    setup: Setup
    total: int
    trials: int = 0
    survived: int = 0
    worst_ms: float = -math.inf
    failures: list[str] = field(default_factory=list)

    def add(self, wrong: str, ms: float | None = None) -> None:
        """Note one trial.

        Args:
            wrong: what did not happen as it must; empty where all did.
            ms: from the fault to the fallback, refusal or roll-back.
        """
        self.trials += 1
        self.survived += not wrong
        if wrong:
            self.failures.append(wrong)
        if ms is not None:
            self.worst_ms = max(self.worst_ms, ms)
        self.setup.advance(self.trials, self.total)

    def row(self, fault: str, note: str) -> Row:
        """The row; of what went wrong it names the first."""
        if self.failures:
            note = f"WRONG: {self.failures[0]}; {note}"
        worst_ms = round(self.worst_ms, 3) if math.isfinite(self.worst_ms) else None
        return Row(fault, self.trials, self.survived, worst_ms, note)


def first_wrong(checks: Sequence[tuple[bool, str]]) -> str:
    """The sentence of the first check that does not hold; empty where all do."""
    return next((sentence for holds, sentence in checks if not holds), "")


Case = Callable[[Setup, str], Row]
"""Makes a row: (setup, its fault)."""
