"""Probation: parameters that drive the robot worse than the last good ones are taken back.

The gate saw predictions; probation sees the robot. After a swap the realised tracking error is
held against that of the last good parameters just before, and, so that many small steps for the
worse do not add up, against that of a longer time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["none", "watching", "passed", "rolled_back"]


@dataclass(frozen=True)
class ProbationConfig:
    """How long and how strictly new parameters are watched; a tick is a control period."""

    ticks: int = 12
    """Ticks until new parameters have passed."""
    patience: int = 4
    """Ticks before a verdict may fall."""
    baseline_ticks: int = 25
    """Ticks of the last good parameters that are compared with; until then none are taken."""
    margin: float = 0.5
    """Allowed excess of the error, as a share of the baseline."""
    anchor_ticks: int = 250
    """Ticks of the longer time that is compared with."""
    anchor_margin: float = 3.0
    """Allowed excess of the error, as a share of the longer time's mean."""
    floor: float = 0.01
    """Allowed excess of the error, in the unit of the references: the noise of tracking."""
    unjudged_ticks: int = 24
    """Ticks in a row that may say nothing of new parameters before they are taken back."""
    cooldown_ticks: int = 25
    """Ticks after a roll-back in which no new parameters are taken; twice as many after each
    further one without a pass in between, up to 32 times."""


class Probation:
    """Watches one set of parameters at a time; feed `tick` once per control period."""

    def __init__(self, config: ProbationConfig | None = None) -> None:
        self.config = config or ProbationConfig()
        self.outcome: Outcome = "none"
        """Of the parameters in use."""
        self._good: deque[float] = deque(maxlen=self.config.baseline_ticks)
        self._long: deque[float] = deque(maxlen=self.config.anchor_ticks)
        self._new: list[float] = []
        self._unjudged = 0
        self._cooldown = 0
        self._failures = 0

    @property
    def open(self) -> bool:
        """Whether new parameters may be swapped in now: only where they can be judged."""
        full = len(self._good) == self.config.baseline_ticks
        return full and self.outcome != "watching" and self._cooldown == 0

    @property
    def baseline(self) -> float | None:
        """Mean error of the last good parameters; None before the first tick."""
        return sum(self._good) / len(self._good) if self._good else None

    def begin(self) -> None:
        """New parameters were swapped in."""
        self.outcome, self._new, self._unjudged = "watching", [], 0

    def fail(self) -> None:
        """What is watched must go: no new parameters for a while."""
        self.outcome = "rolled_back"
        self._cooldown = self.config.cooldown_ticks * 2 ** min(self._failures, 5)
        self._failures += 1

    def reset(self) -> None:
        """Forget all errors: the robot starts anew, with what it has."""
        self.outcome, self._new = "none", []
        self._good.clear()
        self._long.clear()
        self._cooldown = self._failures = 0

    def tick(self, error: float) -> bool:
        """Note one control period's tracking error.

        Returns:
            True if the last good parameters must be put back now.
        """
        self._unjudged = 0
        if self._cooldown:
            self._cooldown -= 1
        if self.outcome != "watching":
            self._good.append(error)
            self._long.append(error)
            return False
        self._new.append(error)
        if len(self._new) >= self.config.patience and not self._bearable():
            self.fail()
            return True
        if len(self._new) >= self.config.ticks:
            self.outcome, self._failures = "passed", 0
            self._good.extend(self._new)
            self._long.extend(self._new)
        return False

    def skip(self) -> bool:
        """A control period went by that says nothing of the parameters, as an uneven one.

        Returns:
            True if the last good parameters must be put back now: none may drive on for ever so.
        """
        self._unjudged += 1
        if self.outcome != "watching" or self._unjudged <= self.config.unjudged_ticks:
            return False
        self.fail()
        return True

    def _bearable(self) -> bool:
        """Whether what is watched is not much worse than what was before."""
        config, mean = self.config, sum(self._new) / len(self._new)
        for window, margin in ((self._good, config.margin), (self._long, config.anchor_margin)):
            before = sum(window) / len(window) if window else mean
            if not mean <= before * (1 + margin) + config.floor:
                return False
        return True
