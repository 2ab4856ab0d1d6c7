"""Probation: parameters that drive the robot worse than the last good ones are taken back.

The gate saw predictions; probation sees the robot. After a swap the realised tracking error, and
the reward where what adapts learns from one, are held against those of the last good parameters
just before, and, so that many small steps for the worse do not add up, against those of a longer
time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

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
    reward_margin: float = 2.5
    """Allowed fall of the reward, in standard deviations of a tick's over the longer time: rewards
    have no unit, and no zero, that a share could be taken of."""
    reward_floor: float = 0.02
    """Allowed fall of the reward, as a share of its size: one that hardly varies is not noise."""
    unjudged_ticks: int = 24
    """Ticks in a row that may say nothing of new parameters before they are taken back."""
    cooldown_ticks: int = 25
    """Ticks after a roll-back in which no new parameters are taken; twice as many after each
    further one without a pass in between, up to 32 times."""


class _Record:
    """One quantity, per tick: of the last good parameters and of those that are watched."""

    def __init__(self, config: ProbationConfig) -> None:
        self._good: deque[float] = deque(maxlen=config.baseline_ticks)
        self._long: deque[float] = deque(maxlen=config.anchor_ticks)
        self._new: list[float] = []

    @property
    def full(self) -> bool:
        return len(self._good) == self._good.maxlen

    @property
    def baseline(self) -> float | None:
        return sum(self._good) / len(self._good) if self._good else None

    @property
    def ticks(self) -> int:
        """How long the watch has gone on."""
        return len(self._new)

    @property
    def watched(self) -> float:
        """Mean of those that are watched."""
        return sum(self._new) / len(self._new)

    @property
    def before(self) -> Iterator[float]:
        """Means just before and over the longer time; none where nothing was seen."""
        return (sum(window) / len(window) for window in (self._good, self._long) if window)

    @property
    def spread(self) -> float:
        """Standard deviation over the longer time."""
        return float(np.std(self._long)) if self._long else 0.0

    def begin(self) -> None:
        self._new.clear()

    def good(self, value: float) -> None:
        self._good.append(value)
        self._long.append(value)

    def new(self, value: float) -> None:
        self._new.append(value)

    def passed(self) -> None:
        self._good.extend(self._new)
        self._long.extend(self._new)

    def forget(self) -> None:
        for values in (self._good, self._long, self._new):
            values.clear()


class Probation:
    """Watches one set of parameters at a time; feed `tick` once per control period."""

    def __init__(self, config: ProbationConfig | None = None) -> None:
        self.config = config or ProbationConfig()
        self.outcome: Outcome = "none"
        """Of the parameters in use."""
        self.reason = ""
        """Why the last were taken back, in a sentence."""
        self._errors, self._rewards = _Record(self.config), _Record(self.config)
        self._unjudged = 0
        self._spread = 0.0
        """Of the rewards, as it was when the watch began."""
        self._cooldown = 0
        self._failures = 0

    @property
    def open(self) -> bool:
        """Whether new parameters may be swapped in now: only where they can be judged."""
        return self._errors.full and self.outcome != "watching" and self._cooldown == 0

    @property
    def baseline(self) -> float | None:
        """Mean error of the last good parameters; None before the first tick."""
        return self._errors.baseline

    def begin(self) -> None:
        """New parameters were swapped in."""
        self.outcome, self._unjudged = "watching", 0
        self._errors.begin()
        self._rewards.begin()
        self._spread = self._rewards.spread

    def fail(self, reason: str = "the robot fell back or stopped") -> None:
        """What is watched must go: no new parameters for a while."""
        self.outcome, self.reason = "rolled_back", reason
        self._cooldown = self.config.cooldown_ticks * 2 ** min(self._failures, 5)
        self._failures += 1

    def reset(self) -> None:
        """Forget all that was seen: the robot starts anew, with what it has."""
        self.outcome, self.reason = "none", ""
        self._errors.forget()
        self._rewards.forget()
        self._cooldown = self._failures = 0

    def tick(self, error: float, reward: float | None = None) -> bool:
        """Note one control period.

        Args:
            error: tracking error in it, in the unit of the references.
            reward: of it, where there is one: then always.

        Returns:
            True if the last good parameters must be put back now.
        """
        self._unjudged = 0
        if self._cooldown:
            self._cooldown -= 1
        seen = ((self._errors, error), (self._rewards, reward))
        watching = self.outcome == "watching"
        for record, value in seen:
            if value is not None:
                (record.new if watching else record.good)(value)
        if not watching:
            return False
        watched = self._errors.ticks
        if watched >= self.config.patience:
            worse = self._error_excess() or (self._reward_fall() if reward is not None else "")
            if worse:
                self.fail(worse)
                return True
        if watched >= self.config.ticks:
            self.outcome, self._failures = "passed", 0
            self._errors.passed()
            self._rewards.passed()
        return False

    def skip(self) -> bool:
        """A control period went by that says nothing of the parameters, as an uneven one.

        Returns:
            True if the last good parameters must be put back now: none may drive on for ever so.
        """
        self._unjudged += 1
        if self.outcome != "watching" or self._unjudged <= self.config.unjudged_ticks:
            return False
        self.fail(f"{self._unjudged} control periods in a row said nothing of the parameters")
        return True

    def _error_excess(self) -> str:
        """How the tracking error is much more than before; empty where it is not."""
        config, now = self.config, self._errors.watched
        for before, margin in zip(self._errors.before, (config.margin, config.anchor_margin)):
            if not now <= before * (1 + margin) + config.floor:
                return f"the tracking error is {now:.3g}, it was {before:.3g}"
        return "" if now == now else "the tracking error is not a number"

    def _reward_fall(self) -> str:
        """How the reward is much less than before; empty where it is not."""
        config, now, spread = self.config, self._rewards.watched, self._spread
        for before in self._rewards.before:
            allowed = config.reward_margin * spread + config.reward_floor * abs(before)
            if not now >= before - allowed:
                return f"the reward is {now:.3g}, it was {before:.3g}"
        return ""
