"""Probation: parameters that drive the robot worse than the last good ones are taken back.

The gate saw predictions; probation sees the robot. After a swap the realised tracking error is
held against that of the last good parameters just before.
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
    """Ticks of the last good parameters that are compared with."""
    margin: float = 0.5
    """Allowed excess of the error, as a share of the baseline."""
    floor: float = 0.01
    """Allowed excess of the error, in the unit of the references: the noise of tracking."""
    cooldown_ticks: int = 25
    """Ticks after a roll-back in which no new parameters are taken."""


class Probation:
    """Watches one set of parameters at a time; feed `tick` once per control period."""

    def __init__(self, config: ProbationConfig | None = None) -> None:
        self.config = config or ProbationConfig()
        self.outcome: Outcome = "none"
        """Of the parameters in use."""
        self._good: deque[float] = deque(maxlen=self.config.baseline_ticks)
        self._new: list[float] = []
        self._cooldown = 0

    @property
    def open(self) -> bool:
        """Whether new parameters may be swapped in now."""
        return self.outcome != "watching" and self._cooldown == 0

    @property
    def baseline(self) -> float | None:
        """Mean error of the last good parameters; None before the first tick."""
        return sum(self._good) / len(self._good) if self._good else None

    def begin(self) -> None:
        """New parameters were swapped in."""
        self.outcome, self._new = "watching", []

    def tick(self, error: float) -> bool:
        """Note one control period's tracking error.

        Returns:
            True if the last good parameters must be put back now.
        """
        if self._cooldown:
            self._cooldown -= 1
        if self.outcome != "watching":
            self._good.append(error)
            return False
        self._new.append(error)
        config, baseline = self.config, self.baseline
        if baseline is not None and len(self._new) >= config.patience:
            mean = sum(self._new) / len(self._new)
            if not mean <= baseline * (1 + config.margin) + config.floor:
                self.outcome, self._cooldown = "rolled_back", config.cooldown_ticks
                return True
        if len(self._new) >= config.ticks:
            self.outcome = "passed"
            self._good.extend(self._new)
        return False
